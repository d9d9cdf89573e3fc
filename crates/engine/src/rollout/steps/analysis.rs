//! `analysis`: done when the step's run has ended well.

use crossfade_api::analysis_run::AnalysisPhase;

use super::Seen;
use crate::rollout::gates::Gate;
use crate::rollout::waits;

/// Done when the run of this step was successful. What a bad or doubtful end leads to is decided where runs are kept.
pub(super) fn gate(seen: &Seen<'_, '_>) -> Gate {
    match &seen.runs.step {
        Some(run) if run.status == AnalysisPhase::Successful => Gate::Go,
        Some(run) => Gate::lacks(waits::analysis(seen.facts, &run.name)),
        None => Gate::lacks(waits::analysis(seen.facts, "of this step")),
    }
}
