//! What the data plane remembers of each pod: requests in flight, whether it is being drained, whether it was
//! found dead, and its idle connections.
//!
//! A [`Pod`] is shared by all workers and outlives configurations: the one before and the one after name the same
//! value as long as pod name and address stay. The order that makes draining exact is in [`Lease::take`].

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::{
    config::Protocol,
    shared::Apart,
    upstream::{H1, H2Sender},
};

/// A pod is not tried for this long after its first failed connection, in milliseconds; doubled with each further one.
const EJECTION_MS: u64 = 250;
/// The longest ejection, in milliseconds.
const LONGEST_EJECTION_MS: u64 = 8_000;
/// Idle connections kept for each pod by each worker.
const IDLE_KEPT: usize = 512;
/// An idle connection is closed after this long, in milliseconds: shorter than what usual servers allow (5 s and more
/// for most) would waste connections, longer would find many already closed.
const IDLE_MS: u64 = 30_000;

/// Milliseconds since some moment before the first request, as exactly as the kernel knows without looking at its clock (a few of
/// them): each request asks several times. Never zero.
pub(super) fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000 + 1
}

/// What tells pods apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PodKey {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) protocol: Protocol,
}

/// One pod's port.
pub(super) struct Pod {
    pub(super) key: PodKey,
    draining: AtomicBool,
    /// Not to be tried before this moment ([`now_ms`]); zero if it is not ejected.
    ejected_until: AtomicU64,
    failures: AtomicU32,
    ejections: AtomicU64,
    retries: AtomicU64,
    ended: Notify,
    workers: Box<[Apart<PerWorker>]>,
}

#[derive(Default)]
struct PerWorker {
    in_flight: AtomicUsize,
    /// The one that was used last stands last. In boxes, since each moves from hand to hand with a request.
    idle: Mutex<VecDeque<Box<H1>>>,
    h2: Mutex<Option<H2Sender>>,
}

impl Pod {
    pub(super) fn new(key: PodKey, workers: usize) -> Self {
        Self {
            key,
            draining: AtomicBool::new(false),
            ejected_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            ejections: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            ended: Notify::new(),
            workers: (0..workers).map(|_| Apart::default()).collect(),
        }
    }

    /// Requests that it is answering now, upgraded connections included.
    pub(super) fn in_flight(&self) -> usize {
        let count = |worker: &Apart<PerWorker>| worker.in_flight.load(Ordering::SeqCst);
        self.workers.iter().map(count).sum()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(super) fn is_ejected(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until != 0 && until > now_ms()
    }

    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Requests that went to another pod, or to this one again, because this one did not take them.
    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on it gets no request; its idle connections are closed.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            lock(&worker.idle).clear();
            lock(&worker.h2).take();
        }
    }

    /// Waits until nothing is in flight. Only useful after [`Pod::drain`].
    pub(super) async fn ended(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// A connection could not be made: leave it alone for a while.
    pub(super) fn eject(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(10);
        let pause = (EJECTION_MS << failures).min(LONGEST_EJECTION_MS);
        self.ejected_until
            .store(now_ms() + pause, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was made.
    pub(super) fn forgive(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// The idle connection that has rested longest. Taken in turns they spread requests over all threads or processes of a pod
    /// that share its port; the same few again and again would let some of these wait while others are busy.
    pub(super) fn take_idle(&self, worker: usize) -> Option<Box<H1>> {
        lock(&self.workers.get(worker)?.idle).pop_front()
    }

    /// The idle connection that was used last.
    pub(super) fn take_latest_idle(&self, worker: usize) -> Option<Box<H1>> {
        lock(&self.workers.get(worker)?.idle).pop_back()
    }

    /// Keeps a connection for the next request, unless the pod goes away.
    pub(super) fn keep_idle(&self, worker: usize, h1: Box<H1>) {
        let Some(worker) = self.workers.get(worker) else {
            return;
        };
        let mut idle = lock(&worker.idle);
        // Asked under the lock: `drain` sets the mark before it empties the list.
        if !self.is_draining() && idle.len() < IDLE_KEPT {
            idle.push_back(h1);
        }
    }

    pub(super) fn h2(&self, worker: usize) -> Option<H2Sender> {
        let mut shared = lock(&self.workers.get(worker)?.h2);
        if shared.as_ref().is_some_and(H2Sender::is_closed) {
            *shared = None;
        }
        shared.clone()
    }

    pub(super) fn keep_h2(&self, worker: usize, sender: H2Sender) {
        if let Some(worker) = self.workers.get(worker) {
            let mut shared = lock(&worker.h2);
            if !self.is_draining() {
                *shared = Some(sender);
            }
        }
    }

    /// Closes a worker's connections that have been idle for too long or that the pod has closed. Called by that worker: any
    /// other thread would let it wait at the lock for as long as this takes.
    pub(super) fn sweep(&self, worker: usize) {
        let now = now_ms();
        if let Some(worker) = self.workers.get(worker) {
            lock(&worker.idle).retain_mut(|h1| h1.idle_since + IDLE_MS > now && h1.is_open());
        }
    }
}

/// A pod as one worker knows it: each has a pointer of its own, so that they do not fight over one count of references.
pub(super) type Seat = Apart<PodOfWorker>;

/// A pod and a worker.
pub(super) struct PodOfWorker {
    pod: Arc<Pod>,
    worker: usize,
}

/// One seat for each worker.
pub(super) fn seats(pod: &Arc<Pod>) -> Box<[Arc<Seat>]> {
    let seat = |worker| PodOfWorker {
        pod: Arc::clone(pod),
        worker,
    };
    (0..pod.workers.len())
        .map(|worker| Arc::new(Apart(seat(worker))))
        .collect()
}

/// The right to have one request in flight at a pod.
pub(super) struct Lease {
    seat: Arc<Seat>,
}

impl Lease {
    /// None if the pod is being drained.
    ///
    /// First counted, then asked, while draining first marks and then counts: whichever comes second sees the other,
    /// so "nothing in flight" can never be reported with a request on its way. That holds for each worker's count, and
    /// once the mark is set none of them rises for a request that goes on, so it holds for their sum.
    pub(super) fn take(seat: &Arc<Seat>) -> Option<Self> {
        let lease = Self {
            seat: Arc::clone(seat),
        };
        lease.count()?.fetch_add(1, Ordering::SeqCst);
        (!seat.pod.is_draining()).then_some(lease)
    }

    pub(super) fn pod(&self) -> &Pod {
        &self.seat.pod
    }

    fn count(&self) -> Option<&AtomicUsize> {
        let worker = self.seat.pod.workers.get(self.seat.worker)?;
        Some(&worker.in_flight)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let before = self
            .count()
            .map(|count| count.fetch_sub(1, Ordering::SeqCst));
        if before == Some(1) && self.pod().is_draining() {
            self.pod().ended.notify_waiters();
        }
    }
}

/// Nothing that holds these locks can panic half-way through a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
