//! The control plane of one machine: it turns what users applied into processes and routes, by the engine's decisions.
//!
//! Start at `host`: what changes wakes subjects (`waking`), each is looked after by a function of its own (`subjects`). Rollouts, AnalysisRuns and Experiments go
//! through the engine's passes; ReplicaSets, Jobs and pods through plain functions (`workloads`); Services through `routes`.

mod analysis_runs;
mod answers;
mod belonging;
mod data_plane;
mod entries;
mod experiments;
mod explanation;
mod host;
mod materials;
mod measuring;
mod metering;
mod nginx;
mod objects;
mod pods;
mod prepared;
mod queue;
mod rollouts;
mod routes;
mod schemas;
mod subjects;
mod waking;
mod workloads;

use crossfade_engine::views;

pub use explanation::explain;
pub use host::{Host, Settings, StartError};
