//! The Experiments of a Rollout: which is current, which is to be started, and what its end leads to.
//!
//! Like [`super::runs`] for analysis runs: one slot names the current Experiment; every other one is history, which is asked to end and is
//! removed beyond its limits. How one is made from a step is in [`super::new_experiment`].

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::label;
use crossfade_api::rollout_status::PauseReason;
use crossfade_api::{Experiment, Resource as _};

use crate::action::{Action, Destination, FailureKind, Target};
use crate::decision::{Halt, Plan};
use crate::mutant::{Mutant, wrong};
use crossfade_api::words::{PodHash, Weight};

use super::facts::{Facts, Set};
use super::pause::Asks;
use super::{new_experiment, runs, waits};

/// The current Experiment, as the status shows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Current {
    /// Its name; empty without one.
    pub(super) name: String,
    /// How far it got.
    pub(super) phase: AnalysisPhase,
    /// Why one could not be made, as it is told.
    pub(super) error: Option<String>,
}

impl Current {
    fn of(experiment: &Experiment) -> Self {
        Self {
            name: experiment.name().to_owned(),
            phase: experiment.status.phase,
            error: None,
        }
    }
}

/// Starts, follows and ends the Experiments of a canary.
pub(super) fn follow(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
) -> Result<Current, Halt> {
    if runs::nothing_to_judge(facts, asks) {
        tidy(facts, plan, "");
        return Ok(Current::default());
    }
    if facts.is_paused_for(PauseReason::InconclusiveAnalysisRun) {
        return Ok(current(facts).map(Current::of).unwrap_or_default());
    }
    let current = of_step(facts, plan, asks)?;
    tidy(facts, plan, &current.name);
    Ok(current)
}

/// The Experiment of the step under way.
fn of_step(facts: &Facts<'_>, plan: &mut Plan<'_>, asks: &mut Asks) -> Result<Current, Halt> {
    let Some(step) = facts.step().and_then(|step| step.experiment.as_ref()) else {
        return Ok(Current::default());
    };
    let current = match current(facts).filter(|current| !is_replaced(facts, current)) {
        Some(current) => Current::of(current),
        None => match new_experiment::start(facts, plan, step)? {
            Ok(started) => Current::of(&started),
            Err(why) => {
                let error = format!("Failed to create Experiment: {why}");
                if facts.status.message != error {
                    plan.warn("ExperimentCreateError", error.clone());
                }
                plan.fail(error.clone());
                return Ok(Current {
                    error: Some(error),
                    ..Current::default()
                });
            }
        },
    };
    match current.phase {
        AnalysisPhase::Failed | AnalysisPhase::Error
            if !wrong(Mutant::ExperimentFailureIgnored) =>
        {
            let experiments = facts.world.experiments.iter();
            let ended = experiments
                .into_iter()
                .find(|experiment| experiment.name() == current.name);
            let message = ended.map_or("", |ended| &ended.status.message);
            let colon = if message.is_empty() { "" } else { ": " };
            asks.abort(format!(
                "Experiment analysis phase is error/failed{colon}{message}"
            ));
            return Ok(Current::default());
        }
        AnalysisPhase::Inconclusive => {
            asks.pause(PauseReason::InconclusiveExperiment);
            let pause = waits::pause(facts, PauseReason::InconclusiveExperiment, None);
            plan.waits.push(pause);
        }
        AnalysisPhase::Unset
        | AnalysisPhase::Pending
        | AnalysisPhase::Running
        | AnalysisPhase::Failed
        | AnalysisPhase::Error
        | AnalysisPhase::Successful => {}
    }
    Ok(current)
}

/// The Experiment that the status names, if it was made for the step under way.
fn current<'w>(facts: &Facts<'w>) -> Option<&'w Experiment> {
    let named = &facts.status.canary.current_experiment;
    let mut experiments = facts.world.experiments.iter().map(|one| &**one);
    let current = experiments.find(|one| one.name() == named)?;
    let rest = current
        .name()
        .strip_prefix(&new_experiment::base_name(facts))?;
    let is_of_step = rest
        .strip_prefix('-')
        .map_or(rest.is_empty(), |number| number.parse::<usize>().is_ok());
    is_of_step.then_some(current)
}

/// A person has said "go on" after an Experiment that could not tell, so it is to be tried again.
fn is_replaced(facts: &Facts<'_>, current: &Experiment) -> bool {
    current.status.phase == AnalysisPhase::Inconclusive
        && facts.status.controller_pause
        && !facts.is_paused_for(PauseReason::InconclusiveExperiment)
}

/// Asks Experiments that are no longer current to end, and removes those of versions that are gone and those beyond the limits.
pub(super) fn tidy(facts: &Facts<'_>, plan: &mut Plan<'_>, current: &str) {
    let limit = |limit: i32| usize::try_from(limit).unwrap_or(0);
    let mut successful = limit(facts.spec.successful_run_history_limit());
    let mut unsuccessful = limit(facts.spec.unsuccessful_run_history_limit());
    let keep = |left: &mut usize| {
        let keeps = *left > 0;
        *left = left.saturating_sub(1);
        keeps
    };
    for experiment in &facts.world.experiments {
        let gone = experiment.metadata.deletion_timestamp.is_some();
        if experiment.name() == current || gone {
            continue;
        }
        let phase = experiment.status.phase;
        if !phase.is_completed() && !experiment.spec.terminate {
            want(
                plan,
                Action::TerminateExperiment {
                    target: target(facts, experiment),
                },
            );
        }
        let version = facts.by_hash(hash_of(experiment)).map(|id| facts.set(id));
        let has_version = version.is_some_and(|set: &Set<'_>| !set.observed.deleting);
        let keeps = has_version
            && match phase {
                AnalysisPhase::Successful => keep(&mut successful),
                AnalysisPhase::Failed | AnalysisPhase::Error | AnalysisPhase::Inconclusive => {
                    keep(&mut unsuccessful)
                }
                AnalysisPhase::Unset | AnalysisPhase::Pending | AnalysisPhase::Running => true,
            };
        if !keeps {
            want(
                plan,
                Action::DeleteExperiment {
                    target: target(facts, experiment),
                },
            );
        }
    }
}

fn want(plan: &mut Plan<'_>, action: Action) {
    if let Some(Err(failure)) = plan.want(action)
        && failure.kind != FailureKind::NotFound
    {
        plan.fail(failure.message.clone());
    }
}

/// Experiments that belong to a version and are not current.
pub(super) fn of_version<'a>(
    facts: &'a Facts<'_>,
    hash: &'a str,
) -> impl Iterator<Item = &'a Experiment> {
    let experiments = facts.world.experiments.iter().map(|one| &**one);
    experiments
        .filter(move |one| hash_of(one) == hash)
        .filter(|one| one.name() != facts.status.canary.current_experiment)
}

fn hash_of(experiment: &Experiment) -> &str {
    let labels = experiment.metadata.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get(label::POD_HASH));
    hash.map_or("", String::as_str)
}

/// Names an Experiment in an action.
pub(super) fn target(facts: &Facts<'_>, experiment: &Experiment) -> Target {
    Target {
        namespace: facts.namespace().to_owned(),
        name: experiment.name().to_owned(),
        uid: experiment.metadata.uid.clone().unwrap_or_default(),
        resource_version: String::new(),
    }
}

/// The shares of the traffic that templates of the current Experiment get while it runs. One without a Service cannot get any.
pub(super) fn destinations(facts: &Facts<'_>, plan: &mut Plan<'_>) -> Vec<Destination> {
    let running = |one: &&Experiment| one.status.phase == AnalysisPhase::Running;
    let step = facts.step().and_then(|step| step.experiment.as_ref());
    let (Some(step), Some(current)) = (step, current(facts).filter(running)) else {
        return Vec::new();
    };
    let mut destinations = Vec::new();
    for template in &step.templates {
        let Some(weight) = template.weight else {
            continue;
        };
        let mut statuses = current.status.template_statuses.iter();
        let status = statuses.find(|status| status.name == template.name);
        match status.filter(|status| !status.service_name.is_empty()) {
            Some(status) => destinations.push(Destination {
                weight: Weight(weight),
                service: status.service_name.clone(),
                hash: PodHash::from(status.pod_template_hash.as_str()),
            }),
            None => plan.warn(
                "ExperimentServiceMissing",
                format!(
                    "Template '{}' of experiment '{}' has no Service that could get its weight",
                    template.name,
                    current.name()
                ),
            ),
        }
    }
    destinations
}
