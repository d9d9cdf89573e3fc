//! A collector of traces is told of every pass and what was done in it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crossfade_kube::{Settings, Tracing};
use crossfade_test_cluster::{Actor, Trouble};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::stage::Stage;

/// What a collector got: method, path, media type, key and body of each request.
type Got = Arc<Mutex<Vec<([String; 4], Value)>>>;

async fn collector() -> (SocketAddr, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let got: Got = Arc::default();
    let taken = Arc::clone(&got);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let taken = Arc::clone(&taken);
            tokio::spawn(async move {
                let take = service_fn(|request: Request<Incoming>| {
                    let taken = Arc::clone(&taken);
                    async move {
                        let header = |name: &str| {
                            let value = request.headers().get(name);
                            value.map_or("", |value| value.to_str().unwrap()).to_owned()
                        };
                        let head = [
                            request.method().to_string(),
                            request.uri().path().to_owned(),
                            header("content-type"),
                            header("key"),
                        ];
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let body = serde_json::from_slice(&body).unwrap();
                        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                        taken.push((head, body));
                        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("{}")))
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(connection), take)
                    .await;
            });
        }
    });
    (address, got)
}

fn attribute<'s>(span: &'s Value, key: &str) -> &'s str {
    let mut attributes = span["attributes"].as_array().unwrap().iter();
    let found = attributes.find(|one| one["key"] == key);
    found.map_or("", |one| one["value"]["stringValue"].as_str().unwrap())
}

const ROLLOUT: &str = "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: main, image: 'shop:1'}]}
  strategy: {canary: {}}
";

#[tokio::test]
async fn a_collector_is_told_of_passes_and_of_what_is_done_in_them() -> Result<(), Trouble> {
    let (address, got) = collector().await;
    let stage = Stage::without_controller().await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    let variables = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(format!("http://{address}")),
        "OTEL_EXPORTER_OTLP_HEADERS" => Some("key=secret".to_owned()),
        _ => None,
    };
    let settings = Settings {
        traces: Tracing::from_variables(variables).unwrap(),
        ..Settings::default()
    };
    let controller = stage.controller(settings).await?;
    stage.namespace.apply(ROLLOUT).await?;
    stage.until_healthy("shop").await?;
    // What was taken is sent before a controller ends.
    controller.stop().await;

    let got = got.lock().unwrap_or_else(PoisonError::into_inner);
    let mut spans = Vec::new();
    for (head, body) in got.iter() {
        assert_eq!(head, &["POST", "/v1/traces", "application/json", "secret"]);
        let resource = &body["resourceSpans"][0];
        assert_eq!(
            attribute(&resource["resource"], "service.name"),
            "crossfade"
        );
        let of_scope = resource["scopeSpans"][0]["spans"].as_array().unwrap();
        spans.extend(of_scope.iter().cloned());
    }
    let created = spans.iter().find(|span| span["name"] == "CreateReplicaSet");
    let created = created.expect("the ReplicaSet was made");
    assert_eq!(attribute(created, "crossfade.outcome"), "done");
    let parent = |span: &&Value| span["spanId"] == created["parentSpanId"];
    let pass = spans.iter().find(parent).expect("a pass");
    assert_eq!(pass["name"], "pass Rollout");
    assert_eq!(pass["traceId"], created["traceId"]);
    assert_eq!(pass["parentSpanId"], "");
    assert_eq!(attribute(pass, "crossfade.name"), "shop");
    assert_eq!(
        attribute(pass, "k8s.namespace.name"),
        stage.namespace.name()
    );
    assert_eq!(attribute(pass, "crossfade.outcome"), "done");
    let time =
        |span: &Value, member: &str| -> u128 { span[member].as_str().unwrap().parse().unwrap() };
    let (began, ended) = ("startTimeUnixNano", "endTimeUnixNano");
    assert!(time(pass, began) <= time(created, began));
    assert!(time(created, began) <= time(created, ended));
    assert!(time(created, ended) <= time(pass, ended));
    for span in &spans {
        assert_eq!(span["traceId"].as_str().unwrap().len(), 32);
        assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
    }
    let passes = spans.iter().filter(|span| span["parentSpanId"] == "");
    assert!(passes.count() > 2);
    Ok(())
}
