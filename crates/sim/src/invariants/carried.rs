//! Pods and the requests they carry: how many there are before anything moves to them or away from them.

use std::collections::BTreeMap;

use crossfade_api::rollout_status::PauseReason;
use crossfade_engine::action::{Action, Done};
use crossfade_engine::rollout::world::{Service, World};
use jiff::SignedDuration;

use super::routes::{ended_step, splits_by_service};
use super::sizes::resized;
use super::traffic::{replicas, set_of};
use super::versions::goes_forward;
use super::{Check, InPass, named};
use crate::cluster::Cluster;
use crate::scenario::{Act, FaultKind};
use crate::watch::{Seen, What};

pub(super) struct StepsHavePods;

impl Check for StepsHavePods {
    named!(
        "a-step-has-its-pods",
        "When a weight step ends, and when a canary is promoted, the version has the pods for it, where neither a scale step nor a threshold says otherwise."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, world), Some(rollout)) = (what, cluster.rollout()) else {
            return Ok(());
        };
        let Some(canary) = &world.rollout.spec.strategy.canary else {
            return Ok(());
        };
        let scaled = canary
            .steps
            .iter()
            .any(|step| step.set_canary_scale.is_some());
        if canary.replica_progress_threshold.is_some() {
            return Ok(());
        }
        let (old, new) = (&before.status, &rollout.status);
        let available = set_of(world, new.current_pod_hash.as_str()).map_or(0, |set| set.available);
        let wanted = replicas(&world.rollout);
        if old.stable_rs != new.stable_rs && !old.stable_rs.is_empty() && available < wanted {
            return Err(format!("it is promoted with {available} of {wanted} pods"));
        }
        let weight = ended_step(cluster, what)
            .and_then(|(index, ..)| canary.steps.get(index)?.set_weight)
            .filter(|_| !scaled);
        if let Some(weight) = weight {
            let whole = world.rollout.spec.max_traffic_weight().max(1);
            let needed = i64::from(wanted) * i64::from(weight) / i64::from(whole);
            if i64::from(available) < needed {
                return Err(format!(
                    "weight {weight} is left with {available} of {needed} pods"
                ));
            }
        }
        Ok(())
    }
}

/// Whether a router has denied a weight in the pass under way.
#[derive(Default)]
pub(super) struct TrafficKeepsPods {
    denied: InPass<bool>,
}

impl Check for TrafficKeepsPods {
    named!(
        "traffic-keeps-its-pods",
        "A version that is taken back keeps its pods while routers or the active Service send it requests."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        if let What::Performed(Action::VerifyRoute { .. }, Ok(Done::Verified(Some(false))), _) =
            what
        {
            *self.denied.of(cluster) = true;
        }
        let Some((world, hash, before, after)) = resized(what) else {
            return Ok(());
        };
        let status = &world.rollout.status;
        if after > 0 || before == 0 || !status.abort || hash != status.current_pod_hash.as_str() {
            return Ok(());
        }
        // What is fully promoted cannot be taken back (rollout-behaviour 11.1), and where no pods are wanted all sizes are 0 and Services
        // stay where they are (17.2).
        if status.stable_rs == status.current_pod_hash || replicas(&world.rollout) == 0 {
            return Ok(());
        }
        let blue_green = world.rollout.spec.strategy.blue_green.as_ref();
        let active = blue_green.and_then(|strategy| world.services.get(&strategy.active_service));
        let active = active.and_then(|service| service.found());
        if active.is_some_and(|service| service.selected() == hash) {
            return Err("it goes while the active Service selects it".to_owned());
        }
        if *self.denied.of(cluster) {
            return Err(
                "it goes although a router does not confirm that it gets nothing".to_owned(),
            );
        }
        let weights = status.canary.weights.as_ref();
        let recorded = weights.filter(|weights| weights.canary.pod_template_hash.as_str() == hash);
        let recorded = recorded.map_or(0, |weights| weights.canary.weight);
        let split = cluster
            .split
            .as_ref()
            .filter(|split| split.canary.hash.as_str() == hash);
        let carried = split.map_or(0, |split| split.canary.weight.0);
        if recorded > 0 && carried > 0 {
            return Err(format!("it goes with a weight of {carried}"));
        }
        Ok(())
    }
}

/// Services that the pass under way has switched, with the version that they select now.
#[derive(Default)]
pub(super) struct StableCanCarry {
    switched: InPass<BTreeMap<String, String>>,
}

impl Check for StableCanCarry {
    named!(
        "stable-can-carry-it",
        "While the canary has pods, its weight falls only as far as available stable pods can carry the rest."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        if let What::Performed(Action::SwitchService { target, hash, .. }, Ok(_), _) = what {
            let switched = self.switched.of(cluster);
            switched.insert(target.name.clone(), hash.as_str().to_owned());
        }
        let What::Performing(Action::Route { split, .. }, Seen::Rollout(world)) = what else {
            return Ok(());
        };
        let status = &world.rollout.status;
        let (Some(weights), Some(canary)) =
            (&status.canary.weights, &world.rollout.spec.strategy.canary)
        else {
            return Ok(());
        };
        let (before, after) = (weights.canary.weight, split.canary.weight.0);
        let served = set_of(world, weights.canary.pod_template_hash.as_str());
        let switched = self.switched.of(cluster);
        let on_stable = |name: &str| {
            let service = world.services.get(name).and_then(|service| service.found());
            let selected = service.map(Service::selected);
            let now = switched.get(name).map(String::as_str);
            now.filter(|_| !canary.dynamic_stable_scale).or(selected)
                == Some(status.stable_rs.as_str())
        };
        // Then the canary's weight reaches stable pods as well, and holding it back would help nobody. Where stable pods follow the weight,
        // its Service moves last.
        let same_pods = splits_by_service(canary)
            && on_stable(&canary.canary_service)
            && on_stable(&canary.stable_service);
        if after >= before
            || status.stable_rs == status.current_pod_hash
            || canary.replica_progress_threshold.is_some()
            || same_pods
        {
            return Ok(());
        }
        let (wanted, whole) = (
            i64::from(replicas(&world.rollout)),
            i64::from(split.max.0.max(1)),
        );
        let stable = set_of(world, status.stable_rs.as_str()).map_or(0, |set| set.available);
        let carried = if wanted == 0 {
            whole
        } else {
            whole * i64::from(stable) / wanted
        };
        let needed = (whole - i64::from(after)) * wanted / whole;
        if served.is_none_or(|set| set.available == 0) {
            // Requests to a version without pods are lost: what is left goes to whoever has any.
            if after == 0 && stable == 0 && needed > 0 {
                return Err(format!(
                    "the weight falls from {before} to {after} with no stable pod"
                ));
            }
            return Ok(());
        }
        if i64::from(stable) < needed && whole - i64::from(after) > carried {
            return Err(format!(
                "the weight falls from {before} to {after} with {stable} of {needed} stable pods"
            ));
        }
        Ok(())
    }
}

/// What people have said since the update under way began.
#[derive(Default)]
pub(super) struct SwitchesWait {
    resumed: bool,
    /// The last pass that is over: what happens then is done by a former leader, with what it knew.
    over: usize,
}

impl Check for SwitchesWait {
    named!(
        "switches-wait",
        "The active Service is not switched to a new version while a person has paused the release, nor before the pause that is asked for is over or somebody says so."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Ended(..) | What::Fault(FaultKind::Usurped(_) | FaultKind::CrashBefore) => {
                self.over = cluster.passes;
            }
            What::Act(Act::Promote) => {
                let pauses = cluster
                    .rollout()
                    .map(|rollout| &rollout.status.pause_conditions);
                let mut pauses = pauses.into_iter().flatten();
                self.resumed |= pauses.any(|pause| pause.reason == PauseReason::BlueGreenPause);
            }
            What::Recorded(before, _) => {
                let Some(rollout) = cluster.rollout() else {
                    return Ok(());
                };
                let (old, new) = (&before.status, &rollout.status);
                self.resumed &= old.current_pod_hash == new.current_pod_hash && !new.abort;
            }
            What::Performing(Action::SwitchService { target, hash, .. }, Seen::Rollout(world))
                if self.over != cluster.passes =>
            {
                let status = &world.rollout.status;
                let blue_green = world.rollout.spec.strategy.blue_green.as_ref();
                let Some(blue_green) = blue_green.filter(|one| one.active_service == target.name)
                else {
                    return Ok(());
                };
                let active = world
                    .services
                    .get(&target.name)
                    .and_then(|service| service.found());
                let empty = active.is_none_or(|service| service.selected().is_empty());
                let had = status.blue_green.active_selector.as_str();
                let lost = empty && set_of(world, had).is_some();
                if lost && hash.as_str() == had {
                    // A Service that was made anew gets the version back that it had.
                    return Ok(());
                }
                if status.abort && *hash == status.stable_rs {
                    return back_in_time(world);
                }
                if world.rollout.spec.paused {
                    return Err("it is switched while the release is paused".to_owned());
                }
                if (empty && !lost) || !goes_forward(world) || status.promote_full || self.resumed {
                    return Ok(());
                }
                let begun = status
                    .pause_conditions
                    .iter()
                    .find(|pause| pause.reason == PauseReason::BlueGreenPause)
                    .map(|pause| pause.start_time);
                let seconds =
                    SignedDuration::from_secs(i64::from(blue_green.auto_promotion_seconds));
                let over = begun.is_some_and(|begun| begun + seconds <= cluster.clock());
                let served = blue_green.auto_promotion_enabled() && (seconds.is_zero() || over);
                if !served && !status.blue_green.scale_up_preview_check_point {
                    return Err("it is switched before its pause is over".to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The way back needs pods: all of them, or more than the version that is left has.
fn back_in_time(world: &World) -> Result<(), String> {
    let status = &world.rollout.status;
    let available = |hash: &str| set_of(world, hash).map_or(0, |set| set.available);
    let stable = available(status.stable_rs.as_str());
    let failed = available(status.current_pod_hash.as_str());
    if stable < replicas(&world.rollout) && stable <= failed {
        return Err(format!(
            "it is switched back to {stable} pods from {failed}"
        ));
    }
    Ok(())
}
