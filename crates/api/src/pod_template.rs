//! Pod templates and Jobs, kept as the JSON that the user wrote.
//!
//! They are not decoded into Kubernetes types: a newer Kubernetes type would change what is hashed, and an
//! older one would lose fields. What the other rooms need is read and changed through methods. Cloning is
//! cheap; changing a shared template copies it first. One that nobody looks at for now can be folded: as text it takes a
//! tenth of the memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The pods of a version: `metadata` (labels, annotations) and `spec`.
#[derive(Clone, Default)]
pub struct PodTemplate(Arc<Kept>);

#[derive(Clone, Default)]
struct Kept {
    /// The template as text, once it was folded.
    text: Option<Arc<str>>,
    /// Made of the text when somebody looks, and kept from then on.
    json: OnceLock<Value>,
}

impl From<Value> for PodTemplate {
    fn from(template: Value) -> Self {
        Self(Arc::new(Kept {
            text: None,
            json: template.into(),
        }))
    }
}

impl fmt::Debug for PodTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PodTemplate").field(self.as_json()).finish()
    }
}

impl PartialEq for PodTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Serialize for PodTemplate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PodTemplate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

impl PodTemplate {
    /// The template as JSON; `null` when it is absent.
    pub fn as_json(&self) -> &Value {
        let Kept { text, json } = &*self.0;
        json.get_or_init(|| {
            let read = |text: &Arc<str>| serde_json::from_str(text).ok();
            text.as_ref().and_then(read).unwrap_or_default()
        })
    }

    /// The same template, kept as text until somebody looks at it.
    #[must_use]
    pub fn folded(&self) -> Self {
        let text = self.0.text.clone();
        let text = text.unwrap_or_else(|| self.as_json().to_string().into());
        Self(Arc::new(Kept {
            text: Some(text),
            json: OnceLock::new(),
        }))
    }

    /// The template as JSON, to be changed.
    fn json_mut(&mut self) -> &mut Value {
        self.as_json();
        let kept = Arc::make_mut(&mut self.0);
        kept.text = None;
        kept.json.get_mut().expect("it was looked at just now")
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
            .as_json()
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
        let metadata = self.as_json().get("metadata")?;
        metadata.get("labels")?.get(key)?.as_str()
    }

    /// The pod spec; `None` when it is absent.
    pub fn spec(&self) -> Option<&Map<String, Value>> {
        self.as_json().get("spec")?.as_object()
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
        let spec = member(object(self.json_mut()), "spec");
        match affinity {
            Some(affinity) => spec.insert("affinity".to_owned(), affinity),
            None => spec.remove("affinity"),
        };
    }

    fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        member(object(self.json_mut()), "metadata")
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_folded_template_is_read_and_changed_like_any_other() {
        let json = json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "web"}]}});
        let template = PodTemplate::from(json.clone());
        let folded = template.folded().folded();
        assert!(folded.0.json.get().is_none(), "nobody has looked");
        assert_eq!(folded.label("app"), Some("shop"));
        assert_eq!(folded, template);

        let mut changed = folded.folded();
        changed.set_label("app", "till");
        assert_eq!(changed.folded().label("app"), Some("till"));
        assert_eq!(folded.as_json(), &json, "the other stays");

        assert_eq!(PodTemplate::default().folded(), PodTemplate::default());
    }
}
