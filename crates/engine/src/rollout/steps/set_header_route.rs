//! `setHeaderRoute`: requests with certain headers go to the new version from here on.

use crossfade_api::steps::SetHeaderRoute;

use super::Seen;
use crate::rollout::gates::Gate;
use crate::rollout::waits;

/// Done when the routers carry the route.
pub(super) fn gate(seen: &Seen<'_, '_>, route: &SetHeaderRoute) -> Gate {
    if seen.routing.in_force {
        Gate::Go
    } else {
        Gate::lacks(waits::route(&route.name))
    }
}
