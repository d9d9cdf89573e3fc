//! One pass over one subject: decide, perform, decide again with what came of it, record the status, publish the events.
//!
//! The pass says what it needs next and a world answers; so all worlds run the same machine, and what a simulation tests is what runs.
//! It is bounded: a decision that goes on wanting new actions for ever ends as a failure, not as a loop.
//!
//! Where one status leads to the next and nothing has to be done in between, only the last of them is recorded (see [`Subject::after`]).

use jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Evidence, Outcome};
use crate::decision::{Decision, Event, Wait};
use crate::mutant::{Mutant, wrong};

/// Rounds after which a pass that still wants something new is given up. An ordinary pass takes one to five.
const MOST_ROUNDS: usize = 200;

/// Statuses that may follow from one another in one pass. Ordinary are two to four.
const MOST_STATUSES: usize = 10;

/// How long to wait for the cache to show our own last write.
const STALE_CACHE: SignedDuration = SignedDuration::from_millis(100);

/// Something that is decided on: a Rollout, an AnalysisRun.
pub trait Subject {
    /// Everything observed about one of them.
    type World;
    /// What is recorded about it.
    type Status;
    /// What to do now. Pure: the same world, evidence and time give the same decision.
    fn decide(world: &Self::World, evidence: &Evidence, now: Timestamp) -> Decision<Self::Status>;

    /// What the next pass would observe if this status were recorded, what this pass has done were seen, and nothing else happened; `None`
    /// where that cannot be told.
    fn after(
        _world: &Self::World,
        _evidence: &Evidence,
        _status: &Self::Status,
    ) -> Option<Self::World> {
        None
    }

    /// Whether `next`, which follows from `status` on this world, says all that somebody who sees only the recorded ones should have seen.
    fn stands_for(_world: &Self::World, _status: &Self::Status, _next: &Self::Status) -> bool {
        true
    }
}

/// How sure a world is that it may decide and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The observation is as new as our own last write, and we lead.
    Sound,
    /// The observation is older than our own last write.
    Stale,
    /// Somebody else leads, or might.
    NotLeading,
}

impl Standing {
    /// Whether a pass decides anything; otherwise it does not look at what was observed.
    pub fn decides(self) -> bool {
        match self {
            Self::Sound => true,
            Self::Stale => wrong(Mutant::ActOnStale),
            Self::NotLeading => false,
        }
    }
}

/// What a pass needs from its world next.
#[derive(Debug)]
pub enum Need<Status> {
    /// Perform these actions in order; neighbouring measurements may run side by side. Answer by [`Pass::performed`].
    Perform(Vec<Action>),
    /// Record this status (`None`: leave it), then publish these events. Answer by [`Pass::recorded`].
    Record(Option<Status>, Vec<Event>),
}

/// How a pass ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ended {
    /// Look again after this long.
    pub look_again: Option<SignedDuration>,
    /// What the subject waits for.
    pub waits: Vec<Wait>,
    /// Why the pass failed; repeat it with a growing delay.
    pub failed: Option<String>,
    /// A Canary's release was judged: its pods were ready, and nothing took it back before its checks. Only such looks are timed.
    pub judged: bool,
}

enum State<Status> {
    Deciding,
    Performing(Vec<Action>),
    Recording {
        after: Ended,
        need: Option<Need<Status>>,
        /// What was done in this pass, to be told even if the status cannot be recorded.
        done: Vec<Event>,
    },
    Over(Ended),
}

/// One pass over one subject.
pub struct Pass<S: Subject> {
    world: S::World,
    now: Timestamp,
    evidence: Evidence,
    rounds: usize,
    state: State<S::Status>,
}

impl<S: Subject> Pass<S> {
    /// Starts a pass on what was observed at `now`.
    pub fn start(world: S::World, standing: Standing, now: Timestamp) -> Self {
        let state = match standing {
            standing if standing.decides() => State::Deciding,
            Standing::Stale => State::Over(Ended {
                look_again: Some(STALE_CACHE),
                ..Ended::default()
            }),
            Standing::Sound | Standing::NotLeading => State::Over(Ended::default()),
        };
        Self {
            world,
            now,
            evidence: Evidence::default(),
            rounds: 0,
            state,
        }
    }

    /// What the pass needs next, or `None` when it is over. Asking again without an answer gives nothing new to do.
    pub fn need(&mut self) -> Option<Need<S::Status>> {
        if let State::Deciding = self.state {
            self.decide();
        }
        match &mut self.state {
            State::Performing(actions) => Some(Need::Perform(actions.clone())),
            State::Recording { need, .. } => need.take(),
            State::Deciding | State::Over(_) => None,
        }
    }

    fn decide(&mut self) {
        self.rounds += 1;
        let decision = S::decide(&self.world, &self.evidence, self.now);
        if !decision.actions.is_empty() && self.rounds <= MOST_ROUNDS {
            self.state = State::Performing(decision.actions);
            return;
        }
        let unfinished = (!decision.actions.is_empty()).then(|| {
            format!(
                "the pass still wants to act after {MOST_ROUNDS} rounds: {:?}",
                decision.actions.first()
            )
        });
        let decision = self.follow(decision);
        let after = Ended {
            look_again: decision.look_again,
            waits: decision.waits,
            failed: decision.failed.or(unfinished),
            judged: decision.judged,
        };
        self.state = if decision.status.is_none() && decision.events.is_empty() {
            State::Over(after)
        } else {
            let done = decision.events.iter().filter(|event| event.done);
            State::Recording {
                after,
                done: done.cloned().collect(),
                need: Some(Need::Record(decision.status, decision.events)),
            }
        };
    }

    /// Decides on what this decision's status would lead to, until it leads to no other or something would have to be done: whatever is done
    /// is done on what is recorded.
    fn follow(&self, mut decision: Decision<S::Status>) -> Decision<S::Status> {
        let mut world: Option<S::World> = None;
        for _ in 0..MOST_STATUSES {
            let Some(status) = decision
                .status
                .as_ref()
                .filter(|_| decision.failed.is_none())
            else {
                break;
            };
            let next = match &world {
                Some(world) => S::after(world, &Evidence::default(), status),
                None => S::after(&self.world, &self.evidence, status),
            };
            let Some(seen) = next else {
                break;
            };
            let next = S::decide(&seen, &Evidence::default(), self.now);
            if !next.actions.is_empty() || next.failed.is_some() {
                break;
            }
            let stands = |next: &S::Status| S::stands_for(&self.world, status, next);
            if !next.status.as_ref().is_none_or(stands) {
                break;
            }
            decision.look_again = next.look_again;
            decision.waits = next.waits;
            if next.status.is_none() {
                break;
            }
            decision.status = next.status;
            decision.events.extend(next.events);
            world = Some(seen);
        }
        decision
    }

    /// Answers [`Need::Perform`] with one outcome an action, in the same order. Fewer outcomes mean that the rest was not tried,
    /// for example because leadership was lost; the pass then ends and the next one carries on from what it observes.
    pub fn performed(&mut self, outcomes: Vec<Outcome>) {
        let State::Performing(actions) = std::mem::replace(&mut self.state, State::Deciding) else {
            return;
        };
        let complete = actions.len() == outcomes.len();
        for (action, outcome) in actions.into_iter().zip(outcomes) {
            self.evidence.add(action, outcome);
        }
        if !complete {
            let failed =
                Some("the pass was interrupted before all of its actions were tried".to_owned());
            self.state = State::Over(Ended {
                failed,
                ..Ended::default()
            });
        }
    }

    /// Answers [`Need::Record`]: whether the status was stored. A failure (a conflict, for one) fails the pass; what it has done is
    /// told all the same.
    pub fn recorded(&mut self, result: Result<(), String>) {
        if let State::Recording { after, done, .. } = &mut self.state {
            let (mut after, done) = (std::mem::take(after), std::mem::take(done));
            let failed = result.is_err();
            if let Err(why) = result {
                after.failed = Some(why);
            }
            self.state = if failed && !done.is_empty() {
                State::Recording {
                    after,
                    need: Some(Need::Record(None, done)),
                    done: Vec::new(),
                }
            } else {
                State::Over(after)
            };
        }
    }

    /// What was done in this pass.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// How the pass ended; for one that is not over yet, that it was interrupted.
    pub fn ended(self) -> Ended {
        match self.state {
            State::Over(ended) => ended,
            State::Deciding | State::Performing(_) | State::Recording { .. } => Ended {
                failed: Some("the pass was interrupted".to_owned()),
                ..Ended::default()
            },
        }
    }
}
