//! How a controller is set up, what it leaves alone, and what it tells of itself.

use std::net::SocketAddr;

use crossfade_kube::{Controller, RequestLimit, Settings};
use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_cluster::{Actor, Cluster, Namespace, Trouble};
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::ListParams;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::analysis::server;
use crate::routers::{SERVICES, definition};
use crate::stage::{Rollout, Stage};

fn rollout(name: &str, labels: &str, strategy: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: {name}, labels: {{{labels}}}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: main, image: '{name}:1'}}]}}
  strategy: {{canary: {strategy}}}
---
"
    )
}

/// What `/metrics` answers.
pub(crate) async fn metrics(address: SocketAddr) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A namespace with a controller that tells what it counts.
pub(crate) async fn telling() -> Result<(Stage, Controller), Trouble> {
    let stage = Stage::without_controller().await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    let settings = Settings {
        metrics: Some(door()),
        ..Settings::default()
    };
    let controller = stage.controller(settings).await?;
    Ok((stage, controller))
}

fn door() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn objects_of_other_instances_are_left_alone() -> Result<(), Trouble> {
    let stage = Stage::without_controller().await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    let settings = Settings {
        instance_id: "a".to_owned(),
        requests: Some(RequestLimit {
            per_second: 50.0,
            burst: 5,
        }),
        ..Settings::default()
    };
    let controller = stage.controller(settings).await?;
    let id = "argo-rollouts.argoproj.io/controller-instance-id";
    let manifests = [
        rollout("none", "", "{}"),
        rollout("other", &format!("{id}: b"), "{}"),
        rollout("ours", &format!("{id}: a"), "{}"),
    ];
    stage.namespace.apply(&manifests.concat()).await?;
    stage.until_healthy("ours").await?;
    let rollouts = stage.namespace.api::<Rollout>();
    for name in ["none", "other"] {
        let left = rollouts.get(name).await.unwrap();
        assert!(left.status.is_null(), "{name}: {}", left.status);
    }
    controller.stop().await;
    Ok(())
}

#[tokio::test]
async fn each_shard_looks_after_its_part_and_all_together_after_all() -> Result<(), Trouble> {
    let stage = Stage::without_controller().await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    let names: Vec<String> = (0..6).map(|number| format!("web-{number}")).collect();
    let manifests: String = names.iter().map(|name| rollout(name, "", "{}")).collect();
    stage.namespace.apply(&manifests).await?;
    let mut controllers = Vec::new();
    for index in 0..2 {
        let settings = Settings {
            shard: Some(format!("{index}/2").parse().unwrap()),
            metrics: Some(door()),
            ..Settings::default()
        };
        controllers.push(stage.controller(settings).await?);
    }
    for name in &names {
        stage.until_healthy(name).await?;
    }
    let sets = stage.namespace.api::<ReplicaSet>();
    let sets = sets.list(&ListParams::default()).await.unwrap();
    assert_eq!(sets.items.len(), names.len(), "one for each, never two");
    let mut told = Vec::new();
    for controller in controllers {
        told.push(metrics(controller.metrics().unwrap()).await);
        controller.stop().await;
    }
    for name in &names {
        let line = format!(
            "rollout_info_replicas_desired{{namespace=\"{}\",name=\"{name}\"}}",
            stage.namespace.name()
        );
        let tellers = told.iter().filter(|page| page.contains(&line)).count();
        assert_eq!(tellers, 1, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn prometheus_is_told_by_the_names_that_dashboards_know() -> Result<(), Trouble> {
    let (stage, controller) = telling().await?;
    let address = server("{\"rate\": 0.01}").await;
    let template = format!(
        "apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {{name: errors}}
spec:
  metrics:
  - name: rate
    provider: {{web: {{url: 'http://{address}/', jsonPath: '{{$.rate}}'}}}}
    successCondition: result < 0.05
---
"
    );
    let steps = "{steps: [{setWeight: 50}, {analysis: {templates: [{templateName: errors}]}}]}";
    let first = rollout("shop", "", steps);
    stage.namespace.apply(&(template + &first)).await?;
    stage.until_healthy("shop").await?;
    stage
        .namespace
        .apply(&first.replace("shop:1", "shop:2"))
        .await?;
    stage.until_healthy("shop").await?;
    let of = format!("namespace=\"{}\",name=\"shop", stage.namespace.name());
    for line in [
        format!("rollout_info{{{of}\",strategy=\"canary\",traffic_router=\"\",phase=\"Completed\"}} 1"),
        format!("rollout_phase{{{of}\",strategy=\"canary\",phase=\"Paused\"}} 0"),
        format!("rollout_info_replicas_available{{{of}\"}} 1"),
        format!("rollout_reconcile_count{{{of}\"}} "),
        format!("rollout_events_total{{{of}\",type=\"Normal\",reason=\"RolloutCompleted\"}} "),
        "rollout_duration_seconds_count{status=\"Promoted\"} ".to_owned(),
        "rollout_progression_duration_seconds_bucket{status=\"Promoted\",le=\"30\"} ".to_owned(),
        "rollout_manual_pause_duration_seconds_sum{status=\"Promoted\"} 0".to_owned(),
        format!("analysis_run_info{{{of}-"),
        "metric=\"rate\",type=\"Web\",dry_run=\"false\",phase=\"Successful\"} 1".to_owned(),
        "metric=\"rate\",type=\"Web\",dry_run=\"false\",phase=\"Failed\"} 0".to_owned(),
        "type=\"Web\",metric=\"rate\"} 1".to_owned(),
        "# TYPE experiment_info gauge".to_owned(),
        "controller_clientset_k8s_request_total{kind=\"replicasets\",namespace=\"N/A\",name=\"N/A\",verb=\"Create\",status_code=\"200\"} 2".to_owned(),
        "crossfade_cache_objects{kind=\"Rollout\"} 1".to_owned(),
        "crossfade_memory_bytes_per_rollout ".to_owned(),
        "workqueue_adds_total{name=\"Rollouts\"} ".to_owned(),
        "workqueue_depth{name=\"AnalysisRuns\"} 0".to_owned(),
        "workqueue_retries_total{name=\"AnalysisRuns\"} ".to_owned(),
        "workqueue_queue_duration_seconds_bucket{name=\"Rollouts\",le=\"10\"} ".to_owned(),
        "workqueue_work_duration_seconds_count{name=\"Rollouts\"} ".to_owned(),
        "workqueue_longest_running_processor_seconds{name=\"Rollouts\"} ".to_owned(),
        "workqueue_unfinished_work_seconds{name=\"Rollouts\"} ".to_owned(),
    ] {
        // What the API server has just shown to us is shown to the controller, too.
        let begun = std::time::Instant::now();
        loop {
            let page = metrics(controller.metrics().unwrap()).await;
            if page.contains(&line) {
                break;
            }
            let waited = begun.elapsed();
            assert!(waited < std::time::Duration::from_mins(1), "{line} is missing in\n{page}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    controller.stop().await;
    Ok(())
}

#[tokio::test]
async fn kinds_that_are_not_there_cost_nothing_and_are_used_when_they_come() -> Result<(), Trouble>
{
    let (cluster, _plane) = Cluster::own().await?;
    let namespace = Namespace::on(cluster, Pace::default()).await?;
    let mut stage = Stage::on(namespace).await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    stage.start().await?;
    stage.namespace.apply(&rollout("plain", "", "{}")).await?;
    stage.until_healthy("plain").await?;
    let cluster = stage.namespace.cluster();
    let asked = cluster.requests(Actor::Crossfade, stage.namespace.name())?;
    let routed = asked.unwrap_or_default().into_iter();
    let routed: Vec<_> = routed
        .map(|request| request.resource)
        .filter(|resource| {
            ["virtualservices", "httproutes", "deployments"].contains(&resource.as_str())
        })
        .collect();
    assert!(routed.is_empty(), "{routed:?}");

    stage.namespace.apply(SERVICES).await?;
    let strategy = "{stableService: stable, canaryService: canary, trafficRouting: {istio: {virtualService: {name: web}}}}";
    stage
        .namespace
        .apply(&rollout("shop", "", strategy))
        .await?;
    stage
        .until("shop", "an invalid spec", |rollout| {
            rollout.condition("InvalidSpec").is_some()
        })
        .await?;
    let kind = "VirtualService";
    let come = definition("networking.istio.io", "v1alpha3", kind, "virtualservices");
    stage.define(come).await?;
    let route = json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": kind,
        "metadata": {"name": "web"},
        "spec": {"hosts": ["web"], "http": [{"route": [
            {"destination": {"host": "stable"}, "weight": 100},
            {"destination": {"host": "canary"}, "weight": 0},
        ]}]},
    });
    stage.namespace.apply(&route.to_string()).await?;
    stage.until_healthy("shop").await?;
    stage.stop().await;
    Ok(())
}
