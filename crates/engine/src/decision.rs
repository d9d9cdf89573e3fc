//! What has been decided: a value that can be printed, compared and tested.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::action::{Action, Evidence, Failure, Outcome};

/// An object that a world was asked to look up.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Found<T> {
    /// It exists.
    Found(T),
    /// It does not exist.
    #[default]
    Missing,
    /// It could not be read; the text says why.
    Unreadable(String),
    /// This world has no such objects and needs none (router objects on one machine).
    NotNeeded,
}

impl<T> Found<T> {
    /// The object, if it was found.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(object) => Some(object),
            Self::Missing | Self::Unreadable(_) | Self::NotNeeded => None,
        }
    }

    /// Why it could not be read.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Self::Unreadable(why) => Some(why),
            Self::Found(_) | Self::Missing | Self::NotNeeded => None,
        }
    }
}

/// What somebody is told about a release: becomes a Kubernetes Event on the subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// True for type `Warning`, false for `Normal`.
    pub warning: bool,
    /// The reason, one word in camel case; contract with other tools.
    pub reason: String,
    /// The text.
    pub message: String,
    /// It tells of something done, which is true whether or not the status can be recorded; the next pass will not do it again.
    pub done: bool,
    /// It is told on the object that controls the subject, too.
    pub for_owner: bool,
}

/// Something a release waits for, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// What is waited for: a sentence with numbers, for example `2 of 3 canary pods to become available`.
    pub for_what: String,
    /// Since when, where that is recorded.
    pub since: Option<Timestamp>,
    /// When it ends by itself, where that is known.
    pub until: Option<Timestamp>,
    /// What a person can do to move it: commands of `crossfade` that take the subject's name, for example `promote`.
    pub moved_by: &'static [&'static str],
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for {}", self.for_what)
    }
}

/// What to do now, what to record, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<Status> {
    /// Actions to perform now, in this order. Not empty: perform them, add their outcomes, decide again; nothing else of this
    /// decision counts yet.
    pub actions: Vec<Action>,
    /// The whole status to record, or `None` to leave it as it is.
    pub status: Option<Status>,
    /// Events to publish once the status is recorded.
    pub events: Vec<Event>,
    /// Look again after this long, if nothing happens earlier; `None` leaves it to events and the periodic resync.
    pub look_again: Option<SignedDuration>,
    /// What the release waits for.
    pub waits: Vec<Wait>,
    /// Why the pass failed; it is repeated with a growing delay.
    pub failed: Option<String>,
    /// A Canary's release was judged: see [`crate::pass::Ended::judged`].
    pub judged: bool,
}

impl<Status> Default for Decision<Status> {
    fn default() -> Self {
        Self {
            actions: Vec::new(),
            status: None,
            events: Vec::new(),
            look_again: None,
            waits: Vec::new(),
            failed: None,
            judged: false,
        }
    }
}

/// Why a rule could not go on.
#[derive(Clone, Debug, PartialEq)]
pub enum Halt {
    /// An action has to be performed first; the decision is taken again with its outcome.
    Pending,
    /// The pass fails with this text and is repeated later.
    Failed(String),
}

/// The decision in the making.
///
/// Rules ask for actions in the order in which they must happen. A rule that needs to know how an action ended uses [`Plan::act`], which
/// interrupts the decision until the outcome is known; one that does not uses [`Plan::want`]. As every decision is taken
/// anew from the same world with more evidence, rules stay plain functions without a memory.
#[derive(Debug)]
pub struct Plan<'e> {
    evidence: &'e Evidence,
    wanted: Vec<Action>,
    /// Events in the order in which they came about.
    pub events: Vec<Event>,
    /// What the release waits for.
    pub waits: Vec<Wait>,
    /// A Canary's release was judged.
    pub judged: bool,
    look_again: Option<SignedDuration>,
    failed: Option<String>,
}

impl<'e> Plan<'e> {
    /// An empty plan on what has happened so far.
    pub fn new(evidence: &'e Evidence) -> Self {
        Self {
            evidence,
            wanted: Vec::new(),
            events: Vec::new(),
            waits: Vec::new(),
            judged: false,
            look_again: None,
            failed: None,
        }
    }

    /// An empty plan on what has happened so far in this one: to find out what rules will come to.
    pub(crate) fn foresight(&self) -> Self {
        Self::new(self.evidence)
    }

    /// Wants an action and tells how it ended, or `None` while it has not been performed. Later rules may go on.
    pub fn want(&mut self, action: Action) -> Option<&'e Outcome> {
        let outcome = self.evidence.of(&action);
        if outcome.is_none() && !self.wanted.contains(&action) {
            self.wanted.push(action);
        }
        outcome
    }

    /// Wants an action and goes on only when it has been performed.
    pub fn act(&mut self, action: Action) -> Result<&'e Outcome, Halt> {
        self.want(action).ok_or(Halt::Pending)
    }

    /// Wants an action and goes on only when it has succeeded; its failure ends the pass.
    pub fn must(&mut self, action: Action) -> Result<&'e crate::action::Done, Halt> {
        match self.act(action)? {
            Ok(done) => Ok(done),
            Err(Failure { message, .. }) => Err(Halt::Failed(message.clone())),
        }
    }

    /// Tells people something once the status is recorded.
    pub fn event(&mut self, reason: &str, message: impl Into<String>) {
        self.events.push(Event {
            warning: false,
            reason: reason.to_owned(),
            message: message.into(),
            done: false,
            for_owner: false,
        });
    }

    /// Tells people of something that an action has done.
    pub fn did(&mut self, reason: &str, message: impl Into<String>) {
        self.events.push(Event {
            warning: false,
            reason: reason.to_owned(),
            message: message.into(),
            done: true,
            for_owner: false,
        });
    }

    /// Tells people something once the status is recorded, on the subject and on the object that controls it.
    pub fn tell_owner(&mut self, warning: bool, reason: &str, message: impl Into<String>) {
        self.events.push(Event {
            warning,
            reason: reason.to_owned(),
            message: message.into(),
            done: false,
            for_owner: true,
        });
    }

    /// Warns people of something once the status is recorded.
    pub fn warn(&mut self, reason: &str, message: impl Into<String>) {
        self.events.push(Event {
            warning: true,
            reason: reason.to_owned(),
            message: message.into(),
            done: false,
            for_owner: false,
        });
    }

    /// Looks again after this long at the latest; never sooner than at once.
    pub fn look_again_in(&mut self, delay: SignedDuration) {
        let delay = delay.max(SignedDuration::ZERO);
        self.look_again = Some(self.look_again.map_or(delay, |earlier| earlier.min(delay)));
    }

    /// Marks the pass as failed, without keeping later rules from having their say; the first reason stays.
    pub fn fail(&mut self, why: impl Into<String>) {
        self.failed.get_or_insert_with(|| why.into());
    }

    /// Whether a rule has marked the pass as failed.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// The finished decision: with actions still to perform it holds nothing else.
    pub fn decide<Status>(mut self, status: Result<Option<Status>, Halt>) -> Decision<Status> {
        if !self.wanted.is_empty() {
            return Decision {
                actions: self.wanted,
                ..Decision::default()
            };
        }
        let (status, halted) = match status {
            Ok(status) => (status, None),
            Err(Halt::Failed(why)) => (None, Some(why)),
            Err(Halt::Pending) => (
                None,
                Some("a rule waited for an action that nobody asked for".to_owned()),
            ),
        };
        if halted.is_some() {
            // What should have been recorded with the status will be told with it.
            self.events.retain(|event| event.done || event.warning);
        }
        Decision {
            actions: Vec::new(),
            status,
            events: self.events,
            look_again: self.look_again,
            waits: self.waits,
            failed: self.failed.or(halted),
            judged: self.judged,
        }
    }
}
