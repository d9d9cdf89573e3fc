//! What changes is a reason to look: which subjects an object, a process or the time that has passed wakes.

use std::sync::Arc;
use std::time::Duration;

use crossfade_api::{Canary, Resource as _};
use serde_json::Value;

use super::subjects::{Context, Subject};
use super::{pods, views};
use crate::store::{Interest, Kind, Store};
use crate::wire::WatchChange;

/// How often every Rollout is looked at without a reason.
const RESYNC: Duration = Duration::from_mins(15);

impl Context {
    /// Everything that a change of an object is a reason to look after.
    fn wake(&self, kind: Kind, object: &Value, gone: bool) {
        let namespace = views::text(object, "/metadata/namespace").to_owned();
        let name = views::text(object, "/metadata/name").to_owned();
        let owner =
            views::controller(object).map(|(kind, name, _)| (kind.to_owned(), name.to_owned()));
        let owned_by = |wanted: &str| {
            owner
                .as_ref()
                .filter(|(kind, _)| kind == wanted)
                .map(|(_, name)| name.clone())
        };
        match kind {
            Kind::Rollout => {
                if gone {
                    self.prepared.forget(views::text(object, "/metadata/uid"));
                }
                self.queue.add(Subject::Rollout(namespace, name));
                self.queue.add(Subject::Services);
            }
            Kind::AnalysisRun => {
                if let Some(rollout) = owned_by("Rollout") {
                    self.queue.add(Subject::Rollout(namespace.clone(), rollout));
                }
                if let Some(experiment) = owned_by("Experiment") {
                    self.queue
                        .add(Subject::Experiment(namespace.clone(), experiment));
                }
                self.queue.add(Subject::AnalysisRun(namespace, name));
            }
            Kind::Experiment => {
                if let Some(rollout) = owned_by("Rollout") {
                    self.queue.add(Subject::Rollout(namespace.clone(), rollout));
                }
                self.queue.add(Subject::Experiment(namespace, name));
            }
            Kind::Canary => {
                if gone {
                    self.looks.forget(views::text(object, "/metadata/uid"));
                    let canary = Canary::from_json(object.clone()).0;
                    self.canary_metrics.forget(&canary);
                }
                if views::text(object, "/spec/targetRef/kind") == "Deployment" {
                    let target = views::text(object, "/spec/targetRef/name").to_owned();
                    self.queue
                        .add(Subject::Deployment(namespace.clone(), target));
                }
                self.queue.add(Subject::Canary(namespace, name));
                self.queue.add(Subject::Services);
            }
            Kind::ReplicaSet => {
                if let Some(deployment) = owned_by("Deployment") {
                    self.queue
                        .add(Subject::Deployment(namespace.clone(), deployment));
                }
                if let Some(experiment) = owned_by("Experiment") {
                    self.queue
                        .add(Subject::Experiment(namespace.clone(), experiment));
                }
                match owned_by("Rollout") {
                    Some(rollout) => self.queue.add(Subject::Rollout(namespace.clone(), rollout)),
                    None => self.wake_rollouts(Some(&namespace)),
                }
                self.queue.add(Subject::ReplicaSet(namespace, name));
            }
            Kind::Job => {
                if let Some(run) = owned_by("AnalysisRun") {
                    self.queue.add(Subject::AnalysisRun(namespace.clone(), run));
                }
                self.queue.add(Subject::Job(namespace, name));
            }
            Kind::Pod => {
                if let Some(owner) = pods::owner_of(object) {
                    self.queue.add(owner);
                }
                self.queue.add(Subject::Pod(namespace, name));
            }
            Kind::Service => {
                if let Some(experiment) = owned_by("Experiment") {
                    self.queue
                        .add(Subject::Experiment(namespace.clone(), experiment));
                }
                self.queue.add(Subject::Services);
                self.wake_rollouts(Some(&namespace));
            }
            Kind::Ingress => {
                self.queue.add(Subject::Services);
                self.wake_rollouts(Some(&namespace));
            }
            Kind::AnalysisTemplate => {
                self.wake_rollouts(Some(&namespace));
                self.wake_experiments(Some(&namespace));
            }
            Kind::Deployment => {
                self.wake_rollouts(Some(&namespace));
                self.queue.add(Subject::Deployment(namespace, name));
            }
            Kind::VirtualService | Kind::DestinationRule | Kind::HttpRoute | Kind::PodTemplate => {
                self.wake_rollouts(Some(&namespace));
            }
            Kind::ClusterAnalysisTemplate => {
                self.wake_rollouts(None);
                self.wake_experiments(None);
            }
            // Canaries look for themselves, from time to time.
            Kind::ConfigMap
            | Kind::Secret
            | Kind::MetricTemplate
            | Kind::AlertProvider
            | Kind::Namespace
            | Kind::Event
            | Kind::IngressClass => {}
        }
    }

    fn wake_rollouts(&self, namespace: Option<&str>) {
        for rollout in self.objects.list(Kind::Rollout, namespace) {
            let namespace = views::text(&rollout, "/metadata/namespace").to_owned();
            self.queue.add(Subject::Rollout(
                namespace,
                views::text(&rollout, "/metadata/name").to_owned(),
            ));
        }
    }

    fn wake_experiments(&self, namespace: Option<&str>) {
        for experiment in self.objects.list(Kind::Experiment, namespace) {
            let target = views::target(&experiment);
            self.queue
                .add(Subject::Experiment(target.namespace, target.name));
        }
    }

    /// Looks at everything there is.
    fn wake_all(&self) {
        for kind in [
            Kind::Rollout,
            Kind::AnalysisRun,
            Kind::Experiment,
            Kind::Canary,
            Kind::Deployment,
            Kind::ReplicaSet,
            Kind::Job,
            Kind::Pod,
        ] {
            self.wake_kind(kind);
        }
        self.queue.add(Subject::Services);
    }

    fn wake_kind(&self, kind: Kind) {
        for object in self.objects.list(kind, None) {
            self.wake(kind, &object, false);
        }
    }
}

/// Wakes subjects whenever an object changes.
pub(super) async fn watch_objects(context: Arc<Context>, store: Store) {
    loop {
        let mut watch = store.watch(Interest::default(), store.revision());
        // Whatever changed before the watch began is seen here.
        context.wake_all();
        while let Ok(sighting) = watch.next().await {
            let object = sighting.object();
            context.wake(
                object.kind(),
                object.value(),
                sighting.what == WatchChange::Deleted,
            );
        }
    }
}

/// Wakes a pod's object, its owner and the data plane whenever its processes change.
pub(super) async fn watch_pods(context: Arc<Context>) {
    let mut changes = context.supervisor.changes();
    loop {
        match changes.recv().await {
            Ok(change) => match context.supervisor.status(&change.uid) {
                Some(pod) => context
                    .queue
                    .add(Subject::Pod(pod.identity.namespace, pod.identity.name)),
                None => context.wake_kind(Kind::Pod),
            },
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                context.wake_kind(Kind::Pod);
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
        context.queue.add(Subject::Services);
    }
}

/// Looks at everything every so often.
pub(super) async fn resync(context: Arc<Context>) {
    loop {
        tokio::time::sleep(RESYNC).await;
        context.wake_all();
    }
}
