//! What one evaluation may spend: steps, elements and bytes.
//!
//! Steps stand for time. They are counted rather than measured, so that a condition gives the same answer on every
//! machine. What a step costs in time differs; [`STEPS`] keeps the slowest far below a second or two.

use super::error::Fault;

/// The most steps. A predicate of ten words over a list of 100,000 elements takes a million.
const STEPS: u64 = 5_000_000;

/// The most elements of lists and maps that may be made, and bytes by repeating; the reference's number.
const ELEMENTS: u64 = 1_000_000;

/// The most bytes of texts that may be made otherwise. The reference has no such limit; this one is far above what
/// a provider's answer can hold.
const TEXT: u64 = 64 << 20;

/// How many bytes are looked at in the time of a step.
const BYTES_A_STEP: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Budget {
    steps: u64,
    elements: u64,
    text: u64,
}

fn too_long() -> Fault {
    Fault::new("expression took too long")
}

fn too_much() -> Fault {
    Fault::new("memory budget exceeded")
}

fn wide(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

impl Budget {
    pub(super) fn step(&mut self) -> Result<(), Fault> {
        self.steps(1)
    }

    pub(super) fn steps(&mut self, count: usize) -> Result<(), Fault> {
        self.steps = self.steps.saturating_add(wide(count));
        if self.steps > STEPS {
            return Err(too_long());
        }
        Ok(())
    }

    /// Before looking at bytes.
    pub(super) fn reads(&mut self, bytes: usize) -> Result<(), Fault> {
        self.steps(1 + bytes / BYTES_A_STEP)
    }

    /// Before making lists, maps and repeated texts.
    pub(super) fn elements(&mut self, count: usize) -> Result<(), Fault> {
        self.elements = self.elements.saturating_add(wide(count));
        if self.elements >= ELEMENTS {
            return Err(too_much());
        }
        self.steps(count)
    }

    /// Before making a text.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), Fault> {
        self.text = self.text.saturating_add(wide(bytes));
        if self.text > TEXT {
            return Err(too_much());
        }
        self.reads(bytes)
    }
}
