//! A canary: a growing share for the new version, step by step.
//!
//! Each pass does the same things in the same order, each only as far as it is due; see [`pass`]. Traffic is looked at before sizes, so that
//! pods come before requests on the way out and requests leave before pods on the way back.

use std::borrow::Cow;

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::rollout_status::{PauseReason, RolloutStatus};

use crate::decision::{Halt, Plan};
use crate::gate::{Answer, Moment};
use crate::mutant::{Mutant, wrong};

use super::experiments::{self, Current};
use super::facts::{Facts, Set};
use super::pause::Asks;
use super::routing::{self, Routing, Weights};
use super::runs::{self, Runs};
use super::status::{self, Draft};
use super::{ephemeral, gates, restart, revisions, scaling, services, steps, waits};

/// One pass over a canary whose ReplicaSet of the present template is up to date.
pub(super) fn pass(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
) -> Result<Option<RolloutStatus>, Halt> {
    let mut asks = Asks::default();
    let goes_on = facts.status.promote_full || facts.is_within_rollback_window();
    if facts.status.abort && (facts.is_fully_promoted() || goes_on) {
        asks.retract_abort();
    }
    if facts.is_changed() && !wrong(Mutant::GoOnAtOldStep) {
        return Ok(start_over(facts, plan, asks));
    }
    if restart::evict(facts, plan)?.evicted {
        // Counts cannot be trusted until the evicted pods are seen to be gone.
        return Ok(None);
    }
    ephemeral::apply(facts, plan)?;
    revisions::forget_old(facts, plan);
    gates::ask_to_start(facts, plan, &mut asks);
    services::canary(facts, plan, &asks)?;
    // Traffic that was taken back stays there, also when the abort could not be recorded.
    let routing = if plan.has_failed() || will_abort(facts, plan, &asks) {
        Routing::default()
    } else {
        routing::apply(facts, plan, &asks)?
    };
    let experiment = experiments::follow(facts, plan, &mut asks)?;
    let runs = runs::canary(facts, plan, &mut asks)?;
    if asks.is_aborted(facts.status) && !facts.status.abort && !plan.has_failed() {
        routing::leave(facts, plan)?;
    }
    gates::ask(Moment::Bake, Answer::Go, facts, plan, &mut asks);
    if !asks.adds_a_pause() && !scaling::canary(facts, plan, &asks, &routing)? && !asks.holds() {
        steps::begin_pause(facts, plan, &mut asks);
    }
    Ok(conclude(facts, plan, asks, routing, &runs, experiment))
}

/// A run or an Experiment that has ended badly is about to take the release back.
fn will_abort(facts: &Facts<'_>, plan: &Plan<'_>, asks: &Asks) -> bool {
    let bad = |phase| matches!(phase, AnalysisPhase::Failed | AnalysisPhase::Error);
    let mut runs = facts.world.runs.iter();
    let mut experiments = facts.world.experiments.iter();
    if asks.is_aborted(facts.status)
        || !(runs.any(|run| bad(run.status.phase))
            || experiments.any(|experiment| bad(experiment.status.phase)))
    {
        return false;
    }
    let (mut plan, mut asks) = (plan.foresight(), asks.clone());
    let followed = experiments::follow(facts, &mut plan, &mut asks);
    let judged = followed.and_then(|_| runs::canary(facts, &mut plan, &mut asks));
    judged.is_ok() && asks.is_aborted(facts.status)
}

/// A new template or new steps: nothing moves in this pass, the update is set to its beginning.
fn start_over(facts: &Facts<'_>, plan: &mut Plan<'_>, mut asks: Asks) -> Option<RolloutStatus> {
    let mut draft = Draft::new(facts);
    draft.reset(facts, &mut asks);
    if facts.new_id().is_some() && facts.new_id() == facts.stable_id() {
        skip_steps(facts, plan, &mut draft, "Rollback to stable ReplicaSets");
    } else if facts.is_within_rollback_window() && facts.new_set().is_some_and(Set::is_active) {
        skip_steps(
            facts,
            plan,
            &mut draft,
            "Rollback to active ReplicaSets within RollbackWindow",
        );
    }
    draft.finish(facts, plan, asks, false)
}

fn skip_steps(facts: &Facts<'_>, plan: &mut Plan<'_>, draft: &mut Draft<'_>, why: &str) {
    if let Some(index) = status::all_done(facts) {
        draft.current_step_index = Some(index);
        plan.event("SkipSteps", why);
    }
}

/// Advances, promotes or takes back, and says where the release stands.
fn conclude(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    mut asks: Asks,
    routing: Routing,
    runs: &Runs<'_>,
    experiment: Current,
) -> Option<RolloutStatus> {
    let mut draft = Draft::new(facts);
    draft.restarted_at = restart::restarted_at(facts);
    draft.step_run.clone_from(&runs.step);
    draft.background_run.clone_from(&runs.background);
    draft.experiment = Cow::Owned(experiment.name.clone());
    let n = status::all_done(facts);
    draft.current_step_index = n.map(|_| i32::try_from(facts.index()).unwrap_or(i32::MAX));
    if (facts.status.promote_full || facts.is_within_rollback_window()) && !asks.holds() {
        asks.resume_all();
        asks.retract_abort();
        draft.current_step_index = n;
    }
    let steps_done = draft.current_step_index == n;
    if let Some(why) = promotion(facts, plan, &mut asks, &routing, steps_done) {
        draft.promote(facts, plan, &mut asks, &why);
    } else if asks.is_aborted(facts.status) {
        draft.current_step_index = n.map(|n| match draft.current_step_index {
            _ if draft.is_promoted() => n,
            Some(index) if wrong(Mutant::AbortKeepsStep) => index,
            _ => 0,
        });
        plan.waits.push(waits::after_abort(facts));
    } else if !plan.has_failed() && !steps_done && !asks.holds() {
        let seen = steps::Seen {
            facts,
            routing: &routing,
            runs,
            experiment: &experiment,
            asks: &asks,
        };
        let step = steps::gate(&seen);
        if gates::ask(Moment::Advance, step, facts, plan, &mut asks)
            || wrong(Mutant::AdvanceUngated)
        {
            complete_step(facts, plan, &mut asks, &mut draft);
        }
    }
    draft.take_routing(routing);
    let error = draft.error.take().or(runs.error.clone());
    draft.error = error.or(experiment.error);
    draft.finish(facts, plan, asks, false)
}

fn complete_step(facts: &Facts<'_>, plan: &mut Plan<'_>, asks: &mut Asks, draft: &mut Draft<'_>) {
    let (index, steps) = (facts.index(), facts.steps());
    if let Some(step) = steps.get(index) {
        let (number, count) = (index + 1, steps.len());
        plan.event(
            "RolloutStepCompleted",
            format!("Rollout step {number}/{count} completed ({step})"),
        );
    }
    draft.current_step_index = draft
        .current_step_index
        .map(|index| index.saturating_add(if wrong(Mutant::StepLeftOut) { 2 } else { 1 }));
    draft.step_run = None;
    draft.experiment = Cow::Borrowed("");
    asks.resume(PauseReason::CanaryPauseStep);
}

/// Why the new version becomes the stable one now, if it does.
fn promotion(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
    routing: &Routing,
    steps_done: bool,
) -> Option<String> {
    if facts.stable_id().is_none() {
        return Some("Initial deploy".to_owned());
    }
    if asks.holds() || (asks.is_aborted(facts.status) && !wrong(Mutant::PromoteAborted)) {
        return None;
    }
    let why = if facts.status.promote_full {
        "Full promotion requested".to_owned()
    } else if facts.is_within_rollback_window() {
        "Rollback within window".to_owned()
    } else if facts.new_id() == facts.stable_id() {
        "Fast rollback".to_owned()
    } else if steps_done || wrong(Mutant::PromoteBeforeLastStep) {
        format!("Completed all {} canary steps", facts.steps().len())
    } else {
        return None;
    };
    let complete = completeness(facts, plan, routing);
    gates::ask(Moment::Promotion, complete, facts, plan, asks).then_some(why)
}

/// Whether the new version has all pods and, as far as routers can tell, all traffic.
fn completeness(facts: &Facts<'_>, plan: &Plan<'_>, routing: &Routing) -> Answer {
    let new = facts.new_set().map(Set::pods).unwrap_or_default();
    let wanted = facts.replicas;
    if new.available < wanted
        && !facts.threshold().met(new, wanted)
        && !wrong(Mutant::PromoteWithoutPods)
    {
        Answer::lacks(waits::pods("new", new.available, wanted))
    } else if plan.has_failed() || (routing.end_unconfirmed && !wrong(Mutant::PromoteUnconfirmed)) {
        Answer::NotYet(Vec::new())
    } else {
        Answer::Go
    }
}

/// What still happens while something that the spec refers to is missing or unfit: an abort goes on, and old versions go in their time.
pub(super) fn go_back(facts: &mut Facts<'_>, plan: &mut Plan<'_>) -> Result<Routing, Halt> {
    let asks = Asks::default();
    if !facts.status.abort || facts.is_fully_promoted() {
        scaling::leftovers(facts, plan, &Routing::default())?;
        return Ok(Routing::default());
    }
    services::canary(facts, plan, &asks)?;
    let routing = if plan.has_failed() {
        Routing::default()
    } else {
        routing::apply(facts, plan, &asks)?
    };
    scaling::canary(facts, plan, &asks, &routing)?;
    Ok(routing)
}

/// Follows a change of `spec.replicas`, and nothing else.
pub(super) fn follow_replicas(facts: &mut Facts<'_>, plan: &mut Plan<'_>) -> Result<(), Halt> {
    let mut asks = Asks::default();
    gates::ask_to_start(facts, plan, &mut asks);
    if facts.spec.paused && !facts.status.abort {
        return scaling::hold_split(facts, plan);
    }
    let routing = Routing {
        weights: Weights::Keep,
        ..Routing::default()
    };
    scaling::canary(facts, plan, &asks, &routing)?;
    Ok(())
}
