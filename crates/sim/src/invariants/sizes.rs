//! Sizes: never more pods than the strategy allows, never fewer than traffic needs.

use std::collections::BTreeMap;

use crossfade_api::names::{annotation, label};
use crossfade_engine::action::Action;
use crossfade_engine::rollout::world::World;

use super::traffic::replicas;
use super::{Check, named};
use crate::cluster::Cluster;
use crate::watch::{Seen, What};

/// A change of a ReplicaSet's size that was carried out, with the world it was decided on: its hash, its size before and after.
pub(super) fn resized<'a>(what: &'a What<'_>) -> Option<(&'a World, &'a str, i32, i32)> {
    let What::Performed(Action::UpdateReplicaSet { target, change }, Ok(_), Seen::Rollout(world)) =
        what
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
        // What routers were last told is theirs alone once the strategy is another one.
        let weight = cluster
            .split
            .as_ref()
            .filter(|split| strategy.canary.is_some() && split.canary.hash.as_str() == hash)
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

#[derive(Default)]
pub(super) struct EnoughAvailable {
    /// Sizes that the pass under way has given, by name.
    given: BTreeMap<String, i32>,
}

impl Check for EnoughAvailable {
    named!(
        "enough-pods-stay-available",
        "A canary without a router takes away no available pod below the wanted number less maxUnavailable."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        if let What::Ended(..) | What::Fault(_) = what {
            self.given.clear();
        }
        let Some((world, hash, before, after)) = resized(what) else {
            return Ok(());
        };
        let name = super::traffic::set_of(world, hash).map_or("", |set| &set.target.name);
        let given = self.given.clone();
        self.given.insert(name.to_owned(), after);
        let canary = world.rollout.spec.strategy.canary.as_ref();
        let plain = canary.is_some_and(|canary| {
            canary.traffic_routing.is_none() && canary.replica_progress_threshold.is_none()
        });
        if !plain || after >= before {
            return Ok(());
        }
        // What other actions of this pass leave of the pods that it saw.
        let left = |of: &str, size: i32| -> i32 {
            let sets = world.replica_sets.iter();
            sets.map(|set| {
                let now = given.get(&set.target.name).copied().unwrap_or(set.replicas);
                set.available.min(if set.hash() == of { size } else { now })
            })
            .sum()
        };
        let (had, has) = (left(hash, before), left(hash, after));
        let least = replicas(&world.rollout) - world.prepared.fence.unavailable;
        if has < had && has < least {
            return Err(format!(
                "{has} of {had} available pods are left, fewer than {least}"
            ));
        }
        Ok(())
    }
}

pub(super) struct StableKeepsPods;

impl Check for StableKeepsPods {
    named!(
        "stable-keeps-its-pods",
        "The stable version is never smaller than its recorded share of traffic, and has all pods unless the canary has no router or stable pods follow the weight."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((world, hash, before, after)) = resized(what) else {
            return Ok(());
        };
        let (status, strategy) = (&world.rollout.status, &world.rollout.spec.strategy);
        if after >= before || hash != status.stable_rs.as_str() {
            return Ok(());
        }
        let wanted = replicas(&world.rollout);
        let least = match &strategy.canary {
            None => wanted,
            Some(canary) if canary.traffic_routing.is_none() => return Ok(()),
            Some(canary) if canary.dynamic_stable_scale => {
                let Some(weights) = &status.canary.weights else {
                    return Ok(());
                };
                let whole = weights.canary.weight + weights.stable.weight;
                let pods = i64::from(wanted) * i64::from(weights.stable.weight);
                i32::try_from((pods + i64::from(whole) - 1) / i64::from(whole.max(1))).unwrap_or(0)
            }
            Some(_) => wanted,
        };
        if after < least {
            return Err(format!(
                "the stable version shrinks from {before} to {after}, below {least}"
            ));
        }
        Ok(())
    }
}

pub(super) struct ActiveKeepsPods;

impl Check for ActiveKeepsPods {
    named!(
        "active-keeps-its-pods",
        "The version that a blue-green release's active Service selects is never made smaller than the wanted number of pods."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((world, hash, before, after)) = resized(what) else {
            return Ok(());
        };
        let Some(blue_green) = &world.rollout.spec.strategy.blue_green else {
            return Ok(());
        };
        let service = world.services.get(&blue_green.active_service);
        let active = service.and_then(|service| service.found());
        let serves = active.is_some_and(|service| service.selected() == hash);
        if serves && after < before && after < replicas(&world.rollout) {
            return Err(format!(
                "the active version shrinks from {before} to {after}"
            ));
        }
        Ok(())
    }
}

pub(super) struct DelayIsKept;

impl Check for DelayIsKept {
    named!(
        "the-delay-is-kept",
        "A former version with available pods is not scaled to nothing before its scale-down deadline, unless only so many may wait or none for long."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((world, hash, before, after)) = resized(what) else {
            return Ok(());
        };
        let strategy = &world.rollout.spec.strategy;
        let limited = match (&strategy.canary, &strategy.blue_green) {
            (Some(canary), _) => {
                canary.scale_down_delay_revision_limit.is_some()
                    || canary.scale_down_delay_seconds == Some(0)
                    || canary.dynamic_stable_scale
                    || canary.traffic_routing.is_none()
            }
            (None, Some(blue_green)) => {
                blue_green.scale_down_delay_revision_limit.is_some()
                    || blue_green.scale_down_delay_seconds == Some(0)
            }
            (None, None) => true,
        };
        let status = &world.rollout.status;
        let former = hash != status.current_pod_hash.as_str() && hash != status.stable_rs.as_str();
        if limited || after > 0 || before == 0 || !former || replicas(&world.rollout) == 0 {
            return Ok(());
        }
        let set = super::traffic::set_of(world, hash).filter(|set| set.available > 0);
        let deadline = set.and_then(|set| set.annotations.get(annotation::SCALE_DOWN_DEADLINE));
        let deadline = deadline.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let clock = cluster.clock();
        if deadline.is_some_and(|deadline| deadline > clock) {
            return Err(format!(
                "a former version goes before its deadline {deadline:?}"
            ));
        }
        Ok(())
    }
}
