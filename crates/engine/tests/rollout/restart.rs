//! Replacing pods without a new version.

use serde_json::json;

use crate::cluster::{Cluster, canary};

fn restarting(replicas: i32, strategy: &serde_json::Value) -> Cluster {
    let mut cluster = canary(replicas, strategy);
    cluster.settle();
    cluster.run_for(60);
    cluster.forget();
    let now = crossfade_api::time::text(cluster.now - jiff::SignedDuration::from_secs(1));
    cluster.patch(&json!({"spec": {"restartAt": now}}));
    cluster
}

fn evicted(cluster: &Cluster) -> usize {
    let evictions = cluster
        .performed
        .iter()
        .filter(|action| format!("{action:?}").starts_with("EvictPod"));
    evictions.count()
}

#[test]
fn behaviour_33_pods_are_evicted_a_few_at_a_time() {
    let mut cluster = restarting(10, &json!({}));
    cluster.pods_become_ready = false;
    cluster.settle();
    assert_eq!(evicted(&cluster), 2);
    assert_eq!(cluster.phase(), "Progressing: rollout is restarting");
    assert_eq!(cluster.next_look(), Some(30));
    assert!(cluster.waits_for("8 pods to be restarted"));
    cluster.pods_become_ready = true;
    cluster.budget = false;
    cluster.run_for(30);
    assert_eq!(evicted(&cluster), 2, "a budget forbids it");
    assert_eq!(cluster.failed, None);
    cluster.budget = true;
    cluster.run_for(300);
    assert_eq!(evicted(&cluster), 10);
    assert_eq!(
        cluster.status().restarted_at,
        cluster.rollout.spec.restart_at
    );
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn api_31_one_pod_at_a_time_may_be_missing() {
    let mut cluster = restarting(4, &json!({"maxUnavailable": 1}));
    cluster.pods_become_ready = false;
    cluster.settle();
    assert_eq!(evicted(&cluster), 1);
    assert_eq!(cluster.phase(), "Progressing: rollout is restarting");
    cluster.pods_become_ready = true;
    cluster.run_for(300);
    assert_eq!(evicted(&cluster), 4);
    assert_eq!(
        cluster.status().restarted_at,
        cluster.rollout.spec.restart_at
    );
}

#[test]
fn a_restart_in_the_future_waits_and_a_new_version_makes_it_needless() {
    let mut cluster = canary(2, &json!({}));
    cluster.settle();
    cluster.run_for(60);
    let later = crossfade_api::time::text(cluster.now + jiff::SignedDuration::from_secs(3600));
    cluster.forget();
    cluster
        .patch(&json!({"spec": {"restartAt": later}}))
        .run_for(3500);
    assert_eq!(evicted(&cluster), 0);
    assert_eq!(cluster.phase(), "Progressing: rollout is restarting");
    cluster.set_image("web:2").settle();
    assert_eq!(
        cluster.status().restarted_at,
        cluster.rollout.spec.restart_at
    );
    cluster.run_for(200);
    assert_eq!(evicted(&cluster), 0);
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn the_stable_version_is_restarted_before_the_canary() {
    let mut cluster = canary(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.settle();
    cluster.set_image("web:2").settle();
    cluster.run_for(60);
    let now = crossfade_api::time::text(cluster.now - jiff::SignedDuration::from_secs(1));
    cluster.forget();
    cluster.pods_become_ready = false;
    cluster.patch(&json!({"spec": {"restartAt": now}})).settle();
    let stable = cluster.set("web:1").seen.target.name.clone();
    let first = cluster.performed.first().expect("an eviction");
    assert!(format!("{first:?}").contains(&stable), "{first:?}");
}
