//! What a world is asked to do for a Canary, and what it answers.

use std::collections::BTreeMap;

use crossfade_api::flagger::{CanaryAlert, MetricTemplateSpec};
pub use crossfade_api::split::{Cookies, Shares};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::world::ConfigKey;
use crate::action::{KeyChanges, Target};

/// Something that a world is asked to do for a Canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum CanaryAction {
    /// Create an object, all of it decided; answers [`CanaryDone::Object`].
    Create {
        /// The object.
        object: Box<Value>,
    },
    /// Change an object by a merge patch, unless somebody else has changed it since; answers [`CanaryDone::Object`].
    Patch {
        /// Which one.
        object: ObjectKey,
        /// What changes.
        patch: Box<Value>,
    },
    /// Read an object anew, past all caches; answers [`CanaryDone::Object`].
    Read {
        /// Which one.
        object: ObjectKey,
    },
    /// Make the primary's copy of a ConfigMap or Secret hold what the original holds: data and type, these labels, no annotations,
    /// this owner; another owner stays without control. A copy that is so already is left alone.
    CopyConfig {
        /// The original.
        from: ConfigKey,
        /// Which one, and in which version.
        target: Target,
        /// Labels of the copy.
        labels: BTreeMap<String, String>,
        /// The owner reference of the Canary.
        owner: Box<Value>,
    },
    /// Change annotations of the Canary itself.
    Annotate {
        /// Which one.
        target: Target,
        /// Annotations to set or remove.
        annotations: KeyChanges,
    },
    /// Set the finalizers of the Canary itself.
    SetFinalizers {
        /// Which one.
        target: Target,
        /// All of them.
        finalizers: Vec<String>,
    },
    /// Create or repair the objects that route requests; weights stay.
    ReconcileRoutes {
        /// Who routes.
        provider: String,
    },
    /// Read the weights that are in force; answers [`CanaryDone::Shares`].
    ReadShares {
        /// Who routes.
        provider: String,
    },
    /// Write weights.
    SetShares {
        /// Who routes.
        provider: String,
        /// The weights.
        shares: Shares,
        /// The cookies that keep users where they are; absent without session affinity.
        cookies: Option<Cookies>,
    },
    /// Give objects that were there before the Canary back as they were.
    RestoreRoutes {
        /// Who routes.
        provider: String,
    },
    /// Call a webhook. Success is an answer of 200, 201 or 202; the text of a failure is what it answered.
    CallHook(Box<HookCall>),
    /// Tell people through a channel. Whoever carries it out queues it: a slow receiver holds nothing up.
    Alert(Box<Alert>),
    /// Ask whether a metric provider answers at all.
    FindProvider(Box<MetricSource>),
    /// Measure one metric; answers [`CanaryDone::Checked`].
    Check(Box<Check>),
}

/// What a successful action for a Canary answers, where it answers more than that.
#[derive(Clone, Debug, PartialEq)]
pub enum CanaryDone {
    /// The object as it is now.
    Object(Value),
    /// The weights that are in force.
    Shares(Shares),
    /// What came of a measurement.
    Checked(Checked),
}

/// An object of any kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectKey {
    /// Its API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Which one, and in which version; an empty version does not matter.
    pub target: Target,
}

/// One call of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookCall {
    /// Its name.
    pub name: String,
    /// Where it is called.
    pub url: String,
    /// The body, as it is sent.
    pub body: String,
    /// Milliseconds for one attempt.
    pub timeout_ms: i64,
    /// Milliseconds for all attempts together.
    pub budget_ms: i64,
    /// Further attempts.
    pub retries: i32,
    /// The server's certificate is not verified.
    pub disable_tls: bool,
    /// The revision that is released, sent as a header.
    pub revision: String,
    /// It only tells: whoever carries it out queues it, in order.
    pub only_tells: bool,
    /// Place among the calls of its pass: tells equal ones apart.
    pub place: u32,
}

/// One piece of news for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// `info`, `warn` or `error`.
    pub severity: String,
    /// The text.
    pub text: String,
    /// Fields in order.
    pub fields: Vec<(String, String)>,
    /// Through whom; `None` for the controller's own channel.
    pub through: Option<CanaryAlert>,
    /// Place among the news of its pass.
    pub place: u32,
}

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
