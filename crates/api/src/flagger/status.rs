//! How far a Canary got.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::is_zero;
use crate::wire_enum::wire_enum;

wire_enum! {
    /// How far a Canary got.
    pub enum CanaryPhase {
        /// Not looked at yet.
        Unset = "",
        /// Its primary is being made.
        Initializing = "Initializing",
        /// Its primary serves.
        Initialized = "Initialized",
        /// A new version waits for approval.
        Waiting = "Waiting",
        /// A new version is judged.
        Progressing = "Progressing",
        /// A good version waits for approval of its promotion.
        WaitingPromotion = "WaitingPromotion",
        /// The primary is being updated.
        Promoting = "Promoting",
        /// All traffic is on the primary.
        Finalising = "Finalising",
        /// The new version was promoted.
        Succeeded = "Succeeded",
        /// The new version was taken back.
        Failed = "Failed",
        /// The Canary is being deleted.
        Terminating = "Terminating",
        /// The Canary was deleted.
        Terminated = "Terminated",
    }
}

/// How far a Canary got. Its first four fields are always written, also when they are zero: other tools read them so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CanaryStatus {
    /// Its phase.
    pub phase: CanaryPhase,
    /// Failed looks of the current release.
    pub failed_checks: i32,
    /// The new version's percentage.
    pub canary_weight: i32,
    /// Looks so far, for A/B and blue-green releases.
    pub iterations: i32,
    /// Checksums of tracked ConfigMaps and Secrets, by `configmap/<name>` or `secret/<name>`. Absent and empty differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracked_configs: Option<BTreeMap<String, String>>,
    /// Hash of the revision that the current or the last release is about.
    #[serde(skip_serializing_if = "is_zero")]
    pub last_applied_spec: String,
    /// Hash of the revision that was promoted last.
    #[serde(skip_serializing_if = "is_zero")]
    pub last_promoted_spec: String,
    /// When the status was written last.
    #[serde(
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub last_transition_time: Option<Timestamp>,
    /// The cookie of users that have seen the new version.
    #[serde(skip_serializing_if = "is_zero")]
    pub session_affinity_cookie: String,
    /// The cookie of users of the primary.
    #[serde(skip_serializing_if = "is_zero")]
    pub primary_session_affinity_cookie: String,
    /// The cookie of the release before.
    #[serde(skip_serializing_if = "is_zero")]
    pub previous_session_affinity_cookie: String,
    /// What is so and what is not: none or one, of type `Promoted`.
    #[serde(skip_serializing_if = "is_zero")]
    pub conditions: Vec<CanaryCondition>,
}

/// Whether the newest version serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryCondition {
    /// `Promoted`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The phase.
    pub reason: String,
    /// In words.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
    /// When status or reason changed last.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub last_update_time: Option<Timestamp>,
    /// When the status changed last.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub last_transition_time: Option<Timestamp>,
}
