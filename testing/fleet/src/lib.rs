//! Fleets of Rollouts and Canaries on a real control plane, looked after by the real program: for benches, and for tests of what happens when that program is
//! killed, frozen or cut off.
//!
//! Start at [`Fleet`]; [`Program`] is the controller's process, [`Board`] what is seen of objects while it works, [`Answers`] the server that
//! AnalysisRuns ask,
//! [`Prometheus`] the one that Canaries ask.

mod answers;
mod board;
mod fleet;
mod history;
mod install;
mod kills;
mod manifests;
mod probes;
mod program;
mod prometheus;
mod report;
mod requests;

pub use answers::Answers;
pub use board::{Board, Seen};
pub use fleet::{Fleet, Shape};
pub use history::{History, Version};
pub use install::install;
pub use kills::{Survived, leads, survive};
pub use manifests::Kind;
pub use probes::{Probes, Reaction};
pub use program::{Options, Program, Usage};
pub use prometheus::Prometheus;
pub use report::{Bound, Report};
pub use requests::Requests;

/// What ends a bench or a test before anything that it asserts.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
