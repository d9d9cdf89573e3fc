//! Lenient reading of raw JSON: what has the wrong type counts as absent, because decoding tells of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// An object and where it stands.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    pub(crate) path: String,
    members: Option<&'a Map<String, Value>>,
}

impl<'a> Node<'a> {
    pub(crate) fn new(path: impl Into<String>, value: Option<&'a Value>) -> Self {
        Self {
            path: path.into(),
            members: value.and_then(Value::as_object),
        }
    }

    pub(crate) fn child_path(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.members?.get(name).filter(|value| !value.is_null())
    }

    /// The text of a member; empty when absent.
    pub(crate) fn text(&self, name: &str) -> &'a str {
        self.value(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.value(name)?.as_i64()
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A member that is an object; `None` when it is absent.
    pub(crate) fn object(&self, name: &str) -> Option<Node<'a>> {
        self.value(name)
            .filter(|value| value.is_object())
            .map(|value| Node::new(self.child_path(name), Some(value)))
    }

    /// The objects of a list.
    pub(crate) fn objects(&self, name: &str) -> impl Iterator<Item = Node<'a>> {
        let path = self.child_path(name);
        let items = self
            .value(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        items
            .enumerate()
            .map(move |(index, item)| Node::new(format!("{path}[{index}]"), Some(item)))
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.value(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    /// The texts of a map.
    pub(crate) fn map(&self, name: &str) -> BTreeMap<&'a str, &'a str> {
        let members = self
            .value(name)
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        members
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect()
    }

    /// The members out of `names` that are given, in that order.
    pub(crate) fn given(&self, names: &[&'static str]) -> Vec<&'static str> {
        names
            .iter()
            .copied()
            .filter(|name| self.value(name).is_some())
            .collect()
    }
}
