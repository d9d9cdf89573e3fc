//! A namespace with Canaries in virtual time: objects, Deployments with a life of their own, gates and metrics that answer as told.
//!
//! [`Namespace`] is a world like the others: it observes, performs and records, and decides nothing. Routers' own objects are not here; what
//! is kept of them is where requests go. [`replay`] plays what the reference was recorded doing; [`run::run`] plays a
//! [`scenario::Scenario`], such as [`generate::scenario`] makes from a seed, with everything that can go wrong.

pub mod compare;
mod deployments;
pub mod generate;
pub mod invariants;
mod observe;
mod passes;
mod perform;
pub mod play;
pub mod recording;
pub mod replay;
pub mod run;
pub mod scenario;
mod seen;
pub mod shrink;

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::Canary;
use crossfade_api::flagger::hash;
use crossfade_api::merge_patch;
use crossfade_api::time;
use crossfade_engine::action::Outcome;
use crossfade_engine::canary::action::CheckFaultKind;
use crossfade_engine::canary::action::{Alert, CanaryAction, Check, Cookies, HookCall, Shares};
use crossfade_engine::canary::world::Settings;
use crossfade_engine::canary::{CanarySubject, is_look};
use crossfade_engine::decision::Event;
use crossfade_engine::pass::{Ended, Need, Pass, Standing};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub use seen::Seen;

/// Kind and name of an object.
pub type Key = (String, String);

/// What a metric answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A number; for durations in milliseconds.
    Value(f64),
    /// No value, of this kind and with this text.
    Fault(CheckFaultKind, String),
}

/// Answers a webhook: a status, and a text.
pub type Answers = dyn FnMut(&HookCall) -> (u16, String);

/// Somebody who answers webhooks.
pub struct Answering(pub Box<Answers>);

impl std::fmt::Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answering")
    }
}

/// A webhook that was called.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    /// When.
    pub at: Timestamp,
    /// Name of the hook.
    pub name: String,
    /// What it was sent.
    pub body: Value,
    /// Which revision was told.
    pub revision: String,
}

/// Something that people were told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// Name of the Canary.
    pub on: String,
    /// The event.
    pub event: Event,
}

/// Where a router sends requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// The weights in force.
    pub shares: Shares,
    /// The cookies in force.
    pub cookies: Option<Cookies>,
}

/// Whoever carries the actions of routers out in place of the namespace's own table of routes.
pub trait Routing: std::fmt::Debug {
    /// Performs one action for a Canary, as it is stored. The time is the namespace's.
    fn perform(&mut self, canary: &Value, action: &CanaryAction) -> Outcome;
}

/// A namespace with Canaries in virtual time.
#[derive(Debug)]
pub struct Namespace {
    /// What time it is.
    pub now: Timestamp,
    /// Name of the namespace.
    pub name: String,
    /// All objects.
    pub objects: BTreeMap<Key, Arc<Value>>,
    /// Where requests go, by name of the Canary.
    pub routes: BTreeMap<String, Route>,
    /// Who routes, if that is not the table above.
    pub routing: Option<Box<dyn Routing>>,
    /// What metrics answer: by name, else `success`, `duration` and `custom`.
    pub metrics: BTreeMap<String, Answer>,
    /// What webhooks answer, by name: a status, and a text; 200 for all others.
    pub hooks: BTreeMap<String, (u16, String)>,
    /// Who answers all webhooks in their place.
    pub answering: Option<Answering>,
    /// The controller's settings.
    pub settings: Arc<Settings>,
    /// Webhooks that were called, in order.
    pub calls: Vec<Called>,
    /// What people were told, in order.
    pub told: Vec<Told>,
    /// News that were sent through channels, in order.
    pub alerts: Vec<Alert>,
    /// Metrics that were asked for, in order.
    pub checks: Vec<Check>,
    /// What was seen, each moment that differs from the one before.
    pub seen: Vec<Seen>,
    /// Why router operations fail, where they do.
    pub router_fault: Option<String>,
    /// An object as a cache that is behind has it.
    pub stale: Option<Value>,
    /// How many writes there were.
    pub writes: usize,
    /// Neither what is seen nor what is told, called and asked is kept.
    keeps_no_record: bool,
    /// Time until pods of an image are ready, `None` for never, where it is not the usual one.
    ready_after: BTreeMap<String, Option<SignedDuration>>,
    /// Until when all pods of a workload are not available.
    lost_until: BTreeMap<String, Timestamp>,
    /// The Canary that was read last, and what it was read from.
    read: Option<(Arc<Value>, Arc<Canary>)>,
    ticks: BTreeMap<String, Timestamp>,
    due: BTreeMap<String, Timestamp>,
    lives: BTreeMap<String, deployments::Life>,
    counter: u64,
}

impl Namespace {
    /// An empty one.
    pub fn new(name: &str, now: Timestamp) -> Self {
        let answers = [("success", 100.0), ("duration", 100.0), ("custom", 5.0)];
        Self {
            now,
            name: name.to_owned(),
            objects: BTreeMap::new(),
            routes: BTreeMap::new(),
            routing: None,
            metrics: answers
                .map(|(name, value)| (name.to_owned(), Answer::Value(value)))
                .into(),
            hooks: BTreeMap::new(),
            answering: None,
            settings: Arc::new(Settings::default()),
            calls: Vec::new(),
            told: Vec::new(),
            alerts: Vec::new(),
            checks: Vec::new(),
            seen: Vec::new(),
            router_fault: None,
            stale: None,
            writes: 0,
            keeps_no_record: false,
            ready_after: BTreeMap::new(),
            lost_until: BTreeMap::new(),
            read: None,
            ticks: BTreeMap::new(),
            due: BTreeMap::new(),
            lives: BTreeMap::new(),
            counter: 0,
        }
    }

    /// The controller starts anew: it remembers nothing.
    pub fn restart(&mut self) {
        self.ticks.clear();
    }

    /// An object.
    pub fn object(&self, kind: &str, name: &str) -> Option<&Value> {
        let key = (kind.to_owned(), name.to_owned());
        self.objects.get(&key).map(|object| &**object)
    }

    /// A person writes an object whole.
    pub fn apply(&mut self, object: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut object = object.clone();
        let key = (text(&object["kind"]), text(&object["metadata"]["name"]));
        object["metadata"]["namespace"] = json!(self.name);
        if let Some(there) = self.objects.get(&key) {
            let mut patch = object.clone();
            patch["metadata"] = json!({"labels": object["metadata"]["labels"], "annotations": object["metadata"]["annotations"]});
            let patch = json!({"metadata": patch["metadata"], "spec": patch["spec"], "data": patch["data"]});
            let mut next = (**there).clone();
            merge_patch::apply(&mut next, &patch);
            self.store(next);
        } else {
            self.create(object);
        }
    }

    /// An object is there as somebody else left it.
    pub fn left(&mut self, object: &Value) {
        self.put(object.clone());
    }

    /// A person changes an object.
    pub fn patch(&mut self, kind: &str, name: &str, patch: &Value) {
        if let Some(there) = self.object(kind, name) {
            let mut next = there.clone();
            merge_patch::apply(&mut next, patch);
            self.store(next);
        }
    }

    /// A person gives the Deployment another image.
    pub fn set_image(&mut self, name: &str, image: &str) {
        if let Some(there) = self.object("Deployment", name) {
            let mut next = there.clone();
            next["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            self.store(next);
        }
    }

    /// A person deletes an object; what it owns goes with it.
    pub fn delete(&mut self, kind: &str, name: &str) {
        let key = (kind.to_owned(), name.to_owned());
        let Some(there) = self.objects.get(&key) else {
            return;
        };
        let holds = there["metadata"]["finalizers"].as_array();
        if holds.is_some_and(|finalizers| !finalizers.is_empty()) {
            let mut next = (**there).clone();
            next["metadata"]["deletionTimestamp"] = json!(time::text(self.now));
            self.store(next);
            return;
        }
        let uid = there["metadata"]["uid"].clone();
        self.objects.remove(&key);
        if kind == "Canary" {
            self.ticks.remove(name);
            self.due.remove(name);
            self.routes.remove(name);
        }
        self.objects.retain(|_, object| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            !owners
                .into_iter()
                .flatten()
                .any(|owner| owner["uid"] == uid)
        });
        self.look();
    }

    fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn create(&mut self, mut object: Value) -> Value {
        let number = self.next_number();
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(format!("uid-{number}"));
        metadata["creationTimestamp"] = json!(time::text(self.now));
        metadata["generation"] = json!(1);
        if object["kind"] == "Deployment" && object["spec"]["replicas"].is_null() {
            object["spec"]["replicas"] = json!(1);
        }
        self.put(object)
    }

    /// Stores a changed object; another spec is another generation.
    fn store(&mut self, mut object: Value) -> Value {
        let key = key(&object);
        if let Some(there) = self.objects.get(&key)
            && there["spec"] != object["spec"]
        {
            let generation = there["metadata"]["generation"].as_i64().unwrap_or(1);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        self.put(object)
    }

    fn put(&mut self, mut object: Value) -> Value {
        let version = self.next_number();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let key = key(&object);
        if matches!(key.0.as_str(), "Deployment" | "DaemonSet") {
            self.follow_deployment(&object);
        }
        if key.0 == "Canary" {
            self.due.entry(key.1.clone()).or_insert(self.now);
            if object["metadata"]["deletionTimestamp"].is_string() {
                self.due.insert(key.1.clone(), self.now);
            }
        }
        self.objects.insert(key, Arc::new(object.clone()));
        self.look();
        object
    }

    fn look(&mut self) {
        if self.keeps_no_record {
            return;
        }
        let seen = Seen::of(self);
        if self.seen.last() != Some(&seen) {
            self.seen.push(seen);
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, to: Timestamp) {
        const FINEST: SignedDuration = SignedDuration::from_millis(100);
        while self.now < to {
            let due = self.due.values().copied().min();
            let next = due.unwrap_or(to).max(self.now + FINEST).min(to);
            self.now = next;
            self.settle_deployments();
            let late = self.due.iter().filter(|(_, due)| **due <= self.now);
            let late: Vec<String> = late.map(|(name, _)| name.clone()).collect();
            for canary in late {
                self.pass(&canary);
            }
        }
    }

    /// Lets time pass until the next look at every Canary has been taken so many times.
    pub fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            let Some(due) = self.due.values().copied().min() else {
                return;
            };
            let to = due.max(self.now + SignedDuration::from_millis(1));
            self.advance(to);
        }
    }

    /// The next look at a Canary comes at this time.
    pub fn look_at(&mut self, canary: &str, at: Timestamp) {
        self.due.insert(canary.to_owned(), at);
    }

    /// One pass over a Canary.
    pub fn pass(&mut self, name: &str) -> Ended {
        let Some(world) = self.observe(name) else {
            self.due.remove(name);
            return Ended::default();
        };
        let before = world.canary.status.clone();
        let looks = is_look(&world, self.now);
        let mut pass = Pass::<CanarySubject>::start(world, Standing::Sound, self.now);
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let outcomes = actions.iter().map(|one| self.perform(name, one));
                    let outcomes = outcomes.collect();
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    if let Some(status) = status.filter(|status| *status != before)
                        && let Some(there) = self.object("Canary", name)
                    {
                        let mut next = there.clone();
                        next["status"] = json!(status);
                        self.writes += 1;
                        self.store(next);
                    }
                    let (at, on) = (self.now, name.to_owned());
                    self.told.extend(events.into_iter().map(|event| Told {
                        at,
                        on: on.clone(),
                        event,
                    }));
                    pass.recorded(Ok(()));
                }
            }
        }
        let ended = pass.ended();
        if looks {
            self.ticks.insert(name.to_owned(), self.now);
        }
        if self.object("Canary", name).is_some() {
            let rest = ended.look_again.unwrap_or(SignedDuration::from_secs(10));
            self.due.insert(name.to_owned(), self.now + rest);
        }
        ended
    }

    /// The texts that people were told about a Canary, in order.
    pub fn texts(&self, canary: &str) -> Vec<&str> {
        let told = self.told.iter().filter(|told| told.on == canary);
        told.map(|told| told.event.message.as_str()).collect()
    }

    /// The hash of a Deployment's template.
    pub fn revision(&self, deployment: &str) -> String {
        let template = self
            .object("Deployment", deployment)
            .map(|object| object["spec"]["template"].clone());
        hash::revision(&template.unwrap_or_default())
    }
}

fn key(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&object["kind"]), text(&object["metadata"]["name"]))
}
