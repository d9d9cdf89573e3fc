//! `setWeight`: done when the pods are there and the traffic has moved.

use crate::decision::Plan;

use super::{Seen, set_canary_scale};
use crate::rollout::gates::Gate;
use crate::rollout::waits;

/// Done when both versions have their pods and, behind a router, the weight is recorded and not denied.
pub(super) fn gate(seen: &Seen<'_, '_>, plan: &mut Plan<'_>, weight: i32) -> Gate {
    let sizes = set_canary_scale::gate(seen, plan);
    if sizes != Gate::Go || !seen.facts.is_routed() {
        return sizes;
    }
    match seen.routing.recorded(seen.facts) {
        Some(recorded) if recorded.canary.weight != weight => {
            Gate::lacks(waits::weight(weight, recorded.canary.weight))
        }
        Some(recorded) if recorded.verified == Some(false) => Gate::NotYet(None),
        // Without weights there is no router that could lag behind, once all was carried out.
        None if !seen.routing.in_force => Gate::lacks(waits::weight(weight, 0)),
        Some(_) | None => Gate::Go,
    }
}
