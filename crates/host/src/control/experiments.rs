//! The world of an Experiment on one machine.

use std::sync::Arc;

use crossfade_api::experiment::ExperimentStatus;
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::words::PodHash;
use crossfade_api::{AnalysisRun, Experiment, Resource as _};
use crossfade_engine::action::{
    Action, Done, Failure, FailureKind, NewReplicaSet, NewService, Outcome, Target,
};
use crossfade_engine::experiment::named_templates;
use crossfade_engine::experiment::world::{Service, World};
use crossfade_engine::written;
use serde_json::Value;

use super::objects::ObjectError;
use super::subjects::Context;
use super::{rollouts, views};
use crate::store::Kind;
use crate::wire::Part;

/// An Experiment as stored, with what is around it; `None` if it does not exist.
pub(super) fn observe(context: &Context, namespace: &str, name: &str) -> Option<World> {
    let objects = &context.objects;
    let object = objects.get(Kind::Experiment, namespace, name)?;
    let experiment = Arc::new(Experiment::from_json(Value::clone(&object)).0);
    let uid = views::text(&object, "/metadata/uid");
    let sets = objects.controlled_by(Kind::ReplicaSet, uid);
    let replica_sets = sets.iter().map(|set| views::replica_set(set));
    let services = objects.controlled_by(Kind::Service, uid);
    let runs = objects.controlled_by(Kind::AnalysisRun, uid);
    let (templates, unread) = rollouts::templates(context, namespace, named_templates(&experiment));
    let taken_hashes = match views::controller(&object) {
        Some(("Rollout", _, owner)) => objects
            .controlled_by(Kind::ReplicaSet, owner)
            .iter()
            .map(|set| PodHash::from(views::replica_set(set).hash()))
            .collect(),
        Some(_) | None => Vec::new(),
    };
    Some(World {
        replica_sets: replica_sets.collect(),
        services: services.iter().map(|service| view(service)).collect(),
        runs: runs
            .iter()
            .map(|run| Arc::new(AnalysisRun::from_json(Value::clone(run)).0))
            .collect(),
        templates,
        unread,
        taken_hashes,
        experiment,
    })
}

fn view(service: &Value) -> Service {
    Service {
        target: views::target(service),
        controller: views::controller(service).map(|(_, _, uid)| uid.to_owned()),
        annotations: views::map(service, "/metadata/annotations"),
    }
}

/// Performs one action of an Experiment's pass.
pub(super) async fn perform(context: &Context, action: &Action) -> Outcome {
    match action {
        Action::CreateReplicaSet(new) => create_replica_set(context, new).await,
        Action::UpdateReplicaSet { target, change } => {
            rollouts::update_replica_set(context, target, change).await
        }
        Action::CreateService(new) => create_service(context, new).await,
        Action::DeleteService { target } => rollouts::delete(context, Kind::Service, target).await,
        Action::CreateAnalysisRun(run) => rollouts::create_run(context, run).await,
        Action::TerminateAnalysisRun { target } => {
            rollouts::terminate(context, Kind::AnalysisRun, target).await
        }
        _ => Err(Failure {
            kind: FailureKind::Other,
            message: "an Experiment does not do that".to_owned(),
        }),
    }
}

async fn create_replica_set(context: &Context, new: &NewReplicaSet) -> Outcome {
    // What a cluster's API server refuses must not become pods that nobody finds again.
    let selector = serde_json::from_value(new.selector.clone()).unwrap_or_default();
    let pods = PodTemplate::from(new.template.clone());
    if !crossfade_api::selector::matches(Some(&selector), &pods.labels()) {
        return Err(Failure {
            kind: FailureKind::Refused,
            message: format!(
                "ReplicaSet.apps \"{}\" is invalid: spec.template.metadata.labels: `selector` does not match template `labels`",
                new.name
            ),
        });
    }
    rollouts::create_replica_set(context, new).await
}

async fn create_service(context: &Context, new: &NewService) -> Outcome {
    let object = written::service(new);
    match context.objects.create(Kind::Service, object).await {
        Ok(object) => Ok(Done::Written(
            views::text(&object, "/metadata/resourceVersion").to_owned(),
        )),
        Err(ObjectError::Exists(message)) => {
            let existing = (context.objects).get(Kind::Service, &new.namespace, &new.name);
            Err(Failure {
                kind: FailureKind::ServiceExists(existing.map(|there| Box::new(view(&there)))),
                message,
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Stores a status, as the difference to the one that was observed.
pub(super) async fn record(
    context: &Context,
    target: &Target,
    before: &ExperimentStatus,
    after: &ExperimentStatus,
) -> Result<(), ObjectError> {
    if let Some(patch) = written::experiment_status(before, after) {
        context
            .objects
            .patch(Kind::Experiment, target, Part::Object, patch)
            .await?;
    }
    Ok(())
}

/// Which Experiment this is, and in which version.
pub(super) fn target(experiment: &Experiment) -> Target {
    let metadata = &experiment.metadata;
    Target {
        namespace: experiment.namespace().to_owned(),
        name: experiment.name().to_owned(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
    }
}
