//! Routers: what is recorded is what they carry, and what steps ask for is there when they end.

use crossfade_api::Rollout;
use crossfade_api::rollout::CanaryStrategy;
use crossfade_engine::action::{Action, Done};
use crossfade_engine::rollout::world::World;

use super::traffic::{replicas, set_of};
use super::{Check, InPass, named};
use crate::cluster::Cluster;
use crate::run::Outcome;
use crate::watch::{Seen, What};

/// A step of a canary under way that has just ended: its index, the Rollout since, and what the pass saw.
pub(super) fn ended_step<'a>(
    cluster: &'a Cluster,
    what: &What<'a>,
) -> Option<(usize, &'a Rollout, &'a World)> {
    let What::Recorded(before, world) = what else {
        return None;
    };
    let rollout = cluster.rollout()?;
    let (old, new) = (&before.status, &rollout.status);
    let from = usize::try_from(old.current_step_index?).ok()?;
    let to = usize::try_from(new.current_step_index?).ok()?;
    let created = |hash: &str| set_of(world, hash).map(|set| set.created);
    let goes_on = old.current_pod_hash == new.current_pod_hash
        && old.current_step_hash == new.current_step_hash
        && !old.promote_full
        && !old.stable_rs.is_empty()
        && old.stable_rs != old.current_pod_hash
        && created(new.current_pod_hash.as_str()) > created(old.stable_rs.as_str());
    (goes_on && to == from + 1).then_some((from, rollout, *world))
}

fn canary(world: &World) -> Option<&CanaryStrategy> {
    world.rollout.spec.strategy.canary.as_ref()
}

/// Every router sends requests to Services, so the Services' selectors decide which pods get them.
pub(super) fn splits_by_service(canary: &CanaryStrategy) -> bool {
    canary.traffic_routing.as_ref().is_some_and(|routing| {
        let istio = routing.istio.as_ref();
        routing.app_mesh.is_none() && istio.is_none_or(|istio| istio.destination_rule.is_none())
    })
}

pub(super) struct RoutesByStep;

impl Check for RoutesByStep {
    named!(
        "a-route-step-has-its-route",
        "When a header or mirror route step ends, the routers have its route, or no longer have it where the step takes it away."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((index, _, world)) = ended_step(cluster, what) else {
            return Ok(());
        };
        // Nothing is sent to a version without pods, whatever its steps say.
        let own = set_of(world, world.rollout.status.current_pod_hash.as_str());
        let step = canary(world)
            .and_then(|canary| canary.steps.get(index))
            .filter(|_| own.is_some_and(|own| own.available > 0));
        let (Some(step), Some(split)) = (step, &cluster.split) else {
            return Ok(());
        };
        if let Some(route) = &step.set_header_route {
            let has = split.header_routes.iter().any(|one| one.name == route.name);
            if has == route.matches.is_empty() {
                return Err(format!(
                    "header route {} after step {index}: {has}",
                    route.name
                ));
            }
        }
        if let Some(route) = &step.set_mirror_route {
            let has = split.mirror_routes.iter().any(|one| one.name == route.name);
            if has == route.matches.is_empty() {
                return Err(format!(
                    "mirror route {} after step {index}: {has}",
                    route.name
                ));
            }
        }
        Ok(())
    }
}

pub(super) struct WeightByStep;

impl Check for WeightByStep {
    named!(
        "a-weight-step-has-its-weight",
        "When a weight step behind a router ends, its weight is recorded and no router denies it."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((index, rollout, world)) = ended_step(cluster, what) else {
            return Ok(());
        };
        let Some(canary) = canary(world).filter(|canary| canary.traffic_routing.is_some()) else {
            return Ok(());
        };
        // Where no pods are wanted weight steps end at once, and there is no traffic to move (rollout-behaviour 17.2).
        if rollout.spec.replicas == Some(0) {
            return Ok(());
        }
        let wanted = canary.steps.get(index).and_then(|step| step.set_weight);
        let recorded = rollout.status.canary.weights.as_ref();
        match (wanted, recorded) {
            (Some(wanted), Some(recorded)) if recorded.canary.weight != wanted => Err(format!(
                "step {index} ends with {} instead of {wanted}",
                recorded.canary.weight
            )),
            (Some(_), Some(recorded)) if recorded.verified == Some(false) => Err(format!(
                "step {index} ends although a router denies its weight"
            )),
            _ => Ok(()),
        }
    }
}

/// What routers have said in the pass under way.
#[derive(Default)]
pub(super) struct RoutersAreBelieved {
    /// A canary weight that a router refused.
    refused: InPass<Option<i32>>,
    /// A canary weight that a router did not confirm.
    denied: InPass<Option<i32>>,
}

impl Check for RoutersAreBelieved {
    named!(
        "routers-are-believed",
        "A weight that a router refuses is not recorded, and nothing goes further, is promoted or loses pods on a weight that a router denies."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Performed(Action::Route { split, .. }, outcome, _) => {
                let refused = self.refused.of(cluster);
                let weight = Some(split.canary.weight.0);
                if outcome.is_err() {
                    *refused = weight;
                } else if *refused == weight {
                    *refused = None;
                }
            }
            What::Performed(
                Action::VerifyRoute { split, .. },
                Ok(Done::Verified(Some(false))),
                Seen::Rollout(world),
            ) if !world.rollout.status.abort => {
                *self.denied.of(cluster) = Some(split.canary.weight.0);
            }
            What::Performing(Action::UpdateReplicaSet { target, change }, Seen::Rollout(world)) => {
                let set = world
                    .replica_sets
                    .iter()
                    .find(|set| set.target.name == target.name);
                let shrinks = set
                    .zip(change.replicas)
                    .is_some_and(|(set, replicas)| replicas < set.replicas);
                let whole = Some(world.rollout.spec.max_traffic_weight());
                if *self.denied.of(cluster) == whole && shrinks {
                    return Err(format!(
                        "{} shrinks on a weight that is denied",
                        target.name
                    ));
                }
            }
            What::Recorded(before, world) => {
                let (refused, denied) = (*self.refused.of(cluster), *self.denied.of(cluster));
                let Some(rollout) = cluster.rollout() else {
                    return Ok(());
                };
                let weight = |rollout: &Rollout| {
                    let weights = rollout.status.canary.weights.as_ref();
                    weights.map(|weights| weights.canary.weight)
                };
                if refused.is_some() && weight(rollout) == refused && weight(before) != refused {
                    return Err(format!("a refused weight of {refused:?} is recorded"));
                }
                let (old, new) = (&before.status, &rollout.status);
                let full = Some(world.rollout.spec.max_traffic_weight());
                let promoted = old.stable_rs != new.stable_rs && !old.stable_rs.is_empty();
                if denied.is_some() && denied == full && promoted {
                    return Err("a version is promoted on a weight that is denied".to_owned());
                }
                let step = ended_step(cluster, what)
                    .and_then(|(index, ..)| canary(world)?.steps.get(index)?.set_weight);
                // Where no pods are wanted weight steps end at once, and there is no traffic to move (rollout-behaviour 17.2).
                if denied.is_some() && step == denied && replicas(&world.rollout) > 0 {
                    return Err(format!("a step ends on a denied weight of {denied:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) struct ServiceFollowsWeight;

impl Check for ServiceFollowsWeight {
    named!(
        "the-service-follows-the-weight",
        "A canary Service that carries weight moves to another version only where that one has the pods for the weight."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Performing(Action::SwitchService { target, hash, .. }, Seen::Rollout(world)) =
            what
        else {
            return Ok(());
        };
        let routed = canary(world).filter(|canary| {
            canary.traffic_routing.is_some()
                && canary.canary_service == target.name
                && canary.replica_progress_threshold.is_none()
                && canary
                    .steps
                    .iter()
                    .all(|step| step.set_canary_scale.is_none())
        });
        let Some(split) = cluster.split.as_ref().filter(|_| routed.is_some()) else {
            return Ok(());
        };
        let weights = world.rollout.status.canary.weights.as_ref();
        let recorded = weights.map_or(0, |weights| weights.canary.weight);
        let carried = i64::from(split.canary.weight.0.min(recorded));
        let status = &world.rollout.status;
        let ways = [&status.stable_rs, &split.canary.hash];
        if carried == 0 || status.abort || status.promote_full || ways.contains(&hash) {
            return Ok(());
        }
        let needed = i64::from(replicas(&world.rollout)) * carried / i64::from(split.max.0.max(1));
        let available = set_of(world, hash.as_str()).map_or(0, |set| set.available);
        if i64::from(available) < needed {
            return Err(format!(
                "{} moves with a weight of {carried} to {available} of {needed} available pods",
                target.name
            ));
        }
        Ok(())
    }
}

pub(super) struct TrafficComesHome;

impl Check for TrafficComesHome {
    named!(
        "traffic-comes-home",
        "At rest routers carry the recorded weights; a promoted version has all of the stable side and no routes are left."
    );

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        let (Some(rollout), Some(split)) = (cluster.rollout(), &cluster.split) else {
            return Ok(());
        };
        let routed = rollout
            .spec
            .strategy
            .canary
            .as_ref()
            .is_some_and(|canary| canary.traffic_routing.is_some());
        let weights = rollout.status.canary.weights.as_ref();
        let Some(weights) = weights.filter(|_| routed && outcome.at_rest) else {
            return Ok(());
        };
        let carried = split.canary.weight.0;
        if carried != weights.canary.weight {
            return Err(format!(
                "{} is recorded, {carried} is carried",
                weights.canary.weight
            ));
        }
        let promoted = outcome.phase == crossfade_api::rollout_status::RolloutPhase::Healthy;
        if promoted && carried != 0 {
            return Err(format!("the canary's side keeps a weight of {carried}"));
        }
        let left = split.header_routes.len() + split.mirror_routes.len();
        if promoted && left > 0 {
            return Err(format!("{left} routes are left"));
        }
        Ok(())
    }
}
