//! The one question before a release goes on: may it?
//!
//! Before a step index rises, before promotion, a list of gates is asked. A gate that says no withholds only that last rule, and its lack is
//! shown; one that has proof that the version is bad takes the release back. Going back is never gated.

use crate::decision::{Plan, Wait};

use super::pause::Asks;

/// What a gate answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Gate {
    /// Nothing against it.
    Go,
    /// Not yet; this is lacking. `None` where the lack has been told already.
    NotYet(Option<Box<Wait>>),
    /// The version is bad; this is the proof.
    Stop(String),
}

impl Gate {
    /// Not yet, for this reason.
    pub(super) fn lacks(wait: Wait) -> Self {
        Self::NotYet(Some(Box::new(wait)))
    }

    /// True if the release may go on. Lacks are told, proof takes the release back.
    pub(super) fn passes(self, plan: &mut Plan<'_>, asks: &mut Asks) -> bool {
        match self {
            Self::Go => true,
            Self::NotYet(lack) => {
                plan.waits.extend(lack.map(|wait| *wait));
                false
            }
            Self::Stop(proof) => {
                asks.abort(proof);
                false
            }
        }
    }
}
