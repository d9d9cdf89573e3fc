//! Objects: the primary is kept, nothing is written without a change, and who is suspended is left alone.

use crossfade_api::flagger::CanaryPhase;
use crossfade_api::merge_patch;
use crossfade_engine::canary::action::CanaryAction;
use crossfade_engine::decision::Found;
use serde_json::Value;

use super::{Check, is_change, named, promotes, seen};
use crate::canaries::play::{NAME, Play, What, primary, version_of};

pub(super) struct PrimaryIsKept;

impl Check for PrimaryIsKept {
    named!(
        "canary-primary-is-kept",
        "The controller never takes all pods from a primary that serves."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let What::Performing(CanaryAction::Patch { object, patch }) = what else {
            return Ok(());
        };
        if object.target.name != primary() || object.kind == "Service" {
            return Ok(());
        }
        let size = patch.pointer("/spec/replicas").and_then(Value::as_i64);
        let before = play.space.object(&object.kind, &primary());
        let had = before.and_then(|one| one["spec"]["replicas"].as_i64());
        if size == Some(0) && had.unwrap_or(0) > 0 {
            return Err("the primary loses all its pods".to_owned());
        }
        let asleep = "/spec/template/spec/nodeSelector/flagger.app~1scale-to-zero";
        if patch.pointer(asleep).is_some_and(|one| !one.is_null()) {
            return Err("the primary is put to sleep".to_owned());
        }
        Ok(())
    }
}

pub(super) struct ChangesSomething;

impl Check for ChangesSomething {
    named!(
        "canary-no-write-without-a-change",
        "What is written for a Canary differs from what is there, and a status from the one before."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        if play.pass.is_late || !play.pass.sees_well {
            return Ok(());
        }
        match what {
            What::Recorded(before, after) => {
                let mut same = (*after).clone();
                same.last_transition_time = before.last_transition_time;
                if same == **before {
                    return Err("a status is recorded that says nothing new".to_owned());
                }
            }
            What::Performing(CanaryAction::Patch { object, patch }) => {
                let name = &object.target.name;
                let Some(there) = play.space.object(&object.kind, name) else {
                    return Ok(());
                };
                let mut next = there.clone();
                merge_patch::apply(&mut next, patch);
                if next == *there {
                    return Err(format!(
                        "a change of {} {name} changes nothing",
                        object.kind
                    ));
                }
            }
            What::Performing(CanaryAction::Annotate { annotations, .. }) => {
                let there = play.space.object("Canary", NAME);
                let there = there.map(|there| &there["metadata"]["annotations"]);
                let same = annotations.iter().all(|(key, value)| {
                    let now = there.and_then(|all| all[key].as_str());
                    now == value.as_deref()
                });
                if same {
                    return Err("annotations are written that are there".to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) struct SuspendedIsLeftAlone;

impl Check for SuspendedIsLeftAlone {
    named!(
        "canary-suspended-is-left-alone",
        "Nothing is created, changed or routed for a Canary that is suspended."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (What::Performing(action), Some(world)) = (what, seen(play)) else {
            return Ok(());
        };
        let canary = &world.canary;
        let is_left = canary.spec.suspend && canary.metadata.deletion_timestamp.is_none();
        let is_own = matches!(
            action,
            CanaryAction::SetFinalizers { .. } | CanaryAction::Annotate { .. }
        );
        if is_left && is_change(action) && !is_own {
            return Err("it is suspended".to_owned());
        }
        Ok(())
    }
}

pub(super) struct ConfigsComeFirst;

impl Check for ConfigsComeFirst {
    named!(
        "canary-configurations-come-first",
        "A promotion copies the configuration that the new version was judged with before it changes the primary."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        let (Some(patch), Some(world)) = (promotes(what), seen(play)) else {
            return Ok(());
        };
        let Found::Found(_) = &world.target else {
            return Ok(());
        };
        let Some(original) = play.space.object("ConfigMap", "settings") else {
            return Ok(());
        };
        let copy = play.space.object("ConfigMap", "settings-primary");
        let copied = copy.map(|copy| &copy["data"]);
        if copied != Some(&original["data"]) {
            return Err(format!("the copy holds {copied:?}"));
        }
        let text = patch.to_string();
        if text.contains("configMapRef") && !text.contains("settings-primary") {
            return Err("the primary reads the original".to_owned());
        }
        Ok(())
    }
}

/// The version that the primary runs.
pub(super) fn primary_version(play: &Play) -> Option<u8> {
    let there = play.space.object(play.target_kind(), &primary())?;
    Some(version_of(there))
}

/// Phases in which a Canary rests.
pub(super) fn rests(phase: CanaryPhase) -> bool {
    matches!(
        phase,
        CanaryPhase::Initialized | CanaryPhase::Succeeded | CanaryPhase::Failed
    )
}
