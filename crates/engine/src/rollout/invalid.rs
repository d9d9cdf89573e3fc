//! A spec that cannot be acted on: what is told, and that nothing else happens.

use crossfade_api::FieldError;
use crossfade_api::rollout_status::RolloutStatus;
use jiff::SignedDuration;

use crate::decision::Plan;

use super::facts::Facts;
use super::routing::Routing;
use super::status::Draft;
use super::{conditions, waits};

/// An invalid spec is looked at again after this long: what it refers to may have come.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(20);

/// What is wrong with the spec, or else with what it refers to, in the order in which users are told.
pub(super) fn errors<'w>(facts: &Facts<'w>) -> &'w [FieldError] {
    let of_spec = &facts.prepared.errors;
    if of_spec.is_empty() {
        &facts.world.faults
    } else {
        of_spec
    }
}

/// Tells why the template that the spec refers to cannot be had.
pub(super) fn tell_unresolved(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    why: &str,
) -> Option<RolloutStatus> {
    tell_all(facts, plan, why, why.to_owned(), Routing::default())
}

/// Tells what is wrong: the first error in the status, all of them once.
pub(super) fn tell(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    errors: &[FieldError],
    routing: Routing,
) -> Option<RolloutStatus> {
    let first = errors.first()?.to_string();
    let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
    tell_all(facts, plan, &first, all.join("; "), routing)
}

fn tell_all(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    first: &str,
    all: String,
    routing: Routing,
) -> Option<RolloutStatus> {
    plan.look_again_in(LOOK_AGAIN);
    plan.waits.push(waits::valid_spec(first));
    if !facts.is_observed() {
        plan.warn("SpecInvalid", all);
    }
    let mut draft = Draft::unchanged(facts);
    draft.generation = Some(facts.generation());
    if draft.abort {
        // It goes on meanwhile, so what was proved before does not count for whoever tries again.
        draft
            .aborted_at
            .get_or_insert(conditions::whole_seconds(facts.now));
    }
    draft.available_replicas = facts.status.available_replicas;
    draft.hpa_replicas = facts.status.hpa_replicas;
    conditions::tell_invalid(&mut draft.conditions, facts.name(), first, facts.now);
    draft.take_routing(routing);
    draft.tell_phase(facts);
    draft.into_change()
}
