//! Patches lead from one object to the other, touch nothing that is the same, and refuse a third version.

use crossfade_traffic::patch::between;
use proptest::prelude::*;
use serde_json::{Value, json};

fn apply(object: &mut Value, operation: &Value) {
    let path = operation["path"].as_str().expect("a path");
    let Some((parent, key)) = path.rsplit_once('/') else {
        *object = operation["value"].clone();
        return;
    };
    let key = key.replace("~1", "/").replace("~0", "~");
    let value = operation["value"].clone();
    let parent = object.pointer_mut(parent).expect("the parent is there");
    match (parent, operation["op"].as_str().expect("an operation")) {
        (Value::Object(map), "add") => assert!(map.insert(key, value).is_none()),
        (Value::Object(map), "replace") => assert!(map.insert(key, value).is_some()),
        (Value::Object(map), "remove") => assert!(map.remove(&key).is_some()),
        (Value::Array(list), op) => {
            let index: usize = key.parse().expect("a position");
            match op {
                "add" => list.insert(index, value),
                "replace" => list[index] = value,
                _ => drop(list.remove(index)),
            }
        }
        (parent, op) => unreachable!("{op} in {parent}"),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..4_i64).prop_map(Value::from),
        "[a-b~/]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c~/]{1,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_patch_leads_from_any_object_to_any_other(before in any_value(), after in any_value()) {
        let mut there = before.clone();
        for operation in between(&before, &after).iter().flat_map(|patch| patch.as_array().expect("a list")) {
            apply(&mut there, operation);
        }
        prop_assert_eq!(there, after);
    }

    #[test]
    fn nothing_differs_from_itself(value in any_value()) {
        prop_assert_eq!(between(&value, &value), None);
    }
}

#[test]
fn a_patch_names_what_differs_and_the_version_that_it_is_for() {
    let before = json!({"metadata": {"resourceVersion": "7", "uid": "u"}, "spec": {"http": [{"name": "a", "weight": 1}], "kept": [1, 2]}});
    let after = json!({"metadata": {"resourceVersion": "7", "uid": "u"}, "spec": {"http": [{"name": "new"}, {"name": "a", "weight": 1}], "kept": [1, 2]}});
    assert_eq!(
        between(&before, &after),
        Some(json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "replace", "path": "/metadata/uid", "value": "u"},
            {"op": "add", "path": "/spec/http/0", "value": {"name": "new"}},
        ]))
    );
}
