//! What the runs of many seeds have reached, and how often; so that blind spots show.

use std::collections::BTreeMap;
use std::fmt;

use crossfade_api::names::label;
use crossfade_engine::action::{Action, Split};

use crate::cluster::Cluster;
use crate::run::Outcome;
use crate::watch::{Seen, What};

/// How often each thing was reached, by area.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(pub BTreeMap<&'static str, BTreeMap<String, u64>>);

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (area, things) in &self.0 {
            for (thing, count) in things {
                writeln!(f, "{count:>10}  {area}: {thing}")?;
            }
        }
        Ok(())
    }
}

impl Coverage {
    /// How often a thing was reached.
    pub fn of(&self, area: &str, thing: &str) -> u64 {
        let things = self.0.get(area);
        things
            .and_then(|things| things.get(thing))
            .copied()
            .unwrap_or(0)
    }

    fn add(&mut self, area: &'static str, thing: &str) {
        let things = self.0.entry(area).or_default();
        match things.get_mut(thing) {
            Some(count) => *count += 1,
            None => {
                things.insert(thing.to_owned(), 1);
            }
        }
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (area, things) in &other.0 {
            let sum = self.0.entry(area).or_default();
            for (thing, count) in things {
                match sum.get_mut(thing) {
                    Some(known) => *known += count,
                    None => {
                        sum.insert(thing.clone(), *count);
                    }
                }
            }
        }
    }

    pub(crate) fn see(&mut self, cluster: &Cluster, what: &What<'_>) {
        match what {
            What::Act(act) => self.add("act", act.word()),
            What::Fault(kind) => self.add("fault", kind.word()),
            What::Performed(action, outcome, _) => {
                let word = action_word(action);
                self.add(if outcome.is_ok() { "action" } else { "refused" }, word);
                if let (Action::Route { router, split }, Ok(_)) = (action, outcome) {
                    self.routed(router, split);
                }
                if let (Action::VerifyRoute { router, .. }, Ok(_)) = (action, outcome) {
                    self.add("verified", router);
                }
            }
            What::Told(_, event) => {
                self.add("event", &event.reason);
                if event.reason == "RolloutStepCompleted" {
                    self.add("step", step_word(&event.message));
                } else if event.reason == "RolloutCompleted" {
                    let why = event.message.rsplit(": ").next().unwrap_or_default();
                    self.add("promotion", &plain(why));
                } else if event.reason == "RolloutAborted" {
                    let cause = event.message.split(": ").nth(1).unwrap_or("a person");
                    self.add("abort", &plain(cause));
                }
            }
            What::Recorded(before, _) => {
                let Some(rollout) = cluster.rollout() else {
                    return;
                };
                let (old, new) = (&before.status, &rollout.status);
                if (old.phase, &old.message) != (new.phase, &new.message) {
                    let text = new.message.split(": ").next().unwrap_or_default();
                    self.add("phase", &format!("{} {}", new.phase, plain(text)));
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
                        self.add("condition", &text);
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
                    self.add("run", &format!("{purpose} {}", run.status.phase));
                }
            }
            What::Ended(ended, Seen::Rollout(_)) => {
                for wait in &ended.waits {
                    self.add("wait", &plain(&wait.for_what));
                }
            }
            What::Life | What::Performing(..) | What::Ended(..) => {}
        }
    }

    /// What a split that a router was given is like.
    fn routed(&mut self, router: &str, split: &Split) {
        self.add("router", router);
        if split.canary.service.is_empty() {
            self.add("router", &format!("{router} by subsets"));
        }
        if split.header_routes.len() > 1 {
            self.add("router", "several header routes");
        }
        if split.mirror_routes.len() > 1 {
            self.add("router", "several mirror routes");
        }
    }

    pub(crate) fn end(&mut self, outcome: &Outcome) {
        if outcome.gone {
            self.add("outcome", "deleted");
            return;
        }
        let how = match (outcome.aborted, outcome.stable == outcome.current) {
            (true, _) => "taken back",
            (false, true) => "promoted",
            (false, false) => "under way",
        };
        self.add("outcome", &format!("{} {how}", outcome.phase));
    }
}

/// A text without what differs from run to run: numbers and names with numbers become `#`.
fn plain(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            all.push(' ');
        }
        let numbered = word.bytes().any(|byte| byte.is_ascii_digit());
        all.push_str(if numbered { "#" } else { word });
    }
    all
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
