//! NGINX ingress for Canaries.

use serde_json::{Value, json};

use super::bed::{Bed, canary};

fn ingress(service: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": "front",
            "labels": {"team": "a"},
            "annotations": {
                "nginx.ingress.kubernetes.io/rewrite-target": "/",
                "nginx.ingress.kubernetes.io/canary-weight-total": "1000",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            },
        },
        "spec": {"ingressClassName": "nginx", "rules": [
            {"host": "bare.example"},
            {"host": "shop.example", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 8080}}}},
                {"path": "/static", "pathType": "Prefix", "backend": {"service": {"name": "static", "port": {"number": 80}}}},
            ]}},
        ]},
    })
}

fn routed(more: &Value) -> Value {
    let mut canary = canary("nginx", more);
    canary["spec"]["ingressRef"] =
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front"});
    canary
}

/// Annotations by which NGINX knows the Ingress.
fn own(bed: &Bed) -> Value {
    let annotations = bed.routed("Ingress", "front-canary")["metadata"]["annotations"].clone();
    let annotations = annotations.as_object().cloned().unwrap_or_default();
    let own = annotations.into_iter().filter_map(|(key, value)| {
        let key = key.strip_prefix("nginx.ingress.kubernetes.io/")?;
        key.starts_with("canary").then(|| (key.to_owned(), value))
    });
    Value::Object(own.collect())
}

#[test]
fn flagger_routing_19_a_mirror_that_nobody_holds_is_skipped() {
    let mut bed = Bed::new(
        &routed(&json!({"analysis": {"mirror": true}})),
        &[ingress("shop")],
    );
    bed.release_to(10);
    assert_eq!(own(&bed), json!({"canary": "true", "canary-weight": "10"}));
    assert_eq!(
        bed.told("analysis.mirror has no effect with provider nginx and is skipped"),
        1
    );
    let told = bed
        .stage
        .told
        .iter()
        .find(|told| told.event.message.contains("analysis.mirror"));
    assert!(told.is_some_and(|told| told.event.warning));
    bed.at_weight(30);
    assert_eq!(bed.told("mirror"), 1);
}

#[test]
fn flagger_routing_28_an_ingress_must_lead_to_the_service() {
    let mut bed = Bed::new(&routed(&json!({})), &[ingress("other")]);
    bed.stage.ticks(6);
    let warned = |bed: &Bed, text: &str| {
        let mut told = bed.stage.told.iter();
        told.any(|told| told.event.message == text && told.event.warning)
    };
    assert!(
        warned(&bed, "backend shop not found in ingress front"),
        "{:?}",
        bed.stage.texts("shop")
    );
    assert_eq!(bed.routed("Ingress", "front-canary"), Value::Null);
    let mut bed = Bed::new(&canary("nginx", &json!({})), &[ingress("shop")]);
    bed.stage.ticks(6);
    assert!(warned(&bed, "ingress selector is empty"));
}

#[test]
fn flagger_routing_29_an_ab_test_by_annotations() {
    let matches = json!([{"headers": {"x-cohort": {"exact": "beta"}}}]);
    let analysis = json!({"iterations": 2, "match": matches});
    let mut bed = Bed::new(&routed(&json!({"analysis": analysis})), &[ingress("shop")]);
    bed.until("Initialized");
    assert_eq!(own(&bed), json!({"canary": "true", "canary-weight": "0"}));
    bed.stage.set_image("shop", "shop:v2");
    bed.until_true("iterating", |bed| bed.status()["iterations"] == 1);
    let annotations = own(&bed);
    assert_eq!(annotations["canary"], "true");
    assert_eq!(annotations["canary-by-header"], "x-cohort");
    assert_eq!(annotations["canary-by-header-value"], "beta");
    assert_eq!(bed.read("nginx"), (0, 100, false));
    bed.until("Succeeded");
    assert_eq!(own(&bed), json!({"canary": "true", "canary-weight": "0"}));
    assert_eq!(bed.read("nginx"), (100, 0, false));
}

#[test]
fn the_second_ingress_is_the_first_with_another_service() {
    let mut bed = Bed::new(&routed(&json!({})), &[ingress("shop")]);
    bed.until("Initialized");
    let made = bed.routed("Ingress", "front-canary");
    assert_eq!(made["metadata"]["labels"], json!({"team": "a"}));
    assert_eq!(
        made["metadata"]["annotations"],
        json!({
            "nginx.ingress.kubernetes.io/rewrite-target": "/",
            "nginx.ingress.kubernetes.io/canary": "true",
            "nginx.ingress.kubernetes.io/canary-weight": "0",
            "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
            "helm.toolkit.fluxcd.io/driftDetection": "disabled",
        })
    );
    let mut spec = ingress("shop")["spec"].clone();
    spec["rules"][1]["http"]["paths"][0]["backend"]["service"]["name"] = json!("shop-canary");
    assert_eq!(made["spec"], spec);
    assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "Canary");
    // It follows, with its weight.
    bed.release_to(10);
    bed.edit("Ingress", "front", |front| {
        front["spec"]["rules"][1]["host"] = json!("new.example");
    });
    bed.stage.ticks(1);
    let made = bed.routed("Ingress", "front-canary");
    assert_eq!(made["spec"]["rules"][1]["host"], "new.example");
    assert_eq!(own(&bed)["canary-weight"], "20");
}

#[test]
fn weights_of_matching_requests_are_written_and_read() {
    let matches =
        json!([{"headers": {"cookie": {"exact": "canary"}, "x-cohort": {"regex": "b.*"}}}]);
    let mut bed = Bed::new(
        &routed(&json!({"analysis": {"match": matches}})),
        &[ingress("shop")],
    );
    bed.release_to(10);
    assert_eq!(
        own(&bed),
        json!({
            "canary": "true", "canary-weight": "10", "canary-by-cookie": "canary",
            "canary-by-header": "x-cohort", "canary-by-header-pattern": "b.*",
        })
    );
    assert_eq!(bed.read("nginx"), (90, 10, false));
    bed.edit("Ingress", "front-canary", |ingress| {
        ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary-weight"] =
            json!("many");
    });
    bed.stage.ticks(1);
    assert_eq!(bed.told("failed to convert many to int: "), 1);
}
