//! Manifests that were written for clusters of others run to their end on fake nodes. What the files name and do not bring is added, addresses of
//! metric servers lead to one here, commands of Jobs need no network, and pauses are short; everything else is as it was found.

use std::net::SocketAddr;
use std::path::Path;

use crossfade_test_cluster::Trouble;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::routers::{objects, until_weights};
use crate::stage::{Rollout, Stage};

/// A Prometheus whose services are well: no errors, quick answers.
async fn prometheus() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 16_384];
                let length = connection.read(&mut request).await.unwrap_or(0);
                let query = String::from_utf8_lossy(&request[..length]).replace("%7E", "~");
                let value = if query.contains("histogram_quantile") {
                    "120"
                } else if query.contains("%3D~%225") {
                    "0.01"
                } else {
                    "1"
                };
                let answer = json!({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, value]}]}}).to_string();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
                let _ = connection.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

/// Overlays a document that was found: times, addresses, commands.
fn overlay(document: &mut Value, prometheus: SocketAddr) {
    match document {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match name.as_str() {
                    "duration" | "interval" | "initialDelay" => *member = json!("1s"),
                    "scaleDownDelaySeconds" => *member = json!(1),
                    "address" => *member = json!(format!("http://{prometheus}")),
                    "job" => {
                        member["spec"]["template"]["spec"]["containers"][0]["command"] =
                            json!(["true"]);
                    }
                    _ => overlay(member, prometheus),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| overlay(item, prometheus)),
        _ => {}
    }
}

/// The documents of files as they were found, overlaid.
fn found(files: &[&str], prometheus: SocketAddr) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/data/manifests");
    let documents = files.iter().flat_map(|file| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        serde_saphyr::from_multiple::<Value>(&text).unwrap()
    });
    documents
        .map(|mut document| {
            overlay(&mut document, prometheus);
            document["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("namespace");
            document
        })
        .collect()
}

fn service(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80}]},
    })
}

async fn apply(stage: &Stage, documents: &[Value]) -> Result<(), Trouble> {
    for document in documents {
        stage.namespace.apply(&document.to_string()).await?;
    }
    Ok(())
}

/// Gives a Rollout of these documents another image.
async fn update(stage: &Stage, documents: &[Value], image: &str) -> Result<(), Trouble> {
    let mut rollout = documents
        .iter()
        .find(|one| one["kind"] == "Rollout")
        .unwrap()
        .clone();
    rollout["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    apply(stage, &[rollout]).await
}

fn runs(rollout: &Rollout, image: &str) -> bool {
    rollout.is_healthy() && rollout.spec["template"]["spec"]["containers"][0]["image"] == image
}

#[tokio::test]
async fn a_canary_by_pods_with_an_inline_prometheus_analysis_runs_to_its_end() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    let files = [
        "analysis-inline-prometheus.yaml",
        "canary-inline-analysis.yaml",
    ];
    let documents = found(&files, prometheus().await);
    apply(&stage, &documents).await?;
    stage.until_healthy("payment-api").await?;
    let next = "registry.example.com/payment-api:2.5.0";
    update(&stage, &documents, next).await?;
    stage
        .until("payment-api", "the next version", |one| runs(one, next))
        .await?;
    assert_eq!(stage.sizes().await[next], 10);
    Ok(())
}

#[tokio::test]
async fn a_canary_through_istio_with_a_background_analysis_runs_to_its_end() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    let (group, version) = ("networking.istio.io", "v1alpha3");
    let services = objects(&stage, group, version, "VirtualService", "virtualservices").await?;
    let files = ["analysis-canary-prometheus.yaml", "canary-istio.yaml"];
    let mut documents = found(&files, prometheus().await);
    let destination =
        |host: &str, weight: u32| json!({"destination": {"host": host}, "weight": weight});
    let (stable, canary) = ("web-frontend-stable", "web-frontend-canary");
    documents.push(service(stable, "web-frontend"));
    documents.push(service(canary, "web-frontend"));
    documents.push(json!({
        "apiVersion": format!("{group}/{version}"), "kind": "VirtualService", "metadata": {"name": "web-frontend-vsvc"},
        "spec": {"hosts": ["web"], "http": [{"name": "primary", "route": [destination(stable, 100), destination(canary, 0)]}]},
    }));
    apply(&stage, &documents).await?;
    stage.until_healthy("web-frontend").await?;
    let next = "registry.company.com/web-frontend:v2.2.0";
    update(&stage, &documents, next).await?;
    stage
        .until("web-frontend", "the next version", |one| runs(one, next))
        .await?;
    until_weights(
        &services,
        "web-frontend-vsvc",
        "/spec/http/0/route",
        &[100, 0],
    )
    .await;
    Ok(())
}

#[tokio::test]
async fn a_dark_canary_through_nginx_with_a_job_runs_to_its_end() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let files = ["analysis-job-dark.yaml", "canary-nginx-dark.yaml"];
    let mut documents = found(&files, prometheus().await);
    let backend = json!({"service": {"name": "progressive-demo-stable", "port": {"number": 80}}});
    documents.push(service("progressive-demo-stable", "progressive-demo"));
    documents.push(service("progressive-demo-canary", "progressive-demo"));
    documents.push(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "progressive-demo"},
        "spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]},
    }));
    apply(&stage, &documents).await?;
    stage.until_healthy("progressive-demo").await?;
    let next = "registry.gitlab.com/cloudnativetips/argorollouts-sample/hello-world:v2";
    update(&stage, &documents, next).await?;
    stage
        .until("progressive-demo", "the next version", |one| {
            runs(one, next)
        })
        .await?;
    assert_eq!(stage.sizes().await[next], 5);
    Ok(())
}

#[tokio::test]
async fn a_blue_green_release_with_analyses_before_and_after_runs_to_its_end() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    let files = ["analysis-job-smoke.yaml", "bluegreen-analysis.yaml"];
    let mut documents = found(&files, prometheus().await);
    documents.push(service("api-backend-active", "api-backend"));
    documents.push(service("api-backend-preview", "api-backend"));
    let job = json!({"spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x", "command": ["true"]}]}}}});
    documents.push(json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "post-deploy-check"},
        "spec": {"args": [{"name": "active-url"}], "metrics": [{"name": "answers", "provider": {"job": job}}]},
    }));
    apply(&stage, &documents).await?;
    stage.until_healthy("api-backend").await?;
    let next = "registry.company.com/api-backend:v3.1.0";
    update(&stage, &documents, next).await?;
    let waits = |rollout: &Rollout| {
        let judged = &rollout.status["blueGreen"]["prePromotionAnalysisRunStatus"]["status"];
        rollout.is_observed() && rollout.message() == "BlueGreenPause" && *judged == "Successful"
    };
    let waiting = stage
        .until("api-backend", "the wait for a person", waits)
        .await?;
    let hash = waiting.status["currentPodHash"].clone();
    assert_eq!(stage.selected("api-backend-preview").await, hash);
    assert_ne!(stage.selected("api-backend-active").await, hash);
    stage
        .change_status("api-backend", json!({"pauseConditions": null}))
        .await;
    stage
        .until("api-backend", "the next version", |one| runs(one, next))
        .await?;
    assert_eq!(stage.selected("api-backend-active").await, hash);
    Ok(())
}
