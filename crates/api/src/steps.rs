//! The steps of a canary.
//!
//! A step has one key out of eight. The type allows several, because users can write them; which
//! combinations are refused is said in [`crate::validate`], and [`CanaryStep`]'s text form names the step in
//! events.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::DryRunRule;
use crate::intstr;
use crate::is_zero;
use crate::ordered_json::OrderedJson;
use crate::rollout::{PodTemplateMetadata, RolloutAnalysis, RolloutArgument};

/// One step of a canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStep {
    /// The canary's share of the traffic, from 0 to the router's maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_weight: Option<i32>,
    /// Wait, for a time or for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Run other versions beside for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentStep>,
    /// Measure and decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<RolloutAnalysis>,
    /// The canary's number of pods, apart from its weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_canary_scale: Option<SetCanaryScale>,
    /// Send requests with certain headers to the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_header_route: Option<SetHeaderRoute>,
    /// Copy requests to the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_mirror_route: Option<SetMirrorRoute>,
    /// Let a plugin act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginStep>,
}

/// A pause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// How long; absent means until a person resumes. See [`Pause::duration_seconds`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<IntOrString>,
}

/// The canary's number of pods. The first member that applies wins: `matchTrafficWeight`, `replicas`, `weight`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetCanaryScale {
    /// As many pods as this weight would need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// Exactly so many pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Back to as many pods as the traffic weight needs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub match_traffic_weight: bool,
}

/// How a text is compared: exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StringMatch {
    /// Equal to this text.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub exact: String,
    /// Starts with this text.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prefix: String,
    /// Matches this regular expression.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub regex: String,
}

/// A route for requests with certain headers. Without `match` the route is removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetHeaderRoute {
    /// Name of the route, one of `managedRoutes`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub name: String,
    /// What a request must carry: all entries.
    #[serde(rename = "match", default, skip_serializing_if = "is_zero")]
    pub matches: Vec<HeaderMatch>,
}

/// One header and its value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Name of the header.
    pub header_name: String,
    /// What its value must be.
    #[serde(default)]
    pub header_value: Option<StringMatch>,
}

/// A route whose requests are copied to the canary. Without `match` the route is removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetMirrorRoute {
    /// Name of the route, one of `managedRoutes`.
    pub name: String,
    /// Which requests: any entry.
    #[serde(rename = "match", default, skip_serializing_if = "is_zero")]
    pub matches: Vec<RouteMatch>,
    /// How many of them, in percent; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<i32>,
}

/// What a request must look like: all members that are set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// Its method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<StringMatch>,
    /// Its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<StringMatch>,
    /// Its headers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub headers: BTreeMap<String, StringMatch>,
}

/// A step that a plugin carries out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginStep {
    /// Name of the plugin, `<org>/<name>`.
    pub name: String,
    /// Settings for the plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<OrderedJson>,
}

/// A step that runs an experiment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentStep {
    /// The versions to run.
    pub templates: Vec<ExperimentTemplate>,
    /// How long, as a Go duration; empty means until its analyses end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duration: String,
    /// What is measured meanwhile.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub analyses: Vec<ExperimentAnalysis>,
    /// Metrics that are measured but do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dry_run: Vec<DryRunRule>,
    /// Labels and annotations of its analysis runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub analysis_run_metadata: PodTemplateMetadata,
    /// Seconds that its pods stay after its end; 30 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay_seconds: Option<i32>,
}

/// A version that an experiment step runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentTemplate {
    /// Name of the template.
    pub name: String,
    /// Which version: `canary` or `stable`.
    pub spec_ref: String,
    /// Number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Labels and annotations for its pods.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metadata: PodTemplateMetadata,
    /// Selector of its ReplicaSet; that of the version when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Its share of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// Creates a Service for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ExperimentService>,
}

/// The Service of an experiment's template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentService {
    /// Its name; generated when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub name: String,
}

/// An analysis of an experiment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentAnalysis {
    /// Name of the analysis within the experiment.
    pub name: String,
    /// Name of the template.
    pub template_name: String,
    /// Whether the template is a ClusterAnalysisTemplate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_scope: Option<bool>,
    /// Arguments for the template.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub args: Vec<RolloutArgument>,
    /// Whether the experiment ends when this analysis ends.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub required_for_completion: bool,
}

/// The step as events and the command line name it. With several keys the first in this order wins.
impl fmt::Display for CanaryStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(weight) = self.set_weight {
            write!(f, "setWeight: {weight}")
        } else if let Some(pause) = &self.pause {
            match &pause.duration {
                Some(duration) => write!(f, "pause: {}", intstr::text(duration)),
                None => f.write_str("pause"),
            }
        } else if self.experiment.is_some() {
            f.write_str("experiment")
        } else if self.analysis.is_some() {
            f.write_str("analysis")
        } else if let Some(scale) = &self.set_canary_scale {
            match (scale.weight, scale.match_traffic_weight, scale.replicas) {
                (Some(weight), _, _) => write!(f, "setCanaryScale{{weight: {weight}}}"),
                (None, true, _) => f.write_str("setCanaryScale{matchTrafficWeight: true}"),
                (None, false, Some(replicas)) => {
                    write!(f, "setCanaryScale{{replicas: {replicas}}}")
                }
                (None, false, None) => f.write_str("invalid"),
            }
        } else if let Some(plugin) = &self.plugin {
            write!(f, "plugin: {}", plugin.name)
        } else if let Some(route) = &self.set_header_route {
            write!(f, "setHeaderRoute: {}", route.name)
        } else if let Some(route) = &self.set_mirror_route {
            write!(f, "setMirrorRoute: {}", route.name)
        } else {
            f.write_str("invalid")
        }
    }
}
