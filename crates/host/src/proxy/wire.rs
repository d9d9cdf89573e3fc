//! What is said over the control socket: one JSON object a line, each way.
//!
//! A command carries a number of the sender's choice, and its answer repeats it; answers come when they are ready, so
//! a drain that takes a minute holds up nothing else.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{config::ProxyConfig, stats::Stats};

/// A command with its number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Numbered<T> {
    pub(super) id: u64,
    #[serde(flatten)]
    pub(super) what: T,
}

/// What the control plane wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "op")]
pub(super) enum Command {
    /// Obey this from now on.
    Apply { config: ProxyConfig },
    /// Give these pods no new request, and answer when they have none left.
    #[serde(rename_all = "camelCase")]
    Drain { pods: Vec<String>, timeout_ms: u64 },
    /// What was counted?
    Stats,
}

/// What the data plane says to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Answer {
    Applied(Applied),
    Drained(Drained),
    Stats(Box<Stats>),
    Error(String),
}

/// A configuration is in force: every request that begins now obeys it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Its revision.
    pub revision: u64,
    /// Every listener of it, in its order.
    pub listeners: Vec<Listening>,
}

/// Where a listener listens, or why it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listening {
    /// Name of the listener.
    pub name: String,
    /// The address with its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addr: Option<SocketAddr>,
    /// The fault, for example a port that is taken. It is tried again until it works or the listener is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The outcome of a drain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drained {
    /// Pods that still have requests in flight because the time was up; none if all have ended.
    pub busy: Vec<Busy>,
}

/// A pod that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Busy {
    /// Its name.
    pub pod: String,
    /// Requests in flight, upgraded connections included.
    pub in_flight: usize,
}
