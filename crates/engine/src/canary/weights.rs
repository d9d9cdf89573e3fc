//! A canary by weight: traffic grows step by step, and at the greatest weight the new version is promoted.

use crossfade_api::flagger::CanaryPhase;

use super::action::Shares;
use super::hooks::Gate;
use super::tick::{Step, Stop, Tick};
use crate::mutant::{Mutant, wrong};

impl Tick<'_, '_, '_> {
    /// One step.
    pub(super) fn advance_weight(&mut self, shares: Shares) -> Step {
        let max = self.analysis.max_weight();
        let Some(step) = self.next_step(shares.canary) else {
            self.has_no_step();
            return Ok(());
        };
        let waits = self.read_phase() == CanaryPhase::WaitingPromotion;
        if !shares.mirrored && !waits && self.confirm_traffic(shares.canary)? == Gate::Closed {
            return Err(Stop::End);
        }
        if shares.canary >= max {
            return self.promote_if_confirmed();
        }
        let canary = if self.analysis.mirror && shares.canary == 0 && self.mirrors() {
            if shares.mirrored {
                self.set_shares(100 - step, step, false)?;
                step
            } else {
                self.set_shares(100, 0, true)?;
                0
            }
        } else {
            let step = if wrong(Mutant::CanaryStepTwice) {
                2 * step
            } else {
                step
            };
            let canary = (shares.canary + step).min(100);
            self.set_shares((shares.primary - step).max(0), canary, false)?;
            canary
        };
        self.status.canary_weight = canary;
        let name = self.name();
        self.tell(&format!("Advance {name} canary weight {canary}"));
        Ok(())
    }

    /// Whether the router can copy requests in a canary by weight: Istio can, but for TCP. One that cannot is told once, when the first step is due.
    fn mirrors(&mut self) -> bool {
        let provider = self.provider().to_owned();
        let service = self.spec.service.as_ref();
        let speaks_tcp =
            service.is_some_and(|service| service.app_protocol.eq_ignore_ascii_case("tcp"));
        let cannot = (provider != "istio" || speaks_tcp) && !self.is_strict();
        if cannot {
            self.warn(&format!(
                "analysis.mirror has no effect with provider {provider} and is skipped"
            ));
        }
        !cannot
    }

    /// By how much traffic grows now. `None` where the Canary gives no step.
    fn next_step(&self, canary: i32) -> Option<i32> {
        let analysis = self.analysis;
        let steps = &analysis.step_weights;
        if analysis.step_weight > 0 || steps.is_empty() {
            return (analysis.step_weight > 0).then_some(analysis.step_weight);
        }
        let room = 100 - canary;
        if room <= 0 {
            return Some(1);
        }
        // One step counts also where all were passed: the greatest weight is tested by whoever takes it.
        let next = if canary == 0 {
            steps.first()
        } else {
            steps.iter().find(|step| **step > canary)
        };
        let step = next.map_or(room, |next| (next - canary).min(room));
        (step > 0).then_some(step)
    }

    /// The Canary says nowhere how traffic grows.
    fn has_no_step(&mut self) {
        if self.is_strict() {
            return;
        }
        let name = self.name();
        let text = "analysis.stepWeight and analysis.stepWeights are not greater than 0, so traffic cannot grow";
        self.warn(&format!("Halt {name} advancement {text}"));
        let reason = self.status.phase;
        // The same reason with other words.
        self.status.conditions.clear();
        self.set_promoted("Unknown", reason.as_str(), text);
    }

    /// Promotes, if whoever is asked agrees.
    pub(super) fn promote_if_confirmed(&mut self) -> Step {
        if self.confirm_promotion()? == Gate::Closed {
            return Err(Stop::End);
        }
        self.begin_promotion()
    }

    /// Copies the new version to the primary.
    pub(super) fn begin_promotion(&mut self) -> Step {
        if !self.promote()? {
            return self.restart();
        }
        self.enter(CanaryPhase::Promoting);
        Ok(())
    }
}
