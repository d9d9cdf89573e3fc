//! A stage for the command line: a real API server on a real store, and the real binary as a process of its own.
//!
//! The test plays the controller: it puts the objects there as a controller would have left them.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossfade_host::client::{Address, Client, Wanted};
use crossfade_host::server::{Backend, Doors, LogStream, serve};
use crossfade_host::store::{Admission, Fault, Kind, Options, StatusWrites, Store};
use crossfade_host::wire::{
    Deletion, Explanation, Info, Listener, LogQuery, Part, Patch, Reason, Status,
};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

/// No command of these tests needs nearly as long; a test that waits for ever says nothing.
const LONGEST: Duration = Duration::from_mins(1);

/// Lets everything in: what a server refuses is not the command line's business.
struct Open;

impl Admission for Open {
    fn admit(&self, _: Kind, _: &mut Value, _: Option<&Value>) -> Result<Vec<String>, Vec<Fault>> {
        Ok(Vec::new())
    }
}

/// The control plane's part of the API, with fixed answers.
struct Answers;

impl Backend for Answers {
    fn info(&self) -> Info {
        Info {
            listeners: vec![Listener {
                service: "web".to_owned(),
                namespace: "default".to_owned(),
                address: "127.0.0.1:8080".to_owned(),
            }],
            ..Info::default()
        }
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    async fn logs(&self, _: &str, pod: &str, wanted: LogQuery) -> Result<LogStream, Status> {
        let text = format!("hello from {pod}\ntail {:?}\n", wanted.tail_lines);
        Ok(Box::pin(futures_util::stream::iter([Ok(Bytes::from(
            text,
        ))])))
    }

    async fn explain(&self, _: Kind, _: &str, rollout: &str) -> Result<Explanation, Status> {
        if rollout != "web" {
            let text = format!("rollouts.argoproj.io \"{rollout}\" not found");
            return Err(Status::failure(Reason::NotFound, text));
        }
        let found = json!({"rollout": "web", "phase": "Paused", "message": "CanaryPauseStep",
            "step": {"index": 1, "total": 2, "kind": "pause", "text": "pause until somebody promotes"},
            "waits": [{"for": "somebody to promote", "details": "the pause has no duration"}],
            "would_move": ["crossfade promote web"]});
        Ok(serde_json::from_value(found).expect("an explanation"))
    }

    async fn prometheus(&self, request: Request<Full<Bytes>>) -> Response<Full<Bytes>> {
        let query = request.uri().query().unwrap_or_default();
        let (code, answer) = if query.contains("bad") {
            let error = json!({"status": "error", "errorType": "bad_data", "error": "unknown function bad()"});
            (400, error)
        } else {
            let result = json!([{"metric": {"service": "web"}, "value": [1, "0.25"]}]);
            (
                200,
                json!({"status": "success", "data": {"resultType": "vector", "result": result}}),
            )
        };
        let mut response = Response::new(Full::new(answer.to_string().into()));
        *response.status_mut() = http::StatusCode::from_u16(code).expect("a status code");
        response
    }
}

/// A server with its store, and a folder for files.
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) folder: TempDir,
    socket: String,
    stop: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Asserts everything about the end of a command.
    #[track_caller]
    pub(crate) fn is(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!(
            (self.code, self.stdout.as_str(), self.stderr.as_str()),
            (code, stdout, stderr)
        );
    }
}

/// A command that runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// The next line on standard output.
    pub(crate) async fn line(&mut self) -> String {
        let line = tokio::time::timeout(LONGEST, self.lines.next_line()).await;
        line.expect("it prints soon")
            .expect("text")
            .expect("it prints another line")
    }

    /// How it ends, and what it prints on standard output until then.
    pub(crate) async fn ended(mut self) -> Ended {
        let mut stdout = String::new();
        while let Some(line) = tokio::time::timeout(LONGEST, self.lines.next_line())
            .await
            .expect("it ends soon")
            .expect("text")
        {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let output = self.child.wait_with_output().await.expect("it ran");
        Ended {
            stdout,
            ..Ended::of(output)
        }
    }
}

/// The binary under a name, in a clean environment.
pub(crate) fn program(name: &str, home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
    command
        .arg0(name)
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub(crate) const PLUGIN: &str = "kubectl-argo-rollouts";
pub(crate) const FULL: &str = "crossfade";

impl Stage {
    /// A server without objects.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        std::fs::create_dir(&state).expect("a folder");
        let store = Store::open(&state, Options::new(Arc::new(Open))).expect("a store");
        let doors = Doors::open(&state, None).expect("a socket");
        let address = Address::Socket(doors.socket().to_owned());
        let socket = doors.socket().display().to_string();
        let stop = CancellationToken::new();
        tokio::spawn(serve(store, Arc::new(Answers), doors, stop.clone()));
        Self {
            client: Client::new(address),
            folder,
            socket,
            stop,
        }
    }

    /// A command against this server.
    pub(crate) fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = program(name, self.folder.path());
        command.env("CROSSFADE_HOST", &self.socket).args(arguments);
        command
    }

    async fn run(&self, name: &str, arguments: &[&str]) -> Ended {
        let output = self.command(name, arguments).output();
        let output = tokio::time::timeout(LONGEST, output)
            .await
            .expect("it ends soon");
        Ended::of(output.expect("it runs"))
    }

    /// Runs a command as the kubectl plugin.
    pub(crate) async fn plugin(&self, arguments: &[&str]) -> Ended {
        self.run(PLUGIN, arguments).await
    }

    /// Runs a command of the full mode.
    pub(crate) async fn full(&self, arguments: &[&str]) -> Ended {
        self.run(FULL, arguments).await
    }

    /// Starts a command and goes on.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Running {
        let mut child = self.command(name, arguments).spawn().expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        Running {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.display().to_string()
    }

    /// Puts an object into a namespace, its status included, and gives it as stored.
    pub(crate) async fn put(&self, kind: Kind, namespace: &str, mut object: Value) -> Value {
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.name());
        let status = object["status"].clone();
        let created = self
            .client
            .create(kind, namespace, &object)
            .await
            .expect("it can be made");
        if status.is_null() || kind.status_writes() == StatusWrites::WithObject {
            return created;
        }
        let name = created["metadata"]["name"].as_str().expect("it has a name");
        let patch = json!({"status": status});
        self.client
            .patch(kind, namespace, name, Part::Status, Patch::Merge, &patch)
            .await
            .expect("the status can be written")
    }

    /// Puts a Rollout there whose controller has seen its spec.
    pub(crate) async fn rollout(&self, name: &str, spec: Value, mut status: Value) -> Value {
        status["observedGeneration"] = json!("1");
        let object = json!({"metadata": {"name": name}, "spec": spec, "status": status});
        self.put(Kind::Rollout, "default", object).await
    }

    /// Puts a ReplicaSet of a Rollout there.
    pub(crate) async fn version(
        &self,
        rollout: &Value,
        hash: &str,
        revision: u64,
        pods: i32,
        image: &str,
    ) -> Value {
        let (owner, namespace) = owner_of(rollout);
        let name = format!(
            "{}-{hash}",
            rollout["metadata"]["name"].as_str().expect("a name")
        );
        let labels = json!({"app": "web", "rollouts-pod-template-hash": hash});
        let object = json!({
            "metadata": {"name": name, "ownerReferences": [owner], "labels": labels,
                "annotations": {"rollout.argoproj.io/revision": revision.to_string()}},
            "spec": {"replicas": pods, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": image}]}}},
            "status": {"replicas": pods, "availableReplicas": pods, "observedGeneration": 1}});
        self.put(Kind::ReplicaSet, &namespace, object).await
    }

    /// Puts a running pod of a ReplicaSet there.
    pub(crate) async fn pod(&self, set: &Value, name: &str, containers: usize, restarts: i32) {
        let (owner, namespace) = owner_of(set);
        let names: Vec<_> = (0..containers).map(|index| format!("c{index}")).collect();
        let declared: Vec<_> = names
            .iter()
            .map(|name| json!({"name": name, "image": "i"}))
            .collect();
        let state = |(index, name): (usize, &String)| {
            json!({"name": name, "image": "i", "imageID": "", "ready": true, "state": {"running": {}},
                "restartCount": if index == 0 { restarts } else { 0 }})
        };
        let states: Vec<_> = names.iter().enumerate().map(state).collect();
        let object = json!({"metadata": {"name": name, "ownerReferences": [owner]}, "spec": {"containers": declared},
            "status": {"phase": "Running", "containerStatuses": states}});
        self.put(Kind::Pod, &namespace, object).await;
    }

    /// An object as it stands.
    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Value {
        self.client
            .get(kind, "default", name)
            .await
            .expect("it exists")
    }

    /// Changes the status of a Rollout as its controller would.
    pub(crate) async fn set_status(&self, name: &str, status: Value) {
        self.change(name, Part::Status, json!({"status": status}))
            .await;
    }

    /// Changes a Rollout.
    pub(crate) async fn change(&self, name: &str, part: Part, patch: Value) {
        self.client
            .patch(Kind::Rollout, "default", name, part, Patch::Merge, &patch)
            .await
            .expect("it can be changed");
    }

    /// Deletes a Rollout.
    pub(crate) async fn delete(&self, name: &str) {
        let deletion = Deletion::default();
        let gone = self
            .client
            .delete(Kind::Rollout, "default", name, &deletion);
        gone.await.expect("it can be deleted");
    }

    /// Names of all objects of a kind in the usual namespace.
    pub(crate) async fn names(&self, kind: Kind) -> Vec<String> {
        let list = self
            .client
            .list(kind, Some("default"), &Wanted::default())
            .await
            .expect("a list");
        let name = |object: &Value| {
            object["metadata"]["name"]
                .as_str()
                .expect("a name")
                .to_owned()
        };
        list.items.iter().map(name).collect()
    }
}

/// A reference to an object as its owner, and the object's namespace.
pub(crate) fn owner_of(object: &Value) -> (Value, String) {
    let metadata = &object["metadata"];
    let owner = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "name": metadata["name"],
        "uid": metadata["uid"], "controller": true});
    (
        owner,
        metadata["namespace"]
            .as_str()
            .expect("a namespace")
            .to_owned(),
    )
}

/// A canary that steps through these steps.
pub(crate) fn canary(steps: &Value) -> Value {
    json!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}},
        "strategy": {"canary": {"steps": steps}}})
}

/// The status of a Rollout at a pause step.
pub(crate) fn paused(index: i32) -> Value {
    json!({"phase": "Paused", "message": "CanaryPauseStep", "controllerPause": true, "currentStepIndex": index,
        "currentPodHash": "new", "stableRS": "old",
        "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}]})
}

/// The status of a Rollout whose newest version is promoted.
pub(crate) fn healthy() -> Value {
    json!({"phase": "Healthy", "currentPodHash": "new", "stableRS": "new", "currentStepIndex": 2})
}
