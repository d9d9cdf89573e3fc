//! The CustomResourceDefinitions, generated from the types.
//!
//! What Kubernetes must know beyond the shape of the types is added here: which lists are maps, which parts keep
//! anything, the few defaults that the API server applies. Those defaults are stored and therefore part of
//! hashes: exactly these, no more.

use std::sync::OnceLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

use crate::field_error::FieldError;
use crate::flagger;
use crate::resource::{
    self, AnalysisRun, AnalysisTemplate, ClusterAnalysisTemplate, Experiment, GROUP, Resource,
    Rollout,
};
use crate::schema::{self, Kind, PRESERVE};

/// The definitions of all kinds, Rollout first.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let read = |json: Value| {
        serde_json::from_value(json).expect("the definitions are made of known members")
    };
    definitions().into_iter().map(read).collect()
}

/// The definitions as YAML, with the names of their files.
pub fn render_all() -> Vec<(String, String)> {
    definitions()
        .into_iter()
        .map(|definition| {
            let plural = definition.pointer("/spec/names/plural").and_then(Value::as_str).unwrap_or_default();
            let head = "# Generated from crates/api; change the types there, then run `cargo xtask lint --fix`.\n";
            let body = serde_saphyr::to_string(&definition).expect("JSON can be written as YAML");
            (format!("{plural}.yaml"), format!("{head}{body}"))
        })
        .collect()
}

/// Fills in the defaults that a cluster's API server stores with an object, so that a template has the same hash
/// on one machine as in a cluster. Kinds without a definition stay as they are.
pub fn fill_stored_defaults(object: &mut Value) {
    if let Some(schema) = stored_schema(object) {
        fill(schema, object);
    }
}

/// The schema with which an API server keeps objects of this kind.
pub(crate) fn stored_schema(object: &Value) -> Option<&'static Value> {
    static SCHEMAS: OnceLock<Vec<((String, String), Value)>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(|| {
        let take = |definition: Value| {
            let spec = &definition["spec"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let group = text(&spec["group"]);
            let version = text(&spec["versions"][0]["name"]);
            (
                (format!("{group}/{version}"), text(&spec["names"]["kind"])),
                definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone(),
            )
        };
        definitions().into_iter().map(take).collect()
    });
    schemas
        .iter()
        .find(|((version, kind), _)| object["apiVersion"] == *version && object["kind"] == *kind)
        .map(|(_, schema)| schema)
}

/// Entries of lists that a cluster's API server refuses because an earlier entry has the same key, such as a second
/// `env` of one name. Defaults that are part of a key must have been filled in.
pub fn duplicate_entries(object: &Value) -> Vec<FieldError> {
    let mut found = Vec::new();
    if let Some(schema) = stored_schema(object) {
        collect_duplicates(schema, object, "", &mut found);
    }
    found
}

fn collect_duplicates(schema: &Value, value: &Value, path: &str, found: &mut Vec<FieldError>) {
    match value {
        Value::Object(members) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(member) = members.get(name) {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    collect_duplicates(property, member, &path, found);
                }
            }
        }
        Value::Array(items) => {
            let names = schema["x-kubernetes-list-map-keys"].as_array();
            let mut keys: Vec<Map<String, Value>> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                collect_duplicates(&schema["items"], item, &path, found);
                let Some(names) = names else { continue };
                let names = names.iter().filter_map(Value::as_str);
                let key = names
                    .filter_map(|name| Some((name.to_owned(), item.get(name)?.clone())))
                    .collect();
                if keys.contains(&key) {
                    found.push(FieldError::duplicate(path, &key));
                }
                keys.push(key);
            }
        }
        _ => {}
    }
}

fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = property.get("default")
                    && members.get(name).is_none_or(Value::is_null)
                {
                    members.insert(name.clone(), default.clone());
                }
                if let Some(member) = members.get_mut(name) {
                    fill(property, member);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| fill(&schema["items"], item)),
        _ => {}
    }
}

fn definitions() -> Vec<Value> {
    let mut definitions = vec![
        definition::<Rollout>(&rollout(), true),
        definition::<AnalysisRun>(&analysis_run(), false),
        definition::<Experiment>(&experiment(), false),
        definition::<AnalysisTemplate>(&template(), false),
        definition::<ClusterAnalysisTemplate>(&template(), false),
    ];
    definitions.extend(flagger::crd::definitions());
    definitions
}

fn definition<R: Resource>(schema: &Value, is_rollout: bool) -> Value {
    let kind = R::KIND;
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    let column =
        |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let mut columns = match kind {
        "Rollout" => vec![
            column("Desired", "integer", ".spec.replicas"),
            column("Current", "integer", ".status.replicas"),
            column("Up-to-date", "integer", ".status.updatedReplicas"),
            column("Available", "integer", ".status.availableReplicas"),
        ],
        "AnalysisRun" | "Experiment" => vec![column("Status", "string", ".status.phase")],
        _ => Vec::new(),
    };
    columns.push(age);
    let mut version = json!({
        "name": resource::API_VERSION.trim_start_matches("argoproj.io/"),
        "served": true,
        "storage": true,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    });
    if is_rollout {
        version["subresources"] = json!({
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.HPAReplicas",
                "labelSelectorPath": ".status.selector",
            },
        });
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{GROUP}", R::PLURAL)},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": R::PLURAL,
                "singular": kind.to_lowercase(),
                "shortNames": [R::SHORT],
            },
            "scope": if R::NAMESPACED { "Namespaced" } else { "Cluster" },
            "versions": [version],
        },
    })
}

/// The schema of a kind as the API server gets it: metadata is its own business.
fn whole(kind: Kind) -> Value {
    let mut schema = kind.schema();
    schema["properties"]["metadata"] = json!({"type": "object"});
    schema::for_each_schema(&mut schema, &mut |schema| {
        schema.remove("x-kept-as-json");
        let keys: Vec<_> = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|map| map.keys())
            .collect();
        if keys == ["matchExpressions", "matchLabels"] {
            schema.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
        }
    });
    schema
}

/// The part of a schema at a path of properties; `*` means the items of a list.
fn at<'s>(schema: &'s mut Value, path: &str) -> &'s mut Value {
    path.split('.').fold(schema, |schema, name| match name {
        "*" => &mut schema["items"],
        name => &mut schema["properties"][name],
    })
}

fn rollout() -> Value {
    let mut schema = whole(Kind::Rollout);
    at(&mut schema, "spec.selector")["x-kubernetes-validations"] =
        json!([{"rule": "self == oldSelf", "message": ".spec.selector is immutable"}]);
    pod_template(at(&mut schema, "spec.template"), Lists::AreMaps);
    let anything = json!({"type": "object", PRESERVE: true});
    *at(&mut schema, "spec.strategy.canary.trafficRouting.plugins") = anything.clone();
    *at(&mut schema, "status.canary.stepPluginStatuses.*.status") = anything;
    at(
        &mut schema,
        "spec.strategy.canary.steps.*.setHeaderRoute.match.*",
    )["required"] = json!(["headerName", "headerValue"]);
    schema
}

fn template() -> Value {
    let mut schema = whole(Kind::Template);
    metric(at(&mut schema, "spec.metrics.*"));
    schema
}

fn analysis_run() -> Value {
    let mut schema = whole(Kind::Run);
    metric(at(&mut schema, "spec.metrics.*"));
    schema
}

fn experiment() -> Value {
    let mut schema = whole(Kind::Experiment);
    pod_template(at(&mut schema, "spec.templates.*.template"), Lists::AreMaps);
    schema
}

fn metric(metric: &mut Value) {
    pod_template(at(metric, "provider.job.spec.template"), Lists::AreAtomic);
    *at(metric, "provider.plugin") = json!({"type": "object", PRESERVE: true});
    let datadog = at(metric, "provider.datadog");
    for (field, default) in [
        ("interval", "5m"),
        ("apiVersion", "v1"),
        ("requestTimeout", "10s"),
    ] {
        at(datadog, field)["default"] = json!(default);
    }
    at(datadog, "apiVersion")["enum"] = json!(["v1", "v2"]);
    at(datadog, "aggregator")["enum"] = json!([
        "avg",
        "min",
        "max",
        "sum",
        "last",
        "percentile",
        "mean",
        "l2norm",
        "area"
    ]);
}

/// How lists of a pod template are merged by the API server.
#[derive(Clone, Copy, PartialEq)]
enum Lists {
    /// Items are told apart by keys, and no key may occur twice.
    AreMaps,
    /// Lists are replaced whole.
    AreAtomic,
}

fn pod_template(template: &mut Value, lists: Lists) {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    *at(template, "metadata") =
        json!({"type": "object", "properties": {"labels": texts, "annotations": texts}});
    let spec = at(template, "spec");
    *at(spec, "volumes") = json!({PRESERVE: true});
    at(spec, "imagePullSecrets.*.name")["default"] = json!("");
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        let containers = at(spec, kind);
        container(at(containers, "*"), lists);
        is_map(containers, &["name"], lists);
    }
    for (list, keys) in [
        ("imagePullSecrets", &["name"][..]),
        ("resourceClaims", &["name"]),
        ("schedulingGates", &["name"]),
        ("hostAliases", &["ip"]),
        (
            "topologySpreadConstraints",
            &["topologyKey", "whenUnsatisfiable"],
        ),
    ] {
        is_map(at(spec, list), keys, lists);
    }
}

fn is_map(list: &mut Value, keys: &[&str], lists: Lists) {
    if lists == Lists::AreMaps {
        list["x-kubernetes-list-type"] = json!("map");
        list["x-kubernetes-list-map-keys"] = json!(keys);
    }
}

fn container(container: &mut Value, lists: Lists) {
    at(container, "ports.*.protocol")["default"] = json!("TCP");
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        at(container, probe)["properties"]["grpc"]["properties"]["service"]["default"] = json!("");
    }
    for source in ["configMapRef", "secretRef"] {
        at(container, &format!("envFrom.*.{source}.name"))["default"] = json!("");
    }
    for source in ["configMapKeyRef", "secretKeyRef"] {
        at(container, &format!("env.*.valueFrom.{source}.name"))["default"] = json!("");
    }
    at(container, "env.*.valueFrom.fileKeyRef.optional")["default"] = json!(false);
    for amounts in ["limits", "requests"] {
        *at(container, &format!("resources.{amounts}")) = json!({PRESERVE: true});
    }
    for (list, keys) in [
        ("env", &["name"][..]),
        ("ports", &["containerPort", "protocol"]),
        ("volumeMounts", &["mountPath"]),
        ("volumeDevices", &["devicePath"]),
    ] {
        is_map(at(container, list), keys, lists);
    }
    is_map(at(container, "resources.claims"), &["name"], lists);
}
