//! NGINX ingress.

use serde_json::{Value, json};

use crate::rig::{World, out_of, split, text, yaml};

const PREFIX: &str = "/metadata/annotations/nginx.ingress.kubernetes.io~1";

fn stable(name: &str, service: &str) -> Value {
    yaml(&format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
  namespace: web
  annotations: {{kubernetes.io/ingress.class: nginx, nginx.ingress.kubernetes.io/rewrite-target: /}}
spec:
  tls: [{{hosts: [shop.example], secretName: shop-tls}}]
  rules:
  - host: shop.example
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}
      - {{path: /static, pathType: Prefix, backend: {{resource: {{kind: Bucket, name: files}}}}}}
  - host: other.example
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: other, port: {{number: 80}}}}}}}}]}}
  - host: bare.example
"
    ))
}

fn annotation<'a>(world: &'a World, name: &str) -> &'a str {
    let canary = world
        .get("Ingress", "shop-web-canary")
        .expect("the canary Ingress");
    text(canary, &format!("{PREFIX}{name}"))
}

#[test]
fn traffic_19_a_canary_ingress_is_made_for_the_rollout_and_carries_weight_and_total() {
    let mut world = World::new(
        "nginx: {stableIngress: web}",
        &[stable("web", "shop-stable")],
    );
    let untouched = world.get("Ingress", "web").cloned();
    let notes = world.carry(&split(5));
    assert_eq!(notes[0].reason, "CreatingCanaryIngress");
    assert_eq!(
        notes[0].message,
        "Creating canary ingress `shop-web-canary` with weight `5`"
    );
    assert_eq!(annotation(&world, "canary"), "true");
    assert_eq!(annotation(&world, "canary-weight"), "5");
    assert_eq!(annotation(&world, "canary-weight-total"), "");
    let canary = world.get("Ingress", "shop-web-canary").expect("there");
    assert_eq!(
        canary["metadata"]["ownerReferences"],
        json!([{
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "shop", "uid": "uid-of-shop",
            "controller": true, "blockOwnerDeletion": true,
        }])
    );
    assert_eq!(world.get("Ingress", "web").cloned(), untouched);

    world.routing.max_traffic_weight = Some(1000);
    let notes = world.carry(&out_of(1000, 5));
    assert_eq!(notes[0].reason, "PatchingCanaryIngress");
    assert_eq!(
        notes[0].message,
        "Updating Ingress `shop-web-canary` to desiredWeight '5'"
    );
    assert_eq!(annotation(&world, "canary-weight"), "5");
    assert_eq!(annotation(&world, "canary-weight-total"), "1000");
}

#[test]
fn the_canary_ingress_has_the_rules_that_lead_to_the_stable_service_and_no_others() {
    let mut world = World::new(
        "nginx: {stableIngress: web}",
        &[stable("web", "shop-stable")],
    );
    world.carry(&split(5));
    let canary = world.get("Ingress", "shop-web-canary").expect("there");
    let expected = yaml(
        "tls: [{hosts: [shop.example], secretName: shop-tls}]
rules:
- host: shop.example
  http:
    paths:
    - {path: /, pathType: Prefix, backend: {service: {name: shop-canary, port: {number: 80}}}}
    - {path: /static, pathType: Prefix, backend: {resource: {kind: Bucket, name: files}}}
",
    );
    assert_eq!(canary["spec"], expected);
    assert_eq!(
        text(canary, "/metadata/annotations/kubernetes.io~1ingress.class"),
        "nginx"
    );
    assert_eq!(
        annotation(&world, "rewrite-target"),
        "",
        "the user's own stay with the user's"
    );
}

#[test]
fn a_foreign_ingress_of_the_canary_s_name_is_left_alone() {
    let mut foreign = stable("shop-web-canary", "other");
    foreign["metadata"]["ownerReferences"] =
        json!([{"kind": "Rollout", "name": "shop", "uid": "uid-of-another", "controller": true}]);
    let world = World::new(
        "nginx: {stableIngress: web}",
        &[stable("web", "shop-stable"), foreign],
    );
    let plan = world.plan(&split(5));
    assert_eq!(plan.changes, []);
    assert_eq!(
        plan.errors[0].to_string(),
        "canary ingress `shop-web-canary` controlled by different object"
    );
}

#[test]
fn traffic_21_annotations_of_the_canary_win_over_the_additional_ones() {
    let routing = "nginx:
  stableIngress: web
  additionalIngressAnnotations: {canary-by-header: X, nginx.ingress.kubernetes.io/canary-by-cookie: crumb}
  canaryIngressAnnotations: {nginx.ingress.kubernetes.io/canary-by-header: Z, example.com/team: shop}
";
    let mut world = World::new(routing, &[stable("web", "shop-stable")]);
    world.carry(&split(5));
    assert_eq!(annotation(&world, "canary-by-header"), "Z");
    assert_eq!(annotation(&world, "canary-by-cookie"), "crumb");
    let canary = world.get("Ingress", "shop-web-canary").expect("there");
    assert_eq!(
        text(canary, "/metadata/annotations/example.com~1team"),
        "shop"
    );
}

#[test]
fn labels_and_annotations_of_others_on_the_canary_ingress_stay() {
    let mut world = World::new(
        "nginx: {stableIngress: web}",
        &[stable("web", "shop-stable")],
    );
    world.carry(&split(5));
    let mut canary = world
        .get("Ingress", "shop-web-canary")
        .cloned()
        .expect("there");
    canary["metadata"]["labels"] = json!({"team": "shop"});
    canary["metadata"]["annotations"]["example.com/note"] = json!("mine");
    world.put(canary);
    world.carry(&split(30));
    let canary = world.get("Ingress", "shop-web-canary").expect("there");
    assert_eq!(text(canary, "/metadata/labels/team"), "shop");
    assert_eq!(
        text(canary, "/metadata/annotations/example.com~1note"),
        "mine"
    );
    assert_eq!(annotation(&world, "canary-weight"), "30");
}

#[test]
fn of_several_ingresses_one_that_is_missing_does_not_keep_the_others_from_their_weight() {
    let routing = "nginx: {stableIngresses: [gone, web, elsewhere]}";
    let objects = [stable("web", "shop-stable"), stable("elsewhere", "other")];
    let mut world = World::new(routing, &objects);
    let plan = world.plan(&split(5));
    let errors: Vec<String> = plan.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "error retrieving stableIngress `gone` from cache: ingress.networking.k8s.io \"gone\" not found",
            "ingress `elsewhere` has no rules using service shop-stable backend",
        ]
    );
    world.perform(plan);
    assert_eq!(annotation(&world, "canary-weight"), "5");
}

#[test]
fn a_long_name_is_cut_so_that_its_ending_fits() {
    let name = "n".repeat(253);
    let routing = format!("nginx: {{stableIngress: {name}}}");
    let mut world = World::new(&routing, &[stable(&name, "shop-stable")]);
    world.carry(&split(5));
    let canary = format!("shop-{}-canary", "n".repeat(241));
    assert_eq!(canary.len(), 253);
    assert!(world.get("Ingress", &canary).is_some());
}

#[test]
fn what_nginx_cannot_do_is_told() {
    use crate::rig::{exact, header_route, managed, with_experiment};
    let world = World::new("nginx: {stableIngress: web}", &[]);
    let router = world.router();
    let mut wanted = managed(with_experiment(split(5), "shop-exp", 5), &["beta"]);
    wanted.header_routes = vec![header_route("beta", &[("x-tier", exact("beta"))])];
    let notes = router.capabilities().lacking(router.kind(), &wanted);
    let messages: Vec<&str> = notes.iter().map(|note| note.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "Nginx does not support setHeaderRoute; step ignored",
            "Nginx does not support experiment weights; step ignored",
        ]
    );
    assert!(
        notes
            .iter()
            .all(|note| note.warning && note.reason == "TrafficRouterCapability")
    );
    assert_eq!(router.capabilities().lacking(router.kind(), &split(5)), []);
}
