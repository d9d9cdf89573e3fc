//! `crossfade apply`: manifests and overlays become objects.
//!
//! Three-way: what the manifest says is so, what it said last time and no longer says goes, and what others own stays.
//! The last manifest is remembered in an annotation, as `kubectl` does. One request is one transaction: with a fault
//! in any document, none is applied, and the faults of all are told.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::error::{Result, StoreError};
use super::kind::{Kind, Scope, StatusWrites, harmless};
use super::object::{Key, LAST_APPLIED, Object, finalizers, meta_mut, meta_text};
use super::overlays::{overlaid, text};
use super::patch::three_way;
use super::rules::last_applied;
use super::secret;
use super::transaction::Transaction;
use crate::wire::{Applied, ApplyRequest, ApplyResult, Part};

/// What to do where a field cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immutable {
    /// Refuse.
    Refuse,
    /// Delete the object and create it anew; what it owns goes with it.
    Replace,
}

/// Applies a request; `namespace` is for documents that name none.
///
/// # Errors
/// Every fault of every document.
pub(super) fn apply(
    transaction: &mut Transaction<'_>,
    request: ApplyRequest,
    namespace: &str,
    immutable: Immutable,
) -> Result<Vec<Applied>> {
    let documents = overlaid(request, namespace).map_err(StoreError::BadRequest)?;
    let mut applied = Vec::new();
    let mut refused = Vec::new();
    for document in documents {
        match apply_one(transaction, document, namespace, immutable) {
            Ok(one) => applied.push(one),
            Err(error) => refused.push(error),
        }
    }
    if refused.len() == 1 {
        refused.pop().map_or(Ok(applied), Err)
    } else if refused.is_empty() {
        Ok(applied)
    } else {
        Err(StoreError::Several(refused))
    }
}

fn apply_one(
    transaction: &mut Transaction<'_>,
    mut wanted: Value,
    namespace: &str,
    immutable: Immutable,
) -> Result<Applied> {
    let (api_version, kind_name) = (
        text(&wanted, "apiVersion").to_owned(),
        text(&wanted, "kind").to_owned(),
    );
    let name = meta_text(&wanted, "name").to_owned();
    if api_version.is_empty() {
        return Err(StoreError::BadRequest(format!(
            "{kind_name} {name:?} has no apiVersion"
        )));
    }
    if name.is_empty() {
        return Err(StoreError::BadRequest(format!(
            "a {kind_name} has no metadata.name"
        )));
    }
    let own = meta_text(&wanted, "namespace");
    let namespace = if own.is_empty() { namespace } else { own }.to_owned();
    let mut applied = Applied {
        api_version,
        kind: kind_name,
        name,
        namespace,
        result: ApplyResult::Unchanged,
        warnings: Vec::new(),
    };
    let Some(kind) = Kind::of(&applied.api_version, &applied.kind) else {
        let Some(why) = harmless(&applied.api_version, &applied.kind) else {
            return Err(StoreError::unknown_kind(
                &applied.api_version,
                &applied.kind,
            ));
        };
        applied
            .warnings
            .push(format!("{} \"{}\" {why}", applied.kind, applied.name));
        return Ok(applied);
    };
    if kind.scope() == Scope::Cluster {
        applied.namespace.clear();
    }
    let key = Key::new(kind, &applied.namespace, &applied.name);
    clean(kind, &mut wanted);
    let remembered = manifest(kind, &wanted);
    let old = transaction.find(&key).cloned();
    applied.result = match &old {
        None => create(transaction, &key, &wanted, &remembered)?,
        Some(old) => {
            if old.is_deleting() {
                applied.warnings.push(format!(
                    "{} \"{}\" is being deleted",
                    applied.kind, applied.name
                ));
            }
            configure(transaction, old, &wanted, &remembered, immutable)?
        }
    };
    applied.warnings.extend(transaction.take_warnings());
    Ok(applied)
}

/// Removes what only the store may say: exported manifests carry it.
fn clean(kind: Kind, wanted: &mut Value) {
    if let Some(metadata) = meta_mut(wanted) {
        for field in [
            "uid",
            "creationTimestamp",
            "generation",
            "managedFields",
            "selfLink",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            metadata.remove(field);
        }
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
    }
    if kind == Kind::Secret {
        secret::fold_string_data(wanted);
    }
}

/// What the annotation remembers: all that a manifest can own.
fn manifest(kind: Kind, wanted: &Value) -> String {
    let mut manifest = secret::blanked(kind, wanted.clone());
    if let Some(metadata) = meta_mut(&mut manifest) {
        metadata.remove("resourceVersion");
    }
    if let (StatusWrites::SubResource, Some(object)) =
        (kind.status_writes(), manifest.as_object_mut())
    {
        object.remove("status");
    }
    manifest.to_string()
}

fn remember(object: &mut Value, manifest: &str) {
    if let Some(metadata) = meta_mut(object) {
        let annotations = metadata
            .entry("annotations")
            .or_insert_with(|| Value::Object(Map::new()));
        if annotations.is_null() {
            *annotations = Value::Object(Map::new());
        }
        // Annotations that are no map are refused with their path when the object is checked.
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(LAST_APPLIED.to_owned(), json!(manifest));
        }
    }
}

fn create(
    transaction: &mut Transaction<'_>,
    key: &Key,
    wanted: &Value,
    remembered: &str,
) -> Result<ApplyResult> {
    // A null in a manifest means that the field shall not be there.
    let mut new = three_way(None, wanted, &json!({}));
    if let Some(metadata) = meta_mut(&mut new) {
        metadata.remove("resourceVersion");
    }
    remember(&mut new, remembered);
    transaction.create(key.kind, &key.namespace, new)?;
    Ok(ApplyResult::Created)
}

fn configure(
    transaction: &mut Transaction<'_>,
    old: &Arc<Object>,
    wanted: &Value,
    remembered: &str,
    immutable: Immutable,
) -> Result<ApplyResult> {
    let mut new = three_way(last_applied(old).as_ref(), wanted, old.value());
    remember(&mut new, remembered);
    match transaction.replace(old, new, Part::Object, "apply") {
        Ok(now) if Arc::ptr_eq(&now, old) => Ok(ApplyResult::Unchanged),
        Ok(_) => Ok(ApplyResult::Configured),
        Err(error) if immutable == Immutable::Replace && error.is_immutable() => {
            if !finalizers(old.value()).is_empty() {
                let why = "it cannot be replaced while it has finalizers".to_owned();
                return Err(StoreError::Forbidden {
                    key: old.key().clone(),
                    why,
                });
            }
            let last = old.value().clone();
            transaction.remove(old, last)?;
            create(transaction, old.key(), wanted, remembered)?;
            Ok(ApplyResult::Configured)
        }
        Err(error) => Err(error),
    }
}
