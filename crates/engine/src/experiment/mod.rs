//! Versions that run side by side for a while: one pass over an Experiment.
//!
//! Each template has a ReplicaSet, and a Service if it asks for one; analyses begin when all pods are available for the first time. The
//! experiment ends by its duration, by the analyses that it requires, by anything that goes wrong, or because somebody asks for it; its
//! pods go a while later.

mod analysis;
mod conditions;
mod facts;
mod phase;
mod service;
mod template;
mod waits;
pub mod world;

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::experiment::{AnalysisRef, ExperimentStatus};
use crossfade_api::{Experiment, validate};
use jiff::{SignedDuration, Timestamp};

use crate::action::Evidence;
use crate::decision::{Decision, Halt, Plan};
use crate::pass::Subject;
use crate::rollout::world::TemplateKey;

use facts::Facts;
use world::World;

/// The Experiment as a subject of passes.
#[derive(Clone, Copy, Debug)]
pub struct ExperimentSubject;

impl Subject for ExperimentSubject {
    type World = World;
    type Status = ExperimentStatus;

    fn decide(world: &World, evidence: &Evidence, now: Timestamp) -> Decision<ExperimentStatus> {
        decide(world, evidence, now)
    }
}

/// What to do about an Experiment now.
pub fn decide(world: &World, evidence: &Evidence, now: Timestamp) -> Decision<ExperimentStatus> {
    let mut plan = Plan::new(evidence);
    let status = if world.experiment.metadata.deletion_timestamp.is_some() {
        Ok(None)
    } else {
        pass(&Facts::new(world, now), &mut plan).map(Some)
    };
    let stored = &world.experiment.status;
    plan.decide(status.map(|status| status.filter(|status| status != stored)))
}

/// The analysis templates that an Experiment names, each once; those that they name in turn are to be observed, too.
pub fn named_templates(experiment: &Experiment) -> Vec<TemplateKey> {
    let analyses = experiment.spec.analyses.iter();
    let mut keys: Vec<_> = analyses
        .map(|analysis| TemplateKey {
            cluster_scope: analysis.cluster_scope,
            name: analysis.template_name.clone(),
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

fn pass(facts: &Facts<'_>, plan: &mut Plan<'_>) -> Result<ExperimentStatus, Halt> {
    let mut status = facts.status.clone();
    if let Err(why) = validate::experiment(&facts.world.experiment) {
        plan.waits.push(waits::valid_spec(&why));
        conditions::tell_invalid(facts, &mut status, why);
        return Ok(status);
    }
    conditions::forget_invalid(&mut status);
    if facts.status.phase == AnalysisPhase::Unset {
        for doubt in validate::experiment_warnings(&facts.world.experiment) {
            plan.warn("InvalidExperimentField", doubt);
        }
    }
    for template in &facts.spec.templates {
        let followed = template::follow(facts, plan, template)?;
        let statuses = &mut status.template_statuses;
        match statuses
            .iter_mut()
            .find(|there| there.name == followed.name)
        {
            Some(there) => *there = followed,
            None => statuses.push(followed),
        }
    }
    for (index, analysis) in facts.spec.analyses.iter().enumerate() {
        let earlier = &facts.spec.analyses[..index];
        // Two of one name share one run.
        if earlier.iter().any(|earlier| earlier.name == analysis.name) {
            continue;
        }
        let followed = analysis::follow(facts, plan, analysis)?;
        let runs = &mut status.analysis_runs;
        match runs.iter_mut().find(|there| there.name == followed.name) {
            Some(there) => *there = followed,
            None => runs.push(followed),
        }
    }
    phase::settle(facts, &mut status);
    conditions::tell_progress(facts, &mut status);
    explain(facts, plan, &status);
    let (old, new) = (facts.status.phase, status.phase);
    if old != new {
        let message = format!("Experiment transitioned from {old} -> {new}");
        let reason = format!("Experiment{new}");
        if is_bad(new) {
            plan.warn(&reason, message);
        } else {
            plan.event(&reason, message);
        }
    }
    Ok(status)
}

/// When to look again, and what is waited for.
fn explain(facts: &Facts<'_>, plan: &mut Plan<'_>, status: &ExperimentStatus) {
    if status.phase.is_completed() || facts.terminating {
        return;
    }
    if let Some(ends) = facts.ends.filter(|ends| *ends >= facts.now) {
        look_again_at(plan, facts, ends);
        plan.waits.push(waits::end(status.available_at, ends));
    }
    if status.phase != AnalysisPhase::Running {
        return;
    }
    let required = |analysis: &&AnalysisRef| analysis.required_for_completion;
    let mut analyses = facts.spec.analyses.iter();
    for analysis in analyses.clone().filter(required) {
        let mut runs = status.analysis_runs.iter();
        let run = runs.find(|run| run.name == analysis.name);
        if let Some(run) = run.filter(|run| !run.phase.is_completed()) {
            plan.waits.push(waits::run(&run.analysis_run));
        }
    }
    if facts.ends.is_none() && !analyses.any(|analysis| required(&analysis)) {
        plan.waits.push(waits::person());
    }
}

/// Looks again just after a moment: what ends then has ended only strictly later.
fn look_again_at(plan: &mut Plan<'_>, facts: &Facts<'_>, moment: Timestamp) {
    plan.look_again_in(moment.duration_since(facts.now) + SignedDuration::from_millis(1));
}

/// Ended other than well.
fn is_bad(phase: AnalysisPhase) -> bool {
    matches!(
        phase,
        AnalysisPhase::Failed | AnalysisPhase::Error | AnalysisPhase::Inconclusive
    )
}
