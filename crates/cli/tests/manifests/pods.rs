//! What happens to pods is told as Events, and what they expose is measured under the names of their release.

use crossfade_host::store::Kind;
use serde_json::Value;

use crate::stage::{Load, Stage};

const ROLLOUT: &str = "\
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata:
  name: web
spec:
  replicas: 1
  selector:
    matchLabels: {app.kubernetes.io/name: shop-web}
  template:
    metadata:
      labels: {app.kubernetes.io/name: shop-web}
      annotations: {prometheus.io/scrape: 'true'}
    spec:
      containers:
      - name: app
        image: web:1
        command: COMMAND
        ports: [{containerPort: 8080}]
        lifecycle: {preStop: {sleep: {seconds: 1}}}
        livenessProbe:
          httpGet: {path: /healthz, port: 8080}
          periodSeconds: 1
          failureThreshold: 2
  strategy:
    canary: {}
---
apiVersion: v1
kind: Service
metadata:
  name: shop
spec:
  selector: {app.kubernetes.io/name: shop-web}
  ports: [{port: 80, targetPort: 8080}]
";

const GOOD: &str = "[crossfade, sample, '--port=$(PORT)']";
const UNHEALTHY: &str = "[crossfade, sample, '--port=$(PORT)', --unhealthy]";

/// The Events about pods: type, reason, message and count.
async fn pod_events(stage: &Stage) -> Vec<(String, String, String, u64)> {
    let mut events = stage.all(Kind::Event).await;
    events.retain(|event| event["involvedObject"]["kind"] == "Pod");
    let told = |event: &Value| {
        let text = |member: &str| event[member].as_str().unwrap_or_default().to_owned();
        let count = event["count"].as_u64().unwrap_or_default();
        (text("type"), text("reason"), text("message"), count)
    };
    events.iter().map(told).collect()
}

async fn until_told(stage: &Stage, kind: &str, reason: &str, message: &str, count: u64) {
    let what = format!("{kind} {reason}: {message} (x{count})");
    stage
        .until(&what, async || {
            pod_events(stage)
                .await
                .iter()
                .any(|(a, b, c, times)| {
                    a == kind && b == reason && c.starts_with(message) && *times >= count
                })
                .then_some(())
        })
        .await;
}

#[tokio::test]
async fn what_happens_to_pods_is_told_by_events_that_count() {
    let stage = Stage::start("default").await;
    stage
        .apply_text(&ROLLOUT.replace("COMMAND", "['false']"))
        .await;
    let death = "Error: container app ended with exit code 1";
    until_told(&stage, "Warning", "Failed", death, 2).await;
    until_told(
        &stage,
        "Warning",
        "BackOff",
        "Back-off restarting failed container app",
        1,
    )
    .await;
    until_told(&stage, "Normal", "Started", "Started container app", 2).await;

    stage
        .apply_text(&ROLLOUT.replace("COMMAND", "[no-such-program]"))
        .await;
    until_told(&stage, "Warning", "Failed", "Error: container app: ", 1).await;

    stage
        .apply_text(&ROLLOUT.replace("        command: COMMAND\n", ""))
        .await;
    until_told(
        &stage,
        "Warning",
        "Failed",
        "container `app` has only an image",
        1,
    )
    .await;

    stage
        .apply_text(&ROLLOUT.replace("COMMAND", UNHEALTHY))
        .await;
    let probe = "Liveness probe of container app failed: HTTP probe failed with statuscode: 503";
    until_told(&stage, "Warning", "Unhealthy", probe, 2).await;
    let killing = "Container app failed liveness probe, will be restarted";
    until_told(&stage, "Normal", "Killing", killing, 1).await;
    let shown = stage.done(&["events", "web", "--all"]).await;
    assert!(shown.contains("Unhealthy"), "{shown}");

    stage.apply_text(&ROLLOUT.replace("COMMAND", GOOD)).await;
    stage.healthy("web").await;
    stage.done(&["delete", "rollout", "web"]).await;
    until_told(&stage, "Normal", "Killing", "Stopping container app", 1).await;
    stage.end().await;
}

#[tokio::test]
async fn pods_are_measured_under_the_names_of_their_release_however_they_are_measured() {
    let stage = Stage::start("default").await;
    stage.apply_text(&ROLLOUT.replace("COMMAND", GOOD)).await;
    stage.healthy("web").await;
    let load = Load::start(&stage.address("shop").await);
    let labels = |query: &'static str| {
        let stage = &stage;
        async move {
            stage
                .until(query, async || {
                    let answer = stage.query(query).await;
                    answer.pointer("/data/result/0/metric").cloned()
                })
                .await
        }
    };
    // Counted by the proxy.
    let counted = labels("http_requests_total{job=\"crossfade-proxy\",status=\"200\"} > 0").await;
    // Scraped, since the pod asks for it.
    let scraped = labels("up").await;
    for metric in [&counted, &scraped] {
        assert_eq!(metric["app"], "shop-web", "{metric}");
        assert_eq!(metric["service"], "shop", "{metric}");
        assert_eq!(metric["namespace"], "default", "{metric}");
        assert!(metric["rollouts_pod_template_hash"].is_string(), "{metric}");
    }
    assert_eq!(counted["canary"], "false", "{counted}");
    load.stop().await.none_failed();
    stage.end().await;
}
