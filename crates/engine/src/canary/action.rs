//! What a world is asked to do for a Canary, and what it answers.

use std::collections::BTreeMap;

use crossfade_api::flagger::CanaryAlert;
pub use crossfade_api::flagger::check::{
    Check, CheckFault, CheckFaultKind, Checked, MetricSource, Query,
};
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

impl CanaryAction {
    /// Whether a release moves with it. Where that fails, what gates granted for the step before can be given back.
    pub fn moves(&self) -> bool {
        matches!(
            self,
            Self::Create { .. }
                | Self::Patch { .. }
                | Self::CopyConfig { .. }
                | Self::SetShares { .. }
        )
    }
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
    /// It only wants to know: a gate that is open for a number of checks spends none.
    pub dry: bool,
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
