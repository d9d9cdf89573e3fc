//! Experiments on a real host: real pods, a real metric server, alone and as a step of a release.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossfade_host::store::Kind;
use serde_json::{Value, json};

use super::host::Host;
use super::releases::{promoted, rollout, second_version, settles, template};
use super::server::{Reply, Server};

/// A template of an experiment that runs one process for ever. It listens: a pod that declares a port is ready when it does.
fn runs(name: &str, more: Value) -> Value {
    let labels = json!({"app": "exp", "track": name});
    let mut template = json!({
        "name": name,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": "app:1", "command": [env!("CARGO_BIN_EXE_crossfade"), "sample"],
                "args": ["--version=1", "--port=$(PORT)"], "ports": [{"name": "http", "containerPort": 8080}]}],
        }},
    });
    crossfade_api::merge_patch::apply(&mut template, &more);
    template
}

fn experiment(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Experiment", "metadata": {"name": name}, "spec": spec})
}

async fn reaches(host: &Host, name: &str, phase: &str) -> Value {
    let what = format!("experiment {name} is {phase}");
    host.until(&what, Kind::Experiment, name, |one| {
        one["status"]["phase"] == phase
    })
    .await
}

#[tokio::test]
async fn experiment_16_pods_run_side_by_side_until_what_is_required_was_measured() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Server::start(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Reply::ok(r#"{"value": 1}"#)
    });
    let host = Host::start().await;
    let web = json!({"web": {"url": server.url("/?hash={{args.hash}}"), "jsonPath": "{$.value}"}});
    host.apply(vec![
        template(
            "check",
            json!({"args": [{"name": "hash"}], "metrics": [
                {"name": "m", "interval": "100ms", "count": 2, "successCondition": "result == 1", "provider": web}]}),
        ),
        experiment(
            "ab",
            json!({
                "scaleDownDelaySeconds": 0,
                "templates": [runs("old", json!({})), runs("new", json!({"service": {}}))],
                "analyses": [{"name": "compare", "templateName": "check", "requiredForCompletion": true,
                    "args": [{"name": "hash", "value": "{{templates.new.podTemplateHash}}"}]}],
            }),
        ),
    ])
    .await;
    let ended = reaches(&host, "ab", "Successful").await;
    assert_eq!(
        ended["status"]["message"],
        "Required AnalysisRuns completed"
    );
    assert!(ended["status"]["availableAt"].is_string());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let set = host
        .get(Kind::ReplicaSet, "ab-new")
        .await
        .expect("it is kept");
    let run = host
        .get(Kind::AnalysisRun, "ab-compare")
        .await
        .expect("a run");
    assert_eq!(
        run["spec"]["args"][0]["value"],
        set["metadata"]["labels"]["rollouts-pod-template-hash"]
    );
    host.tells("ExperimentRunning", "ab").await;
    for name in ["ab-old", "ab-new"] {
        host.until("no pods", Kind::ReplicaSet, name, |set| {
            set["spec"]["replicas"] == 0 && set["status"]["replicas"] == 0
        })
        .await;
    }
    host.until("no Service", Kind::Service, "ab-new", Value::is_null)
        .await;
}

#[tokio::test]
async fn experiment_04_a_selector_that_misses_its_pods_is_an_error_and_makes_none() {
    let host = Host::start().await;
    let astray = json!({"selector": {"matchLabels": {"app": "other"}}});
    host.apply(vec![experiment(
        "e",
        json!({"templates": [runs("a", astray)]}),
    )])
    .await;
    let ended = reaches(&host, "e", "Error").await;
    let message = ended["status"]["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("Failed to create ReplicaSet for template 'a': ")
            && message.contains("`selector` does not match template `labels`"),
        "{message}"
    );
    assert!(host.list(Kind::Pod).await.is_empty());
}

#[tokio::test]
async fn experiment_23_a_release_goes_on_when_its_experiment_was_successful_also_after_a_kill() {
    let mut host = Host::start().await;
    let step = json!({"spec": {"strategy": {"canary": {"steps": [{"experiment": {
        "duration": "2s",
        "scaleDownDelaySeconds": 0,
        "templates": [{"name": "baseline", "specRef": "stable"}, {"name": "canary", "specRef": "canary"}],
    }}]}}}});
    let mut web = rollout("web", "none", json!([]));
    crossfade_api::merge_patch::apply(&mut web, &step);
    host.apply(vec![web]).await;
    settles(&host, "web", "Healthy").await;
    host.patch(Kind::Rollout, "web", second_version()).await;
    let waiting = host
        .until("an experiment", Kind::Rollout, "web", |rollout| {
            rollout["status"]["canary"]["currentExperiment"].is_string()
        })
        .await;
    let name = waiting["status"]["canary"]["currentExperiment"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    reaches(&host, &name, "Running").await;
    host.kill_and_start_again().await;
    promoted(&host, "web").await;
    assert_eq!(host.list(Kind::Experiment).await.len(), 1);
    let ended = host.get(Kind::Experiment, &name).await.expect("it is kept");
    assert_eq!(ended["status"]["phase"], "Successful");
    host.tells("ExperimentCreated", "web").await;
    // The pods of the experiment were never the release's.
    let hashes: Vec<Value> = host
        .list(Kind::ReplicaSet)
        .await
        .iter()
        .map(|set| set["metadata"]["labels"]["rollouts-pod-template-hash"].clone())
        .collect();
    assert_eq!(hashes.len(), 4);
    for (index, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..index].contains(hash), "{hashes:?}");
    }
}
