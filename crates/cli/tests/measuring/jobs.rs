//! Measurements by Jobs, with real processes.

use crossfade_host::store::Kind;
use crossfade_host::wire::Deletion;
use serde_json::{Value, json};

use super::host::{Host, has_ended};

/// A metric that is measured by a shell script.
fn job(name: &str, script: &str) -> Value {
    json!({"name": name, "provider": {"job": {"spec": {"backoffLimit": 0, "template": {"spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "check", "image": "check:1", "command": ["sh", "-c", script]}]}}}}}})
}

/// A script that goes on until a file is there.
fn until_file(host: &Host, name: &str) -> String {
    let file = host.folder().join(name);
    format!("while [ ! -e '{}' ]; do sleep 0.05; done", file.display())
}

fn touch(host: &Host, name: &str) {
    std::fs::write(host.folder().join(name), "").expect("a file");
}

fn names(objects: &[Value]) -> Vec<String> {
    let name = |object: &Value| {
        object["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned()
    };
    objects.iter().map(name).collect()
}

/// Name of the Job that measures the only metric of a run.
fn job_of(run: &Value) -> String {
    let measurement = &run["status"]["metricResults"][0]["measurements"][0];
    let name = measurement["metadata"]["job-name"].as_str();
    name.expect("a name").to_owned()
}

/// Waits until the only metric of a run is being measured, and gives the run.
async fn in_flight(host: &Host, run: &str) -> Value {
    host.until("a measurement in flight", Kind::AnalysisRun, run, |run| {
        let measurement = &run["status"]["metricResults"][0]["measurements"][0];
        measurement["metadata"]["job-name"].is_string() && measurement["finishedAt"].is_null()
    })
    .await
}

#[tokio::test]
async fn providers_18_one_attempt_has_one_job_and_its_end_ends_the_measurement() {
    let host = Host::start().await;
    let mut metric = job("smoke", &until_file(&host, "go"));
    metric["provider"]["job"]["metadata"] =
        json!({"labels": {"team": "a"}, "annotations": {"note": "b"}});
    host.run("run", json!({"metrics": [metric]})).await;
    let run = in_flight(&host, "run").await;
    let uid = run["metadata"]["uid"].as_str().expect("a uid");
    let measurement = &run["status"]["metricResults"][0]["measurements"][0];
    let name = format!("{uid}.smoke.1");
    assert_eq!(
        measurement["metadata"],
        json!({"job-name": name, "job-namespace": "default"})
    );
    let made = host.get(Kind::Job, &name).await.expect("the Job");
    assert_eq!(
        made["metadata"]["labels"],
        json!({"team": "a", "analysisrun.argoproj.io/uid": uid})
    );
    assert_eq!(
        made["spec"]["template"]["metadata"]["labels"]["analysisrun.argoproj.io/uid"],
        uid
    );
    assert_eq!(
        made["metadata"]["annotations"],
        json!({"note": "b", "analysisrun.argoproj.io/name": "run",
            "analysisrun.argoproj.io/namespace": "default", "analysisrun.argoproj.io/metric-name": "smoke"})
    );
    let owner = &made["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"], &owner["controller"]),
        (&json!("AnalysisRun"), &json!(uid), &json!(true))
    );

    // The status is lost, as when the host dies before it is written: the same attempt is created a second time.
    host.patch(Kind::AnalysisRun, "run", json!({"status": null}))
        .await;
    let again = in_flight(&host, "run").await;
    let jobs = host.list(Kind::Job).await;
    assert_eq!(names(&jobs), [name]);
    assert_eq!(jobs[0]["metadata"]["uid"], made["metadata"]["uid"]);

    // Nobody looks at the Job for an hour, unless it says itself that it ended.
    let mut results = again["status"]["metricResults"].clone();
    results[0]["measurements"][0]["resumeAt"] = json!(time_in_an_hour());
    host.patch(
        Kind::AnalysisRun,
        "run",
        json!({"status": {"metricResults": results}}),
    )
    .await;
    touch(&host, "go");
    let status = host.ended("run").await;
    assert_eq!(status["phase"], "Successful");
    let result = &status["metricResults"][0];
    assert_eq!(
        (&result["count"], &result["successful"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(result["measurements"][0]["phase"], "Successful");
    assert_eq!(
        result["measurements"][0]["value"],
        Value::Null,
        "a Job has no value"
    );
}

fn time_in_an_hour() -> String {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let second = jiff::Timestamp::from_second(time.as_second()).expect("a time");
    second.to_string()
}

#[tokio::test]
async fn a_job_that_fails_or_takes_too_long_is_a_failure() {
    let host = Host::start().await;
    let mut late = job("late", "sleep 600");
    late["provider"]["job"]["spec"]["activeDeadlineSeconds"] = json!(1);
    for metric in [job("bad", "exit 3"), late] {
        let name = metric["name"].as_str().expect("a name").to_owned();
        host.run(&name, json!({"metrics": [metric]})).await;
        let status = host.ended(&name).await;
        assert_eq!(status["phase"], "Failed", "{status:#}");
        assert_eq!(
            status["message"],
            format!("Metric \"{name}\" assessed Failed due to failed (1) > failureLimit (0)")
        );
    }
}

#[tokio::test]
async fn providers_19_a_pod_that_can_never_start_is_inconclusive_and_says_which() {
    let host = Host::start().await;
    let mut metric = job("pull", "true");
    let container = &mut metric["provider"]["job"]["spec"]["template"]["spec"]["containers"][0];
    container
        .as_object_mut()
        .expect("an object")
        .remove("command");
    host.run("run", json!({"metrics": [metric]})).await;
    let status = host.ended("run").await;
    assert_eq!(status["phase"], "Inconclusive");
    let measurement = &status["metricResults"][0]["measurements"][0];
    assert_eq!(measurement["phase"], "Inconclusive");
    let job = measurement["metadata"]["job-name"]
        .as_str()
        .expect("a name");
    let message = measurement["message"].as_str().expect("a message");
    let start = format!(
        "Pod {job}-1, container check has terminal error (ErrImagePull): container `check`"
    );
    assert!(
        message.starts_with(&start) && message.ends_with('\n'),
        "{message:?}"
    );
    let gone = host
        .until("the end of the Job", Kind::Job, job, Value::is_null)
        .await;
    assert_eq!(gone, Value::Null, "a Job that can never end is stopped");
}

#[tokio::test]
async fn providers_20_metrics_with_similar_names_have_jobs_of_their_own() {
    let host = Host::start().await;
    let shared = "a-metric-with-thirty-letters--";
    assert_eq!(shared.len(), 30);
    let metrics = [
        format!("{shared}errors"),
        format!("{shared}latency"),
        "Größe (p95)".to_owned(),
    ]
    .map(|name| job(&name, "true"));
    host.run("run", json!({"metrics": metrics})).await;
    let status = host.ended("run").await;
    assert_eq!(status["phase"], "Successful", "{status:#}");
    let jobs = names(&host.list(Kind::Job).await);
    assert_eq!(jobs.len(), 3, "{jobs:?}");
    assert!(jobs.iter().all(|name| name.len() <= 63), "{jobs:?}");
}

#[tokio::test]
async fn providers_21_jobs_of_one_metric_survive_what_is_kept_of_another() {
    let host = Host::start().await;
    let several = |name: &str, count: i32| {
        let mut metric = job(name, "true");
        metric["count"] = json!(count);
        metric["interval"] = json!("1s");
        metric
    };
    host.run(
        "run",
        json!({"metrics": [several("a", 3), several("b", 2)],
        "measurementRetention": [{"metricName": "^a$", "limit": 1}]}),
    )
    .await;
    let status = host.ended("run").await;
    assert_eq!(status["phase"], "Successful", "{status:#}");
    let results = &status["metricResults"];
    assert_eq!(
        (
            &results[0]["count"],
            results[0]["measurements"].as_array().map(Vec::len)
        ),
        (&json!(3), Some(1))
    );
    assert_eq!(results[1]["measurements"].as_array().map(Vec::len), Some(2));
    let run = host.get(Kind::AnalysisRun, "run").await.expect("the run");
    let uid = run["metadata"]["uid"].as_str().expect("a uid");
    for old in ["a.1", "a.2"] {
        host.until(
            "an old Job goes",
            Kind::Job,
            &format!("{uid}.{old}"),
            Value::is_null,
        )
        .await;
    }
    assert_eq!(
        names(&host.list(Kind::Job).await),
        ["a.3", "b.1", "b.2"].map(|name| format!("{uid}.{name}"))
    );
}

#[tokio::test]
async fn providers_22_a_run_that_is_stopped_takes_its_job_and_its_processes_with_it() {
    let host = Host::start().await;
    host.run("run", json!({"metrics": [job("smoke", "sleep 600")]}))
        .await;
    let run = in_flight(&host, "run").await;
    let name = job_of(&run);
    let pod = format!("{name}-1");
    host.until("the pod runs", Kind::Pod, &pod, |pod| {
        pod["status"]["phase"] == "Running"
    })
    .await;
    host.patch(
        Kind::AnalysisRun,
        "run",
        json!({"spec": {"terminate": true}}),
    )
    .await;
    let deleting = host
        .until("the Job is deleted", Kind::Job, &name, |job| {
            job.is_null() || job["metadata"]["deletionTimestamp"].is_string()
        })
        .await;
    assert!(
        deleting["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|waits| waits.contains(&json!("foregroundDeletion"))),
        "the Job goes after its pods: {deleting}"
    );
    let status = host.ended("run").await;
    assert_eq!(status["phase"], "Inconclusive");
    let measurement = &status["metricResults"][0]["measurements"][0];
    assert_eq!(
        (&measurement["phase"], &measurement["message"]),
        (&json!("Inconclusive"), &json!("Metric Terminated"))
    );
    host.until("the Job goes", Kind::Job, &name, Value::is_null)
        .await;
    let pods = names(&host.list(Kind::Pod).await);
    assert!(!pods.contains(&pod), "{pods:?}");
}

#[tokio::test]
async fn providers_40_a_job_goes_on_while_the_host_is_killed_and_started_again() {
    let mut host = Host::start().await;
    let count = host.folder().join("count");
    let script = format!(
        "echo started >> '{}'; {}",
        count.display(),
        until_file(&host, "go")
    );
    host.run("run", json!({"metrics": [job("smoke", &script)]}))
        .await;
    in_flight(&host, "run").await;
    let before = host.list(Kind::Job).await;
    let pod = format!(
        "{}-1",
        before[0]["metadata"]["name"].as_str().expect("a name")
    );
    host.until("the pod runs", Kind::Pod, &pod, |pod| {
        pod["status"]["phase"] == "Running"
    })
    .await;
    host.kill_and_start_again().await;
    host.kill();
    touch(&host, "go");
    host.start_again().await;
    let status = host.ended("run").await;
    assert_eq!(status["phase"], "Successful", "{status:#}");
    let result = &status["metricResults"][0];
    assert_eq!(
        (
            &result["count"],
            result["measurements"].as_array().map(Vec::len)
        ),
        (&json!(1), Some(1))
    );
    let after = host.list(Kind::Job).await;
    assert_eq!(after.len(), 1, "no work is done twice");
    assert_eq!(after[0]["metadata"]["uid"], before[0]["metadata"]["uid"]);
    let started = std::fs::read_to_string(count).expect("the count");
    assert_eq!(started, "started\n");
}

#[tokio::test]
async fn a_job_that_is_gone_is_an_error_and_the_next_attempt_has_a_job_of_its_own() {
    let host = Host::start().await;
    host.run(
        "run",
        json!({"metrics": [job("smoke", &until_file(&host, "go"))]}),
    )
    .await;
    let run = in_flight(&host, "run").await;
    let name = job_of(&run);
    host.client
        .delete(Kind::Job, "default", &name, &Deletion::default())
        .await
        .expect("it can be deleted");
    let run = host
        .until("an error", Kind::AnalysisRun, "run", |run| {
            run["status"]["metricResults"][0]["error"] == 1
        })
        .await;
    assert_eq!(
        run["status"]["metricResults"][0]["measurements"][0]["message"],
        format!("job.batch \"{name}\" not found")
    );
    touch(&host, "go");
    let run = host
        .until("the end", Kind::AnalysisRun, "run", has_ended)
        .await;
    assert_eq!(run["status"]["phase"], "Successful");
    let jobs = names(&host.list(Kind::Job).await);
    assert_eq!(jobs.len(), 1);
    assert!(jobs[0].ends_with(".smoke.2"), "{jobs:?}");
}
