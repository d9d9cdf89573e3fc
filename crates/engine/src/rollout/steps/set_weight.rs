//! `setWeight`: done when the pods are there and the traffic has moved.

use super::{Seen, set_canary_scale};
use crate::gate::Answer;
use crate::mutant::{Mutant, wrong};
use crate::rollout::waits;

/// Done when both versions have their pods and, behind a router, the weight is recorded and not denied.
pub(super) fn gate(seen: &Seen<'_, '_>, weight: i32) -> Answer {
    let sizes = set_canary_scale::gate(seen);
    // Where no pods are wanted there is no traffic to move.
    if sizes != Answer::Go || !seen.facts.is_routed() || seen.facts.replicas == 0 {
        return sizes;
    }
    match seen.routing.recorded(seen.facts) {
        Some(recorded) if recorded.canary.weight != weight && !wrong(Mutant::WeightNotAwaited) => {
            Answer::lacks(waits::weight(weight, recorded.canary.weight))
        }
        Some(recorded) if recorded.verified == Some(false) => Answer::NotYet(Vec::new()),
        // Without weights there is no router that could lag behind, once all was carried out.
        None if !seen.routing.in_force => Answer::lacks(waits::weight(weight, 0)),
        Some(_) | None => Answer::Go,
    }
}
