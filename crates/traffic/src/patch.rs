//! The narrowest JSON patch (RFC 6902) from one version of an object to another.
//!
//! Objects of others are edited in a copy and only the difference is written: fields that we do not know stay untouched, and a field that did not
//! change is not claimed. The patch carries the observed resourceVersion and uid, so that an API server refuses it as a conflict when the object
//! has changed since.

use serde_json::{Value, json};

/// The patch from `before` to `after`, with the precondition that the object still is `before`; `None` if nothing differs.
pub fn between(before: &Value, after: &Value) -> Option<Value> {
    let mut operations = Vec::new();
    differ("", before, after, &mut operations);
    if operations.is_empty() {
        return None;
    }
    for (place, path) in ["/metadata/resourceVersion", "/metadata/uid"]
        .into_iter()
        .filter(|path| before.pointer(path).is_some())
        .enumerate()
    {
        // Written rather than tested: a failed test is answered as an invalid request, a different version as the conflict that it is.
        let held = json!({"op": "replace", "path": path, "value": before.pointer(path)});
        operations.insert(place, held);
    }
    Some(Value::Array(operations))
}

fn differ(path: &str, before: &Value, after: &Value, operations: &mut Vec<Value>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let wanted = new.get(key);
                if wanted == Some(value) {
                    continue;
                }
                let path = format!("{path}/{}", escaped(key));
                match wanted {
                    Some(wanted) => differ(&path, value, wanted, operations),
                    None => operations.push(json!({"op": "remove", "path": path})),
                }
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                let path = format!("{path}/{}", escaped(key));
                operations.push(json!({"op": "add", "path": path, "value": value}));
            }
        }
        (Value::Array(old), Value::Array(new)) => differ_in_list(path, old, new, operations),
        _ if before == after => {}
        _ => operations.push(json!({"op": "replace", "path": path, "value": after})),
    }
}

/// What stays at both ends stays; between them entries are changed one by one where their number is the same, otherwise taken out and put in.
fn differ_in_list(path: &str, old: &[Value], new: &[Value], operations: &mut Vec<Value>) {
    if old.len() == new.len() {
        for (index, (value, wanted)) in old.iter().zip(new).enumerate() {
            differ(&format!("{path}/{index}"), value, wanted, operations);
        }
        return;
    }
    let same = |pair: &(&Value, &Value)| pair.0 == pair.1;
    let head = old.iter().zip(new).take_while(same).count();
    let (old_rest, new_rest) = (old.len() - head, new.len() - head);
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(old_rest.min(new_rest))
        .take_while(same)
        .count();
    for index in (head..old.len() - tail).rev() {
        operations.push(json!({"op": "remove", "path": format!("{path}/{index}")}));
    }
    for (offset, value) in new
        .iter()
        .skip(head)
        .take(new.len() - tail - head)
        .enumerate()
    {
        let path = format!("{path}/{}", head + offset);
        operations.push(json!({"op": "add", "path": path, "value": value}));
    }
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
