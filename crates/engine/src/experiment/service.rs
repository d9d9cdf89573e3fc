//! The Services of an experiment: one for each template that asks for one, as long as its pods are there.

use crossfade_api::Resource as _;
use crossfade_api::experiment::{TemplateSpec, TemplateStatus};
use serde_json::{Value, json};

use crate::action::{Action, FailureKind, NewService, Target};
use crate::decision::{Halt, Plan};
use crate::rollout::world::ReplicaSet;

use super::facts::Facts;
use super::world::{Service, belongs};

/// Makes or removes the Service of a template. Says what kept it from that.
pub(super) fn follow(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    template: &TemplateSpec,
    set: &ReplicaSet,
    wanted: i32,
    status: &mut TemplateStatus,
) -> Result<Option<String>, Halt> {
    let there = facts.service(template)?;
    let asked = template.service.as_ref().map(|service| {
        if service.name.is_empty() {
            &set.target.name
        } else {
            &service.name
        }
    });
    // It outlives the delay before the pods go.
    let stays = |service: &&Service| {
        asked == Some(&service.target.name) && (wanted > 0 || set.available > 0)
    };
    if let Some(service) = there.filter(stays) {
        reached_by(status, &service.target.name, set);
        return Ok(None);
    }
    if let Some(service) = there
        && let Some(why) = delete(plan, service)?
    {
        let name = &template.name;
        return Ok(Some(format!(
            "Failed to delete Service for template '{name}': {why}"
        )));
    }
    reached_by(status, "", set);
    match asked.filter(|_| wanted > 0) {
        Some(name) => create(facts, plan, template, set, name, status),
        None => Ok(None),
    }
}

/// Says by which Service the pods are reached, if by any.
fn reached_by(status: &mut TemplateStatus, service: &str, set: &ReplicaSet) {
    service.clone_into(&mut status.service_name);
    let hash = if service.is_empty() { "" } else { set.hash() };
    hash.clone_into(&mut status.pod_template_hash);
}

fn delete(plan: &mut Plan<'_>, service: &Service) -> Result<Option<String>, Halt> {
    let target = Target {
        resource_version: String::new(),
        ..service.target.clone()
    };
    match plan.act(Action::DeleteService { target })? {
        Err(failure) if failure.kind == FailureKind::Refused => Ok(Some(failure.message.clone())),
        Err(failure) if failure.kind != FailureKind::NotFound => {
            plan.fail(failure.message.clone());
            Ok(None)
        }
        Ok(_) | Err(_) => Ok(None),
    }
}

fn create(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    template: &TemplateSpec,
    set: &ReplicaSet,
    name: &str,
    status: &mut TemplateStatus,
) -> Result<Option<String>, Halt> {
    let ports = ports(template);
    if ports.is_empty() {
        return Ok(None);
    }
    let new = NewService {
        namespace: facts.namespace().to_owned(),
        name: name.to_owned(),
        owner_kind: crossfade_api::Experiment::KIND.to_owned(),
        owner_name: facts.name().to_owned(),
        owner_uid: facts.uid().to_owned(),
        annotations: facts.annotations(template),
        selector: set.labels.clone(),
        ports,
    };
    let is_ours = |found: &Service| {
        found.controller.as_deref() == Some(facts.uid())
            && belongs(&found.annotations, facts.name(), &template.name)
    };
    let why = match plan.act(Action::CreateService(Box::new(new)))? {
        Ok(_) => {
            reached_by(status, name, set);
            return Ok(None);
        }
        Err(failure) => match &failure.kind {
            FailureKind::ServiceExists(Some(found)) if is_ours(found) => {
                reached_by(status, name, set);
                return Ok(None);
            }
            FailureKind::ServiceExists(Some(_)) => format!(
                "service {name} already exists and is not owned by experiment template {}",
                template.name
            ),
            FailureKind::ServiceExists(None) => {
                return Err(Halt::Failed(failure.message.clone()));
            }
            _ if facts.is_tried_again(plan, failure) => return Ok(None),
            _ => format!("cannot create service: {}", failure.message),
        },
    };
    let template = &template.name;
    Ok(Some(format!(
        "Failed to create Service {name} for template '{template}': {why}"
    )))
}

/// One port for each that a container declares, in order.
fn ports(template: &TemplateSpec) -> Vec<Value> {
    let declared = template.template.containers().flat_map(|container| {
        let ports = container.get("ports").and_then(Value::as_array);
        ports.into_iter().flatten()
    });
    declared
        .map(|port| {
            let number = &port["containerPort"];
            let mut made = json!({"port": number, "targetPort": number});
            for member in ["protocol", "name"] {
                if let Some(value) = port.get(member).filter(|value| !value.is_null()) {
                    made[member] = value.clone();
                }
            }
            made
        })
        .collect()
}
