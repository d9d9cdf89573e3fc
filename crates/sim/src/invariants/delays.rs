//! Delays: how long versions that are left keep their pods, and how many of them do.

use std::collections::BTreeMap;

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::annotation;
use crossfade_engine::action::Action;
use crossfade_engine::rollout::world::{ReplicaSet, Service, World};
use jiff::{SignedDuration, Timestamp};

use super::traffic::{replicas, set_of};
use super::versions::is_former;
use super::{Check, InPass, named};
use crate::cluster::Cluster;
use crate::scenario::FaultKind;
use crate::watch::{Seen, What};

fn deadline(set: &ReplicaSet) -> Option<Timestamp> {
    let text = set.annotations.get(annotation::SCALE_DOWN_DEADLINE)?;
    text.parse().ok()
}

/// Seconds that a former version keeps its pods.
fn delay_of_former(world: &World) -> i32 {
    let strategy = &world.rollout.spec.strategy;
    match (&strategy.canary, &strategy.blue_green) {
        (_, Some(blue_green)) => blue_green.scale_down_delay_seconds(),
        (Some(canary), None) => canary.scale_down_delay_seconds(),
        (None, None) => 0,
    }
}

/// What matters of the past for delays.
#[derive(Default)]
pub(super) struct DelaysAreWhole {
    /// What the clock showed whenever a former leader was left with an action under way: it writes the end of a delay that began then.
    overtaken: Vec<Timestamp>,
    /// Services that the pass under way has switched, with the version that they select now.
    switched: InPass<BTreeMap<String, String>>,
}

impl Check for DelaysAreWhole {
    named!(
        "delays-are-whole",
        "A version that is left gets its whole delay: a former one once it is no longer used, a failed one once stable pods are there."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (target, change, world) = match what {
            What::Fault(FaultKind::Usurped(_)) => {
                self.overtaken.push(cluster.clock());
                return Ok(());
            }
            What::Performed(Action::SwitchService { target, hash, .. }, Ok(_), _) => {
                let switched = self.switched.of(cluster);
                switched.insert(target.name.clone(), hash.as_str().to_owned());
                return Ok(());
            }
            // Of what a former leader wants to write, only what is written counts.
            What::Performed(
                Action::UpdateReplicaSet { target, change },
                Ok(_),
                Seen::Rollout(world),
            ) => (target, change, world),
            _ => return Ok(()),
        };
        let Some(set) = world
            .replica_sets
            .iter()
            .find(|set| set.target.name == target.name)
        else {
            return Ok(());
        };
        let status = &world.rollout.status;
        let strategy = &world.rollout.spec.strategy;
        let former = is_former(world, set.hash());
        let marked = change.annotations.get(annotation::SCALE_DOWN_DEADLINE);
        if let Some(Some(text)) = marked {
            let until: Option<Timestamp> = text.parse().ok();
            let delay = match (&strategy.canary, &strategy.blue_green) {
                _ if former => delay_of_former(world),
                (_, Some(blue_green)) => blue_green.abort_scale_down_delay_seconds().unwrap_or(0),
                (Some(canary), None) => canary.abort_scale_down_delay_seconds().unwrap_or(0),
                (None, None) => 0,
            };
            let delay = SignedDuration::from_secs(i64::from(delay));
            // Times are written in whole seconds, cut.
            let second = SignedDuration::from_secs(1);
            let begins = |began: Timestamp| {
                until.is_none_or(|until| until + second > began + delay && until <= began + delay)
            };
            if !begins(cluster.clock()) && !self.overtaken.iter().any(|began| begins(*began)) {
                return Err(format!("{text} is no delay of {delay:#}"));
            }
            let stable = set_of(world, status.stable_rs.as_str()).map_or(0, |set| set.available);
            let failed = set.hash() == status.current_pod_hash.as_str();
            if failed && stable < replicas(&world.rollout) {
                return Err(format!(
                    "the delay of a failed version begins with {stable} stable pods"
                ));
            }
            return Ok(());
        }
        let switched = self.switched.of(cluster);
        if former && change.replicas == Some(0) && is_unproven(world, switched) {
            return Err("a former version goes before the new one has proved itself".to_owned());
        }
        let limited = match (&strategy.canary, &strategy.blue_green) {
            (_, Some(blue_green)) => blue_green.scale_down_delay_revision_limit.is_some(),
            (Some(canary), None) => {
                canary.scale_down_delay_revision_limit.is_some()
                    || canary.dynamic_stable_scale
                    || canary.traffic_routing.is_none()
                    || status.stable_rs != status.current_pod_hash
            }
            (None, None) => true,
        };
        let goes = change.replicas == Some(0) && set.replicas > 0 && set.available > 0;
        if former && goes && !limited && deadline(set).is_none() && delay_of_former(world) > 0 {
            return Err("a former version goes without its delay".to_owned());
        }
        Ok(())
    }
}

/// A blue-green release without a delay of its own is judged after its switch: it serves, and has not passed.
fn is_unproven(world: &World, switched: &BTreeMap<String, String>) -> bool {
    let Some(blue_green) = &world.rollout.spec.strategy.blue_green else {
        return false;
    };
    let status = &world.rollout.status;
    let service = world.services.get(&blue_green.active_service);
    let selected = service
        .and_then(|service| service.found())
        .map(Service::selected);
    let active = switched
        .get(&blue_green.active_service)
        .map(String::as_str)
        .or(selected);
    let tried = status.stable_rs != status.current_pod_hash
        && active == Some(status.current_pod_hash.as_str());
    let slot = &status.blue_green.post_promotion_analysis_run_status;
    let run = slot.as_ref().and_then(|slot| {
        let mut runs = world.runs.iter();
        runs.find(|run| run.metadata.name.as_ref() == Some(&slot.name))
    });
    tried
        && blue_green.post_promotion_analysis.is_some()
        && blue_green.scale_down_delay_seconds.is_none()
        && run.is_none_or(|run| run.status.phase != AnalysisPhase::Successful)
}

/// Whether the pass under way has done anything.
#[derive(Default)]
pub(super) struct FewAreDelayed {
    acted: bool,
}

impl Check for FewAreDelayed {
    named!(
        "few-are-delayed",
        "When a pass finds nothing to do and the stable version has its pods, no more former versions wait for their end than may."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Performing(..) | What::Recorded(..) | What::Fault(_) => self.acted = true,
            What::Ended(ended, Seen::Rollout(world)) => {
                let acted = std::mem::take(&mut self.acted);
                let strategy = &world.rollout.spec.strategy;
                let limit = match (&strategy.canary, &strategy.blue_green) {
                    (_, Some(blue_green)) => blue_green.scale_down_delay_revision_limit,
                    (Some(canary), None) => canary.scale_down_delay_revision_limit,
                    (None, None) => None,
                };
                let status = &world.rollout.status;
                // Until the stable version has its pods, others may be needed.
                let stable = set_of(world, status.stable_rs.as_str());
                let whole = stable.is_some_and(|set| set.available >= replicas(&world.rollout));
                let quiet = !acted
                    && whole
                    && ended.failed.is_none()
                    && ended.look_again != Some(SignedDuration::from_millis(100))
                    && status.pause_conditions.is_empty()
                    && status.stable_rs == status.current_pod_hash
                    && !world.rollout.spec.paused;
                let Some(limit) = limit.filter(|_| quiet) else {
                    return Ok(());
                };
                let selects = |hash: &str| {
                    let mut services = world.services.values();
                    services
                        .any(|service| service.found().is_some_and(|one| one.selected() == hash))
                };
                let now = cluster.clock();
                let waiting = world.replica_sets.iter().filter(|set| {
                    is_former(world, set.hash())
                        && set.replicas > 0
                        && set.available > 0
                        && deadline(set).is_some_and(|until| until > now)
                        && !selects(set.hash())
                });
                let waiting = i32::try_from(waiting.count()).unwrap_or(i32::MAX);
                if waiting > limit {
                    return Err(format!("{waiting} wait, {limit} may"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
