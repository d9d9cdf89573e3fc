//! Following changes as they are committed.
//!
//! A [`Watch`] is a position in the change log and costs nothing while nothing happens: no queue fills up behind a slow
//! watcher. One that falls behind the log's end is told so ([`StoreError::Expired`]) and lists again.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use super::Shared;
use super::error::{Result, StoreError};
use super::kind::{Kind, Scope};
use super::memory::Change;
use super::object::Object;
use super::selector::Selector;
use crate::wire::WatchChange;

/// Which objects are watched; the default is all.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only this namespace (kinds without namespaces belong to every one).
    pub namespace: Option<String>,
    /// Only what matches.
    pub selector: Selector,
}

impl Interest {
    /// All objects of a kind.
    pub fn kind(kind: Kind) -> Self {
        Self {
            kind: Some(kind),
            ..Self::default()
        }
    }

    /// Whether an object is of interest.
    pub fn covers(&self, object: &Object) -> bool {
        self.kind.is_none_or(|kind| kind == object.kind())
            && self
                .namespace
                .as_ref()
                .is_none_or(|n| object.kind().scope() == Scope::Cluster || n == object.namespace())
            && self.selector.matches(object)
    }

    /// What a change is to this watcher; none when it does not concern it.
    fn sight(&self, change: &Arc<Change>) -> Option<Sighting> {
        let was = change.before.as_ref().is_some_and(|o| self.covers(o));
        let is = change.after().is_some_and(|o| self.covers(o));
        let what = match (was, is) {
            (false, false) => return None,
            (false, true) => WatchChange::Added,
            (true, true) => WatchChange::Modified,
            (true, false) => WatchChange::Deleted,
        };
        Some(Sighting {
            what,
            change: Arc::clone(change),
        })
    }
}

/// A change as a watcher sees it.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Added, modified or deleted; an object that no longer matches counts as deleted.
    pub what: WatchChange,
    /// The change itself.
    pub change: Arc<Change>,
}

impl Sighting {
    /// The object after the change; when it was deleted, its last state.
    pub fn object(&self) -> &Arc<Object> {
        &self.change.object
    }
}

/// A watch that runs.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    interest: Interest,
    /// Everything up to here has been looked at.
    position: u64,
    found: VecDeque<Sighting>,
    signal: watch::Receiver<u64>,
}

/// Changes fetched under one lock.
const AT_ONCE: usize = 256;

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, interest: Interest, after: u64) -> Self {
        let signal = shared.signal.clone();
        Self {
            shared,
            interest,
            position: after,
            found: VecDeque::new(),
            signal,
        }
    }

    /// The next change that concerns this watcher. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Expired` when changes have been missed: list again. `Closed` when the store is closed.
    pub async fn next(&mut self) -> Result<Sighting> {
        loop {
            if let Some(sighting) = self.found.pop_front() {
                return Ok(sighting);
            }
            self.signal.borrow_and_update();
            self.fetch()?;
            if self.found.is_empty() && self.signal.changed().await.is_err() {
                return Err(StoreError::Closed);
            }
        }
    }

    /// Whether the watch can go on from where it is.
    ///
    /// # Errors
    /// `Expired` when changes have been missed: list again.
    pub fn check(&self) -> Result<()> {
        let memory = self
            .shared
            .memory
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        memory.changes_after(self.position).map(drop)
    }

    /// Up to which resourceVersion everything has been told; none while something found has not been told.
    pub fn position(&self) -> Option<u64> {
        self.found.is_empty().then_some(self.position)
    }

    fn fetch(&mut self) -> Result<()> {
        let memory = self
            .shared
            .memory
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for change in memory.changes_after(self.position)? {
            self.position = change.revision;
            self.found.extend(self.interest.sight(change));
            if self.found.len() >= AT_ONCE {
                break;
            }
        }
        Ok(())
    }
}
