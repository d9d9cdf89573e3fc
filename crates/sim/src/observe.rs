//! The simulated cluster as decisions see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::validate::references::RouterKind;
use crossfade_api::{Resource as _, Rollout};
use crossfade_engine::action::Target;
use crossfade_engine::analysis;
use crossfade_engine::decision::Found;
use crossfade_engine::rollout::prepared::{Prepared, prepare};
use crossfade_engine::rollout::world::{Pod, Router, Settings, TemplateKey, World};
use crossfade_engine::rollout::{named_services, named_templates, needs_pods, routers};
use serde_json::Value;

use crate::cluster::Cluster;

/// A map of texts somewhere in an object.
pub(crate) fn texts(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let entries = object.pointer(pointer).and_then(Value::as_object);
    entries
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

impl Cluster {
    /// The Rollout and everything around it.
    pub(crate) fn observe_rollout(&mut self) -> Option<World> {
        let rollout = Arc::clone(self.rollout.as_ref()?);
        let services = named_services(&rollout)
            .into_iter()
            .map(|name| {
                let service = self.services.get(name);
                let found = service.map_or(Found::Missing, |found| Found::Found(found.observed()));
                (name.to_owned(), found)
            })
            .collect();
        let mut templates = BTreeMap::new();
        let mut open: Vec<TemplateKey> = named_templates(&rollout);
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
        let references = self
            .references
            .iter()
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
        let mut runs: Vec<_> = self.runs.values().cloned().collect();
        runs.sort_by_key(|run| {
            std::cmp::Reverse((
                run.metadata.creation_timestamp.as_ref().map(|time| time.0),
                run.name().to_owned(),
            ))
        });
        let view = |pod: &crate::cluster::Pod| Pod {
            target: Target {
                name: pod.name.clone(),
                uid: pod.name.clone(),
                ..Target::default()
            },
            created: pod.created,
            deleting: pod.deleting,
            controller: self
                .sets
                .get(&pod.set)
                .map(|set| set.view.target.uid.clone()),
            ready_since: pod.ready_since,
            labels: pod.labels.clone(),
            annotations: pod.annotations.clone(),
        };
        let replica_sets: Vec<_> = self.sets.values().map(|set| set.view.clone()).collect();
        let pods = if needs_pods(&rollout, &replica_sets) {
            self.pods.values().map(view).collect()
        } else {
            Vec::new()
        };
        let confirms = self.script.as_ref().is_some_and(|script| script.confirms());
        let routers = routers(&rollout)
            .into_iter()
            .map(|kind| Router {
                kind,
                in_force: self.split.clone(),
                confirms,
            })
            .collect();
        let prepared = self.prepared(&rollout);
        let known = self
            .faults
            .as_ref()
            .filter(|(key, _)| *key == (rollout.metadata.generation, self.references_version));
        let known = known.map(|(_, faults)| Arc::clone(faults));
        let mut world = World {
            faults: Arc::new([]),
            prepared,
            replica_sets,
            services,
            references,
            templates,
            unread: BTreeMap::new(),
            runs,
            routers,
            pods,
            peaks: self.controller.peaks.clone(),
            gates: Vec::new(),
            settings: Settings::default(),
            rollout,
        };
        world.faults = known.unwrap_or_else(|| world.find_faults());
        let key = (world.rollout.metadata.generation, self.references_version);
        self.faults = Some((key, Arc::clone(&world.faults)));
        Some(world)
    }

    fn prepared(&mut self, rollout: &Rollout) -> Arc<Prepared> {
        let key = (rollout.metadata.generation, rollout.status.collision_count);
        match &self.prepared {
            Some((generation, collisions, prepared)) if (*generation, *collisions) == key => {
                Arc::clone(prepared)
            }
            _ => {
                let prepared = Arc::new(prepare(rollout));
                self.prepared = Some((key.0, key.1, Arc::clone(&prepared)));
                prepared
            }
        }
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
