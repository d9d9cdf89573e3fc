//! How many pods each version of a rollout gets, and how weights follow from pods.
//!
//! Two cases. Without a router pods *are* the weight: both sides share the replicas and move within
//! the fence posts; start at [`Basic`]. With a router weight and pods are separate and the canary's
//! pods come on top; start at [`Routed`], and at [`Retreat`] for the way back when the stable side
//! is sized by its weight too (`dynamicStableScale`). [`Leftovers`] drains what neither side is.
//!
//! Arithmetic only: no object is looked up here and none is scaled. All of it is exact (integers,
//! never floats) and holds for any `i32`: negative counts are read as 0, results saturate.
//! In the formulas R is `spec.replicas` and W the weight that means all traffic.

use crate::mutant::{Mutant, wrong};
/// `maxSurge` or `maxUnavailable` as users write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaled<'a> {
    /// An integer: pods.
    Count(i32),
    /// A text: a percentage of the replicas, with or without `%` (`"5"` is 5 %).
    Share(&'a str),
}

impl Scaled<'_> {
    /// What applies when the field is absent.
    pub const DEFAULT: Scaled<'static> = Scaled::Share("25%");

    /// Hundredths of a pod that this is of `replicas`; `None` for a text that is no integer.
    fn hundredths(self, replicas: i64) -> Option<i64> {
        match self {
            Self::Count(pods) => Some(i64::from(pods) * 100),
            Self::Share(text) => {
                let percent: i64 = text.replace('%', "").parse().ok()?;
                Some(percent.saturating_mul(replicas))
            }
        }
    }
}

/// How far an update may leave the wanted number of pods, in pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FencePosts {
    /// Pods allowed above R.
    pub surge: i32,
    /// Available pods that may be missing below R.
    pub unavailable: i32,
}

impl FencePosts {
    /// Surge is rounded up, unavailable down; where both come to 0, one pod may be missing.
    /// A text that is no percentage makes both 0, and the update stands still: validation says so.
    pub fn of(replicas: i32, max_surge: Scaled<'_>, max_unavailable: Scaled<'_>) -> Self {
        let r = count(replicas);
        let (Some(surge), Some(unavailable)) =
            (max_surge.hundredths(r), max_unavailable.hundredths(r))
        else {
            return Self::default();
        };
        let surge = pods(ceil(surge.max(0), 100));
        let unavailable = match pods(unavailable.max(0) / 100) {
            0 if surge == 0 => 1,
            some => some,
        };
        Self {
            surge,
            unavailable: unavailable.min(replicas.max(0)),
        }
    }
}

/// Pods of one ReplicaSet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// Wanted: `spec.replicas`.
    pub spec: i32,
    /// Existing: `status.replicas`.
    pub current: i32,
    /// Ready for long enough: `status.availableReplicas`.
    pub available: i32,
}

impl Pods {
    /// `wanted` pods are asked for and exist, available or not.
    pub fn created(self, wanted: i32) -> bool {
        self.spec == wanted && self.current == wanted
    }

    /// Pods that certainly serve: available, and not about to be removed.
    fn serving(self) -> i64 {
        count(self.spec).min(count(self.available))
    }
}

/// Wanted pods of the two sides of a canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Pods of the new version.
    pub canary: i32,
    /// Pods of the stable version.
    pub stable: i32,
}

/// What counts as "all pods are there": `replicaProgressThreshold`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threshold {
    /// Every wanted pod, and no other: the default. A negative value means this too.
    #[default]
    All,
    /// This percentage of the wanted pods.
    Percent(i32),
    /// This many pods, or all wanted ones where fewer are wanted.
    Pods(i32),
}

impl Threshold {
    /// True if `pods` is close enough to `wanted`.
    pub fn met(self, pods: Pods, wanted: i32) -> bool {
        let (available, desired) = (count(pods.available), count(wanted));
        match self {
            Self::Percent(value) if value >= 0 => available * 100 >= i64::from(value) * desired,
            Self::Pods(value) if value >= 0 => available >= i64::from(value).min(desired),
            Self::All | Self::Percent(_) | Self::Pods(_) => {
                pods.spec == wanted && pods.available == wanted
            }
        }
    }
}

/// What one canary step says about weights and sizes; a step may say both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// `setWeight`.
    pub set_weight: Option<i32>,
    /// `setCanaryScale`.
    pub canary_scale: Option<CanaryScale>,
}

/// How many canary pods a `setCanaryScale` step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryScale {
    /// As many as the traffic needs: `matchTrafficWeight`, or an empty step.
    MatchTraffic,
    /// So many pods.
    Replicas(i32),
    /// As many as this weight would need; may exceed W.
    Weight(i32),
}

/// The weight that the steps ask for at `index`: that of the nearest `setWeight` at or before it, 0
/// if there is none, and `whole` past the last step (so for no steps at all).
pub fn weight_at(steps: &[Step], index: usize, whole: i32) -> i32 {
    match steps.get(..=index) {
        Some(done) => done
            .iter()
            .rev()
            .find_map(|step| step.set_weight)
            .unwrap_or(0),
        None => whole,
    }
}

/// The weight while the pods for `index` are not all there. No rise before they are (`recorded` is
/// the weight that this version carries, if any), and a fall at once, before pods go.
pub fn weight_while_scaling(
    steps: &[Step],
    index: usize,
    whole: i32,
    recorded: Option<i32>,
) -> i32 {
    recorded.unwrap_or(0).min(weight_at(steps, index, whole))
}

/// The size that the nearest `setCanaryScale` at or before `index` fixes; `None` where the canary
/// follows its weight.
pub fn scale_at(steps: &[Step], index: usize) -> Option<Demand> {
    let scale = steps
        .get(..=index)?
        .iter()
        .rev()
        .find_map(|step| step.canary_scale)?;
    match scale {
        CanaryScale::MatchTraffic => None,
        CanaryScale::Replicas(replicas) => Some(Demand::Replicas(replicas)),
        CanaryScale::Weight(weight) => Some(Demand::Weight(weight)),
    }
}

/// How both sides share `replicas` pods so that the canary's part comes closest to `weight` percent.
///
/// With a weight between 0 and 100 and two pods or more (one suffices when surging) both sides keep
/// one; ties round the canary up; one pod more than `replicas` is used only if `surge` allows it.
pub fn split(replicas: i32, weight: i32, surge: i32) -> Sizes {
    let (r, w) = (count(replicas), i64::from(weight.clamp(0, 100)));
    if r == 0 {
        return Sizes::default();
    }
    let (high, low) = (ceil(r * w, 100), r * w / 100);
    let may_be_empty = w == 0 || w == 100 || (r == 1 && surge <= 0);
    // |100·canary/total − w|, the totals multiplied out. The first factor stays below 200.
    let miss = |(canary, total): (i64, i64)| (100 * canary - w * total).abs();
    let (canary, total) = [(high, r), (low, r), (high, r + 1), (low, r + 1)]
        .into_iter()
        .take(if surge > 0 { 4 } else { 2 })
        .filter(|(canary, total)| may_be_empty || (0 < *canary && canary < total))
        .reduce(|best, next| {
            if miss(next) * best.1 < miss(best) * next.1 {
                next
            } else {
                best
            }
        })
        .expect("a single pod may leave a side empty or surges, of two or more each side gets one");
    Sizes {
        canary: pods(canary),
        stable: pods(total - canary),
    }
}

/// A canary without a router, as observed.
#[derive(Clone, Copy, Debug)]
pub struct Basic<'a> {
    /// R.
    pub replicas: i32,
    /// The canary's share in percent.
    pub weight: i32,
    /// How far sizes may leave R.
    pub fence: FencePosts,
    /// The new version, if its ReplicaSet exists.
    pub new: Option<Pods>,
    /// The stable version, if it exists and is not the new one.
    pub stable: Option<Pods>,
    /// Every other ReplicaSet, oldest revision first.
    pub others: &'a [Pods],
}

impl Basic<'_> {
    /// The sizes at which the weight is reached.
    pub fn target(&self) -> Sizes {
        match self.stable {
            Some(_) => split(self.replicas, self.weight, self.fence.surge),
            None => Sizes {
                canary: self.replicas.max(0),
                stable: 0,
            },
        }
    }

    /// The target is reached: as many new pods as `threshold` asks for, every stable pod created,
    /// nothing left of the others.
    pub fn at_target(&self, threshold: Threshold) -> bool {
        let target = self.target();
        self.new
            .is_some_and(|new| threshold.met(new, target.canary))
            && self
                .stable
                .is_some_and(|stable| stable.created(target.stable))
            && self.others.iter().all(|other| other.available <= 0)
    }

    /// The sizes to move to now. Stable grows first, then the canary, as far as surge leaves room;
    /// then the side that has too many shrinks as far as availability allows, unless others are to
    /// be drained before. Where both change, the stable one is applied first and all is asked anew.
    pub fn next(&self) -> Sizes {
        let (new, stable) = (
            self.new.unwrap_or_default(),
            self.stable.unwrap_or_default(),
        );
        let target = self.target();
        let limit = count(self.replicas) + count(self.fence.surge);
        let others: i64 = self.others.iter().map(|other| count(other.spec)).sum();

        let mut room = limit - count(new.spec) - count(stable.spec) - others;
        let mut grow = |exists: bool, spec: i32, wanted: i32| {
            let missing = if exists {
                count(wanted) - count(spec)
            } else {
                0
            };
            let most = if missing > room && wrong(Mutant::GrowBeyondSurge) {
                missing
            } else {
                room
            };
            let more = missing.min(most).max(0);
            room -= more;
            count(spec) + more
        };
        let grown_stable = grow(self.stable.is_some(), stable.spec, target.stable);
        let grown_new = grow(self.new.is_some(), new.spec, target.canary);
        let grown = Sizes {
            canary: pods(grown_new),
            stable: pods(grown_stable),
        };
        if others > 0 {
            // Broken pods that nobody wants make room; else they and the others would wait for one another for ever.
            let whole = |pods: Pods, target: i32, grown: i32| {
                let serving = i32::try_from(pods.serving()).unwrap_or(i32::MAX);
                if target < pods.spec {
                    target.max(serving)
                } else {
                    grown
                }
            };
            return Sizes {
                canary: whole(new, target.canary, grown.canary),
                stable: whole(stable, target.stable, grown.stable),
            };
        }

        let increasing = target.canary >= new.spec;
        // The side to be drained counts by its spec, so that its broken pods never block the drain.
        let have = if increasing {
            new.serving() + count(stable.spec)
        } else {
            count(new.spec) + stable.serving()
        };
        let floor = self.floor();
        if have <= floor {
            return grown;
        }
        let shrink = Shrink {
            limit,
            floor,
            cut: have - floor,
        };
        let canary = Side {
            pods: new,
            size: grown_new,
            target: count(target.canary),
        };
        let stable = Side {
            pods: stable,
            size: grown_stable,
            target: count(target.stable),
        };
        if increasing {
            let (canary, stable) = shrink.apply(&canary, &stable);
            Sizes { canary, stable }
        } else {
            let (stable, canary) = shrink.apply(&stable, &canary);
            Sizes { canary, stable }
        }
    }

    /// The sizes of the others to move to, when new and stable need no change: first without their
    /// unavailable pods, then, from the newest revision down, as few as availability allows.
    pub fn next_others(&self) -> Vec<i32> {
        let both = [self.new, self.stable].into_iter().flatten();
        let mut spare = serving(both.chain(self.others.iter().copied())) - self.floor();
        let mut sizes: Vec<i32> = self
            .others
            .iter()
            .map(|other| pods(other.serving()))
            .collect();
        for size in sizes.iter_mut().rev() {
            let cut = spare.clamp(0, count(*size));
            spare -= cut;
            *size = pods(count(*size) - cut);
        }
        sizes
    }

    fn floor(&self) -> i64 {
        if wrong(Mutant::ShrinkBelowFloor) {
            return 0;
        }
        count(self.replicas) - count(self.fence.unavailable)
    }
}

/// One side of a canary while pods are taken away: as it is, and the size it has grown to.
struct Side {
    pods: Pods,
    size: i64,
    target: i64,
}

/// How far pods may be taken away.
struct Shrink {
    limit: i64,
    floor: i64,
    cut: i64,
}

impl Shrink {
    /// The sizes of the side to keep and of the side to drain.
    fn apply(&self, keep: &Side, drain: &Side) -> (i32, i32) {
        let (mut kept, mut drained) = (keep.size, drain.size);
        let present = count(drain.pods.spec);
        if present > drain.target {
            drained = drain.target.max(present - self.cut);
        }
        // Above the limit (R was lowered, or surge was) the kept side gives way first, but no
        // available pod of it that the floor needs.
        kept -= (kept + drained - self.limit).max(0);
        let ready = keep.pods.serving();
        let serving = drain.pods.serving().min(drained) + ready.min(kept);
        kept += (ready - kept).max(0).min((self.floor - serving).max(0));
        drained -= (kept + drained - self.limit).max(0);
        (pods(kept), pods(drained))
    }
}

/// What the size of a routed canary is derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A weight out of W.
    Weight(i32),
    /// Pods, said explicitly (`setCanaryScale.replicas`); may exceed R.
    Replicas(i32),
}

/// A canary behind a router: what its sizes are measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// R.
    pub replicas: i32,
    /// W: the weight that means all traffic (`maxTrafficWeight`, else 100).
    pub max_weight: i32,
    /// `minPodsPerReplicaSet`, 1 if unset: fewest pods of a side that has any, at most R.
    pub min_pods: i32,
}

impl Routed {
    /// Pods that `weight` needs: ceil(R·weight/W), at least the minimum unless it is 0.
    pub fn pods_for(self, weight: i32) -> i32 {
        let needed = count(self.replicas) * count(weight);
        if wrong(Mutant::PodsRoundedDown) {
            return self.at_least_min(pods(needed / self.whole()));
        }
        self.at_least_min(pods(ceil(needed, self.whole())))
    }

    /// Weight that `available` pods of R carry: floor(W·available/R), within 0 and W; 0 if R is 0.
    pub fn weight_carried(self, available: i32) -> i32 {
        let r = count(self.replicas);
        if r == 0 {
            return 0;
        }
        pods((self.whole() * count(available) / r).min(self.whole()))
    }

    /// Available stable pods without which traffic must not move to `weight` on the canary:
    /// floor((W − weight)·R/W), and at least one for whatever share is left to them.
    pub fn needed_stable(self, weight: i32) -> i32 {
        let rest = (self.whole() - count(weight)).max(0);
        let least = i32::from(rest > 0 && self.replicas > 0);
        pods(rest * count(self.replicas) / self.whole()).max(least)
    }

    /// The guard: `stable` can carry what `weight` on the canary leaves to it. To be asked only
    /// when the canary's weight does not rise; without a stable ReplicaSet the answer is no.
    pub fn stable_carries_rest(self, weight: i32, stable: Pods, threshold: Threshold) -> bool {
        let need = self.needed_stable(weight);
        stable.available >= need || (stable.available > 0 && threshold.met(stable, need))
    }

    /// The weight that an aborted or superseded version, which has available pods, keeps while the
    /// guard fails: what stable cannot carry, never more than `recorded`.
    pub fn weight_not_carried(self, desired: i32, recorded: i32, stable_available: i32) -> i32 {
        let rest = self.max_weight() - self.weight_carried(stable_available);
        recorded.max(0).min(desired.max(rest))
    }

    /// Pods of the canary; `weight_at` and `scale_at` give the demand. Stable has R pods.
    pub fn canary(self, demand: Demand) -> i32 {
        match demand {
            Demand::Weight(weight) => self.pods_for(weight),
            Demand::Replicas(replicas) => replicas.max(0),
        }
    }

    /// Pods of the canary with `dynamicStableScale`, where the minimum binds explicit pods too.
    pub fn dynamic_canary(self, demand: Demand) -> i32 {
        self.at_least_min(self.canary(demand))
    }

    /// Pods of the stable side with `dynamicStableScale`: enough for what the demand leaves to it
    /// and for the weight it carries, `recorded_stable` as stored *before* this pass. So it never
    /// shrinks in the pass that takes the traffic off it.
    pub fn dynamic_stable(self, demand: Demand, recorded_stable: Option<i32>) -> i32 {
        let moved = match demand {
            Demand::Weight(weight) => weight.max(0),
            Demand::Replicas(_) => 0,
        };
        let rest = self.max_weight().saturating_sub(moved);
        let carried = recorded_stable.filter(|_| !wrong(Mutant::StableShrinksBeforeWeight));
        self.pods_for(rest).max(self.pods_for(carried.unwrap_or(0)))
    }

    fn at_least_min(self, size: i32) -> i32 {
        if size <= 0 {
            0
        } else {
            size.max(self.min_pods.min(self.replicas))
        }
    }

    /// W; a value that is no weight counts as 1, so that nothing divides by 0.
    fn max_weight(self) -> i32 {
        self.max_weight.max(1)
    }

    fn whole(self) -> i64 {
        i64::from(self.max_weight())
    }
}

/// A canary with `dynamicStableScale` on the way back to stable, by abort or because the stable
/// template was applied again.
///
/// Stable has given pods away, so traffic goes back only as fast as they return. An abort is
/// monotone: neither the recorded weight nor the canary's size rises while it lasts, whatever
/// happens to R or to stable pods, and once stable has R available pods both end at 0.
#[derive(Clone, Copy, Debug)]
pub struct Retreat {
    /// What sizes are measured by.
    pub routed: Routed,
    /// The version to leave.
    pub canary: Option<Pods>,
    /// The version to return to.
    pub stable: Option<Pods>,
    /// The canary weight recorded in the status, if weights are.
    pub recorded: Option<i32>,
    /// The canary keeps its pods for a while (`abortScaleDownDelaySeconds` set and not 0), so they
    /// say nothing about how far the way back has come.
    pub keeps_pods: bool,
}

impl Retreat {
    /// The weight whose step an aborted canary goes back to next: the last `setWeight` that needs
    /// fewer pods than the canary still has to stand in for, 0 if none does.
    ///
    /// Pods are compared with the minimum applied: otherwise a canary at that minimum would seem
    /// too big for its step for ever, and the abort would not end.
    pub fn target(&self, steps: &[Step]) -> i32 {
        let Some((canary, stable)) = self.both() else {
            return 0;
        };
        let missing = count(self.routed.replicas) - count(stable.available);
        let standing_in = if self.keeps_pods {
            missing
        } else {
            missing.max(count(canary.available))
        };
        let standing_in = standing_in.min(count(canary.spec));
        let fewer = |weight: &i32| count(self.routed.pods_for(*weight)) < standing_in;
        let weight = steps
            .iter()
            .rev()
            .filter_map(|step| step.set_weight)
            .find(fewer);
        weight
            .unwrap_or(0)
            .min(self.recorded.unwrap_or(i32::MAX))
            .max(0)
    }

    /// The weight to set on the way to `target`: that of [`Retreat::target`] when aborted; when the
    /// stable template was applied again that of the present step, W past the last.
    ///
    /// Never more than the recorded weight. Without one (nothing was ever routed) it is what stable
    /// cannot carry, or 0 if the canary has no pod to carry it.
    pub fn weight(&self, target: i32) -> i32 {
        let Some((canary, stable)) = self.both() else {
            return 0;
        };
        let whole = self.routed.max_weight();
        let carried = self.routed.weight_carried(stable.available);
        let not_carried = whole - carried;
        let Some(recorded) = self.recorded.map(|recorded| recorded.clamp(0, whole)) else {
            let served = canary.serving() > 0;
            return if served {
                not_carried.max(target.min(whole))
            } else {
                0
            };
        };
        if wrong(Mutant::RetreatAtOnce) {
            0
        } else if target <= 0 {
            not_carried.min(recorded)
        } else if carried < whole.saturating_sub(target) {
            recorded
        } else {
            target.min(recorded)
        }
    }

    /// Pods of an aborted canary: enough for the demand (the target, unless an explicit size
    /// applies) and for `weight`, recorded in this pass; never more than it has.
    /// Stable gets [`Routed::dynamic_stable`] of the same demand.
    pub fn canary_size(&self, demand: Demand, weight: Option<i32>) -> i32 {
        let present = self.canary.map_or(0, |canary| canary.spec.max(0));
        let wanted = self.routed.dynamic_canary(demand);
        wanted
            .max(self.routed.pods_for(weight.unwrap_or(0)))
            .min(present)
    }

    /// Canary and stable; `None` when one is missing or no pods are wanted, so that no weight is.
    fn both(&self) -> Option<(Pods, Pods)> {
        self.canary
            .zip(self.stable)
            .filter(|_| self.routed.replicas > 0)
    }
}

/// The `scale-down-deadline` of a ReplicaSet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deadline {
    /// It has none.
    #[default]
    None,
    /// It lies ahead.
    Ahead,
    /// It has passed, or is no time at all.
    Passed,
}

/// What happens to a ReplicaSet that is neither new nor stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Keep,
    /// It stays and gets a deadline: now and the delay.
    Delay,
    /// It goes to 0.
    Drop,
}

/// `scaleDownDelaySeconds` and `scaleDownDelayRevisionLimit`, applied to one ReplicaSet after the
/// other, newest revision first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleDownDelay {
    /// The delay is 0: nothing is kept.
    pub at_once: bool,
    /// How many may be kept; `None` for any number.
    pub limit: Option<i32>,
    kept: i32,
}

impl ScaleDownDelay {
    /// The rule before the first ReplicaSet.
    pub fn new(at_once: bool, limit: Option<i32>) -> Self {
        Self {
            at_once,
            limit,
            kept: 0,
        }
    }

    /// The fate of the next ReplicaSet.
    pub fn next(&mut self, deadline: Deadline) -> Fate {
        let full = self.limit.is_some_and(|limit| self.kept >= limit);
        if self.at_once || (full && !wrong(Mutant::DelayLimitIgnored)) {
            return Fate::Drop;
        }
        self.kept = self.kept.saturating_add(1);
        match deadline {
            Deadline::None => Fate::Delay,
            Deadline::Ahead => Fate::Keep,
            Deadline::Passed if wrong(Mutant::DelayWithoutEnd) => Fate::Keep,
            Deadline::Passed => Fate::Drop,
        }
    }
}

/// A ReplicaSet of a routed canary that is neither new nor stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftover {
    /// Its pods.
    pub pods: Pods,
    /// The status, a stored weight, a Service or a subset names it, or it is unknown whether.
    pub referenced: bool,
    /// It carried weight within the last 30 s; a proxy may still hold it.
    pub carried_lately: bool,
    /// When it is to go.
    pub deadline: Deadline,
}

/// What becomes of a [`Leftover`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Wanted pods.
    pub size: i32,
    /// It gets a deadline: now and the delay.
    pub delay: bool,
}

/// Everything a routed canary has left behind.
#[derive(Clone, Copy, Debug)]
pub struct Leftovers<'a> {
    /// R.
    pub replicas: i32,
    /// `maxUnavailable` in pods: [`FencePosts::unavailable`].
    pub unavailable: i32,
    /// The new version, if its ReplicaSet exists.
    pub new: Option<Pods>,
    /// The stable version, if it exists and is not the new one.
    pub stable: Option<Pods>,
    /// The update has ended.
    pub fully_promoted: bool,
    /// `dynamicStableScale`.
    pub dynamic: bool,
    /// The load balancer's targets are verified, or need not be.
    pub targets_verified: bool,
    /// How long they are kept.
    pub delay: ScaleDownDelay,
    /// They, oldest revision first.
    pub sets: &'a [Leftover],
}

impl Leftovers<'_> {
    /// What becomes of each, in their order; to be asked when new and stable need no change.
    ///
    /// Unavailable pods go first and from all. The rest goes only while enough pods are available
    /// without it: then all that nothing refers to goes at once, save what the delay keeps.
    pub fn next(&self) -> Vec<Remains> {
        let trimmed = |set: &Leftover| Remains {
            size: pods(set.pods.serving()),
            delay: false,
        };
        let mut next: Vec<Remains> = self.sets.iter().map(trimmed).collect();
        let both = [self.new, self.stable].into_iter().flatten();
        let all = serving(both.chain(self.sets.iter().map(|set| set.pods)));
        let unverified = !self.targets_verified
            && self
                .sets
                .iter()
                .any(|set| set.pods.spec > 0 && set.deadline == Deadline::None);
        if all <= count(self.replicas) - count(self.unavailable) || unverified {
            return next;
        }
        let mut delay = self.delay;
        for (set, remains) in self.sets.iter().zip(&mut next).rev() {
            if remains.size == 0 || set.referenced {
                continue;
            }
            let lingers =
                self.fully_promoted || set.carried_lately || set.deadline != Deadline::None;
            let fate = if lingers && !self.dynamic {
                delay.next(set.deadline)
            } else {
                Fate::Drop
            };
            match fate {
                Fate::Keep => {}
                Fate::Delay => remains.delay = true,
                Fate::Drop => remains.size = 0,
            }
        }
        next
    }
}

/// Pods that serve and will go on serving. Those that are only still there do not count, or too
/// many would be taken away while the last removal is under way.
fn serving(sets: impl Iterator<Item = Pods>) -> i64 {
    sets.map(Pods::serving).sum()
}

/// A count or weight to calculate with.
fn count(value: i32) -> i64 {
    i64::from(value.max(0))
}

/// A result as a number of pods or a weight.
fn pods(value: i64) -> i32 {
    i32::try_from(value.max(0)).unwrap_or(i32::MAX)
}

/// Rounded up; `value` is not negative and `by` is positive.
fn ceil(value: i64, by: i64) -> i64 {
    value / by + i64::from(value % by != 0)
}
