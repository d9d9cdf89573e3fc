//! The spec of a Rollout: what a user asks for.
//!
//! Fields, names and wire forms are those of `argoproj.io/v1alpha1`. A field that may be left out is an
//! `Option` where "left out" and "zero" differ, and a plain value otherwise. Defaults are methods
//! (see [`crate::defaults`]); the steps of a canary are in [`crate::steps`], routers in [`crate::traffic_routing`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::{DryRunRule, FieldRef, RetentionRule, TemplateRef};
use crate::is_zero;
use crate::pod_template::PodTemplate;
use crate::steps::CanaryStep;
use crate::traffic_routing::TrafficRouting;

/// What a user asks for in a Rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// Wanted number of pods; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Which pods belong to the Rollout. Absent is allowed only with `workloadRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The pods to run. Empty with `workloadRef`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub template: PodTemplate,
    /// Another object that holds the pod template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<WorkloadRef>,
    /// Seconds a pod must be ready before it counts as available.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_ready_seconds: i32,
    /// Going back to a recent revision skips steps and analysis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_window: Option<RollbackWindow>,
    /// How a new version replaces the old one: exactly one of canary and blue-green.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub strategy: RolloutStrategy,
    /// How many old ReplicaSets are kept; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
    /// A person holds the Rollout.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub paused: bool,
    /// Seconds without progress after which the Rollout counts as stuck; 600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i32>,
    /// Abort the update when the progress deadline passes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub progress_deadline_abort: bool,
    /// Pods created before this instant are replaced.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub restart_at: Option<Timestamp>,
    /// How many finished analysis runs are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisHistory>,
}

/// Where the pod template is taken from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// API version of the workload, for example `apps/v1`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub api_version: String,
    /// Kind of the workload, for example `Deployment`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kind: String,
    /// Name of the workload, in the namespace of the Rollout.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub name: String,
    /// When the workload is scaled down: `never`, `onsuccess` or `progressively`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub scale_down: String,
}

/// How far back a rollback counts as quick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackWindow {
    /// Number of revisions that may lie between; 0 switches the window off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revisions: i32,
}

/// How many finished analysis runs and experiments of a Rollout are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisHistory {
    /// Successful ones; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successful_run_history_limit: Option<i32>,
    /// Failed, errored and inconclusive ones together; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsuccessful_run_history_limit: Option<i32>,
}

/// The strategy: exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStrategy {
    /// Two full sets of pods and one switch between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreenStrategy>,
    /// A growing share for the new version, step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStrategy>,
}

/// A blue-green release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreenStrategy {
    /// Service that gets production traffic.
    pub active_service: String,
    /// Service that points at the new version before the switch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub preview_service: String,
    /// Size of the new version before the switch; `spec.replicas` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_replica_count: Option<i32>,
    /// Whether the switch happens without a person; true when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_promotion_enabled: Option<bool>,
    /// Seconds to wait before an automatic switch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub auto_promotion_seconds: i32,
    /// How many pods may be missing during a restart; 25 % when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// Seconds that old pods stay after the switch; 30 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay_seconds: Option<i32>,
    /// How many old versions the delay may keep alive; unlimited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay_revision_limit: Option<i32>,
    /// Seconds that new pods stay after an abort; 30 when absent, 0 means for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_scale_down_delay_seconds: Option<i32>,
    /// Analysis before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_promotion_analysis: Option<RolloutAnalysis>,
    /// Analysis after the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_promotion_analysis: Option<RolloutAnalysis>,
    /// Keeps new pods away from the nodes of old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_affinity: Option<AntiAffinity>,
    /// Labels and annotations of pods while they are the preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_metadata: Option<PodTemplateMetadata>,
    /// Labels and annotations of pods while they are active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_metadata: Option<PodTemplateMetadata>,
}

/// A canary release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStrategy {
    /// Service that points at the new version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub canary_service: String,
    /// Service that points at the stable version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stable_service: String,
    /// What happens in which order; none means a plain rolling update.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub steps: Vec<CanaryStep>,
    /// The routers that split the traffic. Its presence separates weight and pod counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_routing: Option<TrafficRouting>,
    /// How many pods may be missing during an update; 25 % when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// How many pods may be added during an update; 25 % when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// Analysis that runs beside the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<BackgroundAnalysis>,
    /// Keeps new pods away from the nodes of old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_affinity: Option<AntiAffinity>,
    /// Labels and annotations of pods while they are the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_metadata: Option<PodTemplateMetadata>,
    /// Labels and annotations of pods while they are stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_metadata: Option<PodTemplateMetadata>,
    /// Seconds that old pods stay after promotion; 30 with a router when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay_seconds: Option<i32>,
    /// How many old versions the delay may keep alive; unlimited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay_revision_limit: Option<i32>,
    /// Seconds that canary pods stay after an abort; 30 with a router when absent, 0 means for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_scale_down_delay_seconds: Option<i32>,
    /// The stable version shrinks as the canary grows. Needs a router.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dynamic_stable_scale: bool,
    /// Two Services that swap their roles at each promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ping_pong: Option<PingPong>,
    /// Least number of pods of a version that has any. Needs a router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_pods_per_replica_set: Option<i32>,
    /// How many pods of the new version must be available before the release goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_progress_threshold: Option<ReplicaProgressThreshold>,
}

/// The Services of a canary that swaps Services instead of selectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PingPong {
    /// The first Service.
    pub ping_service: String,
    /// The second Service.
    pub pong_service: String,
}

/// How many pods are enough to go on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaProgressThreshold {
    /// `Percent` or `Pods`; anything else counts as `Pods`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Percentage or number; a negative value counts as not set.
    pub value: i32,
}

/// Keeps the pods of two versions on different nodes: exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AntiAffinity {
    /// A wish with a weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_during_scheduling_ignored_during_execution: Option<PreferredAntiAffinity>,
    /// A must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_during_scheduling_ignored_during_execution: Option<RequiredAntiAffinity>,
}

/// A preferred anti-affinity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferredAntiAffinity {
    /// How much the scheduler should care, from 1 to 100.
    pub weight: i32,
}

/// A required anti-affinity; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequiredAntiAffinity {}

/// Labels and annotations for pods or analysis runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplateMetadata {
    /// Labels to set.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to set.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub annotations: BTreeMap<String, String>,
}

/// An analysis that a Rollout starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutAnalysis {
    /// The templates to measure by; none means no analysis.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub templates: Vec<TemplateRef>,
    /// Arguments for the templates.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub args: Vec<RolloutArgument>,
    /// Metrics that are measured but do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dry_run: Vec<DryRunRule>,
    /// How many measurements are kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub measurement_retention: Vec<RetentionRule>,
    /// Labels and annotations of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis_run_metadata: Option<PodTemplateMetadata>,
}

/// An analysis that runs beside the steps of a canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackgroundAnalysis {
    /// What is measured.
    #[serde(flatten)]
    pub analysis: RolloutAnalysis,
    /// Index of the step at which it starts; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_step: Option<i32>,
}

/// An argument that a Rollout gives to its analysis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutArgument {
    /// Name of the argument.
    pub name: String,
    /// Its value, when it is given literally.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value: String,
    /// Where its value is taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<RolloutArgumentValueFrom>,
}

/// Where the value of a Rollout's argument is taken from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutArgumentValueFrom {
    /// `Stable` or `Latest`: the hash of that version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template_hash_value: Option<String>,
    /// A field of the Rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
}
