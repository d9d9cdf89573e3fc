//! Canaries of something else than a Deployment.

use std::collections::BTreeMap;

use crossfade_test_cluster::Trouble;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Service;

use crate::beside::Beside;
use crate::canary_stage::{behind_istio, canary, selects, until_phase};
use crate::routers::until_weights;
use crate::stage::Stage;

/// A node selector that no node satisfies.
const SLEEPS: &str = "flagger.app/scale-to-zero";

fn daemon_set(image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: shop, labels: {{app: shop}}}}
spec:
  selector: {{matchLabels: {{app: shop}}}}
  updateStrategy: {{type: RollingUpdate, rollingUpdate: {{maxUnavailable: 3}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec:
      tolerations: [{{operator: Exists}}]
      containers: [{{name: main, image: {image}}}]
"
    )
}

fn image(set: &DaemonSet) -> Option<&str> {
    let pods = set.spec.as_ref()?.template.spec.as_ref()?;
    pods.containers.first()?.image.as_deref()
}

fn sleeps(set: &DaemonSet) -> bool {
    let pods = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let selector = pods.and_then(|pods| pods.node_selector.as_ref());
    selector.is_some_and(|selector| selector.contains_key(SLEEPS))
}

/// Whether a pod of the present version is ready on so many nodes, and no other is there.
fn runs_on(set: &DaemonSet, nodes: i32) -> bool {
    let generation = set.metadata.generation;
    set.status.as_ref().is_some_and(|status| {
        status.observed_generation == generation
            && status.desired_number_scheduled == nodes
            && status.current_number_scheduled == nodes
            && status.number_ready == nodes
            && status.updated_number_scheduled.unwrap_or(0) == nodes
    })
}

#[tokio::test]
async fn a_daemon_set_is_released_and_sleeps_on_no_node() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let namespace = &stage.namespace;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "kubernetes", "    iterations: 1\n");
    let manifest = manifest.replace("kind: Deployment", "kind: DaemonSet");
    namespace.apply(&daemon_set("shop:1")).await?;
    let everywhere = |set: &DaemonSet| runs_on(set, 3);
    namespace.until("shop", "a pod a node", everywhere).await?;
    namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    let primary = namespace.until("shop-primary", "a pod a node", everywhere);
    assert_eq!(image(&primary.await?), Some("shop:1"));
    let asleep = |set: &DaemonSet| sleeps(set) && runs_on(set, 0);
    namespace.until("shop", "no pod", asleep).await?;

    namespace.apply(&daemon_set("shop:2")).await?;
    let awake = |set: &DaemonSet| !sleeps(set) && runs_on(set, 3) && image(set) == Some("shop:2");
    namespace.until("shop", "a pod a node", awake).await?;
    until_phase(&stage, "shop", "Succeeded").await?;
    let promoted = namespace.until("shop-primary", "a pod a node", everywhere);
    let promoted = promoted.await?;
    assert_eq!(image(&promoted), Some("shop:2"));
    assert!(!sleeps(&promoted));
    namespace.until("shop", "no pod", asleep).await?;
    Ok(())
}

fn service(version: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: shop, labels: {{team: pay}}}}
spec:
  selector: {{app: shop, version: '{version}'}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
"
    )
}

#[tokio::test]
async fn a_plain_service_is_released_behind_istio() -> Result<(), Trouble> {
    let (stage, beside, routes) = behind_istio().await?;
    let namespace = &stage.namespace;
    let manifest = canary(&beside, "istio", "    stepWeight: 50\n    maxWeight: 50\n");
    let manifest = manifest.replace(
        "{apiVersion: apps/v1, kind: Deployment, name: shop}",
        "{apiVersion: v1, kind: Service, name: shop}",
    );
    namespace.apply(&service("1")).await?;
    namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    let selector = |version: &str| {
        let pairs = [("app", "shop"), ("version", version)];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        BTreeMap::from(pairs)
    };
    for name in ["shop", "shop-primary", "shop-canary"] {
        assert_eq!(selects(&stage, name).await, selector("1"), "{name}");
    }
    let services = namespace.api::<Service>();
    let before = services.get("shop-primary").await.unwrap();
    let address = |service: &Service| service.spec.as_ref().unwrap().cluster_ip.clone();
    let original = services.get("shop").await.unwrap();
    assert_ne!(address(&before), address(&original), "each has its own");

    namespace.apply(&service("2")).await?;
    let weights = "/spec/http/0/route";
    until_weights(&routes, "shop", weights, &[50, 50]).await;
    assert_eq!(selects(&stage, "shop-canary").await, selector("2"));
    assert_eq!(selects(&stage, "shop-primary").await, selector("1"));
    until_phase(&stage, "shop", "Succeeded").await?;
    until_weights(&routes, "shop", weights, &[100, 0]).await;
    assert_eq!(selects(&stage, "shop-primary").await, selector("2"));
    let after = services.get("shop-primary").await.unwrap();
    assert_eq!(address(&after), address(&before));
    assert_eq!(after.metadata.uid, before.metadata.uid);
    let owners = after.metadata.owner_references.unwrap_or_default();
    assert!(owners.iter().any(|owner| owner.kind == "Canary"));
    Ok(())
}
