//! The steps of a canary: when each is done.
//!
//! What a step *does* follows from where it stands (its weight, its size, its routes hold from it on); what is asked here is only whether
//! the release may go beyond it. One file a kind.

mod analysis;
mod experiment;
mod pause;
mod set_canary_scale;
mod set_header_route;
mod set_mirror_route;
mod set_weight;

pub(super) use pause::begin as begin_pause;

use super::experiments;
use super::facts::Facts;
use super::pause::Asks;
use super::routing::Routing;
use super::runs::Runs;
use crate::gate::Answer;
use crate::mutant::{Mutant, wrong};

/// What a step is judged by.
pub(super) struct Seen<'a, 'w> {
    pub(super) facts: &'a Facts<'w>,
    pub(super) routing: &'a Routing,
    pub(super) runs: &'a Runs<'a>,
    pub(super) experiment: &'a experiments::Current,
    pub(super) asks: &'a Asks,
}

/// Whether the step under way is done. A step with several kinds is judged by the first.
pub(super) fn gate(seen: &Seen<'_, '_>) -> Answer {
    let facts = seen.facts;
    let Some(step) = facts.step() else {
        return Answer::NotYet(Vec::new());
    };
    if facts.spec.paused && !wrong(Mutant::StepWhilePaused) {
        return Answer::NotYet(Vec::new());
    }
    if let Some(pause) = &step.pause {
        pause::gate(seen, pause)
    } else if step.set_canary_scale.is_some() {
        set_canary_scale::gate(seen)
    } else if let Some(weight) = step.set_weight {
        set_weight::gate(seen, weight)
    } else if step.experiment.is_some() {
        experiment::gate(seen)
    } else if step.analysis.is_some() {
        analysis::gate(seen)
    } else if let Some(route) = &step.set_header_route {
        set_header_route::gate(seen, route)
    } else if let Some(route) = &step.set_mirror_route {
        set_mirror_route::gate(seen, route)
    } else {
        // Plugins are refused as invalid before a step is looked at.
        Answer::NotYet(Vec::new())
    }
}
