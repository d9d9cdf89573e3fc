//! Where gates are kept: in memory, in a SQLite file, or as ConfigMaps of a cluster or host.
//!
//! All gates of a Canary are one document, and every change of it is conditional on nobody else having changed it: of two checks that
//! want the last use, one reads what the other has written. Nothing is cached, so an answer is never older than its request.

mod memory;
mod objects;
mod sqlite;

use std::time::Duration;

use crossfade_host::client::Client;

use memory::Memory;
use objects::Objects;
use sqlite::Sqlite;

use super::record::{CanaryId, Entry, GateId, Gates};
use super::rules::Write;

/// How long a store may take; whoever asks a gate waits ten seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

/// Why nothing came of a request to the store. Nothing was changed, or the answer got lost.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or breaks off.
    #[error("{0}")]
    Unavailable(String),
    /// It refuses.
    #[error("{0}")]
    Refused(String),
    /// Others changed the same gates again and again.
    #[error("too many others change the gates of {0} at once")]
    Busy(CanaryId),
}

/// What a change of a Canary's gates answers.
#[derive(Clone, Debug)]
pub(super) struct Change<T> {
    /// The answer.
    pub(super) answer: T,
    /// What must become of the gates.
    pub(super) write: Write,
}

/// Where gates are kept.
#[derive(Clone, Debug)]
pub struct Store(Kept);

#[derive(Clone, Debug)]
enum Kept {
    /// In this process.
    Memory(Memory),
    /// In a file.
    Sqlite(Sqlite),
    /// Beside the Canaries.
    Objects(Objects),
}

impl Store {
    /// Keeps gates in this process; they are lost with it.
    pub fn memory() -> Self {
        Self(Kept::Memory(Memory::default()))
    }

    /// Keeps gates in a SQLite file, which is made if it is not there.
    ///
    /// # Errors
    /// The file cannot be opened or is no database of gates.
    pub fn sqlite(file: &std::path::Path) -> Result<Self, StoreError> {
        Sqlite::open(file).map(|store| Self(Kept::Sqlite(store)))
    }

    /// Keeps gates as ConfigMaps of the cluster or host that the client goes to.
    pub fn objects(client: Client) -> Self {
        Self(Kept::Objects(Objects::new(
            client.answered_within(PATIENCE),
        )))
    }

    /// The gates of a Canary; none when nothing is known of it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(super) async fn read(&self, canary: &CanaryId) -> Result<Gates, StoreError> {
        match &self.0 {
            Kept::Memory(store) => Ok(store.read(canary)),
            Kept::Sqlite(store) => store.read(canary).await,
            Kept::Objects(store) => store.read(canary).await,
        }
    }

    /// Changes the gates of a Canary. `change` may be called several times, each time with the gates as they are then; its last answer counts.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing was changed.
    pub(super) async fn update<T: Send + 'static>(
        &self,
        canary: &CanaryId,
        change: impl FnMut(&mut Gates) -> Change<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.0 {
            Kept::Memory(store) => Ok(store.update(canary, change)),
            Kept::Sqlite(store) => store.update(canary, change).await,
            Kept::Objects(store) => store.update(canary, change).await,
        }
    }

    /// All Canaries with gates, of one namespace or all, in order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(super) async fn list(
        &self,
        namespace: Option<&str>,
    ) -> Result<Vec<(CanaryId, Gates)>, StoreError> {
        match &self.0 {
            Kept::Memory(store) => Ok(store.list(namespace)),
            Kept::Sqlite(store) => store.list(namespace).await,
            Kept::Objects(store) => store.list(namespace).await,
        }
    }

    /// Tells the Canary's audience what was done to a gate, where the store has one.
    pub(super) async fn tell(&self, gate: &GateId, entry: &Entry) {
        if let Kept::Objects(store) = &self.0 {
            store.tell(gate, entry).await;
        }
    }
}
