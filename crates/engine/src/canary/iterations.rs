//! Releases that count looks: A/B tests, where some requests reach the new version, and blue-green, where none do until all do.

use super::action::Shares;
use super::hooks::Gate;
use super::tick::{Step, Stop, Tick};
use crate::mutant::{Mutant, wrong};

impl Tick<'_, '_, '_> {
    /// One look of an A/B test.
    pub(super) fn advance_ab(&mut self, looks: i32) -> Step {
        let done = self.status.iterations;
        if done < looks && !(done + 1 == looks && wrong(Mutant::CanaryLookTooFew)) {
            self.set_shares(0, 100, false)?;
            self.count_iteration(looks);
            return Ok(());
        }
        if self.confirm_promotion()? == Gate::Closed {
            return Err(Stop::End);
        }
        // A number that was lowered below the count once led nowhere.
        if done == looks || !self.is_strict() {
            return self.begin_promotion();
        }
        Ok(())
    }

    /// One look of a blue-green release.
    pub(super) fn advance_blue_green(&mut self, shares: Shares, looks: i32) -> Step {
        let done = self.status.iterations;
        let mirrors = self.analysis.mirror && !self.is_unrouted();
        if done < looks {
            if mirrors && !shares.mirrored {
                self.mirror_or_tell()?;
            }
            self.count_iteration(looks);
            return Ok(());
        }
        if self.confirm_promotion()? == Gate::Closed {
            return Err(Stop::End);
        }
        if done > looks {
            return self.begin_promotion();
        }
        if !self.is_unrouted() {
            self.tell(if mirrors {
                "Stop traffic mirroring and route all traffic to canary"
            } else {
                "Routing all traffic to canary"
            });
            self.set_shares(0, 100, false)?;
            self.status.canary_weight = 100;
        }
        self.status.iterations = looks + 1;
        Ok(())
    }

    /// A fault of mirroring is told and holds nothing up.
    fn mirror_or_tell(&mut self) -> Step {
        match self.set_shares(100, 0, true) {
            Ok(()) | Err(Stop::End) => Ok(()),
            Err(halt) => Err(halt),
        }
    }

    fn count_iteration(&mut self, looks: i32) {
        self.status.iterations += 1;
        let name = self.name();
        let done = self.status.iterations;
        self.tell(&format!("Advance {name} canary iteration {done}/{looks}"));
    }
}
