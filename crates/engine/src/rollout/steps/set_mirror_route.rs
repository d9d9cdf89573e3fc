//! `setMirrorRoute`: copies of some requests go to the new version from here on.

use crossfade_api::steps::SetMirrorRoute;

use super::Seen;
use crate::rollout::gates::Gate;
use crate::rollout::waits;

/// Done when the routers carry the route.
pub(super) fn gate(seen: &Seen<'_, '_>, route: &SetMirrorRoute) -> Gate {
    if seen.routing.in_force {
        Gate::Go
    } else {
        Gate::lacks(waits::route(&route.name))
    }
}
