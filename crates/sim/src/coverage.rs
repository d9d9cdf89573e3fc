//! What the runs of many seeds have reached, and how often; so that blind spots show.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use crossfade_api::names::label;
use crossfade_engine::action::{Action, Split};

use crate::cluster::Cluster;
use crate::run::Outcome;
use crate::watch::{Seen, What};

/// How often each thing was reached, by area.
///
/// Every pass counts something, so things are found by a digest of their names; 64 bits tell some thousands of them apart.
#[derive(Clone, Debug, Default)]
pub struct Coverage(HashMap<u64, Count, BuildHasherDefault<Digested>>);

#[derive(Clone, Debug)]
struct Count {
    area: &'static str,
    thing: String,
    times: u64,
}

/// Keys are digests already.
#[derive(Clone, Copy, Debug, Default)]
struct Digested(u64);

impl Hasher for Digested {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = digest(self.0, bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Goes on with a digest (FNV-1a).
fn digest(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The digest of an area, with which those of its things begin.
fn begin(area: &str) -> u64 {
    digest(digest(0xcbf2_9ce4_8422_2325, area.as_bytes()), b"/")
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (area, things) in self.by_area() {
            for (thing, count) in things {
                writeln!(f, "{count:>10}  {area}: {thing}")?;
            }
        }
        Ok(())
    }
}

impl Coverage {
    /// How often each thing was reached, by area, in order.
    pub fn by_area(&self) -> BTreeMap<&'static str, BTreeMap<&str, u64>> {
        let mut all: BTreeMap<&'static str, BTreeMap<&str, u64>> = BTreeMap::new();
        for one in self.0.values() {
            let things = all.entry(one.area).or_default();
            things.insert(&one.thing, one.times);
        }
        all
    }

    /// How often a thing was reached.
    pub fn of(&self, area: &str, thing: &str) -> u64 {
        let key = digest(begin(area), thing.as_bytes());
        self.0.get(&key).map_or(0, |one| one.times)
    }

    /// Counts a thing once more.
    pub(crate) fn count(&mut self, area: &'static str, thing: &str) {
        let key = digest(begin(area), thing.as_bytes());
        self.add(key, area, || thing.to_owned());
    }

    /// Counts a text without what differs from run to run (see [`plain`]).
    fn count_plain(&mut self, area: &'static str, text: &str) {
        let mut key = begin(area);
        for (index, word) in text.split(' ').enumerate() {
            if index > 0 {
                key = digest(key, b" ");
            }
            key = digest(key, plain_word(word).as_bytes());
        }
        self.add(key, area, || plain(text));
    }

    fn add(&mut self, key: u64, area: &'static str, thing: impl FnOnce() -> String) {
        let one = self.0.entry(key).or_insert_with(|| Count {
            area,
            thing: thing(),
            times: 0,
        });
        one.times += 1;
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (key, one) in &other.0 {
            match self.0.get_mut(key) {
                Some(known) => known.times += one.times,
                None => drop(self.0.insert(*key, one.clone())),
            }
        }
    }

    pub(crate) fn see(&mut self, cluster: &Cluster, what: &What<'_>) {
        match what {
            What::Act(act) => self.count("act", act.word()),
            What::Fault(kind) => self.count("fault", kind.word()),
            What::Performed(action, outcome, _) => {
                let word = action_word(action);
                self.count(if outcome.is_ok() { "action" } else { "refused" }, word);
                if let (Action::Route { router, split }, Ok(_)) = (action, outcome) {
                    self.routed(router, split);
                }
                if let (Action::VerifyRoute { router, .. }, Ok(_)) = (action, outcome) {
                    self.count("verified", router);
                }
            }
            What::Told(_, event) => {
                self.count("event", &event.reason);
                if event.reason == "RolloutStepCompleted" {
                    self.count("step", step_word(&event.message));
                } else if event.reason == "RolloutCompleted" {
                    let why = event.message.rsplit(": ").next().unwrap_or_default();
                    self.count_plain("promotion", why);
                } else if event.reason == "RolloutAborted" {
                    let cause = event.message.split(": ").nth(1).unwrap_or("a person");
                    self.count_plain("abort", cause);
                }
            }
            What::Recorded(before, _) => {
                let Some(rollout) = cluster.rollout() else {
                    return;
                };
                let (old, new) = (&before.status, &rollout.status);
                if (old.phase, &old.message) != (new.phase, &new.message) {
                    let text = new.message.split(": ").next().unwrap_or_default();
                    self.count("phase", &format!("{} {}", new.phase, plain(text)));
                }
                for condition in &new.conditions {
                    let told = |one: &crossfade_api::rollout_status::RolloutCondition| {
                        one.kind == condition.kind
                            && one.reason == condition.reason
                            && one.status == condition.status
                    };
                    if !old.conditions.iter().any(told) {
                        let text = format!(
                            "{}={} {}",
                            condition.kind, condition.status, condition.reason
                        );
                        self.count("condition", &text);
                    }
                }
            }
            What::RunRecorded(before) => {
                let name = before.metadata.name.as_deref().unwrap_or_default();
                let Some(run) = cluster.runs.get(name) else {
                    return;
                };
                if run.status.phase != before.status.phase {
                    let labels = run.metadata.labels.as_ref();
                    let purpose = labels.and_then(|labels| labels.get(label::ROLLOUT_TYPE));
                    let purpose = purpose.map_or("", String::as_str);
                    self.count("run", &format!("{purpose} {}", run.status.phase));
                }
            }
            What::Ended(ended, Seen::Rollout(_)) => {
                for wait in &ended.waits {
                    self.count_plain("wait", &wait.for_what);
                }
            }
            What::Life | What::Performing(..) | What::Ended(..) => {}
        }
    }

    /// What a split that a router was given is like.
    fn routed(&mut self, router: &str, split: &Split) {
        self.count("router", router);
        if split.canary.service.is_empty() {
            self.count("router", &format!("{router} by subsets"));
        }
        if split.header_routes.len() > 1 {
            self.count("router", "several header routes");
        }
        if split.mirror_routes.len() > 1 {
            self.count("router", "several mirror routes");
        }
    }

    pub(crate) fn end(&mut self, outcome: &Outcome) {
        if outcome.gone {
            self.count("outcome", "deleted");
            return;
        }
        let how = match (outcome.aborted, outcome.stable == outcome.current) {
            (true, _) => "taken back",
            (false, true) => "promoted",
            (false, false) => "under way",
        };
        self.count("outcome", &format!("{} {how}", outcome.phase));
    }
}

/// A text without what differs from run to run: numbers and names with numbers become `#`.
fn plain(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            all.push(' ');
        }
        all.push_str(plain_word(word));
    }
    all
}

fn plain_word(word: &str) -> &str {
    let numbered = word.bytes().any(|byte| byte.is_ascii_digit());
    if numbered { "#" } else { word }
}

/// The kind of step that an event tells of: `Rollout step 1/2 completed (setWeight: 20)`.
fn step_word(message: &str) -> &str {
    let text = message.split('(').nth(1).unwrap_or_default();
    let end = text.find([':', '{', ')']).unwrap_or(text.len());
    match (&text[..end], text.contains("pause: ")) {
        ("pause", true) => "pause with a duration",
        (word, _) => word,
    }
}

/// A word for an action, the same for all of its kind.
fn action_word(action: &Action) -> &'static str {
    match action {
        Action::CreateReplicaSet(_) => "create ReplicaSet",
        Action::UpdateReplicaSet { .. } => "update ReplicaSet",
        Action::DeleteReplicaSet { .. } => "delete ReplicaSet",
        Action::AdoptReplicaSet { .. } => "adopt ReplicaSet",
        Action::ReleaseReplicaSet { .. } => "release ReplicaSet",
        Action::UpdateRollout { .. } => "update Rollout",
        Action::SwitchService { .. } => "switch Service",
        Action::ReleaseService { .. } => "release Service",
        Action::Route { .. } => "route",
        Action::VerifyRoute { .. } => "verify route",
        Action::EvictPod { .. } => "evict pod",
        Action::UpdatePodMetadata { .. } => "label pod",
        Action::CreateAnalysisRun(_) => "create AnalysisRun",
        Action::TerminateAnalysisRun { .. } => "terminate AnalysisRun",
        Action::DeleteAnalysisRun { .. } => "delete AnalysisRun",
        Action::CreateExperiment(_) => "create Experiment",
        Action::TerminateExperiment { .. } => "terminate Experiment",
        Action::DeleteExperiment { .. } => "delete Experiment",
        Action::CreateService(_) => "create Service",
        Action::DeleteService { .. } => "delete Service",
        Action::ScaleDeployment { .. } => "scale Deployment",
        Action::Measure(_) => "measure",
        Action::CreateJob(_) => "create Job",
        Action::DeleteJob { .. } => "delete Job",
        Action::Canary(_) => "act for a Canary",
    }
}
