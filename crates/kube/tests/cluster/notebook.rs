//! Writes down what becomes of objects, in the form of the recordings: one line a change, in the order in which the API server made them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossfade_api::names::annotation;
use futures_util::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A kind that is written down: group, version, kind.
pub(crate) type Written = (&'static str, &'static str, &'static str);

/// The version of an object, which counts all changes of a cluster, and how many lines there were.
type Place = (u64, usize);

type Pages = Arc<Mutex<BTreeMap<String, Page>>>;

/// Everything that has happened in some namespaces.
pub(crate) struct Notebook {
    pages: Pages,
    _watches: JoinSet<()>,
}

/// What has happened in one namespace.
struct Page {
    begun: Instant,
    /// Texts that mean the same here as others there.
    means: Vec<(String, String)>,
    /// By uid: where the first and the last line of each object are, Events apart.
    known: BTreeMap<String, (Place, Place)>,
    lines: BTreeMap<Place, Value>,
    changed: watch::Sender<()>,
}

fn lock(pages: &Pages) -> MutexGuard<'_, BTreeMap<String, Page>> {
    pages.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notebook {
    /// Begins to watch a whole cluster, which knows all these kinds; namespaces are written down once they have a page.
    pub(crate) fn start(client: &Client, kinds: &[Written]) -> Self {
        let pages = Pages::default();
        let mut watches = JoinSet::new();
        for &(group, version, kind) in kinds {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let pages = Arc::clone(&pages);
            watches.spawn(async move {
                let events = watcher::watcher(api, watcher::Config::default());
                let mut events = events.default_backoff().boxed();
                while let Some(event) = events.next().await {
                    let (object, gone) = match event {
                        Ok(Event::Apply(object) | Event::InitApply(object)) => (object, false),
                        Ok(Event::Delete(object)) => (object, true),
                        // The watcher begins again after an error.
                        Ok(Event::Init | Event::InitDone) | Err(_) => continue,
                    };
                    let namespace = object.namespace().unwrap_or_default();
                    if let Some(page) = lock(&pages).get_mut(&namespace) {
                        page.write(kind, &object, gone);
                    }
                }
            });
        }
        Self {
            pages,
            _watches: watches,
        }
    }

    /// Opens the page of a namespace. The first text of each pair is written down as the second.
    pub(crate) fn open(&self, namespace: &str, means: Vec<(String, String)>) {
        let page = Page {
            begun: Instant::now(),
            means,
            known: BTreeMap::new(),
            lines: BTreeMap::new(),
            changed: watch::Sender::new(()),
        };
        lock(&self.pages).insert(namespace.to_owned(), page);
    }

    /// Somebody does something, after all that was seen so far.
    pub(crate) fn note(&self, namespace: &str, words: &str) {
        if let Some(page) = lock(&self.pages).get_mut(namespace) {
            let last = page.lines.last_key_value();
            let version = last.map_or(0, |((version, _), _)| *version);
            page.add(version, json!({"kind": "Action", "do": words}));
        }
    }

    /// Everything so far.
    pub(crate) fn lines(&self, namespace: &str) -> Vec<Value> {
        let pages = lock(&self.pages);
        let page = pages.get(namespace);
        page.map(|page| page.lines.values().cloned().collect())
            .unwrap_or_default()
    }

    /// The first line and the last one of each object but Events, in order: enough to know how everything stands.
    pub(crate) fn now(&self, namespace: &str) -> Vec<Value> {
        let pages = lock(&self.pages);
        let Some(page) = pages.get(namespace) else {
            return Vec::new();
        };
        let places = page.known.values().flat_map(|(first, last)| [first, last]);
        let places: BTreeSet<&Place> = places.collect();
        let lines = places.into_iter().filter_map(|place| page.lines.get(place));
        lines.cloned().collect()
    }

    /// Waits until what is written of a namespace is as `check` wants it; false if it is not in time.
    pub(crate) async fn until(
        &self,
        namespace: &str,
        patience: Duration,
        check: impl Fn() -> bool,
    ) -> bool {
        let changed = lock(&self.pages)
            .get(namespace)
            .map(|page| page.changed.subscribe());
        let Some(mut changed) = changed else {
            return false;
        };
        let seen = async {
            while !check() {
                // What changes within a moment is looked at together.
                tokio::time::sleep(Duration::from_millis(20)).await;
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, seen).await.is_ok()
    }
}

impl Page {
    fn add(&mut self, version: u64, mut line: Value) -> Place {
        line["t"] = json!(self.begun.elapsed().as_secs_f64());
        let mut text = line.to_string();
        for (here, there) in &self.means {
            text = text.replace(here, there);
        }
        let line = serde_json::from_str(&text).unwrap();
        let place = (version, self.lines.len());
        self.lines.insert(place, line);
        self.changed.send_replace(());
        place
    }

    fn write(&mut self, kind: &str, object: &DynamicObject, gone: bool) {
        let version = object.resource_version().unwrap_or_default();
        let version = version.parse().unwrap_or(0);
        let uid = object.uid().unwrap_or_default();
        let what = match (gone, self.known.contains_key(&uid)) {
            (true, _) => "DELETED",
            (false, false) => "ADDED",
            (false, true) => "MODIFIED",
        };
        let object = serde_json::to_value(object).unwrap();
        if let Some(line) = line(kind, what, &object) {
            let place = self.add(version, line);
            if kind != "Event" {
                self.known.entry(uid).or_insert((place, place)).1 = place;
            }
        }
    }
}

/// A change as the recordings tell it.
fn line(kind: &str, what: &str, object: &Value) -> Option<Value> {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    if kind == "Event" {
        let about = &object["involvedObject"];
        let text = |member: &str| about[member].as_str().unwrap_or_default();
        return (what != "DELETED").then(|| {
            json!({
                "kind": kind,
                "on": format!("{}/{}", text("kind"), text("name")),
                "type": object["type"],
                "reason": object["reason"],
                "message": object["message"],
            })
        });
    }
    let status = &object["status"];
    let image = &spec["template"]["spec"]["containers"][0]["image"];
    let mut annotations = metadata["annotations"].clone();
    if let Some(annotations) = annotations.as_object_mut() {
        // Our own notes, which the reference does not know.
        annotations.remove(annotation::TEMPLATE_DIGEST);
        annotations.remove(annotation::ATTEMPT);
    }
    let mut line = json!({
        "kind": kind,
        "name": metadata["name"],
        "type": what,
        "annotations": annotations,
    });
    let more = match kind {
        "Canary" => json!({"status": status}),
        "Rollout" => json!({"generation": metadata["generation"], "status": status}),
        "ReplicaSet" => json!({
            "labels": metadata["labels"],
            "replicas": spec["replicas"],
            "status": {
                "replicas": status["replicas"],
                "readyReplicas": status["readyReplicas"],
                "availableReplicas": status["availableReplicas"],
            },
            "image": image,
        }),
        "AnalysisRun" | "Experiment" if what == "ADDED" => {
            let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
            let owners = owners.map(|owner| {
                json!({
                    "kind": owner["kind"],
                    "name": owner["name"],
                    "controller": owner["controller"],
                    "blockOwnerDeletion": owner["blockOwnerDeletion"],
                })
            });
            json!({
                "status": status,
                "spec": spec,
                "labels": metadata["labels"],
                "owners": owners.collect::<Vec<_>>(),
            })
        }
        "AnalysisRun" | "Experiment" => {
            json!({"status": status, "spec": {"terminate": spec["terminate"]}})
        }
        "Deployment" => json!({"replicas": spec["replicas"], "image": image}),
        "Service" => json!({"selector": spec["selector"], "ports": spec["ports"]}),
        "ConfigMap" => json!({"data": object["data"]}),
        _ => json!({"spec": spec}),
    };
    for (member, value) in more.as_object()? {
        line[member] = value.clone();
    }
    Some(line)
}
