//! Judgement: nothing goes on without evidence, and evidence counts.

use crossfade_api::flagger::{CanaryPhase, CanaryStatus, CanaryStrategyKind, HookType};
use serde_json::Value;

use super::traffic::{has_pods, is_service};
use super::{
    Check, Meaning, agreed, analysis, asked, begins, grows, is_unrouted, measured, named, opt,
    promotes, promotion_fails, seen, verdict,
};
use crate::canaries::play::{Play, What};

/// The release goes on by what is about to happen: more traffic, a promotion, one look more.
fn goes_on(play: &Play, what: &What<'_>) -> Option<&'static str> {
    let world = seen(play)?;
    let skips = world.canary.spec.skips_analysis();
    if skips || promotion_fails(world) {
        return None;
    }
    if grows(play, what).is_some() {
        return Some("traffic grows");
    }
    if promotes(what).is_some() {
        return Some("it is promoted");
    }
    match what {
        What::Recorded(before, after) => {
            let counts = under_way(before) && after.iterations > before.iterations;
            let waits = after.phase == CanaryPhase::WaitingPromotion;
            (counts && !waits).then_some("one look more counts")
        }
        _ => None,
    }
}

fn under_way(status: &CanaryStatus) -> bool {
    matches!(
        status.phase,
        CanaryPhase::Progressing | CanaryPhase::WaitingPromotion
    )
}

pub(super) struct BadIsNoStep;

impl Check for BadIsNoStep {
    named!(
        "canary-bad-is-no-step",
        "A release does not go on in a look in which a metric is beyond its bounds or unknown, or a webhook refuses, unless a policy ignores that."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let Some(how) = goes_on(play, what) else {
            return Ok(());
        };
        match verdict(play) {
            Meaning::Good => Ok(()),
            Meaning::Bad => Err(format!("{how} although the new version is bad")),
            Meaning::Unknown => Err(format!("{how} although nobody knows of the new version")),
        }
    }
}

pub(super) struct AllIsMeasured;

impl Check for AllIsMeasured {
    named!(
        "canary-all-is-measured",
        "Beyond its first look a release goes on only when every webhook of the analysis was asked and every metric measured in that look."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let Some(how) = goes_on(play, what) else {
            return Ok(());
        };
        if begins(play) {
            return agreed(play, HookType::PreRollout).map_err(|why| format!("{how}, but {why}"));
        }
        agreed(play, HookType::Rollout).map_err(|why| format!("{how}, but {why}"))?;
        if measured(play).contains(&None) {
            return Err(format!("{how} although a metric was not measured"));
        }
        Ok(())
    }
}

pub(super) struct FailuresAreCounted;

impl Check for FailuresAreCounted {
    named!(
        "canary-failures-are-counted",
        "A bad look counts as one failed check, and only a bad one does; what nobody knows counts for nothing where a policy says so."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, after), Some(world)) = (what, seen(play)) else {
            return Ok(());
        };
        if !under_way(before) || !under_way(after) || !play.pass.sees_well {
            return Ok(());
        }
        let restarts = before.last_applied_spec != after.last_applied_spec
            || before.tracked_configs != after.tracked_configs;
        let refused = asked(play, HookType::PreRollout)
            .iter()
            .any(|(_, agreed)| !agreed);
        let is_bad = verdict(play) == Meaning::Bad || refused;
        let clears = opt(world, "failed-check-mode") == "consecutive" && !is_bad;
        let expected = before.failed_checks + i32::from(is_bad);
        let is_right = after.failed_checks == expected
            || (restarts && after.failed_checks == 0)
            || (clears && after.failed_checks == 0);
        if is_right {
            Ok(())
        } else {
            Err(format!(
                "{} failed checks become {}, not {expected}",
                before.failed_checks, after.failed_checks
            ))
        }
    }
}

pub(super) struct ThresholdTakesBack;

impl Check for ThresholdTakesBack {
    named!(
        "canary-threshold-takes-back",
        "A release that has as many failed checks as its threshold does not go on."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (Some(how), Some(world)) = (goes_on(play, what), seen(play)) else {
            return Ok(());
        };
        let failed = world.canary.status.failed_checks;
        let threshold = analysis(world).threshold();
        if failed >= threshold {
            return Err(format!("{how} with {failed} failed checks of {threshold}"));
        }
        Ok(())
    }
}

/// A Deployment has missed its deadline.
fn is_late(workload: &Value) -> bool {
    let conditions = workload["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["reason"] == "ProgressDeadlineExceeded")
}

pub(super) struct TakenBackForACause;

impl Check for TakenBackForACause {
    named!(
        "canary-taken-back-for-a-cause",
        "A release is taken back only when its failed checks reached the threshold, somebody called it back, or pods of the new version or of the primary are missing."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, after), Some(world)) = (what, seen(play)) else {
            return Ok(());
        };
        if after.phase != CanaryPhase::Failed || before.phase == CanaryPhase::Failed {
            return Ok(());
        }
        let failed = world.canary.status.failed_checks;
        let called = asked(play, HookType::Rollback)
            .iter()
            .any(|(_, agreed)| *agreed);
        let workloads = [&world.target, &world.primary];
        let is_short = workloads.into_iter().any(|workload| {
            workload
                .found()
                .is_none_or(|workload| has_pods(workload, 100).is_err() || is_late(workload))
        });
        if failed >= analysis(world).threshold() || called || (is_short && !is_service(world)) {
            Ok(())
        } else {
            Err(format!(
                "it failed with {failed} failed checks and all its pods"
            ))
        }
    }
}

pub(super) struct PromotionIsEarned;

impl Check for PromotionIsEarned {
    named!(
        "canary-promotion-is-earned",
        "The primary becomes the new version only at the greatest weight or after all looks, and when whoever is asked agrees, unless the analysis is skipped."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (Some(_), Some(world)) = (promotes(what), seen(play)) else {
            return Ok(());
        };
        if world.canary.spec.skips_analysis() {
            return Ok(());
        }
        let status = &world.canary.status;
        if !under_way(status) {
            return Err(format!("it is promoted while {}", status.phase));
        }
        agreed(play, HookType::ConfirmPromotion).map_err(|why| format!("promoted, but {why}"))?;
        let analysis = analysis(world);
        let looks = match analysis.iterations {
            looks if looks > 0 => looks,
            _ => 10,
        };
        let done = status.iterations;
        let strategy = if is_unrouted(world) {
            CanaryStrategyKind::BlueGreen
        } else {
            analysis.strategy()
        };
        let weight = play.space.shares().map_or(0, |shares| shares.canary);
        match strategy {
            CanaryStrategyKind::AbTesting if done < looks => {
                Err(format!("promoted after {done} of {looks} looks"))
            }
            CanaryStrategyKind::BlueGreen if done <= looks => {
                Err(format!("promoted after {done} of {looks} looks"))
            }
            CanaryStrategyKind::Canary if weight < analysis.max_weight() => {
                Err(format!("promoted at a weight of {weight}"))
            }
            _ => Ok(()),
        }
    }
}
