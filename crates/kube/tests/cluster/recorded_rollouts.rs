//! Every recording of the reference's Rollouts, played to a Crossfade on a real API server: a person does the same to the same manifests when the same
//! is seen, and as long after. What is seen then is written down in the form of the recordings, and compared with them as replays in virtual time are.
//!
//! Compared are the states that are seen together (phase, message, step, pauses, abort, versions, weights, sizes, selectors, phases of runs and
//! Experiments), what lasted, how it ended, Events, and whole objects at the moments at which somebody looked. What is not, because it is a matter of
//! milliseconds, is said in `crossfade_sim::again`; which differences stay, in `crossfade_sim::named` and [`SHOWN_HERE`].
//!
//! Stories are told side by side, the longest first, each in a namespace of its own with a controller of its own, and take as long as they took: a minute
//! for the longest.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossfade_api::names::label;
use crossfade_api::{Resource as _, Rollout as Release};
use crossfade_sim::person::{self, Act};
use crossfade_sim::recording::{Recording, What};
use crossfade_sim::standing::Standing;
use crossfade_sim::{again, named};
use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_cluster::{Actor, Cluster, Namespace, Trouble};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::beside::Beside;
use crate::notebook::{Notebook, Written};
use crate::routers::definition;
use crate::stage::{Rollout, Stage};

/// What is written down.
const KINDS: [Written; 7] = [
    ("argoproj.io", "v1alpha1", "Rollout"),
    ("argoproj.io", "v1alpha1", "AnalysisRun"),
    ("argoproj.io", "v1alpha1", "Experiment"),
    ("apps", "v1", "ReplicaSet"),
    ("apps", "v1", "Deployment"),
    ("", "v1", "Service"),
    ("", "v1", "Event"),
];

/// Where the metrics of the recordings were.
const METRICS: &str = "127.0.0.1:41881";

/// Pods take as long as those in the recordings.
const PACE: Pace = Pace {
    starts_after: Duration::from_millis(1200),
    stops_after: Duration::from_millis(800),
};

/// How long people wait for what was seen in the recording, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// So long after a story what was written last may come.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How often a story is told before it counts as different: on a machine with much else to do, a delay or a deadline may end before what it is for.
const TELLINGS: usize = 3;

/// Stories that are told at once.
const AT_ONCE: usize = 14;

/// Parts of differences that only real time shows, by recording.
const SHOWN_HERE: &[(&str, &str)] = &[
    // A second more or less is a measurement more or less.
    ("analysis-background-fails", "metricResults[0].count is "),
    ("analysis-background-fails", "metricResults[0].successful "),
    (
        "analysis-background-passes",
        "metricResults[0].consecutiveS",
    ),
    ("analysis-background-passes", "metricResults[0].count is "),
    ("analysis-background-passes", "metricResults[0].successful "),
    // The reference switched this Service to and fro all the time.
    ("analysis-background-fails", "service app-canary stands as "),
    ("nginx-abort-with-delay", "service app-canary stands as "),
    (
        "nginx-dynamic-stable-scale",
        "service app-canary stands as ",
    ),
    // A delay ended, or was to end, in the second in which the recording did.
    ("bluegreen-pre-and-post", "set v1 "),
    ("bluegreen-pre-and-post", "ReplicaSet/app-v1."),
    (
        "bluegreen-pre-and-post",
        "nowhere stands what lasted: {\"rollout\": \"Degraded: RolloutAborted: Rollout aborted update to revision 4",
    ),
    ("istio-ping-pong", "set v2 stands as "),
    (
        "istio-ping-pong",
        "not as Some(\"Healthy: , step 2, v3 of v3, 100 to v3, 0 to v2",
    ),
    // The Deployment shrinks with the pods that are ready, one size a generation.
    ("workload-ref", "workload-generation is "),
    ("workload-ref", "workloadObservedGeneration is "),
    // Sizes follow while it is paused by hand.
    (
        "canary-pause-resume-spec",
        "stands as Some(\"2 wanted, revision 2\"), not as Some(\"1 ",
    ),
    (
        "canary-pause-resume-spec",
        "not as Some(\"4 wanted, revision 1\")",
    ),
    // The first step waits for its canary pod.
    (
        "canary-deadline-without-abort",
        "set v1 stands as Some(\"2 wanted, revision 1\")",
    ),
    // The weight follows the pods that are ready.
    (
        "nginx-dynamic-stable-scale",
        "is seen as \"Degraded: RolloutAborted: Rollout aborted update to revision 2, step 0, aborted, v2 of v1, ",
    ),
];

/// A point in a recording, and the same here.
#[derive(Clone, Copy)]
struct Anchor {
    there: SignedDuration,
    here: Instant,
    /// Somebody did something; otherwise something was seen.
    is_act: bool,
}

impl Anchor {
    /// When something that was seen or done there is due here.
    fn due(self, there: SignedDuration) -> Instant {
        self.here + Duration::try_from(there - self.there).unwrap_or_default()
    }

    /// Whether something that was seen there came after it.
    fn is_before(self, there: SignedDuration) -> bool {
        there > self.there || (there == self.there && self.is_act)
    }
}

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
        let means = vec![
            (story.space().to_owned(), story.recording.namespace()),
            (story.metrics(), METRICS.to_owned()),
        ];
        notebook.open(story.space(), means);
        Ok(story)
    }

    fn space(&self) -> &str {
        self.stage.namespace.name()
    }

    /// Where metrics are here.
    fn metrics(&self) -> String {
        format!("{}/value", self.beside.address)
    }

    /// Plays it to its end: what differs.
    async fn play(&mut self) -> Result<Vec<String>, Trouble> {
        let mut anchor = Anchor {
            there: SignedDuration::ZERO,
            here: Instant::now(),
            is_act: true,
        };
        for step in self.recording.steps() {
            let what = match step.what {
                // Nothing happens before there is a Rollout.
                What::Apply(manifest) if step.place == 0 => {
                    self.apply(manifest).await?;
                    continue;
                }
                what => what,
            };
            let there = self.recording.standing(step.place);
            let is_begun = !there.since.is_zero();
            if is_begun && anchor.is_before(there.since) {
                let due = anchor.due(there.since);
                self.until(due, |run| self.is_seen(&there, run)).await;
                anchor = Anchor {
                    there: there.since,
                    here: Instant::now(),
                    is_act: false,
                };
            }
            if let What::Look(moment) = what {
                self.look(&there, &moment, anchor.due(step.at)).await;
                continue;
            }
            if is_begun {
                sleep_until(anchor.due(step.at)).await;
            }
            match what {
                What::Apply(manifest) => {
                    self.notebook.note(self.space(), "apply");
                    self.apply(manifest).await?;
                }
                What::Do(words) | What::Look(words) => {
                    self.notebook.note(self.space(), &words);
                    self.act(&words).await;
                }
            }
            anchor = Anchor {
                there: step.at,
                here: Instant::now(),
                is_act: true,
            };
        }
        let end = self.recording.standing(self.recording.lines().len());
        let due = anchor.due(self.recording.last());
        self.until(due, |run| self.is_seen(&end, run)).await;
        sleep_until(due).await;
        // What was recorded may end as it began.
        let is_the_same = || self.differences().is_empty();
        let ends = self.notebook.until(self.space(), PATIENCE, is_the_same);
        ends.await;
        // Nothing moves on while what people are still to be told is written.
        self.stage.stop().await;
        let is_the_same = || self.differences().is_empty();
        let all_told = self.notebook.until(self.space(), LAST_WORDS, is_the_same);
        all_told.await;
        Ok(self.differences())
    }

    /// Waits until what stands here is as wanted, but not long after it is due.
    async fn until(&self, due: Instant, check: impl Fn(&Recording) -> bool) {
        let check = || check(&Recording::of(Vec::new(), self.notebook.now(self.space())));
        let left = due.saturating_duration_since(Instant::now()) + PATIENCE;
        self.notebook.until(self.space(), left, check).await;
    }

    /// Looks at everything when it stands as at a moment there, or when it is over.
    async fn look(&self, there: &Standing, moment: &str, due: Instant) {
        let was_seen = Cell::new(false);
        let is_all_like = |run: &Recording| {
            if !self.is_seen(there, run) {
                return was_seen.get();
            }
            was_seen.set(true);
            let unlike = there.unlike(run).into_iter();
            let mut unlike = unlike.map(|one| format!("at {moment}: {one}"));
            unlike.all(|one| self.stays(&one))
        };
        self.until(due, is_all_like).await;
        let words = format!("snapshot {moment}");
        self.notebook.note(self.space(), &words);
    }

    /// Whether everything is seen as there.
    fn is_seen(&self, there: &Standing, run: &Recording) -> bool {
        let unlike = there.unlike_seen(run);
        unlike.iter().all(|one| self.is_shown_here(one))
    }

    fn is_shown_here(&self, difference: &str) -> bool {
        let mut parts = SHOWN_HERE.iter().filter(|(name, _)| *name == self.name);
        parts.any(|(_, part)| difference.contains(part))
    }

    /// Whether a difference has a name.
    fn stays(&self, difference: &str) -> bool {
        let mut parts = named::of(&self.name).iter();
        self.is_shown_here(difference) || parts.any(|part| difference.contains(part))
    }

    /// What differs so far, and has no name.
    fn differences(&self) -> Vec<String> {
        let seen = Recording::of(Vec::new(), self.notebook.lines(self.space()));
        again::differences(&self.recording, &seen, |one| self.stays(one))
    }

    async fn apply(&self, mut manifest: Value) -> Result<(), Trouble> {
        manifest["metadata"]["namespace"] = json!(self.space());
        let manifest = manifest.to_string().replace(METRICS, &self.metrics());
        self.stage.namespace.apply(&manifest).await?;
        Ok(())
    }

    /// Does what the person did.
    async fn act(&self, words: &str) {
        let namespace = &self.stage.namespace;
        let rollout = namespace.api::<Rollout>().get("app").await.unwrap();
        let (release, _) = Release::from_json(serde_json::to_value(rollout).unwrap());
        let sets = namespace.api::<ReplicaSet>();
        let sets = sets.list(&ListParams::default()).await.unwrap().items;
        let template = |revision| template_of(&sets, revision);
        let act = person::act(words, &release, Timestamp::now(), template);
        match act.unwrap_or_else(|| unreachable!("{}: nobody can do: {words}", self.name)) {
            Act::Rollout(patch) if patch["status"].is_object() => {
                let status = patch["status"].clone();
                self.stage.change_status("app", status).await;
            }
            Act::Rollout(patch) => self.stage.change("app", patch).await,
            Act::Deployment(name, patch) => {
                self.stage.merge::<Deployment>(name, patch).await;
            }
            Act::Metric { name, answer } => self.beside.metric(&name, &answer),
        }
    }
}

/// The template of a revision, or of the one before the newest for 0, without what the controller put in.
fn template_of(sets: &[ReplicaSet], wanted: u64) -> Option<Value> {
    let revision = |set: &ReplicaSet| -> u64 {
        let notes = set.metadata.annotations.as_ref();
        let revision = notes.and_then(|notes| notes.get("rollout.argoproj.io/revision"));
        revision.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let mut sets: Vec<_> = sets.iter().collect();
    sets.sort_by_key(|set| std::cmp::Reverse(revision(set)));
    let set = if wanted == 0 {
        sets.get(1).copied()
    } else {
        sets.into_iter().find(|set| revision(set) == wanted)
    }?;
    let mut template = serde_json::to_value(set.spec.as_ref()?.template.as_ref()?).ok()?;
    let labels = template.pointer_mut("/metadata/labels")?.as_object_mut()?;
    labels.remove(label::POD_HASH);
    Some(template)
}

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/recorded");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort_by_key(|path| std::cmp::Reverse(Recording::read(path).unwrap().last()));
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_release_shows_the_same_on_a_real_api_server() -> Result<(), Trouble> {
    let first = Stage::without_controller().await?;
    let istio = "networking.istio.io";
    let services = definition(istio, "v1alpha3", "VirtualService", "virtualservices");
    first.define(services).await?;
    let cluster = first.namespace.cluster();
    let notebook = Notebook::start(&cluster.client(Actor::Admin).await?, &KINDS);
    let mut told = recordings();
    assert_eq!(told.len(), 38);
    let mut unlike = String::new();
    for _ in 0..TELLINGS {
        let played = told.iter().map(async |path| {
            let mut story = Story::new(path, cluster, &notebook).await?;
            let differences = story.play().await?;
            let what = format!("{}\n  {}\n", story.name, differences.join("\n  "));
            Ok::<_, Trouble>((!differences.is_empty()).then(|| (path.clone(), what)))
        });
        let played = stream::iter(played).buffer_unordered(AT_ONCE);
        let played: Vec<_> = played.try_collect().await?;
        (told, unlike) = played.into_iter().flatten().unzip();
    }
    assert!(unlike.is_empty(), "{unlike}");
    Ok(())
}
