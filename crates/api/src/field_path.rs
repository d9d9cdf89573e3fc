//! Values that arguments take from an object's own fields.
//!
//! Two forms: paths that begin with `metadata` follow the downward API of pods; all others walk the JSON of the
//! object.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::go_text;
use crate::validate::is_qualified_name;

/// The value of a `metadata…` path: name, namespace, uid, a label or an annotation (a missing key is an empty
/// text), or all labels or annotations, one `key="value"` a line. The error names the path.
pub fn in_metadata(metadata: &ObjectMeta, path: &str) -> Result<String, String> {
    let unsupported = || format!("unsupported fieldPath: {path}");
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match path {
        "metadata.name" => return Ok(text(&metadata.name)),
        "metadata.namespace" => return Ok(text(&metadata.namespace)),
        "metadata.uid" => return Ok(text(&metadata.uid)),
        "metadata.labels" => return Ok(all(metadata.labels.as_ref())),
        "metadata.annotations" => return Ok(all(metadata.annotations.as_ref())),
        _ => {}
    }
    let (map, key) = path
        .strip_suffix("']")
        .and_then(|path| path.split_once("['"))
        .ok_or_else(unsupported)?;
    let (map, known) = match map {
        "metadata.labels" => (&metadata.labels, is_qualified_name(key)),
        // Keys of annotations are compared without regard to case when they are checked, not when they are read.
        "metadata.annotations" => (
            &metadata.annotations,
            is_qualified_name(&key.to_lowercase()),
        ),
        _ => return Err(unsupported()),
    };
    if !known {
        return Err(unsupported());
    }
    Ok(map
        .as_ref()
        .and_then(|map| map.get(key))
        .cloned()
        .unwrap_or_default())
}

fn all(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<_> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", go_text::quote(value)))
        .collect();
    lines.join("\n")
}

/// The value at a path of an object's JSON, as text. The path is split at `.`, `[` and `]`; it must end in a
/// text, number or truth value.
pub fn in_json(object: &Value, path: &str) -> Result<String, String> {
    let nowhere = || format!("invalid path {path} in rollout");
    let mut value = object;
    for section in path
        .split(['.', '[', ']'])
        .filter(|section| !section.is_empty())
    {
        value = match value {
            Value::Array(items) => {
                let index: i64 = section
                    .parse()
                    .map_err(|_| format!("invalid index '{section}'"))?;
                let item = usize::try_from(index)
                    .ok()
                    .and_then(|index| items.get(index));
                item.ok_or_else(|| format!("index {index} out of range"))?
            }
            Value::Object(members) => members.get(section).ok_or_else(nowhere)?,
            _ => return Err(nowhere()),
        };
    }
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err(nowhere()),
        Value::Array(_) | Value::Object(_) => Err(format!(
            "path {path} in rollout must terminate in a primitive value"
        )),
    }
}
