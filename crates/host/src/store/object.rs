//! An object as it is stored: its JSON, and the few facts about it that the store itself looks at.
//!
//! [`Object`] is immutable and shared; a write makes a new one. The functions on [`Value`] read and write
//! `metadata` and never fail: what is absent or of the wrong type reads as empty (the checks in `rules` refuse such
//! objects at the door).

use std::fmt;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::kind::Kind;

/// The annotation that holds the manifest as it was last applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Which object: kind, namespace (empty for kinds without) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for kinds without.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of a kind, a namespace and a name; for kinds without namespaces the namespace is dropped.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        let namespace = match kind.scope() {
            super::Scope::Namespaced => namespace.into(),
            super::Scope::Cluster => String::new(),
        };
        Self {
            kind,
            namespace,
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// A stored object.
#[derive(Clone, PartialEq)]
pub struct Object {
    key: Key,
    uid: String,
    revision: u64,
    bytes: usize,
    value: Value,
}

impl Object {
    /// The object with this JSON; its `metadata` holds uid and resourceVersion already.
    pub(super) fn new(key: Key, value: Value, revision: u64, bytes: usize) -> Self {
        let uid = meta_text(&value, "uid").to_owned();
        Self {
            key,
            uid,
            revision,
            bytes,
            value,
        }
    }

    /// Which object it is.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.key.kind
    }

    /// Its namespace; empty for kinds without.
    pub fn namespace(&self) -> &str {
        &self.key.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// Its uid: never used again, also when the name is.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Its resourceVersion, as a number.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Length of its JSON in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its JSON.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// A value below its root, by JSON pointer (`/spec/replicas`).
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer)
    }

    /// Its JSON decoded.
    ///
    /// # Errors
    /// When the JSON is not of that type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.value)
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        meta_map(&self.value, "labels")?.get(name)?.as_str()
    }

    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        meta_map(&self.value, "annotations")?.get(name)?.as_str()
    }

    /// Since when it is being deleted (pods: when their grace ends).
    pub fn deletion(&self) -> Option<Timestamp> {
        meta_text(&self.value, "deletionTimestamp").parse().ok()
    }

    /// Whether it is being deleted and only waits for finalizers or for its process to end.
    pub fn is_deleting(&self) -> bool {
        is_deleting(&self.value)
    }

    /// The uids that its ownerReferences name.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        owners(&self.value)
    }

    /// The uid of the owner that controls it.
    pub fn controller(&self) -> Option<&str> {
        references(&self.value)
            .iter()
            .find(|r| r.get("controller").and_then(Value::as_bool) == Some(true))
            .and_then(|r| r.get("uid"))
            .and_then(Value::as_str)
    }
}

/// Shows the key and never the content: a Secret has nothing to look for in a log, and of other objects the key is enough.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.key, self.revision)
    }
}

/// `metadata` of an object.
pub(super) fn meta(value: &Value) -> Option<&Map<String, Value>> {
    value.get("metadata")?.as_object()
}

/// `metadata` of an object, made if it is not there; `None` when the object is no JSON object.
pub(super) fn meta_mut(value: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = value
        .as_object_mut()?
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// A text in `metadata`; empty when absent.
pub(crate) fn meta_text<'a>(value: &'a Value, name: &str) -> &'a str {
    meta(value)
        .and_then(|m| m.get(name))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A map in `metadata`.
pub(super) fn meta_map<'a>(value: &'a Value, name: &str) -> Option<&'a Map<String, Value>> {
    meta(value)?.get(name)?.as_object()
}

/// Sets a field of `metadata`, or removes it when the value is null.
pub(super) fn set_meta(value: &mut Value, name: &str, field: Value) {
    if let Some(metadata) = meta_mut(value) {
        if field.is_null() {
            metadata.remove(name);
        } else {
            metadata.insert(name.to_owned(), field);
        }
    }
}

/// `metadata.generation`; 0 when absent.
pub(super) fn generation(value: &Value) -> i64 {
    meta(value)
        .and_then(|m| m.get("generation"))
        .and_then(Value::as_i64)
        .unwrap_or(0)
}

/// Whether `metadata.deletionTimestamp` is set.
pub(super) fn is_deleting(value: &Value) -> bool {
    !meta_text(value, "deletionTimestamp").is_empty()
}

/// `metadata.finalizers`.
pub(super) fn finalizers(value: &Value) -> Vec<&str> {
    list(value, "finalizers")
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

/// `metadata.ownerReferences`.
pub(super) fn references(value: &Value) -> &[Value] {
    list(value, "ownerReferences")
}

/// The uids in `metadata.ownerReferences`.
pub(super) fn owners(value: &Value) -> impl Iterator<Item = &str> {
    references(value)
        .iter()
        .filter_map(|r| r.get("uid"))
        .filter_map(Value::as_str)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    meta(value)
        .and_then(|m| m.get(name))
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A time as Kubernetes writes it: UTC, whole seconds, cut.
pub(super) fn wire_time(time: Timestamp) -> String {
    let second = Timestamp::from_second(time.as_second()).unwrap_or(time);
    second.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_absent_or_odd_reads_as_empty() {
        for odd in [
            json!(null),
            json!([]),
            json!({}),
            json!({"metadata": null}),
            json!({"metadata": {"uid": 3, "finalizers": {}, "ownerReferences": "x"}}),
        ] {
            assert_eq!(meta_text(&odd, "uid"), "");
            assert!(finalizers(&odd).is_empty());
            assert_eq!(owners(&odd).count(), 0);
            assert!(!is_deleting(&odd));
        }
    }

    #[test]
    fn times_are_written_in_whole_seconds_cut() {
        let time: Timestamp = "2026-03-01T10:00:00.999Z".parse().unwrap();
        assert_eq!(wire_time(time), "2026-03-01T10:00:00Z");
    }

    #[test]
    fn debug_output_of_a_secret_never_shows_its_data() {
        let value =
            json!({"metadata": {"name": "s", "uid": "u"}, "data": {"password": "aHVudGVyMg=="}});
        let object = Object::new(Key::new(Kind::Secret, "d", "s"), value, 7, 10);
        assert_eq!(format!("{object:?}"), "Secret/d/s at 7");
    }
}
