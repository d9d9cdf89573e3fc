//! The built-in checks of Canaries by provider.

use crossfade_engine::canary::action::{CheckFaultKind, Query};
use crossfade_sim::canaries::Answer;
use serde_json::{Value, json};

use super::bed::{Bed, canary};

fn judged(provider: &str, metric: &Value) -> Value {
    canary(
        provider,
        &json!({"analysis": {"threshold": 2, "metrics": [metric]}}),
    )
}

fn success() -> Value {
    json!({"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}})
}

#[test]
fn flagger_routing_35_no_series_is_a_failed_check() {
    let mut bed = Bed::new(&judged("istio", &success()), &[]);
    bed.release_to(10);
    let none = "running query failed: no values found".to_owned();
    bed.stage.metrics.insert(
        "success".to_owned(),
        Answer::Fault(CheckFaultKind::NoData, none),
    );
    bed.stage.ticks(1);
    let text = "Halt advancement no values found for istio metric request-success-rate probably shop.web is not receiving traffic: running query failed: no values found";
    assert_eq!(bed.told(text), 1, "{:?}", bed.stage.texts("shop"));
    assert_eq!(bed.status()["failedChecks"], 1);
    bed.stage.ticks(1);
    assert_eq!(bed.status()["failedChecks"], 2);
    bed.stage.ticks(1);
    assert_eq!(bed.status()["phase"], "Failed");
    assert_eq!(bed.read("istio"), (100, 0, false));
}

#[test]
fn flagger_routing_36_bounds_are_inclusive() {
    let mut bed = Bed::new(&judged("istio", &success()), &[]);
    bed.release_to(10);
    bed.stage
        .metrics
        .insert("success".to_owned(), Answer::Value(98.999));
    bed.stage.ticks(1);
    assert_eq!(
        bed.told("Halt shop.web advancement success rate 99.00% < 99%"),
        1
    );
    assert_eq!(bed.status()["canaryWeight"], 10);
    bed.stage
        .metrics
        .insert("success".to_owned(), Answer::Value(99.0));
    bed.stage.ticks(1);
    assert_eq!(bed.status()["canaryWeight"], 20);
}

#[test]
fn flagger_routing_37_durations_are_told_in_whole_milliseconds() {
    let metric =
        json!({"name": "request-duration", "interval": "1m", "thresholdRange": {"max": 500}});
    let mut bed = Bed::new(&judged("kubernetes", &metric), &[]);
    bed.until("Initialized");
    bed.stage.set_image("shop", "shop:v2");
    bed.until_true("iterating", |bed| bed.status()["iterations"] == 1);
    // 0.5154 s, times what the provider's query says.
    let query = crossfade_metrics::canary_queries::request_duration("kubernetes", &[].into());
    let answer = 0.5154 * query.to_milliseconds;
    bed.stage
        .metrics
        .insert("duration".to_owned(), Answer::Value(answer));
    bed.stage.ticks(1);
    assert_eq!(
        bed.told("Halt shop.web advancement request duration 515ms > 500ms"),
        1,
        "{:?}",
        bed.stage.texts("shop")
    );
}

#[test]
fn flagger_routing_38_nginx_is_asked_for_the_mean() {
    let metric =
        json!({"name": "request-duration", "interval": "1m", "thresholdRange": {"max": 500}});
    let mut canary = judged("nginx", &metric);
    canary["spec"]["ingressRef"] =
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front"});
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "front"},
        "spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "shop", "port": {"number": 8080}}}}]}}]},
    });
    let mut bed = Bed::new(&canary, &[ingress]);
    bed.release_to(20);
    let check = bed.stage.checks.last().expect("it was judged");
    let Query::Duration { set } = &check.query else {
        unreachable!("{check:?}")
    };
    let query = crossfade_metrics::canary_queries::request_duration(set, &check.variables);
    let sel = r#"{namespace="web",ingress="front",canary!=""}[1m]"#;
    let name = "nginx_ingress_controller_response_duration_seconds";
    for part in ["sum", "count"] {
        let term = format!("sum(rate({name}_{part}{sel}))");
        assert!(
            query.text.replace(' ', "").contains(&term),
            "{}",
            query.text
        );
    }
    assert!(query.text.ends_with("* 1000"), "{}", query.text);
    assert!(!query.text.contains("histogram_quantile"));
}
