//! What a pod template means once Kubernetes has filled in its defaults, and what a controller put into it.
//!
//! Spelling out a default must not make a new version, so templates are compared after the same defaults
//! were filled into both.

use serde_json::{Map, Value, json};

use crate::names::label;
use crate::pod_template::PodTemplate;
use crate::quantity;
use crate::rollout::PodTemplateMetadata;

/// The template with Kubernetes' defaults, amounts rounded up to thousandths, without `serviceAccount` and
/// without empty affinities.
pub fn with_defaults(template: &PodTemplate) -> PodTemplate {
    let mut json = template.as_json().clone();
    if let Some(spec) = json.get_mut("spec").and_then(Value::as_object_mut) {
        pod_spec(spec);
    }
    json.into()
}

/// A ReplicaSet's template without what the controller put into it: the hash label, the labels and annotations
/// of its role (`injected`; where the user's template has the key, its value comes back), and anti-affinity
/// terms against another version.
#[must_use]
pub fn without_injected(
    template: &PodTemplate,
    injected: &PodTemplateMetadata,
    wanted: &PodTemplate,
) -> PodTemplate {
    let mut plain = template.clone();
    plain.remove_label(label::POD_HASH);
    for key in injected.labels.keys() {
        match wanted.labels().get(key.as_str()) {
            Some(value) => plain.set_label(key, value),
            None => plain.remove_label(key),
        }
    }
    for key in injected.annotations.keys() {
        match wanted.annotations().get(key.as_str()) {
            Some(value) => plain.set_annotation(key, value),
            None => plain.remove_annotation(key),
        }
    }
    if let Some(mut affinity) = plain.affinity().cloned()
        && remove_injected_terms(&mut affinity)
    {
        prune_affinity(&mut affinity);
        plain.set_affinity(
            Some(affinity)
                .filter(|affinity| affinity.as_object().is_none_or(|map| !map.is_empty())),
        );
    }
    plain
}

/// Removes anti-affinity terms that name a version; true when there was one.
fn remove_injected_terms(affinity: &mut Value) -> bool {
    let mut found = false;
    let Some(pods) = affinity.get_mut("podAntiAffinity") else {
        return false;
    };
    for (list, term_path) in [
        (
            "requiredDuringSchedulingIgnoredDuringExecution",
            "/labelSelector/matchExpressions",
        ),
        (
            "preferredDuringSchedulingIgnoredDuringExecution",
            "/podAffinityTerm/labelSelector/matchExpressions",
        ),
    ] {
        if let Some(terms) = pods.get_mut(list).and_then(Value::as_array_mut) {
            let before = terms.len();
            terms.retain(|term| !names_a_version(term.pointer(term_path)));
            found |= terms.len() < before;
        }
    }
    found
}

fn names_a_version(expressions: Option<&Value>) -> bool {
    let expressions = expressions.and_then(Value::as_array).into_iter().flatten();
    expressions
        .filter_map(|expression| expression.get("key"))
        .any(|key| key == label::POD_HASH)
}

/// Removes empty lists and what held only them.
fn prune_affinity(affinity: &mut Value) {
    let Some(kinds) = affinity.as_object_mut() else {
        return;
    };
    kinds.retain(|_, kind| {
        if let Some(members) = kind.as_object_mut() {
            members.retain(|_, list| !is_empty(list));
        }
        !is_empty(kind)
    });
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(_) => false,
    }
}

/// Sets a member that is absent, null, zero or an empty text.
fn fill(map: &mut Map<String, Value>, key: &str, default: Value) {
    let absent = map.get(key).is_none_or(|value| match value {
        Value::Object(_) | Value::Bool(_) => false,
        other => is_empty(other),
    });
    if absent {
        map.insert(key.to_owned(), default);
    }
}

/// Sets a member that is absent or null; an explicit zero stays.
fn fill_absent(map: &mut Map<String, Value>, key: &str, default: Value) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), default);
    }
}

fn member<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(key)?.as_object_mut()
}

fn objects<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

fn pod_spec(spec: &mut Map<String, Value>) {
    spec.remove("serviceAccount");
    fill(spec, "dnsPolicy", json!("ClusterFirst"));
    fill(spec, "restartPolicy", json!("Always"));
    fill_absent(spec, "securityContext", json!({}));
    fill_absent(spec, "terminationGracePeriodSeconds", json!(30));
    fill(spec, "schedulerName", json!("default-scheduler"));
    if let Some(affinity) = spec.get_mut("affinity") {
        prune_affinity(affinity);
        if is_empty(affinity) {
            spec.remove("affinity");
        }
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        objects(spec, list).for_each(container);
    }
    objects(spec, "volumes").for_each(volume);
}

fn container(container: &mut Map<String, Value>) {
    let policy = pull_policy(
        container
            .get("image")
            .and_then(Value::as_str)
            .unwrap_or_default(),
    );
    fill(container, "imagePullPolicy", json!(policy));
    fill(
        container,
        "terminationMessagePath",
        json!("/dev/termination-log"),
    );
    fill(container, "terminationMessagePolicy", json!("File"));
    for port in objects(container, "ports") {
        fill(port, "protocol", json!("TCP"));
    }
    for env in objects(container, "env") {
        let Some(source) = member(env, "valueFrom") else {
            continue;
        };
        if let Some(field) = member(source, "fieldRef") {
            fill(field, "apiVersion", json!("v1"));
        }
        if let Some(file) = member(source, "fileKeyRef") {
            fill_absent(file, "optional", json!(false));
        }
    }
    if let Some(resources) = member(container, "resources") {
        for amounts in ["limits", "requests"] {
            for amount in member(resources, amounts)
                .into_iter()
                .flat_map(Map::values_mut)
            {
                if let Some(quantity) = quantity::read(amount) {
                    *amount = quantity.rounded_up_to_milli().canonical().into();
                }
            }
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = member(container, probe) {
            fill(probe, "timeoutSeconds", json!(1));
            fill(probe, "periodSeconds", json!(10));
            fill(probe, "successThreshold", json!(1));
            fill(probe, "failureThreshold", json!(3));
            http_get(probe);
            if let Some(grpc) = member(probe, "grpc") {
                fill_absent(grpc, "service", json!(""));
            }
        }
    }
    if let Some(lifecycle) = member(container, "lifecycle") {
        for handler in ["postStart", "preStop"] {
            if let Some(handler) = member(lifecycle, handler) {
                http_get(handler);
            }
        }
    }
}

fn http_get(handler: &mut Map<String, Value>) {
    if let Some(get) = member(handler, "httpGet") {
        fill(get, "path", json!("/"));
        fill(get, "scheme", json!("HTTP"));
    }
}

/// `Always` for an image with the tag `latest`, or with neither tag nor digest.
fn pull_policy(image: &str) -> &'static str {
    if image.is_empty() || image.contains('@') {
        return "IfNotPresent";
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn volume(volume: &mut Map<String, Value>) {
    let has_source = volume
        .iter()
        .any(|(key, value)| key != "name" && !value.is_null());
    if !has_source {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = member(volume, kind) {
            fill_absent(source, "defaultMode", json!(420));
        }
    }
    if let Some(source) = member(volume, "downwardAPI") {
        downward_items(source);
    }
    if let Some(source) = member(volume, "projected") {
        for projection in objects(source, "sources") {
            if let Some(downward) = member(projection, "downwardAPI") {
                downward_items(downward);
            }
            if let Some(token) = member(projection, "serviceAccountToken") {
                fill_absent(token, "expirationSeconds", json!(3600));
            }
        }
    }
    if let Some(source) = member(volume, "hostPath") {
        fill_absent(source, "type", json!(""));
    }
    if let Some(claim) = member(volume, "ephemeral")
        .and_then(|source| member(source, "volumeClaimTemplate"))
        .and_then(|template| member(template, "spec"))
    {
        fill_absent(claim, "volumeMode", json!("Filesystem"));
    }
    if let Some(source) = member(volume, "image") {
        let policy = pull_policy(
            source
                .get("reference")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        );
        fill(source, "pullPolicy", json!(policy));
    }
    storage_systems(volume);
}

fn downward_items(source: &mut Map<String, Value>) {
    for item in objects(source, "items") {
        if let Some(field) = member(item, "fieldRef") {
            fill(field, "apiVersion", json!("v1"));
        }
    }
}

fn storage_systems(volume: &mut Map<String, Value>) {
    if let Some(iscsi) = member(volume, "iscsi") {
        fill(iscsi, "iscsiInterface", json!("default"));
    }
    if let Some(rbd) = member(volume, "rbd") {
        fill(rbd, "pool", json!("rbd"));
        fill(rbd, "user", json!("admin"));
        fill(rbd, "keyring", json!("/etc/ceph/keyring"));
    }
    if let Some(disk) = member(volume, "azureDisk") {
        fill_absent(disk, "cachingMode", json!("ReadWrite"));
        fill_absent(disk, "fsType", json!("ext4"));
        fill_absent(disk, "readOnly", json!(false));
        fill_absent(disk, "kind", json!("Shared"));
    }
    if let Some(scale_io) = member(volume, "scaleIO") {
        fill(scale_io, "storageMode", json!("ThinProvisioned"));
        fill(scale_io, "fsType", json!("xfs"));
    }
}
