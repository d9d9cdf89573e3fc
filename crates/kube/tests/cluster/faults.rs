//! What goes wrong between a controller and the API server, or is done to a release from outside while it is under way.

use std::time::Duration;

use crossfade_kube::{Controller, Settings};
use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_cluster::{Actor, Cluster, Namespace, Trouble};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace as Space, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::proxy::{Fault, Proxy};
use crate::stage::{AnalysisRun, Rollout, Stage};

/// A release with everything that can be written: pods, Services, an ingress, a Job that judges, a pause.
fn manifest(image: &str, pause: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: stable}}
spec: {{selector: {{app: shop}}, ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: canary}}
spec: {{selector: {{app: shop}}, ports: [{{port: 80}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web}}
spec:
  ingressClassName: nginx
  rules:
  - http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: stable, port: {{number: 80}}}}}}}}]}}
---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {{name: good}}
spec:
  metrics:
  - name: good
    provider: {{job: {{spec: {{backoffLimit: 0, template: {{spec: {{restartPolicy: Never, containers: [{{name: main, image: x, command: ['true']}}]}}}}}}}}}}
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
    canary:
      stableService: stable
      canaryService: canary
      scaleDownDelaySeconds: 1
      trafficRouting: {{nginx: {{stableIngress: web}}}}
      steps: [{{setWeight: 40}}, {{analysis: {{templates: [{{templateName: good}}]}}}}, {{pause: {pause}}}]
"
    )
}

fn weight(ingress: &Ingress) -> Option<&str> {
    let annotations = ingress.metadata.annotations.as_ref()?;
    let weight = annotations.get("nginx.ingress.kubernetes.io/canary-weight")?;
    Some(weight)
}

/// The second version is out, everything was made once, and nothing is left of the first but its ReplicaSet.
async fn is_out(stage: &Stage) -> Result<(), Trouble> {
    let rollout = stage
        .until("shop", "the second version", |rollout| {
            rollout.is_healthy()
                && rollout.metadata.annotations.as_ref().is_some_and(|notes| {
                    notes
                        .get("rollout.argoproj.io/revision")
                        .is_some_and(|number| number == "2")
                })
        })
        .await?;
    // Routers follow the status that says who is stable.
    let hash = rollout.status["stableRS"].as_str().unwrap();
    for service in ["stable", "canary"] {
        let selects = |service: &Service| {
            let selector = service
                .spec
                .as_ref()
                .and_then(|spec| spec.selector.as_ref());
            let selected = selector.and_then(|labels| labels.get("rollouts-pod-template-hash"));
            selected.is_some_and(|selected| selected == hash)
        };
        stage
            .namespace
            .until(service, "the second version to be selected", selects)
            .await?;
    }
    let is_back = |ingress: &Ingress| weight(ingress) == Some("0");
    stage
        .namespace
        .until("shop-web-canary", "a weight of 0", is_back)
        .await?;
    let all = ListParams::default();
    let sets = stage.namespace.api::<ReplicaSet>();
    assert_eq!(sets.list(&all).await.unwrap().items.len(), 2);
    let runs = stage.namespace.api::<AnalysisRun>();
    assert_eq!(runs.list(&all).await.unwrap().items.len(), 1);
    let jobs = stage.namespace.api::<Job>();
    assert_eq!(jobs.list(&all).await.unwrap().items.len(), 1);
    Ok(())
}

/// A controller behind a proxy, alone.
async fn behind(stage: &Stage, proxy: &Proxy) -> Controller {
    let settings = Settings {
        namespaces: vec![stage.namespace.name().to_owned()],
        ..Settings::default()
    };
    Controller::start(proxy.client(), settings).await.unwrap()
}

/// Releases a version while every write is struck once.
async fn release_under(fault: Fault) -> Result<(), Trouble> {
    let stage = Stage::without_controller().await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    let cluster = stage.namespace.cluster();
    let proxy = Proxy::start(cluster, Actor::Crossfade, Some(fault)).await?;
    let controller = behind(&stage, &proxy).await;
    stage
        .namespace
        .apply(&manifest("shop:1", "{duration: 1s}"))
        .await?;
    stage.until_healthy("shop").await?;
    stage
        .namespace
        .apply(&manifest("shop:2", "{duration: 1s}"))
        .await?;
    is_out(&stage).await?;
    assert!(proxy.struck() >= 10, "{} were struck", proxy.struck());
    controller.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_release_comes_to_its_end_when_every_write_meets_a_conflict_once() -> Result<(), Trouble>
{
    release_under(Fault::Conflict).await
}

#[tokio::test]
async fn a_release_comes_to_its_end_when_every_reply_is_lost_once() -> Result<(), Trouble> {
    release_under(Fault::Lost).await
}

#[tokio::test]
async fn a_release_comes_to_its_end_when_the_api_server_has_too_much_to_do() -> Result<(), Trouble>
{
    release_under(Fault::TooMany).await
}

#[tokio::test]
async fn a_failed_run_that_cannot_be_recorded_takes_traffic_back_and_lets_it_stay_there()
-> Result<(), Trouble> {
    let stage = Stage::without_controller().await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    let cluster = stage.namespace.cluster();
    let proxy = Proxy::start(cluster, Actor::Crossfade, Some(Fault::Verdict)).await?;
    let controller = behind(&stage, &proxy).await;
    let bad = |image| manifest(image, "{}").replace("'true'", "'false'");
    stage.namespace.apply(&bad("shop:1")).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&bad("shop:2")).await?;
    let has = |wanted: &'static str| move |ingress: &Ingress| weight(ingress) == Some(wanted);
    let ingress = "shop-web-canary";
    stage
        .namespace
        .until(ingress, "a weight of 40", has("40"))
        .await?;
    let back = stage
        .namespace
        .until(ingress, "a weight of 0", has("0"))
        .await?;
    let struck = proxy.struck();
    while proxy.struck() < struck + 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ingresses = stage.namespace.api::<Ingress>();
    let then = ingresses.get(ingress).await.unwrap().metadata;
    assert_eq!(
        then.resource_version, back.metadata.resource_version,
        "the weight does not go to and fro"
    );
    let rollouts = stage.namespace.api::<Rollout>();
    let rollout = rollouts.get("shop").await.unwrap();
    assert_eq!(
        rollout.status["abort"],
        json!(null),
        "the run's record goes first"
    );

    proxy.mend();
    stage
        .until("shop", "the abort", |rollout| {
            rollout.status["abort"] == true && rollout.phase() == "Degraded"
        })
        .await?;
    let all = ListParams::default();
    let runs = stage.namespace.api::<AnalysisRun>();
    let runs = runs.list(&all).await.unwrap().items;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].status["phase"], "Failed");
    controller.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_release_goes_on_when_all_watches_break_off() -> Result<(), Trouble> {
    let stage = Stage::without_controller().await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    let cluster = stage.namespace.cluster();
    let proxy = Proxy::start(cluster, Actor::Crossfade, None).await?;
    let controller = behind(&stage, &proxy).await;
    stage.namespace.apply(&manifest("shop:1", "{}")).await?;
    stage.until_healthy("shop").await?;
    proxy.cut();
    stage.namespace.apply(&manifest("shop:2", "{}")).await?;
    stage
        .until("shop", "the pause", |rollout| rollout.is_paused_at(2))
        .await?;
    proxy.cut();
    stage
        .change_status("shop", json!({"pauseConditions": null}))
        .await;
    is_out(&stage).await?;
    controller.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_release_outlives_the_api_server_and_its_memory() -> Result<(), Trouble> {
    let (cluster, plane) = Cluster::own().await?;
    let namespace = Namespace::on(cluster, Pace::default()).await?;
    let mut stage = Stage::on(namespace).await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    stage.start().await?;
    stage.namespace.apply(&manifest("shop:1", "{}")).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2", "{}")).await?;
    stage
        .until("shop", "the pause", |rollout| rollout.is_paused_at(2))
        .await?;
    let plane = tokio::task::spawn_blocking(move || {
        let mut plane = plane;
        // What was watched is forgotten while nobody can watch.
        for order in ["stop kube-apiserver", "compact", "start kube-apiserver"] {
            plane.order(order).unwrap();
        }
        plane
    });
    let plane = plane.await.unwrap();
    stage
        .change_status("shop", json!({"pauseConditions": null}))
        .await;
    is_out(&stage).await?;
    stage.stop().await;
    drop(stage);
    tokio::task::spawn_blocking(move || drop(plane))
        .await
        .unwrap();
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_is_applied_every_second_changes_nothing_about_a_release()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage
        .namespace
        .apply(&manifest("shop:1", "{duration: 4s}"))
        .await?;
    stage.until_healthy("shop").await?;
    let second = manifest("shop:2", "{duration: 4s}");
    stage.namespace.apply(&second).await?;
    let again = async {
        for _ in 0.. {
            // It is the time that this story is about: somebody applies every second.
            tokio::time::sleep(Duration::from_secs(1)).await;
            stage.namespace.apply(&second).await?;
        }
        Ok::<_, Trouble>(())
    };
    tokio::select! {
        ended = again => ended?,
        out = is_out(&stage) => out?,
    }
    let refused = |code: &u16| *code >= 400 && *code != 409;
    let writes = stage.writes();
    assert!(
        !writes.iter().any(|(_, _, code)| refused(code)),
        "{writes:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_canary_follows_a_scale_that_changes_in_its_middle() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage.namespace.apply(&manifest("shop:1", "{}")).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2", "{}")).await?;
    stage
        .until("shop", "the pause", |rollout| rollout.is_paused_at(2))
        .await?;
    // As an autoscaler does.
    let rollouts = stage.namespace.api::<crate::stage::Rollout>();
    let scale = Patch::Merge(json!({"spec": {"replicas": 5}}));
    rollouts
        .patch_scale("shop", &PatchParams::default(), &scale)
        .await
        .unwrap();
    stage
        .until("shop", "five stable and two canary pods", |rollout| {
            rollout.is_paused_at(2)
                && rollout.status["availableReplicas"] == 7
                && rollout.status["updatedReplicas"] == 2
        })
        .await?;
    let sizes = stage.sizes().await;
    assert_eq!((sizes["shop:1"], sizes["shop:2"]), (5, 2));
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    rollouts
        .patch_scale("shop", &PatchParams::default(), &scale)
        .await
        .unwrap();
    stage
        .change_status("shop", json!({"pauseConditions": null}))
        .await;
    is_out(&stage).await?;
    assert_eq!(stage.sizes().await["shop:2"], 3);
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_is_deleted_in_the_middle_of_a_canary_goes_for_good() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    stage.namespace.apply(&manifest("shop:1", "{}")).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2", "{}")).await?;
    stage
        .until("shop", "the pause", |rollout| rollout.is_paused_at(2))
        .await?;
    let client = stage.namespace.cluster().client(Actor::Admin).await?;
    let spaces: Api<Space> = Api::all(client);
    let name = stage.namespace.name();
    let uid = spaces.get(name).await.unwrap().metadata.uid.unwrap();
    spaces.delete(name, &DeleteParams::default()).await.unwrap();
    let gone = kube::runtime::wait::conditions::is_deleted(&uid);
    let gone = kube::runtime::wait::await_condition(spaces, name, gone);
    tokio::time::timeout(Duration::from_mins(2), gone)
        .await
        .unwrap()
        .unwrap();
    // Nobody fought for what had to go: from five milliseconds on each delay is twice the last, so that the two minutes that a
    // namespace may take have room for fifteen.
    let made: Vec<_> = stage
        .writes()
        .into_iter()
        .filter(|(verb, _, code)| verb == "create" && *code == 403)
        .collect();
    assert!(made.len() <= 15, "{made:?}");
    Ok(())
}

/// A Rollout that needs nothing but pods.
const PLAIN: &str = "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: plain}
spec:
  replicas: 1
  selector: {matchLabels: {app: plain}}
  template:
    metadata: {labels: {app: plain}}
    spec: {containers: [{name: main, image: 'plain:1'}]}
  strategy: {canary: {}}
";

#[tokio::test]
async fn a_right_that_is_missing_is_told_where_it_is_needed_and_nowhere_else() -> Result<(), Trouble>
{
    let mut stage = Stage::without_controller().await?;
    stage.grant_without("ingresses").await?;
    stage.start().await?;
    stage
        .namespace
        .apply(&manifest("shop:1", "{duration: 1s}"))
        .await?;
    stage
        .until("shop", "the right that is missing", |rollout| {
            rollout.condition("Reconciled").is_some_and(|condition| {
                let message = condition["message"].as_str().unwrap_or_default();
                condition["status"] == "False"
                    && message.contains("ingresses")
                    && message.contains("forbidden")
            })
        })
        .await?;
    stage.namespace.apply(PLAIN).await?;
    stage.until_healthy("plain").await?;
    stage
        .namespace
        .apply(&PLAIN.replace("plain:1", "plain:2"))
        .await?;
    stage.until_healthy("plain").await?;

    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    stage
        .until(
            "shop",
            "the release, and nothing told any more",
            |rollout| rollout.is_healthy() && rollout.condition("Reconciled").is_none(),
        )
        .await?;
    Ok(())
}
