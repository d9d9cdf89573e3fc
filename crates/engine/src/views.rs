//! Stored objects as decisions look at them.
//!
//! Only readers: each takes an object's JSON and gives the engine's view of it. What is missing reads as empty; whoever stores objects has
//! already refused what is not an object of its kind. The way back is in [`crate::written`].

use std::collections::BTreeMap;

use crossfade_api::names::{annotation, label};
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::time;
use jiff::Timestamp;
use serde_json::Value;

use crate::action::Target;
use crate::analysis::world::{BlockedPod, Job};
use crate::rollout::stored;
use crate::rollout::world::{Pod, ReplicaSet, Service};

/// What stands somewhere in an object, as [`Value::pointer`], which copies each step of its way.
pub(crate) fn at<'o>(object: &'o Value, pointer: &str) -> Option<&'o Value> {
    if pointer.contains('~') {
        return object.pointer(pointer);
    }
    let mut steps = pointer.split('/').skip(1);
    steps.try_fold(object, |value, step| match value {
        Value::Object(members) => members.get(step),
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// A text somewhere in an object; empty if there is none.
pub fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    at(object, pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A whole number somewhere in an object; 0 if there is none.
pub fn number(object: &Value, pointer: &str) -> i32 {
    at(object, pointer)
        .and_then(Value::as_i64)
        .and_then(|number| i32::try_from(number).ok())
        .unwrap_or(0)
}

/// A map of texts somewhere in an object; empty if there is none.
pub fn map(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let entries = at(object, pointer).and_then(Value::as_object);
    entries
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// A time somewhere in an object.
pub fn instant(object: &Value, pointer: &str) -> Option<Timestamp> {
    time::parse(text(object, pointer)).ok()
}

/// True if the object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    at(object, "/metadata/deletionTimestamp").is_some()
}

/// Kind, name and uid of the controller that owns an object.
pub fn controller(object: &Value) -> Option<(&str, &str, &str)> {
    let owners = at(object, "/metadata/ownerReferences")?.as_array()?;
    let owner = owners
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    Some((
        text(owner, "/kind"),
        text(owner, "/name"),
        text(owner, "/uid"),
    ))
}

/// Which object this is, and in which version.
pub fn target(object: &Value) -> Target {
    Target {
        namespace: text(object, "/metadata/namespace").to_owned(),
        name: text(object, "/metadata/name").to_owned(),
        uid: text(object, "/metadata/uid").to_owned(),
        resource_version: text(object, "/metadata/resourceVersion").to_owned(),
    }
}

/// True if a condition of this type is True.
pub fn condition_holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

fn condition<'o>(object: &'o Value, kind: &str) -> Option<&'o Value> {
    at(object, "/status/conditions")?
        .as_array()?
        .iter()
        .find(|condition| text(condition, "/type") == kind)
}

/// A ReplicaSet.
pub fn replica_set(object: &Value) -> ReplicaSet {
    let annotations = map(object, "/metadata/annotations");
    let template: PodTemplate = at(object, "/spec/template")
        .cloned()
        .unwrap_or_default()
        .into();
    let digest = annotations
        .get(annotation::TEMPLATE_DIGEST)
        .cloned()
        .unwrap_or_else(|| stored::digest(&template, &annotations));
    let failure = condition(object, "ReplicaFailure")
        .filter(|condition| text(condition, "/status") == "True")
        .map(|condition| {
            (
                text(condition, "/reason").to_owned(),
                text(condition, "/message").to_owned(),
            )
        });
    let generation = |pointer| at(object, pointer).and_then(Value::as_i64).unwrap_or(0);
    let owned = |entries: BTreeMap<&str, &str>| {
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    ReplicaSet {
        target: target(object),
        created: instant(object, "/metadata/creationTimestamp").unwrap_or_default(),
        deleting: is_deleting(object),
        controller: controller(object).map(|(_, _, uid)| uid.to_owned()),
        labels: map(object, "/metadata/labels"),
        observed: generation("/metadata/generation") <= generation("/status/observedGeneration"),
        replicas: number(object, "/spec/replicas"),
        min_ready_seconds: number(object, "/spec/minReadySeconds"),
        current: number(object, "/status/replicas"),
        ready: number(object, "/status/readyReplicas"),
        available: number(object, "/status/availableReplicas"),
        failure,
        template_digest: digest,
        template_labels: owned(template.labels()),
        template_annotations: owned(template.annotations()),
        avoids: stored::avoids(&template),
        annotations,
    }
}

/// A Service.
pub fn service(object: &Value) -> Service {
    Service {
        target: target(object),
        selector: map(object, "/spec/selector"),
        managed_by: map(object, "/metadata/annotations").remove(annotation::MANAGED_BY),
    }
}

/// A pod.
pub fn pod(object: &Value) -> Pod {
    let ready = condition(object, "Ready").filter(|condition| text(condition, "/status") == "True");
    Pod {
        target: target(object),
        created: instant(object, "/metadata/creationTimestamp").unwrap_or_default(),
        deleting: is_deleting(object),
        controller: controller(object).map(|(_, _, uid)| uid.to_owned()),
        ready_since: ready.and_then(|condition| instant(condition, "/lastTransitionTime")),
        labels: map(object, "/metadata/labels"),
        annotations: map(object, "/metadata/annotations"),
    }
}

/// A Job, with the first of its pods that can never start.
pub fn job<'p>(object: &Value, mut pods: impl Iterator<Item = &'p Value>) -> Job {
    Job {
        target: target(object),
        created: instant(object, "/metadata/creationTimestamp").unwrap_or_default(),
        controller: controller(object).map(|(_, _, uid)| uid.to_owned()),
        run_uid: map(object, "/metadata/labels")
            .remove(label::ANALYSIS_RUN_UID)
            .unwrap_or_default(),
        metric: map(object, "/metadata/annotations")
            .remove(annotation::ANALYSIS_RUN_METRIC)
            .unwrap_or_default(),
        complete: condition_holds(object, "Complete"),
        failed: condition_holds(object, "Failed"),
        blocked: pods.find_map(blocked),
    }
}

/// Why a pod can never start: a container, those that initialise first, whose image cannot be had.
pub fn blocked(pod: &Value) -> Option<BlockedPod> {
    let statuses = ["/status/initContainerStatuses", "/status/containerStatuses"];
    let containers = statuses
        .iter()
        .filter_map(|pointer| at(pod, pointer)?.as_array())
        .flatten();
    containers
        .filter(|container| {
            ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"]
                .contains(&text(container, "/state/waiting/reason"))
        })
        .map(|container| BlockedPod {
            pod: text(pod, "/metadata/name").to_owned(),
            container: text(container, "/name").to_owned(),
            reason: text(container, "/state/waiting/reason").to_owned(),
            message: text(container, "/state/waiting/message").to_owned(),
        })
        .next()
}

#[cfg(test)]
mod tests {
    use crossfade_api::hash;
    use crossfade_api::words::PodHash;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_replica_set_without_a_digest_is_compared_without_what_was_put_into_it() {
        let user = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let object = json!({
            "metadata": {"name": "web-1", "generation": 2, "annotations": {
                "rollout.argoproj.io/ephemeral-metadata": "{\"labels\":{\"role\":\"canary\"}}"
            }},
            "spec": {"replicas": 3, "template": {
                "metadata": {"labels": {"app": "web", "role": "canary", "rollouts-pod-template-hash": "abc"}},
                "spec": {"containers": [{"name": "c", "image": "i"}], "affinity": {"podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {"matchExpressions": [
                        {"key": "rollouts-pod-template-hash", "operator": "In", "values": ["old"]}
                    ]}}]
                }}}
            }},
            "status": {"observedGeneration": 1, "availableReplicas": 2}
        });
        let wanted: PodTemplate = user.into();
        let view = replica_set(&object);
        assert_eq!(view.template_digest, hash::template_digest(&wanted));
        assert_eq!(view.avoids, Some(PodHash::from("old")));
        assert_eq!(
            (view.replicas, view.available, view.observed),
            (3, 2, false)
        );
    }
}
