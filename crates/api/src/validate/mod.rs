//! Whether what a user wrote can be acted on, in the words that conditions show.
//!
//! Every function collects all faults in the order in which they are told. Start at [`rollout()`] for rules
//! about the spec alone, [`references::references`] for rules about the objects that it names,
//! [`analysis::metrics`] for the metrics of a run, [`experiment()`] for Experiments, [`unsupported`] for what this version cannot do yet, and
//! [`warnings()`] for what is accepted but can hardly be meant.

pub mod analysis;
mod canary;
mod container;
mod experiment;
mod json;
pub(crate) mod names;
mod pod_spec;
pub mod references;
mod rollout;
mod routers;
mod steps;
pub mod unsupported;
mod virtual_service;
mod volume;
mod warnings;

pub use experiment::{experiment, experiment_warnings};
pub use rollout::rollout;
pub use warnings::warnings;

/// Whether a text is a name as keys of labels are: `[prefix/]name`.
pub(crate) fn is_qualified_name(name: &str) -> bool {
    names::qualified_name(name).is_empty()
}
