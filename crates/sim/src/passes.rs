//! The controller: passes over what was woken, and everything that can go wrong in them.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use crossfade_api::analysis_run::AnalysisRunStatus;
use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::{AnalysisRun, Resource as _, Rollout};
use crossfade_engine::action::{Action, Evidence, Failure, FailureKind, Outcome};
use crossfade_engine::analysis::{self, AnalysisRunSubject};
use crossfade_engine::decision::{Decision, Event};
use crossfade_engine::experiment::{self, ExperimentSubject};
use crossfade_engine::pass::{Ended, Need, Pass, Standing, Subject as Decides};
use crossfade_engine::rollout::RolloutSubject;
use crossfade_engine::rollout::world::{Peaks, World};
use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Cluster, Due, Subject};
use crate::scenario::{FaultKind, Kind};
use crate::watch::{Seen, What};

/// First and longest wait after a pass that failed.
const RETRY: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(1), SignedDuration::from_secs(10));

/// Passes without time going on after which they are taken to wake one another for ever.
const MOST_PASSES: usize = 500;

/// A subject whose world is shared, so that a pass needs no copy of it.
struct Shared<S>(PhantomData<S>);

impl<S: Decides> Decides for Shared<S> {
    type World = Arc<S::World>;
    type Status = S::Status;

    fn decide(
        world: &Arc<S::World>,
        evidence: &Evidence,
        now: Timestamp,
    ) -> Decision<Self::Status> {
        S::decide(world, evidence, now)
    }

    fn after(
        world: &Arc<S::World>,
        evidence: &Evidence,
        status: &S::Status,
    ) -> Option<Arc<S::World>> {
        S::after(world, evidence, status).map(Arc::new)
    }

    fn stands_for(world: &Arc<S::World>, status: &S::Status, next: &S::Status) -> bool {
        S::stands_for(world, status, next)
    }
}

/// What the controller has in memory, and what is wrong with it.
#[derive(Default)]
pub(crate) struct Controller {
    pub(crate) peaks: Peaks,
    /// Version of the last write of its own, by kind.
    own: BTreeMap<u8, u64>,
    /// How far its clock is off.
    pub(crate) skew: SignedDuration,
    pub(crate) busy_until: Option<Timestamp>,
    /// Kinds that are seen as they were.
    pub(crate) stale: Vec<Old>,
    failures: BTreeMap<Subject, u32>,
    former: Vec<(u64, FormerLeader)>,
}

/// A kind of object as it was.
pub(crate) struct Old {
    pub(crate) kind: Kind,
    pub(crate) until: Timestamp,
    pub(crate) version: u64,
    pub(crate) world: Arc<World>,
}

/// A controller that does not know yet that another one leads.
struct FormerLeader {
    action: Action,
    observed: Observed,
}

/// What a pass has observed.
#[derive(Clone)]
struct Observed {
    subject: Watched,
    /// Version of the router's objects.
    routes: u64,
}

#[derive(Clone)]
enum Watched {
    Rollout(Arc<World>),
    Run(Arc<analysis::world::World>),
    Experiment(Arc<experiment::world::World>),
}

impl Observed {
    /// Kind and name of the subject.
    fn object(&self) -> String {
        match &self.subject {
            Watched::Rollout(world) => format!("Rollout/{}", world.rollout.name()),
            Watched::Run(world) => format!("AnalysisRun/{}", world.run.name()),
            Watched::Experiment(world) => format!("Experiment/{}", world.experiment.name()),
        }
    }

    fn seen(&self) -> Seen<'_> {
        match &self.subject {
            Watched::Rollout(world) => Seen::Rollout(world),
            Watched::Run(world) => Seen::Run(world),
            Watched::Experiment(world) => Seen::Experiment(world),
        }
    }
}

/// A moment in a pass at which something can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Action,
    Record,
    Tell,
}

impl Moment {
    pub(crate) const ALL: [Self; 3] = [Self::Action, Self::Record, Self::Tell];

    pub(crate) fn fits(self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::CrashBefore
            | FaultKind::CrashAfter
            | FaultKind::Conflict
            | FaultKind::LostReply
            | FaultKind::Refused
            | FaultKind::Usurped(_) => self == Self::Action,
            FaultKind::CrashUnrecorded | FaultKind::StatusConflict | FaultKind::StatusLost => {
                self == Self::Record
            }
            FaultKind::CrashUntold => self == Self::Tell,
            FaultKind::Stale(..)
            | FaultKind::Clock(_)
            | FaultKind::Busy(_)
            | FaultKind::Extra(_) => false,
        }
    }
}

/// How a pass went as far as its controller knows.
enum Course<T> {
    Over(T),
    /// The controller is gone.
    Lost,
}

fn failure(kind: FailureKind, message: &str) -> Outcome {
    Err(Failure {
        kind,
        message: message.to_owned(),
    })
}

impl Cluster {
    /// Passes for every subject that was woken, until all is quiet.
    pub(crate) fn settle(&mut self) {
        let mut rounds = 0;
        while !self.ended && self.controller.busy_until.is_none() {
            let Some(subject) = self.woken.pop_first() else {
                return;
            };
            rounds += 1;
            if rounds > MOST_PASSES {
                self.restless = Some(subject);
                self.ended = true;
                return;
            }
            if subject == Subject::Rollout && self.is_busy(&subject) {
                continue;
            }
            self.passes += 1;
            self.turns += 1;
            match subject {
                Subject::Rollout => self.rollout_pass(),
                Subject::AnalysisRun(name) => self.run_pass(&name),
                Subject::Experiment(name) => self.experiment_pass(&name),
            }
        }
    }

    /// The time as the controller reads it.
    pub(crate) fn clock(&self) -> Timestamp {
        self.now
            .saturating_add(self.controller.skew)
            .unwrap_or(self.now)
    }

    fn rollout_pass(&mut self) {
        let Some(world) = self.observe_rollout() else {
            return;
        };
        let (world, standing) = self.as_it_was(world);
        let watched = Watched::Rollout(Arc::clone(&world));
        self.pass::<RolloutSubject>(
            Arc::clone(&world),
            watched,
            standing,
            Subject::Rollout,
            |cluster, status| cluster.record_rollout(&world, status),
        );
        self.wrote_rollout = None;
    }

    fn run_pass(&mut self, name: &str) {
        let Some(world) = self.observe_run(name).map(Arc::new) else {
            return;
        };
        let watched = Watched::Run(Arc::clone(&world));
        self.pass::<AnalysisRunSubject>(
            Arc::clone(&world),
            watched,
            Standing::Sound,
            Subject::AnalysisRun(name.to_owned()),
            |cluster, status| cluster.record_run(&world.run, status),
        );
    }

    fn experiment_pass(&mut self, name: &str) {
        let Some(world) = self.observe_experiment(name).map(Arc::new) else {
            return;
        };
        let watched = Watched::Experiment(Arc::clone(&world));
        self.pass::<ExperimentSubject>(
            Arc::clone(&world),
            watched,
            Standing::Sound,
            Subject::Experiment(name.to_owned()),
            |cluster, status| cluster.record_experiment(&world.experiment, status),
        );
    }

    /// One pass over what was observed of a subject.
    fn pass<S: Decides>(
        &mut self,
        world: Arc<S::World>,
        watched: Watched,
        standing: Standing,
        subject: Subject,
        record: impl FnMut(&mut Self, S::Status) -> Result<(), String>,
    ) {
        let mut observed = Observed {
            subject: watched,
            routes: self.routes.0,
        };
        let mut pass = Pass::<Shared<S>>::start(world, standing, self.clock());
        if let Course::Over(()) = self.drive(&mut pass, &mut observed, record) {
            let ended = pass.ended();
            if standing == Standing::Sound {
                self.tell_watcher(What::Ended(&ended, observed.seen()));
            }
            self.after(subject, &ended);
        }
    }

    /// Stores what a pass has recorded, unless somebody else has changed the Rollout since it was observed.
    fn record_rollout(&mut self, world: &World, status: RolloutStatus) -> Result<(), String> {
        let version_of = |rollout: &Rollout| rollout.metadata.resource_version.clone();
        let current = self.rollout.as_deref().and_then(version_of);
        let written = self.wrote_rollout.take();
        if current != written.or_else(|| version_of(&world.rollout)) {
            // Whoever hears this knows that what he sees is old.
            self.own_write(Kind::Rollout);
            return Err("the Rollout has been modified".to_owned());
        }
        let version = self.next_version();
        if let Some(before) = self.rollout.take() {
            let mut rollout = Rollout {
                metadata: before.metadata.clone(),
                spec: before.spec.clone(),
                status,
                origin: before.origin.clone(),
            };
            rollout.metadata.resource_version = Some(version);
            self.controller.peaks.follow(&rollout.status);
            self.rollout = Some(Arc::new(rollout));
            self.see();
            self.tell_watcher(What::Recorded(&before, world));
        }
        self.own_write(Kind::Rollout);
        self.wake(Subject::Rollout);
        Ok(())
    }

    /// The same for an AnalysisRun, whose end its owner hears of.
    fn record_run(
        &mut self,
        observed: &AnalysisRun,
        status: AnalysisRunStatus,
    ) -> Result<(), String> {
        let version = self.next_version();
        let name = observed.name();
        let Some(run) = self.runs.get_mut(name) else {
            return Err("the AnalysisRun is gone".to_owned());
        };
        if run.metadata.resource_version != observed.metadata.resource_version {
            return Err("the AnalysisRun has been modified".to_owned());
        }
        let before = Arc::clone(run);
        let turned = before.status.phase != status.phase;
        let mut after = AnalysisRun {
            metadata: before.metadata.clone(),
            spec: before.spec.clone(),
            status,
            origin: before.origin.clone(),
        };
        after.metadata.resource_version = Some(version);
        *run = Arc::new(after);
        self.see();
        self.tell_watcher(What::RunRecorded(&before));
        self.wake(Subject::AnalysisRun(name.to_owned()));
        if turned {
            self.wake_controller(crate::experiments::controller(&observed.metadata));
        }
        Ok(())
    }

    /// Answers what a pass needs, as well as faults allow.
    fn drive<S: Decides>(
        &mut self,
        pass: &mut Pass<S>,
        observed: &mut Observed,
        mut record: impl FnMut(&mut Self, S::Status) -> Result<(), String>,
    ) -> Course<()> {
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let mut outcomes = Vec::with_capacity(actions.len());
                    for action in &actions {
                        match self.act_on(action, observed) {
                            Course::Over(outcome) => outcomes.push(outcome),
                            Course::Lost => return Course::Lost,
                        }
                    }
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    if let Some(status) = status {
                        let result = match self.fault(Moment::Record) {
                            Some(FaultKind::CrashUnrecorded) => {
                                self.crash();
                                return Course::Lost;
                            }
                            Some(FaultKind::StatusConflict) => {
                                self.touch_subject(observed);
                                Err("the object has been modified".to_owned())
                            }
                            Some(FaultKind::StatusLost) => record(self, status)
                                .and(Err("the answer did not arrive".to_owned())),
                            _ => record(self, status),
                        };
                        if result.is_err() {
                            pass.recorded(result);
                            continue;
                        }
                    }
                    if self.fault(Moment::Tell).is_some() {
                        self.crash();
                        return Course::Lost;
                    }
                    self.tell_all(observed, events);
                    pass.recorded(Ok(()));
                }
            }
        }
        Course::Over(())
    }

    fn tell_all(&mut self, observed: &Observed, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let object = observed.object();
        for event in events {
            self.tell_watcher(What::Told(&object, &event));
            let rollout = self.rollout.as_ref().filter(|_| event.for_owner);
            if let Some(rollout) = rollout {
                let above = format!("Rollout/{}", rollout.name());
                self.tell(above, event.clone());
            }
            self.tell(object.clone(), event);
        }
    }

    /// Performs an action; says what the controller hears of it.
    fn act_on(&mut self, action: &Action, observed: &mut Observed) -> Course<Outcome> {
        match self.fault(Moment::Action) {
            Some(FaultKind::CrashBefore) => {
                self.crash();
                Course::Lost
            }
            Some(FaultKind::CrashAfter) => {
                let _unheard = self.carry_out(action, observed);
                self.crash();
                Course::Lost
            }
            Some(FaultKind::Conflict) => Course::Over(failure(
                FailureKind::Conflict,
                "the object has been modified",
            )),
            Some(FaultKind::Refused) => {
                Course::Over(failure(FailureKind::Other, "the server is not available"))
            }
            Some(FaultKind::LostReply) => {
                let _unheard = self.carry_out(action, observed);
                Course::Over(failure(FailureKind::Other, "the answer did not arrive"))
            }
            Some(FaultKind::Usurped(later)) => {
                self.serial += 1;
                let key = self.serial;
                self.controller.former.push((
                    key,
                    FormerLeader {
                        action: action.clone(),
                        observed: observed.clone(),
                    },
                ));
                let later = SignedDuration::from_millis(later as i64);
                self.schedule(later, Due::FormerLeader(key));
                let former = std::mem::take(&mut self.controller.former);
                self.crash();
                self.controller.former = former;
                Course::Lost
            }
            _ => Course::Over(self.carry_out(action, observed)),
        }
    }

    /// Performs an action for whoever has observed this.
    fn carry_out(&mut self, action: &Action, observed: &mut Observed) -> Outcome {
        self.tell_watcher(What::Performing(action, observed.seen()));
        let outcome = if matches!(action, Action::Route { .. }) && self.routes.0 != observed.routes
        {
            failure(FailureKind::Conflict, "the route has been modified")
        } else {
            self.perform(action)
        };
        if outcome.is_ok() {
            match action {
                Action::CreateReplicaSet(_)
                | Action::UpdateReplicaSet { .. }
                | Action::DeleteReplicaSet { .. }
                | Action::AdoptReplicaSet { .. }
                | Action::ReleaseReplicaSet { .. } => self.own_write(Kind::ReplicaSets),
                Action::UpdateRollout { .. } => {
                    self.wrote_rollout = self
                        .rollout
                        .as_ref()
                        .and_then(|rollout| rollout.metadata.resource_version.clone());
                    self.own_write(Kind::Rollout);
                }
                Action::SwitchService { .. } | Action::ReleaseService { .. } => {
                    self.own_write(Kind::Services);
                }
                Action::Route { .. } => {
                    // What was seen of routers before this is older.
                    self.version += 1;
                    observed.routes = self.routes.0;
                    self.own_write(Kind::Routers);
                }
                Action::EvictPod { .. } | Action::UpdatePodMetadata { .. } => {
                    self.own_write(Kind::Pods);
                }
                Action::CreateAnalysisRun(_)
                | Action::TerminateAnalysisRun { .. }
                | Action::DeleteAnalysisRun { .. } => self.own_write(Kind::Runs),
                Action::VerifyRoute { .. }
                | Action::CreateExperiment(_)
                | Action::TerminateExperiment { .. }
                | Action::DeleteExperiment { .. }
                | Action::CreateService(_)
                | Action::DeleteService { .. }
                | Action::ScaleDeployment { .. }
                | Action::Measure(_)
                | Action::CreateJob(_)
                | Action::DeleteJob { .. }
                | Action::Canary(_) => {}
            }
        }
        self.tell_watcher(What::Performed(action, &outcome, observed.seen()));
        outcome
    }

    /// A controller that leads no longer still has something under way.
    pub(crate) fn has_former_leaders(&self) -> bool {
        !self.controller.former.is_empty()
    }

    /// What a former leader had under way.
    pub(crate) fn former_leader_acts(&mut self, key: u64) {
        let former = &mut self.controller.former;
        let Some(index) = former.iter().position(|(one, _)| *one == key) else {
            return;
        };
        let (_, mut leader) = former.swap_remove(index);
        let own = self.controller.own.clone();
        self.turns += 1;
        self.acts_late = true;
        let _unheard = self.carry_out(&leader.action, &mut leader.observed);
        self.acts_late = false;
        // These writes are not the present leader's.
        self.controller.own = own;
        self.wrote_rollout = None;
    }

    /// The controller dies and another begins at once, with empty memory and a fresh view.
    pub(crate) fn crash(&mut self) {
        let skew = self.controller.skew;
        let former = std::mem::take(&mut self.controller.former);
        self.controller = Controller {
            skew,
            former,
            ..Controller::default()
        };
        self.wrote_rollout = None;
        self.forget_wakes();
        self.wake_all();
    }

    fn after(&mut self, subject: Subject, ended: &Ended) {
        if ended.failed.is_some() {
            let failures = self.controller.failures.entry(subject.clone()).or_insert(0);
            let delay = (RETRY.0 * (1 << (*failures).min(4))).min(RETRY.1);
            *failures += 1;
            self.schedule(delay, Due::Wake(subject.clone()));
        } else {
            self.controller.failures.remove(&subject);
        }
        if let Some(delay) = ended.look_again {
            self.schedule(
                delay.max(SignedDuration::from_millis(1)),
                Due::Wake(subject),
            );
        }
    }

    fn own_write(&mut self, kind: Kind) {
        self.controller.own.insert(kind as u8, self.version);
    }

    /// What is observed, with the kinds that are seen as they were, and whether that is as new as the own writes.
    fn as_it_was(&mut self, present: Arc<World>) -> (Arc<World>, Standing) {
        let now = self.now;
        self.controller.stale.retain(|old| old.until > now);
        let stale = &self.controller.stale;
        let sound = stale.iter().all(|old| {
            let own = self.controller.own.get(&(old.kind as u8));
            own.is_none_or(|own| *own <= old.version)
        });
        // A controller that knows that what it sees is old does not look at it.
        let standing = if sound {
            Standing::Sound
        } else {
            Standing::Stale
        };
        if stale.is_empty() || !standing.decides() {
            return (present, standing);
        }
        let mut world = World::clone(&present);
        for old in stale {
            let was = &*old.world;
            match old.kind {
                Kind::Rollout => {
                    world.rollout = Arc::clone(&was.rollout);
                    world.prepared = Arc::clone(&was.prepared);
                }
                Kind::ReplicaSets => world.replica_sets.clone_from(&was.replica_sets),
                Kind::Pods => world.pods.clone_from(&was.pods),
                Kind::Services => world.services.clone_from(&was.services),
                Kind::Runs => world.runs.clone_from(&was.runs),
                Kind::Routers => world.routers.clone_from(&was.routers),
            }
        }
        // What is missing is found in what is seen.
        world.faults = world.find_faults();
        (Arc::new(world), standing)
    }

    /// From now on a kind is seen as it is now.
    pub(crate) fn grow_stale(&mut self, kind: Kind, lasts: SignedDuration) {
        if let Some(world) = self.observe_rollout() {
            self.schedule(lasts, Due::CatchesUp);
            self.controller.stale.push(Old {
                kind,
                until: self.now + lasts,
                version: self.version,
                world,
            });
            // What was missed arrives in the end.
            self.schedule(lasts, Due::Wake(Subject::Rollout));
        }
    }

    /// Somebody changes an object without changing what it means.
    fn touch_subject(&mut self, observed: &Observed) {
        let version = self.next_version();
        match &observed.subject {
            Watched::Rollout(_) => {
                if let Some(rollout) = &mut self.rollout {
                    Arc::make_mut(rollout).metadata.resource_version = Some(version);
                }
                self.wake(Subject::Rollout);
            }
            Watched::Run(world) => {
                let name = world.run.name().to_owned();
                if let Some(run) = self.runs.get_mut(&name) {
                    Arc::make_mut(run).metadata.resource_version = Some(version);
                }
                self.wake(Subject::AnalysisRun(name));
            }
            Watched::Experiment(world) => {
                let name = world.experiment.name().to_owned();
                if let Some(experiment) = self.experiments.get_mut(&name) {
                    Arc::make_mut(experiment).metadata.resource_version = Some(version);
                }
                self.wake(Subject::Experiment(name));
            }
        }
    }
}
