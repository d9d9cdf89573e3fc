//! The target and its copy that serves: how the copy is made and renewed, how the target sleeps and wakes.

use std::sync::Arc;

use crossfade_api::flagger::TargetKind;
use serde_json::{Map, Value, json};

use super::action::{CanaryAction, CanaryDone, ObjectKey};
use super::configs::Configs;
use super::tick::{PodLabel, Step, Tick, key};
use super::world::Settings;
use crate::decision::Found;
use crate::mutant::{Mutant, wrong};
use crate::views::{self, map, number, text};

/// The hash of the revision that a primary was made from.
pub(super) const SOURCE_HASH: &str = "crossfade.dev/source-hash";
/// A node selector that no node satisfies: how a DaemonSet sleeps.
const SLEEPS: &str = "flagger.app/scale-to-zero";
/// Makes each promotion a new revision of the primary.
const FLAGGER_ID: &str = "flagger-id";
/// Whoever promotes after somebody else took the primary away.
const REBUILD: &str = "crossfade.dev/rebuild-primary";

/// Whether a key of labels or annotations belongs to a tool that looks after the original.
pub(super) fn is_toolkit(key: &str) -> bool {
    key.contains("toolkit.fluxcd.io")
}

/// The label that tells the pods of a Deployment or a DaemonSet from others, with its value.
pub fn pod_label(target: &Value, settings: &Settings) -> Option<(String, String)> {
    let labels = map(target, "/spec/selector/matchLabels");
    let mut known = settings.selector_labels.iter();
    known.find_map(|key| Some((key.clone(), labels.get(key)?.clone())))
}

impl Tick<'_, '_, '_> {
    /// What a revision of the target is made of.
    pub(super) fn revision_input(&self, target: &Value) -> Value {
        match self.kind() {
            TargetKind::Service => target["spec"].clone(),
            TargetKind::Knative => target["status"]["latestCreatedRevisionName"].clone(),
            TargetKind::Deployment => target["spec"]["template"].clone(),
            TargetKind::DaemonSet => {
                let mut template = target["spec"]["template"].clone();
                let selector = &mut template["spec"]["nodeSelector"];
                if let Some(members) = selector.as_object_mut() {
                    members.remove(SLEEPS);
                } else {
                    *selector = json!({});
                }
                template
            }
        }
    }

    /// The word for the target in texts.
    pub(super) fn workload_word(&self) -> &'static str {
        match self.kind() {
            TargetKind::DaemonSet => "daemonset",
            TargetKind::Deployment => "deployment",
            TargetKind::Service | TargetKind::Knative => "service",
        }
    }

    /// Looks the target up, with the label that tells its pods from others.
    pub(super) fn find_target(&mut self) -> Step {
        let word = self.workload_word();
        let name = self.target_name();
        let plural = format!("{word}s{}", if self.is_workload() { ".apps" } else { "" });
        match &self.world.target {
            Found::Found(_) => {}
            Found::Unreadable(why) => {
                return Err(self.ends(&format!("{word} {name} get query error: {why}")));
            }
            Found::Missing | Found::NotNeeded => {
                let bare = &self.spec.target_ref.name;
                return Err(self.ends(&format!(
                    "{word} {name} get query error: {plural} \"{bare}\" not found"
                )));
            }
        }
        let Some(target) = self.target.clone().filter(|_| self.is_workload()) else {
            return Ok(());
        };
        let known = &self.world.settings.selector_labels;
        let Some((key, value)) = pod_label(&target, &self.world.settings) else {
            let tail = if word == "daemonset" { "'" } else { "" };
            let known = known.join(" ");
            return Err(self.ends(&format!(
                "getSelectorLabel failed: {word} {name} spec.selector.matchLabels must contain one of [{known}]{tail}"
            )));
        };
        self.label = PodLabel { key, value };
        if word == "daemonset" {
            let strategy = text(&target, "/spec/updateStrategy/type");
            if !matches!(strategy, "" | "RollingUpdate") {
                return Err(self.ends(&format!(
                    "daemonset {name} must have RollingUpdate strategy but have {strategy}"
                )));
            }
        }
        Ok(())
    }

    /// The value of the label on the primary's pods.
    pub(super) fn primary_label(&self) -> String {
        format!("{}-primary", self.label.value)
    }

    /// Makes the primary, if it is missing.
    pub(super) fn ensure_primary(&mut self) -> Step {
        let Some(target) = self.target.clone().filter(|_| self.is_workload()) else {
            return Ok(());
        };
        match &self.world.primary {
            Found::Found(_) => return Ok(()),
            Found::Unreadable(why) => {
                let why = why.clone();
                let word = self.workload_word();
                let name = self.primary_name();
                let namespace = self.namespace();
                return Err(self.ends(&format!("{word} {name}.{namespace} get query error: {why}")));
            }
            Found::Missing | Found::NotNeeded => {}
        }
        let applied = &self.status.last_applied_spec;
        let is_untold = *applied != self.status.last_promoted_spec;
        if !self.initialises() && is_untold && !self.opts_in(REBUILD) {
            let text = format!(
                "{}.{} is gone and is not made anew from a revision that was not promoted; annotate the Canary with {REBUILD}: \"true\" to do so",
                self.primary_name(),
                self.namespace()
            );
            return Err(self.ends(&text));
        }
        let prefix = match self.kind() {
            TargetKind::DaemonSet => "createPrimaryDaemonSet failed: ",
            _ => "createPrimaryDeployment failed: ",
        };
        let configs = self.configs(prefix)?;
        self.copy_configs(&configs, prefix)?;
        let object = self.new_primary(&target, &configs);
        let made = self.create(object, prefix)?;
        self.primary = Some(made);
        Ok(())
    }

    fn new_primary(&self, target: &Value, configs: &Configs) -> Value {
        let mut annotations = map(target, "/metadata/annotations");
        annotations.retain(|key, _| !is_toolkit(key));
        annotations.insert(SOURCE_HASH.to_owned(), self.target_hash());
        let mut spec = json!({
            "selector": {"matchLabels": {&self.label.key: self.primary_label()}},
            "template": self.primary_template(target, configs),
        });
        self.copy_settings(target, &mut spec);
        if self.kind() == TargetKind::Deployment {
            let wanted = number(target, "/spec/replicas");
            // One that was taken away is made anew in a size that its autoscaler would give it.
            let asleep = if self.initialises() {
                1
            } else {
                self.least_size()
            };
            spec["replicas"] = json!(if wanted > 0 { wanted } else { asleep });
        }
        json!({
            "apiVersion": "apps/v1",
            "kind": self.spec.target_ref.kind,
            "metadata": {
                "name": self.primary_name(),
                "namespace": self.namespace(),
                "labels": self.primary_labels(target),
                "annotations": annotations,
                "ownerReferences": [self.owner()],
            },
            "spec": spec,
        })
    }

    /// Labels of the primary itself.
    fn primary_labels(&self, target: &Value) -> Value {
        let mut labels = map(target, "/metadata/labels");
        labels.retain(|key, _| !is_toolkit(key) && self.is_included(key));
        labels.insert(self.label.key.clone(), self.primary_label());
        json!(labels)
    }

    /// Whether a label or annotation is copied to the primary.
    pub(super) fn is_included(&self, key: &str) -> bool {
        let prefixes = &self.world.settings.include_label_prefixes;
        prefixes
            .iter()
            .any(|prefix| prefix == "*" || (!prefix.is_empty() && key.starts_with(prefix.as_str())))
    }

    /// What the primary takes over from the target besides its pods.
    fn copy_settings(&self, target: &Value, spec: &mut Value) {
        let copied: &[&str] = match self.kind() {
            TargetKind::DaemonSet => &["minReadySeconds", "revisionHistoryLimit", "updateStrategy"],
            _ => &[
                "progressDeadlineSeconds",
                "minReadySeconds",
                "revisionHistoryLimit",
                "strategy",
            ],
        };
        let Some(spec) = spec.as_object_mut() else {
            return;
        };
        for member in copied {
            match target["spec"].get(*member) {
                Some(value) => spec.insert((*member).to_owned(), value.clone()),
                None => spec.remove(*member),
            };
        }
    }

    /// The target's pods as the primary has them.
    pub(super) fn primary_template(&self, target: &Value, configs: &Configs) -> Value {
        let mut template = target["spec"]["template"].clone();
        let mut labels = map(&template, "/metadata/labels");
        labels.insert(self.label.key.clone(), self.primary_label());
        let mut annotations = map(&template, "/metadata/annotations");
        annotations.retain(|key, _| !is_toolkit(key) && key != FLAGGER_ID);
        let id = crossfade_api::flagger::hash::uuid(&self.fresh(FLAGGER_ID));
        annotations.insert(FLAGGER_ID.to_owned(), id);
        let mut metadata = template["metadata"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        metadata.insert("labels".to_owned(), json!(labels));
        metadata.insert("annotations".to_owned(), json!(annotations));
        template["metadata"] = Value::Object(metadata);
        let spec = &mut template["spec"];
        configs.rewrite(spec);
        if self.kind() == TargetKind::DaemonSet {
            wake(spec);
        } else {
            self.rewrite_own_names(spec);
        }
        template
    }

    /// Rules that keep the target's pods apart from one another keep the primary's apart.
    fn rewrite_own_names(&self, spec: &mut Value) {
        self.rewrite_names(spec, &self.spec.target_ref.name, &self.primary_name());
    }

    /// Undoes it.
    pub(super) fn rewrite_own_names_back(&self, spec: &mut Value) {
        self.rewrite_names(spec, &self.primary_name(), &self.spec.target_ref.name);
    }

    fn rewrite_names(&self, spec: &mut Value, from: &str, to: &str) {
        let keys = &self.world.settings.selector_labels;
        let rewrite = |selector: &mut Value| rewrite_selector(selector, keys, from, to);
        if let Some(constraints) = spec.get_mut("topologySpreadConstraints") {
            each(constraints, |constraint| {
                rewrite_in(constraint, "labelSelector", &rewrite);
            });
        }
        let Some(apart) = spec.pointer_mut("/affinity/podAntiAffinity") else {
            return;
        };
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        if let Some(terms) = apart.get_mut(preferred) {
            each(terms, |term| {
                if let Some(term) = term.get_mut("podAffinityTerm") {
                    rewrite_in(term, "labelSelector", &rewrite);
                }
            });
        }
        if let Some(terms) = apart.get_mut("requiredDuringSchedulingIgnoredDuringExecution") {
            each(terms, |term| rewrite_in(term, "labelSelector", &rewrite));
        }
    }

    /// Makes the primary what the target is. `Ok(false)`: the target has become another one meanwhile.
    pub(super) fn promote(&mut self) -> Step<bool> {
        let there = self.target.clone();
        let Some(there) = there else {
            return Ok(true);
        };
        let action = CanaryAction::Read {
            object: ObjectKey {
                target: crate::action::Target {
                    resource_version: String::new(),
                    ..views::target(&there)
                },
                ..key(&there)
            },
        };
        let target = match self.must(action, "")? {
            Some(CanaryDone::Object(object)) => Arc::new(object.clone()),
            _ => there,
        };
        self.target = Some(Arc::clone(&target));
        let applied = &self.status.last_applied_spec;
        let hash = self.target_hash();
        let is_new = hash != *applied && hash != self.status.last_promoted_spec;
        if is_new && !self.is_strict() {
            return Ok(false);
        }
        let (name, primary) = (self.target_name(), self.primary_name());
        let namespace = self.namespace();
        self.tell(&format!(
            "Copying {name} template spec to {primary}.{namespace}"
        ));
        if self.is_workload() {
            let configs = self.configs("")?;
            if !wrong(Mutant::CanaryConfigsForgotten) {
                self.copy_configs(&configs, "")?;
            }
            self.update_primary(&target, &configs)?;
        } else {
            self.promote_service(&target)?;
        }
        if !self.is_strict() {
            self.status.last_applied_spec = hash;
        }
        Ok(true)
    }

    fn update_primary(&mut self, target: &Value, configs: &Configs) -> Step {
        let Some(there) = self.primary.clone() else {
            let name = self.primary_name();
            let namespace = self.namespace();
            let word = self.workload_word();
            return Err(self.ends(&format!(
                "{word} {name}.{namespace} get query error: it is gone"
            )));
        };
        let mut wanted = (*there).clone();
        let template = self.primary_template(target, configs);
        wanted["spec"]["template"] = template;
        self.copy_settings(target, &mut wanted["spec"]);
        if self.kind() == TargetKind::Deployment && self.spec.autoscaler_ref.is_none() {
            // A target that sleeps, or that somebody put to sleep, says nothing about the size of what serves.
            if number(target, "/spec/replicas") > 0 {
                wanted["spec"]["replicas"] = target["spec"]["replicas"].clone();
            }
        }
        let mut annotations = map(target, "/metadata/annotations");
        annotations.retain(|key, _| !is_toolkit(key) && self.is_included(key));
        annotations.insert(SOURCE_HASH.to_owned(), self.target_hash());
        wanted["metadata"]["annotations"] = json!(annotations);
        // What the cluster's own controller notes on a Deployment is its own.
        let revision = "deployment.kubernetes.io/revision";
        if let Some(value) = map(&there, "/metadata/annotations").remove(revision) {
            wanted["metadata"]["annotations"][revision] = json!(value);
        }
        wanted["metadata"]["labels"] = self.primary_labels(target);
        let now = self.change(&there, &wanted, "")?;
        self.primary = Some(now);
        Ok(())
    }

    /// Puts the target to sleep.
    pub(super) fn put_to_sleep(&mut self) -> Step {
        let Some(target) = self.target.clone() else {
            return Ok(());
        };
        let mut wanted = (*target).clone();
        match self.kind() {
            TargetKind::Deployment => wanted["spec"]["replicas"] = json!(0),
            TargetKind::DaemonSet => {
                wanted["spec"]["template"]["spec"]["nodeSelector"][SLEEPS] = json!("true");
            }
            TargetKind::Service | TargetKind::Knative => return Ok(()),
        }
        let kind = &self.spec.target_ref.kind;
        let prefix = format!("scaling down canary {kind} {} failed: ", self.target_name());
        let now = self.change(&target, &wanted, &prefix)?;
        self.target = Some(now);
        Ok(())
    }

    /// Whether the target sleeps.
    pub(super) fn is_asleep(&self) -> bool {
        let Some(target) = &self.target else {
            return false;
        };
        match self.kind() {
            TargetKind::Deployment => target["spec"]["replicas"] == 0,
            TargetKind::DaemonSet => {
                !target["spec"]["template"]["spec"]["nodeSelector"][SLEEPS].is_null()
            }
            TargetKind::Service | TargetKind::Knative => false,
        }
    }

    /// Wakes the target, in the size of the primary.
    pub(super) fn wake_target(&mut self) -> Step {
        let Some(target) = self.target.clone() else {
            return Ok(());
        };
        let mut wanted = (*target).clone();
        match self.kind() {
            TargetKind::Deployment => {
                let there = number(&target, "/spec/replicas");
                let primary = self.primary.as_ref();
                let primary = primary.map_or(0, |primary| number(primary, "/spec/replicas"));
                let size = match there {
                    there if there > 0 => there,
                    _ if self.spec.autoscaler_ref.is_some() => self.least_size(),
                    _ => primary.max(1),
                };
                wanted["spec"]["replicas"] = json!(size);
            }
            TargetKind::DaemonSet => wake(&mut wanted["spec"]["template"]["spec"]),
            TargetKind::Service | TargetKind::Knative => return Ok(()),
        }
        let prefix = format!(
            "scaling up canary {} {} failed: ",
            self.spec.target_ref.kind,
            self.target_name()
        );
        let now = self.change(&target, &wanted, &prefix)?;
        self.target = Some(now);
        Ok(())
    }

    /// Gives the target the size that the primary has: it serves alone again.
    pub(super) fn give_back_size(&mut self) -> Step {
        let Some(target) = self.target.clone() else {
            return Ok(());
        };
        let Some(primary) = self.primary.clone() else {
            return self.wake_target();
        };
        if self.kind() != TargetKind::Deployment {
            return self.wake_target();
        }
        let mut wanted = (*target).clone();
        let size = primary.pointer("/spec/replicas").cloned();
        wanted["spec"]["replicas"] = size.unwrap_or(json!(1));
        let now = self.change(&target, &wanted, "")?;
        self.target = Some(now);
        Ok(())
    }

    /// Copies the target Service to the one that serves, which keeps its identity.
    fn promote_service(&mut self, target: &Value) -> Step {
        let Found::Found(there) = &self.world.services.primary else {
            let name = self.primary_name();
            let namespace = self.namespace();
            return Err(self.ends(&format!(
                "service {name}.{namespace} get query error: services \"{name}\" not found"
            )));
        };
        let mut wanted = (**there).clone();
        wanted["spec"] = self.service_spec(target, Some(there));
        for (member, pointer) in [
            ("labels", "/metadata/labels"),
            ("annotations", "/metadata/annotations"),
        ] {
            let mut keys = map(target, pointer);
            keys.retain(|key, _| self.is_included(key));
            wanted["metadata"][member] = json!(keys);
        }
        self.change(there, &wanted, "").map(drop)
    }
}

/// Lets pods of a DaemonSet be scheduled again.
fn wake(spec: &mut Value) {
    let selector = spec.get_mut("nodeSelector").and_then(Value::as_object_mut);
    let is_empty = selector.is_some_and(|selector: &mut Map<String, Value>| {
        selector.remove(SLEEPS).is_some() && selector.is_empty()
    });
    if let (true, Some(spec)) = (is_empty, spec.as_object_mut()) {
        spec.remove("nodeSelector");
    }
}

fn each(list: &mut Value, change: impl FnMut(&mut Value)) {
    list.as_array_mut().into_iter().flatten().for_each(change);
}

fn rewrite_in(object: &mut Value, member: &str, rewrite: &impl Fn(&mut Value)) {
    if let Some(selector) = object.get_mut(member) {
        rewrite(selector);
    }
}

/// In a label selector, one name becomes another.
fn rewrite_selector(selector: &mut Value, keys: &[String], from: &str, to: &str) {
    let is_known = |key: Option<&Value>| {
        let key = key.and_then(Value::as_str);
        key.is_some_and(|key| keys.iter().any(|known| known == key))
    };
    if let Some(expressions) = selector.get_mut("matchExpressions") {
        each(expressions, |expression| {
            if !is_known(expression.get("key")) {
                return;
            }
            let values = expression.get_mut("values").and_then(Value::as_array_mut);
            let first = values.into_iter().flatten().find(|value| **value == from);
            if let Some(value) = first {
                *value = json!(to);
            }
        });
    }
    let labels = selector
        .get_mut("matchLabels")
        .and_then(Value::as_object_mut);
    for (key, value) in labels.into_iter().flatten() {
        if is_known(Some(&json!(key))) && *value == from {
            *value = json!(to);
        }
    }
}
