//! The words that several rooms speak: small types without behaviour of their own.
//!
//! A string becomes one of these at the edge and stays one inside; what a word means for a release is
//! decided elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The value of the label `rollouts-pod-template-hash`: names one version of a pod template.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct PodHash(pub String);

impl PodHash {
    /// The hash as it stands in labels and selectors.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the hash of "no version yet".
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for PodHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for PodHash {
    fn from(hash: &str) -> Self {
        Self(hash.to_owned())
    }
}

/// The number of a version in the order in which versions became current; the first is 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The zero-based position in a canary's list of steps; the number of steps stands for "all done".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct StepIndex(pub usize);

/// A share of traffic in parts of the router's maximum, which is 100 unless configured.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Weight(pub i32);

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a metric provider gives and a condition looks at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, from = "serde_json::Value")]
pub enum Value {
    /// Nothing.
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number, NaN and the infinities included.
    Float(f64),
    /// A text.
    String(String),
    /// A list that is known to hold floats (a Prometheus vector).
    Floats(Vec<f64>),
    /// A list of anything.
    List(Vec<Value>),
    /// An object with its keys in order.
    Map(BTreeMap<String, Value>),
    /// An object that has these fields and no others; asking for another one is a mistake (CloudWatch).
    Record(BTreeMap<String, Value>),
    /// An instant.
    Time(Timestamp),
}

/// JSON as conditions see it: every number is a float, every array a list of anything.
impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(value) => Self::Bool(value),
            // Without arbitrary precision every number has a float.
            serde_json::Value::Number(number) => number.as_f64().map_or(Self::Nil, Self::Float),
            serde_json::Value::String(text) => Self::String(text),
            serde_json::Value::Array(items) => {
                Self::List(items.into_iter().map(Self::from).collect())
            }
            serde_json::Value::Object(fields) => Self::Map(
                fields
                    .into_iter()
                    .map(|(name, value)| (name, Self::from(value)))
                    .collect(),
            ),
        }
    }
}

/// Why a number could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    /// What kind of trouble it was.
    pub kind: ProviderErrorKind,
    /// The text for people, without secrets.
    pub message: String,
    /// Do not ask again before so many seconds have passed; the provider said so.
    pub retry_after_seconds: Option<u32>,
}

impl ProviderError {
    /// An error of a kind, with its text.
    pub fn new(kind: ProviderErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after_seconds: None,
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ProviderError {}

/// What kind of trouble kept a number from being had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// The metric is configured wrongly.
    Config,
    /// Credentials are missing or unusable.
    Credentials,
    /// The provider refused the credentials.
    Auth,
    /// What was asked for does not exist there.
    NotFound,
    /// The provider wants to be asked less often.
    RateLimited,
    /// The provider failed.
    Server,
    /// The answer did not come in time.
    Timeout,
    /// The provider could not be reached.
    Transport,
    /// The answer is too large.
    TooLarge,
    /// The answer could not be read.
    Parse,
    /// The provider has no data.
    NoData,
    /// One value was wanted and several came.
    MultipleValues,
    /// The condition could not be evaluated on the value.
    Evaluation,
    /// The measurement was called off.
    Cancelled,
}

/// What a provider answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The value that conditions look at.
    pub value: Value,
    /// The value as people see it.
    pub display: String,
    /// What the provider says about this measurement, for example warnings.
    pub metadata: BTreeMap<String, String>,
}
