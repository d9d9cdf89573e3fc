//! What a release does: canary and blue-green.

pub mod replicas;
