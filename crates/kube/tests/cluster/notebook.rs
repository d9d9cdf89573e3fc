//! Writes down what becomes of objects, in the form of the recordings: one line a change, in the order in which the API server made them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is written down: group, version, kind.
const KINDS: [(&str, &str, &str); 9] = [
    ("flagger.app", "v1beta1", "Canary"),
    ("apps", "v1", "Deployment"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("networking.istio.io", "v1beta1", "VirtualService"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("", "v1", "Event"),
];

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
    known: BTreeSet<String>,
    /// By the version of the object, which counts all changes of a cluster, and by how many lines there were.
    lines: BTreeMap<(u64, usize), Value>,
    changed: watch::Sender<()>,
}

fn lock(pages: &Pages) -> MutexGuard<'_, BTreeMap<String, Page>> {
    pages.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notebook {
    /// Begins to watch a whole cluster, which knows all the kinds; namespaces are written down once they have a page.
    pub(crate) fn start(client: &Client) -> Self {
        let pages = Pages::default();
        let mut watches = JoinSet::new();
        for (group, version, kind) in KINDS {
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
            known: BTreeSet::new(),
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

    /// Waits until the lines are as `check` wants them; false if they are not in time.
    pub(crate) async fn until(
        &self,
        namespace: &str,
        patience: Duration,
        check: impl Fn(Vec<Value>) -> bool,
    ) -> bool {
        let changed = lock(&self.pages)
            .get(namespace)
            .map(|page| page.changed.subscribe());
        let Some(mut changed) = changed else {
            return false;
        };
        let seen = async {
            while !check(self.lines(namespace)) {
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
    fn add(&mut self, version: u64, mut line: Value) {
        line["t"] = json!(self.begun.elapsed().as_secs_f64());
        let mut text = line.to_string();
        for (here, there) in &self.means {
            text = text.replace(here, there);
        }
        let line = serde_json::from_str(&text).unwrap();
        self.lines.insert((version, self.lines.len()), line);
        self.changed.send_replace(());
    }

    fn write(&mut self, kind: &str, object: &DynamicObject, gone: bool) {
        let version = object.resource_version().unwrap_or_default();
        let version = version.parse().unwrap_or(0);
        let added = self.known.insert(object.uid().unwrap_or_default());
        let what = match (gone, added) {
            (true, _) => "DELETED",
            (false, true) => "ADDED",
            (false, false) => "MODIFIED",
        };
        let object = serde_json::to_value(object).unwrap();
        if let Some(line) = line(kind, what, &object) {
            self.add(version, line);
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
    let mut line = json!({"kind": kind, "name": metadata["name"], "type": what});
    let more = match kind {
        "Canary" => json!({"status": object["status"]}),
        "Deployment" => json!({
            "replicas": spec["replicas"],
            "image": spec["template"]["spec"]["containers"][0]["image"],
        }),
        "Service" => json!({"selector": spec["selector"], "ports": spec["ports"]}),
        "ConfigMap" => json!({"data": object["data"]}),
        _ => json!({"annotations": metadata["annotations"], "spec": spec}),
    };
    for (member, value) in more.as_object()? {
        line[member] = value.clone();
    }
    Some(line)
}
