//! Everything a decision about one Rollout is taken on.
//!
//! A world fills this in from its caches; it is read-only from then on. What has to be computed from the spec alone (hashes, validation) comes
//! prepared, because it changes only with the generation and is the same for thousands of passes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::names::label;
use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::validate::references::{self, Lookup, References, RouterKind};
use crossfade_api::validate::unsupported;
use crossfade_api::words::PodHash;
use crossfade_api::{AnalysisRun, Experiment, FieldError, Rollout};
use jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Done, Evidence, Split, Target};
use crate::decision::Found;
use crate::gate::Gate;
use crate::rollout::prepared::Prepared;
use crate::rollout::workload::Workload;

/// One Rollout and everything observed around it.
#[derive(Clone, Debug)]
pub struct World {
    /// The Rollout as stored, spec and status.
    pub rollout: Arc<Rollout>,
    /// What it takes its template from, if that is another object: see [`super::workload::resolve`], which also gives the Rollout.
    pub workload: Option<Workload>,
    /// What follows from its spec alone.
    pub prepared: Arc<Prepared>,
    /// Every ReplicaSet of the namespace that carries the hash label, owned by this Rollout or by nobody, in any order.
    pub replica_sets: Vec<ReplicaSet>,
    /// The Services that the strategy names.
    pub services: BTreeMap<String, Found<Service>>,
    /// The Ingresses, VirtualServices and other router objects that the strategy names, by kind and name, for validation only.
    pub references: BTreeMap<(RouterKind, String, String), Found<Arc<serde_json::Value>>>,
    /// The analysis templates that the strategy names, and those that they name in turn.
    pub templates: BTreeMap<TemplateKey, Found<Arc<AnalysisTemplateSpec>>>,
    /// What could not be read of these templates, by template; what is not here was read whole.
    pub unread: BTreeMap<TemplateKey, Vec<FieldError>>,
    /// The AnalysisRuns controlled by this Rollout, newest first; also those that only a live read finds.
    pub runs: Vec<Arc<AnalysisRun>>,
    /// The Experiments controlled by this Rollout, newest first.
    pub experiments: Vec<Arc<Experiment>>,
    /// Selectors and templates of the stable and the new ReplicaSet, by name; empty unless [`super::needs_bodies`] asks for them.
    pub bodies: BTreeMap<String, Body>,
    /// The configured routers, in the order in which they are driven.
    pub routers: Vec<Router>,
    /// The pods of the Rollout; empty unless [`super::needs_pods`] asks for them.
    pub pods: Vec<Pod>,
    /// What is wrong with the objects that the Rollout names: [`World::find_faults`], anew whenever one of them changes.
    pub faults: Arc<[FieldError]>,
    /// The most pods seen since the present step began.
    pub peaks: Peaks,
    /// What gates in resources of their own say about this release.
    pub gates: Vec<Gate>,
    /// How this installation is set up.
    pub settings: Settings,
}

impl World {
    /// Looks for what is missing, unfit or not supported among the objects that the Rollout names, in the order in which users are told.
    pub fn find_faults(&self) -> Arc<[FieldError]> {
        // What was left out of a template makes every other rule about it doubtful.
        let mut faults: Vec<FieldError> = self
            .unread
            .iter()
            .flat_map(|(key, unread)| unread.iter().map(|fault| key.fault(fault)))
            .collect();
        faults.extend(references::references(&self.rollout, self));
        // A provider that is not there must never end as an error measurement, which would take a release back.
        for (key, template) in &self.templates {
            let lacks = template
                .found()
                .map(|template| unsupported::template(template));
            faults.extend(lacks.into_iter().flatten().map(|lack| key.fault(&lack)));
        }
        faults.into()
    }

    /// What is observed next if this status is recorded and nothing happens but what was done; `None` if that is not known.
    pub(super) fn after(&self, evidence: &Evidence, status: &RolloutStatus) -> Option<Self> {
        // Another count is another hash, and what is prepared goes by that.
        if status.collision_count != self.rollout.status.collision_count {
            return None;
        }
        let mut world = self.clone();
        let mut metadata = self.rollout.metadata.clone();
        for (action, outcome) in evidence.iter() {
            match (action, outcome.as_ref().ok()?) {
                (_, Done::ReplicaSet(set)) => {
                    let sets = &mut world.replica_sets;
                    sets.retain(|other| other.target.uid != set.target.uid);
                    sets.push(ReplicaSet::clone(set));
                }
                (Action::CreateAnalysisRun(_), Done::AnalysisRun(run)) => {
                    world.runs.insert(0, Arc::new(AnalysisRun::clone(run)));
                }
                (
                    Action::UpdateRollout {
                        annotations,
                        replicas: None,
                        ..
                    },
                    Done::Written(_),
                ) => {
                    let notes = metadata.annotations.get_or_insert_default();
                    for (key, value) in annotations {
                        match value {
                            Some(value) => notes.insert(key.clone(), value.clone()),
                            None => notes.remove(key),
                        };
                    }
                }
                _ => return None,
            }
        }
        world.peaks.follow(status);
        world.rollout = Arc::new(Rollout {
            metadata,
            spec: self.rollout.spec.clone(),
            status: status.clone(),
            origin: self.rollout.origin.clone(),
        });
        Some(world)
    }

    /// Why one of the Services or templates that the Rollout names could not be read.
    pub(super) fn unreadable(&self) -> Option<&str> {
        let services = self.services.values().map(Found::trouble);
        let templates = self.templates.values().map(Found::trouble);
        let objects = self.references.values().map(Found::trouble);
        services.chain(templates).chain(objects).flatten().next()
    }
}

impl References for World {
    fn service(&self, name: &str) -> Lookup<references::Service<'_>> {
        lookup(self.services.get(name), |service| references::Service {
            selector: &service.selector,
            managed_by: service.managed_by.as_deref(),
        })
    }

    fn template(&self, name: &str, cluster_scope: bool) -> Lookup<&AnalysisTemplateSpec> {
        let key = TemplateKey {
            cluster_scope,
            name: name.to_owned(),
        };
        lookup(self.templates.get(&key), |template| &**template)
    }

    fn object(&self, kind: RouterKind, namespace: &str, name: &str) -> Lookup<&serde_json::Value> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        // A world without routers of this kind has nothing to say about their objects.
        self.references
            .get(&key)
            .map_or(Lookup::NotNeeded, |found| {
                lookup(Some(found), |object| &**object)
            })
    }
}

fn lookup<'w, T, U>(found: Option<&'w Found<T>>, view: impl Fn(&'w T) -> U) -> Lookup<U> {
    match found {
        Some(Found::Found(object)) => Lookup::Found(view(object)),
        Some(Found::Missing) | None => Lookup::Missing,
        Some(Found::Unreadable(_) | Found::NotNeeded) => Lookup::NotNeeded,
    }
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

impl TemplateKey {
    /// A fault in the template as a fault of the Rollout that names it.
    fn fault(&self, fault: &FieldError) -> FieldError {
        let kind = if self.cluster_scope {
            "ClusterAnalysisTemplate"
        } else {
            "AnalysisTemplate"
        };
        let detail = format!("{kind} {}: {fault}", self.name);
        FieldError::invalid("spec.strategy", &self.name, detail)
    }
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
    pub fn hash(&self) -> &str {
        self.labels.get(label::POD_HASH).map_or("", String::as_str)
    }
}

/// What a ReplicaSet is made of, for an Experiment that runs the same pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// `spec.selector` as JSON.
    pub selector: serde_json::Value,
    /// `spec.template` as JSON, as it is stored.
    pub template: serde_json::Value,
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

impl Service {
    /// The version it selects: the hash in its selector, empty if there is none.
    pub fn selected(&self) -> &str {
        self.selector
            .get(label::POD_HASH)
            .map_or("", String::as_str)
    }
}

/// A configured router.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Router {
    /// Its type: `Istio`, `Nginx`, `ALB`, … or the plugin's name.
    pub kind: String,
    /// The split it carries now, as far as that can be read.
    pub in_force: Option<Split>,
    /// It can be asked whether a split is in force.
    pub confirms: bool,
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

/// The most pods that were ready and available since the present step (or blue-green phase) began.
///
/// Pods that become ready, crash and become ready again are no progress; so each status is compared with the best since the step began.
/// A world that keeps no such memory leaves the default: the stored status is then what is compared with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peaks {
    hash: PodHash,
    step: Option<i32>,
    active: PodHash,
    ready: i32,
    available: i32,
}

impl Peaks {
    /// Takes in a status; to be called with every one that is observed or recorded.
    pub fn follow(&mut self, status: &RolloutStatus) {
        let (ready, available) = self.highest(status);
        *self = Self {
            hash: status.current_pod_hash.clone(),
            step: status.current_step_index,
            active: status.blue_green.active_selector.clone(),
            ready,
            available,
        };
    }

    /// Most ready and most available pods, this status included; what is remembered of another step does not count.
    pub(super) fn highest(&self, status: &RolloutStatus) -> (i32, i32) {
        let same = status.current_pod_hash == self.hash
            && status.current_step_index == self.step
            && status.blue_green.active_selector == self.active;
        let (ready, available) = if same {
            (self.ready, self.available)
        } else {
            (0, 0)
        };
        (
            ready.max(status.ready_replicas),
            available.max(status.available_replicas),
        )
    }
}
