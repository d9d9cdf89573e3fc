//! Canaries that cannot go on, and what people learn of it: nothing is lost, and nobody else is held up.

use std::fmt::Write as _;

use crossfade_test_cluster::Trouble;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::canary_stage::{
    INGRESS, canary, deployment, phase, selects, until_phase, until_told, wants, weight,
};
use crate::stage::{Canary, Stage};

/// A Deployment whose pods have this label, as a document.
fn target(name: &str, label: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 300,
            "selector": {"matchLabels": {label: name}},
            "template": {
                "metadata": {"labels": {label: name}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    })
}

/// A Canary of a Deployment, with more of an analysis, as a document.
fn canary_of(name: &str, more: &Value) -> Value {
    let mut analysis = json!({"interval": "10s", "threshold": 100, "iterations": 1});
    for (key, value) in more.as_object().into_iter().flatten() {
        analysis[key] = value.clone();
    }
    json!({
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": name},
        "spec": {
            "provider": "kubernetes",
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "progressDeadlineSeconds": 300,
            "service": {"port": 80, "targetPort": 8080},
            "analysis": analysis,
        },
    })
}

fn documents(all: &[Value]) -> String {
    all.iter().fold(String::new(), |mut text, one| {
        write!(text, "---\n{one}\n").unwrap();
        text
    })
}

#[tokio::test]
async fn what_keeps_a_canary_from_starting_is_told_and_what_was_there_stays() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    let long = "a-name-of-fifty-eight-letters-that-leaves-no-room-for-more";
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "sleeper", "labels": {"mine": "kept"}},
        "spec": {"selector": {"app": "sleeper"}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}]},
    });
    let mut all = vec![
        target("unlabelled", "tier", 1, "shop:1"),
        target("sleeper", "app", 0, "shop:1"),
        target(long, "app", 1, "shop:1"),
        service,
    ];
    for name in ["unlabelled", "sleeper", long] {
        all.push(canary_of(name, &json!({})));
    }
    stage.namespace.apply(&documents(&all)).await?;
    let namespace = stage.namespace.name();
    for text in [
        format!(
            "deployment unlabelled.{namespace} spec.selector.matchLabels must contain one of [app name app.kubernetes.io/name]"
        ),
        "reconcileService failed: ".to_owned(),
    ] {
        until_told(&stage, &text).await;
    }
    until_phase(&stage, "sleeper", "Initialized").await?;
    assert_eq!(
        wants(&stage, "sleeper-primary").await.1,
        1,
        "it serves all the same"
    );
    let services = stage.namespace.api::<Service>();
    let service = services.get("sleeper").await.unwrap();
    let selector = service.spec.unwrap().selector.unwrap();
    assert_eq!(selector["app"], "sleeper-primary");
    assert_eq!(service.metadata.labels.unwrap()["mine"], "kept");
    assert_eq!(
        service.metadata.owner_references, None,
        "it stays its maker's"
    );
    for name in ["unlabelled", long] {
        let canary = stage.namespace.api::<Canary>().get(name).await.unwrap();
        assert_eq!(phase(&canary), "Initializing", "{name}");
    }
    let deployments = stage.namespace.api::<Deployment>();
    let made = deployments.list(&ListParams::default()).await.unwrap();
    assert_eq!(
        made.items.len(),
        4,
        "three that were applied, and one primary"
    );
    Ok(())
}

#[tokio::test]
async fn what_a_canary_made_comes_back_in_the_middle_of_a_release() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let hooks = format!(
        "    stepWeight: 20
    maxWeight: 20
    webhooks:
    - {{name: gate, type: confirm-traffic-increase, url: 'http://{}/hook/gate'}}
",
        beside.address
    );
    let manifest = canary(&beside, "nginx", &hooks);
    for text in [INGRESS, &deployment("shop:1"), &manifest] {
        stage.namespace.apply(text).await?;
    }
    until_phase(&stage, "shop", "Initialized").await?;
    stage.namespace.apply(&deployment("shop:2")).await?;
    let is_20 = |ingress: &k8s_openapi::api::networking::v1::Ingress| weight(ingress) == "20";
    stage
        .namespace
        .until("shop-canary", "weight 20", is_20)
        .await?;
    beside.close("gate");

    let services = stage.namespace.api::<Service>();
    for name in ["shop-canary", "shop-primary"] {
        let gone = DeleteParams::default();
        services.delete(name, &gone).await.unwrap();
    }
    let patch = json!({"spec": {"selector": {"app": "somebody-else"}}});
    stage.merge::<Service>("shop", patch).await;
    for (name, selected) in [
        ("shop", "shop-primary"),
        ("shop-primary", "shop-primary"),
        ("shop-canary", "shop"),
    ] {
        let is_back = |service: &Service| {
            let selector = service
                .spec
                .as_ref()
                .and_then(|spec| spec.selector.as_ref());
            selector.is_some_and(|selector| selector["app"] == selected)
        };
        stage.namespace.until(name, "its selector", is_back).await?;
    }
    let held = stage.namespace.api::<Canary>().get("shop").await.unwrap();
    assert_eq!(phase(&held), "Progressing");
    assert_eq!(held.status["canaryWeight"], 20, "it goes on where it was");
    beside.open("gate");
    until_phase(&stage, "shop", "Succeeded").await?;
    assert_eq!(
        wants(&stage, "shop-primary").await,
        ("shop:2".to_owned(), 2)
    );
    assert_eq!(selects(&stage, "shop").await["app"], "shop-primary");
    Ok(())
}

#[tokio::test]
async fn odd_answers_of_hooks_and_metrics_are_told_and_hold_up_nobody_else() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let server = format!("http://{}/odd", beside.address);
    let hooks = ["hang", "broken", "garbage", "big", "elsewhere"];
    let metrics = ["none", "nan", "text", "down", "babble"];
    let mut all = Vec::new();
    for hook in hooks {
        let analysis = json!({"webhooks": [
            {"name": "odd", "type": "pre-rollout", "url": format!("{server}/{hook}"), "timeout": "3s"},
        ]});
        all.push(canary_of(hook, &analysis));
    }
    for metric in metrics {
        all.push(json!({
            "apiVersion": "flagger.app/v1beta1",
            "kind": "MetricTemplate",
            "metadata": {"name": metric},
            "spec": {
                "provider": {"type": "prometheus", "address": format!("{server}/{metric}")},
                "query": "up{app=\"{{ target }}\"}",
            },
        }));
        let analysis = json!({"metrics": [
            {"name": "load", "templateRef": {"name": metric}, "interval": "1m", "thresholdRange": {"max": 5}},
        ]});
        all.push(canary_of(metric, &analysis));
    }
    let targets = |image: &str| {
        let names = hooks.iter().chain(&metrics);
        let all = names.map(|name| target(name, "app", 1, image));
        documents(&all.collect::<Vec<_>>())
    };
    stage.namespace.apply(&targets("shop:1")).await?;
    stage.namespace.apply(&documents(&all)).await?;
    for name in hooks.iter().chain(&metrics) {
        until_phase(&stage, name, "Initialized").await?;
    }
    stage.namespace.apply(&targets("shop:2")).await?;
    let namespace = stage.namespace.name();
    let fails = |hook: &str, why: &str| {
        format!("Halt {hook}.{namespace} advancement pre-rollout check odd failed {why}")
    };
    let gives_up = |hook: &str, why: &str| {
        let why = format!("POST {server}/{hook} giving up after 1 attempt(s): {why}");
        fails(hook, &why)
    };
    let nothing = "Halt advancement no values found for custom metric: load: no values found";
    let failed = "Metric query failed for load: error response: Status";
    for text in [
        gives_up("broken", "out of order"),
        fails("garbage", "\u{fffd}\u{fffd}?"),
        gives_up("hang", "no answer within 3.0s"),
        nothing.to_owned(),
        format!("{failed} 500 Internal Server Error: out of order"),
        format!("{failed} 403 Forbidden"),
    ] {
        until_told(&stage, &text).await;
    }
    for hook in ["big", "elsewhere"] {
        until_phase(&stage, hook, "Succeeded").await?;
    }
    let hooks = ["hang", "broken", "garbage"].map(|name| (name, 0));
    let metrics = metrics.map(|name| (name, 1));
    for (name, iterations) in hooks.into_iter().chain(metrics) {
        let canary = stage.namespace.api::<Canary>().get(name).await.unwrap();
        assert_eq!(phase(&canary), "Progressing", "{name}");
        assert_eq!(
            canary.status["iterations"], iterations,
            "{name} stays where it was"
        );
        let primary = format!("{name}-primary");
        assert_eq!(wants(&stage, &primary).await.0, "shop:1", "{name}");
    }
    Ok(())
}
