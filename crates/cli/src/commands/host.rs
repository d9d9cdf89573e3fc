//! `crossfade host`: the control plane of one machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use crossfade_host::control;
use tokio::signal::unix::{SignalKind, signal};

use crate::context;
use crate::error::{CliError, Result};

/// Address of the Prometheus server for metrics that name none, as the compatible controller knows it.
const PROMETHEUS_ADDRESS: &str = "ARGO_ROLLOUTS_PROMETHEUS_ADDRESS";

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

fn log_to_stderr(level: LogLevel, format: LogFormat) {
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
        let running = control::Host::start(settings).await.map_err(|why| CliError::failure(why.to_string()))?;
        tracing::info!(socket = %running.socket().display(), metrics = %running.metrics(), "the host is ready");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        running.stop().await;
        Ok(())
    })
}
