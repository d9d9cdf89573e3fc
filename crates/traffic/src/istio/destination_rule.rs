//! The subsets of a DestinationRule: which version each names.

use crossfade_api::split::Split;
use crossfade_api::traffic_routing::IstioDestinationRule;
use crossfade_api::words::PodHash;
use serde_json::{Value, json};

use crate::contract::{Change, Note, ObjectRef, Observed, RouteError, Subject, Write};
use crate::json::{metadata, not_a, object_at, text};
use crate::patch;

/// The label by which a subset, like a Service, selects the pods of one version.
const POD_HASH: &str = "rollouts-pod-template-hash";
const MANAGED_BY: &str = "argo-rollouts.argoproj.io/managed-by-rollouts";

/// What can be done about the subsets now.
pub(super) enum Answer {
    /// This, or nothing where they name the versions already.
    Ready(Option<Box<Change>>),
    /// A version that a subset would name has too few pods for its share.
    NotYet(String),
}

/// The host that the rule is for.
pub(super) fn host(object: &Value) -> Option<&str> {
    object.pointer("/spec/host")?.as_str()
}

pub(super) fn plan(
    rule: &IstioDestinationRule,
    object: &ObjectRef,
    subject: &Subject<'_>,
    observed: &Observed,
    split: &Split,
) -> Result<Answer, RouteError> {
    let missing = || {
        RouteError::user(object.kind.not_found(&object.name)).told_as(
            "DestinationRuleNotFound",
            format!("DestinationRule `{}` not found", object.name),
        )
    };
    let before = observed.get(object)?.ok_or_else(missing)?;
    let mut after = before.clone();
    let spec =
        object_at(&mut after, &["spec"]).map(|spec| spec.entry("subsets").or_insert(json!([])));
    let Some(Value::Array(subsets)) = spec else {
        return Err(not_a("subsets", "[]interface"));
    };
    for (name, side) in [
        (&rule.canary_subset_name, &split.canary),
        (&rule.stable_subset_name, &split.stable),
    ] {
        let subset = subsets
            .iter_mut()
            .find(|subset| text(subset, "name") == name)
            .ok_or_else(|| {
                RouteError::user(format!(
                    "DestinationRule `{}` has no subset `{name}`: add it under spec.subsets[]",
                    object.name
                ))
            })?;
        let named = hash_of(subset).to_owned();
        if named == side.hash.as_str() {
            continue;
        }
        if let Some(lack) = lack(subject, observed, split, &side.hash, side.weight.0) {
            return Ok(Answer::NotYet(lack));
        }
        set_hash(subset, &side.hash);
    }
    let wanted = |name: &str| split.additional.iter().any(|side| side.service == name);
    subsets.retain(|subset| {
        let name = text(subset, "name");
        let kept = name == rule.canary_subset_name || name == rule.stable_subset_name;
        kept || wanted(name)
            || !subject
                .former_additional
                .iter()
                .any(|former| former == name)
    });
    for side in &split.additional {
        let there = subsets
            .iter_mut()
            .find(|subset| text(subset, "name") == side.service);
        match there {
            Some(subset) => set_hash(subset, &side.hash),
            None => subsets.push(json!({"name": side.service, "labels": {POD_HASH: side.hash}})),
        }
    }
    if metadata(before, "annotations", MANAGED_BY) != Some(subject.name)
        && let Some(annotations) = object_at(&mut after, &["metadata", "annotations"])
    {
        annotations.insert(MANAGED_BY.to_owned(), json!(subject.name));
    }
    let note = Note::normal(
        "UpdatedDestinationRule",
        format!(
            "DestinationRule {} subset updated ({}: {}, {}: {})",
            object.name,
            rule.canary_subset_name,
            split.canary.hash,
            rule.stable_subset_name,
            split.stable.hash
        ),
    );
    Ok(Answer::Ready(patch::between(before, &after).map(|patch| {
        Box::new(Change {
            object: object.clone(),
            write: Write::Patch(patch),
            notes: vec![note],
            only_after: false,
            failure: None,
        })
    })))
}

/// What lets go of a DestinationRule that no Rollout names any more: without the hashes in its subsets and the annotation. `None` for one that no
/// Rollout has.
pub(crate) fn release(before: &Value) -> Option<Value> {
    metadata(before, "annotations", MANAGED_BY)?;
    let mut after = before.clone();
    object_at(&mut after, &["metadata", "annotations"])?.remove(MANAGED_BY);
    let subsets = after
        .pointer_mut("/spec/subsets")
        .and_then(Value::as_array_mut);
    for subset in subsets.into_iter().flatten() {
        set_hash(subset, &PodHash::default());
    }
    patch::between(before, &after)
}

fn hash_of(subset: &Value) -> &str {
    let labels = subset.get("labels");
    labels.map_or("", |labels| text(labels, POD_HASH))
}

fn set_hash(subset: &mut Value, hash: &PodHash) {
    if hash.is_empty() {
        if let Some(labels) = subset.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(POD_HASH);
        }
    } else if let Some(labels) = object_at(subset, &["labels"]) {
        labels.insert(POD_HASH.to_owned(), json!(hash));
    }
}

/// Why a subset may not name this version yet: it has fewer pods than its share of the traffic needs. Services decide that by their own selectors
/// where both are named, so it is asked only where they are not.
fn lack(
    subject: &Subject<'_>,
    observed: &Observed,
    split: &Split,
    hash: &PodHash,
    weight: i32,
) -> Option<String> {
    if !subject.canary_service.is_empty() || !subject.stable_service.is_empty() || hash.is_empty() {
        return None;
    }
    let (weight, replicas) = (i64::from(weight), i64::from(subject.replicas));
    let max = i64::from(split.max.0).max(1);
    let routed = *hash == split.canary.hash
        && !(split.header_routes.is_empty() && split.mirror_routes.is_empty());
    let least = i64::from((weight > 0 && replicas > 0) || routed);
    let needed = (weight * replicas / max).max(least);
    let available = observed.available(hash);
    (i64::from(available) < needed).then(|| {
        format!(
            "delaying destination rule switch: version {hash} has {available} available pods, waiting for {needed}"
        )
    })
}
