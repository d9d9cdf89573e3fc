//! What is known of the objects of one kind: what decisions look at, kept current by watches.
//!
//! A cache holds views, never whole objects. It also knows how often it has been filled anew, which settles what was written before that (see
//! [`crate::own_writes`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crossfade_engine::views;
use kube::Resource as _;
use serde_json::Value;

use crate::object::Object;

/// Namespace and name.
pub(crate) type Key = (String, String);

/// What is kept of an object.
pub(crate) trait View: Send + Sync + Sized + 'static {
    /// Takes it out of the object's JSON; `before` is what was kept of an earlier version.
    fn of(json: Value, before: Option<&Self>) -> Self;

    /// Under which uids it is found by [`Cache::owned`]: its owner's (empty for an object that nobody owns), or its own where others name it
    /// by that.
    fn found_by(&self) -> [Option<&str>; 2] {
        [None, None]
    }
}

/// An object in a cache.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) uid: String,
    /// resourceVersion as a number: a greater one is newer.
    pub(crate) version: u64,
    pub(crate) deleting: bool,
    /// Number of lists of its scope that had begun when it was answered to a write of ours; `None` for what a watch or a list has shown.
    answered: Option<u64>,
    pub(crate) view: T,
}

/// How an object changed in a cache.
pub(crate) struct Change<T> {
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Entry<T>>>,
    pub(crate) after: Option<Arc<Entry<T>>>,
}

/// How often the objects of a scope were listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    /// Number of lists that were begun.
    pub(crate) begun: u64,
    /// Which of them was complete last; 0 for none.
    pub(crate) complete: u64,
}

/// Why the objects of a scope are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) why: String,
    /// The API server refuses them: no patience helps, and what was known before grows old.
    pub(crate) denied: bool,
}

impl Trouble {
    /// The trouble with objects of this kind.
    pub(crate) fn of(self, kind: &str) -> Self {
        Self {
            why: format!("{kind}: {}", self.why),
            ..self
        }
    }
}

#[derive(Default)]
struct Scope {
    lists: Lists,
    listed: BTreeSet<Key>,
    /// Why the objects cannot be watched now.
    trouble: Option<Trouble>,
}

struct State<T> {
    objects: BTreeMap<Key, Arc<Entry<T>>>,
    /// Namespace, owner, name.
    owned: BTreeSet<[String; 3]>,
    /// By namespace; the empty one stands for all.
    scopes: BTreeMap<String, Scope>,
}

/// The objects of one kind.
pub(crate) struct Cache<T>(RwLock<State<T>>);

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(RwLock::new(State {
            objects: BTreeMap::new(),
            owned: BTreeSet::new(),
            scopes: BTreeMap::new(),
        }))
    }
}

/// A resourceVersion as a number; they are comparable, and of unlimited length only in theory.
pub(crate) fn version(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn key_of(object: &Object) -> Key {
    let metadata = object.meta();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name))
}

fn uid_of(object: &Object) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

fn version_of(object: &Object) -> u64 {
    version(
        object
            .meta()
            .resource_version
            .as_deref()
            .unwrap_or_default(),
    )
}

impl<T: View> Cache<T> {
    fn read(&self) -> RwLockReadGuard<'_, State<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry<T>>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.read().objects.get(&key).cloned()
    }

    /// The objects of a namespace.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Vec<(Key, Arc<Entry<T>>)> {
        let state = self.read();
        let from = (namespace.to_owned(), String::new());
        let range = state.objects.range(from..);
        range
            .take_while(|((of, _), _)| of == namespace)
            .map(|(key, entry)| (key.clone(), Arc::clone(entry)))
            .collect()
    }

    /// The keys of all objects.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.read().objects.keys().cloned().collect()
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// The objects of a namespace with this owner; see [`View::found_by`].
    pub(crate) fn owned(&self, namespace: &str, owner: &str) -> Vec<Arc<Entry<T>>> {
        let state = self.read();
        let from = [namespace.to_owned(), owner.to_owned(), String::new()];
        let found = state.owned.range(from..);
        found
            .take_while(|[of, by, _]| of == namespace && by == owner)
            .filter_map(|[of, _, name]| state.objects.get(&(of.clone(), name.clone())))
            .cloned()
            .collect()
    }

    /// How often the scope of a namespace was listed.
    pub(crate) fn lists(&self, namespace: &str) -> Lists {
        let state = self.read();
        let scope = state.scopes.get(namespace).or(state.scopes.get(""));
        scope.map(|scope| scope.lists).unwrap_or_default()
    }

    /// Why the objects of a namespace are not known, if they are not: they cannot be read, or have not been yet. One that merely cannot be
    /// watched for now is known as it was.
    pub(crate) fn trouble(&self, namespace: &str) -> Option<Trouble> {
        let waits = |why: &str| Trouble {
            why: why.to_owned(),
            denied: false,
        };
        let state = self.read();
        let Some(scope) = state.scopes.get(namespace).or(state.scopes.get("")) else {
            return Some(waits("not watched"));
        };
        match &scope.trouble {
            Some(trouble) if trouble.denied => Some(trouble.clone()),
            _ if scope.lists.complete > 0 => None,
            Some(trouble) => Some(trouble.clone()),
            None => Some(waits("not read yet")),
        }
    }

    /// True once the objects of a namespace have been read, or cannot be.
    pub(crate) fn is_settled(&self, namespace: &str) -> bool {
        let state = self.read();
        let scope = state.scopes.get(namespace).or(state.scopes.get(""));
        scope.is_some_and(|scope| scope.lists.complete > 0 || scope.trouble.is_some())
    }

    /// A scope is watched from now on.
    pub(crate) fn add_scope(&self, scope: &str) {
        self.write().scopes.entry(scope.to_owned()).or_default();
    }

    /// The objects of a scope cannot be watched. True if that is news.
    pub(crate) fn fail(&self, scope: &str, trouble: Trouble) -> bool {
        let mut state = self.write();
        let scope = state.scopes.entry(scope.to_owned()).or_default();
        let before = scope.trouble.replace(trouble);
        before != scope.trouble
    }

    /// A list of a scope begins.
    pub(crate) fn begin(&self, scope: &str) {
        let mut state = self.write();
        let scope = state.scopes.entry(scope.to_owned()).or_default();
        scope.lists.begun += 1;
        scope.listed.clear();
    }

    /// A list of a scope is complete: what was not in it is gone.
    pub(crate) fn complete(&self, scope: &str) -> Vec<Change<T>> {
        self.recover(scope);
        self.lack(scope)
    }

    /// The objects of a scope can be watched again.
    pub(crate) fn recover(&self, scope: &str) {
        let mut state = self.write();
        state.scopes.entry(scope.to_owned()).or_default().trouble = None;
    }

    /// All that there is in a scope was listed, as far as there is anything to list.
    pub(crate) fn lack(&self, scope: &str) -> Vec<Change<T>> {
        let mut state = self.write();
        let known = state.scopes.entry(scope.to_owned()).or_default();
        known.lists.complete = known.lists.begun;
        let listed = std::mem::take(&mut known.listed);
        let gone: Vec<Key> = state
            .objects
            .keys()
            .filter(|key| scope.is_empty() || key.0 == scope)
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect();
        gone.into_iter()
            .map(|key| Change {
                before: state.remove(&key),
                after: None,
                key,
            })
            .collect()
    }

    /// An object of a list that has begun; `None` if a newer version of it is known.
    pub(crate) fn listed(&self, scope: &str, object: Object) -> Option<Change<T>> {
        let key = key_of(&object);
        let mut begun = 0;
        if let Some(scope) = self.write().scopes.get_mut(scope) {
            scope.listed.insert(key);
            begun = scope.lists.begun;
        }
        // What was written before the list began cannot be missing in it.
        self.take(object, None, |known, number| {
            known.answered == Some(begun) && known.version > number
        })
    }

    /// An object as a watch shows it; `None` if that is known already.
    pub(crate) fn put(&self, object: Object) -> Option<Change<T>> {
        self.take(object, None, |known, number| {
            known.answered.is_some() && known.version >= number
        })
    }

    /// An object as it was answered to a write of ours; `None` if that is known already. Only one that is known can be so: what a watch has shown
    /// to be gone does not come back.
    pub(crate) fn answered(&self, object: Object) -> Option<Change<T>> {
        let key = key_of(&object);
        let (uid, number) = (uid_of(&object), version_of(&object));
        let is_newer = |known: &Entry<T>| known.uid == uid && known.version < number;
        if !self
            .read()
            .objects
            .get(&key)
            .is_some_and(|known| is_newer(known))
        {
            return None;
        }
        let begun = self.lists(&key.0).begun;
        self.take(object, Some(begun), |known, number| known.version >= number)
    }

    /// Takes an object in, unless the same one is known and `is_known` says that it is as new.
    fn take(
        &self,
        object: Object,
        answered: Option<u64>,
        is_known: impl Fn(&Entry<T>, u64) -> bool,
    ) -> Option<Change<T>> {
        let key = key_of(&object);
        let (uid, number) = (uid_of(&object).to_owned(), version_of(&object));
        let same = |known: &&Arc<Entry<T>>| known.uid == uid;
        let before = self.read().objects.get(&key).filter(same).cloned();
        if before
            .as_ref()
            .is_some_and(|before| is_known(before, number))
        {
            return None;
        }
        let json = object.into_json();
        let deleting = views::is_deleting(&json);
        let view = T::of(json, before.as_ref().map(|before| &before.view));
        let mut state = self.write();
        // The watch of the scope and answers to writes may come together.
        let known = state.objects.get(&key);
        let is_gone = answered.is_some() && known.is_none_or(|known| known.uid != uid);
        if is_gone
            || known
                .filter(same)
                .is_some_and(|known| is_known(known, number))
        {
            return None;
        }
        let entry = Arc::new(Entry {
            uid,
            version: number,
            deleting,
            answered,
            view,
        });
        let before = state.remove(&key);
        state.insert(key.clone(), Arc::clone(&entry));
        Some(Change {
            key,
            before,
            after: Some(entry),
        })
    }

    /// An object is gone.
    pub(crate) fn remove(&self, object: &Object) -> Change<T> {
        let key = key_of(object);
        Change {
            before: self.write().remove(&key),
            after: None,
            key,
        }
    }
}

impl<T: View> State<T> {
    fn insert(&mut self, key: Key, entry: Arc<Entry<T>>) {
        for uid in entry.view.found_by().into_iter().flatten() {
            self.owned
                .insert([key.0.clone(), uid.to_owned(), key.1.clone()]);
        }
        self.objects.insert(key, entry);
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Entry<T>>> {
        let entry = self.objects.remove(key)?;
        for uid in entry.view.found_by().into_iter().flatten() {
            self.owned
                .remove(&[key.0.clone(), uid.to_owned(), key.1.clone()]);
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Named(String);

    impl View for Named {
        fn of(json: Value, _: Option<&Self>) -> Self {
            Self(views::text(&json, "/owner").to_owned())
        }

        fn found_by(&self) -> [Option<&str>; 2] {
            [Some(&self.0), None]
        }
    }

    fn object(name: &str, owner: &str, version: &str) -> Object {
        Object::new(json!({
            "metadata": {"namespace": "shop", "name": name, "uid": name, "resourceVersion": version},
            "owner": owner,
        }))
    }

    #[test]
    fn an_answer_to_a_write_is_known_at_once_and_older_news_do_not_undo_it() {
        let cache: Cache<Named> = Cache::default();
        cache.add_scope("");
        cache.begin("");
        cache.listed("", object("a", "x", "1"));
        cache.complete("");
        assert!(cache.answered(object("a", "y", "5")).is_some());
        assert_eq!(cache.owned("shop", "y").len(), 1);
        assert!(cache.put(object("a", "x", "3")).is_none(), "older");
        assert!(cache.put(object("a", "y", "5")).is_none(), "the same");
        assert_eq!(cache.owned("shop", "y")[0].version, 5);
        assert!(cache.put(object("a", "z", "6")).is_some());
        assert!(cache.answered(object("a", "y", "5")).is_none(), "older");

        // A list that was under way may show what was before; one that began later says how it is.
        cache.begin("");
        assert!(cache.answered(object("a", "y", "8")).is_some());
        assert!(cache.listed("", object("a", "z", "7")).is_none());
        assert!(cache.complete("").is_empty());
        assert_eq!(cache.owned("shop", "y")[0].version, 8);
        cache.begin("");
        assert!(cache.listed("", object("a", "z", "7")).is_some());
        cache.complete("");

        cache.remove(&object("a", "z", "9"));
        assert!(
            cache.answered(object("a", "y", "8")).is_none(),
            "it is gone"
        );
        assert!(cache.keys().is_empty());
    }

    #[test]
    fn what_a_complete_list_does_not_have_is_gone_and_owners_are_found() {
        let cache: Cache<Named> = Cache::default();
        cache.add_scope("");
        assert!(cache.trouble("shop").is_some(), "nothing is known yet");
        cache.begin("");
        cache.listed("", object("a", "x", "1"));
        cache.listed("", object("b", "x", "2"));
        assert!(cache.complete("").is_empty());
        assert_eq!(cache.trouble("shop"), None);
        assert_eq!(cache.owned("shop", "x").len(), 2);
        cache.put(object("b", "y", "3"));
        assert_eq!(cache.owned("shop", "x").len(), 1);
        assert_eq!(cache.owned("shop", "y")[0].version, 3);
        cache.begin("");
        cache.listed("", object("b", "y", "3"));
        let gone = cache.complete("");
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].key.1, "a");
        assert!(cache.owned("shop", "x").is_empty());
        assert_eq!(
            cache.lists("shop"),
            Lists {
                begun: 2,
                complete: 2
            }
        );
    }
}
