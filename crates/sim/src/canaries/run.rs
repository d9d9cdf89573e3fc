//! A scenario of a Canary from its beginning until all is quiet, under watch.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crossfade_api::flagger::{CanaryPhase, CanaryStatus};
use jiff::{SignedDuration, Timestamp};

use super::invariants::{self, Check};
use super::play::{NAME, Play, Watch, What};
use super::scenario::Scenario;
use crate::coverage::Coverage;
use crate::run::{BEGUN, Broken, since_beginning};
use crate::scenario::Millis;

/// A run in which nothing has changed for so long has come to rest: longer than every deadline of scenarios.
const REST: SignedDuration = SignedDuration::from_secs(150);
/// A run that has not come to rest so long after its last trouble never does.
const BOUND: SignedDuration = SignedDuration::from_hours(2);
/// Looks at a Canary at rest, none of which may write anything.
const IDLE: SignedDuration = SignedDuration::from_secs(95);

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The status of the Canary.
    pub status: CanaryStatus,
    /// It came to rest.
    pub at_rest: bool,
    /// The Canary was deleted and has not come back.
    pub gone: bool,
    /// Writes after it had come to rest.
    pub idle_writes: usize,
    /// What people were told at the last look, and what it waits for.
    pub told: Vec<String>,
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
    /// What happened, line by line, if it was asked for.
    pub story: Vec<String>,
    /// Passes.
    pub passes: usize,
}

/// What is wanted of a run beside its end.
#[derive(Default)]
pub struct Options {
    /// Tell what happens in words.
    pub story: bool,
    /// More checks, beside the invariants.
    pub checks: Vec<Box<dyn Check>>,
}

/// Watches on behalf of a report.
struct Observer {
    scenario: Arc<Scenario>,
    checks: Vec<Box<dyn Check>>,
    more: Vec<Box<dyn Check>>,
    coverage: Coverage,
    story: Option<Vec<String>>,
    broken: Option<Broken>,
    changed: Timestamp,
    told: Vec<String>,
    telling: Vec<String>,
}

struct Shared(Rc<RefCell<Observer>>);

impl Watch for Shared {
    fn see(&mut self, play: &Play, what: &What<'_>) -> bool {
        self.0.borrow_mut().see(play, what)
    }
}

impl Observer {
    fn see(&mut self, play: &Play, what: &What<'_>) -> bool {
        if self.broken.is_some() {
            return false;
        }
        match what {
            What::Act(_) | What::Fault(_) | What::Recorded(..) => self.changed = play.now(),
            What::Performed(action, Ok(_)) if invariants::is_change(action) => {
                self.changed = play.now();
            }
            What::Told(event) => self.telling.push(event.message.clone()),
            What::Ended(ended) => {
                self.told = std::mem::take(&mut self.telling);
                self.told
                    .extend(ended.waits.iter().map(ToString::to_string));
            }
            What::Performing(_) | What::Performed(..) => {}
        }
        if let What::Act(super::scenario::Act::Delete(_)) = what {
            // What comes after it is another one.
            self.checks = invariants::all(&self.scenario);
        }
        cover(&mut self.coverage, play, what);
        if let Some(story) = &mut self.story
            && let Some(line) = line(play, what)
        {
            story.push(format!("{:>9}  {line}", since_beginning(play.now())));
        }
        for check in self.checks.iter_mut().chain(&mut self.more) {
            if let Err(why) = check.see(play, what) {
                self.broken = Some(Broken {
                    check: check.name(),
                    what: why,
                    at: since_beginning(play.now()),
                });
                return false;
            }
        }
        true
    }
}

/// Runs a scenario to its end, or until a check does not hold.
pub fn run(scenario: &Arc<Scenario>, options: Options) -> Report {
    let observer = Rc::new(RefCell::new(Observer {
        scenario: Arc::clone(scenario),
        checks: invariants::all(scenario),
        more: options.checks,
        coverage: Coverage::default(),
        story: options.story.then(Vec::new),
        broken: None,
        changed: BEGUN,
        told: Vec::new(),
        telling: Vec::new(),
    }));
    let mut play = Play::new(scenario);
    play.watcher = Some(Box::new(Shared(Rc::clone(&observer))));
    let outcome = live(&mut play, &observer);
    play.watcher = None;
    let mut seen = observer.borrow_mut();
    let seen = &mut *seen;
    if seen.broken.is_none() {
        for check in seen.checks.iter_mut().chain(&mut seen.more) {
            if let Err(why) = check.end(&play, &outcome) {
                seen.broken = Some(Broken {
                    check: check.name(),
                    what: why,
                    at: outcome.at,
                });
                break;
            }
        }
    }
    seen.coverage.count(
        "canary outcome",
        match (outcome.gone, outcome.status.phase) {
            (true, _) => "deleted",
            (false, phase) => phase.as_str(),
        },
    );
    Report {
        broken: seen.broken.take(),
        coverage: std::mem::take(&mut seen.coverage),
        story: seen.story.take().unwrap_or_default(),
        passes: play.passes,
        outcome,
    }
}

fn live(play: &mut Play, observer: &Rc<RefCell<Observer>>) -> Outcome {
    let troubled = i64::try_from(play.scenario.troubled_until() + 1).unwrap_or(i64::MAX);
    let until = BEGUN + SignedDuration::from_millis(troubled);
    while play.step(until) {}
    play.calm_down();
    let mut at_rest = comes_to_rest(play, observer);
    // A release that somebody skipped or suspended may have begun only then.
    let mut idle_writes = 0;
    if at_rest {
        let before = play.writes();
        let until = play.now() + IDLE;
        while play.step(until) {}
        idle_writes = play.writes() - before;
        at_rest = !play.ended;
    }
    let gone = play.space.object("Canary", NAME).is_none();
    Outcome {
        status: play.stored.clone(),
        at_rest,
        gone,
        idle_writes,
        told: observer.borrow().told.clone(),
        at: since_beginning(play.now()),
    }
}

fn comes_to_rest(play: &mut Play, observer: &Rc<RefCell<Observer>>) -> bool {
    let begun = play.now();
    observer.borrow_mut().changed = begun;
    while !play.ended {
        let until = observer.borrow().changed + REST;
        if until > begun + BOUND {
            return false;
        }
        if !play.step(until) {
            return !play.ended;
        }
    }
    false
}

/// A line of the story, for what is worth one.
fn line(play: &Play, what: &What<'_>) -> Option<String> {
    Some(match what {
        What::Act(act) => act.to_string(),
        What::Fault(kind) => kind.to_string(),
        What::Performed(action, outcome) => {
            let how = match outcome {
                Ok(_) => String::new(),
                Err(failure) => format!(" -> {}", failure.message),
            };
            let late = if play.pass.is_late { "late: " } else { "" };
            format!("  {late}{}{how}", invariants::words(action)?)
        }
        What::Recorded(_, after) => format!(
            "  {} weight {} failed {} iterations {}",
            after.phase, after.canary_weight, after.failed_checks, after.iterations
        ),
        What::Told(event) => format!("  \"{}\"", event.message),
        What::Performing(_) | What::Ended(_) => return None,
    })
}

fn cover(coverage: &mut Coverage, play: &Play, what: &What<'_>) {
    match what {
        What::Act(act) => coverage.count("canary act", act.word()),
        What::Fault(kind) => coverage.count("canary fault", kind.word()),
        What::Performed(action, outcome) => {
            let word = invariants::word(action);
            let area = if outcome.is_ok() {
                "canary action"
            } else {
                "canary refused"
            };
            coverage.count(area, word);
        }
        What::Recorded(before, after) if before.phase != after.phase => {
            coverage.count("canary phase", after.phase.as_str());
            let started =
                after.phase == CanaryPhase::Progressing || after.phase == CanaryPhase::Promoting;
            if let Some(world) = play.pass.world.as_ref().filter(|_| started) {
                let kind = world
                    .canary
                    .spec
                    .analysis()
                    .map(|one| one.strategy().as_str());
                coverage.count("canary strategy", kind.unwrap_or("none"));
                coverage.count("canary provider", &world.canary.spec.provider);
                coverage.count("canary target", &world.canary.spec.target_ref.kind);
            }
        }
        _ => {}
    }
}
