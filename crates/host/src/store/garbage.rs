//! Deleting what has lost its owner, and emptying namespaces: Kubernetes' garbage collector and namespace controller.
//!
//! Works through a queue of keys between the writers' batches. What is to be done with a key is decided from the
//! objects alone ([`collect`]), so that nothing is lost when the host dies: at the start every object that may need it
//! is looked at again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::error::Result;
use super::kind::{Kind, Scope};
use super::memory::{Change, Memory};
use super::object::{Key, Object, finalizers, references, set_meta};
use super::rules::FOREGROUND;
use super::selector::Selector;
use super::transaction::Transaction;
use crate::wire::{Deletion, Part};

/// Objects that may have to go.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    queue: VecDeque<Key>,
    queued: BTreeSet<Key>,
}

impl Garbage {
    /// What may have been left over when the last host ended.
    pub(super) fn at_start(memory: &Memory) -> Self {
        let mut garbage = Self::default();
        for object in memory.all() {
            if may_need_care(memory, object) {
                garbage.push(object.key());
            }
        }
        garbage
    }

    /// Whether nothing is to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Up to so many keys, taken from the queue.
    pub(super) fn take(&mut self, most: usize) -> Vec<Key> {
        let keys: Vec<Key> = self.queue.drain(..self.queue.len().min(most)).collect();
        for key in &keys {
            self.queued.remove(key);
        }
        keys
    }

    /// Looks at an object again, soon.
    pub(super) fn push(&mut self, key: &Key) {
        if self.queued.insert(key.clone()) {
            self.queue.push_back(key.clone());
        }
    }

    /// Finds out what committed changes make necessary.
    pub(super) fn note(&mut self, changes: &[Change], memory: &Memory) {
        for change in changes {
            let object = &change.object;
            if !change.gone {
                if may_need_care(memory, object) {
                    self.push(object.key());
                }
                if !waits_for_dependents(object) {
                    continue;
                }
            }
            for key in memory.dependents(object.uid()) {
                self.push(key);
            }
            if !change.gone {
                continue;
            }
            let waiting = object
                .owners()
                .filter_map(|uid| memory.by_uid(uid))
                .filter(|o| waits_for_dependents(o));
            let keys: Vec<&Key> = waiting.map(|owner| owner.key()).collect();
            for key in keys {
                self.push(key);
            }
            let namespace = Key::new(Kind::Namespace, "", object.namespace());
            if memory.get(&namespace).is_some_and(|n| n.is_deleting()) {
                self.push(&namespace);
            }
        }
    }
}

fn may_need_care(memory: &Memory, object: &Object) -> bool {
    let lost = |uid: &str| {
        memory
            .by_uid(uid)
            .is_none_or(|o| !can_own(o, object) || waits_for_dependents(o))
    };
    object.owners().any(lost)
        || waits_for_dependents(object)
        || (object.kind() == Kind::Namespace && object.is_deleting())
}

/// Owners live in the same namespace or in none.
fn can_own(owner: &Object, object: &Object) -> bool {
    owner.kind().scope() == Scope::Cluster || owner.namespace() == object.namespace()
}

fn waits_for_dependents(object: &Object) -> bool {
    object.is_deleting() && finalizers(object.value()).contains(&FOREGROUND)
}

/// Does what one object needs now.
pub(super) fn collect(transaction: &mut Transaction<'_>, key: &Key) -> Result<()> {
    let Some(object) = transaction.find(key).cloned() else {
        return Ok(());
    };
    if object.kind() == Kind::Namespace && object.is_deleting() {
        return empty(transaction, &object);
    }
    if waits_for_dependents(&object) {
        return finish_waiting(transaction, &object);
    }
    if object.is_deleting() {
        return Ok(());
    }
    let mut lost = Vec::new();
    let mut waiting = 0;
    let mut solid = 0;
    for uid in object.owners() {
        match transaction.owner(uid, &object) {
            None => lost.push(uid.to_owned()),
            Some(owner) if waits_for_dependents(&owner) => waiting += 1,
            Some(_) => solid += 1,
        }
    }
    if solid > 0 {
        return if lost.is_empty() {
            Ok(())
        } else {
            transaction.drop_owners(&object, |uid| lost.iter().any(|l| l == uid))
        };
    }
    if waiting == 0 && lost.is_empty() {
        return Ok(());
    }
    // Who waits for its dependents waits for theirs, too.
    let chain = waiting > 0 && !transaction.dependents(object.uid()).is_empty();
    let request = Deletion {
        propagation_policy: chain.then(|| "Foreground".to_owned()),
        ..Deletion::default()
    };
    transaction.delete(key, &request).map(drop)
}

/// Deletes what is in a namespace; the namespace goes when nothing is left.
fn empty(transaction: &mut Transaction<'_>, namespace: &Arc<Object>) -> Result<()> {
    let mut left = 0;
    for kind in Kind::ALL
        .into_iter()
        .filter(|k| k.scope() == Scope::Namespaced)
    {
        for object in transaction.list(kind, Some(namespace.name()), &Selector::default()) {
            if object.is_deleting() {
                left += 1;
            } else if let super::Deleted::Waits(_) =
                transaction.delete(object.key(), &Deletion::default())?
            {
                left += 1;
            }
        }
    }
    if left > 0 {
        return Ok(());
    }
    let last = namespace.value().clone();
    transaction.remove(namespace, last).map(drop)
}

/// Lets an object go that waited for its dependents, once those that block it are gone.
fn finish_waiting(transaction: &mut Transaction<'_>, owner: &Arc<Object>) -> Result<()> {
    let blocks = |dependent: &Arc<Object>| {
        references(dependent.value()).iter().any(|r| {
            r.get("uid").and_then(Value::as_str) == Some(owner.uid())
                && r.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true)
        })
    };
    if transaction.dependents(owner.uid()).iter().any(blocks) {
        return Ok(());
    }
    let mut value = owner.value().clone();
    let kept: Vec<&str> = finalizers(owner.value())
        .into_iter()
        .filter(|f| *f != FOREGROUND)
        .collect();
    set_meta(&mut value, "finalizers", json!(kept));
    transaction
        .replace(owner, value, Part::Object, "update")
        .map(drop)
}

impl Transaction<'_> {
    /// The owner with this uid, if an object can still have it.
    fn owner(&self, uid: &str, object: &Object) -> Option<Arc<Object>> {
        let committed = self.committed.by_uid(uid)?;
        let owner = self.find(committed.key()).filter(|o| o.uid() == uid)?;
        can_own(owner, object).then(|| Arc::clone(owner))
    }
}
