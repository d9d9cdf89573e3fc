//! One task for each pod in the control plane: keeps a shim there, hears what it says, cleans up in the end.
//!
//! Level-triggered: it looks at what lies in the pod's folder and does the next thing, again and again. So it
//! does not matter whether the pod is new, was found after a restart of the control plane, or has just lost
//! its shim.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::folder::{read_json, write_json};
use super::plan::{Fault, PodPlan, SANDBOX_ERROR, build};
use super::pods::{Inner, PodEntry};
use super::procfs::ended;
use super::state::PodState;

/// The wish that a pod ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StopWish {
    pub(super) asked_at: Timestamp,
    /// Instead of the template's `terminationGracePeriodSeconds`.
    pub(super) grace_seconds: Option<u32>,
}

impl StopWish {
    /// The wish of this moment.
    pub(super) fn now(grace_seconds: Option<u32>) -> Self {
        Self {
            asked_at: Timestamp::now(),
            grace_seconds,
        }
    }

    /// When the grace is over, given what the template allows.
    pub(super) fn ends(&self, usual_seconds: u32) -> Timestamp {
        let grace =
            SignedDuration::from_secs(i64::from(self.grace_seconds.unwrap_or(usual_seconds)));
        self.asked_at.checked_add(grace).unwrap_or(self.asked_at)
    }
}

/// How often a pod that lacks something (a ConfigMap, say) looks again by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Keeps one pod until it is gone.
pub(super) async fn keep(inner: Arc<Inner>, pod: Arc<PodEntry>) {
    let mut quick_deaths = 0;
    loop {
        match next(&inner, &pod).await {
            Step::Gone => return gone(&inner, &pod).await,
            Step::Wait(longest) => {
                pod.settle();
                tokio::select! {
                    () = pod.nudged() => {}
                    () = tokio::time::sleep(longest) => {}
                }
            }
            Step::Talk(stream, plan) => {
                let since = Instant::now();
                let told = talk(&inner, &pod, stream).await;
                // The shim has ended: by intent, or it was killed and the pod is on its own.
                let state = told
                    .filter(|state| state.over)
                    .unwrap_or_else(|| read_state(&pod));
                if state.over {
                    // Its last words may not have reached us.
                    inner.publish(&pod, &state);
                    if pod.is_ending() {
                        return gone(&inner, &pod).await;
                    }
                    continue;
                }
                inner.publish(&pod, &without_shim(state, &plan));
                // One death is nobody's fault; a shim that dies again and again gets less and less of our time.
                let quick = since.elapsed() < Duration::from_secs(5);
                quick_deaths = if quick { quick_deaths + 1 } else { 0 };
                if quick_deaths > 1 {
                    tokio::time::sleep(Duration::from_millis(20) * 2_u32.pow(quick_deaths.min(9)))
                        .await;
                }
            }
        }
    }
}

enum Step {
    Talk(UnixStream, Box<PodPlan>),
    Wait(Duration),
    Gone,
}

async fn next(inner: &Arc<Inner>, pod: &Arc<PodEntry>) -> Step {
    let plan = match plan(inner, pod).await {
        Ok(plan) => plan,
        Err(_) if pod.is_ending() => return Step::Gone,
        Err(faults) => {
            inner.publish_faults(pod, &faults);
            return Step::Wait(LOOK_AGAIN);
        }
    };
    pod.set_warnings(&plan.warnings);
    if let Ok(stream) = connect(pod) {
        return Step::Talk(stream, Box::new(plan));
    }
    let state = read_state(pod);
    if let Some(shim) = state.shim.as_ref().and_then(super::procfs::ProcessId::open)
        && !state.over
    {
        // It lives and does not listen: it is about to end.
        let _ = tokio::time::timeout(Duration::from_secs(1), ended(shim)).await;
        return Step::Wait(Duration::ZERO);
    }
    if state.over || (pod.is_ending() && state.shim.is_none()) {
        if pod.is_ending() {
            return Step::Gone;
        }
        inner.publish(pod, &state);
        return Step::Wait(Duration::MAX);
    }
    inner.publish(pod, &without_shim(state, &plan));
    match start_shim(inner, pod) {
        Ok(stream) => Step::Talk(stream, Box::new(plan)),
        Err(error) => {
            let program = inner.settings.shim.display();
            let message = format!("the shim {program} cannot be started: {error}");
            inner.publish_faults(
                pod,
                &[Fault {
                    container: None,
                    reason: SANDBOX_ERROR,
                    message,
                }],
            );
            Step::Wait(LOOK_AGAIN)
        }
    }
}

/// The plan as it was made, or made now.
async fn plan(inner: &Arc<Inner>, pod: &Arc<PodEntry>) -> Result<PodPlan, Vec<Fault>> {
    let (inner, pod) = (Arc::clone(inner), Arc::clone(pod));
    let made = tokio::task::spawn_blocking(move || {
        let trouble = |error: io::Error| {
            let message = format!(
                "the pod's folder {} cannot be used: {error}",
                pod.folder.path().display()
            );
            vec![Fault {
                container: None,
                reason: SANDBOX_ERROR,
                message,
            }]
        };
        match read_json(&pod.folder.plan()) {
            Ok(Some(plan)) => return Ok(plan),
            // Half a file, after a power cut: it is made again.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(trouble(error)),
            Ok(None) => {}
        }
        if pod.is_ending() {
            return Err(Vec::new());
        }
        let plan = build(
            &pod.request(),
            inner.materials.as_ref(),
            &pod.folder,
            &inner.surroundings,
        )?;
        write_json(&pod.folder.plan(), &plan).map_err(trouble)?;
        Ok(plan)
    });
    made.await.unwrap_or_else(|error| {
        let message = format!("the template could not be read: {error}");
        Err(vec![Fault {
            container: None,
            reason: super::plan::CONFIG_ERROR,
            message,
        }])
    })
}

/// The state as the shim wrote it last; a fresh one when there is none that can be read.
pub(super) fn read_state(pod: &PodEntry) -> PodState {
    read_json(&pod.folder.state())
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// What is true while no shim runs: nothing of the pod can be relied on.
fn without_shim(mut state: PodState, plan: &PodPlan) -> PodState {
    if state.containers.is_empty() {
        state = PodState::fresh(plan, Timestamp::now());
    }
    for record in &mut state.containers {
        record.status.ready = false;
    }
    state.refresh(plan, Timestamp::now());
    state
}

fn connect(pod: &PodEntry) -> io::Result<UnixStream> {
    let stream = pod.folder.connect()?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Starts a shim on a socket that listens already, so that nobody has to wait for it.
fn start_shim(inner: &Inner, pod: &PodEntry) -> io::Result<UnixStream> {
    let listener = pod.folder.listen()?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(pod.folder.shim_log())?;
    if log.metadata()?.len() > 64 * 1024 {
        log.set_len(0)?;
    }
    let mut child = tokio::process::Command::new(&inner.settings.shim)
        .args(&inner.settings.shim_arguments)
        .arg(pod.folder.path())
        .current_dir("/")
        // What the host was told in confidence is none of the pods' business.
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()?;
    // Only so that it leaves no zombie behind: its end is seen on the socket.
    tokio::spawn(async move { child.wait().await });
    connect(pod)
}

/// Hears the shim until it ends; returns what it said last.
async fn talk(inner: &Inner, pod: &PodEntry, stream: UnixStream) -> Option<PodState> {
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from).split(b'\n');
    let mut last = None;
    // Told at once to a shim that was not there when it was wished.
    let mut wish = pod.wish();
    loop {
        if let Some(wish) = wish.take() {
            let mut line = serde_json::to_vec(&wish).unwrap_or_default();
            line.push(b'\n');
            // If it cannot be told, the end of the stream says why; it is written down as well.
            let _ = to.write_all(&line).await;
        }
        tokio::select! {
            line = lines.next_segment() => match line {
                Ok(Some(line)) => {
                    // A newer shim may know words that we do not; its file is read again when it ends.
                    if let Ok(state) = serde_json::from_slice(&line) {
                        inner.publish(pod, &state);
                        pod.settle();
                        last = Some(state);
                    }
                }
                Ok(None) | Err(_) => return last,
            },
            () = pod.nudged() => wish = pod.wish(),
        }
    }
}

/// How often a pod's folder is removed again into which something was written meanwhile.
const REMOVALS: u32 = 50;

/// Removes all that is left of a pod.
async fn gone(inner: &Inner, pod: &PodEntry) {
    let folder = pod.folder.path().to_owned();
    let removed = tokio::task::spawn_blocking(move || {
        let mut tries = 0;
        loop {
            match std::fs::remove_dir_all(&folder) {
                // The shim has not quite ended: it may have written a last file meanwhile.
                Err(error)
                    if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries < REMOVALS =>
                {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                ended => return ended,
            }
        }
    })
    .await;
    if let Ok(Err(error)) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        let folder = pod.folder.path().display();
        tracing::warn!(%folder, %error, "what is left of a pod cannot be removed");
    }
    inner.forget(pod);
}
