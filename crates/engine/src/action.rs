//! What a world is asked to do: one closed, serialisable list.
//!
//! Every action names the object it changes with the uid and resourceVersion it was decided on, and is safe to repeat: a world that
//! performs it twice leaves the same objects as one that performs it once. What an action leads to comes back as [`Outcome`] and is
//! evidence for the next round of the same pass.

use std::collections::BTreeMap;

use crossfade_api::analysis::Metric;
use crossfade_api::words::PodHash;
use crossfade_api::{AnalysisRun, Experiment};
use serde::{Deserialize, Serialize};

use crate::analysis::measure::{ArgumentSource, MeasureRequest, Measured};
use crate::analysis::world::Job;
use crate::canary::action::{CanaryAction, CanaryDone};
use crate::experiment::world::Service;
use crate::rollout::world::ReplicaSet;

pub use crossfade_api::split::{Destination, HeaderRoute, MirrorRoute, Split};

/// The object that an action changes, and the version it was decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Uid of the object; another object of the same name is not meant.
    pub uid: String,
    /// resourceVersion that was observed; empty where a change by others does not matter.
    pub resource_version: String,
}

/// A change of string keys: a value sets the key, `None` removes it.
pub type KeyChanges = BTreeMap<String, Option<String>>;

/// Something a world is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// Create a ReplicaSet; answers [`Done::ReplicaSet`].
    CreateReplicaSet(Box<NewReplicaSet>),
    /// Change a ReplicaSet in place; answers [`Done::ReplicaSet`] where the world knows the new object.
    UpdateReplicaSet {
        /// Which one.
        target: Target,
        /// What changes.
        change: ReplicaSetChange,
    },
    /// Delete a ReplicaSet; one that is gone already counts as done.
    DeleteReplicaSet {
        /// Which one.
        target: Target,
    },
    /// Make the Rollout the controller of an orphaned ReplicaSet, after a live read that the Rollout still exists.
    AdoptReplicaSet {
        /// Which one.
        target: Target,
        /// Uid of the Rollout that becomes its owner.
        owner_uid: String,
    },
    /// Remove the Rollout's owner reference from a ReplicaSet that its selector no longer matches.
    ReleaseReplicaSet {
        /// Which one.
        target: Target,
        /// Uid of the Rollout that lets go.
        owner_uid: String,
    },
    /// Change annotations of the Rollout itself, or write the default of `spec.replicas`.
    UpdateRollout {
        /// Which one.
        target: Target,
        /// Annotations to set or remove.
        annotations: KeyChanges,
        /// `spec.replicas` to store, where it is absent.
        replicas: Option<i32>,
    },
    /// Point a Service at one version.
    SwitchService {
        /// Which one.
        target: Target,
        /// The hash its selector shall name.
        hash: PodHash,
        /// Name of the Rollout to record as manager, where the annotation is missing.
        managed_by: Option<String>,
    },
    /// Let go of a Service that no Rollout names any more: remove the hash from its selector, and the annotation that names its manager.
    ReleaseService {
        /// Which one.
        target: Target,
    },
    /// Make one router carry a split of traffic; a router that carries it already is left alone.
    Route {
        /// The router's type, for example `Istio`.
        router: String,
        /// The whole split.
        split: Box<Split>,
    },
    /// Ask one router whether a split is in force; answers [`Done::Verified`].
    VerifyRoute {
        /// The router's type.
        router: String,
        /// The whole split.
        split: Box<Split>,
    },
    /// Evict a pod by the eviction API, so that disruption budgets are honoured.
    EvictPod {
        /// Which one.
        target: Target,
    },
    /// Change labels and annotations of a running pod.
    UpdatePodMetadata {
        /// Which one.
        target: Target,
        /// Labels to set or remove.
        labels: KeyChanges,
        /// Annotations to set or remove.
        annotations: KeyChanges,
    },
    /// Create an AnalysisRun; answers [`Done::AnalysisRun`].
    CreateAnalysisRun(Box<AnalysisRun>),
    /// Ask an AnalysisRun to end.
    TerminateAnalysisRun {
        /// Which one.
        target: Target,
    },
    /// Delete an AnalysisRun.
    DeleteAnalysisRun {
        /// Which one.
        target: Target,
    },
    /// Create a Service of type `ClusterIP`; answers [`Done::Written`].
    CreateService(Box<NewService>),
    /// Delete a Service that was created so.
    DeleteService {
        /// Which one.
        target: Target,
    },
    /// Create an Experiment; answers [`Done::Experiment`].
    CreateExperiment(Box<Experiment>),
    /// Ask an Experiment to end: `spec.terminate` becomes true.
    TerminateExperiment {
        /// Which one.
        target: Target,
    },
    /// Delete an Experiment.
    DeleteExperiment {
        /// Which one.
        target: Target,
    },
    /// Set `spec.replicas` of the Deployment that a Rollout takes its template from.
    ScaleDeployment {
        /// Which one.
        target: Target,
        /// The number of pods.
        replicas: i32,
    },
    /// Take, continue or stop one measurement; answers [`Done::Measured`]. Neighbouring ones may be carried out side by side.
    Measure(Box<MeasureRequest>),
    /// Create the Job of a measurement, with its arguments put in and Secrets read by the world.
    CreateJob(Box<NewJob>),
    /// Delete a Job and its pods (foreground); one that is gone already counts as done.
    DeleteJob {
        /// Which one.
        target: Target,
    },
    /// Something for a Canary.
    Canary(Box<CanaryAction>),
}

/// A ReplicaSet to create, all of it decided; the world only writes it down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewReplicaSet {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Kind of the object that owns it as its controller: `Rollout` or `Experiment`.
    pub owner_kind: String,
    /// Name of that object.
    pub owner_name: String,
    /// Uid of that object.
    pub owner_uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: i32,
    /// `spec.selector` as JSON.
    pub selector: serde_json::Value,
    /// `spec.template` as JSON.
    pub template: serde_json::Value,
}

/// A Service to create, all of it decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewService {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Kind of the object that owns it as its controller.
    pub owner_kind: String,
    /// Name of that object.
    pub owner_name: String,
    /// Uid of that object.
    pub owner_uid: String,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `spec.selector`.
    pub selector: BTreeMap<String, String>,
    /// `spec.ports` as JSON.
    pub ports: Vec<serde_json::Value>,
}

/// What changes about a ReplicaSet; what is absent or empty stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetChange {
    /// New `spec.replicas`.
    pub replicas: Option<i32>,
    /// New `spec.minReadySeconds`.
    pub min_ready_seconds: Option<i32>,
    /// Annotations to set or remove.
    pub annotations: KeyChanges,
    /// Labels of the pod template to set or remove.
    pub template_labels: KeyChanges,
    /// Annotations of the pod template to set or remove.
    pub template_annotations: KeyChanges,
    /// New `spec.template.spec.affinity` as JSON; `null` removes it.
    pub affinity: Option<serde_json::Value>,
}

impl ReplicaSetChange {
    /// True if performing this would change nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A Job to create for a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewJob {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the AnalysisRun that owns it as its controller.
    pub run_name: String,
    /// Uid of that AnalysisRun.
    pub run_uid: String,
    /// The metric whose `provider.job` describes it, its arguments not yet put in.
    pub metric: Metric,
    /// The arguments by name.
    pub args: BTreeMap<String, ArgumentSource>,
}

/// How an action ended.
pub type Outcome = Result<Done, Failure>;

/// What a successful action answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// Nothing but the resourceVersion after the write, empty where nothing was written or none is known.
    Written(String),
    /// The ReplicaSet as it is now.
    ReplicaSet(Box<ReplicaSet>),
    /// The AnalysisRun as it is now.
    AnalysisRun(Box<AnalysisRun>),
    /// The Experiment as it is now.
    Experiment(Box<Experiment>),
    /// Whether the split is in force; `None` for a router that cannot tell.
    Verified(Option<bool>),
    /// How a measurement stands.
    Measured(Box<Measured>),
    /// What was done for a Canary.
    Canary(Box<CanaryDone>),
}

/// Why an action did not happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What kind of trouble it was.
    pub kind: FailureKind,
    /// The text for people, without secrets.
    pub message: String,
}

/// What kind of trouble kept an action from happening.
#[derive(Clone, Debug, PartialEq)]
pub enum FailureKind {
    /// Somebody changed the object since it was observed.
    Conflict,
    /// The object is gone.
    NotFound,
    /// A ReplicaSet of that name exists; here it is, if it could be read.
    ReplicaSetExists(Option<Box<ReplicaSet>>),
    /// An AnalysisRun of that name exists; here it is, if it could be read.
    AnalysisRunExists(Option<Box<AnalysisRun>>),
    /// A Service of that name exists; here it is, if it could be read.
    ServiceExists(Option<Box<Service>>),
    /// An Experiment of that name exists; here it is, if it could be read.
    ExperimentExists(Option<Box<Experiment>>),
    /// A Job of that name exists; here it is, if it could be read.
    JobExists(Option<Box<Job>>),
    /// The arguments could not be put in: a Secret or a key of it does not exist.
    Unresolved,
    /// A disruption budget does not allow it now.
    Budget,
    /// It was understood and is not allowed or not valid (status 400, 403, 405, 413 or 422): asking again will be refused again.
    Refused,
    /// It cannot be done yet, and that is nobody's fault: ask again soon.
    NotYet,
    /// Anything else.
    Other,
}

/// What has happened so far in this pass, by action.
///
/// A pass has few actions, so they are kept in a plain list and found by equality.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    entries: Vec<(Action, Outcome)>,
}

impl Evidence {
    /// Adds how an action ended.
    pub fn add(&mut self, action: Action, outcome: Outcome) {
        self.entries.push((action, outcome));
    }

    /// How an action ended, if it was performed in this pass.
    pub fn of(&self, action: &Action) -> Option<&Outcome> {
        self.entries
            .iter()
            .find(|(done, _)| done == action)
            .map(|(_, outcome)| outcome)
    }

    /// All actions of this pass with how they ended, in the order they were performed.
    pub fn iter(&self) -> impl Iterator<Item = &(Action, Outcome)> {
        self.entries.iter()
    }

    /// True if nothing has been done yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
