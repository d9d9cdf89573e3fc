//! A ReplicaSet as a version of a release: its revision, its state, and what it is at present.

use crossfade_api::names::{annotation, label};
use crossfade_api::{Resource, Rollout};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::age;
use super::icon::{Icon, State, Tag};

/// An annotation of an object; empty when it is absent.
pub(crate) fn annotation_of<'a>(metadata: &'a ObjectMeta, name: &str) -> &'a str {
    metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(name))
        .map_or("", String::as_str)
}

/// A label of an object; empty when it is absent.
pub(crate) fn label_of<'a>(metadata: &'a ObjectMeta, name: &str) -> &'a str {
    metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(name))
        .map_or("", String::as_str)
}

/// The revision that an object belongs to; 0 when it says none.
pub(crate) fn revision(metadata: &ObjectMeta) -> u64 {
    annotation_of(metadata, annotation::REVISION)
        .parse()
        .unwrap_or(0)
}

/// The hash that names the version of a ReplicaSet.
pub(crate) fn hash(set: &ReplicaSet) -> &str {
    label_of(&set.metadata, label::POD_HASH)
}

/// Pods that a ReplicaSet shall have.
pub(crate) fn desired(set: &ReplicaSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

/// Pods of a ReplicaSet that are available.
pub(crate) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

/// The images of a ReplicaSet's containers, init containers not counted.
pub(crate) fn images(set: &ReplicaSet) -> Vec<&str> {
    set.spec
        .iter()
        .filter_map(|spec| spec.template.as_ref()?.spec.as_ref())
        .flat_map(|pod| &pod.containers)
        .filter_map(|container| container.image.as_deref())
        .collect()
}

/// How a ReplicaSet stands.
pub(crate) fn state(set: &ReplicaSet) -> State {
    let status = set.status.clone().unwrap_or_default();
    let failing = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    if status.observed_generation.unwrap_or(0) < set.metadata.generation.unwrap_or(0) {
        State::new(Icon::Progressing, "Progressing")
    } else if failing {
        State::new(Icon::Bad, "ReplicaFailure")
    } else if available(set) < desired(set) {
        State::new(Icon::Progressing, "Progressing")
    } else if desired(set) == 0 {
        State::new(Icon::Neutral, "ScaledDown")
    } else {
        State::new(Icon::Ok, "Healthy")
    }
}

/// What a ReplicaSet is for its Rollout at present.
pub(crate) fn tags(set: &ReplicaSet, rollout: &Rollout) -> Vec<Tag> {
    let hash = hash(set);
    if hash.is_empty() {
        return Vec::new();
    }
    let status = &rollout.status;
    let mut tags = Vec::new();
    let is_stable = hash == status.stable_rs.as_str();
    if is_stable {
        tags.push(Tag::Stable);
    }
    if let Some(canary) = &rollout.spec.strategy.canary {
        let is_canary = hash == status.current_pod_hash.as_str() && !is_stable;
        if is_canary {
            tags.push(Tag::Canary);
        }
        if canary.ping_pong.is_some() && (is_stable || is_canary) {
            use crossfade_api::rollout_status::PingPongRole;
            let stable_is_ping = status.canary.stable_ping_pong == PingPongRole::Ping;
            tags.push(if is_stable == stable_is_ping {
                Tag::Ping
            } else {
                Tag::Pong
            });
        }
    } else if rollout.spec.strategy.blue_green.is_some() {
        if hash == status.blue_green.active_selector.as_str() {
            tags.push(Tag::Active);
        } else if hash == status.blue_green.preview_selector.as_str() {
            tags.push(Tag::Preview);
        }
    }
    tags
}

/// How long a ReplicaSet without traffic still stays, if a deadline is set.
pub(crate) fn delay(set: &ReplicaSet, now: Timestamp) -> Option<String> {
    let deadline: Timestamp = annotation_of(&set.metadata, annotation::SCALE_DOWN_DEADLINE)
        .parse()
        .ok()?;
    Some(if deadline < now {
        "delay:passed".to_owned()
    } else {
        format!("delay:{}", age::human(deadline.duration_since(now)))
    })
}

/// Whether an object is controlled by the object with this uid.
pub(crate) fn is_owned_by(metadata: &ObjectMeta, uid: &str) -> bool {
    metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.uid == uid && owner.controller == Some(true))
}

/// The uid of an object; empty when it has none yet.
pub(crate) fn uid(object: &impl Resource) -> &str {
    object.metadata().uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(json: Value) -> ReplicaSet {
        serde_json::from_value(json).expect("the test's ReplicaSet is one")
    }

    #[test]
    fn the_state_looks_at_conditions_then_pods_then_size() {
        let failing = json!([{"type": "ReplicaFailure", "status": "True"}]);
        let table = [
            (
                json!({"metadata": {"generation": 2}, "spec": {"replicas": 1, "selector": {}}, "status": {"replicas": 1, "observedGeneration": 1, "availableReplicas": 1}}),
                "Progressing",
            ),
            (
                json!({"spec": {"replicas": 1, "selector": {}}, "status": {"replicas": 0, "conditions": failing}}),
                "ReplicaFailure",
            ),
            (
                json!({"spec": {"replicas": 2, "selector": {}}, "status": {"replicas": 2, "availableReplicas": 1}}),
                "Progressing",
            ),
            (
                json!({"spec": {"replicas": 0, "selector": {}}, "status": {"replicas": 0}}),
                "ScaledDown",
            ),
            (
                json!({"spec": {"replicas": 1, "selector": {}}, "status": {"replicas": 1, "availableReplicas": 1}}),
                "Healthy",
            ),
        ];
        for (json, word) in table {
            assert_eq!(state(&set(json.clone())).word, word, "{json}");
        }
    }

    #[test]
    fn cli_06_a_deadline_shows_the_time_left_or_that_it_has_passed() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let due = |at: &str| set(json!({"metadata": {"annotations": {"scale-down-deadline": at}}}));
        assert_eq!(
            delay(&due("2026-01-01T03:59:00Z"), now).as_deref(),
            Some("delay:3h59m")
        );
        assert_eq!(
            delay(&due("2025-12-31T23:59:00Z"), now).as_deref(),
            Some("delay:passed")
        );
        assert_eq!(delay(&set(json!({})), now), None);
    }

    #[test]
    fn a_revision_that_is_no_number_counts_as_none() {
        let marked = |text: &str| {
            set(json!({"metadata": {"annotations": {"rollout.argoproj.io/revision": text}}}))
        };
        assert_eq!(revision(&marked("7").metadata), 7);
        assert_eq!(revision(&marked("x").metadata), 0);
        assert_eq!(revision(&set(json!({})).metadata), 0);
    }
}
