//! Manifests that were written for clusters run to their end on one machine, as a user would have them run.
//!
//! The files in `tests/data/manifests` are as they were found; beside each lies an overlay that adds what the file lacks here and
//! shortens its pauses. Real processes, real requests all the while, and not one of them may fail.

mod beside;
mod blue_green;
mod by_hand;
mod canary;
mod canary_input;
mod canary_ways;
mod flagger;
mod pods;
mod stage;
mod workload;
