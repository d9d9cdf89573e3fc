//! The world of an Experiment in a cluster: what is observed, one pass over it, and its actions.

use std::sync::Arc;
use std::time::Duration;

use crossfade_api::experiment::ExperimentStatus;
use crossfade_api::words::PodHash;
use crossfade_api::{Experiment, Resource as _};
use crossfade_engine::action::{Action, Done, FailureKind, Outcome, Target};
use crossfade_engine::decision::Event;
use crossfade_engine::experiment::world::World;
use crossfade_engine::experiment::{ExperimentSubject, named_templates};
use crossfade_engine::pass::{Need, Pass};
use crossfade_engine::written;
use jiff::Timestamp;
use kube::api::PropagationPolicy;
use serde_json::Value;

use crate::cache::Key;
use crate::caches::service_of_experiment;
use crate::context::{Context, Subject, controller_of};
use crate::kind::Kind;
use crate::object::target;
use crate::perform::other;
use crate::referrers::Looked;
use crate::requests::version_of;
use crate::rollouts::{self, unwritten};
use crate::stuck::{self, Passed};
use crate::traces;
use crate::writes::Writes;

/// Looks after an Experiment once; tells when to look again, or why that failed.
pub(crate) async fn pass(context: &Context, key: &Key) -> Result<Option<Duration>, String> {
    let Some(entry) = context.caches.experiments.get(&key.0, &key.1) else {
        return Ok(None);
    };
    let experiment = &entry.view.experiment;
    let subject = Subject::Experiment(key.clone());
    let mut course = Course {
        target: target(&experiment.metadata),
        status: None,
        refused: None,
    };
    let outcome = look_after(context, &subject, experiment, &mut course).await;
    let status = course.status.as_ref().unwrap_or(&experiment.status);
    let passed = Passed {
        kind: Kind::Experiment,
        target: &course.target,
        conditions: Some(&status.conditions),
        refused: course.refused.as_deref(),
        failed: outcome.is_err(),
    };
    stuck::tell(context, &subject, passed).await;
    outcome
}

/// What a pass has come to so far.
struct Course {
    /// The Experiment, in the version that was written last.
    target: Target,
    /// The status that was recorded, if one was.
    status: Option<ExperimentStatus>,
    /// What the API server has refused.
    refused: Option<String>,
}

async fn look_after(
    context: &Context,
    subject: &Subject,
    experiment: &Arc<Experiment>,
    course: &mut Course,
) -> Result<Option<Duration>, String> {
    let caches = &context.caches;
    let namespace = experiment.namespace();
    let needed = [
        caches.trouble(namespace),
        caches.services.trouble(namespace),
    ];
    if let Some(trouble) = needed.into_iter().flatten().next() {
        course.refused = trouble.denied.then(|| trouble.why.clone());
        return Err(format!("cannot be decided on: {}", trouble.why));
    }
    let standing = context.standing(subject);
    let mut looked = Looked::default();
    let world = observe(context, experiment, &mut looked);
    context.names(subject, looked.names);
    course.refused = looked.denied;
    let seen_as = course.target.clone();
    let writes = Writes::new(context, subject);
    let mut pass = Pass::<ExperimentSubject>::start(world, standing, Timestamp::now());
    while let Some(need) = pass.need() {
        match need {
            Need::Perform(actions) => {
                let mut outcomes = Vec::with_capacity(actions.len());
                for action in &actions {
                    // What was not tried any more is the next leader's.
                    if !context.requests.may_write() {
                        break;
                    }
                    outcomes.push(traces::action(action, perform(writes, action)).await);
                }
                pass.performed(outcomes);
            }
            Need::Record(status, events) => {
                let before = &experiment.status;
                let patch = status
                    .as_ref()
                    .and_then(|status| written::experiment_status(before, status));
                let stored = writes
                    .record(&Kind::Experiment, &course.target, patch)
                    .await;
                pass.recorded(match stored {
                    Ok(version) => {
                        course.target.resource_version = version;
                        course.status = status;
                        tell(context, experiment, &seen_as, events);
                        Ok(())
                    }
                    Err(refusal) => Err(unwritten(&refusal)),
                });
            }
        }
    }
    if course.refused.is_none() {
        course.refused = stuck::refused(pass.evidence());
    }
    context.settle(subject, pass.ended())
}

/// Tells people about an Experiment and, where that matters to it, about the Rollout that it belongs to.
fn tell(context: &Context, experiment: &Experiment, target: &Target, events: Vec<Event>) {
    let for_owner = events.iter().filter(|event| event.for_owner).cloned();
    if let Some((Subject::Rollout(_), owner)) = controller_of(&experiment.metadata) {
        context.tell(&Kind::Rollout, &owner, for_owner.collect());
    }
    context.tell(&Kind::Experiment, target, events);
}

/// An Experiment with what is around it, as far as the caches know.
pub(crate) fn observe(
    context: &Context,
    experiment: &Arc<Experiment>,
    looked: &mut Looked,
) -> World {
    let (caches, namespace) = (&context.caches, experiment.namespace());
    let uid = experiment.metadata.uid.as_deref().unwrap_or_default();
    let named = named_templates(experiment);
    let (templates, unread) = rollouts::templates(context, namespace, named, looked);
    let sets = caches.replica_sets.owned(namespace, uid);
    let services = caches.services.owned(namespace, uid);
    let services = services.iter().map(|entry| &entry.view.of_experiment);
    let runs = caches.runs.owned(namespace, uid);
    let taken_hashes = match controller_of(&experiment.metadata) {
        Some((Subject::Rollout(_), owner)) => {
            let sets = caches.replica_sets.owned(namespace, &owner.uid);
            let hashes = sets.iter().map(|set| PodHash::from(set.view.hash()));
            hashes.collect()
        }
        Some(_) | None => Vec::new(),
    };
    World {
        experiment: Arc::clone(experiment),
        replica_sets: sets.iter().map(|entry| entry.view.clone()).collect(),
        services: services.flatten().cloned().collect(),
        runs: runs
            .iter()
            .map(|entry| Arc::clone(&entry.view.run))
            .collect(),
        templates,
        unread,
        taken_hashes,
    }
}

async fn perform(writes: Writes<'_>, action: &Action) -> Outcome {
    match action {
        Action::CreateReplicaSet(new) => writes.create_replica_set(new).await,
        Action::UpdateReplicaSet { target, change } => {
            writes.update_replica_set(target, change).await
        }
        Action::CreateService(new) => {
            let exists = |there: Option<Value>| {
                let view = there.map(|there| Box::new(service_of_experiment(&there)));
                FailureKind::ServiceExists(view)
            };
            let object = written::service(new);
            let made = writes.create(&Kind::Service, object, exists).await?;
            Ok(Done::Written(version_of(&made)))
        }
        Action::DeleteService { target } => {
            let propagation = PropagationPolicy::Background;
            writes.delete(&Kind::Service, target, propagation).await
        }
        Action::CreateAnalysisRun(run) => writes.create_run(run).await,
        Action::TerminateAnalysisRun { target } => {
            writes.terminate(&Kind::AnalysisRun, target).await
        }
        _ => Err(other("an Experiment does not do that")),
    }
}
