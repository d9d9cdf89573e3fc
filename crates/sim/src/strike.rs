//! One fault at one moment of a replay, so that every moment can have its turn.

use crate::passes::Moment;
use crate::scenario::FaultKind;

/// A fault that strikes once, at the moment of this number among those at which it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// What goes wrong.
    pub kind: FaultKind,
    /// So many moments are let go by first.
    pub after: usize,
}

/// A strike under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    strike: Strike,
    moments: usize,
}

impl Pending {
    pub(crate) fn new(strike: Strike) -> Self {
        Self { strike, moments: 0 }
    }

    /// Moments so far at which it could have struck.
    pub(crate) fn moments(&self) -> usize {
        self.moments
    }

    /// The fault, if this is its moment.
    pub(crate) fn strikes(&mut self, moment: Moment) -> Option<FaultKind> {
        if !moment.fits(self.strike.kind) {
            return None;
        }
        self.moments += 1;
        (self.moments - 1 == self.strike.after).then_some(self.strike.kind)
    }
}
