//! A host of its own for a test, the command line that talks to it, and the processes behind it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crossfade_host::client::{Address, Client, Wanted};
use crossfade_host::store::Kind;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_crossfade");
/// Nothing that these tests wait for takes nearly as long, even beside other tests on a slow machine.
pub(crate) const LONGEST: Duration = Duration::from_mins(2);

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < LONGEST, "{what}: it did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A state folder, the host on it, and everything that the host starts. All of it ends with this value.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) state: PathBuf,
    pub(crate) client: Client,
    host: Option<Child>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Rig {
    /// A state folder without a host.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        Self::at(folder, state)
    }

    /// A rig with its state elsewhere.
    pub(crate) fn at(folder: TempDir, state: PathBuf) -> Self {
        Self {
            client: Client::new(Address::Socket(state.join("control.sock"))),
            folder,
            state,
            host: None,
        }
    }

    /// A rig whose host answers.
    pub(crate) async fn started() -> Self {
        let mut rig = Self::new();
        rig.start().await;
        rig
    }

    /// Starts the host, and waits until it answers.
    pub(crate) async fn start(&mut self) {
        self.start_with(&[]).await;
    }

    /// Starts the host with more arguments, and waits until it answers.
    pub(crate) async fn start_with(&mut self, arguments: &[&str]) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("a log");
        let child = self
            .host_command()
            .args(arguments)
            .stderr(log)
            .spawn()
            .expect("the host starts");
        self.host = Some(child);
        self.answers().await;
    }

    /// The command that runs a host on this state.
    pub(crate) fn host_command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(["host", "--log-level", "warn", "--state"])
            .arg(&self.state)
            .env("CROSSFADE_SAMPLE", PROGRAM)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("host.log")
    }

    /// What the host has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Waits until the host answers.
    pub(crate) async fn answers(&mut self) {
        let (client, host) = (self.client.clone(), &mut self.host);
        let log = self.folder.path().join("host.log");
        until("the host answers", async || {
            if let Some(ended) = host.as_mut().and_then(|host| host.try_wait().ok()?) {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("the host ended with {ended}: {log}");
            }
            client.ready().await.ok().filter(|ready| *ready)
        })
        .await;
    }

    /// Kills the control plane with SIGKILL. Everything else goes on.
    pub(crate) async fn kill_host(&mut self) {
        let mut host = self.host.take().expect("a host runs");
        host.kill().await.expect("it is killed");
    }

    /// Ends the control plane in good order.
    pub(crate) async fn stop_host(&mut self) -> i32 {
        let mut host = self.host.take().expect("a host runs");
        signal(host.id().expect("it runs"), Signal::TERM);
        let ended = host.wait().await.expect("it ends");
        ended.code().expect("it was not killed")
    }

    /// Runs a command of the command line against this host.
    pub(crate) async fn crossfade(&self, arguments: &[&str]) -> Ended {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CROSSFADE_HOST", self.state.join("control.sock"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(LONGEST, output).await;
        Ended::of(&output.expect("it ends soon").expect("it runs"))
    }

    /// Writes a file into the test's folder.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.display().to_string()
    }

    /// Applies manifests by the command line; they must be good.
    pub(crate) async fn apply(&self, manifests: &str) {
        let ended = self.try_apply(manifests).await;
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Applies manifests by the command line.
    pub(crate) async fn try_apply(&self, manifests: &str) -> Ended {
        let file = self.file("manifests.yaml", manifests);
        self.crossfade(&["apply", "-f", &file]).await
    }

    /// A Rollout as it is; null while it cannot be had.
    pub(crate) async fn rollout(&self, name: &str) -> Value {
        let rollout = self.client.get(Kind::Rollout, "default", name).await;
        rollout.unwrap_or_default()
    }

    /// Asks again and again until there is an answer; shows how everything is when there is none.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if begun.elapsed() > LONGEST {
                let mut shown = String::new();
                for rollout in self.list(Kind::Rollout).await {
                    let name = rollout["metadata"]["name"].as_str().unwrap_or_default();
                    for words in [["explain", name], ["get", name]] {
                        shown += &self.crossfade(&words).await.stdout;
                    }
                    shown += &format!("{:#}\n", rollout["status"]);
                }
                let socket = self.state.join("proxy.sock");
                let proxy = crossfade_host::proxy::ProxyClient::connect(&socket);
                if let Ok(proxy) = proxy.await {
                    let pods = proxy.stats().await.map(|stats| stats.pods);
                    shown += &format!("{pods:#?}\n");
                }
                panic!("{what}: it did not happen\n{shown}\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a Rollout is as wanted.
    pub(crate) async fn becomes(
        &self,
        name: &str,
        what: &str,
        mut is: impl FnMut(&Value) -> bool,
    ) -> Value {
        self.until(&format!("{name} becomes {what}"), async || {
            Some(self.rollout(name).await).filter(&mut is)
        })
        .await
    }

    /// Waits until a Rollout runs this version, whole and well.
    pub(crate) async fn healthy(&self, name: &str, version: &str) -> Value {
        let what = format!("healthy at {version}");
        self.becomes(name, &what, |rollout| is_healthy(rollout, version))
            .await
    }

    /// Where a Service is listened for.
    pub(crate) async fn address(&self, service: &str) -> String {
        self.until("the Service has a listener", async || {
            let info = self.client.info().await.ok()?;
            let mut listeners = info.listeners.into_iter();
            Some(
                listeners
                    .find(|listener| listener.service == service)?
                    .address,
            )
        })
        .await
    }

    /// All objects of a kind in the namespace `default`.
    pub(crate) async fn list(&self, kind: Kind) -> Vec<Value> {
        let list = self
            .client
            .list(kind, Some("default"), &Wanted::default())
            .await;
        list.expect("they are listed").items
    }

    /// The pods of a version, by the image that names it.
    pub(crate) async fn pods(&self, version: &str) -> Vec<Pod> {
        let image = format!("sample:{version}");
        let pods = self.list(Kind::Pod).await;
        let of_version = pods
            .iter()
            .filter(|pod| pod["spec"]["containers"][0]["image"] == image.as_str());
        of_version.map(|pod| Pod::of(&self.state, pod)).collect()
    }

    /// The Events about objects whose name begins so, as `reason: message`.
    pub(crate) async fn events(&self, about: &str) -> Vec<String> {
        let events = self.list(Kind::Event).await;
        let text = |event: &Value, member: &str| event[member].as_str().map(str::to_owned);
        events
            .iter()
            .filter(|event| {
                let name = event["involvedObject"]["name"].as_str();
                name.is_some_and(|name| name.starts_with(about))
            })
            .filter_map(|event| {
                Some(format!(
                    "{}: {}",
                    text(event, "reason")?,
                    text(event, "message")?
                ))
            })
            .collect()
    }

    /// Waits until the command line explains a Rollout in words that contain these.
    pub(crate) async fn explains(&self, name: &str, words: &[&str]) -> String {
        let what = format!("{name} is explained with {words:?}");
        self.until(&what, async || {
            let explained = self.crossfade(&["explain", name]).await.stdout;
            words
                .iter()
                .all(|word| explained.contains(word))
                .then_some(explained)
        })
        .await
    }

    /// The process of the data plane, if it answers.
    pub(crate) async fn proxy(&self) -> Option<u32> {
        let socket = tokio::net::UnixStream::connect(self.state.join("proxy.sock"));
        let peer = socket.await.ok()?.peer_cred().ok()?;
        peer.pid()?.try_into().ok()
    }

    /// Every process that the host has started and that runs: shims, containers and the data plane.
    pub(crate) async fn processes(&self) -> Vec<u32> {
        let pods = std::fs::read_dir(self.state.join("pods"));
        let folders = pods.into_iter().flatten().flatten();
        let mut found: Vec<u32> = folders
            .flat_map(|folder| {
                let pod = Pod {
                    folder: folder.path(),
                    ..Pod::default()
                };
                pod.shim().into_iter().chain(pod.process())
            })
            .collect();
        found.extend(self.proxy().await);
        found.retain(|pid| is_alive(*pid));
        found
    }

    /// Ends the host with everything that it started, and sees to it that nothing is left.
    pub(crate) async fn end(mut self) {
        let before = self.processes().await;
        if self.host.is_some() {
            self.stop_host().await;
        }
        self.start_with(&["--ephemeral"]).await;
        assert_eq!(self.stop_host().await, 0);
        // A shim ends after its pod, and on a busy machine a moment after the host.
        let what = format!("none of {before:?} is left");
        let ended = async || (!before.iter().any(|pid| is_alive(*pid))).then_some(());
        self.until(&what, ended).await;
    }
}

/// Nothing of a test that failed may stay.
impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(pid) = self.host.as_ref().and_then(Child::id) {
            signal(pid, Signal::KILL);
        }
        let state = self.state.as_os_str().as_encoded_bytes().to_vec();
        let carries = |pid: u32| {
            let told =
                |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            [told("cmdline"), told("environ")]
                .iter()
                .any(|text| text.windows(state.len()).any(|window| window == state))
        };
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            if pid != std::process::id() && carries(pid) {
                signal(pid, Signal::KILL);
            }
        }
    }
}

impl Ended {
    pub(crate) fn of(output: &std::process::Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().expect("it was not killed"),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Asserts how a command ended: its code, and words on standard error.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {self:?}");
        }
    }
}

/// A pod, its object and the processes behind it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) ready: bool,
    pub(crate) restarts: i64,
    folder: PathBuf,
}

impl Pod {
    fn of(state: &Path, pod: &Value) -> Self {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        let container = &pod["status"]["containerStatuses"][0];
        Self {
            name: text("/metadata/name").to_owned(),
            uid: text("/metadata/uid").to_owned(),
            ready: container["ready"] == true,
            restarts: container["restartCount"].as_i64().unwrap_or(0),
            folder: state.join("pods").join(text("/metadata/uid")),
        }
    }

    fn state(&self) -> Value {
        let text = std::fs::read(self.folder.join("state.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn pid(value: &Value) -> Option<u32> {
        value["pid"].as_u64()?.try_into().ok()
    }

    /// The shim's process.
    pub(crate) fn shim(&self) -> Option<u32> {
        Self::pid(&self.state()["shim"])
    }

    /// The process of its first container.
    pub(crate) fn process(&self) -> Option<u32> {
        Self::pid(&self.state()["containers"][0]["process"])
    }

    /// What makes it the same pod, run by the same process.
    pub(crate) fn identity(&self) -> (String, Option<u32>, i64) {
        (self.uid.clone(), self.process(), self.restarts)
    }
}

/// Sends a signal to a process; one that is gone needs none.
pub(crate) fn signal(pid: u32, what: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, what);
    }
}

/// Whether a process runs.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// Whether a Rollout runs this version, whole and well, and its controller has seen its present spec.
pub(crate) fn is_healthy(rollout: &Value, version: &str) -> bool {
    let status = &rollout["status"];
    let image = &rollout["spec"]["template"]["spec"]["containers"][0]["image"];
    status["phase"] == "Healthy"
        && status["stableRS"] == status["currentPodHash"]
        && *image == format!("sample:{version}")
        && is_observed(rollout)
}

/// Whether the controller has seen the present spec.
pub(crate) fn is_observed(rollout: &Value) -> bool {
    let generation = rollout["metadata"]["generation"].to_string();
    rollout["status"]["observedGeneration"].as_str() == Some(&generation)
}

/// The index of the present step.
pub(crate) fn step(rollout: &Value) -> i64 {
    rollout["status"]["currentStepIndex"].as_i64().unwrap_or(-1)
}

/// A container that runs the sample service.
pub(crate) fn sample(version: &str) -> String {
    format!(
        r#"{{name: shop, image: "sample:{version}", command: ["{PROGRAM}", sample],
            args: ["--version={version}", "--latency-ms=2", "--port=$(PORT)"],
            ports: [{{name: http, containerPort: 8080}}],
            readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1}}}}"#
    )
}

/// The number of the port that Services have: each test's own. A host takes its Services' number wherever nobody has it, and
/// would meet the host of another test there.
pub(crate) fn service_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    thread_local! {
        static PORT: u16 = {
            // Below all ports that hosts choose by themselves; test programs may run side by side.
            let first = std::process::id() * 64 % 8_000;
            10_000 + first as u16 + NEXT.fetch_add(1, Ordering::Relaxed)
        };
    }
    PORT.with(|port| *port)
}

/// A Rollout `shop` with its Services. `strategy` is the YAML of `spec.strategy`, `more` further members of the spec.
pub(crate) fn shop(container: &str, strategy: &str, more: &str) -> String {
    let port = service_port();
    format!(
        r#"
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: shop}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{container}]
  strategy: {strategy}
{more}
---
apiVersion: v1
kind: Service
metadata: {{name: shop}}
spec: {{selector: {{app: shop}}, ports: [{{name: http, port: {port}, targetPort: http}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: shop-canary}}
spec: {{selector: {{app: shop}}, ports: [{{name: http, port: {port}, targetPort: http}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: shop}}
spec: {{ingressClassName: nginx, rules: [{{http: {{paths: [{{path: /, pathType: Prefix,
  backend: {{service: {{name: shop, port: {{name: http}}}}}}}}]}}}}]}}
---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {{name: good}}
spec:
  metrics:
  - name: good
    interval: 1s
    count: 3
    failureLimit: 0
    successCondition: result[0] == 1
    provider: {{prometheus: {{address: "http://prometheus.monitoring:9090", query: "vector(1)"}}}}
"#
    )
}
