//! The phase of a Rollout as a client must show it.
//!
//! The stored phase speaks about the generation that was last acted on. Until the newest one has been seen, a client that showed it
//! would announce the old success of a change that has just been made.

use crossfade_api::Rollout;
use crossfade_api::rollout_status::RolloutPhase;
use crossfade_engine::rollout::seen_by_client;

use super::icon::{Icon, State};

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
        let (phase, message) = seen_by_client(rollout);
        Self {
            phase,
            message: message.into_owned(),
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

#[cfg(test)]
mod tests {
    use crossfade_api::Resource as _;
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
