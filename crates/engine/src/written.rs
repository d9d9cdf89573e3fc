//! Actions as the objects and patches that carry them out.
//!
//! Only writers: each gives JSON as Kubernetes knows it, whoever stores it. The way in is in [`crate::views`].

use std::collections::BTreeMap;

use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::AnalysisRunStatus;
use crossfade_api::experiment::ExperimentStatus;
use crossfade_api::merge_patch;
use crossfade_api::names::{annotation, label};
use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::words::PodHash;
use serde_json::{Value, json};

use crate::action::{KeyChanges, NewJob, NewReplicaSet, NewService, ReplicaSetChange};
use crate::analysis::measure::ArgumentSource;
use crate::analysis::redact::Redactor;

/// An owner reference of a controller.
pub fn owner_reference(kind: &str, name: &str, uid: &str) -> Value {
    let api_version = match kind {
        "Rollout" | "AnalysisRun" | "Experiment" => crossfade_api::resource::API_VERSION,
        "Job" => "batch/v1",
        _ => "apps/v1",
    };
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true})
}

/// A new ReplicaSet, without pods yet.
pub fn replica_set(new: &NewReplicaSet) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": new.name,
            "namespace": new.namespace,
            "labels": new.labels,
            "annotations": new.annotations,
            "ownerReferences": [owner_reference(&new.owner_kind, &new.owner_name, &new.owner_uid)],
        },
        "spec": {
            "replicas": 0,
            "minReadySeconds": new.min_ready_seconds,
            "selector": new.selector,
            "template": new.template,
        },
    })
}

/// A new Service.
pub fn service(new: &NewService) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": new.name,
            "namespace": new.namespace,
            "annotations": new.annotations,
            "ownerReferences": [owner_reference(&new.owner_kind, &new.owner_name, &new.owner_uid)],
        },
        "spec": {"selector": new.selector, "ports": new.ports},
    })
}

/// A change of a ReplicaSet as a merge patch.
pub fn replica_set_change(change: &ReplicaSetChange) -> Value {
    let mut patch = json!({});
    let put = |patch: &mut Value, pointer: &[&str], value: Value| {
        let mut place = patch;
        for member in pointer {
            place = &mut place[*member];
        }
        *place = value;
    };
    if let Some(replicas) = change.replicas {
        put(&mut patch, &["spec", "replicas"], json!(replicas));
    }
    if let Some(seconds) = change.min_ready_seconds {
        put(&mut patch, &["spec", "minReadySeconds"], json!(seconds));
    }
    let keys = |patch: &mut Value, pointer: &[&str], changes: &KeyChanges| {
        if !changes.is_empty() {
            put(patch, pointer, json!(changes));
        }
    };
    keys(
        &mut patch,
        &["metadata", "annotations"],
        &change.annotations,
    );
    keys(
        &mut patch,
        &["spec", "template", "metadata", "labels"],
        &change.template_labels,
    );
    keys(
        &mut patch,
        &["spec", "template", "metadata", "annotations"],
        &change.template_annotations,
    );
    if let Some(affinity) = &change.affinity {
        put(
            &mut patch,
            &["spec", "template", "spec", "affinity"],
            affinity.clone(),
        );
    }
    patch
}

/// Annotations of a Rollout, and `spec.replicas` where it is to be stored, as a merge patch.
pub fn rollout_change(annotations: &KeyChanges, replicas: Option<i32>) -> Value {
    let mut patch = json!({"metadata": {"annotations": annotations}});
    if let Some(replicas) = replicas {
        patch["spec"] = json!({"replicas": replicas});
    }
    patch
}

/// A Service that selects one version, as a merge patch; its manager is recorded where one is named.
pub fn service_switch(hash: &PodHash, managed_by: Option<&str>) -> Value {
    let mut patch = json!({"spec": {"selector": {label::POD_HASH: hash.as_str()}}});
    if let Some(manager) = managed_by {
        patch["metadata"] = json!({"annotations": {annotation::MANAGED_BY: manager}});
    }
    patch
}

/// The Job of a measurement, marked as belonging to its run; `metric` has its arguments put in. `None` if it is measured by no Job.
pub fn job(new: &NewJob, metric: &Metric) -> Option<Value> {
    let job = metric.provider.job.as_ref()?;
    let mut labels = job.metadata.labels.clone();
    labels.insert(label::ANALYSIS_RUN_UID.to_owned(), new.run_uid.clone());
    let mut annotations = job.metadata.annotations.clone();
    let marks = [
        (annotation::ANALYSIS_RUN_NAME, &new.run_name),
        (annotation::ANALYSIS_RUN_NAMESPACE, &new.namespace),
        (annotation::ANALYSIS_RUN_METRIC, &metric.name),
    ];
    annotations.extend(marks.map(|(key, value)| (key.to_owned(), value.clone())));
    let mut spec = job.spec.as_json().clone();
    spec["template"]["metadata"]["labels"][label::ANALYSIS_RUN_UID] = json!(new.run_uid);
    Some(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": new.name,
            "namespace": new.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner_reference("AnalysisRun", &new.run_name, &new.run_uid)],
        },
        "spec": spec,
    }))
}

/// What differs between two statuses of a Rollout, as a merge patch of the object; `None` if nothing does.
pub fn rollout_status(before: &RolloutStatus, after: &RolloutStatus) -> Option<Value> {
    let json = |status: &RolloutStatus| serde_json::to_value(status).unwrap_or_default();
    let patch = merge_patch::diff(&json(before), &json(after))?;
    Some(json!({"status": patch}))
}

/// What differs between two statuses of an AnalysisRun, as a merge patch of the object; `None` if nothing does.
pub fn run_status(before: &AnalysisRunStatus, after: &AnalysisRunStatus) -> Option<Value> {
    let json = |status: &AnalysisRunStatus| serde_json::to_value(status).unwrap_or_default();
    let before = if *before == AnalysisRunStatus::default() {
        json!({})
    } else {
        json(before)
    };
    let patch = merge_patch::diff(&before, &json(after))?;
    Some(json!({"status": patch}))
}

/// What differs between two statuses of an Experiment, as a merge patch of the object; `None` if nothing does.
pub fn experiment_status(before: &ExperimentStatus, after: &ExperimentStatus) -> Option<Value> {
    let patch = merge_patch::diff(&json!(before), &json!(after))?;
    Some(json!({"status": patch}))
}

/// Looks a key of a Secret up; the error says what is missing, without saying what else is there.
pub type Secrets<'s> = dyn Fn(&str, &str) -> Result<Vec<u8>, String> + Send + Sync + 's;

/// The values of arguments, and what must stay hidden among them.
///
/// # Errors
/// A Secret or a key of it is missing, or its value is no text.
pub fn values(
    args: &BTreeMap<String, ArgumentSource>,
    secrets: &Secrets<'_>,
) -> Result<(BTreeMap<String, String>, Redactor), String> {
    let mut values = BTreeMap::new();
    let mut hidden = Vec::new();
    for (argument, source) in args {
        let value = match source {
            ArgumentSource::Value(value) => value.clone(),
            ArgumentSource::Secret { name, key } => {
                let value = secrets(name, key)?;
                let value = String::from_utf8(value)
                    .map_err(|_| format!("argument \"{argument}\" is not valid UTF-8"))?;
                hidden.push(value.clone());
                value
            }
        };
        values.insert(argument.clone(), value);
    }
    Ok((values, Redactor::new(hidden)))
}
