//! A host as a process of its own, and what tests do with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crossfade_host::client::{Address, ApplyMode, Client, Error, Part, Patch, Wanted};
use crossfade_host::store::Kind;
use crossfade_host::wire::{ApplyRequest, WatchChange};
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_crossfade");
/// Nothing here takes nearly as long; a test that waits for ever says nothing.
const LONGEST: Duration = Duration::from_mins(2);

/// A running host. It ends with its pods and its proxy when it is dropped.
pub(crate) struct Host {
    child: Child,
    pub(crate) client: Client,
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

impl Host {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A host with these variables in its environment, besides none but what it needs.
    pub(crate) async fn start_with(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: Vec<_> = environment.iter().map(own).collect();
        let client = Client::new(Address::Socket(folder.path().join("state/control.sock")));
        let child = spawn(folder.path(), &environment);
        let host = Self {
            child,
            client,
            folder,
            environment,
        };
        host.answers().await;
        host
    }

    /// Kills the control plane as no program can prevent, and starts another in its place.
    pub(crate) async fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again().await;
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the host is killed");
        self.child.wait().expect("the host is gone");
    }

    /// Starts another host in the place of one that is gone, as soon as nobody has its state folder any more.
    pub(crate) async fn start_again(&mut self) {
        for _ in 0..100 {
            self.child = spawn(self.folder.path(), &self.environment);
            while self.child.try_wait().expect("a process").is_none() {
                if self.client.ready().await.is_ok_and(|ready| ready) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(self.log().is_empty(), "no host starts: {}", self.log());
    }

    /// Waits until somebody answers who is ready.
    pub(crate) async fn answers(&self) {
        let answers = async {
            while !self.client.ready().await.is_ok_and(|ready| ready) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let answered = tokio::time::timeout(LONGEST, answers).await;
        assert!(answered.is_ok(), "the host is not ready: {}", self.log());
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything that the host has logged, at the level `trace`.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until an object is as wanted, and gives it; an object that is not there is null.
    pub(crate) async fn until(
        &self,
        what: &str,
        kind: Kind,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let select = Wanted {
            fields: format!("metadata.name={name}"),
            ..Wanted::default()
        };
        let mut last = Value::Null;
        let look = async {
            let mut watch = self
                .client
                .watch(kind, Some("default"), &select, "")
                .await
                .expect("a watch");
            if self.client.get(kind, "default", name).await.is_err() && wanted(&Value::Null) {
                return Value::Null;
            }
            loop {
                let event = watch
                    .next()
                    .await
                    .expect("the watch goes on")
                    .expect("an event");
                match event.change {
                    WatchChange::Bookmark => continue,
                    WatchChange::Deleted => last = Value::Null,
                    _ => last = event.object,
                }
                if wanted(&last) {
                    return last.clone();
                }
            }
        };
        if let Ok(found) = tokio::time::timeout(LONGEST, look).await {
            return found;
        }
        did_not_happen(what, &last, &self.log())
    }

    /// Starts an AnalysisRun.
    pub(crate) async fn run(&self, name: &str, spec: Value) -> Value {
        let run = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisRun",
            "metadata": {"name": name}, "spec": spec});
        let created = self.client.create(Kind::AnalysisRun, "default", &run).await;
        created.expect("the run is accepted")
    }

    /// The status of an AnalysisRun once it has come to its end.
    pub(crate) async fn ended(&self, name: &str) -> Value {
        let run = self
            .until("the end of the run", Kind::AnalysisRun, name, has_ended)
            .await;
        run["status"].clone()
    }

    /// Takes one measurement of each metric, all side by side, and gives their first measurements by name.
    ///
    /// The first error of a metric is its last.
    pub(crate) async fn measure(&self, metrics: Value) -> BTreeMap<String, Value> {
        self.measure_with(metrics, json!([])).await
    }

    /// The same with arguments.
    pub(crate) async fn measure_with(
        &self,
        mut metrics: Value,
        args: Value,
    ) -> BTreeMap<String, Value> {
        let status = {
            for metric in metrics.as_array_mut().expect("a list") {
                metric["consecutiveErrorLimit"] = json!(0);
            }
            let name = format!("run-{}", next_number());
            self.run(&name, json!({"metrics": metrics, "args": args}))
                .await;
            self.ended(&name).await
        };
        let results = status["metricResults"].as_array().cloned();
        results
            .unwrap_or_else(|| no_results(&status))
            .into_iter()
            .map(|result| {
                let name = result["name"].as_str().expect("a name").to_owned();
                let mut first = result["measurements"][0].clone();
                first["resultMetadata"] = result["metadata"].clone();
                (name, first)
            })
            .collect()
    }

    /// Applies objects as `crossfade apply` does.
    pub(crate) async fn apply(&self, documents: Vec<Value>) {
        let request = ApplyRequest {
            documents,
            ..ApplyRequest::default()
        };
        let applied = self
            .client
            .apply(&request, "default", ApplyMode::default())
            .await;
        applied.expect("the objects are applied");
    }

    pub(crate) async fn patch(&self, kind: Kind, name: &str, patch: Value) {
        let patched = self
            .client
            .patch(kind, "default", name, Part::Object, Patch::Merge, &patch)
            .await;
        patched.expect("it can be patched");
    }

    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Result<Value, Error> {
        self.client.get(kind, "default", name).await
    }

    pub(crate) async fn list(&self, kind: Kind) -> Vec<Value> {
        let list = self
            .client
            .list(kind, Some("default"), &Wanted::default())
            .await;
        list.expect("a list").items
    }

    /// Waits for an Event about an object.
    pub(crate) async fn tells(&self, reason: &str, about: &str) {
        let told = async {
            loop {
                let events = self.list(Kind::Event).await;
                if events.iter().any(|event| {
                    event["reason"] == reason && event["involvedObject"]["name"] == about
                }) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let told = tokio::time::timeout(LONGEST, told).await;
        assert!(told.is_ok(), "no Event {reason} tells of {about}");
    }

    /// Everything that anybody can read of this host but the objects that hold a secret by order of the user: all statuses, Events,
    /// the audit trail and the log.
    pub(crate) async fn everything_told(&self) -> String {
        let mut told = self.log();
        for kind in [
            Kind::Rollout,
            Kind::AnalysisRun,
            Kind::AnalysisTemplate,
            Kind::Event,
            Kind::ReplicaSet,
            Kind::Pod,
        ] {
            for object in self.list(kind).await {
                told.push_str(&object.to_string());
            }
        }
        let audit = self
            .client
            .audit(None, None)
            .await
            .expect("the audit trail");
        for row in audit {
            told.push_str(&json!(row).to_string());
        }
        let proxy = std::fs::read(self.state().join("proxy.log")).unwrap_or_default();
        told.push_str(&String::from_utf8_lossy(&proxy));
        told
    }
}

pub(crate) fn has_ended(run: &Value) -> bool {
    ["Successful", "Failed", "Error", "Inconclusive"]
        .iter()
        .any(|phase| run["status"]["phase"] == *phase)
}

fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn spawn(folder: &Path, environment: &[(String, String)]) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("a log");
    Command::new(PROGRAM)
        .args(["host", "--ephemeral", "--log-level", "trace", "--state"])
        .arg(folder.join("state"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the host starts")
}

/// Message of a measurement that is an error.
#[track_caller]
pub(crate) fn error(measurement: &Value) -> String {
    assert_eq!(measurement["phase"], "Error", "{measurement:#}");
    assert!(measurement["finishedAt"].is_string(), "{measurement:#}");
    measurement["message"]
        .as_str()
        .expect("a message")
        .to_owned()
}

#[expect(
    clippy::panic,
    reason = "a run that measured nothing is told with its status"
)]
fn no_results(status: &Value) -> Vec<Value> {
    panic!("nothing was measured: {status:#}")
}

#[expect(
    clippy::panic,
    reason = "what was waited for is told with what is there instead"
)]
fn did_not_happen(what: &str, last: &Value, log: &str) -> Value {
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    panic!("{what} did not happen: {last:#}\n{}", lines.join("\n"))
}
