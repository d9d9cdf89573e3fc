//! The status of a Rollout: what the controller reports and what people's commands write into it.
//!
//! Every field may be absent. Names, forms and which zero values are written follow
//! `argoproj.io/v1alpha1`, because the command line, Argo CD and autoscalers read them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::analysis_run::AnalysisPhase;
use crate::is_zero;
use crate::wire_enum::wire_enum;
use crate::words::PodHash;

/// Where a Rollout stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The update is being taken back, or shall be.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub abort: bool,
    /// When the abort was first seen.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub aborted_at: Option<Timestamp>,
    /// Why the Rollout is paused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pause_conditions: Vec<PauseCondition>,
    /// The controller has paused; with no pause condition left, a person has resumed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub controller_pause: bool,
    /// Hash of the newest version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub current_pod_hash: PodHash,
    /// Hash of the list of steps.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub current_step_hash: String,
    /// Index of the step under way; the number of steps when all are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_step_index: Option<i32>,
    /// Pods of all versions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replicas: i32,
    /// Pods of the newest version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub updated_replicas: i32,
    /// Ready pods.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ready_replicas: i32,
    /// Available pods.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub available_replicas: i32,
    /// Pods that an autoscaler counts.
    #[serde(rename = "HPAReplicas", default, skip_serializing_if = "is_zero")]
    pub hpa_replicas: i32,
    /// Label selector that an autoscaler uses.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub selector: String,
    /// How often the name of a new ReplicaSet was taken; part of the hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    /// `metadata.generation` that was last acted on, in decimal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub observed_generation: String,
    /// What is true at present, at most one entry a type.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub conditions: Vec<RolloutCondition>,
    /// Hash of the last promoted version.
    #[serde(rename = "stableRS", default, skip_serializing_if = "is_zero")]
    pub stable_rs: PodHash,
    /// The `restartAt` that was last carried out.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub restarted_at: Option<Timestamp>,
    /// A person asked to skip steps, pauses and analysis.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub promote_full: bool,
    /// The state in one word.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub phase: RolloutPhase,
    /// Why the phase is what it is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
    /// Generation of the referenced workload that was last acted on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub workload_observed_generation: String,
    /// What only canaries have.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub canary: CanaryStatus,
    /// What only blue-green releases have.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub blue_green: BlueGreenStatus,
    /// The load balancer of the last Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alb: Option<AlbStatus>,
    /// The load balancers, one for each Ingress.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub albs: Vec<AlbStatus>,
    /// Timing of the attempt under way, or of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<RolloutDuration>,
}

wire_enum! {
    /// The state of a Rollout in one word.
    pub enum RolloutPhase {
        /// Not yet known.
        Unset = "",
        /// Something is still to happen.
        Progressing = "Progressing",
        /// A pause is being served.
        Paused = "Paused",
        /// All is as asked for.
        Healthy = "Healthy",
        /// The release was taken back, is stuck, or the spec is invalid.
        Degraded = "Degraded",
    }
}

wire_enum! {
    /// Why a Rollout is paused.
    pub enum PauseReason {
        /// A reason that this version does not know.
        Unknown = "",
        /// An analysis could not tell.
        InconclusiveAnalysisRun = "InconclusiveAnalysisRun",
        /// An experiment could not tell.
        InconclusiveExperiment = "InconclusiveExperiment",
        /// A pause step.
        CanaryPauseStep = "CanaryPauseStep",
        /// Blue-green waits before the switch.
        BlueGreenPause = "BlueGreenPause",
    }
}

wire_enum! {
    /// How an attempt to release ended.
    pub enum CompletionStatus {
        /// Not ended yet.
        Unset = "",
        /// Promoted after all steps.
        Promoted = "Promoted",
        /// Promoted on request, without the remaining steps.
        FastPromoted = "FastPromoted",
        /// Taken back.
        Aborted = "Aborted",
        /// Replaced by an older version.
        RolledBack = "RolledBack",
        /// Replaced by an older version without steps.
        FastRolledBack = "FastRolledBack",
    }
}

wire_enum! {
    /// Which Service of a ping-pong canary is the stable one.
    pub enum PingPongRole {
        /// Not decided yet; counts as pong.
        Unset = "",
        /// The ping Service.
        Ping = "ping",
        /// The pong Service.
        Pong = "pong",
    }
}

wire_enum! {
    /// Whether a condition holds.
    pub enum ConditionStatus {
        /// It is not known.
        Unknown = "Unknown",
        /// It holds.
        True = "True",
        /// It does not hold.
        False = "False",
    }
}

wire_enum! {
    /// What a step plugin was asked to do.
    pub enum PluginOperation {
        /// Not said.
        Unset = "",
        /// Carry out the step.
        Run = "Run",
        /// Stop early.
        Terminate = "Terminate",
        /// Undo.
        Abort = "Abort",
    }
}

wire_enum! {
    /// How far a step plugin got.
    pub enum PluginPhase {
        /// Not said.
        Unset = "",
        /// Not done yet.
        Running = "Running",
        /// Done.
        Successful = "Successful",
        /// It failed.
        Failed = "Failed",
        /// It could not be asked.
        Error = "Error",
    }
}

/// A reason to pause and since when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseCondition {
    /// The reason.
    pub reason: PauseReason,
    /// Since when.
    #[serde(with = "crate::time::required")]
    #[schemars(with = "crate::time::Time")]
    pub start_time: Timestamp,
}

/// Something that is or is not so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutCondition {
    /// What the condition is about; see [`crate::names::condition`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// When it was last confirmed.
    #[serde(with = "crate::time::required")]
    #[schemars(with = "crate::time::Time")]
    pub last_update_time: Timestamp,
    /// When `status` last changed.
    #[serde(with = "crate::time::required")]
    #[schemars(with = "crate::time::Time")]
    pub last_transition_time: Timestamp,
    /// Why, in one word; see [`crate::names::reason`].
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// What the status of a canary has in addition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStatus {
    /// The analysis run of the step under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_step_analysis_run_status: Option<AnalysisRunSlot>,
    /// The analysis run beside the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_background_analysis_run_status: Option<AnalysisRunSlot>,
    /// Name of the experiment of the step under way.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub current_experiment: String,
    /// The weights last given to the routers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<TrafficWeights>,
    /// Which Service of a ping-pong canary is the stable one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stable_ping_pong: PingPongRole,
    /// How far step plugins got.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub step_plugin_statuses: Vec<StepPluginStatus>,
}

/// What the status of a blue-green release has in addition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreenStatus {
    /// Hash that the preview Service selects.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub preview_selector: PodHash,
    /// Hash that the active Service selects.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub active_selector: PodHash,
    /// The preview has passed its checks at its small size.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub scale_up_preview_check_point: bool,
    /// The analysis run before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_promotion_analysis_run_status: Option<AnalysisRunSlot>,
    /// The analysis run after the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_promotion_analysis_run_status: Option<AnalysisRunSlot>,
}

/// A current analysis run as a Rollout's status shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRunSlot {
    /// Name of the run.
    pub name: String,
    /// Its phase; empty in the pass that creates it.
    pub status: AnalysisPhase,
    /// Its message.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
}

/// The weights last given to the routers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficWeights {
    /// The canary's share.
    pub canary: WeightDestination,
    /// The stable version's share.
    pub stable: WeightDestination,
    /// Shares of experiment templates.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub additional: Vec<WeightDestination>,
    /// Whether the router has confirmed them; absent when it cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
}

/// A share of the traffic and who gets it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightDestination {
    /// The share, in parts of the router's maximum.
    pub weight: i32,
    /// The Service it goes to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub service_name: String,
    /// The version it goes to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pod_template_hash: PodHash,
}

/// How far a step plugin got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepPluginStatus {
    /// Index of the step.
    pub index: i32,
    /// Name of the plugin.
    pub name: String,
    /// What it says.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
    /// How far it got.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub phase: PluginPhase,
    /// What it was asked to do.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub operation: PluginOperation,
    /// When it was first asked.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub started_at: Option<Timestamp>,
    /// When it was last asked.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub updated_at: Option<Timestamp>,
    /// When it was done.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub finished_at: Option<Timestamp>,
    /// How long until it is asked again, as a Go duration.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backoff: String,
    /// How often it was asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub executions: i32,
    /// The plugin is switched off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disabled: bool,
    /// What the plugin keeps for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// A load balancer and its target groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlbStatus {
    /// The load balancer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub load_balancer: AwsResourceRef,
    /// Target group of the canary.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub canary_target_group: AwsResourceRef,
    /// Target group of the stable version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stable_target_group: AwsResourceRef,
    /// The Ingress it belongs to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ingress: String,
}

/// An AWS resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsResourceRef {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The last parts of its ARN.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub full_name: String,
}

/// Timing of one attempt to release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutDuration {
    /// When it began.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub rollout_started_at: Option<Timestamp>,
    /// When the present wait for a person began.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub manual_pause_started_at: Option<Timestamp>,
    /// Whole seconds spent waiting for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_manual_pause_duration_seconds: Option<i64>,
    /// When it ended.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub completion_status: CompletionStatus,
}
