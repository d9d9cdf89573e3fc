//! How healthy an object looks to Argo CD.
//!
//! Argo CD decides by rules of its own on the stored object, so what the controller writes must lead there to the
//! right answer. These are its rules; nothing here decides about a release.

use serde_json::Value;

use crate::names::annotation;

/// What Argo CD shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// All is as asked for.
    Healthy,
    /// Something is still to happen.
    Progressing,
    /// Something is wrong.
    Degraded,
    /// Waiting for a person.
    Suspended,
    /// Nothing can be said.
    Unknown,
}

/// What Argo CD shows for a Rollout, with its message.
///
/// The phase must be there: what Argo CD makes of conditions and counts without one is left out, because this
/// controller always writes the phase together with `observedGeneration`.
pub fn of_rollout(rollout: &Value) -> (Health, String) {
    let text = |path: &str| {
        rollout
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let not_observed = (
        Health::Progressing,
        "Waiting for rollout spec update to be observed".to_owned(),
    );
    let generation = rollout
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    if rollout.get("status").is_none_or(Value::is_null) {
        return not_observed;
    }
    let observed = text("/status/observedGeneration").parse::<i64>();
    if observed.is_ok_and(|observed| observed < generation) {
        return not_observed;
    }
    let annotations = rollout.pointer("/metadata/annotations");
    if let (Some(annotations), Some(_)) = (annotations, rollout.pointer("/spec/workloadRef")) {
        let wanted = annotations
            .get(annotation::WORKLOAD_GENERATION)
            .and_then(Value::as_str)
            .unwrap_or_default();
        if wanted != text("/status/workloadObservedGeneration") {
            return not_observed;
        }
    }
    let health = match text("/status/phase") {
        "Healthy" => Health::Healthy,
        "Progressing" => Health::Progressing,
        "Degraded" => Health::Degraded,
        "Paused" => Health::Suspended,
        _ => Health::Unknown,
    };
    (health, text("/status/message").to_owned())
}

/// What Argo CD shows for an AnalysisRun, with its message.
pub fn of_analysis_run(run: &Value) -> (Health, String) {
    let text = |path: &str| {
        run.pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if run.get("status").is_none_or(Value::is_null) {
        let message = "Waiting for analysis run to finish: status has not been reconciled.";
        return (Health::Progressing, message.to_owned());
    }
    let (health, otherwise) = match text("/status/phase") {
        "Successful" => (Health::Healthy, "Analysis run completed successfully"),
        "Failed" => (Health::Degraded, "Analysis run failed"),
        "Error" => (Health::Degraded, "Analysis run had an error"),
        "Inconclusive" => (Health::Unknown, "Analysis run was inconclusive"),
        _ => return (Health::Progressing, "Analysis run is running".to_owned()),
    };
    let message = text("/status/message");
    (
        health,
        if message.is_empty() {
            otherwise
        } else {
            message
        }
        .to_owned(),
    )
}
