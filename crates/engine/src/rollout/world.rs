//! Everything a decision about one Rollout is taken on.
//!
//! A world fills this in from its caches; it is read-only from then on. What has to be computed from the spec alone (hashes, validation) comes
//! prepared, because it changes only with the generation and is the same for thousands of passes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::names::label;
use crossfade_api::words::PodHash;
use crossfade_api::{AnalysisRun, Rollout};
use jiff::{SignedDuration, Timestamp};

use crate::action::{Split, Target};
use crate::decision::Found;
use crate::rollout::prepared::Prepared;

/// One Rollout and everything observed around it.
#[derive(Clone, Debug)]
pub struct World {
    /// The Rollout as stored, spec and status.
    pub rollout: Arc<Rollout>,
    /// What follows from its spec alone.
    pub prepared: Arc<Prepared>,
    /// Every ReplicaSet of the namespace that carries the hash label, owned by this Rollout or by nobody, in any order.
    pub replica_sets: Vec<ReplicaSet>,
    /// The Services that the strategy names.
    pub services: BTreeMap<String, Found<Service>>,
    /// The Ingresses, VirtualServices and other router objects that the strategy names, by kind and name, for validation only.
    pub references: BTreeMap<(String, String), Found<Arc<serde_json::Value>>>,
    /// The analysis templates that the strategy names, and those that they name in turn.
    pub templates: BTreeMap<TemplateKey, Found<Arc<AnalysisTemplateSpec>>>,
    /// The AnalysisRuns controlled by this Rollout, newest first; also those that only a live read finds.
    pub runs: Vec<Arc<AnalysisRun>>,
    /// The configured routers, in the order in which they are driven.
    pub routers: Vec<Router>,
    /// The pods of the Rollout; empty unless [`super::needs_pods`] asks for them.
    pub pods: Vec<Pod>,
    /// How this installation is set up.
    pub settings: Settings,
}

/// How an installation is set up, as far as decisions depend on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How often every object is looked at again without a reason.
    pub resync: SignedDuration,
    /// How long to wait before an unverified weight is verified again.
    pub verify_again: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            resync: SignedDuration::from_secs(900),
            verify_again: SignedDuration::from_secs(10),
        }
    }
}

/// Names an AnalysisTemplate or a ClusterAnalysisTemplate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TemplateKey {
    /// True for a ClusterAnalysisTemplate.
    pub cluster_scope: bool,
    /// Its name.
    pub name: String,
}

/// A ReplicaSet as far as decisions look at it: never its template, only facts about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaSet {
    /// Which one, and in which version.
    pub target: Target,
    /// When it was created.
    pub created: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// Uid of the controller that owns it, if any.
    pub controller: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its controller has seen its present spec.
    pub observed: bool,
    /// `spec.replicas`: pods wanted.
    pub replicas: i32,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: i32,
    /// `status.replicas`: pods that exist.
    pub current: i32,
    /// `status.readyReplicas`.
    pub ready: i32,
    /// `status.availableReplicas`: pods that have been ready for `minReadySeconds`.
    pub available: i32,
    /// Its condition `ReplicaFailure`, if True: reason and message.
    pub failure: Option<(String, String)>,
    /// Digest of its template without what the controller injected (`crossfade_api::hash::template_digest`).
    pub template_digest: String,
    /// Labels of its pod template.
    pub template_labels: BTreeMap<String, String>,
    /// Annotations of its pod template.
    pub template_annotations: BTreeMap<String, String>,
    /// The stable hash that its injected anti-affinity term keeps away from, if it has one.
    pub avoids: Option<PodHash>,
}

impl ReplicaSet {
    /// The version it runs: its hash label, empty if it has none.
    pub fn hash(&self) -> PodHash {
        PodHash(
            self.labels
                .get(label::POD_HASH)
                .cloned()
                .unwrap_or_default(),
        )
    }
}

/// A Service as far as decisions look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// Which one, and in which version.
    pub target: Target,
    /// `spec.selector`.
    pub selector: BTreeMap<String, String>,
    /// The Rollout that its annotation names as manager.
    pub managed_by: Option<String>,
}

/// A configured router.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Router {
    /// Its type: `Istio`, `Nginx`, `ALB`, … or the plugin's name.
    pub kind: String,
    /// The split it carries now, as far as that can be read.
    pub in_force: Option<Split>,
}

/// A pod as far as decisions look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Which one, and in which version.
    pub target: Target,
    /// When it was created.
    pub created: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// Uid of the ReplicaSet that owns it.
    pub controller: Option<String>,
    /// Since when it is ready, if it is.
    pub ready_since: Option<Timestamp>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}
