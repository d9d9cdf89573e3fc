//! `crossfade host`: the control plane of one machine.

use std::error::Error as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use crossfade_host::control;
use crossfade_host::server::DoorError;
use tokio::signal::unix::{SignalKind, signal};

use crate::context;
use crate::error::{CliError, Result};
use crate::exit;

/// Address of the Prometheus server for metrics that name none, as the compatible controller knows it.
pub(super) const PROMETHEUS_ADDRESS: &str = "ARGO_ROLLOUTS_PROMETHEUS_ADDRESS";

/// Run releases on this machine
///
/// Decides and supervises: pods are processes, Services are listeners of the built-in proxy, and requests are measured. Ending it stops
/// nothing: processes and proxy go on, and the next `crossfade host` with the same state folder takes them up where they stand.
#[derive(Args, Clone, Debug)]
pub(crate) struct Host {
    /// Folder of everything that outlives the host; $XDG_STATE_HOME/crossfade or ~/.local/state/crossfade when not given
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,
    /// Address of the metric store's Prometheus API; port 0 means any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) metrics_address: SocketAddr,
    /// Also listen on this loopback address, for clients with the token in the state folder
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// End all pods and the proxy with the host, and leave nothing running
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// How much is logged
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: LogLevel,
    /// Form of the log on standard error
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// JSON objects, one a line.
    Json,
}

impl Host {
    /// Does it.
    pub(crate) fn run(self) -> Result<()> {
        if let Some(listen) = self.listen.filter(|listen| !listen.ip().is_loopback()) {
            return Err(CliError::usage(format!(
                "--listen takes a loopback address such as 127.0.0.1:7000, not {listen}"
            )));
        }
        log_to_stderr(self.log_level, self.log_format);
        let state = self
            .state
            .clone()
            .or_else(context::default_state_folder)
            .ok_or_else(|| {
                CliError::usage("no folder for the state: neither XDG_STATE_HOME nor HOME is set")
                    .hint("crossfade host --state FOLDER")
            })?;
        start(&self, state)
    }
}

pub(super) fn log_to_stderr(level: LogLevel, format: LogFormat) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Runs the control plane until it is told to end.
fn start(host: &Host, state: PathBuf) -> Result<()> {
    let mut settings = control::Settings::usual(state)
        .map_err(|why| CliError::failure(format!("cannot find this program: {why}")))?;
    settings.metrics = host.metrics_address;
    settings.listen = host.listen;
    settings.ephemeral = host.ephemeral;
    settings.prometheus_address = std::env::var(PROMETHEUS_ADDRESS)
        .ok()
        .filter(|address| !address.is_empty());
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|why| CliError::failure(format!("cannot start: {why}")))?;
    runtime.block_on(async {
        let signals = || -> std::io::Result<_> { Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)) };
        let (mut terminate, mut interrupt) = signals().map_err(|why| CliError::failure(format!("cannot wait for signals: {why}")))?;
        let mut running = control::Host::start(settings).await.map_err(|why| not_started(&why))?;
        tracing::info!(socket = %running.socket().display(), metrics = %running.metrics(), "the host is ready");
        let ended = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            what = running.broken() => Err(CliError::failure(what).hint("start it again: it takes up everything where it stands")),
        };
        running.stop().await;
        ended
    })
}

/// Why it does not start, with all causes.
fn not_started(why: &control::StartError) -> CliError {
    let code = if why.is_in_use() {
        exit::REFUSED
    } else {
        exit::FAILURE
    };
    let mut text = why.to_string();
    let mut cause = why.source();
    while let Some(deeper) = cause {
        text.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    let error = CliError::new(code, text);
    match why {
        control::StartError::Metrics { .. } => error.hint(
            "end the program that uses it, or choose another address with --metrics-address (port 0 means any free one)",
        ),
        control::StartError::Doors(DoorError::Port { .. }) => error
            .hint("end the program that uses it, or choose another address with --listen"),
        control::StartError::TooLong(_) => error.hint("crossfade host --state FOLDER"),
        _ => error,
    }
}
