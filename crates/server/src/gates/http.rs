//! Connections: accepted, bounded in number, size and time, and brought to an end.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{Peer, answer};
use super::metrics::Metrics;
use super::patience::{Answers, Patient};
use super::tasks::Tasks;
use super::tls::Tls;
use super::{Desk, Settings};

/// Connections at a time.
const CONNECTIONS: usize = 1024;
/// How long to wait when no connection can be accepted, as when all file handles are in use.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How often gates are looked at that nobody asks for.
const SWEEP: Duration = Duration::from_mins(1);
/// A gate that is open for longer is worth a warning.
const FORGOTTEN: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken, or may not be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    desk: Arc<Desk>,
    tls: Option<Arc<Tls>>,
    farewell: Duration,
}

impl Server {
    /// Listens on this port of one address or, without one, of all. Port 0 means any free one.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        address: Option<IpAddr>,
        port: u16,
        settings: Settings,
    ) -> Result<Self, StartError> {
        let (listener, address) = listen(address, port).await?;
        let Settings {
            keeper,
            guard,
            namespaces,
            strict_paths,
            tasks,
            tls,
            farewell,
        } = settings;
        let tls = tls.map(Tls::new).transpose().map_err(StartError::Tls)?;
        let metrics = Arc::new(Metrics::default());
        let desk = Desk {
            keeper,
            guard,
            namespaces,
            strict_paths,
            tasks: Arc::new(Tasks::new(tasks, Arc::clone(&metrics))),
            metrics,
        };
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(
            "Starting load tester v{version} API on port {}",
            address.port()
        );
        if desk.guard.is_off() {
            tracing::warn!("gate API is not authenticated");
        }
        Ok(Self {
            listener,
            address,
            desk: Arc::new(desk),
            tls: tls.map(Arc::new),
            farewell,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is cancelled and the requests under way have been answered or their time is over.
    pub async fn serve(self, stop: CancellationToken) {
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        let connections = TaskTracker::new();
        let sweeper = tokio::spawn(sweep(Arc::clone(&self.desk)));
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = Arc::clone(&free).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // An answer is one small packet; nothing is to be saved by holding it back.
                    let _ = stream.set_nodelay(true);
                    let (desk, stop) = (Arc::clone(&self.desk), stop.clone());
                    let tls = self.tls.clone();
                    connections.spawn(async move {
                        let mut peer = Peer {
                            address: peer.ip(),
                            certificate: None,
                        };
                        match tls {
                            None => converse(desk, stream, peer, stop).await,
                            Some(tls) => {
                                if let Some((stream, subject)) = tls.accept(stream).await {
                                    peer.certificate = subject;
                                    converse(desk, stream, peer, stop).await;
                                }
                            }
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(self.listener);
        sweeper.abort();
        connections.close();
        // Whoever is not answered by then has waited long enough.
        let _ = tokio::time::timeout(self.farewell, connections.wait()).await;
    }
}

async fn listen(
    address: Option<IpAddr>,
    port: u16,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let all = [
        IpAddr::from(Ipv6Addr::UNSPECIFIED),
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
    ];
    let wanted = address.map_or(all.to_vec(), |address| vec![address]);
    let mut last = None;
    for address in wanted {
        let address = SocketAddr::new(address, port);
        let bound = TcpListener::bind(address).await;
        match bound.and_then(|listener| listener.local_addr().map(|bound| (listener, bound))) {
            Ok(listening) => return Ok(listening),
            Err(source) => {
                // A machine without IPv6 still has the other one; a port that is taken is taken.
                let is_taken = source.kind() == std::io::ErrorKind::AddrInUse;
                last = Some(StartError::Listen { address, source });
                if is_taken {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| StartError::Listen {
        address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
        source: std::io::ErrorKind::AddrNotAvailable.into(),
    }))
}

/// One connection, from its first request to its end.
async fn converse<S>(desk: Arc<Desk>, stream: S, peer: Peer, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Arc::new(peer);
    let answers = Answers::default();
    let stream = Patient::new(stream, answers.clone());
    let service = service_fn(move |request| {
        let (desk, peer, under_way) = (Arc::clone(&desk), Arc::clone(&peer), answers.begin());
        async move {
            let answer = answer(&desk, &peer, request).await;
            drop(under_way);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A connection that breaks off concerns its client only.
    let _ = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

/// Closes gates whose time is over, and names those that somebody seems to have forgotten.
async fn sweep(desk: Arc<Desk>) {
    let mut every = tokio::time::interval(SWEEP);
    let mut told = std::collections::BTreeSet::new();
    loop {
        every.tick().await;
        let all = match desk.keeper.sweep().await {
            Ok(all) => all,
            Err(error) => {
                desk.metrics.store_failed("list");
                tracing::debug!(%error, "gates cannot be listed");
                continue;
            }
        };
        let now = desk.keeper.now();
        let mut forgotten = std::collections::BTreeSet::new();
        for (canary, gates) in all {
            for (gate, record) in gates {
                let since = record.opened_at.filter(|_| record.is_open(now));
                if let Some(since) = since.filter(|since| now.duration_since(*since) > FORGOTTEN) {
                    forgotten.insert((canary.clone(), gate.clone(), since));
                    if !told.contains(&(canary.clone(), gate.clone(), since)) {
                        tracing::warn!(gate, canary = %canary, by = record.by, "gate is open since {since}: close it, or open it with a ttl");
                    }
                }
            }
        }
        told = forgotten;
    }
}
