//! Where a canary's requests go: the wanted weight, whether it may be set now, and what the routers make of it.
//!
//! One [`Split`](crossfade_api::split::Split) is decided in a pass and given to every router in turn. Two rules keep requests away from missing pods: the
//! canary's share rises only when its pods are there (the rows of [`goal`]), and falls only when the stable version can take the rest
//! (the guard). An abort is the one case that goes on while the guard fails, as far as the stable pods reach.

use crossfade_api::names::annotation;
use crossfade_api::rollout::CanaryStrategy;
use crossfade_api::rollout_status::{TrafficWeights, WeightDestination};
use crossfade_api::steps::{SetHeaderRoute, SetMirrorRoute};
use crossfade_api::time;
use jiff::SignedDuration;

use crate::action::{Action, Done, FailureKind, ReplicaSetChange};
use crate::decision::{Halt, Plan};
use crate::mutant::{Mutant, wrong};

use super::facts::{Facts, Set, note};
use super::pause::Asks;
use super::replicas::{self, Pods, Retreat, Routed};
use super::services::{self, Check};
use super::split::{Routes, Wanted};
use super::world::Router;
use super::{experiments, scaling, waits};

/// What the routing rules of a pass came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Routing {
    /// The weights to record.
    pub(super) weights: Weights,
    /// Every router carries the wanted split.
    pub(super) in_force: bool,
    /// Why a router does not, as it is told.
    pub(super) error: Option<String>,
    /// All traffic is with the new version, but a router has not confirmed it: nothing may be taken away.
    pub(super) end_unconfirmed: bool,
}

/// What kept routers from carrying a split.
enum Lack {
    /// One is not ready for it yet.
    NotYet(String),
    /// One has failed.
    Failed(String),
}

/// What becomes of the recorded weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Weights {
    /// They stay.
    #[default]
    Keep,
    /// There are none.
    Remove,
    /// These are recorded instead.
    Record(Box<TrafficWeights>),
}

impl Routing {
    /// The weights as they stand after this pass.
    pub(super) fn recorded<'a>(&'a self, facts: &Facts<'a>) -> Option<&'a TrafficWeights> {
        match &self.weights {
            Weights::Keep => facts.status.canary.weights.as_ref(),
            Weights::Remove => None,
            Weights::Record(weights) => Some(weights),
        }
    }
}

/// What traffic shall be like now.
struct Goal<'a> {
    /// Weight of the canary.
    weight: i32,
    /// The version behind the canary's share.
    canary_hash: &'a str,
    routes: Routes<'a>,
    /// Bad news: the canary is being left, or has no pods.
    leaving: bool,
}

/// What the sizes of a routed canary are measured by.
pub(super) fn scale(facts: &Facts<'_>) -> Routed {
    let min_pods = facts
        .canary()
        .and_then(|canary| canary.min_pods_per_replica_set);
    Routed {
        replicas: facts.replicas,
        max_weight: facts.max_weight,
        min_pods: min_pods.unwrap_or(1),
    }
}

/// The version that the recorded canary weight belongs to, if it still exists.
fn recorded_set<'a, 'w>(facts: &'a Facts<'w>) -> Option<&'a Set<'w>> {
    let weights = facts.status.canary.weights.as_ref()?;
    facts
        .by_hash(&weights.canary.pod_template_hash.0)
        .map(|id| facts.set(id))
}

/// The stable template was applied again while stable pods follow the weight: the former canary keeps its traffic until stable is
/// whole again.
pub(super) fn is_going_back(facts: &Facts<'_>) -> bool {
    let weights = facts.status.canary.weights.as_ref();
    facts.is_dynamic()
        && facts.is_fully_promoted()
        && weights.is_some_and(|weights| weights.canary.pod_template_hash.0 != facts.new_hash())
        && facts
            .new_set()
            .is_none_or(|new| new.observed.available < facts.replicas)
}

/// The canary's Service still carries weight for an earlier version, so it moves only after the weight has.
pub(super) fn moves_service_itself(facts: &Facts<'_>) -> bool {
    let Some(weights) = &facts.status.canary.weights else {
        return false;
    };
    let recorded = &weights.canary;
    facts.is_routed()
        && recorded.weight > 0
        && !recorded.pod_template_hash.is_empty()
        && recorded.pod_template_hash.0 != facts.new_hash()
        && !wrong(Mutant::ServiceBeforeWeight)
}

/// The way back to stable of a canary whose stable pods follow the weight.
pub(super) fn retreat(facts: &Facts<'_>, canary: Option<Pods>) -> Retreat {
    let weights = facts.status.canary.weights.as_ref();
    let delay = facts
        .canary()
        .and_then(|canary| canary.abort_scale_down_delay_seconds);
    Retreat {
        routed: scale(facts),
        canary,
        stable: facts.stable_set().map(Set::pods),
        recorded: weights
            .map(|weights| weights.canary.weight)
            .or_else(|| carried(facts)),
        // Pods that are kept say nothing about what stable cannot carry.
        keeps_pods: delay.is_some(),
    }
}

/// The weight that routers give a canary, where they can tell: in a Rollout that was just made for what was there before, nobody else knows.
fn carried(facts: &Facts<'_>) -> Option<i32> {
    let routers = facts.world.routers.iter();
    let splits = routers.filter_map(|router| router.in_force.as_ref());
    splits.map(|split| split.canary.weight.0).max()
}

/// What traffic shall be like now: the first row that applies.
fn goal<'a>(facts: &'a Facts<'_>, aborted: bool) -> Goal<'a> {
    let recorded = facts.status.canary.weights.as_ref();
    let recorded_weight = recorded.map_or(0, |weights| weights.canary.weight);
    let new = facts.new_set();
    let available = new.map_or(0, |new| new.observed.available);
    let present = Goal {
        weight: 0,
        canary_hash: facts.new_hash(),
        routes: Routes::Removed,
        leaving: false,
    };
    let steps = &facts.prepared.steps;
    let index = facts.index();
    if is_going_back(facts) {
        let target = replicas::weight_at(steps, index, facts.max_weight);
        return Goal {
            weight: retreat(facts, recorded_set(facts).map(Set::pods)).weight(target),
            canary_hash: recorded.map_or("", |weights| &weights.canary.pod_template_hash.0),
            routes: Routes::AsTheyAre,
            ..present
        };
    }
    if facts.is_fully_promoted() {
        if wrong(Mutant::RoutesKept) {
            return Goal {
                routes: Routes::AsTheyAre,
                ..present
            };
        }
        if recorded_weight > 0 && wrong(Mutant::WeightKeptAfterPromotion) {
            return Goal {
                weight: recorded_weight,
                ..present
            };
        }
        return present;
    }
    if aborted {
        let weight = if facts.is_dynamic() {
            let retreat = retreat(facts, new.map(Set::pods));
            retreat.weight(retreat.target(steps))
        } else if recorded_weight > 0 && wrong(Mutant::AbortKeepsWeight) {
            recorded_weight
        } else {
            0
        };
        return Goal {
            weight,
            leaving: true,
            ..present
        };
    }
    if available <= 0 {
        return Goal {
            leaving: true,
            ..present
        };
    }
    if facts.status.promote_full {
        let weight = if facts.is_dynamic() {
            scale(facts).weight_carried(available)
        } else {
            recorded_weight
        };
        return Goal { weight, ..present };
    }
    if steps.is_empty() {
        return Goal {
            routes: Routes::AsTheyAre,
            ..present
        };
    }
    let weight = if scaling::has_pods_for_step(facts) || wrong(Mutant::WeightBeforePods) {
        replicas::weight_at(steps, index, facts.max_weight)
    } else {
        let same =
            recorded.filter(|weights| weights.canary.pod_template_hash.0 == facts.new_hash());
        let recorded = same.map(|weights| weights.canary.weight);
        replicas::weight_while_scaling(steps, index, facts.max_weight, recorded)
    };
    Goal {
        weight,
        routes: routes_by_steps(facts),
        ..present
    }
}

/// The routes that the steps up to the present one leave in place. The first revision has none.
fn routes_by_steps<'a>(facts: &'a Facts<'_>) -> Routes<'a> {
    let (mut headers, mut mirrors): (Vec<&SetHeaderRoute>, Vec<&SetMirrorRoute>) =
        (Vec::new(), Vec::new());
    if facts.revision.is_none_or(|revision| revision <= 1) {
        return Routes::BySteps(headers, mirrors);
    }
    let late = usize::from(wrong(Mutant::RouteLate));
    for step in facts.steps().iter().take(facts.index() + 1 - late) {
        if let Some(route) = &step.set_header_route {
            headers.retain(|other| other.name != route.name);
            headers.extend((!route.matches.is_empty()).then_some(route));
        }
        if let Some(route) = &step.set_mirror_route {
            mirrors.retain(|other| other.name != route.name);
            mirrors.extend((!route.matches.is_empty()).then_some(route));
        }
    }
    let order = |name: &str| managed(facts).position(|managed| managed == name);
    headers.sort_by_key(|route| order(&route.name));
    mirrors.sort_by_key(|route| order(&route.name));
    Routes::BySteps(headers, mirrors)
}

/// Names of the routes that the controller may make.
fn managed<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a str> {
    let routing = facts
        .canary()
        .and_then(|canary| canary.traffic_routing.as_ref());
    let routes = routing.and_then(|routing| routing.managed_routes.as_ref());
    routes
        .into_iter()
        .flatten()
        .map(|route| route.name.as_str())
}

/// Brings every router to the wanted split, if that may be done now.
pub(super) fn apply(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &Asks,
) -> Result<Routing, Halt> {
    let Some(canary) = facts.canary() else {
        return Ok(Routing::default());
    };
    if canary.traffic_routing.is_none() || facts.world.routers.is_empty() {
        return Ok(Routing {
            weights: Weights::Remove,
            in_force: true,
            ..Routing::default()
        });
    }
    let aborted = asks.is_aborted(facts.status);
    let going_back = is_going_back(facts);
    if aborted && !facts.is_fully_promoted() {
        let done = !facts.is_dynamic() || goal(facts, true).weight == 0;
        if done && canary.ping_pong.is_none() && !wrong(Mutant::CanaryServiceForgotten) {
            services::point(
                facts,
                plan,
                &canary.canary_service,
                facts.stable_id(),
                Check::Nothing,
            )?;
        }
    }
    let Some((weight, keeps_hash)) = allowed(facts, plan, aborted, canary) else {
        return Ok(Routing::default());
    };
    let weight = if aborted || keeps_hash || facts.is_fully_promoted() {
        weight
    } else {
        held_back(facts, plan, canary, weight)?
    };
    let mut routing = Routing::default();
    let mut lack = None;
    let lowered = moves_service_itself(facts) && !keeps_hash && !aborted && !going_back;
    if lowered {
        lack = lower_former(facts, plan, weight, canary)?;
        if lack.is_none() {
            services::point(
                facts,
                plan,
                &canary.canary_service,
                facts.new_id(),
                Check::Pods,
            )?;
        }
    }
    let goal = goal(facts, aborted);
    let canary_hash = if keeps_hash {
        former_hash(facts)
    } else {
        goal.canary_hash
    };
    let shares = if aborted || keeps_hash || facts.is_fully_promoted() || going_back {
        Vec::new()
    } else {
        experiments::destinations(facts, plan)
    };
    let wanted = Wanted {
        additional: &shares,
        ..Wanted::new(facts, canary, weight, canary_hash, &goal.routes)
    };
    if wanted.stable_weight() < 0 || shares.iter().any(|share| share.weight.0 < 0) {
        let (max, weight) = (facts.max_weight, wanted.weight);
        lack.get_or_insert_with(|| {
            Lack::Failed(format!(
                "traffic routing: the weights of the experiment's templates do not fit beside the canary's {weight} of {max}"
            ))
        });
    }
    // What an aborted version has left behind is nothing to send requests to.
    let dead = aborted && weight == 0 && facts.new_set().is_none_or(|new| new.pods().created(0));
    let routed = if dead {
        Wanted {
            canary_hash: facts.status.stable_rs.as_str(),
            ..wanted
        }
    } else {
        wanted
    };
    if lack.is_none() {
        lack = carry(facts, plan, &routed, lowered)?;
    }
    match lack {
        None => {}
        Some(Lack::NotYet(what)) => {
            plan.look_again_in(facts.world.settings.verify_again);
            plan.waits.push(waits::router(what));
            return Ok(routing);
        }
        Some(Lack::Failed(error)) => {
            if facts.status.message != *error {
                plan.warn("TrafficRoutingError", error.clone());
            }
            plan.fail(error.clone());
            routing.error = Some(error);
            return Ok(routing);
        }
    }
    routing.in_force = true;
    record(facts, plan, &wanted, &mut routing);
    confirm(facts, plan, &routed, aborted, &mut routing)?;
    Ok(routing)
}

/// Takes the canary's share away in the very pass that finds it bad. All else that belongs to an abort waits until the abort is recorded.
pub(super) fn leave(facts: &Facts<'_>, plan: &mut Plan<'_>) -> Result<(), Halt> {
    let weights = facts.status.canary.weights.as_ref();
    let has_share = weights.is_some_and(|weights| weights.canary.weight > 0);
    let Some(canary) = facts.canary().filter(|_| has_share) else {
        return Ok(());
    };
    // An earlier version's share is left to what follows.
    let Some((weight, false)) = allowed(facts, plan, true, canary) else {
        return Ok(());
    };
    let goal = goal(facts, true);
    let wanted = Wanted::new(facts, canary, weight, goal.canary_hash, &goal.routes);
    // A router that refuses is asked again, and told of, when the abort is recorded.
    carry(facts, plan, &wanted, false)?;
    Ok(())
}

/// The weight that may be set now, and whether the canary's share stays with the version that has it; `None` to leave the
/// routers as they are.
fn allowed(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    aborted: bool,
    canary: &CanaryStrategy,
) -> Option<(i32, bool)> {
    let goal = goal(facts, aborted);
    // Before the first promotion there is nothing to split.
    let stable = facts.stable_set()?.pods();
    let scale = scale(facts);
    let recorded = facts
        .status
        .canary
        .weights
        .as_ref()
        .map(|weights| &weights.canary);
    let former = recorded_set(facts).filter(|former| former.hash() != goal.canary_hash);
    let former_serves = former.is_some_and(|former| former.observed.available > 0);
    let moves_up = recorded.map_or(goal.weight > 0, |recorded| {
        let replaces_nothing = recorded.pod_template_hash.0 != goal.canary_hash && !former_serves;
        goal.weight >= recorded.weight || (replaces_nothing && goal.weight > 0)
    });
    if moves_up
        || scale.stable_carries_rest(goal.weight, stable, facts.threshold())
        || wrong(Mutant::LeaveBeforeStable)
    {
        if !goal.leaving || goal.weight == 0 || former.is_none() {
            return Some((goal.weight, false));
        }
        // On the way back, what is left of an earlier version's share is not for a version that came after it.
        return if former_serves {
            Some((goal.weight, true))
        } else {
            (stable.available > 0).then_some((0, false))
        };
    }
    let needed = scale.needed_stable(goal.weight);
    plan.waits
        .push(waits::stable_pods(stable.available, needed));
    if !goal.leaving {
        return None;
    }
    let recorded_weight = recorded.map_or(0, |recorded| recorded.weight);
    let (canary_service, stable_service) = services::sides(facts, canary);
    let on_stable = |service| facts.selected(service) == Some(facts.status.stable_rs.as_str());
    if recorded_weight == 0
        || (splits_by_service(canary) && on_stable(canary_service) && on_stable(stable_service))
    {
        return Some((0, false));
    }
    if recorded_set(facts).is_some_and(|former| former.observed.available > 0) {
        let weight = scale.weight_not_carried(goal.weight, recorded_weight, stable.available);
        return Some((weight, former.is_some()));
    }
    (stable.available > 0).then_some((0, false))
}

/// A weight that may rise only a while after routers were told which pods the canary's are, where a user asks for that: the proxies of a
/// mesh learn of the two in any order.
fn held_back(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    canary: &CanaryStrategy,
    weight: i32,
) -> Result<i32, Halt> {
    let annotations = facts.world.rollout.metadata.annotations.as_ref();
    let delay = annotations
        .and_then(|notes| notes.get(annotation::WEIGHT_UPDATE_DELAY))
        .and_then(|text| text.parse::<u32>().ok());
    let (Some(delay), Some(id)) = (delay, facts.new_id()) else {
        return Ok(weight);
    };
    if splits_by_service(canary) {
        return Ok(weight);
    }
    let hash = facts.new_hash();
    let weights = facts.status.canary.weights.as_ref();
    let recorded = weights.filter(|weights| weights.canary.pod_template_hash.0 == hash);
    let present = recorded.map_or(0, |weights| weights.canary.weight);
    let knows_hash = |router: &Router| {
        let split = router.in_force.as_ref();
        split.map_or(recorded.is_some(), |split| split.canary.hash.0 == hash)
    };
    let since = if facts.world.routers.iter().all(knows_hash) {
        let noted = facts
            .set(id)
            .observed
            .annotations
            .get(annotation::ROUTED_SINCE);
        noted.and_then(|text| time::parse(text).ok())
    } else {
        let annotations = note(annotation::ROUTED_SINCE, Some(time::text(facts.now)));
        let change = ReplicaSetChange {
            annotations,
            ..ReplicaSetChange::default()
        };
        facts.change(plan, id, change)?;
        Some(facts.now)
    };
    let until = since.map(|since| since + SignedDuration::from_secs(i64::from(delay)));
    match until.filter(|until| *until > facts.now && weight > present) {
        Some(until) => {
            plan.look_again_in(facts.now.duration_until(until));
            plan.waits.push(waits::spreading(until));
            Ok(present)
        }
        None => Ok(weight),
    }
}

/// Every router sends requests to Services, so the Services' selectors decide which pods get them.
fn splits_by_service(canary: &CanaryStrategy) -> bool {
    let routing = canary.traffic_routing.as_ref();
    routing.is_some_and(|routing| {
        let by_subset = routing
            .istio
            .as_ref()
            .is_some_and(|istio| istio.destination_rule.is_some());
        !by_subset && routing.app_mesh.is_none()
    })
}

/// The version that the recorded canary weight belongs to.
fn former_hash<'a>(facts: &Facts<'a>) -> &'a str {
    facts
        .status
        .canary
        .weights
        .as_ref()
        .map_or("", |weights| &weights.canary.pod_template_hash.0)
}

/// Takes the weight off an earlier version before its share is given to the new one: weight first, then Service and hash.
fn lower_former(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    weight: i32,
    canary: &CanaryStrategy,
) -> Result<Option<Lack>, Halt> {
    let recorded = facts
        .status
        .canary
        .weights
        .as_ref()
        .map_or(0, |weights| weights.canary.weight);
    if weight >= recorded {
        return Ok(None);
    }
    let wanted = Wanted::new(facts, canary, weight, former_hash(facts), &Routes::Removed);
    carry(facts, plan, &wanted, false)
}

fn route(router: &Router, wanted: &Wanted<'_>) -> Action {
    Action::Route {
        router: router.kind.clone(),
        split: Box::new(wanted.split(router.in_force.as_ref())),
    }
}

/// Makes all routers carry a split; says what kept one from it. Those that carry it already are left alone, unless this pass has
/// `changed` them.
fn carry(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    wanted: &Wanted<'_>,
    changed: bool,
) -> Result<Option<Lack>, Halt> {
    let mut lack = None;
    for router in &facts.world.routers {
        let there = router
            .in_force
            .as_ref()
            .is_some_and(|split| wanted.is(split));
        if (there || is_taken_for_granted(facts, wanted)) && !changed {
            continue;
        }
        if let Err(failure) = plan.act(route(router, wanted))?
            && !wrong(Mutant::RouterErrorIgnored)
        {
            let (kind, message) = (&router.kind, &failure.message);
            match failure.kind {
                FailureKind::NotYet if lack.is_none() => {
                    lack = Some(Lack::NotYet(format!("{kind}: {message}")));
                }
                FailureKind::NotYet => {}
                _ if matches!(lack, Some(Lack::Failed(_))) => {}
                _ => {
                    let why = format!("traffic routing: {kind}: {message}");
                    lack = Some(Lack::Failed(why));
                }
            }
        }
    }
    Ok(lack)
}

/// The weight was recorded before; whether somebody else has changed it since is not looked at.
fn is_taken_for_granted(facts: &Facts<'_>, wanted: &Wanted<'_>) -> bool {
    let recorded = facts.status.canary.weights.as_ref();
    recorded.is_some_and(|recorded| recorded.canary.weight == wanted.weight)
        && wrong(Mutant::DriftIgnored)
}

/// Records the weights, and tells of them when they differ from those before.
fn record(facts: &Facts<'_>, plan: &mut Plan<'_>, wanted: &Wanted<'_>, routing: &mut Routing) {
    let stored = facts.status.canary.weights.as_ref();
    let is = |side: &WeightDestination, weight: i32, service: &str, hash: &str| {
        side.weight == weight && side.service_name == service && side.pod_template_hash.0 == hash
    };
    let stable_weight = wanted.stable_weight();
    let same_shares = |stored: &[WeightDestination]| {
        stored.len() == wanted.additional.len()
            && stored.iter().zip(wanted.additional).all(|(stored, share)| {
                is(stored, share.weight.0, &share.service, share.hash.as_str())
            })
    };
    if stored.is_some_and(|stored| {
        is(
            &stored.canary,
            wanted.weight,
            wanted.canary_service,
            wanted.canary_hash,
        ) && is(
            &stored.stable,
            stable_weight,
            wanted.stable_service,
            wanted.stable_hash,
        ) && same_shares(&stored.additional)
    }) {
        return;
    }
    let details = match stored.map(|stored| stored.canary.weight) {
        None => format!("to {}", wanted.weight),
        Some(before) if before != wanted.weight => format!("from {before} to {}", wanted.weight),
        Some(_) => String::new(),
    };
    plan.event(
        "TrafficWeightUpdated",
        format!("Traffic weight updated {details}"),
    );
    routing.weights = Weights::Record(Box::new(TrafficWeights {
        canary: Wanted::side(wanted.weight, wanted.canary_service, wanted.canary_hash),
        stable: Wanted::side(stable_weight, wanted.stable_service, wanted.stable_hash),
        additional: wanted
            .additional
            .iter()
            .map(|share| Wanted::side(share.weight.0, &share.service, share.hash.as_str()))
            .collect(),
        verified: None,
    }));
}

/// Asks the routers that can tell whether they carry the weight: at a weight step, at the end, and before an aborted version goes.
fn confirm(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    wanted: &Wanted<'_>,
    aborted: bool,
    routing: &mut Routing,
) -> Result<(), Halt> {
    let at_weight = facts.step().is_some_and(|step| step.set_weight.is_some());
    let at_end = facts.step().is_none() && !facts.steps().is_empty() && wanted.weight == wanted.max;
    let leaves_pods = aborted && facts.new_set().is_some_and(Set::is_active);
    if facts.is_fully_promoted() || !(leaves_pods || (!aborted && (at_weight || at_end))) {
        return Ok(());
    }
    let (mut verified, mut pending) = (None, false);
    for router in facts.world.routers.iter().filter(|router| router.confirms) {
        let split = Box::new(wanted.split(router.in_force.as_ref()));
        let answer = match plan.want(Action::VerifyRoute {
            router: router.kind.clone(),
            split,
        }) {
            Some(Ok(Done::Verified(Some(false)))) if wrong(Mutant::UnverifiedIsVerified) => {
                Some(true)
            }
            Some(Ok(Done::Verified(answer))) => *answer,
            Some(Ok(_)) => None,
            None => {
                pending = true;
                None
            }
            Some(Err(failure)) => {
                plan.warn(
                    "WeightVerifyError",
                    format!("Failed to verify weight: {}", failure.message),
                );
                Some(false)
            }
        };
        verified = match (verified, answer) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), _) | (_, Some(true)) => Some(true),
            (None, None) => None,
        };
    }
    // What comes next may take pods away, so it waits for the answers.
    if pending {
        return Err(Halt::Pending);
    }
    if verified == Some(false) {
        plan.look_again_in(facts.world.settings.verify_again);
        plan.waits.push(waits::verification(wanted.weight));
        routing.end_unconfirmed = !aborted && wanted.weight == wanted.max;
    }
    let Some(recorded) = routing
        .recorded(facts)
        .filter(|recorded| recorded.verified != verified)
    else {
        return Ok(());
    };
    let weights = TrafficWeights {
        verified,
        ..recorded.clone()
    };
    routing.weights = Weights::Record(Box::new(weights));
    Ok(())
}
