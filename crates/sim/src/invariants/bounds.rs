//! Bounds: how long, how far, how many, and in which order.

use std::collections::BTreeMap;

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::{annotation, condition, label, reason};
use crossfade_api::rollout_status::{PauseReason, RolloutCondition};
use crossfade_engine::action::{Action, Done};
use crossfade_engine::rollout::world::{ReplicaSet, Service, World};
use jiff::{SignedDuration, Timestamp};

use super::promotion::is_pardoned;
use super::routes::{ended_step, splits_by_service};
use super::sizes::resized;
use super::traffic::{replicas, set_of};
use super::{Check, InPass, named};
use crate::cluster::Cluster;
use crate::scenario::{Act, FaultKind};
use crate::watch::{Seen, What};

fn deadline(set: &ReplicaSet) -> Option<Timestamp> {
    let text = set.annotations.get(annotation::SCALE_DOWN_DEADLINE)?;
    text.parse().ok()
}

fn is_former(world: &World, hash: &str) -> bool {
    let status = &world.rollout.status;
    // A Rollout that was just made says nothing of its version yet.
    let present = [
        &status.stable_rs,
        &status.current_pod_hash,
        &world.prepared.hash,
    ];
    present.iter().all(|one| one.as_str() != hash)
}

/// The present version is newer than the stable one.
fn goes_forward(world: &World) -> bool {
    let status = &world.rollout.status;
    let created = |hash: &str| set_of(world, hash).map(|set| set.created);
    created(status.current_pod_hash.as_str()) > created(status.stable_rs.as_str())
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

pub(super) struct NothingSticks;

impl Check for NothingSticks {
    named!(
        "nothing-sticks-to-the-next",
        "A new version begins without the full promotion, the abort and the step of the one before."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, _), Some(rollout)) = (what, cluster.rollout()) else {
            return Ok(());
        };
        let (old, new) = (&before.status, &rollout.status);
        if old.current_pod_hash == new.current_pod_hash || old.current_pod_hash.is_empty() {
            return Ok(());
        }
        if new.promote_full || new.abort {
            return Err(format!(
                "promoteFull {}, abort {}",
                new.promote_full, new.abort
            ));
        }
        Ok(())
    }
}

pub(super) struct AbortedStaysBack;

impl Check for AbortedStaysBack {
    named!(
        "what-is-taken-back-is-not-promoted",
        "A release that is being taken back is not promoted, unless in full or on the way back."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, world), Some(rollout)) = (what, cluster.rollout()) else {
            return Ok(());
        };
        let (old, new) = (&before.status, &rollout.status);
        let promoted = old.stable_rs != new.stable_rs && !old.stable_rs.is_empty();
        let back = world.rollout.status.abort && !world.rollout.status.promote_full;
        if promoted && back && goes_forward(world) && !is_pardoned(world) {
            return Err("it is promoted".to_owned());
        }
        Ok(())
    }
}

pub(super) struct WindowsEnd;

impl Check for WindowsEnd {
    named!(
        "windows-end",
        "A canary goes back to an older version without its steps only within the rollback window."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, world), Some(rollout)) = (what, cluster.rollout()) else {
            return Ok(());
        };
        let (old, new) = (&before.status, &rollout.status);
        let jumps = old
            .current_step_index
            .zip(new.current_step_index)
            .is_some_and(|(from, to)| to > from + 1)
            && old.current_pod_hash == new.current_pod_hash
            && old.current_step_hash == new.current_step_hash;
        let sets = (
            set_of(world, new.current_pod_hash.as_str()),
            set_of(world, old.stable_rs.as_str()),
        );
        let (Some(present), Some(stable)) = sets else {
            return Ok(());
        };
        if !jumps || old.promote_full || present.created >= stable.created {
            return Ok(());
        }
        let between = world
            .replica_sets
            .iter()
            .filter(|set| set.created > present.created && set.created < stable.created)
            .count();
        let window = usize::try_from(world.rollout.spec.rollback_window()).unwrap_or(0);
        if between >= window {
            return Err(format!(
                "{between} versions lie between, the window is {window}"
            ));
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

pub(super) struct OldestGoFirst;

impl Check for OldestGoFirst {
    named!(
        "the-oldest-go-first",
        "A former version is deleted only when it has no pods, does not serve, and enough newer ones are kept."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Performing(Action::DeleteReplicaSet { target }, Seen::Rollout(world)) = what
        else {
            return Ok(());
        };
        let mut sets = world.replica_sets.iter();
        let Some(set) = sets.find(|set| set.target.name == target.name) else {
            return Ok(());
        };
        let there = cluster.sets.get(&target.name);
        let pods = there.map_or(0, |there| there.view.replicas.max(there.view.current));
        if pods > 0 && set.replicas.max(set.current) > 0 {
            return Err(format!("{} is deleted with {pods} pods", target.name));
        }
        let blue_green = world.rollout.spec.strategy.blue_green.as_ref();
        let active = blue_green.and_then(|strategy| world.services.get(&strategy.active_service));
        let active = active.and_then(|service| service.found());
        if active.is_some_and(|active| active.selected() == set.hash()) {
            return Err(format!("{} is deleted while it serves", target.name));
        }
        let newer = world.replica_sets.iter().filter(|other| {
            is_former(world, other.hash()) && !other.deleting && other.created > set.created
        });
        let limit = usize::try_from(world.rollout.spec.revision_history_limit()).unwrap_or(0);
        if newer.count() < limit {
            return Err(format!("{} is deleted, {limit} may be kept", target.name));
        }
        Ok(())
    }
}

pub(super) struct VersionsKeepApart;

impl Check for VersionsKeepApart {
    named!(
        "versions-keep-apart",
        "Where that is asked for, the pods of a new version are kept away from the nodes of the stable one."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Performing(Action::CreateReplicaSet(new), Seen::Rollout(world)) = what else {
            return Ok(());
        };
        let strategy = &world.rollout.spec.strategy;
        let asked = match (&strategy.canary, &strategy.blue_green) {
            (_, Some(blue_green)) => blue_green.anti_affinity.is_some(),
            (Some(canary), None) => canary.anti_affinity.is_some(),
            (None, None) => false,
        };
        let stable = world.rollout.status.stable_rs.as_str();
        let own = new.labels.get(label::POD_HASH).map(String::as_str);
        let affinity = new.template.pointer("/spec/affinity");
        let avoids = affinity.is_some_and(|affinity| affinity.to_string().contains(stable));
        if asked && !stable.is_empty() && own != Some(stable) && !avoids {
            return Err(format!("{} may share nodes with {stable}", new.name));
        }
        Ok(())
    }
}
