//! Whole objects at one moment, here and in a recording.
//!
//! Compared is all that a controller of Rollouts writes: status, labels and annotations; not times, uids and what the API server adds.

use std::collections::BTreeMap;

use crossfade_api::names::annotation;
use crossfade_api::{ObjectMeta, Resource as _};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::visible::{Versions, by_version};

/// The objects of a recording as they stand, by kind and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects(BTreeMap<String, Value>);

impl Objects {
    /// Takes in a line of the recording; false if it tells of none of them.
    pub(crate) fn follow(&mut self, line: &Value) -> bool {
        let (kind, name) = (line["kind"].as_str(), line["name"].as_str());
        let (Some(kind), Some(name)) = (kind, name) else {
            return false;
        };
        let key = format!("{kind}/{name}");
        if line["type"] == "DELETED" {
            return self.0.remove(&key).is_some();
        }
        let object = match kind {
            "Rollout" => json!({
                "status": line["status"],
                "annotations": line["annotations"],
                "observed": line["status"]["observedGeneration"] == json!(line["generation"].to_string()),
            }),
            "ReplicaSet" => json!({
                "status": line["status"],
                "annotations": line["annotations"],
                "labels": line["labels"],
                "replicas": line["replicas"],
            }),
            // Labels and spec are told once.
            "AnalysisRun" | "Experiment" => {
                let before = self.0.get(&key).cloned().unwrap_or_else(|| {
                    json!({"labels": line["labels"], "owners": line["owners"], "spec": line["spec"]})
                });
                let mut run = before;
                run["status"] = line["status"].clone();
                run["annotations"] = line["annotations"].clone();
                if line["spec"]["terminate"] == json!(true) {
                    run["spec"]["terminate"] = json!(true);
                }
                run
            }
            _ => return false,
        };
        self.0.insert(key, object);
        true
    }
}

impl Objects {
    /// The objects of a cluster.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let mut here = Self::default();
        if let Some(rollout) = cluster.rollout() {
            let generation = rollout.metadata.generation.unwrap_or(0);
            here.0.insert(
                format!("Rollout/{}", rollout.name()),
                json!({
                    "status": rollout.status,
                    "annotations": rollout.metadata.annotations,
                    "observed": rollout.status.observed_generation == generation.to_string(),
                }),
            );
        }
        for (name, set) in &cluster.sets {
            let view = &set.view;
            let mut annotations = view.annotations.clone();
            annotations.remove(annotation::TEMPLATE_DIGEST);
            here.0.insert(
                format!("ReplicaSet/{name}"),
                json!({
                    "status": {
                        "replicas": view.current,
                        "readyReplicas": view.ready,
                        "availableReplicas": view.available,
                    },
                    "annotations": annotations,
                    "labels": view.labels,
                    "replicas": view.replicas,
                }),
            );
        }
        for (name, run) in &cluster.runs {
            let metadata = &run.metadata;
            let mut annotations = metadata.annotations.clone().unwrap_or_default();
            annotations.remove(annotation::ATTEMPT);
            here.0.insert(
                format!("AnalysisRun/{name}"),
                json!({
                    "status": run.status,
                    "annotations": annotations,
                    "labels": metadata.labels,
                    "owners": owners(metadata),
                    "spec": run.spec,
                }),
            );
        }
        for (name, experiment) in &cluster.experiments {
            let metadata = &experiment.metadata;
            here.0.insert(
                format!("Experiment/{name}"),
                json!({
                    "status": experiment.status,
                    "annotations": metadata.annotations,
                    "labels": metadata.labels,
                    "owners": owners(metadata),
                    "spec": experiment.spec,
                }),
            );
        }
        here
    }

    /// What differs between these objects and recorded ones.
    pub(crate) fn unlike(
        &self,
        versions: &Versions,
        there: &Self,
        their_versions: &Versions,
    ) -> Vec<String> {
        let mut found = Vec::new();
        let (here, there) = (self.comparable(versions), there.comparable(their_versions));
        compare("", Some(&here), Some(&there), &mut found);
        found
    }

    /// The same with conditions in the order of their types: which of two changes within a second came first is a matter of time.
    #[must_use]
    pub(crate) fn in_any_order(mut self) -> Self {
        for object in self.0.values_mut() {
            let conditions = object.pointer_mut("/status/conditions");
            if let Some(conditions) = conditions.and_then(Value::as_array_mut) {
                conditions.sort_by_key(|one| one["type"].as_str().map(str::to_owned));
            }
        }
        self
    }

    /// All objects as one value, without what means nothing.
    fn comparable(&self, versions: &Versions) -> Value {
        let objects = self.0.iter();
        let members = objects.map(|(key, object)| {
            let mut object = object.clone();
            plain(&mut object, versions);
            (by_version(key, versions), object)
        });
        Value::Object(members.collect::<Map<_, _>>())
    }
}

/// Puts versions in place of hashes and takes out times, uids and what is empty. True if nothing is left.
fn plain(value: &mut Value, versions: &Versions) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !*flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => {
            if text.parse::<Timestamp>().is_ok() {
                "<time>".clone_into(text);
            } else {
                *text = by_version(text, versions);
            }
            text.is_empty()
        }
        Value::Array(items) => {
            for item in items.iter_mut() {
                plain(item, versions);
            }
            items.is_empty()
        }
        Value::Object(members) => {
            for changing in [
                "observedGeneration",
                "totalManualPauseDurationSeconds",
                "job-name",
            ] {
                members.remove(changing);
            }
            members.retain(|_, member| !plain(member, versions));
            members.is_empty()
        }
    }
}

/// Tells where two values differ.
fn compare(path: &str, ours: Option<&Value>, theirs: Option<&Value>, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Some(Value::Object(ours)), Some(Value::Object(theirs))) => {
            let mut keys: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                compare(
                    &format!("{path}.{key}"),
                    ours.get(key),
                    theirs.get(key),
                    found,
                );
            }
        }
        (Some(Value::Array(ours)), Some(Value::Array(theirs))) if ours.len() == theirs.len() => {
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                compare(&format!("{path}[{index}]"), Some(ours), Some(theirs), found);
            }
        }
        _ if ours == theirs => {}
        _ => {
            let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            let path = path.trim_start_matches('.');
            found.push(format!("{path} is {}, not {}", text(ours), text(theirs)));
        }
    }
}

/// Who owns an object, without the uids that differ from one run to the next.
fn owners(metadata: &ObjectMeta) -> Vec<Value> {
    let owners = metadata.owner_references.iter().flatten();
    owners
        .map(|owner| {
            json!({
                "kind": owner.kind,
                "name": owner.name,
                "controller": owner.controller,
                "blockOwnerDeletion": owner.block_owner_deletion,
            })
        })
        .collect()
}
