//! Pod templates and Jobs, kept as the JSON that the user wrote.
//!
//! They are not decoded into Kubernetes types: a newer Kubernetes type would change what is hashed, and an
//! older one would lose fields. What the other rooms need is read and changed through methods. Cloning is
//! cheap; changing a shared template copies it first.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The pods of a version: `metadata` (labels, annotations) and `spec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodTemplate(Arc<Value>);

impl From<Value> for PodTemplate {
    fn from(template: Value) -> Self {
        Self(Arc::new(template))
    }
}

impl PodTemplate {
    /// The template as JSON; `null` when it is absent.
    pub fn as_json(&self) -> &Value {
        &self.0
    }

    /// True when neither labels nor annotations are given: the test for "no template" beside a `workloadRef`.
    pub fn has_no_metadata(&self) -> bool {
        self.labels().is_empty() && self.annotations().is_empty()
    }

    /// The labels of the pods.
    pub fn labels(&self) -> BTreeMap<&str, &str> {
        self.metadata("labels")
    }

    /// The annotations of the pods.
    pub fn annotations(&self) -> BTreeMap<&str, &str> {
        self.metadata("annotations")
    }

    fn metadata(&self, member: &str) -> BTreeMap<&str, &str> {
        let entries = self
            .0
            .get("metadata")
            .and_then(|metadata| metadata.get(member))
            .and_then(Value::as_object);
        entries
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect()
    }

    /// One label of the pods.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.0.get("metadata")?.get("labels")?.get(key)?.as_str()
    }

    /// The pod spec; `None` when it is absent.
    pub fn spec(&self) -> Option<&Map<String, Value>> {
        self.0.get("spec")?.as_object()
    }

    /// The containers in order, init containers left out.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        self.list("containers")
    }

    /// The init containers in order.
    pub fn init_containers(&self) -> impl Iterator<Item = &Value> {
        self.list("initContainers")
    }

    fn list(&self, member: &str) -> impl Iterator<Item = &Value> {
        self.spec()
            .and_then(|spec| spec.get(member))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    /// The affinity of the pods.
    pub fn affinity(&self) -> Option<&Value> {
        self.spec()?.get("affinity")
    }

    /// Sets a label of the pods.
    pub fn set_label(&mut self, key: &str, value: &str) {
        member(self.metadata_mut(), "labels").insert(key.to_owned(), value.into());
    }

    /// Sets an annotation of the pods.
    pub fn set_annotation(&mut self, key: &str, value: &str) {
        member(self.metadata_mut(), "annotations").insert(key.to_owned(), value.into());
    }

    /// Removes a label of the pods; the map goes when it was the last.
    pub fn remove_label(&mut self, key: &str) {
        self.remove("labels", key);
    }

    /// Removes an annotation of the pods; the map goes when it was the last.
    pub fn remove_annotation(&mut self, key: &str) {
        self.remove("annotations", key);
    }

    /// Replaces the affinity of the pods; `None` removes it.
    pub fn set_affinity(&mut self, affinity: Option<Value>) {
        let spec = member(object(Arc::make_mut(&mut self.0)), "spec");
        match affinity {
            Some(affinity) => spec.insert("affinity".to_owned(), affinity),
            None => spec.remove("affinity"),
        };
    }

    fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        member(object(Arc::make_mut(&mut self.0)), "metadata")
    }

    fn remove(&mut self, map: &str, key: &str) {
        if !self.metadata(map).contains_key(key) {
            return;
        }
        let metadata = self.metadata_mut();
        let entries = member(metadata, map);
        entries.remove(key);
        if entries.is_empty() {
            metadata.remove(map);
        }
    }
}

/// The value as an object; anything else becomes an empty one.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value
        .as_object_mut()
        .expect("it was made an object just now")
}

/// A member as an object, made when it is missing.
fn member<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    object(map.entry(key).or_insert(Value::Null))
}

impl JsonSchema for PodTemplate {
    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        crate::schema::kept_as_json::<k8s_openapi::api::core::v1::PodTemplateSpec>()
    }
}

/// The spec of a Job that measures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobSpec(Arc<Value>);

impl From<Value> for JobSpec {
    fn from(spec: Value) -> Self {
        Self(Arc::new(spec))
    }
}

impl JobSpec {
    /// The spec as JSON; `null` when it is absent.
    pub fn as_json(&self) -> &Value {
        &self.0
    }
}

impl JsonSchema for JobSpec {
    fn schema_name() -> Cow<'static, str> {
        "JobSpec".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        crate::schema::kept_as_json::<k8s_openapi::api::batch::v1::JobSpec>()
    }
}
