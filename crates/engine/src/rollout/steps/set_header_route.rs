//! `setHeaderRoute`: requests with certain headers go to the new version from here on.

use crossfade_api::steps::SetHeaderRoute;

use super::Seen;
use crate::gate::Answer;
use crate::mutant::{Mutant, wrong};
use crate::rollout::waits;

/// Done when the routers carry the route.
pub(super) fn gate(seen: &Seen<'_, '_>, route: &SetHeaderRoute) -> Answer {
    if seen.routing.in_force || wrong(Mutant::RouteNotAwaited) {
        Answer::Go
    } else {
        Answer::lacks(waits::route(&route.name))
    }
}
