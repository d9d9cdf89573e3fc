//! Analysis templates: what is measured, how often, and what counts as good.
//!
//! AnalysisTemplate and ClusterAnalysisTemplate share one spec. A run ([`crate::analysis_run`]) carries the
//! same metrics with their arguments. Limits and counts may be texts, because texts may hold
//! `{{args.<name>}}`; see [`crate::intstr::count`].

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::is_zero;
use crate::providers::MetricProvider;

/// What is measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisTemplateSpec {
    /// The metrics.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metrics: Vec<Metric>,
    /// Arguments that the metrics use, with their defaults.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub args: Vec<Argument>,
    /// Metrics that are measured but do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dry_run: Vec<DryRunRule>,
    /// How many measurements are kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub measurement_retention: Vec<RetentionRule>,
    /// Further templates that are merged into this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub templates: Vec<TemplateRef>,
}

/// A reference to a template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// Its name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub template_name: String,
    /// Whether it is a ClusterAnalysisTemplate; false when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_scope: Option<bool>,
}

/// An argument of a template or run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Argument {
    /// What `{{args.<name>}}` refers to.
    pub name: String,
    /// Its value. Absent and empty differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where its value is taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ArgumentValueFrom>,
}

/// Where the value of a template's or run's argument is taken from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArgumentValueFrom {
    /// A key of a Secret, read at each measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// A field of the Rollout, or of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
}

/// A key of a Secret in the namespace of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    pub name: String,
    /// The key.
    pub key: String,
}

/// A field of the Rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// Path of the field, for example `metadata.labels['app']`.
    pub field_path: String,
}

/// Metrics that are measured but do not count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRunRule {
    /// Regular expression over metric names.
    pub metric_name: String,
}

/// How many measurements of some metrics are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionRule {
    /// Regular expression over metric names.
    pub metric_name: String,
    /// How many; 10 when not positive.
    pub limit: i32,
}

/// One thing that is measured repeatedly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Its name, unique in a run.
    pub name: String,
    /// Time between two measurements, as a Go duration.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: String,
    /// Time before the first measurement, as a Go duration.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub initial_delay: String,
    /// Number of measurements to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<IntOrString>,
    /// Expression that is true when a measurement is good.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub success_condition: String,
    /// Expression that is true when a measurement is bad.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failure_condition: String,
    /// Bad measurements that are tolerated; 0 when absent, -1 for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_limit: Option<IntOrString>,
    /// Inconclusive measurements that are tolerated; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inconclusive_limit: Option<IntOrString>,
    /// Errors in a row that are tolerated; 4 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_error_limit: Option<IntOrString>,
    /// Where the value comes from.
    pub provider: MetricProvider,
    /// Good measurements in a row that are enough; 0 when absent, which means off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_success_limit: Option<IntOrString>,
}
