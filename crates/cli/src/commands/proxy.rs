//! `crossfade proxy`: the data plane, as a process of its own.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use crossfade_host::proxy::{self, Limits, ProxyArgs};

use crate::error::{CliError, Result};
use crate::global::go_duration;

/// Run the data plane: listen for Services and split their requests
///
/// Started by `crossfade host`, which tells it through the socket what to do. It goes on without the host, and ends at SIGTERM after the requests
/// under way.
#[derive(Args, Clone, Debug)]
pub(crate) struct Proxy {
    /// Socket for the control plane
    #[arg(long, value_name = "FILE")]
    socket: PathBuf,
    /// File for the last configuration
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// Threads that move requests; one for each core when not given
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// How long requests may take to finish when it is told to end
    #[arg(long, value_name = "DURATION", value_parser = go_duration, default_value = "30s")]
    grace: Duration,
}

impl Proxy {
    /// Does it.
    pub(crate) fn run(self) -> Result<()> {
        let arguments = ProxyArgs {
            socket: self.socket,
            state: self.state,
            workers: self.workers,
            limits: Limits {
                grace: self.grace,
                ..Limits::default()
            },
        };
        proxy::run(&arguments).map_err(|error| {
            let cause = error
                .source()
                .map_or_else(String::new, |source| format!(": {source}"));
            CliError::failure(format!("{error}{cause}"))
        })
    }
}
