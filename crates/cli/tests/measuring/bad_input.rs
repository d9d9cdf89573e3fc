//! Releases whose measurements cannot be taken, or whose templates cannot be used: what a person is told, and that nothing hangs,
//! spins or is lost.

use std::sync::Arc;

use crossfade_host::client::{Part, Patch};
use crossfade_host::server::{Backend, Doors, LogStream, serve};
use crossfade_host::store::{Admission, Fault, Kind, Options, Store};
use crossfade_host::wire::{Explanation, Info, LogQuery, Status};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::host::Host;
use super::prometheus::vector;
use super::releases::{condition, measures, rests, rollout, second_version, settles, template};
use super::server::{Reply, Server, nobody};

#[tokio::test]
async fn a_release_whose_metric_server_fails_is_taken_back_and_says_how() {
    let server = Server::start(
        |asked| match asked.target.trim_end_matches("/api/v1/query") {
            "/fails" => Reply::status(500, "B"),
            "/garbage" => Reply::ok("<html>"),
            "/nan" => Reply::ok(&vector(&["NaN"])),
            "/nothing" => Reply::ok(&vector(&[])),
            "/huge" => Reply::Endless(100 * 1024 * 1024),
            "/secret" => Reply::status(
                400,
                &json!({"status": "error", "errorType": "bad_data", "error": asked.body})
                    .to_string(),
            ),
            _ => Reply::Trickle,
        },
    );
    let host = Host::start().await;
    let nobody = nobody();
    let of = |path: &str, timeout: i64| json!({"prometheus": {"address": server.url(path), "query": "up", "timeout": timeout}});
    let refused = json!({"prometheus": {"address": format!("http://{nobody}"), "query": "up"}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"key": "hush-0123"}});
    let with_secret = template(
        "secret",
        json!({
        "args": [{"name": "key", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "key"}}}],
        "metrics": [{"name": "m", "consecutiveErrorLimit": 0,
            "provider": {"prometheus": {"address": server.url("/secret"), "query": "up == {{args.key}}"}}}]}),
    );
    let without_secret = template(
        "no-secret",
        json!({
        "args": [{"name": "key", "valueFrom": {"secretKeyRef": {"name": "nothing", "key": "key"}}}],
        "metrics": [{"name": "m", "provider": {"prometheus": {"address": server.url("/secret"), "query": "up == {{args.key}}"}}}]}),
    );
    let mut objects = vec![
        secret,
        with_secret,
        without_secret,
        measures("refused", refused),
        measures("slow", of("/slow", 1)),
        measures("fails", of("/fails", 20)),
        measures("garbage", of("/garbage", 20)),
        measures("nan", of("/nan", 20)),
        measures("nothing", of("/nothing", 20)),
        measures("huge", of("/huge", 20)),
    ];
    let in_error = |text: &str| {
        format!(
            "Metric \"m\" assessed Error due to consecutiveErrors (1) > consecutiveErrorLimit (0): \"Error Message: {text}"
        )
    };
    let cases = [
        (
            "refused",
            in_error(&format!(
                "POST \"http://{nobody}/api/v1/query\": connection refused\""
            )),
        ),
        (
            "slow",
            in_error(&format!(
                "POST \"{}\": request timed out after 1s\"",
                server.url("/slow/api/v1/query")
            )),
        ),
        ("fails", in_error("server_error: server error: 500\"")),
        ("garbage", in_error("bad_response: ")),
        (
            "nan",
            "Metric \"m\" assessed Failed due to failed (1) > failureLimit (0)".to_owned(),
        ),
        (
            "nothing",
            in_error(
                "could not evaluate successCondition \"result[0] >= 0.95\": metric result is nil or empty: no data returned from the metric provider\"",
            ),
        ),
        (
            "huge",
            in_error("response body exceeds limit of 4194304 bytes\""),
        ),
        ("secret", in_error("bad_data: query=up+%3D%3D+*****")),
        (
            "no-secret",
            "Unable to resolve metric arguments: secrets \"nothing\" not found".to_owned(),
        ),
    ];
    for (name, _) in &cases {
        objects.push(rollout(name, name, json!([])));
    }
    host.apply(objects).await;
    for (name, _) in &cases {
        settles(&host, name, "Healthy").await;
    }
    for (name, _) in &cases {
        host.patch(Kind::Rollout, name, second_version()).await;
    }
    for (name, text) in &cases {
        let rollout = settles(&host, name, "Degraded").await;
        let message = rollout["status"]["message"].as_str().expect("a message");
        let start = format!(
            "RolloutAborted: Rollout aborted update to revision 2: Step-based analysis phase error/failed: {text}"
        );
        assert!(message.starts_with(&start), "{name}: {message}");
        assert_eq!(rollout["status"]["abort"], true, "{name}");
        host.tells("RolloutAborted", name).await;
    }
    rests(&host).await;
    let told = host.everything_told().await;
    assert!(!told.contains("hush-0123"));
}

#[tokio::test]
async fn a_release_whose_templates_cannot_be_used_is_held_until_they_can() {
    let server = Server::start(|_| Reply::ok(&vector(&["1"])));
    let host = Host::start().await;
    let good = || json!({"prometheus": {"address": server.url(""), "query": "up"}});
    let metric = |name: &str| json!({"name": name, "provider": good()});
    let mut objects = vec![
        template(
            "argument",
            json!({"args": [{"name": "service"}], "metrics": [
            {"name": "m", "provider": {"prometheus": {"address": server.url(""), "query": "up{service=\"{{args.service}}\"}"}}}]}),
        ),
        template(
            "unknown-tag",
            json!({"metrics": [{"name": "m", "provider": {"web": {"url": "http://x/{{args.nope}}"}}}]}),
        ),
        template(
            "endless",
            json!({"metrics": [{"name": "m", "interval": "1s", "provider": good()}]}),
        ),
        template("one", json!({"metrics": [metric("m")]})),
        template(
            "same",
            json!({"metrics": [metric("m")], "templates": [{"templateName": "one"}]}),
        ),
        template(
            "nesting",
            json!({"metrics": [metric("m")], "templates": [{"templateName": "lost"}]}),
        ),
        template(
            "elsewhere",
            json!({"metrics": [{"name": "m", "provider": {"datadog": {"query": "q"}}}]}),
        ),
    ];
    let path = "spec.strategy.canary.steps[0].analysis.templates";
    let cases = [
        ("missing", format!("{path}: Invalid value: \"missing\": AnalysisTemplate 'missing' not found")),
        ("argument", format!("{path}: Invalid value: \"templateNames: [argument]\": args.service was not resolved")),
        ("unknown-tag", format!("{path}: Invalid value: \"unknown-tag\": AnalysisTemplate unknown-tag: failed to resolve {{{{args.nope}}}}")),
        ("endless", format!("{path}: Invalid value: \"endless\": AnalysisTemplate endless has metric m which runs indefinitely. Invalid value for count: <nil>")),
        ("same", format!("{path}: Invalid value: \"templateNames: [same]\": two metrics have the same name 'm'")),
        ("nesting", "spec.templates: Invalid value: \"lost\": AnalysisTemplate 'lost' not found".to_owned()),
        ("elsewhere", "spec.strategy: Invalid value: \"elsewhere\": AnalysisTemplate elsewhere: spec.metrics[0].provider.datadog: Forbidden: metric \"m\" cannot be measured with datadog yet; use prometheus, web or job".to_owned()),
    ];
    for (name, _) in &cases {
        objects.push(rollout(name, name, json!([])));
    }
    host.apply(objects).await;
    for (name, text) in &cases {
        let rollout = settles(&host, name, "Degraded").await;
        let text = format!("The Rollout \"{name}\" is invalid: {text}");
        let told = condition(&rollout, "InvalidSpec");
        assert_eq!(
            (&told["status"], &told["message"]),
            (&json!("True"), &json!(text)),
            "{name}"
        );
        assert_eq!(
            rollout["status"]["message"],
            format!("InvalidSpec: {text}"),
            "{name}"
        );
    }
    assert_eq!(
        host.list(Kind::ReplicaSet).await.len(),
        0,
        "nothing is released"
    );
    rests(&host).await;

    // What is mended is taken up without being asked.
    host.apply(vec![
        template("missing", json!({"metrics": [metric("m")]})),
        template("lost", json!({"metrics": [metric("other")]})),
        template("unknown-tag", json!({"metrics": [metric("m")]})),
        template(
            "endless",
            json!({"metrics": [{"name": "m", "interval": "1s", "count": 1, "provider": good()}]}),
        ),
        template(
            "same",
            json!({"metrics": [metric("other")], "templates": [{"templateName": "one"}]}),
        ),
        template("elsewhere", json!({"metrics": [metric("m")]})),
        rollout(
            "argument",
            "argument",
            json!([{"name": "service", "value": "shop"}]),
        ),
    ])
    .await;
    for (name, _) in &cases {
        let rollout = settles(&host, name, "Healthy").await;
        assert_eq!(condition(&rollout, "InvalidSpec"), &Value::Null, "{name}");
    }
}

/// Lets everything in, as a store of another version may have done.
struct Open;

impl Admission for Open {
    fn admit(&self, _: Kind, _: &mut Value, _: Option<&Value>) -> Result<Vec<String>, Vec<Fault>> {
        Ok(Vec::new())
    }
}

/// An API without a control plane behind it.
struct Nothing;

impl Backend for Nothing {
    fn info(&self) -> Info {
        Info::default()
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    async fn logs(&self, _: &str, _: &str, _: LogQuery) -> Result<LogStream, Status> {
        Ok(Box::pin(futures_util::stream::empty()))
    }
    async fn explain(&self, _: Kind, _: &str, _: &str) -> Result<Explanation, Status> {
        Ok(Explanation::default())
    }
    async fn prometheus(
        &self,
        _: http::Request<http_body_util::Full<bytes::Bytes>>,
    ) -> http::Response<http_body_util::Full<bytes::Bytes>> {
        http::Response::default()
    }
}

/// Does something to the stored objects while no control plane looks, past all schemas.
async fn behind_its_back(host: &mut Host, act: impl AsyncFnOnce(&Host)) {
    host.kill();
    let state = host.state();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // A runtime of its own: with it everything is gone that holds the store.
    let serving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let _inside = runtime.enter();
        let store = Store::open(&state, Options::new(Arc::new(Open))).expect("the store");
        let doors = Doors::open(&state, None).expect("a socket");
        runtime.block_on(serve(store, Arc::new(Nothing), doors, stopped));
    });
    host.answers().await;
    act(host).await;
    stop.cancel();
    serving.join().expect("it ends");
    host.start_again().await;
}

#[tokio::test]
async fn what_cannot_be_read_of_a_template_or_a_run_is_told_with_its_field() {
    let mut host = Host::start().await;
    behind_its_back(&mut host, async |host| {
        let unread = template("odd", json!({"metrics": [{"name": "m", "interval": {"seconds": 5}, "count": 1,
            "provider": {"web": {"url": "http://127.0.0.1:1/"}}}]}));
        let run = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisRun", "metadata": {"name": "odd"},
            "spec": {"metrics": [{"name": "m", "provider": {"web": {"url": ["http://127.0.0.1:1/"]}}}]}});
        let create = async |kind, object: &Value| {
            let created = host.client.create(kind, "default", object).await;
            created.expect("nothing is checked");
        };
        create(Kind::AnalysisTemplate, &unread).await;
        create(Kind::AnalysisRun, &run).await;
        create(Kind::Rollout, &rollout("web", "odd", json!([]))).await;
    })
    .await;
    let status = host.ended("odd").await;
    assert_eq!(status["phase"], "Error");
    let message = status["message"].as_str().expect("a message");
    assert!(
        message.starts_with(
            "Analysis spec invalid: spec.metrics[0].provider.web.url: Invalid value: "
        ),
        "{message}"
    );
    assert!(status["completedAt"].is_string());
    assert_eq!(status["metricResults"], Value::Null, "nothing is measured");
    let rollout = settles(&host, "web", "Degraded").await;
    let told = condition(&rollout, "InvalidSpec")["message"]
        .as_str()
        .expect("a message");
    assert!(
        told.starts_with("The Rollout \"web\" is invalid: spec.strategy: Invalid value: \"odd\": AnalysisTemplate odd: spec.metrics[0].interval: Invalid value: "),
        "{told}"
    );
    assert_eq!(host.list(Kind::ReplicaSet).await.len(), 0);
    rests(&host).await;
}

#[tokio::test]
async fn api_39_a_service_keeps_its_selector_while_its_rollout_cannot_be_read() {
    let mut host = Host::start().await;
    let mut web = rollout("web", "none", json!([]));
    web["spec"]["strategy"] =
        json!({"canary": {"stableService": "stable", "canaryService": "canary"}});
    let service = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})
    };
    host.apply(vec![service("stable"), service("canary"), web])
        .await;
    let rollout = settles(&host, "web", "Healthy").await;
    let hash = rollout["status"]["currentPodHash"].clone();
    let selected = async |host: &Host, name: &str| {
        let service = host.get(Kind::Service, name).await.expect("the Service");
        service["spec"]["selector"]["rollouts-pod-template-hash"].clone()
    };
    assert_eq!(selected(&host, "stable").await, hash);
    behind_its_back(&mut host, async |host| {
        let odd = json!({"spec": {"strategy": {"canary": "oops"}}});
        let changed = host
            .client
            .patch(
                Kind::Rollout,
                "default",
                "web",
                Part::Object,
                Patch::Merge,
                &odd,
            )
            .await;
        changed.expect("nothing is checked");
    })
    .await;
    let rollout = settles(&host, "web", "Degraded").await;
    let told = condition(&rollout, "InvalidSpec")["message"].to_string();
    assert!(told.contains("spec.strategy.canary"), "{told}");
    rests(&host).await;
    for name in ["stable", "canary"] {
        assert_eq!(selected(&host, name).await, hash, "{name}");
    }
    let pods = host.list(Kind::Pod).await;
    assert_eq!(pods.len(), 1, "its pods stay as they are");
}
