//! The world of a Rollout on one machine: what is observed, how actions are performed, how a status is recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::analysis::{AnalysisTemplateSpec, TemplateRef};
use crossfade_api::names::{annotation, label};
use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::validate::references::RouterKind;
use crossfade_api::{AnalysisRun, Experiment, FieldError, Resource as _, Rollout};
use crossfade_engine::action::{
    Action, Done, Failure, FailureKind, NewReplicaSet, Outcome, ReplicaSetChange, Split, Target,
};
use crossfade_engine::decision::Found;
use crossfade_engine::rollout;
use crossfade_engine::rollout::prepared::prepare;
use crossfade_engine::rollout::workload;
use crossfade_engine::rollout::world::{Body, ReplicaSet, Router, Settings, TemplateKey, World};
use crossfade_engine::written;
use serde_json::{Value, json};

use super::objects::ObjectError;
use super::subjects::Context;
use super::views;
use crate::store::Kind;
use crate::wire::Part;

/// The annotation of a Service that records the split it carries.
pub(super) const SPLIT: &str = "crossfade.dev/split";

/// A Rollout as stored, with what is around it; `None` if it does not exist.
pub(super) fn observe(context: &Context, namespace: &str, name: &str) -> Option<World> {
    let objects = &context.objects;
    let object = objects.get(Kind::Rollout, namespace, name)?;
    let uid = views::text(&object, "/metadata/uid").to_owned();
    let (stored, prepared) = context.prepared.of(&object);
    let (rollout, workload) = workload::resolve(&stored, |kind, name| {
        let kind = match kind {
            workload::Kind::Deployment => Kind::Deployment,
            workload::Kind::ReplicaSet => Kind::ReplicaSet,
            workload::Kind::PodTemplate => Kind::PodTemplate,
        };
        let object = objects.get(kind, namespace, name);
        object.map_or(Found::Missing, |object| {
            Found::Found(Arc::new(Value::clone(&object)))
        })
    });
    let prepared = match workload {
        Some(_) => Arc::new(prepare(&rollout).with_unread(stored.origin.faults().to_vec())),
        None => prepared,
    };
    let replica_sets = objects
        .list(Kind::ReplicaSet, Some(namespace))
        .iter()
        .filter(|set| {
            set.pointer("/metadata/labels")
                .is_some_and(|labels| labels.get(label::POD_HASH).is_some())
        })
        .filter(|set| views::controller(set).is_none_or(|(_, _, owner)| owner == uid))
        .map(|set| views::replica_set(set))
        .collect();
    let mut services = BTreeMap::new();
    for service in rollout::named_services(&rollout) {
        let found = objects.get(Kind::Service, namespace, service);
        services.insert(
            service.to_owned(),
            found.map_or(Found::Missing, |service| {
                Found::Found(views::service(&service))
            }),
        );
    }
    let (templates, unread) = templates(context, namespace, rollout::named_templates(&rollout));
    let mut runs: Vec<Arc<AnalysisRun>> = objects
        .controlled_by(Kind::AnalysisRun, &uid)
        .into_iter()
        .map(|run| Arc::new(AnalysisRun::from_json(Value::clone(&run)).0))
        .collect();
    runs.sort_by(|left, right| {
        let key = |run: &AnalysisRun| {
            (
                run.metadata.creation_timestamp.clone().map(|time| time.0),
                run.name().to_owned(),
            )
        };
        key(right).cmp(&key(left))
    });
    let mut experiments: Vec<Arc<Experiment>> = objects
        .controlled_by(Kind::Experiment, &uid)
        .iter()
        .map(|experiment| Arc::new(Experiment::from_json(Value::clone(experiment)).0))
        .collect();
    experiments.sort_by_key(|experiment| {
        let created = experiment.metadata.creation_timestamp.as_ref();
        std::cmp::Reverse((created.map(|time| time.0), experiment.name().to_owned()))
    });
    let bodies = if rollout::needs_bodies(&rollout) {
        let sets = objects.controlled_by(Kind::ReplicaSet, &uid).into_iter();
        sets.map(|set| (views::text(&set, "/metadata/name").to_owned(), body(&set)))
            .collect()
    } else {
        BTreeMap::new()
    };
    let in_force = entry(&rollout)
        .and_then(|service| objects.get(Kind::Service, namespace, &service))
        .and_then(|service| split(&service));
    let routers = rollout::routers(&rollout)
        .into_iter()
        .map(|kind| Router {
            kind,
            in_force: in_force.clone(),
            confirms: false,
        })
        .collect();
    let replica_sets: Vec<ReplicaSet> = replica_sets;
    let pods = if rollout::needs_pods(&rollout, &replica_sets) {
        let own = replica_sets
            .iter()
            .filter(|set| set.controller.as_ref() == Some(&uid));
        own.flat_map(|set| objects.controlled_by(Kind::Pod, &set.target.uid))
            .map(|pod| views::pod(&pod))
            .collect()
    } else {
        Vec::new()
    };
    let mut world = World {
        references: references(context, namespace),
        rollout,
        workload,
        prepared,
        replica_sets,
        services,
        templates,
        unread,
        runs,
        experiments,
        bodies,
        routers,
        pods,
        faults: Arc::new([]),
        peaks: context.prepared.peaks(&uid),
        gates: Vec::new(),
        settings: Settings::default(),
    };
    world.faults = world.find_faults();
    Some(world)
}

fn body(set: &Value) -> Body {
    let part = |pointer| set.pointer(pointer).cloned().unwrap_or_default();
    Body {
        selector: part("/spec/selector"),
        template: part("/spec/template"),
    }
}

/// The router objects of a namespace, for validation. Kinds that this machine does not store are not asked for.
fn references(
    context: &Context,
    namespace: &str,
) -> BTreeMap<(RouterKind, String, String), Found<Arc<Value>>> {
    let kinds = [
        (Kind::Ingress, RouterKind::Ingress),
        (Kind::VirtualService, RouterKind::VirtualService),
        (Kind::DestinationRule, RouterKind::DestinationRule),
    ];
    let of = |(kind, router): (Kind, RouterKind)| {
        let objects = context.objects.list(kind, Some(namespace));
        objects.into_iter().map(move |object| {
            let name = views::text(&object, "/metadata/name").to_owned();
            (
                (router, namespace.to_owned(), name),
                Found::Found(Arc::new(Value::clone(&object))),
            )
        })
    };
    kinds.into_iter().flat_map(of).collect()
}

/// The Service whose requests are split for a routed Rollout.
pub(super) fn entry(rollout: &Rollout) -> Option<String> {
    let canary = rollout.spec.strategy.canary.as_ref()?;
    let routing = canary.traffic_routing.as_ref()?;
    let root = routing
        .alb
        .as_ref()
        .map(|alb| alb.root_service.clone())
        .filter(|root| !root.is_empty());
    let stable = Some(canary.stable_service.clone()).filter(|stable| !stable.is_empty());
    let ping = canary
        .ping_pong
        .as_ref()
        .map(|pair| pair.ping_service.clone());
    root.or(stable).or(ping)
}

/// The split that a Service carries.
pub(super) fn split(service: &Value) -> Option<Split> {
    let annotations = views::map(service, "/metadata/annotations");
    serde_json::from_str(annotations.get(SPLIT)?).ok()
}

type Templates = BTreeMap<TemplateKey, Found<Arc<AnalysisTemplateSpec>>>;

/// The templates that are named, and those that they name in turn; and what could not be read of them.
pub(super) fn templates(
    context: &Context,
    namespace: &str,
    mut open: Vec<TemplateKey>,
) -> (Templates, BTreeMap<TemplateKey, Vec<FieldError>>) {
    let key = |reference: &TemplateRef| TemplateKey {
        cluster_scope: reference.is_cluster_scope(),
        name: reference.template_name.clone(),
    };
    let (mut found, mut unread) = (BTreeMap::new(), BTreeMap::new());
    while let Some(wanted) = open.pop() {
        if found.contains_key(&wanted) {
            continue;
        }
        let object = if wanted.cluster_scope {
            context
                .objects
                .get(Kind::ClusterAnalysisTemplate, "", &wanted.name)
        } else {
            context
                .objects
                .get(Kind::AnalysisTemplate, namespace, &wanted.name)
        };
        let template = object.map(|object| {
            let (template, mut faults) =
                crossfade_api::AnalysisTemplate::from_json(Value::clone(&object));
            faults.retain(|fault| fault.path.starts_with("spec"));
            if !faults.is_empty() {
                unread.insert(wanted.clone(), faults);
            }
            template.spec
        });
        if let Some(template) = &template {
            open.extend(template.templates.iter().map(key));
        }
        found.insert(
            wanted,
            template.map_or(Found::Missing, |template| Found::Found(Arc::new(template))),
        );
    }
    (found, unread)
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        let kind = match &error {
            ObjectError::Conflict(_) => FailureKind::Conflict,
            ObjectError::NotFound(_) => FailureKind::NotFound,
            ObjectError::Exists(_) | ObjectError::Other(_) => FailureKind::Other,
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }
}

fn written(object: &Value) -> Done {
    Done::Written(views::text(object, "/metadata/resourceVersion").to_owned())
}

/// Performs one action of a Rollout's pass.
pub(super) async fn perform(context: &Context, rollout: &Rollout, action: &Action) -> Outcome {
    match action {
        Action::CreateReplicaSet(new) => create_replica_set(context, new).await,
        Action::UpdateReplicaSet { target, change } => {
            update_replica_set(context, target, change).await
        }
        Action::DeleteReplicaSet { target } => delete(context, Kind::ReplicaSet, target).await,
        Action::AdoptReplicaSet { target, owner_uid } => {
            let live = context
                .objects
                .get(Kind::Rollout, &target.namespace, rollout.name());
            let same = live.is_some_and(|live| {
                views::text(&live, "/metadata/uid") == owner_uid && !views::is_deleting(&live)
            });
            if !same {
                return Err(Failure {
                    kind: FailureKind::NotFound,
                    message: "the Rollout is gone".to_owned(),
                });
            }
            let owners = json!({"metadata": {"ownerReferences": [written::owner_reference("Rollout", rollout.name(), owner_uid)]}});
            context
                .objects
                .patch(Kind::ReplicaSet, target, Part::Object, owners)
                .await
                .map(|object| written(&object))
                .map_err(Failure::from)
        }
        Action::ReleaseReplicaSet { target, .. } => {
            let nobody = json!({"metadata": {"ownerReferences": null}});
            context
                .objects
                .patch(Kind::ReplicaSet, target, Part::Object, nobody)
                .await
                .map(|object| written(&object))
                .map_err(Failure::from)
        }
        Action::UpdateRollout {
            target,
            annotations,
            replicas,
        } => {
            let patch = written::rollout_change(annotations, *replicas);
            context
                .objects
                .patch(Kind::Rollout, target, Part::Object, patch)
                .await
                .map(|object| written(&object))
                .map_err(Failure::from)
        }
        Action::SwitchService {
            target,
            hash,
            managed_by,
        } => {
            let patch = written::service_switch(hash, managed_by.as_deref());
            change_service(context, target, patch).await
        }
        Action::ReleaseService { target } => release_service(context, target).await,
        Action::Route { split, .. } => {
            let Some(service) = entry(rollout) else {
                let message = "no Service is named whose requests could be split: set spec.strategy.canary.stableService".to_owned();
                return Err(Failure {
                    kind: FailureKind::Other,
                    message,
                });
            };
            let text = serde_json::to_string(split).map_err(|why| Failure {
                kind: FailureKind::Other,
                message: why.to_string(),
            })?;
            let patch = json!({"metadata": {"annotations": {SPLIT: text}}});
            let target = Target {
                namespace: rollout.namespace().to_owned(),
                name: service,
                ..Target::default()
            };
            change_service(context, &target, patch).await
        }
        // The data plane has acknowledged the split before the action that set it was over.
        Action::VerifyRoute { .. } => Ok(Done::Verified(None)),
        Action::EvictPod { target } => delete(context, Kind::Pod, target).await,
        Action::UpdatePodMetadata {
            target,
            labels,
            annotations,
        } => {
            let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
            context
                .objects
                .patch(Kind::Pod, target, Part::Object, patch)
                .await
                .map(|object| written(&object))
                .map_err(Failure::from)
        }
        Action::CreateAnalysisRun(run) => create_run(context, run).await,
        Action::TerminateAnalysisRun { target } => {
            terminate(context, Kind::AnalysisRun, target).await
        }
        Action::ScaleDeployment { target, replicas } => {
            let patch = json!({"spec": {"replicas": replicas}});
            context
                .objects
                .patch(Kind::Deployment, target, Part::Object, patch)
                .await
                .map(|object| written(&object))
                .map_err(Failure::from)
        }
        Action::CreateExperiment(experiment) => create_experiment(context, experiment).await,
        Action::TerminateExperiment { target } => {
            terminate(context, Kind::Experiment, target).await
        }
        Action::DeleteExperiment { target } => delete(context, Kind::Experiment, target).await,
        Action::DeleteAnalysisRun { target } => delete(context, Kind::AnalysisRun, target).await,
        Action::Measure(_)
        | Action::CreateJob(_)
        | Action::DeleteJob { .. }
        | Action::CreateService(_)
        | Action::DeleteService { .. }
        | Action::Canary(_) => Err(Failure {
            kind: FailureKind::Other,
            message: "a Rollout does not do that on one machine".to_owned(),
        }),
    }
}

/// Waits until the data plane obeys what the objects say now.
async fn obeyed(context: &Context) -> Result<(), Failure> {
    context
        .data_plane
        .bring_up_to_date(context)
        .await
        .map_err(|why| Failure {
            kind: FailureKind::Other,
            message: why,
        })
}

/// Asks a run or an experiment to end.
pub(super) async fn terminate(context: &Context, kind: Kind, target: &Target) -> Outcome {
    let target = Target {
        resource_version: String::new(),
        ..target.clone()
    };
    let patch = json!({"spec": {"terminate": true}});
    context
        .objects
        .patch(kind, &target, Part::Object, patch)
        .await
        .map(|object| written(&object))
        .map_err(Failure::from)
}

/// Deletes an object; one that is gone already is no failure.
pub(super) async fn delete(context: &Context, kind: Kind, target: &Target) -> Outcome {
    match context.objects.delete(kind, target).await {
        Ok(()) | Err(ObjectError::NotFound(_)) => Ok(Done::Written(String::new())),
        Err(error) => Err(error.into()),
    }
}

/// Changes a ReplicaSet.
pub(super) async fn update_replica_set(
    context: &Context,
    target: &Target,
    change: &ReplicaSetChange,
) -> Outcome {
    let patch = written::replica_set_change(change);
    let object = context
        .objects
        .patch(Kind::ReplicaSet, target, Part::Object, patch)
        .await
        .map_err(Failure::from)?;
    Ok(Done::ReplicaSet(Box::new(views::replica_set(&object))))
}

/// Creates a ReplicaSet.
pub(super) async fn create_replica_set(context: &Context, new: &NewReplicaSet) -> Outcome {
    let object = written::replica_set(new);
    let view = |object: &Value| Box::new(views::replica_set(object));
    match context.objects.create(Kind::ReplicaSet, object).await {
        Ok(object) => Ok(Done::ReplicaSet(view(&object))),
        Err(ObjectError::Exists(message)) => {
            let existing = context
                .objects
                .get(Kind::ReplicaSet, &new.namespace, &new.name);
            Err(Failure {
                kind: FailureKind::ReplicaSetExists(existing.as_deref().map(view)),
                message,
            })
        }
        Err(error) => Err(error.into()),
    }
}

async fn create_experiment(context: &Context, experiment: &Experiment) -> Outcome {
    let decoded = |object: &Value| Box::new(Experiment::from_json(object.clone()).0);
    match context
        .objects
        .create(Kind::Experiment, experiment.to_json())
        .await
    {
        Ok(object) => Ok(Done::Experiment(decoded(&object))),
        Err(ObjectError::Exists(message)) => {
            let (namespace, name) = (experiment.namespace(), experiment.name());
            let existing = context.objects.get(Kind::Experiment, namespace, name);
            Err(Failure {
                kind: FailureKind::ExperimentExists(existing.as_deref().map(decoded)),
                message,
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Creates an AnalysisRun.
pub(super) async fn create_run(context: &Context, run: &AnalysisRun) -> Outcome {
    let decoded = |object: &Value| Box::new(AnalysisRun::from_json(object.clone()).0);
    match context
        .objects
        .create(Kind::AnalysisRun, run.to_json())
        .await
    {
        Ok(object) => Ok(Done::AnalysisRun(decoded(&object))),
        Err(ObjectError::Exists(message)) => {
            let existing = context
                .objects
                .get(Kind::AnalysisRun, run.namespace(), run.name());
            Err(Failure {
                kind: FailureKind::AnalysisRunExists(existing.as_deref().map(decoded)),
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
    before: &RolloutStatus,
    after: &RolloutStatus,
) -> Result<(), ObjectError> {
    if let Some(patch) = written::rollout_status(before, after) {
        context
            .objects
            .patch(Kind::Rollout, target, Part::Status, patch)
            .await?;
    }
    Ok(())
}

/// Which Rollout this is, and in which version.
pub(super) fn target(rollout: &Rollout) -> Target {
    Target {
        namespace: rollout.namespace().to_owned(),
        name: rollout.name().to_owned(),
        uid: rollout.metadata.uid.clone().unwrap_or_default(),
        resource_version: rollout
            .metadata
            .resource_version
            .clone()
            .unwrap_or_default(),
    }
}

/// Gives back the Services that no Rollout names any more: the engine says which lose their hash, and the split goes with
/// the Rollout that recorded it.
pub(super) async fn release_services(context: &Context) -> Result<(), String> {
    for object in context.objects.list(Kind::Service, None) {
        let service = views::service(&object);
        let carries_split = views::map(&object, "/metadata/annotations").contains_key(SPLIT);
        // The Service of an Experiment's template selects pods that no Rollout names.
        let of_experiment =
            views::controller(&object).is_some_and(|(kind, ..)| kind == Experiment::KIND);
        if of_experiment || (service.selected().is_empty() && !carries_split) {
            continue;
        }
        let rollouts: Vec<Arc<Rollout>> = context
            .objects
            .list(Kind::Rollout, Some(&service.target.namespace))
            .iter()
            .map(|object| context.prepared.of(object).0)
            .collect();
        let released = rollout::release(&service, rollouts.iter().map(AsRef::as_ref));
        let is_entry = rollouts.iter().any(|rollout| {
            let mut unread = rollout.origin.faults().iter();
            unread.any(|fault| fault.path.starts_with("spec"))
                || entry(rollout).as_deref() == Some(service.target.name.as_str())
        });
        let outcome = match released {
            Some(Action::ReleaseService { target }) => release_service(context, &target).await,
            _ if carries_split && !is_entry => forget_split(context, &service.target).await,
            _ => continue,
        };
        outcome.map_err(|failure| failure.message)?;
    }
    Ok(())
}

/// Without hash, manager and split a Service selects as the user wrote.
async fn release_service(context: &Context, target: &Target) -> Outcome {
    let patch = json!({
        "metadata": {"annotations": {annotation::MANAGED_BY: null, SPLIT: null}},
        "spec": {"selector": {label::POD_HASH: null}},
    });
    change_service(context, target, patch).await
}

/// A split that nobody recorded for the present Rollouts must not wait for the next one of that name.
async fn forget_split(context: &Context, target: &Target) -> Outcome {
    let patch = json!({"metadata": {"annotations": {SPLIT: null}}});
    change_service(context, target, patch).await
}

/// Changes a Service; done when the data plane obeys.
async fn change_service(context: &Context, target: &Target, patch: Value) -> Outcome {
    let object = context
        .objects
        .patch(Kind::Service, target, Part::Object, patch)
        .await
        .map_err(Failure::from)?;
    obeyed(context).await?;
    Ok(written(&object))
}
