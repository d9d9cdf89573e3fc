//! How long pods stay that are no longer needed: those of a failed version after an abort, and those of former versions.
//!
//! The time at which a ReplicaSet may go is an annotation on it, which people may change. A version that is in use again loses it.

use crossfade_api::names::annotation;
use crossfade_api::time;
use jiff::SignedDuration;

use crate::action::ReplicaSetChange;
use crate::decision::{Halt, Plan};
use crate::mutant::{Mutant, wrong};

use super::facts::{DeadlineMark, Facts, Set, SetId, note};
use super::pause::Asks;
use super::replicas::Deadline;
use super::routing::Routing;
use super::waits;

/// What happens to the failed version after an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AbortDelay {
    /// There is no abort, or sizes say everything.
    None,
    /// It keeps its pods until there is a retry or a new version.
    Forever,
    /// It keeps its pods for so long after the stable version is complete.
    For(SignedDuration),
}

impl AbortDelay {
    pub(super) fn of(facts: &Facts<'_>, asks: &Asks) -> Self {
        if !asks.is_aborted(facts.status)
            || facts.stable_id().is_none()
            || facts.stable_id() == facts.new_id()
        {
            return Self::None;
        }
        let configured = match (facts.canary(), facts.blue_green()) {
            (_, Some(blue_green)) => blue_green.abort_scale_down_delay_seconds(),
            (Some(canary), None) if facts.is_routed() => {
                if facts.is_dynamic() && canary.abort_scale_down_delay_seconds.is_none() {
                    return Self::None;
                }
                canary.abort_scale_down_delay_seconds()
            }
            _ => return Self::None,
        };
        let configured = configured.map(|seconds| match seconds {
            seconds if seconds > 0 && wrong(Mutant::AbortDelayIgnored) => 0,
            seconds => seconds,
        });
        configured.map_or(Self::Forever, |seconds| {
            Self::For(SignedDuration::from_secs(i64::from(seconds)))
        })
    }

    /// Deadlines say how long the failed version stays.
    pub(super) fn uses_deadlines(self) -> bool {
        matches!(self, Self::For(_))
    }
}

/// The size of the failed version after an abort; `None` where the usual size applies.
pub(super) fn after_abort(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &Asks,
    routing: &Routing,
    delays: AbortDelay,
) -> Result<Option<i32>, Halt> {
    let recorded = routing.recorded(facts);
    let weight = recorded.map_or(0, |weights| weights.canary.weight);
    let unconfirmed = recorded.is_some_and(|weights| weights.verified == Some(false));
    // Pods that follow the weight follow what routers do, not what they were asked to do.
    if unconfirmed
        && delays == AbortDelay::None
        && asks.is_aborted(facts.status)
        && !wrong(Mutant::FailedGoesBeforeTraffic)
    {
        return Ok(facts.new_set().map(|new| new.observed.replicas));
    }
    let go = (weight == 0 && !unconfirmed) || wrong(Mutant::FailedGoesBeforeTraffic);
    let mark = if facts.is_dynamic() { go } else { !unconfirmed };
    failed_version(facts, plan, asks, delays, MayLeave { mark, go })
}

/// What may happen to a failed version, besides time.
#[derive(Clone, Copy, Debug)]
pub(super) struct MayLeave {
    /// Its delay may begin.
    pub(super) mark: bool,
    /// Nothing sends it requests any more.
    pub(super) go: bool,
}

/// As [`after_abort`], for both strategies.
pub(super) fn failed_version(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &Asks,
    delays: AbortDelay,
    may: MayLeave,
) -> Result<Option<i32>, Halt> {
    let Some(id) = facts.new_id().filter(|_| asks.is_aborted(facts.status)) else {
        return Ok(None);
    };
    let present = facts.set(id).observed.replicas;
    let delay = match delays {
        AbortDelay::None => return Ok(None),
        AbortDelay::Forever => return Ok(Some(present)),
        AbortDelay::For(delay) => delay,
    };
    let stable = facts
        .stable_set()
        .map_or(0, |stable| stable.observed.available);
    match facts.set(id).deadline {
        None if present == 0 => {}
        None if may.mark && (stable >= facts.replicas || wrong(Mutant::AbortDelayBeforeStable)) => {
            mark(facts, plan, id, delay)?;
        }
        None => {}
        Some(DeadlineMark::At(time)) if time > facts.now => {
            plan.look_again_in(facts.now.duration_until(time));
            plan.waits
                .push(waits::scale_down(facts.set(id).name(), time));
        }
        Some(DeadlineMark::At(_)) if !may.go => {}
        Some(DeadlineMark::At(_)) => return Ok(Some(0)),
        Some(DeadlineMark::Unreadable) => return Ok(None),
    }
    Ok(Some(present))
}

/// Gives a ReplicaSet the time at which it may be scaled to 0.
pub(super) fn mark(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    id: SetId,
    delay: SignedDuration,
) -> Result<(), Halt> {
    let until = facts.now + delay;
    let mut annotations = note(annotation::SCALE_DOWN_DEADLINE, Some(time::text(until)));
    if facts.set(id).desired != Some(facts.replicas) {
        annotations.insert(
            annotation::DESIRED_REPLICAS.to_owned(),
            Some(facts.replicas.to_string()),
        );
    }
    plan.look_again_in(delay);
    plan.waits
        .push(waits::scale_down(facts.set(id).name(), until));
    let change = ReplicaSetChange {
        annotations,
        ..ReplicaSetChange::default()
    };
    facts.change(plan, id, change)?;
    Ok(())
}

/// Takes away the deadlines of versions that are in use again.
pub(super) fn clear_deadlines(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    delays: AbortDelay,
) -> Result<(), Halt> {
    let new = facts.new_id().filter(|_| !delays.uses_deadlines());
    for id in [facts.stable_id(), new].into_iter().flatten() {
        if facts.set(id).deadline.is_some() && !wrong(Mutant::DelayKept) {
            let annotations = note(annotation::SCALE_DOWN_DEADLINE, None);
            let change = ReplicaSetChange {
                annotations,
                ..ReplicaSetChange::default()
            };
            facts.change(plan, id, change)?;
        }
    }
    Ok(())
}

/// How a ReplicaSet's deadline stands.
pub(super) fn deadline(facts: &Facts<'_>, set: &Set<'_>) -> Deadline {
    match set.deadline {
        None => Deadline::None,
        Some(DeadlineMark::At(time)) if time > facts.now => Deadline::Ahead,
        Some(DeadlineMark::At(_) | DeadlineMark::Unreadable) => Deadline::Passed,
    }
}
