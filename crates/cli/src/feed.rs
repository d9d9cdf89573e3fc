//! Objects that are kept up to date by watching: what `-w`, `status` and `wait` look at.
//!
//! Nothing is polled. Each kind is listed once and watched from there; a watch that breaks is taken up again, and listed anew when it
//! was away for too long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crossfade_host::client::{self, Client, Wanted};
use crossfade_host::store::Kind;
use crossfade_host::wire::{Reason, WatchChange};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::{CliError, Result};

/// How long to wait before a broken watch is taken up again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Failures in a row that are put up with.
const MOST_FAILURES: u32 = 5;

/// Which objects are watched.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// Their namespace; all when none.
    pub(crate) namespace: Option<String>,
    /// The kinds, each with what of it is wanted.
    pub(crate) kinds: Vec<(Kind, Wanted)>,
}

/// One change of what is watched.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// All objects of a kind; what was known before is void.
    All(Kind, Vec<Value>),
    /// An object is new or different.
    Set(Kind, Value),
    /// An object is gone; its last state.
    Gone(Kind, Value),
}

enum Message {
    Change(Change),
    Failed(CliError),
}

/// Objects and their changes.
#[derive(Debug)]
pub(crate) struct Feed {
    changes: mpsc::Receiver<Message>,
    objects: BTreeMap<Kind, BTreeMap<(String, String), Value>>,
    missing: BTreeSet<Kind>,
    // Watching ends when the feed is dropped.
    _watchers: JoinSet<()>,
}

impl Feed {
    /// Begins to watch and gives the feed when all objects that exist have been read.
    pub(crate) async fn open(client: &Client, scope: Scope) -> Result<Self> {
        let (sender, changes) = mpsc::channel(64);
        let mut watchers = JoinSet::new();
        let missing = scope.kinds.iter().map(|(kind, _)| *kind).collect();
        for (kind, wanted) in scope.kinds {
            let watcher = Watcher {
                client: client.clone(),
                kind,
                namespace: scope.namespace.clone(),
                wanted,
                sender: sender.clone(),
            };
            watchers.spawn(watcher.run());
        }
        let mut feed = Self {
            changes,
            objects: BTreeMap::new(),
            missing,
            _watchers: watchers,
        };
        while !feed.missing.is_empty() {
            feed.next().await?;
        }
        Ok(feed)
    }

    /// The next change, already part of what [`Feed::objects`] gives.
    pub(crate) async fn next(&mut self) -> Result<Change> {
        let change = match self.changes.recv().await {
            Some(Message::Change(change)) => change,
            Some(Message::Failed(error)) => return Err(error),
            None => return Err(CliError::failure("the watch ended")),
        };
        match &change {
            Change::All(kind, objects) => {
                self.missing.remove(kind);
                let objects = objects.iter().map(|object| (key(object), object.clone()));
                self.objects.insert(*kind, objects.collect());
            }
            Change::Set(kind, object) => {
                let known = self.objects.entry(*kind).or_default();
                known.insert(key(object), object.clone());
            }
            Change::Gone(kind, object) => {
                self.objects.entry(*kind).or_default().remove(&key(object));
            }
        }
        Ok(change)
    }

    /// The objects of a kind as they are known at present, by namespace and name.
    pub(crate) fn objects(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects
            .get(&kind)
            .into_iter()
            .flat_map(BTreeMap::values)
    }
}

fn key(object: &Value) -> (String, String) {
    let text = |member: &str| {
        object["metadata"][member]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (text("namespace"), text("name"))
}

struct Watcher {
    client: Client,
    kind: Kind,
    namespace: Option<String>,
    wanted: Wanted,
    sender: mpsc::Sender<Message>,
}

impl Watcher {
    /// Runs until nobody listens any more or too much has failed in a row.
    async fn run(self) {
        let mut failures = 0;
        let mut version = None;
        loop {
            let before = version.clone();
            let failure = match self.follow(&mut version).await {
                Ok(()) => None,
                Err(Stop::Unheard) => return,
                Err(Stop::Failed(error)) => Some(error),
            };
            if version != before {
                failures = 0;
            }
            if let Some(error) = failure {
                failures += 1;
                if failures > MOST_FAILURES || before.is_none() {
                    // Nobody listens to this failure either when the receiver is gone.
                    let _ = self.sender.send(Message::Failed(error)).await;
                    return;
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Lists if need be, then tells changes until the watch ends. `version` says from where to go on.
    async fn follow(&self, version: &mut Option<String>) -> std::result::Result<(), Stop> {
        let namespace = self.namespace.as_deref();
        let from = if let Some(version) = version.clone() {
            version
        } else {
            let list = self.client.list(self.kind, namespace, &self.wanted).await;
            let list = match list {
                // Of what was never defined nothing exists; only a release itself is sorely missed.
                Err(client::Error::NoKind { .. }) if self.kind != Kind::Rollout => {
                    self.tell(Change::All(self.kind, Vec::new())).await?;
                    return Err(Stop::Unheard);
                }
                list => list?,
            };
            self.tell(Change::All(self.kind, list.items)).await?;
            version.insert(list.resource_version).clone()
        };
        let watch = self
            .client
            .watch(self.kind, namespace, &self.wanted, &from)
            .await;
        let mut watch = match watch {
            Err(error) if error.reason() == Some(Reason::Expired) => {
                *version = None;
                return Ok(());
            }
            watch => watch?,
        };
        while let Some(event) = watch.next().await {
            let event = match event {
                Err(error) if error.reason() == Some(Reason::Expired) => {
                    *version = None;
                    return Ok(());
                }
                event => event?,
            };
            if let Some(seen) = event.object["metadata"]["resourceVersion"].as_str() {
                *version = Some(seen.to_owned());
            }
            match event.change {
                WatchChange::Added | WatchChange::Modified => {
                    self.tell(Change::Set(self.kind, event.object)).await?;
                }
                WatchChange::Deleted => self.tell(Change::Gone(self.kind, event.object)).await?,
                WatchChange::Bookmark | WatchChange::Error => {}
            }
        }
        // The server ended the watch: a failure only when nothing came of it several times in a row.
        Err(Stop::Failed(CliError::failure(
            "the server ended the watch",
        )))
    }

    async fn tell(&self, change: Change) -> std::result::Result<(), Stop> {
        let sent = self.sender.send(Message::Change(change)).await;
        sent.map_err(|_| Stop::Unheard)
    }
}

enum Stop {
    /// Nobody listens.
    Unheard,
    /// It failed.
    Failed(CliError),
}

impl From<crossfade_host::client::Error> for Stop {
    fn from(error: crossfade_host::client::Error) -> Self {
        Self::Failed(error.into())
    }
}
