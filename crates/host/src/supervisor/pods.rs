//! The supervisor as the control plane sees it: ask for pods, look at them, hear of changes, end them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use jiff::Timestamp;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::folder::{PodFolder, make_private_folder, read_json, write_json};
use super::identity::{PodIdentity, PodRequest};
use super::keeper::{StopWish, keep, read_state};
use super::logs::{self, LogError, LogLine, LogOptions};
use super::materials::Materials;
use super::names::{self, KnownNames};
use super::plan::{Fault, LocalPort, SANDBOX_ERROR, Surroundings, Tuning};
use super::ports::PortRegistry;
use super::state::{PodEvent, PodState};
use super::status::{ContainerStatus, Fact, PodFacts, PodStatus, Role, summarise};

/// How the supervisor is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program that is the shim: usually this one.
    pub shim: PathBuf,
    /// What makes it a shim; the pod's folder follows.
    pub shim_arguments: Vec<OsString>,
    /// Variables of the host that containers inherit. Not the whole environment: it may hold what is not
    /// theirs to know.
    pub inherited: BTreeMap<String, String>,
    /// Where containers start that name no absolute `workingDir`.
    pub working_dir: PathBuf,
    /// Patience and limits.
    pub tuning: Tuning,
}

impl Settings {
    /// The usual set-up: this program as `shim`, its folder, and of its environment what every program needs
    /// (`PATH` with this program's folder at its end, `HOME`, `USER`, `LOGNAME`, `LANG`, `LC_ALL`, `TZ`, `TMPDIR`, `SSL_CERT_FILE`,
    /// `SSL_CERT_DIR`).
    ///
    /// # Errors
    /// When this program's path or working folder cannot be found out.
    pub fn usual() -> io::Result<Self> {
        let names = [
            "PATH",
            "HOME",
            "USER",
            "LOGNAME",
            "LANG",
            "LC_ALL",
            "TZ",
            "TMPDIR",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ];
        let shim = std::env::current_exe()?;
        let mut inherited: BTreeMap<String, String> = names
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
            .collect();
        // Last, so that it hides nothing: a manifest may say `crossfade` also where nobody has installed it.
        if let (Some(path), Some(folder)) = (inherited.get_mut("PATH"), shim.parent()) {
            path.push(':');
            path.push_str(&folder.to_string_lossy());
        }
        Ok(Self {
            shim,
            shim_arguments: vec![OsString::from("shim")],
            inherited,
            working_dir: std::env::current_dir()?,
            tuning: Tuning::default(),
        })
    }
}

/// Why the supervisor cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Another supervisor works on the same folder.
    #[error("{} is in use by another host; stop that one, or use another state folder", .0.display())]
    InUse(PathBuf),
    /// The uid cannot name a folder.
    #[error("`{0}` cannot be a pod's uid; use letters, digits, `-`, `_` and `.`")]
    BadUid(String),
    /// The state folder cannot be read or written.
    #[error("cannot use {}", .path.display())]
    Folder {
        /// What was to be read or written.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// What is known of a pod at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSnapshot {
    /// Who it is.
    pub identity: PodIdentity,
    /// Its status, as Kubernetes would write it.
    pub status: PodStatus,
    /// The local ports that stand for its containers' ports.
    pub ports: Vec<LocalPort>,
    /// What its template asks for and does not get here.
    pub warnings: Vec<String>,
    /// What happened to it, the newest last; bounded.
    pub events: Vec<PodEvent>,
    /// Whether it has been asked to end.
    pub terminating: bool,
    /// The process that looks after it, if one does.
    pub shim_pid: Option<u32>,
}

impl PodSnapshot {
    /// Whether it may get requests: ready, and not asked to end.
    pub fn is_ready(&self) -> bool {
        self.ready_since().is_some()
    }

    /// Since when it has been ready without a break.
    pub fn ready_since(&self) -> Option<Timestamp> {
        self.status.ready_since().filter(|_| !self.terminating)
    }

    /// Where a port of it is reached, by the name or the number that the template gives it.
    pub fn address(&self, port: &str) -> Option<SocketAddr> {
        let found = self.ports.iter().find(|held| {
            held.name.as_deref() == Some(port) || held.container_port.to_string() == port
        })?;
        Some((Ipv4Addr::LOCALHOST, found.local_port).into())
    }

    /// The one word that describes it, as `kubectl get pods` would show it.
    pub fn word(&self) -> String {
        if self.terminating {
            "Terminating".to_owned()
        } else {
            self.status.word()
        }
    }
}

/// A pod that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodChange {
    /// Its uid.
    pub uid: String,
    /// Whether nothing of it is left.
    pub gone: bool,
}

/// The pods of this machine.
///
/// Dropping it stops the supervision, never the pods: they go on with their shims, and the next
/// [`Supervisor::open`] finds them.
pub struct Supervisor {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) settings: Settings,
    pub(super) surroundings: Surroundings,
    pub(super) materials: Arc<dyn Materials>,
    folder: PathBuf,
    ports: PortRegistry,
    pods: Mutex<BTreeMap<String, Arc<PodEntry>>>,
    making: Mutex<()>,
    changes: broadcast::Sender<PodChange>,
    closing: CancellationToken,
    keepers: TaskTracker,
    /// Where keepers run, whichever thread asks for a pod.
    runtime: Handle,
    /// Locked as long as this supervisor works.
    _lock: File,
}

/// One pod.
pub(super) struct PodEntry {
    pub(super) folder: PodFolder,
    request: Mutex<PodRequest>,
    snapshot: Mutex<PodSnapshot>,
    /// The wish that it ends, if there is one.
    wish: Mutex<Option<StopWish>>,
    nudge: Notify,
    /// Whether its keeper has had a first look.
    settled: watch::Sender<bool>,
}

/// How long opening waits for shims to say how their pods are.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How long a state folder may still be locked by a host that has just ended.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A lock of plain data, whoever panicked while holding it.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Supervisor {
    /// Takes charge of the pods below a state folder: those that run are found again and not interrupted,
    /// those that lost their shim are cleaned up and go on by their restart policy.
    ///
    /// Returns when every pod has been looked at once. The tokio runtime it is called in runs the supervision;
    /// everything else may be called from any thread.
    ///
    /// # Errors
    /// When another supervisor has the folder, or it cannot be used.
    pub async fn open(
        state_folder: &Path,
        settings: Settings,
        materials: Arc<dyn Materials>,
    ) -> Result<Self, SupervisorError> {
        let trouble = |path: &Path| {
            let path = path.to_owned();
            move |source| SupervisorError::Folder { path, source }
        };
        let state_folder = std::path::absolute(state_folder).map_err(trouble(state_folder))?;
        let folder = state_folder.join("pods");
        make_private_folder(&folder).map_err(trouble(&folder))?;
        let lock_path = state_folder.join("supervisor.lock");
        let lock = File::create(&lock_path).map_err(trouble(&lock_path))?;
        let mut tries = 0;
        while let Err(refused) = lock.try_lock() {
            match refused {
                std::fs::TryLockError::Error(source) => return Err(trouble(&lock_path)(source)),
                std::fs::TryLockError::WouldBlock if tries >= LOCK_TRIES => {
                    return Err(SupervisorError::InUse(state_folder));
                }
                // One that was killed while it started a process is survived by its lock for a moment.
                std::fs::TryLockError::WouldBlock => tokio::time::sleep(LOCK_PAUSE).await,
            }
            tries += 1;
        }
        let ports_folder = state_folder.join("ports");
        let ports = PortRegistry::open(ports_folder.clone()).map_err(trouble(&ports_folder))?;
        let surroundings = Surroundings {
            inherited: settings.inherited.clone(),
            working_dir: settings.working_dir.clone(),
            ports_folder,
            names_file: names::file_in(&state_folder),
            tuning: settings.tuning.clone(),
        };
        let inner = Arc::new(Inner {
            settings,
            surroundings,
            materials,
            folder,
            ports,
            pods: Mutex::default(),
            making: Mutex::default(),
            changes: broadcast::Sender::new(1024),
            closing: CancellationToken::new(),
            keepers: TaskTracker::new(),
            runtime: Handle::current(),
            _lock: lock,
        });
        let supervisor = Self { inner };
        supervisor
            .take_up()
            .await
            .map_err(trouble(&supervisor.inner.folder))?;
        Ok(supervisor)
    }

    /// Finds the pods whose folders are there.
    async fn take_up(&self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.inner.folder)? {
            let folder = PodFolder::new(entry?.path());
            match read_json::<PodRequest>(&folder.request()) {
                Ok(Some(request)) => found.push((folder, request)),
                // Cut off while being made or removed: nothing runs in it.
                Ok(None) => drop(std::fs::remove_dir_all(folder.path())),
                Err(error) => {
                    tracing::warn!(folder = %folder.path().display(), %error, "a pod's folder cannot be read");
                }
            }
        }
        self.inner
            .ports
            .release_unless(|uid| self.inner.folder.join(uid).is_dir());
        let entries: Vec<Arc<PodEntry>> = found
            .into_iter()
            .map(|(folder, request)| self.inner.adopt(folder, request))
            .collect();
        // A shim that does not answer must not hold up all the others.
        let patience = tokio::time::Instant::now() + FIRST_LOOK;
        for entry in entries {
            let mut settled = entry.settled.subscribe();
            let _ = tokio::time::timeout_at(patience, settled.wait_for(|settled| *settled)).await;
        }
        Ok(())
    }

    /// Sees to it that a pod is there. Safe to repeat: a pod whose uid is known keeps running, and only its
    /// labels and annotations are brought up to date.
    ///
    /// A template that cannot be run is no error here: it is told in the pod's status, and tried again.
    ///
    /// # Errors
    /// When the uid cannot be used, or the pod's folder cannot be written.
    pub fn ensure_pod(&self, request: PodRequest) -> Result<(), SupervisorError> {
        let identity = &request.identity;
        if !identity.has_usable_uid() {
            return Err(SupervisorError::BadUid(identity.uid.clone()));
        }
        // Two who ask for the same pod at once must not both make it.
        let _making = hold(&self.inner.making);
        if let Some(pod) = self.inner.entry(&identity.uid) {
            return self.inner.relabel(&pod, identity);
        }
        let folder = PodFolder::new(self.inner.folder.join(&identity.uid));
        let write = || {
            make_private_folder(folder.path())?;
            write_json(&folder.request(), &request)
        };
        write().map_err(|source| SupervisorError::Folder {
            path: folder.path().to_owned(),
            source,
        })?;
        self.inner.adopt(folder, request);
        Ok(())
    }

    /// Asks a pod to end: preStop, SIGTERM, and SIGKILL after the grace (the template's, unless one is given).
    /// Asked again with a shorter grace, the shorter one holds. A uid that is not known is no error.
    ///
    /// # Errors
    /// When the wish cannot be written down. The pod has been told all the same, so that a full disk keeps none
    /// from ending; but should its shim or this process die now, it must be asked again.
    pub fn delete_pod(&self, uid: &str, grace_seconds: Option<u32>) -> Result<(), SupervisorError> {
        let Some(pod) = self.inner.entry(uid) else {
            return Ok(());
        };
        let wish = StopWish::now(grace_seconds);
        let usual = hold(&pod.request).grace_seconds();
        let path = pod.folder.stop();
        let written = {
            let mut known = hold(&pod.wish);
            let earlier = known
                .clone()
                .filter(|known| known.ends(usual) <= wish.ends(usual));
            // A folder that is gone belongs to a pod that has ended and is about to be forgotten.
            if earlier.is_some() && (path.exists() || !pod.folder.path().exists()) {
                return Ok(());
            }
            let chosen = earlier.unwrap_or(wish);
            *known = Some(chosen.clone());
            write_json(&path, &chosen)
        };
        hold(&pod.snapshot).terminating = true;
        self.inner.tell(uid, false);
        pod.nudge.notify_one();
        written.map_err(|source| SupervisorError::Folder { path, source })
    }

    /// All pods, by uid.
    pub fn list(&self) -> Vec<PodSnapshot> {
        hold(&self.inner.pods)
            .values()
            .map(|pod| hold(&pod.snapshot).clone())
            .collect()
    }

    /// One pod; `None` when nothing of it is left.
    pub fn status(&self, uid: &str) -> Option<PodSnapshot> {
        self.inner.entry(uid).map(|pod| hold(&pod.snapshot).clone())
    }

    /// Hears of every pod that changes from now on. Who falls behind (`Lagged`) lists all pods again.
    pub fn changes(&self) -> broadcast::Receiver<PodChange> {
        self.inner.changes.subscribe()
    }

    /// Reads what a container of a pod has written: `container`, or the first main one.
    ///
    /// # Errors
    /// When the pod or container is not known, has not run (or not before), or its log cannot be read.
    pub async fn logs(
        &self,
        uid: &str,
        container: Option<&str>,
        options: LogOptions,
    ) -> Result<impl Stream<Item = io::Result<LogLine>> + Send + 'static, LogError> {
        let entry = self
            .inner
            .entry(uid)
            .ok_or_else(|| LogError::NoSuchPod(uid.to_owned()))?;
        let snapshot = hold(&entry.snapshot).clone();
        let pod = snapshot.identity.name.clone();
        let status = &snapshot.status;
        let known = status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses);
        let known: Vec<String> = known.map(|container| container.name.clone()).collect();
        let wanted = container
            .map(str::to_owned)
            .or_else(|| known.first().cloned())
            .unwrap_or_default();
        if !known.contains(&wanted) {
            return Err(LogError::NoSuchContainer {
                container: wanted,
                pod,
                known,
            });
        }
        let folder = entry.folder.logs(&wanted);
        let Some(run) = logs::choose_run(&folder, options.previous) else {
            return Err(if options.previous {
                LogError::NoPrevious {
                    container: wanted,
                    pod,
                }
            } else {
                LogError::NotStarted {
                    container: wanted,
                    pod,
                    reason: snapshot.word(),
                }
            });
        };
        Ok(logs::read(folder, run, options).await?)
    }

    /// Says where Services are found on this machine, for probes and hooks that name one as their host and for URLs
    /// that containers are told. Replaces what was said before.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn set_names(&self, known: &KnownNames) -> Result<(), SupervisorError> {
        let path = &self.inner.surroundings.names_file;
        names::write(path, known).map_err(|source| SupervisorError::Folder {
            path: path.clone(),
            source,
        })
    }

    /// Stops supervising, and waits until the folder may be opened again. The pods go on.
    pub async fn close(self) {
        self.inner.closing.cancel();
        self.inner.keepers.close();
        self.inner.keepers.wait().await;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.inner.closing.cancel();
    }
}

impl Inner {
    fn entry(&self, uid: &str) -> Option<Arc<PodEntry>> {
        hold(&self.pods).get(uid).cloned()
    }

    /// Takes a pod into the list and gives it its keeper.
    fn adopt(self: &Arc<Self>, folder: PodFolder, request: PodRequest) -> Arc<PodEntry> {
        let uid = request.identity.uid.clone();
        // A file that cannot be read is a wish all the same: nobody writes it who wants the pod to stay.
        let wish = folder.stop().exists().then(|| {
            let written = read_json(&folder.stop()).ok().flatten();
            written.unwrap_or_else(|| StopWish::now(None))
        });
        let entry = Arc::new(PodEntry {
            snapshot: Mutex::new(PodSnapshot {
                identity: request.identity.clone(),
                status: untouched(&request.template, &[], &PodStatus::default()),
                ports: Vec::new(),
                warnings: Vec::new(),
                events: Vec::new(),
                terminating: wish.is_some(),
                shim_pid: None,
            }),
            folder,
            request: Mutex::new(request),
            wish: Mutex::new(wish),
            nudge: Notify::new(),
            settled: watch::Sender::new(false),
        });
        let state = read_state(&entry);
        if !state.containers.is_empty() {
            hold(&entry.snapshot).fill(&state);
        }
        hold(&self.pods).insert(uid.clone(), Arc::clone(&entry));
        self.tell(&uid, false);
        let (inner, pod) = (Arc::clone(self), Arc::clone(&entry));
        let keeper = async move {
            let closing = inner.closing.clone();
            tokio::select! {
                () = keep(inner, pod) => {}
                () = closing.cancelled() => {}
            }
        };
        self.keepers.spawn_on(keeper, &self.runtime);
        entry
    }

    fn relabel(&self, pod: &PodEntry, identity: &PodIdentity) -> Result<(), SupervisorError> {
        {
            let mut request = hold(&pod.request);
            if request.identity == *identity {
                return Ok(());
            }
            request.identity.labels.clone_from(&identity.labels);
            request
                .identity
                .annotations
                .clone_from(&identity.annotations);
            let path = pod.folder.request();
            write_json(&path, &*request)
                .map_err(|source| SupervisorError::Folder { path, source })?;
            hold(&pod.snapshot).identity = request.identity.clone();
        }
        self.tell(&identity.uid, false);
        Ok(())
    }

    /// Makes known what a shim said of its pod.
    pub(super) fn publish(&self, pod: &PodEntry, state: &PodState) {
        let uid = {
            let mut snapshot = hold(&pod.snapshot);
            let before = snapshot.clone();
            snapshot.fill(state);
            if *snapshot == before {
                return;
            }
            snapshot.identity.uid.clone()
        };
        self.tell(&uid, false);
    }

    /// Makes known why a pod cannot be started.
    pub(super) fn publish_faults(&self, pod: &PodEntry, faults: &[Fault]) {
        let template = hold(&pod.request).template.clone();
        let before = hold(&pod.snapshot).status.clone();
        let mut state = PodState {
            status: untouched(&template, faults, &before),
            ..PodState::default()
        };
        state.events.clone_from(&hold(&pod.snapshot).events);
        for fault in faults {
            let known = state
                .events
                .iter()
                .any(|event| event.message == fault.message);
            if !known {
                // As the kubelet words its Events; the container's state has the finer reason.
                let reason = match fault.reason {
                    SANDBOX_ERROR => "FailedCreatePodSandBox",
                    _ => "Failed",
                };
                state.note(true, reason, fault.message.clone(), Timestamp::now());
            }
        }
        self.publish(pod, &state);
    }

    fn tell(&self, uid: &str, gone: bool) {
        // An error only says that nobody listens.
        let _ = self.changes.send(PodChange {
            uid: uid.to_owned(),
            gone,
        });
    }

    /// Nothing of the pod is left.
    pub(super) fn forget(&self, pod: &PodEntry) {
        let uid = hold(&pod.snapshot).identity.uid.clone();
        self.ports.release_owned(&uid);
        hold(&self.pods).remove(&uid);
        self.tell(&uid, true);
    }
}

impl PodSnapshot {
    fn fill(&mut self, state: &PodState) {
        self.status.clone_from(&state.status);
        self.ports.clone_from(&state.ports);
        self.events.clone_from(&state.events);
        self.shim_pid = state
            .shim
            .as_ref()
            .filter(|_| !state.over)
            .map(|shim| shim.pid);
    }
}

impl PodEntry {
    pub(super) fn wish(&self) -> Option<StopWish> {
        hold(&self.wish).clone()
    }

    pub(super) fn is_ending(&self) -> bool {
        hold(&self.wish).is_some()
    }

    pub(super) fn request(&self) -> PodRequest {
        hold(&self.request).clone()
    }

    pub(super) fn set_warnings(&self, warnings: &[String]) {
        warnings.clone_into(&mut hold(&self.snapshot).warnings);
    }

    pub(super) fn settle(&self) {
        self.settled.send_replace(true);
    }

    /// Returns when somebody wants the keeper to look again.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }
}

/// The status of a pod of which nothing has been started: what the template names, and what keeps it from
/// starting.
fn untouched(template: &Value, faults: &[Fault], before: &PodStatus) -> PodStatus {
    let text = |container: &Value, key: &str| {
        container
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut containers: Vec<(Role, ContainerStatus)> = Vec::new();
    for (kind, role) in [("initContainers", Role::Init), ("containers", Role::Main)] {
        let written = template
            .pointer(&format!("/spec/{kind}"))
            .and_then(Value::as_array);
        for container in written.into_iter().flatten() {
            let name = text(container, "name");
            let fault = faults
                .iter()
                .find(|fault| fault.container.as_ref().is_none_or(|about| *about == name));
            let (reason, message) = fault.map_or(("ContainerCreating", ""), |fault| {
                (fault.reason, fault.message.as_str())
            });
            containers.push((
                role,
                ContainerStatus::waiting(&name, &text(container, "image"), reason, message),
            ));
        }
    }
    let facts: Vec<Fact<'_>> = containers
        .iter()
        .map(|(role, status)| Fact {
            role: *role,
            status,
        })
        .collect();
    let pod = PodFacts {
        start_time: before.start_time.or_else(|| Some(Timestamp::now())),
        ..PodFacts::default()
    };
    summarise(&pod, &facts, before, Timestamp::now())
}
