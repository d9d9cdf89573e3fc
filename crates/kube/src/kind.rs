//! The kinds of objects that the controller reads and writes.

use std::sync::Arc;

use crossfade_api::flagger;
use crossfade_api::names::label;
use crossfade_api::resource::GROUP;
use crossfade_engine::rollout::workload;
use kube::core::ApiResource;

/// A kind of objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Rollout,
    AnalysisRun,
    Experiment,
    AnalysisTemplate,
    ClusterAnalysisTemplate,
    ReplicaSet,
    Service,
    Job,
    Pod,
    /// Read when it is needed; watched, by its checksum, where a Canary's target names one.
    Secret,
    ConfigMap,
    Canary,
    Event,
    Lease,
    /// What a Rollout may take its template from.
    Workload(workload::Kind),
    /// Whatever a router splits traffic with.
    Routed(Arc<crossfade_traffic::Kind>),
}

impl Kind {
    /// How the API server knows it.
    pub(crate) fn resource(&self) -> ApiResource {
        let (group, version, kind, plural) = match self {
            Self::Rollout => (GROUP, "v1alpha1", "Rollout", "rollouts"),
            Self::AnalysisRun => (GROUP, "v1alpha1", "AnalysisRun", "analysisruns"),
            Self::Experiment => (GROUP, "v1alpha1", "Experiment", "experiments"),
            Self::AnalysisTemplate => (GROUP, "v1alpha1", "AnalysisTemplate", "analysistemplates"),
            Self::ClusterAnalysisTemplate => {
                let plural = "clusteranalysistemplates";
                (GROUP, "v1alpha1", "ClusterAnalysisTemplate", plural)
            }
            Self::ReplicaSet => ("apps", "v1", "ReplicaSet", "replicasets"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::Job => ("batch", "v1", "Job", "jobs"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Canary => (flagger::GROUP, "v1beta1", "Canary", "canaries"),
            Self::Event => ("", "v1", "Event", "events"),
            Self::Lease => ("coordination.k8s.io", "v1", "Lease", "leases"),
            Self::Workload(workload::Kind::Deployment) => {
                ("apps", "v1", "Deployment", "deployments")
            }
            Self::Workload(workload::Kind::ReplicaSet) => {
                ("apps", "v1", "ReplicaSet", "replicasets")
            }
            Self::Workload(workload::Kind::PodTemplate) => {
                ("", "v1", "PodTemplate", "podtemplates")
            }
            Self::Routed(kind) => (
                kind.group.as_str(),
                kind.version.as_str(),
                kind.kind.as_str(),
                kind.plural.as_str(),
            ),
        };
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    /// Which of all objects of the kind are watched; `instance` is the controller's own id, empty if it has none.
    pub(crate) fn selector(&self, instance: &str) -> Option<String> {
        match self {
            Self::Rollout | Self::AnalysisRun | Self::Experiment | Self::Canary
                if instance.is_empty() =>
            {
                Some(format!("!{}", label::INSTANCE_ID))
            }
            Self::Rollout | Self::AnalysisRun | Self::Experiment | Self::Canary => {
                Some(format!("{}={instance}", label::INSTANCE_ID))
            }
            Self::ReplicaSet => Some(label::POD_HASH.to_owned()),
            Self::Job | Self::Pod => Some(label::ANALYSIS_RUN_UID.to_owned()),
            Self::AnalysisTemplate
            | Self::ClusterAnalysisTemplate
            | Self::Service
            | Self::Secret
            | Self::ConfigMap
            | Self::Event
            | Self::Lease
            | Self::Workload(_)
            | Self::Routed(_) => None,
        }
    }

    /// Whether it may be written by one who does not lead.
    pub(crate) fn is_free(&self) -> bool {
        matches!(self, Self::Event | Self::Lease)
    }

    /// Whether its status is a subresource.
    pub(crate) fn has_status_subresource(&self) -> bool {
        matches!(self, Self::Rollout | Self::Canary)
    }
}
