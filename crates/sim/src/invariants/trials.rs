//! Experiments: they end as their analyses do, and a canary goes on only after a good one.

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::{AnalysisRun, Resource as _};
use crossfade_engine::experiment::world::World;

use super::promotion::goes_back;
use super::{Check, named};
use crate::cluster::Cluster;
use crate::watch::{Seen, What};

pub(super) struct TrialsDecide;

impl Check for TrialsDecide {
    named!(
        "experiments-decide",
        "An Experiment is successful only if none of its analyses was bad and all that it needs were good, and a canary leaves its step only after that."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Ended(_, Seen::Experiment(world)) => ended(cluster, world),
            What::Recorded(before, world) => {
                let Some(rollout) = cluster.rollout() else {
                    return Ok(());
                };
                let (old, new) = (&before.status, &rollout.status);
                let same = old.current_pod_hash == new.current_pod_hash
                    && old.current_step_hash == new.current_step_hash;
                let from = old.current_step_index.unwrap_or(0);
                let hash = new.current_pod_hash.as_str();
                let free = old.promote_full
                    || old.stable_rs == old.current_pod_hash
                    || old.stable_rs.is_empty()
                    || goes_back(world, hash, false);
                if !same || free || new.current_step_index != Some(from + 1) {
                    return Ok(());
                }
                let canary = world.rollout.spec.strategy.canary.as_ref();
                let step = usize::try_from(from).ok();
                let step = step.and_then(|step| canary?.steps.get(step));
                if step.is_none_or(|step| step.experiment.is_none()) {
                    return Ok(());
                }
                let name = old.canary.current_experiment.as_str();
                let mut trials = world.experiments.iter();
                let trial = trials.find(|trial| trial.name() == name);
                let phase = trial.map(|trial| trial.status.phase);
                if phase != Some(AnalysisPhase::Successful) {
                    return Err(format!("step {from} is over, its Experiment is {phase:?}"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A pass over an Experiment may have found that it was successful.
fn ended(cluster: &Cluster, world: &World) -> Result<(), String> {
    let before = &world.experiment;
    let after = cluster.experiments.get(before.name());
    let became_good = before.status.phase != AnalysisPhase::Successful
        && after.is_some_and(|after| after.status.phase == AnalysisPhase::Successful);
    if !became_good || before.spec.terminate {
        return Ok(());
    }
    let is_bad = |run: &&AnalysisRun| {
        run.status.phase.is_completed() && run.status.phase != AnalysisPhase::Successful
    };
    if let Some(run) = world.runs.iter().map(|run| &**run).find(is_bad) {
        let phase = run.status.phase;
        return Err(format!(
            "it is successful, its run {} is {phase}",
            run.name()
        ));
    }
    let mut needed = before.spec.analyses.iter();
    let lacks = needed.find(|analysis| {
        let mut statuses = before.status.analysis_runs.iter();
        let status = statuses.find(|status| status.name == analysis.name);
        let mut runs = world.runs.iter();
        let run = runs.find(|run| status.is_some_and(|status| status.analysis_run == run.name()));
        let good = run.is_some_and(|run| run.status.phase == AnalysisPhase::Successful);
        analysis.required_for_completion && !good
    });
    match lacks {
        Some(analysis) => Err(format!(
            "it is successful before its analysis {} is",
            analysis.name
        )),
        None => Ok(()),
    }
}
