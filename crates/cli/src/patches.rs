//! What each action writes: merge patches, found from the object as it stands.
//!
//! The patches are those of the reference's plugin, because controllers, policies and audit trails know them.

use crossfade_api::Rollout;
use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::rollout_status::PauseCondition;
use serde_json::{Map, Value, json};

/// What is to be written; both parts may be empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Change {
    /// Members of `spec`.
    pub(crate) spec: Map<String, Value>,
    /// Members of `status`.
    pub(crate) status: Map<String, Value>,
}

impl Change {
    /// True when nothing is to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.spec.is_empty() && self.status.is_empty()
    }

    fn spec(member: &str, value: Value) -> Self {
        Self {
            spec: Map::from_iter([(member.to_owned(), value)]),
            ..Self::default()
        }
    }

    fn status(member: &str, value: Value) -> Self {
        Self {
            status: Map::from_iter([(member.to_owned(), value)]),
            ..Self::default()
        }
    }

    /// Both parts as one merge patch.
    pub(crate) fn whole(&self) -> Value {
        let mut patch = json!({});
        if !self.spec.is_empty() {
            patch["spec"] = Value::Object(self.spec.clone());
        }
        if !self.status.is_empty() {
            patch["status"] = Value::Object(self.status.clone());
        }
        patch
    }
}

/// How a release is to be moved on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Promotion {
    /// Past its present pause or step.
    #[default]
    Next,
    /// Past its present step, as the deprecated flag has it.
    SkipStep,
    /// Past all steps, as the deprecated flag has it.
    SkipAll,
    /// Past steps, pauses and analysis.
    Full,
}

/// Ends an update and goes back.
pub(crate) fn abort() -> Change {
    Change::status("abort", json!(true))
}

/// Tries an update again that was ended.
pub(crate) fn retry() -> Change {
    Change::status("abort", json!(false))
}

/// Holds a Canary, or lets it go on.
pub(crate) fn suspend(held: bool) -> Change {
    Change::spec("suspend", json!(held))
}

/// Holds a release.
pub(crate) fn pause() -> Change {
    Change::spec("paused", json!(true))
}

/// Lets a release go on that a person holds.
pub(crate) fn resume() -> Change {
    Change::spec("paused", json!(false))
}

/// Ends a run early.
pub(crate) fn terminate() -> Change {
    Change::spec("terminate", json!(true))
}

/// Replaces all pods that were created before a time.
pub(crate) fn restart(at: jiff::Timestamp) -> Change {
    Change::spec("restartAt", json!(crossfade_api::time::text(at)))
}

/// Moves a release on.
///
/// # Errors
/// In the reference's words, for flags that do not go with the strategy.
pub(crate) fn promote(rollout: &Rollout, how: Promotion) -> Result<Change, String> {
    let (spec, status) = (&rollout.spec, &rollout.status);
    let steps = spec
        .strategy
        .canary
        .as_ref()
        .map_or(0, |canary| canary.steps.len());
    let steps = i32::try_from(steps).unwrap_or(i32::MAX);
    let index = status.current_step_index.unwrap_or(0);
    let next = index.saturating_add(1).min(steps);
    if matches!(how, Promotion::SkipStep | Promotion::SkipAll) {
        if spec.strategy.blue_green.is_some() {
            return Err("Cannot skip steps of a bluegreen rollout. Run without a flags".to_owned());
        }
        if steps == 0 {
            return Err("Cannot skip steps of a rollout without steps".to_owned());
        }
    }
    let mut change = if spec.paused && matches!(how, Promotion::Next | Promotion::Full) {
        Change::spec("paused", json!(false))
    } else {
        Change::default()
    };
    let mut set = |member: &str, value: Value| drop(change.status.insert(member.to_owned(), value));
    match how {
        Promotion::SkipStep => set("currentStepIndex", json!(next)),
        Promotion::SkipAll => set("currentStepIndex", json!(steps)),
        Promotion::Full => {
            if status.current_pod_hash != status.stable_rs {
                set("promoteFull", json!(true));
            }
        }
        Promotion::Next => {
            let is_held = !status.pause_conditions.is_empty();
            if is_held && status.controller_pause && is_inconclusive(rollout) {
                set("pauseConditions", Value::Null);
                set("controllerPause", json!(false));
                set("currentStepIndex", json!(index.saturating_add(1)));
            } else if is_held {
                set("pauseConditions", Value::Null);
            } else if steps > 0 && !is_being_released(rollout) {
                set("pauseConditions", Value::Null);
                set("currentStepIndex", json!(next));
            }
        }
    }
    Ok(change)
}

/// Somebody has ended the pause and the controller has yet to leave it. Moving the index now as well would skip the step after
/// the pause unrun.
fn is_being_released(rollout: &Rollout) -> bool {
    rollout.status.controller_pause && rollout.status.pause_conditions.is_empty()
}

fn is_inconclusive(rollout: &Rollout) -> bool {
    let run = &rollout.status.canary.current_step_analysis_run_status;
    run.as_ref()
        .is_some_and(|run| run.status == AnalysisPhase::Inconclusive)
}

/// What a promotion is decided on; while it stands, deciding again gives the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    hash: String,
    index: Option<i32>,
    pauses: Vec<PauseCondition>,
}

impl Place {
    /// Where a release stands.
    pub(crate) fn of(rollout: &Rollout) -> Self {
        let status = &rollout.status;
        Self {
            hash: status.current_pod_hash.as_str().to_owned(),
            index: status.current_step_index,
            pauses: status.pause_conditions.clone(),
        }
    }
}

/// Why a promotion would change nothing, in the words for people.
pub(crate) fn nothing_to_promote(rollout: &Rollout, change: &Change) -> Option<&'static str> {
    let status = &rollout.status;
    let is_done =
        !status.current_pod_hash.is_empty() && status.current_pod_hash == status.stable_rs;
    if is_being_released(rollout) && change.is_empty() {
        return Some("is already leaving its pause");
    }
    let is_held = rollout.spec.paused || !status.pause_conditions.is_empty();
    (change.is_empty() || (is_done && !is_held)).then_some("is not paused")
}

#[cfg(test)]
mod tests {
    use crossfade_api::Resource;

    use super::*;

    fn read(rollout: &Value) -> Rollout {
        let (read, errors) = Rollout::from_json(rollout.clone());
        assert_eq!(errors, [], "{rollout}");
        read
    }

    fn canary(status: &Value) -> Value {
        json!({"spec": {"strategy": {"canary": {"steps": [{"setWeight": 10}, {"pause": {}}, {"analysis": {}}]}}}, "status": status})
    }

    fn held() -> Value {
        json!([{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}])
    }

    fn check(rollout: &Value, how: Promotion, patch: &Value) {
        let change = promote(&read(rollout), how).map(|change| change.whole());
        assert_eq!(change, Ok(patch.clone()), "{how:?} {rollout}");
    }

    #[test]
    fn cli_16_at_a_pause_only_the_pause_condition_is_cleared() {
        let at_pause = canary(
            &json!({"currentStepIndex": 1, "controllerPause": true, "pauseConditions": held()}),
        );
        check(
            &at_pause,
            Promotion::Next,
            &json!({"status": {"pauseConditions": null}}),
        );
        let mut and_manual = at_pause.clone();
        and_manual["spec"]["paused"] = json!(true);
        check(
            &and_manual,
            Promotion::Next,
            &json!({"spec": {"paused": false}, "status": {"pauseConditions": null}}),
        );
    }

    #[test]
    fn cli_17_in_an_analysis_step_the_index_grows_by_one() {
        let measuring = canary(&json!({"currentStepIndex": 2}));
        check(
            &measuring,
            Promotion::Next,
            &json!({"status": {"pauseConditions": null, "currentStepIndex": 3}}),
        );
        let last = canary(&json!({"currentStepIndex": 3}));
        check(
            &last,
            Promotion::Next,
            &json!({"status": {"pauseConditions": null, "currentStepIndex": 3}}),
        );
    }

    #[test]
    fn cli_18_out_of_an_inconclusive_analysis_pause_and_index_change_together() {
        let unsure = canary(&json!({"currentStepIndex": 2, "controllerPause": true,
            "pauseConditions": [{"reason": "InconclusiveAnalysisRun", "startTime": "2026-01-01T00:00:00Z"}],
            "canary": {"currentStepAnalysisRunStatus": {"name": "a", "status": "Inconclusive"}}}));
        check(
            &unsure,
            Promotion::Next,
            &json!({"status": {"pauseConditions": null, "controllerPause": false, "currentStepIndex": 3}}),
        );
    }

    #[test]
    fn a_pause_that_somebody_has_just_ended_is_not_ended_twice() {
        let leaving = canary(&json!({"currentStepIndex": 1, "controllerPause": true}));
        check(&leaving, Promotion::Next, &json!({}));
        assert_eq!(
            nothing_to_promote(&read(&leaving), &Change::default()),
            Some("is already leaving its pause")
        );
    }

    #[test]
    fn cli_19_a_full_promotion_is_asked_for_only_when_there_is_something_to_promote() {
        let status = json!({"currentStepIndex": 1, "currentPodHash": "b", "stableRS": "a"});
        check(
            &canary(&status),
            Promotion::Full,
            &json!({"status": {"promoteFull": true}}),
        );
        let status = json!({"currentStepIndex": 3, "currentPodHash": "b", "stableRS": "b"});
        check(&canary(&status), Promotion::Full, &json!({}));
    }

    #[test]
    fn the_deprecated_flags_move_the_index_and_suit_only_canaries_with_steps() {
        let at_first = canary(&json!({"currentStepIndex": 0}));
        check(
            &at_first,
            Promotion::SkipStep,
            &json!({"status": {"currentStepIndex": 1}}),
        );
        check(
            &at_first,
            Promotion::SkipAll,
            &json!({"status": {"currentStepIndex": 3}}),
        );
        let blue_green =
            read(&json!({"spec": {"strategy": {"blueGreen": {"activeService": "a"}}}}));
        assert_eq!(
            promote(&blue_green, Promotion::SkipAll),
            Err("Cannot skip steps of a bluegreen rollout. Run without a flags".to_owned())
        );
        let without = read(&json!({"spec": {"strategy": {"canary": {}}}}));
        assert_eq!(
            promote(&without, Promotion::SkipStep),
            Err("Cannot skip steps of a rollout without steps".to_owned())
        );
    }

    #[test]
    fn a_canary_without_steps_and_a_blue_green_release_need_only_be_unpaused() {
        let without = json!({"spec": {"paused": true, "strategy": {"canary": {}}}});
        check(
            &without,
            Promotion::Next,
            &json!({"spec": {"paused": false}}),
        );
        let blue_green = json!({"spec": {"strategy": {"blueGreen": {"activeService": "a"}}}});
        check(&blue_green, Promotion::Next, &json!({}));
        let held = json!({"spec": {"strategy": {"blueGreen": {"activeService": "a"}}}, "status": {"pauseConditions": held()}});
        check(
            &held,
            Promotion::Next,
            &json!({"status": {"pauseConditions": null}}),
        );
    }
}
