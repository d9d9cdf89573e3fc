//! An object as it comes from the API server: its JSON, and of its metadata what finding it again takes.
//!
//! Reading whole objects into types would cost most of the time that a watch takes; what decisions look at is taken out of the JSON once, when
//! the object enters a cache.

use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::fmt;

use crossfade_engine::action::Target;
use crossfade_engine::views;

/// Which object this is, and in which version.
pub(crate) fn target(metadata: &ObjectMeta) -> Target {
    Target {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// An object of any kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    metadata: ObjectMeta,
    json: Json,
}

/// The whole of an object. What a watch shows is read only where it is news: most of it is what we have written ourselves.
#[derive(Clone, Debug)]
enum Json {
    Read(Value),
    Unread(Box<RawValue>),
}

impl Default for Json {
    fn default() -> Self {
        Self::Read(Value::Null)
    }
}

impl Object {
    /// An object to be stored.
    pub(crate) fn new(json: Value) -> Self {
        let member = |pointer| Some(views::text(&json, pointer)).filter(|text| !text.is_empty());
        let metadata = ObjectMeta {
            name: member("/metadata/name").map(str::to_owned),
            namespace: member("/metadata/namespace").map(str::to_owned),
            uid: member("/metadata/uid").map(str::to_owned),
            resource_version: member("/metadata/resourceVersion").map(str::to_owned),
            ..ObjectMeta::default()
        };
        Self {
            metadata,
            json: Json::Read(json),
        }
    }

    /// The same, saying of what kind it is: what is listed does not.
    pub(crate) fn said(self, resource: &ApiResource) -> Self {
        let metadata = self.metadata.clone();
        let mut json = self.into_json();
        if let Value::Object(members) = &mut json {
            let (version, kind) = (&resource.api_version, &resource.kind);
            members
                .entry("apiVersion")
                .or_insert_with(|| version.clone().into());
            members.entry("kind").or_insert_with(|| kind.clone().into());
        }
        Self {
            metadata,
            json: Json::Read(json),
        }
    }

    /// Its JSON.
    pub(crate) fn into_json(self) -> Value {
        match self.json {
            Json::Read(json) => json,
            Json::Unread(text) => read(&text).unwrap_or_else(|why| {
                let metadata = json!(self.metadata);
                tracing::warn!(%metadata, "an object cannot be read, and counts as empty: {why}");
                json!({"metadata": metadata})
            }),
        }
    }
}

/// Reads an object without what only the API server is interested in.
///
/// # Errors
/// It is nested more deeply than anybody may nest, or holds a number that is none here.
fn read(text: &RawValue) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_str(text.get());
    reader.deserialize_map(Members)
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.json {
            Json::Read(json) => json.serialize(serializer),
            Json::Unread(text) => text.serialize(serializer),
        }
    }
}

/// What finding an object again takes.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: Identity,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let head: Head = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let identity = head.metadata;
        let metadata = ObjectMeta {
            name: identity.name,
            namespace: identity.namespace,
            uid: identity.uid,
            resource_version: identity.resource_version,
            ..ObjectMeta::default()
        };
        Ok(Self {
            metadata,
            json: Json::Unread(text),
        })
    }
}

/// Reads an object without what only the API server is interested in, which is often half of it.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = if key == "metadata" {
                map.next_value::<Metadata>()?.0
            } else {
                map.next_value()?
            };
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

struct Metadata(Value);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetadataMembers).map(Self)
    }
}

struct MetadataMembers;

impl<'de> Visitor<'de> for MetadataMembers {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "managedFields" {
                map.next_value::<IgnoredAny>()?;
            } else {
                members.insert(key, map.next_value()?);
            }
        }
        Ok(Value::Object(members))
    }
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_api_server_is_interested_in_is_not_read() {
        let text = r#"{"kind": "Rollout", "metadata": {"name": "web", "managedFields": [{"manager": "kubectl"}], "uid": "1"}, "spec": {"metadata": {"managedFields": 1}}}"#;
        let object: Object = serde_json::from_str(text).expect("it is an object");
        let expected = json!({
            "kind": "Rollout",
            "metadata": {"name": "web", "uid": "1"},
            "spec": {"metadata": {"managedFields": 1}},
        });
        assert_eq!(object.meta().name.as_deref(), Some("web"));
        assert_eq!(object.into_json(), expected);
    }

    #[test]
    fn an_object_that_cannot_be_read_is_still_the_one_it_is() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let text = format!(r#"{{"metadata": {{"name": "web", "uid": "1"}}, "spec": {deep}}}"#);
        let object: Object = serde_json::from_str(&text).expect("it is an object");
        let expected = json!({"metadata": {"name": "web", "uid": "1"}});
        assert_eq!(object.into_json(), expected);
    }
}
