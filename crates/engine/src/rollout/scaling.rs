//! How many pods each ReplicaSet is given now: one of them a pass, in an order that never takes away what is needed.
//!
//! The numbers come from [`super::replicas`]; here they become changes. Stable first, then the new version, then the rest; a version
//! that traffic, a Service or the status still names is never drained. After an abort the failed version may linger, so that somebody
//! can look at it.

use crossfade_api::names::annotation;
use crossfade_api::rollout_status::PauseReason;
use jiff::SignedDuration;

use crate::action::{KeyChanges, ReplicaSetChange};
use crate::decision::{Found, Halt, Plan, Wait};
use crate::mutant::{Mutant, wrong};

use super::delays::{AbortDelay, after_abort, clear_deadlines, deadline, mark};
use super::facts::{DeadlineMark, Facts, Set, SetId};
use super::pause::Asks;
use super::replicas::{
    self, Basic, Demand, Leftover, Leftovers, Pods, Retreat, ScaleDownDelay, Sizes,
};
use super::routing::{self, Routing};
use super::{services, waits};

/// Scales the ReplicaSets of a canary. True if one was scaled, or could not be.
pub(super) fn canary(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &Asks,
    routing: &Routing,
) -> Result<bool, Halt> {
    if is_halted(facts, asks) && !wrong(Mutant::ScaleWhileHalted) {
        return Ok(false);
    }
    let delays = AbortDelay::of(facts, asks);
    clear_deadlines(facts, plan, delays)?;
    let sizes = match (facts.is_routed(), asks.holds()) {
        (true, false) => routed(facts, routing),
        (false, false) => basic(facts).next(),
        (true, true) => Sizes {
            canary: 0,
            stable: facts.replicas,
        },
        (false, true) => BasicFacts {
            weight: 0,
            ..basic(facts)
        }
        .next(),
    };
    let may_shrink =
        (routing.error.is_none() && !routing.end_unconfirmed) || wrong(Mutant::ShrinkUnconfirmed);
    let fits = |set: &Set<'_>, size: i32| {
        if may_shrink {
            size
        } else {
            size.max(set.observed.replicas)
        }
    };
    if let Some(id) = facts.stable_id().filter(|id| Some(*id) != facts.new_id()) {
        let size = fits(facts.set(id), sizes.stable);
        if resize(facts, plan, id, size, delays)? {
            return Ok(true);
        }
    }
    if let Some(id) = facts.new_id() {
        let kept = after_abort(facts, plan, asks, routing, delays)?;
        let wanted = kept.unwrap_or_else(|| growing(facts, sizes.canary));
        let size = fits(facts.set(id), wanted);
        if resize(facts, plan, id, size, delays)? {
            return Ok(true);
        }
    }
    if !may_shrink {
        return Ok(false);
    }
    if facts.is_routed() {
        leftovers_of_routed(facts, plan, routing, delays)
    } else {
        leftovers_of_basic(facts, plan, delays)
    }
}

/// Scales down only what is neither new nor stable. True if one was scaled, or could not be.
pub(super) fn leftovers(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    routing: &Routing,
) -> Result<bool, Halt> {
    if facts.is_routed() {
        leftovers_of_routed(facts, plan, routing, AbortDelay::None)
    } else {
        leftovers_of_basic(facts, plan, AbortDelay::None)
    }
}

/// A person, or an analysis that could not tell, keeps sizes as they are. A person's pause does not hold back an abort once that is
/// recorded; the pass that finds its cause has no other sizes to go by than those of the release.
fn is_halted(facts: &Facts<'_>, asks: &Asks) -> bool {
    let aborted = facts.status.abort && asks.is_aborted(facts.status);
    facts.is_paused_for(PauseReason::InconclusiveAnalysisRun) || (facts.spec.paused && !aborted)
}

/// The pods of the new version and of the stable one are there for the present step.
pub(super) fn has_pods_for_step(facts: &Facts<'_>) -> bool {
    let threshold = facts.threshold();
    if !facts.is_routed() {
        return basic(facts).at_target(threshold);
    }
    let scale = routing::scale(facts);
    let demand = demand(facts);
    let (wanted, stable_follows) = if facts.is_dynamic() {
        (scale.dynamic_canary(demand), true)
    } else {
        (scale.canary(demand), false)
    };
    let stable = facts.stable_set().map(Set::pods);
    facts
        .new_set()
        .is_some_and(|new| threshold.met(new.pods(), wanted))
        && (stable_follows || stable.is_some_and(|stable| stable.created(facts.replicas)))
}

/// What is missing for the present step.
pub(super) fn lacks_for_step(facts: &Facts<'_>) -> Vec<Wait> {
    let wanted = if facts.is_routed() {
        Sizes {
            canary: routing::scale(facts).canary(demand(facts)),
            stable: facts.replicas,
        }
    } else {
        basic(facts).target()
    };
    let mut lacks = Vec::new();
    let new = facts.new_set().map(Set::pods).unwrap_or_default();
    if new.available < wanted.canary && !facts.threshold().met(new, wanted.canary) {
        lacks.push(waits::pods("canary", new.available, wanted.canary));
    } else if !facts.threshold().met(new, wanted.canary) {
        lacks.push(waits::created("canary", new.spec, wanted.canary));
    }
    let stable = facts.other_stable().map(Set::pods);
    if let Some(stable) = stable.filter(|_| !facts.is_dynamic())
        && !stable.created(wanted.stable)
    {
        lacks.push(waits::created("stable", stable.current, wanted.stable));
    }
    let others = facts.others().map(|id| facts.set(id).observed.available);
    let left = others.fold(0, i32::saturating_add);
    if !facts.is_routed() && left > 0 {
        lacks.push(waits::leftovers(left));
    }
    lacks
}

/// The canary without a router as it is now. Others do not matter for sizes but by their sum, so they come separately.
struct BasicFacts {
    replicas: i32,
    weight: i32,
    fence: replicas::FencePosts,
    new: Option<Pods>,
    stable: Option<Pods>,
    others: Vec<Pods>,
}

impl BasicFacts {
    fn view(&self) -> Basic<'_> {
        Basic {
            replicas: self.replicas,
            weight: self.weight,
            fence: self.fence,
            new: self.new,
            stable: self.stable,
            others: &self.others,
        }
    }

    fn next(&self) -> Sizes {
        self.view().next()
    }

    fn target(&self) -> Sizes {
        self.view().target()
    }

    fn at_target(&self, threshold: replicas::Threshold) -> bool {
        // Without another stable version there is nothing to compare with but the new one.
        match self.stable {
            Some(_) => self.view().at_target(threshold),
            None => {
                self.new
                    .is_some_and(|new| threshold.met(new, self.replicas))
                    && self.others.iter().all(|other| other.available <= 0)
            }
        }
    }
}

fn basic(facts: &Facts<'_>) -> BasicFacts {
    BasicFacts {
        replicas: facts.replicas,
        weight: weight(facts, 100),
        fence: facts.prepared.fence,
        new: facts.new_set().map(Set::pods),
        stable: facts.other_stable().map(Set::pods),
        others: by_revision(facts)
            .into_iter()
            .map(|id| facts.set(id).pods())
            .collect(),
    }
}

/// The other ReplicaSets that are meant to have pods or still have some, oldest revision first.
fn by_revision(facts: &Facts<'_>) -> Vec<SetId> {
    let has_pods =
        |set: &Set<'_>| set.is_active() || set.observed.current > 0 || set.observed.available > 0;
    let mut others: Vec<_> = facts
        .others()
        .filter(|id| has_pods(facts.set(*id)))
        .collect();
    others.sort_by_key(|id| facts.set(*id).revision);
    others
}

/// The weight that the sizes of a canary are made for; `whole` means all pods.
fn weight(facts: &Facts<'_>, whole: i32) -> i32 {
    if serves_all(facts) {
        whole
    } else if is_taken_back(facts) {
        0
    } else {
        replicas::weight_at(&facts.prepared.steps, facts.index(), whole)
    }
}

/// Sizes are those of an abort: it is recorded, and this pass does not retract it for a version that goes back within the rollback window.
fn is_taken_back(facts: &Facts<'_>) -> bool {
    facts.status.abort && !facts.is_within_rollback_window()
}

/// The new version gets all pods, whatever the steps say.
fn serves_all(facts: &Facts<'_>) -> bool {
    facts.status.promote_full || facts.status.stable_rs.is_empty() || facts.is_fully_promoted()
}

/// What the size of a routed canary is derived from, aborts left out.
fn demand(facts: &Facts<'_>) -> Demand {
    let steps = &facts.prepared.steps;
    if !serves_all(facts)
        && !is_taken_back(facts)
        && let Some(scale) = replicas::scale_at(steps, facts.index())
    {
        return scale;
    }
    Demand::Weight(weight(facts, facts.max_weight))
}

/// Sizes of a canary behind a router. Stable goes by the weights stored before this pass, the canary by those set in it, so that
/// stable never shrinks in the pass that takes the traffic off it.
fn routed(facts: &Facts<'_>, routing: &Routing) -> Sizes {
    let scale = routing::scale(facts);
    let demand = demand(facts);
    if !facts.is_dynamic() {
        return Sizes {
            canary: scale.canary(demand),
            stable: facts.replicas,
        };
    }
    let stored = facts.status.canary.weights.as_ref();
    let stored_stable = stored.map(|weights| weights.stable.weight);
    if !is_taken_back(facts) || serves_all(facts) {
        // A canary that is kept at more pods than its weight asks for leaves stable the pods for the rest all the same: a weight that is to
        // fall waits for them.
        let of_weight = Demand::Weight(weight(facts, facts.max_weight));
        let stable = [demand, of_weight].map(|demand| scale.dynamic_stable(demand, stored_stable));
        return Sizes {
            canary: scale.dynamic_canary(demand),
            stable: stable[0].max(stable[1]),
        };
    }
    let retreat: Retreat = routing::retreat(facts, facts.new_set().map(Set::pods));
    let target = Demand::Weight(retreat.target(&facts.prepared.steps));
    let set = routing.recorded(facts).map(|weights| weights.canary.weight);
    Sizes {
        canary: retreat.canary_size(target, set),
        stable: scale.dynamic_stable(target, stored_stable),
    }
}

/// The next size on the way to `wanted`, where a routed canary is asked to grow by `maxSurge` pods at a time.
fn growing(facts: &Facts<'_>, wanted: i32) -> i32 {
    let annotations = facts.world.rollout.metadata.annotations.as_ref();
    let growth = annotations.and_then(|notes| notes.get(annotation::CANARY_GROWTH));
    let limited = facts.is_routed() && growth.is_some_and(|growth| growth == "max-surge");
    match facts.new_set().map(Set::pods) {
        Some(new) if limited && facts.other_stable().is_some() => {
            let surge = facts.prepared.fence.surge.max(1);
            wanted.min(new.available.saturating_add(surge).max(new.spec))
        }
        _ => wanted,
    }
}

/// Gives a ReplicaSet its size. True if that changes its pods, or if it failed.
pub(super) fn resize(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    id: SetId,
    size: i32,
    delays: AbortDelay,
) -> Result<bool, Halt> {
    let set = facts.set(id);
    let before = set.observed.replicas;
    let mut annotations = KeyChanges::new();
    if set.desired != Some(facts.replicas) && !wrong(Mutant::DesiredForgotten) {
        annotations.insert(
            annotation::DESIRED_REPLICAS.to_owned(),
            Some(facts.replicas.to_string()),
        );
    }
    if size == 0 && before != 0 && set.deadline.is_some() && !delays.uses_deadlines() {
        annotations.insert(annotation::SCALE_DOWN_DEADLINE.to_owned(), None);
    }
    let change = ReplicaSetChange {
        replicas: (size != before).then_some(size),
        annotations,
        ..ReplicaSetChange::default()
    };
    if change.is_empty() {
        return Ok(false);
    }
    if !facts.change(plan, id, change)? {
        return Ok(true);
    }
    if size != before {
        let (name, revision) = (facts.set(id).name(), facts.set(id).revision);
        let direction = if size > before { "up" } else { "down" };
        plan.did(
            "ScalingReplicaSet",
            format!(
                "Scaled {direction} ReplicaSet {name} (revision {revision}) from {before} to {size}"
            ),
        );
    }
    Ok(size != before)
}

fn leftovers_of_basic(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    delays: AbortDelay,
) -> Result<bool, Halt> {
    let others = by_revision(facts);
    if !others.iter().any(|id| facts.set(*id).is_active()) {
        return Ok(false);
    }
    let sizes = basic(facts).view().next_others();
    let mut scaled = false;
    for (id, size) in others.into_iter().zip(sizes) {
        if size != facts.set(id).observed.replicas {
            scaled |= resize(facts, plan, id, size, delays)?;
        }
    }
    Ok(scaled)
}

fn leftovers_of_routed(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    routing: &Routing,
    delays: AbortDelay,
) -> Result<bool, Halt> {
    let Some(canary) = facts.canary() else {
        return Ok(false);
    };
    let seconds = match canary.scale_down_delay_seconds() {
        seconds if seconds > 0 && wrong(Mutant::DelayIgnored) => 0,
        seconds => seconds,
    };
    let delay = SignedDuration::from_secs(i64::from(seconds));
    let mut others = by_revision(facts);
    others.retain(|id| facts.set(*id).is_active());
    if others.is_empty() {
        return Ok(false);
    }
    linger(facts, plan, routing, &others, delay)?;
    let sets: Vec<_> = others
        .iter()
        .map(|id| leftover(facts, facts.set(*id)))
        .collect();
    let remains = Leftovers {
        replicas: facts.replicas,
        unavailable: facts.prepared.fence.unavailable,
        new: facts.new_set().map(Set::pods),
        stable: facts.other_stable().map(Set::pods),
        fully_promoted: facts.is_fully_promoted(),
        dynamic: facts.is_dynamic(),
        targets_verified: true,
        delay: ScaleDownDelay::new(delay.is_zero(), canary.scale_down_delay_revision_limit),
        sets: &sets,
    }
    .next();
    let mut scaled = false;
    for (id, remains) in others.into_iter().zip(remains) {
        scaled |= let_go(facts, plan, id, remains, delay, delays)?;
    }
    Ok(scaled)
}

/// What becomes of one ReplicaSet that is left behind.
pub(super) fn let_go(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    id: SetId,
    remains: replicas::Remains,
    delay: SignedDuration,
    delays: AbortDelay,
) -> Result<bool, Halt> {
    if remains.delay {
        mark(facts, plan, id, delay)?;
    } else if remains.size > 0
        && let Some(DeadlineMark::At(time)) = facts.set(id).deadline
        && time > facts.now
    {
        plan.look_again_in(facts.now.duration_until(time));
        plan.waits
            .push(waits::scale_down(facts.set(id).name(), time));
    }
    if remains.size == facts.set(id).observed.replicas {
        return Ok(false);
    }
    resize(facts, plan, id, remains.size, delays)
}

/// A version in between that loses its traffic in this pass stays a while: proxies may still send it requests.
fn linger(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    routing: &Routing,
    others: &[SetId],
    delay: SignedDuration,
) -> Result<(), Halt> {
    let Some(before) = facts
        .status
        .canary
        .weights
        .as_ref()
        .map(|weights| &weights.canary)
    else {
        return Ok(());
    };
    let after = routing.recorded(facts).map(|weights| &weights.canary);
    let loses = before.weight > 0
        && after.is_none_or(|after| {
            after.weight == 0 || after.pod_template_hash != before.pod_template_hash
        });
    let version = facts
        .by_hash(&before.pod_template_hash.0)
        .filter(|id| others.contains(id));
    let Some(id) = version.filter(|_| loses && !facts.is_dynamic() && !delay.is_zero()) else {
        return Ok(());
    };
    if facts.set(id).deadline.is_none() && !facts.is_fully_promoted() {
        mark(facts, plan, id, delay)?;
    }
    Ok(())
}

fn leftover(facts: &Facts<'_>, set: &Set<'_>) -> Leftover {
    Leftover {
        pods: set.pods(),
        referenced: is_referenced(facts, set.hash()) && !wrong(Mutant::DropReferenced),
        carried_lately: false,
        deadline: deadline(facts, set),
    }
}

/// The status, a stored weight or a Service names this version, or it is not known whether one does. Where no weight is stored, as in a
/// Rollout that was just made for ReplicaSets that were there before, routers alone know of any.
pub(super) fn is_referenced(facts: &Facts<'_>, hash: &str) -> bool {
    let status = facts.status;
    let blue_green = &status.blue_green;
    let named = [
        &status.stable_rs,
        &status.current_pod_hash,
        &blue_green.active_selector,
        &blue_green.preview_selector,
    ];
    let weights = status.canary.weights.as_ref();
    let by_weight = weights.is_some_and(|weights| {
        let sides = [&weights.canary, &weights.stable];
        sides
            .into_iter()
            .chain(&weights.additional)
            .any(|side| side.pod_template_hash.0 == hash)
    });
    let by_router = || {
        let mut routers = facts.world.routers.iter();
        weights.is_none()
            && routers.any(|router| {
                let split = router.in_force.as_ref().map(|split| &split.canary);
                split.is_some_and(|side| side.weight.0 > 0 && side.hash.0 == hash)
            })
    };
    named.iter().any(|named| named.0 == hash)
        || by_weight
        || by_router()
        || service_names(facts).any(|name| match facts.world.services.get(name) {
            Some(Found::Unreadable(_)) => true,
            _ => facts.selected(name) == Some(hash),
        })
}

/// The Services that keep a version alive by selecting it.
fn service_names<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a str> {
    let names = match (facts.canary(), facts.blue_green()) {
        (_, Some(blue_green)) => [
            blue_green.active_service.as_str(),
            blue_green.preview_service.as_str(),
            "",
            "",
        ],
        (Some(canary), None) => {
            let (stable, other) = canary.ping_pong.as_ref().map_or(("", ""), |pair| {
                services::roles(pair, facts.status.canary.stable_ping_pong)
            });
            let weight = facts
                .status
                .canary
                .weights
                .as_ref()
                .map_or(0, |weights| weights.canary.weight);
            // After a promotion the canary's half of the pair keeps the old hash and gets no requests.
            let other = if weight > 0 || !facts.is_fully_promoted() {
                other
            } else {
                ""
            };
            [
                canary.canary_service.as_str(),
                canary.stable_service.as_str(),
                stable,
                other,
            ]
        }
        (None, None) => [""; 4],
    };
    names.into_iter().filter(|name| !name.is_empty())
}

/// Follows a change of `spec.replicas` while a person holds the release: each version keeps its part of the pods, as far as the surge of a
/// canary without a router allows.
pub(super) fn hold_split(facts: &mut Facts<'_>, plan: &mut Plan<'_>) -> Result<(), Halt> {
    let stable = facts.stable_id().filter(|id| Some(*id) != facts.new_id());
    let held = [stable, facts.new_id()].into_iter().flatten();
    let mut held: Vec<_> = held.map(|id| (id, held_size(facts, id))).collect();
    let present = |facts: &Facts<'_>, id| facts.set(id).observed.replicas;
    if !facts.is_routed() {
        // Its part of too few pods, as after other versions have gone, is no reason to take any away.
        let others = facts.others().map(|id| facts.set(id).observed);
        let serving = others.map(|set| set.available.min(set.replicas));
        let kept = held.iter().map(|(_, size)| *size);
        let kept = kept.chain(serving).fold(0, i32::saturating_add);
        let mut missing = facts.replicas.saturating_sub(kept).max(0);
        for (id, size) in &mut held {
            let back = missing.min(present(facts, *id).saturating_sub(*size).max(0));
            *size += back;
            missing -= back;
        }
    }
    let most = facts.replicas.saturating_add(facts.prepared.fence.surge);
    let mut room = most.saturating_sub(facts.sum(|set| set.replicas));
    // What shrinks makes room for what grows.
    held.sort_by_key(|(id, size)| *size > present(facts, *id));
    for (id, size) in held {
        let before = present(facts, id);
        let size = if facts.is_routed() || size <= before {
            size
        } else {
            size.min(before.saturating_add(room.max(0)))
        };
        room = room.saturating_sub(size.saturating_sub(before));
        resize(facts, plan, id, size, AbortDelay::None)?;
    }
    Ok(())
}

/// The size of a version after a change of `spec.replicas`: that of the present step if it had reached that, else in proportion.
fn held_size(facts: &Facts<'_>, id: SetId) -> i32 {
    let set = facts.set(id);
    let present = set.observed.replicas;
    let Some(former) = set
        .desired
        .filter(|former| *former != facts.replicas && *former > 0)
    else {
        return present;
    };
    let of_step = |replicas: i32| {
        let sizes = if facts.is_routed() {
            let scale = replicas::Routed {
                replicas,
                ..routing::scale(facts)
            };
            let demand = demand(facts);
            let stored = facts
                .status
                .canary
                .weights
                .as_ref()
                .map(|weights| weights.stable.weight);
            let stable = if facts.is_dynamic() {
                scale.dynamic_stable(demand, stored)
            } else {
                replicas
            };
            Sizes {
                canary: scale.canary(demand),
                stable,
            }
        } else {
            let facts = BasicFacts {
                replicas,
                ..basic(facts)
            };
            facts.target()
        };
        if Some(id) == facts.new_id() {
            sizes.canary
        } else {
            sizes.stable
        }
    };
    let wanted = of_step(facts.replicas);
    if of_step(former) == present {
        return wanted;
    }
    let part = i64::from(present) * i64::from(facts.replicas);
    let former = i64::from(former);
    let part = i32::try_from(part / former + i64::from(part % former != 0)).unwrap_or(i32::MAX);
    if facts.is_routed() && Some(id) == facts.stable_id() {
        // Behind a router it carries its share alone, however few pods somebody has left it.
        return part.max(present.min(wanted));
    }
    part
}
