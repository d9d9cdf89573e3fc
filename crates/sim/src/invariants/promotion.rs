//! Promotion: earned, of one version, step by step.

use std::collections::BTreeMap;

use crossfade_api::Rollout;
use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::{annotation, label};

use crossfade_engine::action::Action;
use crossfade_engine::decision::Found;
use crossfade_engine::rollout::world::World;

use super::traffic::set_of;
use super::{Check, named};
use crate::cluster::Cluster;
use crate::scenario::{Act, FaultKind};
use crate::watch::{Seen, What};

pub(super) struct OneStable;

impl Check for OneStable {
    named!(
        "one-stable-version",
        "The stable version changes only to the version of the present template, never from one to none."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Recorded(before, _) = what else {
            return Ok(());
        };
        let Some(rollout) = cluster.rollout() else {
            return Ok(());
        };
        let (old, new) = (&before.status, &rollout.status);
        if old.stable_rs != new.stable_rs && new.stable_rs != new.current_pod_hash {
            return Err(format!(
                "the stable version becomes {:?}, the present one is {:?}",
                new.stable_rs, new.current_pod_hash
            ));
        }
        Ok(())
    }
}

/// Runs of the update under way, by purpose and step.
#[derive(Default)]
pub(super) struct EarnedPromotion {
    /// Phases by purpose, step and name; of the present version since the update began.
    runs: BTreeMap<(String, String), BTreeMap<String, AnalysisPhase>>,
    /// A person has said that something may be left out.
    skipped: bool,
    /// The present version has been taken back before.
    failed: bool,
    /// The present version had production traffic when it was asked for, as after a change of mind: nothing comes before its switch.
    served: bool,
}

/// Full promotion was asked for, or nothing has served yet.
pub(super) fn is_pardoned(world: &World) -> bool {
    let status = &world.rollout.status;
    let blue_green = world.rollout.spec.strategy.blue_green.as_ref();
    let unserved = blue_green.is_some_and(|strategy| {
        let service = world.services.get(&strategy.active_service);
        service
            .and_then(Found::found)
            .is_none_or(|service| service.selected().is_empty())
    });
    status.promote_full || status.stable_rs.is_empty() || unserved
}

/// The version goes back to what has served before, for which nothing is asked: the stable one itself, one within the rollback window, or,
/// blue-green, one that still has its pods and waits for its end, if it has not `failed` since it was asked for.
pub(super) fn goes_back(world: &World, hash: &str, failed: bool) -> bool {
    let stable = world.rollout.status.stable_rs.as_str();
    let (Some(new), Some(stable)) = (set_of(world, hash), set_of(world, stable)) else {
        return false;
    };
    if new.hash() == stable.hash() {
        return true;
    }
    let between = world
        .replica_sets
        .iter()
        .filter(|set| set.created > new.created && set.created < stable.created)
        .count();
    let window = usize::try_from(world.rollout.spec.rollback_window()).unwrap_or(0);
    let waits = world.rollout.spec.strategy.blue_green.is_some()
        && new.replicas > 0
        && new
            .annotations
            .contains_key(annotation::SCALE_DOWN_DEADLINE)
        && !failed;
    new.created < stable.created && (between < window || waits)
}

impl Check for EarnedPromotion {
    named!(
        "promotion-is-earned",
        "Nothing is promoted whose step, pre- or post-promotion analysis failed, was inconclusive or did not run, unless by full promotion, skip, rollback or first deployment."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Act(
                Act::SkipStep | Act::SkipSteps | Act::Promote | Act::EditSteps(_) | Act::Reapply,
            ) => {
                // `promote` goes beyond a step that is under way.
                self.skipped = true;
            }
            // What serves nobody yet is switched to at once.
            What::Performing(Action::SwitchService { .. }, Seen::Rollout(world)) => {
                self.skipped |= is_pardoned(world);
            }
            What::RunRecorded(before) => {
                let name = before.metadata.name.clone().unwrap_or_default();
                let Some(run) = cluster.runs.get(&name) else {
                    return Ok(());
                };
                let labels = run.metadata.labels.clone().unwrap_or_default();
                let get = |key: &str| labels.get(key).cloned().unwrap_or_default();
                let rollout = cluster.rollout();
                let current =
                    rollout.map_or("", |rollout| rollout.status.current_pod_hash.as_str());
                if get(label::POD_HASH) == current {
                    let key = (get(label::ROLLOUT_TYPE), get(label::STEP_INDEX));
                    let runs = self.runs.entry(key).or_default();
                    runs.insert(name, run.status.phase);
                }
            }
            What::Recorded(before, world) => {
                let Some(rollout) = cluster.rollout() else {
                    return Ok(());
                };
                let (old, new) = (&before.status, &rollout.status);
                if old.current_pod_hash != new.current_pod_hash
                    || old.current_step_hash != new.current_step_hash
                {
                    self.runs.clear();
                    self.skipped = false;
                }
                if old.current_pod_hash != new.current_pod_hash {
                    self.failed = false;
                    let blue_green = world.rollout.spec.strategy.blue_green.as_ref();
                    let active = blue_green.and_then(|one| world.services.get(&one.active_service));
                    let active = active.and_then(|service| service.found());
                    self.served = active
                        .is_some_and(|active| active.selected() == new.current_pod_hash.as_str());
                }
                self.failed |= new.abort;
                self.served &= !new.abort;
                if old.stable_rs == new.stable_rs || is_pardoned(world) || self.skipped {
                    return Ok(());
                }
                return self.judge(rollout, world);
            }
            _ => {}
        }
        Ok(())
    }
}

impl EarnedPromotion {
    fn judge(&self, rollout: &Rollout, world: &World) -> Result<(), String> {
        let present = rollout.status.current_pod_hash.as_str();
        if goes_back(world, present, self.failed) {
            return Ok(());
        }
        let succeeded = |purpose: &str, step: &str| {
            let runs = self.runs.get(&(purpose.to_owned(), step.to_owned()));
            runs.is_some_and(|runs| {
                runs.values()
                    .any(|phase| *phase == AnalysisPhase::Successful)
            })
        };
        let strategy = &rollout.spec.strategy;
        if let Some(canary) = &strategy.canary {
            for (index, step) in canary.steps.iter().enumerate() {
                if step.analysis.is_some() && !succeeded("Step", &index.to_string()) {
                    return Err(format!("the analysis of step {index} was not successful"));
                }
            }
        }
        if let Some(blue_green) = &strategy.blue_green {
            if blue_green.pre_promotion_analysis.is_some()
                && !self.served
                && !succeeded("PrePromotion", "")
            {
                return Err("the pre-promotion analysis was not successful".to_owned());
            }
            if blue_green.post_promotion_analysis.is_some() && !succeeded("PostPromotion", "") {
                return Err("the post-promotion analysis was not successful".to_owned());
            }
        }
        Ok(())
    }
}

pub(super) struct StepsInOrder;

impl Check for StepsInOrder {
    named!(
        "one-step-at-a-time",
        "The controller goes one step further at a time, unless it promotes in full or goes back."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, world), Some(rollout)) = (what, cluster.rollout()) else {
            return Ok(());
        };
        let (old, new) = (&before.status, &rollout.status);
        let (Some(from), Some(to)) = (old.current_step_index, new.current_step_index) else {
            return Ok(());
        };
        let same = old.current_pod_hash == new.current_pod_hash
            && old.current_step_hash == new.current_step_hash;
        let back = goes_back(world, new.current_pod_hash.as_str(), false);
        if same && to > from + 1 && !old.promote_full && !old.stable_rs.is_empty() && !back {
            return Err(format!("from step {from} to step {to}"));
        }
        Ok(())
    }
}

/// What people have said since the update under way began.
#[derive(Default)]
pub(super) struct PausesAreKept {
    /// Somebody has said "go on".
    resumed: bool,
}

impl Check for PausesAreKept {
    named!(
        "pauses-are-kept",
        "A pause step ends when its time is over or when somebody says so, and no step ends while somebody has paused the release."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Act(
                Act::Promote | Act::PromoteFull | Act::SkipStep | Act::SkipSteps | Act::Reapply,
            ) => self.resumed = true,
            What::Recorded(before, world) => {
                let Some(rollout) = cluster.rollout() else {
                    return Ok(());
                };
                let (old, new) = (&before.status, &rollout.status);
                if old.current_pod_hash != new.current_pod_hash
                    || old.current_step_hash != new.current_step_hash
                {
                    self.resumed = false;
                    return Ok(());
                }
                let (Some(from), Some(to)) = (old.current_step_index, new.current_step_index)
                else {
                    return Ok(());
                };
                let promoted = old.stable_rs.is_empty() || new.stable_rs == new.current_pod_hash;
                if to <= from || promoted || self.resumed || old.promote_full {
                    return Ok(());
                }
                let back = goes_back(world, new.current_pod_hash.as_str(), false);
                if world.rollout.spec.paused && !back {
                    return Err(format!("step {from} ends while the release is paused"));
                }
                let canary = world.rollout.spec.strategy.canary.as_ref();
                let index = usize::try_from(from).unwrap_or(0);
                let step = canary.and_then(|canary| canary.steps.get(index));
                let Some(pause) = step.and_then(|step| step.pause.as_ref()) else {
                    return Ok(());
                };
                let begun = old.pause_conditions.first().map(|pause| pause.start_time);
                let served = pause
                    .duration_seconds()
                    .zip(begun)
                    .is_some_and(|(seconds, begun)| {
                        cluster.clock() >= begun + jiff::SignedDuration::from_secs(seconds)
                    });
                if !served && !back {
                    return Err(format!("the pause of step {from} ends before its time"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The pre-promotion analysis comes before the switch.
#[derive(Default)]
pub(super) struct SwitchIsEarned {
    successful: bool,
    /// A controller that leads no longer may do late what was earned by a version before.
    overtaken: bool,
    /// The present version has been taken back before.
    failed: bool,
}

impl Check for SwitchIsEarned {
    named!(
        "the-switch-is-earned",
        "Production traffic of a blue-green release is switched to a new version only after its pre-promotion analysis was successful, unless by full promotion, a way back or first deployment."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Fault(FaultKind::Usurped(_)) => self.overtaken = true,
            What::RunRecorded(before) => {
                let name = before.metadata.name.as_deref().unwrap_or_default();
                let Some(run) = cluster.runs.get(name) else {
                    return Ok(());
                };
                let labels = run.metadata.labels.as_ref();
                let get = |key: &str| {
                    labels
                        .and_then(|labels| labels.get(key))
                        .map_or("", String::as_str)
                };
                let current = cluster
                    .rollout()
                    .map_or("", |rollout| rollout.status.current_pod_hash.as_str());
                if get(label::ROLLOUT_TYPE) == "PrePromotion" && get(label::POD_HASH) == current {
                    self.successful |= run.status.phase == AnalysisPhase::Successful;
                }
            }
            What::Recorded(before, _) => {
                let Some(rollout) = cluster.rollout() else {
                    return Ok(());
                };
                let (old, new) = (&before.status, &rollout.status);
                let same = old.current_pod_hash == new.current_pod_hash;
                self.successful &= same;
                self.failed = (self.failed && same) || new.abort;
            }
            What::Performing(Action::SwitchService { target, hash, .. }, Seen::Rollout(world)) => {
                let blue_green = world.rollout.spec.strategy.blue_green.as_ref();
                let Some(blue_green) = blue_green.filter(|one| one.active_service == target.name)
                else {
                    return Ok(());
                };
                let present = cluster
                    .rollout()
                    .map(|rollout| &rollout.status.current_pod_hash);
                let is_late =
                    self.overtaken && present != Some(&world.rollout.status.current_pod_hash);
                if blue_green.pre_promotion_analysis.is_some()
                    && !self.successful
                    && !is_late
                    && !goes_back(world, hash.as_str(), self.failed)
                    && !is_pardoned(world)
                {
                    return Err("the pre-promotion analysis was not successful".to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}
