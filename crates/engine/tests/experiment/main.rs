//! The numbered scenarios of the specification of Experiments, on a namespace in memory.

#![expect(clippy::panic, reason = "the namespace of the tests fails loudly")]

mod analyses;
mod rig;
mod templates;
