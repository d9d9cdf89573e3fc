//! All that is known of the cluster, by kind.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::names::annotation;
use crossfade_api::validate::references;
use crossfade_api::{
    AnalysisRun, AnalysisTemplate, Experiment, FieldError, Resource as _, Rollout,
};
use crossfade_engine::analysis::world::{BlockedPod, Job};
use crossfade_engine::experiment::world::Service as OwnService;
use crossfade_engine::rollout::prepared::{Prepared, prepare};
use crossfade_engine::rollout::world::{ReplicaSet, Service};
use crossfade_engine::views;
use serde_json::Value;

use crate::cache::{Cache, Entry, Key, Lists, Trouble, View};
use crate::canaries::{ReadCanary, ReadConfig};
use crate::kind::Kind;
use crate::routes;
use crate::workloads::Numbers;

/// A Rollout, read and prepared.
pub(crate) struct ReadRollout {
    pub(crate) rollout: Arc<Rollout>,
    pub(crate) prepared: Arc<Prepared>,
}

impl View for ReadRollout {
    fn of(mut json: Value, before: Option<&Self>) -> Self {
        forget_last_applied(&mut json);
        let (mut rollout, unread) = match before {
            Some(before) => Rollout::from_json_after(json, &before.rollout),
            None => Rollout::from_json(json),
        };
        rollout.origin.forget_json();
        let same = before.filter(|before| {
            let then = &before.rollout;
            then.metadata.generation == rollout.metadata.generation
                && then.status.collision_count == rollout.status.collision_count
        });
        let prepared = same.map_or_else(
            || {
                let mut prepared = prepare(&rollout).with_unread(unread);
                prepared.errors.extend(routes::unsupported(&rollout));
                Arc::new(prepared)
            },
            |before| Arc::clone(&before.prepared),
        );
        rollout.spec.template = rollout.spec.template.folded();
        Self {
            rollout: Arc::new(rollout),
            prepared,
        }
    }

    /// Its own uid: what it owns names that.
    fn found_by(&self) -> [Option<&str>; 2] {
        [self.rollout.metadata.uid.as_deref(), None]
    }
}

/// An AnalysisRun, read.
pub(crate) struct ReadRun {
    pub(crate) run: Arc<AnalysisRun>,
    controller: String,
}

impl View for ReadRun {
    fn of(json: Value, _: Option<&Self>) -> Self {
        let controller =
            views::controller(&json).map_or(String::new(), |(_, _, uid)| uid.to_owned());
        let mut run = AnalysisRun::from_json(json).0;
        run.origin.forget_json();
        Self {
            run: Arc::new(run),
            controller,
        }
    }

    /// Its controller and, for its Jobs, itself.
    fn found_by(&self) -> [Option<&str>; 2] {
        let uid = self.run.metadata.uid.as_deref();
        [Some(&self.controller), uid]
    }
}

/// An Experiment, read.
pub(crate) struct ReadExperiment {
    pub(crate) experiment: Arc<Experiment>,
    controller: String,
}

impl View for ReadExperiment {
    fn of(mut json: Value, _: Option<&Self>) -> Self {
        forget_last_applied(&mut json);
        let controller =
            views::controller(&json).map_or(String::new(), |(_, _, uid)| uid.to_owned());
        let mut experiment = Experiment::from_json(json).0;
        experiment.origin.forget_json();
        Self {
            experiment: Arc::new(experiment),
            controller,
        }
    }

    /// Its controller and, for what it owns, itself.
    fn found_by(&self) -> [Option<&str>; 2] {
        let uid = self.experiment.metadata.uid.as_deref();
        [Some(&self.controller), uid]
    }
}

/// What kubectl applied last is as long as the rest, and nobody looks at it.
fn forget_last_applied(json: &mut Value) {
    if let Some(notes) = json
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        notes.remove(annotation::LAST_APPLIED);
    }
}

/// A template of either kind, read.
pub(crate) struct ReadTemplate {
    pub(crate) spec: Arc<AnalysisTemplateSpec>,
    pub(crate) unread: Vec<FieldError>,
}

impl View for ReadTemplate {
    fn of(json: Value, _: Option<&Self>) -> Self {
        let (template, mut unread) = AnalysisTemplate::from_json(json);
        unread.retain(|fault| fault.path.starts_with("spec"));
        Self {
            spec: Arc::new(template.spec),
            unread,
        }
    }
}

impl View for ReplicaSet {
    fn of(json: Value, _: Option<&Self>) -> Self {
        views::replica_set(&json)
    }

    fn found_by(&self) -> [Option<&str>; 2] {
        [Some(self.controller.as_deref().unwrap_or_default()), None]
    }
}

/// A Service, as a Rollout looks at it and, if an Experiment controls it, as that does.
pub(crate) struct ReadService {
    pub(crate) service: Service,
    pub(crate) of_experiment: Option<OwnService>,
}

impl ReadService {
    /// A Rollout has put its version into the selector, or its name on it.
    pub(crate) fn is_managed(&self) -> bool {
        let service = &self.service;
        let is_marked = !service.selected().is_empty() || service.managed_by.is_some();
        is_marked && self.of_experiment.is_none()
    }
}

impl View for ReadService {
    fn of(json: Value, _: Option<&Self>) -> Self {
        let controller = views::controller(&json);
        let is_owned = controller.is_some_and(|(kind, ..)| kind == Experiment::KIND);
        Self {
            service: views::service(&json),
            of_experiment: is_owned.then(|| service_of_experiment(&json)),
        }
    }

    fn found_by(&self) -> [Option<&str>; 2] {
        let own = self.of_experiment.as_ref();
        [own.and_then(|own| own.controller.as_deref()), None]
    }
}

/// A Service as Experiments look at it.
pub(crate) fn service_of_experiment(json: &Value) -> OwnService {
    OwnService {
        target: views::target(json),
        controller: views::controller(json).map(|(_, _, uid)| uid.to_owned()),
        annotations: views::map(json, "/metadata/annotations"),
    }
}

impl View for Job {
    fn of(json: Value, _: Option<&Self>) -> Self {
        views::job(&json, std::iter::empty())
    }

    fn found_by(&self) -> [Option<&str>; 2] {
        [Some(&self.run_uid), None]
    }
}

/// A pod of a Job, as far as it keeps the Job from ever ending.
pub(crate) struct JobPod {
    job: String,
    pub(crate) run_uid: String,
    pub(crate) blocked: Option<BlockedPod>,
}

impl View for JobPod {
    fn of(json: Value, _: Option<&Self>) -> Self {
        Self {
            job: views::controller(&json).map_or(String::new(), |(_, _, uid)| uid.to_owned()),
            run_uid: views::map(&json, "/metadata/labels")
                .remove(crossfade_api::names::label::ANALYSIS_RUN_UID)
                .unwrap_or_default(),
            blocked: views::blocked(&json),
        }
    }

    fn found_by(&self) -> [Option<&str>; 2] {
        [Some(&self.job), None]
    }
}

/// A router's object, whole.
pub(crate) struct Routed(pub(crate) Arc<Value>);

impl Routed {
    /// The Rollout that a DestinationRule names as its manager.
    pub(crate) fn manager(&self) -> Option<&str> {
        let kind = views::text(&self.0, "/kind");
        let notes = self.0.pointer("/metadata/annotations")?;
        let manager = notes.get(annotation::MANAGED_BY)?.as_str()?;
        (kind == "DestinationRule").then_some(manager)
    }
}

impl View for Routed {
    fn of(json: Value, _: Option<&Self>) -> Self {
        Self(Arc::new(json))
    }
}

/// Everything that is watched.
#[derive(Default)]
pub(crate) struct Caches {
    pub(crate) rollouts: Cache<ReadRollout>,
    pub(crate) runs: Cache<ReadRun>,
    pub(crate) templates: Cache<ReadTemplate>,
    pub(crate) cluster_templates: Cache<ReadTemplate>,
    pub(crate) replica_sets: Cache<ReplicaSet>,
    pub(crate) services: Cache<ReadService>,
    pub(crate) experiments: Cache<ReadExperiment>,
    pub(crate) canaries: Cache<ReadCanary>,
    pub(crate) jobs: Cache<Job>,
    pub(crate) pods: Cache<JobPod>,
    routed: RwLock<BTreeMap<Kind, Arc<Cache<Routed>>>>,
    workloads: RwLock<BTreeMap<Kind, Arc<Cache<Numbers>>>>,
    configs: RwLock<BTreeMap<Kind, Arc<Cache<ReadConfig>>>>,
}

/// The cache of a kind; a new one, if there is none yet.
fn of_kind<T>(caches: &RwLock<BTreeMap<Kind, Arc<Cache<T>>>>, kind: &Kind) -> Arc<Cache<T>> {
    let known = caches.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(cache) = known.get(kind) {
        return Arc::clone(cache);
    }
    drop(known);
    let mut known = caches.write().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(known.entry(kind.clone()).or_default())
}

/// Which version of an object a cache holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) uid: String,
    pub(crate) version: u64,
    pub(crate) deleting: bool,
}

impl Caches {
    /// The objects of a kind that routers use; empty and unwatched until somebody watches it.
    pub(crate) fn routed(&self, kind: &Kind) -> Arc<Cache<Routed>> {
        of_kind(&self.routed, kind)
    }

    /// The objects of a kind that Rollouts take templates from; empty and unwatched until somebody watches it.
    pub(crate) fn workloads(&self, kind: &Kind) -> Arc<Cache<Numbers>> {
        of_kind(&self.workloads, kind)
    }

    /// The ConfigMaps or Secrets, by their checksums; empty and unwatched until somebody watches them.
    pub(crate) fn configs(&self, kind: &Kind) -> Arc<Cache<ReadConfig>> {
        of_kind(&self.configs, kind)
    }

    /// Whether the objects of a kind in a namespace are watched and known.
    pub(crate) fn is_watched(&self, kind: &Kind, namespace: &str) -> bool {
        match kind {
            Kind::Routed(_) => self.routed(kind).trouble(namespace).is_none(),
            Kind::ConfigMap | Kind::Secret => self.configs(kind).trouble(namespace).is_none(),
            _ => true,
        }
    }

    /// Which version of an object is known, and how often its kind was listed.
    pub(crate) fn sight(&self, kind: &Kind, key: &Key) -> (Option<Sight>, Lists) {
        fn of<T: View>(cache: &Cache<T>, key: &Key) -> (Option<Sight>, Lists) {
            let sight = |entry: Arc<Entry<T>>| Sight {
                uid: entry.uid.clone(),
                version: entry.version,
                deleting: entry.deleting,
            };
            (cache.get(&key.0, &key.1).map(sight), cache.lists(&key.0))
        }
        match kind {
            Kind::Rollout => of(&self.rollouts, key),
            Kind::AnalysisRun => of(&self.runs, key),
            Kind::Experiment => of(&self.experiments, key),
            Kind::AnalysisTemplate => of(&self.templates, key),
            Kind::ClusterAnalysisTemplate => of(&self.cluster_templates, key),
            Kind::ReplicaSet => of(&self.replica_sets, key),
            Kind::Service => of(&self.services, key),
            Kind::Job => of(&self.jobs, key),
            Kind::Pod => of(&self.pods, key),
            Kind::Routed(_) => of(&self.routed(kind), key),
            Kind::Workload(_) => of(&self.workloads(kind), key),
            Kind::Canary => of(&self.canaries, key),
            Kind::ConfigMap | Kind::Secret => of(&self.configs(kind), key),
            Kind::Event | Kind::Lease => (None, Lists::default()),
        }
    }

    /// Why what every decision about a namespace stands on is not known, if it is not.
    pub(crate) fn trouble(&self, namespace: &str) -> Option<Trouble> {
        let kinds = [
            ("rollouts", self.rollouts.trouble(namespace)),
            ("replicasets", self.replica_sets.trouble(namespace)),
            ("analysisruns", self.runs.trouble(namespace)),
        ];
        let mut troubles = kinds.into_iter();
        troubles.find_map(|(kind, trouble)| Some(trouble?.of(kind)))
    }

    /// The ReplicaSets that a Rollout's decisions are taken on: its own and those that nobody owns.
    pub(crate) fn replica_sets_of(&self, namespace: &str, uid: &str) -> Vec<ReplicaSet> {
        let own = self.replica_sets.owned(namespace, uid);
        let orphans = self.replica_sets.owned(namespace, "");
        own.iter()
            .chain(&orphans)
            .map(|entry| entry.view.clone())
            .collect()
    }

    /// The Jobs of an AnalysisRun, by name.
    pub(crate) fn jobs_of(&self, namespace: &str, uid: &str) -> BTreeMap<String, Job> {
        let jobs = self.jobs.owned(namespace, uid);
        jobs.iter()
            .map(|entry| {
                let pods = self.pods.owned(namespace, &entry.uid);
                let job = Job {
                    blocked: pods.iter().find_map(|pod| pod.view.blocked.clone()),
                    ..entry.view.clone()
                };
                (job.target.name.clone(), job)
            })
            .collect()
    }
}

/// The Services that a Rollout names, wherever in its spec.
pub(crate) fn services_of(rollout: &Rollout) -> Vec<String> {
    references::services(rollout)
        .into_iter()
        .map(|(_, name)| name.to_owned())
        .collect()
}
