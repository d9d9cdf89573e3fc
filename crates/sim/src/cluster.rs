//! A cluster in virtual time: objects, pods that start and end, Jobs that run, metric servers that answer.
//!
//! Nothing happens by itself: [`Cluster::advance`] moves the clock to the next thing that is due and lets it happen, then subjects that
//! were woken have their passes, until all is quiet. One order, no threads; the same inputs give the same run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::{AnalysisRun, Resource as _, Rollout};
use crossfade_engine::action::{Split, Target};
use crossfade_engine::analysis::AnalysisRunSubject;
use crossfade_engine::analysis::world::Job;
use crossfade_engine::decision::Event;
use crossfade_engine::pass::{Need, Pass, Standing};
use crossfade_engine::rollout::RolloutSubject;
use crossfade_engine::rollout::world::{self as observed, Peaks, ReplicaSet, TemplateKey};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Long enough for the controller to look at everything that has happened.
const A_MOMENT: SignedDuration = SignedDuration::from_millis(60);

/// How long things take in this cluster.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// From a pod's creation to its readiness.
    pub start: SignedDuration,
    /// Pods become ready together at multiples of this.
    pub wave: SignedDuration,
    /// From a pod's deletion until it is gone.
    pub end: SignedDuration,
    /// How long a Job's pod runs once started.
    pub job: SignedDuration,
    /// How long the controller is busy with a Rollout; what happens meanwhile is looked at together.
    pub pass: SignedDuration,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            start: SignedDuration::from_millis(1200),
            wave: SignedDuration::from_millis(200),
            end: SignedDuration::from_millis(800),
            job: SignedDuration::from_millis(1500),
            pass: SignedDuration::ZERO,
        }
    }
}

/// A Service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    pub(crate) target: Target,
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) managed_by: Option<String>,
}

impl Service {
    /// The Service as decisions see it.
    pub(crate) fn observed(&self) -> observed::Service {
        observed::Service {
            target: self.target.clone(),
            selector: self.selector.clone(),
            managed_by: self.managed_by.clone(),
        }
    }
}

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) set: String,
    pub(crate) created: Timestamp,
    pub(crate) ready_since: Option<Timestamp>,
    pub(crate) deleting: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A ReplicaSet with its template, which decisions never see.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) view: ReplicaSet,
    pub(crate) template: Value,
}

/// Something that is due at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    PodReady(String),
    PodGone(String),
    Resize(String),
    JobEnds(String),
    Wake(Subject),
    ReleaseServices,
}

/// Something that has passes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    AnalysisRun(String),
    Rollout,
}

/// A count of ready pods that the Rollout's controller gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) ready: i64,
    /// It sees more happen before the next count.
    pub(crate) stands: bool,
}

/// What a metric server answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// `{"value": …}` with this number.
    Value(f64),
    /// This text.
    Text(String),
    /// Status 500.
    Down,
}

/// A namespace with one Rollout and everything around it.
pub struct Cluster {
    /// Now.
    pub now: Timestamp,
    life: Life,
    pub(crate) rollout: Option<Rollout>,
    pub(crate) version: u64,
    pub(crate) serial: u64,
    pub(crate) sets: BTreeMap<String, Set>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) references: BTreeMap<(String, String), Arc<Value>>,
    pub(crate) templates: BTreeMap<TemplateKey, Arc<AnalysisTemplateSpec>>,
    pub(crate) runs: BTreeMap<String, AnalysisRun>,
    pub(crate) jobs: BTreeMap<String, Job>,
    pub(crate) job_commands: BTreeMap<String, Value>,
    pub(crate) split: Option<Split>,
    pub(crate) metrics: BTreeMap<String, Answer>,
    pub(crate) peaks: Peaks,
    /// What ReplicaSets report where several pods become ready at once, by version and in order; any number, if it is not named.
    pub(crate) reports: BTreeMap<String, VecDeque<Report>>,
    busy_until: Timestamp,
    due: BTreeSet<(Timestamp, u64, Due)>,
    woken: BTreeSet<Subject>,
    /// All versions there ever were.
    pub versions: crate::visible::Versions,
    /// Everything told about objects, in order: kind/name, event.
    pub events: Vec<(String, Event)>,
    /// Called after every change of something that users see.
    pub(crate) seen: Vec<crate::visible::Visible>,
    /// Passes so far; a run away is noticed by it.
    pub passes: usize,
}

impl Cluster {
    /// An empty cluster.
    pub fn new(now: Timestamp, life: Life) -> Self {
        Self {
            now,
            life,
            rollout: None,
            version: 1,
            serial: 0,
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            services: BTreeMap::new(),
            references: BTreeMap::new(),
            templates: BTreeMap::new(),
            runs: BTreeMap::new(),
            jobs: BTreeMap::new(),
            job_commands: BTreeMap::new(),
            split: None,
            metrics: BTreeMap::new(),
            peaks: Peaks::default(),
            reports: BTreeMap::new(),
            busy_until: now,
            due: BTreeSet::new(),
            woken: BTreeSet::new(),
            versions: BTreeMap::new(),
            events: Vec::new(),
            seen: Vec::new(),
            passes: 0,
        }
    }

    pub(crate) fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    pub(crate) fn next_uid(&mut self) -> String {
        self.serial += 1;
        format!("00000000-0000-0000-0000-{:012}", self.serial)
    }

    /// The Rollout.
    pub fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref()
    }

    /// Puts an object into the cluster, or replaces it, as a user's apply would. What is not known here is ignored.
    pub fn apply(&mut self, object: &Value) {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let name = text("/metadata/name");
        match text("/kind").as_str() {
            "Rollout" => self.apply_rollout(object),
            "Service" => {
                let target = Target {
                    name: name.clone(),
                    uid: self.next_uid(),
                    resource_version: self.next_version(),
                    ..Target::default()
                };
                let selector = crate::observe::texts(object, "/spec/selector");
                self.services.insert(
                    name,
                    Service {
                        target,
                        selector,
                        managed_by: None,
                    },
                );
            }
            "AnalysisTemplate" => {
                let spec = crossfade_api::AnalysisTemplate::from_json(object.clone())
                    .0
                    .spec;
                self.templates.insert(
                    TemplateKey {
                        cluster_scope: false,
                        name,
                    },
                    Arc::new(spec),
                );
            }
            "ClusterAnalysisTemplate" => {
                let spec = crossfade_api::AnalysisTemplate::from_json(object.clone())
                    .0
                    .spec;
                self.templates.insert(
                    TemplateKey {
                        cluster_scope: true,
                        name,
                    },
                    Arc::new(spec),
                );
            }
            kind => {
                self.references
                    .insert((kind.to_owned(), name), Arc::new(object.clone()));
            }
        }
        self.wake(Subject::Rollout);
    }

    fn apply_rollout(&mut self, object: &Value) {
        let (mut rollout, _) = Rollout::from_json(object.clone());
        let version = self.next_version();
        if let Some(old) = &self.rollout {
            rollout.metadata = old.metadata.clone();
            rollout.status = old.status.clone();
            if rollout.spec != old.spec {
                let generation = old.metadata.generation;
                rollout.metadata.generation = generation.map(|generation| generation + 1);
            }
        } else {
            rollout.metadata.uid = Some(self.next_uid());
            rollout.metadata.generation = Some(1);
            let (namespace, name) = (rollout.namespace(), rollout.name());
            let event = Event {
                warning: false,
                reason: "RolloutAddedToInformer".to_owned(),
                message: format!("Rollout resource added to informer: {namespace}/{name}"),
            };
            self.tell(format!("Rollout/{name}"), event);
        }
        rollout.metadata.resource_version = Some(version);
        self.rollout = Some(rollout);
        self.see();
    }

    /// Merges a change into the Rollout's JSON, spec and status, as a user's patch would.
    pub fn patch_rollout(&mut self, patch: &Value) {
        let Some(rollout) = &self.rollout else { return };
        let mut json = rollout.to_json();
        crossfade_api::merge_patch::apply(&mut json, patch);
        let (mut changed, _) = Rollout::from_json(json);
        if changed.spec != rollout.spec {
            changed.metadata.generation =
                rollout.metadata.generation.map(|generation| generation + 1);
        }
        changed.metadata.resource_version = Some(self.next_version());
        self.rollout = Some(changed);
        self.see();
        // The controller of Services acts a moment later.
        self.schedule(SignedDuration::from_millis(1), Due::ReleaseServices);
        self.wake(Subject::Rollout);
    }

    /// Lets go of Services that the Rollout names no more.
    fn release_services(&mut self) {
        let observed = self.services.values().map(Service::observed);
        let actions: Vec<_> = observed
            .filter_map(|service| crossfade_engine::rollout::release(&service, &self.rollout))
            .collect();
        for action in actions {
            // It cannot fail here.
            drop(self.perform(&action));
        }
    }

    /// What a metric server answers from now on.
    pub fn answer(&mut self, name: &str, answer: Answer) {
        self.metrics.insert(name.to_owned(), answer);
    }

    pub(crate) fn tell(&mut self, object: String, event: Event) {
        self.events.push((object, event));
    }

    pub(crate) fn wake(&mut self, subject: Subject) {
        self.woken.insert(subject);
    }

    pub(crate) fn schedule(&mut self, delay: SignedDuration, due: Due) {
        self.serial += 1;
        let at = self.now.saturating_add(delay).unwrap_or(Timestamp::MAX);
        self.due.insert((at, self.serial, due));
    }

    /// Gives a ReplicaSet the pods it wants, and its counts.
    pub(crate) fn reconcile_set(&mut self, name: &str) {
        let Some(set) = self.sets.get(name) else {
            return;
        };
        let wanted = set.view.replicas;
        let min_ready = SignedDuration::from_secs(i64::from(set.view.min_ready_seconds));
        let template: PodTemplate = set.template.clone().into();
        let own: Vec<&Pod> = self
            .pods
            .values()
            .filter(|pod| pod.set == name && !pod.deleting)
            .collect();
        let missing = wanted - i32::try_from(own.len()).unwrap_or(i32::MAX);
        if missing > 0 {
            let never_starts = template.containers().any(|container| {
                container
                    .get("image")
                    .and_then(Value::as_str)
                    .is_some_and(|image| image.contains("does-not-exist"))
            });
            for _ in 0..missing {
                self.serial += 1;
                let pod = format!("{name}-{}", self.serial);
                let owned = |map: BTreeMap<&str, &str>| {
                    map.into_iter()
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .collect()
                };
                self.pods.insert(
                    pod.clone(),
                    Pod {
                        name: pod.clone(),
                        set: name.to_owned(),
                        created: self.now,
                        ready_since: None,
                        deleting: false,
                        labels: owned(template.labels()),
                        annotations: owned(template.annotations()),
                    },
                );
                if !never_starts {
                    self.schedule(self.until_ready(), Due::PodReady(pod));
                }
            }
        } else if missing < 0 {
            let mut by_worth: Vec<(bool, std::cmp::Reverse<Timestamp>, String)> = own
                .iter()
                .map(|pod| {
                    (
                        pod.ready_since.is_some(),
                        std::cmp::Reverse(pod.created),
                        pod.name.clone(),
                    )
                })
                .collect();
            by_worth.sort();
            for (_, _, pod) in by_worth.into_iter().take(missing.unsigned_abs() as usize) {
                self.end_pod(&pod);
            }
        }
        let alive = self
            .pods
            .values()
            .filter(|pod| pod.set == name && !pod.deleting);
        let (mut current, mut ready, mut available) = (0, 0, 0);
        for pod in alive {
            current += 1;
            if let Some(since) = pod.ready_since {
                ready += 1;
                available += i32::from(
                    since.saturating_add(min_ready).unwrap_or(Timestamp::MAX) <= self.now,
                );
            }
        }
        let version = self.next_version();
        if let Some(set) = self.sets.get_mut(name) {
            let view = &mut set.view;
            if (view.current, view.ready, view.available, view.observed)
                != (current, ready, available, true)
            {
                (view.current, view.ready, view.available, view.observed) =
                    (current, ready, available, true);
                view.target.resource_version = version;
                self.wake(Subject::Rollout);
            }
        }
    }

    /// Time until a pod that is created now is ready. Pods come in waves, because whoever starts them looks around every so often.
    fn until_ready(&self) -> SignedDuration {
        let ready = self.now.as_millisecond() + self.life.start.as_millis() as i64;
        let wave = self.life.wave.as_millis() as i64;
        let at = (ready + wave - 1).div_euclid(wave) * wave;
        SignedDuration::from_millis(at - self.now.as_millisecond())
    }

    pub(crate) fn end_pod(&mut self, name: &str) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.deleting = true;
            self.schedule(self.life.end, Due::PodGone(name.to_owned()));
        }
    }

    pub(crate) fn job_starts(&mut self, name: &str) {
        self.schedule(self.life.job, Due::JobEnds(name.to_owned()));
    }

    /// Lets everything happen that is due until a time, passes included.
    pub fn advance(&mut self, until: Timestamp) {
        loop {
            self.settle();
            let Some((at, serial, due)) = self.due.first().cloned() else {
                break;
            };
            if at > until {
                break;
            }
            self.due.remove(&(at, serial, due.clone()));
            self.now = self.now.max(at);
            self.happen(due);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::PodReady(name) => {
                let set = self
                    .pods
                    .get_mut(&name)
                    .filter(|pod| !pod.deleting)
                    .map(|pod| {
                        pod.ready_since = Some(self.now);
                        pod.set.clone()
                    });
                if let Some(set) = set {
                    let min_ready = self
                        .sets
                        .get(&set)
                        .map_or(0, |set| set.view.min_ready_seconds);
                    if min_ready > 0 {
                        self.schedule(
                            SignedDuration::from_secs(i64::from(min_ready)),
                            Due::PodReady(name),
                        );
                    }
                    if self.reports_now(&set) {
                        self.reconcile_set(&set);
                    }
                }
            }
            Due::PodGone(name) => {
                if let Some(pod) = self.pods.remove(&name) {
                    self.reconcile_set(&pod.set);
                }
            }
            Due::Resize(set) => self.reconcile_set(&set),
            Due::JobEnds(name) => {
                let fails = self
                    .job_commands
                    .get(&name)
                    .is_some_and(crate::perform::command_fails);
                if let Some(job) = self.jobs.get_mut(&name) {
                    job.complete = !fails;
                    job.failed = fails;
                    let run = self
                        .runs
                        .values()
                        .find(|run| run.metadata.uid.as_ref() == Some(&job.run_uid))
                        .map(|run| run.name().to_owned());
                    if let Some(run) = run {
                        self.wake(Subject::AnalysisRun(run));
                    }
                }
            }
            Due::Wake(subject) => self.wake(subject),
            Due::ReleaseServices => self.release_services(),
        }
    }

    /// Whether a ReplicaSet reports a pod that has become ready before the next one does, which is due at the same time.
    fn reports_now(&mut self, set: &str) -> bool {
        let of_set = |pod: &&Pod| pod.set == set && !pod.deleting;
        let pods = self.pods.values().filter(of_set);
        let ready = pods.filter(|pod| pod.ready_since.is_some()).count();
        let ready = i64::try_from(ready).unwrap_or(i64::MAX);
        let at_once = self.due.iter().take_while(|(at, ..)| *at <= self.now);
        let is_of_set = |(_, _, due): &&(Timestamp, u64, Due)| matches!(due, Due::PodReady(pod) if self.pods.get(pod).as_ref().is_some_and(of_set));
        let others: Vec<_> = at_once.filter(is_of_set).cloned().collect();
        let view = self.sets.get(set).map(|set| set.view.hash());
        let version = view.and_then(|hash| self.versions.get(hash));
        let Some(reports) = version.and_then(|version| self.reports.get_mut(version)) else {
            return true;
        };
        let next = reports.iter().position(|report| report.ready >= ready);
        let Some(next) = next.filter(|next| reports[*next].ready == ready) else {
            return others.is_empty();
        };
        let report = reports.drain(..=next).next_back();
        if report.is_some_and(|report| report.stands) {
            for (at, serial, due) in others {
                self.due.remove(&(at, serial, due.clone()));
                self.due.insert((at + A_MOMENT, serial, due));
            }
        }
        true
    }

    /// Passes for every subject that was woken, until all is quiet.
    fn settle(&mut self) {
        let mut rounds = 0;
        while let Some(subject) = self.woken.pop_first() {
            rounds += 1;
            assert!(
                rounds < 10_000,
                "the cluster does not come to rest at {}: {:?}",
                self.now,
                self.rollout.as_ref().map(|rollout| &rollout.status)
            );
            if subject == Subject::Rollout && self.now < self.busy_until {
                let rest = self.now.duration_until(self.busy_until);
                self.schedule(rest, Due::Wake(subject));
                continue;
            }
            self.passes += 1;
            match subject {
                Subject::Rollout => {
                    self.busy_until = self.now + self.life.pass;
                    self.rollout_pass();
                }
                Subject::AnalysisRun(name) => self.run_pass(&name),
            }
        }
    }

    fn rollout_pass(&mut self) {
        let Some(world) = self.observe_rollout() else {
            return;
        };
        let name = world.rollout.name().to_owned();
        let mut pass = Pass::<RolloutSubject>::start(world, Standing::Sound, self.now);
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let outcomes = actions.iter().map(|action| self.perform(action)).collect();
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    if let Some(status) = status {
                        let version = self.next_version();
                        if let Some(rollout) = &mut self.rollout {
                            rollout.status = status;
                            rollout.metadata.resource_version = Some(version);
                            self.peaks.follow(&rollout.status);
                        }
                        self.see();
                        self.wake(Subject::Rollout);
                    }
                    for event in events {
                        self.tell(format!("Rollout/{name}"), event);
                    }
                    pass.recorded(Ok(()));
                }
            }
        }
        let ended = pass.ended();
        if ended.failed.is_some() {
            self.schedule(SignedDuration::from_secs(1), Due::Wake(Subject::Rollout));
        }
        if let Some(delay) = ended.look_again {
            self.schedule(
                delay.max(SignedDuration::from_millis(1)),
                Due::Wake(Subject::Rollout),
            );
        }
    }

    fn run_pass(&mut self, name: &str) {
        let Some(world) = self.observe_run(name) else {
            return;
        };
        let mut pass = Pass::<AnalysisRunSubject>::start(world, Standing::Sound, self.now);
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let outcomes = actions.iter().map(|action| self.perform(action)).collect();
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    if let Some(status) = status {
                        let version = self.next_version();
                        let mut turned = false;
                        if let Some(run) = self.runs.get_mut(name) {
                            turned = run.status.phase != status.phase;
                            run.status = status;
                            run.metadata.resource_version = Some(version);
                        }
                        self.see();
                        self.wake(Subject::AnalysisRun(name.to_owned()));
                        if turned {
                            self.wake(Subject::Rollout);
                        }
                    }
                    for event in events {
                        self.tell(format!("AnalysisRun/{name}"), event);
                    }
                    pass.recorded(Ok(()));
                }
            }
        }
        let ended = pass.ended();
        if let Some(delay) = ended.look_again {
            self.schedule(
                delay.max(SignedDuration::from_millis(1)),
                Due::Wake(Subject::AnalysisRun(name.to_owned())),
            );
        }
    }

    /// Takes note of what users see now.
    pub(crate) fn see(&mut self) {
        let visible = crate::visible::Visible::of(self);
        self.seen.push(visible);
    }
}
