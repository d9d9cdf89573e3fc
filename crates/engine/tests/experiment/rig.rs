//! A namespace with one Experiment, in memory and in virtual time. Nothing happens by itself: [`Rig::settle`] lets everything run until
//! nobody has anything to do, [`Rig::run_for`] lets time pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::experiment::{ExperimentRun, TemplateStatus};
use crossfade_api::words::PodHash;
use crossfade_api::{AnalysisRun, AnalysisTemplate, Experiment, Resource as _, merge_patch, time};
use crossfade_engine::action::{Action, Done, Failure, FailureKind, NewService, Outcome, Target};
use crossfade_engine::decision::{Event, Found, Wait};
use crossfade_engine::experiment::ExperimentSubject;
use crossfade_engine::experiment::world::{Service, World};
use crossfade_engine::pass::{Need, Pass, Standing};
use crossfade_engine::rollout::world::{ReplicaSet, TemplateKey};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Passes after which a namespace that still finds something to do is broken.
const MOST_PASSES: usize = 200;

pub(crate) struct Rig {
    pub(crate) now: Timestamp,
    pub(crate) experiment: Experiment,
    pub(crate) sets: Vec<ReplicaSet>,
    pub(crate) services: Vec<Service>,
    /// What was asked for when Services were created.
    pub(crate) created: Vec<NewService>,
    pub(crate) runs: Vec<AnalysisRun>,
    pub(crate) templates: BTreeMap<TemplateKey, Arc<AnalysisTemplateSpec>>,
    pub(crate) taken: Vec<PodHash>,
    pub(crate) events: Vec<Event>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) failed: Option<String>,
    /// Statuses that were recorded.
    pub(crate) writes: usize,
    /// Templates whose pods never become ready.
    pub(crate) broken: BTreeSet<String>,
    /// Actions that fail, by a word in their debug form.
    pub(crate) failing: Vec<(String, Failure)>,
    look_again: Option<Timestamp>,
    version: u64,
}

/// A template of an experiment, with a container that declares these ports.
pub(crate) fn template(name: &str, more: &Value) -> Value {
    let labels = json!({"app": "web", "track": name});
    let mut template = json!({
        "name": name,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": format!("web:{name}")}]},
        },
    });
    merge_patch::apply(&mut template, more);
    template
}

impl Rig {
    /// An experiment named `e` with this spec.
    pub(crate) fn new(spec: &Value) -> Self {
        let json = json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Experiment",
            "metadata": {
                "name": "e", "namespace": "prod", "uid": "e-uid", "resourceVersion": "1",
                "creationTimestamp": "2026-01-02T03:00:00Z",
            },
            "spec": spec,
        });
        let mut rig = Self {
            now: "2026-01-02T03:00:00Z".parse().expect("a time"),
            experiment: Experiment::from_json(json).0,
            sets: Vec::new(),
            services: Vec::new(),
            created: Vec::new(),
            runs: Vec::new(),
            templates: BTreeMap::new(),
            taken: Vec::new(),
            events: Vec::new(),
            waits: Vec::new(),
            failed: None,
            writes: 0,
            broken: BTreeSet::new(),
            failing: Vec::new(),
            look_again: None,
            version: 1,
        };
        rig.add_template("check");
        rig
    }

    /// One template and these further members of the spec.
    pub(crate) fn with(more: &Value) -> Self {
        let mut spec = json!({"templates": [template("canary", &json!({}))]});
        merge_patch::apply(&mut spec, more);
        Self::new(&spec)
    }

    pub(crate) fn add_template(&mut self, name: &str) {
        let (template, _) = AnalysisTemplate::from_json(json!({"spec": {
            "args": [{"name": "hash", "value": "none"}, {"name": "when", "value": "none"}],
            "metrics": [{"name": "m", "provider": {"web": {"url": "http://x"}}}],
        }}));
        self.templates.insert(key(name), Arc::new(template.spec));
    }

    /// A person changes the spec.
    pub(crate) fn patch(&mut self, patch: &Value) -> &mut Self {
        let mut json = self.experiment.to_json();
        merge_patch::apply(&mut json, patch);
        self.experiment = Experiment::from_json(json).0;
        self
    }

    /// One pass. True if it changed anything.
    pub(crate) fn pass(&mut self) -> bool {
        let mut pass = Pass::<ExperimentSubject>::start(self.observe(), Standing::Sound, self.now);
        let mut changed = false;
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let outcomes: Vec<Outcome> =
                        actions.iter().map(|action| self.perform(action)).collect();
                    changed |= outcomes.iter().any(Result::is_ok);
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    if let Some(status) = status {
                        assert_ne!(status, self.experiment.status, "nothing changes");
                        self.experiment.status = status;
                        self.writes += 1;
                        // What is recorded must survive being written and read.
                        let stored = self.experiment.to_json();
                        let again = Experiment::from_json(stored).0;
                        assert_eq!(again.status, self.experiment.status);
                        self.experiment = again;
                        changed = true;
                    }
                    self.events.extend(events);
                    pass.recorded(Ok(()));
                }
            }
        }
        let ended = pass.ended();
        self.look_again = ended.look_again.map(|delay| self.now + delay);
        self.waits = ended.waits;
        self.failed = ended.failed;
        changed
    }

    /// Passes, and pods that follow, until nothing changes any more.
    pub(crate) fn settle(&mut self) -> &mut Self {
        for _ in 0..MOST_PASSES {
            let changed = self.pass();
            if !(self.make_pods() || changed) {
                return self;
            }
        }
        panic!(
            "not quiet after {MOST_PASSES} passes: {:?}",
            self.experiment.status
        );
    }

    /// Lets time pass; looks again whenever a pass has asked for it.
    pub(crate) fn run_for(&mut self, seconds: i64) -> &mut Self {
        let end = self.now + SignedDuration::from_secs(seconds);
        self.settle();
        for _ in 0..MOST_PASSES {
            match self.look_again {
                Some(next) if next <= end => self.now = next.max(self.now),
                Some(_) | None => {
                    self.now = end;
                    return self.settle();
                }
            }
            self.settle();
        }
        panic!("more than {MOST_PASSES} timers: {:?}", self.waits);
    }

    fn make_pods(&mut self) -> bool {
        let before = self.sets.clone();
        for set in &mut self.sets {
            let name = &set.annotations["experiment.argoproj.io/template-name"];
            let ready = if self.broken.contains(name) {
                0
            } else {
                set.replicas
            };
            (set.current, set.ready, set.available) = (set.replicas, ready, ready);
        }
        before != self.sets
    }

    fn observe(&self) -> World {
        let found = |template: &Arc<AnalysisTemplateSpec>| Found::Found(Arc::clone(template));
        let templates = self.templates.iter();
        World {
            experiment: Arc::new(self.experiment.clone()),
            replica_sets: self.sets.clone(),
            services: self.services.clone(),
            runs: self.runs.iter().cloned().map(Arc::new).collect(),
            templates: templates
                .map(|(key, template)| (key.clone(), found(template)))
                .collect(),
            unread: BTreeMap::new(),
            taken_hashes: self.taken.clone(),
        }
    }

    fn perform(&mut self, action: &Action) -> Outcome {
        let text = format!("{action:?}");
        let mut failing = self.failing.iter();
        if let Some((_, failure)) = failing.find(|(word, _)| text.contains(word)) {
            return Err(failure.clone());
        }
        self.version += 1;
        let version = self.version.to_string();
        let target = |name: &str| Target {
            namespace: "prod".to_owned(),
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            resource_version: version.clone(),
        };
        match action {
            Action::CreateReplicaSet(new) => {
                assert_eq!(new.owner_kind, "Experiment");
                let set = ReplicaSet {
                    target: target(&new.name),
                    controller: Some(new.owner_uid.clone()),
                    labels: new.labels.clone(),
                    annotations: new.annotations.clone(),
                    min_ready_seconds: new.min_ready_seconds,
                    observed: true,
                    ..ReplicaSet::default()
                };
                self.sets.push(set.clone());
                Ok(Done::ReplicaSet(Box::new(set)))
            }
            Action::UpdateReplicaSet { target, change } => {
                let mut sets = self.sets.iter_mut();
                let set = sets.find(|set| set.target.name == target.name);
                let set = set.ok_or(failure(FailureKind::NotFound, "gone"))?;
                set.replicas = change.replicas.unwrap_or(set.replicas);
                for (key, value) in &change.annotations {
                    match value {
                        Some(value) => set.annotations.insert(key.clone(), value.clone()),
                        None => set.annotations.remove(key),
                    };
                }
                Ok(Done::ReplicaSet(Box::new(set.clone())))
            }
            Action::CreateService(new) => {
                self.created.push((**new).clone());
                self.services.push(Service {
                    target: target(&new.name),
                    controller: Some(new.owner_uid.clone()),
                    annotations: new.annotations.clone(),
                });
                Ok(Done::Written(version))
            }
            Action::DeleteService { target } => {
                self.services.retain(|one| one.target.name != target.name);
                Ok(Done::Written(String::new()))
            }
            Action::CreateAnalysisRun(run) => {
                let mut run = (**run).clone();
                run.metadata.uid = Some(format!("{}-uid", run.name()));
                self.runs.push(run.clone());
                Ok(Done::AnalysisRun(Box::new(run)))
            }
            Action::TerminateAnalysisRun { target } => {
                let mut runs = self.runs.iter_mut();
                let run = runs.find(|run| run.name() == target.name);
                let run = run.ok_or(failure(FailureKind::NotFound, "gone"))?;
                run.spec.terminate = true;
                Ok(Done::Written(version))
            }
            other => panic!("an Experiment does not do that: {other:?}"),
        }
    }

    /// A run gets a phase, as its own controller would give it.
    pub(crate) fn end_run(&mut self, name: &str, phase: AnalysisPhase, why: &str) -> &mut Self {
        let mut runs = self.runs.iter_mut();
        let run = runs.find(|run| run.name() == name).expect("the run exists");
        run.status.phase = phase;
        why.clone_into(&mut run.status.message);
        self
    }

    /// Phase and message.
    pub(crate) fn phase(&self) -> String {
        let status = &self.experiment.status;
        if status.message.is_empty() {
            status.phase.to_string()
        } else {
            format!("{}: {}", status.phase, status.message)
        }
    }

    pub(crate) fn template(&self, name: &str) -> &TemplateStatus {
        let mut statuses = self.experiment.status.template_statuses.iter();
        let status = statuses.find(|status| status.name == name);
        status.expect("the template was looked at")
    }

    pub(crate) fn analysis(&self, name: &str) -> &ExperimentRun {
        let mut runs = self.experiment.status.analysis_runs.iter();
        runs.find(|run| run.name == name).expect("it was looked at")
    }

    pub(crate) fn run(&self, name: &str) -> &AnalysisRun {
        let mut runs = self.runs.iter();
        runs.find(|run| run.name() == name).expect("the run exists")
    }

    pub(crate) fn set(&self, name: &str) -> &ReplicaSet {
        let mut sets = self.sets.iter();
        let set = sets.find(|set| set.target.name == name);
        set.expect("the ReplicaSet exists")
    }

    /// Sizes of all ReplicaSets, by name.
    pub(crate) fn sizes(&self) -> Vec<(&str, i32)> {
        let sets = self.sets.iter();
        sets.map(|set| (set.target.name.as_str(), set.replicas))
            .collect()
    }

    /// Events of a reason: `message`, with `!` before warnings.
    pub(crate) fn told(&self, reason: &str) -> Vec<String> {
        let events = self.events.iter().filter(|event| event.reason == reason);
        events
            .map(|event| {
                let mark = if event.warning { "!" } else { "" };
                format!("{mark}{}", event.message)
            })
            .collect()
    }

    /// The condition of a type: status, reason and message.
    pub(crate) fn condition(&self, kind: &str) -> Option<String> {
        let mut conditions = self.experiment.status.conditions.iter();
        let found = conditions.find(|condition| condition.kind == kind)?;
        let holds = json!(found.status);
        let holds = holds.as_str().unwrap_or_default();
        Some(format!("{holds} {}: {}", found.reason, found.message))
    }

    pub(crate) fn available_at(&self) -> Option<String> {
        self.experiment.status.available_at.map(time::text)
    }

    pub(crate) fn waits_for(&self, what: &str) -> bool {
        self.waits.iter().any(|wait| wait.for_what.contains(what))
    }
}

pub(crate) fn key(name: &str) -> TemplateKey {
    TemplateKey {
        cluster_scope: false,
        name: name.to_owned(),
    }
}

pub(crate) fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure {
        kind,
        message: message.to_owned(),
    }
}
