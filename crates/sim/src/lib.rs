//! The world simulated: a cluster in virtual time, driven through the same contract as the real ones.
//!
//! [`cluster::Cluster`] holds objects, pods with a life of their own, and metric servers. Two things drive it:
//!
//! - [`replay`] plays what the reference controller was recorded doing and compares what users see.
//! - [`run::run`] plays a [`scenario::Scenario`]: a whole run as data (manifests, how versions behave, what people and machines do when,
//!   what goes wrong in the controller's own house). [`generate::scenario`] makes one from a seed; others are made by hand.
//!
//! A run is under watch: [`invariants`] are checked after every action, [`coverage`] counts what was reached, [`history`] keeps what users
//! saw with times, [`story`] tells it in words. Who wants to look himself implements [`invariants::Check`] and hands it over in
//! [`run::Options`]; what it is told is [`watch::What`]. Nothing depends on real time, threads or the order of a hash map, so
//!
//! ```
//! use std::sync::Arc;
//! use crossfade_sim::{generate, run};
//!
//! let scenario = Arc::new(generate::scenario(7));
//! let options = run::Options { story: true, ..run::Options::default() };
//! let report = run::run(&scenario, options);
//! assert_eq!(report.broken, None, "{}", report.story);
//! ```
//!
//! gives the same on every machine. `cargo xtask bench sim --rollouts --seed 7` tells it.

mod acts;
pub mod again;
pub mod canaries;
pub mod cluster;
pub mod compare;
pub mod coverage;
mod experiments;
pub mod family;
pub mod forecast;
mod garbage;
pub mod generate;
pub mod history;
pub mod invariants;
pub mod named;
mod objects;
mod observe;
pub mod opinion;
mod passes;
mod perform;
pub mod person;
pub mod random;
mod rare;
mod readings;
pub mod recording;
pub mod replay;
pub mod run;
pub mod scenario;
mod script;
pub mod shrink;
pub mod standing;
pub mod story;
pub mod strike;
pub mod takeover;
mod trials;
pub mod visible;
pub mod watch;
