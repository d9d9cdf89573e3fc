//! The reference's recordings, played to our engine: the same manifests, the same acts of people at the same moments.
//!
//! People act on what they see, so an act waits until everything stands as it stood in the recording. How the two runs are compared is in
//! [`crate::compare`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cluster::{Answer, Cluster, Life};
use crate::compare::{self, History, Told};
use crate::objects::{self, Objects};
use crate::recording::{Recording, since_begin};
use crate::strike::{Pending, Strike};
use crate::visible::{Visible, by_version};

/// What a recording and its replay show.
pub struct Comparison {
    recorded: History,
    replayed: Vec<Visible>,
    /// Events on our kinds in the recording, by object.
    recorded_events: BTreeMap<String, Vec<Told>>,
    /// The same in the replay.
    replayed_events: BTreeMap<String, Vec<Told>>,
    /// How whole objects differed at moments of the recording.
    at_moments: Vec<String>,
}

/// Plays a recording to our engine, for as long as it was recorded and a little longer.
pub fn replay(recording: &Recording) -> Comparison {
    let recorded = recording.history();
    let mut at_moments = Vec::new();
    let cluster = play(recording, &recorded, None, |cluster, there, moment| {
        let unlike = objects::unlike(cluster, there, &recording.versions());
        at_moments.extend(unlike.iter().map(|one| format!("at {moment}: {one}")));
    });
    let mut replayed_events: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for (object, event) in &cluster.events {
        let text = format!("{}: {}", event.reason, event.message);
        let object = by_version(object, &cluster.versions);
        replayed_events.entry(object).or_default().push(Told {
            warning: event.warning,
            about_router: false,
            text: by_version(&text, &cluster.versions),
        });
    }
    Comparison {
        recorded,
        replayed: cluster.seen,
        recorded_events: recording.events(),
        replayed_events,
        at_moments,
    }
}

/// Plays a recording with its history, with something going wrong once. What is seen at the end, and the number of moments at which it
/// could have gone wrong.
pub fn replay_struck(
    recording: &Recording,
    recorded: &History,
    strike: Strike,
) -> (Visible, usize) {
    /// Longer than all delays of recordings: what goes wrong begins one anew.
    const REST: SignedDuration = SignedDuration::from_secs(30);
    let mut cluster = play(recording, recorded, Some(strike), |_, _, _| {});
    cluster.advance(cluster.now + REST);
    let moments = cluster.strike.as_ref().map_or(0, Pending::moments);
    (Visible::of(&cluster), moments)
}

/// Plays a recording; `look` is called at the moments at which somebody looked at whole objects.
fn play(
    recording: &Recording,
    recorded: &History,
    strike: Option<Strike>,
    mut look: impl FnMut(&Cluster, &Objects, &str),
) -> Cluster {
    let begun: Timestamp = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000);
    let life = Life {
        pass: SignedDuration::from_millis(10),
        ..Life::default()
    };
    let mut cluster = Cluster::new(begun, life);
    cluster.strike = strike.map(Pending::new);
    cluster.reports = recording.reports();
    let is_rollout = |manifest: &&Value| manifest["kind"] == "Rollout";
    let (before, after) = recording.around_rollout();
    for manifest in before {
        cluster.apply(manifest);
    }
    cluster.advance(begun + recording.first());
    for manifest in after.iter().filter(is_rollout) {
        let mut manifest = manifest.clone();
        if manifest["metadata"]["namespace"].is_null() {
            manifest["metadata"]["namespace"] = json!(recording.namespace());
        }
        cluster.apply(&manifest);
    }
    // What was applied after the Rollout had been missing until somebody had looked at it.
    let mut missing: Vec<&Value> = after.iter().filter(|one| !is_rollout(one)).collect();
    let mut there = Objects::default();
    let mut late = SignedDuration::ZERO;
    let mut was_looked_at = false;
    for (place, line) in recording.lines().iter().enumerate() {
        there.follow(line);
        let time = begun + since_begin(line) + late;
        if line["kind"] == "Action" {
            cluster.advance(time);
            late += catch_up(&mut cluster, &recorded.at(place));
            let words = line["do"].as_str().unwrap_or_default();
            if let Some(moment) = words.strip_prefix("snapshot ") {
                was_looked_at = true;
                look(&cluster, &there, moment);
            } else {
                act(&mut cluster, words);
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
            cluster.advance(time);
            cluster.apply(manifest);
        }
    }
    cluster.advance(begun + recording.last() + late);
    catch_up(&mut cluster, &recorded.at(recording.lines().len()));
    cluster
}

/// People act on what they see: waits until everything stands here as it stood there, for a few seconds at most.
fn catch_up(cluster: &mut Cluster, there: &Visible) -> SignedDuration {
    const STEP: SignedDuration = SignedDuration::from_millis(100);
    const PATIENCE: SignedDuration = SignedDuration::from_secs(5);
    let mut waited = SignedDuration::ZERO;
    while waited < PATIENCE && !stands(cluster, there) {
        waited += STEP;
        cluster.advance(cluster.now + STEP);
    }
    waited
}

/// Whether everything is seen as there; a run more than there disturbs nobody.
fn stands(cluster: &Cluster, there: &Visible) -> bool {
    let mut seen = Visible::of(cluster);
    seen.0
        .retain(|thing, _| !thing.starts_with("run ") || there.0.contains_key(thing));
    seen == *there
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
    } else if let Some(patch) = words.strip_prefix("patch deployments ") {
        if let Ok(patch) = serde_json::from_str::<Value>(patch) {
            cluster.patch_reference("Deployment", "app", &patch["spec"]);
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
            cluster.patch_rollout(&json!({"status": {"promoteFull": true}}));
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
        let mut differences = self.recorded.differences(&self.replayed);
        differences.extend(self.at_moments.iter().cloned());
        let none = Vec::new();
        let theirs = self.recorded_events.iter();
        let ours = self.replayed_events.iter();
        let objects: BTreeSet<&String> = theirs.chain(ours).map(|(object, _)| object).collect();
        for object in objects {
            let theirs = self.recorded_events.get(object).unwrap_or(&none);
            let ours = self.replayed_events.get(object).unwrap_or(&none);
            let found = compare::events(ours, theirs).into_iter();
            differences.extend(found.map(|difference| format!("event on {object} {difference}")));
        }
        differences
    }
}
