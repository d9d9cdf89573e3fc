//! Canaries behind routers: the weight is in somebody's objects.

use crossfade_test_cluster::{Actor, Trouble};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::stage::{Rollout, Stage};

pub(crate) const SERVICES: &str = "apiVersion: v1
kind: Service
metadata: {name: stable}
spec: {selector: {app: shop}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: canary}
spec: {selector: {app: shop}, ports: [{port: 80}]}
";

fn manifest(image: &str, routing: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: shop}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec: {{containers: [{{name: main, image: {image}}}]}}
  strategy:
    canary:
      stableService: stable
      canaryService: canary
      trafficRouting: {routing}
      steps: [{{setWeight: 40}}, {{pause: {{}}}}]
"
    )
}

const INGRESS: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: nginx
  rules:
  - http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: stable, port: {number: 80}}}}]}
";

fn weight(ingress: &Ingress) -> Option<&str> {
    let annotations = ingress.metadata.annotations.as_ref()?;
    let weight = annotations.get("nginx.ingress.kubernetes.io/canary-weight")?;
    Some(weight)
}

#[tokio::test]
async fn nginx_gets_the_weight_keeps_it_and_loses_it_when_the_release_is_taken_back()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let routing = "{nginx: {stableIngress: web}}";
    stage.namespace.apply(SERVICES).await?;
    stage.namespace.apply(INGRESS).await?;
    stage.namespace.apply(&manifest("shop:1", routing)).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2", routing)).await?;
    let paused = stage
        .until("shop", "a pause at the second step", |rollout| {
            rollout.is_paused_at(1)
        })
        .await?;
    assert_eq!(paused.status["canary"]["weights"]["canary"]["weight"], 40);
    let ingresses = stage.namespace.api::<Ingress>();
    let canary = ingresses.get("shop-web-canary").await.unwrap();
    assert_eq!(weight(&canary), Some("40"));

    // Who changes it by hand sees it changed back.
    let by_hand =
        json!({"metadata": {"annotations": {"nginx.ingress.kubernetes.io/canary-weight": "90"}}});
    let by_hand = Patch::Merge(by_hand);
    ingresses
        .patch("shop-web-canary", &PatchParams::default(), &by_hand)
        .await
        .unwrap();
    let is = |wanted: &'static str| move |ingress: &Ingress| weight(ingress) == Some(wanted);
    stage
        .namespace
        .until("shop-web-canary", "the weight to be back", is("40"))
        .await?;

    stage.change_status("shop", json!({"abort": true})).await;
    stage
        .namespace
        .until("shop-web-canary", "no weight", is("0"))
        .await?;
    Ok(())
}

#[tokio::test]
async fn an_ingress_that_is_missing_is_told_and_waited_for() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage.namespace.apply(SERVICES).await?;
    let routing = "{nginx: {stableIngress: web}}";
    stage.namespace.apply(&manifest("shop:1", routing)).await?;
    stage
        .until("shop", "an invalid spec", |rollout| {
            rollout.condition("InvalidSpec").is_some_and(|told| {
                told["message"]
                    .as_str()
                    .is_some_and(|told| told.contains("web"))
            })
        })
        .await?;
    stage.namespace.apply(INGRESS).await?;
    stage.until_healthy("shop").await?;
    Ok(())
}

/// A kind to an API server that knows nothing of what is in it.
pub(crate) fn definition(group: &str, version: &str, kind: &str, plural: &str) -> Value {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    // Rollouts and Canaries name Istio's kinds in versions of their own.
    let names = match group {
        "networking.istio.io" => vec!["v1alpha3", "v1beta1"],
        _ => vec![version],
    };
    let versions = names.iter().map(|name| {
        json!({
            "name": name,
            "served": true,
            "storage": name == &names[0],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}},
        })
    });
    let versions: Vec<_> = versions.collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": versions,
        },
    })
}

/// The objects of a kind that is defined by then.
pub(crate) async fn objects(
    stage: &Stage,
    group: &str,
    version: &str,
    kind: &str,
    plural: &str,
) -> Result<Api<DynamicObject>, Trouble> {
    stage
        .define(definition(group, version, kind, plural))
        .await?;
    let kind = GroupVersionKind::gvk(group, version, kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    let client = stage.namespace.cluster().client(Actor::Admin).await?;
    Ok(Api::namespaced_with(
        client,
        stage.namespace.name(),
        &resource,
    ))
}

/// Waits until these weights stand at this place of an object, stable first.
pub(crate) async fn until_weights(
    objects: &Api<DynamicObject>,
    name: &str,
    place: &str,
    wanted: &[i64],
) {
    let stand = |object: Option<&DynamicObject>| {
        let sides = object.and_then(|object| object.data.pointer(place)?.as_array());
        let weights = sides
            .into_iter()
            .flatten()
            .map(|side| side["weight"].as_i64());
        weights.eq(wanted.iter().map(|weight| Some(*weight)))
    };
    let waiting = await_condition(objects.clone(), name, stand);
    let limit = std::time::Duration::from_mins(2);
    let came = tokio::time::timeout(limit, waiting).await;
    assert!(came.is_ok(), "{wanted:?} in {:?}", objects.get(name).await);
}

#[tokio::test]
async fn istio_gets_the_weight_in_its_virtual_service() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let services = objects(
        &stage,
        "networking.istio.io",
        "v1alpha3",
        "VirtualService",
        "virtualservices",
    )
    .await?;
    let routing = "{istio: {virtualService: {name: web}}}";
    let route = "apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - timeout: 5s
    route:
    - {destination: {host: stable}, weight: 100}
    - {destination: {host: canary}, weight: 0}
";
    stage.namespace.apply(SERVICES).await?;
    stage.namespace.apply(route).await?;
    stage.namespace.apply(&manifest("shop:1", routing)).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2", routing)).await?;
    stage
        .until("shop", "a pause at the second step", |rollout| {
            rollout.is_paused_at(1)
        })
        .await?;
    until_weights(&services, "web", "/spec/http/0/route", &[60, 40]).await;
    stage
        .change_status("shop", json!({"pauseConditions": null}))
        .await;
    stage.until_healthy("shop").await?;
    until_weights(&services, "web", "/spec/http/0/route", &[100, 0]).await;
    let route = services.get("web").await.unwrap();
    assert_eq!(
        route.data["spec"]["http"][0]["timeout"], "5s",
        "what is not ours stays"
    );
    Ok(())
}

#[tokio::test]
async fn gateway_api_gets_the_weight_in_its_route() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let routes = objects(
        &stage,
        "gateway.networking.k8s.io",
        "v1",
        "HTTPRoute",
        "httproutes",
    )
    .await?;
    let routing = "{plugins: {argoproj-labs/gatewayAPI: {httpRoute: web}}}";
    let route = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: gate}]
  rules:
  - backendRefs: [{name: stable, port: 80}, {name: canary, port: 80}]
";
    stage.namespace.apply(SERVICES).await?;
    stage.namespace.apply(route).await?;
    stage.namespace.apply(&manifest("shop:1", routing)).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2", routing)).await?;
    stage
        .until("shop", "a pause at the second step", |rollout| {
            rollout.is_paused_at(1)
        })
        .await?;
    until_weights(&routes, "web", "/spec/rules/0/backendRefs", &[60, 40]).await;
    stage
        .change_status("shop", json!({"pauseConditions": null}))
        .await;
    stage.until_healthy("shop").await?;
    until_weights(&routes, "web", "/spec/rules/0/backendRefs", &[100, 0]).await;
    Ok(())
}

#[tokio::test]
async fn traffic_17_a_destination_rule_is_let_go_with_its_rollout() -> Result<(), Trouble> {
    let mut stage = Stage::new().await?;
    let group = "networking.istio.io";
    let services = objects(
        &stage,
        group,
        "v1alpha3",
        "VirtualService",
        "virtualservices",
    )
    .await?;
    let rules = objects(
        &stage,
        group,
        "v1alpha3",
        "DestinationRule",
        "destinationrules",
    )
    .await?;
    let mesh = "apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - route:
    - {destination: {host: shop, subset: stable}, weight: 100}
    - {destination: {host: shop, subset: canary}, weight: 0}
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: web}
spec:
  host: shop
  subsets:
  - {name: stable, labels: {app: shop}}
  - {name: canary, labels: {app: shop}}
  - {name: legacy, labels: {version: old}}
";
    let routing = "{istio: {virtualService: {name: web}, destinationRule: {name: web, canarySubsetName: canary, stableSubsetName: stable}}}";
    let by_subsets = |image| {
        let manifest = manifest(image, routing);
        let manifest = manifest.replace("      stableService: stable\n", "");
        manifest.replace("      canaryService: canary\n", "")
    };
    stage.namespace.apply(mesh).await?;
    stage.namespace.apply(&by_subsets("shop:1")).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&by_subsets("shop:2")).await?;
    stage
        .until("shop", "a pause at the second step", |rollout| {
            rollout.is_paused_at(1)
        })
        .await?;
    until_weights(&services, "web", "/spec/http/0/route", &[60, 40]).await;
    let hashes = |rule: &DynamicObject| {
        let subsets = rule.data["spec"]["subsets"].as_array().cloned();
        let subsets = subsets.unwrap_or_default();
        let hash = |subset: &Value| subset["labels"]["rollouts-pod-template-hash"].is_string();
        subsets.iter().map(hash).collect::<Vec<_>>()
    };
    let rule = rules.get("web").await.unwrap();
    assert_eq!(hashes(&rule), [true, true, false]);
    let rollouts = stage.namespace.api::<Rollout>();
    rollouts
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    let is_free = |rule: Option<&DynamicObject>| {
        rule.is_some_and(|rule| {
            let notes = rule.metadata.annotations.clone().unwrap_or_default();
            notes.is_empty() && hashes(rule) == [false, false, false]
        })
    };
    let limit = std::time::Duration::from_mins(2);
    let waiting = await_condition(rules.clone(), "web", is_free);
    let came = tokio::time::timeout(limit, waiting).await;
    assert!(came.is_ok(), "{:?}", rules.get("web").await);

    // The same when nobody looked while the Rollout went.
    stage.namespace.apply(&by_subsets("shop:1")).await?;
    stage.until_healthy("shop").await?;
    let is_held = |rule: Option<&DynamicObject>| rule.is_some_and(|rule| hashes(rule)[0]);
    let waiting = await_condition(rules.clone(), "web", is_held);
    let came = tokio::time::timeout(limit, waiting).await;
    assert!(came.is_ok(), "{:?}", rules.get("web").await);
    stage.stop().await;
    let gone = DeleteParams::default();
    rollouts.delete("shop", &gone).await.unwrap();
    stage.namespace.until_gone::<Rollout>("shop").await?;
    stage.start().await?;
    let waiting = await_condition(rules.clone(), "web", is_free);
    let came = tokio::time::timeout(limit, waiting).await;
    assert!(came.is_ok(), "{:?}", rules.get("web").await);
    Ok(())
}
