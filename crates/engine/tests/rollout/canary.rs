//! A canary without a router: its pods are its weight.

use serde_json::json;

use crate::cluster::{Cluster, canary};

/// A canary whose first version is in place; what happened so far is forgotten.
fn settled(replicas: i32, strategy: &serde_json::Value) -> Cluster {
    let mut cluster = canary(replicas, strategy);
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    cluster.forget();
    cluster
}

fn sizes(cluster: &Cluster) -> (i32, i32) {
    (cluster.size("web:2"), cluster.size("web:1"))
}

#[test]
fn behaviour_01_the_first_version_comes_without_steps() {
    let mut cluster = canary(3, &json!({"steps": [{"setWeight": 20}, {"pause": {}}]}));
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
fn behaviour_02_annotations_reach_the_replica_set_without_a_new_revision() {
    let mut cluster = settled(1, &json!({}));
    cluster
        .patch(&json!({"metadata": {"annotations": {"team": "blue"}}}))
        .settle();
    assert_eq!(cluster.sets.len(), 1);
    assert_eq!(cluster.revision("web:1"), "1");
    assert_eq!(cluster.note("web:1", "team").as_deref(), Some("blue"));
    assert_eq!(
        cluster.note("web:1", "rollout.argoproj.io/revision-history"),
        None
    );
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn behaviour_03_the_same_amount_written_otherwise_rolls_nothing_out() {
    let with_cpu = |cpu: &str| {
        json!({"spec": {"template": {"spec": {"containers": [
            {"name": "web", "image": "web:1", "resources": {"limits": {"cpu": cpu}}},
        ]}}}})
    };
    let mut cluster = canary(1, &json!({}));
    cluster.patch(&with_cpu("2000m")).settle();
    cluster.patch(&with_cpu("2")).settle();
    assert_eq!(cluster.sets.len(), 1);
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn behaviour_04_a_canary_grows_before_the_stable_version_shrinks() {
    let mut cluster = settled(
        10,
        &json!({"maxSurge": "25%", "maxUnavailable": 0, "steps": [{"setWeight": 25}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(
        cluster.take_sizes(),
        [("web:2".to_owned(), 3), ("web:1".to_owned(), 8)]
    );
    assert_eq!(
        cluster.told_events("RolloutStepCompleted"),
        ["Rollout step 1/2 completed (setWeight: 25)"],
    );
    assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
}

#[test]
fn behaviour_05_without_surge_the_stable_version_makes_room() {
    let mut cluster = settled(
        10,
        &json!({"maxSurge": 0, "maxUnavailable": 1, "steps": [{"setWeight": 5}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (1, 9));
    assert_eq!(
        cluster.take_sizes(),
        [("web:1".to_owned(), 9), ("web:2".to_owned(), 1)]
    );
}

#[test]
fn behaviour_06_a_weight_that_rounds_to_all_pods_leaves_one_stable() {
    let mut cluster = settled(
        10,
        &json!({"maxSurge": 0, "maxUnavailable": 1, "steps": [{"setWeight": 95}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (9, 1));
    assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
}

#[test]
fn behaviour_07_one_pod_that_cannot_be_shared_completes_the_step() {
    let mut cluster = settled(
        1,
        &json!({"maxSurge": 0, "maxUnavailable": 1, "steps": [{"setWeight": 20}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (0, 1));
    assert_eq!(cluster.index(), 1);
    assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
}

#[test]
fn behaviour_08_a_canary_that_crashes_is_degraded_after_its_deadline() {
    let mut cluster = settled(4, &json!({"maxSurge": 1, "maxUnavailable": 0}));
    cluster.broken.insert("web:2".to_owned());
    cluster.set_image("web:2").run_for(599);
    assert_eq!(sizes(&cluster), (1, 4));
    assert_eq!(
        cluster.phase(),
        "Progressing: more replicas need to be updated"
    );
    assert!(
        cluster.waits_for("1 of 1 canary pod") || cluster.waits_for("pods to become available")
    );
    cluster.run_for(3);
    let name = format!("web-{}", cluster.hash("web:2"));
    assert_eq!(
        cluster.phase(),
        format!(
            "Degraded: ProgressDeadlineExceeded: ReplicaSet \"{name}\" has timed out progressing."
        ),
    );
    assert_eq!(sizes(&cluster), (1, 4));
}

#[test]
fn behaviour_09_a_canary_that_crashes_is_aborted_after_its_deadline_if_asked_for() {
    let mut cluster = settled(4, &json!({"maxSurge": 1, "maxUnavailable": 0}));
    cluster
        .patch(&json!({"spec": {"progressDeadlineAbort": true}}))
        .settle();
    cluster.broken.insert("web:2".to_owned());
    cluster.set_image("web:2").run_for(602);
    assert!(cluster.status().abort);
    let name = format!("web-{}", cluster.hash("web:2"));
    let cause = format!(
        "Rollout aborted update to revision 2: ReplicaSet \"{name}\" has timed out progressing."
    );
    assert_eq!(
        cluster.phase(),
        format!("Degraded: RolloutAborted: {cause}")
    );
    assert_eq!(cluster.told_events("RolloutAborted"), [cause], "told once");
    assert_eq!(sizes(&cluster), (0, 4));
}

#[test]
fn behaviour_10_a_timed_pause_ends_by_itself_and_stops_the_deadline() {
    let mut cluster = settled(
        4,
        &json!({"steps": [{"setWeight": 25}, {"pause": {"duration": "30s"}}, {"pause": {}}]}),
    );
    cluster
        .patch(&json!({"spec": {"progressDeadlineSeconds": 10}}))
        .settle();
    cluster.set_image("web:2").run_for(29);
    assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
    assert_eq!(cluster.index(), 1);
    cluster.forget();
    cluster.run_for(2);
    assert_eq!(cluster.index(), 2);
    assert_eq!(
        cluster.take_reasons(),
        ["RolloutStepCompleted", "RolloutResumed", "RolloutPaused"],
    );
}

#[test]
fn behaviour_11_a_person_ends_a_pause_and_no_second_one_begins() {
    let mut cluster = settled(
        4,
        &json!({"steps": [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(
        (cluster.index(), cluster.phase()),
        (1, "Paused: CanaryPauseStep".to_owned())
    );
    assert!(cluster.status().controller_pause);
    cluster.forget();
    cluster.resume().settle();
    assert_eq!(cluster.index(), 3);
    assert_eq!(cluster.told_events("RolloutResumed"), Vec::<&str>::new());
    assert_eq!(
        cluster.told_events("RolloutStepCompleted"),
        [
            "Rollout step 2/4 completed (pause)",
            "Rollout step 3/4 completed (setWeight: 50)"
        ],
    );
    assert_eq!(
        cluster.told_events("RolloutPaused").len(),
        1,
        "that of the last step"
    );
}

#[test]
fn behaviour_12_a_persons_pause_stops_steps_but_not_sizes() {
    let mut cluster = settled(
        4,
        &json!({"steps": [{"setWeight": 25}, {"pause": {"duration": "10s"}}, {"setWeight": 50}]}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (1, 3));
    cluster.patch(&json!({"spec": {"paused": true}})).settle();
    cluster.patch(&json!({"spec": {"replicas": 8}})).run_for(60);
    assert_eq!(sizes(&cluster), (2, 6));
    assert_eq!(cluster.index(), 1);
    assert_eq!(cluster.phase(), "Paused: manually paused");
    cluster.patch(&json!({"spec": {"replicas": 4}})).settle();
    assert_eq!(sizes(&cluster), (1, 3));
    cluster.patch(&json!({"spec": {"paused": false}})).settle();
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn a_persons_pause_keeps_a_split_that_was_not_yet_reached() {
    let mut cluster = settled(
        10,
        &json!({"maxSurge": "10%", "maxUnavailable": 0, "steps": [{"setWeight": 50}, {"pause": {}}]}),
    );
    cluster.pods_become_ready = false;
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (1, 10));
    cluster.pods_become_ready = true;
    cluster.patch(&json!({"spec": {"paused": true}})).settle();
    assert_eq!(sizes(&cluster), (1, 10));
    cluster.patch(&json!({"spec": {"replicas": 20}})).settle();
    assert_eq!(sizes(&cluster), (2, 20));
}

#[test]
fn a_persons_pause_does_not_hold_back_an_abort() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (2, 2));
    cluster.patch(&json!({"spec": {"paused": true}})).settle();
    cluster.abort().settle();
    assert_eq!(sizes(&cluster), (0, 4));
}

#[test]
fn a_canary_made_while_paused_waits_without_pods() {
    let mut cluster = canary(3, &json!({}));
    cluster.patch(&json!({"spec": {"paused": true}})).settle();
    assert_eq!(cluster.size("web:1"), 0);
    assert_eq!(cluster.phase(), "Paused: manually paused");
    cluster.patch(&json!({"spec": {"paused": false}})).settle();
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn a_held_canary_that_is_scaled_keeps_to_its_surge() {
    let mut cluster = settled(
        3,
        &json!({"maxSurge": 0, "maxUnavailable": 1, "steps": [{"setWeight": 50}, {"pause": {}}]}),
    );
    cluster.broken.insert("web:2".to_owned());
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (1, 2));
    cluster
        .patch(&json!({"spec": {"paused": true, "replicas": 4}}))
        .settle();
    assert_eq!(sizes(&cluster), (1, 3));
}

#[test]
fn behaviour_13_a_paused_canary_follows_replicas_at_its_weight() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 25}, {"pause": {}}]}));
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (1, 3));
    cluster.patch(&json!({"spec": {"replicas": 8}})).settle();
    assert_eq!(sizes(&cluster), (2, 6));
    cluster.patch(&json!({"spec": {"replicas": 4}})).settle();
    assert_eq!(sizes(&cluster), (1, 3));
    assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
}

#[test]
fn an_abort_goes_back_within_the_fence_posts_and_a_retry_starts_over() {
    let mut cluster = settled(
        10,
        &json!({"maxSurge": "30%", "maxUnavailable": 0, "steps": [{"setWeight": 50}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (5, 5));
    cluster.forget();
    cluster.abort().settle();
    let named = |sizes: &[(&str, i32)]| -> Vec<(String, i32)> {
        sizes
            .iter()
            .map(|(image, size)| ((*image).to_owned(), *size))
            .collect()
    };
    assert_eq!(
        cluster.take_sizes(),
        named(&[("web:1", 8), ("web:2", 2), ("web:1", 10), ("web:2", 0)])
    );
    assert_eq!(
        cluster.phase(),
        "Degraded: RolloutAborted: Rollout aborted update to revision 2"
    );
    assert_eq!(
        cluster.told_events("RolloutAborted"),
        ["Rollout aborted update to revision 2"]
    );
    assert_eq!(cluster.index(), 0);
    assert!(cluster.status().aborted_at.is_some());
    assert!(cluster.waits_for("the update was aborted"));

    cluster.retry().settle();
    assert_eq!(cluster.status().aborted_at, None);
    assert_eq!(sizes(&cluster), (5, 5));
    assert_eq!(cluster.revision("web:2"), "2");
    assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
}

#[test]
fn an_undo_in_mid_flight_returns_to_the_stable_version_at_once() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.set_image("web:2").settle();
    cluster.forget();
    cluster.set_image("web:1").settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(sizes(&cluster), (0, 4));
    assert_eq!(cluster.revision("web:1"), "3");
    assert_eq!(
        cluster
            .note("web:1", "rollout.argoproj.io/revision-history")
            .as_deref(),
        Some("1")
    );
    assert_eq!(
        cluster.told_events("SkipSteps"),
        ["Rollback to stable ReplicaSets"]
    );
    assert_eq!(cluster.index(), 2);
}

#[test]
fn a_broken_version_in_between_is_drained_before_its_successor_completes_a_step() {
    let mut cluster = settled(
        3,
        &json!({"maxSurge": 1, "maxUnavailable": 0, "steps": [{"setWeight": 40}, {"pause": {}}]}),
    );
    cluster.broken.insert("web:2".to_owned());
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (1, 3));
    assert_eq!(cluster.index(), 0);
    cluster.set_image("web:3").settle();
    assert_eq!(cluster.index(), 1);
    assert_eq!(
        (
            cluster.size("web:3"),
            cluster.size("web:2"),
            cluster.size("web:1")
        ),
        (1, 0, 2)
    );
}

#[test]
fn a_step_to_a_lower_weight_waits_for_the_stable_pods() {
    let mut cluster = settled(
        4,
        &json!({"maxSurge": 2, "maxUnavailable": 0, "steps": [{"setWeight": 75}, {"pause": {}}, {"setWeight": 25}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (3, 1));
    cluster.pods_become_ready = false;
    cluster.resume().settle();
    assert_eq!(cluster.index(), 2, "new stable pods are not available yet");
    cluster.pods_become_ready = true;
    cluster.settle();
    assert_eq!(sizes(&cluster), (1, 3));
    assert_eq!(cluster.index(), 3);
}

#[test]
fn full_promotion_skips_steps_pauses_and_a_persons_abort() {
    let mut cluster = settled(
        4,
        &json!({"steps": [{"setWeight": 25}, {"pause": {}}, {"pause": {}}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    cluster.promote_full().settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert!(!cluster.status().promote_full);
    assert!(cluster.told_events("RolloutCompleted")[0].ends_with("Full promotion requested"));
    assert_eq!(cluster.index(), 4);
}

#[test]
fn a_change_of_steps_while_promoted_changes_only_the_index() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 25}, {"pause": {}}]}));
    cluster
        .patch(&json!({"spec": {"strategy": {"canary": {"steps": [{"setWeight": 10}]}}}}))
        .settle();
    assert_eq!(cluster.index(), 1);
    assert_eq!(cluster.revision("web:1"), "1");
    assert!(cluster.take_sizes().is_empty());
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn a_settled_release_wants_nothing() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 25}, {"pause": {}}]}));
    assert!(!cluster.pass());
    cluster.set_image("web:2").settle();
    assert!(!cluster.pass());
    assert!(cluster.waits_for("a person to end the pause of step 2 of 2"));
    assert_eq!(cluster.waits.len(), 1);
    assert_eq!(cluster.waits[0].moved_by, ["promote", "abort"]);
}
