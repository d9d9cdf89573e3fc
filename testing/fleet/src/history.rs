//! Every version of the objects of a kind in the order in which the API server has stored them, for questions about the order of things.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, Event};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// An object as it was at some time.
#[derive(Clone, Debug)]
pub struct Version {
    /// When it was seen.
    pub at: Instant,
    /// The API server's count of all changes: comparable between kinds.
    pub number: u64,
    /// The object is gone.
    pub gone: bool,
    /// The object.
    pub object: Arc<DynamicObject>,
}

/// All versions of the objects of a kind in a namespace, from now on.
#[derive(Debug)]
pub struct History {
    versions: Arc<Mutex<Vec<Version>>>,
    changed: Arc<Notify>,
    watching: JoinHandle<()>,
}

/// The objects of a kind in a namespace.
pub(crate) fn objects(
    client: &kube::Client,
    namespace: &str,
    (group, version, kind): (&str, &str, &str),
) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &kind)
}

impl History {
    pub(crate) fn new(objects: Api<DynamicObject>) -> Self {
        let versions = Arc::<Mutex<Vec<Version>>>::default();
        let changed = Arc::new(Notify::new());
        let watching = tokio::spawn(watch(objects, Arc::clone(&versions), Arc::clone(&changed)));
        Self {
            versions,
            changed,
            watching,
        }
    }

    /// All that was seen so far, oldest first.
    pub fn versions(&self) -> Vec<Version> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut versions = versions.clone();
        versions.sort_by_key(|version| version.number);
        versions
    }

    /// The first version since `from` that `check` wants; waits for it.
    ///
    /// # Errors
    /// There is none for `patience`.
    pub async fn first(
        &self,
        from: usize,
        what: &str,
        patience: Duration,
        check: impl Fn(&DynamicObject) -> bool,
    ) -> crate::Outcome<Instant> {
        let mut from = from;
        let until = tokio::time::Instant::now() + patience;
        loop {
            let changed = self.changed.notified();
            {
                let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
                let fresh = versions.get(from..).unwrap_or_default();
                if let Some(found) = fresh.iter().find(|version| check(&version.object)) {
                    return Ok(found.at);
                }
                from = versions.len();
            }
            if tokio::time::timeout_at(until, changed).await.is_err() {
                return Err(format!("waited in vain for {what}").into());
            }
        }
    }

    /// How many versions were seen so far.
    pub fn len(&self) -> usize {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.len()
    }

    /// Nothing was seen so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn watch(
    objects: Api<DynamicObject>,
    versions: Arc<Mutex<Vec<Version>>>,
    changed: Arc<Notify>,
) {
    let mut events = watcher::watcher(objects, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let (object, gone) = match event {
            Ok(Event::InitApply(object) | Event::Apply(object)) => (object, false),
            Ok(Event::Delete(object)) => (object, true),
            Ok(Event::Init | Event::InitDone) => continue,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let number = object.metadata.resource_version.as_deref();
        let version = Version {
            at: Instant::now(),
            number: number.and_then(|number| number.parse().ok()).unwrap_or(0),
            gone,
            object: Arc::new(object),
        };
        versions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(version);
        changed.notify_waiters();
    }
}
