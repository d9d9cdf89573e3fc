//! A whole run of a Canary as data: what is applied, how versions, metrics and gates behave, what happens when, and what goes wrong.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scenario::{Millis, Reply, Version};

/// Everything that decides a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// The seed it was made from; 0 for one made by hand.
    pub seed: u64,
    /// What is applied at the beginning, as users write it. The target's image is version 1.
    pub manifests: Vec<Value>,
    /// How versions behave, version 1 first; the last one speaks for all later ones.
    pub versions: Vec<Nature>,
    /// What webhooks answer, by name; all others agree.
    pub hooks: BTreeMap<String, Hook>,
    /// What people and machines do, in any order.
    pub happenings: Vec<Happening>,
    /// What goes wrong in the controller's own house.
    pub faults: Vec<Fault>,
}

/// How one version behaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nature {
    /// From a change of the template to its readiness; never without it.
    pub ready_after: Option<Millis>,
    /// What metrics say of it, from how long after it was deployed; a later entry for the same metric holds from its time on.
    pub says: Vec<(String, Millis, Reply)>,
}

/// What a webhook answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Hook {
    /// It always agrees.
    Open,
    /// It never does.
    Closed,
    /// It agrees from this time on.
    OpensAt(Millis),
    /// Opened at each of these times, it agrees once and closes by itself.
    OneShot(Vec<Millis>),
    /// It agrees every other time.
    Flaky,
    /// It breaks down instead of answering.
    Broken,
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
    /// A new image, or an old one again.
    Deploy(Version),
    /// Another value in the ConfigMap that the target reads.
    Configure(u8),
    /// Somebody, or an autoscaler, sets the target's number of pods.
    Scale(i64),
    /// `spec.suspend`.
    Suspend(bool),
    /// `spec.skipAnalysis`.
    SkipAnalysis(bool),
    /// Other numbers in the analysis.
    EditAnalysis(Value),
    /// Somebody gives the primary another number of pods.
    ScalePrimary(i64),
    /// Somebody deletes the primary.
    DropPrimary,
    /// Somebody deletes one of the Services: 0 for the one that users call, 1 for the primary's, 2 for the canary's.
    DropService(u8),
    /// Somebody points one of the Services elsewhere.
    EditService(u8),
    /// All pods of the target, or of the primary, are not available for so long.
    PodsLost(bool, Millis),
    /// Routers refuse every change for so long.
    RouterDown(Millis),
    /// Metric providers do not answer for so long.
    MetricsDown(Millis),
    /// The target is deleted, and applied again after so long.
    DropTarget(Millis),
    /// The Canary is deleted, and applied again after so long, if ever.
    Delete(Option<Millis>),
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
    /// Passes without a reason, so many.
    Extra(u8),
}

/// Kinds of objects that are observed each by a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// The Canary.
    Canary,
    /// The target and its primary.
    Workloads,
    /// Services.
    Services,
    /// ConfigMaps and Secrets.
    Configs,
    /// Autoscalers.
    Autoscalers,
}

impl Kind {
    /// The kind that an object of this name belongs to.
    pub(super) fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "Canary" => Self::Canary,
            "Deployment" | "DaemonSet" => Self::Workloads,
            "Service" => Self::Services,
            "ConfigMap" | "Secret" => Self::Configs,
            "HorizontalPodAutoscaler" | "ScaledObject" => Self::Autoscalers,
            _ => return None,
        })
    }
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

    /// The Canary as it is applied.
    pub fn canary(&self) -> Option<&Value> {
        let mut manifests = self.manifests.iter();
        manifests.find(|manifest| manifest["kind"] == "Canary")
    }
}

impl Act {
    /// For how long it lasts.
    pub fn lasts(&self) -> Millis {
        match self {
            Self::PodsLost(_, lasts)
            | Self::RouterDown(lasts)
            | Self::MetricsDown(lasts)
            | Self::DropTarget(lasts) => *lasts,
            Self::Delete(back) => back.unwrap_or(0),
            _ => 0,
        }
    }

    /// A word for it, the same for all of its kind.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Deploy(_) => "deploy",
            Self::Configure(_) => "configure",
            Self::Scale(_) => "scale",
            Self::Suspend(true) => "suspend",
            Self::Suspend(false) => "resume",
            Self::SkipAnalysis(true) => "skip the analysis",
            Self::SkipAnalysis(false) => "analyse again",
            Self::EditAnalysis(_) => "edit the analysis",
            Self::ScalePrimary(_) => "scale the primary",
            Self::DropPrimary => "delete the primary",
            Self::DropService(_) => "delete a Service",
            Self::EditService(_) => "edit a Service",
            Self::PodsLost(false, _) => "pods of the target lost",
            Self::PodsLost(true, _) => "pods of the primary lost",
            Self::RouterDown(_) => "router down",
            Self::MetricsDown(_) => "metrics down",
            Self::DropTarget(_) => "delete the target",
            Self::Delete(_) => "delete",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deploy(version) => write!(f, "the user deploys v{version}"),
            Self::Configure(value) => write!(f, "the user sets the configuration to {value}"),
            Self::Scale(pods) => write!(f, "somebody scales the target to {pods}"),
            Self::ScalePrimary(pods) => write!(f, "somebody scales the primary to {pods}"),
            Self::EditAnalysis(patch) => write!(f, "the user edits the analysis: {patch}"),
            Self::DropService(which) => write!(f, "somebody deletes Service {which}"),
            Self::EditService(which) => write!(f, "somebody edits Service {which}"),
            Self::Delete(Some(back)) => {
                write!(
                    f,
                    "the user deletes the Canary, and applies it again {back} ms later"
                )
            }
            Self::Delete(None) => write!(f, "the user deletes the Canary"),
            _ if self.lasts() > 0 => write!(f, "{} for {} ms", self.word(), self.lasts()),
            _ => f.write_str(self.word()),
        }
    }
}

impl FaultKind {
    /// For how long it lasts.
    pub fn lasts(self) -> Millis {
        match self {
            Self::Stale(_, lasts) | Self::Busy(lasts) | Self::Usurped(lasts) => lasts,
            _ => 0,
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
            Self::Stale(Kind::Canary, _) => "stale Canary",
            Self::Stale(Kind::Workloads, _) => "stale workloads",
            Self::Stale(Kind::Services, _) => "stale Services",
            Self::Stale(Kind::Configs, _) => "stale configurations",
            Self::Stale(Kind::Autoscalers, _) => "stale autoscalers",
            Self::Clock(_) => "clock jump",
            Self::Busy(_) => "busy controller",
            Self::Usurped(_) => "change of leadership",
            Self::Extra(_) => "extra passes",
        }
    }

    /// It waits for no moment of a pass.
    pub(super) fn comes_by_itself(self) -> bool {
        matches!(
            self,
            Self::Stale(..) | Self::Clock(_) | Self::Busy(_) | Self::Extra(_)
        )
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match (self, self.lasts()) {
            (Self::Clock(by), _) => write!(f, " by {by} ms"),
            (_, 0) => Ok(()),
            (_, lasts) => write!(f, " for {lasts} ms"),
        }
    }
}
