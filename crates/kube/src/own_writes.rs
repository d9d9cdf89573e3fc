//! What the controller has written, until its caches show it: nothing is decided on an object that is older than our own last write to it.
//!
//! A write is seen when the cache holds that version or a later one, when the object is gone after it was there, or when the whole kind was listed
//! anew after the write.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::cache::{Key, version};
use crate::caches::Caches;
use crate::kind::Kind;

/// What a cache will show of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
    /// The object in this version.
    Version(u64),
    /// No object of this uid, or one that is going.
    Gone(String),
}

#[derive(Clone, Debug)]
struct Write {
    kind: Kind,
    key: Key,
    effect: Effect,
    /// Lists of the kind that had begun before the write.
    lists_before: u64,
    /// The object was in the cache at some time since.
    seen: bool,
}

/// Writes that caches do not show yet, by the subject whose decisions they belong to.
pub(crate) struct OwnWrites<S>(Mutex<BTreeMap<S, Vec<Write>>>);

impl<S> Default for OwnWrites<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: Ord + Clone> OwnWrites<S> {
    /// A write was answered with this version of the object; an empty one says nothing.
    pub(crate) fn wrote(&self, caches: &Caches, subject: &S, kind: &Kind, key: Key, now: &str) {
        let number = version(now);
        if number > 0 {
            self.add(caches, subject, kind, key, Effect::Version(number));
        }
    }

    /// An object was deleted.
    pub(crate) fn deleted(&self, caches: &Caches, subject: &S, kind: &Kind, key: Key, uid: &str) {
        self.add(caches, subject, kind, key, Effect::Gone(uid.to_owned()));
    }

    fn add(&self, caches: &Caches, subject: &S, kind: &Kind, key: Key, effect: Effect) {
        let (sight, lists) = caches.sight(kind, &key);
        let write = Write {
            kind: kind.clone(),
            seen: sight.is_some(),
            key,
            effect,
            lists_before: lists.begun,
        };
        let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_subject = writes.entry(subject.clone()).or_default();
        of_subject.retain(|other| other.kind != write.kind || other.key != write.key);
        of_subject.push(write);
    }

    /// The kind and name of a write of this subject that its caches do not show yet.
    pub(crate) fn unseen(&self, caches: &Caches, subject: &S) -> Option<String> {
        let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_subject = writes.get_mut(subject)?;
        of_subject.retain_mut(|write| !is_seen(write, caches));
        let unseen = of_subject
            .first()
            .map(|write| format!("{} {}", write.kind.resource().plural, write.key.1));
        if of_subject.is_empty() {
            writes.remove(subject);
        }
        unseen
    }

    /// The subject is gone.
    pub(crate) fn forget(&self, subject: &S) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(subject);
    }
}

fn is_seen(write: &mut Write, caches: &Caches) -> bool {
    let (sight, lists) = caches.sight(&write.kind, &write.key);
    if lists.complete > write.lists_before {
        return true;
    }
    let seen = match (&write.effect, &sight) {
        (Effect::Version(version), Some(sight)) => sight.version >= *version,
        (Effect::Version(_), None) => write.seen,
        (Effect::Gone(uid), Some(sight)) => sight.uid != *uid || sight.deleting,
        (Effect::Gone(_), None) => true,
    };
    write.seen |= sight.is_some();
    seen
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::Object;

    fn service(version: &str) -> Object {
        Object::new(
            json!({"metadata": {"namespace": "shop", "name": "web", "uid": "1", "resourceVersion": version}}),
        )
    }

    #[test]
    fn a_write_is_awaited_until_its_version_or_a_later_one_is_there() {
        let caches = Caches::default();
        caches.services.add_scope("");
        caches.services.begin("");
        caches.services.complete("");
        let key = || ("shop".to_owned(), "web".to_owned());
        let writes = OwnWrites::default();
        writes.wrote(&caches, &"web", &Kind::Service, key(), "5");
        assert_eq!(
            writes.unseen(&caches, &"web"),
            Some("services web".to_owned())
        );
        caches.services.put(service("4"));
        assert!(writes.unseen(&caches, &"web").is_some(), "an older version");
        assert_eq!(writes.unseen(&caches, &"other"), None);
        caches.services.put(service("6"));
        assert_eq!(writes.unseen(&caches, &"web"), None);

        writes.deleted(&caches, &"web", &Kind::Service, key(), "1");
        assert!(writes.unseen(&caches, &"web").is_some(), "still there");
        caches.services.remove(&service("7"));
        assert_eq!(writes.unseen(&caches, &"web"), None);

        // What came and went between two events is settled by a list that began after it.
        writes.wrote(&caches, &"web", &Kind::Service, key(), "9");
        assert!(writes.unseen(&caches, &"web").is_some());
        caches.services.begin("");
        caches.services.complete("");
        assert_eq!(writes.unseen(&caches, &"web"), None);
    }
}
