//! Writes that belong to the pass of one subject: each is remembered until the caches show it.

use crossfade_api::{AnalysisRun, Experiment, Resource as _};
use crossfade_engine::action::{
    Done, Failure, FailureKind, NewReplicaSet, Outcome, ReplicaSetChange, Target,
};
use crossfade_engine::{views, written};
use kube::api::PropagationPolicy;
use serde_json::{Value, json};

use crate::context::{Context, Subject};
use crate::kind::Kind;
use crate::requests::{Refusal, version_of};

/// Writes for one subject.
#[derive(Clone, Copy)]
pub(crate) struct Writes<'p> {
    context: &'p Context,
    subject: &'p Subject,
}

impl<'p> Writes<'p> {
    pub(crate) fn new(context: &'p Context, subject: &'p Subject) -> Self {
        Self { context, subject }
    }

    /// An object was written.
    pub(crate) fn wrote(self, kind: &Kind, object: Value) {
        let target = views::target(&object);
        let key = (target.namespace, target.name);
        let caches = &self.context.caches;
        let version = &target.resource_version;
        let own_writes = &self.context.own_writes;
        own_writes.wrote(caches, self.subject, kind, key, version);
        self.context.answered(kind, object);
    }

    /// Merges a patch into an object.
    pub(crate) async fn merge(
        self,
        kind: &Kind,
        target: &Target,
        patch: Value,
    ) -> Result<Value, Refusal> {
        let target = self.as_known(kind, target);
        let object = self.context.requests.merge(kind, &target, patch).await?;
        self.wrote(kind, object.clone());
        Ok(object)
    }

    /// Merges a patch into an object, as an action.
    pub(crate) async fn write(self, kind: &Kind, target: &Target, patch: Value) -> Outcome {
        let object = self.merge(kind, target, patch).await?;
        Ok(Done::Written(version_of(&object)))
    }

    /// Changes a ReplicaSet.
    pub(crate) async fn update_replica_set(
        self,
        target: &Target,
        change: &ReplicaSetChange,
    ) -> Outcome {
        let patch = written::replica_set_change(change);
        let object = self.merge(&Kind::ReplicaSet, target, patch).await?;
        Ok(Done::ReplicaSet(Box::new(views::replica_set(&object))))
    }

    /// Asks an AnalysisRun or an Experiment to end.
    pub(crate) async fn terminate(self, kind: &Kind, target: &Target) -> Outcome {
        let patch = json!({"spec": {"terminate": true}});
        self.write(kind, target, patch).await
    }

    /// Deletes an object.
    pub(crate) async fn delete(
        self,
        kind: &Kind,
        target: &Target,
        propagation: PropagationPolicy,
    ) -> Outcome {
        let target = self.as_known(kind, target);
        let requests = &self.context.requests;
        requests.delete(kind, &target, propagation).await?;
        let key = (target.namespace.clone(), target.name.clone());
        let caches = &self.context.caches;
        let own_writes = &self.context.own_writes;
        own_writes.deleted(caches, self.subject, kind, key, &target.uid);
        Ok(Done::Written(String::new()))
    }

    /// Creates an object; `exists` is told of one that has the name already, as far as that can be read.
    pub(crate) async fn create(
        self,
        kind: &Kind,
        object: Value,
        exists: impl FnOnce(Option<Value>) -> FailureKind,
    ) -> Result<Value, Failure> {
        let requests = &self.context.requests;
        let target = views::target(&object);
        match requests.create(kind, &target.namespace, object).await {
            Ok(object) => {
                self.wrote(kind, object.clone());
                Ok(object)
            }
            Err(Refusal::Exists(message)) => {
                let there = requests.get(kind, &target.namespace, &target.name).await;
                let kind = exists(there.ok().flatten());
                Err(Failure { kind, message })
            }
            // Whether it was made is not known: one that is there now is looked at like one that was there before.
            Err(Refusal::Other(message)) => {
                let there = requests.get(kind, &target.namespace, &target.name).await;
                let there = there.ok().flatten();
                let kind = there.map_or(FailureKind::Other, |there| exists(Some(there)));
                Err(Failure { kind, message })
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Creates a ReplicaSet.
    pub(crate) async fn create_replica_set(self, new: &NewReplicaSet) -> Outcome {
        let view = |object: Value| Box::new(views::replica_set(&object));
        let exists = |there: Option<Value>| FailureKind::ReplicaSetExists(there.map(view));
        let object = written::replica_set(new);
        let made = self.create(&Kind::ReplicaSet, object, exists).await?;
        Ok(Done::ReplicaSet(view(made)))
    }

    /// Creates an AnalysisRun.
    pub(crate) async fn create_run(self, run: &AnalysisRun) -> Outcome {
        let decoded = |object: Value| Box::new(AnalysisRun::from_json(object).0);
        let exists = |there: Option<Value>| FailureKind::AnalysisRunExists(there.map(decoded));
        let made = self.create(&Kind::AnalysisRun, run.to_json(), exists).await;
        Ok(Done::AnalysisRun(decoded(made?)))
    }

    /// Creates an Experiment.
    pub(crate) async fn create_experiment(self, experiment: &Experiment) -> Outcome {
        let decoded = |object: Value| Box::new(Experiment::from_json(object).0);
        let exists = |there: Option<Value>| FailureKind::ExperimentExists(there.map(decoded));
        let object = experiment.to_json();
        let made = self.create(&Kind::Experiment, object, exists).await;
        Ok(Done::Experiment(decoded(made?)))
    }

    /// Stores a status as the patch that makes it out of the one before; nothing, if nothing differs. Answers the version of the object
    /// then.
    pub(crate) async fn record(
        self,
        kind: &Kind,
        target: &Target,
        patch: Option<Value>,
    ) -> Result<String, Refusal> {
        let Some(patch) = patch else {
            return Ok(target.resource_version.clone());
        };
        let stored = self.context.requests.merge_status(kind, target, patch);
        let stored = stored.await?;
        let version = version_of(&stored);
        self.wrote(kind, stored);
        Ok(version)
    }

    /// A target whose version does not matter to a decision is written in the version that the cache shows: no write goes out without one.
    fn as_known(self, kind: &Kind, target: &Target) -> Target {
        let mut target = target.clone();
        if target.resource_version.is_empty() {
            let key = (target.namespace.clone(), target.name.clone());
            let (sight, _) = self.context.caches.sight(kind, &key);
            if let Some(sight) = sight.filter(|sight| sight.uid == target.uid) {
                target.resource_version = sight.version.to_string();
            }
        }
        target
    }
}
