//! What users saw of a run, with times: for second opinions, time lines and plots.

use crossfade_api::names::label;
use crossfade_api::rollout_status::{PauseReason, RolloutPhase};

use crate::cluster::Cluster;
use crate::run::since_beginning;
use crate::scenario::{Act, Millis, Version};
use crate::watch::What;

/// What was seen, each change once, in order; and what people did meanwhile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// What was seen.
    pub seen: Vec<Seen>,
    /// What people and machines did.
    pub acts: Vec<(Millis, Act)>,
    /// Reasons and texts of events about the Rollout.
    pub events: Vec<(Millis, String, String)>,
    /// What the release waited for after a pass, where that changed.
    pub waits: Vec<(Millis, Vec<String>)>,
}

/// What is seen at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// When.
    pub at: Millis,
    /// Phase.
    pub phase: RolloutPhase,
    /// Message of the phase.
    pub message: String,
    /// Index of the step under way.
    pub step: Option<i32>,
    /// The release is being taken back.
    pub aborted: bool,
    /// Reasons to pause.
    pub pauses: Vec<PauseReason>,
    /// The stable version.
    pub stable: Option<Version>,
    /// The version of the template that was last acted on.
    pub current: Option<Version>,
    /// The canary's share in the routers, of how much, and the version that gets it.
    pub split: Option<(i32, i32, Option<Version>)>,
    /// Sizes by version.
    pub sizes: Vec<Size>,
    /// Versions that Services select, by name.
    pub services: Vec<(String, Option<Version>)>,
    /// Runs by name with their phases.
    pub runs: Vec<(String, &'static str)>,
}

/// The pods of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// The version.
    pub version: Version,
    /// Pods that are wanted.
    pub wanted: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that are available.
    pub available: i32,
}

impl History {
    pub(crate) fn see(&mut self, cluster: &Cluster, what: &What<'_>) {
        let at = since_beginning(cluster.now);
        match what {
            What::Act(act) => self.acts.push((at, (*act).clone())),
            What::Told(object, event) if object.starts_with("Rollout/") => {
                self.events
                    .push((at, event.reason.clone(), event.message.clone()));
            }
            What::Ended(ended, seen) if seen.rollout().is_some() => {
                let waits: Vec<String> = ended.waits.iter().map(ToString::to_string).collect();
                if self.waits.last().is_none_or(|(_, last)| *last != waits) {
                    self.waits.push((at, waits));
                }
            }
            What::Performed(..) | What::Recorded(..) | What::RunRecorded(_) | What::Life => {
                let now = Seen::of(cluster);
                let same = self.seen.last().is_some_and(|last| {
                    let at = last.at;
                    Seen { at, ..now.clone() } == *last
                });
                if !same {
                    self.seen.push(now);
                }
            }
            What::Fault(_) | What::Performing(..) | What::Told(..) | What::Ended(..) => {}
        }
    }
}

impl Seen {
    /// What is seen of a cluster now.
    pub fn of(cluster: &Cluster) -> Self {
        let at = since_beginning(cluster.now);
        let Some(rollout) = cluster.rollout() else {
            return Self {
                at,
                ..Self::default()
            };
        };
        let status = &rollout.status;
        let pauses = status.pause_conditions.iter().map(|pause| pause.reason);
        let mut sizes: Vec<Size> = cluster
            .sets
            .values()
            .map(|set| Size {
                version: set.version,
                wanted: set.view.replicas,
                ready: set.view.ready,
                available: set.view.available,
            })
            .collect();
        sizes.sort_by_key(|size| size.version);
        let version = |hash: &str| cluster.version_of_hash(hash);
        Self {
            at,
            phase: status.phase,
            message: status.message.clone(),
            step: status.current_step_index,
            aborted: status.abort,
            pauses: pauses.collect(),
            stable: version(status.stable_rs.as_str()),
            current: version(status.current_pod_hash.as_str()),
            split: cluster.split.as_ref().map(|split| {
                let hash = split.canary.hash.as_str();
                (split.canary.weight.0, split.max.0, version(hash))
            }),
            sizes,
            services: cluster
                .services
                .iter()
                .map(|(name, service)| {
                    let hash = service.selector.get(label::POD_HASH);
                    (name.clone(), hash.and_then(|hash| version(hash)))
                })
                .collect(),
            runs: cluster
                .runs
                .iter()
                .map(|(name, run)| (name.clone(), run.status.phase.as_str()))
                .collect(),
        }
    }
}
