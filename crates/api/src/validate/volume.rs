//! Kubernetes' rules for volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field_error::FieldError;
use crate::validate::json::Node;
use crate::validate::names;
use crate::validate::pod_spec::required;

/// Every kind of volume, in the order in which Kubernetes looks at them.
const KINDS: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// What a kind of volume cannot do without.
const NEEDED: [(&str, &[&str]); 8] = [
    ("hostPath", &["path"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("configMap", &["name"]),
    ("csi", &["driver"]),
];

/// Checks the volumes of a pod and gives their names.
pub(crate) fn all<'a>(pod: &Node<'a>, errors: &mut Vec<FieldError>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for volume in pod.objects("volumes") {
        let name = volume.text("name");
        let path = volume.child_path("name");
        if name.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else {
            errors.extend(names::at(&path, name, names::dns_label(name)));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path, name));
            }
        }
        source(&volume, errors);
    }
    seen
}

fn source(volume: &Node, errors: &mut Vec<FieldError>) {
    let given = volume.given(&KINDS);
    for second in given.iter().skip(1) {
        let detail = "may not specify more than 1 volume type";
        errors.push(FieldError::forbidden(volume.child_path(second), detail));
    }
    for (kind, fields) in NEEDED {
        if let Some(source) = volume.object(kind) {
            for field in fields {
                required(&source, field, errors);
            }
        }
    }
    if let Some(path) = volume
        .object("hostPath")
        .filter(|path| path.text("path").split('/').any(|part| part == ".."))
    {
        errors.push(FieldError::invalid(
            path.child_path("path"),
            path.text("path"),
            "must not contain '..'",
        ));
    }
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.object(kind) {
            modes(&source, errors);
        }
    }
}

fn modes(source: &Node, errors: &mut Vec<FieldError>) {
    let detail = "must be a number between 0 and 0777 (octal), both inclusive";
    if let Some(mode) = source.value("defaultMode").filter(|mode| !is_mode(mode)) {
        errors.push(FieldError::invalid(
            source.child_path("defaultMode"),
            mode,
            detail,
        ));
    }
    for item in source.objects("items") {
        if let Some(mode) = item.value("mode").filter(|mode| !is_mode(mode)) {
            errors.push(FieldError::invalid(item.child_path("mode"), mode, detail));
        }
    }
}

fn is_mode(value: &Value) -> bool {
    value
        .as_i64()
        .is_none_or(|mode| (0..=0o777).contains(&mode))
}
