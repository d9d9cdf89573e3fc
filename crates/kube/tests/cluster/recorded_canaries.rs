//! Every recording of the reference's Canaries, played to a Crossfade on a real API server: a person does the same to the same manifests when the same
//! is seen. What is seen then is written down in the form of the recordings, and compared with them as replays in virtual time are; queries
//! by their texts.
//!
//! Each story is told in a namespace of its own with a controller of its own, many at once: an interval is never shorter than ten seconds, so a story
//! takes as long as it took, three minutes for the longest. The machine has little to do meanwhile.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossfade_sim::canaries::Seen;
use crossfade_sim::canaries::compare::{NAMED, Named, compare};
use crossfade_sim::canaries::recording::{Act, Recording, What};
use crossfade_sim::canaries::replay::{EARLIER, PATIENCE};
use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_cluster::{Actor, Cluster, Namespace, Trouble};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::beside::Beside;
use crate::notebook::{Notebook, Written};
use crate::routers::definition;
use crate::stage::{Canary, Stage};

/// What is written down.
const KINDS: [Written; 9] = [
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

/// Where the metrics and hooks of the recordings were.
const BESIDE: &str = "127.0.0.1:19090";

/// Pods take as long as those in the recordings.
const PACE: Pace = Pace {
    starts_after: Duration::from_millis(600),
    stops_after: Duration::from_millis(800),
};

/// So long after a story ends people may still be told of it.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// So many stories are played at once, the longest first: each begins with more work for the API server than all of its rest.
const AT_ONCE: usize = 20;

/// Until then everything else begins, too, and what comes first in a story may take as long again.
const FIRST_DEEDS: SignedDuration = SignedDuration::from_mins(1);

/// How often a story is told before it counts as different: on a machine with much else to do, pods may become ready a look later.
const TELLINGS: usize = 3;

/// Differences that only pods and routers of a real cluster show.
const SHOWN_HERE: &[Named] = &[];

/// How far pods are at a look is a matter of milliseconds.
const READINESS: &str = "not ready: waiting for rollout to finish";

/// A recording that is played.
struct Story<'s> {
    name: String,
    recording: Recording,
    stage: Stage,
    beside: Beside,
    notebook: &'s Notebook,
}

impl<'s> Story<'s> {
    async fn new(path: &Path, cluster: &Cluster, notebook: &'s Notebook) -> Result<Self, Trouble> {
        let recording = Recording::read(path).unwrap();
        let beside = Beside::new().await;
        let mut stage = Stage::in_defined(Namespace::on(cluster.clone(), PACE).await?);
        stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
        stage.start().await?;
        let story = Self {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            recording,
            stage,
            beside,
            notebook,
        };
        notebook.open(story.space(), story.means());
        Ok(story)
    }

    fn space(&self) -> &str {
        self.stage.namespace.name()
    }

    /// Texts that mean the same here as others in the recording.
    fn means(&self) -> Vec<(String, String)> {
        vec![
            (self.space().to_owned(), self.recording.namespace()),
            (self.beside.address.to_string(), BESIDE.to_owned()),
        ]
    }

    /// Plays it to its end: what differs.
    async fn play(&self) -> Result<Vec<String>, Trouble> {
        let theirs = self.recording.seen();
        let begun = Instant::now();
        let passed = || SignedDuration::try_from(begun.elapsed()).unwrap();
        let wait = async |until: SignedDuration| {
            let until = Duration::try_from(until).unwrap_or_default();
            tokio::time::sleep_until(begun + until).await;
        };
        let mut late = SignedDuration::ZERO;
        // What has once been waited for in vain.
        let mut missed = None;
        for step in self.recording.steps() {
            match step.what {
                What::Apply(manifest) => {
                    // It is looked at as soon as it is there, and every ten seconds from then on.
                    let looked = (manifest["kind"] == "Canary").then_some(step.place);
                    let looked = looked.and_then(|place| self.recording.first_look(place));
                    wait(looked.unwrap_or(step.at) + late).await;
                    self.apply(manifest).await?;
                }
                What::Do(words) => {
                    let there = &theirs[step.place];
                    wait(step.at + late - EARLIER).await;
                    if missed != Some(there) {
                        let patience = if passed() < FIRST_DEEDS {
                            FIRST_DEEDS
                        } else {
                            PATIENCE
                        };
                        if self.catch_up(there, patience).await {
                            late = passed() - step.at;
                        } else {
                            missed = Some(there);
                        }
                    }
                    self.notebook.note(self.space(), words);
                    self.act(words).await;
                }
            }
        }
        wait(self.recording.length() + late).await;
        if let Some(end) = theirs.last().filter(|end| missed != Some(*end)) {
            self.catch_up(end, PATIENCE).await;
        }
        // What people are told is written one by one, after what it tells of.
        let is_the_same = || self.differences().is_empty();
        let all_told = self.notebook.until(self.space(), LAST_WORDS, is_the_same);
        all_told.await;
        Ok(self.differences())
    }

    /// What differs so far, and has no name.
    fn differences(&self) -> Vec<String> {
        let mut lines = self.notebook.lines(self.space());
        let calls = self.beside.calls().into_iter();
        lines.extend(calls.map(|(name, body)| {
            let line = json!({"kind": "Webhook", "name": name, "body": body});
            serde_json::from_str(&self.there(&line.to_string())).unwrap()
        }));
        let queries = self.beside.queries();
        let queries: Vec<String> = queries.iter().map(|query| self.there(query)).collect();
        let run = Recording::of(lines, &queries);
        let mut differences = compare(&self.recording, &run).0;
        let is_named = |one: &str| {
            let mut named = NAMED.iter().chain(SHOWN_HERE);
            named.any(|named| named.recording == self.name && one.contains(named.told))
        };
        differences.retain(|one| !one.contains(READINESS) && !is_named(one));
        differences
    }

    /// A text as it would have been in the recording.
    fn there(&self, text: &str) -> String {
        let means = self.means();
        means.iter().fold(text.to_owned(), |text, (here, there)| {
            text.replace(here, there)
        })
    }

    /// Waits until everything stands as it stood there.
    async fn catch_up(&self, there: &Seen, patience: SignedDuration) -> bool {
        let stands = || {
            let lines = self.notebook.lines(self.space());
            Recording::of(lines, &[]).seen().last() == Some(there)
        };
        let patience = patience.unsigned_abs();
        self.notebook.until(self.space(), patience, stands).await
    }

    async fn apply(&self, manifest: &Value) -> Result<(), Trouble> {
        let mut manifest = manifest.clone();
        if manifest["kind"] == "Canary" {
            // There it was the controller's own setting.
            manifest["spec"]["metricsServer"] = json!(format!("http://{BESIDE}"));
        }
        let manifest = manifest.to_string();
        let manifest = manifest.replace(BESIDE, &self.beside.address.to_string());
        self.stage.namespace.apply(&manifest).await?;
        Ok(())
    }

    /// Does what the person did.
    async fn act(&self, words: &str) {
        let namespace = &self.stage.namespace;
        match Act::of(words).unwrap() {
            Act::Look(_) => {}
            Act::Image(image) => {
                let containers = json!([{"name": "main", "image": image}]);
                let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
                let patch = Patch::Strategic(patch);
                let deployments = namespace.api::<Deployment>();
                let parameters = PatchParams::default();
                deployments.patch("app", &parameters, &patch).await.unwrap();
            }
            Act::Hook(name, status) => self.beside.hook(&name, status),
            Act::Metric(kind, answer) => self.beside.metric(&kind, &answer),
            Act::Patch(kind, name, patch) => match kind {
                "Canary" => self.stage.merge::<Canary>(name, patch).await,
                "ConfigMap" => self.stage.merge::<ConfigMap>(name, patch).await,
                _ => self.stage.merge::<Deployment>(name, patch).await,
            },
            Act::Delete => {
                let gone = DeleteParams::default();
                namespace
                    .api::<Canary>()
                    .delete("app", &gone)
                    .await
                    .unwrap();
            }
        }
    }
}

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/recorded-canaries");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_canary_shows_the_same_on_a_real_api_server() -> Result<(), Trouble> {
    let first = Stage::without_controller().await?;
    for (group, version, kind, plural) in [
        (
            "networking.istio.io",
            "v1beta1",
            "VirtualService",
            "virtualservices",
        ),
        (
            "networking.istio.io",
            "v1beta1",
            "DestinationRule",
            "destinationrules",
        ),
        ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    ] {
        first
            .define(definition(group, version, kind, plural))
            .await?;
    }
    let cluster = first.namespace.cluster();
    let notebook = Notebook::start(&cluster.client(Actor::Admin).await?, &KINDS);
    let mut recordings: Vec<_> = recordings()
        .into_iter()
        .map(|path| (Recording::read(&path).unwrap().length(), path))
        .collect();
    assert_eq!(recordings.len(), 33);
    recordings.sort_by_key(|(length, _)| Reverse(*length));
    let played = recordings.into_iter().map(async |(_, path)| {
        let mut unlike = String::new();
        for _ in 0..TELLINGS {
            let mut story = Story::new(&path, cluster, &notebook).await?;
            let differences = story.play().await?;
            story.stage.stop().await;
            if differences.is_empty() {
                return Ok(String::new());
            }
            unlike = format!("{}\n  {}\n", story.name, differences.join("\n  "));
        }
        Ok::<_, Trouble>(unlike)
    });
    let unlike: String = stream::iter(played)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    assert!(unlike.is_empty(), "{unlike}");
    Ok(())
}
