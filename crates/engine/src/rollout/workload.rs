//! The template that a Rollout takes from another object.
//!
//! It is put into the Rollout in memory only and never stored with it. A Deployment may be scaled down as the Rollout's own pods come up,
//! while the first revision takes over from it.

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
}

/// The object that a Rollout refers to, for worlds that fetch it: its kind and name. The inner error says why there can be none.
pub fn referenced(rollout: &Rollout) -> Option<Result<(Kind, &str), String>> {
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
/// a reference.
pub fn resolve(
    rollout: &Arc<Rollout>,
    find: impl FnOnce(Kind, &str) -> Found<Arc<Value>>,
) -> (Arc<Rollout>, Option<Workload>) {
    let faulty = |why: String| {
        let workload = Workload {
            fault: Some(why),
            ..Workload::default()
        };
        (Arc::clone(rollout), Some(workload))
    };
    let (kind, name) = match referenced(rollout) {
        None => return (Arc::clone(rollout), None),
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
    let text = |pointer| part(pointer).as_str().unwrap_or_default().to_owned();
    let number = |pointer| part(pointer).as_i64();
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
    let workload = Workload {
        generation: number("/metadata/generation").unwrap_or(0),
        deployment,
        fault: None,
    };
    (Arc::new(resolved), Some(workload))
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
    let Some(workload) = &facts.world.workload else {
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
pub(super) fn scale_down(facts: &Facts<'_>, plan: &mut Plan<'_>) {
    let Some((wanted, is_success)) = wanted_size(facts) else {
        return;
    };
    let workload = facts.world.workload.as_ref();
    let deployment = workload.and_then(|workload| workload.deployment.as_ref());
    let Some((target, _)) = deployment.filter(|(_, present)| *present != wanted) else {
        return;
    };
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
