//! Releases that ask a real gate server: the engine in virtual time, its hooks over HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crossfade_engine::canary::action::HookCall;
use crossfade_sim::canaries::{Answering, Namespace};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::rig::{PODINFO, Server};

/// Sends a hook as a controller does, and waits for the answer.
fn send(port: u16, call: &HookCall) -> (u16, String) {
    let path = call.url.strip_prefix("http://gates").unwrap_or("/");
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: gates\r\ncontent-type: application/json\r\nx-crossfade-revision: {}\r\nx-crossfade-dry-run: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{}",
        call.revision,
        call.dry,
        call.body.len(),
        call.body
    );
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    // Nobody there counts as a server that fails.
    let Ok(answer) = exchange() else {
        return (503, String::new());
    };
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or(500), body.to_owned())
}

struct Stage(Namespace);

impl Stage {
    /// A Canary with these hooks whose primary serves.
    fn new(server: &Server, webhooks: &Value) -> Self {
        let now: Timestamp = "2026-01-05T10:00:00Z".parse().expect("it is a time");
        let mut world = Namespace::new("test", now);
        let port = server.port;
        world.answering = Some(Answering(Box::new(move |call| send(port, call))));
        let analysis = json!({"interval": "10s", "threshold": 3, "stepWeights": [5, 25, 50], "webhooks": webhooks});
        for object in [
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"},
                "spec": {
                    "replicas": 1, "selector": {"matchLabels": {"app": "app"}},
                    "template": {
                        "metadata": {"labels": {"app": "app"}},
                        "spec": {"containers": [{"name": "main", "image": "app:v1"}]},
                    },
                },
            }),
            json!({
                "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "podinfo"},
                "spec": {
                    "provider": "istio", "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"},
                    "service": {"port": 80}, "analysis": analysis,
                },
            }),
        ] {
            world.apply(&object);
        }
        world.advance(now + SignedDuration::from_secs(3));
        let mut stage = Self(world);
        stage.until("Initialized");
        stage.0.set_image("app", "app:v2");
        stage.ticks(5);
        stage
    }

    fn status(&self) -> Value {
        let canary = self.0.object("Canary", "podinfo");
        canary
            .map(|canary| canary["status"].clone())
            .unwrap_or_default()
    }

    fn phase(&self) -> String {
        self.status()["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn weight(&self) -> i32 {
        self.0
            .routes
            .get("podinfo")
            .map_or(0, |route| route.shares.canary)
    }

    fn ticks(&mut self, count: usize) {
        self.0.ticks(count);
    }

    fn until(&mut self, phase: &str) {
        for _ in 0..60 {
            if self.phase() == phase {
                return;
            }
            self.ticks(1);
        }
        panic!(
            "{phase} is not reached: {} {:?}",
            self.status(),
            self.0.texts("podinfo")
        );
    }
}

#[tokio::test]
async fn gates_25_with_the_recipe_five_openings_promote_a_release_of_three_steps() {
    let server = Server::new(&[]).await;
    let mut stage = Stage::new(
        &server,
        &json!([
            {"name": "ask", "type": "confirm-traffic-increase", "url": "http://gates/gate/check"},
            {"name": "ask-once", "type": "confirm-traffic-increase", "url": "http://gates/gate/close"},
            {"name": "promote", "type": "confirm-promotion", "url": "http://gates/gate/check"},
            {"name": "abort", "type": "rollback", "url": "http://gates/rollback/check"},
        ]),
    );
    assert_eq!(
        (stage.phase(), stage.weight()),
        ("Progressing".to_owned(), 0)
    );
    let mut seen = Vec::new();
    for _ in 0..5 {
        server.post("/gate/open", PODINFO).await.is(202, "");
        // More looks than steps: one opening is one step at most.
        stage.ticks(4);
        seen.push((stage.phase(), stage.weight()));
        if seen.len() < 5 {
            server
                .post("/gate/check", PODINFO)
                .await
                .is(403, "Forbidden");
        }
    }
    let before = |phase: &str, weight: i32| (phase.to_owned(), weight);
    assert_eq!(
        seen[..4],
        [
            before("Progressing", 5),
            before("Progressing", 25),
            before("Progressing", 50),
            before("WaitingPromotion", 50)
        ]
    );
    stage.until("Succeeded");
}

#[tokio::test]
async fn a_gate_that_is_opened_for_one_step_closes_itself_and_the_rollback_gate_takes_the_release_back()
 {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!(
        "--gate-store=sqlite:{}",
        folder.path().join("gates.db").display()
    );
    let server = Server::new(&[&store]).await;
    let mut stage = Stage::new(
        &server,
        &json!([
            {"name": "ask", "type": "confirm-traffic-increase", "url": "http://gates/gate/check"},
            {"name": "promote", "type": "confirm-promotion", "url": "http://gates/gate/check", "metadata": {"gate": "promotion"}},
            {"name": "abort", "type": "rollback", "url": "http://gates/rollback/check"},
        ]),
    );
    let once = r#"{"name":"podinfo","namespace":"test","mode":"once","scope":"revision","by":"anna","reason":"5 % looks fine"}"#;
    for weight in [5, 25] {
        server.post("/gate/open", once).await.is(202, "");
        stage.ticks(4);
        assert_eq!(stage.weight(), weight);
    }
    let status = server
        .get("/gate/status?name=podinfo&namespace=test")
        .await
        .json();
    let history = status["history"].as_array().expect("a history").iter();
    let told: Vec<_> = history
        .map(|entry| {
            (
                entry["action"].as_str().unwrap_or_default(),
                entry["by"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("open", "anna"),
            ("grant", ""),
            ("open", "anna"),
            ("grant", "")
        ]
    );

    // Without its server every gate is closed, and no release is taken back.
    server.kill().await;
    stage.ticks(4);
    assert_eq!(
        (stage.phase(), stage.weight()),
        ("Progressing".to_owned(), 25)
    );
    let server = Server::new(&[&store]).await;
    let port = server.port;
    stage.0.answering = Some(Answering(Box::new(move |call| send(port, call))));
    stage.ticks(2);
    assert_eq!(
        (stage.phase(), stage.weight()),
        ("Progressing".to_owned(), 25)
    );
    let order = r#"{"name":"podinfo","namespace":"test","scope":"revision","by":"anna","reason":"checkout is slow"}"#;
    server.post("/rollback/open", order).await.is(202, "");
    stage.until("Failed");
    assert_eq!(stage.weight(), 0);
    // The order was for that release: the next one is not taken back by it.
    stage.0.set_image("app", "app:v3");
    stage.ticks(6);
    assert_eq!(stage.phase(), "Progressing");
}
