//! Evidence: AnalysisRuns that ask a server or run a Job, and what a release makes of them.

use std::net::SocketAddr;
use std::sync::Arc;

use crossfade_test_cluster::Trouble;
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::stage::{AnalysisRun, Stage};

/// A server that answers every request with this JSON, for as long as the test runs.
pub(crate) async fn server(answer: &'static str) -> SocketAddr {
    server_by_leave(answer, Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))).await
}

/// Gives one answer for each permit, and holds the others back.
pub(crate) async fn server_by_leave(answer: &'static str, leave: Arc<Semaphore>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let leave = Arc::clone(&leave);
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let _ = connection.read(&mut request).await;
                leave.acquire().await.unwrap().forget();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
                let _ = connection.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

fn manifest(image: &str, provider: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {{name: errors}}
spec:
  metrics:
  - name: errors
    provider: {provider}
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
      steps:
      - setWeight: 50
      - analysis: {{templates: [{{templateName: errors}}]}}
"
    )
}

fn web(address: SocketAddr) -> String {
    format!(
        "{{web: {{url: 'http://{address}/', jsonPath: '{{$.rate}}'}}}}\n    successCondition: result < 0.05"
    )
}

fn prometheus(address: SocketAddr) -> String {
    format!(
        "{{prometheus: {{address: 'http://{address}', query: errors}}}}\n    successCondition: result[0] < 0.05"
    )
}

fn job(command: &str) -> String {
    format!(
        "{{job: {{spec: {{backoffLimit: 0, template: {{spec: {{restartPolicy: Never, containers: [{{name: main, image: x, command: [sh, -c, '{command}']}}]}}}}}}}}}}"
    )
}

async fn runs(stage: &Stage) -> Vec<AnalysisRun> {
    let runs = stage.namespace.api::<AnalysisRun>();
    runs.list(&ListParams::default()).await.unwrap().items
}

/// The first version is there, and the second goes as far as its evidence lets it.
async fn release(stage: &Stage, provider: &str) -> Result<(), Trouble> {
    stage.namespace.apply(&manifest("shop:1", provider)).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2", provider)).await?;
    Ok(())
}

async fn is_taken_back(stage: &Stage) -> Result<(), Trouble> {
    stage
        .until("shop", "the release to be taken back", |rollout| {
            rollout.phase() == "Degraded"
                && rollout.status["availableReplicas"] == 2
                && rollout.status["updatedReplicas"].as_i64().unwrap_or(0) == 0
        })
        .await?;
    let sizes = stage.sizes().await;
    assert_eq!((sizes["shop:1"], sizes["shop:2"]), (2, 0));
    let runs = runs(stage).await;
    assert_eq!(runs.len(), 1, "one run, never two");
    assert_eq!(runs[0].status["phase"], "Failed");
    Ok(())
}

#[tokio::test]
async fn an_inline_analysis_that_fails_takes_the_release_back() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let address = server("{\"rate\": 0.5}").await;
    release(&stage, &web(address)).await?;
    is_taken_back(&stage).await
}

#[tokio::test]
async fn an_inline_analysis_that_succeeds_lets_the_release_go_on() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let answer = "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[1,\"0.01\"]}]}}";
    let address = server(answer).await;
    release(&stage, &prometheus(address)).await?;
    stage.until_healthy("shop").await?;
    assert_eq!(stage.sizes().await["shop:2"], 2);
    assert_eq!(runs(&stage).await[0].status["phase"], "Successful");
    Ok(())
}

#[tokio::test]
async fn a_job_that_fails_takes_the_release_back_and_one_that_succeeds_does_not()
-> Result<(), Trouble> {
    let bad = Stage::new().await?;
    release(&bad, &job("exit 3")).await?;
    is_taken_back(&bad).await?;
    let jobs = bad.namespace.api::<Job>();
    let jobs = jobs.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(jobs.len(), 1, "one Job, never two");

    let good = Stage::new().await?;
    release(&good, &job("exit 0")).await?;
    good.until_healthy("shop").await?;
    assert_eq!(good.sizes().await["shop:2"], 2);
    Ok(())
}
