//! Which ReplicaSets are the Rollout's, which of them is the present version, and their numbers.
//!
//! A version is one pod template. Its ReplicaSet is made once, under a name from the template's hash, and found again by that
//! hash, by what the status remembers, or by the meaning of the template, so that a new controller release never starts a
//! new version. Whatever was found, its label is the hash from then on; nobody recomputes it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crossfade_api::names::{annotation, condition, label, reason};
use crossfade_api::rollout_status::{ConditionStatus, RolloutStatus};
use crossfade_api::selector;
use crossfade_api::{FieldError, Resource as _, Rollout};
use serde_json::{Value, json};

use crate::action::{Action, Done, FailureKind, KeyChanges, NewReplicaSet, ReplicaSetChange};
use crate::decision::{Halt, Plan};
use crate::mutant::{Mutant, wrong};

use super::facts::{Facts, Set, SetId, note};
use super::world::{ReplicaSet, World};
use super::{affinity, conditions, ephemeral};

/// Annotations of a Rollout that its ReplicaSets do not get.
const NOT_COPIED: [&str; 5] = [
    annotation::LAST_APPLIED,
    annotation::REVISION,
    annotation::REVISION_HISTORY,
    annotation::DESIRED_REPLICAS,
    annotation::NOTIFIED,
];

/// Longest `revision-history`, in bytes; the oldest numbers go first.
const LONGEST_HISTORY: usize = 2048;

/// The ReplicaSets that belong to the Rollout: those it controls, and orphans that it takes in. What its selector no longer
/// matches is let go, unless the selector is not known. Oldest first.
pub(super) fn claim<'w>(world: &'w World, plan: &mut Plan<'_>) -> Result<Vec<Set<'w>>, Halt> {
    let owner_uid = world.rollout.metadata.uid.as_deref().unwrap_or_default();
    let selector = world.rollout.spec.selector.as_ref();
    let faulty = |error: &FieldError| error.path.starts_with("spec.selector");
    let selector = selector
        .filter(|selector| !selector::is_empty(selector))
        .filter(|_| !world.prepared.errors.iter().any(faulty));
    let mut sets = Vec::with_capacity(world.replica_sets.len());
    for observed in &world.replica_sets {
        let label = |key: &str| observed.labels.get(key).map(String::as_str);
        let matches = selector.map(|selector| selector::matches_by(Some(selector), label));
        match (observed.controller.as_deref(), matches) {
            (Some(uid), Some(true) | None) if uid == owner_uid => {
                sets.push(Set::new(observed));
            }
            (Some(uid), Some(false)) if uid == owner_uid => {
                let target = observed.target.clone();
                plan.want(Action::ReleaseReplicaSet {
                    target,
                    owner_uid: owner_uid.to_owned(),
                });
            }
            (None, Some(true)) if !observed.deleting => {
                sets.extend(adopt(observed, owner_uid, plan)?);
            }
            _ => {}
        }
    }
    sets.sort_unstable_by(|one, other| {
        // Times of creation are whole seconds on an API server, so that several versions may have come at once.
        let age = |set: &Set<'w>| (set.observed.created, set.revision);
        age(one)
            .cmp(&age(other))
            .then_with(|| one.name().cmp(other.name()))
    });
    Ok(sets)
}

/// Takes an orphan in; `None` if it is gone.
fn adopt<'w>(
    orphan: &'w ReplicaSet,
    owner_uid: &str,
    plan: &mut Plan<'_>,
) -> Result<Option<Set<'w>>, Halt> {
    let action = Action::AdoptReplicaSet {
        target: orphan.target.clone(),
        owner_uid: owner_uid.to_owned(),
    };
    let version = match plan.act(action)? {
        Ok(Done::ReplicaSet(adopted)) => &adopted.target.resource_version,
        Ok(Done::Written(version)) => version,
        Ok(
            Done::AnalysisRun(_)
            | Done::Experiment(_)
            | Done::Verified(_)
            | Done::Measured(_)
            | Done::Canary(_),
        ) => return Ok(None),
        Err(failure) if failure.kind == FailureKind::NotFound => return Ok(None),
        Err(failure) => return Err(Halt::Failed(failure.message.clone())),
    };
    Ok(Some(Set {
        version: Cow::Owned(version.clone()),
        ..Set::new(orphan)
    }))
}

/// The ReplicaSet of the present template: by its hash in either form; by what the status says, when the template cannot have
/// changed; by the template's meaning.
pub(super) fn find_new(facts: &Facts<'_>) -> Option<SetId> {
    let prepared = facts.prepared;
    let current = &facts.status.current_pod_hash.0;
    facts
        .by_hash(&prepared.hash.0)
        .or_else(|| facts.by_hash(&prepared.legacy_hash.0))
        .or_else(|| {
            template_is_known(facts)
                .then(|| facts.by_hash(current))
                .flatten()
        })
        .or_else(|| {
            let alike = facts.ids().filter(|id| {
                let set = facts.set(*id).observed;
                let recorded = set.annotations.get(annotation::TEMPLATE_DIGEST);
                !set.hash().is_empty()
                    && recorded.unwrap_or(&set.template_digest) == &prepared.template_digest
            });
            alike.max_by_key(|id| {
                let set = facts.set(*id);
                (set.hash() == current, set.revision)
            })
        })
}

/// The stored status was computed for the present template, so what it names is the ReplicaSet of that.
fn template_is_known(facts: &Facts<'_>) -> bool {
    let conditions = &facts.status.conditions;
    let workload = facts.world.workload.as_ref().filter(|one| !one.left);
    let observed = &facts.status.workload_observed_generation;
    facts.is_observed()
        && workload.is_none_or(|workload| *observed == workload.generation.to_string())
        && conditions::find(conditions, condition::INVALID_SPEC).is_none()
        && conditions::progressing(conditions)
            .is_none_or(|told| told.reason != reason::RS_CREATE_ERROR)
}

/// Makes the ReplicaSet of the present template. The pass ends with it.
pub(super) fn create(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
) -> Result<Option<RolloutStatus>, Halt> {
    let wanted = blueprint(facts);
    let name = wanted.name.clone();
    let revision = next_revision(facts);
    let mut status = facts.status.clone();
    match plan.act(Action::CreateReplicaSet(Box::new(wanted)))? {
        Ok(_) => {
            tell_revision(facts, plan, revision)?;
            plan.did(
                "NewReplicaSetCreated",
                format!("Created ReplicaSet {name} (revision {revision})"),
            );
            progressing(
                facts,
                &mut status,
                reason::NEW_RS_CREATED,
                &format!("Created new replica set \"{name}\""),
            );
        }
        Err(failure) => match &failure.kind {
            FailureKind::ReplicaSetExists(Some(found)) if is_ours(facts, found) => {
                let revision = Set::new(found).revision.max(1);
                tell_revision(facts, plan, revision)?;
                progressing(
                    facts,
                    &mut status,
                    reason::FOUND_NEW_RS,
                    &format!("Found new replica set \"{name}\""),
                );
            }
            FailureKind::ReplicaSetExists(Some(_)) => {
                status.collision_count = Some(
                    status
                        .collision_count
                        .map_or(1, |count| count.saturating_add(1)),
                );
                plan.fail(failure.message.clone());
            }
            _ => {
                let message = format!(
                    "Failed to create new replica set \"{name}\": {}",
                    failure.message
                );
                plan.warn(reason::RS_CREATE_ERROR, message.clone());
                conditions::set_in(
                    &mut status.conditions,
                    &conditions::Told {
                        kind: condition::PROGRESSING,
                        status: ConditionStatus::False,
                        reason: reason::RS_CREATE_ERROR,
                        message: format_args!("{message}"),
                    },
                    facts.now,
                );
                plan.fail(message);
            }
        },
    }
    Ok((status != *facts.status).then_some(status))
}

/// A ReplicaSet that was there already, under the name of the new one.
fn is_ours(facts: &Facts<'_>, found: &ReplicaSet) -> bool {
    let recorded = found.annotations.get(annotation::TEMPLATE_DIGEST);
    found.controller.as_deref() == Some(facts.uid())
        && recorded.unwrap_or(&found.template_digest) == &facts.prepared.template_digest
}

fn progressing(facts: &Facts<'_>, status: &mut RolloutStatus, reason: &str, message: &str) {
    conditions::set_in(
        &mut status.conditions,
        &conditions::Told {
            kind: condition::PROGRESSING,
            status: ConditionStatus::True,
            reason,
            message: format_args!("{message}"),
        },
        facts.now,
    );
}

/// One more than the highest number of the other ReplicaSets.
fn next_revision(facts: &Facts<'_>) -> u64 {
    facts
        .older()
        .map(|set| set.revision)
        .max()
        .unwrap_or(0)
        .saturating_add(u64::from(!wrong(Mutant::RevisionNotRaised)))
}

/// How long pods of the new version are ready before they count.
fn min_ready_seconds(facts: &Facts<'_>) -> i32 {
    match facts.spec.min_ready_seconds {
        seconds if seconds > 0 && wrong(Mutant::MinReadyForgotten) => 0,
        seconds => seconds,
    }
}

/// The ReplicaSet to be made.
fn blueprint(facts: &Facts<'_>) -> NewReplicaSet {
    let hash = &facts.prepared.hash;
    let mut annotations: BTreeMap<String, String> = copied(facts)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut template = facts.spec.template.clone();
    template.set_label(label::POD_HASH, &hash.0);
    if let Some(term) = affinity::wanted(facts) {
        template.set_affinity(affinity::with_term(
            facts.spec.template.affinity(),
            Some(&term),
        ));
    }
    if let Some(metadata) = ephemeral::of_new(facts) {
        for (key, value) in &metadata.labels {
            template.set_label(key, value);
        }
        for (key, value) in &metadata.annotations {
            template.set_annotation(key, value);
        }
        annotations.insert(
            annotation::EPHEMERAL_METADATA.to_owned(),
            ephemeral::record(metadata),
        );
    }
    annotations.insert(
        annotation::REVISION.to_owned(),
        next_revision(facts).to_string(),
    );
    annotations.insert(
        annotation::DESIRED_REPLICAS.to_owned(),
        facts.replicas.to_string(),
    );
    annotations.insert(
        annotation::TEMPLATE_DIGEST.to_owned(),
        facts.prepared.template_digest.clone(),
    );
    let mut labels: BTreeMap<String, String> = facts
        .spec
        .template
        .labels()
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    labels.insert(label::POD_HASH.to_owned(), hash.0.clone());
    let mut selector = facts
        .spec
        .selector
        .as_ref()
        .map_or(json!({}), |selector| json!(selector));
    selector["matchLabels"][label::POD_HASH] = Value::from(hash.0.as_str());
    NewReplicaSet {
        namespace: facts.namespace().to_owned(),
        name: format!("{}-{hash}", facts.name()),
        owner_kind: Rollout::KIND.to_owned(),
        owner_name: facts.name().to_owned(),
        owner_uid: facts.uid().to_owned(),
        labels,
        annotations,
        min_ready_seconds: min_ready_seconds(facts),
        selector,
        template: template.as_json().clone(),
    }
}

/// The Rollout's annotations that its new ReplicaSet gets.
fn copied<'w>(facts: &Facts<'w>) -> impl Iterator<Item = (&'w String, &'w String)> {
    let annotations = facts.world.rollout.metadata.annotations.iter().flatten();
    annotations.filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
}

/// Brings an existing ReplicaSet of the present template up to date: annotations, the highest revision, `minReadySeconds`,
/// anti-affinity. Then the Rollout gets its revision.
pub(super) fn sync(facts: &mut Facts<'_>, plan: &mut Plan<'_>) -> Result<(), Halt> {
    let Some(id) = facts.new_id() else {
        return Ok(());
    };
    let next = next_revision(facts);
    let set = facts.set(id);
    let revision = set.revision.max(next);
    let change = upkeep(facts, set, revision);
    if !change.is_empty() {
        if !facts.change(plan, id, change)? {
            return Ok(());
        }
        facts.sets[id.0].revision = revision;
    }
    tell_revision(facts, plan, revision)
}

/// What is to be written on the new ReplicaSet.
fn upkeep(facts: &Facts<'_>, set: &Set<'_>, revision: u64) -> ReplicaSetChange {
    let observed = &set.observed;
    let has = &observed.annotations;
    let mut annotations = KeyChanges::new();
    for (key, value) in copied(facts).filter(|(key, value)| has.get(*key) != Some(value)) {
        annotations.insert(key.clone(), Some(value.clone()));
    }
    let digest = &facts.prepared.template_digest;
    if has.get(annotation::TEMPLATE_DIGEST) != Some(digest) {
        annotations.insert(annotation::TEMPLATE_DIGEST.to_owned(), Some(digest.clone()));
    }
    let former = has.get(annotation::REVISION);
    // A number that cannot be read is left alone.
    let readable = former.is_none_or(|text| text.parse::<u64>().is_ok());
    if readable && set.revision < revision {
        annotations.insert(annotation::REVISION.to_owned(), Some(revision.to_string()));
        if let Some(former) = former {
            let history = history_with(has.get(annotation::REVISION_HISTORY), former);
            annotations.insert(annotation::REVISION_HISTORY.to_owned(), Some(history));
        }
    }
    let term = affinity::wanted(facts);
    let stale = observed.avoids.is_some()
        && observed.avoids.as_ref() != Some(&facts.status.stable_rs)
        && !facts.is_fully_promoted();
    let mut change = ReplicaSetChange {
        min_ready_seconds: (observed.min_ready_seconds != min_ready_seconds(facts))
            .then_some(min_ready_seconds(facts)),
        annotations,
        ..ReplicaSetChange::default()
    };
    // Whatever makes the ReplicaSet be written also makes its affinity what it should be.
    let differs = observed
        .avoids
        .as_ref()
        .map(crossfade_api::words::PodHash::as_str)
        != term.as_ref().map(|term| term.stable.as_str());
    if differs && (stale || !change.is_empty()) {
        let affinity = affinity::with_term(facts.spec.template.affinity(), term.as_ref());
        change.affinity = Some(affinity.unwrap_or(Value::Null));
    }
    change
}

fn history_with(history: Option<&String>, former: &str) -> String {
    let mut text = match history.filter(|history| !history.is_empty()) {
        Some(history) => format!("{history},{former}"),
        None => former.to_owned(),
    };
    while text.len() > LONGEST_HISTORY {
        match text.split_once(',') {
            Some((_, newer)) => text = newer.to_owned(),
            None => break,
        }
    }
    text
}

/// Makes the Rollout say which revision it is at.
fn tell_revision(facts: &mut Facts<'_>, plan: &mut Plan<'_>, revision: u64) -> Result<(), Halt> {
    if facts.revision == Some(revision) {
        return Ok(());
    }
    if facts.change_rollout(
        plan,
        note(annotation::REVISION, Some(revision.to_string())),
        None,
    )? {
        facts.revision = Some(revision);
        plan.did(
            "RolloutUpdated",
            format!("Rollout updated to revision {revision}"),
        );
    }
    Ok(())
}

/// Deletes idle ReplicaSets beyond `revisionHistoryLimit`, and with each the finished business of its version. Says which
/// analysis runs go with them.
pub(super) fn forget_old(facts: &Facts<'_>, plan: &mut Plan<'_>) {
    // A number that could not be raised above that of a version which goes would be given once more.
    if plan.has_failed() {
        return;
    }
    let limit = usize::try_from(facts.spec.revision_history_limit()).unwrap_or(0);
    let candidates = || {
        facts
            .others()
            .filter(|id| !facts.set(*id).observed.deleting)
    };
    let excess = candidates().count().saturating_sub(limit);
    let newest_first = excess > 0 && wrong(Mutant::ForgetNewest);
    let left = if newest_first {
        candidates().count() - excess
    } else {
        0
    };
    let most = if excess > 0 && wrong(Mutant::ForgetNothing) {
        0
    } else {
        excess
    };
    for id in candidates().skip(left).take(most) {
        let set = facts.set(id).observed;
        // Where no pods are wanted, the version that a release is switched back from has none either.
        let serves = facts
            .blue_green()
            .is_some_and(|strategy| facts.selected(&strategy.active_service) == Some(set.hash()));
        let idle = set.current == 0 && set.replicas == 0 && set.observed && !serves;
        if !idle && !wrong(Mutant::ForgetWithPods) {
            continue;
        }
        delete(
            plan,
            Action::DeleteReplicaSet {
                target: set.target.clone(),
            },
        );
        for run in super::runs::of_version(facts, set.hash()) {
            delete(
                plan,
                Action::DeleteAnalysisRun {
                    target: super::runs::target(facts, run),
                },
            );
        }
        for experiment in super::experiments::of_version(facts, set.hash()) {
            delete(
                plan,
                Action::DeleteExperiment {
                    target: super::experiments::target(facts, experiment),
                },
            );
        }
    }
}

fn delete(plan: &mut Plan<'_>, action: Action) {
    if let Some(Err(failure)) = plan.want(action)
        && failure.kind != FailureKind::NotFound
    {
        plan.fail(failure.message.clone());
    }
}
