//! The Gateway API for Canaries.

use crossfade_engine::canary::action::CheckFaultKind;
use crossfade_sim::canaries::Answer;
use serde_json::{Value, json};

use super::bed::{Bed, canary};

fn side(name: &str, weight: i32) -> Value {
    json!({"group": "", "kind": "Service", "name": name, "port": 8080, "weight": weight})
}

fn sides(primary: i32, canary: i32) -> Value {
    json!([side("shop-primary", primary), side("shop-canary", canary)])
}

fn everything() -> Value {
    json!([{"path": {"type": "PathPrefix", "value": "/"}}])
}

fn routed(more: &Value) -> Value {
    let mut canary = canary("gatewayapi:v1", more);
    if canary["spec"]["service"]["gatewayRefs"].is_null() {
        canary["spec"]["service"]["gatewayRefs"] = json!([{"name": "edge", "namespace": "infra"}]);
    }
    canary
}

fn bed(more: &Value) -> Bed {
    Bed::new(&routed(more), &[])
}

fn rules(bed: &Bed) -> Value {
    bed.routed("HTTPRoute", "shop")["spec"]["rules"].clone()
}

#[test]
fn flagger_routing_14_a_route_needs_a_gateway() {
    let mut bed = Bed::new(&canary("gatewayapi:v1", &json!({})), &[]);
    bed.stage.ticks(6);
    let text = "GatewayRefs must be specified when using Gateway API as a provider.";
    let told = bed
        .stage
        .told
        .iter()
        .find(|told| told.event.message == text);
    let told = told.expect("it is told");
    assert!(told.event.warning && told.event.reason == "Synced");
    assert_eq!(bed.world().observed.objects.len(), 0);
}

#[test]
fn flagger_routing_15_a_route_that_is_not_in_force_yet_ends_the_look() {
    let mut bed = bed(&json!({}));
    bed.release_to(20);
    let accepted = |generation: i64, status: &str| {
        // A Gateway may complete what the route says of it.
        json!({"parents": [{
            "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "infra"},
            "controllerName": "example.com/gateway",
            "conditions": [{"type": "Accepted", "status": status, "observedGeneration": generation}],
        }]})
    };
    let generation = bed.routed("HTTPRoute", "shop")["metadata"]["generation"]
        .as_i64()
        .expect("a number");
    bed.edit("HTTPRoute", "shop", |route| {
        route["status"] = accepted(generation - 1, "True");
    });
    let writes = bed.world().writes;
    bed.stage.ticks(2);
    let text = format!(
        "HTTPRoute shop.web parent edge is not ready (status: True, observed generation: {}, current generation: {generation})",
        generation - 1
    );
    assert_eq!(bed.told(&text), 2, "{:?}", bed.stage.texts("shop"));
    assert_eq!(bed.status()["canaryWeight"], 20);
    assert_eq!(bed.world().writes, writes);
    assert_eq!(rules(&bed)[0]["backendRefs"], sides(80, 20));
    bed.edit("HTTPRoute", "shop", |route| {
        route["status"] = accepted(generation, "False");
    });
    bed.stage.ticks(1);
    assert_eq!(bed.told("is not ready (status: False"), 1);
    bed.edit("HTTPRoute", "shop", |route| {
        route["status"] = accepted(generation, "True");
    });
    bed.stage.ticks(1);
    assert_eq!(rules(&bed)[0]["backendRefs"], sides(70, 30));
}

#[test]
fn flagger_routing_16_what_an_api_server_fills_in_is_no_difference() {
    let mut bed = bed(&json!({"service": {
        "match": [{"headers": {"b": {"exact": "2"}, "a": {"exact": "1"}}}],
        "corsPolicy": {"allowOrigin": ["https://example.org"]},
    }}));
    bed.until("Initialized");
    let route = bed.routed("HTTPRoute", "shop");
    let names: Vec<_> = route["spec"]["rules"][0]["matches"][0]["headers"]
        .as_array()
        .expect("two")
        .iter()
        .map(|header| header["name"].clone())
        .collect();
    assert_eq!(names, ["a", "b"]);
    let writes = bed.world().writes;
    bed.stage.ticks(20);
    assert_eq!(bed.world().writes, writes);
    assert_eq!(bed.routed("HTTPRoute", "shop"), route);
}

#[test]
fn flagger_routing_17_a_condition_that_cannot_be_said_moves_nobody() {
    let mut bed = bed(&json!({"analysis": {"iterations": 2}}));
    bed.until("Initialized");
    assert_eq!(
        rules(&bed),
        json!([{"matches": everything(), "backendRefs": sides(100, 0)}])
    );
    let prefix = json!([{"headers": {"x-cohort": {"prefix": "beta"}}}]);
    bed.change(&json!({"analysis": {"match": prefix}}));
    bed.stage.set_image("shop", "shop:v2");
    bed.stage.ticks(8);
    let text = "Invalid request matching selectors: Gateway API doesn't support the specified header matching selector: {\"x-cohort\":{\"prefix\":\"beta\"}}";
    assert!(bed.told(text) > 0, "{:?}", bed.stage.texts("shop"));
    assert_eq!(
        rules(&bed),
        json!([{"matches": everything(), "backendRefs": sides(100, 0)}])
    );
    assert_eq!(bed.read("gatewayapi:v1"), (100, 0, false));
}

#[test]
fn flagger_routing_18_copies_are_sent_until_all_requests_are() {
    let mut bed = bed(&json!({"analysis": {"iterations": 5, "mirror": true}}));
    bed.until("Initialized");
    bed.stage.set_image("shop", "shop:v2");
    bed.until_true("iterating", |bed| bed.status()["iterations"] == 1);
    let mirror = json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"group": "", "kind": "Service", "name": "shop-canary", "port": 8080}}}]);
    for iteration in 1..=5 {
        assert_eq!(bed.status()["iterations"], iteration);
        assert_eq!(rules(&bed)[0]["filters"], mirror, "{iteration}");
        assert_eq!(rules(&bed)[0]["backendRefs"], sides(100, 0));
        if iteration == 2 {
            // A repair leaves it.
            bed.change(&json!({"service": {"timeout": "9s"}}));
        }
        bed.stage.ticks(1);
    }
    assert_eq!(rules(&bed)[0]["timeouts"], json!({"request": "9s"}));
    assert_eq!(rules(&bed)[0]["backendRefs"], sides(0, 100));
    assert_eq!(rules(&bed)[0]["filters"], Value::Null);
}

/// The rules of a release with cookies: those of sticky users, then the one that splits.
fn cookie(bed: &Bed, field: &str) -> String {
    let cookie = bed.status()[field].as_str().unwrap_or_default().to_owned();
    assert!(
        cookie.starts_with("c=") && cookie.len() == 12,
        "{field}: {cookie}"
    );
    cookie
}

fn bringing(cookie: &str) -> Value {
    let (name, value) = cookie.split_once('=').expect("a cookie");
    json!([{
        "path": {"type": "PathPrefix", "value": "/"},
        "headers": [{"type": "RegularExpression", "name": "Cookie", "value": format!(".*{name}.*{value}.*")}],
    }])
}

fn set_cookie(text: &str) -> Value {
    json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "Set-Cookie", "value": text}]}}])
}

#[test]
fn flagger_routing_20_users_stay_with_their_version() {
    let affinity = json!({"cookieName": "c", "maxAge": 600});
    let mut bed = bed(&json!({"analysis": {"maxWeight": 20, "sessionAffinity": affinity}}));
    bed.release_to(10);
    let first = cookie(&bed, "sessionAffinityCookie");
    let mut with_cookie = side("shop-canary", 10);
    with_cookie["filters"] = set_cookie(&format!("{first}; Max-Age=600"));
    assert_eq!(
        rules(&bed),
        json!([
            {"matches": bringing(&first), "backendRefs": sides(0, 100)},
            {"matches": everything(), "backendRefs": [side("shop-primary", 90), with_cookie]},
        ])
    );
    assert_eq!(bed.read("gatewayapi:v1"), (90, 10, false));
    bed.until("Succeeded");
    assert_eq!(
        rules(&bed),
        json!([
            {
                "matches": bringing(&first),
                "backendRefs": sides(100, 0),
                "filters": set_cookie(&format!("{first}; Max-Age=-1")),
            },
            {"matches": everything(), "backendRefs": sides(100, 0)},
        ])
    );
    assert_eq!(cookie(&bed, "previousSessionAffinityCookie"), first);
    assert_eq!(bed.status()["sessionAffinityCookie"], Value::Null);
    // The rule stays until the next run, which has a cookie of its own.
    bed.stage.ticks(3);
    assert_eq!(rules(&bed).as_array().map(Vec::len), Some(2));
    bed.stage.set_image("shop", "shop:v3");
    bed.at_weight(10);
    let second = cookie(&bed, "sessionAffinityCookie");
    assert_ne!(second, first);
    assert_eq!(rules(&bed)[0]["matches"], bringing(&second));
}

#[test]
fn flagger_routing_21_a_rule_has_one_filter_for_headers_of_answers() {
    let mut bed = bed(&json!({
        "service": {"headers": {"response": {"add": {"x-own": "1"}}}},
        "analysis": {"threshold": 1, "sessionAffinity": {"cookieName": "c", "domain": "example.org", "path": "/"},
            "metrics": [{"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}}]},
    }));
    bed.release_to(10);
    let first = cookie(&bed, "sessionAffinityCookie");
    bed.stage
        .metrics
        .insert("success".to_owned(), Answer::Value(1.0));
    bed.until("Failed");
    let own = json!({"name": "x-own", "value": "1"});
    let back = json!({"name": "Set-Cookie", "value": format!("{first}; Max-Age=-1; Domain=example.org; Path=/")});
    let filter = |add: Value| json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": add}}]);
    assert_eq!(
        rules(&bed),
        json!([
            {"matches": bringing(&first), "backendRefs": sides(100, 0), "filters": filter(json!([own, back]))},
            {"matches": everything(), "backendRefs": sides(100, 0), "filters": filter(json!([own]))},
        ])
    );
}

#[test]
fn flagger_routing_22_one_name_for_both_cookies_is_refused() {
    let mut bed = bed(&json!({}));
    bed.until("Initialized");
    let before = bed.routed("HTTPRoute", "shop");
    let affinity = json!({"cookieName": "c", "primaryCookieName": "c"});
    bed.change(&json!({"service": {"timeout": "1s"}, "analysis": {"sessionAffinity": affinity}}));
    bed.stage.ticks(3);
    let text = "can't use the same cookie name for both primary and cookie name; please update them to be different";
    assert_eq!(bed.told(text), 3);
    assert_eq!(bed.routed("HTTPRoute", "shop"), before);
}

#[test]
fn flagger_routing_23_a_cookie_in_a_route_stands_in_the_status() {
    let affinity = json!({"cookieName": "c"});
    let mut bed = bed(&json!({"analysis": {"sessionAffinity": affinity}}));
    bed.release_to(10);
    // The status of that look was refused: somebody was faster.
    let lost = bed.status()["sessionAffinityCookie"].clone();
    bed.stage.patch(
        "Canary",
        "shop",
        &json!({"status": {"sessionAffinityCookie": null, "canaryWeight": 0}}),
    );
    bed.stage.ticks(1);
    let cookie = cookie(&bed, "sessionAffinityCookie");
    assert_ne!(json!(cookie), lost);
    assert_eq!(rules(&bed)[0]["matches"], bringing(&cookie));
}

#[test]
fn both_versions_may_keep_their_users() {
    let affinity = json!({"cookieName": "c", "primaryCookieName": "p", "maxAge": 600});
    let mut bed = bed(&json!({"analysis": {"interval": "30s", "sessionAffinity": affinity}}));
    bed.release_to(10);
    let status = bed.status();
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let (own, primary) = (
        text("sessionAffinityCookie"),
        text("primarySessionAffinityCookie"),
    );
    assert!(primary.starts_with("p="), "{primary}");
    let mut sticky = [side("shop-primary", 90), side("shop-canary", 10)];
    sticky[0]["filters"] = set_cookie(&format!("{primary}; Max-Age=30"));
    sticky[1]["filters"] = set_cookie(&format!("{own}; Max-Age=600"));
    assert_eq!(
        rules(&bed),
        json!([
            {"matches": bringing(&own), "backendRefs": sides(0, 100)},
            {"matches": bringing(&primary), "backendRefs": sides(100, 0)},
            {"matches": everything(), "backendRefs": sticky},
        ])
    );
    // A look that fails to judge repairs nothing away.
    let fault = Answer::Fault(CheckFaultKind::NoData, "no values found".to_owned());
    bed.stage.metrics.insert("success".to_owned(), fault);
    let writes = bed.world().writes;
    bed.change(&json!({"analysis": {"metrics": [{"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}}]}}));
    bed.stage.ticks(1);
    assert_eq!(bed.world().writes, writes);
}

#[test]
fn a_route_that_was_there_comes_back() {
    let first = json!({"parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "old"}], "rules": [
        {"matches": everything(), "backendRefs": [side("shop", 1)]},
    ]});
    let there = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "shop", "annotations": {"mine": "1"}},
        "spec": first,
    });
    let mut bed = Bed::new(&routed(&json!({"revertOnDeletion": true})), &[there]);
    bed.until("Initialized");
    assert_eq!(
        rules(&bed),
        json!([{"matches": everything(), "backendRefs": sides(100, 0)}])
    );
    assert_eq!(
        bed.routed("HTTPRoute", "shop")["metadata"]["annotations"]["mine"],
        "1"
    );
    bed.stage.delete("Canary", "shop");
    bed.until_true("gone", |bed| bed.stage.object("Canary", "shop").is_none());
    let after = bed.routed("HTTPRoute", "shop");
    assert_eq!(after["spec"], first);
    assert_eq!(after["metadata"]["annotations"], json!({"mine": "1"}));
}

#[test]
fn the_service_is_said_as_the_gateway_api_says_it() {
    let service = json!({
        "hosts": ["shop.example"],
        "timeout": "30s", "backendTimeout": "10s",
        "match": [{"uri": {"prefix": "/api"}, "method": {"exact": "GET"}, "queryParams": {"q": {"regex": "a.*"}}}, {"name": "nothing"}],
        "rewrite": {"uri": "/v2", "authority": "in.example", "type": "ReplacePrefixMatch"},
        "headers": {"request": {"set": {"b": "2", "a": "1"}, "remove": ["c"]}},
        "mirror": [{"backendRef": {"name": "audit", "port": 80}}],
        "corsPolicy": {"allowOrigin": ["*"], "allowMethods": ["GET"], "maxAge": "1m", "allowCredentials": true},
    });
    let mut bed = bed(&json!({"service": service}));
    bed.until("Initialized");
    let spec = bed.routed("HTTPRoute", "shop")["spec"].clone();
    assert_eq!(spec["hostnames"], json!(["shop.example"]));
    let rule = json!({
        "matches": [{"path": {"type": "PathPrefix", "value": "/api"}, "method": "GET", "queryParams": [{"type": "RegularExpression", "name": "q", "value": "a.*"}]}],
        "timeouts": {"request": "30s", "backendRequest": "10s"},
        "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}], "remove": ["c"]}},
            {"type": "URLRewrite", "urlRewrite": {"hostname": "in.example", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}}},
            {"type": "RequestMirror", "requestMirror": {"backendRef": {"group": "", "kind": "Service", "name": "audit", "port": 80}}},
            {"type": "CORS", "cors": {"allowOrigins": ["*"], "allowMethods": ["GET"], "maxAge": 60, "allowCredentials": true}},
        ],
        "backendRefs": sides(100, 0),
    });
    assert_eq!(spec["rules"], json!([rule]));
    // The older version says less.
    let mut older = routed(&json!({"service": service}));
    older["spec"]["provider"] = json!("gatewayapi:v1beta1");
    let mut bed = Bed::new(&older, &[]);
    bed.until("Initialized");
    let route = bed.routed("HTTPRoute", "shop");
    assert_eq!(route["apiVersion"], "gateway.networking.k8s.io/v1beta1");
    let rule = &route["spec"]["rules"][0];
    assert_eq!(rule["timeouts"], Value::Null);
    assert_eq!(rule["filters"].as_array().map(Vec::len), Some(3), "no CORS");
}
