//! Releases on a real API server, by a Crossfade that has the rights of the shipped role and no others.

#![expect(clippy::unwrap_used, reason = "tests")]

mod analysis;
mod bad_input;
mod blue_green;
mod canaries;
mod canary;
mod experiments;
mod faults;
mod leading;
mod manifests;
mod moments;
mod proxy;
mod routers;
mod settings;
mod stage;
mod takeover;
mod tools;
mod traces;
mod workload;
