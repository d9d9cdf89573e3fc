//! The end of a run: it comes to rest, is quiet, and everything is as the status says.

use crossfade_api::flagger::CanaryPhase;
use serde_json::Value;

use super::objects::{primary_version, rests};
use super::{Check, named};
use crate::canaries::play::{NAME, Play, What, primary};
use crate::canaries::run::Outcome;
use crate::canaries::scenario::Act;

pub(super) struct Converges;

impl Check for Converges {
    named!(
        "canary-converges",
        "Once nothing more goes wrong and gates open, a release comes to rest within bounded time: promoted, taken back, or stuck and saying so."
    );

    fn end(&mut self, _play: &Play, outcome: &Outcome) -> Result<(), String> {
        let status = &outcome.status;
        if !outcome.at_rest {
            return Err(format!("it does not come to rest: {}", status.phase));
        }
        if outcome.gone || rests(status.phase) {
            return Ok(());
        }
        if outcome.told.is_empty() {
            return Err(format!("it rests in {} and says nothing", status.phase));
        }
        Ok(())
    }
}

pub(super) struct RestIsQuiet;

impl Check for RestIsQuiet {
    named!(
        "canary-rest-is-quiet",
        "Nothing is written for a Canary that has come to rest."
    );

    fn end(&mut self, _play: &Play, outcome: &Outcome) -> Result<(), String> {
        if outcome.idle_writes > 0 {
            return Err(format!("{} writes at rest", outcome.idle_writes));
        }
        Ok(())
    }
}

pub(super) struct EndsAsItSays;

impl Check for EndsAsItSays {
    named!(
        "canary-ends-as-it-says",
        "At rest all traffic is on the primary, and after a promotion it runs the version of the target; only a failed promotion leaves traffic, and then pods, with the new version."
    );

    fn end(&mut self, play: &Play, outcome: &Outcome) -> Result<(), String> {
        let status = &outcome.status;
        if outcome.gone || !outcome.at_rest || !rests(status.phase) {
            return Ok(());
        }
        let kind = play.target_kind();
        let Some(target) = play.space.object(kind, NAME) else {
            return Ok(());
        };
        let serves_all = status.phase == CanaryPhase::Failed
            && (status.canary_weight > 0 || status.last_promoted_spec.is_empty());
        let shares = play.space.shares();
        let weight = shares.map_or(0, |shares| shares.canary);
        if !serves_all && (weight > 0 || shares.is_some_and(|shares| shares.mirrored)) {
            return Err(format!("{} with a weight of {weight}", status.phase));
        }
        let size = match kind {
            "Deployment" => target["spec"]["replicas"].as_i64().unwrap_or(0),
            "DaemonSet" => {
                let selector = &target["spec"]["template"]["spec"]["nodeSelector"];
                i64::from(selector["flagger.app/scale-to-zero"].is_null())
            }
            _ => 0,
        };
        if serves_all && weight > 0 && size == 0 && kind != "Service" {
            return Err("the new version serves all and has no pods".to_owned());
        }
        if let (CanaryPhase::Succeeded, Some(version)) = (status.phase, primary_version(play))
            && kind != "Service"
            && version != play.version_of_target()
        {
            return Err(format!(
                "it succeeded, but the primary runs v{version} and the target is v{}",
                play.version_of_target()
            ));
        }
        Ok(())
    }
}

/// A Canary that is deleted gives back what it took.
#[derive(Default)]
pub(super) struct GivenBack {
    reverts: bool,
    deleted: bool,
}

impl Check for GivenBack {
    named!(
        "canary-gives-back",
        "A Canary that is deleted leaves nothing behind that it made, and with revert its target serves alone before it goes."
    );

    fn see(&mut self, play: &Play, what: &What<'_>) -> Result<(), String> {
        if let What::Act(Act::Delete(_)) = what {
            self.deleted = true;
            let canary = play.space.object("Canary", NAME);
            let finalizers = canary.and_then(|one| one["metadata"]["finalizers"].as_array());
            self.reverts |= finalizers.is_some_and(|all| !all.is_empty());
        }
        if let What::Act(Act::Scale(0)) = what {
            // What somebody did to the target after the Canary was gone is not its doing.
            self.reverts &= play.space.object("Canary", NAME).is_some();
        }
        Ok(())
    }

    fn end(&mut self, play: &Play, outcome: &Outcome) -> Result<(), String> {
        if !outcome.gone {
            return Ok(());
        }
        let is_ours = |object: &Value| {
            let owner = &object["metadata"]["ownerReferences"][0];
            owner["kind"] == "Canary"
        };
        if let Some(((kind, name), _)) = play.space.objects.iter().find(|(_, one)| is_ours(one)) {
            return Err(format!("{kind} {name} is left behind"));
        }
        if play.space.shares().is_some() {
            return Err("routes are left behind".to_owned());
        }
        let target = play.space.object(play.target_kind(), NAME);
        let asleep = target.is_some_and(|target| {
            target["kind"] == "Deployment" && target["spec"]["replicas"] == 0
        });
        if self.deleted && self.reverts && asleep {
            return Err(format!("the target sleeps, and {} is gone", primary()));
        }
        Ok(())
    }
}
