//! The life of one container: start, watch, end, and start again by the restart policy.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::logs::Output;
use super::super::names::Names;
use super::super::plan::{Hook, LocalPort, Rendered, marks, render};
use super::super::ports::is_free;
use super::super::procfs::{ProcessId, Stat, carries, descendants, kill_all};
use super::super::status::{ContainerState, ContainerStatus, RestartPolicy, Role, Termination};
use super::exec::{self, Ran};
use super::output::{RunLog, pump};
use super::pod::Pod;
use super::probe;
use super::reaper::{Exit, Leader};

/// The order that a container ends, and by when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StopOrder {
    pub(super) deadline: Instant,
}

/// How a container hears of it. A second order may bring the deadline nearer.
pub(super) type Orders = watch::Receiver<Option<StopOrder>>;

/// Keeps a container going until it is not to be started again, or is ordered to stop.
pub(super) async fn live(pod: Rc<Pod>, index: usize, mut orders: Orders) {
    let mut in_a_row = 0;
    loop {
        if orders.borrow().is_some() {
            return;
        }
        match pod
            .board
            .container(index, |record| record.status.state.clone())
        {
            Some(ContainerState::Terminated(end)) if may_run_again(&pod, index, &end) => {
                // A port that a stranger took is not the container's fault: another one, and no waiting.
                let moved = end.exit_code != 0
                    && in_a_row < MOST_MOVES
                    && pod.move_taken_ports(index).unwrap_or_default();
                in_a_row = if moved { in_a_row + 1 } else { 0 };
                if !moved && wait_to_restart(&pod, index, &end, &mut orders).await {
                    return;
                }
            }
            None | Some(ContainerState::Terminated(_)) => return,
            Some(ContainerState::Waiting { .. } | ContainerState::Running { .. }) => {}
        }
        let end = run_once(&pod, index, &mut orders).await;
        pod.board.change_container(index, |record| {
            record.process = None;
            // As in Kubernetes: an init container that did its work counts as ready from then on.
            record.status.ready = record.role == Role::Init && end.exit_code == 0;
            record.status.started = false;
            record.status.state = ContainerState::Terminated(end);
        });
    }
}

/// How often in a row a container is started again at once because of its port.
const MOST_MOVES: u32 = 5;

fn may_run_again(pod: &Pod, index: usize, end: &Termination) -> bool {
    let role = pod
        .plan
        .containers
        .get(index)
        .map_or(Role::Main, |container| container.role);
    match (role, pod.plan.restart_policy) {
        (Role::Sidecar, _) => true,
        (Role::Init, policy) => end.exit_code != 0 && policy != RestartPolicy::Never,
        (Role::Main, RestartPolicy::Always) => true,
        (Role::Main, RestartPolicy::OnFailure) => end.exit_code != 0,
        (Role::Main, RestartPolicy::Never) => false,
    }
}

/// Waits as long as the back-off says; `true` when the container has been ordered to stop meanwhile.
async fn wait_to_restart(pod: &Pod, index: usize, end: &Termination, orders: &mut Orders) -> bool {
    let mut wait = Duration::ZERO;
    pod.board.change_container(index, |record| {
        wait = record.back_off.next(end.finished_at, &pod.plan.tuning);
    });
    if wait.is_zero() {
        return false;
    }
    let (name, identity) = (pod.container_name(index), &pod.plan.identity);
    let message = format!(
        "back-off {wait:?} restarting failed container={name} pod={}_{}",
        identity.name, identity.namespace
    );
    pod.board.change(|state| {
        if let Some(record) = state.containers.get_mut(index) {
            record.status.last_state = Some(ContainerState::Terminated(end.clone()));
            record.status.state = ContainerState::Waiting {
                reason: "CrashLoopBackOff".to_owned(),
                message: message.clone(),
            };
        }
        let text = format!(
            "Back-off restarting failed container {name} in pod {}_{}",
            identity.name, identity.namespace
        );
        state.note(true, "BackOff", text, Timestamp::now());
    });
    let since = Timestamp::now().duration_since(end.finished_at);
    let left = wait.saturating_sub(Duration::try_from(since).unwrap_or_default());
    tokio::select! {
        () = tokio::time::sleep(left) => false,
        _ = ordered(orders) => true,
    }
}

/// The order to stop, once there is one.
async fn ordered(orders: &mut Orders) -> StopOrder {
    match orders.wait_for(Option::is_some).await {
        Ok(order) => order.unwrap_or(StopOrder {
            deadline: Instant::now(),
        }),
        Err(_) => std::future::pending().await,
    }
}

/// One run, from start to end, leftovers and last output included.
async fn run_once(pod: &Rc<Pod>, index: usize, orders: &mut Orders) -> Termination {
    let Some(container) = pod.plan.containers.get(index) else {
        return std::future::pending().await;
    };
    let ports_held = pod.move_taken_ports(index);
    let ports: Vec<LocalPort> = pod.board.read(|state| state.ports.clone());
    let services = Names::read(
        &pod.plan.names_file,
        &pod.plan.identity.namespace,
        &pod.plan.host_aliases,
    );
    let around = render(pod.folder.path(), container, &ports, &services);
    let started_at = Timestamp::now();

    let run = pod
        .board
        .container(index, |record| next_run(&record.status))
        .unwrap_or_default();
    let log = RunLog::begin(pod.folder.logs(&container.name), run, &pod.plan.tuning);
    let launched = match (&log, ports_held) {
        (Ok(_), Ok(_)) => exec::start(&pod.reaper, &around.command, &around),
        (Err(error), _) => Err(format!("its log cannot be written: {error}")),
        (_, Err(error)) => Err(error),
    };
    let (started, log) = match (launched, log) {
        (Ok(started), Ok(log)) => (started, Rc::new(RefCell::new(log))),
        (failed, log) => {
            let message = failed.err().unwrap_or_default();
            if let Ok(log) = log {
                log.finish();
            }
            pod.board.change(|state| {
                if let Some(record) = state.containers.get_mut(index) {
                    count_run(&mut record.status, run);
                }
                state.note(
                    true,
                    "Failed",
                    format!("Error: container {}: {message}", container.name),
                    Timestamp::now(),
                );
            });
            return Termination {
                exit_code: 128,
                signal: None,
                reason: "StartError".to_owned(),
                message,
                started_at: None,
                finished_at: Timestamp::now(),
            };
        }
    };
    let leader = started.leader;
    pod.board.change(|state| {
        if let Some(record) = state.containers.get_mut(index) {
            count_run(&mut record.status, run);
            record.process = ProcessId::of(leader.pid.as_raw_nonzero().get().unsigned_abs());
            record.status.state = ContainerState::Running { started_at };
        }
        state.note(
            false,
            "Started",
            format!("Started container {}", container.name),
            started_at,
        );
    });
    let pumps: Vec<JoinHandle<()>> = started
        .outputs
        .into_iter()
        .zip([Output::Stdout, Output::Stderr])
        .filter_map(|(output, stream)| {
            Some(tokio::task::spawn_local(pump(
                output?,
                stream,
                Rc::clone(&log),
            )))
        })
        .collect();

    let exit = watch_over(pod, index, &leader, &around, orders).await;

    kill_leftovers(pod, index, &leader).await;
    for pump in pumps {
        // All writers are dead; if the kernel holds one back, its last words are not worth waiting for.
        let abort = pump.abort_handle();
        if tokio::time::timeout(Duration::from_secs(2), pump)
            .await
            .is_err()
        {
            abort.abort();
        }
    }
    log.borrow().finish();
    termination(exit, started_at)
}

/// The number of the run that comes next: how often the container will have been started again.
fn next_run(status: &ContainerStatus) -> u32 {
    match (&status.state, &status.last_state) {
        (ContainerState::Waiting { .. }, None) => status.restart_count,
        _ => status.restart_count.saturating_add(1),
    }
}

/// Notes that run number `run` begins: what ended before it becomes the last state.
fn count_run(status: &mut ContainerStatus, run: u32) {
    if matches!(status.state, ContainerState::Terminated(_)) {
        status.last_state = Some(status.state.clone());
    }
    status.restart_count = run;
}

fn termination(exit: Exit, started_at: Timestamp) -> Termination {
    let (exit_code, signal) = match exit {
        Exit::Code(code) => (code, None),
        Exit::Signal(signal) => (128 + signal, Some(signal)),
    };
    Termination {
        exit_code,
        signal,
        reason: if exit_code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: String::new(),
        started_at: Some(started_at),
        finished_at: Timestamp::now(),
    }
}

/// Waits for the end of a run, and brings it about when ordered to or when a probe or hook says so.
async fn watch_over(
    pod: &Pod,
    index: usize,
    leader: &Leader,
    around: &Rendered,
    orders: &mut Orders,
) -> Exit {
    let container = pod.plan.containers.get(index);
    let health = async {
        if let Some(hook) = container.and_then(|container| container.post_start.as_ref())
            && let Err(why) = carry_out(pod, index, hook, around, None).await
        {
            let name = pod.container_name(index);
            pod.board.note(
                true,
                "FailedPostStartHook",
                format!("PostStartHook of container {name} failed: {why}"),
            );
            return probe::Unhealthy {
                message: format!("Container {name} failed its postStart hook, will be killed"),
                grace_seconds: None,
            };
        }
        probe::watch(pod, index, around).await
    };
    let tuning = &pod.plan.tuning;
    let deadline = tokio::select! {
        biased;
        exit = leader.ended() => {
            note_death(pod, index, exit);
            return exit;
        }
        order = ordered(orders) => order.deadline,
        sick = health => {
            pod.board.note(false, "Killing", sick.message);
            Instant::now() + tuning.seconds(sick.grace_seconds.unwrap_or(pod.plan.grace_seconds))
        }
    };
    pod.board
        .change_container(index, |record| record.status.ready = false);
    end(pod, index, leader, around, orders, deadline).await
}

/// Tells of an end that nobody ordered, if it was a bad one.
fn note_death(pod: &Pod, index: usize, exit: Exit) {
    let how = match exit {
        Exit::Code(0) => return,
        Exit::Code(code) => format!("ended with exit code {code}"),
        // The kernel's way, too, when memory runs short: who sent the signal is not known.
        Exit::Signal(9) => "was killed (signal 9)".to_owned(),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
    };
    let message = format!("Error: container {} {how}", pod.container_name(index));
    pod.board.note(true, "Failed", message);
}

/// Ends a run: preStop hook, SIGTERM to its group, SIGKILL when the time is over.
async fn end(
    pod: &Pod,
    index: usize,
    leader: &Leader,
    around: &Rendered,
    orders: &mut Orders,
    deadline: Instant,
) -> Exit {
    let hook = pod
        .plan
        .containers
        .get(index)
        .and_then(|container| container.pre_stop.as_ref());
    // What was ordered, and what is given: a moment more, where the hook has used up the time.
    let (mut ordered, mut last) = (deadline, deadline);
    if let Some(hook) = hook.filter(|_| deadline > Instant::now()) {
        let carried_out = async {
            if let Err(why) = carry_out(pod, index, hook, around, Some(deadline)).await {
                let name = pod.container_name(index);
                pod.board.note(
                    true,
                    "FailedPreStopHook",
                    format!("PreStopHook of container {name} failed: {why}"),
                );
            }
        };
        tokio::select! {
            // The hook may have used all the time; the process still gets a moment to hear SIGTERM.
            () = carried_out => last = last.max(Instant::now() + pod.plan.tuning.seconds(2)),
            exit = leader.ended() => return exit,
            sooner = nearer(orders, ordered) => (ordered, last) = (sooner, sooner),
        }
    }
    leader.signal(Signal::TERM);
    loop {
        tokio::select! {
            exit = leader.ended() => return exit,
            () = tokio::time::sleep_until(last) => break,
            sooner = nearer(orders, ordered) => (ordered, last) = (sooner, sooner),
        }
    }
    leader.signal(Signal::KILL);
    leader.ended().await
}

/// The new deadline, once an order has brought it nearer.
async fn nearer(orders: &mut Orders, before: Instant) -> Instant {
    let sooner = |order: &Option<StopOrder>| order.is_some_and(|order| order.deadline < before);
    match orders.wait_for(sooner).await {
        Ok(order) => order.map_or(before, |order| order.deadline),
        Err(_) => std::future::pending().await,
    }
}

/// Carries out a lifecycle hook, until `deadline` at most.
async fn carry_out(
    pod: &Pod,
    index: usize,
    hook: &Hook,
    around: &Rendered,
    deadline: Option<Instant>,
) -> Result<(), String> {
    let limit = deadline.map_or(Duration::from_hours(24), |deadline| {
        deadline.duration_since(Instant::now())
    });
    let slow = || "it did not end within the grace period".to_owned();
    match hook {
        Hook::Http(get) => tokio::time::timeout(limit, probe::http_get(pod, get))
            .await
            .map_err(|_| slow())?,
        Hook::Sleep { seconds } => {
            tokio::time::sleep(pod.plan.tuning.seconds(*seconds).min(limit)).await;
            Ok(())
        }
        Hook::Exec { command } => {
            match exec::run(&pod.reaper, &around.expand(command), around, limit).await? {
                Ran::Ended(Exit::Code(0), _) => Ok(()),
                Ran::Ended(Exit::Code(code), text) => Err(format!(
                    "command in {} ended with {code}: {text}",
                    pod.container_name(index)
                )),
                Ran::Ended(Exit::Signal(signal), _) => {
                    Err(format!("command ended by signal {signal}"))
                }
                Ran::TooSlow => Err(slow()),
            }
        }
    }
}

/// Kills what a run leaves behind, also what has left its group and its session.
async fn kill_leftovers(pod: &Pod, index: usize, leader: &Leader) {
    let own = std::process::id();
    let group = leader.pid.as_raw_nonzero().get().unsigned_abs();
    let marks = marks(pod.folder.path(), Some(&pod.container_name(index)));
    // When no other container runs, everything below the shim is this one's, however well it hides.
    let alone = pod.board.read(|state| {
        state
            .containers
            .iter()
            .enumerate()
            .all(|(other, record)| other == index || record.process.is_none())
    });
    kill_all(|processes| {
        let below = descendants(processes, own);
        let left = |process: &&Stat| {
            below.contains(&process.pid)
                && (alone || process.group == group || carries(process.pid, &marks))
        };
        processes.iter().filter(left).copied().collect()
    })
    .await;
}

impl Pod {
    /// Gives the container another local port for each that a stranger listens on, while no process of the
    /// container runs; takes those it lacks. `true` when any was replaced.
    fn move_taken_ports(&self, index: usize) -> Result<bool, String> {
        let Some(container) = self.plan.containers.get(index) else {
            return Ok(false);
        };
        let mut moved = false;
        for wanted in &container.ports {
            let held = self.board.read(|state| {
                let same = |port: &&LocalPort| {
                    port.container == container.name
                        && port.container_port == wanted.container_port
                        && port.protocol == wanted.protocol
                };
                state.ports.iter().find(same).map(|port| port.local_port)
            });
            if held.is_some_and(|port| is_free(port, wanted.protocol)) {
                continue;
            }
            let taken = self.ports.take(&self.plan.identity.uid, wanted.protocol);
            let port = taken
                .map_err(|error| format!("no local port for {}: {error}", wanted.container_port))?;
            moved |= held.is_some();
            self.hold(&container.name, wanted, port);
        }
        Ok(moved)
    }
}
