//! Manifests: one or more objects in YAML or JSON, as people write them in files.
//!
//! Read as Kubernetes' tools read them: several documents, lists of objects taken apart, `yes` as a truth value
//! and `0644` as an octal number. Every value keeps its place in the text, so that faults found later can be
//! shown there. Nesting, aliases and size are bounded.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use crate::schema::{self, Findings};

/// The largest text that is read, in bytes.
pub const LARGEST: usize = 16 * 1024 * 1024;

/// A place in a text; both numbers count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a text is no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", position.map(|position| format!("{position}: ")).unwrap_or_default())]
pub struct ManifestError {
    /// Where; absent when the text as a whole is meant.
    pub position: Option<Position>,
    /// What is wrong and, where it helps, what to do.
    pub message: String,
}

/// An object with its places in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The object: a map with `apiVersion` and `kind`.
    pub object: Value,
    /// Where each value stands, by path; the object itself has the empty path.
    positions: BTreeMap<String, Position>,
}

impl Document {
    /// The API version, for example `argoproj.io/v1alpha1`.
    pub fn api_version(&self) -> &str {
        self.object["apiVersion"].as_str().unwrap_or_default()
    }

    /// The kind, for example `Rollout`.
    pub fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    /// Where the value at a path stands; for a value that is not there, where the nearest part around it stands.
    pub fn position(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(position) = self.positions.get(path) {
                return Some(*position);
            }
            if path.is_empty() {
                return None;
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
    }

    /// What does not fit the kind's schema: see [`schema::findings`].
    pub fn findings(&self) -> Findings {
        schema::findings(&self.object)
    }
}

/// Reads the objects of a manifest. Empty documents are skipped; lists are taken apart.
pub fn read(text: &str) -> Result<Vec<Document>, ManifestError> {
    if text.len() > LARGEST {
        return Err(whole(format!(
            "the text has {} bytes; at most {LARGEST} are read",
            text.len()
        )));
    }
    // The decoder needs far more stack for a level of nesting than most threads have for all of them.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("manifest".to_owned())
            .stack_size(STACK);
        let reader = thread
            .spawn_scoped(scope, || documents(text))
            .map_err(|error| whole(error.to_string()))?;
        reader
            .join()
            .unwrap_or_else(|_| Err(whole("the text cannot be read".to_owned())))
    })
}

/// Stack for reading, in bytes: several times what the deepest nesting that is read needs.
const STACK: usize = 16 * 1024 * 1024;

fn documents(text: &str) -> Result<Vec<Document>, ManifestError> {
    let options = serde_saphyr::options! {
        // Kubernetes reads `defaultMode: 0644` as an octal number.
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let trees: Vec<Spanned<Tree>> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| syntax(&error))?;
    let mut documents = Vec::new();
    for tree in trees {
        add(tree, &mut documents)?;
    }
    Ok(documents)
}

fn whole(message: String) -> ManifestError {
    ManifestError {
        position: None,
        message,
    }
}

fn syntax(error: &serde_saphyr::Error) -> ManifestError {
    let position = error
        .location()
        .filter(|location| location.line() > 0)
        .map(|location| Position {
            line: location.line(),
            column: location.column(),
        });
    let rendered = error.without_snippet().to_string();
    // The place is told on its own.
    let message = rendered
        .split(" at line ")
        .next()
        .unwrap_or(&rendered)
        .to_owned();
    ManifestError { position, message }
}

fn add(tree: Spanned<Tree>, documents: &mut Vec<Document>) -> Result<(), ManifestError> {
    let position = place(&tree);
    let at = |message: &str| {
        Err(ManifestError {
            position: Some(position),
            message: message.to_owned(),
        })
    };
    let Tree::Object(members) = &tree.value else {
        return at(
            "not an object; every document of a manifest is a map with apiVersion, kind and metadata",
        );
    };
    let text = |name: &str| match members
        .iter()
        .find(|(key, _)| key.value == name)
        .map(|(_, value)| &value.value)
    {
        Some(Tree::Plain(Value::String(text))) => Some(text.as_str()),
        _ => None,
    };
    let Some(kind) = text("kind").filter(|kind| !kind.is_empty()) else {
        return at("kind is missing; say what the object is, for example `kind: Rollout`");
    };
    if text("apiVersion").is_none_or(str::is_empty) {
        return at("apiVersion is missing, for example `apiVersion: argoproj.io/v1alpha1`");
    }
    if kind.ends_with("List") && members.iter().any(|(key, _)| key.value == "items") {
        let Tree::Object(members) = tree.value else {
            return Ok(());
        };
        for (key, value) in members {
            if let ("items", Tree::Array(items)) = (key.value.as_str(), value.value) {
                items
                    .into_iter()
                    .try_for_each(|item| add(item, documents))?;
            }
        }
        return Ok(());
    }
    let mut positions = BTreeMap::new();
    positions.insert(String::new(), position);
    let object = value(tree.value, "", &mut positions);
    documents.push(Document { object, positions });
    Ok(())
}

fn place<T>(of: &Spanned<T>) -> Position {
    Position {
        line: of.referenced.line(),
        column: of.referenced.column(),
    }
}

/// Takes positions off a tree. A member stands where its key stands.
fn value(tree: Tree, path: &str, positions: &mut BTreeMap<String, Position>) -> Value {
    match tree {
        Tree::Plain(value) => value,
        Tree::Array(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| {
                let path = format!("{path}[{index}]");
                let place = place(&item);
                let value = value(item.value, &path, positions);
                positions.insert(path, place);
                value
            })
            .collect(),
        Tree::Object(members) => {
            let mut object = Map::new();
            for (key, member) in members {
                let path = if path.is_empty() {
                    key.value.clone()
                } else {
                    format!("{path}.{}", key.value)
                };
                let place = place(&key);
                object.insert(key.value, value(member.value, &path, positions));
                positions.insert(path, place);
            }
            Value::Object(object)
        }
    }
}

/// A value whose parts know their places.
enum Tree {
    Plain(Value),
    Array(Vec<Spanned<Tree>>),
    Object(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyTree)
    }
}

struct AnyTree;

impl<'de> Visitor<'de> for AnyTree {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Plain(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Plain(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Plain(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value)
            .ok_or_else(|| E::custom("infinities and NaN have no place in a manifest"))?;
        Ok(Tree::Plain(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Plain(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Plain(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        // Keys that occur twice are refused by the decoder.
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Object(members))
    }
}

/// The text for an object of a kind that nobody knows, with the known kind that is most like it.
pub fn unknown_kind<'k>(
    api_version: &str,
    kind: &str,
    known: impl Iterator<Item = &'k str>,
) -> String {
    let hint = match schema::nearest(kind, known) {
        Some(nearest) if nearest == kind => format!("; {kind} exists in another API version"),
        Some(nearest) => format!("; did you mean {nearest}?"),
        None => String::new(),
    };
    format!("unknown kind \"{kind}\" ({api_version}){hint}")
}
