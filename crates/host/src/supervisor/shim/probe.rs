//! Probes: startup first, then liveness and readiness side by side.
//!
//! The shim runs them, not the control plane, so that a hung container is restarted while the control plane
//! is dead. Counting is the kubelet's. Two things go beyond it, both to know sooner and never to know less:
//! until a container has passed once, it is also looked at between the regular times (Kubernetes allows
//! that), and failures seen then do not count; and a container with ports but without a readiness probe is
//! ready when its first TCP port accepts a connection, not before.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::super::names;
use super::super::plan::{HttpGet, Probe, ProbeAction, Protocol, Rendered, TargetPort};
use super::super::procfs::{all, descendants, one_listens};
use super::super::status::{LOOPBACK, Role};
use super::exec::{self, Ran};
use super::pod::Pod;
use super::reaper::Exit;

/// Why a container must be ended, and how long it has for that when the probe says so itself.
pub(super) struct Unhealthy {
    pub(super) message: String,
    pub(super) grace_seconds: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// Watches a container that has just been started; returns when it must be ended.
pub(super) async fn watch(pod: &Pod, index: usize, around: &Rendered) -> Unhealthy {
    let begun = Instant::now();
    let Some(container) = pod.plan.containers.get(index) else {
        return std::future::pending().await;
    };
    if let Some(probe) = &container.startup {
        let mut passed = false;
        let first = |good| {
            passed = good;
            true
        };
        repeat(pod, index, Kind::Startup, probe, around, begun, first).await;
        if !passed {
            return unhealthy(pod, index, Kind::Startup, probe);
        }
    }

    if container.role == Role::Init {
        return std::future::pending().await;
    }
    pod.board
        .change_container(index, |record| record.status.started = true);

    let ready = |good: bool| {
        pod.board
            .change_container(index, |record| record.status.ready = good);
    };
    let readiness = async {
        if let Some(probe) = &container.readiness {
            let go_on = |good| {
                ready(good);
                false
            };
            repeat(pod, index, Kind::Readiness, probe, around, begun, go_on).await;
        } else {
            accepts(pod, index).await;
            ready(true);
        }
        std::future::pending::<Unhealthy>().await
    };
    let liveness = async {
        match &container.liveness {
            Some(probe) => {
                repeat(pod, index, Kind::Liveness, probe, around, begun, |good| {
                    !good
                })
                .await;
                unhealthy(pod, index, Kind::Liveness, probe)
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        unhealthy = readiness => unhealthy,
        unhealthy = liveness => unhealthy,
    }
}

fn unhealthy(pod: &Pod, index: usize, kind: Kind, probe: &Probe) -> Unhealthy {
    let name = pod.container_name(index);
    Unhealthy {
        message: format!(
            "Container {name} failed {} probe, will be restarted",
            kind.word().to_lowercase()
        ),
        grace_seconds: probe.grace_seconds,
    }
}

/// Runs one probe again and again; `enough` hears each time a threshold is reached, and says whether to stop.
async fn repeat(
    pod: &Pod,
    index: usize,
    kind: Kind,
    probe: &Probe,
    around: &Rendered,
    begun: Instant,
    mut enough: impl FnMut(bool) -> bool,
) {
    let tuning = &pod.plan.tuning;
    let period = tuning.seconds(probe.period_seconds);
    let mut regular = begun + tuning.seconds(probe.initial_delay_seconds);
    let mut tally = Tally::default();
    // Looks between the regular times, more and more rarely, until the first success.
    let mut eager = (kind != Kind::Liveness && probe.success_threshold == 1).then_some(EAGER_FIRST);
    let mut early: Option<Instant> = None;
    loop {
        let counts = early.is_none_or(|early| regular <= early);
        tokio::time::sleep_until(early.map_or(regular, |early| early.min(regular))).await;
        if counts {
            regular += period;
            // After a long pause of this machine there is nothing to catch up with.
            regular = regular.max(Instant::now());
        }
        let outcome = attempt(pod, index, probe, around).await;
        if outcome.is_ok() {
            eager = None;
        }
        early = eager.map(|pause| Instant::now() + pause);
        eager = eager.map(|pause| (pause * 2).min(EAGER_MOST));
        if let (Err(why), true) = (&outcome, counts) {
            let name = pod.container_name(index);
            pod.board.note(
                true,
                "Unhealthy",
                format!("{} probe of container {name} failed: {why}", kind.word()),
            );
        }
        if tally
            .count(outcome.is_ok(), counts, probe)
            .is_some_and(&mut enough)
        {
            return;
        }
    }
}

const EAGER_FIRST: Duration = Duration::from_millis(20);
const EAGER_MOST: Duration = Duration::from_secs(1);

/// Successes or failures in a row.
#[derive(Default)]
struct Tally {
    good: bool,
    row: u32,
}

impl Tally {
    /// Counts one outcome; `Some` when a threshold is reached (again). Failures between the regular times do
    /// not count.
    fn count(&mut self, good: bool, regular: bool, probe: &Probe) -> Option<bool> {
        if !good && !regular {
            return None;
        }
        self.row = if self.good == good {
            self.row.saturating_add(1)
        } else {
            1
        };
        self.good = good;
        let threshold = if good {
            probe.success_threshold
        } else {
            probe.failure_threshold
        };
        (self.row >= threshold).then_some(good)
    }
}

/// One try. While the container is not ready yet, the answer of a stranger who took its port is none.
async fn attempt(pod: &Pod, index: usize, probe: &Probe, around: &Rendered) -> Result<(), String> {
    try_once(pod, index, probe, around).await?;
    let port = match &probe.action {
        ProbeAction::Http(HttpGet { port, .. }) | ProbeAction::Tcp { port, .. } => port,
        ProbeAction::Exec { .. } => return Ok(()),
    };
    let ready = pod.board.container(index, |record| record.status.ready);
    match port {
        TargetPort::Declared { .. } if ready == Some(false) => is_own(local(pod, port)),
        TargetPort::Declared { .. } | TargetPort::AsItIs(_) => Ok(()),
    }
}

/// Fails when a port that answers is known to be held by none of the pod's processes.
fn is_own(port: u16) -> Result<(), String> {
    let own = descendants(&all(), std::process::id());
    match one_listens(&own, port) {
        Some(false) => Err(format!(
            "port {port} is held by a process that is not of this pod"
        )),
        Some(true) | None => Ok(()),
    }
}

async fn try_once(pod: &Pod, index: usize, probe: &Probe, around: &Rendered) -> Result<(), String> {
    let within = pod.plan.tuning.seconds(probe.timeout_seconds);
    let seconds = probe.timeout_seconds;
    let slow = |_| format!("no answer within {seconds} s");
    match &probe.action {
        ProbeAction::Http(get) => tokio::time::timeout(within, http_get(pod, get))
            .await
            .map_err(slow)?,
        ProbeAction::Tcp { host, port } => {
            let Target { host, port, .. } = target(pod, host.as_deref(), port);
            let connect = TcpStream::connect((host.as_str(), port));
            let connect = tokio::time::timeout(within, connect).await;
            connect
                .map_err(slow)?
                .map(drop)
                .map_err(|error| format!("cannot connect to {host}:{port}: {error}"))
        }
        ProbeAction::Exec { command } => {
            let command = around.expand(command);
            let name = pod.container_name(index);
            match exec::run(&pod.reaper, &command, around, within).await? {
                Ran::Ended(Exit::Code(0), _) => Ok(()),
                Ran::Ended(Exit::Code(code), text) => {
                    Err(format!("command in {name} ended with {code}: {text}"))
                }
                Ran::Ended(Exit::Signal(signal), _) => {
                    Err(format!("command in {name} ended by signal {signal}"))
                }
                Ran::TooSlow => Err(format!("command in {name} did not end within {seconds} s")),
            }
        }
    }
}

/// Makes a GET; `Ok` when it is answered with 200 to 399.
pub(super) async fn http_get(pod: &Pod, get: &HttpGet) -> Result<(), String> {
    let Target {
        host,
        port,
        service,
    } = target(pod, get.host.as_deref(), &get.port);
    let scheme = if get.https { "https" } else { "http" };
    let client = pod.http_client()?;
    let mut request = client.get(format!("{scheme}://{host}:{port}{}", get.path));
    let names_host = get
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if let Some(service) = service.filter(|_| !names_host) {
        request = request.header("host", service);
    }
    for (name, value) in &get.headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.map_err(|error| chain(&error))?;
    let status = answer.status().as_u16();
    if (200..400).contains(&status) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {status}"))
    }
}

/// The innermost cause is the one that tells (`Connection refused`).
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// Where a probe or hook really goes.
struct Target {
    host: String,
    port: u16,
    /// `host:port` as written, when it is a Service of this machine.
    service: Option<String>,
}

fn target(pod: &Pod, host: Option<&str>, port: &TargetPort) -> Target {
    let port = local(pod, port);
    let Some(host) = host else {
        return Target {
            host: LOOPBACK.to_owned(),
            port,
            service: None,
        };
    };
    match names::look_up(
        &pod.plan.names_file,
        &pod.plan.identity.namespace,
        host,
        port,
    ) {
        Some(address) => Target {
            host: address.ip().to_string(),
            port: address.port(),
            service: Some(format!("{host}:{port}")),
        },
        None => Target {
            host: host.to_owned(),
            port,
            service: None,
        },
    }
}

fn local(pod: &Pod, port: &TargetPort) -> u16 {
    match port {
        TargetPort::AsItIs(number) => *number,
        TargetPort::Declared {
            container,
            container_port,
        } => pod
            .board
            .read(|state| {
                let found = state.ports.iter().find(|p| {
                    p.container == *container
                        && p.container_port == *container_port
                        && p.protocol == Protocol::Tcp
                });
                found.map(|port| port.local_port)
            })
            .unwrap_or(*container_port),
    }
}

/// Returns once the container's first TCP port accepts a connection; at once when it declares none.
async fn accepts(pod: &Pod, index: usize) {
    let name = pod.container_name(index);
    let first = pod.board.read(|state| {
        let mut own = state.ports.iter().filter(|port| port.container == name);
        own.find(|port| port.protocol == Protocol::Tcp)
            .map(|port| port.local_port)
    });
    let Some(port) = first else { return };
    let mut pause = EAGER_FIRST;
    loop {
        let accepted = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        if accepted.is_ok() && is_own(port).is_ok() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(EAGER_MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(success_threshold: u32, failure_threshold: u32) -> Probe {
        Probe {
            action: ProbeAction::Exec {
                command: Vec::new(),
            },
            initial_delay_seconds: 0,
            period_seconds: 1,
            timeout_seconds: 1,
            success_threshold,
            failure_threshold,
            grace_seconds: None,
        }
    }

    #[test]
    fn a_verdict_falls_when_as_many_outcomes_in_a_row_agree_as_the_threshold_says() {
        let verdicts = |probe: &Probe, outcomes: &[(bool, bool)]| -> String {
            let mut tally = Tally::default();
            let word = |verdict| match verdict {
                None => '.',
                Some(true) => '+',
                Some(false) => '-',
            };
            outcomes
                .iter()
                .map(|(good, regular)| word(tally.count(*good, *regular, probe)))
                .collect()
        };
        let regular = |text: &str| text.chars().map(|c| (c == '+', true)).collect::<Vec<_>>();
        assert_eq!(verdicts(&probe(1, 3), &regular("---+--+---")), "..-+..+..-");
        assert_eq!(verdicts(&probe(2, 1), &regular("+-+++")), ".-.++");
        // Early failures do not count; an early success does.
        assert_eq!(
            verdicts(
                &probe(1, 2),
                &[(false, false), (false, false), (false, true), (true, false)]
            ),
            "...+"
        );
    }
}
