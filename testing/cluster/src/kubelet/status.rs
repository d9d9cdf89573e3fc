//! What a pod's status says of the stage where it stands.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::life::Stage;

/// The whole status of a pod in a stage that began at `since`, where `old` is the one that was written before. Conditions of others (readiness
/// gates) are left out: they are merged by type.
pub(super) fn status(
    pod: &Pod,
    old: &PodStatus,
    stage: &Stage,
    since: Timestamp,
    now: Timestamp,
) -> PodStatus {
    let containers = pod.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    let ready = matches!(stage, Stage::Ready { .. });
    let ended = matches!(stage, Stage::Ended { .. });
    let address = address(pod);
    let started = !matches!(
        stage,
        Stage::Creating | Stage::NotPulled | Stage::Faulty { .. }
    );
    let gates_open = gates_open(pod);
    let (pod_reason, containers_reason) = if ended {
        (Some("PodCompleted"), Some("PodCompleted"))
    } else if !ready {
        (Some("ContainersNotReady"), Some("ContainersNotReady"))
    } else if !gates_open {
        (Some("ReadinessGatesNotReady"), None)
    } else {
        (None, None)
    };
    let conditions = [
        ("PodReadyToStartContainers", started && !ended, None),
        ("Initialized", true, None),
        ("Ready", ready && gates_open, pod_reason),
        ("ContainersReady", ready, containers_reason),
        ("PodScheduled", true, None),
    ];
    PodStatus {
        phase: Some(phase(stage).to_owned()),
        conditions: Some(
            conditions
                .map(|(kind, holds, reason)| {
                    condition(old, kind, holds, reason, pod.metadata.generation, now)
                })
                .into(),
        ),
        container_statuses: Some(
            containers
                .iter()
                .enumerate()
                .map(|(index, container)| container_status(container, index, old, stage, since))
                .collect(),
        ),
        start_time: old.start_time.clone().or(Some(Time(now))),
        host_ip: Some("127.0.0.1".to_owned()),
        pod_ip: started.then(|| address.clone()),
        pod_ips: started.then(|| vec![PodIP { ip: address }]),
        ..PodStatus::default()
    }
}

/// The condition of a pod that no node takes.
pub(super) fn unschedulable(pod: &Pod, old: &PodStatus, now: Timestamp) -> PodStatus {
    let generation = pod.metadata.generation;
    let refused = condition(
        old,
        "PodScheduled",
        false,
        Some("Unschedulable"),
        generation,
        now,
    );
    PodStatus {
        conditions: Some(vec![refused]),
        ..PodStatus::default()
    }
}

fn phase(stage: &Stage) -> &'static str {
    match stage {
        Stage::Creating | Stage::NotPulled | Stage::Faulty { .. } => "Pending",
        Stage::Started { .. } | Stage::Ready { .. } | Stage::Crashed { .. } => "Running",
        Stage::Ended { codes, .. } if codes.iter().all(|code| *code == 0) => "Succeeded",
        Stage::Ended { .. } => "Failed",
    }
}

/// True if every readiness gate's condition holds.
fn gates_open(pod: &Pod) -> bool {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_ref());
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    gates.into_iter().flatten().all(|gate| {
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == gate.condition_type && condition.status == "True")
    })
}

/// A condition, with the time of its last change kept while it stays as it is.
fn condition(
    old: &PodStatus,
    kind: &str,
    holds: bool,
    reason: Option<&str>,
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    let before = old
        .conditions
        .iter()
        .flatten()
        .find(|old| old.type_ == kind);
    let same = before.filter(|before| before.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        last_transition_time: same
            .and_then(|same| same.last_transition_time.clone())
            .or(Some(Time(now))),
        observed_generation: generation,
        ..PodCondition::default()
    }
}

fn container_status(
    container: &Container,
    index: usize,
    old: &PodStatus,
    stage: &Stage,
    entered: Timestamp,
) -> ContainerStatus {
    let before = old
        .container_statuses
        .as_ref()
        .and_then(|all| all.get(index));
    let waiting = |reason: &str| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: None,
        }),
        ..ContainerState::default()
    };
    let was_running = before
        .and_then(|before| before.state.as_ref())
        .and_then(|state| state.running.clone());
    let running = || ContainerState {
        running: Some(was_running.clone().unwrap_or(ContainerStateRunning {
            started_at: Some(Time(entered)),
        })),
        ..ContainerState::default()
    };
    let terminated = |code: i32| ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            reason: Some(if code == 0 { "Completed" } else { "Error" }.to_owned()),
            started_at: was_running.clone().and_then(|running| running.started_at),
            finished_at: Some(Time(entered)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    let (shown, restart_count) = match stage {
        Stage::Creating => (waiting("ContainerCreating"), 0),
        Stage::NotPulled => (waiting("ImagePullBackOff"), 0),
        Stage::Faulty { reason } => (waiting(reason), 0),
        Stage::Started { restarts } | Stage::Ready { restarts } => (running(), *restarts),
        Stage::Crashed { restarts } => (waiting("CrashLoopBackOff"), *restarts),
        Stage::Ended { codes, restarts } => (
            terminated(codes.get(index).copied().unwrap_or(0)),
            *restarts,
        ),
    };
    let last_state = if matches!(stage, Stage::Crashed { .. }) && was_running.is_some() {
        Some(terminated(1))
    } else {
        before.and_then(|before| before.last_state.clone())
    };
    let runs = matches!(stage, Stage::Started { .. } | Stage::Ready { .. });
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        ready: matches!(stage, Stage::Ready { .. }),
        started: Some(runs),
        restart_count,
        state: Some(shown),
        last_state,
        ..ContainerStatus::default()
    }
}

/// An address that no machine has, the same for the whole life of a pod.
fn address(pod: &Pod) -> String {
    let sum = pod
        .uid()
        .unwrap_or_default()
        .bytes()
        .fold(17_u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u32::from(byte))
        });
    let [_, a, b, c] = sum.to_be_bytes();
    format!("10.{a}.{b}.{}", c.clamp(1, 254))
}
