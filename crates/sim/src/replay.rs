//! The reference's recordings, played to our engine: the same manifests, the same acts of people at the same moments.
//!
//! People act on what they see, so an act waits until everything stands as it stood in the recording. How the two runs are compared is in
//! [`crate::compare`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::cluster::{Answer, Cluster, Life};
use crate::compare::{self, History, Told};
use crate::objects::Objects;
use crate::person::{self, Act};
use crate::recording::{Recording, What};
use crate::standing::is_like;
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
        let here = Objects::of(cluster);
        let unlike = here.unlike(&cluster.versions, there, &recording.versions());
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
    let mut late = SignedDuration::ZERO;
    for step in recording.steps() {
        cluster.advance(begun + step.at + late);
        match step.what {
            What::Apply(manifest) => cluster.apply(&manifest),
            What::Look(moment) => {
                late += catch_up(&mut cluster, &recorded.at(step.place));
                look(&cluster, &recording.objects(step.place), &moment);
            }
            What::Do(words) => {
                late += catch_up(&mut cluster, &recorded.at(step.place));
                act(&mut cluster, &words);
            }
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
    while waited < PATIENCE && !is_like(&Visible::of(cluster), there) {
        waited += STEP;
        cluster.advance(cluster.now + STEP);
    }
    waited
}

/// Does what a person did.
fn act(cluster: &mut Cluster, words: &str) {
    let Some(rollout) = cluster.rollout() else {
        return;
    };
    let template = |revision| cluster.template_of_revision(revision);
    match person::act(words, rollout, cluster.now, template) {
        Some(Act::Rollout(patch)) => cluster.patch_rollout(&patch),
        Some(Act::Deployment(name, patch)) => {
            cluster.patch_reference("Deployment", name, &patch["spec"]);
        }
        Some(Act::Metric { name, answer }) => {
            let answer = match answer.parse() {
                Ok(number) => Answer::Value(number),
                Err(_) if answer == "down" => Answer::Down,
                Err(_) => Answer::Text(answer),
            };
            cluster.answer(&name, answer);
        }
        None => {}
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
