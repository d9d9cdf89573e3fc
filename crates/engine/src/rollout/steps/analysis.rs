//! `analysis`: done when the step's run has ended well.

use crossfade_api::analysis_run::AnalysisPhase;

use super::Seen;
use crate::gate::Answer;
use crate::mutant::{Mutant, wrong};
use crate::rollout::waits;

/// Done when the run of this step was successful. What a bad or doubtful end leads to is decided where runs are kept.
pub(super) fn gate(seen: &Seen<'_, '_>) -> Answer {
    match &seen.runs.step {
        Some(run) if run.status == AnalysisPhase::Successful => Answer::Go,
        Some(run)
            if run.status == AnalysisPhase::Inconclusive && wrong(Mutant::InconclusiveIsGood) =>
        {
            Answer::Go
        }
        Some(_) if wrong(Mutant::StepUnjudged) => Answer::Go,
        Some(run) => Answer::lacks(waits::analysis(&run.name)),
        None => Answer::lacks(waits::analysis("of this step")),
    }
}
