//! Istio for Canaries.

use serde_json::{Value, json};

use super::bed::{Bed, canary};

fn side(host: &str, weight: i32) -> Value {
    json!({"destination": {"host": host}, "weight": weight})
}

fn sides(primary: i32, canary: i32) -> Value {
    json!([side("shop-primary", primary), side("shop-canary", canary)])
}

fn bed(more: &Value) -> Bed {
    Bed::new(&canary("istio", more), &[])
}

fn spec(bed: &Bed) -> Value {
    bed.routed("VirtualService", "shop")["spec"].clone()
}

#[test]
fn flagger_routing_06_the_first_step_of_a_virtual_service() {
    let mut bed = bed(&json!({}));
    bed.until("Initialized");
    assert_eq!(spec(&bed)["http"], json!([{"route": sides(100, 0)}]));
    bed.release_to(10);
    assert_eq!(
        spec(&bed),
        json!({"hosts": ["shop"], "gateways": ["mesh"], "http": [{"route": sides(90, 10)}]})
    );
    assert_eq!(bed.read("istio"), (90, 10, false));
}

#[test]
fn flagger_routing_07_a_changed_service_moves_no_requests() {
    let mut bed = bed(&json!({}));
    bed.release_to(40);
    bed.stage.metrics.insert(
        "success".to_owned(),
        crossfade_sim::canaries::Answer::Value(1.0),
    );
    bed.change(&json!({
        "service": {"timeout": "7s"},
        "analysis": {"metrics": [{"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}}]},
    }));
    bed.stage.ticks(1);
    let spec = spec(&bed);
    assert_eq!(
        spec["http"],
        json!([{"timeout": "7s", "route": sides(60, 40)}])
    );
    assert_eq!(bed.status()["canaryWeight"], 40);
}

#[test]
fn flagger_routing_08_delegation_and_hosts_exclude_each_other() {
    let mut bed = bed(&json!({"service": {"delegation": true, "hosts": ["shop.example"]}}));
    bed.stage.ticks(6);
    let text = "reconcileVirtualService failed: VirtualService shop.web cannot have hosts and gateways when delegation enabled";
    assert!(bed.told(text) > 0, "{:?}", bed.stage.texts("shop"));
    let told = bed
        .stage
        .told
        .iter()
        .find(|told| told.event.message == text);
    assert!(told.is_some_and(|told| told.event.warning));
    assert_eq!(bed.routed("VirtualService", "shop"), Value::Null);
    // Without hosts there are none, and no gateways.
    bed.change(&json!({"service": {"hosts": null}}));
    bed.until("Initialized");
    let spec = spec(&bed);
    assert_eq!(
        (&spec["hosts"], &spec["gateways"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn flagger_routing_09_tcp_has_routes_of_its_own() {
    let mut bed = bed(&json!({"service": {"appProtocol": "TCP", "match": [{"port": 5432}]}}));
    bed.until("Initialized");
    let route =
        |primary, canary| json!([{"match": [{"port": 5432}], "route": sides(primary, canary)}]);
    assert_eq!(spec(&bed)["tcp"], route(100, 0));
    assert_eq!(spec(&bed)["http"], Value::Null);
    bed.release_to(10);
    assert_eq!(spec(&bed)["tcp"], route(90, 10));
    assert_eq!(bed.read("istio"), (90, 10, false));
    bed.at_weight(20);
    assert_eq!(spec(&bed)["tcp"], route(80, 20));
}

#[test]
fn flagger_routing_10_a_gateway_needs_the_port_where_there_are_several() {
    for (gateways, port) in [
        (["edge", "mesh"], json!({"number": 8080})),
        (["mesh", "edge"], Value::Null),
    ] {
        let service = json!({"gateways": gateways, "portDiscovery": true});
        let mut bed = bed(&json!({"service": service}));
        bed.until("Initialized");
        let sides = spec(&bed)["http"][0]["route"].clone();
        for side in sides.as_array().expect("two") {
            assert_eq!(side["destination"]["port"], port);
        }
        assert_eq!(spec(&bed)["gateways"], json!(gateways));
    }
}

#[test]
fn flagger_routing_11_a_virtual_service_that_was_there_comes_back() {
    let first = json!({
        "hosts": ["shop.example"],
        "exportTo": ["."],
        "http": [{"name": "main", "route": [{"destination": {"host": "shop"}}]}],
    });
    let there = json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
        "metadata": {"name": "shop", "labels": {"mine": "1"}},
        "spec": first,
    });
    let mut bed = Bed::new(
        &canary("istio", &json!({"revertOnDeletion": true})),
        &[there],
    );
    bed.until("Initialized");
    let taken = bed.routed("VirtualService", "shop");
    assert_eq!(taken["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(taken["spec"]["http"], json!([{"route": sides(100, 0)}]));
    assert_eq!(
        taken["spec"]["exportTo"],
        json!(["."]),
        "what we do not know stays"
    );
    assert!(
        bed.world().notes[0]
            .starts_with("VirtualService shop.web was there before and is taken over")
    );
    for timeout in ["1s", "2s"] {
        bed.edit("VirtualService", "shop", |object| {
            object["spec"]["http"][0]["timeout"] = json!(timeout);
        });
        bed.stage.ticks(1);
        assert_eq!(
            bed.routed("VirtualService", "shop")["spec"],
            taken["spec"],
            "repaired"
        );
    }
    bed.stage.delete("Canary", "shop");
    bed.until_true("gone", |bed| bed.stage.object("Canary", "shop").is_none());
    assert_eq!(spec(&bed), first);
}

#[test]
fn flagger_routing_12_an_ab_test_leaves_others_on_the_primary() {
    let beta = json!([{"headers": {"x-cohort": {"exact": "beta"}}}]);
    let mut bed = bed(&json!({"analysis": {"iterations": 2, "match": beta}}));
    let routes = |primary, canary| {
        json!([
            {"match": beta, "route": sides(primary, canary)},
            {"route": [side("shop-primary", 100)]},
        ])
    };
    bed.until("Initialized");
    assert_eq!(spec(&bed)["http"], routes(100, 0));
    bed.stage.set_image("shop", "shop:v2");
    bed.until_true("iterating", |bed| bed.status()["iterations"] == 1);
    assert_eq!(spec(&bed)["http"], routes(0, 100));
    assert_eq!(bed.read("istio"), (0, 100, false));
    bed.until("Succeeded");
    assert_eq!(spec(&bed)["http"], routes(100, 0));
}

#[test]
fn flagger_routing_13_a_test_lies_within_what_the_service_serves() {
    let mut bed = bed(&json!({
        "service": {"match": [{"uri": {"prefix": "/api"}, "method": {"exact": "GET"}, "headers": {"own": {"exact": "1"}}}]},
        "analysis": {"iterations": 2, "match": [{"headers": {"x-cohort": {"exact": "beta"}}}]},
    }));
    bed.until("Initialized");
    let http = spec(&bed)["http"].clone();
    assert_eq!(
        http[0]["match"],
        json!([{"uri": {"prefix": "/api"}, "method": {"exact": "GET"}, "headers": {"x-cohort": {"exact": "beta"}}}])
    );
    assert_eq!(
        http[1]["match"],
        json!([{"uri": {"prefix": "/api"}, "method": {"exact": "GET"}, "headers": {"own": {"exact": "1"}}}])
    );
    // Without headers of the Service's own there are none for the others.
    bed.change(
        &json!({"service": {"match": [{"uri": {"prefix": "/api"}, "method": {"exact": "GET"}}]}}),
    );
    bed.stage.ticks(1);
    let http = spec(&bed)["http"].clone();
    assert_eq!(
        http[0]["match"][0]["headers"],
        json!({"x-cohort": {"exact": "beta"}})
    );
    assert_eq!(
        http[1]["match"],
        json!([{"uri": {"prefix": "/api"}, "method": {"exact": "GET"}}])
    );
}

#[test]
fn destination_rules_keep_what_they_say_of_pods() {
    let policy = json!({"tls": {"mode": "ISTIO_MUTUAL"}});
    let mut bed = bed(&json!({"service": {"trafficPolicy": policy}}));
    bed.until("Initialized");
    for host in ["shop-canary", "shop-primary"] {
        let rule = bed.routed("DestinationRule", host);
        assert_eq!(rule["spec"], json!({"host": host, "trafficPolicy": policy}));
        assert_eq!(rule["metadata"]["ownerReferences"][0]["kind"], "Canary");
    }
    bed.edit("DestinationRule", "shop-canary", |rule| {
        rule["spec"]["host"] = json!("other");
    });
    bed.stage.ticks(1);
    let rule = bed.routed("DestinationRule", "shop-canary");
    assert_eq!(rule["spec"]["host"], "shop-canary");
}

#[test]
fn requests_are_copied_before_any_are_moved() {
    let mut bed = bed(&json!({"analysis": {"mirror": true, "mirrorWeight": 50}}));
    bed.until("Initialized");
    bed.stage.set_image("shop", "shop:v2");
    bed.until_true("mirrored", |bed| bed.read("istio").2);
    assert_eq!(
        spec(&bed)["http"],
        json!([{
            "route": sides(100, 0),
            "mirror": {"host": "shop-canary"},
            "mirrorPercentage": {"value": 50},
        }])
    );
    // A repair leaves the mirror.
    bed.change(&json!({"service": {"timeout": "3s"}}));
    bed.at_weight(10);
    assert_eq!(
        spec(&bed)["http"],
        json!([{"timeout": "3s", "route": sides(90, 10)}])
    );
}
