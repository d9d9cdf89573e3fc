//! How a release starts, starts anew, is taken back, and ends.

use crossfade_api::flagger::CanaryPhase;

use super::action::Shares;
use super::alerts::News;
use super::autoscaler::Care;
use super::hooks::Gate;
use super::readiness::NotReady;
use super::tick::{Step, Stop, Tick};
use crate::mutant::{Mutant, wrong};

/// A newer revision in the middle of a release is approved as the first one was.
const CONFIRM_ON_RESTART: &str = "crossfade.dev/confirm-on-restart";
/// Annotations that this version knows and does not heed.
const UNHEEDED: [&str; 3] = [
    "crossfade.dev/metric-error-deadline",
    "crossfade.dev/failed-check-window",
    "crossfade.dev/cancel-on-revert",
];

impl Tick<'_, '_, '_> {
    /// A new revision: the target wakes.
    pub(super) fn start(&mut self) -> Step {
        if self.confirm_rollout()? == Gate::Closed {
            return Err(Stop::End);
        }
        let target = self.target_name();
        let text = format!("New revision detected! Scaling up {target}");
        self.tell_with_phase(false, &text, CanaryPhase::Progressing);
        self.alert(&News::NewRevision);
        for annotation in UNHEEDED {
            if self.annotation(annotation).is_some() {
                self.warn(&format!(
                    "annotation {annotation} is not supported yet and has no effect"
                ));
            }
        }
        if self.analysis.session_affinity.is_some() && !self.analysis.matches.is_empty() {
            self.warn(
                "analysis.sessionAffinity has no effect beside analysis.match and is ignored",
            );
        }
        self.forget_wishes();
        self.rest_autoscaler(false)?;
        self.wake_target()?;
        self.sync(CanaryPhase::Progressing, 0, 0, 0);
        Ok(())
    }

    /// A newer revision in the middle of a release: it begins anew.
    pub(super) fn restart(&mut self) -> Step {
        let target = self.target_name();
        self.tell(&format!(
            "New revision detected! Restarting analysis for {target}"
        ));
        if !wrong(Mutant::CanaryNewerKeepsTraffic) {
            self.set_shares(100, 0, false)?;
        }
        if !self.is_strict() {
            self.alert(&News::NewRevision);
        }
        self.sync(CanaryPhase::Progressing, 0, 0, 0);
        if self.opts_in(CONFIRM_ON_RESTART) {
            // Whoever waits is asked at the next look, as before a start.
            self.set_condition(CanaryPhase::Waiting);
        }
        Ok(())
    }

    /// A workload that waiting cannot help: the release is taken back.
    pub(super) fn roll_back_late(&mut self, trouble: &NotReady) -> Step {
        if !self.is_strict() {
            let name = self.name();
            self.warn(&format!(
                "Rolling back {name} progress deadline exceeded {}",
                trouble.text
            ));
            self.alert(&News::DeadlineExceeded(trouble.text.clone()));
        }
        self.roll_back()
    }

    /// The new version is taken back.
    pub(super) fn roll_back(&mut self) -> Step {
        let failed = self.status.failed_checks;
        if failed >= self.analysis.threshold() {
            let name = self.name();
            self.warn(&format!(
                "Rolling back {name} failed checks threshold reached {failed}"
            ));
            let hooks = self.pre_rollout_names();
            let got_none = self.status.canary_weight == 0 && self.status.iterations == 0;
            if !self.is_strict() && got_none && !hooks.is_empty() {
                self.warn(&format!(
                    "Rolling back {name} before it got traffic; its pre-rollout checks are {hooks}"
                ));
            }
            self.alert(&News::ChecksFailed(failed));
        }
        if wrong(Mutant::CanarySleepsFirst) {
            self.put_to_sleep()?;
        }
        if self.read_phase() != CanaryPhase::Waiting || self.is_strict() {
            self.set_shares(100, 0, false)?;
        }
        let name = self.name();
        let text = format!("Canary failed! Scaling down {name}");
        self.tell_with_phase(true, &text, CanaryPhase::Failed);
        self.rest_autoscaler(true)?;
        self.put_to_sleep()?;
        self.sync(CanaryPhase::Failed, 0, 0, 0);
        self.post_rollout(CanaryPhase::Failed)
    }

    /// The promoted version does not become ready: the new version, which is, serves all.
    pub(super) fn fail_promotion(&mut self, trouble: &NotReady) -> Step {
        let target = self.target_name();
        let why = &trouble.text;
        self.warn(&format!(
            "Promotion of {target} failed, primary not ready: {why}"
        ));
        self.alert(&News::PromotionFailed(why.clone()));
        self.set_shares(0, 100, false)?;
        let (failed, iterations) = (self.status.failed_checks, self.status.iterations);
        self.sync(CanaryPhase::Failed, 100, failed, iterations);
        self.status.conditions.clear();
        self.set_promoted(
            "False",
            CanaryPhase::Failed.as_str(),
            "Promotion failed, canary is serving all traffic.",
        );
        self.post_rollout(CanaryPhase::Failed)
    }

    /// The new version is promoted without being judged.
    pub(super) fn skip_to_promotion(&mut self) -> Step {
        self.set_shares(100, 0, false)?;
        let target = self.target_name();
        if !self.promote()? {
            return self.restart();
        }
        self.reconcile_autoscaler(Care::Renew)?;
        self.rest_autoscaler(true)?;
        self.put_to_sleep()?;
        self.enter(CanaryPhase::Succeeded);
        self.post_rollout(CanaryPhase::Succeeded)?;
        let text = format!("Promotion completed! Canary analysis was skipped for {target}");
        self.tell_with_phase(false, &text, CanaryPhase::Succeeded);
        self.alert(&News::Skipped);
        Ok(())
    }

    /// The primary runs the new version: it gets the traffic back.
    pub(super) fn route_back(&mut self, shares: Shares) -> Step {
        let step = self.analysis.step_weight_promotion;
        if self.is_unrouted() {
            self.enter(CanaryPhase::Finalising);
            return Ok(());
        }
        if step <= 0 {
            self.tell("Routing all traffic to primary");
            self.set_shares(100, 0, false)?;
            self.enter(CanaryPhase::Finalising);
            return Ok(());
        }
        if shares.canary <= 0 {
            if !self.is_strict() {
                self.enter(CanaryPhase::Finalising);
            }
            return Ok(());
        }
        let primary = (shares.primary + step).min(100);
        let canary = (shares.canary - step).max(0);
        self.set_shares(primary, canary, false)?;
        let name = self.name();
        self.tell(&format!("Advance {name} primary weight {primary}"));
        if primary == 100 {
            self.enter(CanaryPhase::Finalising);
        } else {
            self.status.canary_weight = canary;
        }
        Ok(())
    }

    /// The release has ended well.
    pub(super) fn finish(&mut self) -> Step {
        self.rest_autoscaler(true)?;
        self.put_to_sleep()?;
        self.enter(CanaryPhase::Succeeded);
        self.post_rollout(CanaryPhase::Succeeded)?;
        let target = self.target_name();
        let text = format!("Promotion completed! Scaling down {target}");
        self.tell_with_phase(false, &text, CanaryPhase::Succeeded);
        self.alert(&News::Succeeded);
        Ok(())
    }
}
