//! What a decision about a Canary is taken on here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::flagger::hash;
use crossfade_api::{Canary, MetricTemplate, Resource as _};
use crossfade_engine::canary::world::{Config, ConfigKey, Known, Services, World};
use crossfade_engine::canary::{Named, named_configs, named_templates, service_names};
use crossfade_engine::decision::Found;
use crossfade_engine::views;
use serde_json::Value;

use super::Namespace;

impl Namespace {
    /// One Canary and everything around it.
    pub(super) fn observe(&mut self, name: &str) -> Option<World> {
        let canary = self.read_canary(name)?;
        let spec = &canary.spec;
        let target = self.found(&spec.target_ref.kind, &spec.target_ref.name);
        let named = target.found().map(|target| named_configs(target));
        let configs = named
            .unwrap_or_default()
            .into_iter()
            .map(|Named { key, .. }| (key.clone(), self.config(&key)))
            .collect();
        let autoscaler = spec.autoscaler_ref.as_ref();
        let templates = named_templates(&canary)
            .into_iter()
            .map(|reference| {
                let template = self.object("MetricTemplate", &reference.name);
                let template = template
                    .filter(|_| reference.namespace == self.name)
                    .map(|object| Arc::new(MetricTemplate::from_json(object.clone()).0));
                let found = template.map_or(Found::Missing, Found::Found);
                (reference, found)
            })
            .collect();
        let [apex, primary, new] = service_names(&canary);
        Some(World {
            settings: Arc::clone(&self.settings),
            primary: self.found(
                &spec.target_ref.kind,
                &format!("{}-primary", spec.target_ref.name),
            ),
            services: Services {
                apex: self.found("Service", &apex),
                primary: self.found("Service", &primary),
                canary: self.found("Service", &new),
            },
            autoscaler: autoscaler.map_or(Found::NotNeeded, |one| self.found(&one.kind, &one.name)),
            primary_autoscaler: autoscaler.map_or(Found::NotNeeded, |one| {
                self.found(&one.kind, &format!("{}-primary", one.name))
            }),
            replica_sets: self.owned_sets(target.found()),
            target,
            configs,
            templates,
            older_rival: self.older_rival(&canary),
            last_tick: self.ticks.get(name).copied(),
            known: Known::default(),
            canary,
        })
    }

    /// The Canary as it is read, once a version.
    fn read_canary(&mut self, name: &str) -> Option<Arc<Canary>> {
        let object = self.objects.get(&("Canary".to_owned(), name.to_owned()))?;
        if let Some((of, canary)) = &self.read
            && Arc::ptr_eq(of, object)
        {
            return Some(Arc::clone(canary));
        }
        let canary = Arc::new(Canary::from_json((**object).clone()).0);
        self.read = Some((Arc::clone(object), Arc::clone(&canary)));
        Some(canary)
    }

    fn found(&self, kind: &str, name: &str) -> Found<Arc<Value>> {
        let key = (kind.to_owned(), name.to_owned());
        let stale = self.stale.as_ref().filter(|stale| super::key(stale) == key);
        if let Some(stale) = stale {
            return Found::Found(Arc::new(stale.clone()));
        }
        self.objects
            .get(&key)
            .map_or(Found::Missing, |object| Found::Found(Arc::clone(object)))
    }

    fn config(&self, key: &ConfigKey) -> Found<Config> {
        let kind = match key {
            ConfigKey::ConfigMap(_) => "ConfigMap",
            ConfigKey::Secret(_) => "Secret",
        };
        let Some(object) = self.object(kind, key.name()) else {
            return Found::Missing;
        };
        let data: Option<BTreeMap<String, String>> = object
            .get("data")
            .filter(|data| data.is_object())
            .map(|_| views::map(object, "/data"));
        Found::Found(Config {
            target: views::target(object),
            labels: views::map(object, "/metadata/labels"),
            annotations: views::map(object, "/metadata/annotations"),
            checksum: hash::config(data.as_ref()),
            kind: match key {
                ConfigKey::ConfigMap(_) => String::new(),
                ConfigKey::Secret(_) => views::text(object, "/type").to_owned(),
            },
        })
    }

    fn owned_sets(&self, target: Option<&Arc<Value>>) -> Vec<Arc<Value>> {
        let Some(target) = target else {
            return Vec::new();
        };
        let uid = views::text(target, "/metadata/uid");
        let sets = self.objects.iter().filter(|((kind, _), set)| {
            kind == "ReplicaSet" && views::controller(set).is_some_and(|(_, _, owner)| owner == uid)
        });
        sets.map(|(_, set)| Arc::clone(set)).collect()
    }

    fn older_rival(&self, canary: &Canary) -> Option<String> {
        let age = |object: &Value| {
            (
                views::instant(object, "/metadata/creationTimestamp"),
                views::text(object, "/metadata/name").to_owned(),
            )
        };
        let own = age(self.object("Canary", canary.name())?);
        let all = self
            .objects
            .iter()
            .filter(|((kind, _), _)| kind == "Canary");
        let rivals = all.filter(|(_, other)| {
            views::text(other, "/spec/targetRef/name") == canary.spec.target_ref.name
                && views::text(other, "/spec/targetRef/kind") == canary.spec.target_ref.kind
                && age(other) < own
        });
        rivals.map(|(_, other)| age(other).1).next()
    }
}
