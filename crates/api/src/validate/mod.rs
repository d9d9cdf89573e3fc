//! Whether what a user wrote can be acted on, in the words that conditions show.
//!
//! Every function collects all faults in the order in which they are told. Start at [`rollout()`] for rules
//! about the spec alone, `references` for rules about the objects that it names

mod canary;
mod container;
mod json;
pub(crate) mod names;
mod pod_spec;
mod rollout;
mod steps;
mod volume;

pub use rollout::rollout;

/// Whether a text is a name as keys of labels are: `[prefix/]name`.
pub(crate) fn is_qualified_name(name: &str) -> bool {
    names::qualified_name(name).is_empty()
}
