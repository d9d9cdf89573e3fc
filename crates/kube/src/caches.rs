//! All that is known of the cluster, by kind.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::names::annotation;
use crossfade_api::validate::references;
use crossfade_api::{AnalysisRun, AnalysisTemplate, FieldError, Resource as _, Rollout};
use crossfade_engine::analysis::world::{BlockedPod, Job};
use crossfade_engine::rollout::prepared::{Prepared, prepare};
use crossfade_engine::rollout::world::{ReplicaSet, Service};
use crossfade_engine::views;
use serde_json::Value;

use crate::cache::{Cache, Entry, Key, Lists, View};
use crate::kind::Kind;
use crate::routes;

/// A Rollout, read and prepared.
pub(crate) struct ReadRollout {
    pub(crate) rollout: Arc<Rollout>,
    pub(crate) prepared: Arc<Prepared>,
}

impl View for ReadRollout {
    fn of(mut json: Value, before: Option<&Self>) -> Self {
        // What kubectl applied last is as long as the rest, and nobody looks at it.
        if let Some(notes) = json
            .pointer_mut("/metadata/annotations")
            .and_then(Value::as_object_mut)
        {
            notes.remove(annotation::LAST_APPLIED);
        }
        let (rollout, unread) = Rollout::from_json(json);
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
        Self {
            rollout: Arc::new(rollout),
            prepared,
        }
    }

    /// Its own uid: what it owns names that.
    fn owner(&self) -> Option<&str> {
        self.rollout.metadata.uid.as_deref()
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
        Self {
            run: Arc::new(AnalysisRun::from_json(json).0),
            controller,
        }
    }

    fn owner(&self) -> Option<&str> {
        Some(&self.controller)
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

    fn owner(&self) -> Option<&str> {
        Some(self.controller.as_deref().unwrap_or_default())
    }
}

impl View for Service {
    fn of(json: Value, _: Option<&Self>) -> Self {
        views::service(&json)
    }
}

impl View for Job {
    fn of(json: Value, _: Option<&Self>) -> Self {
        views::job(&json, std::iter::empty())
    }

    fn owner(&self) -> Option<&str> {
        Some(&self.run_uid)
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

    fn owner(&self) -> Option<&str> {
        Some(&self.job)
    }
}

/// A router's object, whole.
pub(crate) struct Routed(pub(crate) Arc<Value>);

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
    pub(crate) services: Cache<Service>,
    pub(crate) jobs: Cache<Job>,
    pub(crate) pods: Cache<JobPod>,
    routed: RwLock<BTreeMap<Kind, Arc<Cache<Routed>>>>,
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
        let known = self.routed.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = known.get(kind) {
            return Arc::clone(cache);
        }
        drop(known);
        let mut known = self.routed.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(kind.clone()).or_default())
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
            Kind::AnalysisTemplate => of(&self.templates, key),
            Kind::ClusterAnalysisTemplate => of(&self.cluster_templates, key),
            Kind::ReplicaSet => of(&self.replica_sets, key),
            Kind::Service => of(&self.services, key),
            Kind::Job => of(&self.jobs, key),
            Kind::Pod => of(&self.pods, key),
            Kind::Routed(_) => of(&self.routed(kind), key),
            Kind::Secret | Kind::Event | Kind::Lease => (None, Lists::default()),
        }
    }

    /// Why what every decision about a namespace stands on is not known, if it is not.
    pub(crate) fn trouble(&self, namespace: &str) -> Option<String> {
        let kinds = [
            ("rollouts", self.rollouts.trouble(namespace)),
            ("replicasets", self.replica_sets.trouble(namespace)),
            ("analysisruns", self.runs.trouble(namespace)),
        ];
        let mut troubles = kinds.into_iter();
        troubles.find_map(|(kind, trouble)| Some(format!("{kind}: {}", trouble?)))
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
