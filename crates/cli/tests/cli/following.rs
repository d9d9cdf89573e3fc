//! `status` and `wait`: following a release to a state.

use std::time::Duration;

use crossfade_host::wire::Part;
use serde_json::json;

use crate::stage::{FULL, PLUGIN, Stage, canary, healthy, paused};

fn steps() -> serde_json::Value {
    canary(&json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}]))
}

#[tokio::test]
async fn cli_12_a_healthy_rollout_ends_the_waiting_at_once() {
    let stage = Stage::new();
    stage.rollout("web", steps(), healthy()).await;
    stage
        .plugin(&["status", "web"])
        .await
        .is(0, "Healthy\n", "");
    stage
        .full(&["status", "rollout/web"])
        .await
        .is(0, "Healthy\n", "");
}

#[tokio::test]
async fn cli_13_at_a_pause_without_end_the_time_runs_out() {
    let stage = Stage::new();
    stage.rollout("web", steps(), paused(1)).await;
    let ended = stage.plugin(&["status", "web", "--timeout", "500ms"]).await;
    ended.is(
        1,
        "Paused - CanaryPauseStep\n",
        "Error: Rollout status watch exceeded timeout\n",
    );
    let ended = stage
        .full(&["status", "web", "--wait-through-pauses", "-t", "500ms"])
        .await;
    assert_eq!(ended.code, 4, "{ended:?}");
}

#[tokio::test]
async fn in_full_mode_a_pause_for_a_person_ends_the_waiting() {
    let stage = Stage::new();
    stage.rollout("web", steps(), paused(1)).await;
    stage.full(&["status", "web"]).await.is(
        7,
        "Paused - CanaryPauseStep\n",
        "Error: rollout 'web' waits for a person: CanaryPauseStep\n  hint: crossfade promote web\n",
    );
}

#[tokio::test]
async fn cli_14_a_rollout_that_degrades_while_it_is_watched_is_a_failure() {
    for (name, code, hint) in [
        (PLUGIN, 1, ""),
        (FULL, 3, "  hint: crossfade explain web\n"),
    ] {
        let stage = Stage::new();
        let status = json!({"phase": "Progressing", "message": "more replicas need to be updated"});
        stage.rollout("web", steps(), status).await;
        let mut watching = stage.start(name, &["status", "web"]);
        assert_eq!(
            watching.line().await,
            "Progressing - more replicas need to be updated"
        );
        let degraded = json!({"phase": "Degraded", "message": "RolloutAborted: the metric failed"});
        stage.set_status("web", degraded).await;
        let said = "Error: The rollout is in a degraded state with message: RolloutAborted: the metric failed\n";
        watching.ended().await.is(
            code,
            "Degraded - RolloutAborted: the metric failed\n",
            &format!("{said}{hint}"),
        );
    }
}

#[tokio::test]
async fn cli_15_asked_once_a_paused_rollout_is_no_failure() {
    let stage = Stage::new();
    stage.rollout("web", steps(), paused(1)).await;
    stage
        .plugin(&["status", "web", "--watch=false"])
        .await
        .is(0, "Paused - CanaryPauseStep\n", "");
    stage
        .rollout("bad", steps(), json!({"phase": "Degraded", "message": "x"}))
        .await;
    let ended = stage.plugin(&["status", "bad", "--watch=false"]).await;
    ended.is(
        1,
        "Degraded\n",
        "Error: The rollout is in a degraded state with message: x\n",
    );
    let ended = stage.plugin(&["status", "none", "--watch=false"]).await;
    ended.is(1, "", "Error: rollout.argoproj.io \"none\" not found\n");
}

#[tokio::test]
async fn right_after_a_change_the_old_success_is_not_reported() {
    let stage = Stage::new();
    stage.rollout("web", steps(), healthy()).await;
    stage
        .change("web", Part::Object, json!({"spec": {"replicas": 3}}))
        .await;
    let mut watching = stage.start(PLUGIN, &["status", "web"]);
    assert_eq!(
        watching.line().await,
        "Progressing - waiting for rollout spec update to be observed"
    );
    stage
        .set_status("web", json!({"observedGeneration": "2"}))
        .await;
    watching.ended().await.is(0, "Healthy\n", "");
}

#[tokio::test]
async fn cli_35_waiting_ends_with_the_code_of_what_it_met() {
    let stage = Stage::new();
    stage
        .rollout(
            "going",
            steps(),
            json!({"phase": "Progressing", "message": "m"}),
        )
        .await;
    stage
        .rollout("bad", steps(), json!({"phase": "Degraded", "message": "m"}))
        .await;
    stage.rollout("held", steps(), paused(1)).await;
    stage.rollout("done", steps(), healthy()).await;
    let wait = async |name: &str, goal: &str| {
        let ended = stage
            .full(&["wait", name, "--for", goal, "--timeout", "300ms"])
            .await;
        assert_eq!(ended.stderr.is_empty(), ended.code == 0, "{ended:?}");
        ended.code
    };
    for (name, goal, code) in [
        ("going", "healthy", 4),
        ("bad", "healthy", 3),
        ("none", "healthy", 5),
        ("held", "healthy", 7),
        ("done", "healthy", 0),
        ("held", "paused", 0),
        ("held", "step=1", 0),
        ("held", "step=2", 4),
        ("done", "weight=100", 0),
        ("done", "paused", 1),
        ("done", "revision=7", 4),
        ("done", "happy", 2),
    ] {
        assert_eq!(wait(name, goal).await, code, "wait {name} --for {goal}");
    }
}

#[tokio::test]
async fn cli_36_before_the_image_arrives_the_old_success_does_not_count() {
    let stage = Stage::new();
    let rollout = stage.rollout("web", steps(), healthy()).await;
    stage.version(&rollout, "new", 1, 1, "app:1").await;
    let ended = stage
        .full(&["status", "web", "--image", "app:2", "--timeout", "300ms"])
        .await;
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (4, "waiting for image app:2\n")
    );
    let mut watching = stage.start(FULL, &["status", "web", "--image", "app:2"]);
    assert_eq!(watching.line().await, "waiting for image app:2");
    stage.version(&rollout, "newer", 2, 1, "app:2").await;
    let going = json!({"phase": "Progressing", "message": "m", "currentPodHash": "newer"});
    stage.set_status("web", going).await;
    assert_eq!(watching.line().await, "Progressing - m");
    stage
        .set_status(
            "web",
            json!({"phase": "Healthy", "message": null, "stableRS": "newer"}),
        )
        .await;
    watching.ended().await.is(0, "Healthy\n", "");
}

#[tokio::test]
async fn an_interrupt_ends_the_waiting_with_its_own_code() {
    let stage = Stage::new();
    stage
        .rollout(
            "web",
            steps(),
            json!({"phase": "Progressing", "message": "m"}),
        )
        .await;
    let mut watching = stage.start(FULL, &["wait", "web"]);
    assert_eq!(watching.line().await, "Progressing - m");
    let pid = watching.child.id().expect("it runs").to_string();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(killed.expect("kill runs").success());
    let ended = tokio::time::timeout(Duration::from_secs(30), watching.ended()).await;
    ended.expect("it ends").is(130, "", "");
}
