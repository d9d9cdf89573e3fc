//! Everything that has been committed, in memory: objects, who owns whom, and the recent changes.
//!
//! The truth is in SQLite. This is its copy, so that reads never wait for a disk; only the writer changes it, and only
//! after a commit. The change log is bounded; a watch that has fallen behind it lists again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::error::{Result, StoreError};
use super::kind::Kind;
use super::object::{Key, Object};
use super::selector::Selector;

/// One committed change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The resourceVersion that it got.
    pub revision: u64,
    /// The object before; none when it is new.
    pub before: Option<Arc<Object>>,
    /// The object after; when it was deleted, its last state with the resourceVersion of the deletion.
    pub object: Arc<Object>,
    /// Whether it was deleted.
    pub gone: bool,
}

impl Change {
    /// The object as it stands since the change; none when it was deleted.
    pub fn after(&self) -> Option<&Arc<Object>> {
        (!self.gone).then_some(&self.object)
    }
}

/// How much of the past is remembered for watches.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLimits {
    pub(super) changes: usize,
    pub(super) bytes: usize,
}

/// The committed state.
#[derive(Debug)]
pub(super) struct Memory {
    objects: BTreeMap<Key, Arc<Object>>,
    by_uid: HashMap<String, Key>,
    /// Who names this uid as its owner.
    dependents: HashMap<String, BTreeSet<Key>>,
    log: VecDeque<Arc<Change>>,
    log_bytes: usize,
    limits: LogLimits,
    revision: u64,
    /// Changes up to this revision are no longer in the log.
    forgotten: u64,
}

impl Memory {
    pub(super) fn new(objects: Vec<Object>, revision: u64, limits: LogLimits) -> Self {
        let mut memory = Self {
            objects: BTreeMap::new(),
            by_uid: HashMap::new(),
            dependents: HashMap::new(),
            log: VecDeque::new(),
            log_bytes: 0,
            limits,
            revision,
            forgotten: revision,
        };
        for object in objects {
            memory.insert(Arc::new(object));
        }
        memory
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<&Arc<Object>> {
        self.objects.get(self.by_uid.get(uid)?)
    }

    /// Who names this uid as its owner.
    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Key> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// Every object, ordered by kind, namespace and name.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// The objects of a kind, in one namespace or in all.
    pub(super) fn of_kind(
        &self,
        kind: Kind,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &Arc<Object>> {
        // A kind without namespaces has all its objects in the empty one.
        let namespace = namespace
            .filter(|_| kind.scope() == super::Scope::Namespaced)
            .map(str::to_owned);
        let first = Key {
            kind,
            namespace: namespace.clone().unwrap_or_default(),
            name: String::new(),
        };
        self.objects
            .range((Bound::Included(first), Bound::Unbounded))
            .map(|(_, object)| object)
            .take_while(move |o| {
                o.kind() == kind && namespace.as_ref().is_none_or(|n| o.namespace() == n)
            })
    }

    pub(super) fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Vec<Arc<Object>> {
        self.of_kind(kind, namespace)
            .filter(|o| selector.matches(o))
            .cloned()
            .collect()
    }

    /// Takes up what has been committed.
    pub(super) fn commit(&mut self, changes: &[Change]) {
        for change in changes {
            self.revision = self.revision.max(change.revision);
            if let Some(before) = &change.before {
                self.remove(before);
            }
            if let Some(after) = change.after() {
                self.insert(Arc::clone(after));
            }
            self.log_bytes += change.object.bytes();
            self.log.push_back(Arc::new(change.clone()));
        }
        while self.log.len() > self.limits.changes || self.log_bytes > self.limits.bytes {
            let Some(oldest) = self.log.pop_front() else {
                break;
            };
            self.log_bytes -= oldest.object.bytes();
            self.forgotten = oldest.revision;
        }
    }

    /// The changes after a revision, oldest first.
    ///
    /// # Errors
    /// When some of them are forgotten, or the revision is one that this store never gave out.
    pub(super) fn changes_after(
        &self,
        revision: u64,
    ) -> Result<impl Iterator<Item = &Arc<Change>>> {
        if revision < self.forgotten || revision > self.revision {
            return Err(StoreError::Expired {
                asked: revision,
                oldest: self.forgotten,
            });
        }
        let start = self
            .log
            .partition_point(|change| change.revision <= revision);
        Ok(self.log.range(start..))
    }

    fn insert(&mut self, object: Arc<Object>) {
        self.by_uid
            .insert(object.uid().to_owned(), object.key().clone());
        for owner in object.owners() {
            self.dependents
                .entry(owner.to_owned())
                .or_default()
                .insert(object.key().clone());
        }
        self.objects.insert(object.key().clone(), object);
    }

    fn remove(&mut self, object: &Object) {
        self.by_uid.remove(object.uid());
        for owner in object.owners() {
            if let Some(keys) = self.dependents.get_mut(owner) {
                keys.remove(object.key());
                if keys.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        self.objects.remove(object.key());
    }
}
