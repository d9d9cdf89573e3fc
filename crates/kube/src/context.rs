//! What all subjects share, and who is looked at when something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crossfade_api::rollout_status::RolloutStatus;
use crossfade_engine::action::Target;
use crossfade_engine::analysis::world::Job;
use crossfade_engine::decision::Event;
use crossfade_engine::pass::Ended;
use crossfade_engine::rollout::world::{Peaks, ReplicaSet, Service};
use jiff::Timestamp;

use crate::cache::{Change, Key};
use crate::caches::{Caches, JobPod, ReadRollout, ReadRun, ReadTemplate, Routed, services_of};
use crate::events::Events;
use crate::kind::Kind;
use crate::measuring::Measuring;
use crate::metrics::Metrics;
use crate::own_writes::OwnWrites;
use crate::queue::{Priority, Queue};
use crate::referrers::Referrers;
use crate::requests::Requests;
use crate::settings::Settings;

/// Something that is looked after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Rollout(Key),
    AnalysisRun(Key),
    /// A Service that a Rollout has managed, or manages.
    Service(Key),
}

/// What all subjects share.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) requests: Requests,
    pub(crate) caches: Caches,
    pub(crate) events: Events,
    pub(crate) measuring: Measuring,
    pub(crate) own_writes: OwnWrites<Subject>,
    pub(crate) referrers: Referrers,
    pub(crate) routes: crate::routes::Watched,
    /// Rollouts and Services.
    pub(crate) releases: Queue<Subject>,
    /// AnalysisRuns: they wait for metric providers, and nothing else waits with them.
    pub(crate) runs: Queue<Subject>,
    pub(crate) metrics: Metrics,
    peaks: Mutex<BTreeMap<String, Peaks>>,
}

impl Context {
    pub(crate) fn new(
        settings: Settings,
        requests: Requests,
        events: Events,
        measuring: Measuring,
    ) -> Self {
        Self {
            settings,
            requests,
            caches: Caches::default(),
            events,
            measuring,
            own_writes: OwnWrites::default(),
            referrers: Referrers::default(),
            routes: crate::routes::Watched::default(),
            releases: Queue::new(),
            runs: Queue::new(),
            metrics: Metrics::default(),
            peaks: Mutex::default(),
        }
    }

    /// The queue in which a subject waits.
    pub(crate) fn queue(&self, subject: &Subject) -> &Queue<Subject> {
        match subject {
            Subject::Rollout(_) | Subject::Service(_) => &self.releases,
            Subject::AnalysisRun(_) => &self.runs,
        }
    }

    fn wake(&self, subject: Subject, priority: Priority) {
        self.queue(&subject).add(subject, priority);
    }

    /// A Rollout is looked at: first if it is to be taken back, then if a release is under way.
    pub(crate) fn wake_rollout(&self, key: Key) {
        let priority = match self.caches.rollouts.get(&key.0, &key.1) {
            Some(entry) => priority(&entry.view.rollout.status),
            None => Priority::Ordinary,
        };
        self.wake(Subject::Rollout(key), priority);
    }

    /// The Rollouts that name an object.
    pub(crate) fn wake_referrers(&self, kind: &Kind, key: &Key) {
        let any = (key.0.clone(), String::new());
        for key in [key.clone(), any] {
            for rollout in self.referrers.of(&(kind.clone(), key)) {
                self.wake_rollout(rollout);
            }
        }
    }

    /// Everything is looked at.
    pub(crate) fn wake_all(&self) {
        for key in self.caches.rollouts.keys() {
            self.wake_rollout(key);
        }
        for key in self.caches.runs.keys() {
            self.wake(Subject::AnalysisRun(key), Priority::Ordinary);
        }
        for key in self.caches.services.keys() {
            let service = self.caches.services.get(&key.0, &key.1);
            if service.is_some_and(|service| is_managed(&service.view)) {
                self.wake(Subject::Service(key), Priority::Ordinary);
            }
        }
    }

    pub(crate) fn rollout_changed(&self, change: &Change<ReadRollout>) {
        let Some(after) = &change.after else {
            let services = change
                .before
                .iter()
                .flat_map(|before| services_of(&before.view.rollout));
            for service in services {
                let key = (change.key.0.clone(), service);
                self.wake(Subject::Service(key), Priority::Ordinary);
            }
            if let Some(before) = &change.before {
                self.forget(&change.key, &before.uid);
            }
            return;
        };
        let fresh =
            |before: &ReadRollout| before.rollout.status.abort != after.view.rollout.status.abort;
        let aborted = after.view.rollout.status.abort
            && change
                .before
                .as_ref()
                .is_none_or(|before| fresh(&before.view));
        let priority = if aborted {
            Priority::Abort
        } else {
            priority(&after.view.rollout.status)
        };
        self.wake(Subject::Rollout(change.key.clone()), priority);
    }

    pub(crate) fn run_changed(&self, change: &Change<ReadRun>) {
        let told = |read: &ReadRun| {
            let run = &read.run;
            (
                run.status.phase,
                run.status.message.clone(),
                run.spec.terminate,
            )
        };
        let before = change.before.as_ref().map(|before| told(&before.view));
        let after = change.after.as_ref().map(|after| told(&after.view));
        if before != after
            && let Some(run) = change.after.as_ref().or(change.before.as_ref())
            && let Some(rollout) = controlling_rollout(&run.view, &change.key.0)
        {
            let bad = after.as_ref().is_some_and(|(phase, ..)| {
                use crossfade_api::analysis_run::AnalysisPhase::{Error, Failed, Inconclusive};
                matches!(phase, Failed | Error | Inconclusive)
            });
            if bad {
                self.wake(Subject::Rollout(rollout), Priority::Abort);
            } else {
                self.wake_rollout(rollout);
            }
        }
        let subject = Subject::AnalysisRun(change.key.clone());
        if change.after.is_some() {
            self.wake(subject, Priority::Release);
        } else {
            self.own_writes.forget(&subject);
            self.runs.forget(&subject);
            self.metrics.forget(&subject);
        }
    }

    pub(crate) fn replica_set_changed(&self, change: &Change<ReplicaSet>) {
        let namespace = &change.key.0;
        let owners: BTreeSet<&str> = [&change.before, &change.after]
            .into_iter()
            .flatten()
            .map(|entry| entry.view.controller.as_deref().unwrap_or_default())
            .collect();
        for owner in owners {
            if owner.is_empty() {
                // Whose it becomes shows when Rollouts are looked at.
                for (key, _) in self.caches.rollouts.of_namespace(namespace) {
                    self.wake_rollout(key);
                }
            } else if let Some(key) = self.rollout_of(namespace, owner) {
                self.wake_rollout(key);
            }
        }
    }

    /// The Rollout of this uid, if it is known.
    fn rollout_of(&self, namespace: &str, uid: &str) -> Option<Key> {
        self.caches
            .rollouts
            .owned(namespace, uid)
            .first()
            .map(|entry| {
                let rollout = &entry.view.rollout.metadata;
                (
                    namespace.to_owned(),
                    rollout.name.clone().unwrap_or_default(),
                )
            })
    }

    pub(crate) fn service_changed(&self, change: &Change<Service>) {
        self.wake_referrers(&Kind::Service, &change.key);
        let after = change.after.as_ref();
        if after.is_some_and(|after| is_managed(&after.view)) {
            let key = change.key.clone();
            self.wake(Subject::Service(key), Priority::Ordinary);
        }
    }

    pub(crate) fn template_changed(&self, kind: &Kind, change: &Change<ReadTemplate>) {
        self.wake_referrers(kind, &change.key);
    }

    pub(crate) fn job_changed(&self, change: &Change<Job>) {
        if let Some(job) = change.after.as_ref().or(change.before.as_ref()) {
            self.wake_run(&change.key.0, &job.view.run_uid);
        }
    }

    pub(crate) fn pod_changed(&self, change: &Change<JobPod>) {
        let blocked = |entry: &Option<Arc<crate::cache::Entry<JobPod>>>| {
            entry.as_ref().and_then(|entry| entry.view.blocked.clone())
        };
        if blocked(&change.before) == blocked(&change.after) {
            return;
        }
        if let Some(pod) = change.after.as_ref().or(change.before.as_ref()) {
            self.wake_run(&change.key.0, &pod.view.run_uid);
        }
    }

    fn wake_run(&self, namespace: &str, uid: &str) {
        for (key, run) in self.caches.runs.of_namespace(namespace) {
            if run.uid == uid {
                self.wake(Subject::AnalysisRun(key), Priority::Release);
            }
        }
    }

    pub(crate) fn routed_changed(&self, kind: &Kind, change: &Change<Routed>) {
        self.wake_referrers(kind, &change.key);
    }

    /// The most pods that a Rollout has had since its present step began.
    pub(crate) fn peaks(&self, uid: &str) -> Peaks {
        let peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        peaks.get(uid).cloned().unwrap_or_default()
    }

    /// Takes a recorded status into account for [`Context::peaks`].
    pub(crate) fn follow(&self, uid: &str, status: &RolloutStatus) {
        let mut peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        peaks.entry(uid.to_owned()).or_default().follow(status);
    }

    /// A Rollout is gone.
    fn forget(&self, key: &Key, uid: &str) {
        let subject = Subject::Rollout(key.clone());
        self.own_writes.forget(&subject);
        self.releases.forget(&subject);
        self.metrics.forget(&subject);
        self.referrers.set(key, BTreeSet::new());
        self.peaks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    /// Tells people about a Rollout or an AnalysisRun.
    pub(crate) fn tell(&self, kind: &Kind, target: &Target, events: Vec<Event>) {
        if *kind == Kind::Rollout {
            for event in &events {
                let metrics = &self.metrics;
                metrics.told(
                    &target.namespace,
                    &target.name,
                    event.warning,
                    &event.reason,
                );
            }
        }
        self.events.publish(kind, target, events, Timestamp::now());
    }

    /// What a pass has come to: when to look again, or why it failed.
    pub(crate) fn settle(
        &self,
        subject: &Subject,
        ended: Ended,
    ) -> Result<Option<std::time::Duration>, String> {
        let look_again = ended
            .look_again
            .map(|delay| std::time::Duration::try_from(delay).unwrap_or_default());
        match ended.failed {
            // A failed pass keeps its timer, too: whichever comes first.
            Some(why) => {
                if let Some(delay) = look_again {
                    self.queue(subject).add_after(subject.clone(), delay);
                }
                Err(why)
            }
            None => Ok(look_again),
        }
    }
}

/// A Rollout under way goes before one at rest.
fn priority(status: &RolloutStatus) -> Priority {
    if status.stable_rs == status.current_pod_hash && !status.stable_rs.is_empty() {
        Priority::Ordinary
    } else {
        Priority::Release
    }
}

/// A Rollout has put its version into the selector, or its name on it.
fn is_managed(service: &Service) -> bool {
    !service.selected().is_empty() || service.managed_by.is_some()
}

/// The Rollout that owns a run.
fn controlling_rollout(read: &ReadRun, namespace: &str) -> Option<Key> {
    let owners = read.run.metadata.owner_references.iter().flatten();
    let mut rollouts =
        owners.filter(|owner| owner.controller == Some(true) && owner.kind == "Rollout");
    let owner = rollouts.next()?;
    Some((namespace.to_owned(), owner.name.clone()))
}
