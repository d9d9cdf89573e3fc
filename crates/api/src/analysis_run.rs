//! A run of an analysis: what it measures and how far it got.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::{Argument, DryRunRule, Metric, RetentionRule};
use crate::is_zero;
use crate::wire_enum::wire_enum;

/// What a run measures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRunSpec {
    /// The metrics.
    pub metrics: Vec<Metric>,
    /// The arguments of the metrics.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub args: Vec<Argument>,
    /// The run shall end early.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub terminate: bool,
    /// Metrics that are measured but do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dry_run: Vec<DryRunRule>,
    /// How many measurements are kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub measurement_retention: Vec<RetentionRule>,
    /// When the finished run is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_strategy: Option<TtlStrategy>,
}

/// When a finished run is removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TtlStrategy {
    /// Seconds after its end, however it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_after_completion: Option<i32>,
    /// Seconds after it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_after_failure: Option<i32>,
    /// Seconds after it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_after_success: Option<i32>,
}

wire_enum! {
    /// How far a run, a metric or a measurement got.
    pub enum AnalysisPhase {
        /// Not looked at yet.
        Unset = "",
        /// Waiting to start.
        Pending = "Pending",
        /// Under way.
        Running = "Running",
        /// Good.
        Successful = "Successful",
        /// Bad.
        Failed = "Failed",
        /// It could not be measured.
        Error = "Error",
        /// Neither good nor bad.
        Inconclusive = "Inconclusive",
    }
}

impl AnalysisPhase {
    /// True for Successful, Failed, Error and Inconclusive.
    pub fn is_completed(self) -> bool {
        matches!(
            self,
            Self::Successful | Self::Failed | Self::Error | Self::Inconclusive
        )
    }
}

/// How far a run got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRunStatus {
    /// Its phase.
    #[serde(default)]
    pub phase: AnalysisPhase,
    /// Why it has this phase.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
    /// Results, one for each metric that was started.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metric_results: Vec<MetricResult>,
    /// When the run began.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub started_at: Option<Timestamp>,
    /// How many metrics ended in which way, those in dry-run mode left out.
    #[serde(default)]
    pub run_summary: RunSummary,
    /// The same for the metrics in dry-run mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run_summary: Option<RunSummary>,
    /// When the run ended.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub completed_at: Option<Timestamp>,
}

/// How many metrics ended in which way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// Metrics in all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: i32,
    /// Successful ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub successful: i32,
    /// Failed ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: i32,
    /// Inconclusive ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inconclusive: i32,
    /// Those in error.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub error: i32,
}

/// What became of a metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricResult {
    /// Name of the metric.
    pub name: String,
    /// Its phase.
    pub phase: AnalysisPhase,
    /// The newest measurements, oldest first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub measurements: Vec<Measurement>,
    /// Why it has this phase.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
    /// Measurements taken, errors not counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: i32,
    /// Good measurements.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub successful: i32,
    /// Bad measurements.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: i32,
    /// Inconclusive measurements.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inconclusive: i32,
    /// Measurements in error.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub error: i32,
    /// Measurements in error since the last other one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consecutive_error: i32,
    /// The metric does not count for the run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dry_run: bool,
    /// What the provider says about the metric.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metadata: BTreeMap<String, String>,
    /// Good measurements since the last other one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consecutive_success: i32,
}

/// One measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// Its phase.
    pub phase: AnalysisPhase,
    /// Why it has this phase.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
    /// When it began.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub finished_at: Option<Timestamp>,
    /// The value, as text.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value: String,
    /// What the provider keeps with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metadata: BTreeMap<String, String>,
    /// When to look at it again.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub resume_at: Option<Timestamp>,
}
