//! What a user asks for in a Canary: which workload is released, behind which Service, on which evidence.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::CanaryAnalysis;
use super::service::CanaryService;
use crate::is_zero;

/// What a user asks for in a Canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanarySpec {
    /// Who routes requests, for example `nginx`; the controller's own choice when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub provider: String,
    /// Address of the Prometheus that answers built-in and inline metrics; the controller's own when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metrics_server: String,
    /// Seconds in which a workload must become ready; 600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i32>,
    /// The workload that is released.
    pub target_ref: ObjectRef,
    /// What scales the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler_ref: Option<AutoscalerRef>,
    /// The Ingress whose traffic is split, for providers `nginx` and `skipper`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_ref: Option<ObjectRef>,
    /// The APISIX route whose traffic is split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_ref: Option<ObjectRef>,
    /// The Gloo upstream that the generated ones are copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_ref: Option<UpstreamRef>,
    /// The Services that are generated, and how requests reach them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<CanaryService>,
    /// How a new version is judged. Without it a new version is promoted unseen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<CanaryAnalysis>,
    /// The former name of `analysis`: no API server stores it, but objects that carry it are understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub canary_analysis: Option<CanaryAnalysis>,
    /// A new version is promoted without being judged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip_analysis: bool,
    /// When the Canary is deleted, its target serves alone again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revert_on_deletion: bool,
    /// Nothing is done about the Canary.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suspend: bool,
}

/// An object in the Canary's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Its API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A Gloo upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamRef {
    /// Its API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; the Canary's when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub namespace: String,
}

/// What scales the workload, and how its copy for the primary differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalerRef {
    /// Its API version.
    pub api_version: String,
    /// Its kind: `HorizontalPodAutoscaler` or `ScaledObject`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Queries of the primary's triggers by the triggers' names; for ScaledObjects.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub primary_scaler_queries: BTreeMap<String, String>,
    /// Bounds of the primary's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_scaler_replicas: Option<ScalerReplicas>,
}

/// Bounds of a workload's size; at least 1 each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalerReplicas {
    /// The smallest number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// The greatest number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<i32>,
}

/// What kind of workload is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A Deployment.
    Deployment,
    /// A DaemonSet.
    DaemonSet,
    /// A Service whose pods somebody else looks after.
    Service,
    /// A Knative Service.
    Knative,
}

impl CanarySpec {
    /// How a new version is judged, by its present or its former name.
    pub fn analysis(&self) -> Option<&CanaryAnalysis> {
        self.analysis.as_ref().or(self.canary_analysis.as_ref())
    }

    /// Whether a new version is promoted without being judged.
    pub fn skips_analysis(&self) -> bool {
        self.skip_analysis || self.analysis().is_none()
    }

    /// Seconds in which a workload must become ready.
    pub fn progress_deadline(&self) -> i32 {
        self.progress_deadline_seconds.unwrap_or(600)
    }

    /// Time between two looks at the Canary: 60 s when it is absent or no duration, and never below 10 s.
    pub fn interval(&self) -> SignedDuration {
        const LEAST: SignedDuration = SignedDuration::from_secs(10);
        let text = self.analysis().map_or("", |analysis| &analysis.interval);
        let wanted = crate::duration::parse(text)
            .ok()
            .filter(|_| !text.is_empty());
        wanted.unwrap_or(SignedDuration::from_secs(60)).max(LEAST)
    }

    /// What kind of workload is released; `None` for a kind that nobody knows.
    pub fn target_kind(&self) -> Option<TargetKind> {
        match (
            self.target_ref.api_version.as_str(),
            self.target_ref.kind.as_str(),
        ) {
            ("serving.knative.dev/v1", "Service") => Some(TargetKind::Knative),
            (_, "Deployment") => Some(TargetKind::Deployment),
            (_, "DaemonSet") => Some(TargetKind::DaemonSet),
            (_, "Service") => Some(TargetKind::Service),
            _ => None,
        }
    }

    /// Name of the Service that users call; those of the two versions are named after it.
    pub fn apex(&self) -> &str {
        let name = self.service.as_ref().map_or("", |service| &service.name);
        if name.is_empty() {
            &self.target_ref.name
        } else {
            name
        }
    }
}
