//! Why a call gave no result.

use std::time::Duration;

use crate::wire::{Reason, Status};

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a refusal.
    #[error("{}", .0.message)]
    Status(Box<Status>),
    /// Nobody answers at the address.
    #[error("no host answers at {address}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A request found no way to a server that is not a host.
    #[error("{server} cannot be reached")]
    NoWay {
        /// The server.
        server: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke in the middle of an answer.
    #[error("the connection to {server} broke")]
    Broken {
        /// The server.
        server: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is not what this client understands; most likely the versions differ.
    #[error("the server's answer is not understood ({what})")]
    Answer {
        /// What was read.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The server did not answer in time.
    #[error("{server} did not answer within {} s", .after.as_secs())]
    Timeout {
        /// The server.
        server: String,
        /// How long the client waited.
        after: Duration,
    },
    /// The address is of no known form.
    #[error(
        "`{text}` is no address of a host; use the path of its socket or http://127.0.0.1:PORT"
    )]
    Address {
        /// The text.
        text: String,
    },
    /// The server was not taught this kind of object.
    #[error("{server} knows no {resource}")]
    NoKind {
        /// The server.
        server: String,
        /// The kind, as `rollouts.argoproj.io`.
        resource: String,
    },
    /// Only a host has what was asked for.
    #[error("{server} has no {what}: only a host has one")]
    OnlyHosts {
        /// The server.
        server: String,
        /// What was asked for.
        what: &'static str,
    },
    /// A name that cannot stand in a path.
    #[error("`{name}` is not a valid name")]
    Name {
        /// The name.
        name: String,
    },
}

impl Error {
    /// The server's word for the refusal, when it was one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Status(status) => Some(status.reason),
            _ => None,
        }
    }

    /// Whether the server said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.reason() == Some(Reason::NotFound)
    }

    /// Whether somebody else changed the object first.
    pub fn is_conflict(&self) -> bool {
        self.reason() == Some(Reason::Conflict)
    }
}

/// A result of a call.
pub type Result<T> = std::result::Result<T, Error>;
