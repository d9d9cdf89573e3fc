//! Why a condition has no answer.

use std::fmt;

/// Where in the text of a condition something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line, counted from 1.
    pub line: usize,
    /// The character in its line, counted from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A condition that cannot be read, or that has no answer for a value. Such a measurement is an error: unknown
/// evidence, neither good nor bad.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConditionError {
    message: String,
    position: Option<Position>,
}

impl ConditionError {
    pub(super) fn new(message: impl Into<String>, position: Option<Position>) -> Self {
        Self {
            message: message.into(),
            position,
        }
    }

    /// Where in the text the fault is, when it is at one place.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

/// A fault while it travels through the evaluator: its text, and the byte where it is once somebody knew.
/// Boxed, because results of this type are on the stack of every nested step.
pub(super) struct Fault(Box<FaultAt>);

struct FaultAt {
    message: String,
    at: Option<u32>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(FaultAt {
            message: message.into(),
            at: None,
        }))
    }

    pub(super) fn at(message: impl Into<String>, at: u32) -> Self {
        Self::new(message).or_at(at)
    }

    /// Names the place, unless an inner step has named it already.
    pub(super) fn or_at(mut self, at: u32) -> Self {
        self.0.at.get_or_insert(at);
        self
    }

    /// For whoever wrote the condition: the byte becomes a line and a column of `text`.
    pub(super) fn told(self, text: &str) -> ConditionError {
        let position = self.0.at.map(|at| {
            let before = text.get(..at as usize).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            Position {
                line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
                column: before
                    .get(line_start..)
                    .map_or(0, |line| line.chars().count())
                    + 1,
            }
        });
        ConditionError::new(self.0.message, position)
    }
}
