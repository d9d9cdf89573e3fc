//! How long an attempt to release takes: `status.duration`.
//!
//! An attempt begins with the first change of an update or with a retry, and ends with the promoted version at its full size, or with an
//! abort. Time spent waiting for a person is added up apart.

use crossfade_api::names::reason;
use crossfade_api::rollout_status::{CompletionStatus, RolloutDuration};
use jiff::{SignedDuration, Timestamp};

use super::conditions::{progressing, whole_seconds};
use super::facts::Facts;
use super::status::{Draft, waits_for_a_person};

/// Records that the version of an attempt under way was promoted.
pub(super) fn promoted(draft: &mut Draft<'_>, full: bool) {
    if let Some(attempt) = &mut draft.duration
        && attempt.completion_status == CompletionStatus::Unset
    {
        attempt.completion_status = if full {
            CompletionStatus::FastPromoted
        } else {
            CompletionStatus::Promoted
        };
    }
}

/// Brings the timing up to date with the rest of the status.
pub(super) fn track(facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let now = whole_seconds(facts.now);
    let available = facts.new_set().map_or(0, |set| set.observed.available);
    let arrived = draft.is_promoted() && available >= facts.replicas;
    let changed = facts.is_changed() || facts.status.current_pod_hash.is_empty();
    let told =
        |conditions| progressing(conditions).is_some_and(|told| told.reason == reason::ABORTED);
    let retried = told(&facts.status.conditions) && !told(&draft.conditions) && !draft.abort;
    let mut attempt = draft.duration.take();
    let running = attempt
        .as_ref()
        .is_some_and(|attempt| attempt.finished_at.is_none());
    if running && changed {
        let rolled_back = rollback(facts);
        match (&mut attempt, rolled_back) {
            (Some(attempt), Some(how)) => attempt.completion_status = how,
            (attempt, _) => *attempt = Some(begun(facts, attempt.as_ref())),
        }
    } else if !running && !arrived && (changed || (attempt.is_some() && retried)) {
        attempt = Some(begun(facts, attempt.as_ref()));
    }
    if let Some(attempt) = attempt
        .as_mut()
        .filter(|attempt| attempt.finished_at.is_none())
    {
        if attempt.rollout_started_at.is_none() {
            attempt.rollout_started_at = Some(now);
        }
        let ended = if draft.abort {
            Some(CompletionStatus::Aborted)
        } else {
            arrived.then_some(CompletionStatus::Promoted)
        };
        let paused = ended.is_none() && waits_for_a_person(facts, draft);
        count_pause(attempt, paused, now);
        if let Some(how) = ended {
            attempt.finished_at = Some(now);
            if attempt.completion_status == CompletionStatus::Unset {
                attempt.completion_status = how;
            }
        }
    }
    draft.duration = attempt;
}

/// An attempt that begins now. By its start its runs are told from those of former attempts with the same version, so those of one second
/// get one second after the other.
fn begun(facts: &Facts<'_>, former: Option<&RolloutDuration>) -> RolloutDuration {
    let now = whole_seconds(facts.now);
    let former = former.filter(|_| !facts.template_changed());
    let former = former.and_then(|former| former.rollout_started_at);
    let just = former.filter(|former| (now..now + SignedDuration::from_mins(1)).contains(former));
    let next = just.map(|former| former + SignedDuration::from_secs(1));
    RolloutDuration {
        rollout_started_at: Some(next.unwrap_or(now)),
        ..RolloutDuration::default()
    }
}

/// How a change towards an older version ends the attempt; `None` when it is no step back.
fn rollback(facts: &Facts<'_>) -> Option<CompletionStatus> {
    let (new, stable) = (facts.new_set()?, facts.stable_set()?);
    let to_stable = facts.new_id() == facts.stable_id();
    let delayed = facts.blue_green().is_some() && new.is_delayed(facts.now);
    if to_stable || facts.is_within_rollback_window() {
        Some(CompletionStatus::FastRolledBack)
    } else if new.observed.created < stable.observed.created {
        Some(if delayed {
            CompletionStatus::FastRolledBack
        } else {
            CompletionStatus::RolledBack
        })
    } else {
        None
    }
}

fn count_pause(attempt: &mut RolloutDuration, paused: bool, now: Timestamp) {
    match (attempt.manual_pause_started_at, paused) {
        (None, true) => attempt.manual_pause_started_at = Some(now),
        (Some(since), false) => {
            let seconds = since.duration_until(now).as_secs().max(0);
            let total = attempt.total_manual_pause_duration_seconds.unwrap_or(0);
            attempt.total_manual_pause_duration_seconds = Some(total.saturating_add(seconds));
            attempt.manual_pause_started_at = None;
        }
        (None, false) | (Some(_), true) => {}
    }
}
