//! Tasks: commands and calls that releases want done, in the background or while they wait.
//!
//! Start at [`Tasks::answer`]. `run` runs one command within its limits; `concord` and `ngrinder` call the systems of these names. What runs in the background
//! is known by its Canary and its text, and runs once at a time; whoever asks for a blocking task that is running waits for that one.

mod concord;
mod ngrinder;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::metrics::Metrics;
use super::payload::Payload;
use run::{Ended, Limits};

/// So many errors of background tasks are remembered for `failOnError`.
const ERRORS: usize = 1024;

/// What a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskType {
    /// A shell command in the background.
    Cmd,
    /// A test of nGrinder in the background.
    Ngrinder,
    /// A shell command that is waited for.
    Bash,
    /// Helm, waited for.
    Helm,
    /// The same under its other name.
    Helmv3,
    /// kubectl, waited for.
    Kubectl,
    /// A process of Concord, waited for.
    Concord,
}

impl TaskType {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Cmd,
        Self::Ngrinder,
        Self::Bash,
        Self::Helm,
        Self::Helmv3,
        Self::Kubectl,
        Self::Concord,
    ];

    /// As payloads write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cmd => "cmd",
            Self::Ngrinder => "ngrinder",
            Self::Bash => "bash",
            Self::Helm => "helm",
            Self::Helmv3 => "helmv3",
            Self::Kubectl => "kubectl",
            Self::Concord => "concord",
        }
    }
}

impl FromStr for TaskType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == text);
        found.ok_or_else(|| format!("unknown task type {text}"))
    }
}

/// Which tasks are run, and within which limits.
#[derive(Clone, Debug)]
pub struct TaskSettings {
    /// The types that are run; none makes a server of gates alone.
    pub enabled: Vec<TaskType>,
    /// The longest that one may take.
    pub time: Duration,
    /// How many run at once.
    pub most: usize,
    /// So much of the output of one is kept, in bytes.
    pub output: usize,
    /// A folder of programs for those that are not installed; it comes last on the path.
    pub programs: Option<PathBuf>,
}

/// An answer: status and body.
pub(super) type Reply = (u16, String);

/// Runs tasks.
#[derive(Debug)]
pub(super) struct Tasks {
    enabled: Vec<TaskType>,
    limits: Limits,
    free: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    /// What runs in the background.
    running: Mutex<BTreeSet<String>>,
    /// What somebody waits for.
    awaited: Mutex<BTreeMap<String, Weak<Awaited>>>,
    /// Last errors of background tasks whose next caller wants to know them.
    errors: Mutex<BTreeMap<String, String>>,
}

/// A blocking task; it is cancelled when the last one who waits for it has gone.
#[derive(Debug)]
struct Awaited {
    result: watch::Receiver<Option<Ended>>,
    _cancel: DropGuard,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A truth as Go reads it; anything else is false.
fn is_true(text: Option<&String>) -> bool {
    text.is_some_and(|text| matches!(text.as_str(), "1" | "t" | "T" | "TRUE" | "true" | "True"))
}

fn bad(text: impl Into<String>) -> Reply {
    (400, text.into())
}

impl Tasks {
    pub(super) fn new(settings: TaskSettings, metrics: Arc<Metrics>) -> Self {
        let path = settings.programs.map(|folder| {
            let mut path = std::env::var_os("PATH").unwrap_or_default();
            if !path.is_empty() {
                path.push(":");
            }
            path.push(OsString::from(folder));
            path
        });
        Self {
            enabled: settings.enabled,
            limits: Limits {
                time: settings.time,
                output: settings.output,
                path,
            },
            free: Arc::new(Semaphore::new(settings.most.min(Semaphore::MAX_PERMITS))),
            metrics,
            running: Mutex::default(),
            awaited: Mutex::default(),
            errors: Mutex::default(),
        }
    }

    /// Whether there are any.
    pub(super) fn are_there(&self) -> bool {
        !self.enabled.is_empty()
    }

    /// Does, or begins, what a payload wants.
    pub(super) async fn answer(self: &Arc<Self>, payload: &Payload) -> Reply {
        let metadata = &payload.metadata;
        if metadata.is_empty() {
            return bad("metadata not found in payload");
        }
        let kind = metadata.get("type").map_or("cmd", String::as_str);
        let kind: TaskType = match kind.parse() {
            Ok(kind) => kind,
            Err(why) => return bad(why),
        };
        if !self.enabled.contains(&kind) {
            return bad(format!("task type {} is not enabled", kind.word()));
        }
        let canary = format!("{}.{}", payload.name, payload.namespace);
        let command = metadata.get("cmd").cloned();
        match kind {
            TaskType::Cmd => {
                let Some(command) = command else {
                    return bad("cmd not found in metadata");
                };
                let logs = metadata
                    .get("logCmdOutput")
                    .is_some_and(|text| text == "true");
                let (tasks, text) = (Arc::clone(self), command.clone());
                let work = async move {
                    let never = CancellationToken::new();
                    let ended = run::run("sh", &["-c", &text], &tasks.limits, &never).await;
                    (ended, logs)
                };
                self.in_background(kind, &canary, &command, payload, work)
            }
            TaskType::Ngrinder => match ngrinder::Test::of(metadata) {
                Err(why) => bad(why),
                Ok(test) => {
                    let (name, limit) = (test.to_string(), self.limits.time);
                    let work = async move { (test.run(limit).await, false) };
                    self.in_background(kind, &canary, &name, payload, work)
                }
            },
            TaskType::Bash => {
                let command = command.unwrap_or_default();
                tracing::info!(canary, "bash command {command}");
                let words = vec!["-c".to_owned(), command.clone()];
                self.command(kind, "bash", words, &canary, &command, payload)
                    .await
            }
            TaskType::Helm | TaskType::Helmv3 | TaskType::Kubectl => {
                let command = command.unwrap_or_default();
                let (program, name) = if kind == TaskType::Kubectl {
                    ("kubectl", "kubectl")
                } else {
                    ("helm", "helmv3")
                };
                tracing::info!(canary, "running command {name} {command}");
                let words = command.split_whitespace().map(str::to_owned).collect();
                self.command(kind, program, words, &canary, &command, payload)
                    .await
            }
            TaskType::Concord => match concord::Process::of(metadata) {
                Err(why) => (500, why),
                Ok(process) => {
                    let name = process.to_string();
                    let limit = self.limits.time;
                    let work = async move |cancelled: CancellationToken| {
                        tokio::select! {
                            ended = process.run(limit) => ended,
                            () = cancelled.cancelled() => Ended::badly(String::new(), "nobody waits for it".to_owned()),
                        }
                    };
                    match self.awaited(kind, &canary, &name, work).await {
                        Err(reply) => reply,
                        Ok(ended) => match ended.failure {
                            Some(why) => (500, why),
                            None => (200, output_for(payload, ended.output)),
                        },
                    }
                }
            },
        }
    }

    /// Begins a task that nobody waits for, unless it is running.
    fn in_background(
        self: &Arc<Self>,
        kind: TaskType,
        canary: &str,
        name: &str,
        payload: &Payload,
        work: impl Future<Output = (Ended, bool)> + Send + 'static,
    ) -> Reply {
        let key = format!("{canary}\0{name}");
        let wants_errors = is_true(payload.metadata.get("failOnError"));
        if wants_errors && let Some(error) = locked(&self.errors).remove(&key) {
            return (500, error);
        }
        if !locked(&self.running).insert(key.clone()) {
            tracing::info!(canary, "command skipped {name} is already running");
            self.metrics.task(kind.word(), "skipped", None);
            return (202, String::new());
        }
        let Ok(place) = Arc::clone(&self.free).try_acquire_owned() else {
            locked(&self.running).remove(&key);
            return self.too_many(kind, canary, name);
        };
        let (tasks, canary, name) = (Arc::clone(self), canary.to_owned(), name.to_owned());
        tracing::info!(canary, "task starting {name}");
        tokio::spawn(async move {
            let begun = Instant::now();
            let (ended, logs_output) = work.await;
            tasks
                .metrics
                .task(kind.word(), ended.word, Some(begun.elapsed()));
            log(&canary, &name, &ended, logs_output);
            if wants_errors && let Some(why) = &ended.failure {
                let mut errors = locked(&tasks.errors);
                if errors.len() < ERRORS {
                    errors.insert(key.clone(), failed(&name, &ended.output, why));
                }
            }
            locked(&tasks.running).remove(&key);
            drop(place);
        });
        (202, String::new())
    }

    fn too_many(&self, kind: TaskType, canary: &str, name: &str) -> Reply {
        tracing::warn!(canary, "too many tasks are running for {name}");
        self.metrics.task(kind.word(), "rejected", None);
        (503, "too many tasks are running".to_owned())
    }

    /// Runs a command that the caller waits for.
    async fn command(
        self: &Arc<Self>,
        kind: TaskType,
        program: &'static str,
        words: Vec<String>,
        canary: &str,
        name: &str,
        payload: &Payload,
    ) -> Reply {
        let limits = self.limits.clone();
        let work = async move |cancelled: CancellationToken| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            run::run(program, &words, &limits, &cancelled).await
        };
        match self.awaited(kind, canary, name, work).await {
            Err(reply) => reply,
            Ok(ended) => match &ended.failure {
                Some(why) => (500, failed(name, &ended.output, why)),
                None => (200, output_for(payload, ended.output)),
            },
        }
    }

    /// Does something that the caller waits for, or waits with those who wait for the same.
    async fn awaited<F, W>(
        self: &Arc<Self>,
        kind: TaskType,
        canary: &str,
        name: &str,
        work: W,
    ) -> Result<Ended, Reply>
    where
        F: Future<Output = Ended> + Send + 'static,
        W: FnOnce(CancellationToken) -> F + Send + 'static,
    {
        let key = format!("{canary}\0{}\0{name}", kind.word());
        let awaited = self.join_or_begin(kind, canary, name, &key, work)?;
        let mut result = awaited.result.clone();
        let ended = result.wait_for(Option::is_some).await;
        let ended = ended.ok().and_then(|ended| ended.clone());
        Ok(ended.unwrap_or_else(|| Ended::badly(String::new(), "it broke off".to_owned())))
    }

    fn join_or_begin<F, W>(
        self: &Arc<Self>,
        kind: TaskType,
        canary: &str,
        name: &str,
        key: &str,
        work: W,
    ) -> Result<Arc<Awaited>, Reply>
    where
        F: Future<Output = Ended> + Send + 'static,
        W: FnOnce(CancellationToken) -> F + Send + 'static,
    {
        let mut all = locked(&self.awaited);
        let running = all.get(key).and_then(Weak::upgrade);
        if let Some(running) = running.filter(|running| running.result.borrow().is_none()) {
            return Ok(running);
        }
        let Ok(place) = Arc::clone(&self.free).try_acquire_owned() else {
            return Err(self.too_many(kind, canary, name));
        };
        let (tell, result) = watch::channel(None);
        let cancelled = CancellationToken::new();
        let awaited = Arc::new(Awaited {
            result,
            _cancel: cancelled.clone().drop_guard(),
        });
        all.retain(|_, known| known.strong_count() > 0);
        all.insert(key.to_owned(), Arc::downgrade(&awaited));
        let (tasks, canary, name) = (Arc::clone(self), canary.to_owned(), name.to_owned());
        tokio::spawn(async move {
            let begun = Instant::now();
            let ended = work(cancelled).await;
            tasks
                .metrics
                .task(kind.word(), ended.word, Some(begun.elapsed()));
            log(&canary, &name, &ended, true);
            // Whoever waited may have gone.
            let _ = tell.send(Some(ended));
            drop(place);
        });
        Ok(awaited)
    }
}

/// What the caller of a command is told that ended well.
fn output_for(payload: &Payload, output: String) -> String {
    if is_true(payload.metadata.get("returnCmdOutput")) {
        output
    } else {
        String::new()
    }
}

fn log(canary: &str, name: &str, ended: &Ended, logs_output: bool) {
    let output = ended.output.trim_end();
    if logs_output && !output.is_empty() {
        tracing::info!(canary, "{output}");
    }
    match &ended.failure {
        None => tracing::info!(canary, "command finished {name}"),
        Some(why) => tracing::error!(canary, "command failed {name} {why} {output}"),
    }
}

/// What the caller of a command is told that failed.
fn failed(command: &str, output: &str, why: &str) -> String {
    format!("command {command} failed: {output}: {why}")
}

/// A client of other systems.
fn client(limit: Duration) -> Result<reqwest::Client, String> {
    // Whoever comes first installs it; all of us want the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("crossfade/", env!("CARGO_PKG_VERSION")))
        .timeout(limit)
        .build()
        .map_err(|why| why.to_string())
}

/// The answer to a request, as JSON; an empty one is null.
async fn json(request: reqwest::RequestBuilder) -> Result<serde_json::Value, String> {
    let failed = |error: reqwest::Error| super::remote::chain(&error.without_url());
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    let body = response.bytes().await.map_err(failed)?;
    if !status.is_success() {
        let text: String = String::from_utf8_lossy(&body).chars().take(500).collect();
        return Err(format!("{status}: {text}"));
    }
    if body.is_empty() {
        return Ok(serde_json::Value::Null);
    }
    serde_json::from_slice(&body).map_err(|why| format!("the answer is no JSON: {why}"))
}
