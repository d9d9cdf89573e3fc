//! The gate server: gates that people open and releases ask, and tasks that releases want done.
//!
//! Start at [`Server::start`]. `http` speaks with clients; `answer` knows the paths; `payload` reads bodies; [`Keeper`] looks after gates by the
//! `rules`, which are functions of a record and a time; `store` keeps them; `identity` says who may do what; `tasks` runs commands.
//!
//! What a client of the reference sends is answered as the reference does. What goes beyond begins with a member, header, path or flag that the
//! reference does not have.

mod answer;
mod http;
mod identity;
mod keeper;
pub mod log;
mod metrics;
mod patience;
mod payload;
mod record;
mod remote;
mod rules;
mod store;
mod tasks;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

pub use http::{Server, StartError};
pub use identity::{AuthMode, Guard};
pub use keeper::{ChangeError, Clock, Keeper, Listed};
pub use record::{
    Action, CanaryId, DEFAULT_GATE, Entry, GateId, Gates, Mode, ROLLBACK_GATE, Record, Scope, Who,
    check_gate_name,
};
pub(crate) use remote::chain;
pub use remote::{ClusterService, Remote, RemoteError};
pub use rules::{Opening, Refused, Verdict};
pub use store::{Store, StoreError};
pub use tasks::{TaskSettings, TaskType};
pub use tls::TlsFiles;

/// How a server behaves.
#[derive(Debug)]
pub struct Settings {
    /// Looks after the gates.
    pub keeper: Keeper,
    /// Lets calls in.
    pub guard: Guard,
    /// Which namespaces payloads may name; all without it.
    pub namespaces: Option<Regex>,
    /// Unknown paths under `/gate/` and `/rollback/` are told instead of being tasks.
    pub strict_paths: bool,
    /// Which tasks are run.
    pub tasks: TaskSettings,
    /// Speak TLS with these files; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// How long requests under way are waited for at the end.
    pub farewell: Duration,
}

/// What every request needs.
#[derive(Debug)]
struct Desk {
    keeper: Keeper,
    guard: Guard,
    namespaces: Option<Regex>,
    strict_paths: bool,
    metrics: Arc<metrics::Metrics>,
    tasks: Arc<tasks::Tasks>,
}
