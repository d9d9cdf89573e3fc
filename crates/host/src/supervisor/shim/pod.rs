//! The life of the pod: init containers in their order, sidecars beside, then the main ones, and the end of all.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::folder::{PodFolder, read_json};
use super::super::keeper::StopWish;
use super::super::plan::{LocalPort, PodPlan, PortPlan, marks};
use super::super::ports::PortRegistry;
use super::super::procfs::{ProcessId, Stat, carries, descendants, kill_all};
use super::super::status::{ContainerState, Role};
use super::board::Board;
use super::container::{StopOrder, live};
use super::reaper::Reaper;
use super::serve::serve;

/// What every part of the shim works on.
pub(super) struct Pod {
    pub(super) plan: Rc<PodPlan>,
    pub(super) folder: PodFolder,
    pub(super) board: Board,
    pub(super) reaper: Reaper,
    pub(super) ports: PortRegistry,
    /// Set when all is done but the last words.
    pub(super) closing: CancellationToken,
    /// The wish for the end that was told and not only written down.
    told: RefCell<Option<StopWish>>,
    /// Somebody has a wish.
    nudge: Notify,
    http: OnceCell<reqwest::Client>,
}

impl Pod {
    pub(super) fn new(
        plan: Rc<PodPlan>,
        folder: PodFolder,
        board: Board,
        reaper: Reaper,
        ports: PortRegistry,
    ) -> Self {
        Self {
            plan,
            folder,
            board,
            reaper,
            ports,
            closing: CancellationToken::new(),
            told: RefCell::default(),
            nudge: Notify::new(),
            http: OnceCell::new(),
        }
    }

    pub(super) fn container_name(&self, index: usize) -> String {
        self.plan
            .containers
            .get(index)
            .map(|container| container.name.clone())
            .unwrap_or_default()
    }

    /// The client of probes and hooks: no proxy, no certificate checked, no connection kept, as the kubelet's.
    pub(super) fn http_client(&self) -> Result<&reqwest::Client, String> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        // Fails when it is installed already, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let same_host = reqwest::redirect::Policy::custom(|attempt| {
            let first = attempt
                .previous()
                .first()
                .and_then(|url| url.host_str().map(str::to_owned));
            // To another host: the answer itself, a 3xx, counts as a success.
            if first.as_deref() == attempt.url().host_str() && attempt.previous().len() < 10 {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let client = reqwest::Client::builder()
            .user_agent(concat!("crossfade-probe/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .http1_only()
            .redirect(same_host)
            .pool_max_idle_per_host(0)
            .tls_danger_accept_invalid_certs(true)
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(self.http.get_or_init(|| client))
    }

    /// Records the local port that stands for a container's port from now on.
    pub(super) fn hold(&self, container: &str, port: &PortPlan, local_port: u16) {
        let held = LocalPort {
            container: container.to_owned(),
            name: port.name.clone(),
            container_port: port.container_port,
            protocol: port.protocol,
            local_port,
        };
        self.board.change(|state| {
            let same = |old: &LocalPort| {
                old.container == held.container
                    && old.container_port == held.container_port
                    && old.protocol == held.protocol
            };
            match state.ports.iter_mut().find(|old| same(old)) {
                Some(old) => {
                    self.ports.release(old.local_port);
                    *old = held;
                }
                None => state.ports.push(held),
            }
        });
    }

    fn is_abandoned(&self) -> bool {
        matches!(self.folder.path().try_exists(), Ok(false))
    }

    /// Hears the wish that the pod ends.
    pub(super) fn wish(&self, wish: StopWish) {
        *self.told.borrow_mut() = Some(wish);
        self.nudge.notify_one();
    }

    /// The moment until which the containers may take their time to end, if the pod shall end.
    fn wished_end(&self) -> Option<Instant> {
        let usual = self.plan.grace_seconds;
        // A file that cannot be read says nothing: the wish comes again.
        let written: Option<StopWish> = read_json(&self.folder.stop()).ok().flatten();
        let removed = self.is_abandoned().then(|| StopWish::now(None));
        let wishes = [written, self.told.borrow().clone(), removed];
        let soonest = wishes
            .into_iter()
            .flatten()
            .min_by_key(|wish| wish.ends(usual))?;
        let grace = self
            .plan
            .tuning
            .seconds(soonest.grace_seconds.unwrap_or(usual));
        let passed = Timestamp::now().duration_since(soonest.asked_at);
        Some(Instant::now() + grace.saturating_sub(Duration::try_from(passed).unwrap_or_default()))
    }
}

/// Runs the pod to its end, after ending what an earlier shim left: `left`, and all that carries the pod's mark.
pub(super) async fn run(
    pod: Rc<Pod>,
    listener: UnixListener,
    ended: SignalStream,
    left: Vec<ProcessId>,
) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Started, not raced: what is spawned goes on while the life below waits.
    let reaping = tokio::task::spawn_local({
        let pod = Rc::clone(&pod);
        async move { pod.reaper.run(ended).await }
    });
    let serving = tokio::task::spawn_local(serve(Rc::clone(&pod), listener));
    sweep_marked(&pod, &left).await;

    let orders = watch::Sender::new(None);
    let mut look = tokio::time::interval(pod.plan.tuning.seconds(10));
    let wishes = async {
        loop {
            tokio::select! {
                () = pod.nudge.notified() => {}
                // A folder that somebody removed is a wish too: nobody could ever find this pod again.
                _ = look.tick() => if !pod.is_abandoned() { continue },
                _ = terminate.recv() => { shut_down(&pod, &orders); continue; }
                _ = interrupt.recv() => { shut_down(&pod, &orders); continue; }
            }
            look_for_wish(&pod, &orders);
        }
    };
    look_for_wish(&pod, &orders);
    let ran_out = tokio::select! {
        ran_out = life(&pod, &orders) => ran_out,
        () = wishes => false,
    };
    sweep_below(&pod).await;
    if ran_out || pod.board.read(|state| state.ending) {
        pod.board.change(|state| state.over = true);
        // What is not written would be done again after a crash, and a full disk may have room in a moment.
        // A pod that was asked to end needs no record: its folder goes next, which may be what makes the room.
        while !pod.board.read(|state| state.ending) && !pod.board.save() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = pod.nudge.notified() => {}
            }
            if pod.wished_end().is_some() {
                pod.board.change(|state| state.ending = true);
            }
        }
    }
    pod.closing.cancel();
    let _ = serving.await;
    reaping.abort();
    Ok(())
}

/// Gives the order to end when the control plane wishes it.
fn look_for_wish(pod: &Pod, orders: &watch::Sender<Option<StopOrder>>) {
    if let Some(deadline) = pod.wished_end() {
        if !pod.board.read(|state| state.ending) {
            pod.board.change(|state| state.ending = true);
            for (index, _) in pod.plan.containers.iter().enumerate() {
                if pod
                    .board
                    .container(index, |record| record.process.is_some())
                    == Some(true)
                {
                    pod.board.note(
                        false,
                        "Killing",
                        format!("Stopping container {}", pod.container_name(index)),
                    );
                }
            }
        }
        orders.send_replace(Some(StopOrder { deadline }));
    }
}

/// This machine shuts down, or somebody ends the shim by hand: the containers end in peace, and are started
/// again when the control plane finds the pod without a shim.
fn shut_down(pod: &Pod, orders: &watch::Sender<Option<StopOrder>>) {
    let deadline = Instant::now() + pod.plan.tuning.seconds(pod.plan.grace_seconds);
    orders.send_if_modified(|order| {
        let first = order.is_none();
        if first {
            *order = Some(StopOrder { deadline });
        }
        first
    });
}

/// Kills what an earlier shim of this pod left.
async fn sweep_marked(pod: &Pod, left: &[ProcessId]) {
    let marks = marks(pod.folder.path(), None);
    let left: Vec<&ProcessId> = left.iter().filter(|process| process.is_alive()).collect();
    kill_all(|processes| {
        let doomed = |process: &&Stat| {
            left.iter()
                .any(|old| old.pid == process.pid && old.start_ticks == process.start_ticks)
                || carries(process.pid, &marks)
        };
        processes.iter().filter(doomed).copied().collect()
    })
    .await;
}

/// Kills everything below this shim.
async fn sweep_below(pod: &Pod) {
    let own = std::process::id();
    let killed = kill_all(|processes| {
        let below = descendants(processes, own);
        processes
            .iter()
            .filter(|process| below.contains(&process.pid))
            .copied()
            .collect()
    })
    .await;
    if killed > 0 {
        pod.board.note(
            true,
            "Killing",
            format!("Killed {killed} processes that containers had left behind"),
        );
    }
}

/// One container's task: how to order it to stop, and whether it has.
struct Running {
    orders: watch::Sender<Option<StopOrder>>,
    done: watch::Receiver<bool>,
}

impl Running {
    fn begin(pod: &Rc<Pod>, index: usize) -> Self {
        let (orders, order) = watch::channel(None);
        let (sender, done) = watch::channel(false);
        let pod = Rc::clone(pod);
        tokio::task::spawn_local(async move {
            live(pod, index, order).await;
            sender.send_replace(true);
        });
        Self { orders, done }
    }

    async fn done(&self) {
        // An error means that the task is gone, which is done as well.
        let _ = self.done.clone().wait_for(|done| *done).await;
    }
}

/// How the life of a pod's containers came to an end.
enum Went {
    ToItsEnd,
    Overdue,
    Ordered,
}

/// Runs the containers; `true` when they came to an end by themselves, or by the pod's deadline.
async fn life(pod: &Rc<Pod>, orders: &watch::Sender<Option<StopOrder>>) -> bool {
    let mut order = orders.subscribe();
    let mut sidecars = Vec::new();
    let mut others = Vec::new();
    let went = tokio::select! {
        biased;
        _ = order.wait_for(Option::is_some) => Went::Ordered,
        () = deadline(pod) => Went::Overdue,
        () = bring_up(pod, &mut sidecars, &mut others) => Went::ToItsEnd,
    };
    if matches!(went, Went::Overdue) {
        let text = "Pod was active on the node longer than the specified deadline".to_owned();
        pod.board
            .change(|state| state.failure = Some(("DeadlineExceeded".to_owned(), text)));
    }
    // From here on all end, within the pod's grace unless a wish says otherwise.
    shut_down(pod, orders);
    take_down(&others, orders.subscribe()).await;
    // Last begun, first ended: each may lean on those before it.
    for sidecar in sidecars.iter().rev() {
        take_down(std::slice::from_ref(sidecar), orders.subscribe()).await;
    }
    !matches!(went, Went::Ordered)
}

/// Starts the containers in their order; returns when all main ones have ended for good, or an init container has failed
/// for good.
async fn bring_up(pod: &Rc<Pod>, sidecars: &mut Vec<Running>, others: &mut Vec<Running>) {
    for (index, container) in pod.plan.containers.iter().enumerate() {
        match container.role {
            Role::Init => {
                if pod
                    .board
                    .container(index, |record| succeeded(&record.status.state))
                    != Some(true)
                {
                    pod.board.change_container(index, |record| {
                        if let ContainerState::Waiting { reason, .. } = &mut record.status.state {
                            "ContainerCreating".clone_into(reason);
                        }
                    });
                    others.push(Running::begin(pod, index));
                    if let Some(init) = others.last() {
                        init.done().await;
                    }
                    others.pop();
                    if pod
                        .board
                        .container(index, |record| succeeded(&record.status.state))
                        != Some(true)
                    {
                        return;
                    }
                }
            }
            Role::Sidecar => {
                sidecars.push(Running::begin(pod, index));
                let mut changes = pod.board.subscribe();
                while pod.board.container(index, |record| record.status.started) == Some(false) {
                    let _ = changes.changed().await;
                }
            }
            Role::Main => others.push(Running::begin(pod, index)),
        }
    }
    for running in others.iter() {
        running.done().await;
    }
}

fn succeeded(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Terminated(end) if end.exit_code == 0)
}

/// Returns when the pod has been active longer than it may.
async fn deadline(pod: &Pod) {
    let (Some(seconds), Some(start)) = (
        pod.plan.active_deadline_seconds,
        pod.board.read(|state| state.status.start_time),
    ) else {
        return std::future::pending().await;
    };
    let passed = Duration::try_from(Timestamp::now().duration_since(start)).unwrap_or_default();
    tokio::time::sleep(pod.plan.tuning.seconds(seconds).saturating_sub(passed)).await;
}

/// Orders containers to stop and waits until they have; a changed order reaches them too.
async fn take_down(running: &[Running], mut order: watch::Receiver<Option<StopOrder>>) {
    loop {
        let now = *order.borrow_and_update();
        for container in running {
            container.orders.send_replace(now);
        }
        let all_done = async {
            for container in running {
                container.done().await;
            }
        };
        tokio::select! {
            () = all_done => return,
            Ok(()) = order.changed() => {}
        }
    }
}
