//! The one thing that sets Secrets apart: their values must not show.
//!
//! `stringData` becomes `data` on the way in, as in Kubernetes, so that one place holds the values. Unlike there the
//! annotation with the last applied manifest keeps their names only: that is all `apply` needs to find what was dropped.

use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use super::error::Fault;
use super::kind::Kind;

/// Moves `stringData` into `data`. What is not a text stays where it is and is found by [`faults`].
pub(super) fn fold_string_data(secret: &mut Value) {
    let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|s| s.remove("stringData"))
    else {
        return;
    };
    let Some(secret) = secret.as_object_mut() else {
        return;
    };
    let data = secret
        .entry("data")
        .or_insert_with(|| Value::Object(Map::new()));
    if data.is_null() {
        *data = Value::Object(Map::new());
    }
    if let Value::Object(data) = data {
        for (name, text) in texts {
            let encoded = match text {
                Value::String(text) => {
                    serde_json::to_value(ByteString(text.into_bytes())).unwrap_or(Value::Null)
                }
                other => other,
            };
            data.insert(name, encoded);
        }
    }
}

/// What is wrong with the values of a Secret, without showing them.
pub(super) fn faults(secret: &Value) -> Vec<Fault> {
    let data = match secret.get("data") {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Object(data)) => data,
        Some(_) => {
            return vec![Fault::new(
                "data",
                "Invalid value: must be a map of names to base64 texts",
            )];
        }
    };
    data.iter()
        .filter(|(_, value)| decoded(value).is_none())
        .map(|(name, _)| {
            Fault::new(
                format!("data[{name}]"),
                "Invalid value: must be base64; plain texts belong under stringData",
            )
        })
        .collect()
}

/// The bytes of one entry of a Secret's `data`; `None` when it is not base64.
pub fn decoded(value: &Value) -> Option<Vec<u8>> {
    serde_json::from_value::<ByteString>(value.clone())
        .ok()
        .map(|bytes| bytes.0)
}

/// An object as it may be remembered in an annotation: a Secret without its values.
pub(super) fn blanked(kind: Kind, mut object: Value) -> Value {
    if kind == Kind::Secret
        && let Some(Value::Object(data)) = object.get_mut("data")
    {
        for value in data.values_mut() {
            *value = Value::String(String::new());
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn string_data_becomes_data_and_wins_over_it() {
        let mut secret = json!({"data": {"a": "b2xk", "b": "Yg=="}, "stringData": {"a": "new"}});
        fold_string_data(&mut secret);
        assert_eq!(secret, json!({"data": {"a": "bmV3", "b": "Yg=="}}));
        assert_eq!(
            decoded(secret.pointer("/data/a").unwrap()),
            Some(b"new".to_vec())
        );
    }

    #[test]
    fn a_value_that_is_not_base64_is_named_and_not_shown() {
        let found = faults(&json!({"data": {"password": "hunter2!", "ok": "b2s="}}));
        assert_eq!(found.len(), 1);
        assert!(
            found
                .iter()
                .all(|f| f.field == "data[password]" && !f.problem.contains("hunter2"))
        );
    }
}
