//! What the runs of many seeds have reached, and how often; so that blind spots show.

use std::collections::BTreeMap;

use crossfade_engine::action::Action;

use crate::run::Outcome;
use crate::watch::What;

/// How often each thing was reached: `area: thing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(pub BTreeMap<String, u64>);

impl Coverage {
    /// Counts one more.
    pub(crate) fn add(&mut self, area: &str, thing: &str) {
        let key = format!("{area}: {thing}");
        *self.0.entry(key).or_default() += 1;
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.0 {
            *self.0.entry(key.clone()).or_default() += count;
        }
    }

    pub(crate) fn see(&mut self, what: &What<'_>) {
        match what {
            What::Act(act) => self.add("act", act.word()),
            What::Fault(kind) => self.add("fault", kind.word()),
            What::Performed(action, outcome, _) => {
                let word = action_word(action);
                self.add(if outcome.is_ok() { "action" } else { "refused" }, word);
            }
            What::Told(_, event) => self.add("event", &event.reason),
            What::Life
            | What::Performing(..)
            | What::Recorded(..)
            | What::RunRecorded(_)
            | What::Ended(..) => {}
        }
    }

    pub(crate) fn end(&mut self, outcome: &Outcome) {
        let how = match (outcome.aborted, outcome.stable == outcome.current) {
            (true, _) => "taken back",
            (false, true) => "promoted",
            (false, false) => "under way",
        };
        self.add("outcome", &format!("{} {how}", outcome.phase));
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
        Action::Measure(_) => "measure",
        Action::CreateJob(_) => "create Job",
        Action::DeleteJob { .. } => "delete Job",
    }
}
