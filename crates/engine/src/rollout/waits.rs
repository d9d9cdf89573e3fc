//! What a release waits for, in words and numbers.
//!
//! Each text completes "waiting for …". A person who reads it knows what is missing, how much of it, and, where one exists, the
//! command that moves it.

use crossfade_api::rollout_status::PauseReason;
use jiff::Timestamp;

use crate::decision::Wait;

use super::facts::Facts;

fn wait(for_what: String) -> Wait {
    Wait {
        for_what,
        since: None,
        until: None,
        moved_by: &[],
    }
}

fn plural(count: i32, noun: &str) -> String {
    if count == 1 {
        format!("{count} {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// Pods of one side to become available.
pub(super) fn pods(side: &str, available: i32, needed: i32) -> Wait {
    let missing = needed.saturating_sub(available).max(0);
    wait(format!(
        "{missing} of {} to become available",
        plural(needed, &format!("{side} pod"))
    ))
}

/// Pods of one side to be made or removed.
pub(super) fn created(side: &str, current: i32, wanted: i32) -> Wait {
    wait(format!(
        "{} to be scaled from {current} to {wanted}",
        plural_pods(side)
    ))
}

fn plural_pods(side: &str) -> String {
    format!("{side} pods")
}

/// A router that is not ready for all of a split.
pub(super) fn router(what: String) -> Wait {
    wait(what)
}

/// Pods of versions in between to go.
pub(super) fn leftovers(available: i32) -> Wait {
    wait(format!(
        "{} of older versions to be removed",
        plural(available, "pod")
    ))
}

/// Pods before a Service is switched to them.
pub(super) fn pods_before_service(service: &str, available: i32, needed: i32) -> Wait {
    let missing = needed.saturating_sub(available).max(1);
    wait(format!(
        "{} to become available before service {service} is switched to them",
        plural(missing, "pod")
    ))
}

/// Stable pods before traffic moves back to them.
pub(super) fn stable_pods(available: i32, needed: i32) -> Wait {
    wait(format!(
        "{} of {} to become available before traffic moves to them",
        needed.saturating_sub(available).max(0),
        plural(needed, "stable pod"),
    ))
}

/// A router to carry a weight.
pub(super) fn weight(wanted: i32, recorded: i32) -> Wait {
    wait(format!(
        "the router to carry weight {wanted} instead of {recorded}"
    ))
}

/// A router to confirm its weight.
pub(super) fn verification(weight: i32) -> Wait {
    wait(format!("the router to confirm weight {weight}"))
}

/// Routers to spread which pods a version has.
pub(super) fn spreading(until: Timestamp) -> Wait {
    Wait {
        until: Some(until),
        ..wait("the routers to spread the new version before its weight rises".to_owned())
    }
}

/// A router to take a route.
pub(super) fn route(name: &str) -> Wait {
    wait(format!("route {name} to be written"))
}

/// A pause to end.
pub(super) fn pause(facts: &Facts<'_>, reason: PauseReason, until: Option<Timestamp>) -> Wait {
    let for_what = match (reason, until) {
        (PauseReason::CanaryPauseStep, Some(_)) => {
            format!(
                "the pause of step {} of {} to end",
                facts.index() + 1,
                facts.steps().len()
            )
        }
        (PauseReason::CanaryPauseStep, None) => {
            format!(
                "a person to end the pause of step {} of {}",
                facts.index() + 1,
                facts.steps().len()
            )
        }
        (PauseReason::BlueGreenPause, Some(_)) => "the pause before the switch to end".to_owned(),
        (PauseReason::BlueGreenPause, None) => "a person to promote the preview".to_owned(),
        (PauseReason::InconclusiveAnalysisRun | PauseReason::InconclusiveExperiment, _) => {
            "a person to decide: the analysis was inconclusive".to_owned()
        }
        (PauseReason::Unknown, _) => "a pause to end".to_owned(),
    };
    Wait {
        for_what,
        since: facts.pause_start(reason),
        until,
        moved_by: &["promote", "abort"],
    }
}

/// A person to end the pause that they asked for in the spec.
pub(super) fn user_pause() -> Wait {
    Wait {
        moved_by: &["resume"],
        ..wait("a person to resume the rollout".to_owned())
    }
}

/// A person to decide what comes after an abort.
pub(super) fn after_abort(facts: &Facts<'_>) -> Wait {
    Wait {
        since: facts.status.aborted_at,
        moved_by: &["retry", "undo"],
        ..wait("a new version, a retry or an undo: the update was aborted".to_owned())
    }
}

/// An analysis run to end.
pub(super) fn analysis(run: &str) -> Wait {
    Wait {
        moved_by: &["promote", "abort"],
        ..wait(format!("analysis run {run} to end"))
    }
}

/// An experiment to end.
pub(super) fn experiment(experiment: &str) -> Wait {
    Wait {
        moved_by: &["promote", "abort"],
        ..wait(format!("experiment {experiment} to end"))
    }
}

/// A ReplicaSet to be scaled down later.
pub(super) fn scale_down(name: &str, until: Timestamp) -> Wait {
    Wait {
        until: Some(until),
        ..wait(format!("the delay before ReplicaSet {name} is scaled down"))
    }
}

/// Pods to be replaced by a restart.
pub(super) fn restart(left: usize) -> Wait {
    wait(format!("{left} pods to be restarted"))
}

/// A spec to be corrected.
pub(super) fn valid_spec(error: &str) -> Wait {
    wait(format!("a valid spec: {error}"))
}
