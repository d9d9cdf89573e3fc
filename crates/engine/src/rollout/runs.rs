//! The analysis runs of a Rollout: which are current, which are to be started, and what their ends lead to.
//!
//! A strategy has two slots. Each is empty or names its current run; every other run is history, which is asked to end and is removed beyond
//! its limits. How a run is made from templates is in [`super::new_run`]; how it measures is another subject.

use std::borrow::Cow;

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::label;
use crossfade_api::rollout::RolloutAnalysis;
use crossfade_api::rollout_status::{AnalysisRunSlot, PauseReason};
use crossfade_api::{AnalysisRun, Resource as _};

use crate::action::{Action, FailureKind, Target};
use crate::decision::{Halt, Plan};
use crate::gate::Answer;
use crate::mutant::{Mutant, wrong};

use super::facts::{Facts, Set};
use super::gates;
use super::pause::Asks;
use super::{new_run, waits};

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The step of this index.
    Step(usize),
    /// Beside the steps.
    Background,
    /// Before the switch of a blue-green release.
    PrePromotion,
    /// After the switch.
    PostPromotion,
}

impl Purpose {
    /// The value of the run's label, and its name in events.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Step(_) => "Step",
            Self::Background => "Background",
            Self::PrePromotion => "PrePromotion",
            Self::PostPromotion => "PostPromotion",
        }
    }

    /// What an abort because of it is called.
    fn cause(self) -> &'static str {
        match self {
            Self::Step(_) => "Step-based analysis phase error/failed",
            Self::Background => "Background analysis phase error/failed",
            Self::PrePromotion => "Blue/green pre-promotion analysis phase error/failed",
            Self::PostPromotion => "Blue/green post-promotion analysis phase error/failed",
        }
    }

    fn stored<'w>(self, facts: &Facts<'w>) -> Option<&'w AnalysisRunSlot> {
        let (canary, blue_green) = (&facts.status.canary, &facts.status.blue_green);
        match self {
            Self::Step(_) => canary.current_step_analysis_run_status.as_ref(),
            Self::Background => canary.current_background_analysis_run_status.as_ref(),
            Self::PrePromotion => blue_green.pre_promotion_analysis_run_status.as_ref(),
            Self::PostPromotion => blue_green.post_promotion_analysis_run_status.as_ref(),
        }
    }
}

/// A slot as it is to be recorded.
pub(super) type Slot<'w> = Option<Cow<'w, AnalysisRunSlot>>;

/// The current runs, as the status shows them.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs<'w> {
    /// That of the step under way.
    pub(super) step: Slot<'w>,
    /// That beside the steps.
    pub(super) background: Slot<'w>,
    /// That before the switch of a blue-green release.
    pub(super) pre_promotion: Slot<'w>,
    /// That after the switch.
    pub(super) post_promotion: Slot<'w>,
    /// Why a run could not be made, as it is told.
    pub(super) error: Option<String>,
    /// A name that got a run in this pass.
    started: Vec<String>,
}

/// The runs of a canary.
pub(super) fn canary<'w>(
    facts: &Facts<'w>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
) -> Result<Runs<'w>, Halt> {
    let mut runs = Runs::default();
    let Some(canary) = facts.canary() else {
        return Ok(runs);
    };
    let step = Purpose::Step(facts.index());
    if nothing_to_judge(facts, asks) {
        stop(facts, plan, step);
        stop(facts, plan, Purpose::Background);
    } else {
        runs.step = of_step(facts, plan, asks, &mut runs)?;
        let background = canary.analysis.as_ref();
        let background = background.filter(|_| !wrong(Mutant::BackgroundNotRun));
        let due = background.filter(|background| {
            let first = usize::try_from(background.starting_step()).unwrap_or(0);
            facts.steps().is_empty() || facts.index() >= first || wrong(Mutant::BackgroundTooEarly)
        });
        let analysis = due.map(|background| &background.analysis);
        runs.background = beside(
            facts,
            plan,
            asks,
            &mut runs,
            Purpose::Background,
            analysis,
            true,
        )?;
    }
    tidy(facts, plan, &runs);
    Ok(runs)
}

/// The runs of a blue-green release, given the version that the active Service selects and whether the new version is at the size at
/// which it is judged before the switch.
pub(super) fn blue_green<'w>(
    facts: &Facts<'w>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
    active: &str,
    fast_rollback: bool,
    preview_ready: bool,
) -> Result<Runs<'w>, Halt> {
    let mut runs = Runs::default();
    let Some(blue_green) = facts.blue_green() else {
        return Ok(runs);
    };
    let (pre, post) = (Purpose::PrePromotion, Purpose::PostPromotion);
    if fast_rollback || nothing_to_judge(facts, asks) {
        for (purpose, slot) in [
            (post, &mut runs.post_promotion),
            (pre, &mut runs.pre_promotion),
        ] {
            stop(facts, plan, purpose);
            *slot = shown(facts, plan, purpose);
        }
    } else {
        let new = facts.new_hash();
        let saturated = facts.new_set().is_some_and(|set| facts.is_saturated(set));
        let switched = !active.is_empty() && active == new;
        let after = blue_green.post_promotion_analysis.as_ref();
        runs.post_promotion = if after.is_some_and(has_templates) && !switched {
            stop(facts, plan, post);
            // On a retry the run of the try before must not judge the switch that is still to come.
            shown(facts, plan, post).filter(|_| !is_needed(facts, post, current(facts, post)))
        } else {
            beside(facts, plan, asks, &mut runs, post, after, saturated)?
        };
        let before = blue_green.pre_promotion_analysis.as_ref();
        runs.pre_promotion = if before.is_some_and(has_templates) && (switched || active.is_empty())
        {
            stop(facts, plan, pre);
            shown(facts, plan, pre)
        } else {
            beside(facts, plan, asks, &mut runs, pre, before, preview_ready)?
        };
    }
    tidy(facts, plan, &runs);
    Ok(runs)
}

fn has_templates(analysis: &RolloutAnalysis) -> bool {
    !analysis.templates.is_empty()
}

/// There is no version under way whose evidence would count.
pub(super) fn nothing_to_judge(facts: &Facts<'_>, asks: &Asks) -> bool {
    facts.is_fully_promoted()
        || facts.status.stable_rs.is_empty()
        || facts.status.promote_full
        || asks.is_aborted(facts.status)
        || facts.new_id() == facts.stable_id()
        || facts.is_within_rollback_window()
        || asks.holds()
}

/// The run of the step under way.
fn of_step<'w>(
    facts: &Facts<'w>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
    runs: &mut Runs<'w>,
) -> Result<Slot<'w>, Halt> {
    let purpose = Purpose::Step(facts.index());
    if !facts.status.pause_conditions.is_empty() {
        return Ok(shown(facts, plan, purpose));
    }
    let analysis = facts.step().and_then(|step| step.analysis.as_ref());
    let current = current(facts, purpose);
    let is_of_this = |run| label_of(run, label::STEP_INDEX).parse() == Ok(facts.index());
    let of_another = current.is_some_and(|run| !is_of_this(run));
    let Some(analysis) = analysis.filter(|analysis| has_templates(analysis) && !of_another) else {
        stop(facts, plan, purpose);
        return Ok(None);
    };
    judged(facts, plan, asks, runs, purpose, analysis, true)
}

/// A run that is not bound to one step. `ready`: a first one may start.
fn beside<'w>(
    facts: &Facts<'w>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
    runs: &mut Runs<'w>,
    purpose: Purpose,
    analysis: Option<&RolloutAnalysis>,
    ready: bool,
) -> Result<Slot<'w>, Halt> {
    let Some(analysis) = analysis.filter(|analysis| has_templates(analysis)) else {
        stop(facts, plan, purpose);
        return Ok(None);
    };
    if facts.is_paused_for(PauseReason::InconclusiveAnalysisRun) {
        return Ok(shown(facts, plan, purpose));
    }
    judged(facts, plan, asks, runs, purpose, analysis, ready)
}

/// Starts a run where one is needed, and draws the conclusion from the current one.
fn judged<'w>(
    facts: &Facts<'w>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
    runs: &mut Runs<'w>,
    purpose: Purpose,
    analysis: &RolloutAnalysis,
    ready: bool,
) -> Result<Slot<'w>, Halt> {
    let present = current(facts, purpose);
    if !is_needed(facts, purpose, present) {
        let slot = shown(facts, plan, purpose);
        if let Some(run) = present {
            let verdict = verdict(facts, purpose, run, asks);
            gates::settle(verdict, plan, asks);
        }
        return Ok(slot);
    }
    if !ready && !wrong(Mutant::JudgedBeforePods) {
        // A former run says nothing about the next try.
        stop(facts, plan, purpose);
        return Ok(None);
    }
    match new_run::start(facts, plan, purpose, analysis)? {
        Ok(run) => {
            let slot = AnalysisRunSlot {
                name: run.name().to_owned(),
                status: run.status.phase,
                message: run.status.message.clone(),
            };
            if run.status.phase != AnalysisPhase::Unset {
                tell(plan, purpose, &slot, "NoPreviousStatus");
                let verdict = verdict(facts, purpose, &run, asks);
                gates::settle(verdict, plan, asks);
            }
            runs.started.push(slot.name.clone());
            Ok(Some(Cow::Owned(slot)))
        }
        Err(why) => {
            let error = format!("Failed to create {} AnalysisRun: {why}", purpose.word());
            if facts.status.message != error {
                plan.warn("AnalysisRunCreateError", error.clone());
            }
            plan.fail(error.clone());
            runs.error = Some(error);
            // What a former run said must not count while a new one is needed.
            Ok(None)
        }
    }
}

/// Whether a slot needs a new run: it has none, a person said "go on" after one that could not tell, or the update is tried again.
fn is_needed(facts: &Facts<'_>, purpose: Purpose, current: Option<&AnalysisRun>) -> bool {
    let Some(run) = current else {
        return true;
    };
    let step_pause = facts.is_paused_for(PauseReason::CanaryPauseStep);
    let switch_pause = facts.is_paused_for(PauseReason::BlueGreenPause);
    if facts.status.controller_pause && !step_pause && !switch_pause {
        // A "go on" is about what the person saw, not about a run that could not tell since.
        let shown = purpose.stored(facts).map(|slot| slot.status);
        run.status.phase == AnalysisPhase::Inconclusive
            && shown == Some(AnalysisPhase::Inconclusive)
    } else {
        facts.status.aborted_at.is_some() && !wrong(Mutant::RetryWithOldEvidence)
    }
}

/// What a run says about the release.
fn verdict(facts: &Facts<'_>, purpose: Purpose, run: &AnalysisRun, asks: &mut Asks) -> Answer {
    match run.status.phase {
        AnalysisPhase::Successful => Answer::Go,
        AnalysisPhase::Failed | AnalysisPhase::Error
            if purpose == Purpose::Background && wrong(Mutant::BackgroundIgnored) =>
        {
            Answer::Go
        }
        AnalysisPhase::Failed | AnalysisPhase::Error if wrong(Mutant::FailureIsNoProof) => {
            Answer::NotYet(Vec::new())
        }
        AnalysisPhase::Failed | AnalysisPhase::Error => {
            let message = &run.status.message;
            let colon = if message.is_empty() { "" } else { ": " };
            Answer::Stop(format!("{}{colon}{message}", purpose.cause()))
        }
        AnalysisPhase::Inconclusive if wrong(Mutant::InconclusiveIsGood) => Answer::Go,
        AnalysisPhase::Inconclusive => {
            asks.pause(PauseReason::InconclusiveAnalysisRun);
            Answer::lacks(waits::pause(
                facts,
                PauseReason::InconclusiveAnalysisRun,
                None,
            ))
        }
        // A run beside the steps holds nothing back while it goes on; the others are waited for where their end is needed.
        AnalysisPhase::Unset | AnalysisPhase::Pending | AnalysisPhase::Running => {
            Answer::NotYet(Vec::new())
        }
    }
}

/// The current run of a slot.
fn current<'w>(facts: &Facts<'w>, purpose: Purpose) -> Option<&'w AnalysisRun> {
    let slot = purpose.stored(facts)?;
    let runs = facts.world.runs.iter().map(|run| &**run);
    runs.into_iter().find(|run| run.name() == slot.name)
}

/// The slot with what its run says now; a change of its phase is told.
fn shown<'w>(facts: &Facts<'w>, plan: &mut Plan<'_>, purpose: Purpose) -> Slot<'w> {
    let stored = purpose.stored(facts)?;
    let Some(run) = current(facts, purpose) else {
        return Some(Cow::Borrowed(stored));
    };
    let phase = run.status.phase;
    if stored.status == phase && stored.message == run.status.message {
        return Some(Cow::Borrowed(stored));
    }
    let slot = AnalysisRunSlot {
        name: stored.name.clone(),
        status: phase,
        message: run.status.message.clone(),
    };
    if phase != AnalysisPhase::Unset && phase != stored.status {
        tell(plan, purpose, &slot, stored.status.as_str());
    }
    Some(Cow::Owned(slot))
}

fn tell(plan: &mut Plan<'_>, purpose: Purpose, slot: &AnalysisRunSlot, previous: &str) {
    let phase = slot.status;
    let reason = format!("AnalysisRun{}", phase.as_str());
    let message = format!(
        "{} Analysis Run '{}' Status New: '{}' Previous: '{previous}'",
        purpose.word(),
        slot.name,
        phase.as_str(),
    );
    if matches!(phase, AnalysisPhase::Failed | AnalysisPhase::Error) {
        plan.warn(&reason, message);
    } else {
        plan.event(&reason, message);
    }
}

/// Asks the current run of a slot to end.
fn stop(facts: &Facts<'_>, plan: &mut Plan<'_>, purpose: Purpose) {
    if let Some(run) = current(facts, purpose) {
        terminate(facts, plan, run);
    }
}

fn terminate(facts: &Facts<'_>, plan: &mut Plan<'_>, run: &AnalysisRun) {
    if run.status.phase.is_completed() || run.spec.terminate || wrong(Mutant::RunsNotEnded) {
        return;
    }
    want(
        plan,
        Action::TerminateAnalysisRun {
            target: target(facts, run),
        },
    );
}

fn want(plan: &mut Plan<'_>, action: Action) {
    if let Some(Err(failure)) = plan.want(action)
        && failure.kind != FailureKind::NotFound
    {
        plan.fail(failure.message.clone());
    }
}

/// Asks runs that are no longer current to end, and removes those of versions that are gone and those beyond the limits.
fn tidy(facts: &Facts<'_>, plan: &mut Plan<'_>, runs: &Runs<'_>) {
    let mut successful = usize::try_from(facts.spec.successful_run_history_limit()).unwrap_or(0);
    let mut unsuccessful =
        usize::try_from(facts.spec.unsuccessful_run_history_limit()).unwrap_or(0);
    let keep = |left: &mut usize| {
        let keeps = *left > 0 || wrong(Mutant::RunHistoryWithoutLimit);
        *left = left.saturating_sub(1);
        keeps
    };
    for run in &facts.world.runs {
        let is_started = runs.started.iter().any(|name| name == run.name());
        if is_current(facts, run) || is_started || run.metadata.deletion_timestamp.is_some() {
            continue;
        }
        terminate(facts, plan, run);
        let version = facts
            .by_hash(label_of(run, label::POD_HASH))
            .map(|id| facts.set(id));
        let has_version = version.is_some_and(|set: &Set<'_>| !set.observed.deleting);
        let keeps = has_version
            && match run.status.phase {
                AnalysisPhase::Successful => keep(&mut successful),
                AnalysisPhase::Failed | AnalysisPhase::Error | AnalysisPhase::Inconclusive => {
                    keep(&mut unsuccessful)
                }
                AnalysisPhase::Unset | AnalysisPhase::Pending | AnalysisPhase::Running => true,
            };
        if !keeps {
            want(
                plan,
                Action::DeleteAnalysisRun {
                    target: target(facts, run),
                },
            );
        }
    }
}

/// Runs that belong to a version and are not current.
pub(super) fn of_version<'a>(
    facts: &'a Facts<'_>,
    hash: &'a str,
) -> impl Iterator<Item = &'a AnalysisRun> {
    let runs = facts.world.runs.iter().map(|run| &**run);
    runs.filter(move |run| label_of(run, label::POD_HASH) == hash)
        .filter(|run| !is_current(facts, run))
}

/// The status names this run.
pub(super) fn is_current(facts: &Facts<'_>, run: &AnalysisRun) -> bool {
    let purposes = [
        Purpose::Step(facts.index()),
        Purpose::Background,
        Purpose::PrePromotion,
        Purpose::PostPromotion,
    ];
    purposes
        .into_iter()
        .filter_map(|purpose| purpose.stored(facts))
        .any(|slot| slot.name == run.name())
}

fn label_of<'r>(run: &'r AnalysisRun, key: &str) -> &'r str {
    let labels = run.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(key))
        .map_or("", String::as_str)
}

/// Names a run in an action.
pub(super) fn target(facts: &Facts<'_>, run: &AnalysisRun) -> Target {
    Target {
        namespace: facts.namespace().to_owned(),
        name: run.name().to_owned(),
        uid: run.metadata.uid.clone().unwrap_or_default(),
        resource_version: String::new(),
    }
}
