//! What is looked after, and how one look goes: the engine's passes are led to their end, and a failure is tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossfade_api::rollout_status::RolloutStatus;
use crossfade_engine::action::Target;
use crossfade_engine::analysis::AnalysisRunSubject;
use crossfade_engine::canary::{self, CanarySubject, is_look};
use crossfade_engine::decision::Event;
use crossfade_engine::experiment::ExperimentSubject;
use crossfade_engine::pass::{Ended, Need, Pass, Standing};
use crossfade_engine::rollout::RolloutSubject;
use crossfade_http::Http;
use crossfade_metrics::canary_counts::CanaryMetrics;
use crossfade_notify::hooks::Hooks;
use crossfade_notify::turns::Turns;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::canaries::Looks;
use super::data_plane::DataPlane;
use super::measuring::Measuring;
use super::objects::{ObjectError, Objects};
use super::prepared::PreparedRollouts;
use super::queue::Queue;
use super::{
    analysis_runs, canaries, canary_routes, deployments, experiments, pods, rollouts, views,
};
use crate::store::Kind;
use crate::supervisor::Supervisor;

/// Something that is looked after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Rollout(String, String),
    AnalysisRun(String, String),
    Experiment(String, String),
    Canary(String, String),
    Deployment(String, String),
    ReplicaSet(String, String),
    Job(String, String),
    Pod(String, String),
    /// The data plane's configuration, and Services that nobody manages any more.
    Services,
}

/// What all subjects share.
pub(super) struct Context {
    pub(super) objects: Objects,
    pub(super) supervisor: Supervisor,
    pub(super) data_plane: Arc<DataPlane>,
    pub(super) measuring: Measuring,
    pub(super) http: Http,
    pub(super) hooks: Hooks,
    pub(super) turns: Turns,
    pub(super) canary_settings: Arc<canary::world::Settings>,
    pub(super) looks: Looks,
    pub(super) canary_metrics: CanaryMetrics,
    pub(super) prepared: PreparedRollouts,
    pub(super) queue: Queue<Subject>,
    /// What each Rollout and AnalysisRun waited for at its last pass.
    pub(super) ended: Mutex<BTreeMap<Subject, Ended>>,
}

impl Context {
    /// Looks after a subject once; tells when to look again, or why it failed.
    async fn look_after(&self, subject: &Subject) -> Result<Option<Duration>, String> {
        let text = |error: ObjectError| error.to_string();
        match subject {
            Subject::Rollout(namespace, name) => self.rollout(subject, namespace, name).await,
            Subject::AnalysisRun(namespace, name) => {
                self.analysis_run(subject, namespace, name).await
            }
            Subject::Experiment(namespace, name) => self.experiment(subject, namespace, name).await,
            Subject::Canary(namespace, name) => self.canary(subject, namespace, name).await,
            Subject::Deployment(namespace, name) => {
                (deployments::deployment(self, namespace, name).await).map_err(text)
            }
            Subject::ReplicaSet(namespace, name) => {
                pods::replica_set(self, namespace, name).await.map_err(text)
            }
            Subject::Job(namespace, name) => pods::job(self, namespace, name).await.map_err(text),
            Subject::Pod(namespace, name) => pods::pod(self, namespace, name).await.map_err(text),
            Subject::Services => {
                rollouts::release_services(self).await?;
                canary_routes::release(self).await?;
                self.data_plane.bring_up_to_date(self).await.map(|()| None)
            }
        }
    }

    async fn rollout(
        &self,
        subject: &Subject,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Duration>, String> {
        let text = |error: ObjectError| error.to_string();
        let Some(world) = rollouts::observe(self, namespace, name) else {
            self.forget(subject);
            return Ok(None);
        };
        let rollout = Arc::clone(&world.rollout);
        let target = rollouts::target(&rollout);
        if rollout.status == RolloutStatus::default() {
            self.publish(Kind::Rollout, &target, &[first_seen(&target)])
                .await;
        }
        // What is read here is the store itself, not a copy of it: it always holds our own last write.
        let mut pass = Pass::<RolloutSubject>::start(world, Standing::Sound, Timestamp::now());
        let mut recorded_on = target.clone();
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let mut outcomes = Vec::with_capacity(actions.len());
                    for action in &actions {
                        let outcome = rollouts::perform(self, &rollout, action).await;
                        if let (
                            crossfade_engine::action::Action::UpdateRollout { .. },
                            Ok(crossfade_engine::action::Done::Written(version)),
                        ) = (action, &outcome)
                        {
                            recorded_on.resource_version.clone_from(version);
                        }
                        outcomes.push(outcome);
                    }
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    let stored = match &status {
                        Some(status) => {
                            rollouts::record(self, &recorded_on, &rollout.status, status)
                                .await
                                .map_err(text)
                        }
                        None => Ok(()),
                    };
                    if stored.is_ok() {
                        self.prepared
                            .follow(&target.uid, status.as_ref().unwrap_or(&rollout.status));
                        self.publish(Kind::Rollout, &target, &events).await;
                    }
                    pass.recorded(stored);
                }
            }
        }
        self.settle(subject, pass.ended())
    }

    async fn analysis_run(
        &self,
        subject: &Subject,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Duration>, String> {
        let text = |error: ObjectError| error.to_string();
        let Some(world) = analysis_runs::observe(self, namespace, name) else {
            self.forget(subject);
            return Ok(None);
        };
        let run = Arc::clone(&world.run);
        let target = analysis_runs::target(&run);
        let now = Timestamp::now();
        let mut pass = Pass::<AnalysisRunSubject>::start(world, Standing::Sound, now);
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let outcomes = analysis_runs::perform(self, &run, &actions, now).await;
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    let stored = match &status {
                        Some(status) => analysis_runs::record(self, &target, &run.status, status)
                            .await
                            .map_err(text),
                        None => Ok(()),
                    };
                    if stored.is_ok() {
                        self.publish(Kind::AnalysisRun, &target, &events).await;
                    }
                    pass.recorded(stored);
                }
            }
        }
        self.settle(subject, pass.ended())
    }

    async fn experiment(
        &self,
        subject: &Subject,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Duration>, String> {
        let text = |error: ObjectError| error.to_string();
        let Some(world) = experiments::observe(self, namespace, name) else {
            self.forget(subject);
            return Ok(None);
        };
        let experiment = Arc::clone(&world.experiment);
        let target = experiments::target(&experiment);
        let mut pass = Pass::<ExperimentSubject>::start(world, Standing::Sound, Timestamp::now());
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let mut outcomes = Vec::with_capacity(actions.len());
                    for action in &actions {
                        outcomes.push(experiments::perform(self, action).await);
                    }
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    let stored = match &status {
                        Some(status) => {
                            experiments::record(self, &target, &experiment.status, status)
                                .await
                                .map_err(text)
                        }
                        None => Ok(()),
                    };
                    if stored.is_ok() {
                        self.publish(Kind::Experiment, &target, &events).await;
                    }
                    pass.recorded(stored);
                }
            }
        }
        self.settle(subject, pass.ended())
    }

    async fn canary(
        &self,
        subject: &Subject,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Duration>, String> {
        let text = |error: ObjectError| error.to_string();
        let Some(world) = canaries::observe(self, namespace, name) else {
            self.forget(subject);
            return Ok(None);
        };
        let canary = Arc::clone(&world.canary);
        let target = canaries::target(&canary);
        let now = Timestamp::now();
        let seen = canaries::Seen::of(&world);
        let (looks, began) = (is_look(&world, now), Instant::now());
        let mut pass = Pass::<CanarySubject>::start(world, Standing::Sound, now);
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let mut outcomes = Vec::with_capacity(actions.len());
                    for action in &actions {
                        outcomes.push(canaries::perform(self, &canary, &seen, action).await);
                    }
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    let stored = match &status {
                        Some(status) => canaries::record(self, &canary, status).await.map_err(text),
                        None => Ok(()),
                    };
                    if stored.is_ok() {
                        if let Some(status) = &status {
                            self.canary_metrics.recorded(&canary, status);
                        }
                        self.publish(Kind::Canary, &target, &events).await;
                    }
                    pass.recorded(stored);
                }
            }
        }
        let mut ended = pass.ended();
        if looks {
            self.looks.took(&target.uid, now);
            if ended.judged {
                self.canary_metrics.judged(&canary, began.elapsed());
            }
        } else if let Some(last) = (self.ended.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .get(subject)
        {
            // Between looks nothing new is learned.
            ended.waits.clone_from(&last.waits);
        }
        self.settle(subject, ended)
    }

    /// The Rollout that controls an object.
    fn rollout_above(&self, kind: Kind, target: &Target) -> Option<Target> {
        let object = self.objects.get(kind, &target.namespace, &target.name)?;
        let (_, name, uid) =
            views::controller(&object).filter(|(kind, _, _)| *kind == "Rollout")?;
        Some(Target {
            namespace: target.namespace.clone(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            resource_version: String::new(),
        })
    }

    async fn publish(&self, kind: Kind, target: &Target, events: &[Event]) {
        for event in events {
            tracing::info!(
                kind = kind.name(),
                namespace = target.namespace,
                name = target.name,
                reason = event.reason,
                "{}",
                event.message
            );
            self.objects
                .event(kind, target, event.warning, &event.reason, &event.message)
                .await;
            self.objects
                .audit(kind, target, &event.reason, &event.message)
                .await;
            let above = event.for_owner.then(|| self.rollout_above(kind, target));
            if let Some(rollout) = above.flatten() {
                let (reason, message) = (&event.reason, &event.message);
                self.objects
                    .event(Kind::Rollout, &rollout, event.warning, reason, message)
                    .await;
            }
        }
    }

    fn forget(&self, subject: &Subject) {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(subject);
    }

    fn settle(&self, subject: &Subject, ended: Ended) -> Result<Option<Duration>, String> {
        let look_again = ended
            .look_again
            .map(|delay| Duration::try_from(delay).unwrap_or_default());
        let failed = ended.failed.clone();
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(subject.clone(), ended);
        match failed {
            // A failed pass keeps its timer, too: whichever comes first.
            Some(why) => {
                if let Some(delay) = look_again {
                    self.queue.add_after(subject.clone(), delay);
                }
                Err(why)
            }
            None => Ok(look_again),
        }
    }
}

/// Gives subjects out of the queue to tasks of their own, until the queue is closed.
pub(super) async fn work(context: Arc<Context>) {
    let mut tasks = JoinSet::new();
    loop {
        let subject = tokio::select! {
            subject = context.queue.next() => subject,
            Some(_) = tasks.join_next() => continue,
        };
        let Some(subject) = subject else { break };
        let context = Arc::clone(&context);
        tasks.spawn(async move {
            let outcome = guarded(context.look_after(&subject)).await;
            if let Err(why) = &outcome {
                tracing::warn!(subject = ?subject, "{why}");
            }
            if let Ok(Some(delay)) = &outcome {
                context.queue.add_after(subject.clone(), *delay);
            }
            context.queue.done(&subject, outcome.is_err());
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// What other tools wait for as the first word about a Rollout.
fn first_seen(target: &Target) -> Event {
    Event {
        warning: false,
        reason: "RolloutAddedToInformer".to_owned(),
        message: format!(
            "Rollout resource added to informer: {}/{}",
            target.namespace, target.name
        ),
        done: true,
        for_owner: false,
    }
}

/// A mistake of ours about one subject is a failure of that subject, to be tried again with growing delays, and of nothing else.
async fn guarded<T>(looking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let outcome = std::panic::AssertUnwindSafe(looking).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err("an assertion failed; this is a defect of crossfade".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[tokio::test]
    async fn a_panic_about_one_subject_is_a_failure_like_any_other() {
        assert_eq!(guarded(async { Ok(1) }).await, Ok(1));
        let panics = async {
            assert!(std::env::args().count() > 1000, "a mistake");
            Ok(1)
        };
        let failed = guarded(panics).await;
        assert!(failed.is_err_and(|why| why.contains("defect")));
    }
}
