//! Scenarios of the specification: a canary without a router.

use crate::cluster::canary;
use serde_json::json;

#[test]
fn behaviour_01_the_first_version_comes_without_steps() {
    let mut cluster = canary(3, json!({"steps": [{"setWeight": 20}, {"pause": {}}]}));
    cluster.pods_become_ready = false;
    cluster.settle();
    let hash = cluster.hash("web:1");
    assert_eq!(cluster.set("web:1").seen.target.name, format!("web-{hash}"));
    assert_eq!(cluster.take_sizes(), [("web:1".to_owned(), 3)]);
    assert_eq!(cluster.revision("web:1"), "1");
    assert_eq!(
        cluster.status().stable_rs.as_str(),
        hash,
        "before any pod is ready"
    );
    assert_eq!(
        cluster.phase(),
        "Progressing: updated replicas are still becoming available"
    );
    assert_eq!(cluster.index(), 2);

    cluster.pods_become_ready = true;
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(
        cluster.take_reasons(),
        [
            "RolloutUpdated",
            "NewReplicaSetCreated",
            "RolloutNotCompleted",
            "ScalingReplicaSet",
            "RolloutCompleted"
        ],
    );
}

#[test]
fn behaviour_04_a_canary_grows_before_the_stable_version_shrinks() {
    let mut cluster = canary(
        10,
        json!({"maxSurge": "25%", "maxUnavailable": 0, "steps": [{"setWeight": 25}, {"pause": {}}]}),
    );
    cluster.settle();
    cluster.take_sizes();
    cluster.set_image("web:2").settle();
    assert_eq!(
        cluster.take_sizes(),
        [("web:2".to_owned(), 3), ("web:1".to_owned(), 8)],
    );
    assert_eq!(
        cluster.told_events("RolloutStepCompleted"),
        ["Rollout step 1/2 completed (setWeight: 25)"],
    );
    assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
    assert!(cluster.waits_for("a person to end the pause of step 2 of 2"));
    cluster.resume().settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!((cluster.size("web:1"), cluster.size("web:2")), (0, 10));
    assert!(cluster.told_events("RolloutResumed").is_empty());
    assert_eq!(
        cluster.told_events("RolloutCompleted").last(),
        Some(
            &format!(
                "Rollout completed update to revision 2 ({}): Completed all 2 canary steps",
                cluster.hash("web:2")
            )
            .as_str()
        ),
    );
}
