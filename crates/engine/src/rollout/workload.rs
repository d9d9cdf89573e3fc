//! The template that a Rollout takes from another object.
//!
//! It is put into the Rollout in memory only and never stored with it. A Deployment may be scaled down as the Rollout's own pods come up,
//! while the first revision takes over from it; it may get its pods back when the reference goes.

use std::sync::Arc;

use crossfade_api::names::annotation;
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::rollout_status::RolloutPhase;
use crossfade_api::{LabelSelector, Resource as _, Rollout};
use serde_json::Value;

use crate::action::{Action, Target};
use crate::decision::{Found, Halt, Plan};

use super::facts::{Facts, Set, note};

/// Scales the referenced Deployment down at any revision, where its writer asks for that.
const ALWAYS: &str = "crossfade.dev/workload-scale-down";

/// Scales the Deployment back when the reference goes, where its writer asks for that.
const RESTORE: &str = "crossfade.dev/workload-restore";
/// Our note on the Rollout of what is to be given back: name and size of the Deployment, `<name>=<replicas>`.
const TAKEN: &str = "crossfade.dev/workload-replicas";

/// Kinds of objects that hold a pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `apps` Deployment.
    Deployment,
    /// `apps` ReplicaSet.
    ReplicaSet,
    /// PodTemplate.
    PodTemplate,
}

impl Kind {
    /// The plural with its group, as "not found" texts name it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments.apps",
            Self::ReplicaSet => "replicasets.apps",
            Self::PodTemplate => "podtemplates",
        }
    }
}

/// What a Rollout takes its template from, as far as decisions look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// `metadata.generation`.
    pub generation: i64,
    /// The Deployment that may be scaled down, with its `spec.replicas`.
    pub deployment: Option<(Target, i32)>,
    /// Why there is no template.
    pub fault: Option<String>,
    /// The Rollout took its template from it once and does so no more: it waits for its pods.
    pub left: bool,
}

/// Name and size of the Deployment that pods were taken from, if they are to be given back.
fn taken(rollout: &Rollout) -> Option<(&str, i32)> {
    let annotations = rollout.metadata.annotations.as_ref()?;
    if annotations.get(RESTORE)? != "true" {
        return None;
    }
    let (name, size) = annotations.get(TAKEN)?.split_once('=')?;
    Some((name, size.parse().ok()?))
}

/// The Deployment that waits for its pods since a Rollout refers to it no more.
fn left(rollout: &Rollout) -> Option<&str> {
    let (name, _) = taken(rollout).filter(|_| rollout.spec.workload_ref.is_none())?;
    Some(name)
}

/// The object that is looked at for a Rollout: the one that it refers to, or the one that it has left. The inner error says why there can be
/// none.
pub fn looked_at(rollout: &Rollout) -> Option<Result<(Kind, &str), String>> {
    referenced(rollout).or_else(|| Some(Ok((Kind::Deployment, left(rollout)?))))
}

/// The object that a Rollout refers to.
fn referenced(rollout: &Rollout) -> Option<Result<(Kind, &str), String>> {
    let reference = rollout.spec.workload_ref.as_ref()?;
    if !rollout.spec.template.has_no_metadata() {
        let why = "template must be empty for workload reference rollout";
        return Some(Err(why.to_owned()));
    }
    let (group, _) = reference.api_version.split_once('/').unwrap_or_default();
    let kind = match (group, reference.kind.as_str()) {
        ("apps", "Deployment") => Kind::Deployment,
        ("apps", "ReplicaSet") => Kind::ReplicaSet,
        ("", "PodTemplate") => Kind::PodTemplate,
        (group, kind) => {
            return Some(Err(format!(
                "workload of type {group}/{kind} is not supported"
            )));
        }
    };
    Some(Ok((kind, &reference.name)))
}

/// The Rollout with the template that it refers to, and what else is to be known about where that came from; the Rollout as it is, without
/// a reference. What is found is what [`looked_at`] names.
pub fn resolve(
    rollout: &Arc<Rollout>,
    find: impl FnOnce(Kind, &str) -> Found<Arc<Value>>,
) -> (Arc<Rollout>, Option<Workload>) {
    let faulty = |why: String| (Arc::clone(rollout), Some(faulty_workload(why)));
    let (kind, name) = match referenced(rollout) {
        None => {
            let left = left(rollout).map(|name| Workload {
                left: true,
                ..match find(Kind::Deployment, name) {
                    Found::Found(object) => observed(rollout, Kind::Deployment, name, &object),
                    Found::Unreadable(why) => faulty_workload(why),
                    Found::Missing | Found::NotNeeded => Workload::default(),
                }
            });
            return (Arc::clone(rollout), left);
        }
        Some(Err(why)) => return faulty(why),
        Some(Ok(referenced)) => referenced,
    };
    let object = match find(kind, name) {
        Found::Found(object) => object,
        Found::Unreadable(why) => return faulty(why),
        Found::Missing | Found::NotNeeded => {
            let (resource, namespace) = (kind.resource(), rollout.namespace());
            return faulty(format!("{resource} \"{namespace}/{name}\" not found"));
        }
    };
    let part = |pointer| object.pointer(pointer).cloned().unwrap_or_default();
    let (template, selector) = match kind {
        Kind::Deployment | Kind::ReplicaSet => (part("/spec/template"), part("/spec/selector")),
        Kind::PodTemplate => (part("/template"), Value::Null),
    };
    let mut resolved = Rollout::clone(rollout);
    resolved.spec.template = PodTemplate::from(template);
    if resolved.spec.selector.is_none() {
        resolved.spec.selector = serde_json::from_value::<Option<LabelSelector>>(selector)
            .ok()
            .flatten();
    }
    let workload = observed(rollout, kind, name, &object);
    (Arc::new(resolved), Some(workload))
}

fn faulty_workload(why: String) -> Workload {
    Workload {
        fault: Some(why),
        ..Workload::default()
    }
}

fn observed(rollout: &Rollout, kind: Kind, name: &str, object: &Value) -> Workload {
    let text = |pointer| {
        let text = object.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let number = |pointer| object.pointer(pointer).and_then(Value::as_i64);
    let deployment = (kind == Kind::Deployment).then(|| {
        let target = Target {
            namespace: rollout.namespace().to_owned(),
            name: name.to_owned(),
            uid: text("/metadata/uid"),
            resource_version: text("/metadata/resourceVersion"),
        };
        let replicas = number("/spec/replicas").unwrap_or(1);
        (target, i32::try_from(replicas).unwrap_or(i32::MAX))
    });
    Workload {
        generation: number("/metadata/generation").unwrap_or(0),
        deployment,
        fault: None,
        left: false,
    }
}

/// The generation of the workload that a Rollout has taken note of; empty without a reference.
pub(super) fn noted<'w>(facts: &Facts<'w>) -> &'w str {
    let annotations = facts.world.rollout.metadata.annotations.as_ref();
    let noted = annotations.and_then(|notes| notes.get(annotation::WORKLOAD_GENERATION));
    let noted = noted.filter(|_| facts.spec.workload_ref.is_some());
    noted.map_or("", String::as_str)
}

/// Takes note of the workload's generation. True if that was written now, so that it is seen in the next pass.
pub(super) fn take_note(facts: &mut Facts<'_>, plan: &mut Plan<'_>) -> Result<bool, Halt> {
    let Some(workload) = facts.world.workload.as_ref().filter(|one| !one.left) else {
        return Ok(false);
    };
    let generation = workload.generation.to_string();
    if noted(facts) == generation {
        return Ok(false);
    }
    let annotations = note(annotation::WORKLOAD_GENERATION, Some(generation));
    facts.change_rollout(plan, annotations, None)
}

/// Scales the Deployment down that the Rollout takes over from.
pub(super) fn scale_down(facts: &mut Facts<'_>, plan: &mut Plan<'_>) -> Result<(), Halt> {
    let Some((wanted, is_success)) = wanted_size(facts) else {
        return Ok(());
    };
    let world = facts.world;
    let workload = world.workload.as_ref();
    let deployment = workload.and_then(|workload| workload.deployment.as_ref());
    let Some((target, present)) = deployment.filter(|(_, present)| *present != wanted) else {
        return Ok(());
    };
    if !is_remembered(&world.rollout, &target.name) {
        let size = note(TAKEN, Some(format!("{}={present}", target.name)));
        // What is not written down cannot be given back.
        if !facts.change_rollout(plan, size, None)? {
            return Ok(());
        }
    }
    let action = Action::ScaleDeployment {
        target: target.clone(),
        replicas: wanted,
    };
    if let Some(Err(failure)) = plan.want(action)
        && is_success
        && facts.canary().is_some()
    {
        plan.fail(failure.message.clone());
    }
    Ok(())
}

/// Whether the size of this Deployment need not be written down (any more).
fn is_remembered(rollout: &Rollout, name: &str) -> bool {
    let annotations = rollout.metadata.annotations.as_ref();
    let restores = annotations.and_then(|notes| notes.get(RESTORE));
    restores.is_none_or(|value| value != "true") || taken(rollout).is_some_and(|(of, _)| of == name)
}

/// Scales the Deployment back that the Rollout refers to no more. True if that was written down on the Rollout now, so that it is seen in the
/// next pass.
pub(super) fn give_back(facts: &mut Facts<'_>, plan: &mut Plan<'_>) -> Result<bool, Halt> {
    let world = facts.world;
    let Some(workload) = world.workload.as_ref().filter(|one| one.left) else {
        return Ok(false);
    };
    if let Some(why) = &workload.fault {
        plan.fail(why.clone());
        return Ok(false);
    }
    let size = taken(&world.rollout).map_or(0, |(_, size)| size);
    // Who has given it more pods meanwhile knows why.
    if let Some((target, _)) = workload.deployment.as_ref().filter(|(_, now)| *now < size) {
        let action = Action::ScaleDeployment {
            target: target.clone(),
            replicas: size,
        };
        if let Err(failure) = plan.act(action)? {
            plan.fail(failure.message.clone());
            return Ok(false);
        }
    }
    facts.change_rollout(plan, note(TAKEN, None), None)
}

/// The size that the Deployment shall have now, and whether that is because the Rollout was successful; `None` leaves it alone.
fn wanted_size(facts: &Facts<'_>) -> Option<(i32, bool)> {
    let reference = facts.spec.workload_ref.as_ref()?;
    let annotations = facts.world.rollout.metadata.annotations.as_ref();
    let always = annotations.and_then(|notes| notes.get(ALWAYS));
    let always = always.is_some_and(|value| value == "always");
    let new = facts.new_set()?;
    let is_healthy = facts.status.phase == RolloutPhase::Healthy;
    let is_first = facts.revision == Some(1);
    let is_done = is_healthy && facts.is_fully_promoted() && (is_first || always);
    match reference.scale_down.as_str() {
        "onsuccess" if is_done && new.observed.available >= facts.replicas => Some((0, true)),
        "progressively" if is_done => Some((0, false)),
        "progressively" if is_first && !is_healthy => {
            let ready = facts.sum(|set| set.ready);
            let shrinks = |set: &Set<'_>| set.observed.replicas < set.observed.current;
            (ready > 0 || shrinks(new)).then(|| ((facts.replicas - ready).max(0), false))
        }
        _ => None,
    }
}
