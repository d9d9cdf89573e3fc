//! A worker: one thread, one runtime, its own sockets on every listener's port, its own connections to pods.

use std::{
    future::{Future, poll_fn},
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread::JoinHandle,
    time::Duration,
};

use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Limits,
    forward::{Caller, Known, serve},
    guard::{Order, Watch, Watched},
    headers::Client,
    shared::{Load, Open, Shared},
    table::Listener as Rules,
};

/// Connections that wait to be accepted; the kernel may lower it.
const BACKLOG: i32 = 4096;
/// Longest head of a request, in bytes. A longer one is answered 431, as is one of more than 100 fields (the library's
/// own limit; any other costs it two allocations for each request).
const MAX_HEAD: usize = 64 * 1024;
/// How often a connection is looked at for its time limits.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
/// What every HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A running worker.
pub(super) struct Worker {
    pub(super) handle: Handle,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts one, on this core if one is given; it ends with `stop`.
    pub(super) fn start(
        number: usize,
        core: Option<CpuSet>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new()
            .name(format!("proxy-{number}"))
            .spawn(move || {
                if let Some(core) = core {
                    // Where that is not allowed it works as well, if less evenly.
                    let _ = sched_setaffinity(None, &core);
                }
                runtime.block_on(stop.cancelled());
            })?;
        Ok(Self { handle, thread })
    }

    pub(super) fn join(self) {
        // A worker that panicked has said so.
        let _ = self.thread.join();
    }
}

/// A core for each worker, if the process may use just as many; otherwise none. Workers that stay where they are never wait for one
/// another while a core is free; left to itself, the kernel lets two of them share one for milliseconds, and the slowest
/// hundredth of the requests waits for just that.
pub(super) fn cores(workers: usize) -> Vec<CpuSet> {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    let numbers = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
    let cores: Vec<CpuSet> = numbers
        .map(|number| {
            let mut core = CpuSet::new();
            core.set(number);
            core
        })
        .collect();
    if cores.len() == workers {
        cores
    } else {
        Vec::new()
    }
}

/// One socket for each worker on the same port, or why not.
///
/// Sockets share a port with whoever asks for it in the same way, another data plane of this user included. So the first one
/// claims it alone: it listens, which of two only one can, before it lets the others in.
pub(super) fn bind(
    address: SocketAddr,
    workers: usize,
) -> io::Result<(SocketAddr, Vec<StdListener>)> {
    let socket = |address: SocketAddr, joins: bool| -> io::Result<StdListener> {
        let socket = bound(address, joins)?;
        socket.set_nonblocking(true)?;
        socket.listen(BACKLOG)?;
        socket.set_reuse_port(true)?;
        Ok(StdListener::from(socket))
    };
    let first = socket(address, false)?;
    let address = first.local_addr()?;
    let others = (1..workers).map(|_| socket(address, true));
    let sockets = std::iter::once(Ok(first)).chain(others);
    Ok((address, sockets.collect::<io::Result<_>>()?))
}

/// Whether nobody listens there.
pub(super) fn is_free(address: SocketAddr) -> bool {
    bound(address, false).is_ok()
}

fn bound(address: SocketAddr, joins: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(joins)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One worker's part of a listener.
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: usize,
    pub(super) name: Arc<str>,
    pub(super) rules: Arc<Rules>,
    /// Connections of the listener, over all workers.
    pub(super) connections: Arc<AtomicUsize>,
    /// The listener is being removed.
    pub(super) closing: CancellationToken,
}

impl Door {
    /// Accepts connections until the listener is removed, then those that were waiting, then closes the socket.
    pub(super) async fn open(self, listener: StdListener) {
        let Ok(listener) = TcpListener::from_std(listener) else {
            return;
        };
        let door = Arc::new(self);
        while let Some(accepted) = door.closing.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, from)) => door.admit(stream, from),
                // Out of descriptors, most likely: others must end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        for _ in 0..BACKLOG {
            match futures_util::FutureExt::now_or_never(listener.accept()) {
                Some(Ok((stream, from))) => door.admit(stream, from),
                _ => return,
            }
        }
    }

    /// Lets the connection be served: here, or by a worker that has fewer.
    ///
    /// The kernel spreads connections by chance. With few that live long, one core would wait for the other.
    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let count = |worker: &Load| worker.connections.load(Ordering::Relaxed);
        let workers = &self.shared.workers;
        let Some(here) = workers.get(self.worker) else {
            return;
        };
        let (number, worker) = workers
            .iter()
            .enumerate()
            .min_by_key(|(_, worker)| count(worker))
            .filter(|(_, worker)| count(worker) < count(here))
            .unwrap_or((self.worker, here));
        let open = [Open::new(&self.connections), Open::new(&worker.connections)];
        let door = Arc::clone(self);
        if number == self.worker {
            tokio::spawn(door.converse(number, stream, from, open));
        } else if let Ok(stream) = stream.into_std() {
            worker.handle.spawn(async move {
                if let Ok(stream) = TcpStream::from_std(stream) {
                    door.converse(number, stream, from, open).await;
                }
            });
        }
    }

    async fn converse(
        self: Arc<Self>,
        worker: usize,
        mut stream: TcpStream,
        from: SocketAddr,
        open: [Open; 2],
    ) {
        let Ok(to) = stream.local_addr() else { return };
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let header = |text: String| {
            HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown"))
        };
        let limits = self.shared.limits;
        let watch = Arc::new(Watch::default());
        // Its own: each look at a token takes the token's lock, and a worker that is not running must never hold one that
        // another worker needs.
        let closing = self.closing.child_token();
        let first = tokio::select! {
            first = timeout(limits.idle, first_bytes(&mut stream)) => first,
            () = closing.cancelled() => return,
        };
        let Ok(Ok(Some((is_http2, first)))) = first else {
            return;
        };
        let caller = Arc::new(Caller {
            shared: Arc::clone(&self.shared),
            worker,
            listener: Arc::clone(&self.name),
            client: Client {
                ip: header(from.ip().to_canonical().to_string()),
                to: header(to.to_string()),
            },
            watch: Arc::clone(&watch),
            rules: Mutex::new((0, Arc::new(Known(Arc::clone(&self.rules))))),
            open,
        });
        let asking = Arc::clone(&caller);
        // In a box: the library moves what a service returns several times, and all of an answer in the making is large.
        let service = service_fn(move |request| Box::pin(serve(Arc::clone(&asking), request)));
        let io = TokioIo::new(Watched::new(stream, first, Arc::clone(&watch)));
        if is_http2 {
            watch.stop();
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(4 << 20)
                .max_concurrent_streams(256)
                .max_header_list_size(MAX_HEAD as u32)
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(20))
                .serve_connection(io, service);
            tokio::pin!(connection);
            tokio::select! {
                biased;
                _ = connection.as_mut() => return,
                () = closing.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            // How a client's connection ended concerns nobody but the client.
            let _ = connection.await;
        } else {
            let connection = hyper::server::conn::http1::Builder::new()
                .max_buf_size(MAX_HEAD)
                .serve_connection(io, service)
                .with_upgrades();
            tokio::pin!(connection);
            let keeper = tokio::spawn(keep(Arc::clone(&watch), limits, closing));
            let mut ending = false;
            poll_fn(|cx| {
                if connection.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                match watch.order(cx) {
                    Order::End if !ending => {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                        connection.as_mut().poll(cx).map(drop)
                    }
                    Order::GoOn | Order::End => Poll::Pending,
                    Order::Break => Poll::Ready(()),
                }
            })
            .await;
            keeper.abort();
            if let Some(status) = watch.refused() {
                caller.refused(status);
            }
        }
    }
}

/// Gives an HTTP/1 connection its orders, beside it: one that looked at the time and at its listener itself would do so with
/// each of its requests.
async fn keep(watch: Arc<Watch>, limits: Limits, closing: CancellationToken) {
    let mut look = interval((limits.head.min(limits.idle) / 3).clamp(SHORTEST_LOOK, LONGEST_LOOK));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = false;
    loop {
        let end = tokio::select! {
            () = closing.cancelled(), if !ending => true,
            _ = look.tick() => {
                if watch.is_slow(limits.head) {
                    return watch.give(Order::Break);
                }
                watch.is_idle(limits.idle)
            }
        };
        if end && !ending {
            ending = true;
            watch.give(Order::End);
        }
    }
}

/// The first bytes of a connection, as many as it takes to tell HTTP/2 from HTTP/1. None if it ends before.
async fn first_bytes(stream: &mut TcpStream) -> io::Result<Option<(bool, Vec<u8>)>> {
    let mut first = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Ok(None);
        }
        let common = first
            .iter()
            .zip(PREFACE)
            .take_while(|(a, b)| a == b)
            .count();
        if common == PREFACE.len() {
            return Ok(Some((true, first)));
        }
        if common < first.len() {
            return Ok(Some((false, first)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn each_worker_has_a_core_of_its_own_where_there_are_as_many() {
        let allowed = sched_getaffinity(None).expect("the kernel tells").count() as usize;
        let cores = cores(allowed);
        assert_eq!(cores.len(), allowed);
        assert!(cores.iter().all(|core| core.count() == 1));
        assert!(super::cores(allowed + 1).is_empty());
    }

    #[test]
    fn of_many_who_want_a_port_at_once_one_gets_it() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        for _ in 0..50 {
            let barrier = Barrier::new(8);
            let opened: Vec<_> = std::thread::scope(|scope| {
                let bound: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            barrier.wait();
                            bind(address, 2)
                        })
                    })
                    .collect();
                let ended = bound.into_iter().map(|one| one.join().expect("it ends"));
                ended.filter_map(Result::ok).collect()
            });
            let [(bound, sockets)] = opened.as_slice() else {
                panic!("{} got it", opened.len());
            };
            assert_eq!((*bound, sockets.len()), (address, 2));
        }
    }
}
