//! From templates and analyses to the phase of the experiment.

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::experiment::{ExperimentStatus, TemplateState};

use super::analysis;
use super::facts::{Facts, phase_of};

/// What a user sees of it.
type Told = (AnalysisPhase, String);

/// The phase that follows from the new status; `available_at` is set when all templates are there for the first time.
pub(super) fn settle(facts: &Facts<'_>, status: &mut ExperimentStatus) {
    if status.phase.is_completed() {
        return;
    }
    if status.phase == AnalysisPhase::Unset {
        status.phase = AnalysisPhase::Pending;
        return;
    }
    let templates = of_templates(status);
    if templates.0 == AnalysisPhase::Running {
        status.available_at.get_or_insert(facts.stamp());
    }
    let required = facts
        .spec
        .analyses
        .iter()
        .any(|analysis| analysis.required_for_completion);
    let met = requirements_are_met(facts, status);
    let analyses = of_analyses(facts, status, met);
    let follows = match templates.0 {
        AnalysisPhase::Failed | AnalysisPhase::Error => false,
        AnalysisPhase::Successful => required || analyses.0.is_completed(),
        _ => met || super::is_bad(analyses.0),
    };
    (status.phase, status.message) = if follows { analyses } else { templates };
}

fn of_templates(status: &ExperimentStatus) -> Told {
    let badness = |state| match state {
        TemplateState::Successful => 0,
        TemplateState::Running => 1,
        TemplateState::Unset | TemplateState::Progressing => 2,
        TemplateState::Error => 3,
        TemplateState::Failed => 4,
    };
    let mut worst: Option<(u8, Told)> = None;
    for template in &status.template_statuses {
        let rank = badness(template.status);
        if worst.as_ref().is_some_and(|(worst, _)| *worst >= rank) {
            continue;
        }
        let phase = match template.status {
            TemplateState::Unset | TemplateState::Progressing => AnalysisPhase::Pending,
            TemplateState::Running => AnalysisPhase::Running,
            TemplateState::Successful => AnalysisPhase::Successful,
            TemplateState::Failed => AnalysisPhase::Failed,
            TemplateState::Error => AnalysisPhase::Error,
        };
        worst = Some((rank, (phase, template.message.clone())));
    }
    worst.map_or((AnalysisPhase::Successful, String::new()), |(_, told)| told)
}

/// As [`super::facts::requirements_are_met`], without runs that were ended before their time.
fn requirements_are_met(facts: &Facts<'_>, status: &ExperimentStatus) -> bool {
    let mut required = facts
        .spec
        .analyses
        .iter()
        .filter(|analysis| analysis.required_for_completion)
        .peekable();
    let is_met = |name: &str| {
        let mut runs = status.analysis_runs.iter();
        runs.any(|run| run.name == name && !analysis::was_stopped(facts, run))
    };
    required.peek().is_some()
        && required.all(|analysis| {
            phase_of(status, analysis) == AnalysisPhase::Successful && is_met(&analysis.name)
        })
}

fn of_analyses(facts: &Facts<'_>, status: &ExperimentStatus, met: bool) -> Told {
    let badness = |phase| match phase {
        AnalysisPhase::Unset | AnalysisPhase::Successful => 0,
        AnalysisPhase::Running => 1,
        AnalysisPhase::Pending => 2,
        AnalysisPhase::Inconclusive => 3,
        AnalysisPhase::Error => 4,
        AnalysisPhase::Failed => 5,
    };
    let mut worst = (0, (AnalysisPhase::Successful, String::new()));
    for run in &status.analysis_runs {
        let rank = badness(run.phase);
        if rank > worst.0 && !analysis::was_stopped(facts, run) {
            let phase = if run.phase == AnalysisPhase::Pending {
                AnalysisPhase::Running
            } else {
                run.phase
            };
            worst = (rank, (phase, run.message.clone()));
        }
    }
    if met && worst.1.0 == AnalysisPhase::Successful {
        "Required AnalysisRuns completed".clone_into(&mut worst.1.1);
    }
    worst.1
}
