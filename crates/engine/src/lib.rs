//! What to do next: pure decisions over an observed world.
//!
//! No I/O, no clock, no randomness: everything observed comes in as a value, and everything to be done goes out as one. Start with
//! [`pass`] for how a decision is carried out, [`rollout`] and
//! [`canary`] for what a release does, [`analysis`] for how evidence is gathered, [`experiment`] for
//! versions that run side by side.

pub mod action;
pub mod analysis;
pub mod canary;
pub mod decision;
pub mod experiment;
pub mod gate;
mod make_run;
pub mod mutant;
pub mod pass;
pub mod rollout;
pub mod views;
pub mod written;
