//! What is seen of a release at one moment, whichever kind of object is released.

use crossfade_api::flagger::CanaryPhase;
use crossfade_api::rollout_status::RolloutPhase;
use crossfade_api::{Canary, Rollout};
use crossfade_host::wire::Wait;
use serde_json::Value;

use super::report::Outcome;
use crate::canary::is_unseen;

/// A release at one moment.
pub(crate) struct Seen {
    /// Phase, step, weight and pods.
    pub(crate) line: String,
    /// Why it stands there.
    pub(crate) message: String,
    /// Share of requests that the new version has.
    pub(crate) weight: i32,
    /// How many versions there were, this one included.
    pub(crate) revision: u64,
    /// How it ended, once it has.
    pub(crate) ended: Option<(Outcome, String)>,
    /// It waits for somebody to open a gate.
    pub(crate) is_at_gate: bool,
}

impl Seen {
    /// A Rollout.
    pub(crate) fn rollout(rollout: &Rollout) -> Self {
        let status = &rollout.status;
        let weight = weight(rollout);
        let canary = rollout.spec.strategy.canary.as_ref();
        let steps = canary.map_or(0, |canary| canary.steps.len());
        let step = status
            .current_step_index
            .map_or(String::new(), |index| format!("step {index}/{steps}  "));
        Self {
            line: format!(
                "{:11}  {step}weight {weight:3} %  pods {}/{} new",
                status.phase.as_str(),
                status.updated_replicas,
                status.replicas
            ),
            message: status.message.clone(),
            weight,
            revision: revision(rollout),
            ended: ended(rollout),
            is_at_gate: false,
        }
    }

    /// A Canary with its target, what it waits for, and how many versions the target has had.
    pub(crate) fn canary(canary: &Canary, target: &Value, waits: &[Wait], versions: u64) -> Self {
        let status = &canary.status;
        let told = status.conditions.first();
        let message = told.map_or(String::new(), |told| told.message.clone());
        let gate = waits.iter().find(|wait| wait.what.starts_with("gate "));
        let outcome = match status.phase {
            CanaryPhase::Initialized | CanaryPhase::Succeeded => Some(Outcome::Promoted),
            CanaryPhase::Failed => Some(Outcome::Aborted),
            _ => None,
        };
        Self {
            line: format!(
                "{:11}  weight {:3} %",
                status.phase.as_str(),
                status.canary_weight
            ),
            message: gate.map_or(message.clone(), |gate| format!("waits for {}", gate.what)),
            weight: status.canary_weight,
            revision: versions,
            ended: outcome
                .filter(|_| !is_unseen(canary, target))
                .map(|outcome| (outcome, message)),
            is_at_gate: gate.is_some(),
        }
    }
}

/// Share of requests that the new version has.
fn weight(rollout: &Rollout) -> i32 {
    let status = &rollout.status;
    match &status.canary.weights {
        // What is recorded may still be of the version before.
        Some(weights)
            if status.stable_rs != status.current_pod_hash
                && weights.canary.pod_template_hash == status.current_pod_hash =>
        {
            weights.canary.weight
        }
        _ if rollout.spec.strategy.blue_green.is_some()
            && status.blue_green.active_selector == status.current_pod_hash =>
        {
            100
        }
        _ => 0,
    }
}

fn revision(rollout: &Rollout) -> u64 {
    let annotations = rollout.metadata.annotations.as_ref();
    annotations
        .and_then(|all| {
            all.get(crossfade_api::names::annotation::REVISION)?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

/// How the release ended, once it has.
fn ended(rollout: &Rollout) -> Option<(Outcome, String)> {
    let status = &rollout.status;
    if status.observed_generation != rollout.metadata.generation.unwrap_or(0).to_string() {
        return None;
    }
    match status.phase {
        RolloutPhase::Healthy if status.stable_rs == status.current_pod_hash => {
            Some((Outcome::Promoted, "healthy".to_owned()))
        }
        RolloutPhase::Degraded if status.abort => {
            let back = status
                .canary
                .weights
                .as_ref()
                .is_none_or(|weights| weights.canary.weight == 0);
            back.then(|| (Outcome::Aborted, status.message.clone()))
        }
        RolloutPhase::Degraded => Some((Outcome::Unfinished, status.message.clone())),
        RolloutPhase::Healthy
        | RolloutPhase::Progressing
        | RolloutPhase::Paused
        | RolloutPhase::Unset => None,
    }
}
