//! A whole host: the real binary with its control plane, data plane, shims and pods, under load, and what goes wrong with them.

#![expect(clippy::panic, reason = "tests")]

mod folders;
mod input;
mod kills;
mod load;
mod ports;
mod processes;
mod rig;
