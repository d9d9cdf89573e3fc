//! A cluster in memory and in virtual time, for the scenarios of the specification.
//!
//! It performs what the engine decides, plays the ReplicaSet controller, and makes pods ready when it is told to. Nothing happens by itself:
//! [`Cluster::settle`] lets everything run until nobody has anything to do, [`Cluster::run_for`] lets time pass.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::{annotation, condition, label};
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::{AnalysisRun, Experiment, FieldError, Resource, Rollout, merge_patch};
use crossfade_engine::action::{
    Action, Done, Failure, FailureKind, NewReplicaSet, Outcome, Split, Target,
};
use crossfade_engine::decision::{Event, Found, Wait};
use crossfade_engine::gate::Gate;
use crossfade_engine::pass::{Need, Pass, Standing};
use crossfade_engine::rollout::prepared::{Prepared, prepare};
use crossfade_engine::rollout::world::{
    Body, Peaks, Pod, ReplicaSet, Router, Service, Settings, TemplateKey, World,
};
use crossfade_engine::rollout::{RolloutSubject, stored, workload};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Passes after which a cluster that still finds something to do is broken.
const MOST_PASSES: usize = 500;

/// A ReplicaSet and its pods.
#[derive(Clone, Debug)]
pub(crate) struct StoredSet {
    pub(crate) seen: ReplicaSet,
    pub(crate) template: PodTemplate,
    pub(crate) image: String,
}

/// Generation and collision count.
type Generation = (Option<i64>, Option<i32>);

pub(crate) struct Cluster {
    pub(crate) now: Timestamp,
    pub(crate) rollout: Rollout,
    pub(crate) sets: Vec<StoredSet>,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) templates: BTreeMap<TemplateKey, Arc<AnalysisTemplateSpec>>,
    pub(crate) runs: Vec<AnalysisRun>,
    /// What a Rollout may take its template from, by kind and name.
    pub(crate) workloads: BTreeMap<String, Value>,
    /// Newest first.
    pub(crate) experiments: Vec<Experiment>,
    pub(crate) pods: Vec<Pod>,
    /// The routers' types, and the split each carries.
    pub(crate) routers: Vec<(String, Option<Split>)>,
    /// What routers answer when they are asked whether a split is in force; `None` for routers that cannot tell.
    pub(crate) confirms: Option<bool>,
    pub(crate) events: Vec<Event>,
    pub(crate) waits: Vec<Wait>,
    /// What was performed, in order.
    pub(crate) performed: Vec<Action>,
    /// Statuses in the order in which they were stored.
    pub(crate) statuses: Vec<RolloutStatus>,
    /// Images whose pods never become ready.
    pub(crate) broken: BTreeSet<String>,
    /// New pods become ready as soon as everything else has settled.
    pub(crate) pods_become_ready: bool,
    /// Actions that fail, by a word in their debug form.
    pub(crate) failing: Vec<(String, Failure)>,
    pub(crate) failed: Option<String>,
    pub(crate) budget: bool,
    /// ReplicaSets that exist but are not observed yet.
    pub(crate) hidden: Vec<StoredSet>,
    /// Statuses that are refused from now on.
    pub(crate) conflicts: usize,
    /// What gates outside of the strategy say.
    pub(crate) gates: Vec<Gate>,
    /// A Service that cannot be read.
    pub(crate) unreadable: Option<String>,
    unread: Vec<FieldError>,
    /// How often routers were asked for their split.
    pub(crate) asked: usize,
    look_again: Option<Timestamp>,
    peaks: Peaks,
    prepared: RefCell<Option<(Generation, Arc<Prepared>)>>,
    version: u64,
}

impl Cluster {
    /// A cluster with one Rollout, with the Services that it names.
    pub(crate) fn new(rollout: Value) -> Self {
        let mut cluster = Self {
            now: "2026-01-02T03:00:00Z".parse().expect("a time"),
            rollout: Rollout::default(),
            sets: Vec::new(),
            services: BTreeMap::new(),
            templates: BTreeMap::new(),
            runs: Vec::new(),
            workloads: BTreeMap::new(),
            experiments: Vec::new(),
            pods: Vec::new(),
            routers: Vec::new(),
            confirms: None,
            events: Vec::new(),
            waits: Vec::new(),
            performed: Vec::new(),
            statuses: Vec::new(),
            broken: BTreeSet::new(),
            pods_become_ready: true,
            failing: Vec::new(),
            failed: None,
            budget: true,
            hidden: Vec::new(),
            conflicts: 0,
            gates: Vec::new(),
            unreadable: None,
            unread: Vec::new(),
            asked: 0,
            look_again: None,
            peaks: Peaks::default(),
            prepared: RefCell::default(),
            version: 1,
        };
        let mut json = rollout;
        json["metadata"]["uid"] = json!("rollout-uid");
        json["metadata"]["generation"] = json!(1);
        json["metadata"]["resourceVersion"] = json!("1");
        cluster.read(json);
        let names: Vec<_> = crossfade_engine::rollout::named_services(&cluster.rollout)
            .into_iter()
            .map(str::to_owned)
            .collect();
        for name in names {
            cluster.add_service(&name);
        }
        cluster.routers = crossfade_engine::rollout::routers(&cluster.rollout)
            .into_iter()
            .map(|kind| (kind, None))
            .collect();
        cluster
    }

    fn read(&mut self, json: Value) {
        let (rollout, errors) = Rollout::from_json(json);
        assert!(errors.is_empty() || !self.unread.is_empty(), "{errors:?}");
        self.rollout = rollout;
        self.unread = errors;
    }

    pub(crate) fn add_service(&mut self, name: &str) {
        let service = Service {
            target: self.target(name, &format!("service-{name}")),
            selector: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            managed_by: None,
        };
        self.services.insert(name.to_owned(), service);
    }

    fn target(&mut self, name: &str, uid: &str) -> Target {
        self.version += 1;
        Target {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            resource_version: self.version.to_string(),
        }
    }

    // What people do.

    /// Merges a patch into the Rollout's spec or metadata.
    pub(crate) fn patch(&mut self, patch: &Value) -> &mut Self {
        let mut json = self.rollout.to_json();
        let spec = json["spec"].clone();
        merge_patch::apply(&mut json, patch);
        if json["spec"] != spec {
            let generation = json["metadata"]["generation"].as_i64().unwrap_or(0);
            json["metadata"]["generation"] = json!(generation + 1);
        }
        self.version += 1;
        json["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.read(json);
        self
    }

    /// Merges a patch into the Rollout's status, as the commands of people do.
    pub(crate) fn patch_status(&mut self, patch: &Value) -> &mut Self {
        self.patch(&json!({ "status": patch }))
    }

    pub(crate) fn set_image(&mut self, image: &str) -> &mut Self {
        self.patch(&json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}}))
    }

    pub(crate) fn resume(&mut self) -> &mut Self {
        self.patch_status(&json!({"pauseConditions": null}))
    }

    pub(crate) fn abort(&mut self) -> &mut Self {
        self.patch_status(&json!({"abort": true}))
    }

    pub(crate) fn retry(&mut self) -> &mut Self {
        self.patch_status(&json!({"abort": false}))
    }

    pub(crate) fn promote_full(&mut self) -> &mut Self {
        self.patch_status(&json!({"promoteFull": true}))
    }

    /// Forgets events, actions and statuses so far.
    pub(crate) fn forget(&mut self) -> &mut Self {
        self.events.clear();
        self.performed.clear();
        self.statuses.clear();
        self
    }

    // What is so.

    pub(crate) fn status(&self) -> &RolloutStatus {
        &self.rollout.status
    }

    /// Phase and message as one text.
    pub(crate) fn phase(&self) -> String {
        let status = self.status();
        match (status.phase.as_str(), status.message.as_str()) {
            (phase, "") => phase.to_owned(),
            (phase, message) => format!("{phase}: {message}"),
        }
    }

    pub(crate) fn index(&self) -> i32 {
        self.status().current_step_index.unwrap_or(-1)
    }

    pub(crate) fn set(&self, image: &str) -> &StoredSet {
        let mut sets = self.sets.iter();
        sets.find(|set| set.image == image)
            .unwrap_or_else(|| panic!("no ReplicaSet of {image}"))
    }

    /// Wanted pods of a version; 0 if it has no ReplicaSet.
    pub(crate) fn size(&self, image: &str) -> i32 {
        let mut sets = self.sets.iter();
        sets.find(|set| set.image == image)
            .map_or(0, |set| set.seen.replicas)
    }

    pub(crate) fn hash(&self, image: &str) -> String {
        self.set(image).seen.hash().to_owned()
    }

    pub(crate) fn note(&self, image: &str, key: &str) -> Option<String> {
        self.set(image).seen.annotations.get(key).cloned()
    }

    pub(crate) fn deadline(&self, image: &str) -> Option<String> {
        self.note(image, annotation::SCALE_DOWN_DEADLINE)
    }

    pub(crate) fn revision(&self, image: &str) -> String {
        self.note(image, annotation::REVISION).unwrap_or_default()
    }

    /// The recorded canary weight.
    pub(crate) fn weight(&self) -> Option<i32> {
        self.status()
            .canary
            .weights
            .as_ref()
            .map(|weights| weights.canary.weight)
    }

    /// The image that a Service selects; its hash where no version has it, empty for none.
    pub(crate) fn selected(&self, service: &str) -> String {
        let hash = self.services[service].selected();
        let set = self.sets.iter().find(|set| set.seen.hash() == hash);
        set.map_or(hash.to_owned(), |set| set.image.clone())
    }

    /// Status, reason and message of a condition.
    pub(crate) fn told(&self, kind: &str) -> Option<(String, String, String)> {
        let told = self
            .status()
            .conditions
            .iter()
            .find(|told| told.kind == kind)?;
        Some((
            told.status.as_str().to_owned(),
            told.reason.clone(),
            told.message.clone(),
        ))
    }

    /// The reason of the condition Progressing.
    pub(crate) fn progress(&self) -> String {
        self.told(condition::PROGRESSING)
            .map_or(String::new(), |told| told.1)
    }

    /// Messages of the events with a reason.
    pub(crate) fn told_events(&self, reason: &str) -> Vec<&str> {
        let events = self.events.iter().filter(|event| event.reason == reason);
        events.map(|event| event.message.as_str()).collect()
    }

    /// Reasons of all events in order, and forgets them.
    pub(crate) fn take_reasons(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
            .into_iter()
            .map(|event| event.reason)
            .collect()
    }

    /// Name and phase of every run.
    pub(crate) fn run_names(&self) -> Vec<&str> {
        self.runs.iter().map(Resource::name).collect()
    }

    /// Seconds until the next timer.
    pub(crate) fn next_look(&self) -> Option<i64> {
        self.look_again
            .map(|next| self.now.duration_until(next).as_secs())
    }

    pub(crate) fn waits_for(&self, text: &str) -> bool {
        self.waits
            .iter()
            .any(|wait| wait.to_string().contains(text))
    }

    /// Sizes that versions were given, in the order in which it happened.
    pub(crate) fn take_sizes(&mut self) -> Vec<(String, i32)> {
        let performed = std::mem::take(&mut self.performed);
        let sizes = performed.into_iter().filter_map(|action| match action {
            Action::UpdateReplicaSet { target, change } => {
                let set = self
                    .sets
                    .iter()
                    .find(|set| set.seen.target.uid == target.uid)?;
                Some((set.image.clone(), change.replicas?))
            }
            _ => None,
        });
        sizes.collect()
    }

    // What happens.

    /// Makes so many pods of a version available.
    pub(crate) fn make_available(&mut self, image: &str, count: i32) -> &mut Self {
        let set = self
            .sets
            .iter_mut()
            .find(|set| set.image == image)
            .expect("a ReplicaSet");
        set.seen.available = count.min(set.seen.current);
        set.seen.ready = set.seen.available;
        self
    }

    /// Lets everything run, without time passing, until nobody has anything to do.
    pub(crate) fn settle(&mut self) -> &mut Self {
        for _ in 0..MOST_PASSES {
            let moved = self.pass();
            let more = moved || self.make_pods() || (self.pods_become_ready && self.ready_pods());
            if !more {
                return self;
            }
        }
        panic!(
            "not settled after {MOST_PASSES} passes: {:?}",
            self.performed.last()
        );
    }

    /// Lets a few passes run while something fails, which would otherwise be tried again for ever.
    pub(crate) fn settle_failing(&mut self) -> &mut Self {
        for _ in 0..10 {
            self.pass();
            self.make_pods();
            if self.pods_become_ready {
                self.ready_pods();
            }
        }
        self
    }

    /// Lets time pass; timers fire as they come due.
    pub(crate) fn run_for(&mut self, seconds: i64) -> &mut Self {
        let end = self.now + SignedDuration::from_secs(seconds);
        self.settle();
        for _ in 0..MOST_PASSES {
            let Some(next) = self.look_again.filter(|next| *next <= end) else {
                self.now = end;
                return self.settle();
            };
            self.now = next.max(self.now);
            self.settle();
        }
        panic!("more than {MOST_PASSES} timers: {:?}", self.waits);
    }

    /// One pass. True if it changed anything.
    pub(crate) fn pass(&mut self) -> bool {
        let mut pass = Pass::<RolloutSubject>::start(self.observe(), Standing::Sound, self.now);
        let mut changed = false;
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let outcomes = actions.iter().map(|action| {
                        let reads = matches!(action, Action::VerifyRoute { .. });
                        let outcome = self.perform(action);
                        self.asked += usize::from(reads);
                        changed |= outcome.is_ok() && !reads;
                        outcome
                    });
                    let outcomes = outcomes.collect();
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    if status.is_some() && self.conflicts > 0 {
                        self.conflicts -= 1;
                        pass.recorded(Err("the object has been modified".to_owned()));
                        continue;
                    }
                    if let Some(status) = status {
                        assert_ne!(status, self.rollout.status, "a status that changes nothing");
                        self.rollout.status = status.clone();
                        let stored = self.rollout.to_json();
                        self.read(stored);
                        self.version += 1;
                        self.rollout.metadata.resource_version = Some(self.version.to_string());
                        self.statuses.push(status);
                        changed = true;
                    }
                    self.events.extend(events);
                    pass.recorded(Ok(()));
                }
            }
        }
        let ended = pass.ended();
        self.peaks.follow(&self.rollout.status);
        self.look_again = ended.look_again.map(|delay| self.now + delay);
        self.waits = ended.waits;
        self.failed = ended.failed;
        changed
    }

    /// What follows from the spec, computed once a generation as worlds do.
    fn prepared(&self) -> Arc<Prepared> {
        let key = (
            self.rollout.metadata.generation,
            self.rollout.status.collision_count,
        );
        let mut known = self.prepared.borrow_mut();
        match &*known {
            Some((of, prepared)) if *of == key => prepared.clone(),
            _ => {
                let prepared = Arc::new(prepare(&self.rollout).with_unread(self.unread.clone()));
                *known = Some((key, prepared.clone()));
                prepared
            }
        }
    }

    pub(crate) fn observe(&self) -> World {
        let found = |service: &Service| Found::Found(service.clone());
        let mut services: BTreeMap<_, _> = crossfade_engine::rollout::named_services(&self.rollout)
            .into_iter()
            .map(|name| (name.to_owned(), Found::Missing))
            .collect();
        services.extend(
            self.services
                .iter()
                .map(|(name, service)| (name.clone(), found(service))),
        );
        if let Some(name) = &self.unreadable {
            let why = "the API server does not answer".to_owned();
            services.insert(name.clone(), Found::Unreadable(why));
        }
        let (rollout, workload) =
            workload::resolve(&Arc::new(self.rollout.clone()), |kind, name| {
                let found = self.workloads.get(&format!("{kind:?}/{name}"));
                found.map_or(Found::Missing, |found| {
                    Found::Found(Arc::new(found.clone()))
                })
            });
        let prepared = match workload {
            Some(_) => Arc::new(prepare(&rollout).with_unread(self.unread.clone())),
            None => self.prepared(),
        };
        let mut world = World {
            rollout,
            workload,
            prepared,
            // In any order, for that is what the engine is promised.
            replica_sets: self
                .sets
                .iter()
                .rev()
                .filter_map(StoredSet::visible)
                .collect(),
            services,
            references: BTreeMap::new(),
            templates: self
                .templates
                .iter()
                .map(|(key, template)| (key.clone(), Found::Found(template.clone())))
                .collect(),
            unread: BTreeMap::new(),
            runs: self.runs.iter().rev().cloned().map(Arc::new).collect(),
            experiments: self.experiments.iter().cloned().map(Arc::new).collect(),
            bodies: if crossfade_engine::rollout::needs_bodies(&self.rollout) {
                self.sets.iter().map(StoredSet::body).collect()
            } else {
                BTreeMap::new()
            },
            routers: self
                .routers
                .iter()
                .map(|(kind, split)| Router {
                    kind: kind.clone(),
                    in_force: split.clone(),
                    confirms: self.confirms.is_some(),
                })
                .collect(),
            pods: self.pods.clone(),
            faults: Arc::default(),
            peaks: self.peaks.clone(),
            gates: self.gates.clone(),
            settings: Settings::default(),
        };
        world.faults = world.find_faults();
        world
    }

    fn perform(&mut self, action: &Action) -> Outcome {
        let text = format!("{action:?}");
        if let Some((_, failure)) = self.failing.iter().find(|(word, _)| text.contains(word)) {
            return Err(failure.clone());
        }
        let outcome = self.carry_out(action);
        if outcome.is_ok() {
            self.performed.push(action.clone());
        }
        outcome
    }

    fn carry_out(&mut self, action: &Action) -> Outcome {
        self.version += 1;
        let version = self.version.to_string();
        match action {
            Action::CreateReplicaSet(new) => self.create_set(new),
            Action::UpdateReplicaSet { target, change } => {
                let set = self
                    .sets
                    .iter_mut()
                    .find(|set| set.seen.target.uid == target.uid);
                let set = set.ok_or(failure(FailureKind::NotFound, "gone"))?;
                if set.seen.target.resource_version != target.resource_version {
                    return Err(failure(
                        FailureKind::Conflict,
                        "the object has been modified",
                    ));
                }
                set.seen.target.resource_version.clone_from(&version);
                set.seen.replicas = change.replicas.unwrap_or(set.seen.replicas);
                set.seen.min_ready_seconds = change
                    .min_ready_seconds
                    .unwrap_or(set.seen.min_ready_seconds);
                apply(&mut set.seen.annotations, &change.annotations);
                for (key, value) in &change.template_labels {
                    match value {
                        Some(value) => set.template.set_label(key, value),
                        None => set.template.remove_label(key),
                    }
                }
                for (key, value) in &change.template_annotations {
                    match value {
                        Some(value) => set.template.set_annotation(key, value),
                        None => set.template.remove_annotation(key),
                    }
                }
                if let Some(affinity) = &change.affinity {
                    set.template
                        .set_affinity((!affinity.is_null()).then(|| affinity.clone()));
                }
                set.look();
                Ok(Done::ReplicaSet(Box::new(set.seen.clone())))
            }
            Action::DeleteReplicaSet { target } => {
                self.sets.retain(|set| set.seen.target.uid != target.uid);
                Ok(Done::Written(String::new()))
            }
            Action::AdoptReplicaSet { target, owner_uid }
            | Action::ReleaseReplicaSet { target, owner_uid } => {
                let adopts = matches!(action, Action::AdoptReplicaSet { .. });
                let set = self
                    .sets
                    .iter_mut()
                    .find(|set| set.seen.target.uid == target.uid);
                let set = set.ok_or(failure(FailureKind::NotFound, "gone"))?;
                set.seen.controller = adopts.then(|| owner_uid.clone());
                set.seen.target.resource_version.clone_from(&version);
                Ok(Done::Written(version))
            }
            Action::UpdateRollout {
                target,
                annotations,
                replicas,
            } => {
                if self.rollout.metadata.resource_version.as_ref() != Some(&target.resource_version)
                {
                    return Err(failure(
                        FailureKind::Conflict,
                        "the object has been modified",
                    ));
                }
                let mut patch = json!({"metadata": {"annotations": annotations}});
                if let Some(replicas) = replicas {
                    patch["spec"] = json!({"replicas": replicas});
                }
                self.patch(&patch);
                Ok(Done::Written(self.version.to_string()))
            }
            Action::SwitchService {
                target,
                hash,
                managed_by,
            } => {
                let service = self.services.get_mut(&target.name);
                let service = service.ok_or(failure(FailureKind::NotFound, "gone"))?;
                service
                    .selector
                    .insert(label::POD_HASH.to_owned(), hash.0.clone());
                if managed_by.is_some() {
                    service.managed_by.clone_from(managed_by);
                }
                service.target.resource_version.clone_from(&version);
                Ok(Done::Written(version))
            }
            Action::ReleaseService { target } => {
                let service = self.services.get_mut(&target.name);
                let service = service.ok_or(failure(FailureKind::NotFound, "gone"))?;
                service.selector.remove(label::POD_HASH);
                service.managed_by = None;
                Ok(Done::Written(version))
            }
            Action::Route { router, split } => {
                let split = Some((**split).clone());
                let routers = self.routers.iter_mut().filter(|(kind, _)| kind == router);
                routers.for_each(|(_, carried)| carried.clone_from(&split));
                Ok(Done::Written(version))
            }
            Action::VerifyRoute { .. } => Ok(Done::Verified(self.confirms)),
            Action::EvictPod { target } => {
                if !self.budget {
                    return Err(failure(FailureKind::Budget, "disruption budget"));
                }
                self.pods.retain(|pod| pod.target.uid != target.uid);
                Ok(Done::Written(String::new()))
            }
            Action::UpdatePodMetadata {
                target,
                labels,
                annotations,
            } => {
                let pod = self
                    .pods
                    .iter_mut()
                    .find(|pod| pod.target.uid == target.uid);
                let pod = pod.ok_or(failure(FailureKind::NotFound, "gone"))?;
                apply(&mut pod.labels, labels);
                apply(&mut pod.annotations, annotations);
                Ok(Done::Written(version))
            }
            Action::CreateAnalysisRun(run) => {
                if let Some(there) = self.runs.iter().find(|there| there.name() == run.name()) {
                    let kind = FailureKind::AnalysisRunExists(Some(Box::new(there.clone())));
                    return Err(failure(kind, "analysis run already exists"));
                }
                let mut run = (**run).clone();
                run.metadata.uid = Some(format!("run-{}", run.name()));
                run.metadata.resource_version = Some(version);
                self.runs.push(run.clone());
                Ok(Done::AnalysisRun(Box::new(run)))
            }
            Action::TerminateAnalysisRun { target } => {
                let run = self.runs.iter_mut().find(|run| run.name() == target.name);
                run.ok_or(failure(FailureKind::NotFound, "gone"))?
                    .spec
                    .terminate = true;
                Ok(Done::Written(version))
            }
            Action::DeleteAnalysisRun { target } => {
                self.runs.retain(|run| run.name() != target.name);
                Ok(Done::Written(String::new()))
            }
            Action::ScaleDeployment { target, replicas } => {
                let deployment = self
                    .workloads
                    .get_mut(&format!("Deployment/{}", target.name));
                let deployment = deployment.ok_or(failure(FailureKind::NotFound, "gone"))?;
                deployment["spec"]["replicas"] = json!(replicas);
                deployment["metadata"]["generation"] =
                    json!(deployment["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
                Ok(Done::Written(version))
            }
            Action::CreateExperiment(experiment) => {
                let mut there = self.experiments.iter();
                if let Some(there) = there.find(|there| there.name() == experiment.name()) {
                    let kind = FailureKind::ExperimentExists(Some(Box::new(there.clone())));
                    return Err(failure(kind, "experiment already exists"));
                }
                let mut experiment = (**experiment).clone();
                experiment.metadata.uid = Some(format!("uid-{}", experiment.name()));
                self.experiments.insert(0, experiment.clone());
                Ok(Done::Experiment(Box::new(experiment)))
            }
            Action::TerminateExperiment { target } => {
                let mut all = self.experiments.iter_mut();
                let one = all.find(|one| one.name() == target.name);
                one.ok_or(failure(FailureKind::NotFound, "gone"))?
                    .spec
                    .terminate = true;
                Ok(Done::Written(version))
            }
            Action::DeleteExperiment { target } => {
                self.experiments.retain(|one| one.name() != target.name);
                Ok(Done::Written(String::new()))
            }
            Action::Measure(_)
            | Action::CreateJob(_)
            | Action::DeleteJob { .. }
            | Action::CreateService(_)
            | Action::DeleteService { .. }
            | Action::Canary(_) => {
                panic!("a Rollout does not do that")
            }
        }
    }

    fn create_set(&mut self, new: &NewReplicaSet) -> Outcome {
        let mut sets = self.sets.iter().chain(&self.hidden);
        if let Some(there) = sets.find(|set| set.seen.target.name == new.name) {
            let kind = FailureKind::ReplicaSetExists(Some(Box::new(there.seen.clone())));
            return Err(failure(
                kind,
                &format!("replicasets.apps \"{}\" already exists", new.name),
            ));
        }
        let target = self.target(&new.name, &format!("uid-{}", new.name));
        let mut set = StoredSet {
            seen: ReplicaSet {
                target,
                created: self.now,
                controller: Some(new.owner_uid.clone()),
                labels: new.labels.clone(),
                annotations: new.annotations.clone(),
                observed: true,
                min_ready_seconds: new.min_ready_seconds,
                ..ReplicaSet::default()
            },
            image: new.template["spec"]["containers"][0]["image"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            template: PodTemplate::from(new.template.clone()),
        };
        set.look();
        self.sets.push(set.clone());
        Ok(Done::ReplicaSet(Box::new(set.seen)))
    }

    /// The ReplicaSet controller: as many pods as are wanted.
    fn make_pods(&mut self) -> bool {
        let mut changed = false;
        for set in &mut self.sets {
            let uid = set.seen.target.uid.clone();
            let seen = &mut set.seen;
            if seen.current != seen.replicas {
                changed = true;
                seen.current = seen.replicas;
                seen.available = seen.available.min(seen.replicas);
                seen.ready = seen.ready.min(seen.replicas);
                self.version += 1;
                seen.target.resource_version = self.version.to_string();
            }
            let mut count = 0;
            self.pods.retain(|pod| {
                count += i32::from(pod.controller.as_ref() == Some(&uid));
                pod.controller.as_ref() != Some(&uid) || count <= seen.current
            });
            let there = self
                .pods
                .iter()
                .filter(|pod| pod.controller.as_ref() == Some(&uid))
                .count();
            for number in i32::try_from(there).unwrap_or(0)..seen.current {
                self.version += 1;
                let name = format!("{}-{}", seen.target.name, self.version);
                self.pods.push(Pod {
                    target: Target {
                        name: name.clone(),
                        uid: name,
                        ..seen.target.clone()
                    },
                    created: self.now,
                    controller: Some(uid.clone()),
                    labels: owned(set.template.labels()),
                    annotations: owned(set.template.annotations()),
                    ..Pod::default()
                });
                seen.available = seen.available.min(number);
                changed = true;
            }
        }
        changed
    }

    /// Pods that can become ready do.
    fn ready_pods(&mut self) -> bool {
        let mut changed = false;
        for set in &mut self.sets {
            let seen = &mut set.seen;
            if !self.broken.contains(&set.image)
                && (seen.available != seen.current || seen.ready != seen.current)
            {
                seen.ready = seen.current;
                seen.available = seen.current;
                changed = true;
            }
            for pod in &mut self.pods {
                if pod.controller.as_ref() == Some(&seen.target.uid)
                    && pod.ready_since.is_none()
                    && !self.broken.contains(&set.image)
                {
                    pod.ready_since = Some(self.now);
                }
            }
        }
        changed
    }

    /// Writes a value that the API server should have refused.
    pub(crate) fn break_spec(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut json = self.rollout.to_json();
        let (parent, member) = pointer.rsplit_once('/').expect("a pointer");
        json.pointer_mut(parent).expect("the parent is there")[member] = value;
        let generation = self.rollout.metadata.generation.unwrap_or(0);
        json["metadata"]["generation"] = json!(generation + 1);
        (self.rollout, self.unread) = Rollout::from_json(json);
        self
    }

    /// A ReplicaSet that somebody else made.
    pub(crate) fn add_foreign_set(&mut self, name: &str) -> &mut Self {
        let target = self.target(name, &format!("uid-{name}"));
        let set = StoredSet {
            seen: ReplicaSet {
                target,
                created: self.now,
                controller: Some("foreign".to_owned()),
                ..ReplicaSet::default()
            },
            template: PodTemplate::default(),
            image: name.to_owned(),
        };
        self.sets.push(set);
        self
    }

    /// A run by its name.
    pub(crate) fn run(&self, name: &str) -> &AnalysisRun {
        let found = self.runs.iter().find(|run| run.name() == name);
        found.unwrap_or_else(|| panic!("no run {name}, but {:?}", self.run_names()))
    }

    /// Adds a run of a version.
    pub(crate) fn add_run(&mut self, name: &str, hash: &str, phase: AnalysisPhase) -> &mut Self {
        let (run, _) = AnalysisRun::from_json(json!({
            "metadata": {"name": name, "namespace": "default", "labels": {label::POD_HASH: hash}},
            "spec": {"metrics": []},
            "status": {"phase": phase},
        }));
        self.runs.push(run);
        self
    }

    /// Adds an analysis template with one metric.
    pub(crate) fn add_template(&mut self, name: &str) -> &mut Self {
        self.add_template_of(
            name,
            &json!({"metrics": [{"name": "errors", "provider": {"web": {"url": "http://x"}}}]}),
        )
    }

    pub(crate) fn add_template_of(&mut self, name: &str, spec: &Value) -> &mut Self {
        let spec = serde_json::from_value(spec.clone()).expect("a template");
        let key = TemplateKey {
            cluster_scope: false,
            name: name.to_owned(),
        };
        self.templates.insert(key, Arc::new(spec));
        self
    }

    /// Ends a run, as whoever carries out analyses would.
    pub(crate) fn end_run(&mut self, name: &str, phase: AnalysisPhase, message: &str) -> &mut Self {
        let run = self
            .runs
            .iter_mut()
            .find(|run| run.name() == name)
            .unwrap_or_else(|| panic!("no run {name}"));
        run.status.phase = phase;
        message.clone_into(&mut run.status.message);
        self
    }
}

impl StoredSet {
    /// Name and content, as the engine may ask for it.
    fn body(&self) -> (String, Body) {
        let labels = json!(owned(self.template.labels()));
        let body = Body {
            selector: json!({"matchLabels": labels}),
            template: self.template.as_json().clone(),
        };
        (self.seen.target.name.clone(), body)
    }

    /// What a world shows of it: nothing without the hash label, or under another controller.
    fn visible(&self) -> Option<ReplicaSet> {
        let owner = self.seen.controller.as_deref();
        let shows = self.seen.labels.contains_key(label::POD_HASH)
            && owner.is_none_or(|owner| owner == "rollout-uid");
        shows.then(|| self.seen.clone())
    }

    /// Brings what is known of the template up to date.
    pub(crate) fn look(&mut self) {
        self.seen.template_digest = stored::digest(&self.template, &self.seen.annotations);
        self.seen.template_labels = owned(self.template.labels());
        self.seen.template_annotations = owned(self.template.annotations());
        self.seen.avoids = stored::avoids(&self.template);
    }
}

fn owned(entries: BTreeMap<&str, &str>) -> BTreeMap<String, String> {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn apply(entries: &mut BTreeMap<String, String>, changes: &BTreeMap<String, Option<String>>) {
    for (key, value) in changes {
        match value {
            Some(value) => entries.insert(key.clone(), value.clone()),
            None => entries.remove(key),
        };
    }
}

pub(crate) fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure {
        kind,
        message: message.to_owned(),
    }
}

/// A Rollout `web` of `web:1` with this spec merged in.
pub(crate) fn rollout(spec: &Value) -> Value {
    let mut json = json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
        },
    });
    merge_patch::apply(&mut json, &json!({ "spec": spec }));
    json
}

/// A canary without a router.
pub(crate) fn canary(replicas: i32, canary: &Value) -> Cluster {
    Cluster::new(rollout(
        &json!({"replicas": replicas, "strategy": {"canary": canary}}),
    ))
}

/// A canary of ten pods behind a router, its first version in place.
pub(crate) fn routed(replicas: i32, strategy: &Value) -> Cluster {
    let mut all = json!({
        "canaryService": "web-canary",
        "stableService": "web-stable",
        "trafficRouting": {"nginx": {"stableIngress": "web"}},
    });
    merge_patch::apply(&mut all, strategy);
    canary(replicas, &all)
}
