//! PromQL over the built-in store.
//!
//! A query takes four steps, a file each: `text` refuses what the parser must not see, `plan`
//! turns the parser's tree into ours (types checked, what is not supported refused by name),
//! `data` copies the samples that the plan can touch, all at one moment, and `eval` computes.
//! `functions` is the table of what is supported; `ranges`, `instants`, `aggregate`, `binary` and
//! `quantile` hold the arithmetic.
//!
//! Everything is computed over a grid of times at once (an instant query is a grid of one), so a
//! sub-query is the same evaluation on a finer grid, and a new function is a row in the table.
//!
//! Where versions of Prometheus differ, 2.x holds (compared with 2.42): a range `[5m]` includes a
//! sample exactly 5 minutes old and a sample stays visible for exactly 5 minutes; 3.x leaves both
//! out. Extrapolation, resets and NaN are those of 2.42.

mod aggregate;
mod binary;
mod data;
mod eval;
mod functions;
mod instants;
mod number;
mod plan;
mod quantile;
mod ranges;
mod text;

use std::time::{Duration, Instant};

pub use functions::{AGGREGATIONS, FUNCTIONS, Function, Kind, OPERATORS};
pub use number::format_value;

pub(super) use instants::is_label_name;
pub(super) use text::duration;

use super::labels::Labels;
use super::samples::{Sample, Store};

/// What a query may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time for one query.
    pub timeout: Duration,
    /// Most samples, read or computed, that one query may touch.
    pub max_samples: usize,
    /// How long a sample stays visible when no newer one follows.
    pub lookback: Duration,
    /// Step of a sub-query that names none.
    pub default_step: Duration,
}

impl Default for Limits {
    /// 30 seconds and 5 million samples; 5 minutes and 1 minute as Prometheus has them.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            max_samples: 5_000_000,
            lookback: Duration::from_mins(5),
            default_step: Duration::from_mins(1),
        }
    }
}

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The text is not a query, or not one that is supported; only its author can mend it.
    #[error("{0}")]
    Invalid(String),
    /// The query met data it cannot be computed on, or a limit.
    #[error("{0}")]
    Execution(String),
    /// The query took longer than allowed.
    #[error("query timed out in expression evaluation")]
    Timeout,
}

/// One series with one value, as an instant query gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Which series.
    pub labels: Labels,
    /// Time of the query and value.
    pub sample: Sample,
}

/// One series with its values over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Which series.
    pub labels: Labels,
    /// The values, oldest first; times without a value are left out.
    pub samples: Vec<Sample>,
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A number without labels.
    Scalar(Sample),
    /// A text with the time of the query (Unix milliseconds).
    Text(i64, String),
    /// Series with one value each.
    Vector(Vec<Point>),
    /// Series with values over time.
    Matrix(Vec<Series>),
}

/// Answers a query at one time (Unix milliseconds).
pub fn query(store: &Store, limits: &Limits, text: &str, at: i64) -> Result<Answer, QueryError> {
    let plan = plan::Plan::of(text, at, at)?;
    eval::instant(&plan, store, budget(limits), at)
}

/// Answers a query at `start`, `start + step` and so on up to `end` (Unix milliseconds).
/// The answer is a matrix. A `step` below one millisecond is taken as one.
pub fn query_range(
    store: &Store,
    limits: &Limits,
    text: &str,
    start: i64,
    end: i64,
    step: i64,
) -> Result<Answer, QueryError> {
    let plan = plan::Plan::of(text, start, end)?;
    eval::range(&plan, store, budget(limits), start, end, step.max(1))
}

/// The matchers of one series selector, as `match[]` of the HTTP API has them.
pub fn selector(text: &str) -> Result<Selector, QueryError> {
    plan::selector(text).map(Selector)
}

/// A parsed series selector; see [`selector`].
pub struct Selector(plan::Selector);

impl Selector {
    /// The label sets that match and have a sample from `from` to `until` (Unix milliseconds).
    pub fn series(&self, store: &Store, from: i64, until: i64) -> Vec<Labels> {
        let snapshot = store.snapshot();
        let mut found = data::matching(&snapshot, &self.0);
        found.retain(|labels| snapshot.count(labels, from, until) > 0);
        found
    }
}

fn budget(limits: &Limits) -> eval::Budget {
    eval::Budget::new(*limits, Instant::now())
}
