//! How a new version of a Canary is judged, and how its traffic grows meanwhile.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::service::StringMatch;
use crate::is_zero;
use crate::wire_enum::wire_enum;

/// How a new version is judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CanaryAnalysis {
    /// Time between two looks, as a Go duration.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: String,
    /// Failed looks after which the version is taken back.
    #[serde(skip_serializing_if = "is_zero")]
    pub threshold: i32,
    /// Number of looks before promotion; greater than 0 for A/B and blue-green releases.
    #[serde(skip_serializing_if = "is_zero")]
    pub iterations: i32,
    /// Percentage at which the new version is promoted.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_weight: i32,
    /// Percentage by which the new version's traffic grows.
    #[serde(skip_serializing_if = "is_zero")]
    pub step_weight: i32,
    /// Percentages that the new version's traffic passes through.
    #[serde(skip_serializing_if = "is_zero")]
    pub step_weights: Vec<i32>,
    /// Percentage by which traffic returns to the promoted version; 0 for all at once.
    #[serde(skip_serializing_if = "is_zero")]
    pub step_weight_promotion: i32,
    /// The new version gets copies of requests before it gets requests.
    #[serde(skip_serializing_if = "is_zero")]
    pub mirror: bool,
    /// Percentage of requests that are copied; 0 for all.
    #[serde(skip_serializing_if = "is_zero")]
    pub mirror_weight: i32,
    /// Percentage of the primary's pods that must be available; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_ready_threshold: Option<i32>,
    /// Percentage of the new version's pods that must be available; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_ready_threshold: Option<i32>,
    /// Requests that reach the new version; with iterations an A/B test.
    #[serde(rename = "match", skip_serializing_if = "is_zero")]
    pub matches: Vec<AnalysisMatch>,
    /// What is measured.
    #[serde(skip_serializing_if = "is_zero")]
    pub metrics: Vec<CanaryMetric>,
    /// Who is told.
    #[serde(skip_serializing_if = "is_zero")]
    pub alerts: Vec<CanaryAlert>,
    /// Who is asked.
    #[serde(skip_serializing_if = "is_zero")]
    pub webhooks: Vec<CanaryWebhook>,
    /// Users that have seen the new version keep seeing it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
}

/// How traffic grows: the label that metrics carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryStrategyKind {
    /// By weight.
    Canary,
    /// Some requests, for a number of looks.
    AbTesting,
    /// No requests for a number of looks, then all.
    BlueGreen,
}

impl CanaryStrategyKind {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::AbTesting => "ab-testing",
            Self::BlueGreen => "blue-green",
        }
    }
}

impl CanaryAnalysis {
    /// Failed looks after which the version is taken back; 1 unless positive.
    pub fn threshold(&self) -> i32 {
        if self.threshold > 0 {
            self.threshold
        } else {
            1
        }
    }

    /// How traffic grows.
    pub fn strategy(&self) -> CanaryStrategyKind {
        match (self.iterations > 0, self.matches.is_empty()) {
            (true, false) => CanaryStrategyKind::AbTesting,
            (true, true) => CanaryStrategyKind::BlueGreen,
            (false, _) => CanaryStrategyKind::Canary,
        }
    }

    /// Percentage at which the new version is promoted: the last of the step weights, else the greatest weight, else 100.
    pub fn max_weight(&self) -> i32 {
        match self.step_weights.last() {
            Some(last) => (*last).min(100),
            None if self.max_weight > 0 => self.max_weight,
            None => 100,
        }
    }

    /// The hooks of one type, in order.
    pub fn hooks(&self, kind: HookType) -> impl Iterator<Item = &CanaryWebhook> {
        self.webhooks.iter().filter(move |hook| hook.kind == kind)
    }
}

/// Which requests reach the new version; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AnalysisMatch {
    /// Headers by name.
    #[serde(skip_serializing_if = "is_zero")]
    pub headers: BTreeMap<String, StringMatch>,
    /// Query parameters by name.
    #[serde(skip_serializing_if = "is_zero")]
    pub query_params: BTreeMap<String, StringMatch>,
    /// Labels of the calling workload.
    #[serde(skip_serializing_if = "is_zero")]
    pub source_labels: BTreeMap<String, String>,
}

/// One thing that is measured at each look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryMetric {
    /// Its name; `request-success-rate` and `request-duration` are built in.
    pub name: String,
    /// The stretch of time that is looked back on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: String,
    /// The former way to give one bound; `thresholdRange` outweighs it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub threshold: f64,
    /// The bounds, both inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_range: Option<ThresholdRange>,
    /// A query for Prometheus; a template is the better way.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub query: String,
    /// The MetricTemplate with the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<CrossNamespaceRef>,
    /// What `{{ variables.x }}` stands for in the template.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub template_variables: BTreeMap<String, String>,
}

/// Bounds of a value, both inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ThresholdRange {
    /// The smallest good value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest good value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// An object that may live in another namespace.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct CrossNamespaceRef {
    /// Its name.
    pub name: String,
    /// Its namespace; the Canary's when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub namespace: String,
}

wire_enum! {
    /// From which news on somebody is told.
    pub enum Severity {
        /// Not told: everything.
        Unset = "",
        /// Everything.
        Info = "info",
        /// Warnings and errors.
        Warn = "warn",
        /// Errors.
        Error = "error",
    }
}

/// Who is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryAlert {
    /// Its name.
    pub name: String,
    /// From which news on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub severity: Severity,
    /// The AlertProvider.
    pub provider_ref: CrossNamespaceRef,
}

wire_enum! {
    /// At which moment a hook is called.
    pub enum HookType {
        /// At each look, before metrics.
        Rollout = "rollout",
        /// Before a release starts.
        ConfirmRollout = "confirm-rollout",
        /// Before the new version gets its first request.
        PreRollout = "pre-rollout",
        /// Before traffic grows.
        ConfirmTrafficIncrease = "confirm-traffic-increase",
        /// Before promotion.
        ConfirmPromotion = "confirm-promotion",
        /// After a release ended.
        PostRollout = "post-rollout",
        /// At each look: takes the release back if it succeeds.
        Rollback = "rollback",
        /// With every event.
        Event = "event",
    }
}

/// Who is asked, or told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryWebhook {
    /// At which moment; `rollout` when empty.
    #[serde(default, rename = "type", skip_serializing_if = "is_zero")]
    pub kind: HookType,
    /// Its name.
    pub name: String,
    /// Where it is called.
    pub url: String,
    /// A refusal is not told through alerts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mute_alert: bool,
    /// Time for one attempt, as a Go duration; 10 s when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: String,
    /// Further attempts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i32,
    /// The server's certificate is not verified.
    #[serde(default, rename = "disableTLS", skip_serializing_if = "is_zero")]
    pub disable_tls: bool,
    /// What is handed over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metadata: BTreeMap<String, String>,
}

/// Users that have seen the new version keep seeing it, by a cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinity {
    /// Name of the cookie.
    pub cookie_name: String,
    /// Name of the cookie for users of the primary; none when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub primary_cookie_name: String,
    /// The cookie's attribute `Domain`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub domain: String,
    /// The cookie's attribute `HttpOnly`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub http_only: bool,
    /// Seconds for which the cookie holds; 86400 when 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_age: i32,
    /// The cookie's attribute `Partitioned`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub partitioned: bool,
    /// The cookie's attribute `Path`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub path: String,
    /// The cookie's attribute `SameSite`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub same_site: String,
    /// The cookie's attribute `Secure`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub secure: bool,
}
