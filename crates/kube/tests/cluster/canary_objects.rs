//! What a target needs beside its pods: configuration and an autoscaler, copied for what serves.

use crossfade_test_cluster::Trouble;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::canary_stage::{canary, until_phase};
use crate::stage::{Canary, Stage};

fn settings(color: &str) -> String {
    format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{color: {color}}}
"
    )
}

const LOGIN: &str = "apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {user: someone}
";

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  progressDeadlineSeconds: 300
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
      - name: main
        image: shop:1
        envFrom: [{configMapRef: {name: settings}}]
      volumes: [{name: login, secret: {secretName: login}}]
";

fn autoscaler(max: i32) -> String {
    format!(
        "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: shop}}
spec:
  minReplicas: 1
  maxReplicas: {max}
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: shop}}
  metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 80}}}}}}]
"
    )
}

/// Target and greatest size of an autoscaler.
fn scales(scaler: &HorizontalPodAutoscaler) -> (&str, i32) {
    (&scaler.spec.scale_target_ref.name, scaler.spec.max_replicas)
}

#[tokio::test]
async fn configuration_and_autoscaler_are_copied_and_released_with_the_target()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let namespace = &stage.namespace;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "kubernetes", "    iterations: 1\n");
    let manifest = manifest.replace(
        "  service:",
        "  autoscalerRef: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, name: shop}\n  service:",
    );
    for text in [
        LOGIN,
        &settings("blue"),
        &autoscaler(3),
        DEPLOYMENT,
        &manifest,
    ] {
        namespace.apply(text).await?;
    }
    let initialized = until_phase(&stage, "shop", "Initialized").await?;
    let owner = initialized.metadata.uid;
    let (configs, secrets) = (namespace.api::<ConfigMap>(), namespace.api::<Secret>());
    let color = async || {
        let copy = configs.get("settings-primary").await.unwrap();
        let owners = copy.metadata.owner_references.unwrap_or_default();
        assert_eq!(owners.first().map(|one| one.uid.clone()), owner);
        copy.data.unwrap()["color"].clone()
    };
    assert_eq!(color().await, "blue");
    let login = secrets.get("login-primary").await.unwrap();
    assert_eq!(login.data.unwrap()["user"].0, b"someone");
    let pods = async |name: &str| -> Value {
        let deployment = namespace.api::<Deployment>().get(name).await.unwrap();
        json!(deployment.spec.unwrap().template.spec)
    };
    let names = |pods: &Value| {
        let environment = pods["containers"][0]["envFrom"][0]["configMapRef"]["name"].clone();
        [
            environment,
            pods["volumes"][0]["secret"]["secretName"].clone(),
        ]
    };
    assert_eq!(names(&pods("shop").await), ["settings", "login"]);
    let primary = pods("shop-primary").await;
    assert_eq!(names(&primary), ["settings-primary", "login-primary"]);
    let scalers = namespace.api::<HorizontalPodAutoscaler>();
    let scaler = scalers.get("shop-primary").await.unwrap();
    assert_eq!(scales(&scaler), ("shop-primary", 3));

    // Another configuration is another release; what serves keeps its own until the end.
    namespace.apply(&autoscaler(5)).await?;
    namespace.apply(&settings("green")).await?;
    let tracked = |canary: &Canary| {
        canary.status["phase"] == "Progressing"
            && canary.status["trackedConfigs"]["configmap/settings"].is_string()
    };
    namespace.until("shop", "a release", tracked).await?;
    assert_eq!(color().await, "blue");
    until_phase(&stage, "shop", "Succeeded").await?;
    assert_eq!(color().await, "green");
    let renewed = |scaler: &HorizontalPodAutoscaler| scales(scaler) == ("shop-primary", 5);
    let what = "the new greatest size";
    namespace.until("shop-primary", what, renewed).await?;
    Ok(())
}
