//! The side of the data plane that takes commands: puts configurations in force, opens and closes listeners, drains
//! pods, reads counters, and keeps the last configuration on disk.
//!
//! Nothing here is in the way of a request. A control plane may come, go and die; what it said last stays in force.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{SocketAddr, TcpListener as StdListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    runtime::Handle,
    sync::{Mutex, mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    Limits,
    config::ProxyConfig,
    pods::Pod,
    shared::Shared,
    state::Saved,
    stats::{BUCKETS, ListenerStats, PodStats, Stats},
    table::Maker,
    wire::{Answer, Applied, Busy, Command, Drained, Listening, Numbered},
    worker::{Door, bind, is_free},
};

/// How often idle connections are looked through and listeners that failed are tried again.
const UPKEEP: Duration = Duration::from_millis(500);
/// An address that somebody else had is taken when it has been free for this long: a data plane that was killed is back within
/// a second, on a busy machine within two.
const GIVEN_UP: Duration = Duration::from_secs(3);

/// The control side.
pub(super) struct Control {
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
    /// What is to be kept on disk.
    keep: watch::Sender<Option<Arc<Saved>>>,
    started: f64,
}

struct Inner {
    maker: Maker,
    config: ProxyConfig,
    open: HashMap<String, OpenListener>,
    failed: BTreeMap<String, Failed>,
    /// Where listeners that may take any port listened last.
    ports: BTreeMap<String, SocketAddr>,
}

/// A listener that does not listen.
struct Failed {
    address: SocketAddr,
    why: String,
    /// Since when nobody has had the address, as far as was looked.
    free_since: Option<Instant>,
}

impl Failed {
    /// The address has been free for long enough to be nobody's.
    fn is_given_up(&self) -> bool {
        self.free_since
            .is_some_and(|since| since.elapsed() >= GIVEN_UP)
    }
}

struct OpenListener {
    wanted: SocketAddr,
    bound: SocketAddr,
    connections: Arc<AtomicUsize>,
    closing: CancellationToken,
    doors: Vec<JoinHandle<()>>,
}

impl Control {
    pub(super) fn new(
        workers: Vec<Handle>,
        keep: watch::Sender<Option<Arc<Saved>>>,
        limits: Limits,
    ) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let count = workers.len();
        Self {
            shared: Arc::new(Shared::new(limits, workers)),
            inner: Mutex::new(Inner {
                maker: Maker::new(count),
                config: ProxyConfig::default(),
                open: HashMap::new(),
                failed: BTreeMap::new(),
                ports: BTreeMap::new(),
            }),
            keep,
            started: now.as_secs_f64(),
        }
    }

    /// Goes on where an earlier process stopped.
    pub(super) async fn restore(&self, saved: Saved) -> Result<Applied, String> {
        self.inner.lock().await.ports = saved.ports;
        self.apply(saved.config).await
    }

    /// Puts a configuration in force, whole, or says what is wrong with it and changes nothing.
    pub(super) async fn apply(&self, config: ProxyConfig) -> Result<Applied, String> {
        let faults = config.check();
        if !faults.is_empty() {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return Err(faults.join("; "));
        }
        let mut inner = self.inner.lock().await;
        let before = self.shared.table();
        let table = inner.maker.make(&config, &before);
        self.shared.set(table);
        // Only now: a pod must not be taken away while requests are still sent to it by the old rules.
        inner.maker.retire();
        inner.config = config;
        let closing = inner.surplus();
        for mut listener in closing {
            listener.closing.cancel();
            for door in listener.doors.drain(..) {
                let _ = door.await;
            }
        }
        self.open(&mut inner);
        let applied = Applied {
            revision: inner.config.revision,
            listeners: inner.listening(),
        };
        self.keep.send_replace(Some(Arc::new(Saved {
            config: inner.config.clone(),
            ports: inner.ports.clone(),
        })));
        Ok(applied)
    }

    /// Opens what is wanted and not open.
    fn open(&self, inner: &mut Inner) {
        let Inner {
            config,
            open,
            failed,
            ports,
            ..
        } = inner;
        let table = self.shared.table();
        let mut before = std::mem::take(failed);
        ports.retain(|name, _| {
            config
                .listeners
                .iter()
                .any(|listener| listener.name == *name)
        });
        for listener in &config.listeners {
            let Some(rules) = table.listeners.get(&listener.name) else {
                continue;
            };
            if open.contains_key(&listener.name) {
                continue;
            }
            // The port that it had in an earlier life, if it may have any.
            let earlier = ports.get(&listener.name).filter(|earlier| {
                listener.address.port() == 0 && earlier.ip() == listener.address.ip()
            });
            let address = *earlier.unwrap_or(&listener.address);
            // An address that has just become free may belong to a host whose data plane was killed and comes back.
            let waits = before
                .remove(&listener.name)
                .filter(|failed| failed.address == address && !failed.is_given_up());
            if let Some(waits) = waits {
                failed.insert(listener.name.clone(), waits);
                continue;
            }
            let (bound, sockets) = match bind(address, self.shared.workers.len()) {
                Ok(opened) => opened,
                Err(error) => {
                    let why = format!("cannot listen on {address}: {error}");
                    let waits = Failed {
                        address,
                        why,
                        free_since: None,
                    };
                    failed.insert(listener.name.clone(), waits);
                    continue;
                }
            };
            if listener.address.port() == 0 {
                ports.insert(listener.name.clone(), bound);
            }
            let opened = self.doors(&listener.name, listener.address, bound, rules, sockets);
            open.insert(listener.name.clone(), opened);
        }
    }

    fn doors(
        &self,
        name: &str,
        wanted: SocketAddr,
        bound: SocketAddr,
        rules: &Arc<super::table::Listener>,
        sockets: Vec<StdListener>,
    ) -> OpenListener {
        let connections = Arc::new(AtomicUsize::new(0));
        let closing = CancellationToken::new();
        let name: Arc<str> = name.into();
        let doors = self
            .shared
            .workers
            .iter()
            .zip(sockets)
            .enumerate()
            .map(|(worker, (load, socket))| {
                let door = Door {
                    shared: Arc::clone(&self.shared),
                    worker,
                    name: Arc::clone(&name),
                    rules: Arc::clone(rules),
                    connections: Arc::clone(&connections),
                    closing: closing.clone(),
                };
                load.handle.spawn(door.open(socket))
            })
            .collect();
        OpenListener {
            wanted,
            bound,
            connections,
            closing,
            doors,
        }
    }

    async fn drain(&self, names: &[String], limit: Duration) -> Drained {
        let pods: Vec<_> = {
            let mut inner = self.inner.lock().await;
            inner
                .maker
                .pods()
                .filter(|pod| names.contains(&pod.key.name))
                .map(Arc::clone)
                .collect()
        };
        for pod in &pods {
            pod.drain();
        }
        let all = async {
            for pod in &pods {
                pod.ended().await;
            }
        };
        // Whoever is not finished when the time is up is named.
        let _ = tokio::time::timeout(limit, all).await;
        let busy = pods
            .iter()
            .filter(|pod| pod.in_flight() > 0)
            .map(|pod| Busy {
                pod: pod.key.name.clone(),
                in_flight: pod.in_flight(),
            })
            .collect();
        Drained { busy }
    }

    async fn stats(&self) -> Stats {
        let mut inner = self.inner.lock().await;
        let mut pods: Vec<PodStats> = inner
            .maker
            .pods()
            .map(|pod| PodStats {
                pod: pod.key.name.clone(),
                addr: pod.key.addr,
                in_flight: pod.in_flight(),
                draining: pod.is_draining(),
                ejected: pod.is_ejected(),
                ejections: pod.ejections(),
                retries: pod.retries(),
            })
            .collect();
        pods.sort_by(|a, b| (&a.pod, a.addr).cmp(&(&b.pod, b.addr)));
        let mut listeners: Vec<ListenerStats> = inner
            .open
            .iter()
            .map(|(name, listener)| ListenerStats {
                name: name.clone(),
                addr: listener.bound,
                connections: listener.connections.load(Ordering::Relaxed),
            })
            .collect();
        listeners.sort_by(|a, b| a.name.cmp(&b.name));
        Stats {
            started: self.started,
            revision: inner.config.revision,
            bounds: BUCKETS.to_vec(),
            series: inner.maker.tallies.read(),
            pods,
            listeners,
            mirrored: self.shared.mirrored.load(Ordering::Relaxed),
            mirrors_dropped: self.shared.mirrors_dropped.load(Ordering::Relaxed),
        }
    }

    /// Closes idle connections and tries failed listeners again, for ever.
    pub(super) async fn upkeep(&self) {
        let mut tick = tokio::time::interval(UPKEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let mut inner = self.inner.lock().await;
            for (number, worker) in self.shared.workers.iter().enumerate() {
                let pods: Vec<Arc<Pod>> = inner.maker.pods().map(Arc::clone).collect();
                worker.handle.spawn(async move {
                    for pod in pods {
                        pod.sweep(number);
                    }
                });
            }
            if !inner.failed.is_empty() {
                self.open(&mut inner);
            }
            for failed in inner.failed.values_mut() {
                failed.free_since =
                    is_free(failed.address).then(|| failed.free_since.unwrap_or_else(Instant::now));
            }
        }
    }

    /// Closes all listeners and waits for the connections, but not longer than this.
    pub(super) async fn close(&self, grace: Duration) {
        let open: Vec<OpenListener> = self
            .inner
            .lock()
            .await
            .open
            .drain()
            .map(|(_, open)| open)
            .collect();
        let ended = async {
            for listener in open {
                listener.closing.cancel();
                for door in listener.doors {
                    let _ = door.await;
                }
                while listener.connections.load(Ordering::Acquire) > 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        // Whatever is left is cut off; the caller was told the limit.
        let _ = tokio::time::timeout(grace, ended).await;
    }

    async fn obey(&self, command: Command) -> Answer {
        match command {
            Command::Apply { config } => match self.apply(config).await {
                Ok(applied) => Answer::Applied(applied),
                Err(faults) => Answer::Error(faults),
            },
            Command::Drain { pods, timeout_ms } => {
                Answer::Drained(self.drain(&pods, Duration::from_millis(timeout_ms)).await)
            }
            Command::Stats => Answer::Stats(Box::new(self.stats().await)),
        }
    }
}

impl Inner {
    /// Listeners that are open and no longer wanted, or wanted elsewhere.
    fn surplus(&mut self) -> Vec<OpenListener> {
        let wanted: HashMap<&str, SocketAddr> = self
            .config
            .listeners
            .iter()
            .map(|l| (l.name.as_str(), l.address))
            .collect();
        self.open
            .extract_if(|name, open| wanted.get(name.as_str()) != Some(&open.wanted))
            .map(|(_, open)| open)
            .collect()
    }

    fn listening(&self) -> Vec<Listening> {
        self.config
            .listeners
            .iter()
            .map(|listener| Listening {
                name: listener.name.clone(),
                addr: self.open.get(&listener.name).map(|open| open.bound),
                error: self
                    .failed
                    .get(&listener.name)
                    .map(|failed| failed.why.clone()),
            })
            .collect()
    }
}

/// Listens for control planes on a socket that only its owner can use.
pub(super) fn socket(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    // Made under another name, so that it is never seen with wider rights.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    match std::fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(fresh)?;
    std::fs::set_permissions(fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(fresh, path)?;
    Ok(listener)
}

/// Serves control planes; their connections end with it.
pub(super) async fn listen(control: Arc<Control>, listener: UnixListener) {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    conversations.spawn(converse(Arc::clone(&control), stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection of the control plane");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = conversations.join_next() => {}
        }
    }
}

async fn converse(control: Arc<Control>, stream: UnixStream) {
    let (read, mut write) = stream.into_split();
    let (answers, mut to_write) = mpsc::unbounded_channel::<Numbered<Answer>>();
    tokio::spawn(async move {
        while let Some(answer) = to_write.recv().await {
            let Ok(mut line) = serde_json::to_vec(&answer) else {
                continue;
            };
            line.push(b'\n');
            if write.write_all(&line).await.is_err() {
                return;
            }
        }
    });
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str::<Numbered<Command>>(&line) {
            Ok(Numbered {
                id,
                what: command @ Command::Drain { .. },
            }) => {
                let (control, answers) = (Arc::clone(&control), answers.clone());
                tokio::spawn(async move {
                    let what = control.obey(command).await;
                    let _ = answers.send(Numbered { id, what });
                });
            }
            // In the order in which they came: the last configuration wins.
            Ok(Numbered { id, what }) => {
                let what = control.obey(what).await;
                let _ = answers.send(Numbered { id, what });
            }
            Err(error) => {
                let id = serde_json::from_str::<Id>(&line).map_or(0, |line| line.id);
                let _ = answers.send(Numbered {
                    id,
                    what: Answer::Error(error.to_string()),
                });
            }
        }
    }
}

#[derive(serde::Deserialize)]
struct Id {
    id: u64,
}
