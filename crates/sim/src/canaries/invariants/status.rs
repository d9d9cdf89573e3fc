//! The status: always explains itself, and phases come in their order.

use crossfade_api::flagger::CanaryPhase;

use super::{Check, named, seen};
use crate::canaries::play::{Play, What};

pub(super) struct ExplainsItself;

impl Check for ExplainsItself {
    named!(
        "canary-status-explains-itself",
        "A recorded status has one condition with the phase as its reason, says whether the version is promoted, and says why in words."
    );

    fn see(&mut self, _play: &Play, what: &What<'_>) -> Result<(), String> {
        let What::Recorded(_, after) = what else {
            return Ok(());
        };
        let [condition] = &after.conditions[..] else {
            return Err(format!("{} conditions", after.conditions.len()));
        };
        let expected = match after.phase {
            CanaryPhase::Initialized | CanaryPhase::Succeeded => "True",
            CanaryPhase::Failed => "False",
            _ => "Unknown",
        };
        if condition.reason != after.phase.as_str() || condition.status != expected {
            return Err(format!(
                "{} is told as {} {}",
                after.phase, condition.status, condition.reason
            ));
        }
        if condition.message.is_empty() {
            return Err(format!("{} without a message", after.phase));
        }
        if !(0..=100).contains(&after.canary_weight) || after.iterations < 0 {
            return Err(format!(
                "weight {} and {} iterations",
                after.canary_weight, after.iterations
            ));
        }
        Ok(())
    }
}

pub(super) struct PhasesInOrder;

impl Check for PhasesInOrder {
    named!(
        "canary-phases-in-order",
        "One phase follows another only as the table of phases says."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        use CanaryPhase::{
            Failed, Finalising, Initialized, Initializing, Progressing, Promoting, Succeeded,
            Terminating, Unset, Waiting, WaitingPromotion,
        };
        let (What::Recorded(before, after), Some(world)) = (what, seen(play)) else {
            return Ok(());
        };
        let (from, to) = (before.phase, after.phase);
        if from == to || to == Terminating {
            return Ok(());
        }
        let skips = world.canary.spec.skips_analysis();
        let allowed = match from {
            Unset => to == Initializing,
            // Before it ever served, it comes and goes.
            Initializing => matches!(to, Initialized | Failed | Waiting | Progressing),
            Initialized | Succeeded => matches!(to, Waiting | Progressing | Failed),
            Failed => matches!(to, Waiting | Progressing | Initialized),
            Waiting => matches!(to, Progressing | Failed),
            Progressing => {
                matches!(to, WaitingPromotion | Waiting | Promoting | Failed)
                    || (skips && to == Succeeded)
            }
            WaitingPromotion => {
                matches!(to, Progressing | Waiting | Promoting | Failed)
                    || (skips && to == Succeeded)
            }
            // Whoever skips the analysis now starts anew with the revision that is there.
            Promoting | Finalising if skips => {
                matches!(to, Finalising | Succeeded | Progressing | Waiting | Failed)
            }
            Promoting => matches!(to, Finalising | Failed),
            Finalising => matches!(to, Succeeded | Failed),
            _ => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(format!("{from} becomes {to}"))
        }
    }
}
