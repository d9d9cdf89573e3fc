//! The numbered scenarios of the specification, on a cluster in memory.

#![expect(clippy::panic, reason = "the cluster of the tests fails loudly")]

mod analysis;
mod bluegreen;
mod canary;
mod cluster;
mod experiments;
mod gates;
mod restart;
mod routed;
mod status;
mod versions;
mod workload;
