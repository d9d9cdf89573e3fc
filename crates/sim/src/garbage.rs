//! A Rollout is deleted, and the garbage collector takes what it owned: one object after the other, while everything else goes on.

use std::sync::Arc;

use crossfade_api::{AnalysisRun, Experiment, Resource as _, Rollout};
use crossfade_engine::action::{Action, Target};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::{Cluster, Due, Set, Subject};
use crate::observe::View;
use crate::perform::k8s_time;
use crate::scenario::{Act, Propagation};

/// Until the garbage collector notices that an owner is gone.
const NOTICED: SignedDuration = SignedDuration::from_millis(400);
/// From one object that the garbage collector takes to the next.
const PACE: SignedDuration = SignedDuration::from_millis(150);
/// Until somebody who finds a Rollout that is still going applies it again.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// The uid of the Rollout that owns an object.
fn owner(metadata: &ObjectMeta) -> Option<&str> {
    let mut owners = metadata.owner_references.iter().flatten();
    owners
        .find(|owner| owner.kind == Rollout::KIND)
        .map(|owner| owner.uid.as_str())
}

impl Cluster {
    /// The uid of the Rollout, empty without one.
    pub(crate) fn rollout_uid(&self) -> &str {
        let metadata = self.rollout.as_ref().map(|rollout| &rollout.metadata);
        metadata
            .and_then(|metadata| metadata.uid.as_deref())
            .unwrap_or_default()
    }

    fn is_going(&self) -> bool {
        let metadata = self.rollout.as_ref().map(|rollout| &rollout.metadata);
        metadata.is_some_and(|metadata| metadata.deletion_timestamp.is_some())
    }

    /// The ReplicaSets that the Rollout owns.
    pub(crate) fn own_sets(&self) -> impl Iterator<Item = &Set> {
        let uid = self.rollout_uid();
        let sets = self.sets.values();
        sets.filter(move |set| set.view.controller.as_deref() == Some(uid))
    }

    /// The AnalysisRuns that the Rollout owns.
    pub(crate) fn own_runs(&self) -> impl Iterator<Item = &Arc<AnalysisRun>> {
        let uid = self.rollout_uid();
        let runs = self.runs.values();
        runs.filter(move |run| owner(&run.metadata) == Some(uid))
    }

    /// The Experiments that the Rollout owns.
    pub(crate) fn own_experiments(&self) -> impl Iterator<Item = &Experiment> {
        let uid = self.rollout_uid();
        let experiments = self.experiments.values();
        let own = experiments.filter(move |one| owner(&one.metadata) == Some(uid));
        own.map(|one| &**one)
    }

    /// Somebody deletes the Rollout.
    pub(crate) fn delete_rollout(&mut self, how: Propagation, back: Option<SignedDuration>) {
        if self.rollout.is_none() || self.is_going() {
            return;
        }
        match how {
            Propagation::Background => self.forget_rollout(),
            Propagation::Foreground => {
                let version = self.next_version();
                let now = k8s_time(self.now);
                if let Some(rollout) = self.rollout.as_mut().map(Arc::make_mut) {
                    let metadata = &mut rollout.metadata;
                    metadata.deletion_timestamp = Some(now);
                    metadata.generation = metadata.generation.map(|generation| generation + 1);
                    metadata.resource_version = Some(version);
                }
            }
            Propagation::Orphan => {
                self.leave_behind();
                self.forget_rollout();
            }
        }
        // The controller of Services acts a moment later.
        self.schedule(SignedDuration::from_millis(1), Due::ReleaseServices);
        self.schedule(NOTICED, Due::Collect);
        if let Some(back) = back {
            self.schedule(back, Due::Return);
        }
        self.wake(Subject::Rollout);
    }

    /// Takes the Rollout's name from what it owns.
    fn leave_behind(&mut self) {
        let uid = self.rollout_uid().to_owned();
        let version = self.next_version();
        for set in self.sets.values_mut() {
            if set.view.controller.as_ref() == Some(&uid) {
                set.view.controller = None;
                set.view.target.resource_version.clone_from(&version);
            }
        }
        for experiment in self.experiments.values_mut() {
            if owner(&experiment.metadata) == Some(&uid) {
                let metadata = &mut Arc::make_mut(experiment).metadata;
                metadata.owner_references = None;
                metadata.resource_version = Some(version.clone());
            }
        }
        for run in self.runs.values_mut() {
            if owner(&run.metadata) == Some(&uid) {
                let metadata = &mut Arc::make_mut(run).metadata;
                metadata.owner_references = None;
                metadata.resource_version = Some(version.clone());
            }
        }
    }

    fn forget_rollout(&mut self) {
        self.rollout = None;
        self.view = View::default();
        self.references_version += 1;
    }

    /// The Rollout is applied again, as soon as a former one is gone.
    pub(crate) fn return_rollout(&mut self) {
        if self.is_going() {
            self.schedule(AGAIN, Due::Return);
        } else {
            self.act(&Act::Reapply);
        }
    }

    /// Something was made for this owner, who may be gone by then.
    pub(crate) fn made_for(&mut self, uid: &str) {
        if uid != self.rollout_uid() && !self.is_experiment(Some(uid)) {
            self.schedule(NOTICED, Due::Collect);
        }
    }

    /// Something was made that says itself who owns it.
    pub(crate) fn run_made(&mut self, run: &AnalysisRun) {
        if let Some(uid) = owner(&run.metadata) {
            self.made_for(uid);
        }
    }

    fn is_run(&self, uid: &str) -> bool {
        let mut runs = self.runs.values();
        runs.any(|run| run.metadata.uid.as_deref() == Some(uid))
    }

    /// A Job was made for this run, which may be gone by then.
    pub(crate) fn job_made(&mut self, run_uid: &str) {
        if !self.is_run(run_uid) {
            self.schedule(NOTICED, Due::Collect);
        }
    }

    /// The garbage collector takes one thing whose owner is gone or going, and every Job whose run is gone.
    pub(crate) fn collect(&mut self) {
        let mut jobs = std::mem::take(&mut self.jobs);
        jobs.retain(|_, job| self.is_run(&job.run_uid));
        self.jobs = jobs;
        let live = if self.is_going() {
            ""
        } else {
            self.rollout_uid()
        };
        let is_left = |owner: Option<&str>| {
            owner.is_some_and(|owner| owner != live && !self.is_experiment(Some(owner)))
        };
        let mut experiments = self.experiments.values();
        let experiment = experiments.find(|one| is_left(owner(&one.metadata)));
        let mut sets = self.sets.values();
        let set = sets.find(|set| is_left(set.view.controller.as_deref()));
        let mut runs = self.runs.values();
        let run = runs.find(|run| is_left(owner(&run.metadata)));
        let action = match (experiment, set, run) {
            (Some(experiment), ..) => Action::DeleteExperiment {
                target: Target {
                    name: experiment.name().to_owned(),
                    ..Target::default()
                },
            },
            (None, Some(set), _) => Action::DeleteReplicaSet {
                target: set.view.target.clone(),
            },
            (None, None, Some(run)) => Action::DeleteAnalysisRun {
                target: Target {
                    name: run.name().to_owned(),
                    ..Target::default()
                },
            },
            (None, None, None) => {
                if self.is_going() {
                    self.forget_rollout();
                    self.schedule(SignedDuration::from_millis(1), Due::ReleaseServices);
                }
                return;
            }
        };
        // It cannot fail here.
        drop(self.perform(&action));
        self.schedule(PACE, Due::Collect);
    }
}
