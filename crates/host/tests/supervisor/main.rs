//! The supervisor with real processes: every state of a pod, every way to die.
#![expect(clippy::panic, reason = "tests")]

mod starting;
mod templates;
mod world;
