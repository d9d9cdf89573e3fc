//! A whole run as data: what is applied, how versions behave, what happens when, and what goes wrong.
//!
//! Nothing in a run is decided outside of this, so a run can be repeated, told, and made smaller by leaving things out.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Milliseconds from the beginning of a run.
pub type Millis = u64;

/// A version of the template: `image: …:v3` is version 3.
pub type Version = u8;

/// Everything that decides a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// The seed it was made from; 0 for one made by hand.
    pub seed: u64,
    /// What is applied at the beginning, as users write it. The Rollout's template is version 1.
    pub manifests: Vec<Value>,
    /// How versions behave, version 1 first; the last one speaks for all later ones.
    pub versions: Vec<Nature>,
    /// How things around behave.
    pub surroundings: Surroundings,
    /// What people and machines do, in any order.
    pub happenings: Vec<Happening>,
    /// What goes wrong in the controller's own house, in any order.
    pub faults: Vec<Fault>,
    /// After all that, somebody ends every pause that nothing else ends.
    pub closing: bool,
    /// Metrics answer so that the conditions which stand in the manifests say good or bad; otherwise with fixed numbers.
    #[serde(default)]
    pub as_written: bool,
}

/// How one version behaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nature {
    /// From a pod's creation to its readiness.
    pub start: Millis,
    /// The n-th pod takes so much longer than the one before, up to eight times.
    pub stagger: Millis,
    /// What becomes of its pods.
    pub fate: Fate,
    /// What metrics say of it: a later entry for the same metric holds from its time on.
    pub answers: Vec<Say>,
    /// Jobs that judge it fail.
    pub jobs_fail: bool,
}

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It becomes ready and stays so.
    #[default]
    Ready,
    /// It never becomes ready.
    Never,
    /// It is ready for `after`, then not for `back`, and so on for `times` times.
    Crashes {
        /// Time that it is ready.
        after: Millis,
        /// Time until it is ready again.
        back: Millis,
        /// How often.
        times: u8,
    },
}

/// What a metric says from a time on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Say {
    /// Name of the metric; empty for all.
    pub metric: String,
    /// Counted from the creation of the version's ReplicaSet.
    pub from: Millis,
    /// What it says.
    pub answer: Reply,
}

/// What a metric says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reply {
    /// A value that meets the success condition.
    Good,
    /// A value that meets the failure condition.
    Bad,
    /// A value that meets neither.
    Doubtful,
    /// An empty answer.
    Nothing,
    /// No answer.
    Down,
    /// Good and bad in turn.
    Flaky,
}

/// How things around behave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Surroundings {
    /// From a pod's deletion until it is gone.
    pub end: Millis,
    /// How long a Job runs.
    pub job: Millis,
    /// The routers can be asked whether a weight is in force; it is this long after it was set.
    pub confirms_after: Option<Millis>,
    /// From a change to the pass that it leads to.
    pub notice: Millis,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            end: 800,
            job: 1500,
            confirms_after: None,
            notice: 0,
        }
    }
}

/// Something that people or machines do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// When.
    pub at: Millis,
    /// What.
    pub act: Act,
}

/// What people and machines do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Act {
    /// A new template, or an old one again.
    Deploy(Version),
    /// Back to the template of the revision before.
    Undo,
    /// `spec.paused` becomes true.
    Pause,
    /// What `promote` does: ends the pause, or goes beyond the step.
    Promote,
    /// Without the remaining steps.
    PromoteFull,
    /// Beyond the present step.
    SkipStep,
    /// Beyond all steps.
    SkipSteps,
    /// Takes the release back.
    Abort,
    /// Tries it again.
    Retry,
    /// Another number of pods, by hand or by an autoscaler.
    Scale(i32),
    /// All pods anew, one after the other.
    Restart,
    /// The manifest is applied again as it was, version and number of pods included.
    Reapply,
    /// Other canary steps; without effect on blue-green.
    EditSteps(Vec<Value>),
    /// Another strategy.
    ChangeStrategy(Value),
    /// One pod of a version is not ready for a while.
    PodCrash(Version, Millis),
    /// Every second pod is gone at once.
    NodeLoss,
    /// Somebody sets the number of pods of a version's ReplicaSet.
    ForeignScale(Version, i32),
    /// Routers refuse every change for so long.
    RouterDown(Millis),
    /// Routers do not confirm for so long.
    RouterSlow(Millis),
    /// Somebody changes the router's objects: so much to the canary.
    RouterDrift(i32),
    /// Metric servers do not answer for so long.
    MetricsDown(Millis),
    /// A Service is deleted and made again after so long.
    ServiceLost(Millis),
    /// The Rollout is deleted, and applied again after so long, if ever.
    Delete(Propagation, Option<Millis>),
}

/// What becomes of that which a deleted Rollout owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// It goes after the Rollout.
    Background,
    /// It goes before the Rollout.
    Foreground,
    /// It stays, owned by nobody.
    Orphan,
}

/// A fault in the controller's own house.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// It waits for its moment from here on.
    pub at: Millis,
    /// So many moments are let go by first.
    pub skip: u8,
    /// What goes wrong.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// The controller dies before an action.
    CrashBefore,
    /// The controller dies after an action, before it hears how it ended.
    CrashAfter,
    /// The controller dies before the status is recorded.
    CrashUnrecorded,
    /// The controller dies after the status is recorded, before events are told.
    CrashUntold,
    /// Somebody else changed the object first.
    Conflict,
    /// The write happens, the answer does not arrive.
    LostReply,
    /// The API server refuses.
    Refused,
    /// The status is not recorded, because of somebody else's change.
    StatusConflict,
    /// The status is recorded, the answer does not arrive.
    StatusLost,
    /// For so long some kind of object is seen as it was.
    Stale(Kind, Millis),
    /// The controller's clock jumps by so many milliseconds.
    Clock(i64),
    /// The controller does nothing for so long.
    Busy(Millis),
    /// Another controller takes over before an action; so much later the former one carries out that action.
    Usurped(Millis),
    /// Passes without a reason, for so many rounds.
    Extra(u8),
}

/// Kinds of objects that are observed each by a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The Rollout.
    Rollout,
    /// ReplicaSets.
    ReplicaSets,
    /// Pods.
    Pods,
    /// Services.
    Services,
    /// AnalysisRuns.
    Runs,
    /// Router objects.
    Routers,
}

impl Scenario {
    /// How a version behaves.
    pub fn nature(&self, version: Version) -> Option<&Nature> {
        let index = usize::from(version).saturating_sub(1);
        self.versions.get(index).or(self.versions.last())
    }

    /// The last moment at which something is due to happen or to go wrong.
    pub fn troubled_until(&self) -> Millis {
        let acts = self.happenings.iter().map(|one| one.at + one.act.lasts());
        let faults = self.faults.iter().map(|one| one.at + one.kind.lasts());
        acts.chain(faults).max().unwrap_or(0)
    }
}

impl Act {
    /// For how long it lasts.
    pub fn lasts(&self) -> Millis {
        match self {
            Self::PodCrash(_, lasts)
            | Self::RouterDown(lasts)
            | Self::RouterSlow(lasts)
            | Self::MetricsDown(lasts)
            | Self::ServiceLost(lasts) => *lasts,
            Self::Delete(_, back) => back.unwrap_or(0),
            Self::Deploy(_)
            | Self::Undo
            | Self::Pause
            | Self::Promote
            | Self::PromoteFull
            | Self::SkipStep
            | Self::SkipSteps
            | Self::Abort
            | Self::Retry
            | Self::Scale(_)
            | Self::Restart
            | Self::Reapply
            | Self::EditSteps(_)
            | Self::ChangeStrategy(_)
            | Self::NodeLoss
            | Self::ForeignScale(..)
            | Self::RouterDrift(_) => 0,
        }
    }

    /// A word for it, the same for all of its kind.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Deploy(_) => "deploy",
            Self::Undo => "undo",
            Self::Pause => "pause",
            Self::Promote => "promote",
            Self::PromoteFull => "promote full",
            Self::SkipStep => "skip step",
            Self::SkipSteps => "skip steps",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Scale(_) => "scale",
            Self::Restart => "restart",
            Self::Reapply => "re-apply",
            Self::EditSteps(_) => "edit steps",
            Self::ChangeStrategy(strategy) if strategy["canary"].is_null() => "become blue-green",
            Self::ChangeStrategy(_) => "become a canary",
            Self::PodCrash(..) => "pod crash",
            Self::NodeLoss => "node loss",
            Self::ForeignScale(..) => "foreign scale",
            Self::RouterDown(_) => "router down",
            Self::RouterSlow(_) => "router slow",
            Self::RouterDrift(_) => "router drift",
            Self::MetricsDown(_) => "metrics down",
            Self::ServiceLost(_) => "service lost",
            Self::Delete(Propagation::Background, _) => "delete",
            Self::Delete(Propagation::Foreground, _) => "delete last",
            Self::Delete(Propagation::Orphan, _) => "delete alone",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deploy(version) => write!(f, "the user deploys v{version}"),
            Self::Undo => write!(f, "the user undoes"),
            Self::Pause => write!(f, "the user pauses"),
            Self::Promote => write!(f, "the user promotes"),
            Self::PromoteFull => write!(f, "the user promotes in full"),
            Self::SkipStep => write!(f, "the user skips a step"),
            Self::SkipSteps => write!(f, "the user skips all steps"),
            Self::Abort => write!(f, "the user aborts"),
            Self::Retry => write!(f, "the user retries"),
            Self::Scale(pods) => write!(f, "somebody scales to {pods}"),
            Self::Restart => write!(f, "the user restarts"),
            Self::Reapply => write!(f, "the user applies the manifest again"),
            Self::EditSteps(steps) => {
                write!(
                    f,
                    "the user edits the steps: {}",
                    Value::from(steps.clone())
                )
            }
            Self::ChangeStrategy(strategy) => {
                write!(f, "the user changes the strategy: {strategy}")
            }
            Self::PodCrash(version, lasts) => {
                write!(f, "a pod of v{version} crashes for {lasts} ms")
            }
            Self::NodeLoss => write!(f, "a node is lost with every second pod"),
            Self::ForeignScale(version, pods) => {
                write!(f, "somebody scales the ReplicaSet of v{version} to {pods}")
            }
            Self::RouterDown(lasts) => write!(f, "routers refuse changes for {lasts} ms"),
            Self::RouterSlow(lasts) => write!(f, "routers do not confirm for {lasts} ms"),
            Self::RouterDrift(weight) => {
                write!(f, "somebody gives the canary a weight of {weight}")
            }
            Self::MetricsDown(lasts) => {
                write!(f, "metric servers do not answer for {lasts} ms")
            }
            Self::ServiceLost(lasts) => write!(f, "a Service is deleted for {lasts} ms"),
            Self::Delete(how, back) => {
                let what = match how {
                    Propagation::Background => "the Rollout, then what it owns",
                    Propagation::Foreground => "what the Rollout owns, then the Rollout",
                    Propagation::Orphan => "the Rollout alone",
                };
                write!(f, "the user deletes {what}")?;
                match back {
                    Some(back) => write!(f, ", and applies it again {back} ms later"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl FaultKind {
    /// For how long it lasts.
    pub fn lasts(self) -> Millis {
        match self {
            Self::Stale(_, lasts) | Self::Busy(lasts) | Self::Usurped(lasts) => lasts,
            Self::CrashBefore
            | Self::CrashAfter
            | Self::CrashUnrecorded
            | Self::CrashUntold
            | Self::Conflict
            | Self::LostReply
            | Self::Refused
            | Self::StatusConflict
            | Self::StatusLost
            | Self::Clock(_)
            | Self::Extra(_) => 0,
        }
    }

    /// A word for it, the same for all of its kind.
    pub fn word(self) -> &'static str {
        match self {
            Self::CrashBefore => "crash before an action",
            Self::CrashAfter => "crash after an action",
            Self::CrashUnrecorded => "crash before the status",
            Self::CrashUntold => "crash before the events",
            Self::Conflict => "conflict",
            Self::LostReply => "lost reply",
            Self::Refused => "refused write",
            Self::StatusConflict => "status conflict",
            Self::StatusLost => "lost reply to the status",
            Self::Stale(Kind::Rollout, _) => "stale Rollout",
            Self::Stale(Kind::ReplicaSets, _) => "stale ReplicaSets",
            Self::Stale(Kind::Pods, _) => "stale pods",
            Self::Stale(Kind::Services, _) => "stale Services",
            Self::Stale(Kind::Runs, _) => "stale AnalysisRuns",
            Self::Stale(Kind::Routers, _) => "stale routers",
            Self::Clock(_) => "clock jump",
            Self::Busy(_) => "busy controller",
            Self::Usurped(_) => "change of leadership",
            Self::Extra(_) => "extra passes",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale(_, lasts) => write!(f, "{} for {lasts} ms", self.word()),
            Self::Clock(by) => write!(f, "the controller's clock jumps by {by} ms"),
            Self::Busy(lasts) => write!(f, "the controller is busy for {lasts} ms"),
            Self::Usurped(lasts) => write!(
                f,
                "another controller takes over; the former one acts {lasts} ms later"
            ),
            Self::CrashBefore
            | Self::CrashAfter
            | Self::CrashUnrecorded
            | Self::CrashUntold
            | Self::Conflict
            | Self::LostReply
            | Self::Refused
            | Self::StatusConflict
            | Self::StatusLost
            | Self::Extra(_) => f.write_str(self.word()),
        }
    }
}
