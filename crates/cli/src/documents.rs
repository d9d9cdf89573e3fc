//! Manifests in files, folders and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use crossfade_api::manifest::{self, Position};
use serde_json::Value;

use crate::error::{CliError, Result};
use crate::exit;

/// Endings of files in a folder that hold manifests.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// One object of a manifest and the file that it stands in.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The file, as it was named; `-` for standard input.
    pub(crate) file: String,
    /// The object with its places.
    pub(crate) source: manifest::Document,
}

impl Document {
    /// Where a field stands that a fault names, or the nearest one around it that exists.
    ///
    /// Paths of some faults leave out the name of the strategy, for compatibility.
    pub(crate) fn position(&self, path: &str) -> Position {
        let start = Position { line: 1, column: 1 };
        let place = |path: &str| self.source.position(path).unwrap_or(start);
        let usual = place(path);
        let Some(rest) = path.strip_prefix("spec.strategy.") else {
            return usual;
        };
        // What lies deeper in the text is nearer to the field that is meant.
        ["canary", "blueGreen"]
            .iter()
            .filter(|name| self.source.object["spec"]["strategy"].get(**name).is_some())
            .map(|name| place(&format!("spec.strategy.{name}.{rest}")))
            .chain([usual])
            .max()
            .unwrap_or(usual)
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
        let ending = entry.extension().and_then(|ending| ending.to_str());
        if entry.is_dir() || ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
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

/// Reads the objects of one text.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Document>> {
    let read = manifest::read(text).map_err(|error| {
        let place = error.position.map_or_else(String::new, |place| {
            format!(":{}:{}", place.line, place.column)
        });
        CliError::new(exit::REFUSED, format!("{}: {file}{place}", error.message))
    })?;
    let document = |source| Document {
        file: file.to_owned(),
        source,
    };
    Ok(read.into_iter().map(document).collect())
}

/// `rollout.argoproj.io/web`, or what can be said of an object that lacks a name.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_placed_although_its_path_lacks_the_strategy() {
        let text = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nspec:\n  strategy:\n    canary:\n      steps:\n      - setWeight: 5\n      - setWeight: 500\n";
        let documents = parse("f.yaml", text).expect("reads");
        let document = documents.first().expect("one object");
        let line = |path: &str| document.position(path).line;
        assert_eq!(line("spec.strategy.steps[1].setWeight"), 8);
        assert_eq!(line("spec.strategy.canary.steps[0]"), 7);
        assert_eq!(line("spec.replicas"), 3);
    }

    #[test]
    fn a_mistake_is_told_with_file_line_and_column() {
        let error = parse("f.yaml", "apiVersion: v1\nkind: A\na: b: c\n").expect_err("no YAML");
        assert!(error.message.contains(": f.yaml:3:"), "{}", error.message);
        assert_eq!(error.code, exit::REFUSED);
    }

    #[test]
    fn the_manifests_of_a_folder_are_read_by_name_and_others_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, kind: &str| {
            let text = format!("apiVersion: v1\nkind: {kind}\n");
            std::fs::write(folder.path().join(name), text).expect("writes");
        };
        std::fs::create_dir(folder.path().join("inner")).expect("a folder");
        write("b.yaml", "B");
        write("a.json", "A");
        write("inner/c.yml", "C");
        write("readme.md", "D");
        let documents = read(&[folder.path().to_owned()]).expect("reads");
        let kinds: Vec<_> = documents
            .iter()
            .map(|document| document.source.kind())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }
}
