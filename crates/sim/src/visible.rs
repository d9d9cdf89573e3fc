//! What users and other tools see of a release, in a form that two controllers can be compared by.
//!
//! Each *thing* (the Rollout's status, a ReplicaSet, a Service, an AnalysisRun) is seen as one text that holds all of it that users rely
//! on. Hashes are told as the versions' image tags, so that texts of two controllers compare.

use std::collections::BTreeMap;

use crossfade_api::Resource as _;
use crossfade_api::names::{annotation, label};
use serde_json::Value;

use crate::cluster::Cluster;

/// Versions by their hashes: the tag of the image that each runs.
pub type Versions = BTreeMap<String, String>;

/// The thing that is the Rollout's status.
pub const ROLLOUT: &str = "rollout";

/// What is seen of a thing that does not exist.
pub const NOTHING: &str = "-";

/// What is seen at one moment, by thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visible(pub BTreeMap<String, String>);

impl Visible {
    /// What is seen of a cluster now.
    pub fn of(cluster: &Cluster) -> Self {
        let mut seen = BTreeMap::new();
        let Some(rollout) = cluster.rollout() else {
            return Self(seen);
        };
        let versions = &cluster.versions;
        let status = serde_json::json!(rollout.status);
        seen.insert(ROLLOUT.to_owned(), rollout_status(&status, versions));
        for (name, service) in &cluster.services {
            let hash = service.selector.get(label::POD_HASH);
            let version = version(versions, hash.map_or("", String::as_str));
            seen.insert(format!("service {name}"), version);
        }
        for ((kind, name), object) in &cluster.references {
            if kind == "Deployment" {
                seen.insert(
                    format!("deployment {name}"),
                    deployment(&object["spec"]["replicas"]),
                );
            }
        }
        for set in cluster.sets.values() {
            let annotations = &set.view.annotations;
            let revision = annotations.get(annotation::REVISION);
            let thing = if annotations.contains_key(annotation::EXPERIMENT_NAME) {
                let name = by_version(&set.view.target.name, versions);
                format!("experiment's set {name}")
            } else {
                format!("set {}", version(versions, set.view.hash()))
            };
            seen.insert(
                thing,
                replica_set(set.view.replicas, revision.map_or("", String::as_str)),
            );
        }
        for run in cluster.runs.values() {
            seen.insert(
                format!("run {}", by_version(run.name(), versions)),
                run.status.phase.to_string(),
            );
        }
        for one in cluster.experiments.values() {
            let status = &one.status;
            seen.insert(
                format!("experiment {}", by_version(one.name(), versions)),
                experiment(
                    status.phase.as_str(),
                    &by_version(&status.message, versions),
                ),
            );
        }
        Self(seen)
    }
}

/// What is seen of an Experiment.
pub fn experiment(phase: &str, message: &str) -> String {
    format!("{phase}: {message}")
}

/// What is seen of a Deployment whose template a Rollout takes.
pub fn deployment(replicas: &Value) -> String {
    format!("{replicas} wanted")
}

/// What is seen of a ReplicaSet.
pub fn replica_set(replicas: i32, revision: &str) -> String {
    format!("{replicas} wanted, revision {revision}")
}

/// What is seen of a Rollout's status, given as JSON.
pub fn rollout_status(status: &Value, versions: &Versions) -> String {
    let text = |pointer: &str| {
        let value = status.pointer(pointer).and_then(Value::as_str);
        by_version(value.unwrap_or_default(), versions)
    };
    let flag = |name: &str| status[name].as_bool().unwrap_or(false);
    let mut parts = vec![format!("{}: {}", text("/phase"), text("/message"))];
    if let Some(step) = status["currentStepIndex"].as_i64() {
        parts.push(format!("step {step}"));
    }
    for pause in status["pauseConditions"].as_array().into_iter().flatten() {
        let reason = pause["reason"].as_str().unwrap_or_default();
        parts.push(format!("paused for {reason}"));
    }
    parts.extend(flag("abort").then(|| "aborted".to_owned()));
    parts.extend(flag("promoteFull").then(|| "promoteFull".to_owned()));
    parts.push(format!(
        "{} of {}",
        text("/currentPodHash"),
        text("/stableRS")
    ));
    let weights = &status["canary"]["weights"];
    let hash = |side: &Value| {
        let hash = side["podTemplateHash"].as_str().unwrap_or_default();
        version(versions, hash)
    };
    for side in [&weights["canary"], &weights["stable"]] {
        if let Some(weight) = side["weight"].as_i64() {
            parts.push(format!("{weight} to {}", hash(side)));
        }
    }
    for side in weights["additional"].as_array().into_iter().flatten() {
        if let Some(weight) = side["weight"].as_i64() {
            let service = side["serviceName"].as_str().unwrap_or_default();
            parts.push(format!("{weight} to {service}/{}", hash(side)));
        }
    }
    parts.join(", ")
}

/// The version of a hash; a hash of no version stays as it is.
pub fn version(versions: &Versions, hash: &str) -> String {
    versions.get(hash).cloned().unwrap_or(hash.to_owned())
}

/// A text with versions in place of their hashes.
pub fn by_version(text: &str, versions: &Versions) -> String {
    versions
        .iter()
        .fold(text.to_owned(), |text, (hash, version)| {
            text.replace(hash.as_str(), version)
        })
}
