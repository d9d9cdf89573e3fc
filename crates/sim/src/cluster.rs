//! A cluster in virtual time: objects, pods that start and end, Jobs that run, metric servers that answer.
//!
//! Nothing happens by itself: [`Cluster::advance`] moves the clock to the next thing that is due and lets it happen, then subjects that
//! were woken have their passes, until all is quiet. One order, no threads; the same inputs give the same run.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::{AnalysisRun, Experiment, Resource as _, Rollout};
use crossfade_engine::action::{Split, Target};
use crossfade_engine::analysis::world::Job;
use crossfade_engine::decision::Event;
use crossfade_engine::rollout::world::{self as observed, ReplicaSet, TemplateKey};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::observe::View;
use crate::passes::Controller;
use crate::scenario::Version;
use crate::script::Script;
use crate::strike::Pending;
use crate::watch::{Watch, What};

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
    /// Uid of the Experiment that made it.
    pub(crate) controller: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
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
    pub(crate) version: Version,
}

/// Something that is due at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    PodReady(String),
    PodCounts(String),
    PodGone(String),
    Resize(String),
    JobEnds(String),
    PodCrashes(String, u8),
    PodBack(String, u8),
    Wake(Subject),
    ReleaseServices,
    Notice(Subject),
    /// The happening of this index.
    Act(usize),
    /// The fault of this index.
    Fault(usize),
    /// The controller is no longer busy.
    Free,
    FormerLeader(u64),
    /// What the controller sees is no longer old.
    CatchesUp,
    ServiceBack(String),
    /// The garbage collector looks around.
    Collect,
    /// The Rollout is applied again.
    Return,
}

/// Something that has passes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    AnalysisRun(String),
    Experiment(String),
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

/// Templates that are kept once they were read.
const TEMPLATES_KEPT: usize = 256;

thread_local! {
    /// Templates that were read on this thread. Scenarios have few, and each is read in thousands of them.
    static READ: RefCell<HashMap<Value, Arc<AnalysisTemplateSpec>>> = RefCell::default();
}

/// What an AnalysisTemplate says.
fn read_template(object: &Value) -> Arc<AnalysisTemplateSpec> {
    READ.with_borrow_mut(|read| {
        if let Some(spec) = read.get(object) {
            return Arc::clone(spec);
        }
        let (template, _) = crossfade_api::AnalysisTemplate::from_json(object.clone());
        let spec = Arc::new(template.spec);
        if read.len() < TEMPLATES_KEPT {
            read.insert(object.clone(), Arc::clone(&spec));
        }
        spec
    })
}

/// A namespace with one Rollout and everything around it.
pub struct Cluster {
    /// Now.
    pub now: Timestamp,
    life: Life,
    pub(crate) rollout: Option<Arc<Rollout>>,
    /// It and everything around it, as the last pass over it was to see it.
    pub(crate) view: View,
    /// Rises with every change of a Service, a template or a router's object.
    pub(crate) references_version: u64,
    pub(crate) version: u64,
    pub(crate) serial: u64,
    pub(crate) sets: BTreeMap<String, Set>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) references: BTreeMap<(String, String), Arc<Value>>,
    pub(crate) templates: BTreeMap<TemplateKey, Arc<AnalysisTemplateSpec>>,
    pub(crate) runs: BTreeMap<String, Arc<AnalysisRun>>,
    pub(crate) experiments: BTreeMap<String, Arc<Experiment>>,
    pub(crate) jobs: BTreeMap<String, Job>,
    pub(crate) job_commands: BTreeMap<String, Value>,
    pub(crate) split: Option<Split>,
    /// Rises with every change of the split, and when it last did.
    pub(crate) routes: (u64, Timestamp),
    pub(crate) metrics: BTreeMap<String, Answer>,
    pub(crate) controller: Controller,
    /// resourceVersion of the Rollout after a write of the pass under way.
    pub(crate) wrote_rollout: Option<String>,
    /// How everything behaves, beyond what [`Life`] says.
    pub(crate) script: Option<Box<Script>>,
    /// A fault that waits for its moment, where no script has any.
    pub(crate) strike: Option<Pending>,
    watcher: Option<Box<dyn Watch>>,
    /// Nothing more happens.
    pub ended: bool,
    /// This one's passes went on without end.
    pub(crate) restless: Option<Subject>,
    due: BTreeSet<(Timestamp, u64, Due)>,
    pub(crate) woken: BTreeSet<Subject>,
    noticed: BTreeSet<Subject>,
    /// What ReplicaSets report where several pods become ready at once, by version and in order; any number, if it is not named.
    pub(crate) reports: BTreeMap<String, VecDeque<Report>>,
    busy_until: Timestamp,
    /// All versions there ever were.
    pub versions: crate::visible::Versions,
    /// Everything told about objects, in order: kind/name, event.
    pub events: Vec<(String, Event)>,
    /// Called after every change of something that users see.
    pub(crate) seen: Vec<crate::visible::Visible>,
    /// Passes so far; a run away is noticed by it.
    pub passes: usize,
    /// Passes and late acts of former leaders so far: what is remembered of one of them holds for no other.
    pub(crate) turns: usize,
    /// What happens now is done by a controller that leads no longer.
    pub(crate) acts_late: bool,
}

impl Cluster {
    /// An empty cluster.
    pub fn new(now: Timestamp, life: Life) -> Self {
        Self {
            now,
            life,
            rollout: None,
            view: View::default(),
            references_version: 0,
            version: 1,
            serial: 0,
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            services: BTreeMap::new(),
            references: BTreeMap::new(),
            templates: BTreeMap::new(),
            runs: BTreeMap::new(),
            experiments: BTreeMap::new(),
            jobs: BTreeMap::new(),
            job_commands: BTreeMap::new(),
            split: None,
            routes: (0, now),
            metrics: BTreeMap::new(),
            controller: Controller::default(),
            wrote_rollout: None,
            script: None,
            strike: None,
            watcher: None,
            ended: false,
            restless: None,
            due: BTreeSet::new(),
            woken: BTreeSet::new(),
            noticed: BTreeSet::new(),
            reports: BTreeMap::new(),
            busy_until: now,
            versions: BTreeMap::new(),
            events: Vec::new(),
            seen: Vec::new(),
            passes: 0,
            turns: 0,
            acts_late: false,
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
        self.rollout.as_deref()
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
        self.references_version += 1;
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
                        ..Service::default()
                    },
                );
            }
            "AnalysisTemplate" => {
                let spec = read_template(object);
                self.templates.insert(
                    TemplateKey {
                        cluster_scope: false,
                        name,
                    },
                    spec,
                );
            }
            "ClusterAnalysisTemplate" => {
                let spec = read_template(object);
                self.templates.insert(
                    TemplateKey {
                        cluster_scope: true,
                        name,
                    },
                    spec,
                );
            }
            kind => {
                let mut object = object.clone();
                object["metadata"]["generation"] = json!(1);
                self.references
                    .insert((kind.to_owned(), name), Arc::new(object));
            }
        }
        self.wake(Subject::Rollout);
    }

    /// Merges a change into the spec of an object that the Rollout refers to. False if there is none.
    pub(crate) fn patch_reference(&mut self, kind: &str, name: &str, spec: &Value) -> bool {
        let key = (kind.to_owned(), name.to_owned());
        let Some(object) = self.references.get_mut(&key) else {
            return false;
        };
        let object = Arc::make_mut(object);
        crossfade_api::merge_patch::apply(object, &json!({"spec": spec}));
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + 1);
        self.references_version += 1;
        self.see();
        self.wake(Subject::Rollout);
        true
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
                done: true,
                for_owner: false,
                reason: "RolloutAddedToInformer".to_owned(),
                message: format!("Rollout resource added to informer: {namespace}/{name}"),
            };
            self.tell(format!("Rollout/{name}"), event);
        }
        rollout.metadata.resource_version = Some(version);
        self.rollout = Some(Arc::new(rollout));
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
        self.rollout = Some(Arc::new(changed));
        self.see();
        // The controller of Services acts a moment later.
        self.schedule(SignedDuration::from_millis(1), Due::ReleaseServices);
        self.wake(Subject::Rollout);
    }

    /// Lets go of Services that the Rollout names no more.
    fn release_services(&mut self) {
        let observed = self.services.values().map(Service::observed);
        let actions: Vec<_> = observed
            .filter_map(|service| {
                crossfade_engine::rollout::release(&service, self.rollout.as_deref())
            })
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
        if self.script.is_none() {
            self.events.push((object, event));
        }
    }

    pub(crate) fn wake(&mut self, subject: Subject) {
        let notice = self.script.as_ref().map_or(0, |script| script.notice());
        if notice == 0 {
            self.woken.insert(subject);
        } else if self.noticed.insert(subject.clone()) {
            let delay = SignedDuration::from_millis(i64::try_from(notice).unwrap_or(0));
            self.schedule(delay, Due::Notice(subject));
        }
    }

    /// Every subject has a pass.
    pub(crate) fn wake_all(&mut self) {
        self.woken.insert(Subject::Rollout);
        let runs = self.runs.keys().cloned().map(Subject::AnalysisRun);
        self.woken.extend(runs);
        let experiments = self.experiments.keys().cloned().map(Subject::Experiment);
        self.woken.extend(experiments);
    }

    /// What a controller that is gone wanted to look at again is forgotten.
    pub(crate) fn forget_wakes(&mut self) {
        self.woken.clear();
        self.noticed.clear();
        self.due
            .retain(|(_, _, due)| !matches!(due, Due::Wake(_) | Due::Notice(_)));
    }

    /// Has somebody watch from now on.
    pub fn watch(&mut self, watcher: Box<dyn Watch>) {
        self.watcher = Some(watcher);
    }

    /// The one who watched.
    pub fn unwatch(&mut self) -> Option<Box<dyn Watch>> {
        self.watcher.take()
    }

    pub(crate) fn tell_watcher(&mut self, what: What<'_>) {
        if let Some(mut watcher) = self.watcher.take() {
            let goes_on = watcher.see(self, what);
            self.ended |= !goes_on;
            self.watcher = Some(watcher);
        }
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
        let own: Vec<&Pod> = self
            .pods
            .values()
            .filter(|pod| pod.set == name && !pod.deleting)
            .collect();
        let missing = wanted - i32::try_from(own.len()).unwrap_or(i32::MAX);
        if missing > 0 {
            let never_starts = crate::script::image(&set.template).contains("does-not-exist");
            let labels = set.view.template_labels.clone();
            let annotations = set.view.template_annotations.clone();
            let version = set.version;
            for _ in 0..missing {
                self.serial += 1;
                let pod = format!("{name}-{}", self.serial);
                self.pods.insert(
                    pod.clone(),
                    Pod {
                        name: pod.clone(),
                        set: name.to_owned(),
                        created: self.now,
                        ready_since: None,
                        deleting: false,
                        labels: labels.clone(),
                        annotations: annotations.clone(),
                    },
                );
                let starts = match &mut self.script {
                    Some(script) => script.starts(version),
                    None => Some(self.until_ready()).filter(|_| !never_starts),
                };
                if let Some(starts) = starts {
                    self.schedule(starts, Due::PodReady(pod));
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
                let owner = view.controller.clone();
                self.wake_controller(owner.as_deref());
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

    /// A pod that has just become ready will be available later.
    pub(crate) fn count_when_available(&mut self, set: &str) {
        let min_ready = self
            .sets
            .get(set)
            .map_or(0, |set| set.view.min_ready_seconds);
        if min_ready > 0 {
            self.schedule(
                SignedDuration::from_secs(i64::from(min_ready)),
                Due::PodCounts(set.to_owned()),
            );
        }
    }

    pub(crate) fn end_pod(&mut self, name: &str) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.deleting = true;
            let end = self
                .script
                .as_ref()
                .map_or(self.life.end, |script| script.end());
            self.schedule(end, Due::PodGone(name.to_owned()));
        }
    }

    pub(crate) fn job_starts(&mut self, name: &str) {
        let job = self
            .script
            .as_ref()
            .map_or(self.life.job, |script| script.job());
        self.schedule(job, Due::JobEnds(name.to_owned()));
    }

    /// Lets everything happen that is due until a time, passes included.
    pub fn advance(&mut self, until: Timestamp) {
        while self.step(until) {}
        self.now = self.now.max(until);
    }

    /// Lets the next thing happen that is due until a time, after the passes that are due now; `false` if there is none.
    pub(crate) fn step(&mut self, until: Timestamp) -> bool {
        self.settle();
        if self.ended || self.due.first().is_none_or(|(at, _, _)| *at > until) {
            return false;
        }
        if let Some((at, _, due)) = self.due.pop_first() {
            self.now = self.now.max(at);
            self.happen(due);
        }
        true
    }

    fn happen(&mut self, due: Due) {
        let matters = matches!(
            due,
            Due::PodReady(_)
                | Due::PodCounts(_)
                | Due::PodGone(_)
                | Due::Resize(_)
                | Due::JobEnds(_)
                | Due::PodCrashes(..)
                | Due::PodBack(..)
                | Due::Collect
        );
        match due {
            Due::PodReady(name) => {
                let set = self
                    .pods
                    .get_mut(&name)
                    .filter(|pod| !pod.deleting)
                    .map(|pod| {
                        pod.ready_since.get_or_insert(self.now);
                        pod.set.clone()
                    });
                if let Some(set) = set {
                    self.count_when_available(&set);
                    if self.reports_now(&set) {
                        self.reconcile_set(&set);
                    }
                    let times = self.crashes(&set);
                    self.expect_crash(&name, &set, times);
                }
            }
            Due::PodCounts(set) => self.reconcile_set(&set),
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
                let fails = fails
                    || self.job_version(&name).is_some_and(|version| {
                        self.script_says(version, |nature| nature.jobs_fail)
                    });
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
            Due::Wake(subject) => {
                self.woken.insert(subject);
            }
            Due::Notice(subject) => {
                self.noticed.remove(&subject);
                self.woken.insert(subject);
            }
            Due::PodCrashes(pod, times) => self.pod_crashes(&pod, times),
            Due::PodBack(pod, times) => self.pod_back(&pod, times),
            Due::Act(index) => self.scripted_act(index),
            Due::Fault(index) => self.scripted_fault(index),
            Due::Free => self.controller.busy_until = None,
            Due::CatchesUp => self.wake_all(),
            Due::FormerLeader(key) => self.former_leader_acts(key),
            Due::ServiceBack(name) => self.service_back(&name),
            Due::Collect => self.collect(),
            Due::Return => self.return_rollout(),
            Due::ReleaseServices => self.release_services(),
        }
        if matters {
            self.tell_watcher(What::Life);
        }
    }

    /// The controller is still busy with a pass over the Rollout; it will look at it again after that.
    pub(crate) fn is_busy(&mut self, subject: &Subject) -> bool {
        if self.now < self.busy_until {
            let rest = self.now.duration_until(self.busy_until);
            self.schedule(rest, Due::Wake(subject.clone()));
            return true;
        }
        self.busy_until = self.now + self.life.pass;
        false
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

    /// Takes note of what users see now.
    pub(crate) fn see(&mut self) {
        if self.script.is_some() || self.strike.is_some() {
            return;
        }
        let visible = crate::visible::Visible::of(self);
        self.seen.push(visible);
    }
}
