//! Sizes: never more pods than the strategy allows, never fewer than traffic needs.

use crossfade_api::names::label;
use crossfade_engine::action::Action;
use crossfade_engine::rollout::world::World;

use super::traffic::replicas;
use super::{Check, named};
use crate::cluster::Cluster;
use crate::watch::{Seen, What};

/// A change of a ReplicaSet's size with the world it was decided on: its hash, its size before and after.
pub(super) fn resized<'a>(what: &'a What<'_>) -> Option<(&'a World, &'a str, i32, i32)> {
    let What::Performing(Action::UpdateReplicaSet { target, change }, Seen::Rollout(world)) = what
    else {
        return None;
    };
    let after = change.replicas?;
    let set = world
        .replica_sets
        .iter()
        .find(|set| set.target.name == target.name)?;
    Some((world, set.hash(), set.replicas, after))
}

pub(super) struct NoMoreThanSurge;

impl Check for NoMoreThanSurge {
    named!(
        "no-more-than-surge",
        "A canary without a router never grows beyond the wanted number of pods and its surge."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((world, hash, before, after)) = resized(what) else {
            return Ok(());
        };
        let canary = world.rollout.spec.strategy.canary.as_ref();
        if after <= before || canary.is_none_or(|canary| canary.traffic_routing.is_some()) {
            return Ok(());
        }
        let others: i32 = world
            .replica_sets
            .iter()
            .filter(|set| set.hash() != hash)
            .map(|set| set.replicas)
            .sum();
        let most = replicas(&world.rollout) + world.prepared.fence.surge;
        if others + after > most {
            return Err(format!(
                "{after} pods beside {others} others are more than {most}"
            ));
        }
        Ok(())
    }
}

pub(super) struct ReferencedKeepPods;

impl Check for ReferencedKeepPods {
    named!(
        "what-serves-keeps-its-pods",
        "A former version that a Service or a split still points at loses no available pod, unless the canary has no router."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((world, hash, before, after)) = resized(what) else {
            return Ok(());
        };
        let status = &world.rollout.status;
        let strategy = &world.rollout.spec.strategy;
        let routed = strategy
            .canary
            .as_ref()
            .is_none_or(|canary| canary.traffic_routing.is_some());
        let former = hash != status.stable_rs.as_str() && hash != status.current_pod_hash.as_str();
        let available = super::traffic::set_of(world, hash).map_or(0, |set| set.available);
        if after >= available || !former || !routed || replicas(&world.rollout) == 0 {
            return Ok(());
        }
        let weight = cluster
            .split
            .as_ref()
            .filter(|split| split.canary.hash.as_str() == hash)
            .map_or(0, |split| split.canary.weight.0);
        if weight > 0 {
            return Err(format!(
                "a former version that has a weight of {weight} shrinks from {before} to {after}"
            ));
        }
        if let Some(blue_green) = &strategy.blue_green {
            let service = world.services.get(&blue_green.active_service);
            let selected = service
                .and_then(|service| service.found())
                .and_then(|service| service.selector.get(label::POD_HASH));
            if selected.is_some_and(|selected| selected == hash) {
                return Err(format!(
                    "the version that the active Service selects shrinks from {before} to {after}"
                ));
            }
        }
        Ok(())
    }
}
