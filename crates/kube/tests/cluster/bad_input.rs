//! What users get wrong is told on the object, and nothing else suffers from it.

use crossfade_test_cluster::Trouble;
use serde_json::json;

use crate::stage::{Rollout, Stage};

fn manifest(name: &str, strategy: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: main, image: shop}}]}}
  strategy: {strategy}
"
    )
}

/// What the condition says.
fn invalid(rollout: &Rollout) -> Option<&str> {
    rollout.condition("InvalidSpec")?["message"].as_str()
}

#[tokio::test]
async fn a_bad_spec_is_told_and_everything_else_goes_on() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage
        .namespace
        .apply(&manifest("bad", "{canary: {steps: [{setWeight: 140}]}}"))
        .await?;
    stage
        .namespace
        .apply(&manifest("lost", "{blueGreen: {activeService: nowhere}}"))
        .await?;
    stage
        .namespace
        .apply(&manifest("good", "{canary: {}}"))
        .await?;
    stage.until_healthy("good").await?;
    let bad = stage
        .until("bad", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    let told = invalid(&bad).unwrap();
    assert!(told.contains("spec.strategy.steps[0].setWeight"), "{told}");
    assert_eq!(bad.phase(), "Degraded");
    let lost = stage
        .until("lost", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    assert!(
        invalid(&lost)
            .unwrap()
            .contains("service \"nowhere\" not found")
    );

    // What was lacking comes, and nobody has to ask again.
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: nowhere}\nspec: {selector: {app: lost}, ports: [{port: 80}]}\n";
    stage.namespace.apply(service).await?;
    stage.until_healthy("lost").await?;
    stage
        .change(
            "bad",
            json!({"spec": {"strategy": {"canary": {"steps": [{"setWeight": 40}]}}}}),
        )
        .await;
    stage.until_healthy("bad").await?;
    Ok(())
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_told_by_its_field_and_releases_nothing()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    // The API server looks no deeper into volumes than that they are there.
    let strange = manifest("strange", "{canary: {}}")
        .replace("spec: {containers:", "spec: {volumes: many, containers:");
    let applied = stage.namespace.apply(&strange).await;
    assert!(
        applied.is_ok(),
        "the API server itself refuses it: {applied:?}"
    );
    stage
        .namespace
        .apply(&manifest("good", "{canary: {}}"))
        .await?;
    stage.until_healthy("good").await?;
    let told = stage
        .until("strange", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    assert!(
        invalid(&told).unwrap().contains("volumes"),
        "{:?}",
        invalid(&told)
    );
    assert!(!stage.sizes().await.contains_key("strange"));
    Ok(())
}

#[tokio::test]
async fn a_router_that_nobody_drives_yet_is_told_by_its_name() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let strategy =
        "{canary: {stableService: stable, canaryService: canary, trafficRouting: {smi: {}}}}";
    stage.namespace.apply(&manifest("meshed", strategy)).await?;
    let told = stage
        .until("meshed", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    assert!(
        invalid(&told).unwrap().contains("trafficRouting.smi"),
        "{:?}",
        invalid(&told)
    );
    Ok(())
}
