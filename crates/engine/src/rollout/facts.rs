//! What is so, as far as a pass over a Rollout needs it: observed once, asked often.
//!
//! The world is never changed. What the pass itself has written so far (a ReplicaSet's version, a Service's selector) is laid
//! over it here, so that later rules see what earlier ones did.

use std::borrow::Cow;

use crossfade_api::names::annotation;
use crossfade_api::rollout::{BlueGreenStrategy, CanaryStrategy, RolloutSpec};
use crossfade_api::rollout_status::{PauseReason, RolloutStatus};
use crossfade_api::steps::CanaryStep;
use crossfade_api::time;
use crossfade_api::words::PodHash;
use jiff::Timestamp;

use crate::action::{Action, Done, KeyChanges, ReplicaSetChange, Target};
use crate::decision::{Halt, Plan};
use crate::mutant::{Mutant, wrong};

use super::prepared::Prepared;
use super::replicas::{Pods, Threshold};
use super::world::{ReplicaSet, World};

/// Where a ReplicaSet stands in [`Facts::sets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetId(pub(super) usize);

/// A ReplicaSet of the Rollout as this pass sees it.
#[derive(Debug)]
pub(super) struct Set<'w> {
    /// As it was observed; sizes and counts are judged by this until the pass is over.
    pub(super) observed: &'w ReplicaSet,
    /// Its version after what this pass wrote.
    pub(super) version: Cow<'w, str>,
    /// Number of its revision; 0 if it has none that can be read.
    pub(super) revision: u64,
    /// When it may be scaled to 0; `None` without a deadline.
    pub(super) deadline: Option<DeadlineMark>,
    /// The wanted pods of the Rollout when it was last scaled, if that is known.
    pub(super) desired: Option<i32>,
}

/// A `scale-down-deadline` as it stands on a ReplicaSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeadlineMark {
    /// At this time.
    At(Timestamp),
    /// It is no time at all.
    Unreadable,
}

impl<'w> Set<'w> {
    pub(super) fn new(observed: &'w ReplicaSet) -> Self {
        let note = |key| observed.annotations.get(key);
        let revision = note(annotation::REVISION).and_then(|text| text.parse().ok());
        let desired = note(annotation::DESIRED_REPLICAS).and_then(|text| text.parse().ok());
        let deadline = note(annotation::SCALE_DOWN_DEADLINE)
            .map(|text| time::parse(text).map_or(DeadlineMark::Unreadable, DeadlineMark::At));
        Self {
            version: Cow::Borrowed(&observed.target.resource_version),
            revision: revision.unwrap_or(0),
            deadline,
            desired,
            observed,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.observed.target.name
    }

    /// The version it runs: its hash label.
    pub(super) fn hash(&self) -> &str {
        self.observed.hash()
    }

    pub(super) fn pods(&self) -> Pods {
        Pods {
            spec: self.observed.replicas,
            current: self.observed.current,
            available: self.observed.available,
        }
    }

    /// It is meant to have pods.
    pub(super) fn is_active(&self) -> bool {
        self.observed.replicas > 0
    }

    /// Its deadline, if that lies ahead.
    pub(super) fn delayed_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.deadline {
            Some(DeadlineMark::At(time)) if time > now => Some(time),
            _ => None,
        }
    }

    /// Its deadline lies ahead.
    pub(super) fn is_delayed(&self, now: Timestamp) -> bool {
        self.delayed_until(now).is_some()
    }
}

/// Everything a pass over one Rollout is decided on.
pub(super) struct Facts<'w> {
    pub(super) world: &'w World,
    pub(super) prepared: &'w Prepared,
    pub(super) spec: &'w RolloutSpec,
    /// The status as stored.
    pub(super) status: &'w RolloutStatus,
    pub(super) now: Timestamp,
    /// R: the wanted number of pods.
    pub(super) replicas: i32,
    /// W: the weight that means all traffic.
    pub(super) max_weight: i32,
    /// The Rollout's own ReplicaSets, oldest first.
    pub(super) sets: Vec<Set<'w>>,
    new: Option<SetId>,
    stable: Option<SetId>,
    /// Number of the Rollout's revision; `None` where it has none that can be read.
    pub(super) revision: Option<u64>,
    /// The Rollout's version after what this pass wrote.
    pub(super) version: Cow<'w, str>,
    /// Services that this pass has switched, with the hash that they select now.
    pub(super) switched: Vec<(&'w str, PodHash)>,
}

impl<'w> Facts<'w> {
    pub(super) fn new(world: &'w World, sets: Vec<Set<'w>>, now: Timestamp) -> Self {
        let rollout = &*world.rollout;
        let metadata = &rollout.metadata;
        let annotations = metadata.annotations.as_ref();
        let mut facts = Self {
            world,
            prepared: &world.prepared,
            spec: &rollout.spec,
            status: &rollout.status,
            now,
            replicas: rollout.spec.replicas(),
            max_weight: rollout.spec.max_traffic_weight(),
            new: None,
            stable: None,
            revision: annotations
                .and_then(|notes| notes.get(annotation::REVISION))
                .and_then(|text| text.parse().ok()),
            version: Cow::Borrowed(metadata.resource_version.as_deref().unwrap_or_default()),
            sets,
            switched: Vec::new(),
        };
        facts.new = super::revisions::find_new(&facts);
        facts.stable = facts.by_hash(&facts.status.stable_rs.0);
        facts
    }

    /// The Rollout's name.
    pub(super) fn name(&self) -> &'w str {
        self.world
            .rollout
            .metadata
            .name
            .as_deref()
            .unwrap_or_default()
    }

    /// The Rollout's namespace.
    pub(super) fn namespace(&self) -> &'w str {
        self.world
            .rollout
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default()
    }

    /// The Rollout's uid.
    pub(super) fn uid(&self) -> &'w str {
        self.world
            .rollout
            .metadata
            .uid
            .as_deref()
            .unwrap_or_default()
    }

    /// The Rollout itself, to be changed.
    pub(super) fn target(&self) -> Target {
        Target {
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
            uid: self.uid().to_owned(),
            resource_version: self.version.clone().into_owned(),
        }
    }

    /// `metadata.generation`.
    pub(super) fn generation(&self) -> i64 {
        self.world.rollout.metadata.generation.unwrap_or(0)
    }

    /// The stored status belongs to the present spec.
    pub(super) fn is_observed(&self) -> bool {
        self.status.observed_generation.parse() == Ok(self.generation())
    }

    pub(super) fn canary(&self) -> Option<&'w CanaryStrategy> {
        self.spec.strategy.canary.as_ref()
    }

    pub(super) fn blue_green(&self) -> Option<&'w BlueGreenStrategy> {
        self.spec.strategy.blue_green.as_ref()
    }

    /// A canary whose traffic a router splits.
    pub(super) fn is_routed(&self) -> bool {
        self.canary()
            .is_some_and(|canary| canary.traffic_routing.is_some())
    }

    /// Stable pods follow the weight, too.
    pub(super) fn is_dynamic(&self) -> bool {
        self.is_routed()
            && self
                .canary()
                .is_some_and(|canary| canary.dynamic_stable_scale)
    }

    pub(super) fn steps(&self) -> &'w [CanaryStep] {
        self.canary().map_or(&[], |canary| &canary.steps)
    }

    /// Position in the steps: 0 up to their number, which stands for "all done".
    pub(super) fn index(&self) -> usize {
        let stored = usize::try_from(self.status.current_step_index.unwrap_or(0)).unwrap_or(0);
        stored.min(self.steps().len())
    }

    /// The step under way.
    pub(super) fn step(&self) -> Option<&'w CanaryStep> {
        self.steps().get(self.index())
    }

    pub(super) fn threshold(&self) -> Threshold {
        let threshold = self
            .canary()
            .and_then(CanaryStrategy::replica_progress_threshold);
        match threshold {
            Some(threshold) if threshold.is_percent() => Threshold::Percent(threshold.value),
            Some(threshold) => Threshold::Pods(threshold.value),
            None => Threshold::All,
        }
    }

    pub(super) fn set(&self, id: SetId) -> &Set<'w> {
        &self.sets[id.0]
    }

    pub(super) fn ids(&self) -> impl DoubleEndedIterator<Item = SetId> + use<> {
        (0..self.sets.len()).map(SetId)
    }

    pub(super) fn by_hash(&self, hash: &str) -> Option<SetId> {
        let found = self.ids().find(|id| self.set(*id).hash() == hash);
        found.filter(|_| !hash.is_empty())
    }

    /// The ReplicaSet of the present template.
    pub(super) fn new_id(&self) -> Option<SetId> {
        self.new
    }

    /// The ReplicaSet that was promoted last; may be the new one.
    pub(super) fn stable_id(&self) -> Option<SetId> {
        self.stable
    }

    pub(super) fn new_set(&self) -> Option<&Set<'w>> {
        self.new.map(|id| self.set(id))
    }

    pub(super) fn stable_set(&self) -> Option<&Set<'w>> {
        self.stable.map(|id| self.set(id))
    }

    /// The stable ReplicaSet where it is another one than the new.
    pub(super) fn other_stable(&self) -> Option<&Set<'w>> {
        self.stable
            .filter(|_| self.stable != self.new)
            .map(|id| self.set(id))
    }

    /// Every ReplicaSet but the new one.
    pub(super) fn older(&self) -> impl Iterator<Item = &Set<'w>> {
        self.ids()
            .filter(|id| Some(*id) != self.new)
            .map(|id| self.set(id))
    }

    /// Every ReplicaSet that is neither new nor stable, oldest first.
    pub(super) fn others(&self) -> impl DoubleEndedIterator<Item = SetId> + use<'_, 'w> {
        self.ids()
            .filter(|id| Some(*id) != self.new && Some(*id) != self.stable)
    }

    /// Pods of all ReplicaSets together.
    pub(super) fn sum(&self, count: impl Fn(&ReplicaSet) -> i32) -> i32 {
        let counts = self.sets.iter().map(|set| count(set.observed));
        counts.fold(0, i32::saturating_add)
    }

    /// As many pods as the Rollout wants: asked for, for this number, and available.
    pub(super) fn is_saturated(&self, set: &Set<'_>) -> bool {
        let pods = set.pods();
        pods.spec == self.replicas
            && set.desired == Some(self.replicas)
            && pods.available == self.replicas
    }

    /// The hash of the new version: its ReplicaSet's label, or what it would be named.
    pub(super) fn new_hash(&self) -> &str {
        self.new_set().map_or(&self.prepared.hash.0, Set::hash)
    }

    /// The update has ended, as stored.
    pub(super) fn is_fully_promoted(&self) -> bool {
        self.status.stable_rs == self.status.current_pod_hash
    }

    /// The pod template differs from the one that the stored status is about.
    pub(super) fn template_changed(&self) -> bool {
        let stored = &self.status.current_pod_hash.0;
        !stored.is_empty() && stored != self.new_hash()
    }

    /// The steps of a canary differ from those that the stored status is about.
    pub(super) fn steps_changed(&self) -> bool {
        let stored = &self.status.current_step_hash;
        self.canary().is_some()
            && (stored.is_empty()
                || (*stored != self.prepared.step_hash
                    && *stored != self.prepared.legacy_step_hash))
    }

    /// The spec differs from the one that the stored status is about so much that the update starts anew.
    pub(super) fn is_changed(&self) -> bool {
        self.template_changed() || self.steps_changed()
    }

    pub(super) fn is_paused_for(&self, reason: PauseReason) -> bool {
        self.pause_start(reason).is_some()
    }

    /// Since when there is a pause for this reason.
    pub(super) fn pause_start(&self, reason: PauseReason) -> Option<Timestamp> {
        let mut pauses = self.status.pause_conditions.iter();
        pauses
            .find(|pause| pause.reason == reason)
            .map(|pause| pause.start_time)
    }

    /// A person has ended a pause that the controller had begun. Whoever says "go on" ends every pause: while one is recorded, be it that of
    /// a strategy that the Rollout has left, nobody has.
    pub(super) fn is_resumed(&self) -> bool {
        self.status.controller_pause && self.status.pause_conditions.is_empty()
    }

    /// The new ReplicaSet is older than the stable one, and few enough lie between them.
    pub(super) fn is_within_rollback_window(&self) -> bool {
        let window = self.spec.rollback_window();
        let (Some(new), Some(stable)) = (self.new_set(), self.stable_set()) else {
            return false;
        };
        let (from, to) = (new.observed.created, stable.observed.created);
        if window <= 0 || from >= to {
            return false;
        }
        let between = self.sets.iter().filter(|set| {
            set.observed.created > from
                && set.observed.created < to
                && !set
                    .observed
                    .annotations
                    .contains_key(annotation::EXPERIMENT_NAME)
        });
        let most = usize::try_from(window).unwrap_or(0);
        let count = between.count();
        count < most || (count == most && wrong(Mutant::RollbackWindowOffByOne))
    }

    /// The hash that a Service selects now, `None` if it was not found.
    pub(super) fn selected(&self, service: &str) -> Option<&str> {
        let switched = self
            .switched
            .iter()
            .rev()
            .find(|(name, _)| *name == service);
        if let Some((_, hash)) = switched {
            return Some(hash.as_str());
        }
        let service = self.world.services.get(service)?.found()?;
        Some(service.selected())
    }

    /// Changes a ReplicaSet. False if that failed, which also fails the pass in the end.
    pub(super) fn change(
        &mut self,
        plan: &mut Plan<'_>,
        id: SetId,
        change: ReplicaSetChange,
    ) -> Result<bool, Halt> {
        let set = &mut self.sets[id.0];
        let target = Target {
            resource_version: set.version.clone().into_owned(),
            ..set.observed.target.clone()
        };
        let marks_deadline = change
            .annotations
            .get(annotation::SCALE_DOWN_DEADLINE)
            .cloned();
        let desired = change
            .annotations
            .get(annotation::DESIRED_REPLICAS)
            .cloned();
        match plan.act(Action::UpdateReplicaSet { target, change })? {
            Ok(done) => {
                let version = match done {
                    Done::ReplicaSet(after) => &after.target.resource_version,
                    Done::Written(version) => version,
                    Done::AnalysisRun(_)
                    | Done::Experiment(_)
                    | Done::Verified(_)
                    | Done::Measured(_)
                    | Done::Canary(_) => "",
                };
                if !version.is_empty() {
                    set.version = Cow::Owned(version.to_owned());
                }
                if let Some(mark) = marks_deadline {
                    set.deadline = mark.map(|text| {
                        time::parse(&text).map_or(DeadlineMark::Unreadable, DeadlineMark::At)
                    });
                }
                if let Some(desired) = desired {
                    set.desired = desired.and_then(|text| text.parse().ok());
                }
                Ok(true)
            }
            Err(failure) => {
                plan.fail(failure.message.clone());
                Ok(false)
            }
        }
    }

    /// Changes annotations of the Rollout, or stores the default of its replicas. False if that failed, which also fails the
    /// pass in the end.
    pub(super) fn change_rollout(
        &mut self,
        plan: &mut Plan<'_>,
        annotations: KeyChanges,
        replicas: Option<i32>,
    ) -> Result<bool, Halt> {
        let target = self.target();
        match plan.act(Action::UpdateRollout {
            target,
            annotations,
            replicas,
        })? {
            Ok(done) => {
                if let Done::Written(version) = done
                    && !version.is_empty()
                {
                    self.version = Cow::Owned(version.clone());
                }
                Ok(true)
            }
            Err(failure) => {
                plan.fail(failure.message.clone());
                Ok(false)
            }
        }
    }
}

/// One annotation set or removed.
pub(super) fn note(key: &str, value: Option<String>) -> KeyChanges {
    KeyChanges::from([(key.to_owned(), value)])
}
