//! An experiment: versions that run side by side for a while, and what is measured meanwhile.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::{Argument, DryRunRule, RetentionRule};
use crate::analysis_run::AnalysisPhase;
use crate::is_zero;
use crate::pod_template::PodTemplate;
use crate::rollout::PodTemplateMetadata;
use crate::rollout_status::RolloutCondition;
use crate::steps::ExperimentService;
use crate::wire_enum::wire_enum;

/// What a user asks for in an Experiment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentSpec {
    /// The versions to run.
    pub templates: Vec<TemplateSpec>,
    /// How long, as a Go duration, from the moment at which all were available; empty means until analyses end it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duration: String,
    /// Seconds that a version may go without progress; 600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i32>,
    /// The experiment shall end now.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub terminate: bool,
    /// What is measured once all versions are available.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub analyses: Vec<AnalysisRef>,
    /// Seconds that pods stay after the end; 30 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay_seconds: Option<i32>,
    /// Metrics that are measured but do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dry_run: Vec<DryRunRule>,
    /// How many measurements are kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub measurement_retention: Vec<RetentionRule>,
    /// Labels and annotations of its analysis runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub analysis_run_metadata: PodTemplateMetadata,
}

/// A version that an experiment runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSpec {
    /// Its name, unique in the experiment.
    pub name: String,
    /// Wanted number of pods; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Seconds a pod must be ready before it counts as available.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_ready_seconds: i32,
    /// Which pods belong to it. An absent one is told by validation, not refused by the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The pods to run.
    pub template: PodTemplate,
    /// Creates a Service for its pods, also when it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ExperimentService>,
}

/// An analysis of an experiment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRef {
    /// Its name within the experiment.
    pub name: String,
    /// Name of the template.
    pub template_name: String,
    /// Whether the template is a ClusterAnalysisTemplate.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cluster_scope: bool,
    /// Arguments for the template; values may hold tags such as `{{templates.canary.podTemplateHash}}`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub args: Vec<Argument>,
    /// The experiment goes on until this analysis is successful.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub required_for_completion: bool,
}

wire_enum! {
    /// How far a template of an experiment got.
    pub enum TemplateState {
        /// Not looked at yet.
        Unset = "",
        /// Its pods are not all available.
        Progressing = "Progressing",
        /// All pods are available.
        Running = "Running",
        /// It has run as long as it should.
        Successful = "Successful",
        /// It made no progress for too long.
        Failed = "Failed",
        /// It could not be run.
        Error = "Error",
    }
}

impl TemplateState {
    /// True for Successful, Failed and Error.
    pub fn is_completed(self) -> bool {
        matches!(self, Self::Successful | Self::Failed | Self::Error)
    }
}

/// How far an experiment got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentStatus {
    /// Its phase.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub phase: AnalysisPhase,
    /// Why it has this phase.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
    /// When all templates were available for the first time.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub available_at: Option<Timestamp>,
    /// How far each template got.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub template_statuses: Vec<TemplateStatus>,
    /// How far each analysis got.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub analysis_runs: Vec<ExperimentRun>,
    /// What is so and what is not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub conditions: Vec<RolloutCondition>,
}

/// How far a template got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateStatus {
    /// Name of the template.
    pub name: String,
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// The same number.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Pods that are available.
    #[serde(default)]
    pub available_replicas: i32,
    /// How often a hash was taken already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    /// Its state.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub status: TemplateState,
    /// Why it has this state.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
    /// When it last made progress.
    #[serde(
        default,
        with = "crate::time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<crate::time::Time>")]
    pub last_transition_time: Option<Timestamp>,
    /// Name of the Service that was created for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub service_name: String,
    /// Hash of the pods behind that Service.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pod_template_hash: String,
}

/// How far an analysis got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentRun {
    /// Name of the analysis.
    pub name: String,
    /// Name of its run; empty until there is one.
    #[serde(default)]
    pub analysis_run: String,
    /// Phase of the run.
    #[serde(default)]
    pub phase: AnalysisPhase,
    /// Why it has this phase.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
}
