//! Canaries whose pods are the weight.

use crossfade_test_cluster::Trouble;
use serde_json::json;

use crate::stage::Stage;

/// A Rollout of four pods with these steps.
fn manifest(image: &str, steps: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: shop}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec: {{containers: [{{name: main, image: {image}}}]}}
  strategy:
    canary:
      maxSurge: 1
      maxUnavailable: 0
      steps: {steps}
"
    )
}

const STEPS: &str = "[{setWeight: 25}, {pause: {}}, {setWeight: 50}, {pause: {duration: 1s}}]";

#[tokio::test]
async fn a_canary_goes_through_its_steps_to_promotion() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage.namespace.apply(&manifest("shop:1", STEPS)).await?;
    let first = stage.until_healthy("shop").await?;
    assert_eq!(first.status["availableReplicas"], 4);

    stage.namespace.apply(&manifest("shop:2", STEPS)).await?;
    let paused = stage
        .until("shop", "a pause at the second step", |rollout| {
            rollout.is_paused_at(1)
        })
        .await?;
    assert_eq!(
        paused.status["updatedReplicas"], 1,
        "a quarter of four pods"
    );
    assert_eq!(paused.status["stableRS"], first.status["stableRS"]);
    let sizes = stage.sizes().await;
    assert_eq!((sizes["shop:1"], sizes["shop:2"]), (3, 1));

    // As `promote` does.
    stage
        .change_status("shop", json!({"pauseConditions": null}))
        .await;
    let last = stage.until_healthy("shop").await?;
    assert_eq!(last.status["currentStepIndex"], 4);
    assert_ne!(last.status["stableRS"], first.status["stableRS"]);
    for reason in [
        "RolloutUpdated",
        "NewReplicaSetCreated",
        "ScalingReplicaSet",
        "RolloutPaused",
        "RolloutStepCompleted",
        "RolloutCompleted",
    ] {
        stage.until_reason("Rollout", reason).await;
    }
    Ok(())
}

#[tokio::test]
async fn an_aborted_canary_gives_its_pods_back_and_a_retry_begins_anew() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage.namespace.apply(&manifest("shop:1", STEPS)).await?;
    let first = stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2", STEPS)).await?;
    stage
        .until("shop", "a pause at the second step", |rollout| {
            rollout.is_paused_at(1)
        })
        .await?;

    stage.change_status("shop", json!({"abort": true})).await;
    let aborted = stage
        .until("shop", "all pods to be stable ones", |rollout| {
            rollout.phase() == "Degraded"
                && rollout.status["updatedReplicas"].as_i64().unwrap_or(0) == 0
                && rollout.status["availableReplicas"] == 4
        })
        .await?;
    assert_eq!(aborted.status["stableRS"], first.status["stableRS"]);
    assert!(
        aborted.message().contains("aborted"),
        "{}",
        aborted.message()
    );

    // As `retry` does.
    stage.change_status("shop", json!({"abort": null})).await;
    stage
        .until("shop", "a pause at the second step", |rollout| {
            rollout.is_paused_at(1)
        })
        .await?;
    stage
        .change_status("shop", json!({"promoteFull": true}))
        .await;
    stage.until_healthy("shop").await?;
    assert_eq!(stage.sizes().await["shop:2"], 4);
    Ok(())
}

#[tokio::test]
async fn whoever_starts_anew_goes_on_where_a_release_stands() -> Result<(), Trouble> {
    let mut stage = Stage::new().await?;
    stage.namespace.apply(&manifest("shop:1", STEPS)).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2", STEPS)).await?;
    let before = stage
        .until("shop", "a pause at the second step", |rollout| {
            rollout.is_paused_at(1)
        })
        .await?;
    stage.stop().await;
    let writes = stage.writes().len();
    stage.start().await?;
    stage
        .change_status("shop", json!({"pauseConditions": null}))
        .await;
    let after = stage.until_healthy("shop").await?;
    assert_eq!(
        after.status["currentPodHash"],
        before.status["currentPodHash"]
    );
    assert!(stage.writes().len() > writes);
    // Somebody else may have changed a ReplicaSet in between; nothing else is refused.
    let refused = |code: &u16| *code >= 400 && *code != 409;
    let refusals: Vec<_> = stage
        .writes()
        .into_iter()
        .filter(|(_, _, code)| refused(code))
        .collect();
    assert!(refusals.is_empty(), "{refusals:?}");
    Ok(())
}
