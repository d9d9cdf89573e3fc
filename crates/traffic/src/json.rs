//! Reading and editing objects whose kinds we do not define.

use serde_json::{Map, Value};

use crate::contract::RouteError;

pub(crate) type Object = Map<String, Value>;

/// The text of a field, empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The list in a field, to be edited; `None` where the field is absent or null.
pub(crate) fn list_mut<'a>(
    object: &'a mut Value,
    field: &str,
) -> Result<Option<&'a mut Vec<Value>>, RouteError> {
    match object.get_mut(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(_) => Err(not_a(field, "[]interface")),
    }
}

/// The list in a field; empty where the field is absent.
pub(crate) fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The fault of a field that is not what its kind says.
pub(crate) fn not_a(field: &str, kind: &str) -> RouteError {
    RouteError::user(format!(
        "Invalid casting: field '{field}' is not of type '{kind}'"
    ))
}

/// The object in a field, made where it is absent.
pub(crate) fn object_at<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Object> {
    let mut at = value;
    for key in path {
        let object = at.as_object_mut()?;
        at = object
            .entry((*key).to_owned())
            .or_insert_with(|| Value::Object(Object::new()));
        if at.is_null() {
            *at = Value::Object(Object::new());
        }
    }
    at.as_object_mut()
}

/// The annotation of this key.
pub(crate) fn metadata<'a>(object: &'a Value, map: &str, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get(map)?.get(key)?.as_str()
}
