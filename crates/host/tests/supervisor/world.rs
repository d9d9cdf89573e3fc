//! A supervisor on a folder of its own, real shims, real processes, and ways to wait for what shall be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossfade_host::supervisor::{
    Material, MaterialError, Materials, PodIdentity, PodRequest, PodSnapshot, Settings, Supervisor,
    Termination, Tuning,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The program that is shim and sample service.
pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_crossfade-test-helper");

/// ConfigMaps and Secrets by name, whatever the namespace.
#[derive(Default)]
pub(crate) struct Cupboard {
    pub(crate) config_maps: Mutex<BTreeMap<String, Material>>,
    pub(crate) secrets: Mutex<BTreeMap<String, Material>>,
}

impl Cupboard {
    pub(crate) fn put(
        map: &Mutex<BTreeMap<String, Material>>,
        name: &str,
        entries: &[(&str, &str)],
    ) {
        let material = entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()))
            .collect();
        map.lock().expect("lock").insert(name.to_owned(), material);
    }
}

impl Materials for Cupboard {
    fn config_map(&self, _: &str, name: &str) -> Result<Option<Material>, MaterialError> {
        Ok(self.config_maps.lock().expect("lock").get(name).cloned())
    }
    fn secret(&self, _: &str, name: &str) -> Result<Option<Material>, MaterialError> {
        Ok(self.secrets.lock().expect("lock").get(name).cloned())
    }
}

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) cupboard: Arc<Cupboard>,
    pub(crate) tuning: Tuning,
    supervisor: Option<Supervisor>,
}

impl World {
    /// A world where a second of a template lasts 50 ms.
    pub(crate) async fn new() -> Self {
        let quick = Tuning {
            second: Duration::from_millis(50),
            back_off_first: Duration::from_millis(100),
            back_off_most: Duration::from_millis(400),
            ..Tuning::default()
        };
        Self::tuned(quick).await
    }

    pub(crate) async fn tuned(tuning: Tuning) -> Self {
        let mut world = Self {
            folder: tempfile::tempdir().expect("temporary folder"),
            cupboard: Arc::default(),
            tuning,
            supervisor: None,
        };
        world.open().await;
        world
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            shim: PathBuf::from(HELPER),
            tuning: self.tuning.clone(),
            working_dir: self.folder.path().to_owned(),
            ..Settings::usual().expect("settings")
        }
    }

    pub(crate) async fn open(&mut self) {
        let cupboard: Arc<dyn Materials> = self.cupboard.clone();
        let opened = Supervisor::open(&self.state_folder(), self.settings(), cupboard).await;
        self.supervisor = Some(opened.expect("opens"));
    }

    /// Ends the supervisor, not the pods.
    pub(crate) async fn close(&mut self) {
        self.supervisor.take().expect("is open").close().await;
    }

    pub(crate) fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn pod_folder(&self, uid: &str) -> PathBuf {
        self.state_folder().join("pods").join(uid)
    }

    /// A path that containers and the test share.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn supervisor(&self) -> &Supervisor {
        self.supervisor.as_ref().expect("is open")
    }

    /// A pod whose uid and name are `uid`, with this `spec`.
    pub(crate) fn start(&self, uid: &str, spec: &Value) {
        let identity = PodIdentity {
            namespace: "prod".to_owned(),
            name: uid.to_owned(),
            uid: uid.to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            annotations: BTreeMap::new(),
        };
        let template = serde_json::json!({"metadata": {"labels": {"app": "web"}}, "spec": spec});
        self.supervisor()
            .ensure_pod(PodRequest::new(identity, template))
            .expect("accepted");
    }

    pub(crate) fn now(&self, uid: &str) -> PodSnapshot {
        self.supervisor().status(uid).expect("is there")
    }

    /// Waits until the pod is as wanted.
    pub(crate) async fn until(
        &self,
        uid: &str,
        what: &str,
        wanted: impl Fn(&PodSnapshot) -> bool,
    ) -> PodSnapshot {
        let mut changes = self.supervisor().changes();
        let seen = async {
            loop {
                if let Some(pod) = self.supervisor().status(uid).filter(&wanted) {
                    return pod;
                }
                let _ = changes.recv().await;
            }
        };
        if let Ok(pod) = tokio::time::timeout(PATIENCE, seen).await {
            return pod;
        }
        let shim =
            std::fs::read_to_string(self.pod_folder(uid).join("shim.log")).unwrap_or_default();
        panic!(
            "{uid} never was {what}: {:#?}\nshim.log: {shim}",
            self.supervisor().status(uid)
        )
    }

    pub(crate) async fn until_ready(&self, uid: &str) -> PodSnapshot {
        self.until(uid, "ready", PodSnapshot::is_ready).await
    }

    pub(crate) async fn until_word(&self, uid: &str, word: &str) -> PodSnapshot {
        self.until(uid, word, |pod| pod.word() == word).await
    }

    /// Waits until nothing of the pod is left.
    pub(crate) async fn until_gone(&self, uid: &str) {
        let mut changes = self.supervisor().changes();
        let gone = async {
            while self.supervisor().status(uid).is_some() {
                let _ = changes.recv().await;
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, gone).await.is_ok(),
            "{uid} never went: {:#?}",
            self.supervisor().status(uid)
        );
        assert!(
            !self.pod_folder(uid).exists(),
            "the folder of {uid} is still there"
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.supervisor.take());
        // Shims first, so that they start nothing any more; then what they ran.
        for entry in std::fs::read_dir(self.state_folder().join("pods"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let folder = entry.path();
            let state = std::fs::read(folder.join("state.json")).unwrap_or_default();
            let state: Value = serde_json::from_slice(&state).unwrap_or_default();
            let shim = state
                .pointer("/shim/pid")
                .and_then(Value::as_u64)
                .unwrap_or_default() as u32;
            let command =
                std::fs::read_to_string(format!("/proc/{shim}/cmdline")).unwrap_or_default();
            // A pid may be another's by now.
            if command.contains(&folder.display().to_string()) {
                end_now(shim);
            }
            while let pids @ [_, ..] = marked(&folder).as_slice() {
                pids.iter().copied().for_each(end_now);
            }
        }
    }
}

fn end_now(pid: u32) {
    let _ = rustix::process::Pid::from_raw(pid.cast_signed())
        .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
}

/// How long a test waits for what should take a moment: long enough for a machine that is busy with others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The processes that carry the mark of a pod, by pid.
pub(crate) fn marked(folder: &Path) -> Vec<u32> {
    let mark = format!("CROSSFADE_POD={}", folder.display());
    let pids = std::fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let marked = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        runs(*pid)
            && environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == mark.as_bytes())
    };
    pids.filter(marked).collect()
}

/// Kills a process with -9.
pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        .expect("is there to be killed");
}

/// The present or last end of the only main container.
pub(crate) fn end(pod: &PodSnapshot) -> Termination {
    pod.status
        .container_statuses
        .first()
        .and_then(|container| container.termination())
        .expect("has ended")
        .clone()
}

/// How often the only main container has been started again.
pub(crate) fn restarts(pod: &PodSnapshot) -> u32 {
    pod.status
        .container_statuses
        .first()
        .expect("a container")
        .restart_count
}

/// Whether an event with this reason and a message that holds `part` happened.
pub(crate) fn happened(pod: &PodSnapshot, reason: &str, part: &str) -> bool {
    pod.events
        .iter()
        .any(|event| event.reason == reason && event.message.contains(part))
}

/// A pod of one container `web` that runs a shell script.
pub(crate) fn script(text: &str) -> Value {
    serde_json::json!({"containers": [{"name": "web", "command": ["/bin/sh", "-c", text]}]})
}

/// The same with further fields of the pod and of the container.
pub(crate) fn with(mut spec: Value, pod: Value, container: Value) -> Value {
    let merge = |to: &mut Value, from: Value| {
        if let (Some(to), Value::Object(from)) = (to.as_object_mut(), from) {
            to.extend(from);
        }
    };
    merge(
        spec.pointer_mut("/containers/0").expect("a container"),
        container,
    );
    merge(&mut spec, pod);
    spec
}

/// Waits for something that nobody announces.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let seen = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, seen).await.is_ok(),
        "never: {what}"
    );
}

/// Whether a process with this pid runs (and is not merely waiting for its parent).
pub(crate) fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('Z'))
    })
}

/// GETs a path of a pod.
pub(crate) async fn get(pod: &PodSnapshot, port: &str, path: &str) -> String {
    let address = pod.address(port).expect("has this port");
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("takes the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answers");
    answer
        .split_once("\r\n\r\n")
        .expect("an HTTP answer")
        .1
        .to_owned()
}
