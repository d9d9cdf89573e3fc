//! The simulated cluster as decisions see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::validate::references::RouterKind;
use crossfade_api::{AnalysisRun, Resource as _, Rollout};
use crossfade_engine::action::Target;
use crossfade_engine::analysis;
use crossfade_engine::decision::Found;
use crossfade_engine::rollout::prepared::prepare;
use crossfade_engine::rollout::workload;
use crossfade_engine::rollout::world::{
    Peaks, Pod, ReplicaSet, Router, Settings, TemplateKey, World,
};
use crossfade_engine::rollout::{
    named_services, named_templates, needs_bodies, needs_pods, routers,
};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::experiments::controller;

/// A map of texts somewhere in an object.
pub(crate) fn texts(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let entries = object.pointer(pointer).and_then(Value::as_object);
    entries
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// What the last pass over the Rollout was to see, and what its parts were made from: the next one changes in it what has changed since.
#[derive(Default)]
pub(crate) struct View {
    world: Option<Arc<World>>,
    /// Generation and collision count of the Rollout, and generation of what it takes its template from.
    prepared: (Option<i64>, Option<i32>, Option<i64>),
    /// Generation of the Rollout and version of all that it may name.
    named: (Option<i64>, u64),
    /// Generation of the Rollout and version of the routers' objects.
    routed: (Option<i64>, u64),
}

/// A world in which nothing has been observed.
fn nothing() -> World {
    World {
        rollout: Arc::default(),
        workload: None,
        prepared: Arc::default(),
        replica_sets: Vec::new(),
        services: BTreeMap::new(),
        references: BTreeMap::new(),
        templates: BTreeMap::new(),
        unread: BTreeMap::new(),
        runs: Vec::new(),
        experiments: Vec::new(),
        bodies: BTreeMap::new(),
        routers: Vec::new(),
        pods: Vec::new(),
        faults: Arc::new([]),
        peaks: Peaks::default(),
        gates: Vec::new(),
        settings: Settings::default(),
    }
}

impl Cluster {
    /// The Rollout and everything around it.
    pub(crate) fn observe_rollout(&mut self) -> Option<Arc<World>> {
        let (rollout, workload) = workload::resolve(self.rollout.as_ref()?, |kind, name| {
            let kind = match kind {
                workload::Kind::Deployment => "Deployment",
                workload::Kind::ReplicaSet => "ReplicaSet",
                workload::Kind::PodTemplate => "PodTemplate",
            };
            let there = self.references.get(&(kind.to_owned(), name.to_owned()));
            there.map_or(Found::Missing, |object| Found::Found(Arc::clone(object)))
        });
        let generation = rollout.metadata.generation;
        let mut view = std::mem::take(&mut self.view);
        let is_new = view.world.is_none();
        let shared = view.world.get_or_insert_with(|| Arc::new(nothing()));
        let world = Arc::make_mut(shared);

        let workload_generation = workload.as_ref().map(|workload| workload.generation);
        let prepared = (
            generation,
            rollout.status.collision_count,
            workload_generation,
        );
        if is_new || view.prepared != prepared {
            world.prepared = Arc::new(prepare(&rollout));
            view.prepared = prepared;
        }
        let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
        self.see_sets(uid, &mut world.replica_sets);
        self.see_runs(&mut world.runs);
        self.see_experiments(&rollout, world);
        if needs_pods(&rollout, &world.replica_sets) {
            self.see_pods(&mut world.pods);
        } else {
            world.pods.clear();
        }
        let routed = (generation, self.routes.0);
        if is_new || view.routed != routed {
            let confirms = self.script.as_ref().is_some_and(|script| script.confirms());
            let kinds = routers(&rollout).into_iter();
            world.routers = kinds
                .map(|kind| Router {
                    kind,
                    in_force: self.split.clone(),
                    confirms,
                })
                .collect();
            view.routed = routed;
        }
        if world.peaks != self.controller.peaks {
            world.peaks.clone_from(&self.controller.peaks);
        }
        world.rollout = rollout;
        world.workload = workload;
        let named = (generation, self.references_version);
        if is_new || view.named != named {
            self.see_named(world);
            view.named = named;
        }
        let world = Arc::clone(shared);
        self.view = view;
        Some(world)
    }

    /// The ReplicaSets that are the Rollout's or nobody's; each write to one gives it another version.
    fn see_sets(&self, uid: &str, seen: &mut Vec<ReplicaSet>) {
        let sets = self.sets.values().map(|set| &set.view);
        let sets = sets.filter(|set| set.controller.as_deref().is_none_or(|owner| owner == uid));
        let names = sets.clone().map(|set| &set.target.name);
        if !names.eq(seen.iter().map(|set| &set.target.name)) {
            seen.clear();
            seen.extend(sets.cloned());
            return;
        }
        for (old, set) in seen.iter_mut().zip(sets) {
            if old.target != set.target {
                old.clone_from(set);
            }
        }
    }

    /// The AnalysisRuns that the Rollout owns, newest first.
    fn see_runs(&self, seen: &mut Vec<Arc<AnalysisRun>>) {
        seen.clear();
        seen.extend(self.own_runs().cloned());
        let created =
            |run: &AnalysisRun| run.metadata.creation_timestamp.as_ref().map(|time| time.0);
        seen.sort_by(|one, other| (created(other), other.name()).cmp(&(created(one), one.name())));
    }

    /// The Experiments, newest first, and what new ones are made from.
    fn see_experiments(&self, rollout: &Rollout, world: &mut World) {
        let uid = rollout.metadata.uid.as_deref();
        let own = self.experiments.values();
        let own = own.filter(|one| controller(&one.metadata) == uid);
        world.experiments.clear();
        world.experiments.extend(own.cloned());
        world.experiments.sort_by_key(|one| {
            let created = one.metadata.creation_timestamp.as_ref();
            std::cmp::Reverse((created.map(|time| time.0), one.name().to_owned()))
        });
        world.bodies.clear();
        if needs_bodies(rollout) {
            let sets = self.sets.iter();
            let bodies = sets.map(|(name, set)| (name.clone(), self.body(set)));
            world.bodies.extend(bodies);
        }
    }

    /// The pods, of which few have changed since the last time.
    fn see_pods(&self, seen: &mut Vec<Pod>) {
        let owner = |pod: &crate::cluster::Pod| {
            let set = self.sets.get(&pod.set);
            set.map(|set| set.view.target.uid.as_str())
        };
        let is_known = |old: &Pod, pod: &crate::cluster::Pod| {
            old.target.name == pod.name
                && old.ready_since == pod.ready_since
                && old.deleting == pod.deleting
                && old.controller.as_deref() == owner(pod)
                && old.labels == pod.labels
                && old.annotations == pod.annotations
        };
        let view = |pod: &crate::cluster::Pod| Pod {
            target: Target {
                name: pod.name.clone(),
                uid: pod.name.clone(),
                ..Target::default()
            },
            created: pod.created,
            deleting: pod.deleting,
            controller: owner(pod).map(str::to_owned),
            ready_since: pod.ready_since,
            labels: pod.labels.clone(),
            annotations: pod.annotations.clone(),
        };
        seen.truncate(self.pods.len());
        let (old, new) = (seen.len(), self.pods.values());
        for (old, pod) in seen.iter_mut().zip(new.clone()) {
            if !is_known(old, pod) {
                *old = view(pod);
            }
        }
        seen.extend(new.skip(old).map(view));
    }

    /// What the Rollout names, and what is wrong with it.
    fn see_named(&self, world: &mut World) {
        let rollout = &world.rollout;
        world.services = named_services(rollout)
            .into_iter()
            .map(|name| {
                let service = self.services.get(name);
                let found = service.map_or(Found::Missing, |found| Found::Found(found.observed()));
                (name.to_owned(), found)
            })
            .collect();
        world.templates = self.observe_templates(named_templates(rollout));
        let references = self.references.iter();
        world.references = references
            .filter_map(|((kind, name), object)| {
                let kind = match kind.as_str() {
                    "Ingress" => RouterKind::Ingress,
                    "VirtualService" => RouterKind::VirtualService,
                    "DestinationRule" => RouterKind::DestinationRule,
                    _ => return None,
                };
                Some((
                    (kind, rollout.namespace().to_owned(), name.clone()),
                    Found::Found(Arc::clone(object)),
                ))
            })
            .collect();
        world.faults = world.find_faults();
    }

    /// Templates that are named, and those that they name in turn.
    pub(crate) fn observe_templates(
        &self,
        mut open: Vec<TemplateKey>,
    ) -> BTreeMap<TemplateKey, Found<Arc<AnalysisTemplateSpec>>> {
        let mut templates = BTreeMap::new();
        while let Some(key) = open.pop() {
            if templates.contains_key(&key) {
                continue;
            }
            let found = self.templates.get(&key).cloned();
            if let Some(template) = &found {
                open.extend(template.templates.iter().map(|reference| TemplateKey {
                    cluster_scope: reference.is_cluster_scope(),
                    name: reference.template_name.clone(),
                }));
            }
            templates.insert(key, found.map_or(Found::Missing, Found::Found));
        }
        templates
    }

    /// One AnalysisRun with its Jobs.
    pub(crate) fn observe_run(&self, name: &str) -> Option<analysis::world::World> {
        let run = Arc::clone(self.runs.get(name)?);
        let uid = run.metadata.uid.clone().unwrap_or_default();
        let own = self.jobs.iter().filter(|(_, job)| job.run_uid == uid);
        let jobs = own.map(|(name, job)| (name.clone(), job.clone())).collect();
        Some(analysis::world::World {
            run,
            jobs,
            job_namespace: None,
        })
    }
}
