//! What a bench has found: a short table for people, a file for programs, and whether every bound holds.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Outcome;

/// The most that a figure may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound(pub f64);

#[derive(Debug)]
struct Line {
    name: String,
    value: f64,
    unit: &'static str,
    most: Option<f64>,
}

/// The figures of a bench.
#[derive(Debug)]
pub struct Report {
    name: &'static str,
    lines: Vec<Line>,
    more: Map<String, Value>,
}

impl Report {
    /// An empty one.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            lines: Vec::new(),
            more: Map::new(),
        }
    }

    /// A figure without a bound.
    pub fn figure(&mut self, name: &str, value: f64, unit: &'static str) {
        self.lines.push(Line {
            name: name.to_owned(),
            value,
            unit,
            most: None,
        });
    }

    /// A figure with a bound.
    pub fn bounded(&mut self, name: &str, value: f64, unit: &'static str, most: Bound) {
        self.lines.push(Line {
            name: name.to_owned(),
            value,
            unit,
            most: Some(most.0),
        });
    }

    /// Something for the file alone.
    pub fn more(&mut self, name: &str, value: Value) {
        self.more.insert(name.to_owned(), value);
    }

    /// True if every bound holds.
    pub fn holds(&self) -> bool {
        self.lines.iter().all(holds)
    }

    /// The table.
    pub fn table(&self) -> String {
        let width = self.lines.iter().map(|line| line.name.len()).max();
        let width = width.unwrap_or(0);
        let mut text = String::new();
        for line in &self.lines {
            let Line {
                name, value, unit, ..
            } = line;
            text += &format!("{name:width$}  {:>10} {unit:8}", shown(*value));
            if let Some(most) = line.most {
                let verdict = if holds(line) { "ok" } else { "MISSED" };
                text += &format!("at most {:>8}  {verdict}", shown(most));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// Writes everything to a file in a folder.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, folder: &Path) -> Outcome<()> {
        std::fs::create_dir_all(folder)?;
        let mut figures = Map::new();
        for line in &self.lines {
            let mut figure = json!({"value": line.value, "unit": line.unit});
            if let Some(most) = line.most {
                figure["atMost"] = json!(most);
                figure["holds"] = json!(holds(line));
            }
            figures.insert(line.name.clone(), figure);
        }
        let all = json!({"bench": self.name, "figures": figures, "more": self.more});
        let text = serde_json::to_string_pretty(&all)?;
        Ok(std::fs::write(
            folder.join(format!("{}.json", self.name)),
            text,
        )?)
    }
}

fn holds(line: &Line) -> bool {
    line.most.is_none_or(|most| line.value <= most)
}

fn shown(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value < 1.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.1}")
    }
}
