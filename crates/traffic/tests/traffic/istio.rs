//! Istio: VirtualServices and DestinationRules.

use crossfade_traffic::release_destination_rule;
use serde_json::{Value, json};

use crate::rig::{
    World, exact, header_route, managed, mirror_route, out_of, prefix, split, text,
    with_experiment, yaml,
};

const HOSTS: &str = "istio: {virtualService: {name: shop}}";
const SUBSETS: &str = "istio:
  virtualService: {name: shop}
  destinationRule: {name: shop, canarySubsetName: canary, stableSubsetName: stable}
";

fn virtual_service(spec: &str) -> Value {
    yaml(&format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {{name: shop, namespace: web}}\nspec: {spec}"
    ))
}

/// A VirtualService with one route between the two Services.
fn by_hosts() -> Value {
    virtual_service(
        "
  hosts: [shop.example]
  http:
  - name: main
    timeout: 5s
    retries: {attempts: 3}
    route:
    - {destination: {host: shop-stable.web.svc.cluster.local, port: {number: 8080}}, weight: 100}
    - {destination: {host: shop-canary}, weight: 0}
",
    )
}

fn by_subsets() -> Value {
    virtual_service(
        "
  hosts: [shop]
  http:
  - route:
    - {destination: {host: shop, subset: stable}, weight: 100}
    - {destination: {host: shop, subset: canary}, weight: 0}
",
    )
}

fn rule() -> Value {
    yaml(
        "apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: shop, namespace: web}
spec:
  host: shop
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
  subsets:
  - {name: canary, labels: {app: shop}, trafficPolicy: {connectionPool: {tcp: {maxConnections: 50}}}}
  - {name: stable, labels: {app: shop, rollouts-pod-template-hash: old}}
  - {name: legacy, labels: {app: shop, version: v0}}
",
    )
}

/// The weights of all destinations of an entry of a section, by what they name.
fn weights(world: &World, section: &str, entry: usize) -> Vec<(String, Option<i64>)> {
    let service = world.get("VirtualService", "shop").expect("it is there");
    let routes = service["spec"][section][entry]["route"]
        .as_array()
        .expect("routes");
    routes
        .iter()
        .map(|route| {
            let subset = text(route, "/destination/subset");
            let named = if subset.is_empty() {
                text(route, "/destination/host")
            } else {
                subset
            };
            (
                named.split('.').next().unwrap_or_default().to_owned(),
                route["weight"].as_i64(),
            )
        })
        .collect()
}

fn shares(of: &[(&str, i64)]) -> Vec<(String, Option<i64>)> {
    of.iter()
        .map(|&(name, weight)| (name.to_owned(), Some(weight)))
        .collect()
}

fn names(world: &World) -> Vec<String> {
    let service = world.get("VirtualService", "shop").expect("it is there");
    let entries = service["spec"]["http"].as_array().expect("http");
    entries
        .iter()
        .map(|entry| text(entry, "/name").to_owned())
        .collect()
}

#[test]
fn a_weight_changes_two_numbers_and_nothing_else() {
    let mut world = World::new(HOSTS, &[by_hosts()]);
    let plan = world.plan(&split(5));
    assert_eq!(plan.changes.len(), 1);
    let notes = world.perform(plan);
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].reason, "Updated VirtualService");
    assert_eq!(
        notes[0].message,
        "VirtualService `shop` set to desiredWeight '5'"
    );
    let mut expected = by_hosts();
    expected["spec"]["http"][0]["route"][0]["weight"] = json!(95);
    expected["spec"]["http"][0]["route"][1]["weight"] = json!(5);
    let there = world.get("VirtualService", "shop").expect("it is there");
    assert_eq!(there["spec"], expected["spec"]);
    for _ in 0..100 {
        assert!(world.plan(&split(5)).is_done());
    }
}

#[test]
fn traffic_12_weights_go_to_the_named_route_while_a_header_route_stands_beside() {
    let mut world = World::new(HOSTS, &[by_hosts()]);
    let mut wanted = managed(split(0), &["beta"]);
    wanted.header_routes = vec![header_route("beta", &[("x-tier", exact("beta"))])];
    world.carry(&wanted);
    wanted = crossfade_api::split::Split {
        header_routes: wanted.header_routes.clone(),
        managed: wanted.managed.clone(),
        ..split(30)
    };
    world.carry(&wanted);
    assert_eq!(names(&world), ["beta", "main"]);
    assert_eq!(weights(&world, "http", 0), shares(&[("shop-canary", 100)]));
    assert_eq!(
        weights(&world, "http", 1),
        shares(&[("shop-stable", 70), ("shop-canary", 30)])
    );
}

#[test]
fn traffic_13_managed_routes_stand_first_in_their_own_order_and_go_at_the_end() {
    let mut world = World::new(HOSTS, &[by_hosts()]);
    let header = |name: &str| header_route(name, &[("x-route", exact(name))]);
    let mut wanted = managed(split(5), &["b", "a"]);
    wanted.header_routes = vec![header("a")];
    let notes = world.carry(&wanted);
    assert_eq!(
        notes[0].message,
        "VirtualService `shop` set headerRoute 'a'"
    );
    assert_eq!(names(&world), ["a", "main"]);
    wanted.header_routes = vec![header("b"), header("a")];
    world.carry(&wanted);
    assert_eq!(names(&world), ["b", "a", "main"]);
    let notes = world.carry(&managed(split(0), &["b", "a"]));
    assert_eq!(names(&world), ["main"]);
    assert_eq!(
        notes[0].message,
        "VirtualService `shop` removed all managed routes."
    );
}

#[test]
fn header_values_are_alternatives_and_the_port_is_that_of_the_user_s_route() {
    let mut world = World::new(HOSTS, &[by_hosts()]);
    let mut wanted = managed(split(5), &["beta"]);
    wanted.header_routes = vec![header_route(
        "beta",
        &[("x-tier", exact("beta")), ("x-user", prefix("qa-"))],
    )];
    world.carry(&wanted);
    let service = world.get("VirtualService", "shop").expect("it is there");
    let expected = yaml(
        "name: beta
match:
- headers: {x-tier: {exact: beta}}
- headers: {x-user: {prefix: qa-}}
route:
- {destination: {host: shop-canary, port: {number: 8080}}, weight: 100}
",
    );
    assert_eq!(service["spec"]["http"][0], expected);
}

#[test]
fn traffic_14_a_mirror_route_copies_all_unless_told_and_its_weights_follow() {
    let mut world = World::new(HOSTS, &[by_hosts()]);
    let mut wanted = managed(split(0), &["shadow"]);
    wanted.mirror_routes = vec![mirror_route("shadow", 100)];
    world.carry(&wanted);
    let service = world.get("VirtualService", "shop").expect("it is there");
    let expected = yaml(
        "name: shadow
match: [{method: {exact: GET}, uri: {prefix: /api}}]
timeout: 5s
retries: {attempts: 3}
route:
- {destination: {host: shop-stable.web.svc.cluster.local, port: {number: 8080}}, weight: 100}
- {destination: {host: shop-canary}}
mirror: {host: shop-canary, port: {number: 8080}}
mirrorPercentage: {value: 100}
",
    );
    assert_eq!(service["spec"]["http"][0], expected);

    let mut later = managed(split(30), &["shadow"]);
    later.mirror_routes.clone_from(&wanted.mirror_routes);
    world.carry(&later);
    assert_eq!(
        weights(&world, "http", 0),
        shares(&[("shop-stable", 70), ("shop-canary", 30)])
    );
    assert_eq!(
        weights(&world, "http", 1),
        shares(&[("shop-stable", 70), ("shop-canary", 30)])
    );

    // Who does not know the routes leaves them, and their weights follow all the same.
    let kept = crossfade_api::split::Split {
        keeps_routes: true,
        ..managed(split(20), &["shadow"])
    };
    world.carry(&kept);
    assert_eq!(names(&world), ["shadow", "main"]);
    assert_eq!(
        weights(&world, "http", 0),
        shares(&[("shop-stable", 80), ("shop-canary", 20)])
    );

    let notes = world.carry(&managed(split(20), &["shadow"]));
    assert_eq!(names(&world), ["main"]);
    assert_eq!(notes.len(), 1);
}

#[test]
fn traffic_15_the_weight_of_a_subset_of_others_is_kept_and_taken_from_stable() {
    let routing = SUBSETS.replace("stable}", "stable, additionalSubsetNames: [exp]}");
    let mut service = by_subsets();
    let routes = service["spec"]["http"][0]["route"]
        .as_array_mut()
        .expect("routes");
    routes[0]["weight"] = json!(80);
    routes.push(json!({"destination": {"host": "shop-exp", "subset": "exp"}, "weight": 20}));
    let mut world = World::new(&routing, &[service, rule()]);
    world.carry(&split(10));
    assert_eq!(
        weights(&world, "http", 0),
        shares(&[("stable", 70), ("canary", 10), ("exp", 20)])
    );
}

#[test]
fn experiments_get_their_share_and_leave_no_trace() {
    let mut world = World::new(HOSTS, &[by_hosts()]);
    world.carry(&split(25));
    let wanted = with_experiment(with_experiment(split(25), "shop-b", 5), "shop-a", 5);
    world.carry(&wanted);
    assert_eq!(
        weights(&world, "http", 0),
        shares(&[
            ("shop-stable", 65),
            ("shop-canary", 25),
            ("shop-a", 5),
            ("shop-b", 5)
        ])
    );
    world.carry(&split(25));
    assert_eq!(
        weights(&world, "http", 0),
        shares(&[("shop-stable", 75), ("shop-canary", 25)])
    );
}

#[test]
fn an_experiment_in_subset_mode_has_a_subset_as_long_as_it_runs() {
    let mut world = World::new(SUBSETS, &[by_subsets(), rule()]);
    world.carry(&with_experiment(split(25), "shop-a", 5));
    let subsets = |world: &World| {
        let rule = world.get("DestinationRule", "shop").expect("it is there");
        rule["spec"]["subsets"].as_array().expect("subsets").clone()
    };
    let expected =
        json!({"name": "shop-a", "labels": {"rollouts-pod-template-hash": "hash-of-shop-a"}});
    assert_eq!(subsets(&world).last(), Some(&expected));
    world.carry(&split(25));
    assert_eq!(subsets(&world).len(), 3);
}

#[test]
fn a_destination_rule_changes_in_the_labels_of_the_two_subsets_and_is_let_go_as_it_was() {
    let mut world = World::new(SUBSETS, &[by_subsets(), rule()]);
    let plan = world.plan(&split(5));
    let order: Vec<&str> = plan
        .changes
        .iter()
        .map(|change| change.object.kind.kind.as_str())
        .collect();
    assert_eq!(
        order,
        ["DestinationRule", "VirtualService"],
        "the version before its weight"
    );
    assert!(plan.changes[1].only_after);
    let notes = world.perform(plan);
    assert_eq!(notes[0].reason, "UpdatedDestinationRule");
    assert_eq!(
        notes[0].message,
        "DestinationRule shop subset updated (canary: new, stable: old)"
    );
    let there = world
        .get("DestinationRule", "shop")
        .expect("it is there")
        .clone();
    let mut expected = rule();
    expected["spec"]["subsets"][0]["labels"]["rollouts-pod-template-hash"] = json!("new");
    assert_eq!(there["spec"], expected["spec"]);
    let annotation = "/metadata/annotations/argo-rollouts.argoproj.io~1managed-by-rollouts";
    assert_eq!(text(&there, annotation), "shop");

    let patch = release_destination_rule(&there).expect("something to let go");
    let touched: Vec<&str> = patch
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| text(one, "/path"))
        .collect();
    assert_eq!(
        touched,
        [
            "/metadata/resourceVersion",
            "/metadata/annotations/argo-rollouts.argoproj.io~1managed-by-rollouts",
            "/spec/subsets/0/labels/rollouts-pod-template-hash",
            "/spec/subsets/1/labels/rollouts-pod-template-hash",
        ]
    );
    assert_eq!(
        release_destination_rule(&rule()),
        None,
        "one that was never ours"
    );
}

#[test]
fn a_subset_names_a_version_only_once_it_has_the_pods_for_its_share() {
    let mut world = World::new(SUBSETS, &[by_subsets(), rule()]);
    world.services = ("", "");
    world.pods("old", 10);
    world.pods("new", 2);
    let plan = world.plan(&split(30));
    assert_eq!(plan.changes, []);
    assert_eq!(plan.errors, []);
    assert_eq!(
        plan.waits.as_deref(),
        Some("delaying destination rule switch: version new has 2 available pods, waiting for 3")
    );
    world.pods("new", 3);
    // A stable version in trouble must not stand in the way of the one that mends it.
    world.pods("old", 1);
    world.carry(&split(30));
    assert_eq!(
        weights(&world, "http", 0),
        shares(&[("stable", 70), ("canary", 30)])
    );

    // While it waits, weight may leave the canary.
    let mut next = split(10);
    next.canary.hash = "newer".into();
    world.pods("newer", 0);
    let plan = world.plan(&next);
    assert!(plan.waits.is_some());
    world.perform(plan);
    assert_eq!(
        weights(&world, "http", 0),
        shares(&[("stable", 90), ("canary", 10)])
    );
}

#[test]
fn a_missing_rule_is_told_and_keeps_the_canary_from_rising() {
    let world = World::new(SUBSETS, &[by_subsets()]);
    let plan = world.plan(&split(5));
    assert_eq!(plan.changes, []);
    let error = &plan.errors[0];
    assert_eq!(
        error.to_string(),
        "destinationrules.networking.istio.io \"shop\" not found"
    );
    let note = error.note.as_ref().expect("a warning of its own");
    assert_eq!(
        (note.warning, note.reason),
        (true, "DestinationRuleNotFound")
    );
    assert_eq!(note.message, "DestinationRule `shop` not found");
}

#[test]
fn a_missing_virtual_service_is_told_and_does_not_keep_others_from_their_weight() {
    let routing = "istio: {virtualServices: [{name: gone}, {name: shop.web.svc.cluster.local}, {name: shop.web}]}";
    let mut world = World::new(routing, &[by_hosts()]);
    let plan = world.plan(&split(5));
    let reasons: Vec<_> = plan
        .errors
        .iter()
        .map(|error| error.note.as_ref().map(|note| note.message.as_str()))
        .collect();
    // `shop.web.svc` names the namespace `svc`, as in the reference.
    assert_eq!(
        reasons,
        [
            Some("VirtualService `gone` not found"),
            Some("VirtualService `shop.web` not found"),
        ]
    );
    world.perform(plan);
    assert_eq!(
        weights(&world, "http", 0),
        shares(&[("shop-stable", 95), ("shop-canary", 5)])
    );
}

#[test]
fn of_several_tls_routes_only_those_of_the_port_change() {
    let service = virtual_service(
        "
  tls:
  - match: [{port: 443, sniHosts: [a.example]}]
    route: [{destination: {host: shop-stable}, weight: 100}, {destination: {host: shop-canary}, weight: 0}]
  - match: [{port: 8443}]
    route: [{destination: {host: shop-stable}, weight: 100}, {destination: {host: shop-canary}, weight: 0}]
",
    );
    let routing = "istio: {virtualService: {name: shop, tlsRoutes: [{port: 8443}]}}";
    let mut world = World::new(routing, std::slice::from_ref(&service));
    world.carry(&split(5));
    assert_eq!(
        weights(&world, "tls", 0),
        shares(&[("shop-stable", 100), ("shop-canary", 0)])
    );
    assert_eq!(
        weights(&world, "tls", 1),
        shares(&[("shop-stable", 95), ("shop-canary", 5)])
    );

    let routing =
        "istio: {virtualService: {name: shop, tlsRoutes: [{port: 443, sniHosts: [a.example]}]}}";
    let mut world = World::new(routing, std::slice::from_ref(&service));
    world.carry(&split(5));
    assert_eq!(
        weights(&world, "tls", 0),
        shares(&[("shop-stable", 95), ("shop-canary", 5)])
    );

    let routing = "istio: {virtualService: {name: shop, tlsRoutes: [{port: 1}]}}";
    let plan = World::new(routing, &[service]).plan(&split(5));
    assert_eq!(
        plan.errors[0].to_string(),
        "No matching TLS routes found in the defined Virtual Service."
    );
}

#[test]
fn what_does_not_fit_is_an_error_that_names_it() {
    let two = "
  http:
  - {name: a, route: [{destination: {host: shop-stable}}, {destination: {host: shop-canary}}]}
  - {name: b, route: [{destination: {host: shop-stable}}]}
";
    let table = [
        (
            HOSTS,
            two,
            "spec.http[] should be set in VirtualService and it must have exactly one route when omitting spec.strategy.canary.trafficRouting.istio.virtualService.routes",
        ),
        (
            "istio: {virtualService: {name: shop, routes: [b]}}",
            two,
            "Canary Service 'shop-canary' not found in route",
        ),
        (
            "istio: {virtualService: {name: shop, routes: [c]}}",
            two,
            "HTTP Route 'c' is not found in the defined Virtual Service.",
        ),
        (
            HOSTS,
            " {hosts: [shop]}",
            "Unable to get any of the HTTP, TCP or TLS routes for the Istio VirtualService",
        ),
        (
            HOSTS,
            " {http: {}}",
            "Invalid casting: field 'http' is not of type '[]interface'",
        ),
        (
            HOSTS,
            " {http: [{name: a}]}",
            "Invalid casting: field 'route' is not of type '[]interface'",
        ),
    ];
    for (routing, spec, expected) in table {
        let plan = World::new(routing, &[virtual_service(spec)]).plan(&split(5));
        assert_eq!(plan.changes, []);
        assert_eq!(plan.errors[0].to_string(), expected);
    }
}

#[test]
fn destinations_of_others_go_when_they_carry_weight_and_stay_when_they_do_not() {
    let mut service = by_hosts();
    let routes = service["spec"]["http"][0]["route"]
        .as_array_mut()
        .expect("routes");
    routes.push(json!({"destination": {"host": "audit"}, "weight": 0}));
    routes.push(json!({"destination": {"host": "left-over"}, "weight": 10}));
    let mut world = World::new(HOSTS, &[service]);
    world.carry(&split(5));
    assert_eq!(
        weights(&world, "http", 0),
        shares(&[("shop-stable", 95), ("shop-canary", 5), ("audit", 0)])
    );
}

#[test]
fn a_maximum_other_than_100_becomes_percent_rounded_half_up() {
    let mut world = World::new(HOSTS, &[by_hosts()]);
    for (weight, canary) in [(5, 1), (4, 0), (15, 2), (300, 30), (1000, 100)] {
        world.carry(&out_of(1000, weight));
        let expected = shares(&[("shop-stable", 100 - canary), ("shop-canary", canary)]);
        assert_eq!(weights(&world, "http", 0), expected, "{weight} of 1000");
    }
}
