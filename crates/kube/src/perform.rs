//! Actions of a Rollout's pass, carried out by the API server.

use std::sync::Arc;

use crossfade_api::names::{annotation, label};
use crossfade_api::{Resource as _, Rollout};
use crossfade_engine::action::{Action, Done, Failure, FailureKind, Outcome, Target};
use crossfade_engine::rollout::workload;
use crossfade_engine::{views, written};
use kube::api::PropagationPolicy;
use serde_json::{Value, json};

use crate::context::{Context, Subject};
use crate::kind::Kind;
use crate::requests::{Refusal, version_of};
use crate::routes::Routing;
use crate::writes::Writes;

/// Carries out the actions of one pass.
pub(crate) struct Performing<'p> {
    context: &'p Context,
    subject: &'p Subject,
    rollout: &'p Arc<Rollout>,
    routing: Routing<'p>,
}

/// A failure of no kind that the engine tells apart.
pub(crate) fn other(message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Other,
        message: message.into(),
    }
}

impl<'p> Performing<'p> {
    pub(crate) fn new(
        context: &'p Context,
        subject: &'p Subject,
        rollout: &'p Arc<Rollout>,
    ) -> Self {
        Self {
            context,
            subject,
            rollout,
            routing: Routing::new(context, subject, rollout),
        }
    }

    /// Performs one action.
    pub(crate) async fn perform(&mut self, action: &Action) -> Outcome {
        let writes = Writes::new(self.context, self.subject);
        let delete = |kind, target| writes.delete(kind, target, PropagationPolicy::Background);
        match action {
            Action::CreateReplicaSet(new) => writes.create_replica_set(new).await,
            Action::UpdateReplicaSet { target, change } => {
                writes.update_replica_set(target, change).await
            }
            Action::DeleteReplicaSet { target } => delete(&Kind::ReplicaSet, target).await,
            Action::AdoptReplicaSet { target, owner_uid } => {
                self.is_still_there(&target.namespace, owner_uid).await?;
                let owner = written::owner_reference("Rollout", self.rollout.name(), owner_uid);
                self.change_owners(target, owner).await
            }
            Action::ReleaseReplicaSet { target, owner_uid } => {
                let owner = json!({"$patch": "delete", "uid": owner_uid});
                self.change_owners(target, owner).await
            }
            Action::UpdateRollout {
                target,
                annotations,
                replicas,
            } => {
                let patch = written::rollout_change(annotations, *replicas);
                writes.write(&Kind::Rollout, target, patch).await
            }
            Action::SwitchService {
                target,
                hash,
                managed_by,
            } => {
                let patch = written::service_switch(hash, managed_by.as_deref());
                writes.write(&Kind::Service, target, patch).await
            }
            Action::ReleaseService { target } => release_service(self.context, target)
                .await
                .map_err(Failure::from),
            Action::Route { router, split } => self.routing.route(router, split).await,
            Action::VerifyRoute { router, split } => Ok(self.routing.verify(router, split).await),
            Action::EvictPod { target } => match self.context.requests.evict(target).await {
                Ok(()) => Ok(Done::Written(String::new())),
                Err(Refusal::TooMany(message)) => Err(Failure {
                    kind: FailureKind::Budget,
                    message,
                }),
                Err(refusal) => Err(refusal.into()),
            },
            Action::UpdatePodMetadata {
                target,
                labels,
                annotations,
            } => {
                let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
                let requests = &self.context.requests;
                let object = requests.merge(&Kind::Pod, target, patch).await?;
                Ok(Done::Written(version_of(&object)))
            }
            Action::CreateAnalysisRun(run) => writes.create_run(run).await,
            Action::TerminateAnalysisRun { target } => {
                writes.terminate(&Kind::AnalysisRun, target).await
            }
            Action::DeleteAnalysisRun { target } => delete(&Kind::AnalysisRun, target).await,
            Action::ScaleDeployment { target, replicas } => {
                let deployment = Kind::Workload(workload::Kind::Deployment);
                let patch = json!({"spec": {"replicas": replicas}});
                writes.write(&deployment, target, patch).await
            }
            Action::CreateExperiment(experiment) => writes.create_experiment(experiment).await,
            Action::TerminateExperiment { target } => {
                writes.terminate(&Kind::Experiment, target).await
            }
            Action::DeleteExperiment { target } => delete(&Kind::Experiment, target).await,
            _ => Err(other("a Rollout does not do that")),
        }
    }

    /// The Rollout still exists, by a live read.
    async fn is_still_there(&self, namespace: &str, uid: &str) -> Result<(), Failure> {
        let requests = &self.context.requests;
        let live = requests
            .get(&Kind::Rollout, namespace, self.rollout.name())
            .await?;
        let same = live.is_some_and(|live| {
            views::text(&live, "/metadata/uid") == uid && !views::is_deleting(&live)
        });
        if same {
            return Ok(());
        }
        Err(Failure {
            kind: FailureKind::NotFound,
            message: "the Rollout is gone".to_owned(),
        })
    }

    async fn change_owners(&self, target: &Target, owner: Value) -> Outcome {
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        let requests = &self.context.requests;
        let object = requests
            .merge_lists(&Kind::ReplicaSet, target, patch)
            .await?;
        let version = version_of(&object);
        Writes::new(self.context, self.subject).wrote(&Kind::ReplicaSet, object);
        Ok(Done::Written(version))
    }
}

/// Without hash and manager a Service selects as the user wrote.
async fn release_service(context: &Context, target: &Target) -> Result<Done, Refusal> {
    let patch = json!({
        "metadata": {"annotations": {annotation::MANAGED_BY: null}},
        "spec": {"selector": {label::POD_HASH: null}},
    });
    let object = context
        .requests
        .merge(&Kind::Service, target, patch)
        .await?;
    Ok(Done::Written(version_of(&object)))
}

/// Looks after a Service that bears a version's hash: gives it back when no Rollout names it any more.
pub(crate) async fn look_after_service(
    context: &Context,
    key: &crate::cache::Key,
) -> Result<(), String> {
    let rollouts = &context.caches.rollouts;
    // Who is not known might name it.
    if rollouts.trouble(&key.0).is_some() {
        return Ok(());
    }
    let Some(service) = context.caches.services.get(&key.0, &key.1) else {
        return Ok(());
    };
    let named_by = |rollouts: &[Arc<Rollout>]| {
        let rollouts = rollouts.iter().map(AsRef::as_ref);
        crossfade_engine::rollout::release(&service.view.service, rollouts).is_none()
    };
    let known = rollouts.of_namespace(&key.0).into_iter();
    let known: Vec<_> = known
        .map(|(_, entry)| Arc::clone(&entry.view.rollout))
        .collect();
    if named_by(&known) {
        return Ok(());
    }
    // Another controller's Rollouts are not in the cache, and just as good a reason.
    let live = context.requests.list(&Kind::Rollout, &key.0, "").await;
    let live = live.map_err(|refusal| refusal.to_string())?.into_iter();
    let live: Vec<_> = live
        .map(|json| Arc::new(Rollout::from_json(json).0))
        .collect();
    if named_by(&live) {
        return Ok(());
    }
    let target = service.view.service.target.clone();
    match release_service(context, &target).await {
        // It has changed, and is looked at again for that.
        Ok(_) | Err(Refusal::NotFound(_) | Refusal::Conflict(_)) => Ok(()),
        Err(refusal) => Err(refusal.to_string()),
    }
}
