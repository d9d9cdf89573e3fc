//! What tests of Canaries share: a Deployment behind an Ingress, a Canary of it, and how they stand.

use std::collections::BTreeMap;

use crossfade_test_cluster::Trouble;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kube::api::DynamicObject;

use crate::beside::Beside;
use crate::routers::{definition, objects};
use crate::stage::{Canary, Stage};

/// A cluster that knows Istio's kinds, a server beside it, and the VirtualServices there.
pub(crate) async fn behind_istio() -> Result<(Stage, Beside, Api<DynamicObject>), Trouble> {
    let stage = Stage::new().await?;
    let (group, version) = ("networking.istio.io", "v1beta1");
    let rules = definition(group, version, "DestinationRule", "destinationrules");
    stage.define(rules).await?;
    let routes = objects(&stage, group, version, "VirtualService", "virtualservices").await?;
    Ok((stage, Beside::new().await, routes))
}

pub(crate) fn deployment(image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: shop, labels: {{app: shop}}}}
spec:
  replicas: 2
  progressDeadlineSeconds: 300
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec: {{containers: [{{name: main, image: {image}}}]}}
"
    )
}

pub(crate) const INGRESS: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: nginx
  rules:
  - http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}]}
";

/// A Canary of the Deployment, judged by the server beside.
pub(crate) fn canary(beside: &Beside, provider: &str, analysis: &str) -> String {
    format!(
        "apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {{name: shop}}
spec:
  provider: {provider}
  metricsServer: http://{}
  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: shop}}
  ingressRef: {{apiVersion: networking.k8s.io/v1, kind: Ingress, name: shop}}
  progressDeadlineSeconds: 300
  service: {{port: 80, targetPort: 8080}}
  analysis:
    interval: 10s
    threshold: 1
    metrics:
    - {{name: request-success-rate, interval: 1m, thresholdRange: {{min: 99}}}}
    - {{name: request-duration, interval: 1m, thresholdRange: {{max: 500}}}}
{analysis}",
        beside.address
    )
}

pub(crate) fn phase(canary: &Canary) -> &str {
    canary.status["phase"].as_str().unwrap_or_default()
}

pub(crate) async fn until_phase(
    stage: &Stage,
    name: &str,
    wanted: &str,
) -> Result<Canary, Trouble> {
    let is = |canary: &Canary| phase(canary) == wanted;
    let reached = stage.namespace.until(name, wanted, is).await;
    let told = stage.told("Canary").await;
    assert!(reached.is_ok(), "{told:#?}\n{:?}", stage.writes());
    reached
}

/// Waits until something was told of a Canary.
pub(crate) async fn until_told(stage: &Stage, text: &str) {
    stage.until_told("Canary", text).await;
}

/// Image and number of pods that a Deployment wants.
pub(crate) async fn wants(stage: &Stage, name: &str) -> (String, i32) {
    let deployment = stage.namespace.api::<Deployment>().get(name).await.unwrap();
    let spec = deployment.spec.unwrap();
    let pods = spec.template.spec.unwrap();
    let image = pods.containers[0].image.clone().unwrap();
    (image, spec.replicas.unwrap())
}

pub(crate) fn weight(ingress: &Ingress) -> &str {
    let annotations = ingress.metadata.annotations.as_ref();
    let weight = annotations.and_then(|all| all.get("nginx.ingress.kubernetes.io/canary-weight"));
    weight.map_or("", String::as_str)
}

pub(crate) async fn selects(stage: &Stage, name: &str) -> BTreeMap<String, String> {
    let service = stage.namespace.api::<Service>().get(name).await.unwrap();
    service.spec.unwrap().selector.unwrap_or_default()
}
