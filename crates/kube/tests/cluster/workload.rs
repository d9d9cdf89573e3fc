//! Templates that are taken from other objects.

use crossfade_test_cluster::Trouble;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::stage::{Rollout, Stage};

fn rollout(api: &str, kind: &str, more: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: shop}}
spec:
  replicas: 5
  workloadRef: {{apiVersion: {api}, kind: {kind}, name: shop{more}}}
  strategy: {{canary: {{steps: [{{setWeight: 20}}, {{pause: {{}}}}]}}}}
"
    )
}

/// What holds a template for pods of this image, which are ready after a moment.
fn workload(kind: &str, image: &str, replicas: i32) -> String {
    format!(
        "apiVersion: apps/v1
kind: {kind}
metadata: {{name: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}, annotations: {{kubelet.crossfade.dev/ready-after: 200ms}}}}
    spec: {{containers: [{{name: main, image: '{image}'}}]}}
"
    )
}

fn invalid(rollout: &Rollout) -> Option<&str> {
    rollout.condition("InvalidSpec")?["message"].as_str()
}

/// The ReplicaSets of the Rollout by image, with the pods wanted.
async fn own_sizes(stage: &Stage) -> Vec<(String, i32)> {
    let sets = stage.namespace.api::<ReplicaSet>();
    let sets = sets.list(&ListParams::default()).await.unwrap();
    let own = sets.into_iter().filter(|set| {
        let owners = set.metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| owner.kind == "Rollout")
    });
    let size = |set: ReplicaSet| {
        let spec = set.spec.unwrap();
        let pods = spec.template.unwrap().spec.unwrap();
        let image = pods.containers[0].image.clone();
        (image.unwrap(), spec.replicas.unwrap())
    };
    let mut sizes: Vec<_> = own.map(size).collect();
    sizes.sort();
    sizes
}

#[tokio::test]
async fn behaviour_34_and_api_23_a_deployment_that_is_missing_is_told_and_waited_for()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage
        .namespace
        .apply(&rollout("apps/v1", "Deployment", ""))
        .await?;
    let told = stage
        .until("shop", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    let name = stage.namespace.name();
    let why =
        format!("The Rollout \"shop\" is invalid: deployments.apps \"{name}/shop\" not found");
    assert_eq!(invalid(&told), Some(why.as_str()));
    assert_eq!(told.phase(), "Degraded");

    stage
        .namespace
        .apply(&workload("Deployment", "shop:1", 0))
        .await?;
    let first = stage.until_healthy("shop").await?;
    assert_eq!(own_sizes(&stage).await, [("shop:1".to_owned(), 5)]);
    assert_eq!(first.status["workloadObservedGeneration"], "1");
    assert!(
        first.spec.get("template").is_none(),
        "it is not written back"
    );

    // Another version of the template is another version of the Rollout.
    stage
        .namespace
        .apply(&workload("Deployment", "shop:2", 0))
        .await?;
    let paused = stage
        .until("shop", "a pause at the second step", |rollout| {
            rollout.is_paused_at(1)
        })
        .await?;
    assert_eq!(paused.status["workloadObservedGeneration"], "2");
    let both = [("shop:1".to_owned(), 4), ("shop:2".to_owned(), 1)];
    assert_eq!(own_sizes(&stage).await, both);

    // Without it, nothing is let go.
    let deployments = stage.namespace.api::<Deployment>();
    deployments
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    stage
        .until("shop", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    assert_eq!(own_sizes(&stage).await, both);
    Ok(())
}

#[tokio::test]
async fn behaviour_35_a_deployment_shrinks_as_the_pods_of_the_rollout_come_up()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage
        .namespace
        .apply(&workload("Deployment", "shop:1", 5))
        .await?;
    let ready = |deployment: &Deployment| {
        let status = deployment.status.as_ref();
        status.and_then(|status| status.ready_replicas) == Some(5)
    };
    stage.namespace.until("shop", "five pods", ready).await?;
    let taken_over = rollout("apps/v1", "Deployment", ", scaleDown: progressively");
    stage.namespace.apply(&taken_over).await?;
    let wanted = |deployment: &Deployment| deployment.spec.as_ref().unwrap().replicas;
    let gone = |deployment: &Deployment| wanted(deployment) == Some(0);
    let deployment: Deployment = stage.namespace.until("shop", "no pods", gone).await?;
    let last = stage.until_healthy("shop").await?;
    assert_eq!(last.status["readyReplicas"], 5);

    // Who brings it back while it is the first revision sees it go again.
    let by_hand = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let deployments = stage.namespace.api::<Deployment>();
    let parameters = PatchParams::default();
    deployments
        .patch("shop", &parameters, &by_hand)
        .await
        .unwrap();
    let again: Deployment = stage.namespace.until("shop", "no pods", gone).await?;
    assert!(again.metadata.generation > deployment.metadata.generation);
    Ok(())
}

#[tokio::test]
async fn a_deployment_is_scaled_down_on_success_or_never_as_it_says() -> Result<(), Trouble> {
    for (mode, left) in [
        (", scaleDown: onsuccess", 0),
        (", scaleDown: never", 2),
        ("", 2),
    ] {
        let stage = Stage::new().await?;
        stage
            .namespace
            .apply(&workload("Deployment", "shop:1", 2))
            .await?;
        stage
            .namespace
            .apply(&rollout("apps/v1", "Deployment", mode))
            .await?;
        stage.until_healthy("shop").await?;
        let is = |deployment: &Deployment| deployment.spec.as_ref().unwrap().replicas == Some(left);
        stage
            .namespace
            .until("shop", &format!("{left} pods"), is)
            .await?;
        let writes = stage.writes();
        let scaled = writes
            .iter()
            .any(|(_, resource, _)| resource == "deployments");
        assert_eq!(scaled, left == 0, "{mode}: {writes:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_set_and_a_pod_template_are_templates_too() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage
        .namespace
        .apply(&workload("ReplicaSet", "shop:1", 0))
        .await?;
    stage
        .namespace
        .apply(&rollout("apps/v1", "ReplicaSet", ""))
        .await?;
    stage.until_healthy("shop").await?;
    assert_eq!(own_sizes(&stage).await, [("shop:1".to_owned(), 5)]);

    let other = Stage::new().await?;
    let template = "apiVersion: v1
kind: PodTemplate
metadata: {name: shop}
template:
  metadata: {labels: {app: shop}}
  spec: {containers: [{name: main, image: 'shop:1'}]}
";
    other.namespace.apply(template).await?;
    let by_template = rollout("v1", "PodTemplate", "").replace(
        "  replicas: 5\n",
        "  replicas: 5\n  selector: {matchLabels: {app: shop}}\n",
    );
    other.namespace.apply(&by_template).await?;
    other.until_healthy("shop").await?;
    let second = template.replace("shop:1", "shop:2");
    other.namespace.apply(&second).await?;
    other
        .until("shop", "a pause at the second step", |rollout| {
            rollout.is_paused_at(1)
        })
        .await?;
    let both = [("shop:1".to_owned(), 4), ("shop:2".to_owned(), 1)];
    assert_eq!(own_sizes(&other).await, both);
    Ok(())
}

#[tokio::test]
async fn api_24_a_kind_without_a_template_is_told() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage
        .namespace
        .apply(&rollout("apps/v1", "StatefulSet", ""))
        .await?;
    let told = stage
        .until("shop", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    let why = "workload of type apps/StatefulSet is not supported";
    assert!(
        invalid(&told).unwrap().ends_with(why),
        "{:?}",
        invalid(&told)
    );
    Ok(())
}

#[tokio::test]
async fn a_deployment_gets_its_pods_back_when_the_reference_goes() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let namespace = &stage.namespace;
    namespace
        .apply(&workload("Deployment", "shop:1", 3))
        .await?;
    let restored = rollout("apps/v1", "Deployment", ", scaleDown: progressively").replace(
        "metadata: {name: shop}",
        "metadata: {name: shop, annotations: {crossfade.dev/workload-restore: 'true'}}",
    );
    namespace.apply(&restored).await?;
    let wants = |pods: i32| {
        move |deployment: &Deployment| deployment.spec.as_ref().unwrap().replicas == Some(pods)
    };
    namespace.until("shop", "no pods", wants(0)).await?;
    let taken = stage.until_healthy("shop").await?;
    let annotations = taken.metadata.annotations.unwrap_or_default();
    assert_eq!(annotations["crossfade.dev/workload-replicas"], "shop=3");

    let own = json!({"spec": {
        "workloadRef": null,
        "selector": {"matchLabels": {"app": "shop"}},
        "template": {
            "metadata": {"labels": {"app": "shop"}, "annotations": {"kubelet.crossfade.dev/ready-after": "200ms"}},
            "spec": {"containers": [{"name": "main", "image": "shop:1"}]},
        },
    }});
    stage.change("shop", own).await;
    namespace.until("shop", "three pods", wants(3)).await?;
    let forgotten = |rollout: &Rollout| {
        let annotations = rollout.metadata.annotations.as_ref();
        annotations.is_none_or(|all| !all.contains_key("crossfade.dev/workload-replicas"))
    };
    stage
        .until("shop", "nothing to give back", forgotten)
        .await?;
    stage.until_healthy("shop").await?;
    assert_eq!(
        own_sizes(&stage).await,
        [("shop:1".to_owned(), 5)],
        "it keeps its own"
    );
    let refused: Vec<_> = stage
        .writes()
        .into_iter()
        .filter(|(_, _, code)| *code == 403)
        .collect();
    assert_eq!(refused, []);
    Ok(())
}
