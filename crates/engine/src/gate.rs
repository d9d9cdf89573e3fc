//! Gates: what a release asks before it moves on.
//!
//! Steps, pauses and analyses are gates of the strategies themselves. Further ones (windows, incidents, approvals, policies) are resources
//! of their own; what each of them says arrives in the world, and the strategies need not know where it comes from. Going back is never
//! gated: not an abort, not a rollback to the stable version or within the rollback window, and not the first deployment.

use crate::decision::Wait;

/// When gates are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Before the first pod of a new version is made.
    Start,
    /// Before the step index rises, or production traffic is switched.
    Advance,
    /// Before the new version becomes the stable one.
    Promotion,
    /// In every pass while a new version is under way. Only proof counts here; a lack is only shown.
    Bake,
}

/// What a gate answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nothing against it.
    Go,
    /// Not yet: this is lacking, and since when where that is known. The release stays where it is. Empty where the lack is told elsewhere.
    NotYet(Vec<Wait>),
    /// The new version is bad, and this is the proof: the release is taken back.
    Stop(String),
}

impl Answer {
    /// Not yet, for one reason.
    pub fn lacks(wait: Wait) -> Self {
        Self::NotYet(vec![wait])
    }
}

/// What a gate outside of the strategy says about a release now.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// The moments at which it has a say.
    pub moments: Vec<Moment>,
    /// What it says then.
    pub answer: Answer,
}
