//! Traffic: never at a version without pods, never more than the step, back before anything sleeps.

use crossfade_api::flagger::{CanaryPhase, CanaryStrategyKind, TargetKind, hash};
use crossfade_engine::canary::action::CanaryAction;
use crossfade_engine::canary::world::World;
use crossfade_engine::views::number;
use serde_json::Value;

use super::{
    Check, analysis, asked, grows, is_unrouted, named, opt, promotion_fails, seen, target,
};
use crate::canaries::play::{NAME, Play, What, primary};

pub(super) struct WeightsSum;

impl Check for WeightsSum {
    named!(
        "canary-weights-sum-to-the-whole",
        "The weights of a Canary are between 0 and 100, and sum to 100."
    );

    fn see(&mut self, _play: &Play, what: &What<'_>) -> Result<(), String> {
        let What::Performing(CanaryAction::SetShares { shares, .. }) = what else {
            return Ok(());
        };
        let all = [shares.primary, shares.canary];
        if all.iter().sum::<i32>() == 100 && all.iter().all(|one| (0..=100).contains(one)) {
            Ok(())
        } else {
            Err(format!("weights {all:?}"))
        }
    }
}

/// Whether a workload has the pods that it is asked for; `threshold` percent of them are enough.
pub(super) fn has_pods(workload: &Value, threshold: i32) -> Result<(), String> {
    let (wanted, updated, available) = if workload["kind"] == "DaemonSet" {
        (
            number(workload, "/status/desiredNumberScheduled"),
            number(workload, "/status/updatedNumberScheduled"),
            number(workload, "/status/numberAvailable"),
        )
    } else {
        (
            number(workload, "/spec/replicas"),
            number(workload, "/status/updatedReplicas"),
            number(workload, "/status/availableReplicas"),
        )
    };
    let needed = wanted * threshold / 100;
    if wanted > 0 && updated >= wanted && available >= needed.max(i32::from(threshold >= 100)) {
        Ok(())
    } else {
        Err(format!(
            "{available} of {wanted} pods, {updated} of the present template"
        ))
    }
}

/// The target as it was seen has no pods of its own.
pub(super) fn is_service(world: &World) -> bool {
    world.canary.spec.target_kind() == Some(TargetKind::Service)
}

pub(super) struct PodsBeforeTraffic;

impl Check for PodsBeforeTraffic {
    named!(
        "canary-pods-before-traffic",
        "The new version gets more traffic, or copies of it, only when it has its pods."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (Some((_, shares)), Some(world)) = (grows(play, what), seen(play)) else {
            return Ok(());
        };
        if is_service(world) || promotion_fails(world) {
            return Ok(());
        }
        let threshold = analysis(world).canary_ready_threshold.unwrap_or(100);
        let Some(target) = target(play) else {
            return Ok(());
        };
        has_pods(&target, threshold)
            .map_err(|why| format!("the weight becomes {} with {why}", shares.canary))
    }
}

pub(super) struct WeightFollowsSteps;

impl Check for WeightFollowsSteps {
    named!(
        "canary-weight-follows-the-steps",
        "The new version's weight grows by one step of the analysis at a time, and takes all traffic only where its strategy says so."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (Some((before, shares)), Some(world)) = (grows(play, what), seen(play)) else {
            return Ok(());
        };
        if promotion_fails(world) {
            return Ok(());
        }
        let analysis = analysis(world);
        let done = world.canary.status.iterations;
        match analysis.strategy() {
            CanaryStrategyKind::AbTesting => Ok(()),
            CanaryStrategyKind::BlueGreen if done >= analysis.iterations => Ok(()),
            CanaryStrategyKind::BlueGreen => Err(format!(
                "all traffic after {done} of {} looks",
                analysis.iterations
            )),
            CanaryStrategyKind::Canary => {
                let weight = before.canary;
                let next = if analysis.step_weight > 0 {
                    weight + analysis.step_weight
                } else {
                    let listed = analysis.step_weights.iter().copied();
                    listed.filter(|step| *step > weight).min().unwrap_or(100)
                };
                if weight >= analysis.max_weight() {
                    Err(format!("{weight} is the greatest weight already"))
                } else if shares.canary != next.min(100) {
                    Err(format!("{weight} becomes {}, not {next}", shares.canary))
                } else {
                    Ok(())
                }
            }
        }
    }
}

pub(super) struct TrafficBeforeSleep;

impl Check for TrafficBeforeSleep {
    named!(
        "canary-traffic-goes-back-before-sleep",
        "The new version's pods are taken away only when all traffic is back on the primary."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        // Whoever is late does not see what it does; that the new version gets its pods back is for others to say.
        let What::Performing(CanaryAction::Patch { object, patch }) = what else {
            return Ok(());
        };
        if play.pass.is_late {
            return Ok(());
        }
        let asleep = "/spec/template/spec/nodeSelector/flagger.app~1scale-to-zero";
        let sleeps = patch
            .pointer("/spec/replicas")
            .is_some_and(|size| *size == 0)
            || patch.pointer(asleep).is_some_and(|one| !one.is_null());
        if object.target.name != NAME || !sleeps {
            return Ok(());
        }
        match play.space.shares() {
            Some(shares) if shares.canary > 0 || shares.mirrored => Err(format!(
                "the new version sleeps with a weight of {}{}",
                shares.canary,
                if shares.mirrored { ", mirrored" } else { "" }
            )),
            _ => Ok(()),
        }
    }
}

pub(super) struct PrimaryBeforeTraffic;

impl Check for PrimaryBeforeTraffic {
    named!(
        "canary-primary-before-traffic",
        "After a promotion traffic returns to the primary only when that runs the new version with its pods."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (What::Performing(CanaryAction::SetShares { shares, .. }), Some(world)) =
            (what, seen(play))
        else {
            return Ok(());
        };
        let before = play.space.shares().unwrap_or_default();
        let status = &world.canary.status;
        let returns = status.phase == CanaryPhase::Promoting && shares.canary < before.canary;
        if !returns
            || is_service(world)
            || is_unrouted(world)
            || world.canary.spec.skips_analysis()
            || opt(world, "allow-unhealthy-primary") == "true"
            || !asked(play, crossfade_api::flagger::HookType::Rollback).is_empty()
        {
            return Ok(());
        }
        let Some(there) = world.primary.found() else {
            return Err(format!("{} is not there", primary()));
        };
        let threshold = analysis(world).primary_ready_threshold.unwrap_or(100);
        // A target that waiting cannot help gives its traffic back to what serves.
        let is_lost = target(play).is_some_and(|target| has_pods(&target, threshold).is_err());
        if is_lost {
            return Ok(());
        }
        has_pods(there, threshold).map_err(|why| format!("the primary has {why}"))
    }
}

pub(super) struct RevisionIsOne;

impl Check for RevisionIsOne {
    named!(
        "canary-revision-is-one",
        "Traffic grows only for the revision that the release is about; a newer one takes all traffic back first."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        if let What::Recorded(before, after) = what {
            let under_way = [CanaryPhase::Progressing, CanaryPhase::WaitingPromotion];
            let restarts = under_way.contains(&before.phase)
                && under_way.contains(&after.phase)
                && before.last_applied_spec != after.last_applied_spec;
            let weight = play.space.shares().map_or(0, |shares| shares.canary);
            if restarts && weight > 0 && !play.pass.is_late {
                return Err(format!(
                    "another revision is released with the weight {weight} of the one before"
                ));
            }
        }
        let (Some(_), Some(world)) = (grows(play, what), seen(play)) else {
            return Ok(());
        };
        if !play.pass.sees_well {
            return Ok(());
        }
        let status = &world.canary.status;
        let Some(target) = target(play).filter(|_| !promotion_fails(world)) else {
            return Ok(());
        };
        let now = match world.canary.spec.target_kind() {
            Some(TargetKind::Deployment) => hash::revision(&target["spec"]["template"]),
            Some(TargetKind::Service) => hash::revision(&target["spec"]),
            _ => return Ok(()),
        };
        let known = [&status.last_applied_spec, &status.last_promoted_spec];
        if known.contains(&&now) {
            Ok(())
        } else {
            Err("traffic grows for a revision that nobody has noticed".to_owned())
        }
    }
}

pub(super) struct CookiesStay;

impl Check for CookiesStay {
    named!(
        "canary-cookies-stay",
        "With session affinity a weight comes with the recorded cookie, and no weight with none."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (
            What::Performing(CanaryAction::SetShares {
                shares, cookies, ..
            }),
            Some(world),
        ) = (what, seen(play))
        else {
            return Ok(());
        };
        let is_affine = analysis(world).session_affinity.is_some();
        let Some(cookies) = cookies else {
            return if is_affine {
                Err("there are no cookies".to_owned())
            } else {
                Ok(())
            };
        };
        let recorded = &world.canary.status.session_affinity_cookie;
        let given = &cookies.canary;
        match (shares.canary > 0, given.is_empty()) {
            (true, true) => Err("a weight without a cookie".to_owned()),
            (false, false) => Err("a cookie without a weight".to_owned()),
            (true, false) if !recorded.is_empty() && recorded != given => {
                Err(format!("the cookie {recorded} becomes {given}"))
            }
            _ => Ok(()),
        }
    }
}
