//! The supervisor with real processes: every state of a pod, every way to die.
#![expect(clippy::panic, reason = "tests")]

mod crashes;
mod deaths;
mod ending;
mod logging;
mod order;
mod probes;
mod starting;
mod templates;
mod world;
