//! What the control side and the workers have in common, and what keeps the workers apart.

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{runtime::Handle, sync::Semaphore};

use super::{Limits, pods::lock, table::Table};

/// Copies for mirrors that may be under way at one time.
const MIRRORS: usize = 256;

/// One for each process.
pub(super) struct Shared {
    table: Mutex<Arc<Table>>,
    /// Changes with the table. A request compares it with the one it knows, which is cheaper than asking for the
    /// table; so a table is obeyed by every request that begins after [`Shared::set`] has returned.
    pub(super) version: AtomicU64,
    pub(super) limits: Limits,
    pub(super) workers: Vec<Load>,
    pub(super) mirrors: Arc<Semaphore>,
    pub(super) mirrored: AtomicU64,
    pub(super) mirrors_dropped: AtomicU64,
}

impl Shared {
    pub(super) fn new(limits: Limits, workers: Vec<Handle>) -> Self {
        let load = |handle| Load {
            handle,
            connections: Arc::default(),
        };
        Self {
            limits,
            workers: workers.into_iter().map(load).collect(),
            table: Mutex::default(),
            version: AtomicU64::new(0),
            mirrors: Arc::new(Semaphore::new(MIRRORS)),
            mirrored: AtomicU64::new(0),
            mirrors_dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(&lock(&self.table))
    }

    pub(super) fn set(&self, table: Table) {
        *lock(&self.table) = Arc::new(table);
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

/// On cache lines of its own: what a worker writes with every request must not be what another one is about to use. 128
/// bytes, since processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A worker, and how much it has to do.
pub(super) struct Load {
    pub(super) handle: Handle,
    /// Connections of clients that it serves.
    pub(super) connections: Arc<AtomicUsize>,
}

/// Counts itself for as long as it lives.
pub(super) struct Open(Arc<AtomicUsize>);

impl Open {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Clone for Open {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
