//! The status of a Rollout in the making: rebuilt in every full pass, stored only where it differs.
//!
//! A [`Draft`] borrows what stays as it is, so that a pass which finds nothing new costs next to nothing. What a pass does not set is
//! gone; what is carried over is carried over in [`Draft::new`], and nowhere else.

use std::borrow::Cow;

use crossfade_api::names::condition;
use crossfade_api::rollout_status::{
    AnalysisRunSlot, BlueGreenStatus, CanaryStatus, PauseCondition, PauseReason, PingPongRole,
    RolloutDuration, RolloutPhase, RolloutStatus, TrafficWeights,
};
use crossfade_api::words::PodHash;
use jiff::Timestamp;

use crate::decision::Plan;
use crate::mutant::{Mutant, wrong};

use super::conditions::{self, Conditions};
use super::duration;
use super::facts::Facts;
use super::pause::{self, Asks};
use super::phase;
use super::routing::{Routing, Weights};
use super::workload;

/// The status of a Rollout in the making.
#[expect(clippy::struct_excessive_bools, reason = "the status has them")]
pub(super) struct Draft<'a> {
    /// The status as stored.
    pub(super) stored: &'a RolloutStatus,
    pub(super) abort: bool,
    pub(super) aborted_at: Option<Timestamp>,
    pub(super) pauses: Cow<'a, [PauseCondition]>,
    pub(super) controller_pause: bool,
    pub(super) current_pod_hash: Cow<'a, str>,
    pub(super) current_step_hash: Cow<'a, str>,
    pub(super) current_step_index: Option<i32>,
    pub(super) replicas: i32,
    pub(super) updated_replicas: i32,
    pub(super) ready_replicas: i32,
    pub(super) available_replicas: i32,
    pub(super) hpa_replicas: i32,
    pub(super) selector: Cow<'a, str>,
    /// The generation that the status is about; `None` leaves what is stored.
    pub(super) generation: Option<i64>,
    pub(super) conditions: Conditions<'a>,
    pub(super) stable_rs: Cow<'a, str>,
    pub(super) restarted_at: Option<Timestamp>,
    pub(super) promote_full: bool,
    pub(super) phase: RolloutPhase,
    pub(super) message: Cow<'a, str>,
    pub(super) step_run: Option<Cow<'a, AnalysisRunSlot>>,
    pub(super) background_run: Option<Cow<'a, AnalysisRunSlot>>,
    /// Name of the current Experiment.
    pub(super) experiment: Cow<'a, str>,
    pub(super) weights: Option<Cow<'a, TrafficWeights>>,
    pub(super) stable_ping_pong: PingPongRole,
    pub(super) preview_selector: Cow<'a, str>,
    pub(super) active_selector: Cow<'a, str>,
    pub(super) scale_up_preview_check_point: bool,
    pub(super) pre_promotion_run: Option<Cow<'a, AnalysisRunSlot>>,
    pub(super) post_promotion_run: Option<Cow<'a, AnalysisRunSlot>>,
    pub(super) duration: Option<RolloutDuration>,
    /// The generation of the referenced workload that this is about.
    pub(super) workload: Cow<'a, str>,
    /// Why a router does not do what it shall.
    pub(super) error: Option<String>,
}

impl<'a> Draft<'a> {
    /// What a full pass starts from: what is carried over, and what is counted.
    pub(super) fn new(facts: &'a Facts<'_>) -> Self {
        let stored = facts.status;
        let is_canary = facts.canary().is_some();
        let current = facts.new_hash();
        let mut draft = Self {
            abort: false,
            aborted_at: None,
            pauses: Cow::Borrowed(&[]),
            controller_pause: false,
            current_pod_hash: Cow::Borrowed(current),
            current_step_hash: Cow::Borrowed(if is_canary {
                &facts.prepared.step_hash
            } else {
                ""
            }),
            current_step_index: None,
            replicas: facts.sum(|set| set.current),
            updated_replicas: facts.new_set().map_or(0, |set| set.observed.current),
            ready_replicas: facts.sum(|set| set.ready),
            available_replicas: facts.sum(|set| set.available),
            hpa_replicas: facts.sum(|set| set.current),
            selector: Cow::Borrowed(&facts.prepared.selector_text),
            generation: Some(facts.generation()),
            conditions: Cow::Borrowed(&stored.conditions),
            stable_rs: Cow::Borrowed(&stored.stable_rs.0),
            restarted_at: stored.restarted_at,
            promote_full: stored.promote_full && stored.stable_rs.0 != current,
            phase: stored.phase,
            message: Cow::Borrowed(&stored.message),
            step_run: None,
            background_run: None,
            experiment: Cow::Borrowed(""),
            weights: None,
            stable_ping_pong: if is_canary {
                stored.canary.stable_ping_pong
            } else {
                PingPongRole::Unset
            },
            preview_selector: Cow::Borrowed(""),
            active_selector: Cow::Borrowed(""),
            scale_up_preview_check_point: false,
            pre_promotion_run: None,
            post_promotion_run: None,
            duration: stored.duration.clone(),
            workload: Cow::Borrowed(workload::noted(facts)),
            error: None,
            stored,
        };
        if is_canary {
            draft.weights = stored.canary.weights.as_ref().map(Cow::Borrowed);
        }
        draft
    }

    /// What a pass that only follows `spec.replicas` starts from: everything as it is.
    pub(super) fn unchanged(facts: &'a Facts<'_>) -> Self {
        let stored = facts.status;
        let slot = |slot: &'a Option<AnalysisRunSlot>| slot.as_ref().map(Cow::Borrowed);
        Self {
            abort: stored.abort,
            aborted_at: stored.aborted_at,
            pauses: Cow::Borrowed(&stored.pause_conditions),
            controller_pause: stored.controller_pause,
            current_pod_hash: Cow::Borrowed(&stored.current_pod_hash.0),
            current_step_hash: Cow::Borrowed(&stored.current_step_hash),
            current_step_index: stored.current_step_index,
            replicas: stored.replicas,
            updated_replicas: stored.updated_replicas,
            ready_replicas: stored.ready_replicas,
            selector: Cow::Borrowed(&stored.selector),
            // A change of the template waits for its own pass; until then the new generation is not observed.
            generation: (!facts.is_changed()).then(|| facts.generation()),
            promote_full: stored.promote_full,
            workload: Cow::Borrowed(&stored.workload_observed_generation),
            step_run: slot(&stored.canary.current_step_analysis_run_status),
            background_run: slot(&stored.canary.current_background_analysis_run_status),
            experiment: Cow::Borrowed(&stored.canary.current_experiment),
            weights: stored.canary.weights.as_ref().map(Cow::Borrowed),
            stable_ping_pong: stored.canary.stable_ping_pong,
            preview_selector: Cow::Borrowed(&stored.blue_green.preview_selector.0),
            active_selector: Cow::Borrowed(&stored.blue_green.active_selector.0),
            scale_up_preview_check_point: stored.blue_green.scale_up_preview_check_point,
            pre_promotion_run: slot(&stored.blue_green.pre_promotion_analysis_run_status),
            post_promotion_run: slot(&stored.blue_green.post_promotion_analysis_run_status),
            ..Self::new(facts)
        }
    }

    /// The newest version is the stable one.
    pub(super) fn is_promoted(&self) -> bool {
        !self.stable_rs.is_empty() && self.stable_rs == self.current_pod_hash
    }

    /// Position in the steps; 0 where there are none.
    pub(super) fn step_index(&self) -> usize {
        usize::try_from(self.current_step_index.unwrap_or(0)).unwrap_or(0)
    }

    /// Something moved since the stored status. Pods that become ready again and again within one step are no progress.
    pub(super) fn has_progressed(&self, facts: &Facts<'_>) -> bool {
        let stored = self.stored;
        let (ready, available) = facts.world.peaks.highest(stored);
        let old_left = |replicas: i32, updated: i32| replicas.saturating_sub(updated);
        let counts = self.updated_replicas != stored.updated_replicas
            || old_left(self.replicas, self.updated_replicas)
                < old_left(stored.replicas, stored.updated_replicas)
            || self.ready_replicas > ready
            || self.available_replicas > available;
        let place = if facts.blue_green().is_some() {
            self.active_selector != stored.blue_green.active_selector.0
                || self.preview_selector != stored.blue_green.preview_selector.0
        } else {
            self.stable_rs != stored.stable_rs.0
                || self.current_step_index != stored.current_step_index
                || self.current_step_hash != stored.current_step_hash
        };
        // A version whose pods were all there moves nothing by becoming the present one; its time begins all the same.
        let begun = !stored.current_pod_hash.0.is_empty()
            && self.current_pod_hash != stored.current_pod_hash.0;
        counts || place || begun
    }

    /// Starts the update over, as a change of template or steps asks for.
    pub(super) fn reset(&mut self, facts: &Facts<'_>, asks: &mut Asks) {
        asks.resume_all();
        asks.retract_abort();
        self.promote_full = self.stored.promote_full && wrong(Mutant::PromoteFullSticks);
        self.restarted_at = facts.spec.restart_at;
        self.scale_up_preview_check_point = false;
        self.current_step_index = (!facts.steps().is_empty()).then_some(0);
        self.step_run = None;
        self.background_run = None;
        self.experiment = Cow::Borrowed("");
        self.pre_promotion_run = None;
        self.post_promotion_run = None;
    }

    /// Makes the present version the stable one.
    pub(super) fn promote(
        &mut self,
        facts: &Facts<'_>,
        plan: &mut Plan<'_>,
        asks: &mut Asks,
        why: &str,
    ) {
        asks.resume_all();
        asks.retract_abort();
        self.promote_full = false;
        self.scale_up_preview_check_point = false;
        if facts.canary().is_some() {
            self.current_step_index = all_done(facts);
            self.step_run = None;
            self.background_run = None;
            self.experiment = Cow::Borrowed("");
        }
        if self.stable_rs == self.current_pod_hash || wrong(Mutant::PromotionNotRecorded) {
            return;
        }
        self.stable_rs = self.current_pod_hash.clone();
        if facts
            .canary()
            .is_some_and(|canary| canary.ping_pong.is_some())
        {
            self.stable_ping_pong = match self.stable_ping_pong {
                PingPongRole::Ping => PingPongRole::Pong,
                PingPongRole::Unset | PingPongRole::Pong => PingPongRole::Ping,
            };
        }
        duration::promoted(self, facts.status.promote_full);
        let revision = facts.revision.unwrap_or(0);
        let hash = &self.current_pod_hash;
        plan.event(
            "RolloutCompleted",
            format!("Rollout completed update to revision {revision} ({hash}): {why}"),
        );
    }

    /// Records what the routing rules came to.
    pub(super) fn take_routing(&mut self, routing: Routing) {
        match routing.weights {
            Weights::Keep => {}
            Weights::Remove => self.weights = None,
            Weights::Record(weights) => self.weights = Some(Cow::Owned(*weights)),
        }
        self.error = routing.error;
    }

    /// Judges conditions, phase and duration, tells what changed, and gives what is to be stored, if anything is.
    pub(super) fn finish(
        mut self,
        facts: &'a Facts<'_>,
        plan: &mut Plan<'_>,
        mut asks: Asks,
        keeps_resume: bool,
    ) -> Option<RolloutStatus> {
        if let Some(cause) = conditions::deadline_abort(facts, &self, asks.is_aborted(facts.status))
            && !wrong(Mutant::DeadlineWithoutAbort)
        {
            asks.abort(cause);
        }
        let settled = pause::settle(facts.status, &asks, facts.now, keeps_resume);
        self.abort = settled.abort;
        self.aborted_at = settled.aborted_at;
        self.pauses = settled.pauses;
        self.controller_pause = settled.controller_pause;
        self.judge(facts, plan, &asks);
        let (before, after) = (&self.stored.pause_conditions, &self.pauses);
        match after.first() {
            Some(first) if before.is_empty() => {
                plan.event(
                    "RolloutPaused",
                    format!("Rollout is paused ({})", first.reason.as_str()),
                );
            }
            None if !before.is_empty() && !self.abort => {
                plan.event("RolloutResumed", "Rollout is resumed");
            }
            _ => {}
        }
        self.into_change()
    }

    /// Judges conditions, phase and duration, and sets the timer of the progress deadline.
    pub(super) fn judge(&mut self, facts: &'a Facts<'_>, plan: &mut Plan<'_>, asks: &Asks) {
        conditions::judge(facts, plan, self, asks);
        if !facts.is_observed() {
            for warning in &facts.prepared.warnings {
                plan.warn("SpecWarning", warning.to_string());
            }
        }
        duration::track(facts, self);
        self.tell_phase(facts);
        if let Some(delay) = conditions::next_progress_check(facts, self) {
            plan.look_again_in(delay);
        }
    }

    /// Sets phase and message from everything else.
    pub(super) fn tell_phase(&mut self, facts: &Facts<'_>) {
        let (phase, mut message) = phase::of(facts.spec, &self.for_phase());
        if phase == RolloutPhase::Progressing {
            // What keeps it from progressing says more than how far it got.
            let failure = conditions::find(&self.conditions, condition::REPLICA_FAILURE);
            let failure = failure.map(|told| format!("{}: {}", told.reason, told.message));
            message = self.error.take().or(failure).map_or(message, Cow::Owned);
        }
        self.phase = phase;
        if self.message != message {
            self.message = message;
        }
    }

    fn for_phase(&self) -> phase::Seen<'_> {
        phase::Seen {
            conditions: &self.conditions,
            first_pause: self.pauses.first().map(|pause| pause.reason),
            restarted_at: self.restarted_at,
            replicas: self.replicas,
            updated_replicas: self.updated_replicas,
            available_replicas: self.available_replicas,
            current: &self.current_pod_hash,
            stable: &self.stable_rs,
            active: &self.active_selector,
            post_promotion: self.post_promotion_run.as_ref().map(|run| run.status),
        }
    }

    /// The status to store; `None` when it equals the stored one.
    pub(super) fn into_change(self) -> Option<RolloutStatus> {
        if self.is_as_stored() && !wrong(Mutant::WriteAlways) {
            return None;
        }
        let stored = self.stored;
        let slot = |slot: Option<Cow<'_, AnalysisRunSlot>>| slot.map(Cow::into_owned);
        let hash = |hash: Cow<'_, str>| PodHash(hash.into_owned());
        let is_canary = !self.current_step_hash.is_empty();
        Some(RolloutStatus {
            abort: self.abort,
            aborted_at: self.aborted_at,
            pause_conditions: self.pauses.into_owned(),
            controller_pause: self.controller_pause,
            current_pod_hash: hash(self.current_pod_hash),
            current_step_hash: self.current_step_hash.into_owned(),
            current_step_index: self.current_step_index,
            replicas: self.replicas,
            updated_replicas: self.updated_replicas,
            ready_replicas: self.ready_replicas,
            available_replicas: self.available_replicas,
            hpa_replicas: self.hpa_replicas,
            selector: self.selector.into_owned(),
            collision_count: stored.collision_count,
            observed_generation: match self.generation {
                Some(generation) => generation.to_string(),
                None => stored.observed_generation.clone(),
            },
            conditions: self.conditions.into_owned(),
            stable_rs: hash(self.stable_rs),
            restarted_at: self.restarted_at,
            promote_full: self.promote_full,
            phase: self.phase,
            message: self.message.into_owned(),
            workload_observed_generation: self.workload.into_owned(),
            canary: CanaryStatus {
                current_step_analysis_run_status: slot(self.step_run),
                current_background_analysis_run_status: slot(self.background_run),
                current_experiment: self.experiment.into_owned(),
                weights: self.weights.map(Cow::into_owned),
                stable_ping_pong: self.stable_ping_pong,
                step_plugin_statuses: if is_canary {
                    stored.canary.step_plugin_statuses.clone()
                } else {
                    Vec::new()
                },
            },
            blue_green: BlueGreenStatus {
                preview_selector: hash(self.preview_selector),
                active_selector: hash(self.active_selector),
                scale_up_preview_check_point: self.scale_up_preview_check_point,
                pre_promotion_analysis_run_status: slot(self.pre_promotion_run),
                post_promotion_analysis_run_status: slot(self.post_promotion_run),
            },
            alb: stored.alb.clone(),
            albs: stored.albs.clone(),
            duration: self.duration,
        })
    }

    fn is_as_stored(&self) -> bool {
        let stored = self.stored;
        let (canary, blue_green) = (&stored.canary, &stored.blue_green);
        let generation = self
            .generation
            .is_none_or(|generation| stored.observed_generation.parse() == Ok(generation));
        generation
            && self.abort == stored.abort
            && self.aborted_at == stored.aborted_at
            && *self.pauses == *stored.pause_conditions
            && self.controller_pause == stored.controller_pause
            && self.current_pod_hash == stored.current_pod_hash.0
            && self.current_step_hash == stored.current_step_hash
            && self.current_step_index == stored.current_step_index
            && self.replicas == stored.replicas
            && self.updated_replicas == stored.updated_replicas
            && self.ready_replicas == stored.ready_replicas
            && self.available_replicas == stored.available_replicas
            && self.hpa_replicas == stored.hpa_replicas
            && self.selector == stored.selector
            && self.stable_rs == stored.stable_rs.0
            && self.restarted_at == stored.restarted_at
            && self.promote_full == stored.promote_full
            && self.phase == stored.phase
            && self.message == stored.message
            && is_slot(
                self.step_run.as_ref(),
                canary.current_step_analysis_run_status.as_ref(),
            )
            && is_slot(
                self.background_run.as_ref(),
                canary.current_background_analysis_run_status.as_ref(),
            )
            && self.experiment == canary.current_experiment
            && self.weights.as_deref() == canary.weights.as_ref()
            && self.stable_ping_pong == canary.stable_ping_pong
            && self.preview_selector == blue_green.preview_selector.0
            && self.active_selector == blue_green.active_selector.0
            && self.scale_up_preview_check_point == blue_green.scale_up_preview_check_point
            && is_slot(
                self.pre_promotion_run.as_ref(),
                blue_green.pre_promotion_analysis_run_status.as_ref(),
            )
            && is_slot(
                self.post_promotion_run.as_ref(),
                blue_green.post_promotion_analysis_run_status.as_ref(),
            )
            && self.duration == stored.duration
            && self.workload == stored.workload_observed_generation
            && *self.conditions == *stored.conditions
    }
}

fn is_slot(new: Option<&Cow<'_, AnalysisRunSlot>>, stored: Option<&AnalysisRunSlot>) -> bool {
    new.map(|slot| &**slot) == stored
}

/// The position after the last step; `None` where there are no steps.
pub(super) fn all_done(facts: &Facts<'_>) -> Option<i32> {
    let steps = facts.steps().len();
    (steps > 0).then(|| i32::try_from(steps).unwrap_or(i32::MAX))
}

/// Pauses during which a person is waited for.
pub(super) fn waits_for_a_person(facts: &Facts<'_>, draft: &Draft<'_>) -> bool {
    facts.spec.paused
        || draft.pauses.iter().any(|pause| match pause.reason {
            PauseReason::InconclusiveAnalysisRun | PauseReason::InconclusiveExperiment => true,
            PauseReason::CanaryPauseStep => {
                let step = facts.steps().get(draft.step_index());
                let pause = step.and_then(|step| step.pause.as_ref());
                pause.is_some_and(|pause| pause.duration.is_none())
            }
            PauseReason::BlueGreenPause => facts
                .blue_green()
                .is_some_and(|blue_green| !blue_green.auto_promotion_enabled()),
            PauseReason::Unknown => false,
        })
}
