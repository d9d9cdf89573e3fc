//! A host of its own for each test, the command line as a user types it, and requests that are all accounted for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossfade_host::client::{Address, Client, Part, Patch, Wanted};
use crossfade_host::store::Kind;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

const PROGRAM: &str = env!("CARGO_BIN_EXE_crossfade");
/// For what must happen, on however busy a machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// The folder of the manifests.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/manifests")
}

/// A running host, with everything in a folder that goes with it.
pub(crate) struct Stage {
    folder: TempDir,
    host: Child,
    pub(crate) client: Client,
    namespace: &'static str,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Stage {
    /// Starts a host; commands work in this namespace.
    pub(crate) async fn start(namespace: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("state/control.sock");
        let client = Client::new(Address::Socket(socket));
        let stage = Self {
            host: spawn(folder.path()),
            folder,
            client,
            namespace,
        };
        stage.answers().await;
        stage
    }

    async fn answers(&self) {
        self.until("the host answers", async || {
            self.client.ready().await.ok().filter(|ready| *ready)
        })
        .await;
    }

    /// Kills the control plane as it stands, and starts another in its place. Pods and data plane go on meanwhile.
    pub(crate) async fn start_again(&mut self) {
        self.host.kill().await.expect("it is killed");
        self.host = spawn(self.folder.path());
        self.answers().await;
    }

    /// What the host has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("host.log")).expect("a log")
    }

    /// Waits for something to become so.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if begun.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.folder.path().join("host.log"));
                let (events, log) = (self.run(&["events"]).await.stdout, log.unwrap_or_default());
                assert!(
                    begun.elapsed() < PATIENCE,
                    "{what}: did not happen; Events:\n{events}\nthe host's log:\n{log}"
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// This program, talking to this host.
    pub(crate) fn command(&self) -> Command {
        let mut command = program();
        command.env("CROSSFADE_HOST", self.folder.path().join("state"));
        command
    }

    /// Types a command.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        let output = self
            .command()
            .args(arguments)
            .args(["-n", self.namespace])
            .output();
        let output = tokio::time::timeout(PATIENCE * 2, output)
            .await
            .expect("the command ends")
            .expect("the command runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Types a command that must do what it says; returns what it prints.
    pub(crate) async fn done(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        ended.stdout
    }

    /// Applies manifests with their overlay, in which some texts are replaced.
    pub(crate) async fn apply(&self, files: &[&str], overlay: &str, edits: &[(&str, &str)]) {
        let mut text = std::fs::read_to_string(data().join(overlay)).expect("an overlay");
        for (from, to) in edits {
            assert!(text.contains(from), "{overlay} says {from}");
            text = text.replace(from, to);
        }
        let edited = self.folder.path().join(overlay);
        std::fs::write(&edited, text).expect("written");
        let mut arguments = vec!["apply".to_owned()];
        for file in files {
            arguments.push("-f".to_owned());
            arguments.push(data().join(file).display().to_string());
        }
        arguments.push("--overlay".to_owned());
        arguments.push(edited.display().to_string());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.done(&arguments).await;
    }

    /// Applies manifests with their overlay and another one over it.
    pub(crate) async fn overlay(&self, files: &[&str], overlay: &str, more: &str) {
        let own = self.folder.path().join("more.yaml");
        std::fs::write(&own, more).expect("written");
        let files = files
            .iter()
            .flat_map(|file| ["-f".into(), data().join(file)]);
        let overlays = [
            "--overlay".into(),
            data().join(overlay),
            "--overlay".into(),
            own,
        ];
        let arguments: Vec<String> = std::iter::once(PathBuf::from("apply"))
            .chain(files)
            .chain(overlays)
            .map(|argument| argument.display().to_string())
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.done(&arguments).await;
    }

    /// Applies a manifest of the test's own.
    pub(crate) async fn apply_text(&self, text: &str) {
        let file = self.folder.path().join("own.yaml");
        std::fs::write(&file, text).expect("written");
        self.done(&["apply", "-f", &file.display().to_string()])
            .await;
    }

    /// Follows a release until it is healthy.
    pub(crate) async fn healthy(&self, rollout: &str) {
        self.done(&["status", rollout, "--timeout", "180s"]).await;
    }

    /// Follows a release until it was taken back; returns why.
    pub(crate) async fn taken_back(&self, rollout: &str) -> String {
        let ended = self.run(&["status", rollout, "--timeout", "180s"]).await;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("Degraded - RolloutAborted"), "{said}");
        assert_ne!(ended.code, Some(0), "{said}");
        said
    }

    /// An object, as JSON.
    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Value {
        let found = self.client.get(kind, self.namespace, name).await;
        found.expect("it exists")
    }

    /// Somebody changes an object.
    pub(crate) async fn change(&self, kind: Kind, name: &str, patch: &Value) {
        let changed = (self.client)
            .patch(
                kind,
                self.namespace,
                name,
                Part::Object,
                Patch::Merge,
                patch,
            )
            .await;
        changed.expect("it is changed");
    }

    /// All objects of a kind.
    pub(crate) async fn all(&self, kind: Kind) -> Vec<Value> {
        let list = self
            .client
            .list(kind, Some(self.namespace), &Wanted::default())
            .await;
        list.expect("a list").items
    }

    /// The messages of Events about an object with this reason, in their order.
    pub(crate) async fn events(&self, about: &str, reason: &str) -> Vec<String> {
        let mut events = self.all(Kind::Event).await;
        events
            .retain(|event| event["involvedObject"]["name"] == about && event["reason"] == reason);
        events.sort_by_key(|event| {
            let version = event["metadata"]["resourceVersion"].as_str();
            version.and_then(|version| version.parse::<u64>().ok())
        });
        let message = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
        events.iter().map(message).collect()
    }

    /// What the steps of the last release were, as they were completed.
    pub(crate) async fn steps(&self, rollout: &str) -> Vec<String> {
        self.events(rollout, "RolloutStepCompleted").await
    }

    /// Each analysis run that ended: metric, phase and number of measurements.
    pub(crate) async fn measured(&self) -> Vec<(String, String, usize)> {
        let runs = self.all(Kind::AnalysisRun).await;
        let mut measured: Vec<(String, String, usize)> = runs
            .iter()
            .filter_map(|run| run["status"]["metricResults"].as_array().cloned())
            .flatten()
            .map(|metric| {
                let text = |member: &str| metric[member].as_str().unwrap_or_default().to_owned();
                let measurements = metric["measurements"].as_array().map_or(0, Vec::len);
                (text("name"), text("phase"), measurements)
            })
            .collect();
        measured.sort();
        measured
    }

    /// Where a Service is found.
    pub(crate) async fn address(&self, service: &str) -> Uri {
        let address = self
            .until("the Service is listened for", async || {
                let info = self.client.info().await.ok()?;
                info.listeners.into_iter().find(|listener| {
                    listener.service == service && listener.namespace == self.namespace
                })
            })
            .await
            .address;
        format!("http://{address}/").parse().expect("an address")
    }

    /// The value of a query, asked as the analysis asks.
    pub(crate) async fn query(&self, query: &str) -> Value {
        let answer = self.done(&["query", query, "-o", "json"]).await;
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Waits until the pods are those of one version only, all there and none on its way out.
    pub(crate) async fn only_pods_of(&self, version: &str, count: usize) {
        let argument = format!("--version={version}");
        self.until("the pods of other versions are gone", async || {
            let pods = self.all(Kind::Pod).await;
            let of_rollout = pods
                .iter()
                .filter(|pod| pod["metadata"]["labels"]["rollouts-pod-template-hash"].is_string());
            let args: Vec<String> = of_rollout
                .map(|pod| pod["spec"]["containers"][0]["args"].to_string())
                .collect();
            let all = args.iter().all(|args| args.contains(&argument));
            (args.len() == count && all).then_some(())
        })
        .await;
    }

    /// Ends the host in good order, with all that it started.
    pub(crate) async fn end(mut self) {
        let id = self.host.id().and_then(|id| i32::try_from(id).ok());
        let pid = id
            .and_then(rustix::process::Pid::from_raw)
            .expect("it runs");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is told");
        self.host.wait().await.expect("it ends");
    }
}

/// A host whose state and log lie in a folder.
fn spawn(folder: &Path) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("host.log"))
        .expect("a log");
    let mut host = program();
    host.args(["host", "--ephemeral", "--state"])
        .arg(folder.join("state"))
        .stdout(Stdio::null())
        .stderr(log);
    host.spawn().expect("the host starts")
}

/// This program, which manifests name `crossfade`.
fn program() -> Command {
    let folder = Path::new(PROGRAM).parent().expect("a folder");
    let others = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&others));
    let mut command = Command::new(PROGRAM);
    command
        .env("PATH", std::env::join_paths(paths).expect("a path"))
        .stdin(Stdio::null())
        // A test that fails leaves no host behind.
        .kill_on_drop(true);
    command
}

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Answers by version.
    pub(crate) by_version: BTreeMap<String, u64>,
    /// Failures that the sample service made on purpose.
    pub(crate) on_purpose: u64,
    /// All other failures.
    pub(crate) failures: Vec<String>,
}

impl Counts {
    fn add(&mut self, outcome: Result<Answer, String>) {
        match outcome {
            Ok(answer) => {
                *self.by_version.entry(answer.version).or_default() += 1;
                self.on_purpose += u64::from(answer.on_purpose);
            }
            Err(why) => self.failures.push(why),
        }
    }

    /// Answers of a version.
    pub(crate) fn of(&self, version: &str) -> u64 {
        self.by_version.get(version).copied().unwrap_or_default()
    }

    /// Checks that nothing failed but what was to fail.
    pub(crate) fn none_failed(&self) {
        assert!(self.failures.is_empty(), "{self:?}");
        assert!(
            self.by_version.values().sum::<u64>() > 0,
            "requests were sent"
        );
    }
}

/// Requests to a Service, on keep-alive connections.
pub(crate) struct Load {
    counts: Arc<Mutex<Counts>>,
    workers: JoinSet<()>,
    stop: tokio::sync::watch::Sender<bool>,
}

type Web = legacy::Client<HttpConnector, Empty<Bytes>>;

fn web() -> Web {
    legacy::Client::builder(TokioExecutor::new())
        // A repeated request would hide a failure.
        .retry_canceled_requests(false)
        .build_http()
}

impl Load {
    /// Sends about a hundred requests a second until it is stopped.
    pub(crate) fn start(address: &Uri) -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut workers = JoinSet::new();
        for _ in 0..4 {
            let (counts, stopped, address) =
                (Arc::clone(&counts), stopped.clone(), address.clone());
            workers.spawn(async move {
                let web = web();
                while !*stopped.borrow() {
                    let outcome = ask(&web, &address, None).await;
                    counts.lock().expect("no panic").add(outcome);
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
            });
        }
        Self {
            counts,
            workers,
            stop,
        }
    }

    /// All requests so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().expect("no panic").clone()
    }

    /// Stops, and tells what became of all requests.
    pub(crate) async fn stop(mut self) -> Counts {
        self.stop.send_replace(true);
        while let Some(worker) = self.workers.join_next().await {
            worker.expect("no panic");
        }
        self.counts()
    }
}

struct Answer {
    version: String,
    on_purpose: bool,
}

/// Which version answers a request, with a header if one is given.
pub(crate) async fn version(address: &Uri, header: Option<(&str, &str)>) -> String {
    ask(&web(), address, header)
        .await
        .expect("an answer")
        .version
}

async fn ask(web: &Web, address: &Uri, header: Option<(&str, &str)>) -> Result<Answer, String> {
    let mut request = Request::get(address.clone());
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(Empty::new()).expect("a request");
    let response = async {
        let response = web
            .request(request)
            .await
            .map_err(|why| format!("{why:?}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|why| format!("{why:?}"))?;
        Ok::<_, String>(Response::from_parts(head, body.to_bytes()))
    };
    let response = tokio::time::timeout(Duration::from_secs(30), response)
        .await
        .map_err(|_| "no answer".to_owned())??;
    let text = |name: &str| {
        let value = response.headers().get(name)?;
        Some(value.to_str().ok()?.to_owned())
    };
    let on_purpose = text("x-sample-failure").is_some();
    match text("x-sample-version") {
        Some(version) if response.status().is_success() || on_purpose => Ok(Answer {
            version,
            on_purpose,
        }),
        _ => Err(format!("{response:?}")),
    }
}
