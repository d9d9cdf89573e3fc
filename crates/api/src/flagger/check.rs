//! Measurements for a Canary: what is asked of whom, and what came of it. Words of those who decide and those who ask.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::MetricTemplateSpec;

/// Who answers a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MetricSource {
    /// The Prometheus for built-in and inline metrics.
    Server {
        /// Its address.
        address: String,
    },
    /// That of a template.
    Template {
        /// The template's namespace, where its Secret lives.
        namespace: String,
        /// The template's name.
        name: String,
        /// The template.
        spec: Box<MetricTemplateSpec>,
    },
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Query {
    /// Percentage of good answers, by the queries of this provider.
    SuccessRate {
        /// The provider.
        set: String,
    },
    /// Time of answers in milliseconds, by the queries of this provider.
    Duration {
        /// The provider.
        set: String,
    },
    /// The user's own query.
    Text(String),
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Name of the metric.
    pub metric: String,
    /// Who answers.
    pub source: MetricSource,
    /// What is measured.
    pub query: Query,
    /// What the query's variables stand for.
    pub variables: BTreeMap<String, String>,
    /// What `variables` stands for.
    pub template_variables: BTreeMap<String, String>,
    /// Milliseconds to wait before.
    pub wait_ms: i64,
    /// Attempts so far.
    pub attempt: u32,
    /// Place of the metric in the Canary's list: tells equal ones apart.
    pub place: usize,
}

/// What came of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The value, or why there is none.
    pub answer: Result<f64, CheckFault>,
    /// Milliseconds that it took.
    pub took_ms: i64,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckFault {
    /// What kind of fault it is.
    pub kind: CheckFaultKind,
    /// In words, without secrets.
    pub text: String,
}

/// What kind of fault kept a value from being had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckFaultKind {
    /// The provider answered, but has no values.
    NoData,
    /// The provider could not be reached, took too long, is overloaded or broken: another attempt may help.
    Provider,
    /// The provider refuses us, or answers what nobody can read.
    Refused,
    /// The address of the server is none.
    Address,
    /// A Secret does not exist, or lacks a key; its name.
    Secret(String),
    /// The provider cannot be asked with what the template says.
    Construction,
    /// The query's variables cannot be put in.
    Render,
    /// The query is wrong.
    Query,
}
