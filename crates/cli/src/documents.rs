//! Manifests: files, folders and standard input as objects that know where each of their fields stands.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use crate::error::{CliError, Result};
use crate::exit;

/// Endings of files in a folder that hold manifests.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// A place in a file, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The line.
    pub(crate) line: u64,
    /// The character in the line.
    pub(crate) column: u64,
}

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// The file, as it was named; `-` for standard input.
    pub(crate) file: String,
    /// The object.
    pub(crate) value: Value,
    /// Where it begins.
    pub(crate) start: Position,
    /// Where the key or item of each path stands (`spec.steps[0].pause`).
    places: BTreeMap<String, Position>,
}

impl Document {
    /// Where a field stands, or the nearest one around it that exists.
    pub(crate) fn position(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(position) = self.places.get(path) {
                return *position;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None => return self.start,
            }
        }
    }
}

/// Reads all objects of these files and folders, in order; `-` is standard input.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| unreadable("standard input", &error))?;
            documents.extend(parse("-", &text)?);
            continue;
        }
        for file in files(path)? {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&name, &error))?;
            documents.extend(parse(&name, &text)?);
        }
    }
    Ok(documents)
}

/// The file itself, or the manifests of a folder and of those in it, by name.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let name = path.display().to_string();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(|error| unreadable(&name, &error))?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        let ending = entry
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        if entry.is_dir() || ENDINGS.contains(&ending) {
            found.extend(files(&entry)?);
        }
    }
    Ok(found)
}

fn unreadable(name: &str, error: &std::io::Error) -> CliError {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => exit::NOT_FOUND,
        std::io::ErrorKind::PermissionDenied => exit::NOT_PERMITTED,
        _ => exit::FAILURE,
    };
    CliError::new(code, format!("cannot read {name}: {error}"))
}

/// Reads the objects of one text: YAML documents, or JSON, which is YAML as well. Lists are taken apart.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Document>> {
    let nodes: Vec<Spanned<Node>> = serde_saphyr::from_multiple(text).map_err(|error| {
        let place = error.location().map_or_else(String::new, |location| {
            format!(":{}:{}", location.line(), location.column())
        });
        let whole = error.without_snippet().to_string();
        CliError::new(
            exit::REFUSED,
            format!("invalid YAML: {file}{place}: {}", without_place(&whole)),
        )
    })?;
    let mut documents = Vec::new();
    for node in nodes {
        let start = position(&node);
        let mut places = BTreeMap::new();
        let value = plain(node.value, "", &mut places);
        match value {
            // An empty document between two lines of dashes.
            Value::Null => {}
            Value::Object(_) => documents.extend(taken_apart(Document {
                file: file.to_owned(),
                value,
                start,
                places,
            })),
            _ => {
                return Err(CliError::new(
                    exit::REFUSED,
                    format!("not an object: {file}:{}:{}", start.line, start.column),
                ));
            }
        }
    }
    Ok(documents)
}

/// The parser ends its messages with the place, which stands in front already.
fn without_place(message: &str) -> &str {
    let first = message.lines().next().unwrap_or(message);
    first
        .split_once(" at line ")
        .map_or(first, |(what, _)| what)
}

fn taken_apart(document: Document) -> Vec<Document> {
    let is_list = document.value["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    let Some(items) = document.value["items"].as_array().filter(|_| is_list) else {
        return vec![document];
    };
    let one = |(index, item): (usize, &Value)| {
        let prefix = format!("items[{index}]");
        let places = document.places.iter().filter_map(|(path, position)| {
            let inside = path.strip_prefix(&prefix)?.strip_prefix('.')?;
            Some((inside.to_owned(), *position))
        });
        Document {
            file: document.file.clone(),
            value: item.clone(),
            start: document.position(&prefix),
            places: places.collect(),
        }
    };
    items.iter().enumerate().map(one).collect()
}

/// `rollout.argoproj.io/web`, or what can be said of an object that lacks a kind or a name.
pub(crate) fn name_of(object: &Value) -> String {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (group, _) = text("/apiVersion").split_once('/').unwrap_or_default();
    let dot = if group.is_empty() { "" } else { "." };
    format!(
        "{}{dot}{group}/{}",
        text("/kind").to_lowercase(),
        text("/metadata/name")
    )
}

/// A value that knows where its parts stand.
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

fn position<T>(spanned: &Spanned<T>) -> Position {
    Position {
        line: spanned.referenced.line(),
        column: spanned.referenced.column(),
    }
}

fn plain(node: Node, path: &str, places: &mut BTreeMap<String, Position>) -> Value {
    match node {
        Node::Scalar(value) => value,
        Node::List(items) => {
            let item = |(index, item): (usize, Spanned<Node>)| {
                let path = format!("{path}[{index}]");
                places.insert(path.clone(), position(&item));
                plain(item.value, &path, places)
            };
            Value::Array(items.into_iter().enumerate().map(item).collect())
        }
        Node::Map(members) => {
            let mut map = Map::new();
            for (key, value) in members {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{}", key.value);
                places.insert(path.clone(), position(&key));
                let value = plain(value.value, &path, places);
                map.insert(key.value, value);
            }
            Value::Object(map)
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(Value::from(value)))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Node, E> {
        let number = Number::from_f64(value);
        let number =
            number.ok_or_else(|| E::custom(format!("{value} cannot stand in a manifest")))?;
        Ok(Node::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(Value::String(value.to_owned())))
    }

    fn visit_unit<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Node, A::Error> {
        let mut map: Vec<(Spanned<String>, Spanned<Node>)> = Vec::new();
        while let Some((key, value)) = members.next_entry::<Spanned<String>, _>()? {
            if map.iter().any(|(known, _)| known.value == key.value) {
                return Err(A::Error::custom(format!(
                    "the field {:?} stands twice",
                    key.value
                )));
            }
            map.push((key, value));
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TWO: &str = "# a comment\nkind: A\nmetadata:\n  name: a\nspec:\n  steps:\n  - setWeight: 5\n  - pause: {duration: 1m}\n---\n---\nkind: B\n";

    #[test]
    fn documents_know_where_their_fields_stand() {
        let documents = parse("f.yaml", TWO).expect("reads");
        let [first, second] = documents.as_slice() else {
            panic!("two documents: {documents:?}");
        };
        assert_eq!(
            first.value,
            json!({"kind": "A", "metadata": {"name": "a"}, "spec": {"steps": [{"setWeight": 5}, {"pause": {"duration": "1m"}}]}})
        );
        assert_eq!(second.value, json!({"kind": "B"}));
        for (path, line, column) in [
            ("kind", 2, 1),
            ("spec.steps[0].setWeight", 7, 5),
            ("spec.steps[1]", 8, 5),
            ("spec.steps[1].pause.duration", 8, 13),
            ("spec.steps[1].pause.nothing", 8, 5),
            ("nothing", 2, 1),
        ] {
            assert_eq!(first.position(path), Position { line, column }, "{path}");
        }
        assert_eq!(second.start.line, 11);
    }

    #[test]
    fn a_mistake_is_told_with_file_line_and_column() {
        for (text, place) in [
            ("a: 1\nb: [1, 2\n", "f.yaml:"),
            ("a: 1\na: 2\n", "f.yaml:2:1: "),
            ("a: b: c\n", "f.yaml:1:"),
            ("- 1\n", "f.yaml:1:1"),
        ] {
            let error = parse("f.yaml", text).expect_err(text);
            assert!(error.message.contains(place), "{text:?}: {}", error.message);
            assert_eq!(error.code, exit::REFUSED);
            assert!(!error.message.contains('\n'), "{}", error.message);
        }
    }

    #[test]
    fn scalars_mean_what_kubernetes_takes_them_for() {
        let [document] = parse("f", "{a: 1, b: 1.5, c: 'yes', d: ~, e: true, f: 1m, g: '1', h: 2026-01-01, i: 0x10, j: \"\"}")
            .expect("reads")
            .try_into()
            .expect("one document");
        assert_eq!(
            document.value,
            json!({"a": 1, "b": 1.5, "c": "yes", "d": null, "e": true, "f": "1m", "g": "1", "h": "2026-01-01", "i": 16, "j": ""})
        );
    }

    #[test]
    fn a_list_is_taken_apart() {
        let documents =
            parse("f", "kind: List\nitems:\n- kind: A\n  x: 1\n- kind: B\n").expect("reads");
        let kinds: Vec<_> = documents
            .iter()
            .map(|document| document.value["kind"].clone())
            .collect();
        assert_eq!(kinds, ["A", "B"]);
        assert_eq!(
            documents.first().map(|first| first.position("x").line),
            Some(4)
        );
    }
}
