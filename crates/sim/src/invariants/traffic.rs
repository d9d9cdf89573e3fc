//! Traffic: never at versions without pods, never more or less than all of it.

use crossfade_api::Rollout;
use crossfade_engine::action::{Action, Split};
use crossfade_engine::rollout::world::{ReplicaSet, World};

use super::{Check, named};
use crate::cluster::Cluster;
use crate::watch::{Seen, What};

/// The ReplicaSet of a hash, as a pass saw it.
pub(super) fn set_of<'w>(world: &'w World, hash: &str) -> Option<&'w ReplicaSet> {
    world.replica_sets.iter().find(|set| set.hash() == hash)
}

fn available(world: &World, hash: &str) -> i32 {
    set_of(world, hash).map_or(0, |set| set.available)
}

pub(super) fn replicas(rollout: &Rollout) -> i32 {
    rollout.spec.replicas.unwrap_or(1)
}

/// A Route action with the world it was decided on.
fn routed<'a>(what: &'a What<'_>) -> Option<(&'a Split, &'a World)> {
    match what {
        What::Performing(Action::Route { split, .. }, Seen::Rollout(world)) => Some((split, world)),
        _ => None,
    }
}

/// The canary's recorded weight, and the version it is recorded for.
fn recorded(world: &World) -> (i32, &str) {
    let weights = world.rollout.status.canary.weights.as_ref();
    weights.map_or((0, ""), |weights| {
        (
            weights.canary.weight,
            weights.canary.pod_template_hash.as_str(),
        )
    })
}

pub(super) struct WeightsSum;

impl Check for WeightsSum {
    named!(
        "weights-sum-to-the-whole",
        "The weights of a split are between nothing and the whole, and sum to the whole."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((split, _)) = routed(what) else {
            return Ok(());
        };
        let sides = [&split.canary, &split.stable];
        let all = sides.into_iter().chain(&split.additional);
        let weights: Vec<i32> = all.map(|side| side.weight.0).collect();
        let whole = split.max.0;
        if weights.iter().sum::<i32>() == whole
            && weights.iter().all(|weight| (0..=whole).contains(weight))
        {
            Ok(())
        } else {
            Err(format!("weights {weights:?} of {whole}"))
        }
    }
}

pub(super) struct PodsBeforeTraffic;

impl Check for PodsBeforeTraffic {
    named!(
        "pods-before-traffic",
        "The canary's weight rises only when the canary has available pods, and only as far as the step under way."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((split, world)) = routed(what) else {
            return Ok(());
        };
        let (weight, hash) = (split.canary.weight.0, split.canary.hash.as_str());
        let (before, of) = recorded(world);
        let rises = weight > before || (weight > 0 && of != hash);
        if rises && available(world, hash) == 0 {
            return Err(format!(
                "the weight becomes {weight} although the canary has no available pod"
            ));
        }
        Ok(())
    }
}

pub(super) struct StableCarriesTheRest;

impl Check for StableCarriesTheRest {
    named!(
        "stable-carries-the-rest",
        "Unless a release is taken back or its pods are gone, traffic moves to the stable version only when that has available pods."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((split, world)) = routed(what) else {
            return Ok(());
        };
        let (before, of) = recorded(world);
        let weight = split.canary.weight.0;
        let status = &world.rollout.status;
        let promoted = status.stable_rs == status.current_pod_hash;
        if weight >= before || promoted || status.abort {
            return Ok(());
        }
        let stable = available(world, split.stable.hash.as_str());
        // What has no pods can lose its traffic at any time.
        if available(world, of) == 0 {
            return Ok(());
        }
        if stable == 0 && replicas(&world.rollout) > 0 {
            return Err(format!(
                "the canary's weight falls from {before} to {weight} although the stable version has no available pod"
            ));
        }
        Ok(())
    }
}

pub(super) struct ServicesHavePods;

impl Check for ServicesHavePods {
    named!(
        "services-have-pods",
        "A Service is pointed only at a version with available pods, but for the preview, the ping-pong canary and the way back."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Performing(Action::SwitchService { target, hash, .. }, Seen::Rollout(world)) =
            what
        else {
            return Ok(());
        };
        let rollout = &world.rollout;
        let status = &rollout.status;
        let strategy = &rollout.spec.strategy;
        let blue_green = strategy.blue_green.as_ref();
        let preview = blue_green.is_some_and(|strategy| strategy.preview_service == target.name);
        let ping_pong = strategy
            .canary
            .as_ref()
            .is_some_and(|canary| canary.ping_pong.is_some());
        let back = status.abort && *hash == status.stable_rs;
        if preview || ping_pong || back || replicas(rollout) == 0 {
            return Ok(());
        }
        if available(world, hash.as_str()) == 0 {
            return Err(format!(
                "{} is pointed at a version without available pods",
                target.name
            ));
        }
        Ok(())
    }
}

pub(super) struct WeightNeedsItsPods;

impl Check for WeightNeedsItsPods {
    named!(
        "weight-needs-its-pods",
        "A weight rises only when the canary has the available pods for it, where neither a scale step nor a threshold says otherwise."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((split, world)) = routed(what) else {
            return Ok(());
        };
        let Some(canary) = &world.rollout.spec.strategy.canary else {
            return Ok(());
        };
        let scaled = canary
            .steps
            .iter()
            .any(|step| step.set_canary_scale.is_some());
        let (before, of) = recorded(world);
        let (weight, whole) = (i64::from(split.canary.weight.0), i64::from(split.max.0));
        let hash = split.canary.hash.as_str();
        let before = if of == hash { before } else { 0 };
        if scaled || canary.replica_progress_threshold.is_some() || weight <= i64::from(before) {
            return Ok(());
        }
        let pods = i64::from(replicas(&world.rollout)) * weight;
        let mut needed = (pods + whole - 1) / whole.max(1);
        if world.rollout.status.promote_full {
            needed = pods / whole.max(1);
        }
        let available = i64::from(available(world, hash));
        if available < needed {
            return Err(format!(
                "the weight rises from {before} to {weight} with {available} of {needed} available pods"
            ));
        }
        Ok(())
    }
}

pub(super) struct PromotionBeforeSwitch;

impl Check for PromotionBeforeSwitch {
    named!(
        "promotion-before-the-stable-service",
        "The stable Service of a canary only ever selects the version that is recorded as the stable one."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Performing(Action::SwitchService { target, hash, .. }, Seen::Rollout(world)) =
            what
        else {
            return Ok(());
        };
        let canary = world.rollout.spec.strategy.canary.as_ref();
        let stable = canary.is_some_and(|canary| canary.stable_service == target.name);
        if stable && *hash != world.rollout.status.stable_rs {
            return Err(format!("{} is pointed at {hash}", target.name));
        }
        Ok(())
    }
}
