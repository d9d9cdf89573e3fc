//! The phase of a Rollout as a client must show it.
//!
//! The stored phase speaks about the generation that was last acted on. Until the newest one has been seen, a client that showed it
//! would announce the old success of a change that has just been made.

use crossfade_api::names::{annotation, condition, reason};
use crossfade_api::rollout_status::RolloutPhase;
use crossfade_api::{Resource, Rollout};

use super::icon::{Icon, State};

const NOT_OBSERVED: &str = "waiting for rollout spec update to be observed";

/// The phase of a Rollout and why it has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The state in one word.
    pub(crate) phase: RolloutPhase,
    /// Why; may be empty.
    pub(crate) message: String,
}

impl Standing {
    /// How a Rollout stands.
    pub(crate) fn of(rollout: &Rollout) -> Self {
        not_yet_observed(rollout).map_or_else(
            || match rollout.status.phase {
                RolloutPhase::Unset => from_status(rollout),
                phase => Self::new(phase, &rollout.status.message),
            },
            |message| Self::new(RolloutPhase::Progressing, message),
        )
    }

    fn new(phase: RolloutPhase, message: &str) -> Self {
        Self {
            phase,
            message: message.to_owned(),
        }
    }

    /// The phase in one word.
    pub(crate) fn word(&self) -> &'static str {
        match self.phase {
            RolloutPhase::Unset => "Unknown",
            RolloutPhase::Progressing => "Progressing",
            RolloutPhase::Paused => "Paused",
            RolloutPhase::Healthy => "Healthy",
            RolloutPhase::Degraded => "Degraded",
        }
    }

    /// The phase with its sign.
    pub(crate) fn state(&self) -> State {
        let icon = match self.phase {
            RolloutPhase::Unset => Icon::Unknown,
            RolloutPhase::Progressing => Icon::Progressing,
            RolloutPhase::Paused => Icon::Paused,
            RolloutPhase::Healthy => Icon::Ok,
            RolloutPhase::Degraded => Icon::Bad,
        };
        State::new(icon, self.word())
    }

    /// `<phase> - <message>`, or the phase alone when there is no message.
    pub(crate) fn line(&self) -> String {
        if self.message.is_empty() {
            self.word().to_owned()
        } else {
            format!("{} - {}", self.word(), self.message)
        }
    }
}

/// What the controller has still to look at, if anything.
fn not_yet_observed(rollout: &Rollout) -> Option<&'static str> {
    let status = &rollout.status;
    let behind = |observed: &str, present: i64| {
        // Very old releases stored a hash here; what is no number counts as observed.
        observed
            .parse::<i64>()
            .is_ok_and(|observed| observed < present)
    };
    if behind(
        &status.observed_generation,
        rollout.metadata.generation.unwrap_or(0),
    ) {
        return Some(NOT_OBSERVED);
    }
    if status.controller_pause && status.pause_conditions.is_empty() {
        return Some("waiting for rollout to unpause");
    }
    let workload = rollout.spec.workload_ref.as_ref().and_then(|_| {
        let annotations = rollout.metadata().annotations.as_ref()?;
        annotations.get(annotation::WORKLOAD_GENERATION)
    });
    if workload.is_some_and(|generation| *generation != status.workload_observed_generation) {
        return Some("waiting for rollout spec update to be observed for the reference workload");
    }
    None
}

/// The phase as a controller that records none would have found it.
fn from_status(rollout: &Rollout) -> Standing {
    use RolloutPhase::{Degraded, Healthy, Paused, Progressing};
    let (spec, status) = (&rollout.spec, &rollout.status);
    for entry in &status.conditions {
        if entry.kind == condition::INVALID_SPEC {
            let message = format!("{}: {}", condition::INVALID_SPEC, entry.message);
            return Standing::new(Degraded, &message);
        }
        if [reason::ABORTED, reason::DEADLINE_EXCEEDED].contains(&entry.reason.as_str()) {
            return Standing::new(Degraded, &format!("{}: {}", entry.reason, entry.message));
        }
    }
    if spec.paused {
        return Standing::new(Paused, "manually paused");
    }
    if let Some(pause) = status.pause_conditions.first() {
        return Standing::new(Paused, pause.reason.as_str());
    }
    let not_stable = status.stable_rs.is_empty() || status.stable_rs != status.current_pod_hash;
    let waiting = if spec.restart_at.is_some() && spec.restart_at != status.restarted_at {
        Some("rollout is restarting")
    } else if status.updated_replicas < spec.replicas() {
        Some("more replicas need to be updated")
    } else if status.available_replicas < status.updated_replicas {
        Some("updated replicas are still becoming available")
    } else if let Some(strategy) = &spec.strategy.blue_green {
        let active = &status.blue_green.active_selector;
        let checked = status
            .blue_green
            .post_promotion_analysis_run_status
            .as_ref()
            .is_some_and(|run| run.status.is_completed());
        if active.is_empty() || *active != status.current_pod_hash {
            Some("active service cutover pending")
        } else if not_stable && strategy.post_promotion_analysis.is_some() && !checked {
            Some("waiting for analysis to complete")
        } else if not_stable {
            Some("waiting for post-promotion verification to complete")
        } else {
            None
        }
    } else if let Some(strategy) = &spec.strategy.canary {
        if strategy.traffic_routing.is_none() && status.replicas > status.updated_replicas {
            Some("old replicas are pending termination")
        } else if not_stable {
            Some("waiting for all steps to complete")
        } else {
            None
        }
    } else {
        None
    };
    waiting.map_or_else(
        || Standing::new(Healthy, ""),
        |message| Standing::new(Progressing, message),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(rollout: &Value, line: &str) {
        let (read, errors) = Rollout::from_json(rollout.clone());
        assert_eq!(errors, [], "{rollout}");
        assert_eq!(Standing::of(&read).line(), line, "{rollout}");
    }

    #[test]
    fn a_change_that_nobody_has_looked_at_is_in_progress() {
        let healthy = |generation: i64, observed: &str| {
            json!({"metadata": {"generation": generation},
                "status": {"phase": "Healthy", "observedGeneration": observed}})
        };
        check(
            &healthy(3, "2"),
            "Progressing - waiting for rollout spec update to be observed",
        );
        check(&healthy(3, "3"), "Healthy");
        check(&healthy(3, "f7c5b8"), "Healthy");
        check(&healthy(3, "4"), "Healthy");
    }

    #[test]
    fn a_pause_that_was_ended_and_not_yet_left_is_in_progress() {
        check(
            &json!({"status": {"phase": "Paused", "controllerPause": true}}),
            "Progressing - waiting for rollout to unpause",
        );
    }

    #[test]
    fn a_referenced_workload_must_have_been_seen_too() {
        check(
            &json!({"metadata": {"annotations": {"rollout.argoproj.io/workload-generation": "5"}},
                "spec": {"workloadRef": {"name": "web"}},
                "status": {"phase": "Healthy", "workloadObservedGeneration": "4"}}),
            "Progressing - waiting for rollout spec update to be observed for the reference workload",
        );
    }

    #[test]
    fn without_a_stored_phase_the_status_says_how_it_stands() {
        let canary = |status: Value| json!({"spec": {"replicas": 2, "strategy": {"canary": {}}}, "status": status});
        let aborted = json!([{"type": "Progressing", "status": "False", "reason": "RolloutAborted",
            "message": "Rollout aborted update to revision 2",
            "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let table = [
            (
                json!({"conditions": aborted}),
                "Degraded - RolloutAborted: Rollout aborted update to revision 2",
            ),
            (
                json!({"pauseConditions": [{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}]}),
                "Paused - CanaryPauseStep",
            ),
            (
                json!({"updatedReplicas": 1}),
                "Progressing - more replicas need to be updated",
            ),
            (
                json!({"updatedReplicas": 2, "availableReplicas": 1}),
                "Progressing - updated replicas are still becoming available",
            ),
            (
                json!({"updatedReplicas": 2, "availableReplicas": 2, "replicas": 3}),
                "Progressing - old replicas are pending termination",
            ),
            (
                json!({"updatedReplicas": 2, "availableReplicas": 2, "replicas": 2, "stableRS": "a", "currentPodHash": "b"}),
                "Progressing - waiting for all steps to complete",
            ),
            (
                json!({"updatedReplicas": 2, "availableReplicas": 2, "replicas": 2, "stableRS": "b", "currentPodHash": "b"}),
                "Healthy",
            ),
        ];
        for (status, line) in table {
            check(&canary(status), line);
        }
    }
}
