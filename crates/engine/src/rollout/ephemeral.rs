//! Labels and annotations that pods carry while their version has a role: canary, stable, preview, active.
//!
//! They are put into ReplicaSets and running pods without making a new version, and taken away when the role changes. Each ReplicaSet keeps a
//! record of what was put into it, so that nothing else is ever touched.

use std::collections::BTreeMap;

use crossfade_api::Rollout;
use crossfade_api::names::annotation;
use crossfade_api::rollout::PodTemplateMetadata;

use crate::action::{Action, FailureKind, KeyChanges, ReplicaSetChange, Target};
use crate::decision::{Halt, Plan};
use crate::mutant::{Mutant, wrong};

use super::facts::{Facts, SetId};
use super::world::ReplicaSet;

type Entries = BTreeMap<String, String>;

/// Whether roles have metadata, or had when ReplicaSets were last written.
pub(super) fn is_asked_for(rollout: &Rollout, replica_sets: &[ReplicaSet]) -> bool {
    let strategy = &rollout.spec.strategy;
    let canary = strategy.canary.as_ref();
    let blue_green = strategy.blue_green.as_ref();
    canary
        .is_some_and(|canary| canary.canary_metadata.is_some() || canary.stable_metadata.is_some())
        || blue_green.is_some_and(|blue_green| {
            blue_green.preview_metadata.is_some() || blue_green.active_metadata.is_some()
        })
        || replica_sets
            .iter()
            .any(|set| set.annotations.contains_key(annotation::EPHEMERAL_METADATA))
}

/// The role of the new version, then that of the stable one.
fn of_roles<'w>(
    facts: &Facts<'w>,
) -> (
    Option<&'w PodTemplateMetadata>,
    Option<&'w PodTemplateMetadata>,
) {
    match (facts.canary(), facts.blue_green()) {
        (Some(canary), _) => (
            canary.canary_metadata.as_ref(),
            canary.stable_metadata.as_ref(),
        ),
        (None, Some(blue_green)) => (
            blue_green.preview_metadata.as_ref(),
            blue_green.active_metadata.as_ref(),
        ),
        (None, None) => (None, None),
    }
}

/// What the pods of the new version carry: those of the stable role when there is no other stable version.
pub(super) fn of_new<'w>(facts: &Facts<'w>) -> Option<&'w PodTemplateMetadata> {
    let (new, stable) = of_roles(facts);
    let updating = facts.stable_id().is_some() && facts.stable_id() != facts.new_id();
    if updating { new } else { stable }
}

/// The record of what was put into a ReplicaSet.
pub(super) fn record(metadata: &PodTemplateMetadata) -> String {
    serde_json::to_string(metadata).expect("two maps of texts are JSON")
}

/// Gives every ReplicaSet and its pods the metadata of its role.
pub(super) fn apply(facts: &mut Facts<'_>, plan: &mut Plan<'_>) -> Result<(), Halt> {
    if !is_asked_for(&facts.world.rollout, &facts.world.replica_sets)
        || wrong(Mutant::RolesForgotten)
    {
        return Ok(());
    }
    let none = PodTemplateMetadata::default();
    let stable_role = of_roles(facts).1;
    for id in facts.ids() {
        let role = if Some(id) == facts.new_id() {
            of_new(facts)
        } else if Some(id) == facts.stable_id() {
            stable_role
        } else {
            None
        };
        let wanted = role.unwrap_or(&none);
        let recorded = recorded(facts.set(id).observed);
        let own = (Some(id) == facts.new_id()).then_some(&facts.spec.template);
        let own_labels = own
            .map(crossfade_api::pod_template::PodTemplate::labels)
            .unwrap_or_default();
        let own_annotations = own
            .map(crossfade_api::pod_template::PodTemplate::annotations)
            .unwrap_or_default();
        let labels = Change {
            wanted: &wanted.labels,
            recorded: &recorded.labels,
            own: &own_labels,
        };
        let annotations = Change {
            wanted: &wanted.annotations,
            recorded: &recorded.annotations,
            own: &own_annotations,
        };
        change_set(facts, plan, id, wanted, &labels, &annotations)?;
        change_pods(facts, plan, id, &labels, &annotations);
    }
    Ok(())
}

fn recorded(set: &ReplicaSet) -> PodTemplateMetadata {
    let record = set.annotations.get(annotation::EPHEMERAL_METADATA);
    record
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// What is to become of one kind of entries.
struct Change<'a> {
    wanted: &'a Entries,
    recorded: &'a Entries,
    /// The user's own entries, which come back when a role no longer covers them.
    own: &'a BTreeMap<&'a str, &'a str>,
}

impl Change<'_> {
    /// What to change where these entries stand.
    fn of(&self, present: &Entries) -> KeyChanges {
        let mut changes = KeyChanges::new();
        for key in self
            .recorded
            .keys()
            .filter(|key| !self.wanted.contains_key(*key))
        {
            match self.own.get(key.as_str()) {
                Some(own) if present.get(key).map(String::as_str) != Some(own) => {
                    changes.insert(key.clone(), Some((*own).to_owned()));
                }
                None if present.contains_key(key) => {
                    changes.insert(key.clone(), None);
                }
                Some(_) | None => {}
            }
        }
        for (key, value) in self.wanted {
            if present.get(key) != Some(value) {
                changes.insert(key.clone(), Some(value.clone()));
            }
        }
        changes
    }
}

fn change_set(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    id: SetId,
    wanted: &PodTemplateMetadata,
    labels: &Change<'_>,
    annotations: &Change<'_>,
) -> Result<(), Halt> {
    let set = facts.set(id).observed;
    let there = set.annotations.get(annotation::EPHEMERAL_METADATA);
    let record = (*wanted != PodTemplateMetadata::default()).then(|| record(wanted));
    let same = recorded(set) == *wanted && there.is_some() == record.is_some();
    let change = ReplicaSetChange {
        template_labels: labels.of(&set.template_labels),
        template_annotations: annotations.of(&set.template_annotations),
        annotations: if same {
            KeyChanges::new()
        } else {
            super::facts::note(annotation::EPHEMERAL_METADATA, record)
        },
        ..ReplicaSetChange::default()
    };
    if !change.is_empty() {
        facts.change(plan, id, change)?;
    }
    Ok(())
}

fn change_pods(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    id: SetId,
    labels: &Change<'_>,
    annotations: &Change<'_>,
) {
    let set = facts.set(id).observed;
    if set.replicas == 0 {
        return;
    }
    for pod in &facts.world.pods {
        if pod.controller.as_ref() != Some(&set.target.uid) {
            continue;
        }
        let (labels, annotations) = (labels.of(&pod.labels), annotations.of(&pod.annotations));
        if labels.is_empty() && annotations.is_empty() {
            continue;
        }
        let target = Target {
            resource_version: String::new(),
            ..pod.target.clone()
        };
        let action = Action::UpdatePodMetadata {
            target,
            labels,
            annotations,
        };
        if let Some(Err(failure)) = plan.want(action)
            && failure.kind != FailureKind::NotFound
        {
            plan.fail(failure.message.clone());
        }
    }
}
