//! What to do next: pure decisions over an observed world.

pub mod rollout;
