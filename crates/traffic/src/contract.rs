//! The contract between routers and the world that observes and changes their objects.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crossfade_api::split::{Cookies, Shares, Split};
use crossfade_api::words::PodHash;
use crossfade_api::{Canary, LabelSelector};
use serde_json::Value;

/// One router that a Rollout configures.
pub trait Router: Send + Sync {
    /// Its type as users and events name it: `Istio`, `Nginx`, `GatewayAPI`, …
    fn kind(&self) -> &'static str;

    /// What it can do beside weights.
    fn capabilities(&self) -> Capabilities;

    /// The objects to observe before anything is planned; watching them wakes the Rollout when somebody else changes them.
    fn needs(&self, subject: &Subject<'_>, split: &Split) -> Vec<Need>;

    /// What must change so that the objects carry the split.
    fn plan(&self, subject: &Subject<'_>, observed: &Observed, split: &Split) -> Plan;

    /// Whether the split is in force, as far as that can be told from the objects; `None` for a router that cannot tell.
    fn verify(&self, _subject: &Subject<'_>, _observed: &Observed, _split: &Split) -> Option<bool> {
        None
    }
}

/// The router of a Canary. Most of its objects are its own: made from the Canary, and repaired where they differ from it.
pub trait CanaryRouter: Send + Sync {
    /// The objects to observe before anything is planned or read.
    fn needs(&self, subject: &RoutedCanary<'_>) -> Vec<Need>;

    /// What must change so that the objects are as wished.
    fn plan(&self, subject: &RoutedCanary<'_>, observed: &Observed, wish: &Wish<'_>) -> Plan;

    /// Where requests go, as the objects say.
    ///
    /// # Errors
    /// The objects are not there, do not say it, or what they say is not in force yet.
    fn read(&self, subject: &RoutedCanary<'_>, observed: &Observed) -> Result<Shares, RouteError>;
}

/// A Canary as its router sees it.
#[derive(Clone, Copy, Debug)]
pub struct RoutedCanary<'a> {
    /// The Canary.
    pub canary: &'a Canary,
    /// Key of the label that tells the target's pods from others; empty for a target that is a Service.
    pub label: &'a str,
}

/// What a router is asked to make of a Canary's objects.
#[derive(Clone, Copy, Debug)]
pub enum Wish<'a> {
    /// They are there and as the Canary says. Shares that are in force stay; new objects send all requests to the primary.
    Kept,
    /// They carry these shares; with the cookies of session affinity, where the Canary has that.
    Split(&'a Shares, Option<&'a Cookies>),
    /// Those that were there before the Canary are as they were.
    Restored,
}

/// What a router can do beside splitting by weight.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a capability of its own"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It sends requests with certain headers to the canary.
    pub header_routes: bool,
    /// It copies requests to the canary.
    pub mirror_routes: bool,
    /// It sends shares of the traffic to experiments.
    pub additional: bool,
    /// It takes weights out of another number than 100; others get percent.
    pub any_maximum: bool,
    /// It can say whether a split is in force.
    pub verifies: bool,
}

impl Capabilities {
    /// What a split asks for that this router leaves out, in the words of the Warning `TrafficRouterCapability`.
    pub fn lacking(self, kind: &str, split: &Split) -> Vec<Note> {
        let lacks = [
            (
                !self.header_routes && !split.header_routes.is_empty(),
                "setHeaderRoute",
            ),
            (
                !self.mirror_routes && !split.mirror_routes.is_empty(),
                "setMirrorRoute",
            ),
            (
                !self.additional && !split.additional.is_empty(),
                "experiment weights",
            ),
        ];
        let lacks = lacks.into_iter().filter(|(lacks, _)| *lacks);
        lacks
            .map(|(_, operation)| {
                Note::warning(
                    "TrafficRouterCapability",
                    format!("{kind} does not support {operation}; step ignored"),
                )
            })
            .collect()
    }
}

/// What the operator has set for all Rollouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// API version of Istio's kinds, without the group.
    pub istio_version: String,
    /// Ask the Gateway API whether a route is attached before a weight counts as in force.
    pub verify_gateway_routes: bool,
    /// How NGINX's own annotations on the Ingresses of Canaries begin, without the slash.
    pub ingress_annotations_prefix: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            istio_version: "v1alpha3".to_owned(),
            verify_gateway_routes: false,
            ingress_annotations_prefix: "nginx.ingress.kubernetes.io".to_owned(),
        }
    }
}

/// The Rollout that a split belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Pods it wants in all.
    pub replicas: i32,
    /// `spec.strategy.canary.canaryService`, empty where none is named (a split may name ping and pong instead).
    pub canary_service: &'a str,
    /// `spec.strategy.canary.stableService`, likewise.
    pub stable_service: &'a str,
    /// Services of the experiments whose destinations were recorded last; what they left behind is removed.
    pub former_additional: &'a [String],
}

/// A kind of object in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Group, empty for the core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind in the singular.
    pub kind: String,
    /// The resource in the plural.
    pub plural: String,
}

impl Kind {
    pub(crate) fn new(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    /// `group/version`, or only the version for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The text with which an API server answers for an object that is not there.
    pub(crate) fn not_found(&self, name: &str) -> String {
        if self.group.is_empty() {
            format!("{} \"{name}\" not found", self.plural)
        } else {
            format!("{}.{} \"{name}\" not found", self.plural, self.group)
        }
    }
}

/// An object by kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.kind, self.namespace, self.name)
    }
}

/// What has to be observed.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// This object.
    Object(ObjectRef),
    /// All objects of a kind in a namespace that a selector matches.
    Selected(Kind, String, Box<LabelSelector>),
}

/// What was observed of the objects that a router needs. Never changed: a plan edits copies.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every object that is there, those found by selectors included.
    pub objects: BTreeMap<ObjectRef, Arc<Value>>,
    /// Objects that could not be read, with the reason. What is in neither map is not there.
    pub unreadable: BTreeMap<ObjectRef, String>,
    /// Pods by version.
    pub pods: BTreeMap<PodHash, Pods>,
}

/// The pods of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// How many are available.
    pub available: i32,
}

impl Observed {
    /// The object; where it cannot be had, the text that says why.
    pub(crate) fn get(&self, wanted: &ObjectRef) -> Result<Option<&Value>, RouteError> {
        if let Some(why) = self.unreadable.get(wanted) {
            return Err(RouteError::world(why.clone()));
        }
        Ok(self.objects.get(wanted).map(AsRef::as_ref))
    }

    pub(crate) fn available(&self, hash: &PodHash) -> i32 {
        self.pods.get(hash).map_or(0, |pods| pods.available)
    }
}

/// What a router wants done, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes, each on its own: a later one does not depend on an earlier one having succeeded, unless `Change::only_after` says so.
    pub changes: Vec<Change>,
    /// What kept parts of the split from being planned. The other parts are planned all the same.
    pub errors: Vec<RouteError>,
    /// The router is not ready for all of the split yet; look again soon. No fault of anybody's.
    pub waits: Option<String>,
}

impl Plan {
    /// A plan of one change at most.
    pub(crate) fn of(change: Result<Option<Change>, RouteError>) -> Self {
        let mut plan = Self::default();
        match change {
            Ok(change) => plan.changes.extend(change),
            Err(error) => plan.errors.push(error),
        }
        plan
    }

    /// True if the objects carry the split.
    pub fn is_done(&self) -> bool {
        self.changes.is_empty() && self.errors.is_empty() && self.waits.is_none()
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The object.
    pub object: ObjectRef,
    /// What is written.
    pub write: Write,
    /// Told once the write has succeeded.
    pub notes: Vec<Note>,
    /// Must not happen when an earlier change of the plan has failed: it would send requests to where nothing answers.
    pub only_after: bool,
    /// How a failure is told, `{}` standing for what the API server said; `None` where the world has words of its own.
    pub failure: Option<String>,
}

impl Change {
    /// How it is told that the write failed for this reason.
    pub fn failed(&self, why: &str) -> String {
        match &self.failure {
            Some(text) => text.replacen("{}", why, 1),
            None => format!("{}: {why}", self.object),
        }
    }
}

/// How an object is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// It is created. One that is there by now is a conflict: observe and plan again.
    Create(Box<Value>),
    /// It is changed by this JSON patch, which fails as a conflict when the object is not the observed version.
    Patch(Value),
}

/// An event on the Rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Warning, otherwise Normal.
    pub warning: bool,
    /// Its reason.
    pub reason: &'static str,
    /// Its text.
    pub message: String,
}

impl Note {
    pub(crate) fn normal(reason: &'static str, message: String) -> Self {
        Self {
            warning: false,
            reason,
            message,
        }
    }

    pub(crate) fn warning(reason: &'static str, message: String) -> Self {
        Self {
            warning: true,
            reason,
            message,
        }
    }
}

/// Who moves next after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The user: an object is missing, belongs to others or is not what the Rollout says. It wakes the Rollout when it changes.
    User,
    /// Nobody: trying again can help.
    TryAgain,
}

/// Why a part of a split could not be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RouteError {
    /// The text for people.
    pub message: String,
    /// A Warning of its own that tells of it, beside the one that all routers' errors get.
    pub note: Option<Note>,
    /// Who moves next.
    pub remedy: Remedy,
}

impl RouteError {
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            note: None,
            remedy: Remedy::User,
        }
    }

    pub(crate) fn world(message: impl Into<String>) -> Self {
        Self {
            remedy: Remedy::TryAgain,
            ..Self::user(message)
        }
    }

    /// The same, told as a fault of this step.
    pub(crate) fn within(self, step: &str) -> Self {
        Self {
            message: format!("{step}{}", self.message),
            ..self
        }
    }

    /// The same, told by a Warning of this reason, too.
    pub(crate) fn told_as(self, reason: &'static str, message: String) -> Self {
        Self {
            note: Some(Note::warning(reason, message)),
            ..self
        }
    }
}
