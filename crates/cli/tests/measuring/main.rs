//! Measurements on a real host: real metric servers, real Jobs, and everything that can go wrong with them.
//!
//! Every test starts the real binary with a state folder of its own and talks to it as users do.

#![expect(
    clippy::needless_pass_by_value,
    reason = "tests read better with plain values"
)]

mod bad_input;
mod experiments;
mod host;
mod jobs;
mod prometheus;
mod releases;
mod secrets;
mod server;
mod transport;
mod web;
