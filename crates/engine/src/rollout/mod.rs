//! What a release does: canary and blue-green.

pub mod prepared;
pub mod replicas;
pub mod world;
