//! The conditions of an experiment: that its spec is invalid, and whether it makes progress.

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::experiment::ExperimentStatus;
use crossfade_api::names::{condition, reason};
use crossfade_api::rollout_status::{ConditionStatus, RolloutCondition};

use super::facts::Facts;

/// Of the condition Progressing: the experiment has ended well.
const COMPLETED: &str = "ExperimentCompleted";

/// Tells that the spec cannot be acted on, and why.
pub(super) fn tell_invalid(facts: &Facts<'_>, status: &mut ExperimentStatus, why: String) {
    let there = status.conditions.iter();
    if there
        .into_iter()
        .any(|there| there.kind == condition::INVALID_SPEC && there.message == why)
    {
        return;
    }
    set(
        facts,
        status,
        condition::INVALID_SPEC,
        ConditionStatus::True,
        reason::INVALID_SPEC,
        why,
    );
}

/// The spec is valid again.
pub(super) fn forget_invalid(status: &mut ExperimentStatus) {
    let conditions = &mut status.conditions;
    conditions.retain(|condition| condition.kind != condition::INVALID_SPEC);
}

/// Whether the experiment makes progress: the first row that applies.
pub(super) fn tell_progress(facts: &Facts<'_>, status: &mut ExperimentStatus) {
    let name = facts.name();
    let (holds, why, message) = if status.phase == AnalysisPhase::Successful {
        let message = format!("Experiment \"{name}\" has successfully ran and completed.");
        (ConditionStatus::False, COMPLETED, message)
    } else if has_progressed(facts, status) {
        let message = format!("Experiment \"{name}\" is progressing.");
        (ConditionStatus::True, reason::RS_UPDATED, message)
    } else if status.available_at.is_some() && !facts.is_over() {
        let message = format!("Experiment \"{name}\" is running.");
        (ConditionStatus::True, reason::NEW_RS_AVAILABLE, message)
    } else {
        return;
    };
    let mut there = status.conditions.iter();
    let same = there.any(|there| {
        there.kind == condition::PROGRESSING && there.status == holds && there.reason == why
    });
    if !same || why == reason::RS_UPDATED {
        set(facts, status, condition::PROGRESSING, holds, why, message);
    }
}

/// A template was looked at for the first time, or the number of its pods changed.
fn has_progressed(facts: &Facts<'_>, status: &ExperimentStatus) -> bool {
    status.template_statuses.iter().any(|template| {
        let mut before = facts.status.template_statuses.iter();
        before
            .find(|before| before.name == template.name)
            .is_none_or(|before| {
                before.replicas != template.replicas
                    || before.ready_replicas != template.ready_replicas
                    || before.available_replicas != template.available_replicas
            })
    })
}

fn set(
    facts: &Facts<'_>,
    status: &mut ExperimentStatus,
    kind: &str,
    holds: ConditionStatus,
    why: &str,
    message: String,
) {
    let now = facts.stamp();
    let mut before = status.conditions.iter();
    let before = before.find(|condition| condition.kind == kind);
    let since = before.filter(|before| before.status == holds);
    let since = since.map_or(now, |before| before.last_transition_time);
    status.conditions.retain(|condition| condition.kind != kind);
    status.conditions.push(RolloutCondition {
        kind: kind.to_owned(),
        status: holds,
        last_update_time: now,
        last_transition_time: since,
        reason: why.to_owned(),
        message,
    });
}
