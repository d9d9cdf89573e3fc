//! The simulated cluster as decisions see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::Resource as _;
use crossfade_api::validate::references::RouterKind;
use crossfade_engine::action::Target;
use crossfade_engine::analysis;
use crossfade_engine::decision::Found;
use crossfade_engine::rollout::prepared::prepare;
use crossfade_engine::rollout::world::{Pod, Router, Settings, TemplateKey, World};
use crossfade_engine::rollout::{named_services, named_templates, routers};
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
    pub(crate) fn observe_rollout(&self) -> Option<World> {
        let rollout = Arc::new(self.rollout.clone()?);
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
        let mut runs: Vec<_> = self.runs.values().cloned().map(Arc::new).collect();
        runs.sort_by_key(|run| {
            std::cmp::Reverse((
                run.metadata.creation_timestamp.as_ref().map(|time| time.0),
                run.name().to_owned(),
            ))
        });
        let pods = self.pods.values().map(|pod| Pod {
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
        });
        let routers = routers(&rollout)
            .into_iter()
            .map(|kind| Router {
                kind,
                in_force: self.split.clone(),
                confirms: false,
            })
            .collect();
        let mut world = World {
            faults: Arc::new([]),
            prepared: Arc::new(prepare(&rollout)),
            replica_sets: self.sets.values().map(|set| set.view.clone()).collect(),
            services,
            references,
            templates,
            runs,
            routers,
            pods: pods.collect(),
            peaks: self.peaks.clone(),
            settings: Settings::default(),
            rollout,
        };
        world.faults = world.find_faults();
        Some(world)
    }

    /// One AnalysisRun with its Jobs.
    pub(crate) fn observe_run(&self, name: &str) -> Option<analysis::world::World> {
        let run = Arc::new(self.runs.get(name)?.clone());
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
