//! The one question before a release moves on: may it?
//!
//! At each moment the strategy's own gate is asked first, then those of the world. One that says no withholds only that move, and its lack is
//! shown; one that has proof takes the release back.

use crate::decision::Plan;
use crate::gate::{Answer, Moment};

use super::bluegreen;
use super::facts::{Facts, Set};
use super::pause::Asks;

/// Asks the gates of a moment, `own` among them. True if none is against it.
pub(super) fn ask(
    moment: Moment,
    own: Answer,
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
) -> bool {
    let mut may = settle(own, plan, asks);
    if !binds(facts, asks) {
        return may;
    }
    let gates = facts.world.gates.iter();
    for gate in gates.filter(|gate| gate.moments.contains(&moment)) {
        may &= settle(gate.answer.clone(), plan, asks);
    }
    may
}

/// Asks before a new version gets its first pods. Until it may, nothing of it moves.
pub(super) fn ask_to_start(facts: &Facts<'_>, plan: &mut Plan<'_>, asks: &mut Asks) {
    let has_started = facts.new_set().is_some_and(Set::is_active);
    if !has_started && !ask(Moment::Start, Answer::Go, facts, plan, asks) {
        asks.hold();
    }
}

/// Tells lacks, and takes the release back on proof. True for a go.
pub(super) fn settle(answer: Answer, plan: &mut Plan<'_>, asks: &mut Asks) -> bool {
    match answer {
        Answer::Go => true,
        Answer::NotYet(lacks) => {
            plan.waits.extend(lacks);
            false
        }
        Answer::Stop(proof) => {
            asks.abort(proof);
            false
        }
    }
}

/// A new version is on its way out: what is under way is neither the first deployment nor a way back.
fn binds(facts: &Facts<'_>, asks: &Asks) -> bool {
    let aborted = !facts.is_changed() && asks.is_aborted(facts.status);
    let goes_back = match facts.blue_green() {
        Some(_) => bluegreen::is_fast_rollback(facts),
        None => facts.new_id() == facts.stable_id() || facts.is_within_rollback_window(),
    };
    facts.stable_id().is_some() && !aborted && !goes_back
}
