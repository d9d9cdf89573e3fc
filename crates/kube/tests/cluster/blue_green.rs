//! Blue-green releases: two Services, two versions.

use crossfade_test_cluster::Trouble;
use serde_json::json;

use crate::stage::Stage;

fn manifest(image: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: active}}
spec: {{selector: {{app: shop}}, ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: preview}}
spec: {{selector: {{app: shop}}, ports: [{{port: 80}}]}}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: shop}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec: {{containers: [{{name: main, image: {image}}}]}}
  strategy:
    blueGreen:
      activeService: active
      previewService: preview
      autoPromotionEnabled: false
      scaleDownDelaySeconds: 1
"
    )
}

#[tokio::test]
async fn the_active_service_moves_when_a_person_promotes_and_the_old_pods_go() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    stage.namespace.apply(&manifest("shop:1")).await?;
    let first = stage.until_healthy("shop").await?;
    let old = first.status["currentPodHash"].as_str().unwrap().to_owned();
    assert_eq!(stage.selected("active").await, old);
    assert_eq!(stage.selected("preview").await, old);

    stage.namespace.apply(&manifest("shop:2")).await?;
    let paused = stage
        .until("shop", "a pause before promotion", |rollout| {
            rollout.is_observed()
                && rollout.phase() == "Paused"
                && rollout.status["currentPodHash"] != *old
        })
        .await?;
    let new = paused.status["currentPodHash"].as_str().unwrap().to_owned();
    assert_eq!(stage.selected("active").await, old);
    assert_eq!(stage.selected("preview").await, new);

    stage
        .change_status("shop", json!({"pauseConditions": null}))
        .await;
    stage
        .until("shop", "the new version alone", |rollout| {
            rollout.is_healthy()
                && rollout.status["HPAReplicas"] == 2
                && rollout.status["replicas"] == 2
        })
        .await?;
    assert_eq!(stage.selected("active").await, new);
    assert_eq!(stage.sizes().await["shop:2"], 2);
    Ok(())
}

#[tokio::test]
async fn a_service_that_no_rollout_names_any_more_is_given_back() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage.namespace.apply(&manifest("shop:1")).await?;
    stage.until_healthy("shop").await?;
    let rollouts = stage.namespace.api::<crate::stage::Rollout>();
    rollouts
        .delete("shop", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    let given_back = |service: &k8s_openapi::api::core::v1::Service| {
        let selector = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| !selector.contains_key("rollouts-pod-template-hash"))
    };
    for service in ["active", "preview"] {
        stage
            .namespace
            .until(service, "a Service without a hash", given_back)
            .await?;
    }
    Ok(())
}
