//! The templates of an experiment: their ReplicaSets, and how far each got.

use crossfade_api::canonical_json::Form;
use crossfade_api::experiment::{TemplateSpec, TemplateState, TemplateStatus};
use crossfade_api::hash;
use crossfade_api::names::{annotation, label};
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::{Experiment, Resource as _, time};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::action::{Action, FailureKind, KeyChanges, NewReplicaSet, ReplicaSetChange};
use crate::decision::{Halt, Plan};
use crate::rollout::stored;
use crate::rollout::world::ReplicaSet;

use super::facts::Facts;
use super::world::belongs;
use super::{service, waits};

/// After a ReplicaSet was changed by somebody else, it is looked at again so soon.
const AFTER_CONFLICT: SignedDuration = SignedDuration::from_secs(1);

/// Makes and scales what a template needs, and says how far it got.
pub(super) fn follow(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    template: &TemplateSpec,
) -> Result<TemplateStatus, Halt> {
    let mut stored = facts.status.template_statuses.iter();
    let stored = stored.find(|status| status.name == template.name).cloned();
    let stored = stored.unwrap_or_else(|| TemplateStatus {
        name: template.name.clone(),
        ..TemplateStatus::default()
    });
    let mut status = stored.clone();
    // Pods stay until the experiment is over, also those of a template that has served its time: an analysis may go on.
    let wanted = if facts.terminating {
        0
    } else {
        template.replicas().max(0)
    };
    let set = facts.replica_set(template)?;
    let trouble = match set {
        Some(set) => {
            count(&mut status, set);
            let scaled = scale(facts, plan, template, set, wanted, &mut status)?;
            let served = service::follow(facts, plan, template, set, wanted, &mut status)?;
            scaled.or(served)
        }
        // Nobody would scale it up any more.
        None if facts.terminating => {
            count(&mut status, &ReplicaSet::default());
            None
        }
        None => create(facts, plan, template, &mut status)?,
    };
    let counters = |status: &TemplateStatus| {
        (
            status.replicas,
            status.ready_replicas,
            status.available_replicas,
        )
    };
    if counters(&status) != counters(&stored) || status.last_transition_time.is_none() {
        status.last_transition_time = Some(facts.stamp());
    }
    assess(facts, plan, template, wanted, trouble, &mut status);
    if status.status != stored.status {
        tell(plan, &stored, &status);
    }
    Ok(status)
}

fn count(status: &mut TemplateStatus, set: &ReplicaSet) {
    status.replicas = set.current;
    status.updated_replicas = set.current;
    status.ready_replicas = set.ready;
    status.available_replicas = set.available;
}

fn tell(plan: &mut Plan<'_>, before: &TemplateStatus, after: &TemplateStatus) {
    let (name, old, new) = (&after.name, before.status, after.status);
    let mut message = format!("Template '{name}' transitioned from {old} -> {new}");
    if !after.message.is_empty() {
        message.push_str(": ");
        message.push_str(&after.message);
    }
    let reason = format!("Template{new}");
    if matches!(new, TemplateState::Failed | TemplateState::Error) {
        plan.warn(&reason, message);
    } else {
        plan.event(&reason, message);
    }
}

/// The first row that applies; what is completed stays.
fn assess(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    template: &TemplateSpec,
    wanted: i32,
    trouble: Option<String>,
    status: &mut TemplateStatus,
) {
    if status.status.is_completed() {
        return;
    }
    let seconds = facts.spec.progress_deadline_seconds();
    let deadline = deadline(status, seconds);
    let is_whole = wanted == status.available_replicas;
    (status.status, status.message) = if let Some(trouble) = trouble {
        (TemplateState::Error, trouble)
    } else if is_whole && (facts.is_over() || facts.terminating) {
        (TemplateState::Successful, String::new())
    } else if is_whole {
        (TemplateState::Running, String::new())
    } else if facts.terminating {
        // Pods that are on their way out are no lack of progress.
        (TemplateState::Successful, String::new())
    } else if deadline.is_some_and(|deadline| facts.now > deadline) {
        let name = &template.name;
        let why = format!("Template '{name}' exceeded its progressDeadlineSeconds ({seconds})");
        (TemplateState::Failed, why)
    } else {
        let available = status.available_replicas;
        plan.waits.push(waits::pods(
            &template.name,
            available,
            wanted,
            status.last_transition_time,
            deadline,
        ));
        if let Some(deadline) = deadline {
            super::look_again_at(plan, facts, deadline);
        }
        (TemplateState::Progressing, String::new())
    };
}

/// When a template counts as stuck.
fn deadline(status: &TemplateStatus, seconds: i32) -> Option<Timestamp> {
    let since = status.last_transition_time?;
    since
        .checked_add(SignedDuration::from_secs(i64::from(seconds)))
        .ok()
}

/// Makes the ReplicaSet of a template, without pods: the next pass scales it up. Says what kept it from being made.
fn create(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    template: &TemplateSpec,
    status: &mut TemplateStatus,
) -> Result<Option<String>, Halt> {
    let (experiment, name) = (facts.name(), &template.name);
    let set_name = format!("{experiment}-{name}");
    let mut bare = template.template.clone();
    bare.remove_label(label::POD_HASH);
    let hash = free_hash(facts, &bare, status);
    let mut pods = bare.clone();
    pods.set_label(label::POD_HASH, &hash);
    let labels = pods.labels().into_iter();
    let annotations = facts.annotations(template);
    let mut selector = json!(template.selector);
    selector["matchLabels"][label::POD_HASH] = json!(hash);
    let new = NewReplicaSet {
        namespace: facts.namespace().to_owned(),
        name: set_name.clone(),
        owner_kind: Experiment::KIND.to_owned(),
        owner_name: experiment.to_owned(),
        owner_uid: facts.uid().to_owned(),
        labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        annotations,
        min_ready_seconds: template.min_ready_seconds,
        selector,
        template: pods.as_json().clone(),
    };
    let is_ours = |found: &ReplicaSet| {
        found.controller.as_deref() == Some(facts.uid())
            && belongs(&found.annotations, experiment, name)
            && found.template_digest == stored::digest(&bare, &found.annotations)
    };
    match plan.act(Action::CreateReplicaSet(Box::new(new)))? {
        Ok(_) => {
            status.last_transition_time = Some(facts.stamp());
            Ok(None)
        }
        Err(failure) => match &failure.kind {
            FailureKind::ReplicaSetExists(Some(found)) if is_ours(found) => {
                count(status, found);
                status.last_transition_time = Some(facts.stamp());
                Ok(None)
            }
            FailureKind::ReplicaSetExists(Some(_)) => Ok(Some(format!(
                "ReplicaSet name '{set_name}' is already in use"
            ))),
            FailureKind::Refused => {
                let why = &failure.message;
                plan.warn(
                    "ReplicaSetCreateError",
                    format!("Failed to create new replica set \"{set_name}\": {why}"),
                );
                Ok(Some(format!(
                    "Failed to create ReplicaSet for template '{name}': {why}"
                )))
            }
            // What was not refused is tried again, until the progress deadline.
            _ => {
                plan.fail(failure.message.clone());
                Ok(None)
            }
        },
    }
}

/// The hash of a template's pods, other than those of the release that the experiment belongs to: else its Services would select them.
fn free_hash(facts: &Facts<'_>, plain: &PodTemplate, status: &mut TemplateStatus) -> String {
    let taken = &facts.world.taken_hashes;
    let mut hash = hash::pod_template_hash(plain, status.collision_count, Form::Current);
    // Each number gives another hash, so there are more than enough.
    for _ in taken {
        if !taken.contains(&hash) {
            break;
        }
        let count = status.collision_count.unwrap_or(0).saturating_add(1);
        status.collision_count = Some(count);
        hash = hash::pod_template_hash(plain, Some(count), Form::Current);
    }
    hash.0
}

/// Brings a ReplicaSet to its size, on the way down after a delay. Says what kept it from that.
fn scale(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    template: &TemplateSpec,
    set: &ReplicaSet,
    wanted: i32,
    status: &mut TemplateStatus,
) -> Result<Option<String>, Halt> {
    if set.replicas == wanted {
        return Ok(None);
    }
    let mut change = ReplicaSetChange {
        replicas: Some(wanted),
        ..ReplicaSetChange::default()
    };
    let noted = set.annotations.get(annotation::SCALE_DOWN_DEADLINE);
    let note = |value| KeyChanges::from([(annotation::SCALE_DOWN_DEADLINE.to_owned(), value)]);
    if wanted > 0 && noted.is_some() {
        // An experiment that is tried again has all its time once more.
        change.annotations = note(None);
    }
    if wanted == 0 {
        let delay = i64::from(facts.spec.scale_down_delay_seconds());
        match noted.map(|text| time::parse(text)) {
            Some(_) if delay <= 0 => change.annotations = note(None),
            None if delay <= 0 => {}
            Some(Ok(deadline)) if deadline > facts.now => {
                super::look_again_at(plan, facts, deadline);
                plan.waits
                    .push(waits::scale_down(&set.target.name, deadline));
                return Ok(None);
            }
            Some(Ok(_)) => {}
            // One that cannot be read says nothing about when it was meant to be.
            None | Some(Err(_)) => {
                let deadline = facts.now + SignedDuration::from_secs(delay);
                change.replicas = None;
                change.annotations = note(Some(time::text(deadline)));
                super::look_again_at(plan, facts, deadline);
            }
        }
    }
    let scales = change.replicas.is_some();
    let target = set.target.clone();
    let (name, from) = (&set.target.name, set.replicas);
    let direction = if wanted > from { "up" } else { "down" };
    match plan.act(Action::UpdateReplicaSet { target, change })? {
        Ok(_) => {
            if scales {
                status.last_transition_time = Some(facts.stamp());
                plan.did(
                    "ScalingReplicaSet",
                    format!("Scaled {direction} ReplicaSet {name} from {from} to {wanted}"),
                );
            }
            Ok(None)
        }
        Err(failure) => match failure.kind {
            FailureKind::Conflict | FailureKind::NotFound => {
                plan.look_again_in(AFTER_CONFLICT);
                Ok(None)
            }
            FailureKind::Refused => {
                let (template, why) = (&template.name, &failure.message);
                plan.warn(
                    "ReplicaSetUpdateError",
                    format!("Failed to scale {name} {direction}: {why}"),
                );
                Ok(Some(format!(
                    "Unable to scale ReplicaSet for template '{template}' to desired replica count '{wanted}': {why}"
                )))
            }
            _ => {
                plan.fail(failure.message.clone());
                Ok(None)
            }
        },
    }
}
