//! A recorded run of the reference: what was applied, what people did, what was seen.
//!
//! A recording is a folder with `applied.yaml` and `trace.jsonl`, one line a change or an act in the order in which they happened.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::Path;

use crossfade_api::names::{annotation, label};
use jiff::SignedDuration;
use serde_json::Value;

use crate::cluster::Report;
use crate::compare::{History, LASTING, Told};
use crate::objects::Objects;
use crate::visible::{
    NOTHING, ROLLOUT, Versions, by_version, deployment, experiment, replica_set, rollout_status,
    version,
};

/// Reasons of events about router objects, which this cluster does not have.
const ROUTER_REASONS: [&str; 4] = [
    "CreatingCanaryIngress",
    "PatchingCanaryIngress",
    "Updated VirtualService",
    "Updated DestinationRule",
];

/// One recorded run.
pub struct Recording {
    manifests: Vec<Value>,
    lines: Vec<Value>,
}

/// What happened at a point of a recording besides what controllers did.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Place among the lines.
    pub place: usize,
    /// When, counted from the beginning.
    pub at: SignedDuration,
    /// What happened.
    pub what: What,
}

/// What a person does.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Applies a manifest.
    Apply(Value),
    /// Looks at everything that is there, at a moment of this name.
    Look(String),
    /// Does what these words say.
    Do(String),
}

/// Pods of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    current: i64,
    ready: i64,
}

/// Pods by version.
type Pods = BTreeMap<String, Counts>;

impl Recording {
    /// Reads a recording's folder.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let text = |name: &str| {
            std::fs::read_to_string(folder.join(name))
                .map_err(|why| format!("{}/{name}: {why}", folder.display()))
        };
        let manifests =
            serde_saphyr::from_multiple(&text("applied.yaml")?).map_err(|why| why.to_string())?;
        let lines = text("trace.jsonl")?
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Value>, _>>()
            .map_err(|why| why.to_string())?;
        Ok(Self::of(manifests, lines))
    }

    /// A recording of these manifests, told by lines in the form of `trace.jsonl`.
    pub fn of(manifests: Vec<Value>, lines: Vec<Value>) -> Self {
        // A Deployment's own ReplicaSets are none of a Rollout's business.
        let is_foreign = |line: &Value| {
            line["kind"] == "ReplicaSet" && line["labels"][label::POD_HASH].is_null()
        };
        let lines = lines.into_iter().filter(|line| !is_foreign(line)).collect();
        Self { manifests, lines }
    }

    /// All changes and acts, in order.
    pub fn lines(&self) -> &[Value] {
        &self.lines
    }

    /// When the Rollout came.
    fn first(&self) -> SignedDuration {
        let mut lines = self.lines.iter();
        let first = lines.find(|line| line["kind"] == "Rollout");
        first.map_or(SignedDuration::ZERO, since_begin)
    }

    /// When it ended.
    pub fn last(&self) -> SignedDuration {
        self.lines.last().map_or(SignedDuration::ZERO, since_begin)
    }

    /// What people did, in order: what was applied before the Rollout, the Rollout, and what was done then.
    pub fn steps(&self) -> Vec<Step> {
        let is_rollout = |manifest: &&Value| manifest["kind"] == "Rollout";
        let (before, after) = self.around_rollout();
        let apply = |at, manifest: &Value| Step {
            place: 0,
            at,
            what: What::Apply(manifest.clone()),
        };
        let first = before
            .iter()
            .map(|manifest| apply(SignedDuration::ZERO, manifest));
        let mut steps: Vec<Step> = first.collect();
        for manifest in after.iter().filter(is_rollout) {
            let mut manifest = manifest.clone();
            if manifest["metadata"]["namespace"].is_null() {
                manifest["metadata"]["namespace"] = Value::String(self.namespace());
            }
            steps.push(apply(self.first(), &manifest));
        }
        // What was applied after the Rollout had been missing until somebody had looked at it.
        let mut missing: Vec<&Value> = after.iter().filter(|one| !is_rollout(one)).collect();
        let mut was_looked_at = false;
        for (place, line) in self.lines.iter().enumerate() {
            let mut step = |what| {
                let at = since_begin(line);
                steps.push(Step { place, at, what });
            };
            if line["kind"] == "Action" {
                let words = line["do"].as_str().unwrap_or_default();
                match moment(line) {
                    Some(moment) => {
                        was_looked_at = true;
                        step(What::Look(moment.to_owned()));
                    }
                    None => step(What::Do(words.to_owned())),
                }
            }
            let comes = |manifest: &&Value| {
                let kind = manifest["kind"].as_str().unwrap_or_default();
                let added = line["type"] == "ADDED"
                    && line["kind"] == kind
                    && line["name"] == manifest["metadata"]["name"];
                // Templates were not recorded.
                added || (kind == "AnalysisTemplate" && was_looked_at)
            };
            let come: Vec<&Value> = missing.iter().copied().filter(comes).collect();
            missing.retain(|manifest| !come.contains(manifest));
            for manifest in come {
                step(What::Apply(manifest.clone()));
            }
        }
        steps
    }

    /// The places at which the controller had done what it set out to do: after each status of the Rollout, which is written last, and wherever
    /// nothing happened for long.
    pub(crate) fn stands(&self) -> Vec<usize> {
        let rests = |place: usize| {
            let next = self.lines.get(place + 1);
            next.is_none_or(|next| since_begin(next) - since_begin(&self.lines[place]) >= LASTING)
        };
        let is_told = |place: &usize| {
            let kind = &self.lines[*place]["kind"];
            kind == "Rollout" || kind == "Action" || rests(*place)
        };
        let told = (0..self.lines.len()).filter(is_told);
        told.map(|place| place + 1).collect()
    }

    /// The moments at which somebody looked at everything, and their places.
    pub(crate) fn moments(&self) -> BTreeMap<String, usize> {
        let acts = self.lines.iter().enumerate();
        let moments = acts.filter_map(|(place, line)| Some((moment(line)?.to_owned(), place)));
        moments.collect()
    }

    /// The places between which nobody did anything but look, around one of them: from just after an act to just before another.
    pub(crate) fn between_acts(&self, place: usize) -> Range<usize> {
        let is_act = |line: &Value| line["kind"] == "Action" && moment(line).is_none();
        let (before, after) = self.lines.split_at(place);
        let first = before.iter().rposition(is_act).map_or(0, |act| act + 1);
        let last = after.iter().position(is_act).unwrap_or(after.len());
        first..place + last
    }

    /// The objects as they stand just before a place.
    pub(crate) fn objects(&self, place: usize) -> Objects {
        let mut objects = Objects::default();
        for line in self.lines.iter().take(place) {
            objects.follow(line);
        }
        objects
    }

    /// What was applied before the Rollout, and the rest with it.
    fn around_rollout(&self) -> (&[Value], &[Value]) {
        let mut manifests = self.manifests.iter();
        let rollout = manifests.position(|manifest| manifest["kind"] == "Rollout");
        self.manifests.split_at(rollout.unwrap_or(0))
    }

    /// The namespace that it was recorded in.
    pub fn namespace(&self) -> String {
        let added = self
            .lines
            .iter()
            .find(|line| line["reason"] == "RolloutAddedToInformer");
        let message = added
            .and_then(|line| line["message"].as_str())
            .unwrap_or_default();
        message
            .rsplit(' ')
            .next()
            .and_then(|name| name.split('/').next())
            .unwrap_or("default")
            .to_owned()
    }

    /// The counts of ready pods that the controller looked at, by version.
    pub(crate) fn reports(&self) -> BTreeMap<String, VecDeque<Report>> {
        let seen = self.looked_at();
        let reports = self.versions().into_values().map(|version| {
            let ready = |pods: &Pods| pods.get(&version).map_or(0, |pods| pods.ready);
            let mut before = 0;
            let spells = seen.chunk_by(|one, next| ready(one) == ready(next));
            let rises = spells.filter_map(|spell| {
                let ready = spell.first().map_or(0, ready);
                let rises = ready > before;
                before = ready;
                rises.then_some(Report {
                    ready,
                    stands: spell.len() > 1,
                })
            });
            let rises = rises.collect();
            (version, rises)
        });
        reports.collect()
    }

    /// The pods that the controller looked at, as it went on: what it saw is told by the counts that it wrote down.
    fn looked_at(&self) -> Vec<Pods> {
        let versions = self.versions();
        let mut there = vec![Pods::new()];
        let mut first = 0;
        let mut seen = Vec::new();
        for line in &self.lines {
            let status = &line["status"];
            let counts = Counts {
                current: status["replicas"].as_i64().unwrap_or(0),
                ready: status["readyReplicas"].as_i64().unwrap_or(0),
            };
            if line["kind"] == "ReplicaSet" && !is_of_experiment(line) {
                let hash = line["labels"][label::POD_HASH].as_str().unwrap_or_default();
                let mut pods = there.last().cloned().unwrap_or_default();
                pods.insert(version(&versions, hash), counts);
                there.push(pods);
            } else if line["kind"] == "Rollout" && status["blueGreen"]["activeSelector"].is_null() {
                let sum = |pods: &Pods| Counts {
                    current: pods.values().map(|counts| counts.current).sum(),
                    ready: pods.values().map(|counts| counts.ready).sum(),
                };
                let found = there[first..].iter().position(|pods| sum(pods) == counts);
                if let Some(found) = found {
                    first += found;
                    seen.push(there[first].clone());
                }
            } else if line["kind"] == "Rollout" {
                // The status of a blue-green release counts one version only.
                seen.extend(there[first..].iter().cloned());
                first = there.len() - 1;
            }
        }
        seen.dedup();
        seen
    }

    /// Versions by their hashes.
    pub(crate) fn versions(&self) -> Versions {
        let sets = self
            .lines
            .iter()
            .filter(|line| line["kind"] == "ReplicaSet" && !is_of_experiment(line));
        sets.map(|line| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let image = text(&line["image"]);
            let tag = image.rsplit(':').next().unwrap_or_default().to_owned();
            (text(&line["labels"][label::POD_HASH]), tag)
        })
        .collect()
    }

    /// What was seen in the recording.
    pub fn history(&self) -> History {
        let versions = self.versions();
        let mut history = History::default();
        for (place, line) in self.lines.iter().enumerate() {
            let name = line["name"].as_str().unwrap_or_default();
            let gone = line["type"] == "DELETED";
            let hash = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (thing, value) = match line["kind"].as_str().unwrap_or_default() {
                "Rollout" => (
                    ROLLOUT.to_owned(),
                    rollout_status(&line["status"], &versions),
                ),
                "ReplicaSet" => {
                    let version = version(&versions, &hash(&line["labels"][label::POD_HASH]));
                    let replicas = line["replicas"].as_i64().unwrap_or(0);
                    let revision = line["annotations"][annotation::REVISION].as_str();
                    let replicas = i32::try_from(replicas).unwrap_or(0);
                    let thing = if is_of_experiment(line) {
                        format!("experiment's set {}", by_version(name, &versions))
                    } else {
                        format!("set {version}")
                    };
                    (thing, replica_set(replicas, revision.unwrap_or_default()))
                }
                "Deployment" => (format!("deployment {name}"), deployment(&line["replicas"])),
                "Service" => {
                    let selected = version(&versions, &hash(&line["selector"][label::POD_HASH]));
                    (format!("service {name}"), selected)
                }
                "AnalysisRun" => {
                    let phase = line["status"]["phase"].as_str().unwrap_or_default();
                    (
                        format!("run {}", by_version(name, &versions)),
                        phase.to_owned(),
                    )
                }
                "Experiment" => {
                    let status = &line["status"];
                    let text = |member: &str| status[member].as_str().unwrap_or_default();
                    (
                        format!("experiment {}", by_version(name, &versions)),
                        experiment(text("phase"), &by_version(text("message"), &versions)),
                    )
                }
                _ => continue,
            };
            let value = if gone { NOTHING.to_owned() } else { value };
            history.add(place, since_begin(line), &thing, value);
        }
        history
    }

    /// Events on our kinds by object, in order: `reason: message`.
    pub(crate) fn events(&self) -> BTreeMap<String, Vec<Told>> {
        let versions = self.versions();
        let mut events: BTreeMap<String, Vec<Told>> = BTreeMap::new();
        for line in self.lines.iter().filter(|line| line["kind"] == "Event") {
            let on = line["on"].as_str().unwrap_or_default();
            let kinds = ["Rollout/", "AnalysisRun/", "Experiment/"];
            if !kinds.iter().any(|kind| on.starts_with(kind)) {
                continue;
            }
            let message = line["message"].as_str().unwrap_or_default();
            let message = message
                .strip_prefix("(combined from similar events): ")
                .unwrap_or(message);
            let reason = line["reason"].as_str().unwrap_or_default();
            events
                .entry(by_version(on, &versions))
                .or_default()
                .push(Told {
                    warning: line["type"] == "Warning",
                    about_router: ROUTER_REASONS.contains(&reason),
                    text: by_version(&format!("{reason}: {message}"), &versions),
                });
        }
        events
    }
}

/// The name of the moment, if a line says that somebody looked at everything.
fn moment(line: &Value) -> Option<&str> {
    line["do"].as_str()?.strip_prefix("snapshot ")
}

/// A ReplicaSet that an Experiment made.
fn is_of_experiment(line: &Value) -> bool {
    !line["annotations"][annotation::EXPERIMENT_NAME].is_null()
}

/// When something was recorded, counted from the beginning.
fn since_begin(line: &Value) -> SignedDuration {
    SignedDuration::from_millis((line["t"].as_f64().unwrap_or(0.0) * 1000.0) as i64)
}
