//! Canaries on a real API server: by themselves to their end, taken back, and refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crossfade_test_cluster::Trouble;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::canary_stage::{
    INGRESS, behind_istio, canary, deployment, selects, until_phase, until_told, wants, weight,
};
use crate::routers::until_weights;
use crate::settings::{metrics, telling};
use crate::stage::{Canary, Stage};

#[tokio::test]
async fn a_canary_without_a_router_is_promoted_after_its_looks() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "kubernetes", "    iterations: 2\n");
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    assert_eq!(
        wants(&stage, "shop-primary").await,
        ("shop:1".to_owned(), 2)
    );
    assert_eq!(wants(&stage, "shop").await.1, 0);
    let label = |value: &str| BTreeMap::from([("app".to_owned(), value.to_owned())]);
    assert_eq!(selects(&stage, "shop").await, label("shop-primary"));
    assert_eq!(selects(&stage, "shop-canary").await, label("shop"));

    stage.namespace.apply(&deployment("shop:2")).await?;
    until_phase(&stage, "shop", "Succeeded").await?;
    assert_eq!(
        wants(&stage, "shop-primary").await,
        ("shop:2".to_owned(), 2)
    );
    assert_eq!(wants(&stage, "shop").await.1, 0);
    let namespace = stage.namespace.name();
    for text in [
        "all the metrics providers are available!".to_owned(),
        format!("Initialization done! shop.{namespace}"),
        format!("New revision detected! Scaling up shop.{namespace}"),
        format!("Advance shop.{namespace} canary iteration 2/2"),
        format!("Promotion completed! Scaling down shop.{namespace}"),
    ] {
        until_told(&stage, &text).await;
    }
    let refused: Vec<_> = stage
        .writes()
        .into_iter()
        .filter(|(_, _, code)| *code >= 400)
        .collect();
    assert_eq!(refused, [], "no write is refused");
    Ok(())
}

#[tokio::test]
async fn only_looks_that_judge_a_release_are_timed() -> Result<(), Trouble> {
    let (stage, controller) = telling().await?;
    let looks = async || {
        let page = metrics(controller.metrics().unwrap()).await;
        let labels = format!(
            "{{name=\"shop\",namespace=\"{}\"}} ",
            stage.namespace.name()
        );
        let name = "flagger_canary_duration_seconds_count";
        let mut lines = page.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(&labels)?.parse().ok())
    };
    let beside = Beside::new().await;
    let manifest = canary(&beside, "kubernetes", "    iterations: 2\n");
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    assert_eq!(looks().await, None, "those that make it ready are not");

    stage.namespace.apply(&deployment("shop:2")).await?;
    until_phase(&stage, "shop", "Succeeded").await?;
    for step in ["1/2", "2/2"] {
        until_told(&stage, &format!(" canary iteration {step}")).await;
    }
    let told = stage.told("Canary").await;
    let steps = told
        .iter()
        .filter(|told| told.contains(" canary iteration "));
    // One more switches, and one copies what was judged; those that only wait, and those that finish, are not timed.
    assert_eq!(looks().await, Some(steps.count() + 2), "{told:#?}");
    controller.stop().await;
    Ok(())
}

#[tokio::test]
async fn nginx_takes_a_canary_by_weight_to_its_promotion() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let hooks = format!(
        "    stepWeights: [20, 50]
    webhooks:
    - {{name: gate, type: confirm-traffic-increase, url: 'http://{}/hook/gate'}}
",
        beside.address
    );
    let manifest = canary(&beside, "nginx", &hooks);
    stage.namespace.apply(INGRESS).await?;
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    let is = |wanted: &'static str| move |ingress: &Ingress| weight(ingress) == wanted;
    let namespace = &stage.namespace;
    namespace.until("shop-canary", "weight 0", is("0")).await?;
    stage.namespace.apply(&deployment("shop:2")).await?;
    namespace
        .until("shop-canary", "weight 20", is("20"))
        .await?;
    beside.close("gate");
    until_told(&stage, "waiting for traffic increase approval gate").await;
    beside.open("gate");
    namespace
        .until("shop-canary", "weight 50", is("50"))
        .await?;
    until_phase(&stage, "shop", "Succeeded").await?;
    namespace.until("shop-canary", "weight 0", is("0")).await?;
    assert_eq!(
        wants(&stage, "shop-primary").await,
        ("shop:2".to_owned(), 2)
    );
    assert!(beside.called("gate") >= 3);
    Ok(())
}

#[tokio::test]
async fn a_canary_that_is_judged_bad_is_taken_back() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "nginx", "    stepWeight: 20\n    maxWeight: 40\n");
    stage.namespace.apply(INGRESS).await?;
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    stage.namespace.apply(&deployment("shop:2")).await?;
    let is = |wanted: &'static str| move |ingress: &Ingress| weight(ingress) == wanted;
    stage
        .namespace
        .until("shop-canary", "weight 20", is("20"))
        .await?;
    beside.metric("success", "40");
    let failed = until_phase(&stage, "shop", "Failed").await?;
    assert_eq!(failed.status["canaryWeight"], 0);
    assert_eq!(
        wants(&stage, "shop-primary").await,
        ("shop:1".to_owned(), 2)
    );
    assert_eq!(wants(&stage, "shop").await.1, 0);
    let ingress = stage.namespace.api::<Ingress>().get("shop-canary").await;
    assert_eq!(weight(&ingress.unwrap()), "0");
    let namespace = stage.namespace.name();
    for text in [
        format!("Canary failed! Scaling down shop.{namespace}"),
        format!("Halt shop.{namespace} advancement success rate 40.00% < 99%"),
    ] {
        until_told(&stage, &text).await;
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_run_is_told_and_touches_nothing() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "linkerd", "    stepWeight: 10\n");
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    let text = "the provider linkerd cannot be driven yet; use one of kubernetes, nginx, istio, gatewayapi:v1, gatewayapi:v1beta1";
    let told = |canary: &Canary| canary.status["conditions"][0]["message"] == text;
    stage.namespace.until("shop", "its refusal", told).await?;
    until_told(&stage, &format!("invalid canary spec: {text}")).await;
    assert_eq!(wants(&stage, "shop").await, ("shop:1".to_owned(), 2));
    let services = stage.namespace.api::<Service>();
    assert!(services.get_opt("shop-canary").await.unwrap().is_none());

    // A target that is not there, and one that somebody else has.
    let missing = manifest
        .replace("linkerd", "kubernetes")
        .replace("name: shop}\n  ingress", "name: lost}\n  ingress")
        .replace("metadata: {name: shop}", "metadata: {name: lost}");
    stage.namespace.apply(&missing).await?;
    let namespace = stage.namespace.name();
    let text =
        format!("deployment lost.{namespace} get query error: deployments.apps \"lost\" not found");
    until_told(&stage, &text).await;
    let second = manifest
        .replace("linkerd", "kubernetes")
        .replace("metadata: {name: shop}", "metadata: {name: zweite}");
    stage.namespace.apply(&second).await?;
    until_told(&stage, "Found more than one canary with the same target").await;
    assert!(services.get_opt("shop-canary").await.unwrap().is_none());
    Ok(())
}

#[tokio::test]
async fn flagger_routing_40_a_metric_server_has_a_path_a_limit_and_words_of_its_own()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "kubernetes", "    iterations: 9\n")
        .replace(
            &beside.address.to_string(),
            &format!("{}/base", beside.address),
        )
        .replace("threshold: 1", "threshold: 9");
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    stage.namespace.apply(&deployment("shop:2")).await?;
    let looked = |canary: &Canary| canary.status["iterations"] == 1;
    stage
        .namespace
        .until("shop", "its first look", looked)
        .await?;
    assert_eq!(
        beside.paths(),
        BTreeSet::from(["/base/api/v1/query".to_owned()])
    );
    beside.metric("success", "down");
    until_told(
        &stage,
        "error response: Status 503 Service Unavailable: come back later",
    )
    .await;
    let told = stage.told("Canary").await;
    let failed = told.iter().filter(|text| text.contains("Status 503"));
    for text in failed {
        assert!(text.starts_with("Prometheus query failed: "), "{text}");
    }
    beside.metric("success", "silent");
    until_told(&stage, "Prometheus query failed: request failed: ").await;
    Ok(())
}

/// The manifest of a user, with an interval that tests wait for; `overlay` is merged in.
fn of_a_user(beside: &Beside, overlay: Option<&str>) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/data/manifests");
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        serde_saphyr::from_str(&text).unwrap()
    };
    let mut canary = read("flagger-canary.yaml");
    if let Some(name) = overlay {
        crossfade_api::merge_patch::apply(&mut canary, &read(name));
    }
    canary["spec"]["metricsServer"] = json!(format!("http://{}", beside.address));
    canary["spec"]["analysis"]["interval"] = json!("10s");
    let hooks = canary.pointer_mut("/spec/analysis/webhooks");
    let hooks = hooks.and_then(Value::as_array_mut);
    for hook in hooks.into_iter().flatten() {
        let name = hook["name"].as_str().unwrap().to_owned();
        hook["url"] = json!(format!("http://{}/hook/{name}", beside.address));
    }
    canary
}

async fn released(overlay: Option<&str>) -> Result<(Stage, Beside), Trouble> {
    let (stage, beside, routes) = behind_istio().await?;
    // A gate that takes back says so by a yes.
    beside.close("rollback");
    let target = |image: &str| {
        deployment(image)
            .replace("name: shop,", "name: payment-api,")
            .replace("app: shop", "app: payment-api")
    };
    stage.namespace.apply(&target("pay:1")).await?;
    let canary = of_a_user(&beside, overlay).to_string();
    stage.namespace.apply(&canary).await?;
    until_phase(&stage, "payment-api", "Initialized").await?;
    stage.namespace.apply(&target("pay:2")).await?;
    let half = |canary: &Canary| canary.status["canaryWeight"] == 50;
    let name = "payment-api";
    stage
        .namespace
        .until(name, "its greatest weight", half)
        .await?;
    let weights = "/spec/http/0/route";
    until_weights(&routes, name, weights, &[50, 50]).await;
    until_phase(&stage, name, "Succeeded").await?;
    until_weights(&routes, name, weights, &[100, 0]).await;
    let primary = wants(&stage, "payment-api-primary").await;
    assert_eq!(primary, ("pay:2".to_owned(), 2));
    Ok((stage, beside))
}

#[tokio::test]
async fn the_canary_of_a_user_runs_to_its_end_behind_istio() -> Result<(), Trouble> {
    released(None).await?;
    Ok(())
}

#[tokio::test]
async fn the_canary_of_a_user_runs_to_its_end_with_gates_that_are_open() -> Result<(), Trouble> {
    let (_stage, beside) = released(Some("flagger-manual-gating.yaml")).await?;
    assert_ne!(beside.calls(), [], "gates are asked");
    Ok(())
}
