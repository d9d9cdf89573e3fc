//! The reference's recordings, played to our engine: the same manifests, the same acts of people, the same moments.
//!
//! A recording is a folder with `applied.yaml` and `trace.jsonl`. Each aspect of what users see (phase, step, weights, sizes, …) has a
//! course in the recording and one here. Ours may skip what the reference passed through, never show what it did not, and ends the same.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cluster::{Answer, Cluster, Life};
use crate::visible::{Visible, courses};

/// Normal events of one object that the reference's recorder keeps; it loses later ones.
const EVENTS_KEPT: usize = 25;
/// Reasons of events about router objects, which this cluster does not have.
const ROUTER_REASONS: [&str; 4] = [
    "CreatingCanaryIngress",
    "PatchingCanaryIngress",
    "UpdatedVirtualService",
    "UpdatedDestinationRule",
];

/// One recorded run.
pub struct Recording {
    manifests: Vec<Value>,
    lines: Vec<Value>,
}

/// What a recording and its replay show.
pub struct Comparison {
    /// Courses of the recording by aspect.
    pub recorded: BTreeMap<String, Vec<String>>,
    /// Courses of the replay by aspect.
    pub replayed: BTreeMap<String, Vec<String>>,
    /// Events on our kinds in the recording: object and `reason: message`.
    pub recorded_events: BTreeMap<String, Vec<String>>,
    /// The same in the replay.
    pub replayed_events: BTreeMap<String, Vec<String>>,
}

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
            .collect::<Result<_, _>>()
            .map_err(|why| why.to_string())?;
        Ok(Self { manifests, lines })
    }

    /// Plays it to our engine, for as long as it was recorded and a little longer.
    pub fn replay(&self) -> Comparison {
        let begun: Timestamp = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000);
        let mut cluster = Cluster::new(begun, Life::default());
        let at = |line: &Value| {
            begun + SignedDuration::from_millis((line["t"].as_f64().unwrap_or(0.0) * 1000.0) as i64)
        };
        let first = self
            .lines
            .iter()
            .find(|line| line["kind"] == "Rollout")
            .map_or(begun, at);
        let mut waiting: Vec<Value> = Vec::new();
        for manifest in &self.manifests {
            // What came later in the recording comes later here.
            if self.appears_late(manifest, first, &at) {
                waiting.push(manifest.clone());
            } else if manifest["kind"] != "Rollout" {
                cluster.apply(manifest);
            }
        }
        cluster.advance(first);
        for manifest in self
            .manifests
            .iter()
            .filter(|manifest| manifest["kind"] == "Rollout")
        {
            let mut manifest = manifest.clone();
            if manifest["metadata"]["namespace"].is_null() {
                manifest["metadata"]["namespace"] = json!(self.namespace());
            }
            cluster.apply(&manifest);
        }
        // Where the recording stands, and how far behind it we are.
        let mut there = BTreeMap::new();
        let mut late = SignedDuration::ZERO;
        for line in &self.lines {
            if line["kind"] == "Rollout" {
                rollout_aspects(&line["status"], &|_| String::new(), &mut there);
            } else if line["kind"] == "Action" {
                cluster.advance(at(line) + late);
                late += catch_up(&mut cluster, &there);
                let words = line["do"].as_str().unwrap_or_default();
                act(&mut cluster, words);
            } else if line["type"] == "ADDED" {
                let arrived: Vec<Value> = waiting
                    .iter()
                    .filter(|manifest| {
                        manifest["kind"] == line["kind"]
                            && manifest["metadata"]["name"] == line["name"]
                    })
                    .cloned()
                    .collect();
                for manifest in arrived {
                    cluster.advance(at(line) + late);
                    cluster.apply(&manifest);
                }
            }
        }
        let end = self.lines.last().map_or(begun, at);
        cluster.advance(end + late);
        let (recorded, recorded_events) = self.seen();
        settle(&mut cluster, &recorded);
        let mut replayed_events: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let hashes: Vec<String> = cluster.hashes.iter().cloned().collect();
        for (object, event) in &cluster.events {
            let text = anonymous(&format!("{}: {}", event.reason, event.message), &hashes);
            replayed_events
                .entry(anonymous(object, &hashes))
                .or_default()
                .push(text);
        }
        Comparison {
            recorded,
            replayed: courses(&cluster.seen),
            recorded_events,
            replayed_events,
        }
    }

    fn namespace(&self) -> String {
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

    fn appears_late(
        &self,
        manifest: &Value,
        first: Timestamp,
        at: &impl Fn(&Value) -> Timestamp,
    ) -> bool {
        let kinds = ["Service", "AnalysisTemplate"];
        let kind = manifest["kind"].as_str().unwrap_or_default();
        let added = self.lines.iter().find(|line| {
            line["kind"] == manifest["kind"]
                && line["type"] == "ADDED"
                && line["name"] == manifest["metadata"]["name"]
        });
        kinds.contains(&kind)
            && added.is_some_and(|line| at(line) > first + SignedDuration::from_millis(500))
    }

    /// The courses of what was seen in the recording, and the events on our kinds.
    fn seen(&self) -> (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>) {
        let mut images: BTreeMap<String, String> = BTreeMap::new();
        for line in self
            .lines
            .iter()
            .filter(|line| line["kind"] == "ReplicaSet")
        {
            let hash = line["labels"]["rollouts-pod-template-hash"]
                .as_str()
                .unwrap_or_default();
            let image = line["image"]
                .as_str()
                .unwrap_or_default()
                .rsplit(':')
                .next()
                .unwrap_or_default();
            images.insert(hash.to_owned(), image.to_owned());
        }
        let image = |hash: &Value| {
            images
                .get(hash.as_str().unwrap_or_default())
                .cloned()
                .unwrap_or_default()
        };
        let mut moments = Vec::new();
        let mut now = BTreeMap::new();
        let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let hashes: Vec<String> = images.keys().cloned().collect();
        for line in &self.lines {
            let name = line["name"].as_str().unwrap_or_default();
            match line["kind"].as_str().unwrap_or_default() {
                "Rollout" => {
                    rollout_aspects(&line["status"], &image, &mut now);
                    if let Some(phase) = now.get_mut("phase") {
                        *phase = anonymous(phase, &hashes);
                    }
                }
                "ReplicaSet" if line["type"] == "DELETED" => {}
                "ReplicaSet" => {
                    let hash = &line["labels"]["rollouts-pod-template-hash"];
                    now.insert(
                        format!("size {}", image(hash)),
                        line["replicas"].to_string(),
                    );
                }
                "Service" => {
                    now.insert(
                        format!("service {name}"),
                        image(&line["selector"]["rollouts-pod-template-hash"]),
                    );
                }
                "AnalysisRun" if line["type"] != "DELETED" => {
                    let phase = line["status"]["phase"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned();
                    now.insert(format!("run {}", anonymous(name, &hashes)), phase);
                }
                "Event" => {
                    let on = line["on"].as_str().unwrap_or_default();
                    if on.starts_with("Rollout/") || on.starts_with("AnalysisRun/") {
                        let message = line["message"].as_str().unwrap_or_default();
                        let message = message
                            .strip_prefix("(combined from similar events): ")
                            .unwrap_or(message);
                        let text = anonymous(
                            &format!("{}: {message}", line["reason"].as_str().unwrap_or_default()),
                            &hashes,
                        );
                        events.entry(anonymous(on, &hashes)).or_default().push(text);
                    }
                    continue;
                }
                _ => continue,
            }
            moments.push(Visible(now.clone()));
        }
        (courses(&moments), events)
    }
}

fn rollout_aspects(
    status: &Value,
    image: &impl Fn(&Value) -> String,
    now: &mut BTreeMap<String, String>,
) {
    let text = |member: &str| status[member].as_str().unwrap_or_default().to_owned();
    now.insert(
        "phase".to_owned(),
        format!("{} {}", text("phase"), text("message")),
    );
    now.insert(
        "step".to_owned(),
        status["currentStepIndex"]
            .as_i64()
            .map_or(String::new(), |index| index.to_string()),
    );
    let pauses = status["pauseConditions"].as_array().into_iter().flatten();
    let reasons: Vec<String> = pauses
        .map(|pause| pause["reason"].as_str().unwrap_or_default().to_owned())
        .collect();
    now.insert("pauses".to_owned(), reasons.join(","));
    now.insert(
        "abort".to_owned(),
        status["abort"].as_bool().unwrap_or(false).to_string(),
    );
    now.insert(
        "promoteFull".to_owned(),
        status["promoteFull"].as_bool().unwrap_or(false).to_string(),
    );
    now.insert("stable".to_owned(), image(&status["stableRS"]));
    now.insert("current".to_owned(), image(&status["currentPodHash"]));
    if let Some(weight) = status["canary"]["weights"]["canary"]["weight"].as_i64() {
        now.insert("weight".to_owned(), weight.to_string());
    }
}

/// A text without hashes, so that it compares.
fn anonymous(text: &str, hashes: &[String]) -> String {
    hashes.iter().fold(text.to_owned(), |text, hash| {
        text.replace(hash.as_str(), "HASH")
    })
}

/// Lets what was under way at the end of the recording come to the same end, for a few seconds at most.
fn settle(cluster: &mut Cluster, recorded: &BTreeMap<String, Vec<String>>) {
    for _ in 0..50 {
        let here = Visible::of(cluster).0;
        if recorded
            .iter()
            .all(|(aspect, course)| here.get(aspect) == course.last())
        {
            return;
        }
        cluster.advance(cluster.now + SignedDuration::from_millis(100));
    }
}

/// People act on what they see: waits until our Rollout stands where the recorded one stood, for a few seconds at most.
fn catch_up(cluster: &mut Cluster, there: &BTreeMap<String, String>) -> SignedDuration {
    const STEP: SignedDuration = SignedDuration::from_millis(100);
    const PATIENCE: SignedDuration = SignedDuration::from_secs(5);
    let mut waited = SignedDuration::ZERO;
    while waited < PATIENCE {
        let here = Visible::of(cluster).0;
        if ["step", "pauses", "abort"]
            .iter()
            .all(|aspect| here.get(*aspect) == there.get(*aspect))
        {
            return waited;
        }
        waited += STEP;
        cluster.advance(cluster.now + STEP);
    }
    waited
}

/// What a person did.
fn act(cluster: &mut Cluster, words: &str) {
    if let Some(image) = words.strip_prefix("image := ") {
        let Some(rollout) = cluster.rollout() else {
            return;
        };
        let mut template = rollout.spec.template.as_json().clone();
        template["spec"]["containers"][0]["image"] = json!(format!("registry.example/app:{image}"));
        cluster.patch_rollout(&json!({"spec": {"template": template}}));
    } else if let Some(rest) = words.strip_prefix("metric ") {
        let (name, answer) = rest.split_once(" answers ").unwrap_or((rest, ""));
        let answer = match answer.parse() {
            Ok(number) => Answer::Value(number),
            Err(_) if answer == "down" => Answer::Down,
            Err(_) => Answer::Text(answer.to_owned()),
        };
        cluster.answer(name, answer);
    } else if let Some(patch) = words.strip_prefix("patch rollouts ") {
        if let Ok(patch) = serde_json::from_str(patch) {
            cluster.patch_rollout(&patch);
        }
    } else if let Some(command) = words.strip_prefix("kubectl argo rollouts ") {
        kubectl(cluster, command);
    } else if words == "blueGreen -> canary" {
        cluster.patch_rollout(&json!({"spec": {"strategy": {"blueGreen": null, "canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}}}));
    }
}

/// What the plugin's commands write.
fn kubectl(cluster: &mut Cluster, command: &str) {
    let Some(rollout) = cluster.rollout().cloned() else {
        return;
    };
    let status = &rollout.status;
    let index = status.current_step_index.unwrap_or(0);
    let steps = rollout
        .spec
        .strategy
        .canary
        .as_ref()
        .map_or(0, |canary| i32::try_from(canary.steps.len()).unwrap_or(0));
    let words: Vec<&str> = command.split(' ').collect();
    match words.as_slice() {
        ["promote", _, "--full"] => {
            cluster.patch_rollout(&json!({"status": {"promoteFull": true}}))
        }
        ["promote", _] => {
            let slot = status.canary.current_step_analysis_run_status.as_ref();
            let inconclusive = slot.is_some_and(|slot| slot.status.as_str() == "Inconclusive");
            let patch = if inconclusive
                && !status.pause_conditions.is_empty()
                && status.controller_pause
            {
                json!({"status": {"pauseConditions": null, "controllerPause": false, "currentStepIndex": index + 1}})
            } else if !status.pause_conditions.is_empty() {
                json!({"status": {"pauseConditions": null}})
            } else {
                json!({"status": {"pauseConditions": null, "currentStepIndex": (index + 1).min(steps)}})
            };
            cluster.patch_rollout(&patch);
        }
        ["abort", _] => cluster.patch_rollout(&json!({"status": {"abort": true}})),
        ["retry", "rollout", _] => cluster.patch_rollout(&json!({"status": {"abort": false}})),
        ["pause", _] => cluster.patch_rollout(&json!({"spec": {"paused": true}})),
        ["restart", _] => {
            let now = crossfade_api::time::text(cluster.now);
            cluster.patch_rollout(&json!({"spec": {"restartAt": now}}));
        }
        ["undo", _, rest @ ..] => {
            let wanted = rest
                .first()
                .and_then(|flag| flag.strip_prefix("--to-revision=")?.parse::<u64>().ok())
                .unwrap_or(0);
            if let Some(template) = cluster.template_of_revision(wanted) {
                cluster.patch_rollout(&json!({"spec": {"template": template}}));
            }
        }
        _ => {}
    }
}

impl Cluster {
    /// The template of a revision, or of the one before the newest for 0, without what the controller put in.
    fn template_of_revision(&self, wanted: u64) -> Option<Value> {
        let revision = |set: &crate::cluster::Set| -> u64 {
            set.view
                .annotations
                .get(crossfade_api::names::annotation::REVISION)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        let mut sets: Vec<_> = self.sets.values().collect();
        sets.sort_by_key(|set| std::cmp::Reverse(revision(set)));
        let set = if wanted == 0 {
            sets.get(1).copied()
        } else {
            sets.into_iter().find(|set| revision(set) == wanted)
        }?;
        let mut template = set.template.clone();
        if let Some(labels) = template
            .pointer_mut("/metadata/labels")
            .and_then(Value::as_object_mut)
        {
            labels.remove(crossfade_api::names::label::POD_HASH);
        }
        Some(template)
    }
}

impl Comparison {
    /// Every difference, in words; none if the replay shows what the recording showed.
    pub fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        for (aspect, ours) in &self.replayed {
            let theirs = self.recorded.get(aspect).cloned().unwrap_or_default();
            if let Some(strange) = first_not_in_order(ours, &theirs) {
                differences.push(format!("{aspect}: {strange:?} at this point is not in the recording\n    ours:   {ours:?}\n    theirs: {theirs:?}"));
            } else if ours.last() != theirs.last() {
                differences.push(format!(
                    "{aspect}: ends differently\n    ours:   {ours:?}\n    theirs: {theirs:?}"
                ));
            }
        }
        for aspect in self
            .recorded
            .keys()
            .filter(|aspect| !self.replayed.contains_key(*aspect))
        {
            differences.push(format!(
                "{aspect}: only in the recording: {:?}",
                self.recorded[aspect]
            ));
        }
        for (object, ours) in &self.replayed_events {
            let theirs = self
                .recorded_events
                .get(object)
                .cloned()
                .unwrap_or_default();
            // What came after the recorder's limit was lost there.
            let complete = theirs.len() < EVENTS_KEPT;
            let lost = |event: &&String| {
                !theirs.contains(*event)
                    && (complete
                        || ours.iter().position(|one| one == *event) < Some(EVENTS_KEPT - 5))
            };
            for event in ours.iter().filter(lost) {
                differences.push(format!(
                    "event on {object} that the recording lacks: {event}"
                ));
            }
        }
        for (object, theirs) in &self.recorded_events {
            let ours = self
                .replayed_events
                .get(object)
                .cloned()
                .unwrap_or_default();
            let about_routers = |event: &str| {
                ROUTER_REASONS
                    .iter()
                    .any(|reason| event.starts_with(reason))
            };
            let mut missing: Vec<&String> = theirs
                .iter()
                .filter(|event| !ours.contains(event) && !about_routers(event))
                .collect();
            missing.dedup();
            for event in missing {
                differences.push(format!("event on {object} that we lack: {event}"));
            }
        }
        differences
    }
}

/// The first value of ours that does not follow in theirs after the ones before it.
fn first_not_in_order<'o>(ours: &'o [String], theirs: &[String]) -> Option<&'o String> {
    let mut rest = theirs.iter();
    ours.iter().find(|value| !rest.any(|other| other == *value))
}
