//! What each router makes of a Canary: objects of our own, made from the Canary, with the shares of the two versions in them.
//!
//! One file a router. All of them plan the same way: what the object should be is computed whole, with the shares that are wanted, or, to repair
//! it, with those that it carries; what differs is written. So a repair never moves requests. Fields that no router writes stay.
//!
//! An object that was there before the Canary is taken over: its spec is kept in an annotation, once, and comes back when the Canary is deleted
//! and says so.

mod affinity;
mod gateway;
mod istio;
mod matches;
mod nginx;

use std::collections::BTreeMap;

use crossfade_api::flagger::CanaryService;
use crossfade_api::names::annotation::LAST_APPLIED;
use crossfade_api::split::Shares;
use crossfade_api::{Canary, Resource as _};
use serde_json::{Map, Value, json};

use crate::contract::{
    CanaryRouter, Change, Note, ObjectRef, Observed, RouteError, RoutedCanary, Settings, Write,
};
use crate::json::{metadata, object_at};
use crate::patch;

/// Keeps the spec of an object that was there before the Canary.
const ORIGINAL: &str = "flagger.kubernetes.io/original-configuration";
/// Other tools shall leave what we make alone.
const LEFT_ALONE: [(&str, &str); 2] = [
    ("kustomize.toolkit.fluxcd.io/reconcile", "disabled"),
    ("helm.toolkit.fluxcd.io/driftDetection", "disabled"),
];
/// Who can route the requests of Canaries, as manifests name them; `kubernetes` stands for nobody.
pub const CANARY_PROVIDERS: [&str; 5] = [
    "kubernetes",
    "nginx",
    "istio",
    "gatewayapi:v1",
    "gatewayapi:v1beta1",
];

/// The router of this name; `None` for `kubernetes`, which has no objects.
///
/// # Errors
/// Nobody can drive it: in words for the user.
pub fn canary_router(
    provider: &str,
    settings: &Settings,
) -> Result<Option<Box<dyn CanaryRouter>>, String> {
    match provider {
        "kubernetes" => Ok(None),
        "nginx" => Ok(Some(Box::new(nginx::Nginx::new(settings)))),
        "istio" => Ok(Some(Box::new(istio::Istio))),
        "gatewayapi:v1" => Ok(Some(Box::new(gateway::Gateway { is_beta: false }))),
        "gatewayapi:v1beta1" => Ok(Some(Box::new(gateway::Gateway { is_beta: true }))),
        other => Err(format!(
            "the provider {other} cannot be driven yet; use one of {}",
            CANARY_PROVIDERS.join(", ")
        )),
    }
}

/// All requests go to the primary.
const UNSPLIT: Shares = Shares {
    primary: 100,
    canary: 0,
    mirrored: false,
};

/// Names of the Services.
struct Names<'a> {
    apex: &'a str,
    primary: String,
    canary: String,
}

impl<'a> Names<'a> {
    fn of(canary: &'a Canary) -> Self {
        let apex = canary.spec.apex();
        Self {
            apex,
            primary: format!("{apex}-primary"),
            canary: format!("{apex}-canary"),
        }
    }
}

/// What the Canary says of its Services.
fn service(canary: &Canary) -> CanaryService {
    canary.spec.service.clone().unwrap_or_default()
}

/// The object; its absence is an error in the words of an API server.
fn must_get<'o>(observed: &'o Observed, object: &ObjectRef) -> Result<&'o Value, RouteError> {
    let named = |why: &str| format!("{} get query error: {why}", spoken(object));
    let found = observed
        .get(object)
        .map_err(|why| RouteError::world(named(&why.message)))?;
    found.ok_or_else(|| RouteError::user(named(&object.kind.not_found(&object.name))))
}

/// The object, if it is there.
fn try_get<'o>(
    observed: &'o Observed,
    object: &ObjectRef,
) -> Result<Option<&'o Value>, RouteError> {
    observed.get(object).map_err(|why| {
        RouteError::world(format!(
            "{} get query error: {}",
            spoken(object),
            why.message
        ))
    })
}

/// An object as texts name it.
fn spoken(object: &ObjectRef) -> String {
    let kind = match object.kind.kind.as_str() {
        "Ingress" => "ingress",
        kind => kind,
    };
    format!("{kind} {}.{}", object.name, object.namespace)
}

/// Makes an object that belongs to the Canary.
fn create(object: ObjectRef, canary: &Canary, mut made: Value, step: &str) -> Change {
    made["apiVersion"] = json!(object.kind.api_version());
    made["kind"] = json!(object.kind.kind);
    made["metadata"]["name"] = json!(object.name);
    made["metadata"]["namespace"] = json!(object.namespace);
    made["metadata"]["ownerReferences"] = json!([{
        "apiVersion": Canary::API_VERSION,
        "kind": Canary::KIND,
        "name": canary.name(),
        "uid": canary.metadata.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    }]);
    let failure = format!("{step}{} create error: {{}}", spoken(&object));
    Change {
        object,
        write: Write::Create(Box::new(made)),
        notes: Vec::new(),
        only_after: true,
        failure: Some(failure),
    }
}

/// Changes an object, if it differs.
fn update(object: ObjectRef, before: &Value, after: &Value, failure: String) -> Option<Change> {
    let patch = patch::between(before, after)?;
    Some(Change {
        object,
        write: Write::Patch(patch),
        notes: Vec::new(),
        only_after: true,
        failure: Some(failure),
    })
}

/// Whether both say the same: what is absent, null or empty does not count.
fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    fn bare(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let members = members.iter().map(|(key, value)| (key, bare(value)));
                let members = members.filter(|(_, value)| !is_nothing(value));
                let members = members.map(|(key, value)| (key.clone(), value));
                Value::Object(members.collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(bare).collect()),
            other => other.clone(),
        }
    }
    fn is_nothing(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Object(members) => members.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        }
    }
    let bare = |value: Option<&Value>| value.map(bare).filter(|value| !is_nothing(value));
    bare(one) == bare(other)
}

/// Sets fields of an object's spec, where they differ; `None` takes a field away.
fn set_fields(object: &mut Value, fields: Vec<(&str, Option<Value>)>) {
    let Some(spec) = object_at(object, &["spec"]) else {
        return;
    };
    for (field, wanted) in fields {
        if same(spec.get(field), wanted.as_ref()) {
            continue;
        }
        match wanted {
            Some(wanted) => spec.insert(field.to_owned(), wanted),
            None => spec.remove(field),
        };
    }
}

/// Annotations and labels of a router's main object.
struct Marks {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Marks {
    fn of(subject: &RoutedCanary<'_>) -> Self {
        let service = service(subject.canary);
        let mut labels = BTreeMap::new();
        let mut annotations = BTreeMap::new();
        if let Some(apex) = service.apex {
            labels = apex.labels;
            annotations = apex.annotations;
            if !subject.label.is_empty() {
                let name = subject.canary.spec.apex().to_owned();
                labels.insert(subject.label.to_owned(), name);
            }
        }
        annotations.extend(left_alone());
        Self {
            labels,
            annotations,
        }
    }

    /// Those of a new object.
    fn metadata(&self) -> Value {
        let mut metadata = Map::new();
        metadata.insert("annotations".to_owned(), json!(self.annotations));
        if !self.labels.is_empty() {
            metadata.insert("labels".to_owned(), json!(self.labels));
        }
        Value::Object(metadata)
    }

    /// Adds them to an object; what others put there stays.
    fn add(&self, object: &mut Value) {
        for (member, marks) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if marks.is_empty() {
                continue;
            }
            if let Some(there) = object_at(object, &["metadata", member]) {
                let marks = marks.iter().map(|(key, value)| (key.clone(), json!(value)));
                there.extend(marks);
            }
        }
    }

    /// Adds them to an object, and takes all others away but those by which it can be given back.
    fn replace(&self, object: &mut Value) {
        for (member, marks) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            let is_there = object
                .pointer("/metadata")
                .is_some_and(|metadata| metadata.get(member).is_some());
            if is_there && let Some(there) = object_at(object, &["metadata", member]) {
                there.retain(|key, _| {
                    let kept = [LAST_APPLIED, ORIGINAL].contains(&key.as_str());
                    marks.contains_key(key) || (member == "annotations" && kept)
                });
            }
        }
        self.add(object);
    }
}

fn left_alone() -> impl Iterator<Item = (String, String)> {
    LEFT_ALONE
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// Whether an object was made for a Canary.
fn is_made(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences");
    let owners = owners.and_then(Value::as_array);
    owners
        .into_iter()
        .flatten()
        .any(|owner| owner["controller"] == true && owner["kind"] == Canary::KIND)
}

/// Keeps the spec of an object that was there before the Canary, the first time that it is overwritten. Says so.
fn keep_original(object: &ObjectRef, before: &Value, after: &mut Value) -> Option<Note> {
    let has = |key: &str| metadata(before, "annotations", key).is_some();
    let is_changed = before.get("spec") != after.get("spec");
    if !is_changed || is_made(before) || has(LAST_APPLIED) || has(ORIGINAL) {
        return None;
    }
    let spec = before.get("spec").cloned().unwrap_or_else(|| json!({}));
    let annotations = object_at(after, &["metadata", "annotations"])?;
    annotations.insert(ORIGINAL.to_owned(), json!(spec.to_string()));
    let text = format!(
        "{} was there before and is taken over; its spec is kept in the annotation {ORIGINAL}",
        spoken(object)
    );
    Some(Note::normal("Synced", text))
}

/// Gives an object back as it was before the Canary.
fn restore(object: &ObjectRef, observed: &Observed) -> Result<Option<Change>, RouteError> {
    // What is gone needs nothing.
    let Some(before) = try_get(observed, object)? else {
        return Ok(None);
    };
    let source = [LAST_APPLIED, ORIGINAL]
        .into_iter()
        .find_map(|key| Some((key, metadata(before, "annotations", key)?)));
    let Some((key, text)) = source else {
        return Ok(None);
    };
    let kept: Value = serde_json::from_str(text).map_err(|why| {
        RouteError::user(format!(
            "{} failed to unMarshal annotation {key}: {why}",
            spoken(object)
        ))
    })?;
    let spec = if key == LAST_APPLIED {
        kept.get("spec").cloned().unwrap_or_default()
    } else {
        kept
    };
    let mut after = before.clone();
    if let Some(whole) = after.as_object_mut() {
        whole.insert("spec".to_owned(), spec);
    }
    if let Some(annotations) = object_at(&mut after, &["metadata", "annotations"]) {
        annotations.remove(ORIGINAL);
        for (key, _) in LEFT_ALONE {
            annotations.remove(key);
        }
    }
    let failure = format!("{} update error: {{}}", spoken(object));
    Ok(update(object.clone(), before, &after, failure))
}
