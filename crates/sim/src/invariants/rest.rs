//! The end of a run: it comes to rest, where it should, and leaves nothing behind.

use std::sync::Arc;

use crossfade_api::Resource as _;
use crossfade_api::names::label;
use crossfade_api::rollout_status::RolloutPhase;

use super::{Check, named};
use crate::cluster::Cluster;
use crate::run::Outcome;
use crate::scenario::Scenario;

pub(super) struct Converges {
    closing: bool,
}

impl Converges {
    pub(super) fn new(scenario: &Arc<Scenario>) -> Self {
        Self {
            closing: scenario.closing,
        }
    }
}

impl Check for Converges {
    named!(
        "every-run-converges",
        "Once nothing more goes wrong, a release comes to rest within bounded time: promoted, taken back, or stuck and saying so."
    );

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        if let Some(subject) = &cluster.restless {
            return Err(format!(
                "passes go on without end and without time: {subject:?}"
            ));
        }
        if !outcome.at_rest {
            return Err(format!(
                "it does not come to rest: {} {}",
                outcome.phase, outcome.message
            ));
        }
        if outcome.gone {
            return Ok(());
        }
        match outcome.phase {
            RolloutPhase::Healthy | RolloutPhase::Degraded => {}
            RolloutPhase::Paused if !self.closing => {}
            phase => {
                return Err(format!("it rests in {phase}: {}", outcome.message));
            }
        }
        Ok(())
    }
}

pub(super) struct NothingLeaks;

impl Check for NothingLeaks {
    named!(
        "nothing-leaks",
        "At rest every AnalysisRun and Experiment of a finished release has ended, and every Job belongs to a run that is there."
    );

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        let over = outcome.aborted || outcome.phase == RolloutPhase::Healthy;
        for run in cluster.own_runs() {
            if over && !run.status.phase.is_completed() {
                return Err(format!(
                    "run {} is still {} at the end",
                    run.name(),
                    run.status.phase
                ));
            }
            let labels = run.metadata.labels.as_ref();
            let hash = labels.and_then(|labels| labels.get(label::POD_HASH));
            let hash = hash.map_or("", String::as_str);
            if outcome.phase == RolloutPhase::Healthy && cluster.version_of_hash(hash).is_none() {
                return Err(format!("run {} is of a version that is gone", run.name()));
            }
        }
        let mut trials = cluster.own_experiments();
        if let Some(trial) = trials.find(|trial| over && !trial.status.phase.is_completed()) {
            return Err(format!(
                "Experiment {} is still {} at the end",
                trial.name(),
                trial.status.phase
            ));
        }
        for (name, job) in &cluster.jobs {
            let mut runs = cluster.runs.values();
            if !runs.any(|run| run.metadata.uid.as_ref() == Some(&job.run_uid)) {
                return Err(format!("Job {name} is of a run that is gone"));
            }
        }
        Ok(())
    }
}
