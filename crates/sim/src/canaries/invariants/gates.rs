//! Webhooks: gates that are closed hold, in order, and an answer counts once.

use crossfade_api::flagger::{CanaryPhase, CanaryStrategyKind, HookType};
use crossfade_engine::canary::action::CanaryAction;

use super::{Check, agreed, analysis, asked, grows, named, promotes, promotion_fails, seen};
use crate::canaries::play::{Play, What};

pub(super) struct ClosedIsClosed;

impl Check for ClosedIsClosed {
    named!(
        "canary-closed-gates-hold",
        "A release starts, gets more traffic and is promoted only in a look in which every gate for that was asked and agreed."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let Some(world) = seen(play) else {
            return Ok(());
        };
        if let What::Recorded(before, after) = what {
            let rests = matches!(
                before.phase,
                CanaryPhase::Initialized
                    | CanaryPhase::Succeeded
                    | CanaryPhase::Failed
                    | CanaryPhase::Waiting
            );
            if rests && after.phase == CanaryPhase::Progressing {
                return agreed(play, HookType::ConfirmRollout)
                    .map_err(|why| format!("it starts, but {why}"));
            }
        }
        if world.canary.spec.skips_analysis() || promotion_fails(world) {
            return Ok(());
        }
        if promotes(what).is_some() {
            return agreed(play, HookType::ConfirmPromotion)
                .map_err(|why| format!("it is promoted, but {why}"));
        }
        let Some((before, shares)) = grows(play, what) else {
            return Ok(());
        };
        let weight = shares.canary;
        match analysis(world).strategy() {
            CanaryStrategyKind::Canary if !before.mirrored => {
                agreed(play, HookType::ConfirmTrafficIncrease)
                    .map_err(|why| format!("the weight becomes {weight}, but {why}"))
            }
            CanaryStrategyKind::BlueGreen => agreed(play, HookType::ConfirmPromotion)
                .map_err(|why| format!("the weight becomes {weight}, but {why}")),
            _ => Ok(()),
        }
    }
}

/// Where webhooks of a type stand in a look.
fn rank(kind: HookType) -> Option<u8> {
    Some(match kind {
        HookType::Rollback => 0,
        HookType::ConfirmRollout => 1,
        HookType::PreRollout | HookType::Rollout => 2,
        HookType::ConfirmTrafficIncrease => 3,
        HookType::ConfirmPromotion => 4,
        HookType::PostRollout => 5,
        HookType::Event => return None,
    })
}

pub(super) struct HooksInOrder;

impl Check for HooksInOrder {
    named!(
        "canary-hooks-in-order",
        "Webhooks are called in the order of the look and of the list, each at most once a look, none after one of its type refused, and metrics only after them."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (What::Performing(action), Some(world)) = (what, seen(play)) else {
            return Ok(());
        };
        let analysis = analysis(world);
        let hook_of = |name: &str| analysis.webhooks.iter().position(|one| one.name == name);
        let place = match action {
            CanaryAction::CallHook(call) => {
                let Some(place) = hook_of(&call.name) else {
                    return Ok(());
                };
                place
            }
            CanaryAction::Check(_) => {
                return agreed(play, HookType::Rollout)
                    .map_err(|why| format!("a metric is measured, but {why}"));
            }
            _ => return Ok(()),
        };
        let hook = &analysis.webhooks[place];
        let Some(mine) = rank(hook.kind) else {
            return Ok(());
        };
        for (before, outcome) in &play.pass.done {
            let CanaryAction::CallHook(call) = before else {
                continue;
            };
            let Some(earlier) = hook_of(&call.name) else {
                continue;
            };
            let other = &analysis.webhooks[earlier];
            let Some(its) = rank(other.kind) else {
                continue;
            };
            if its > mine || (other.kind == hook.kind && earlier >= place) {
                return Err(format!("{} is called after {}", hook.name, other.name));
            }
            let stops = other.kind == hook.kind && outcome.is_err();
            if stops && hook.kind != HookType::Rollback {
                return Err(format!(
                    "{} is called although {} refused",
                    hook.name, other.name
                ));
            }
        }
        Ok(())
    }
}

pub(super) struct CalledBack;

impl Check for CalledBack {
    named!(
        "canary-called-back-is-taken-back",
        "A look of a release asks every rollback webhook before it goes on, and one that agrees takes the release back."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let Some(world) = seen(play) else {
            return Ok(());
        };
        if world.canary.spec.skips_analysis() || promotion_fails(world) {
            return Ok(());
        }
        let answers = asked(play, HookType::Rollback);
        let signalled = answers.iter().any(|(_, agreed)| *agreed);
        if grows(play, what).is_some() || promotes(what).is_some() {
            if signalled {
                return Err("it goes on although it was called back".to_owned());
            }
            let wanted = analysis(world).hooks(HookType::Rollback).count();
            if answers.len() < wanted {
                return Err("it goes on although nobody was asked for the way back".to_owned());
            }
        }
        if let What::Recorded(_, after) = what {
            let all_done = play.pass.done.iter().all(|(action, outcome)| {
                outcome.is_ok() || matches!(action, CanaryAction::CallHook(_))
            });
            if signalled && all_done && after.phase != CanaryPhase::Failed {
                return Err(format!("it was called back and is {}", after.phase));
            }
        }
        Ok(())
    }
}

/// A gate that was opened for one step lets one step through.
#[derive(Default)]
pub(super) struct AnswersCountOnce {
    grew: bool,
}

impl Check for AnswersCountOnce {
    named!(
        "canary-answers-count-once",
        "In one look a release takes one step: what a gate says counts for one step only."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        if play.pass.done.is_empty() {
            self.grew = false;
        }
        let Some(world) = seen(play) else {
            return Ok(());
        };
        let steps = grows(play, what).is_some() || promotes(what).is_some();
        let skips = world.canary.spec.skips_analysis() || promotion_fails(world);
        if !steps || skips {
            return Ok(());
        }
        if self.grew {
            return Err("a second step in one look".to_owned());
        }
        self.grew = true;
        Ok(())
    }
}
