//! Releases on a real API server, by a Crossfade that has the rights of the shipped role and no others.

#![expect(clippy::unwrap_used, reason = "tests")]

mod analysis;
mod bad_input;
mod beside;
mod blue_green;
mod canaries;
mod canary;
mod canary_endings;
mod canary_input;
mod canary_objects;
mod canary_routers;
mod canary_stage;
mod canary_takeover;
mod canary_targets;
mod experiments;
mod faults;
mod leading;
mod manifests;
mod moments;
mod notebook;
mod proxy;
mod recorded_canaries;
mod recorded_rollouts;
mod routers;
mod settings;
mod stage;
mod takeover;
mod tools;
mod traces;
mod workload;
