//! Gateway API.

use serde_json::{Value, json};

use crate::rig::{
    World, exact, header_route, managed, mirror_route, out_of, prefix, split, text,
    with_experiment, yaml,
};

const ONE: &str = "plugins: {argoproj-labs/gatewayAPI: {httpRoute: shop}}";
const LABEL: &str = "/metadata/labels/rollouts.argoproj.io~1gatewayapi-canary";

fn route(kind: &str, rules: &str) -> Value {
    let version = if matches!(kind, "HTTPRoute" | "GRPCRoute") {
        "v1"
    } else {
        "v1alpha2"
    };
    yaml(&format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: shop, namespace: web}}\nspec:\n  rules:{rules}"
    ))
}

fn plain() -> Value {
    route(
        "HTTPRoute",
        "
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs:
    - {name: shop-stable, port: 80}
    - {name: shop-canary, port: 80}
    - {name: audit, port: 80, weight: 1}
",
    )
}

fn rules(world: &World, kind: &str) -> Vec<Value> {
    let route = world.get(kind, "shop").expect("it is there");
    route["spec"]["rules"].as_array().expect("rules").clone()
}

fn weights(rule: &Value) -> Vec<(&str, Option<i64>)> {
    let backends = rule["backendRefs"].as_array().expect("backends").iter();
    backends
        .map(|backend| (text(backend, "/name"), backend["weight"].as_i64()))
        .collect()
}

#[test]
fn traffic_31_the_label_of_a_release_comes_and_goes_with_the_weight_unless_it_is_not_wanted() {
    let mut world = World::new(ONE, &[plain()]);
    world.carry(&split(5));
    assert_eq!(
        text(world.get("HTTPRoute", "shop").expect("there"), LABEL),
        "in-progress"
    );
    world.carry(&split(0));
    assert_eq!(
        text(world.get("HTTPRoute", "shop").expect("there"), LABEL),
        ""
    );
    let quiet =
        "plugins: {argoproj-labs/gatewayAPI: {httpRoute: shop, disableInProgressLabel: true}}";
    let mut world = World::new(quiet, &[plain()]);
    for weight in [5, 0, 100] {
        world.carry(&split(weight));
        assert_eq!(
            text(world.get("HTTPRoute", "shop").expect("there"), LABEL),
            ""
        );
    }
}

#[test]
fn traffic_32_weights_are_out_of_the_configured_maximum() {
    let mut world = World::new(ONE, &[plain()]);
    world.carry(&out_of(1000, 5));
    let rule = &rules(&world, "HTTPRoute")[0];
    assert_eq!(
        weights(rule),
        [
            ("shop-stable", Some(995)),
            ("shop-canary", Some(5)),
            ("audit", Some(1))
        ]
    );
}

#[test]
fn traffic_30_header_rules_are_made_from_each_rule_and_rules_of_the_user_survive() {
    let mut world = World::new(
        ONE,
        &[route(
            "HTTPRoute",
            "
  - matches: [{path: {type: PathPrefix, value: /a}}, {path: {type: PathPrefix, value: /b}, method: GET}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: inner}}]
    backendRefs: [{name: shop-stable, port: 80}, {name: shop-canary, port: 80}]
  - backendRefs: [{name: shop-stable, port: 81}, {name: shop-canary, port: 81}]
    timeouts: {request: 5s}
  - matches: [{headers: [{name: x-tier, value: beta}]}]
    backendRefs: [{name: shop-canary, port: 80, weight: 5}]
",
        )],
    );
    let mut wanted = managed(split(5), &["beta"]);
    wanted.header_routes = vec![header_route(
        "beta",
        &[("x-tier", exact("beta")), ("x-user", prefix("qa-"))],
    )];
    world.carry(&wanted);
    let there = rules(&world, "HTTPRoute");
    assert_eq!(there.len(), 5);
    let headers = "headers: [{name: x-tier, type: Exact, value: beta}, {name: x-user, type: RegularExpression, value: 'qa-.*'}]";
    let first = yaml(&format!(
        "name: beta
matches:
- {{path: {{type: PathPrefix, value: /a}}, {headers}}}
- {{path: {{type: PathPrefix, value: /b}}, method: GET, {headers}}}
filters: [{{type: URLRewrite, urlRewrite: {{hostname: inner}}}}]
backendRefs: [{{group: '', kind: Service, name: shop-canary, port: 80}}]
"
    ));
    let second = yaml(&format!(
        "name: beta-1
matches: [{{{headers}}}]
timeouts: {{request: 5s}}
backendRefs: [{{group: '', kind: Service, name: shop-canary, port: 81}}]
"
    ));
    assert_eq!(there[3..], [first, second]);

    // What an API server fills in is no difference.
    let mut stored = world.get("HTTPRoute", "shop").expect("there").clone();
    stored["spec"]["rules"][3]["backendRefs"][0]["weight"] = json!(1);
    stored["spec"]["rules"][4]["matches"][0]["path"] = json!({"type": "PathPrefix", "value": "/"});
    world.put(stored);
    assert!(world.plan(&wanted).is_done());

    world.carry(&managed(split(0), &["beta"]));
    let there = rules(&world, "HTTPRoute");
    assert_eq!(there.len(), 3);
    // The user's own rule to the canary alone is still there; as in the reference it carries the canary's weight.
    assert_eq!(weights(&there[2]), [("shop-canary", Some(0))]);
    assert_eq!(
        there[2]["matches"],
        json!([{"headers": [{"name": "x-tier", "value": "beta"}]}])
    );
}

#[test]
fn a_step_of_the_same_header_replaces_only_the_rule_of_its_name() {
    let mut world = World::new(ONE, &[plain()]);
    let mut wanted = managed(split(5), &["b", "a"]);
    wanted.header_routes = vec![header_route("a", &[("x-tier", exact("one"))])];
    world.carry(&wanted);
    wanted
        .header_routes
        .insert(0, header_route("b", &[("x-tier", exact("two"))]));
    world.carry(&wanted);
    let named = |world: &World| -> Vec<String> {
        let rules = rules(world, "HTTPRoute");
        rules
            .iter()
            .map(|rule| text(rule, "/name").to_owned())
            .collect()
    };
    assert_eq!(named(&world), ["", "b", "a"]);
    wanted.header_routes.pop();
    world.carry(&wanted);
    assert_eq!(named(&world), ["", "b"]);
}

#[test]
fn a_route_without_header_routes_gets_weights_only() {
    let routing = "plugins: {argoproj-labs/gatewayAPI: {httpRoutes: [{name: shop}]}}";
    let mut world = World::new(routing, &[plain()]);
    let mut wanted = managed(split(5), &["beta"]);
    wanted.header_routes = vec![header_route("beta", &[("x-tier", exact("beta"))])];
    world.carry(&wanted);
    assert_eq!(rules(&world, "HTTPRoute").len(), 1);
}

#[test]
fn a_mirror_rule_copies_what_the_step_and_the_user_s_rule_both_match() {
    let mut world = World::new(
        ONE,
        &[route(
            "HTTPRoute",
            "
  - matches: [{path: {type: PathPrefix, value: /}}, {path: {type: Exact, value: /api/v1}}, {path: {type: PathPrefix, value: /web}}]
    backendRefs: [{name: shop-stable, port: 80}, {name: shop-canary, port: 80}]
",
        )],
    );
    let mut wanted = managed(split(5), &["shadow"]);
    wanted.mirror_routes = vec![mirror_route("shadow", 35)];
    world.carry(&wanted);
    let expected = yaml(
        "name: shadow
matches:
- {method: GET, path: {type: PathPrefix, value: /api}}
- {method: GET, path: {type: Exact, value: /api/v1}}
filters: [{type: RequestMirror, requestMirror: {backendRef: {group: '', kind: Service, name: shop-canary, port: 80}, percent: 35}}]
backendRefs: [{name: shop-stable, port: 80, weight: 95}, {name: shop-canary, port: 80, weight: 5}]
",
    );
    assert_eq!(rules(&world, "HTTPRoute")[1], expected);
    let mut later = managed(split(30), &["shadow"]);
    later.mirror_routes.clone_from(&wanted.mirror_routes);
    world.carry(&later);
    assert_eq!(
        weights(&rules(&world, "HTTPRoute")[1]),
        [("shop-stable", Some(70)), ("shop-canary", Some(30))]
    );
    // Who does not know the rules leaves them, and their weights follow all the same.
    world.carry(&crossfade_api::split::Split {
        keeps_routes: true,
        ..managed(split(20), &["shadow"])
    });
    assert_eq!(
        weights(&rules(&world, "HTTPRoute")[1]),
        [("shop-stable", Some(80)), ("shop-canary", Some(20))]
    );
}

#[test]
fn experiments_are_backends_with_their_service_s_port_as_long_as_they_run() {
    let service = yaml(
        "apiVersion: v1
kind: Service
metadata: {name: shop-exp, namespace: web}
spec: {ports: [{name: grpc, port: 9000}, {name: http, port: 8088}]}
",
    );
    let mut world = World::new(ONE, &[plain(), service]);
    world.carry(&with_experiment(split(25), "shop-exp", 5));
    let rule = &rules(&world, "HTTPRoute")[0];
    assert_eq!(
        weights(rule),
        [
            ("shop-stable", Some(70)),
            ("shop-canary", Some(25)),
            ("audit", Some(1)),
            ("shop-exp", Some(5)),
        ]
    );
    assert_eq!(rule["backendRefs"][3]["port"], 8088);
    assert_eq!(rule["backendRefs"][3]["namespace"], "web");
    world.carry(&split(25));
    let rule = &rules(&world, "HTTPRoute")[0];
    assert_eq!(
        weights(rule),
        [
            ("shop-stable", Some(75)),
            ("shop-canary", Some(25)),
            ("audit", Some(1))
        ]
    );
}

#[test]
fn all_kinds_of_routes_are_split_by_name_and_by_label() {
    let backends = "\n  - backendRefs: [{name: shop-stable, port: 80}, {group: core, kind: Service, name: shop-canary, port: 80}]\n";
    for (kind, field) in [
        ("GRPCRoute", "grpcRoute"),
        ("TCPRoute", "tcpRoute"),
        ("TLSRoute", "tlsRoute"),
    ] {
        let routing = format!("plugins: {{argoproj-labs/gatewayAPI: {{{field}: shop}}}}");
        let mut world = World::new(&routing, &[route(kind, backends)]);
        world.carry(&split(5));
        assert_eq!(
            weights(&rules(&world, kind)[0]),
            [("shop-stable", Some(95)), ("shop-canary", Some(5))],
            "{kind}"
        );
    }
    let routing =
        "plugins: {argoproj-labs/gatewayAPI: {httpRouteSelector: {matchLabels: {app: shop}}}}";
    let mut labelled = plain();
    labelled["metadata"]["labels"] = json!({"app": "shop"});
    let mut world = World::new(routing, &[labelled]);
    world.carry(&split(5));
    assert_eq!(
        weights(&rules(&world, "HTTPRoute")[0])[1],
        ("shop-canary", Some(5))
    );
}

#[test]
fn what_does_not_fit_is_an_error_in_the_words_that_alerts_know() {
    let lonely = "\n  - backendRefs: [{name: shop-stable, port: 80}, {name: shop-canary, namespace: other, port: 80}]\n";
    let http = ONE;
    let none = "plugins: {argoproj-labs/gatewayAPI: {namespace: web}}";
    let table = [
        (
            http,
            vec![],
            "failed to set weight via plugin: httproutes.gateway.networking.k8s.io \"shop\" not found",
        ),
        (
            http,
            vec![route("HTTPRoute", lonely)],
            "failed to set weight via plugin: backendRef was not found in httpRoute",
        ),
        (
            none,
            vec![],
            "failed to set weight via plugin: No routes configured. At least one of 'httpRoutes', 'grpcRoutes', 'tcpRoutes', 'tlsRoutes', 'httpRoute', 'grpcRoute', 'tcpRoute' or 'tlsRoute' must be set",
        ),
    ];
    for (routing, objects, expected) in table {
        let plan = World::new(routing, &objects).plan(&split(5));
        assert_eq!(plan.changes, []);
        assert_eq!(plan.errors[0].to_string(), expected);
    }
}

#[test]
fn a_route_counts_as_attached_when_asked_for_and_every_parent_says_so_of_its_present_form() {
    use crossfade_traffic::{Settings, Subject};
    let subject = Subject {
        namespace: "web",
        name: "shop",
        uid: "",
        replicas: 10,
        canary_service: "shop-canary",
        stable_service: "shop-stable",
        former_additional: &[],
    };
    let mut world = World::new(ONE, &[plain()]);
    let answer = |world: &World| world.router().verify(&subject, &world.observed, &split(5));
    assert_eq!(answer(&world), Some(true));
    world.settings = Settings {
        verify_gateway_routes: true,
        ..Settings::default()
    };
    assert_eq!(answer(&world), Some(false));
    let mut attached = plain();
    attached["metadata"]["generation"] = json!(2);
    for (generation, expected) in [(1, false), (2, true)] {
        let holds =
            |kind: &str| json!({"type": kind, "status": "True", "observedGeneration": generation});
        attached["status"] =
            json!({"parents": [{"conditions": [holds("Accepted"), holds("ResolvedRefs")]}]});
        world.put(attached.clone());
        assert_eq!(answer(&world), Some(expected));
    }
}
