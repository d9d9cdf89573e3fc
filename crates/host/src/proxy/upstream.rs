//! Connections to pods.
//!
//! An HTTP/1.1 connection ([`H1`]) has no task of its own: whoever holds it drives it, the request while it waits for
//! the head of the answer, and then the body of the answer. So a request costs no switch between tasks. HTTP/2
//! connections are shared by many requests and run in a task.
//!
//! Bytes are counted on the socket itself ([`Wire`]): whether a request may be sent again depends on whether anything
//! of it left, and no higher layer knows that for certain.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    body::RequestBody,
    pods::{Lease, Pod},
};

/// Longest wait for a connection. A local pod answers in microseconds or not at all; a full backlog drops the first
/// packet, which is sent again after 1 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest head of an answer that is passed on, in bytes.
const MAX_HEAD: usize = 128 * 1024;

/// Bytes that went over one connection, counted at the socket.
#[derive(Default)]
pub(super) struct Wire {
    sent: AtomicU64,
    received: AtomicU64,
    /// The next read first asks the kernel whether the pod has closed the connection.
    look: AtomicBool,
}

/// A socket that counts.
pub(super) struct Counted {
    stream: TcpStream,
    wire: Arc<Wire>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.wire.look.swap(false, Ordering::Relaxed) {
            // The runtime learns of a closed connection only when it next polls the kernel; this looks now.
            let mut byte = [0_u8; 1];
            match rustix::net::recv(
                &self.stream,
                &mut byte,
                RecvFlags::PEEK | RecvFlags::DONTWAIT,
            ) {
                Ok((_, 0)) => return Poll::Ready(Ok(())),
                Err(rustix::io::Errno::AGAIN) | Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let got = buf.filled().len() - before;
        if got > 0 {
            self.wire.received.fetch_add(got as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl Counted {
    fn count(&self, sent: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = sent {
            self.wire.sent.fetch_add(*n as u64, Ordering::Relaxed);
        }
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(&sent);
        sent
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // The kernel does less for one than for a list of one.
        if let [one] = bufs {
            return self.poll_write(cx, one);
        }
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

type H1Connection = http1::Connection<TokioIo<Counted>, RequestBody>;

/// An HTTP/1.1 connection together with what drives it.
pub(super) struct H1 {
    sender: http1::SendRequest<RequestBody>,
    connection: H1Connection,
    /// The connection has ended and must not be polled again.
    over: bool,
    wire: Arc<Wire>,
    /// It has carried a request before.
    pub(super) reused: bool,
    /// When it was last put aside ([`super::pods::now_ms`]).
    pub(super) idle_since: u64,
}

/// How an attempt to send a request ended without an answer.
pub(super) struct SendFailure {
    pub(super) error: hyper::Error,
    /// The request, if nothing of it was given to the connection.
    pub(super) unsent: Option<Box<Request<RequestBody>>>,
    /// Bytes of the request left.
    pub(super) left: bool,
    /// Bytes of an answer came.
    pub(super) answered: bool,
}

impl H1 {
    async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = dial(addr).await?;
        let wire = Arc::new(Wire::default());
        let io = TokioIo::new(Counted {
            stream,
            wire: Arc::clone(&wire),
        });
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(io)
            .await
            .map_err(io::Error::other)?;
        Ok(Self {
            sender,
            connection,
            over: false,
            wire,
            reused: false,
            idle_since: 0,
        })
    }

    /// Moves bytes. True once the connection has ended.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.over {
            self.over = Pin::new(&mut self.connection).poll(cx).is_ready();
        }
        self.over
    }

    /// The pod has not closed it, as far as this machine knows.
    pub(super) fn is_open(&mut self) -> bool {
        self.wire.look.store(true, Ordering::Relaxed);
        !self.drive(&mut Context::from_waker(Waker::noop())) && !self.sender.is_closed()
    }

    /// The answer has come in full and another request may follow.
    pub(super) fn is_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        !self.drive(cx) && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendFailure> {
        let sent = self.wire.sent.load(Ordering::Relaxed);
        let received = self.wire.received.load(Ordering::Relaxed);
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        let result = std::future::poll_fn(|cx| {
            if !self.over {
                self.over = Pin::new(&mut self.connection).poll(cx).is_ready();
            }
            // Only driving the connection can bring the answer, so nobody needs to be woken for it: a waker would
            // make this task run once more for each request. Unconstrained, since a spent budget would want a waker.
            let mut quiet = Context::from_waker(Waker::noop());
            Pin::new(&mut tokio::task::unconstrained(answer.as_mut())).poll(&mut quiet)
        })
        .await;
        result.map_err(|mut failure| SendFailure {
            unsent: failure.take_message().map(Box::new),
            error: failure.into_error(),
            left: self.wire.sent.load(Ordering::Relaxed) != sent,
            answered: self.wire.received.load(Ordering::Relaxed) != received,
        })
    }

    /// Lets a task drive it, and allows it to become a tunnel.
    pub(super) fn detach(self) -> http1::SendRequest<RequestBody> {
        let Self {
            sender, connection, ..
        } = self;
        tokio::spawn(async move {
            // How it ended is seen by whoever waits for the answer or reads its body.
            let _ = connection.with_upgrades().await;
        });
        sender
    }
}

/// A shared HTTP/2 connection.
#[derive(Clone)]
pub(super) struct H2Sender(http2::SendRequest<RequestBody>);

impl H2Sender {
    async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = dial(addr).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_header_list_size(MAX_HEAD as u32)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self(sender))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendFailure> {
        self.0
            .try_send_request(request)
            .await
            .map_err(|mut failure| {
                let unsent = failure.take_message().map(Box::new);
                SendFailure {
                    error: failure.into_error(),
                    // On a shared connection nobody knows: what was handed over counts as gone.
                    left: unsent.is_none(),
                    answered: false,
                    unsent,
                }
            })
    }
}

/// A connection that can take a request.
pub(super) enum Connection {
    H1(Box<H1>),
    H2 {
        sender: H2Sender,
        reused: bool,
    },
    /// New, and free to become a tunnel.
    Tunnel(http1::SendRequest<RequestBody>),
}

impl Connection {
    pub(super) fn reused(&self) -> bool {
        match self {
            Self::H1(h1) => h1.reused,
            Self::H2 { reused, .. } => *reused,
            Self::Tunnel(_) => false,
        }
    }

    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendFailure> {
        match self {
            Self::H1(h1) => h1.send(request).await,
            Self::H2 { sender, .. } => sender.send(request).await,
            Self::Tunnel(sender) => {
                sender
                    .send_request(request)
                    .await
                    .map_err(|error| SendFailure {
                        error,
                        unsent: None,
                        left: true,
                        answered: false,
                    })
            }
        }
    }
}

/// Which connections a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// Any idle one: the request may be sent again if it turns out to be dead.
    Any,
    /// One that was in use a moment ago and that the pod has not closed: the request cannot be repeated, and a pod
    /// that closes idle connections shall not meet it at that moment.
    Fresh,
    /// None.
    Never,
}

/// An idle connection older than this is not used for a request that cannot be repeated, in milliseconds. Servers
/// close idle connections after 2 s and more.
const FRESH_MS: u64 = 1_000;

/// An idle connection to the pod, if there is a usable one.
pub(super) fn idle_h1(
    pod: &Pod,
    worker: usize,
    reuse: Reuse,
    cx: &mut Context<'_>,
) -> Option<Box<H1>> {
    loop {
        let mut h1 = match reuse {
            Reuse::Any => pod.take_idle(worker)?,
            Reuse::Fresh => pod.take_latest_idle(worker)?,
            Reuse::Never => return None,
        };
        if reuse == Reuse::Fresh {
            if h1.idle_since + FRESH_MS < super::pods::now_ms() {
                // The others are older still.
                pod.keep_idle(worker, h1);
                return None;
            }
            h1.wire.look.store(true, Ordering::Relaxed);
        }
        if h1.is_reusable(cx) {
            h1.reused = true;
            return Some(h1);
        }
    }
}

/// A connection for one request at this pod: an idle one, or a new one. A failure means that none could be made.
pub(super) async fn connection(
    lease: &Lease,
    worker: usize,
    reuse: Reuse,
) -> io::Result<Connection> {
    let pod = lease.pod();
    match pod.key.protocol {
        super::config::Protocol::Http1 => {
            let idle =
                std::future::poll_fn(|cx| Poll::Ready(idle_h1(pod, worker, reuse, cx))).await;
            if let Some(h1) = idle {
                return Ok(Connection::H1(h1));
            }
            let made = H1::connect(pod.key.addr).await;
            note(pod, &made);
            Ok(Connection::H1(Box::new(made?)))
        }
        super::config::Protocol::H2c => {
            if reuse != Reuse::Never
                && let Some(sender) = pod.h2(worker)
            {
                return Ok(Connection::H2 {
                    sender,
                    reused: true,
                });
            }
            let made = H2Sender::connect(pod.key.addr).await;
            note(pod, &made);
            let sender = made?;
            pod.keep_h2(worker, sender.clone());
            Ok(Connection::H2 {
                sender,
                reused: false,
            })
        }
    }
}

/// A new HTTP/1.1 connection that may become a tunnel.
pub(super) async fn tunnel(lease: &Lease) -> io::Result<Connection> {
    let made = H1::connect(lease.pod().key.addr).await;
    note(lease.pod(), &made);
    Ok(Connection::Tunnel(made?.detach()))
}

fn note<T>(pod: &Pod, made: &io::Result<T>) {
    match made {
        Ok(_) => pod.forgive(),
        Err(_) => pod.eject(),
    }
}

async fn dial(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(addr))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
