//! Passes over a Canary, and everything that can go wrong in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::Resource as _;
use crossfade_api::flagger::CanaryStatus;
use crossfade_engine::action::{Action, Failure, FailureKind, Outcome};
use crossfade_engine::canary::action::CanaryAction;
use crossfade_engine::canary::world::World;
use crossfade_engine::canary::{CanarySubject, is_look};
use crossfade_engine::pass::{Need, Pass, Standing};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::play::{Due, NAME, Play, What};
use super::scenario::{FaultKind, Kind};
use super::{Key, Namespace};
use crate::run::since_beginning;

/// First and longest wait after a pass that failed.
const RETRY: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(1), SignedDuration::from_secs(10));

/// What the controller has in memory, and what is wrong with it.
#[derive(Default)]
pub(super) struct Controller {
    /// Version of the last write of its own, by kind.
    own: BTreeMap<Kind, u64>,
    /// How far its clock is off.
    pub(super) skew: SignedDuration,
    pub(super) busy_until: Option<Timestamp>,
    stale: Vec<Old>,
    failures: u32,
    former: Vec<(u64, FormerLeader)>,
}

/// A kind of object as it was.
struct Old {
    kind: Kind,
    until: Timestamp,
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
}

/// A controller that does not know yet that another one leads.
struct FormerLeader {
    action: CanaryAction,
    routes_version: u64,
    uid: String,
}

/// What a pass has seen and done so far.
#[derive(Default)]
pub(super) struct PassSoFar {
    /// What it saw.
    pub world: Option<World>,
    /// What was done, in order, with the outcome that its controller heard.
    pub done: Vec<(CanaryAction, Outcome)>,
    /// It is a controller that leads no longer.
    pub is_late: bool,
    /// It sees all as it is.
    pub sees_well: bool,
    routes_version: u64,
    /// resourceVersion of the Canary after a write of this pass.
    wrote: Option<String>,
}

/// A moment in a pass at which something can go wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Action { writes: bool },
    Record,
    Tell,
}

impl Moment {
    fn fits(self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::CrashBefore | FaultKind::CrashAfter | FaultKind::LostReply => {
                matches!(self, Self::Action { .. })
            }
            FaultKind::Conflict | FaultKind::Refused | FaultKind::Usurped(_) => {
                self == Self::Action { writes: true }
            }
            FaultKind::CrashUnrecorded | FaultKind::StatusConflict | FaultKind::StatusLost => {
                self == Self::Record
            }
            FaultKind::CrashUntold => self == Self::Tell,
            FaultKind::Stale(..)
            | FaultKind::Clock(_)
            | FaultKind::Busy(_)
            | FaultKind::Extra(_) => false,
        }
    }
}

/// How a pass went as far as its controller knows.
enum Course<T> {
    Over(T),
    /// The controller is gone.
    Lost,
}

fn failure(kind: FailureKind, message: &str) -> Outcome {
    Err(Failure {
        kind,
        message: message.to_owned(),
    })
}

fn writes(action: &CanaryAction) -> bool {
    match action {
        CanaryAction::Create { .. }
        | CanaryAction::Patch { .. }
        | CanaryAction::CopyConfig { .. }
        | CanaryAction::Annotate { .. }
        | CanaryAction::SetFinalizers { .. }
        | CanaryAction::ReconcileRoutes { .. }
        | CanaryAction::SetShares { .. }
        | CanaryAction::RestoreRoutes { .. } => true,
        CanaryAction::Read { .. }
        | CanaryAction::ReadShares { .. }
        | CanaryAction::CallHook(_)
        | CanaryAction::Alert(_)
        | CanaryAction::FindProvider(_)
        | CanaryAction::Check(_) => false,
    }
}

/// What kind of object an action writes.
fn written(action: &CanaryAction) -> Option<Kind> {
    match action {
        CanaryAction::Create { object } => Kind::of(object["kind"].as_str().unwrap_or_default()),
        CanaryAction::Patch { object, .. } => Kind::of(&object.kind),
        CanaryAction::CopyConfig { .. } => Some(Kind::Configs),
        CanaryAction::Annotate { .. } | CanaryAction::SetFinalizers { .. } => Some(Kind::Canary),
        _ => None,
    }
}

impl Play {
    /// One pass over the Canary.
    pub(super) fn look(&mut self) {
        let (world, standing) = self.observe();
        let Some(world) = world else {
            self.pass = PassSoFar::default();
            return;
        };
        self.passes += 1;
        let clock = self
            .space
            .now
            .saturating_add(self.controller.skew)
            .unwrap_or(self.space.now);
        let looks = is_look(&world, clock) && standing.decides();
        self.pass = PassSoFar {
            world: Some(world.clone()),
            routes_version: self.routes_version,
            sees_well: self.controller.stale.is_empty(),
            ..PassSoFar::default()
        };
        let mut pass = Pass::<CanarySubject>::start(world, standing, clock);
        if let Course::Lost = self.drive(&mut pass) {
            return;
        }
        let ended = pass.ended();
        self.tell_watcher(&What::Ended(&ended));
        self.collect();
        if looks && ended.failed.is_none() {
            self.space.ticks.insert(NAME.to_owned(), clock);
        }
        if ended.failed.is_some() {
            let delay = (RETRY.0 * (1 << self.controller.failures.min(4))).min(RETRY.1);
            self.controller.failures += 1;
            self.look_in(delay);
        } else {
            self.controller.failures = 0;
            let rest = ended.look_again.unwrap_or(SignedDuration::from_secs(10));
            self.look_in(rest.max(SignedDuration::from_millis(1)));
        }
    }

    /// The Canary and everything around it, with the kinds that are seen as they were.
    fn observe(&mut self) -> (Option<World>, Standing) {
        let now = self.space.now;
        let controller = &mut self.controller;
        controller.stale.retain(|old| old.until > now);
        if controller.stale.is_empty() {
            return (self.space.observe(NAME), Standing::Sound);
        }
        let own = &controller.own;
        let is_sound = |old: &Old| own.get(&old.kind).is_none_or(|own| *own <= old.version);
        let standing = if controller.stale.iter().all(is_sound) {
            Standing::Sound
        } else {
            Standing::Stale
        };
        let mut seen = self.space.objects.clone();
        for old in &controller.stale {
            seen.retain(|(kind, _), _| Kind::of(kind) != Some(old.kind));
            seen.extend(old.objects.clone());
        }
        let present = std::mem::replace(&mut self.space.objects, seen);
        let world = self.space.observe(NAME);
        self.space.objects = present;
        (world, standing)
    }

    /// Answers what a pass needs, as well as faults allow.
    fn drive(&mut self, pass: &mut Pass<CanarySubject>) -> Course<()> {
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let mut outcomes = Vec::with_capacity(actions.len());
                    for action in &actions {
                        let Action::Canary(action) = action else {
                            outcomes.push(failure(FailureKind::Other, "a Canary does not do that"));
                            continue;
                        };
                        match self.act_on(action) {
                            Course::Over(outcome) => outcomes.push(outcome),
                            Course::Lost => return Course::Lost,
                        }
                    }
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    if let Some(status) = status {
                        let result = match self.fault(Moment::Record) {
                            Some(FaultKind::CrashUnrecorded) => {
                                self.crash();
                                return Course::Lost;
                            }
                            Some(FaultKind::StatusConflict) => {
                                self.touch();
                                self.record(status)
                            }
                            Some(FaultKind::StatusLost) => self
                                .record(status)
                                .and(Err("the answer did not arrive".to_owned())),
                            _ => self.record(status),
                        };
                        if result.is_err() {
                            pass.recorded(result);
                            continue;
                        }
                    }
                    if self.fault(Moment::Tell).is_some() {
                        self.crash();
                        return Course::Lost;
                    }
                    for event in &events {
                        self.tell_watcher(&What::Told(event));
                    }
                    pass.recorded(Ok(()));
                }
            }
        }
        Course::Over(())
    }

    /// Stores what a pass has recorded, unless somebody else has changed the Canary since it was observed.
    fn record(&mut self, status: CanaryStatus) -> Result<(), String> {
        let Some(there) = self.space.object("Canary", NAME) else {
            return Err("the Canary is gone".to_owned());
        };
        let version = there["metadata"]["resourceVersion"].as_str();
        let seen = self.pass.world.as_ref();
        let seen = seen.and_then(|world| world.canary.metadata.resource_version.as_deref());
        if version != self.pass.wrote.as_deref().or(seen) {
            // Whoever hears this knows that what he sees is old.
            self.own_write(Kind::Canary);
            return Err("the Canary has been modified".to_owned());
        }
        let mut next = there.clone();
        next["status"] = json!(status);
        self.space.writes += 1;
        self.space.store(next);
        let before = std::mem::replace(&mut self.stored, status);
        let after = self.stored.clone();
        self.tell_watcher(&What::Recorded(&before, &after));
        self.own_write(Kind::Canary);
        Ok(())
    }

    /// Performs an action; says what the controller hears of it.
    fn act_on(&mut self, action: &CanaryAction) -> Course<Outcome> {
        let writes = writes(action);
        match self.fault(Moment::Action { writes }) {
            Some(FaultKind::CrashBefore) => {
                self.crash();
                Course::Lost
            }
            Some(FaultKind::CrashAfter) => {
                let _unheard = self.carry_out(action);
                self.crash();
                Course::Lost
            }
            Some(FaultKind::Conflict) => Course::Over(failure(
                FailureKind::Conflict,
                "the object has been modified",
            )),
            Some(FaultKind::Refused) => {
                Course::Over(failure(FailureKind::Other, "the server is not available"))
            }
            Some(FaultKind::LostReply) => {
                let _unheard = self.carry_out(action);
                let heard = failure(FailureKind::Other, "the answer did not arrive");
                if let Some((_, outcome)) = self.pass.done.last_mut() {
                    outcome.clone_from(&heard);
                }
                Course::Over(heard)
            }
            Some(FaultKind::Usurped(later)) => {
                self.serial += 1;
                let key = self.serial;
                let uid = self.canary_uid();
                self.controller.former.push((
                    key,
                    FormerLeader {
                        action: action.clone(),
                        routes_version: self.pass.routes_version,
                        uid,
                    },
                ));
                let later = SignedDuration::from_millis(i64::try_from(later).unwrap_or(0));
                self.schedule(later, Due::FormerLeader(key));
                self.crash();
                Course::Lost
            }
            _ => Course::Over(self.carry_out(action)),
        }
    }

    fn canary_uid(&self) -> String {
        let canary = self.space.object("Canary", NAME);
        let uid = canary.and_then(|canary| canary["metadata"]["uid"].as_str());
        uid.unwrap_or_default().to_owned()
    }

    /// Performs an action for whoever has seen what this pass saw.
    fn carry_out(&mut self, action: &CanaryAction) -> Outcome {
        self.tell_watcher(&What::Performing(action));
        match action {
            CanaryAction::CallHook(call) => self.prepare_hook(&call.name),
            CanaryAction::Check(check) => self.prepare_metric(&check.metric),
            _ => self.prepare_router(),
        }
        let before = self.space.routes.get(NAME).cloned();
        let is_overtaken = match action {
            CanaryAction::SetShares { .. } => self.routes_version != self.pass.routes_version,
            CanaryAction::Annotate { target, .. } | CanaryAction::SetFinalizers { target, .. } => {
                let there = self.space.object("Canary", NAME);
                let version = there.and_then(|one| one["metadata"]["resourceVersion"].as_str());
                let seen = Some(target.resource_version.as_str());
                version != seen && version != self.pass.wrote.as_deref()
            }
            _ => false,
        };
        let outcome = if is_overtaken {
            failure(FailureKind::Conflict, "the object has been modified")
        } else {
            let action = Action::Canary(Box::new(action.clone()));
            self.space.perform(NAME, &action)
        };
        if before.as_ref() != self.space.routes.get(NAME) {
            self.routes_version += 1;
            self.pass.routes_version = self.routes_version;
        }
        if outcome.is_ok()
            && let Some(kind) = written(action)
        {
            self.own_write(kind);
            if kind == Kind::Canary {
                let there = self.space.object("Canary", NAME);
                let version = there.and_then(|one| one["metadata"]["resourceVersion"].as_str());
                self.pass.wrote = version.map(str::to_owned);
            }
        }
        self.pass.done.push((action.clone(), outcome.clone()));
        self.tell_watcher(&What::Performed(action, &outcome));
        outcome
    }

    /// What a former leader had under way.
    pub(super) fn former_leader_acts(&mut self, key: u64) {
        let former = &mut self.controller.former;
        let Some(index) = former.iter().position(|(one, _)| *one == key) else {
            return;
        };
        let (_, leader) = former.swap_remove(index);
        if leader.uid != self.canary_uid() && !matches!(leader.action, CanaryAction::Create { .. })
        {
            return;
        }
        let own = self.controller.own.clone();
        self.pass = PassSoFar {
            routes_version: leader.routes_version,
            is_late: true,
            ..PassSoFar::default()
        };
        let _unheard = self.carry_out(&leader.action);
        // These writes are not the present leader's.
        self.controller.own = own;
        self.pass = PassSoFar::default();
        self.collect();
    }

    /// What is owned by a Canary that is gone goes.
    fn collect(&mut self) {
        let uid = self.canary_uid();
        let is_orphan = |object: &Value| {
            let owner = &object["metadata"]["ownerReferences"][0];
            owner["kind"] == crossfade_api::Canary::KIND && owner["uid"] != uid.as_str()
        };
        self.space.objects.retain(|_, object| !is_orphan(object));
        if uid.is_empty() {
            // The router's objects are owned by it like all others.
            self.space.routes.remove(NAME);
        }
    }

    /// The controller dies and another begins at once, with empty memory and a fresh view.
    fn crash(&mut self) {
        let former = std::mem::take(&mut self.controller.former);
        self.controller = Controller {
            skew: self.controller.skew,
            former,
            ..Controller::default()
        };
        self.space.restart();
        self.pass = PassSoFar::default();
        self.forget_looks();
        self.look_in(SignedDuration::ZERO);
    }

    /// Somebody changes the Canary without changing what it means.
    fn touch(&mut self) {
        let canary = self.space.object("Canary", NAME).cloned();
        if let Some(canary) = canary {
            self.space.store(canary);
        }
    }

    fn own_write(&mut self, kind: Kind) {
        self.controller.own.insert(kind, self.space.counter);
    }

    /// The fault whose moment this is, if any.
    fn fault(&mut self, moment: Moment) -> Option<FaultKind> {
        if self.quiet || self.faults.is_empty() {
            return None;
        }
        let past = since_beginning(self.space.now);
        let mut faults = self.faults.iter();
        let index = faults.position(|fault| fault.at <= past && moment.fits(fault.kind))?;
        let fault = self.faults.get_mut(index)?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        let kind = self.faults.remove(index).kind;
        self.tell_watcher(&What::Fault(kind));
        Some(kind)
    }

    /// A fault that comes by itself.
    pub(super) fn fault_by_itself(&mut self, index: usize) {
        let Some(fault) = self.scenario.faults.get(index).cloned() else {
            return;
        };
        self.tell_watcher(&What::Fault(fault.kind));
        let milliseconds =
            |number: u64| SignedDuration::from_millis(i64::try_from(number).unwrap_or(0));
        match fault.kind {
            FaultKind::Stale(kind, lasts) => {
                let objects = self.space.objects.iter();
                let objects = objects.filter(|((one, _), _)| Kind::of(one) == Some(kind));
                let objects = objects.map(|(key, object)| (key.clone(), Arc::clone(object)));
                self.controller.stale.push(Old {
                    kind,
                    until: self.space.now + milliseconds(lasts),
                    version: self.space.counter,
                    objects: objects.collect(),
                });
                // What was missed arrives in the end.
                self.schedule(milliseconds(lasts), Due::Extra);
            }
            FaultKind::Clock(by) => {
                self.controller.skew += SignedDuration::from_millis(by);
                self.look_in(SignedDuration::ZERO);
            }
            FaultKind::Busy(lasts) => {
                let until = self.space.now + milliseconds(lasts);
                self.controller.busy_until = Some(until);
                self.schedule(milliseconds(lasts), Due::Free);
            }
            FaultKind::Extra(rounds) => {
                for round in 0..rounds {
                    self.schedule(milliseconds(u64::from(round) * 7), Due::Extra);
                }
            }
            _ => {}
        }
    }
}

impl Namespace {
    /// Where requests go now, for a Canary that has routes.
    pub(super) fn shares(&self) -> Option<crossfade_engine::canary::action::Shares> {
        self.routes.get(NAME).map(|route| route.shares)
    }
}
