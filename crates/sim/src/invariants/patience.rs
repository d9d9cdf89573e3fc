//! Patience: what waits while a person holds a release, while a step takes its time, and while pods restart.

use crossfade_api::names::{annotation, condition, reason};
use crossfade_api::rollout_status::RolloutCondition;
use crossfade_engine::action::Action;

use super::sizes::resized;
use super::traffic::replicas;
use super::{Check, InPass, named};
use crate::cluster::Cluster;
use crate::watch::{Seen, What};

pub(super) struct HeldIsHeld;

impl Check for HeldIsHeld {
    named!(
        "held-is-held",
        "While a person has paused a canary, its new version does not grow unless the wanted number of pods changes."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some((world, hash, before, after)) = resized(what) else {
            return Ok(());
        };
        let rollout = &world.rollout;
        let status = &rollout.status;
        let wanted = replicas(rollout);
        let followed = world.replica_sets.iter().all(|set| {
            let desired = set.annotations.get(annotation::DESIRED_REPLICAS);
            desired.is_none_or(|desired| desired.parse() == Ok(wanted))
        });
        let canary = rollout.spec.strategy.canary.is_some();
        let held = canary && rollout.spec.paused && !status.abort && followed;
        if held && hash == status.current_pod_hash.as_str() && after > before {
            return Err(format!("it grows from {before} to {after}"));
        }
        Ok(())
    }
}

fn progressing(conditions: &[RolloutCondition]) -> &str {
    let mut all = conditions.iter();
    let told = all.find(|told| told.kind == condition::PROGRESSING);
    told.map_or("", |told| told.reason.as_str())
}

pub(super) struct DeadlinesArePatient;

impl Check for DeadlinesArePatient {
    named!(
        "deadlines-are-patient",
        "The progress deadline does not pass during a pause or analysis step, and a spec that refers to something missing is told as invalid."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, world), Some(rollout)) = (what, cluster.rollout()) else {
            return Ok(());
        };
        let (old, new) = (&before.status, &rollout.status);
        let told = progressing(&new.conditions);
        let aborts = !old.abort
            && new.abort
            && new
                .conditions
                .iter()
                .any(|one| one.message.contains("timed out progressing"));
        let passes = told == reason::DEADLINE_EXCEEDED
            && progressing(&old.conditions) != reason::DEADLINE_EXCEEDED;
        let index = world.rollout.status.current_step_index.unwrap_or(0);
        let canary = world.rollout.spec.strategy.canary.as_ref();
        let step = canary.and_then(|canary| canary.steps.get(usize::try_from(index).ok()?));
        let patient = step.is_some_and(|step| step.pause.is_some() || step.analysis.is_some());
        if (aborts || passes) && patient {
            return Err(format!("it passes during step {index}"));
        }
        let invalid = new
            .conditions
            .iter()
            .any(|one| one.kind == condition::INVALID_SPEC);
        if !world.faults.is_empty() && !invalid && !new.observed_generation.is_empty() {
            return Err("something is missing, and nobody is told".to_owned());
        }
        Ok(())
    }
}

/// Pods that the pass under way has evicted.
#[derive(Default)]
pub(super) struct RestartsAreGentle {
    evicted: InPass<i32>,
}

impl Check for RestartsAreGentle {
    named!(
        "restarts-are-gentle",
        "A restart takes only as many pods as may be missing, and is done when no pod from before it is left."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Performed(Action::EvictPod { .. }, Ok(_), Seen::Rollout(world)) => {
                let evicted = self.evicted.of(cluster);
                *evicted += 1;
                let rollout = &world.rollout;
                let wanted = replicas(rollout);
                let missing = match &rollout.spec.strategy.blue_green {
                    Some(blue_green) => blue_green
                        .max_unavailable()
                        .map_or(0, |amount| amount.rounded_down(wanted)),
                    None => world.prepared.fence.unavailable,
                };
                let ready = world
                    .pods
                    .iter()
                    .filter(|pod| !pod.deleting && pod.ready_since.is_some());
                let ready = i32::try_from(ready.count()).unwrap_or(i32::MAX);
                if ready - *evicted < wanted - missing.max(1) {
                    return Err(format!("{evicted} of {ready} ready pods are evicted"));
                }
            }
            What::Recorded(before, world) => {
                let Some(rollout) = cluster.rollout() else {
                    return Ok(());
                };
                let (old, new) = (&before.status, &rollout.status);
                let done = new.restarted_at.filter(|done| {
                    old.restarted_at != Some(*done)
                        && old.current_pod_hash == new.current_pod_hash
                        && old.current_step_hash == new.current_step_hash
                });
                let own = |uid: &Option<String>| {
                    world
                        .replica_sets
                        .iter()
                        .any(|set| Some(&set.target.uid) == uid.as_ref())
                };
                let old_pods = done.map_or(0, |done| {
                    let pods = world.pods.iter();
                    pods.filter(|pod| pod.created < done && own(&pod.controller))
                        .count()
                });
                if old_pods > 0 {
                    return Err(format!("{old_pods} pods from before the restart are left"));
                }
            }
            // What a former leader does later is not of this pass.
            What::Ended(..) | What::Fault(_) => *self.evicted.of(cluster) = 0,
            _ => {}
        }
        Ok(())
    }
}
