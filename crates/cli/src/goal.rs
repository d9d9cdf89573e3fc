//! States of a release that one can wait for, and whether one is reached.

use std::fmt;
use std::str::FromStr;

use crossfade_api::Rollout;
use crossfade_api::rollout_status::{PauseReason, RolloutPhase};
use k8s_openapi::api::apps::v1::ReplicaSet;

use crate::view::phase::Standing;
use crate::view::{replica_set, weights};

/// A state that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The newest version is promoted and all its pods are available.
    Healthy,
    /// A pause is being served.
    Paused,
    /// This step is reached.
    Step(i32),
    /// The canary has at least this weight.
    Weight(i32),
    /// This revision, or a later one, is the one that is worked on.
    Revision(u64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("to be healthy"),
            Self::Paused => f.write_str("to pause"),
            Self::Step(step) => write!(f, "to reach step {step}"),
            Self::Weight(weight) => write!(f, "to reach weight {weight}"),
            Self::Revision(revision) => write!(f, "to work on revision {revision}"),
        }
    }
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text:?} is not a number"))
        };
        match text.split_once('=') {
            None if text == "healthy" => Ok(Self::Healthy),
            None if text == "paused" => Ok(Self::Paused),
            Some(("step", step)) => number(step).map(Self::Step),
            Some(("weight", weight)) => number(weight).map(Self::Weight),
            Some(("revision", revision)) => revision
                .parse()
                .map(Self::Revision)
                .map_err(|_| format!("{revision:?} is not a number")),
            _ => Err("use healthy, paused, step=N, weight=N or revision=N".to_owned()),
        }
    }
}

/// How a release stands towards a goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is reached.
    Reached,
    /// Not yet.
    NotYet,
    /// It was taken back, is stuck, or its spec is invalid; the message.
    Degraded(String),
    /// Somebody has to act first; what the release says about it.
    WaitsForPerson(String),
    /// The release has ended without it.
    Passed,
}

impl Goal {
    /// Whether a release has reached this state.
    pub(crate) fn judge(&self, rollout: &Rollout, sets: &[ReplicaSet]) -> Verdict {
        let standing = Standing::of(rollout);
        let status = &rollout.status;
        let done = standing.phase == RolloutPhase::Healthy;
        let reached = match self {
            Self::Healthy => done,
            Self::Paused => standing.phase == RolloutPhase::Paused,
            Self::Step(step) => {
                let is_observed = !Self::is_ahead_of_controller(&standing);
                let index = status.current_step_index.unwrap_or(0);
                let steps = rollout
                    .spec
                    .strategy
                    .canary
                    .as_ref()
                    .map_or(0, |canary| canary.steps.len());
                is_observed && steps > 0 && !status.abort && index >= *step
            }
            Self::Weight(weight) => {
                let uid = replica_set::uid(rollout);
                let sets: Vec<_> = sets
                    .iter()
                    .filter(|set| replica_set::is_owned_by(&set.metadata, uid))
                    .collect();
                let is_observed = !Self::is_ahead_of_controller(&standing);
                let has = weights::of(rollout, &sets).map_or(0, |weights| weights.actual);
                done || (is_observed && !status.abort && has >= *weight)
            }
            Self::Revision(revision) => replica_set::revision(&rollout.metadata) >= *revision,
        };
        if reached {
            return Verdict::Reached;
        }
        if standing.phase == RolloutPhase::Degraded {
            return Verdict::Degraded(standing.message);
        }
        if needs_person(rollout, &standing) && *self == Self::Healthy {
            return Verdict::WaitsForPerson(standing.message);
        }
        match self {
            Self::Paused | Self::Step(_) if done => Verdict::Passed,
            _ => Verdict::NotYet,
        }
    }

    /// A spec that nobody has looked at says nothing about steps and weights yet.
    fn is_ahead_of_controller(standing: &Standing) -> bool {
        standing.phase == RolloutPhase::Progressing
            && standing.message.contains("spec update to be observed")
    }
}

/// Whether only a person ends the present pause.
pub(crate) fn needs_person(rollout: &Rollout, standing: &Standing) -> bool {
    // Somebody has ended all pauses, and nobody has looked at it since.
    if standing.phase != RolloutPhase::Paused || rollout.status.promote_full {
        return false;
    }
    if rollout.spec.paused {
        return true;
    }
    let strategy = &rollout.spec.strategy;
    rollout
        .status
        .pause_conditions
        .iter()
        .any(|pause| match pause.reason {
            PauseReason::CanaryPauseStep => {
                let index =
                    usize::try_from(rollout.status.current_step_index.unwrap_or(0)).unwrap_or(0);
                let step = strategy
                    .canary
                    .as_ref()
                    .and_then(|canary| canary.steps.get(index));
                let pause = step.and_then(|step| step.pause.as_ref());
                pause.is_none_or(|pause| pause.duration.is_none())
            }
            PauseReason::BlueGreenPause => strategy
                .blue_green
                .as_ref()
                .is_none_or(|strategy| strategy.auto_promotion_seconds <= 0),
            PauseReason::InconclusiveAnalysisRun
            | PauseReason::InconclusiveExperiment
            | PauseReason::Unknown => true,
        })
}

#[cfg(test)]
mod tests {
    use crossfade_api::Resource;
    use serde_json::{Value, json};

    use super::*;

    fn check(goal: &str, rollout: &Value, verdict: &Verdict) {
        let (read, errors) = Rollout::from_json(rollout.clone());
        assert_eq!(errors, [], "{rollout}");
        let goal: Goal = goal.parse().expect(goal);
        assert_eq!(goal.judge(&read, &[]), *verdict, "{goal:?} {rollout}");
    }

    fn paused(pause: &Value) -> Value {
        json!({"metadata": {"annotations": {"rollout.argoproj.io/revision": "4"}},
            "spec": {"strategy": {"canary": {"trafficRouting": {"nginx": {}}, "steps": [{"setWeight": 20}, {"pause": pause}, {"setWeight": 50}]}}},
            "status": {"phase": "Paused", "message": "CanaryPauseStep", "controllerPause": true, "currentStepIndex": 1, "availableReplicas": 5,
                "canary": {"weights": {"canary": {"weight": 20}, "stable": {"weight": 80}}},
                "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}]}})
    }

    #[test]
    fn at_a_pause_for_a_person_only_a_person_leads_to_healthy() {
        let person = Verdict::WaitsForPerson("CanaryPauseStep".to_owned());
        check("healthy", &paused(&json!({})), &person);
        check(
            "healthy",
            &paused(&json!({"duration": "10m"})),
            &Verdict::NotYet,
        );
        check("paused", &paused(&json!({})), &Verdict::Reached);
        let mut promoted = paused(&json!({}));
        promoted["status"]["promoteFull"] = json!(true);
        check("healthy", &promoted, &Verdict::NotYet);
    }

    #[test]
    fn steps_weights_and_revisions_count_as_reached_when_they_are_passed() {
        let rollout = paused(&json!({}));
        for (goal, verdict) in [
            ("step=1", Verdict::Reached),
            ("step=2", Verdict::NotYet),
            ("weight=20", Verdict::Reached),
            ("weight=21", Verdict::NotYet),
            ("revision=4", Verdict::Reached),
            ("revision=5", Verdict::NotYet),
        ] {
            check(goal, &rollout, &verdict);
        }
    }

    #[test]
    fn a_degraded_release_reaches_nothing_and_says_why() {
        let rollout =
            json!({"status": {"phase": "Degraded", "message": "RolloutAborted: x", "abort": true}});
        check(
            "healthy",
            &rollout,
            &Verdict::Degraded("RolloutAborted: x".to_owned()),
        );
        check(
            "weight=5",
            &rollout,
            &Verdict::Degraded("RolloutAborted: x".to_owned()),
        );
    }

    #[test]
    fn a_blue_green_release_waits_for_a_person_unless_a_time_is_set() {
        let with = |seconds: i32| {
            json!({"spec": {"strategy": {"blueGreen": {"activeService": "a", "autoPromotionSeconds": seconds}}},
                "status": {"phase": "Paused", "message": "BlueGreenPause", "controllerPause": true,
                    "pauseConditions": [{"reason": "BlueGreenPause", "startTime": "2026-01-01T00:00:00Z"}]}})
        };
        check(
            "healthy",
            &with(0),
            &Verdict::WaitsForPerson("BlueGreenPause".to_owned()),
        );
        check("healthy", &with(30), &Verdict::NotYet);
    }

    #[test]
    fn a_release_that_ended_without_pausing_is_not_waited_for_any_longer() {
        let done = json!({"spec": {"strategy": {"canary": {"steps": [{"setWeight": 5}]}}},
            "status": {"phase": "Healthy", "currentStepIndex": 1}});
        check("paused", &done, &Verdict::Passed);
        check("step=1", &done, &Verdict::Reached);
        check("step=2", &done, &Verdict::Passed);
        check("weight=100", &done, &Verdict::Reached);
    }

    #[test]
    fn a_goal_that_does_not_exist_is_told_with_those_that_do() {
        assert!(
            "happy"
                .parse::<Goal>()
                .is_err_and(|error| error.contains("weight=N"))
        );
        assert!(
            "step=x"
                .parse::<Goal>()
                .is_err_and(|error| error.contains("not a number"))
        );
    }
}
