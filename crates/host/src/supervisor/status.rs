//! A pod's status as Kubernetes writes it, computed from what is known of its containers.
//!
//! Only types and arithmetic: [`summarise`] takes the containers' statuses and says phase and conditions.
//! The rules are the kubelet's (`getPhase`, `GeneratePodReadyCondition`), with one difference: a pod that has been asked to end
//! is not ready from that moment on, so that whoever sends it requests stops first.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// When containers that ended are started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Whatever the exit code.
    #[default]
    Always,
    /// Only after a failure.
    OnFailure,
    /// Not at all.
    Never,
}

/// How a container takes part in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// Runs to its end before the next starts.
    Init,
    /// An init container with `restartPolicy: Always`: starts in its turn, then stays beside the main ones.
    Sidecar,
    /// What the pod is for.
    Main,
}

/// The status of a pod, field for field as in Kubernetes (`v1.PodStatus`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Where the pod is in its life.
    pub phase: PodPhase,
    /// `PodScheduled`, `Initialized`, `ContainersReady`, `Ready`.
    pub conditions: Vec<PodCondition>,
    /// Why the pod as a whole failed, for example `DeadlineExceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The address of this machine.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// The address the pod's ports are on.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// When the pod was taken up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// Init containers in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// The other containers.
    pub container_statuses: Vec<ContainerStatus>,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    /// Not all containers have been started.
    #[default]
    Pending,
    /// Started, and not at an end.
    Running,
    /// All containers ended well and stay so.
    Succeeded,
    /// All containers ended, at least one badly, and stay so.
    Failed,
}

/// One condition of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCondition {
    /// `Ready`, `ContainersReady`, `Initialized` or `PodScheduled`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
    /// One word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The status of one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Its name in the template.
    pub name: String,
    /// The image that the template names; shown, never pulled.
    pub image: String,
    /// Always empty: there is no image.
    #[serde(rename = "imageID")]
    pub image_id: String,
    /// Whether it passes its readiness probe.
    pub ready: bool,
    /// Whether it has passed its startup probe; never true of an init container that runs to its end.
    pub started: bool,
    /// How often it has been started again.
    pub restart_count: u32,
    /// What it does now.
    pub state: ContainerState,
    /// How its previous run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_state: Option<ContainerState>,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    /// Not running, and the reason why.
    Waiting {
        /// One word, for example `CrashLoopBackOff`.
        reason: String,
        /// In words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    /// Running.
    #[serde(rename_all = "camelCase")]
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// At an end.
    Terminated(Termination),
}

/// How a run of a container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// Its exit code; 128 plus the signal when a signal ended it; 128 when it could not be started.
    pub exit_code: i32,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `StartError` or `ContainerStatusUnknown`.
    pub reason: String,
    /// In words, where there is more to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When the run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl ContainerStatus {
    pub(super) fn waiting(name: &str, image: &str, reason: &str, message: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            image_id: String::new(),
            ready: false,
            started: false,
            restart_count: 0,
            state: ContainerState::Waiting {
                reason: reason.to_owned(),
                message: message.to_owned(),
            },
            last_state: None,
        }
    }

    /// How its present or else its last run ended, if it has.
    pub fn termination(&self) -> Option<&Termination> {
        match (&self.state, &self.last_state) {
            (ContainerState::Terminated(end), _) | (_, Some(ContainerState::Terminated(end))) => {
                Some(end)
            }
            _ => None,
        }
    }
}

impl PodStatus {
    /// The condition of this type.
    pub fn condition(&self, kind: &str) -> Option<&PodCondition> {
        self.conditions
            .iter()
            .find(|condition| condition.kind == kind)
    }

    /// Since when the pod has been ready without a break; `None` when it is not.
    pub fn ready_since(&self) -> Option<Timestamp> {
        self.condition("Ready")
            .filter(|c| c.status == "True")
            .map(|c| c.last_transition_time)
    }

    /// The one word that `kubectl get pods` shows: `Running`, `CrashLoopBackOff`, `Completed`, `Init:0/1`, ...
    pub fn word(&self) -> String {
        let mut word = self
            .reason
            .clone()
            .unwrap_or_else(|| format!("{:?}", self.phase));
        if !self.initialised() {
            let total = self.init_container_statuses.len();
            for (done, init) in self.init_container_statuses.iter().enumerate() {
                match &init.state {
                    ContainerState::Terminated(end) if end.exit_code == 0 => {}
                    // Only a sidecar is ever `started`; it is done when it is.
                    ContainerState::Running { .. } if init.started => {}
                    ContainerState::Terminated(end) => return format!("Init:{}", end.reason),
                    ContainerState::Waiting { reason, .. } if reason != WAITS_FOR_INIT => {
                        return format!("Init:{reason}");
                    }
                    _ => return format!("Init:{done}/{total}"),
                }
            }
        }
        for container in self.container_statuses.iter().rev() {
            match &container.state {
                ContainerState::Waiting { reason, .. } => word.clone_from(reason),
                ContainerState::Terminated(end) => word.clone_from(&end.reason),
                ContainerState::Running { .. } => {}
            }
        }
        let running = self
            .container_statuses
            .iter()
            .any(|c| matches!(c.state, ContainerState::Running { .. }));
        if word == "Completed" && running {
            "Running".to_owned()
        } else {
            word
        }
    }

    /// How the last run of a container ended, of those that do not run now.
    pub fn last_exit_code(&self) -> Option<i32> {
        let all = self
            .init_container_statuses
            .iter()
            .chain(&self.container_statuses);
        all.filter(|container| !container.ready)
            .find_map(
                |container| match (&container.state, &container.last_state) {
                    (ContainerState::Terminated(end), _)
                    | (_, Some(ContainerState::Terminated(end))) => Some(end.exit_code),
                    _ => None,
                },
            )
    }

    fn initialised(&self) -> bool {
        self.condition("Initialized")
            .is_some_and(|condition| condition.status == "True")
    }
}

/// The reason of a container whose turn has not come.
pub(super) const WAITS_FOR_INIT: &str = "PodInitializing";

/// What [`summarise`] needs to know of a container beside its status.
pub(super) struct Fact<'a> {
    pub(super) role: Role,
    pub(super) status: &'a ContainerStatus,
}

/// What is true of the pod as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct PodFacts {
    pub(super) policy: RestartPolicy,
    pub(super) ending: bool,
    pub(super) start_time: Option<Timestamp>,
    /// Set when the pod was ended for a reason of its own, such as its deadline: it has failed, whatever the exit codes.
    pub(super) failure: Option<(String, String)>,
}

/// The status of a pod whose containers stand as given. `before` is its previous status, for the times at
/// which conditions changed.
pub(super) fn summarise(
    facts: &PodFacts,
    containers: &[Fact<'_>],
    before: &PodStatus,
    now: Timestamp,
) -> PodStatus {
    let of = |wanted: fn(Role) -> bool| -> Vec<ContainerStatus> {
        containers
            .iter()
            .filter(|fact| wanted(fact.role))
            .map(|fact| fact.status.clone())
            .collect()
    };
    let init = of(|role| role != Role::Main);
    let main = of(|role| role == Role::Main);
    // Once done, the beginning stays done: a sidecar that ends later does not undo it.
    let begun = before.initialised();
    let lagging: Vec<&str> = containers
        .iter()
        .filter(|fact| !begun && !initialised(fact))
        .map(|f| f.status.name.as_str())
        .collect();
    let phase = if facts.failure.is_some() {
        PodPhase::Failed
    } else {
        phase(facts.policy, lagging.is_empty(), containers)
    };
    let unready: Vec<&str> = containers
        .iter()
        .filter(|fact| fact.role != Role::Init && !fact.status.ready)
        .map(|fact| fact.status.name.as_str())
        .collect();

    let initialised = condition(lagging.is_empty(), "ContainersNotInitialized", || {
        format!("containers with incomplete status: [{}]", lagging.join(" "))
    });
    let ready = if facts.ending {
        condition(false, "PodTerminating", || {
            "the pod has been asked to end".to_owned()
        })
    } else if phase == PodPhase::Succeeded {
        condition(false, "PodCompleted", String::new)
    } else if phase == PodPhase::Failed {
        condition(false, "PodFailed", String::new)
    } else {
        condition(
            unready.is_empty() && lagging.is_empty(),
            "ContainersNotReady",
            || format!("containers with unready status: [{}]", unready.join(" ")),
        )
    };
    let conditions = [
        ("PodScheduled", condition(true, "", String::new)),
        ("Initialized", initialised),
        ("ContainersReady", ready.clone()),
        ("Ready", ready),
    ]
    .into_iter()
    .map(|(kind, (status, reason, message))| PodCondition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        last_transition_time: before
            .condition(kind)
            .filter(|old| old.status == status)
            .map_or(now, |old| old.last_transition_time),
        reason,
        message,
    })
    .collect();
    let (reason, message) = facts.failure.clone().unzip();
    PodStatus {
        phase,
        conditions,
        reason,
        message,
        host_ip: LOOPBACK.to_owned(),
        pod_ip: LOOPBACK.to_owned(),
        start_time: facts.start_time,
        init_container_statuses: init,
        container_statuses: main,
    }
}

/// The address of every pod's ports.
pub(super) const LOOPBACK: &str = "127.0.0.1";

fn condition(
    holds: bool,
    reason: &str,
    message: impl FnOnce() -> String,
) -> (&'static str, Option<String>, Option<String>) {
    if holds {
        return ("True", None, None);
    }
    let message = message();
    (
        "False",
        Some(reason.to_owned()),
        (!message.is_empty()).then_some(message),
    )
}

fn initialised(fact: &Fact<'_>) -> bool {
    match fact.role {
        Role::Main => true,
        Role::Sidecar => fact.status.started,
        Role::Init => {
            matches!(&fact.status.state, ContainerState::Terminated(end) if end.exit_code == 0)
        }
    }
}

/// The kubelet's `getPhase`: what has not begun makes a pod pending; what has ended decides by policy.
fn phase(policy: RestartPolicy, begun: bool, containers: &[Fact<'_>]) -> PodPhase {
    let init_failed = containers.iter().any(|fact| {
        fact.role == Role::Init
            && policy == RestartPolicy::Never
            && matches!(&fact.status.state, ContainerState::Terminated(end) if end.exit_code != 0)
    });
    if init_failed {
        return PodPhase::Failed;
    }
    if !begun {
        return PodPhase::Pending;
    }
    let (mut waiting, mut running, mut stopped, mut failed) = (0, 0, 0, 0);
    for fact in containers.iter().filter(|fact| fact.role == Role::Main) {
        match (&fact.status.state, &fact.status.last_state) {
            (ContainerState::Running { .. }, _) => running += 1,
            (ContainerState::Terminated(end), _) | (_, Some(ContainerState::Terminated(end))) => {
                stopped += 1;
                failed += usize::from(end.exit_code != 0);
            }
            (ContainerState::Waiting { .. }, _) => waiting += 1,
        }
    }
    match policy {
        _ if waiting > 0 => PodPhase::Pending,
        _ if running > 0 => PodPhase::Running,
        _ if stopped == 0 => PodPhase::Pending,
        RestartPolicy::Always => PodPhase::Running,
        _ if failed == 0 => PodPhase::Succeeded,
        RestartPolicy::Never => PodPhase::Failed,
        RestartPolicy::OnFailure => PodPhase::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit_code: i32) -> ContainerState {
        ContainerState::Terminated(Termination {
            exit_code,
            signal: None,
            reason: if exit_code == 0 { "Completed" } else { "Error" }.to_owned(),
            message: String::new(),
            started_at: None,
            finished_at: Timestamp::UNIX_EPOCH,
        })
    }

    /// One container by a word: `r` running, `R` running and ready, `0` ended well, `1` ended badly, `w` not
    /// begun, `b` waiting to be started again after a failure; before it `i` for an init container, `s` for a sidecar.
    fn container(word: &str) -> (Role, ContainerStatus) {
        let (role, state) = match word.as_bytes() {
            [b'i', state] => (Role::Init, *state),
            [b's', state] => (Role::Sidecar, *state),
            [state] => (Role::Main, *state),
            _ => panic!("{word}"),
        };
        let mut status = ContainerStatus::waiting("c", "", WAITS_FOR_INIT, "");
        match state {
            b'r' | b'R' => {
                status.state = ContainerState::Running {
                    started_at: Timestamp::UNIX_EPOCH,
                };
                status.ready = state == b'R';
                status.started = role != Role::Init;
            }
            b'0' => status.state = ended(0),
            b'1' => status.state = ended(1),
            b'b' => {
                status.state = ContainerState::Waiting {
                    reason: "CrashLoopBackOff".to_owned(),
                    message: String::new(),
                };
                status.last_state = Some(ended(1));
            }
            _ => {}
        }
        (role, status)
    }

    fn pod(policy: RestartPolicy, words: &str, before: &PodStatus, now: i64) -> PodStatus {
        let containers: Vec<_> = words.split_whitespace().map(container).collect();
        let facts: Vec<Fact<'_>> = containers
            .iter()
            .map(|(role, status)| Fact {
                role: *role,
                status,
            })
            .collect();
        let now = Timestamp::from_second(now).expect("a time");
        summarise(
            &PodFacts {
                policy,
                ..PodFacts::default()
            },
            &facts,
            before,
            now,
        )
    }

    #[test]
    fn phase_and_word_are_those_of_kubernetes() {
        use RestartPolicy::{Always, Never, OnFailure};
        for (policy, words, phase, ready, word) in [
            (Always, "w", "Pending", false, "PodInitializing"),
            (Always, "r", "Running", false, "Running"),
            (Always, "R", "Running", true, "Running"),
            (Always, "R r", "Running", false, "Running"),
            (Always, "0", "Running", false, "Completed"),
            (Always, "1", "Running", false, "Error"),
            (Always, "b", "Running", false, "CrashLoopBackOff"),
            (Always, "b R", "Running", false, "CrashLoopBackOff"),
            (OnFailure, "1", "Running", false, "Error"),
            (OnFailure, "0 0", "Succeeded", false, "Completed"),
            (Never, "0", "Succeeded", false, "Completed"),
            (Never, "0 1", "Failed", false, "Completed"),
            (Never, "1 R", "Running", false, "Error"),
            (Never, "0 R", "Running", false, "Running"),
            (Always, "ir w", "Pending", false, "Init:0/1"),
            (Always, "i0 iw w", "Pending", false, "Init:1/2"),
            (Always, "i1 w", "Pending", false, "Init:Error"),
            (Always, "ib w", "Pending", false, "Init:CrashLoopBackOff"),
            (Never, "i1 w", "Failed", false, "Init:Error"),
            (Always, "i0 R", "Running", true, "Running"),
            (Always, "sw w", "Pending", false, "Init:0/1"),
            (Always, "sr iw w", "Pending", false, "Init:1/2"),
            (Always, "sr R", "Running", false, "Running"),
            (Always, "sR R", "Running", true, "Running"),
        ] {
            let status = pod(policy, words, &PodStatus::default(), 0);
            let seen = (
                format!("{:?}", status.phase),
                status.ready_since().is_some(),
                status.word(),
            );
            assert_eq!(
                seen,
                (phase.to_owned(), ready, word.to_owned()),
                "{policy:?} {words}"
            );
        }
    }

    #[test]
    fn a_pod_whose_sidecar_ended_after_it_is_still_completed() {
        let running = pod(RestartPolicy::Never, "sR R", &PodStatus::default(), 0);
        let over = pod(RestartPolicy::Never, "s1 0", &running, 1);
        assert_eq!(over.phase, PodPhase::Succeeded);
        assert_eq!(over.word(), "Completed");
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_last_change() {
        let at = |status: &PodStatus| status.ready_since().map(Timestamp::as_second);
        let first = pod(RestartPolicy::Always, "R", &PodStatus::default(), 10);
        let later = pod(RestartPolicy::Always, "R", &first, 20);
        assert_eq!((at(&first), at(&later)), (Some(10), Some(10)));
        let lost = pod(RestartPolicy::Always, "r", &later, 30);
        assert_eq!(at(&lost), None);
        assert_eq!(at(&pod(RestartPolicy::Always, "R", &lost, 40)), Some(40));
    }

    #[test]
    fn the_json_is_that_of_kubernetes() {
        let mut status = pod(RestartPolicy::Always, "b", &PodStatus::default(), 0);
        status.conditions.clear();
        let json = serde_json::json!({
            "phase": "Running",
            "conditions": [],
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "containerStatuses": [{
                "name": "c",
                "image": "",
                "imageID": "",
                "ready": false,
                "started": false,
                "restartCount": 0,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {
                    "exitCode": 1,
                    "reason": "Error",
                    "finishedAt": "1970-01-01T00:00:00Z",
                }},
            }],
        });
        assert_eq!(serde_json::to_value(&status).expect("plain"), json);
        let back: PodStatus = serde_json::from_value(json.clone()).expect("reads");
        assert_eq!(back, status);
        // What Kubernetes' own types make of it.
        let theirs: k8s_openapi::api::core::v1::PodStatus =
            serde_json::from_value(json).expect("reads");
        let container = theirs.container_statuses.unwrap_or_default().remove(0);
        let last = container
            .last_state
            .and_then(|state| state.terminated)
            .expect("terminated");
        assert_eq!(last.exit_code, 1);
    }
}
