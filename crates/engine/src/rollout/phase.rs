//! The state of a Rollout in one word and a sentence: `status.phase` and `status.message`.
//!
//! [`of`] is what the controller writes; [`seen_by_client`] is what a client shows, which knows in addition when the controller
//! has not yet looked.

use crate::mutant::{Mutant, wrong};
use std::borrow::Cow;

use crossfade_api::Rollout;
use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::{annotation, condition, reason};
use crossfade_api::rollout::RolloutSpec;
use crossfade_api::rollout_status::{PauseReason, RolloutCondition, RolloutPhase, RolloutStatus};
use jiff::Timestamp;

/// What the phase follows from, besides the spec.
pub(super) struct Seen<'a> {
    pub(super) conditions: &'a [RolloutCondition],
    pub(super) first_pause: Option<PauseReason>,
    pub(super) restarted_at: Option<Timestamp>,
    pub(super) replicas: i32,
    pub(super) updated_replicas: i32,
    pub(super) available_replicas: i32,
    /// Hash of the newest version.
    pub(super) current: &'a str,
    /// Hash of the last promoted version.
    pub(super) stable: &'a str,
    /// Hash that the active Service of a blue-green release selects.
    pub(super) active: &'a str,
    /// Phase of the post-promotion run, if there is one.
    pub(super) post_promotion: Option<AnalysisPhase>,
}

/// Phase and message; the first row that applies.
pub(super) fn of(spec: &RolloutSpec, seen: &Seen<'_>) -> (RolloutPhase, Cow<'static, str>) {
    use RolloutPhase::{Degraded, Healthy, Paused, Progressing};
    let bad = seen.conditions.iter().find_map(|told| {
        let by_reason =
            [reason::ABORTED, reason::DEADLINE_EXCEEDED].contains(&told.reason.as_str());
        if told.kind == condition::INVALID_SPEC {
            Some(format!("{}: {}", condition::INVALID_SPEC, told.message))
        } else {
            by_reason.then(|| format!("{}: {}", told.reason, told.message))
        }
    });
    if let Some(message) = bad {
        return (Degraded, Cow::Owned(message));
    }
    let promoted = !seen.stable.is_empty() && seen.stable == seen.current;
    let (phase, message) = if spec.paused {
        (Paused, "manually paused")
    } else if let Some(reason) = seen.first_pause {
        (Paused, reason.as_str())
    } else if spec.restart_at.is_some() && spec.restart_at != seen.restarted_at {
        (Progressing, "rollout is restarting")
    } else if seen.updated_replicas < spec.replicas() {
        (Progressing, "more replicas need to be updated")
    } else if seen.available_replicas < seen.updated_replicas {
        (Progressing, "updated replicas are still becoming available")
    } else if let Some(blue_green) = &spec.strategy.blue_green {
        let post = blue_green.post_promotion_analysis.is_some();
        let analysed = seen.post_promotion.is_some_and(AnalysisPhase::is_completed);
        if seen.active.is_empty() || seen.active != seen.current {
            (Progressing, "active service cutover pending")
        } else if promoted {
            (Healthy, "")
        } else if post && !analysed {
            (Progressing, "waiting for analysis to complete")
        } else {
            (
                Progressing,
                "waiting for post-promotion verification to complete",
            )
        }
    } else {
        let canary = spec.strategy.canary.as_ref();
        let routed = canary.is_some_and(|canary| canary.traffic_routing.is_some());
        if !routed && seen.replicas > seen.updated_replicas {
            (Progressing, "old replicas are pending termination")
        } else if promoted || wrong(Mutant::HealthyTooEarly) {
            (Healthy, "")
        } else {
            (Progressing, "waiting for all steps to complete")
        }
    };
    (phase, Cow::Borrowed(message))
}

/// Phase and message of a stored status, by the same rows.
fn of_stored(spec: &RolloutSpec, status: &RolloutStatus) -> (RolloutPhase, Cow<'static, str>) {
    let post = status
        .blue_green
        .post_promotion_analysis_run_status
        .as_ref();
    let seen = Seen {
        conditions: &status.conditions,
        first_pause: status.pause_conditions.first().map(|pause| pause.reason),
        restarted_at: status.restarted_at,
        replicas: status.replicas,
        updated_replicas: status.updated_replicas,
        available_replicas: status.available_replicas,
        current: &status.current_pod_hash.0,
        stable: &status.stable_rs.0,
        active: &status.blue_green.active_selector.0,
        post_promotion: post.map(|run| run.status),
    };
    of(spec, &seen)
}

/// Phase and message as a client shows them: what the controller has not looked at yet is still progressing.
pub fn seen_by_client(rollout: &Rollout) -> (RolloutPhase, Cow<'_, str>) {
    let (metadata, status) = (&rollout.metadata, &rollout.status);
    let progressing = |message| (RolloutPhase::Progressing, Cow::Borrowed(message));
    let generation = metadata.generation.unwrap_or(0);
    // What is no number was written by releases before 0.10, and counts as observed.
    if status
        .observed_generation
        .parse()
        .is_ok_and(|observed: i64| observed < generation)
    {
        return progressing("waiting for rollout spec update to be observed");
    }
    if status.controller_pause && status.pause_conditions.is_empty() {
        return progressing("waiting for rollout to unpause");
    }
    let notes = metadata.annotations.as_ref();
    let workload = notes.and_then(|notes| notes.get(annotation::WORKLOAD_GENERATION));
    if rollout.spec.workload_ref.is_some()
        && workload.map_or("", String::as_str) != status.workload_observed_generation
    {
        return progressing(
            "waiting for rollout spec update to be observed for the reference workload",
        );
    }
    if status.phase == RolloutPhase::Unset {
        return of_stored(&rollout.spec, status);
    }
    (status.phase, Cow::Borrowed(&status.message))
}
