//! The language of `successCondition` and `failureCondition`.
//!
//! A text is read once ([`Condition::parse`]) and asked about values ([`Condition::evaluate`]). The answer is
//! true, false or an error, and which of them is the contract: the same as that of the Go engine *expr* 1.17 in
//! Argo Rollouts. The wording of errors is not.
//!
//! From text to answer: `token` makes words, `parser` nodes (`syntax`), `check` compares the kinds of values
//! (`kind`) with the operators and functions (`builtin`, `loops`) they meet, `eval` runs what has passed, with
//! values (`datum`), operators (`operate`), `functions`, `time` and regular expressions (`pattern`).
//!
//! Conditions come from users and values from the network. Neither may harm the process, so everything has a
//! bound: bytes and nodes of a text, nesting, steps, elements, bytes of texts, the depth of values.

mod budget;
mod builtin;
mod check;
mod datum;
mod error;
mod eval;
mod functions;
mod kind;
mod layout;
mod loops;
mod number;
mod operate;
mod parser;
mod pattern;
mod syntax;
mod time;
mod token;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crossfade_api::words::Value;
use jiff::Timestamp;

pub use error::{ConditionError, Position};

use datum::Datum;
use error::Fault;
use eval::Evaluator;
use kind::Kind;
use syntax::{Names, Program};

/// A condition on the value of a measurement.
///
/// ```
/// use crossfade_api::words::Value;
/// use crossfade_judge::condition::Condition;
/// use jiff::Timestamp;
///
/// let now = Timestamp::UNIX_EPOCH;
/// let condition = Condition::parse("len(result) == 0 || result[0] >= 0.95").unwrap();
/// assert_eq!(condition.evaluate(&Value::Floats(vec![0.97]), now), Ok(true));
/// assert_eq!(condition.evaluate(&Value::Floats(vec![]), now), Ok(true));
/// assert!(condition.evaluate(&Value::Float(0.97), now).is_err());
/// ```
#[derive(Debug)]
pub struct Condition {
    text: String,
    program: Program,
}

impl Condition {
    /// Reads a condition. Fails when the text is not one: syntax, names that nothing stands for, patterns that
    /// are none, and texts beyond the limits.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let program =
            barred(|| parser::parse(text, Names::OfConditions).map_err(|it| it.told(text)))?;
        Ok(Self {
            text: text.to_owned(),
            program,
        })
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the condition holds for the value `result`. `now` is what `now()` gives.
    ///
    /// Fails when the kinds in the condition do not fit each other, when running it meets something that has no
    /// answer, when it goes beyond the limits, and when the outcome is no truth value.
    pub fn evaluate(&self, result: &Value, now: Timestamp) -> Result<bool, ConditionError> {
        barred(|| self.answer(result, now).map_err(|it| it.told(&self.text)))
    }

    fn answer(&self, result: &Value, now: Timestamp) -> Result<bool, Fault> {
        let kinds = check::check(&self.program, Names::OfConditions, &Kind::of(result))?;
        let result = Datum::of(result)?;
        match Evaluator::new(&self.program, &kinds, Names::OfConditions, result, now).run()? {
            Datum::Bool(answer) => Ok(answer),
            other => Err(Fault::new(format!(
                "expected bool, but got {}",
                other.kind()
            ))),
        }
    }
}

/// The start or the end of a range query: an expression such as `now() - duration("1h")` that gives a time.
/// Beside the functions of the language it has only `isNaN` and `isInf`.
pub fn evaluate_time(text: &str, now: Timestamp) -> Result<Timestamp, ConditionError> {
    let answer = || {
        let program = parser::parse(text, Names::OfInstants)?;
        let kinds = check::check(&program, Names::OfInstants, &Kind::Nil)?;
        match Evaluator::new(&program, &kinds, Names::OfInstants, Datum::Nil, now).run()? {
            Datum::Time(time) => Ok(time.timestamp()),
            other => Err(Fault::new(format!(
                "expected time.Time, but got {}",
                other.kind()
            ))),
        }
    };
    barred(|| answer().map_err(|it: Fault| it.told(text)))
}

/// The last resort: should the evaluator have a fault of its own, one measurement is an error and everything
/// else goes on.
fn barred<T>(answer: impl FnOnce() -> Result<T, ConditionError>) -> Result<T, ConditionError> {
    catch_unwind(AssertUnwindSafe(answer))
        .unwrap_or_else(|_| Err(ConditionError::new("internal fault of the evaluator", None)))
}
