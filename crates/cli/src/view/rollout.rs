//! Everything that is shown of one Rollout: its head and the tree of what it owns.

use std::collections::BTreeMap;

use crossfade_api::{AnalysisRun, Resource, Rollout};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde::{Serialize, Serializer};

use super::experiment::{self, Experiment};
use super::icon::{Look, State, Tag};
use super::images::{Image, Images};
use super::phase::Standing;
use super::pod::PodFacts;
use super::tree::{Info, Kind, Node};
use super::weights::{self, Weights};
use super::{analysis, head, replica_set};

/// The objects around a Rollout; those that it does not own are left out of the picture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// ReplicaSets of the namespace.
    pub(crate) replica_sets: Vec<ReplicaSet>,
    /// Pods of the namespace.
    pub(crate) pods: Vec<Pod>,
    /// AnalysisRuns of the namespace.
    pub(crate) runs: Vec<AnalysisRun>,
    /// Experiments of the namespace.
    pub(crate) experiments: Vec<Experiment>,
}

/// Numbers of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Replicas {
    /// Asked for.
    pub(crate) desired: i32,
    /// There are.
    pub(crate) current: i32,
    /// Of the newest version.
    pub(crate) updated: i32,
    /// Ready.
    pub(crate) ready: i32,
    /// Available.
    pub(crate) available: i32,
}

/// Everything that is shown of a Rollout.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RolloutView {
    /// Its name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its phase.
    #[serde(flatten)]
    pub(crate) state: State,
    /// Why it has this phase.
    pub(crate) message: String,
    /// `Canary`, `BlueGreen`, or empty.
    pub(crate) strategy: &'static str,
    /// `<index>/<steps>`; only for canaries with steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) step: Option<String>,
    /// Only for canaries.
    #[serde(
        serialize_with = "serialize_weights",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) weights: Option<Weights>,
    /// The images that run.
    pub(crate) images: Vec<Image>,
    /// Numbers of pods.
    pub(crate) replicas: Replicas,
    /// The Rollout and what it owns.
    pub(crate) tree: Node,
}

#[expect(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
fn serialize_weights<S: Serializer>(
    weights: &Option<Weights>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let parts =
        weights.map(|weights| BTreeMap::from([("set", weights.set), ("actual", weights.actual)]));
    parts.serialize(serializer)
}

/// The strategy in one word; `None` when the Rollout has none.
pub(crate) fn strategy(rollout: &Rollout) -> Option<&'static str> {
    let strategy = &rollout.spec.strategy;
    if strategy.canary.is_some() {
        Some("Canary")
    } else if strategy.blue_green.is_some() {
        Some("BlueGreen")
    } else {
        None
    }
}

/// `<index>/<steps>` of a canary that has steps and stands at one.
pub(crate) fn step(rollout: &Rollout) -> Option<String> {
    let steps = rollout.spec.strategy.canary.as_ref()?.steps.len();
    let index = rollout.status.current_step_index?;
    (steps > 0).then(|| format!("{index}/{steps}"))
}

impl RolloutView {
    /// Puts together what is shown.
    pub(crate) fn of(rollout: &Rollout, around: &Surroundings, now: Timestamp) -> Self {
        let uid = replica_set::uid(rollout);
        let sets: Vec<_> = around
            .replica_sets
            .iter()
            .filter(|set| replica_set::is_owned_by(&set.metadata, uid))
            .collect();
        let standing = Standing::of(rollout);
        let status = &rollout.status;
        Self {
            name: rollout.name().to_owned(),
            namespace: rollout.namespace().to_owned(),
            state: standing.state(),
            message: standing.message,
            strategy: strategy(rollout).unwrap_or_default(),
            step: step(rollout),
            weights: weights::of(rollout, &sets),
            images: images(rollout, &sets, around),
            replicas: Replicas {
                desired: rollout.spec.replicas(),
                current: status.replicas,
                updated: status.updated_replicas,
                ready: status.ready_replicas,
                available: status.available_replicas,
            },
            tree: tree(rollout, &sets, around, now),
        }
    }

    /// Head and tree, as they are printed.
    pub(crate) fn text(&self, look: Look, now: Timestamp) -> String {
        let head = head::rollout(self, look);
        format!("{head}\n{}", self.tree.table(look, now).text())
    }
}

fn images(rollout: &Rollout, sets: &[&ReplicaSet], around: &Surroundings) -> Vec<Image> {
    let mut images = Images::default();
    for set in sets {
        if set
            .status
            .as_ref()
            .is_some_and(|status| status.replicas > 0)
        {
            let tags = replica_set::tags(set, rollout);
            for image in replica_set::images(set) {
                images.add(image, &tags);
            }
        }
    }
    for experiment in owned_experiments(around, replica_set::uid(rollout)) {
        if experiment.status.phase.is_completed() {
            continue;
        }
        let uid = experiment.metadata.uid.as_deref().unwrap_or_default();
        for set in &around.replica_sets {
            if replica_set::is_owned_by(&set.metadata, uid) {
                experiment::add_images(&mut images, set);
            }
        }
    }
    images.into_list()
}

fn owned_experiments<'a>(around: &'a Surroundings, uid: &str) -> Vec<&'a Experiment> {
    let mut experiments: Vec<_> = around
        .experiments
        .iter()
        .filter(|experiment| replica_set::is_owned_by(&experiment.metadata, uid))
        .collect();
    experiments.sort_by_key(|experiment| {
        let created = experiment
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        (created, experiment.metadata.name.clone())
    });
    experiments
}

fn tree(rollout: &Rollout, sets: &[&ReplicaSet], around: &Surroundings, now: Timestamp) -> Node {
    let uid = replica_set::uid(rollout);
    let mut root = Node::new(Kind::Rollout, rollout.name())
        .state(Standing::of(rollout).state())
        .created(&rollout.metadata);
    let mut revisions: BTreeMap<u64, Vec<Node>> = BTreeMap::new();
    let mut sets = sets.to_vec();
    sets.sort_by_key(|set| set.metadata.name.clone());
    for set in sets {
        let tags = replica_set::tags(set, rollout);
        let node = replica_set_node(set, tags, replica_set::delay(set, now), &around.pods);
        revisions
            .entry(replica_set::revision(&set.metadata))
            .or_default()
            .push(node);
    }
    for experiment in owned_experiments(around, uid) {
        let owned = experiment::Owned {
            replica_sets: &around.replica_sets,
            pods: &around.pods,
            runs: &around.runs,
        };
        revisions
            .entry(replica_set::revision(&experiment.metadata))
            .or_default()
            .push(experiment::node(experiment, owned));
    }
    for run in owned_runs(&around.runs, uid) {
        revisions
            .entry(replica_set::revision(&run.metadata))
            .or_default()
            .push(run_node(run));
    }
    for (number, children) in revisions.into_iter().rev() {
        let mut revision = Node::new(Kind::Revision, format!("revision:{number}"));
        revision.children = children;
        root.children.push(revision);
    }
    root
}

/// The line of a ReplicaSet and those of its pods.
pub(crate) fn replica_set_node(
    set: &ReplicaSet,
    tags: Vec<Tag>,
    delay: Option<String>,
    pods: &[Pod],
) -> Node {
    let mut node = Node::new(
        Kind::ReplicaSet,
        set.metadata.name.clone().unwrap_or_default(),
    )
    .state(replica_set::state(set))
    .created(&set.metadata);
    node.info = Info {
        tags,
        notes: delay.into_iter().collect(),
        ..Info::default()
    };
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let mut pods: Vec<_> = pods
        .iter()
        .filter(|pod| replica_set::is_owned_by(&pod.metadata, uid))
        .collect();
    pods.sort_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, pod.metadata.name.clone())
    });
    for pod in pods {
        let facts = PodFacts::of(pod);
        let mut line = Node::new(Kind::Pod, pod.metadata.name.clone().unwrap_or_default())
            .created(&pod.metadata);
        line.info.notes.push(facts.info());
        node.children.push(line.state(facts.state));
    }
    node
}

/// Oldest first; among runs of one moment the last name first.
fn owned_runs<'a>(runs: &'a [AnalysisRun], uid: &str) -> Vec<&'a AnalysisRun> {
    let mut runs: Vec<_> = runs
        .iter()
        .filter(|run| replica_set::is_owned_by(&run.metadata, uid))
        .collect();
    runs.sort_by_key(|run| {
        let created = run.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, std::cmp::Reverse(run.metadata.name.clone()))
    });
    runs
}

/// The lines of the runs that an object owns.
pub(crate) fn run_nodes(runs: &[AnalysisRun], uid: &str) -> Vec<Node> {
    owned_runs(runs, uid).into_iter().map(run_node).collect()
}

fn run_node(run: &AnalysisRun) -> Node {
    let mut node = Node::new(Kind::AnalysisRun, run.name())
        .state(analysis::state(run.status.phase))
        .created(&run.metadata);
    node.info.measurements = Some(analysis::Counts::of(&run.status));
    for job in analysis::jobs(&run.status) {
        let mut line = Node::new(Kind::Job, job.name).state(analysis::state(job.phase));
        line.created = job.started_at;
        node.children.push(line);
    }
    node
}
