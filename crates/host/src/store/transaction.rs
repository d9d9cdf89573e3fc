//! Several reads and writes that happen together or not at all.
//!
//! A [`Transaction`] sees what is committed, what earlier transactions of the same batch did, and what it did itself.
//! It touches no disk: the writer commits the batch, and only then does anybody else see it or is told of success.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::admission::Admission;
use super::audit::{Act, AuditEntry};
use super::error::{Result, StoreError};
use super::events::EventLimits;
use super::kind::{Kind, Scope};
use super::memory::{Change, Memory};
use super::object::{Key, Object, is_deleting, meta_text, references, set_meta};
use super::patch::json_patch;
use super::rules::{self, Removal};
use super::selector::Selector;
use crate::wire::{AuditSubject, Deletion, Part, Patch};

/// As etcd's limit, roughly: larger objects slow everything that reads them.
const LARGEST: usize = 2 << 20;
/// How often a generated name may be taken before the writer is told so.
const NAME_TRIES: usize = 8;

/// What a deletion came to.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Arc<Object>),
    /// It stays until its finalizers are removed, or its process has ended.
    Waits(Arc<Object>),
}

/// Changes that are not committed yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) revision: u64,
    pub(super) changes: Vec<Change>,
    pub(super) audit: Vec<AuditEntry>,
    /// The last state of every changed object with its JSON text; none when it is gone.
    pub(super) latest: BTreeMap<Key, Option<(Arc<Object>, String)>>,
}

impl Pending {
    pub(super) fn after(revision: u64) -> Self {
        Self {
            revision,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.audit.is_empty()
    }

    /// Adds what a later transaction did.
    pub(super) fn absorb(&mut self, later: Self) {
        self.revision = later.revision;
        self.changes.extend(later.changes);
        self.audit.extend(later.audit);
        self.latest.extend(later.latest);
    }
}

/// Several reads and writes that happen together or not at all.
pub struct Transaction<'a> {
    pub(super) committed: &'a Memory,
    pub(super) earlier: &'a Pending,
    pub(super) own: Pending,
    pub(super) act: &'a Act,
    pub(super) admission: &'a dyn Admission,
    pub(super) now: Timestamp,
    pub(super) events: EventLimits,
    pub(super) warnings: Vec<String>,
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Transaction of {} with {} changes",
            self.act.actor(),
            self.own.changes.len()
        )
    }
}

impl Transaction<'_> {
    /// The time of everything in this transaction.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// An object, if it exists.
    pub fn find(&self, key: &Key) -> Option<&Arc<Object>> {
        match self
            .own
            .latest
            .get(key)
            .or_else(|| self.earlier.latest.get(key))
        {
            Some(changed) => changed.as_ref().map(|(object, _)| object),
            None => self.committed.get(key),
        }
    }

    /// An object.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn get(&self, key: &Key) -> Result<Arc<Object>> {
        self.find(key)
            .cloned()
            .ok_or_else(|| StoreError::NotFound(key.clone()))
    }

    /// The objects of a kind that match, in one namespace or in all.
    pub fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Vec<Arc<Object>> {
        let namespace = namespace.filter(|_| kind.scope() == Scope::Namespaced);
        let changed =
            |key: &Key| self.own.latest.contains_key(key) || self.earlier.latest.contains_key(key);
        let mut found: Vec<Arc<Object>> = self
            .committed
            .of_kind(kind, namespace)
            .filter(|o| !changed(o.key()))
            .cloned()
            .collect();
        let uncommitted = self.earlier.latest.keys().chain(self.own.latest.keys());
        let mut keys: Vec<&Key> = uncommitted
            .filter(|k| k.kind == kind && namespace.is_none_or(|n| k.namespace == n))
            .collect();
        keys.sort();
        keys.dedup();
        found.extend(keys.into_iter().filter_map(|key| self.find(key)).cloned());
        found.retain(|object| selector.matches(object));
        found.sort_by(|one, other| one.key().cmp(other.key()));
        found
    }

    /// Stores a new object. Without a name but with `generateName` it gets one.
    ///
    /// # Errors
    /// When the name is taken, the namespace is being deleted, or the object breaks rules.
    pub fn create(&mut self, kind: Kind, namespace: &str, mut value: Value) -> Result<Arc<Object>> {
        let mut key = rules::key_of(kind, namespace, &value)?;
        if key.name.is_empty() {
            key.name = self.generated_name(&key, meta_text(&value, "generateName"))?;
        }
        if self.find(&key).is_some() {
            return Err(StoreError::AlreadyExists(key));
        }
        let uid = new_uid()?;
        let (admission, warnings) = (self.admission, &mut self.warnings);
        value = rules::created(&key, value, &uid, self.now, &mut |new| {
            admit(admission, warnings, &key, new, None)
        })?;
        self.ensure_namespace(&key)?;
        if kind == Kind::Namespace
            && let Some(namespace) = value.as_object_mut()
        {
            namespace.insert("status".to_owned(), json!({"phase": "Active"}));
        }
        self.note("create", &key, "");
        self.put(&key, value, None)
    }

    /// Replaces an object, its status or its scale. Writing what is there already changes nothing.
    ///
    /// # Errors
    /// When it does not exist, is another one (uid) or newer (resourceVersion) than the writer's, or breaks rules.
    pub fn update(&mut self, key: &Key, value: Value, part: Part) -> Result<Arc<Object>> {
        let old = self.get(key)?;
        let meant = match part {
            Part::Scale => key.clone(),
            Part::Object | Part::Status => rules::key_of(key.kind, &key.namespace, &value)?,
        };
        if !meant.name.is_empty() && meant.name != key.name {
            return Err(StoreError::BadRequest(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                meant.name, key.name
            )));
        }
        self.replace(
            &old,
            value,
            part,
            match part {
                Part::Object => "update",
                Part::Status => "update status",
                Part::Scale => "scale",
            },
        )
    }

    /// Patches an object, its status or its scale.
    ///
    /// # Errors
    /// As [`update`](Self::update), and when the patch cannot be carried out.
    pub fn patch(
        &mut self,
        key: &Key,
        part: Part,
        form: Patch,
        patch: &Value,
    ) -> Result<Arc<Object>> {
        let old = self.get(key)?;
        let mut value = match part {
            Part::Object | Part::Status => old.value().clone(),
            Part::Scale => rules::scale_of(&old)?,
        };
        match form {
            Patch::Merge if !patch.is_object() => {
                return Err(StoreError::BadRequest(
                    "a merge patch must be a JSON object".to_owned(),
                ));
            }
            Patch::Merge => crossfade_api::merge_patch::apply(&mut value, patch),
            Patch::Json => {
                value = json_patch(&value, patch)
                    .map_err(|why| StoreError::invalid(key, "patch", why))?;
            }
        }
        if part != Part::Scale {
            let meant = rules::key_of(key.kind, &key.namespace, &value)?;
            if meant != *key {
                return Err(StoreError::BadRequest(
                    "a patch cannot change the name of an object".to_owned(),
                ));
            }
        }
        self.replace(
            &old,
            value,
            part,
            match part {
                Part::Object => "patch",
                Part::Status => "patch status",
                Part::Scale => "scale",
            },
        )
    }

    pub(super) fn replace(
        &mut self,
        old: &Arc<Object>,
        value: Value,
        part: Part,
        verb: &str,
    ) -> Result<Arc<Object>> {
        let (admission, warnings, key) = (self.admission, &mut self.warnings, old.key());
        let new = rules::updated(old, value, part, &mut |new| {
            admit(admission, warnings, key, new, Some(old.value()))
        })?;
        let Some(new) = new else {
            return Ok(Arc::clone(old));
        };
        self.note(verb, key, &rules::changed_fields(old.value(), &new));
        if rules::is_over(&new, key.kind) {
            return self.remove(old, new);
        }
        self.put(key, new, Some(Arc::clone(old)))
    }

    /// Deletes an object: at once, or as soon as its finalizers and its process allow.
    ///
    /// # Errors
    /// When it does not exist or a precondition does not hold.
    pub fn delete(&mut self, key: &Key, request: &Deletion) -> Result<Deleted> {
        let old = self.get(key)?;
        let removal = rules::deleted(&old, request, self.now)?;
        if request.propagation_policy.as_deref() == Some("Orphan") {
            self.set_free(old.uid())?;
        }
        match removal {
            Removal::UnderWay => Ok(Deleted::Waits(old)),
            Removal::Later(value) => {
                self.note("delete", key, "");
                Ok(Deleted::Waits(self.put(key, value, Some(old))?))
            }
            Removal::Now => {
                self.note("delete", key, "");
                let last = old.value().clone();
                Ok(Deleted::Gone(self.remove(&old, last)?))
            }
        }
    }

    /// Leaves a row in the audit trail, for a decision that is more than one write.
    pub fn audit(&mut self, action: &str, subject: &Key, reason: &str, detail: &str) {
        let entry = self
            .act
            .decision(self.now, action, subject_of(subject), reason, detail);
        self.own.audit.push(entry);
    }

    /// What the writer should know about the objects that were written so far; taken, not repeated.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn note(&mut self, verb: &str, key: &Key, detail: &str) {
        self.own
            .audit
            .extend(self.act.entry(self.now, verb, subject_of(key), detail));
    }

    /// Stores an object's JSON under the next revision.
    pub(super) fn put(
        &mut self,
        key: &Key,
        value: Value,
        before: Option<Arc<Object>>,
    ) -> Result<Arc<Object>> {
        let (object, text) = self.sealed(key, value)?;
        if text.len() > LARGEST {
            return Err(StoreError::BadRequest(format!(
                "{key} has {} bytes, more than the {LARGEST} that are allowed",
                text.len()
            )));
        }
        self.own
            .latest
            .insert(key.clone(), Some((Arc::clone(&object), text)));
        self.own.changes.push(Change {
            revision: self.own.revision,
            before,
            object: Arc::clone(&object),
            gone: false,
        });
        Ok(object)
    }

    /// Removes an object; `last` is its last state.
    pub(super) fn remove(&mut self, old: &Arc<Object>, last: Value) -> Result<Arc<Object>> {
        let (object, _) = self.sealed(old.key(), last)?;
        self.own.latest.insert(old.key().clone(), None);
        let before = Some(Arc::clone(old));
        self.own.changes.push(Change {
            revision: self.own.revision,
            before,
            object: Arc::clone(&object),
            gone: true,
        });
        Ok(object)
    }

    fn sealed(&mut self, key: &Key, mut value: Value) -> Result<(Arc<Object>, String)> {
        self.own.revision += 1;
        set_meta(
            &mut value,
            "resourceVersion",
            json!(self.own.revision.to_string()),
        );
        let text = serde_json::to_string(&value)
            .map_err(|error| StoreError::Internal(error.to_string()))?;
        Ok((
            Arc::new(Object::new(
                key.clone(),
                value,
                self.own.revision,
                text.len(),
            )),
            text,
        ))
    }

    /// Every object that names this uid as its owner, as this transaction sees it.
    pub(super) fn dependents(&self, uid: &str) -> Vec<Arc<Object>> {
        let mut keys: Vec<&Key> = self.committed.dependents(uid).collect();
        keys.extend(self.earlier.latest.keys().chain(self.own.latest.keys()));
        keys.sort();
        keys.dedup();
        keys.into_iter()
            .filter_map(|key| self.find(key))
            .filter(|o| o.owners().any(|owner| owner == uid))
            .cloned()
            .collect()
    }

    /// Removes the references to an owner, so that its dependents outlive it.
    fn set_free(&mut self, owner: &str) -> Result<()> {
        for dependent in self.dependents(owner) {
            self.drop_owners(&dependent, |uid| uid == owner)?;
        }
        Ok(())
    }

    /// Removes references from an object to owners.
    pub(super) fn drop_owners(
        &mut self,
        object: &Arc<Object>,
        which: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mut value = object.value().clone();
        let kept: Vec<Value> = references(&value)
            .iter()
            .filter(|r| !r.get("uid").and_then(Value::as_str).is_some_and(&which))
            .cloned()
            .collect();
        set_meta(
            &mut value,
            "ownerReferences",
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Array(kept)
            },
        );
        self.put(object.key(), value, Some(Arc::clone(object)))
            .map(drop)
    }

    /// Namespaces come into being with their first object: on one machine nobody administers them.
    fn ensure_namespace(&mut self, key: &Key) -> Result<()> {
        if key.namespace.is_empty() {
            return Ok(());
        }
        let namespace = Key::new(Kind::Namespace, "", &key.namespace);
        if let Some(found) = self.find(&namespace) {
            if !is_deleting(found.value()) {
                return Ok(());
            }
            let why = format!(
                "unable to create new content in namespace {} because it is being terminated",
                key.namespace
            );
            return Err(StoreError::Forbidden {
                key: key.clone(),
                why,
            });
        }
        let plain = json!({"apiVersion": "v1", "kind": "Namespace"});
        let mut value = rules::created(&namespace, plain, &new_uid()?, self.now, &mut |_| Ok(()))?;
        if let Some(object) = value.as_object_mut() {
            object.insert("status".to_owned(), json!({"phase": "Active"}));
        }
        self.put(&namespace, value, None).map(drop)
    }

    fn generated_name(&self, key: &Key, prefix: &str) -> Result<String> {
        if prefix.is_empty() {
            return Err(StoreError::invalid(
                key,
                "metadata.name",
                "Required value: name or generateName is required",
            ));
        }
        // Kubernetes cuts the prefix so that the whole name stays within 63 characters.
        let prefix = prefix
            .get(..prefix.floor_char_boundary(58))
            .unwrap_or(prefix);
        for _ in 0..NAME_TRIES {
            let candidate = Key {
                name: format!("{prefix}{}", random_suffix()?),
                ..key.clone()
            };
            if self.find(&candidate).is_none() {
                return Ok(candidate.name);
            }
        }
        Err(StoreError::AlreadyExists(Key {
            name: prefix.to_owned(),
            ..key.clone()
        }))
    }
}

fn admit(
    admission: &dyn Admission,
    warnings: &mut Vec<String>,
    key: &Key,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<()> {
    match admission.admit(key.kind, new, old) {
        Ok(more) => {
            warnings.extend(more);
            Ok(())
        }
        Err(faults) => Err(StoreError::Invalid {
            key: key.clone(),
            faults,
        }),
    }
}

fn subject_of(key: &Key) -> AuditSubject {
    AuditSubject {
        kind: key.kind.name().to_owned(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

/// Random bytes from the kernel.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    loop {
        // So few bytes never come short.
        match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
            Ok(_) => return Ok(bytes),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(StoreError::Internal(format!(
                    "the kernel gives no random numbers: {error}"
                )));
            }
        }
    }
}

/// A random uid (RFC 9562, version 4).
fn new_uid() -> Result<String> {
    let bits = u128::from_be_bytes(random()?);
    let bits = bits & !(0xf << 76) | 0x4 << 76;
    let bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let parts: Vec<&str> = [0..8, 8..12, 12..16, 16..20, 20..32]
        .into_iter()
        .filter_map(|range| hex.get(range))
        .collect();
    Ok(parts.join("-"))
}

/// Five characters that spell no words, as Kubernetes appends them to `generateName`.
fn random_suffix() -> Result<String> {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let letter = |byte: u8| {
        LETTERS
            .get(usize::from(byte) % LETTERS.len())
            .map(|l| char::from(*l))
    };
    Ok(random::<5>()?.into_iter().filter_map(letter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_random_uuids() {
        let (one, other) = (new_uid().unwrap(), new_uid().unwrap());
        assert_ne!(one, other);
        for uid in [one, other] {
            let parts: Vec<usize> = uid.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{uid}");
            assert_eq!(uid.as_bytes()[14], b'4', "{uid}");
            assert!(b"89ab".contains(&uid.as_bytes()[19]), "{uid}");
        }
    }
}
