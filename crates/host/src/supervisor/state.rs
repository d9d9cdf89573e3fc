//! What a shim knows of its pod, as it is written to the pod's folder and told to the control plane.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::plan::{LocalPort, PodPlan, Tuning};
use super::procfs::ProcessId;
use super::status::{
    ContainerState, ContainerStatus, Fact, PodFacts, PodStatus, Role, Termination, WAITS_FOR_INIT,
    summarise,
};

/// All that is known of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodState {
    pub(super) shim: Option<ProcessId>,
    pub(super) status: PodStatus,
    pub(super) ports: Vec<LocalPort>,
    pub(super) containers: Vec<ContainerRecord>,
    pub(super) events: Vec<PodEvent>,
    /// Whether the pod has been asked to end.
    pub(super) ending: bool,
    /// The reason of its own for which the pod failed, and the same in words.
    pub(super) failure: Option<(String, String)>,
    /// Set when nothing of the pod will ever run again.
    pub(super) over: bool,
}

/// What is known of one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerRecord {
    pub(super) role: Role,
    pub(super) status: ContainerStatus,
    /// The process that runs now; the container's process group has its number.
    pub(super) process: Option<ProcessId>,
    pub(super) back_off: BackOff,
}

/// Something that happened to a pod. Equal ones are counted instead of repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodEvent {
    /// Whether it is a `Warning` (or `Normal`).
    pub warning: bool,
    /// One word, as the kubelet's: `Started`, `Unhealthy`, `BackOff`, `Killing`, ...
    pub reason: String,
    /// In words.
    pub message: String,
    /// When it happened first.
    pub first_seen: Timestamp,
    /// When it happened last.
    pub last_seen: Timestamp,
    /// How often it has happened.
    pub count: u32,
}

/// The events kept of one pod; older ones are forgotten.
const EVENTS_KEPT: usize = 40;

impl PodState {
    /// The state of a pod of which nothing has been started.
    pub(super) fn fresh(plan: &PodPlan, now: Timestamp) -> Self {
        let first_turn = |index: usize| {
            if index == 0 {
                "ContainerCreating"
            } else {
                WAITS_FOR_INIT
            }
        };
        let inits = plan
            .containers
            .iter()
            .any(|container| container.role != Role::Main);
        let containers = plan
            .containers
            .iter()
            .enumerate()
            .map(|(index, container)| ContainerRecord {
                role: container.role,
                status: ContainerStatus::waiting(
                    &container.name,
                    &container.image,
                    if inits {
                        first_turn(index)
                    } else {
                        "ContainerCreating"
                    },
                    "",
                ),
                process: None,
                back_off: BackOff::default(),
            });
        let mut state = Self {
            containers: containers.collect(),
            ..Self::default()
        };
        state.status.start_time = Some(now);
        state
    }

    /// Takes over what another shim left: the runs that it began have ended with it, and how is not known.
    /// Returns the processes that may still be there.
    pub(super) fn inherit(&mut self, now: Timestamp) -> Vec<ProcessId> {
        let mut left = Vec::new();
        for record in &mut self.containers {
            left.extend(record.process.take());
            if let ContainerState::Running { started_at } = record.status.state {
                record.status.ready = false;
                record.status.started = false;
                record.status.state = ContainerState::Terminated(Termination {
                    exit_code: 137,
                    signal: Some(9),
                    reason: "ContainerStatusUnknown".to_owned(),
                    message:
                        "the shim that ran the container was killed; its processes have been ended"
                            .to_owned(),
                    started_at: Some(started_at),
                    finished_at: now,
                });
            }
        }
        left
    }

    /// Brings the status up to date with the containers.
    pub(super) fn refresh(&mut self, plan: &PodPlan, now: Timestamp) {
        let facts = PodFacts {
            policy: plan.restart_policy,
            ending: self.ending,
            start_time: self.status.start_time,
            failure: self.failure.clone(),
        };
        let containers: Vec<Fact<'_>> = self
            .containers
            .iter()
            .map(|record| Fact {
                role: record.role,
                status: &record.status,
            })
            .collect();
        self.status = summarise(&facts, &containers, &self.status, now);
    }

    /// Notes that something happened.
    pub(super) fn note(&mut self, warning: bool, reason: &str, message: String, now: Timestamp) {
        let known = self
            .events
            .iter()
            .position(|event| event.reason == reason && event.message == message);
        let event = match known {
            Some(at) => {
                let old = self.events.remove(at);
                PodEvent {
                    last_seen: now,
                    count: old.count.saturating_add(1),
                    ..old
                }
            }
            None => PodEvent {
                warning,
                reason: reason.to_owned(),
                message,
                first_seen: now,
                last_seen: now,
                count: 1,
            },
        };
        self.events.push(event);
        if self.events.len() > EVENTS_KEPT {
            self.events.remove(0);
        }
    }
}

/// How long a container waits before it is started again. As the kubelet's: none the first time, then 10
/// seconds, doubled each time up to five minutes, and forgotten after a run of twice that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BackOff {
    delay: Duration,
    /// When the last restart was decided.
    since: Option<Timestamp>,
}

impl BackOff {
    /// How long after `ended` the next start may be; counts the restart.
    pub(super) fn next(&mut self, ended: Timestamp, tuning: &Tuning) -> Duration {
        let forgotten = self.since.is_none_or(|since| {
            let most =
                SignedDuration::try_from(tuning.back_off_most).unwrap_or(SignedDuration::MAX);
            ended.duration_since(since) > most.saturating_mul(2)
        });
        let wait = if forgotten {
            Duration::ZERO
        } else {
            self.delay
        };
        self.delay = if forgotten {
            tuning.back_off_first
        } else {
            self.delay.saturating_mul(2).min(tuning.back_off_most)
        };
        self.since = Some(ended.checked_add(wait).unwrap_or(ended));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_wait_ten_seconds_doubled_up_to_five_minutes_and_a_long_run_starts_over() {
        let tuning = Tuning::default();
        let mut back_off = BackOff::default();
        let mut clock = Timestamp::UNIX_EPOCH;
        let mut crash_after = |seconds: i64| {
            clock += SignedDuration::from_secs(seconds);
            let wait = back_off.next(clock, &tuning);
            clock += SignedDuration::try_from(wait).expect("small");
            wait.as_secs()
        };
        let waits: Vec<u64> = (0..8).map(|_| crash_after(1)).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(crash_after(599), 300);
        assert_eq!(crash_after(601), 0);
        assert_eq!(crash_after(1), 10);
    }

    #[test]
    fn equal_events_are_counted_and_the_list_is_bounded() {
        let mut state = PodState::default();
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..3 {
            state.note(true, "Unhealthy", "no answer".to_owned(), now);
        }
        assert_eq!(state.events.len(), 1);
        assert_eq!(state.events.first().map(|event| event.count), Some(3));
        for number in 0..100 {
            state.note(false, "Started", format!("run {number}"), now);
        }
        assert_eq!(state.events.len(), EVENTS_KEPT);
        assert_eq!(
            state.events.last().map(|event| event.message.as_str()),
            Some("run 99")
        );
    }
}
