//! Which names, labels and annotations an object may carry: Kubernetes' rules and texts.

use serde_json::Value;

use super::error::Fault;
use super::kind::{Kind, Scope};
use super::object::{Key, finalizers, meta, references};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name')";
const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue')";

/// Every fault in the `metadata` of an object that has this key.
pub(super) fn faults(key: &Key, value: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut check = |field: &str, text: &str, wrong: Option<String>| {
        if let Some(why) = wrong {
            faults.push(Fault::new(field, format!("Invalid value: {text:?}: {why}")));
        }
    };
    check("metadata.name", &key.name, name_fault(key.kind, &key.name));
    if key.kind.scope() == Scope::Namespaced {
        check(
            "metadata.namespace",
            &key.namespace,
            label_fault(&key.namespace),
        );
    }
    let Some(metadata) = meta(value) else {
        faults.push(Fault::new("metadata", "Required value"));
        return faults;
    };
    for (field, what) in [("labels", "label"), ("annotations", "annotation")] {
        faults.extend(map_faults(field, what, metadata.get(field)));
    }
    for field in [
        "uid",
        "resourceVersion",
        "generateName",
        "deletionTimestamp",
        "creationTimestamp",
    ] {
        if metadata
            .get(field)
            .is_some_and(|v| !v.is_string() && !v.is_null())
        {
            faults.push(Fault::new(
                format!("metadata.{field}"),
                "Invalid value: must be a string",
            ));
        }
    }
    faults.extend(list_faults(value));
    faults
}

fn map_faults(field: &str, what: &str, map: Option<&Value>) -> Vec<Fault> {
    let path = format!("metadata.{field}");
    let map = match map {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Object(map)) => map,
        Some(_) => return vec![Fault::new(path, "Invalid value: must be a map of strings")],
    };
    let mut faults = Vec::new();
    for (name, value) in map {
        if let Some(why) = qualified_fault(name) {
            faults.push(Fault::new(&path, format!("Invalid value: {name:?}: {why}")));
        }
        match value.as_str() {
            None => faults.push(Fault::new(
                format!("{path}[{name}]"),
                format!("Invalid value: {value}: the value of a {what} must be a string; put it in quotes"),
            )),
            Some(text) if what == "label" => {
                if let Some(why) = label_value_fault(text) {
                    faults.push(Fault::new(&path, format!("Invalid value: {text:?}: {why}")));
                }
            }
            Some(_) => {}
        }
    }
    faults
}

fn list_faults(value: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    let list = |field: &str| {
        meta(value)
            .and_then(|m| m.get(field))
            .filter(|v| !v.is_null())
    };
    for field in ["finalizers", "ownerReferences"] {
        if list(field).is_some_and(|v| !v.is_array()) {
            faults.push(Fault::new(
                format!("metadata.{field}"),
                "Invalid value: must be a list",
            ));
        }
    }
    if list("finalizers")
        .and_then(Value::as_array)
        .is_some_and(|l| l.len() != finalizers(value).len())
    {
        faults.push(Fault::new(
            "metadata.finalizers",
            "Invalid value: must be a list of strings",
        ));
    }
    for finalizer in finalizers(value) {
        if let Some(why) = qualified_fault(finalizer) {
            faults.push(Fault::new(
                "metadata.finalizers",
                format!("Invalid value: {finalizer:?}: {why}"),
            ));
        }
    }
    let mut controllers = 0;
    for (index, reference) in references(value).iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if reference
                .get(field)
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
            {
                faults.push(Fault::new(
                    format!("metadata.ownerReferences[{index}].{field}"),
                    "Required value",
                ));
            }
        }
        controllers +=
            usize::from(reference.get("controller").and_then(Value::as_bool) == Some(true));
    }
    if controllers > 1 {
        faults.push(Fault::new(
            "metadata.ownerReferences",
            "Invalid value: Only one reference can have Controller set to true",
        ));
    }
    faults
}

/// What is wrong with a name of an object of this kind.
pub(super) fn name_fault(kind: Kind, name: &str) -> Option<String> {
    match kind {
        Kind::Service => dns_fault(name, 63, DNS_1035, |label| {
            is_label(label) && label.starts_with(|c: char| c.is_ascii_lowercase())
        }),
        Kind::Namespace => label_fault(name),
        _ => dns_fault(name, 253, SUBDOMAIN, |name| name.split('.').all(is_label)),
    }
}

fn label_fault(name: &str) -> Option<String> {
    dns_fault(name, 63, LABEL, is_label)
}

fn dns_fault(
    name: &str,
    longest: usize,
    rule: &str,
    valid: impl Fn(&str) -> bool,
) -> Option<String> {
    if name.len() > longest {
        Some(format!("must be no more than {longest} characters"))
    } else if valid(name) {
        None
    } else {
        Some(rule.to_owned())
    }
}

fn is_label(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// What is wrong with the name of a label, an annotation or a finalizer: `prefix/name` or `name`.
fn qualified_fault(text: &str) -> Option<String> {
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) => {
            // Annotations may have upper case prefixes in Kubernetes; nothing depends on refusing them.
            if let Some(why) = dns_fault(&prefix.to_ascii_lowercase(), 253, SUBDOMAIN, |p| {
                p.split('.').all(is_label)
            }) {
                return Some(format!("prefix part {why}"));
            }
            name
        }
    };
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters".to_owned());
    }
    (!is_word(name)).then(|| QUALIFIED.to_owned())
}

fn label_value_fault(text: &str) -> Option<String> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters".to_owned());
    }
    (!text.is_empty() && !is_word(text)).then(|| LABEL_VALUE.to_owned())
}

fn is_word(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_follow_the_rules_of_their_kind() {
        let table = [
            (Kind::Rollout, "web", true),
            (Kind::Rollout, "web.v1", true),
            (Kind::Rollout, "9web", true),
            (Kind::Rollout, "Web", false),
            (Kind::Rollout, "-web", false),
            (Kind::Rollout, "web..v1", false),
            (Kind::Rollout, "", false),
            (Kind::Rollout, "a/b", false),
            (Kind::Service, "web", true),
            (Kind::Service, "9web", false),
            (Kind::Service, "web.v1", false),
            (Kind::Namespace, "shop", true),
            (Kind::Namespace, "shop.de", false),
        ];
        for (kind, name, valid) in table {
            assert_eq!(name_fault(kind, name).is_none(), valid, "{kind} {name:?}");
        }
        assert!(name_fault(Kind::Rollout, &"a".repeat(254)).is_some());
    }

    #[test]
    fn every_fault_of_the_metadata_is_told() {
        let value = json!({"metadata": {
            "labels": {"ok": "v", "bad key": "x", "app": "no blanks", "n": 1},
            "annotations": {"free": "any text at all", "x": true},
            "finalizers": ["ok/one", 2],
            "ownerReferences": [{"kind": "Rollout"}],
            "resourceVersion": 7,
        }});
        let faults = faults(&Key::new(Kind::Rollout, "d", "web"), &value);
        let fields: Vec<&str> = faults.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "metadata.labels",
                "metadata.labels",
                "metadata.labels[n]",
                "metadata.annotations[x]",
                "metadata.resourceVersion",
                "metadata.finalizers",
                "metadata.ownerReferences[0].apiVersion",
                "metadata.ownerReferences[0].name",
                "metadata.ownerReferences[0].uid",
            ],
            "{faults:?}"
        );
    }
}
