//! The control plane of one machine: it turns what users applied into processes and routes, by the engine's decisions.
//!
//! Start at `host`: what changes wakes subjects (`waking`), each is looked after by a function of its own (`subjects`). Rollouts, AnalysisRuns,
//! Experiments and Canaries go through the engine's passes; Deployments, ReplicaSets, Jobs and pods through plain functions (`deployments`,
//! `workloads`); Services through `routes`.

mod analysis_runs;
mod answers;
mod belonging;
mod canaries;
mod canary_checks;
mod canary_routes;
mod data_plane;
mod deployments;
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

pub use explanation::{explain, explain_canary};
pub use host::{Host, Settings, StartError};
