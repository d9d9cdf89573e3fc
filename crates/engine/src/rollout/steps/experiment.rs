//! `experiment`: done when the step's Experiment has ended well.

use crossfade_api::analysis_run::AnalysisPhase;

use super::Seen;
use crate::gate::Answer;
use crate::mutant::{Mutant, wrong};
use crate::rollout::waits;

/// Done when the Experiment was successful. What a bad or doubtful end leads to is decided where Experiments are kept.
pub(super) fn gate(seen: &Seen<'_, '_>) -> Answer {
    let experiment = seen.experiment;
    match experiment.phase {
        AnalysisPhase::Successful => Answer::Go,
        _ if wrong(Mutant::ExperimentNotAwaited) => Answer::Go,
        _ if experiment.name.is_empty() => Answer::lacks(waits::experiment("of this step")),
        _ => Answer::lacks(waits::experiment(&experiment.name)),
    }
}
