//! What all subjects share, and who is looked at when something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crossfade_api::analysis_run::AnalysisRunStatus;
use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::{AnalysisRun, Experiment, ObjectMeta, Resource as _, Rollout};
use crossfade_engine::action::Target;
use crossfade_engine::analysis::world::Job;
use crossfade_engine::decision::Event;
use crossfade_engine::pass::{Ended, Standing};
use crossfade_engine::rollout::world::{Peaks, ReplicaSet};
use jiff::Timestamp;
use serde_json::Value;

use crate::cache::{Change, Key};
use crate::caches::{
    Caches, JobPod, ReadExperiment, ReadRollout, ReadRun, ReadService, Routed, services_of,
};
use crate::canaries::{ReadCanary, Tongues};
use crate::canary_metrics::CanaryMetrics;
use crate::events::Events;
use crate::kind::Kind;
use crate::measuring::Measuring;
use crate::metrics::Metrics;
use crate::object::Object;
use crate::own_writes::OwnWrites;
use crate::queue::{Priority, Queue};
use crate::referrers::{Named, Referrers};
use crate::requests::Requests;
use crate::settings::Settings;
use crate::traces::Traces;
use crate::verdicts::Recording;

/// Something that is looked after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Rollout(Key),
    AnalysisRun(Key),
    Experiment(Key),
    Canary(Key),
    /// A Service that a Rollout has managed, or manages.
    Service(Key),
    /// A router's object that names the Rollout that manages it.
    Routed(Kind, Key),
}

/// What all subjects share.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) requests: Requests,
    pub(crate) caches: Caches,
    pub(crate) events: Events,
    pub(crate) traces: Traces,
    pub(crate) measuring: Measuring,
    pub(crate) own_writes: OwnWrites<Subject>,
    pub(crate) referrers: Referrers,
    pub(crate) routes: crate::routes::Watched,
    pub(crate) workloads: crate::workloads::Workloads,
    /// Rollouts, Experiments and Services.
    pub(crate) releases: Queue<Subject>,
    /// AnalysisRuns and Canaries: they wait for metric providers and webhooks, and nothing else waits with them.
    pub(crate) runs: Queue<Subject>,
    pub(crate) metrics: Metrics,
    pub(crate) stuck: crate::stuck::Told,
    pub(crate) lagging: crate::counts::Lagging,
    pub(crate) canary_settings: Arc<crossfade_engine::canary::world::Settings>,
    pub(crate) canary_metrics: CanaryMetrics,
    pub(crate) looks: crate::canaries::Looks,
    pub(crate) verdicts: crate::verdicts::Verdicts,
    pub(crate) tongues: Tongues,
    peaks: Mutex<BTreeMap<String, Peaks>>,
}

impl Context {
    pub(crate) fn new(
        settings: Settings,
        requests: Requests,
        events: Events,
        traces: Traces,
        measuring: Measuring,
        tongues: Tongues,
    ) -> Self {
        Self {
            metrics: Metrics::new(settings.metrics_by_object),
            canary_settings: Arc::new(settings.canaries.clone()),
            canary_metrics: CanaryMetrics::default(),
            looks: crate::canaries::Looks::default(),
            verdicts: crate::verdicts::Verdicts::default(),
            tongues,
            settings,
            requests,
            caches: Caches::default(),
            events,
            traces,
            measuring,
            own_writes: OwnWrites::default(),
            referrers: Referrers::default(),
            routes: crate::routes::Watched::default(),
            workloads: crate::workloads::Workloads::default(),
            releases: Queue::new(crate::workqueue::name),
            runs: Queue::new(crate::workqueue::name),
            stuck: crate::stuck::Told::default(),
            lagging: crate::counts::Lagging::default(),
            peaks: Mutex::default(),
        }
    }

    /// The queue in which a subject waits.
    pub(crate) fn queue(&self, subject: &Subject) -> &Queue<Subject> {
        match subject {
            Subject::Rollout(_)
            | Subject::Experiment(_)
            | Subject::Service(_)
            | Subject::Routed(..) => &self.releases,
            Subject::AnalysisRun(_) | Subject::Canary(_) => &self.runs,
        }
    }

    fn wake(&self, subject: Subject, priority: Priority) {
        if self.is_ours(&subject) {
            self.queue(&subject).add(subject, priority);
        }
    }

    /// Whether this controller, and no other one, looks after a subject.
    pub(crate) fn is_ours(&self, subject: &Subject) -> bool {
        self.settings.shard.is_none_or(|shard| {
            let (namespace, name) = self.root(subject);
            shard.has(&namespace, &name)
        })
    }

    /// The object at the top of those that own a subject.
    fn root(&self, subject: &Subject) -> Key {
        let owner = match subject {
            Subject::AnalysisRun((namespace, name)) => {
                let run = self.caches.runs.get(namespace, name);
                run.and_then(|run| controller_of(&run.view.run.metadata))
            }
            Subject::Experiment((namespace, name)) => {
                let found = self.caches.experiments.get(namespace, name);
                found.and_then(|found| controller_of(&found.view.experiment.metadata))
            }
            Subject::Rollout(_)
            | Subject::Canary(_)
            | Subject::Service(_)
            | Subject::Routed(..) => None,
        };
        match (owner, subject) {
            (Some((owner, _)), _) => self.root(&owner),
            (
                None,
                Subject::Rollout(key)
                | Subject::AnalysisRun(key)
                | Subject::Experiment(key)
                | Subject::Canary(key)
                | Subject::Service(key)
                | Subject::Routed(_, key),
            ) => key.clone(),
        }
    }

    /// A subject is looked at, as soon as is due to it.
    pub(crate) fn wake_subject(&self, subject: Subject) {
        match subject {
            Subject::Rollout(key) => self.wake_rollout(key),
            Subject::AnalysisRun(_) | Subject::Experiment(_) => {
                self.wake(subject, Priority::Release);
            }
            Subject::Canary(_) | Subject::Service(_) | Subject::Routed(..) => {
                self.wake(subject, Priority::Ordinary);
            }
        }
    }

    /// A Rollout is looked at: first if it is to be taken back, then if a release is under way.
    pub(crate) fn wake_rollout(&self, key: Key) {
        let priority = match self.caches.rollouts.get(&key.0, &key.1) {
            Some(entry) => priority(&entry.view.rollout.status),
            None => Priority::Ordinary,
        };
        self.wake(Subject::Rollout(key), priority);
    }

    /// Whoever names an object.
    pub(crate) fn wake_referrers(&self, kind: &Kind, key: &Key) {
        let any = (key.0.clone(), String::new());
        for key in [key.clone(), any] {
            for subject in self.referrers.of(&(kind.clone(), key)) {
                self.wake_subject(subject);
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
        for key in self.caches.experiments.keys() {
            self.wake(Subject::Experiment(key), Priority::Ordinary);
        }
        for key in self.caches.canaries.keys() {
            self.wake(Subject::Canary(key), Priority::Ordinary);
        }
        for key in self.caches.services.keys() {
            let service = self.caches.services.get(&key.0, &key.1);
            if service.is_some_and(|service| service.view.is_managed()) {
                self.wake(Subject::Service(key), Priority::Ordinary);
            }
        }
    }

    /// An object is as the API server has answered to a write: nobody waits for a watch to show the same.
    pub(crate) fn answered(&self, kind: &Kind, json: Value) {
        let object = Object::new(json);
        let caches = &self.caches;
        match kind {
            Kind::Rollout => {
                let change = caches.rollouts.answered(object);
                if let Some(change) = change {
                    self.rollout_changed(&change);
                }
            }
            Kind::AnalysisRun => {
                let change = caches.runs.answered(object);
                if let Some(change) = change {
                    self.run_changed(&change);
                }
            }
            Kind::Experiment => {
                let change = caches.experiments.answered(object);
                if let Some(change) = change {
                    self.experiment_changed(&change);
                }
            }
            Kind::ReplicaSet => {
                let change = caches.replica_sets.answered(object);
                if let Some(change) = change {
                    self.replica_set_changed(&change);
                }
            }
            Kind::Service => {
                let change = caches.services.answered(object);
                if let Some(change) = change {
                    self.service_changed(&change);
                }
            }
            Kind::Canary => {
                let change = caches.canaries.answered(object);
                if let Some(change) = change {
                    self.canary_changed(&change);
                }
            }
            Kind::ConfigMap | Kind::Secret => drop(caches.configs(kind).answered(object)),
            Kind::Routed(_) => {
                let change = caches.routed(kind).answered(object);
                if let Some(change) = change {
                    self.routed_changed(kind, &change);
                }
            }
            _ => {}
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
        if let Some(before) = &change.before {
            let now = change.after.as_ref().map(|after| &*after.view.run);
            self.verdicts.forget_before(&before.uid, now);
        }
        if before != after
            && let Some(run) = change.after.as_ref().or(change.before.as_ref())
            && let Some((owner, _)) = controller_of(&run.view.run.metadata)
        {
            let bad = after
                .as_ref()
                .is_some_and(|(phase, ..)| crate::runs::is_bad(*phase));
            if bad {
                self.wake(owner, Priority::Abort);
            } else {
                self.wake_subject(owner);
            }
        }
        self.wake_or_forget(
            Subject::AnalysisRun(change.key.clone()),
            change.after.is_some(),
        );
    }

    /// A run ends badly, as will be recorded: whoever owns it is looked at first.
    pub(crate) fn verdict(&self, run: &AnalysisRun, status: AnalysisRunStatus) -> Recording {
        let recording = self.verdicts.reached(run, status);
        if let Some((owner @ Subject::Rollout(_), _)) = controller_of(&run.metadata) {
            self.wake(owner, Priority::Abort);
        }
        recording
    }

    pub(crate) fn experiment_changed(&self, change: &Change<ReadExperiment>) {
        let told = |read: &ReadExperiment| {
            let experiment = &read.experiment;
            (experiment.status.clone(), experiment.spec.terminate)
        };
        let before = change.before.as_ref().map(|before| told(&before.view));
        let after = change.after.as_ref().map(|after| told(&after.view));
        if before != after
            && let Some(known) = change.after.as_ref().or(change.before.as_ref())
            && let Some((owner, _)) = controller_of(&known.view.experiment.metadata)
        {
            self.wake_subject(owner);
        }
        self.wake_or_forget(
            Subject::Experiment(change.key.clone()),
            change.after.is_some(),
        );
    }

    pub(crate) fn canary_changed(&self, change: &Change<ReadCanary>) {
        let subject = Subject::Canary(change.key.clone());
        match (&change.before, &change.after) {
            (Some(before), None) => {
                self.looks.forget(&before.uid);
                self.canary_metrics.forget(&before.view.canary);
                self.wake_or_forget(subject, false);
            }
            (Some(before), Some(after)) if !after.view.differs(&before.view) => {}
            (_, Some(_)) => self.wake_subject(subject),
            (None, None) => {}
        }
    }

    /// A subject has changed, or is gone.
    fn wake_or_forget(&self, subject: Subject, is_there: bool) {
        if is_there {
            self.wake_subject(subject);
            return;
        }
        self.own_writes.forget(&subject);
        self.stuck.forget(&subject);
        self.queue(&subject).forget(&subject);
        self.metrics.forget(&subject);
        self.names(&subject, BTreeSet::new());
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
            } else if let Some(subject) = self.subject_of(namespace, owner) {
                self.wake_subject(subject);
            }
        }
    }

    /// The Rollout or the Experiment of this uid, if it is known.
    fn subject_of(&self, namespace: &str, uid: &str) -> Option<Subject> {
        let key = |name: &str| (namespace.to_owned(), name.to_owned());
        let rollouts = self.caches.rollouts.owned(namespace, uid);
        if let Some(entry) = rollouts.first() {
            return Some(Subject::Rollout(key(entry.view.rollout.name())));
        }
        let found = self.caches.experiments.owned(namespace, uid);
        let experiment = found.iter().find(|entry| entry.uid == uid)?;
        Some(Subject::Experiment(key(experiment.view.experiment.name())))
    }

    pub(crate) fn service_changed(&self, change: &Change<ReadService>) {
        self.wake_referrers(&Kind::Service, &change.key);
        let after = change.after.as_ref();
        if after.is_some_and(|after| after.view.is_managed()) {
            let key = change.key.clone();
            self.wake(Subject::Service(key), Priority::Ordinary);
        }
        let known = after.or(change.before.as_ref());
        let own = known.and_then(|known| known.view.of_experiment.as_ref());
        if let Some(owner) = own.and_then(|own| own.controller.as_deref())
            && let Some(subject) = self.subject_of(&change.key.0, owner)
        {
            self.wake_subject(subject);
        }
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
        let runs = self.caches.runs.owned(namespace, uid);
        if let Some(run) = runs.iter().find(|run| run.uid == uid) {
            let key = (namespace.to_owned(), run.view.run.name().to_owned());
            self.wake(Subject::AnalysisRun(key), Priority::Release);
        }
    }

    /// From now on a subject names these objects; those that it has let go are looked at.
    pub(crate) fn names(&self, subject: &Subject, names: BTreeSet<Named>) {
        for (kind, key) in self.referrers.set(subject, names) {
            match kind {
                Kind::Service => self.wake_subject(Subject::Service(key)),
                Kind::Routed(_) => self.wake_subject(Subject::Routed(kind, key)),
                _ => {}
            }
        }
    }

    /// Something that only some subjects name has changed.
    pub(crate) fn named_changed<T>(&self, kind: &Kind, change: &Change<T>) {
        self.wake_referrers(kind, &change.key);
    }

    /// An object of a router has changed.
    pub(crate) fn routed_changed(&self, kind: &Kind, change: &Change<Routed>) {
        self.wake_referrers(kind, &change.key);
        let after = change.after.as_ref();
        if after.is_some_and(|after| after.view.manager().is_some()) {
            self.wake_subject(Subject::Routed(kind.clone(), change.key.clone()));
        }
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
        self.wake_or_forget(Subject::Rollout(key.clone()), false);
        self.workloads.forget(key);
        self.lagging.forget(uid);
        self.peaks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    /// Whether a subject may be decided on: only when its caches show all that was written for it.
    pub(crate) fn standing(&self, subject: &Subject) -> Standing {
        match self.own_writes.unseen(&self.caches, subject) {
            Some(unseen) => {
                tracing::debug!(?subject, "waits to see its own write of {unseen}");
                Standing::Stale
            }
            None => Standing::Sound,
        }
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

/// Who controls an object, if it is a Rollout or an Experiment; and which object that is.
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<(Subject, Target)> {
    let mut owners = metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    let target = Target {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        resource_version: String::new(),
    };
    let key = (target.namespace.clone(), target.name.clone());
    let subject = match owner.kind.as_str() {
        Rollout::KIND => Subject::Rollout(key),
        Experiment::KIND => Subject::Experiment(key),
        _ => return None,
    };
    Some((subject, target))
}
