//! `setCanaryScale`: done when the pods are there.

use crate::decision::Plan;

use super::Seen;
use crate::rollout::gates::Gate;
use crate::rollout::scaling;

/// Done when both versions have the pods that they shall have at this step.
pub(super) fn gate(seen: &Seen<'_, '_>, plan: &mut Plan<'_>) -> Gate {
    if scaling::has_pods_for_step(seen.facts) {
        Gate::Go
    } else {
        scaling::explain(seen.facts, plan);
        Gate::NotYet(None)
    }
}
