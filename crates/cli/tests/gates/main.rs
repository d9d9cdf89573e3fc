//! The gate server as a process of its own, asked over HTTP: the acceptance scenarios of gates, by their numbers.

#![expect(clippy::panic, reason = "tests")]

mod cluster;
mod compatible;
mod durable;
mod flow;
mod rig;
mod tasks;
mod tls;
