//! The world as a Kubernetes cluster: watches, queues, and the engine's decisions carried out by the API server.
//!
//! Start at [`Controller::start`]. Watches fill caches (`watch`, `cache`, `caches`) and put subjects into queues (`context`, `queue`); each subject is
//! taken through one pass of the engine at a time (`rollouts`, `runs`), whose actions become requests (`perform`, `routes`, `requests`). Nothing is
//! decided on what is older than our own last write (`own_writes`), and nothing is asked of the API server to find out whether something
//! has changed.

mod ailing;
mod cache;
mod caches;
mod canaries;
mod canary_metrics;
mod client;
mod context;
mod controller;
mod counts;
mod doors;
mod events;
mod experiments;
mod kind;
mod lease;
mod limit;
mod look;
mod measuring;
mod metrics;
mod object;
mod own_writes;
mod perform;
mod process;
mod queue;
mod referrers;
mod requests;
mod rollouts;
mod routes;
mod runs;
mod settings;
mod standings;
mod stuck;
mod traces;
mod verdicts;
mod watch;
mod workloads;
mod workqueue;
mod writes;

pub use client::client;
pub use controller::{Controller, StartError};
pub use lease::Election;
pub use look::{Seen, look};
pub use settings::{RequestLimit, Settings, Shard};
pub use traces::Tracing;
