//! What to measure, and what came of it: the words between the engine and whoever carries a measurement out.

use std::collections::BTreeMap;

use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::Measurement;
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
