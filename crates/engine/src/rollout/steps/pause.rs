//! `pause`: waits for a person, or for a while.

use crossfade_api::rollout_status::PauseReason;
use crossfade_api::steps::Pause;
use jiff::{SignedDuration, Timestamp};

use crate::decision::Plan;

use super::Seen;
use crate::gate::Answer;
use crate::mutant::{Mutant, wrong};
use crate::rollout::facts::Facts;
use crate::rollout::pause::Asks;
use crate::rollout::waits;

/// Begins the pause of the step under way, unless a person has just ended it.
pub(in crate::rollout) fn begin(facts: &Facts<'_>, plan: &mut Plan<'_>, asks: &mut Asks) {
    let Some(pause) = facts.step().and_then(|step| step.pause.as_ref()) else {
        return;
    };
    if facts.spec.paused
        || facts.status.promote_full
        || asks.is_aborted(facts.status)
        || is_served(facts, pause)
    {
        return;
    }
    match end(facts, pause) {
        Some(end) => plan.look_again_in(facts.now.duration_until(end)),
        None if facts.is_paused_for(PauseReason::CanaryPauseStep) => {}
        None => {
            asks.pause(PauseReason::CanaryPauseStep);
            if let Some(seconds) = pause.duration_seconds() {
                plan.look_again_in(SignedDuration::from_secs(seconds));
            }
        }
    }
}

/// Done when a person has resumed, or its time is over.
pub(super) fn gate(seen: &Seen<'_, '_>, pause: &Pause) -> Answer {
    let facts = seen.facts;
    if !seen.asks.adds(PauseReason::CanaryPauseStep) && is_served(facts, pause) {
        return Answer::Go;
    }
    let until = end(facts, pause).or_else(|| {
        let seconds = pause.duration_seconds()?;
        Some(facts.now + SignedDuration::from_secs(seconds))
    });
    Answer::lacks(waits::pause(facts, PauseReason::CanaryPauseStep, until))
}

fn is_served(facts: &Facts<'_>, pause: &Pause) -> bool {
    facts.is_resumed()
        || end(facts, pause).is_some_and(|end| end <= facts.now)
        || needs_nobody(facts, pause)
}

/// Whether a pause ends as soon as it has begun, which is never right.
fn needs_nobody(facts: &Facts<'_>, pause: &Pause) -> bool {
    let rule = match pause.duration_seconds() {
        Some(_) => Mutant::PauseCutShort,
        None => Mutant::PauseNeedsNobody,
    };
    facts.is_paused_for(PauseReason::CanaryPauseStep) && wrong(rule)
}

/// When a pause that has begun ends by itself.
fn end(facts: &Facts<'_>, pause: &Pause) -> Option<Timestamp> {
    let begun = facts.pause_start(PauseReason::CanaryPauseStep)?;
    Some(begun + SignedDuration::from_secs(pause.duration_seconds()?))
}
