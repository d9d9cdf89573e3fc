//! A scenario of a Canary under way: people, machines and time.
//!
//! The controller's passes, and what goes wrong in them, are in [`super::passes`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossfade_api::flagger::CanaryStatus;
use crossfade_engine::canary::action::CheckFaultKind;
use crossfade_engine::decision::Event;
use crossfade_engine::pass::Ended;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::passes::{Controller, PassSoFar};
use super::scenario::{Act, Fault, FaultKind, Hook, Scenario};
use super::{Answer, Namespace};
use crate::run::{BEGUN, since_beginning};
use crate::scenario::{Millis, Reply, Version};

/// Name of the Canary, of its target and of what is named after them.
pub(super) const NAME: &str = "app";

/// Something that is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Look,
    Act(usize),
    Fault(usize),
    /// A look without a reason.
    Extra,
    FormerLeader(u64),
    Free,
    /// The target is applied again.
    TargetBack,
    /// The Canary is applied again.
    Return,
}

/// What a watcher is told of a run, as it happens.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// Somebody is about to do something.
    Act(&'a Act),
    /// Something is about to go wrong.
    Fault(FaultKind),
    /// An action is about to be performed.
    Performing(&'a crossfade_engine::canary::action::CanaryAction),
    /// An action was performed, with its true outcome.
    Performed(
        &'a crossfade_engine::canary::action::CanaryAction,
        &'a crossfade_engine::action::Outcome,
    ),
    /// The status was recorded; the one before, and the one now.
    Recorded(&'a CanaryStatus, &'a CanaryStatus),
    /// People were told something.
    Told(&'a Event),
    /// A pass is over.
    Ended(&'a Ended),
}

/// Watches a run.
pub(super) trait Watch {
    /// Takes note. `false` ends the run.
    fn see(&mut self, play: &Play, what: &What<'_>) -> bool;
}

/// A scenario under way.
pub struct Play {
    pub(super) space: Namespace,
    pub(super) scenario: Arc<Scenario>,
    due: BTreeSet<(Timestamp, u64, Due)>,
    pub(super) serial: u64,
    /// Faults that wait for their moment, the earliest first.
    pub(super) faults: Vec<Fault>,
    /// Nothing more goes wrong.
    pub(super) quiet: bool,
    pub(super) controller: Controller,
    /// What the pass under way has seen and done so far.
    pub(super) pass: PassSoFar,
    /// Rises with every change of where requests go.
    pub(super) routes_version: u64,
    /// When each version was deployed last.
    deployed: BTreeMap<Version, Timestamp>,
    /// When each webhook agreed last, and how often it was asked.
    agreed: BTreeMap<String, (Option<Timestamp>, u64)>,
    router_down_until: Timestamp,
    metrics_down_until: Timestamp,
    asked: u64,
    /// The status as it is stored.
    pub(super) stored: CanaryStatus,
    pub(super) watcher: Option<Box<dyn Watch>>,
    /// Nothing more happens.
    pub(super) ended: bool,
    /// Passes so far.
    pub passes: usize,
}

fn milliseconds(number: Millis) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(number).unwrap_or(i64::MAX))
}

impl Play {
    /// A namespace in which nothing has happened yet but that the manifests were applied.
    pub(super) fn new(scenario: &Arc<Scenario>) -> Self {
        let mut space = Namespace::new("default", BEGUN);
        space.keeps_no_record = true;
        for (index, nature) in scenario.versions.iter().enumerate() {
            let ready = nature.ready_after.map(milliseconds);
            space.ready_after.insert(image(index + 1), ready);
        }
        let mut faults: Vec<Fault> = scenario.faults.clone();
        faults.retain(|fault| !fault.kind.comes_by_itself());
        faults.sort_by_key(|fault| fault.at);
        let mut play = Self {
            space,
            scenario: Arc::clone(scenario),
            due: BTreeSet::new(),
            serial: 0,
            faults,
            quiet: false,
            controller: Controller::default(),
            pass: PassSoFar::default(),
            routes_version: 0,
            deployed: BTreeMap::from([(1, BEGUN)]),
            agreed: BTreeMap::new(),
            router_down_until: BEGUN,
            metrics_down_until: BEGUN,
            asked: 0,
            stored: CanaryStatus::default(),
            watcher: None,
            ended: false,
            passes: 0,
        };
        for (index, happening) in scenario.happenings.iter().enumerate() {
            play.schedule(milliseconds(happening.at), Due::Act(index));
        }
        for (index, fault) in scenario.faults.iter().enumerate() {
            if fault.kind.comes_by_itself() {
                play.schedule(milliseconds(fault.at), Due::Fault(index));
            }
        }
        for manifest in &scenario.manifests {
            play.space.apply(manifest);
        }
        play.schedule(SignedDuration::ZERO, Due::Look);
        play
    }

    /// Writes so far.
    pub(super) fn writes(&self) -> usize {
        self.space.writes
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.space.now
    }

    /// What happens after so long.
    pub(super) fn schedule(&mut self, delay: SignedDuration, due: Due) {
        self.serial += 1;
        let at = self.space.now.saturating_add(delay);
        let at = at.unwrap_or(Timestamp::MAX);
        self.due.insert((at, self.serial, due));
    }

    /// The Canary is looked at after so long, if not earlier.
    pub(super) fn look_in(&mut self, delay: SignedDuration) {
        self.schedule(delay, Due::Look);
    }

    /// What a controller that is gone wanted to look at again is forgotten.
    pub(super) fn forget_looks(&mut self) {
        self.due.retain(|(_, _, due)| *due != Due::Look);
    }

    /// Lets the next thing happen that is due until a time; `false` if there is none.
    pub(super) fn step(&mut self, until: Timestamp) -> bool {
        if self.ended || self.due.first().is_none_or(|(at, _, _)| *at > until) {
            return false;
        }
        if let Some((at, _, due)) = self.due.pop_first() {
            self.space.now = self.space.now.max(at);
            self.space.settle_deployments();
            self.happen(due);
        }
        true
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Look | Due::Extra if self.controller.busy_until.is_some() => {}
            Due::Look | Due::Extra => {
                // One look at a time is enough.
                self.forget_looks();
                self.look();
            }
            Due::Act(index) => {
                let scenario = Arc::clone(&self.scenario);
                if let Some(happening) = scenario.happenings.get(index) {
                    self.tell_watcher(&What::Act(&happening.act));
                    self.act(&happening.act);
                }
            }
            Due::Fault(index) => self.fault_by_itself(index),
            Due::FormerLeader(key) => self.former_leader_acts(key),
            Due::Free => {
                self.controller.busy_until = None;
                self.look_in(SignedDuration::ZERO);
            }
            Due::TargetBack => self.apply_again("target"),
            Due::Return => {
                if self.space.object("Canary", NAME).is_some() {
                    self.schedule(SignedDuration::from_secs(1), Due::Return);
                } else {
                    self.apply_again("Canary");
                    self.stored = CanaryStatus::default();
                    self.look_in(SignedDuration::ZERO);
                }
            }
        }
    }

    fn apply_again(&mut self, what: &str) {
        let scenario = Arc::clone(&self.scenario);
        for manifest in &scenario.manifests {
            let kind = manifest["kind"].as_str().unwrap_or_default();
            let is_target = manifest["metadata"]["name"] == NAME
                && scenario
                    .canary()
                    .is_some_and(|canary| canary["spec"]["targetRef"]["kind"] == kind);
            if (what == "Canary" && kind == "Canary") || (what == "target" && is_target) {
                self.space.apply(manifest);
            }
        }
    }

    pub(super) fn tell_watcher(&mut self, what: &What<'_>) {
        if let Some(mut watcher) = self.watcher.take() {
            let goes_on = watcher.see(self, what);
            self.ended |= !goes_on;
            self.watcher = Some(watcher);
        }
    }

    /// Kind of the target.
    pub(super) fn target_kind(&self) -> &str {
        let canary = self.scenario.canary();
        canary
            .and_then(|canary| canary["spec"]["targetRef"]["kind"].as_str())
            .unwrap_or_default()
    }

    fn patch_canary(&mut self, patch: &Value) {
        self.space.patch("Canary", NAME, patch);
        self.look_in(SignedDuration::ZERO);
    }

    /// Somebody does something.
    fn act(&mut self, act: &Act) {
        let kind = self.target_kind().to_owned();
        match act {
            Act::Deploy(version) => {
                self.deployed.insert(*version, self.space.now);
                if kind == "Service" {
                    let patch = json!({"spec": {"selector": {"version": format!("v{version}")}}});
                    self.space.patch(&kind, NAME, &patch);
                } else {
                    self.set_image(&kind, *version);
                }
            }
            Act::Configure(value) => {
                let patch = json!({"data": {"value": value.to_string()}});
                self.space.patch("ConfigMap", "settings", &patch);
            }
            Act::Scale(pods) => {
                let patch = json!({"spec": {"replicas": pods}});
                self.space.patch(&kind, NAME, &patch);
            }
            Act::Suspend(is) => self.patch_canary(&json!({"spec": {"suspend": is}})),
            Act::SkipAnalysis(is) => self.patch_canary(&json!({"spec": {"skipAnalysis": is}})),
            Act::EditAnalysis(patch) => {
                self.patch_canary(&json!({"spec": {"analysis": patch}}));
            }
            Act::ScalePrimary(pods) => {
                let patch = json!({"spec": {"replicas": pods}});
                self.space.patch(&kind, &primary(), &patch);
            }
            Act::DropPrimary => self.space.delete(&kind, &primary()),
            Act::DropService(which) => self.space.delete("Service", &service(*which)),
            Act::EditService(which) => {
                let patch = json!({"spec": {"selector": {"app": "elsewhere"}}});
                self.space.patch("Service", &service(*which), &patch);
            }
            Act::PodsLost(primary_s, lasts) => {
                let name = if *primary_s {
                    primary()
                } else {
                    NAME.to_owned()
                };
                let until = self.space.now + milliseconds(*lasts);
                self.space.lost_until.insert(name, until);
            }
            Act::RouterDown(lasts) => {
                self.router_down_until = self.space.now + milliseconds(*lasts);
            }
            Act::MetricsDown(lasts) => {
                self.metrics_down_until = self.space.now + milliseconds(*lasts);
            }
            Act::DropTarget(lasts) => {
                self.space.delete(&kind, NAME);
                self.schedule(milliseconds(*lasts), Due::TargetBack);
            }
            Act::Delete(back) => {
                if self.space.object("Canary", NAME).is_some() {
                    self.space.delete("Canary", NAME);
                    self.look_in(SignedDuration::ZERO);
                    if let Some(back) = back {
                        self.schedule(milliseconds(*back), Due::Return);
                    }
                }
            }
        }
    }

    fn set_image(&mut self, kind: &str, version: Version) {
        let Some(there) = self.space.object(kind, NAME) else {
            return;
        };
        let mut next = there.clone();
        next["spec"]["template"]["spec"]["containers"][0]["image"] =
            json!(image(usize::from(version)));
        self.space.store(next);
    }

    /// Nothing more goes wrong from now on, and gates open.
    pub(super) fn calm_down(&mut self) {
        self.quiet = true;
        self.faults.clear();
        let is_suspended = self
            .space
            .object("Canary", NAME)
            .is_some_and(|canary| canary["spec"]["suspend"] == true);
        if is_suspended {
            self.patch_canary(&json!({"spec": {"suspend": false}}));
        }
    }

    // What webhooks, metrics and routers answer.

    /// Gives a webhook the answer that it has now.
    pub(super) fn prepare_hook(&mut self, name: &str) {
        let now = self.space.now;
        let past = since_beginning(now);
        let kind = name.rsplit_once('-').map_or(name, |(kind, _)| kind);
        let known = self.scenario.hooks.get(name);
        let behaviour = match (self.quiet, kind) {
            (true, "rollback") => &Hook::Closed,
            (true, kind) if kind.starts_with("confirm") => &Hook::Open,
            _ => known.unwrap_or(&Hook::Open),
        };
        let (last, count) = self.agreed.entry(name.to_owned()).or_default();
        *count += 1;
        let since = last.map(since_beginning);
        let agrees = match behaviour {
            Hook::Open => true,
            Hook::Closed | Hook::Broken => false,
            Hook::OpensAt(at) => past >= *at,
            Hook::OneShot(times) => {
                let mut times = times.iter();
                times.any(|at| *at <= past && since.is_none_or(|since| *at > since))
            }
            Hook::Flaky => count.is_multiple_of(2),
        };
        let answer = match (agrees, behaviour) {
            (true, _) => {
                *last = Some(now);
                (200, String::new())
            }
            (false, Hook::Broken) => (500, "it is broken".to_owned()),
            (false, _) => (403, "Forbidden".to_owned()),
        };
        self.space.hooks.insert(name.to_owned(), answer);
    }

    /// Gives a metric the answer that it has now.
    pub(super) fn prepare_metric(&mut self, metric: &str) {
        let now = self.space.now;
        self.asked += 1;
        let version = self.version_of_target();
        let since = self.deployed.get(&version).copied().unwrap_or(BEGUN);
        let age = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(0);
        let nature = self.scenario.nature(version);
        let says = nature.into_iter().flat_map(|nature| &nature.says);
        let said = says
            .filter(|(name, from, _)| *from <= age && (name.is_empty() || name == metric))
            .max_by_key(|(_, from, _)| *from)
            .map_or(Reply::Good, |(_, _, reply)| *reply);
        let is_down = now < self.metrics_down_until;
        let reply = match said {
            // What is silent for ever would hold a release for ever.
            Reply::Nothing | Reply::Down | Reply::Doubtful if self.quiet => Reply::Good,
            _ if is_down => Reply::Down,
            Reply::Flaky if self.asked.is_multiple_of(2) => Reply::Bad,
            Reply::Flaky => Reply::Good,
            reply => reply,
        };
        let (good, bad) = match metric {
            "request-success-rate" => (99.9, 42.0),
            "request-duration" => (100.0, 2000.0),
            _ => (5.0, 50.0),
        };
        let fault = |kind, text: &str| Answer::Fault(kind, text.to_owned());
        let answer = match reply {
            Reply::Good | Reply::Flaky => Answer::Value(good),
            Reply::Bad => Answer::Value(bad),
            Reply::Doubtful => Answer::Value(f64::NAN),
            Reply::Nothing => fault(CheckFaultKind::NoData, "no values found"),
            Reply::Down => fault(CheckFaultKind::Provider, "server error: 500"),
        };
        self.space.metrics.insert(metric.to_owned(), answer);
    }

    /// Lets routers answer as they do now.
    pub(super) fn prepare_router(&mut self) {
        let is_down = self.space.now < self.router_down_until;
        self.space.router_fault = is_down.then(|| "the router is down".to_owned());
    }

    /// The version that the target is of.
    pub(super) fn version_of_target(&self) -> Version {
        let target = self.space.object(self.target_kind(), NAME);
        target.map_or(0, version_of)
    }
}

/// The version that a workload or a Service is of.
pub(super) fn version_of(object: &Value) -> Version {
    let image = &object["spec"]["template"]["spec"]["containers"][0]["image"];
    let selected = &object["spec"]["selector"]["version"];
    let text = image.as_str().or(selected.as_str()).unwrap_or_default();
    let number = text.rsplit('v').next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

fn image(version: usize) -> String {
    format!("app:v{version}")
}

/// Name of the primary.
pub(super) fn primary() -> String {
    format!("{NAME}-primary")
}

fn service(which: u8) -> String {
    match which {
        0 => NAME.to_owned(),
        1 => primary(),
        _ => format!("{NAME}-canary"),
    }
}
