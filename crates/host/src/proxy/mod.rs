//! The data plane, `crossfade proxy`: listens on the Services' ports and moves requests to pods.
//!
//! A process of its own, so that the control plane can die and come back without a request noticing. It decides
//! nothing: it obeys the last [`ProxyConfig`] that it was given over its control socket ([`ProxyClient`]), counts what
//! happens ([`Stats`]), and after a restart goes on with the configuration that it kept on disk.
//!
//! Each core has a worker (`worker`) that stays on it, with its own listening sockets and its own connections to pods
//! (`upstream`); requests never change threads. The life of a request is in `forward`, the choice of a pod in `table` and `pods`.

mod account;
mod body;
mod client;
mod config;
mod control;
mod forward;
mod guard;
mod headers;
mod mirror;
mod pods;
mod shared;
mod spare;
mod state;
mod stats;
mod table;
mod upstream;
mod wire;
mod worker;

use std::{fs::File, io, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use account::ERROR_HEADER;
pub use client::{ClientError, ProxyClient};
pub use config::{
    Balance, ConfigError, Destination, Endpoint, HeaderMatch, ListenerConfig, Mirror, Protocol,
    ProxyConfig, RouteConfig, RouteMatch, Sticky, StringMatch,
};
pub use stats::{BUCKETS, ListenerStats, PodStats, Series, Stats};
pub use wire::{Applied, Busy, Drained, Listening};

use control::Control;
use state::Saved;
use worker::Worker;

/// How to run the data plane.
#[derive(Clone, Debug)]
pub struct ProxyArgs {
    /// Socket for the control plane. Only its owner may use it.
    pub socket: PathBuf,
    /// File for the last configuration.
    pub state: PathBuf,
    /// Threads that move requests; one for each core if none is given.
    pub workers: Option<NonZeroUsize>,
    /// How long clients may take.
    pub limits: Limits,
}

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the head of one request, from its first byte to its last; then the connection is closed. Default 15 s.
    pub head: Duration,
    /// Between requests; then the connection is closed. Default 2 min, longer than clients usually keep one.
    pub idle: Duration,
    /// To get their answers when the process is told to stop. Default 30 s.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(15),
            idle: Duration::from_mins(2),
            grace: Duration::from_secs(30),
        }
    }
}

/// Why the data plane does not run.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Another one has the socket.
    #[error("another data plane uses {0}")]
    Taken(PathBuf),
    /// The socket could not be made.
    #[error("cannot listen on {path}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Threads, signals or the runtime failed.
    #[error("cannot start")]
    Start(#[from] io::Error),
}

/// Runs the data plane until SIGTERM or SIGINT, then lets requests finish.
pub fn run(args: &ProxyArgs) -> Result<(), ProxyError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let proxy = Proxy::start(args).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        proxy.stop().await;
        Ok(())
    })
}

/// A running data plane, for those who run it inside their own process.
pub struct Proxy {
    args: ProxyArgs,
    control: Arc<Control>,
    workers: Vec<Worker>,
    /// Ends the workers.
    stop: DropGuard,
    /// Ends the keeper of the state file.
    leaving: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    keeper: JoinHandle<()>,
    _claim: File,
}

impl Proxy {
    /// Starts it. When this returns, it listens on the ports of the last configuration and on its socket.
    pub async fn start(args: &ProxyArgs) -> Result<Self, ProxyError> {
        let claim = state::claim(&args.socket).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => ProxyError::Taken(args.socket.clone()),
            _ => ProxyError::Socket {
                path: args.socket.clone(),
                source: error,
            },
        })?;
        raise_descriptor_limit();
        let stop = CancellationToken::new();
        // Ends the workers also if what follows fails.
        let stopping = stop.clone().drop_guard();
        let leaving = CancellationToken::new();
        let count = args
            .workers
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get);
        let cores = worker::cores(count);
        let workers = (0..count)
            .map(|number| Worker::start(number, cores.get(number).copied(), stop.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        let (keep, kept) = watch::channel(None);
        let handles = workers.iter().map(|worker| worker.handle.clone()).collect();
        let control = Arc::new(Control::new(handles, keep, args.limits));
        if let Some(saved) = Saved::read(&args.state)
            && let Err(error) = control.restore(saved).await
        {
            tracing::warn!(%error, "the last configuration is not valid any more");
        }
        let keeper = tokio::spawn(state::keeper(args.state.clone(), kept, leaving.clone()));
        let listener = control::socket(&args.socket).map_err(|source| ProxyError::Socket {
            path: args.socket.clone(),
            source,
        })?;
        let upkeep = Arc::clone(&control);
        let tasks = vec![
            tokio::spawn(control::listen(Arc::clone(&control), listener)),
            tokio::spawn(async move { upkeep.upkeep().await }),
        ];
        Ok(Self {
            args: args.clone(),
            control,
            workers,
            stop: stopping,
            leaving,
            tasks,
            keeper,
            _claim: claim,
        })
    }

    /// Takes no more connections, lets requests finish within the grace period, and ends.
    pub async fn stop(self) {
        // The socket goes first: a control plane must not talk to a proxy that is leaving.
        let _ = std::fs::remove_file(&self.args.socket);
        for task in &self.tasks {
            task.abort();
        }
        self.control.close(self.args.limits.grace).await;
        drop(self.stop);
        self.leaving.cancel();
        // It can only fail by panicking, which has been said by then.
        let _ = self.keeper.await;
        for worker in self.workers {
            worker.join();
        }
    }
}

/// Each request may need two descriptors; the usual soft limit of 1024 is for programs that use `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
