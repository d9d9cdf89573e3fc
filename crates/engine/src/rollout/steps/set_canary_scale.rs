//! `setCanaryScale`: done when the pods are there.

use super::Seen;
use crate::gate::Answer;
use crate::mutant::{Mutant, wrong};
use crate::rollout::scaling;

/// Done when both versions have the pods that they shall have at this step.
pub(super) fn gate(seen: &Seen<'_, '_>) -> Answer {
    if scaling::has_pods_for_step(seen.facts) || wrong(Mutant::StepWithoutPods) {
        Answer::Go
    } else {
        Answer::NotYet(scaling::lacks_for_step(seen.facts))
    }
}
