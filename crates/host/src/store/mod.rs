//! The object store: what is so on this machine, as Kubernetes objects in SQLite.
//!
//! Start at [`Store`]. Reads come from memory and never wait; writes go through one thread ([`Store::transact`]) and are
//! answered when they are on the disk. Rules are Kubernetes' own: `rules` (metadata, spec and status), `names`, `selector`,
//! `garbage` (owners), `apply` (three-way). What objects mean is not known here; an [`Admission`] knows their schemas.

mod admission;
mod apply;
mod audit;
mod disk;
mod error;
mod events;
mod garbage;
mod kind;
mod lock;
mod memory;
mod names;
mod object;
mod overlays;
mod patch;
mod rules;
mod secret;
mod selector;
mod transaction;
mod watch;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;

pub use admission::Admission;
pub use apply::Immutable;
pub use audit::{Act, AuditFilter, AuditLimits};
pub use error::{Fault, OpenError, Result, StoreError};
pub use events::{EventLimits, EventType, Happening, Seen, event_key};
pub use kind::{Kind, Scope, StatusWrites, api_version, harmless, split_api_version};
pub use lock::StateFolder;
pub use memory::Change;
pub(crate) use object::meta_text;
pub use object::{Key, LAST_APPLIED, Object};
pub(crate) use overlays::{overlaid, text};
pub(crate) use rules::scale_of;
pub use secret::decoded as decode_secret;
pub use selector::Selector;
pub use transaction::{Deleted, Transaction};
pub use watch::{Interest, Sighting, Watch};

use crate::wire::{Applied, ApplyRequest, AuditRow, Deletion, Part, Patch};

/// How a store works.
#[derive(Clone)]
pub struct Options {
    /// Who knows the schemas.
    pub admission: Arc<dyn Admission>,
    /// What time it is.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How many Events are kept.
    pub events: EventLimits,
    /// How much of the audit trail is kept.
    pub audit: AuditLimits,
    /// How many changes are remembered for watches.
    pub remembered_changes: usize,
    /// How many bytes of objects are remembered for watches.
    pub remembered_bytes: usize,
    /// The largest size of the file in bytes; the disk's when absent.
    pub largest_file: Option<u64>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("events", &self.events)
            .field("audit", &self.audit)
            .field("remembered_changes", &self.remembered_changes)
            .field("remembered_bytes", &self.remembered_bytes)
            .field("largest_file", &self.largest_file)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// The usual ones.
    pub fn new(admission: Arc<dyn Admission>) -> Self {
        Self {
            admission,
            clock: Arc::new(Timestamp::now),
            events: EventLimits::default(),
            audit: AuditLimits::default(),
            remembered_changes: 8192,
            remembered_bytes: 64 << 20,
            largest_file: None,
        }
    }
}

/// What the store's handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    memory: RwLock<memory::Memory>,
    /// Changes with every commit; closed when the writer has ended.
    signal: tokio::sync::watch::Receiver<u64>,
    reader: Mutex<disk::Reader>,
    folder: PathBuf,
}

/// A handle to the store; clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    writer: mpsc::Sender<writer::Message>,
}

/// A list and the revision at which it was true: a watch from there on misses nothing.
#[derive(Clone, Debug)]
pub struct List {
    /// The objects, ordered by namespace and name.
    pub items: Vec<Arc<Object>>,
    /// The revision.
    pub revision: u64,
}

impl Store {
    /// Opens the store in a state folder, making both if need be, and locks the folder.
    ///
    /// # Errors
    /// When another host holds the folder, or the file cannot be read; the file is then as it was.
    pub fn open(folder: &Path, options: Options) -> std::result::Result<Self, OpenError> {
        let state = StateFolder::take(folder)?;
        let (disk, content) = disk::Disk::open(folder, options.largest_file)?;
        let limits = memory::LogLimits {
            changes: options.remembered_changes,
            bytes: options.remembered_bytes,
        };
        let memory = memory::Memory::new(content.objects, content.revision, limits);
        let (signal, seen) = tokio::sync::watch::channel(memory.revision());
        let shared = Arc::new(Shared {
            memory: RwLock::new(memory),
            signal: seen,
            reader: Mutex::new(disk::Reader::open(folder)?),
            folder: folder.to_owned(),
        });
        let (sender, messages) = mpsc::channel();
        let writer = writer::Writer::new(Arc::clone(&shared), signal, options, disk, state);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&messages))
            .map_err(|source| OpenError::Folder {
                folder: folder.to_owned(),
                source,
            })?;
        Ok(Self {
            shared,
            writer: sender,
        })
    }

    /// The state folder.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.memory().revision()
    }

    /// An object, if it exists.
    pub fn find(&self, key: &Key) -> Option<Arc<Object>> {
        self.memory().get(key).cloned()
    }

    /// An object.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Arc<Object>> {
        let key = Key::new(kind, namespace, name);
        self.find(&key).ok_or(StoreError::NotFound(key))
    }

    /// An object, decoded.
    ///
    /// # Errors
    /// When it does not exist, or is not of that type.
    pub fn get_as<T: DeserializeOwned>(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<T> {
        let object = self.get(kind, namespace, name)?;
        object
            .decode()
            .map_err(|error| StoreError::Internal(format!("{}: {error}", object.key())))
    }

    /// The object with this uid, if it exists.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Object>> {
        self.memory().by_uid(uid).cloned()
    }

    /// The objects that name this uid as their owner.
    pub fn dependents(&self, uid: &str) -> Vec<Arc<Object>> {
        let memory = self.memory();
        memory
            .dependents(uid)
            .filter_map(|key| memory.get(key))
            .cloned()
            .collect()
    }

    /// The objects of a kind that match, in one namespace or in all.
    pub fn list(&self, kind: Kind, namespace: Option<&str>, selector: &Selector) -> List {
        let memory = self.memory();
        List {
            items: memory.list(kind, namespace, selector),
            revision: memory.revision(),
        }
    }

    /// The changes after a revision (that of a [`List`], usually).
    pub fn watch(&self, interest: Interest, after: u64) -> Watch {
        Watch::new(Arc::clone(&self.shared), interest, after)
    }

    /// Runs several reads and writes that happen together or not at all, and waits until they are on the disk. The work
    /// runs on the writer's thread: it must not wait for anything. Once asked for, it runs even if nobody waits any more.
    ///
    /// # Errors
    /// Whatever the work refuses, and a disk that is full or fails; nothing is changed then.
    pub async fn transact<T: Send + 'static>(
        &self,
        act: Act,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (job, result) = writer::Job::new(act, work);
        self.writer
            .send(writer::Message::Job(job))
            .map_err(|_| StoreError::Closed)?;
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Stores a new object; see [`Transaction::create`].
    pub async fn create(
        &self,
        act: Act,
        kind: Kind,
        namespace: &str,
        object: Value,
    ) -> Result<Arc<Object>> {
        let namespace = namespace.to_owned();
        self.transact(act, move |t| t.create(kind, &namespace, object))
            .await
    }

    /// Replaces an object, its status or its scale; see [`Transaction::update`].
    pub async fn update(
        &self,
        act: Act,
        key: Key,
        part: Part,
        object: Value,
    ) -> Result<Arc<Object>> {
        self.transact(act, move |t| t.update(&key, object, part))
            .await
    }

    /// Applies a merge patch to an object, its status or its scale; see [`Transaction::patch`].
    pub async fn patch_merge(
        &self,
        act: Act,
        key: Key,
        part: Part,
        patch: Value,
    ) -> Result<Arc<Object>> {
        self.transact(act, move |t| t.patch(&key, part, Patch::Merge, &patch))
            .await
    }

    /// Applies a JSON patch to an object, its status or its scale; see [`Transaction::patch`].
    pub async fn patch_json(
        &self,
        act: Act,
        key: Key,
        part: Part,
        patch: Value,
    ) -> Result<Arc<Object>> {
        self.transact(act, move |t| t.patch(&key, part, Patch::Json, &patch))
            .await
    }

    /// Deletes an object; see [`Transaction::delete`].
    pub async fn delete(&self, act: Act, key: Key, request: Deletion) -> Result<Deleted> {
        self.transact(act, move |t| t.delete(&key, &request)).await
    }

    /// Applies manifests, all or none; `namespace` is for those that name none.
    ///
    /// # Errors
    /// Every fault of every document.
    pub async fn apply(
        &self,
        act: Act,
        request: ApplyRequest,
        namespace: &str,
        immutable: Immutable,
    ) -> Result<Vec<Applied>> {
        let namespace = namespace.to_owned();
        let act = act.or_doing("apply");
        self.transact(act, move |t| {
            apply::apply(t, request, &namespace, immutable)
        })
        .await
    }

    /// The newest rows of the audit trail that match, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn audit_rows(&self, filter: AuditFilter) -> Result<Vec<AuditRow>> {
        let shared = Arc::clone(&self.shared);
        let read = move || {
            shared
                .reader
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .audit(&filter)
        };
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())))
    }

    /// Finishes the writes that were asked for, closes the file and unlocks the folder. Other handles read on and
    /// can write no more.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.writer.send(writer::Message::Close(done)).is_ok() {
            let _ = closed.await;
        }
    }

    fn memory(&self) -> std::sync::RwLockReadGuard<'_, memory::Memory> {
        self.shared
            .memory
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
