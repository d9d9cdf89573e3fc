//! How a Canary ends before its release does: it is deleted, or taken back by a person.

use std::collections::BTreeMap;

use crossfade_test_cluster::Trouble;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::DeleteParams;
use serde_json::json;

use crate::beside::Beside;
use crate::canary_stage::{
    INGRESS, canary, deployment, selects, until_phase, until_told, wants, weight,
};
use crate::stage::{Canary, Stage};

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: shop, labels: {mine: kept}}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// An initialised Canary behind an ingress, in front of which there was a Service.
async fn initialised(analysis: &str, reverts: bool) -> Result<(Stage, Beside), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "nginx", analysis);
    let manifest = manifest.replace(
        "  service:",
        &format!("  revertOnDeletion: {reverts}\n  service:"),
    );
    for text in [SERVICE, INGRESS, &deployment("shop:1"), &manifest] {
        stage.namespace.apply(text).await?;
    }
    until_phase(&stage, "shop", "Initialized").await?;
    Ok((stage, beside))
}

async fn delete(stage: &Stage) -> Result<(), Trouble> {
    let canaries = stage.namespace.api::<Canary>();
    let gone = DeleteParams::default();
    canaries.delete("shop", &gone).await.unwrap();
    let namespace = &stage.namespace;
    namespace.until_gone::<Canary>("shop").await?;
    namespace.until_gone::<Deployment>("shop-primary").await?;
    namespace.until_gone::<Service>("shop-primary").await?;
    namespace.until_gone::<Service>("shop-canary").await?;
    namespace.until_gone::<Ingress>("shop-canary").await
}

fn label(value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), value.to_owned())])
}

#[tokio::test]
async fn a_canary_that_goes_gives_everything_back_if_it_is_told_to() -> Result<(), Trouble> {
    let steps = "    stepWeight: 20\n    maxWeight: 40\n";
    let (stage, _beside) = initialised(steps, true).await?;
    assert_eq!(selects(&stage, "shop").await, label("shop-primary"));
    assert_eq!(wants(&stage, "shop").await.1, 0);
    delete(&stage).await?;
    assert_eq!(wants(&stage, "shop").await, ("shop:1".to_owned(), 2));
    assert_eq!(selects(&stage, "shop").await, label("shop"));
    let services = stage.namespace.api::<Service>();
    let labels = services.get("shop").await.unwrap().metadata.labels;
    assert_eq!(labels.unwrap_or_default()["mine"], "kept");
    until_told(&stage, "Terminated canary shop.").await;
    Ok(())
}

#[tokio::test]
async fn a_canary_that_goes_leaves_its_target_asleep_if_nobody_says_more() -> Result<(), Trouble> {
    let steps = "    stepWeight: 20\n    maxWeight: 40\n";
    let (stage, _beside) = initialised(steps, false).await?;
    delete(&stage).await?;
    assert_eq!(wants(&stage, "shop").await, ("shop:1".to_owned(), 0));
    // What was there before the Canary is nobody's to take away.
    let services = stage.namespace.api::<Service>();
    assert!(services.get_opt("shop").await.unwrap().is_some());
    let ingresses = stage.namespace.api::<Ingress>();
    assert!(ingresses.get_opt("shop").await.unwrap().is_some());
    Ok(())
}

#[tokio::test]
async fn a_person_takes_a_release_back_and_the_next_one_is_not_meant() -> Result<(), Trouble> {
    let steps = "    stepWeight: 20\n    maxWeight: 80\n";
    let (stage, _beside) = initialised(steps, false).await?;
    let namespace = &stage.namespace;
    namespace.apply(&deployment("shop:2")).await?;
    let at_20 = |canary: &Canary| canary.status["canaryWeight"] == 20;
    let released = namespace.until("shop", "weight 20", at_20).await?;
    let abort = "crossfade.dev/abort";
    let patch = json!({"metadata": {"annotations": {abort: released.status["lastAppliedSpec"]}}});
    stage.merge::<Canary>("shop", patch).await;
    let failed = until_phase(&stage, "shop", "Failed").await?;
    assert_eq!(failed.status["canaryWeight"], 0);
    until_told(&stage, "Rollback asked for by the annotation").await;
    let ingress = namespace.api::<Ingress>().get("shop-canary").await.unwrap();
    assert_eq!(weight(&ingress), "0");
    assert_eq!(
        wants(&stage, "shop-primary").await,
        ("shop:1".to_owned(), 2)
    );
    assert_eq!(wants(&stage, "shop").await.1, 0);
    let forgotten = |canary: &Canary| {
        let notes = canary.metadata.annotations.as_ref();
        notes.is_none_or(|notes| !notes.contains_key(abort))
    };
    namespace.until("shop", "its end", forgotten).await?;

    namespace.apply(&deployment("shop:3")).await?;
    namespace.until("shop", "weight 20", at_20).await?;
    Ok(())
}
