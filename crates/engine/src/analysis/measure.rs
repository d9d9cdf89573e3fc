//! What to measure, and what came of it: the words between the engine and whoever carries a measurement out.

use crate::mutant::{Mutant, wrong};
use std::collections::BTreeMap;

use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::{AnalysisPhase, Measurement};
use crossfade_api::words::{ProviderError, Reading, Value};
use crossfade_judge::condition::Condition;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// One measurement to take, continue or stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeasureRequest {
    /// Namespace of the AnalysisRun.
    pub namespace: String,
    /// Name of the AnalysisRun.
    pub run_name: String,
    /// Uid of the AnalysisRun.
    pub run_uid: String,
    /// The metric, its arguments not yet put in.
    pub metric: Metric,
    /// The arguments by name.
    pub args: BTreeMap<String, ArgumentSource>,
    /// What to do.
    pub call: Call,
    /// Measurements counted and measurements in error, plus one: names this attempt.
    pub attempt: i32,
}

/// Where the value of an argument comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ArgumentSource {
    /// The value itself.
    Value(String),
    /// A handle; whoever measures reads the value and keeps it to himself.
    Secret {
        /// Name of the Secret in the run's namespace.
        name: String,
        /// Key in it.
        key: String,
    },
}

/// What to do with a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Call {
    /// Begin a new one.
    Start,
    /// Go on with one in flight.
    Resume(Measurement),
    /// Stop one in flight.
    Terminate(Measurement),
}

/// How a measurement stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// The measurement, finished or in flight, secrets already masked.
    Taken {
        /// As it goes into the status.
        measurement: Measurement,
        /// Metadata of the metric's result, for example the resolved query.
        metadata: BTreeMap<String, String>,
    },
    /// The arguments could not be put in (a Secret or a key that does not exist): ends the run in Error with this text.
    Unresolved(String),
    /// A Secret could not be read for now: nothing is recorded and the run is looked at again.
    TryLater(String),
}

/// The measurement that follows from what a provider answered, by the conditions of a metric whose arguments have been put in.
///
/// A failure condition that holds outweighs a success condition that holds, too; with neither condition any value is good; with one of them the
/// other outcome follows; with both and neither holding the measurement is inconclusive. A condition that cannot be evaluated makes it an error.
pub fn conclude(
    metric: &Metric,
    answer: Result<Reading, ProviderError>,
    started: Timestamp,
    now: Timestamp,
) -> Measurement {
    let reading = match answer {
        Ok(reading) => reading,
        Err(error) => return in_error(&error, started, now),
    };
    let (phase, message) = match outcome(metric, &reading.value, now) {
        Ok(phase) => (phase, String::new()),
        Err(message) => (AnalysisPhase::Error, message),
    };
    Measurement {
        phase,
        message,
        value: cut_for_display(reading.display),
        metadata: reading
            .metadata
            .into_iter()
            .map(|(key, value)| (key, cut_for_display(value)))
            .collect(),
        started_at: Some(started),
        finished_at: Some(now),
        resume_at: None,
    }
}

/// The measurement that follows from a provider that gave no value.
pub fn in_error(error: &ProviderError, started: Timestamp, now: Timestamp) -> Measurement {
    let rest = error
        .retry_after_seconds
        .map(|seconds| SignedDuration::from_secs(i64::from(seconds)));
    Measurement {
        phase: AnalysisPhase::Error,
        message: error.message.clone(),
        started_at: Some(started),
        finished_at: Some(now),
        resume_at: rest.and_then(|rest| now.saturating_add(rest).ok()),
        ..Measurement::default()
    }
}

fn outcome(metric: &Metric, value: &Value, now: Timestamp) -> Result<AnalysisPhase, String> {
    let holds = |name: &str, text: &str| -> Result<Option<bool>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let evaluated = Condition::parse(text).and_then(|condition| condition.evaluate(value, now));
        evaluated.map(Some).map_err(|error| {
            let no_data = match value {
                Value::Nil => true,
                Value::Floats(list) => list.is_empty(),
                Value::List(list) => list.is_empty(),
                _ => false,
            };
            let cause = if no_data {
                "metric result is nil or empty: no data returned from the metric provider"
                    .to_owned()
            } else {
                error.to_string()
            };
            format!("could not evaluate {name} \"{text}\": {cause}")
        })
    };
    let good = holds("successCondition", &metric.success_condition)?;
    let bad = holds("failureCondition", &metric.failure_condition)?;
    Ok(match (good, bad) {
        (_, Some(true)) if !wrong(Mutant::FailureConditionIgnored) => AnalysisPhase::Failed,
        (Some(true) | None, _) => AnalysisPhase::Successful,
        (Some(false), None) => AnalysisPhase::Failed,
        (Some(false), Some(_)) if wrong(Mutant::DoubtIsGood) => AnalysisPhase::Successful,
        (Some(false), Some(_)) => AnalysisPhase::Inconclusive,
    })
}

/// A value as it is stored: cut after 16 KiB, with a note of its full length. Evaluation has seen the full value.
fn cut_for_display(value: String) -> String {
    const MOST: usize = 16 * 1024;
    if value.len() <= MOST {
        return value;
    }
    let cut = (0..=MOST)
        .rev()
        .find(|index| value.is_char_boundary(*index))
        .unwrap_or(0);
    format!("{}… (truncated, {} bytes)", &value[..cut], value.len())
}
