//! Taking back: at once, all the way, and never forward again.

use crossfade_api::Rollout;
use crossfade_api::names::label;
use crossfade_engine::action::Action;
use crossfade_engine::rollout::prepared::prepare;
use crossfade_engine::rollout::world::{ReplicaSet, World};

use super::sizes::resized;
use super::traffic::{replicas, set_of};
use super::{Check, named};
use crate::cluster::Cluster;
use crate::run::Outcome;
use crate::watch::{Seen, What};

/// A pass saw a release that is being taken back, and nothing that would end that.
fn is_taken_back(world: &World) -> bool {
    let status = &world.rollout.status;
    let set = |hash: &str| set_of(world, hash).map(|set| set.created);
    let stable = set(status.stable_rs.as_str());
    let newer = set(status.current_pod_hash.as_str()) > stable;
    // What is being deleted is left alone, taken back or not (rollout-behaviour 3.1).
    let goes = world.rollout.metadata.deletion_timestamp.is_some();
    status.abort
        && !status.promote_full
        && !goes
        && newer
        && !status.stable_rs.is_empty()
        && status.stable_rs != status.current_pod_hash
        && world.prepared.hash == status.current_pod_hash
        && world.prepared.errors.is_empty()
        && world.faults.is_empty()
}

/// A canary without a router that has as many pods as its surge allows, too few of them available to take any away: it goes back as soon as
/// stable pods become available, as every step of it does (rollout-behaviour 7.4, rules 1, 2 and 5).
fn is_fenced_in(cluster: &Cluster, rollout: &Rollout, stable: &ReplicaSet) -> bool {
    let canary = rollout.spec.strategy.canary.as_ref();
    if canary.is_none_or(|canary| canary.traffic_routing.is_some()) {
        return false;
    }
    let fence = prepare(rollout).fence;
    let wanted = replicas(rollout);
    let sets = || cluster.own_sets().map(|set| &set.view);
    let all: i32 = sets().map(|set| set.replicas).sum();
    let failed = rollout.status.current_pod_hash.as_str();
    let drained = sets().find(|set| set.hash() == failed);
    let drained = drained.map_or(0, |set| set.replicas);
    all >= wanted + fence.surge
        && stable.available.min(stable.replicas) + drained <= wanted - fence.unavailable
}

#[derive(Default)]
pub(super) struct ComesBack {
    /// The pass under way has done or recorded something: another one follows.
    moved: bool,
}

impl Check for ComesBack {
    named!(
        "an-abort-brings-stable-back",
        "A release that was taken back leaves all traffic to the stable version as soon as that has all its pods."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Ended(ended, Seen::Rollout(world)), Some(rollout)) = (what, cluster.rollout())
        else {
            self.moved |= matches!(what, What::Recorded(..) | What::Performed(..));
            return Ok(());
        };
        if std::mem::take(&mut self.moved) {
            return Ok(());
        }
        if !is_taken_back(world) || ended.failed.is_some() {
            return Ok(());
        }
        let canary = world.rollout.spec.strategy.canary.as_ref();
        if canary.is_some_and(|canary| canary.dynamic_stable_scale) {
            // There it goes step by step; see the end.
            return Ok(());
        }
        let stable = world.rollout.status.stable_rs.as_str();
        let whole =
            set_of(world, stable).is_some_and(|set| set.available >= replicas(&world.rollout));
        // Sizes alone are followed first.
        let followed = world.replica_sets.iter().all(|set| {
            let desired = set
                .annotations
                .get(crossfade_api::names::annotation::DESIRED_REPLICAS);
            set.replicas == 0
                || desired.is_none_or(|desired| desired.parse() == Ok(replicas(&world.rollout)))
        });
        if !whole || !followed || !rollout.status.abort {
            return Ok(());
        }
        let weights = rollout.status.canary.weights.as_ref();
        let weight = weights.map_or(0, |weights| weights.canary.weight);
        if weight != 0 {
            return Err(format!(
                "the canary keeps a weight of {weight} although the stable version has all its pods"
            ));
        }
        Ok(())
    }

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        let Some(rollout) = cluster
            .rollout()
            .filter(|_| outcome.aborted && outcome.at_rest)
        else {
            return Ok(());
        };
        let status = &rollout.status;
        let stable = cluster
            .sets
            .values()
            .find(|set| set.view.hash() == status.stable_rs.as_str());
        let Some(stable) = stable.filter(|_| status.stable_rs != status.current_pod_hash) else {
            return Ok(());
        };
        let wanted = replicas(rollout);
        if stable.view.replicas < wanted && !is_fenced_in(cluster, rollout, &stable.view) {
            return Err(format!(
                "the stable version is left with {} of {wanted} pods",
                stable.view.replicas
            ));
        }
        if stable.view.available < wanted {
            return Ok(());
        }
        if let Some(blue_green) = &rollout.spec.strategy.blue_green {
            let service = cluster.services.get(&blue_green.active_service);
            let selected = service.and_then(|service| service.selector.get(label::POD_HASH));
            if selected.is_some_and(|selected| selected != status.stable_rs.as_str()) {
                return Err("the active Service does not select the stable version".to_owned());
            }
        }
        let routed = rollout
            .spec
            .strategy
            .canary
            .as_ref()
            .is_some_and(|canary| canary.traffic_routing.is_some());
        if let Some(split) = cluster.split.as_ref().filter(|_| routed)
            && split.canary.weight.0 > 0
            && split.canary.hash != status.stable_rs
        {
            return Err(format!(
                "the canary is left with a weight of {}",
                split.canary.weight.0
            ));
        }
        Ok(())
    }
}

pub(super) struct OnlyBackwards;

impl Check for OnlyBackwards {
    named!(
        "an-abort-never-goes-forward",
        "While a release is taken back, neither the weight nor the size of its version rises."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        if let Some((world, hash, before, after)) = resized(what)
            && is_taken_back(world)
            && hash == world.rollout.status.current_pod_hash.as_str()
            && after > before
        {
            return Err(format!(
                "the version that was taken back grows from {before} to {after}"
            ));
        }
        if let What::Performing(Action::Route { split, .. }, Seen::Rollout(world)) = what
            && is_taken_back(world)
        {
            let weights = world.rollout.status.canary.weights.as_ref();
            let recorded = weights.map_or(0, |weights| weights.canary.weight);
            let weight = split.canary.weight.0;
            if weight > recorded {
                return Err(format!("its weight rises from {recorded} to {weight}"));
            }
        }
        Ok(())
    }
}
