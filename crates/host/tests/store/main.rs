//! The object store, through its public door: real SQLite files in folders of their own.

#![expect(clippy::unwrap_used, reason = "tests")]

mod anything;
mod apply;
mod durability;
mod events_and_audit;
mod garbage;
mod watches;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use crossfade_host::store::{Act, Admission, Fault, Key, Kind, Object, Options, Store, StoreError};
use crossfade_host::wire::{Deletion, Part};
use serde_json::{Value, json};

/// No schema: what is tested here holds for every kind.
struct Anything;

impl Admission for Anything {
    fn admit(&self, _: Kind, _: &mut Value, _: Option<&Value>) -> Result<Vec<String>, Vec<Fault>> {
        Ok(Vec::new())
    }
}

fn options() -> Options {
    Options::new(Arc::new(Anything))
}

/// A store in a folder that goes with it.
struct Fixture {
    store: Store,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), options).unwrap();
        Self { store, folder }
    }

    /// Closes the store and opens it again.
    async fn reopened(self) -> Self {
        self.store.close().await;
        let store = Store::open(self.folder.path(), options()).unwrap();
        Self {
            store,
            folder: self.folder,
        }
    }

    async fn create(&self, kind: Kind, object: Value) -> Arc<Object> {
        self.try_create(kind, object).await.unwrap()
    }

    async fn try_create(&self, kind: Kind, object: Value) -> Result<Arc<Object>, StoreError> {
        self.store.create(host(), kind, "default", object).await
    }

    async fn update(
        &self,
        object: &Object,
        part: Part,
        change: impl FnOnce(&mut Value),
    ) -> Result<Arc<Object>, StoreError> {
        let mut value = object.value().clone();
        change(&mut value);
        self.store
            .update(host(), object.key().clone(), part, value)
            .await
    }

    async fn merge(
        &self,
        object: &Object,
        part: Part,
        patch: Value,
    ) -> Result<Arc<Object>, StoreError> {
        self.store
            .patch_merge(host(), object.key().clone(), part, patch)
            .await
    }

    async fn delete(&self, object: &Object) {
        self.store
            .delete(host(), object.key().clone(), Deletion::default())
            .await
            .unwrap();
    }

    fn find(&self, kind: Kind, name: &str) -> Option<Arc<Object>> {
        self.store.find(&Key::new(kind, "default", name))
    }

    /// Waits until something is so; it takes a moment when the garbage collector does it.
    async fn until(&self, what: &str, so: impl Fn(&Store) -> bool) {
        let mut watch = self.store.watch(
            crossfade_host::store::Interest::default(),
            self.store.revision(),
        );
        let wait = async {
            while !so(&self.store) {
                let _ = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(reached.is_ok(), "never: {what}");
    }
}

fn host() -> Act {
    Act::by_host("test")
}

fn rollout(name: &str) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": name},
        "spec": {"replicas": 1},
    })
}

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn owned(name: &str, owner: &Object) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": [{
        "apiVersion": owner.kind().api_version(), "kind": owner.kind().name(), "name": owner.name(), "uid": owner.uid(),
        "controller": true, "blockOwnerDeletion": true,
    }]}})
}

fn text<'a>(object: &'a Object, pointer: &str) -> &'a str {
    object
        .at(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn number(object: &Object, pointer: &str) -> i64 {
    object.at(pointer).and_then(Value::as_i64).unwrap_or(-1)
}
