//! Canaries that cannot go on, and what people learn of it: nothing is lost, and nobody else is held up.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use crossfade_host::store::Kind;
use crossfade_host::wire::Deletion;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};

use crate::beside::{Answer, serve};
use crate::stage::Stage;

/// A Deployment of the sample service.
fn deployment(name: &str, label: &str, replicas: u32) -> String {
    format!(
        r#"---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{{label}: {name}}}}}
  template:
    metadata: {{labels: {{{label}: {name}}}}}
    spec:
      containers:
        - name: main
          image: example.com/{name}:1
          command: ["crossfade", "sample"]
          args: ["--version=1", "--port=$(PORT)"]
          ports: [{{containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
"#
    )
}

/// A Canary of a Deployment, with more of an analysis.
fn canary(name: &str, target: &str, more: &Value) -> String {
    let mut analysis = json!({"interval": "10s", "threshold": 10, "stepWeight": 50});
    for (key, value) in more.as_object().into_iter().flatten() {
        analysis[key] = value.clone();
    }
    let object = json!({
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": name},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "service": {"port": 80, "targetPort": 8080},
            "analysis": analysis,
        },
    });
    format!("---\n{object}\n")
}

impl Stage {
    /// Waits until something was told of a Canary.
    async fn is_told(&self, name: &str, what: &str) {
        let wanted = format!("of {name} it is told: {what}");
        self.until(&wanted, async || {
            let told = self.told(name).await;
            told.iter().any(|told| told.contains(what)).then_some(())
        })
        .await;
    }

    /// Another version of what a Deployment runs.
    async fn renew(&self, deployment: &str) {
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}});
        self.change(Kind::Deployment, deployment, &patch).await;
    }
}

#[tokio::test]
async fn what_keeps_a_canary_from_starting_is_told_and_nothing_is_made_of_it() {
    let stage = Stage::start("default").await;
    let long = "a-name-of-fifty-eight-letters-that-leaves-no-room-for-more";
    let mut all = deployment("unlabelled", "tier", 1);
    all += &deployment("sleeper", "app", 0);
    all += &deployment("shared", "name", 1);
    all += &deployment(long, "app", 1);
    all += "---\n{apiVersion: v1, kind: Service, metadata: {name: sleeper, labels: {mine: kept}}, spec: {selector: {app: sleeper}, ports: [{port: 80, targetPort: 8080}]}}\n";
    for (name, target) in [
        ("missing", "missing"),
        ("unlabelled", "unlabelled"),
        ("sleeper", "sleeper"),
        ("long", long),
    ] {
        all += &canary(name, target, &json!({}));
    }
    stage.apply_text(&all).await;
    stage
        .apply_text(&canary("shared", "shared", &json!({})))
        .await;
    stage.canary_is("shared", "Initializing").await;
    // Ages are told in whole seconds, and of one age the first by name is the older one.
    stage
        .apply_text(&canary("shared-too", "shared", &json!({})))
        .await;

    stage
        .is_told(
            "missing",
            "deployment missing.default get query error: deployments.apps \"missing\" not found",
        )
        .await;
    stage
        .is_told(
            "unlabelled",
            "deployment unlabelled.default spec.selector.matchLabels must contain one of [app name app.kubernetes.io/name]",
        )
        .await;
    stage.is_told("long", "reconcileService failed: ").await;
    stage
        .is_told(
            "shared-too",
            "Found more than one canary with the same target shared.default; shared is older",
        )
        .await;
    stage.canary_is("shared", "Initialized").await;
    stage.canary_is("sleeper", "Initialized").await;
    let primary = stage.get(Kind::Deployment, "sleeper-primary").await;
    assert_eq!(primary["spec"]["replicas"], 1, "it serves all the same");
    let service = stage.get(Kind::Service, "sleeper").await;
    assert_eq!(
        service["spec"]["selector"],
        json!({"app": "sleeper-primary"})
    );
    assert_eq!(service["metadata"]["labels"], json!({"mine": "kept"}));
    assert_eq!(service["metadata"]["ownerReferences"], Value::Null);
    for name in ["missing", "unlabelled", "long"] {
        let canary = stage.get(Kind::Canary, name).await;
        assert_eq!(canary["status"]["phase"], "Initializing");
    }
    let made = stage.all(Kind::Deployment).await;
    assert_eq!(made.len(), 6, "four that were applied, and two primaries");
    stage.end().await;
}

#[tokio::test]
async fn what_a_canary_made_comes_back_when_somebody_edits_or_deletes_it() {
    let stage = Stage::start("default").await;
    let all = deployment("web", "app", 1) + &canary("web", "web", &json!({}));
    stage.apply_text(&all).await;
    stage.canary_is("web", "Initialized").await;
    let (namespace, client) = ("default", &stage.client);
    for (kind, name) in [
        (Kind::Service, "web-canary"),
        (Kind::Service, "web"),
        (Kind::Deployment, "web-primary"),
    ] {
        let deletion = Deletion::default();
        let deleted = client.delete(kind, namespace, name, &deletion).await;
        deleted.expect("deleted");
    }
    let patch = json!({"spec": {"selector": {"app": "somebody-else"}}});
    stage.change(Kind::Service, "web-primary", &patch).await;
    stage
        .until("all is as it was", async || {
            let all = stage.all(Kind::Service).await;
            let mut selected: Vec<(&str, &str)> = all
                .iter()
                .filter_map(|service| {
                    let name = service["metadata"]["name"].as_str()?;
                    Some((name, service["spec"]["selector"]["app"].as_str()?))
                })
                .collect();
            selected.sort_unstable();
            let wanted = [
                ("web", "web-primary"),
                ("web-canary", "web"),
                ("web-primary", "web-primary"),
            ];
            let primary = client
                .get(Kind::Deployment, namespace, "web-primary")
                .await
                .ok()?;
            (selected == wanted && primary["status"]["availableReplicas"] == 1).then_some(())
        })
        .await;
    // And it goes on: what is promoted now is served by what came back.
    stage.renew("web").await;
    stage.canary_is("web", "Progressing").await;
    stage.canary_is("web", "Succeeded").await;
    stage.end().await;
}

/// Answers as the first part of the path says.
async fn odd_server() -> String {
    serve(odd_answer).await
}

async fn odd_answer(request: Request<Incoming>) -> Answer {
    let vector = |value: &str| {
        let answer = json!({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, value]}]}});
        (200, answer.to_string().into_bytes())
    };
    let (status, body) = match request.uri().path().split('/').nth(1) {
        Some("hang") => std::future::pending().await,
        Some("broken") => (500, b"out of order".to_vec()),
        Some("garbage") => (403, vec![0xff, 0x00, b'?']),
        Some("big") => (200, vec![b'x'; 10_000_000]),
        Some("elsewhere") => (307, Vec::new()),
        Some("none") => (
            200,
            br#"{"data":{"resultType":"vector","result":[]}}"#.to_vec(),
        ),
        Some("nan") => vector("NaN"),
        Some("text") => vector("many"),
        Some("good") => vector("1"),
        _ => (200, Vec::new()),
    };
    let answer = Response::builder()
        .status(status)
        .header("location", "/fine");
    answer.body(Full::new(body.into())).expect("an answer")
}

#[tokio::test]
async fn a_hook_that_hangs_fails_babbles_or_sends_on_holds_up_nobody_else() {
    let stage = Stage::start("default").await;
    let server = odd_server().await;
    let hooks = ["hang", "broken", "garbage", "big", "elsewhere"];
    let mut all = String::new();
    for hook in hooks {
        let hooks = json!({"webhooks": [
            {"name": "odd", "type": "pre-rollout", "url": format!("{server}/{hook}"), "timeout": "3s"},
        ]});
        all += &deployment(hook, "app", 1);
        all += &canary(hook, hook, &hooks);
    }
    stage.apply_text(&all).await;
    for hook in hooks {
        stage.canary_is(hook, "Initialized").await;
        stage.renew(hook).await;
    }
    let fails = |hook: &str, why: &str| {
        let mut text = format!("Halt {hook}.default advancement pre-rollout check odd failed ");
        write!(text, "{why}").expect("written");
        text
    };
    for (hook, why) in [
        (
            "broken",
            format!("POST {server}/broken giving up after 1 attempt(s): out of order"),
        ),
        ("garbage", "\u{fffd}\u{fffd}?".to_owned()),
        (
            "hang",
            format!("POST {server}/hang giving up after 1 attempt(s): no answer within 3.0s"),
        ),
    ] {
        stage.is_told(hook, &fails(hook, &why)).await;
    }
    for hook in ["big", "elsewhere"] {
        stage.is_told(hook, "Pre-rollout check odd passed").await;
        stage.canary_is(hook, "Succeeded").await;
    }
    stage.end().await;
}

#[tokio::test]
async fn a_metric_that_says_nothing_sensible_is_a_failed_check_that_names_it() {
    let stage = Stage::start("default").await;
    let server = odd_server().await;
    let metrics = ["none", "nan", "text", "broken", "garbage", "good"];
    let mut all = String::new();
    for metric in metrics {
        let template = json!({
            "apiVersion": "flagger.app/v1beta1",
            "kind": "MetricTemplate",
            "metadata": {"name": metric},
            "spec": {
                "provider": {"type": "prometheus", "address": format!("{server}/{metric}")},
                "query": "up{app=\"{{ target }}\"}",
            },
        });
        all += &format!("---\n{template}\n");
        all += &deployment(metric, "app", 1);
        let analysis = json!({"metrics": [
            {"name": "load", "templateRef": {"name": metric}, "interval": "1m", "thresholdRange": {"max": 5}},
        ]});
        all += &canary(metric, metric, &analysis);
    }
    stage.apply_text(&all).await;
    for metric in metrics {
        stage.canary_is(metric, "Initialized").await;
        stage.renew(metric).await;
    }
    let nothing = "Halt advancement no values found for custom metric: load: no values found";
    for (metric, told) in [
        ("none", nothing),
        ("nan", nothing),
        ("text", nothing),
        (
            "broken",
            "Metric query failed for load: error response: Status 500 Internal Server Error: out of order",
        ),
        (
            "garbage",
            "Metric query failed for load: error response: Status 403 Forbidden",
        ),
    ] {
        stage.is_told(metric, told).await;
        let canary = stage.get(Kind::Canary, metric).await;
        assert_eq!(
            canary["status"]["canaryWeight"], 50,
            "it stays where it was"
        );
    }
    stage.canary_is("good", "Succeeded").await;
    stage.end().await;
}

type Heard = Arc<Mutex<Vec<(String, Value)>>>;

/// A server that takes down what it is told, and where.
async fn listening() -> (String, Heard) {
    let heard = Heard::default();
    let all = Arc::clone(&heard);
    let address = serve(move |request: Request<Incoming>| {
        let all = Arc::clone(&all);
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.expect("a body");
            let body = serde_json::from_slice(&body.to_bytes()).expect("JSON");
            all.lock().expect("sound").push((path, body));
            Response::default()
        }
    });
    (address.await, heard)
}

#[tokio::test]
async fn people_are_told_through_slack_and_systems_through_event_hooks_in_order() {
    let stage = Stage::start("default").await;
    let (server, heard) = listening().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "slack"},
        "stringData": {"address": format!("{server}/slack/secret-path")},
    });
    let provider = |name: &str, spec: Value| json!({"apiVersion": "flagger.app/v1beta1", "kind": "AlertProvider", "metadata": {"name": name}, "spec": spec});
    let slack = provider(
        "people",
        json!({"type": "slack", "channel": "ops", "secretRef": {"name": "slack"}}),
    );
    let teams = provider(
        "teams",
        json!({"type": "msteams", "address": format!("{server}/teams")}),
    );
    let analysis = json!({
        "alerts": [
            {"name": "all", "severity": "info", "providerRef": {"name": "people"}},
            {"name": "grave", "severity": "error", "providerRef": {"name": "people"}},
            {"name": "teams", "severity": "info", "providerRef": {"name": "teams"}},
        ],
        "webhooks": [{"name": "log", "type": "event", "url": format!("{server}/events"), "metadata": {"team": "shop"}}],
    });
    let mut all = deployment("web", "app", 1) + &canary("web", "web", &analysis);
    for object in [&secret, &slack, &teams] {
        write!(all, "---\n{object}\n").expect("written");
    }
    stage.apply_text(&all).await;
    stage.canary_is("web", "Initialized").await;
    let at = |path: &str| -> Vec<Value> {
        let heard = heard.lock().expect("sound");
        let own = heard.iter().filter(|(place, _)| place == path);
        own.map(|(_, body)| body.clone()).collect()
    };
    stage
        .until("both have heard", async || {
            let events = at("/events");
            let last = events.last()?["metadata"]["eventMessage"].clone();
            let is_last = last == "Initialization done! web.default";
            (is_last && !at("/slack/secret-path").is_empty()).then_some(())
        })
        .await;
    let slack = at("/slack/secret-path");
    assert_eq!(slack.len(), 1, "info, and only through who wants it");
    assert_eq!(slack[0]["channel"], "ops");
    assert_eq!(
        slack[0]["attachments"][0]["text"],
        "New Deployment detected, initialization completed."
    );
    assert_eq!(slack[0]["attachments"][0]["author_name"], "web.default");
    assert_eq!(at("/teams"), [] as [Value; 0]);
    let events = at("/events");
    let last = events.last().expect("an event");
    assert_eq!(last["name"], "web");
    assert_eq!(last["phase"], "Initialized");
    assert_eq!(last["metadata"]["eventType"], "Normal");
    assert_eq!(last["metadata"]["team"], "shop");
    let times: Vec<&str> = events
        .iter()
        .filter_map(|event| event["metadata"]["timestamp"].as_str())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    let log = stage.log();
    assert!(
        log.contains("msteams is not delivered to yet; use slack"),
        "{log}"
    );
    assert!(!log.contains("secret-path"), "{log}");
    stage.end().await;
}
