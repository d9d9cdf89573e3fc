//! An Experiment as `get experiment` and `list experiments` show it.

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::annotation;
use crossfade_api::{AnalysisRun, ObjectMeta, duration};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::icon::{State, Tag};
use super::images::{Image, Images};
use super::tree::{Kind, Node};
use super::{analysis, replica_set};

/// The parts of an Experiment that are shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Experiment {
    /// What describes the object itself.
    pub(crate) metadata: ObjectMeta,
    /// What was asked for.
    pub(crate) spec: ExperimentSpec,
    /// How far it got.
    pub(crate) status: ExperimentStatus,
}

/// What was asked for, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ExperimentSpec {
    /// How long the experiment runs, as a Go duration.
    pub(crate) duration: String,
}

/// How far an experiment got, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ExperimentStatus {
    /// Its phase.
    pub(crate) phase: AnalysisPhase,
    /// Why it has this phase.
    pub(crate) message: String,
    /// When all its pods were available.
    pub(crate) available_at: Option<Timestamp>,
}

impl Experiment {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its state.
    pub(crate) fn state(&self) -> State {
        analysis::state(self.status.phase)
    }

    /// How long it runs; `None` when it has no fixed end.
    pub(crate) fn duration(&self) -> Option<SignedDuration> {
        duration::parse(&self.spec.duration).ok()
    }

    /// How long it still runs; known only while it runs.
    pub(crate) fn remaining(&self, now: Timestamp) -> Option<SignedDuration> {
        if self.status.phase != AnalysisPhase::Running {
            return None;
        }
        let passed = now.duration_since(self.status.available_at?);
        Some((self.duration()? - passed).max(SignedDuration::ZERO))
    }
}

/// What an Experiment owns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owned<'a> {
    /// ReplicaSets of the namespace.
    pub(crate) replica_sets: &'a [ReplicaSet],
    /// Pods of the namespace.
    pub(crate) pods: &'a [Pod],
    /// AnalysisRuns of the namespace.
    pub(crate) runs: &'a [AnalysisRun],
}

/// Everything that is shown of an Experiment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExperimentView {
    /// Its name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its state.
    #[serde(flatten)]
    pub(crate) state: State,
    /// Why it has this state.
    pub(crate) message: String,
    /// The images of its pods.
    pub(crate) images: Vec<Image>,
    /// The Experiment and what it owns.
    pub(crate) tree: Node,
}

impl ExperimentView {
    /// Puts together what is shown.
    pub(crate) fn of(experiment: &Experiment, owned: Owned<'_>) -> Self {
        let tree = node(experiment, owned);
        let uid = experiment.metadata.uid.as_deref().unwrap_or_default();
        let mut images = Images::default();
        for set in owned.replica_sets {
            if replica_set::is_owned_by(&set.metadata, uid) {
                add_images(&mut images, set);
            }
        }
        Self {
            name: experiment.name().to_owned(),
            namespace: experiment.namespace().to_owned(),
            state: experiment.state(),
            message: experiment.status.message.clone(),
            images: images.into_list(),
            tree,
        }
    }
}

/// Adds the images that a ReplicaSet of an experiment runs.
pub(crate) fn add_images(images: &mut Images, set: &ReplicaSet) {
    if set
        .status
        .as_ref()
        .is_none_or(|status| status.replicas == 0)
    {
        return;
    }
    let template = replica_set::annotation_of(&set.metadata, annotation::EXPERIMENT_TEMPLATE);
    let tags: &[Tag] = if template.is_empty() {
        &[]
    } else {
        &[Tag::Experiment(template.to_owned())]
    };
    for image in replica_set::images(set) {
        images.add(image, tags);
    }
}

/// The line of an Experiment and those below it.
pub(crate) fn node(experiment: &Experiment, owned: Owned<'_>) -> Node {
    let uid = experiment.metadata.uid.as_deref().unwrap_or_default();
    let mut node = Node::new(Kind::Experiment, experiment.name())
        .state(experiment.state())
        .created(&experiment.metadata);
    let mut sets: Vec<_> = owned
        .replica_sets
        .iter()
        .filter(|set| replica_set::is_owned_by(&set.metadata, uid))
        .collect();
    sets.sort_by_key(|set| set.metadata.name.clone());
    for set in sets {
        node.children.push(super::rollout::replica_set_node(
            set,
            Vec::new(),
            None,
            owned.pods,
        ));
    }
    node.children
        .extend(super::rollout::run_nodes(owned.runs, uid));
    node
}
