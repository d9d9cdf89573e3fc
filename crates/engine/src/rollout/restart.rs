//! Replacing running pods without a new version: `spec.restartAt`.
//!
//! Pods made before that time are evicted, a few at a time and only while enough are available without them. An eviction that a disruption
//! budget forbids is tried again later.

use crossfade_api::Rollout;
use jiff::{SignedDuration, Timestamp};

use crate::action::{Action, FailureKind};
use crate::decision::{Halt, Plan};
use crate::mutant::{Mutant, wrong};

use super::facts::{Facts, SetId};
use super::waits;
use super::world::Pod;

/// How long to wait before the next pods are evicted.
const NEXT_BATCH: SignedDuration = SignedDuration::from_secs(30);

/// What a restart came to in a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evicted {
    /// At least one pod was evicted.
    pub(super) evicted: bool,
}

/// Whether a restart is asked for that is not done yet.
pub(super) fn is_asked_for(rollout: &Rollout) -> bool {
    rollout.spec.restart_at.is_some() && rollout.spec.restart_at != rollout.status.restarted_at
}

/// The time of a restart that is due.
fn due(facts: &Facts<'_>) -> Option<Timestamp> {
    let time = facts
        .spec
        .restart_at
        .filter(|_| is_asked_for(&facts.world.rollout))?;
    (facts.now > time).then_some(time)
}

/// Evicts as many old pods as may be missing now.
pub(super) fn evict(facts: &Facts<'_>, plan: &mut Plan<'_>) -> Result<Evicted, Halt> {
    let mut result = Evicted::default();
    let Some(time) = due(facts) else {
        if let Some(time) = facts.spec.restart_at.filter(|time| *time >= facts.now) {
            plan.look_again_in(facts.now.duration_until(time) + SignedDuration::from_secs(1));
        }
        return Ok(result);
    };
    let mut spare = spare(facts);
    for id in in_order(facts) {
        for pod in old_pods(facts, id, time).filter(|pod| !pod.deleting) {
            if spare <= 0 && !wrong(Mutant::RestartAllAtOnce) {
                break;
            }
            match plan.act(Action::EvictPod {
                target: pod.target.clone(),
            })? {
                Ok(_) => {
                    spare -= 1;
                    result.evicted = true;
                }
                Err(failure)
                    if matches!(failure.kind, FailureKind::Budget | FailureKind::NotFound) => {}
                Err(failure) => return Err(Halt::Failed(failure.message.clone())),
            }
        }
    }
    let left = left(facts, time);
    if left > 0 {
        plan.look_again_in(NEXT_BATCH);
        plan.waits.push(waits::restart(left));
    }
    Ok(result)
}

/// The restart that is done, once no old pod is left.
pub(super) fn restarted_at(facts: &Facts<'_>) -> Option<Timestamp> {
    match due(facts) {
        Some(time) if left(facts, time) == 0 || wrong(Mutant::RestartTooEarly) => Some(time),
        _ => facts.status.restarted_at,
    }
}

/// Old pods that are still there, those on their way out included.
fn left(facts: &Facts<'_>, time: Timestamp) -> usize {
    facts
        .ids()
        .map(|id| old_pods(facts, id, time).count())
        .sum()
}

/// Available pods beyond those that must stay available.
fn spare(facts: &Facts<'_>) -> i64 {
    let unavailable = match facts.blue_green() {
        Some(blue_green) => blue_green
            .max_unavailable()
            .map_or(0, |amount| amount.rounded_down(facts.replicas)),
        None => facts.prepared.fence.unavailable,
    };
    let batch = i64::from(unavailable.max(1));
    let wanted = i64::from(facts.replicas).max(
        facts
            .sets
            .iter()
            .map(|set| i64::from(set.observed.replicas))
            .sum(),
    );
    let ready_for = SignedDuration::from_secs(i64::from(facts.spec.min_ready_seconds));
    let is_available = |pod: &&Pod| {
        !pod.deleting
            && pod
                .ready_since
                .is_some_and(|since| since + ready_for <= facts.now)
    };
    let owned = |pod: &&Pod| facts.ids().any(|id| is_of(facts, id, pod));
    let available = facts
        .world
        .pods
        .iter()
        .filter(owned)
        .filter(is_available)
        .count();
    i64::try_from(available).unwrap_or(i64::MAX) - (wanted - batch)
}

/// The stable version first, then the new one, then the rest, oldest first.
fn in_order(facts: &Facts<'_>) -> impl Iterator<Item = SetId> {
    let new = facts.new_id().filter(|id| Some(*id) != facts.stable_id());
    facts
        .stable_id()
        .into_iter()
        .chain(new)
        .chain(facts.others())
}

fn is_of(facts: &Facts<'_>, id: SetId, pod: &Pod) -> bool {
    pod.controller.as_ref() == Some(&facts.set(id).observed.target.uid)
}

fn old_pods<'a>(facts: &'a Facts<'_>, id: SetId, time: Timestamp) -> impl Iterator<Item = &'a Pod> {
    facts
        .world
        .pods
        .iter()
        .filter(move |pod| is_of(facts, id, pod) && pod.created < time)
}
