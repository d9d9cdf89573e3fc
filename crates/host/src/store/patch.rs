//! Changing JSON by JSON: JSON patch (RFC 6902) and the three-way merge of `apply`.
//!
//! Merge patches (RFC 7396) are those of [`crossfade_api::merge_patch`].

use serde_json::{Map, Value};

/// `current`, changed so that it holds what `wanted` says, without what `last` said and `wanted` no longer says; what
/// neither names stays. Lists are replaced whole.
pub(super) fn three_way(last: Option<&Value>, wanted: &Value, current: &Value) -> Value {
    let (Value::Object(wanted), Value::Object(current)) = (wanted, current) else {
        return without_nulls(wanted);
    };
    let last = last.and_then(Value::as_object);
    let mut result = current.clone();
    for (name, value) in wanted {
        if value.is_null() {
            result.remove(name);
            continue;
        }
        let merged = match current.get(name) {
            Some(now) => three_way(last.and_then(|l| l.get(name)), value, now),
            None => without_nulls(value),
        };
        result.insert(name.clone(), merged);
    }
    for name in last.into_iter().flat_map(Map::keys) {
        if !wanted.contains_key(name) {
            result.remove(name);
        }
    }
    Value::Object(result)
}

/// A null in a manifest means that the field shall not be there.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k.clone(), without_nulls(v)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Applies a JSON patch (RFC 6902): all of its operations or, on an error, none.
///
/// # Errors
/// In words: which operation cannot be carried out, and why.
pub(super) fn json_patch(target: &Value, patch: &Value) -> Result<Value, String> {
    let operations = patch
        .as_array()
        .ok_or("a JSON patch is a list of operations")?;
    if operations.len() > MOST_OPERATIONS {
        return Err(format!("more than {MOST_OPERATIONS} operations"));
    }
    let mut result = target.clone();
    for (index, operation) in operations.iter().enumerate() {
        perform(&mut result, operation).map_err(|why| format!("operation {index}: {why}"))?;
    }
    Ok(result)
}

/// Every operation may walk through the whole document.
const MOST_OPERATIONS: usize = 1000;
/// More values than any stored object can have: `copy` may double a document each time.
const MOST_VALUES: usize = 2 << 20;
/// How deep a stored object may be nested. Readers of JSON give up at 128, and a list or a watch event adds some levels.
pub(super) const DEEPEST: usize = 100;

/// How many values a document holds.
fn weight(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(weight).sum::<usize>(),
        Value::Array(list) => 1 + list.iter().map(weight).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// How many levels a document has.
pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// A document must not outgrow the stack or the memory of those who walk through it.
fn fits(path: &str, value: &Value) -> Result<(), String> {
    if path.matches('/').count() + depth(value) > DEEPEST {
        return Err(format!(
            "{path} would be nested deeper than {DEEPEST} levels"
        ));
    }
    Ok(())
}

fn perform(document: &mut Value, operation: &Value) -> Result<(), String> {
    let text = |name: &str| {
        operation
            .get(name)
            .and_then(Value::as_str)
            .ok_or_else(|| format!("`{name}` is missing or no text"))
    };
    let value = || {
        operation
            .get("value")
            .cloned()
            .ok_or_else(|| "`value` is missing".to_owned())
    };
    let path = text("path")?;
    match text("op")? {
        "add" => add(document, path, value()?),
        "remove" => remove(document, path).map(drop),
        "replace" => {
            let value = value()?;
            fits(path, &value)?;
            *at(document, path)? = value;
            Ok(())
        }
        "move" => {
            let from = text("from")?;
            if path
                .strip_prefix(from)
                .is_some_and(|rest| rest.starts_with('/'))
            {
                return Err(format!("{from} cannot be moved into itself"));
            }
            let moved = remove(document, from)?;
            add(document, path, moved)
        }
        "copy" => {
            let copy = at(document, text("from")?)?.clone();
            if weight(&copy) + weight(document) > MOST_VALUES {
                return Err("the document grows too large".to_owned());
            }
            add(document, path, copy)
        }
        "test" => {
            if *at(document, path)? == value()? {
                Ok(())
            } else {
                Err(format!("the value at {path} is another"))
            }
        }
        other => Err(format!("unknown `op` {other:?}")),
    }
}

fn at<'a>(document: &'a mut Value, path: &str) -> Result<&'a mut Value, String> {
    document
        .pointer_mut(path)
        .ok_or_else(|| format!("{path} does not exist"))
}

/// The place that holds the last part of a path, and that part unescaped.
fn parent<'a>(document: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let (before, last) = path
        .rsplit_once('/')
        .ok_or_else(|| format!("{path:?} does not begin with a slash"))?;
    let last = last.replace("~1", "/").replace("~0", "~");
    Ok((at(document, before)?, last))
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    fits(path, &value)?;
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (place, name) = parent(document, path)?;
    match place {
        Value::Object(map) => {
            map.insert(name, value);
            Ok(())
        }
        Value::Array(list) => {
            let index = if name == "-" {
                list.len()
            } else {
                index(&name)?
            };
            if index > list.len() {
                return Err(format!("{path} is beyond the end of the list"));
            }
            list.insert(index, value);
            Ok(())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Err(format!("{path} does not lie in an object or a list"))
        }
    }
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let missing = || format!("{path} does not exist");
    if path.is_empty() {
        return Ok(document.take());
    }
    let (place, name) = parent(document, path)?;
    match place {
        Value::Object(map) => map.remove(&name).ok_or_else(missing),
        Value::Array(list) => {
            let index = index(&name)?;
            if index >= list.len() {
                return Err(missing());
            }
            Ok(list.remove(index))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(missing()),
    }
}

/// An index as RFC 6901 writes it: digits without leading zeros.
fn index(name: &str) -> Result<usize, String> {
    let canonical =
        name == "0" || (!name.starts_with('0') && name.bytes().all(|b| b.is_ascii_digit()));
    match name.parse() {
        Ok(index) if canonical => Ok(index),
        _ => Err(format!("{name:?} is no index of a list")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_patches_are_those_of_the_rfc() {
        // RFC 6902, appendix A.
        let table = [
            (
                json!({"foo":"bar"}),
                json!([{"op":"add","path":"/baz","value":"qux"}]),
                json!({"baz":"qux","foo":"bar"}),
            ),
            (
                json!({"foo":["bar","baz"]}),
                json!([{"op":"add","path":"/foo/1","value":"qux"}]),
                json!({"foo":["bar","qux","baz"]}),
            ),
            (
                json!({"baz":"qux","foo":"bar"}),
                json!([{"op":"remove","path":"/baz"}]),
                json!({"foo":"bar"}),
            ),
            (
                json!({"foo":["bar","qux","baz"]}),
                json!([{"op":"remove","path":"/foo/1"}]),
                json!({"foo":["bar","baz"]}),
            ),
            (
                json!({"baz":"qux","foo":"bar"}),
                json!([{"op":"replace","path":"/baz","value":"boo"}]),
                json!({"baz":"boo","foo":"bar"}),
            ),
            (
                json!({"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}),
                json!([{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]),
                json!({"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}),
            ),
            (
                json!({"foo":["all","grass","cows","eat"]}),
                json!([{"op":"move","from":"/foo/1","path":"/foo/3"}]),
                json!({"foo":["all","cows","eat","grass"]}),
            ),
            (
                json!({"baz":"qux","foo":["a",2,"c"]}),
                json!([{"op":"test","path":"/foo/1","value":2}]),
                json!({"baz":"qux","foo":["a",2,"c"]}),
            ),
            (
                json!({"foo":"bar"}),
                json!([{"op":"add","path":"/child","value":{"grandchild":{}}}]),
                json!({"foo":"bar","child":{"grandchild":{}}}),
            ),
            (
                json!({"/":9,"~1":10}),
                json!([{"op":"test","path":"/~01","value":10}]),
                json!({"/":9,"~1":10}),
            ),
            (
                json!({"foo":["bar"]}),
                json!([{"op":"add","path":"/foo/-","value":["abc"]}]),
                json!({"foo":["bar",["abc"]]}),
            ),
            (
                json!({"a":1}),
                json!([{"op":"copy","from":"/a","path":"/b"}]),
                json!({"a":1,"b":1}),
            ),
            (
                json!({"a":1}),
                json!([{"op":"replace","path":"","value":3}]),
                json!(3),
            ),
        ];
        for (target, patch, expected) in table {
            assert_eq!(json_patch(&target, &patch), Ok(expected), "{patch}");
        }
    }

    #[test]
    fn a_json_patch_that_cannot_be_carried_out_changes_nothing_and_says_why() {
        let target = json!({"a":{"b":1},"list":[1,2]});
        let table = [
            (json!({}), "a JSON patch is a list of operations"),
            (
                json!([{"op":"test","path":"/a/b","value":2}]),
                "operation 0: the value at /a/b is another",
            ),
            (
                json!([{"op":"remove","path":"/c"}]),
                "operation 0: /c does not exist",
            ),
            (
                json!([{"op":"replace","path":"/c","value":1}]),
                "operation 0: /c does not exist",
            ),
            (
                json!([{"op":"add","path":"/c/d","value":1}]),
                "operation 0: /c does not exist",
            ),
            (
                json!([{"op":"add","path":"/list/9","value":1}]),
                "operation 0: /list/9 is beyond the end of the list",
            ),
            (
                json!([{"op":"add","path":"/list/01","value":1}]),
                "operation 0: \"01\" is no index of a list",
            ),
            (
                json!([{"op":"add","path":"x","value":1}]),
                "operation 0: \"x\" does not begin with a slash",
            ),
            (
                json!([{"op":"add","path":"/c"}]),
                "operation 0: `value` is missing",
            ),
            (
                json!([{"op":"move","from":"/a","path":"/a/b/c"}]),
                "operation 0: /a cannot be moved into itself",
            ),
            (
                json!([{"op":"frob","path":"/a"}]),
                "operation 0: unknown `op` \"frob\"",
            ),
            (json!([7]), "operation 0: `path` is missing or no text"),
        ];
        for (patch, why) in table {
            assert_eq!(json_patch(&target, &patch).unwrap_err(), why, "{patch}");
        }
    }

    #[test]
    fn a_json_patch_that_doubles_the_document_over_and_over_is_stopped() {
        let wide: Vec<Value> = (0..64)
            .map(|i| json!({"op":"copy","from":"/a","path":format!("/a/{i}")}))
            .collect();
        let error = json_patch(&json!({"a":{}}), &Value::Array(wide)).unwrap_err();
        assert!(
            error.contains("deeper than") || error.contains("too large"),
            "{error}"
        );
        let flat: Vec<Value> = (0..64)
            .map(|i| json!({"op":"copy","from":"","path":format!("/{i}")}))
            .collect();
        let error = json_patch(&json!({"a":{}}), &Value::Array(flat)).unwrap_err();
        assert!(error.contains("too large"), "{error}");
    }

    #[test]
    fn a_json_patch_cannot_nest_a_document_without_end() {
        let mut path = String::new();
        let mut operations = Vec::new();
        for _ in 0..300 {
            path.push_str("/a");
            operations.push(json!({"op":"add","path":path,"value":{}}));
        }
        let error = json_patch(&json!({}), &Value::Array(operations)).unwrap_err();
        assert!(error.contains("deeper than 100 levels"), "{error}");
    }

    #[test]
    fn a_three_way_merge_removes_what_the_manifest_dropped_and_keeps_what_others_own() {
        let last =
            json!({"spec":{"replicas":2,"paused":true,"nested":{"x":1,"y":2}},"labels":{"a":"1"}});
        let wanted = json!({"spec":{"nested":{"x":5},"steps":[1]},"labels":{"a":"1"}});
        let current = json!({"spec":{"replicas":4,"paused":true,"nested":{"x":1,"y":2,"z":3},"steps":[7,8]},"labels":{"a":"1","foreign":"f"},"status":{"s":1}});
        assert_eq!(
            three_way(Some(&last), &wanted, &current),
            json!({"spec":{"nested":{"x":5,"z":3},"steps":[1]},"labels":{"a":"1","foreign":"f"},"status":{"s":1}})
        );
    }

    #[test]
    fn without_a_last_manifest_nothing_is_removed_but_explicit_nulls() {
        let merged = three_way(
            None,
            &json!({"a":{"b":null,"c":1},"d":{"e":null}}),
            &json!({"a":{"b":1,"x":2}}),
        );
        assert_eq!(merged, json!({"a":{"c":1,"x":2},"d":{}}));
    }
}
