//! A scenario from its beginning until all is quiet, under watch.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crossfade_api::rollout_status::RolloutPhase;
use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Cluster, Due, Life};
use crate::coverage::Coverage;
use crate::history::History;
use crate::invariants::{self, Check};
use crate::scenario::{Act, FaultKind, Millis, Scenario, Version};
use crate::script::Script;
use crate::story::Story;
use crate::watch::{Watch, What};

/// When runs begin.
pub const BEGUN: Timestamp = Timestamp::constant(1_700_000_000, 0);
/// A run in which nothing has changed for so long has come to rest: longer than every deadline and delay of scenarios.
const REST: SignedDuration = SignedDuration::from_mins(20);
/// A run that has not come to rest so long after its last trouble never does.
const BOUND: SignedDuration = SignedDuration::from_hours(3);
/// Pauses that somebody ends at the end of a run.
const CLOSINGS: usize = 60;

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Phase of the Rollout.
    pub phase: RolloutPhase,
    /// Its message.
    pub message: String,
    /// The version that is the stable one, if any.
    pub stable: Option<Version>,
    /// The version of the template.
    pub current: Option<Version>,
    /// The release was taken back.
    pub aborted: bool,
    /// Index of the step.
    pub step: Option<i32>,
    /// The canary's recorded weight.
    pub weight: Option<i32>,
    /// It came to rest.
    pub at_rest: bool,
    /// The Rollout was deleted and has not come back.
    pub gone: bool,
    /// When.
    pub at: Millis,
}

/// A check that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Name of the check.
    pub check: &'static str,
    /// What was so instead.
    pub what: String,
    /// When.
    pub at: Millis,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The first check that did not hold.
    pub broken: Option<Broken>,
    /// What was reached.
    pub coverage: Coverage,
    /// What users saw, if it was asked for.
    pub history: History,
    /// What happened, in words, if it was asked for.
    pub story: Story,
    /// Passes.
    pub passes: usize,
}

/// What is wanted of a run beside its end.
#[derive(Default)]
pub struct Options {
    /// Tell what happens in words.
    pub story: bool,
    /// Keep what users saw.
    pub history: bool,
    /// Leave the invariants out.
    pub unchecked: bool,
    /// More checks, beside the invariants.
    pub checks: Vec<Box<dyn Check>>,
}

/// Watches on behalf of a report.
struct Observer {
    /// What is to hold of this Rollout, if anything is: one that comes after it is another one.
    scenario: Option<Arc<Scenario>>,
    invariants: Vec<Box<dyn Check>>,
    checks: Vec<Box<dyn Check>>,
    coverage: Coverage,
    story: Option<Story>,
    history: Option<History>,
    broken: Option<Broken>,
    changed: Timestamp,
}

/// Milliseconds since the beginning.
pub fn since_beginning(now: Timestamp) -> Millis {
    u64::try_from(now.duration_since(BEGUN).as_millis()).unwrap_or(0)
}

impl Observer {
    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> bool {
        if self.broken.is_some() {
            return false;
        }
        if is_change(what) {
            self.changed = cluster.now;
        }
        if let (What::Act(Act::Delete(..)), Some(scenario)) = (what, &self.scenario) {
            self.invariants = invariants::all(scenario);
            if cluster.has_former_leaders() {
                let fault = What::Fault(FaultKind::Usurped(0));
                for check in &mut self.invariants {
                    // A fault by itself breaks nothing.
                    drop(check.see(cluster, &fault));
                }
            }
        }
        self.coverage.see(cluster, what);
        if let Some(story) = &mut self.story {
            story.see(cluster, what);
        }
        if let Some(history) = &mut self.history {
            history.see(cluster, what);
        }
        let of_this = if is_of_another(cluster, what) {
            &mut [][..]
        } else {
            &mut self.invariants[..]
        };
        for check in of_this.iter_mut().chain(&mut self.checks) {
            if let Err(why) = check.see(cluster, what) {
                self.broken = Some(Broken {
                    check: check.name(),
                    what: why,
                    at: since_beginning(cluster.now),
                });
                return false;
            }
        }
        true
    }
}

/// A controller that leads no longer does something for a Rollout that is gone: no check of the one that came after it knows how that stood.
fn is_of_another(cluster: &Cluster, what: &What<'_>) -> bool {
    let (What::Performing(_, seen) | What::Performed(_, _, seen)) = what else {
        return false;
    };
    let acted_for = seen
        .rollout()
        .and_then(|world| world.rollout.metadata.uid.as_deref());
    acted_for.is_some_and(|uid| uid != cluster.rollout_uid())
}

fn is_change(what: &What<'_>) -> bool {
    use crossfade_engine::action::Action;
    match what {
        What::Performed(action, outcome, _) => {
            outcome.is_ok() && !matches!(action, Action::Measure(_) | Action::VerifyRoute { .. })
        }
        What::Recorded(..) | What::Act(_) | What::Fault(_) | What::Life => true,
        What::Performing(..) | What::RunRecorded(_) | What::Told(..) | What::Ended(..) => false,
    }
}

struct Shared(Rc<RefCell<Observer>>);

impl Watch for Shared {
    fn see(&mut self, cluster: &Cluster, what: What<'_>) -> bool {
        self.0.borrow_mut().see(cluster, &what)
    }
}

/// Runs a scenario to its end, or until a check does not hold.
pub fn run(scenario: &Arc<Scenario>, options: Options) -> Report {
    let checked = (!options.unchecked).then(|| Arc::clone(scenario));
    let observer = Rc::new(RefCell::new(Observer {
        invariants: checked.as_ref().map(invariants::all).unwrap_or_default(),
        scenario: checked,
        checks: options.checks,
        coverage: Coverage::default(),
        story: options.story.then(Story::default),
        history: options.history.then(History::default),
        broken: None,
        changed: BEGUN,
    }));
    let mut cluster = begin(scenario);
    cluster.watch(Box::new(Shared(Rc::clone(&observer))));
    let outcome = play(&mut cluster, scenario, &observer);
    let passes = cluster.passes;
    {
        let mut seen = observer.borrow_mut();
        let seen = &mut *seen;
        if seen.broken.is_none() {
            for check in seen.invariants.iter_mut().chain(&mut seen.checks) {
                if let Err(why) = check.end(&cluster, &outcome) {
                    seen.broken = Some(Broken {
                        check: check.name(),
                        what: why,
                        at: outcome.at,
                    });
                    break;
                }
            }
        }
        seen.coverage.end(&outcome);
    }
    cluster.unwatch();
    let observer = observer.take();
    Report {
        outcome,
        broken: observer.broken,
        coverage: observer.coverage,
        history: observer.history.unwrap_or_default(),
        story: observer.story.unwrap_or_default(),
        passes,
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            scenario: None,
            invariants: Vec::new(),
            checks: Vec::new(),
            coverage: Coverage::default(),
            story: None,
            history: None,
            broken: None,
            changed: BEGUN,
        }
    }
}

/// A cluster in which nothing has happened yet but that the manifests were applied.
pub(crate) fn begin(scenario: &Arc<Scenario>) -> Cluster {
    let mut cluster = Cluster::new(BEGUN, Life::default());
    cluster.script = Some(Box::new(Script::new(Arc::clone(scenario), BEGUN)));
    for (index, happening) in scenario.happenings.iter().enumerate() {
        cluster.schedule(milliseconds(happening.at), Due::Act(index));
    }
    for (index, fault) in scenario.faults.iter().enumerate() {
        if Script::comes_by_itself(fault.kind) {
            cluster.schedule(milliseconds(fault.at), Due::Fault(index));
        }
    }
    for manifest in &scenario.manifests {
        cluster.apply(manifest);
    }
    cluster
}

fn milliseconds(number: Millis) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(number).unwrap_or(i64::MAX))
}

fn play(cluster: &mut Cluster, scenario: &Scenario, observer: &Rc<RefCell<Observer>>) -> Outcome {
    cluster.advance(BEGUN + milliseconds(scenario.troubled_until() + 1));
    if let Some(script) = &mut cluster.script {
        script.quiet = true;
    }
    let mut at_rest = comes_to_rest(cluster, observer);
    for _ in 0..CLOSINGS {
        if !at_rest || !scenario.closing || !cluster.close_pause() {
            break;
        }
        at_rest = comes_to_rest(cluster, observer);
    }
    outcome(cluster, at_rest && cluster.restless.is_none())
}

fn comes_to_rest(cluster: &mut Cluster, observer: &Rc<RefCell<Observer>>) -> bool {
    let bound = cluster.now + BOUND;
    observer.borrow_mut().changed = cluster.now;
    while !cluster.ended {
        let until = observer.borrow().changed + REST;
        if until > bound {
            return false;
        }
        if !cluster.step(until) {
            // The step may have begun with passes that changed something.
            if observer.borrow().changed + REST <= until {
                return !cluster.ended;
            }
        }
    }
    false
}

fn outcome(cluster: &Cluster, at_rest: bool) -> Outcome {
    let at = since_beginning(cluster.now);
    let Some(rollout) = cluster.rollout() else {
        return Outcome {
            gone: true,
            at_rest,
            at,
            ..Outcome::default()
        };
    };
    let status = &rollout.status;
    Outcome {
        phase: status.phase,
        message: status.message.clone(),
        stable: cluster.version_of_hash(status.stable_rs.as_str()),
        current: cluster.version_of_hash(status.current_pod_hash.as_str()),
        aborted: status.abort,
        step: status.current_step_index,
        weight: status
            .canary
            .weights
            .as_ref()
            .map(|weights| weights.canary.weight),
        at_rest,
        gone: false,
        at,
    }
}
