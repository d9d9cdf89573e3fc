//! A small service to release: it answers with its version, as slowly and as badly as it is told to.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{CliError, Result};

/// Names the version that answered.
pub(crate) const VERSION_HEADER: &str = "x-sample-version";
/// Marks a failure that was made on purpose; any other failure is the platform's.
pub(crate) const DELIBERATE_HEADER: &str = "x-sample-failure";

/// Serve a small web service whose version, latency and error rate are given
///
/// Something to release while trying Crossfade out. It listens on 127.0.0.1 at $PORT, answers every path with its version, and stops in
/// good order on SIGTERM. Failures it makes on purpose carry the header `x-sample-failure`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Sample {
    /// Version to answer with
    #[arg(long, default_value = "v1")]
    version: String,
    /// Time that each answer takes, in milliseconds
    #[arg(long, default_value_t = 5)]
    latency_ms: u64,
    /// Share of requests that fail with status 500, in percent
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    error_percent: u64,
    /// Say at /healthz that something is wrong
    #[arg(long)]
    unhealthy: bool,
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

struct State {
    version: HeaderValue,
    answer: Bytes,
    latency: Duration,
    error_percent: u64,
    unhealthy: bool,
    requests: AtomicU64,
}

impl State {
    /// True for the share of requests that shall fail, spread evenly: 30 % is three out of every ten.
    fn fails_now(&self) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        // 37 has no factor in common with 100, so neighbouring requests do not share their fate.
        number.wrapping_mul(37) % 100 < self.error_percent
    }
}

impl Sample {
    /// Serves until SIGTERM or SIGINT.
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|why| CliError::failure(format!("cannot start: {why}")))?;
        runtime.block_on(serve(self)).map_err(CliError::failure)
    }
}

async fn serve(sample: Sample) -> std::result::Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, sample.port));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|why| format!("cannot listen on {address}: {why}"))?;
    let version = HeaderValue::from_str(&sample.version)
        .map_err(|_| "the version must be plain text".to_owned())?;
    let state = Arc::new(State {
        version,
        answer: Bytes::from(format!("hello from {}\n", sample.version)),
        latency: Duration::from_millis(sample.latency_ms),
        error_percent: sample.error_percent,
        unhealthy: sample.unhealthy,
        requests: AtomicU64::new(0),
    });
    let signals = || -> std::io::Result<_> {
        Ok((
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ))
    };
    let (mut terminate, mut interrupt) =
        signals().map_err(|why| format!("cannot wait for signals: {why}"))?;
    let open = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of file descriptors, for one: others may go on.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                stream
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(Arc::clone(&state), request));
        let server = auto::Builder::new(TokioExecutor::new());
        let connection = open.watch(
            server
                .serve_connection(TokioIo::new(stream), service)
                .into_owned(),
        );
        tokio::spawn(async move {
            // A client that goes away is not our fault.
            let _ = connection.await;
        });
    }
    drop(listener);
    open.shutdown().await;
    Ok(())
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(state.answer.clone()));
    response
        .headers_mut()
        .insert(VERSION_HEADER, state.version.clone());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    // Probes ask here; whether the service can be reached says nothing about how well it works.
    if request.uri().path() == "/healthz" {
        if state.unhealthy {
            fail(&mut response, StatusCode::SERVICE_UNAVAILABLE);
        }
        return Ok(response);
    }
    if !state.latency.is_zero() {
        tokio::time::sleep(state.latency).await;
    }
    if state.fails_now() {
        fail(&mut response, StatusCode::INTERNAL_SERVER_ERROR);
    }
    Ok(response)
}

fn fail(response: &mut Response<Full<Bytes>>, status: StatusCode) {
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(DELIBERATE_HEADER, HeaderValue::from_static("on purpose"));
}
