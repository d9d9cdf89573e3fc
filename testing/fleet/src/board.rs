//! What is seen of the Rollouts of a namespace, by a watch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::Outcome;

/// A Rollout, as far as a fleet looks at it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What users wrote.
    pub spec: Value,
    /// How it stands.
    pub status: Value,
    observed: bool,
}

impl Seen {
    fn of(object: &DynamicObject) -> Self {
        let generation = object.metadata.generation.unwrap_or(0).to_string();
        let status = object.data["status"].clone();
        Self {
            observed: status["observedGeneration"] == *generation,
            spec: object.data["spec"].clone(),
            status,
        }
    }

    /// The phase.
    pub fn phase(&self) -> &str {
        self.status["phase"].as_str().unwrap_or_default()
    }

    /// The image that its pods should have.
    pub fn image(&self) -> &str {
        let image = &self.spec["template"]["spec"]["containers"][0]["image"];
        image.as_str().unwrap_or_default()
    }

    /// The status is about the present spec.
    pub fn is_observed(&self) -> bool {
        self.observed
    }

    /// The present version is the stable one, and nothing is left to do.
    pub fn is_released(&self) -> bool {
        self.observed
            && self.phase() == "Healthy"
            && self.status["stableRS"] == self.status["currentPodHash"]
    }
}

/// The Rollouts of a namespace as they were seen last.
#[derive(Debug)]
pub struct Board {
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    changed: Arc<Notify>,
    watching: JoinHandle<()>,
}

impl Board {
    pub(crate) fn new(rollouts: Api<DynamicObject>) -> Self {
        let seen = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let changed = Arc::new(Notify::new());
        let watching = tokio::spawn(watch(rollouts, Arc::clone(&seen), Arc::clone(&changed)));
        Self {
            seen,
            changed,
            watching,
        }
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(name).cloned()
    }

    /// Waits until all of these are as `check` wants them. `what` ends the sentence "waited in vain for …".
    ///
    /// # Errors
    /// Nothing has changed for `patience`.
    pub async fn until_all(
        &self,
        names: &[String],
        what: &str,
        patience: Duration,
        check: impl Fn(&Seen) -> bool,
    ) -> Outcome<()> {
        let mut open: Vec<&String> = names.iter().collect();
        loop {
            let changed = self.changed.notified();
            {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                open.retain(|name| !seen.get(*name).is_some_and(&check));
            }
            let Some(first) = open.first() else {
                return Ok(());
            };
            if tokio::time::timeout(patience, changed).await.is_err() {
                let last = self.get(first).unwrap_or_default();
                return Err(format!(
                    "waited in vain for {what}: {} of {}, for example {first}: {}",
                    open.len(),
                    names.len(),
                    last.status
                )
                .into());
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn watch(
    rollouts: Api<DynamicObject>,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    changed: Arc<Notify>,
) {
    let mut events = watcher::watcher(rollouts, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            // The API server is away; the watcher begins again.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Ok(Event::Init | Event::InitDone) => {}
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let name = object.metadata.name.clone().unwrap_or_default();
                lock().insert(name, Seen::of(&object));
            }
            Ok(Event::Delete(object)) => {
                lock().remove(&object.metadata.name.unwrap_or_default());
            }
        }
        changed.notify_waiters();
    }
}
