//! The data plane over real sockets: pods, clients and the control plane are real; only they run in this process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod changes;
mod life;
mod mirrors;
mod passing;
mod retries;
mod rig;
mod routing;
mod smuggling;
