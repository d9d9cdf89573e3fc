//! Releases with an analysis: from a template and its arguments to what is measured and told.

use std::time::Duration;

use crossfade_host::client::Wanted;
use crossfade_host::store::Kind;
use serde_json::{Value, json};

use super::host::Host;
use super::prometheus::vector;
use super::server::{Reply, Server};

/// A Rollout of one process whose only step is an analysis by this template.
pub(crate) fn rollout(name: &str, template: &str, args: Value) -> Value {
    json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": name}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": "app:1", "command": ["sleep", "1000"]}]}},
        "strategy": {"canary": {"steps": [{"analysis": {"templates": [{"templateName": template}], "args": args}}]}}}})
}

pub(crate) fn template(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": name}, "spec": spec})
}

/// A template that gives up at the first error.
pub(crate) fn measures(name: &str, provider: Value) -> Value {
    template(
        name,
        json!({"metrics": [{"name": "m", "consecutiveErrorLimit": 0, "successCondition": "result[0] >= 0.95", "provider": provider}]}),
    )
}

pub(crate) fn second_version() -> Value {
    json!({"spec": {"template": {"spec": {"containers": [
        {"name": "app", "image": "app:2", "command": ["sleep", "1000"]}]}}}})
}

pub(crate) async fn settles(host: &Host, name: &str, phase: &str) -> Value {
    host.until(
        &format!("{name} is {phase}"),
        Kind::Rollout,
        name,
        |rollout| {
            let generation = rollout["metadata"]["generation"].to_string();
            let status = &rollout["status"];
            status["phase"] == phase && status["observedGeneration"] == generation.as_str()
        },
    )
    .await
}

/// Asserts that the host has come to rest: it writes nothing more, and takes hardly any time of the processor.
pub(crate) async fn rests(host: &Host) {
    let revision = async || {
        let all = Wanted::default();
        let list = host.client.list(Kind::Rollout, None, &all).await;
        let version = list.expect("a list").resource_version;
        version.parse::<u64>().expect("a number")
    };
    // Pods of versions that were taken back still end; then nothing is left to do.
    let rest = async {
        loop {
            let (before, used) = (revision().await, processor_time(host.pid()));
            tokio::time::sleep(Duration::from_secs(2)).await;
            if revision().await == before && processor_time(host.pid()) - used < 1.0 {
                return;
            }
        }
    };
    let rests = tokio::time::timeout(Duration::from_mins(1), rest).await;
    assert!(rests.is_ok(), "the host goes on writing or working: {}", {
        let log = host.log();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    });
}

/// Seconds of processor time that a process has used.
pub(crate) fn processor_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the host runs");
    let (_, after_name) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
    // User and system time, fields 14 and 15 of the whole line.
    (ticks(11) + ticks(12)) / 100.0
}

pub(crate) fn condition<'r>(rollout: &'r Value, kind: &str) -> &'r Value {
    let conditions = rollout["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

#[tokio::test]
async fn analysis_28_templates_that_nest_each_other_are_measured_once_each() {
    let server = Server::start(|_| Reply::ok(&vector(&["1"])));
    let host = Host::start().await;
    let part = |name: &str, other: &str| {
        template(
            name,
            json!({"templates": [{"templateName": other}], "metrics": [
            {"name": format!("m-{name}"), "provider": {"prometheus": {"address": server.url(""), "query": "up"}}}]}),
        )
    };
    host.apply(vec![
        part("a", "b"),
        part("b", "a"),
        rollout("web", "a", json!([])),
    ])
    .await;
    settles(&host, "web", "Healthy").await;
    host.patch(Kind::Rollout, "web", second_version()).await;
    promoted(&host, "web").await;
    let runs = host.list(Kind::AnalysisRun).await;
    assert_eq!(runs.len(), 1);
    let names: Vec<_> = runs[0]["status"]["metricResults"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|result| result["name"].clone())
        .collect();
    assert_eq!(names, ["m-a", "m-b"]);
    assert_eq!(server.asked().len(), 2, "once each");
    rests(&host).await;
}

#[tokio::test]
async fn analysis_26_a_count_from_an_argument_gives_as_many_measurements() {
    let server = Server::start(|_| Reply::ok(&vector(&["1"])));
    let host = Host::start().await;
    host.apply(vec![
        template(
            "counted",
            json!({"args": [{"name": "count", "value": "0"}], "metrics": [
            {"name": "m", "count": "{{args.count}}", "interval": "1s",
                "provider": {"prometheus": {"address": server.url(""), "query": "up"}}}]}),
        ),
        rollout("web", "counted", json!([{"name": "count", "value": "4"}])),
    ])
    .await;
    let first = settles(&host, "web", "Healthy").await;
    assert_eq!(
        condition(&first, "InvalidSpec"),
        &Value::Null,
        "it is valid"
    );
    host.patch(Kind::Rollout, "web", second_version()).await;
    promoted(&host, "web").await;
    let runs = host.list(Kind::AnalysisRun).await;
    let result = &runs[0]["status"]["metricResults"][0];
    assert_eq!(
        (&result["phase"], &result["count"]),
        (&json!("Successful"), &json!(4))
    );
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn analysis_27_two_templates_with_one_metric_make_the_release_invalid() {
    let host = Host::start().await;
    let mut web = rollout("web", "one", json!([]));
    web["spec"]["strategy"]["canary"]["steps"] = json!([{"setWeight": 20},
        {"analysis": {"templates": [{"templateName": "one"}, {"templateName": "two"}]}}]);
    host.apply(vec![
        measures("one", json!({"web": {"url": "http://127.0.0.1:1/"}})),
        measures("two", json!({"web": {"url": "http://127.0.0.1:1/"}})),
        web,
    ])
    .await;
    let web = settles(&host, "web", "Degraded").await;
    let told = condition(&web, "InvalidSpec");
    assert_eq!(
        (&told["status"], &told["message"]),
        (
            &json!("True"),
            &json!(
                "The Rollout \"web\" is invalid: spec.strategy.canary.steps[1].analysis.templates: Invalid value: \"templateNames: [one two]\": two metrics have the same name 'm'"
            )
        )
    );
}

#[tokio::test]
async fn api_03_a_first_deployment_tells_its_events_in_order_and_runs_no_step() {
    let host = Host::start().await;
    host.apply(vec![
        measures("never", json!({"web": {"url": "http://127.0.0.1:1/"}})),
        rollout("web", "never", json!([])),
    ])
    .await;
    let web = settles(&host, "web", "Healthy").await;
    assert_eq!(web["status"]["message"], Value::Null);
    assert_eq!(web["status"]["currentStepIndex"], 1);
    assert!(host.list(Kind::AnalysisRun).await.is_empty());
    host.tells("RolloutCompleted", "web").await;
    let mut events = host.list(Kind::Event).await;
    events.retain(|event| event["involvedObject"]["kind"] == "Rollout");
    events.sort_by_key(|event| {
        let version = event["metadata"]["resourceVersion"].as_str();
        version.and_then(|version| version.parse::<u64>().ok())
    });
    let reasons: Vec<_> = events.iter().map(|event| event["reason"].clone()).collect();
    assert_eq!(
        reasons,
        [
            "RolloutAddedToInformer",
            "RolloutUpdated",
            "NewReplicaSetCreated",
            "RolloutNotCompleted",
            "ScalingReplicaSet",
            "RolloutCompleted"
        ]
    );
    let last = events.last().and_then(|event| event["message"].as_str());
    assert!(last.is_some_and(|text| text.ends_with("Initial deploy")));
    let sets = host.list(Kind::ReplicaSet).await;
    assert_eq!(
        sets[0]["metadata"]["name"],
        format!(
            "web-{}",
            web["status"]["currentPodHash"].as_str().unwrap_or_default()
        )
    );
    assert_eq!(
        sets[0]["metadata"]["annotations"]["rollout.argoproj.io/revision"],
        "1"
    );
}

/// Waits until the second version is the stable one.
pub(crate) async fn promoted(host: &Host, name: &str) -> Value {
    host.until("the promotion", Kind::Rollout, name, |rollout| {
        let status = &rollout["status"];
        status["phase"] == "Healthy"
            && status["observedGeneration"] == "2"
            && status["stableRS"] == status["currentPodHash"]
    })
    .await
}
