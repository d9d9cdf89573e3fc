//! What becomes of an object when somebody writes it: Kubernetes' rules for `metadata`, spec and status.
//!
//! Functions of the old object and the new JSON, without I/O; `transaction` carries out what they say. Start at
//! [`created`], [`updated`] and [`deleted`].

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::error::{Fault, Result, StoreError};
use super::kind::{Kind, Scope, StatusWrites};
use super::names;
use super::object::{
    Key, LAST_APPLIED, Object, finalizers, generation, is_deleting, meta, meta_map, meta_mut,
    meta_text, set_meta, wire_time,
};
use super::patch::{DEEPEST, depth};
use super::secret;
use crate::wire::{Deletion, Part};

/// The finalizer that keeps an object until its dependents are gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Grace of a pod that names none, in seconds.
const DEFAULT_GRACE: i64 = 30;

/// The last word on a complete object, which it may change: what its schema says.
pub(super) type Admit<'a> = &'a mut dyn FnMut(&mut Value) -> Result<()>;

/// Which object a document is meant to be: its own words, completed by the request's.
///
/// # Errors
/// When the document contradicts the request, or names a kind that is not stored.
pub(super) fn key_of(kind: Kind, namespace: &str, value: &Value) -> Result<Key> {
    if !value.is_object() {
        return Err(StoreError::BadRequest(format!(
            "a {kind} must be a JSON object"
        )));
    }
    let own_kind = value
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or(kind.name());
    let own_version = value
        .get("apiVersion")
        .and_then(Value::as_str)
        .map_or_else(|| kind.api_version(), str::to_owned);
    match Kind::of(&own_version, own_kind) {
        Some(own) if own == kind => {}
        Some(own) => {
            return Err(StoreError::BadRequest(format!(
                "the object provided is a {own}, the request is for a {kind}"
            )));
        }
        None => return Err(StoreError::unknown_kind(&own_version, own_kind)),
    }
    let own_namespace = meta_text(value, "namespace");
    let namespace = match kind.scope() {
        Scope::Cluster => "",
        Scope::Namespaced if own_namespace.is_empty() => namespace,
        Scope::Namespaced if namespace.is_empty() || own_namespace == namespace => own_namespace,
        Scope::Namespaced => {
            return Err(StoreError::BadRequest(format!(
                "the namespace of the provided object does not match the namespace sent on the request ({own_namespace} and {namespace})"
            )));
        }
    };
    Ok(Key::new(kind, namespace, meta_text(value, "name")))
}

/// The object as it is stored when it is new, still without its resourceVersion.
///
/// # Errors
/// Every fault of its metadata.
pub(super) fn created(
    key: &Key,
    mut value: Value,
    uid: &str,
    now: Timestamp,
    admit: Admit<'_>,
) -> Result<Value> {
    if !meta_text(&value, "resourceVersion").is_empty() {
        return Err(StoreError::BadRequest(
            "resourceVersion should not be set on objects to be created".to_owned(),
        ));
    }
    complete(key, &mut value);
    check(key, &value)?;
    if key.kind.status_writes() == StatusWrites::SubResource
        && let Some(object) = value.as_object_mut()
    {
        object.remove("status");
    }
    admit(&mut value)?;
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        set_meta(&mut value, field, Value::Null);
    }
    set_meta(&mut value, "uid", json!(uid));
    set_meta(&mut value, "creationTimestamp", json!(wire_time(now)));
    if counts_generations(key.kind) {
        set_meta(&mut value, "generation", json!(1));
    }
    Ok(value)
}

/// The object as it is stored after a write of one of its parts, still with the old resourceVersion; `None` when
/// nothing changes.
///
/// # Errors
/// A conflict, when the new JSON names another uid or resourceVersion; every fault of its metadata.
pub(super) fn updated(
    old: &Object,
    new: Value,
    part: Part,
    admit: Admit<'_>,
) -> Result<Option<Value>> {
    let key = old.key();
    let wanted = meta_text(&new, "uid");
    if !wanted.is_empty() && wanted != old.uid() {
        return Err(StoreError::OtherUid {
            key: key.clone(),
            wanted: wanted.to_owned(),
            found: old.uid().to_owned(),
        });
    }
    let version = meta_text(&new, "resourceVersion");
    if !version.is_empty() && version != meta_text(old.value(), "resourceVersion") {
        return Err(StoreError::Conflict(key.clone()));
    }
    let result = match part {
        Part::Object => object_updated(old, new, admit)?,
        Part::Status => status_updated(old, new, admit)?,
        Part::Scale => scale_updated(old, &new, admit)?,
    };
    Ok((result != *old.value()).then_some(result))
}

fn object_updated(old: &Object, mut new: Value, admit: Admit<'_>) -> Result<Value> {
    let key = old.key();
    complete(key, &mut new);
    check(key, &new)?;
    if old.is_deleting() {
        let before = finalizers(old.value());
        let added: Vec<&str> = finalizers(&new)
            .into_iter()
            .filter(|f| !before.contains(f))
            .collect();
        if !added.is_empty() {
            let problem = format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            return Err(StoreError::invalid(key, "metadata.finalizers", problem));
        }
    }
    // What only the store may say stays as it was, whatever the writer sent.
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ] {
        let kept = meta(old.value())
            .and_then(|m| m.get(field))
            .cloned()
            .unwrap_or(Value::Null);
        set_meta(&mut new, field, kept);
    }
    if key.kind.status_writes() == StatusWrites::SubResource {
        keep_status(old.value(), &mut new);
    }
    admit(&mut new)?;
    if counts_generations(key.kind) && asks_for_something_else(key.kind, old.value(), &new) {
        set_meta(&mut new, "generation", json!(generation(old.value()) + 1));
    }
    Ok(new)
}

fn status_updated(old: &Object, mut new: Value, admit: Admit<'_>) -> Result<Value> {
    if old.kind().status_writes() == StatusWrites::WithObject {
        return Err(StoreError::BadRequest(format!(
            "{} have no sub-resource status; write the object",
            old.kind().resource()
        )));
    }
    let status = new
        .get_mut("status")
        .map(Value::take)
        .filter(|s| !s.is_null());
    if status.as_ref().is_some_and(|s| !s.is_object()) {
        return Err(StoreError::invalid(
            old.key(),
            "status",
            "Invalid value: must be an object",
        ));
    }
    let mut result = old.value().clone();
    if let Some(object) = result.as_object_mut() {
        match status {
            Some(status) => object.insert("status".to_owned(), status),
            None => object.remove("status"),
        };
    }
    check_depth(old.key(), &result)?;
    admit(&mut result)?;
    Ok(result)
}

fn scale_updated(old: &Object, scale: &Value, admit: Admit<'_>) -> Result<Value> {
    if !old.kind().has_scale() {
        return Err(StoreError::BadRequest(format!(
            "{} have no sub-resource scale",
            old.kind().resource()
        )));
    }
    let fault = |problem: &str| Err(StoreError::invalid(old.key(), "spec.replicas", problem));
    let replicas = match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => 0,
        Some(number) => match number.as_i64() {
            Some(number) if i32::try_from(number).is_ok() => number,
            _ => return fault("Invalid value: must be a whole number"),
        },
    };
    if replicas < 0 {
        return fault("Invalid value: must be greater than or equal to 0");
    }
    let mut new = old.value().clone();
    if let Some(object) = new.as_object_mut()
        && let Some(spec) = object
            .entry("spec")
            .or_insert_with(|| json!({}))
            .as_object_mut()
    {
        spec.insert("replicas".to_owned(), json!(replicas));
    }
    object_updated(old, new, admit)
}

/// The sub-resource `scale` of an object.
///
/// # Errors
/// When its kind has none.
pub(crate) fn scale_of(object: &Object) -> Result<Value> {
    if !object.kind().has_scale() {
        return Err(StoreError::BadRequest(format!(
            "{} have no sub-resource scale",
            object.kind().resource()
        )));
    }
    // Rollouts count for the scaler in a field of their own (rollout-api 1); the others in `replicas`.
    let (replicas, selector) = match object.kind() {
        Kind::Rollout => (
            object.at("/status/HPAReplicas"),
            object.at("/status/selector").cloned(),
        ),
        _ => (object.at("/status/replicas"), None),
    };
    let selector = selector.unwrap_or_else(|| json!(labels_text(object)));
    let metadata: Value = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ]
    .into_iter()
    .filter_map(|field| Some((field.to_owned(), meta(object.value())?.get(field)?.clone())))
    .collect();
    Ok(json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": metadata,
        "spec": {"replicas": object.at("/spec/replicas").cloned().unwrap_or(json!(1))},
        "status": {"replicas": replicas.cloned().unwrap_or(json!(0)), "selector": selector},
    }))
}

fn labels_text(object: &Object) -> String {
    let selector = object.at("/spec/selector").cloned().unwrap_or(Value::Null);
    serde_json::from_value(selector)
        .map(|s| crossfade_api::selector::text(&s))
        .unwrap_or_default()
}

/// What a deletion does.
#[derive(Debug, PartialEq)]
pub(super) enum Removal {
    /// The object goes at once.
    Now,
    /// It stays for a while, so.
    Later(Value),
    /// It is on its way already.
    UnderWay,
}

/// What a deletion does to an object.
///
/// # Errors
/// A conflict, when a precondition does not hold.
pub(super) fn deleted(old: &Object, request: &Deletion, now: Timestamp) -> Result<Removal> {
    let key = old.key();
    if let Some(conditions) = &request.preconditions {
        if let Some(wanted) = conditions.uid.as_ref().filter(|u| *u != old.uid()) {
            return Err(StoreError::OtherUid {
                key: key.clone(),
                wanted: wanted.clone(),
                found: old.uid().to_owned(),
            });
        }
        if conditions
            .resource_version
            .as_ref()
            .is_some_and(|v| v != meta_text(old.value(), "resourceVersion"))
        {
            return Err(StoreError::Conflict(key.clone()));
        }
    }
    let foreground = match request.propagation_policy.as_deref() {
        None | Some("Background" | "Orphan") => false,
        Some("Foreground") => true,
        Some(other) => {
            return Err(StoreError::BadRequest(format!(
                "propagationPolicy {other:?} is none of Background, Foreground, Orphan"
            )));
        }
    };
    let grace = grace_seconds(old, request);
    let mut waits = old.value().clone();
    if foreground && !finalizers(&waits).contains(&FOREGROUND) {
        let mut names: Vec<Value> = finalizers(&waits).into_iter().map(Value::from).collect();
        names.push(json!(FOREGROUND));
        set_meta(&mut waits, "finalizers", Value::Array(names));
    }
    let kept = grace > 0 || !finalizers(&waits).is_empty() || key.kind == Kind::Namespace;
    if !kept {
        return Ok(Removal::Now);
    }
    let shortens = || {
        let before = meta(old.value())
            .and_then(|m| m.get("deletionGracePeriodSeconds"))
            .and_then(Value::as_i64);
        grace < before.unwrap_or(0)
    };
    if old.is_deleting() && !shortens() {
        return Ok(if waits == *old.value() {
            Removal::UnderWay
        } else {
            Removal::Later(waits)
        });
    }
    let end = now
        .checked_add(SignedDuration::from_secs(grace))
        .unwrap_or(now);
    set_meta(&mut waits, "deletionTimestamp", json!(wire_time(end)));
    set_meta(&mut waits, "deletionGracePeriodSeconds", json!(grace));
    if counts_generations(key.kind) && !old.is_deleting() {
        let next = generation(&waits) + 1;
        set_meta(&mut waits, "generation", json!(next));
    }
    if key.kind == Kind::Namespace
        && let Some(namespace) = waits.as_object_mut()
    {
        namespace.insert("status".to_owned(), json!({"phase": "Terminating"}));
    }
    Ok(Removal::Later(waits))
}

/// Seconds until a deleted pod must have ended; 0 for what has no process.
fn grace_seconds(old: &Object, request: &Deletion) -> i64 {
    let ended = matches!(
        old.at("/status/phase").and_then(Value::as_str),
        Some("Succeeded" | "Failed")
    );
    if old.kind() != Kind::Pod || ended {
        return 0;
    }
    let own = || {
        old.at("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64)
            .unwrap_or(DEFAULT_GRACE)
    };
    // A century is for ever; more would leave the calendar.
    request
        .grace_period_seconds
        .map_or_else(own, |s| i64::try_from(s).unwrap_or(i64::MAX))
        .clamp(0, 3_000_000_000)
}

/// Whether a deleted object has nothing left to wait for.
pub(super) fn is_over(value: &Value, kind: Kind) -> bool {
    let grace = meta(value)
        .and_then(|m| m.get("deletionGracePeriodSeconds"))
        .and_then(Value::as_i64)
        .unwrap_or(0);
    is_deleting(value) && grace == 0 && finalizers(value).is_empty() && kind != Kind::Namespace
}

/// Whether the kind counts how often its spec changed.
fn counts_generations(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::ConfigMap | Kind::Secret | Kind::Service | Kind::Namespace | Kind::Event
    )
}

/// Whether anything but the metadata (and the status, where that is apart) differs.
fn asks_for_something_else(kind: Kind, old: &Value, new: &Value) -> bool {
    let apart = kind.status_writes() == StatusWrites::SubResource;
    let matters = |(name, _): &(&String, &Value)| {
        !matches!(name.as_str(), "metadata" | "apiVersion" | "kind")
            && (!apart || *name != "status")
    };
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return true;
    };
    !old.iter().filter(matters).eq(new.iter().filter(matters))
}

fn keep_status(old: &Value, new: &mut Value) {
    let Some(new) = new.as_object_mut() else {
        return;
    };
    match old.get("status") {
        Some(status) => new.insert("status".to_owned(), status.clone()),
        None => new.remove("status"),
    };
}

/// Fills in what every stored object has, and drops what none has.
fn complete(key: &Key, value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object
            .entry("apiVersion")
            .or_insert_with(|| json!(key.kind.api_version()));
        object
            .entry("kind")
            .or_insert_with(|| json!(key.kind.name()));
    }
    set_meta(value, "name", json!(key.name));
    set_meta(
        value,
        "namespace",
        if key.namespace.is_empty() {
            Value::Null
        } else {
            json!(key.namespace)
        },
    );
    if let Some(metadata) = meta_mut(value) {
        for field in ["managedFields", "selfLink"] {
            metadata.remove(field);
        }
        // Empty and absent mean the same; writing one for the other must not look like a change.
        metadata.retain(|_, v| {
            !(v.is_null()
                || v.as_object().is_some_and(serde_json::Map::is_empty)
                || v.as_array().is_some_and(Vec::is_empty))
        });
    }
    if key.kind == Kind::Secret {
        secret::fold_string_data(value);
    }
}

fn check(key: &Key, value: &Value) -> Result<()> {
    let mut faults = names::faults(key, value);
    if key.kind == Kind::Secret {
        faults.extend(secret::faults(value));
    }
    for field in ["spec", "status"] {
        if value
            .get(field)
            .is_some_and(|v| !v.is_object() && !v.is_null())
        {
            faults.push(Fault::new(field, "Invalid value: must be an object"));
        }
    }
    if !faults.is_empty() {
        return Err(StoreError::Invalid {
            key: key.clone(),
            faults,
        });
    }
    check_depth(key, value)
}

fn check_depth(key: &Key, value: &Value) -> Result<()> {
    if depth(value) > DEEPEST {
        return Err(StoreError::BadRequest(format!(
            "{key} is nested deeper than {DEEPEST} levels"
        )));
    }
    Ok(())
}

/// Names of the fields in which two objects differ, for the audit trail: never a value, so that no secret can be in it.
pub(super) fn changed_fields(old: &Value, new: &Value) -> String {
    let mut found = Vec::new();
    collect_changes("", old, new, &mut found);
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    let mut text = found.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Fields named in one row of the audit trail.
const SHOWN: usize = 12;
/// Levels of a path in the audit trail: `spec.strategy.canary.steps` is as deep as helps a reader.
const LEVELS: usize = 4;

fn collect_changes(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        if old != new {
            found.push(path.to_owned());
        }
        return;
    };
    if !path.is_empty() && path.split('.').count() >= LEVELS {
        if old != new {
            found.push(path.to_owned());
        }
        return;
    }
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        if path == "metadata" && matches!(name.as_str(), "resourceVersion" | "generation") {
            continue;
        }
        let here = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        if here.ends_with(LAST_APPLIED) {
            continue;
        }
        let (one, other) = (
            before.get(name).unwrap_or(&Value::Null),
            after.get(name).unwrap_or(&Value::Null),
        );
        collect_changes(&here, one, other, found);
    }
}

/// The annotation's text, parsed: what `apply` was last told.
pub(super) fn last_applied(object: &Object) -> Option<Value> {
    let text = meta_map(object.value(), "annotations")?
        .get(LAST_APPLIED)?
        .as_str()?;
    serde_json::from_str(text).ok()
}
