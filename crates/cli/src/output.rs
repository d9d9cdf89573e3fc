//! `-o`: results as tables for people, or as JSON, YAML, names and picked values for programs.

use std::str::FromStr;

use crossfade_host::store::Kind;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{CliError, Result};
use crate::jsonpath::Template;
use crate::terminal;
use crate::view::table::ended;

/// Names the form of every JSON document that this command prints. It changes when a member changes its meaning or goes.
pub(crate) const SCHEMA_VERSION: &str = "crossfade.dev/cli/v1";

/// How a result is printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For people with wide screens.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// `kind.group/name`, one a line.
    Name,
    /// What a JSONPath template picks from the JSON document.
    JsonPath(Template),
    /// Findings for GitHub's checks; for `lint` only.
    Github,
    /// Findings for analysis tools; for `lint` only.
    Sarif,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            "github" => Ok(Self::Github),
            "sarif" => Ok(Self::Sarif),
            _ => match text.strip_prefix("jsonpath=") {
                Some(template) => Template::parse(template).map(Self::JsonPath),
                None => Err("use table, wide, json, yaml, name or jsonpath=TEMPLATE".to_owned()),
            },
        }
    }
}

impl Format {
    /// Whether people read the result.
    pub(crate) fn is_for_people(&self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }

    /// Prints what programs read: a document, and for `-o name` the objects that it is about.
    pub(crate) fn print(&self, document: &Value, names: &[String]) -> Result<()> {
        terminal::print(&match self {
            Self::Table | Self::Wide => String::new(),
            Self::Json => pretty(document)?,
            Self::Yaml => yaml(document)?,
            Self::Name => ended(names),
            Self::JsonPath(template) => template.render(document),
            Self::Github | Self::Sarif => {
                return Err(CliError::usage(
                    "-o github and -o sarif are forms of what \"lint\" finds, of nothing else",
                ));
            }
        })
    }
}

/// `rollout.argoproj.io/web`.
pub(crate) fn object_name(kind: Kind, name: &str) -> String {
    let group = kind.group();
    let dot = if group.is_empty() { "" } else { "." };
    format!("{}{dot}{group}/{name}", kind.singular())
}

/// A result of this command's own, with the version of its form.
pub(crate) fn document(kind: &str, body: &impl Serialize) -> Result<Value> {
    let body = serde_json::to_value(body).map_err(|error| CliError::failure(error.to_string()))?;
    let mut document = json!({"schemaVersion": SCHEMA_VERSION, "kind": kind});
    if let (Value::Object(document), Value::Object(members)) = (&mut document, body) {
        document.extend(members);
    }
    Ok(document)
}

/// JSON on several lines.
pub(crate) fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map(|text| format!("{text}\n"))
        .map_err(|error| CliError::failure(error.to_string()))
}

/// YAML.
pub(crate) fn yaml(value: &Value) -> Result<String> {
    let text =
        serde_saphyr::to_string(value).map_err(|error| CliError::failure(error.to_string()))?;
    Ok(if text.ends_with('\n') {
        text
    } else {
        format!("{text}\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_reads_back_as_what_it_was() {
        let value = json!({"a": "yes", "b": ["1", 1, 1.5, null, true, "", "null", "0x1f", "- x", "a: b", "1e3", "012", "~"],
            "c": {"text": "two\nlines\n", "on": "off"}, "d": [], "e": {}});
        let text = yaml(&value).expect("writes");
        let back: Value = serde_saphyr::from_str(&text).expect("reads");
        assert_eq!(back, value, "{text}");
    }

    #[test]
    fn every_format_is_read_and_others_are_named() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!(matches!("jsonpath={.a}".parse(), Ok(Format::JsonPath(_))));
        let error = "xml".parse::<Format>().expect_err("unknown");
        assert!(error.contains("jsonpath"), "{error}");
    }
}
