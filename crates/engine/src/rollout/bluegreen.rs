//! A blue-green release: two full sets of pods, and one switch between them.
//!
//! The new version comes up behind the preview Service, is judged there, and gets production traffic all at once when the active Service is
//! switched to it. The old one keeps its pods until the new one has proved itself, so that the way back is the same switch.

use std::borrow::Cow;

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::label;
use crossfade_api::rollout::{BlueGreenStrategy, RolloutAnalysis};
use crossfade_api::rollout_status::{AnalysisRunSlot, PauseReason, RolloutStatus};
use jiff::{SignedDuration, Timestamp};

use crate::decision::{Halt, Plan};
use crate::gate::{Answer, Moment};
use crate::mutant::{Mutant, wrong};

use super::delays::{self, AbortDelay};
use super::facts::{Facts, Set, SetId};
use super::pause::Asks;
use super::replicas::{Deadline, Fate, Remains, ScaleDownDelay};
use super::runs::{self, Runs};
use super::services::{self, Check};
use super::status::Draft;
use super::{ephemeral, experiments, gates, restart, revisions, scaling, waits};

/// One pass over a blue-green release whose ReplicaSet of the present template is up to date.
pub(super) fn pass<'w>(
    facts: &mut Facts<'w>,
    plan: &mut Plan<'_>,
    strategy: &'w BlueGreenStrategy,
) -> Result<Option<RolloutStatus>, Halt> {
    let mut asks = Asks::default();
    let goes_on = facts.status.promote_full || facts.is_within_rollback_window();
    if facts.status.abort && (facts.is_fully_promoted() || goes_on) {
        asks.retract_abort();
    }
    gates::ask_to_start(facts, plan, &mut asks);
    if !is_halted(facts) && !asks.holds() && !wrong(Mutant::PreviewForgotten) {
        services::point(
            facts,
            plan,
            &strategy.preview_service,
            facts.new_id(),
            Check::Nothing,
        )?;
    }
    serve_again(facts, plan, strategy)?;
    if facts.template_changed() {
        return Ok(conclude(facts, plan, asks, strategy, Runs::default(), true));
    }
    restart::evict(facts, plan)?;
    scale(facts, plan, &asks, strategy)?;
    revisions::forget_old(facts, plan);
    let may_switch = ask_to_switch(facts, plan, &mut asks, strategy);
    pause(facts, plan, &mut asks, strategy, may_switch);
    if !switch(facts, plan, &asks, strategy, may_switch)? {
        // It would begin anew before the next try.
        asks.keep(PauseReason::BlueGreenPause);
    }
    let active = active_hash(facts, strategy).to_owned();
    let ready = is_judged_at_its_size(facts, strategy);
    let runs = runs::blue_green(
        facts,
        plan,
        &mut asks,
        &active,
        is_fast_rollback(facts),
        ready,
    )?;
    // Those of a canary that came before end with it.
    experiments::tidy(facts, plan, "");
    gates::ask(Moment::Bake, Answer::Go, facts, plan, &mut asks);
    ephemeral::apply(facts, plan)?;
    Ok(conclude(facts, plan, asks, strategy, runs, false))
}

/// What still happens while something that the spec refers to is missing or unfit: an abort goes on, and old versions go in their time.
pub(super) fn go_back<'w>(
    facts: &mut Facts<'w>,
    plan: &mut Plan<'_>,
    strategy: &'w BlueGreenStrategy,
) -> Result<(), Halt> {
    if facts.status.abort && !facts.is_fully_promoted() {
        switch_back(facts, plan, strategy)?;
        return scale(facts, plan, &Asks::default(), strategy);
    }
    let_old_go(facts, plan, strategy, AbortDelay::None)
}

/// Follows a change of `spec.replicas`, and nothing else.
pub(super) fn follow_replicas(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    strategy: &BlueGreenStrategy,
) -> Result<(), Halt> {
    let mut asks = Asks::default();
    gates::ask_to_start(facts, plan, &mut asks);
    scale(facts, plan, &asks, strategy)
}

/// A person, or an analysis that could not tell, keeps Services as they are.
fn is_halted(facts: &Facts<'_>) -> bool {
    (facts.spec.paused && !wrong(Mutant::SwitchWhilePaused))
        || facts.is_paused_for(PauseReason::InconclusiveAnalysisRun)
}

/// The version that gets production traffic now. A Service that was made anew selects none; what it had is still meant, or the version
/// that happens to be under way would pass for the first one.
fn active_hash<'a>(facts: &'a Facts<'_>, strategy: &BlueGreenStrategy) -> &'a str {
    let selected = facts.selected(&strategy.active_service).unwrap_or_default();
    if selected.is_empty() && lost_version(facts, strategy).is_some() {
        return facts.status.blue_green.active_selector.as_str();
    }
    selected
}

/// The version that a Service selected before it was made anew.
fn lost_version(facts: &Facts<'_>, strategy: &BlueGreenStrategy) -> Option<SetId> {
    let selected = facts.selected(&strategy.active_service)?;
    let recorded = facts.status.blue_green.active_selector.as_str();
    (selected.is_empty() && !recorded.is_empty()).then(|| facts.by_hash(recorded))?
}

/// Gives a Service that was made anew the version back that it had, if that can serve.
fn serve_again<'w>(
    facts: &mut Facts<'w>,
    plan: &mut Plan<'_>,
    strategy: &'w BlueGreenStrategy,
) -> Result<(), Halt> {
    let lost = lost_version(facts, strategy);
    let serves = |id: &SetId| facts.set(*id).observed.available > 0;
    let version = lost.filter(serves);
    services::point(
        facts,
        plan,
        &strategy.active_service,
        version,
        Check::Nothing,
    )
}

fn is_active(facts: &Facts<'_>, strategy: &BlueGreenStrategy, id: Option<SetId>) -> bool {
    id.is_some_and(|id| facts.set(id).hash() == active_hash(facts, strategy))
}

/// The release goes back to a version that still has its pods: no pause, no analysis. The deadline of that version stays until it is
/// promoted, as the memory of this.
pub(super) fn is_fast_rollback(facts: &Facts<'_>) -> bool {
    if facts.stable_id().is_some() && facts.new_id() == facts.stable_id() {
        return true;
    }
    facts.is_within_rollback_window() || is_within_delay(facts)
}

fn is_within_delay(facts: &Facts<'_>) -> bool {
    let (Some(new), Some(stable)) = (facts.new_set(), facts.stable_set()) else {
        return false;
    };
    // A version that failed has a deadline, too: that is no way back to something good.
    let failed = facts.status.abort || facts.status.aborted_at.is_some();
    new.observed.created < stable.observed.created
        && new.is_active()
        && new.deadline.is_some()
        && (!failed || wrong(Mutant::BackToFailed))
}

/// Nothing is asked before the switch.
fn is_fast_tracked(facts: &Facts<'_>, strategy: &BlueGreenStrategy) -> bool {
    let active = active_hash(facts, strategy);
    is_fast_rollback(facts)
        || facts.status.promote_full
        || active.is_empty()
        || is_active(facts, strategy, facts.new_id())
}

/// Pods that the new version is given before and after the switch.
fn new_size(facts: &Facts<'_>, strategy: &BlueGreenStrategy) -> i32 {
    let Some(preview) = strategy.preview_replica_count else {
        return facts.replicas;
    };
    let active = facts.by_hash(&facts.status.blue_green.active_selector.0);
    let paused = facts.spec.paused || !facts.status.pause_conditions.is_empty();
    if active.is_none()
        || active == facts.new_id()
        || facts.status.promote_full
        || is_fast_rollback(facts)
    {
        facts.replicas
    } else if facts.template_changed() {
        preview
    } else if facts.status.blue_green.scale_up_preview_check_point
        && !paused
        && !wrong(Mutant::PreviewStaysSmall)
    {
        facts.replicas
    } else {
        preview
    }
}

/// The new version has the pods that it is to have now, all available.
fn has_its_size(facts: &Facts<'_>, strategy: &BlueGreenStrategy) -> bool {
    let size = new_size(facts, strategy);
    let new = facts.new_set().map(Set::pods);
    new.is_some_and(|new| new.spec == size && new.available == size)
}

/// The new version is at the size at which its first analysis may start.
fn is_judged_at_its_size(facts: &Facts<'_>, strategy: &BlueGreenStrategy) -> bool {
    let Some(new) = facts.new_set() else {
        return false;
    };
    match strategy.preview_replica_count {
        Some(preview) => new.observed.replicas == preview && new.observed.available == preview,
        None => facts.is_saturated(new),
    }
}

/// Sizes of all versions.
fn scale(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &Asks,
    strategy: &BlueGreenStrategy,
) -> Result<(), Halt> {
    let delays = AbortDelay::of(facts, asks);
    if !is_within_delay(facts) {
        delays::clear_deadlines(facts, plan, delays)?;
    }
    if let Some(id) = facts.stable_id().filter(|id| Some(*id) != facts.new_id()) {
        scaling::resize(facts, plan, id, facts.replicas, delays)?;
    }
    if let Some(id) = facts.new_id() {
        let free = !is_active(facts, strategy, Some(id));
        let may = delays::MayLeave {
            mark: true,
            go: free || wrong(Mutant::FailedGoesWhileActive),
        };
        let failed = delays::failed_version(facts, plan, asks, delays, may)?;
        let started = if asks.holds() {
            0
        } else {
            new_size(facts, strategy)
        };
        let size = failed.unwrap_or(started);
        scaling::resize(facts, plan, id, size, delays)?;
    }
    let_old_go(facts, plan, strategy, delays)
}

/// Former versions keep their pods for a while, and go then, the newest last.
fn let_old_go(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
    strategy: &BlueGreenStrategy,
    delays: AbortDelay,
) -> Result<(), Halt> {
    let slot = &facts.status.blue_green.post_promotion_analysis_run_status;
    let analysis = strategy.post_promotion_analysis.as_ref();
    let is_tried = !facts.is_fully_promoted() && is_active(facts, strategy, facts.new_id());
    let unproven = is_tried
        && strategy.scale_down_delay_seconds.is_none()
        && !is_passed(facts, analysis, slot.as_ref());
    if facts.is_paused_for(PauseReason::InconclusiveAnalysisRun)
        || (unproven && !wrong(Mutant::OldGoesUnproven))
    {
        return Ok(());
    }
    let seconds = match strategy.scale_down_delay_seconds() {
        seconds if seconds > 0 && wrong(Mutant::DelayIgnored) => 0,
        seconds => seconds,
    };
    let delay = SignedDuration::from_secs(i64::from(seconds));
    let mut rule = ScaleDownDelay::new(seconds == 0, strategy.scale_down_delay_revision_limit);
    let mut others: Vec<_> = facts
        .others()
        .filter(|id| facts.set(*id).is_active())
        .collect();
    others.sort_by_key(|id| std::cmp::Reverse(facts.set(*id).revision));
    for id in others {
        if scaling::is_referenced(facts, facts.set(id).hash()) {
            continue;
        }
        let deadline = delays::deadline(facts, facts.set(id));
        let present = facts.set(id).observed.replicas;
        let remains = match rule.next(deadline) {
            Fate::Delay => Remains {
                size: present,
                delay: true,
            },
            // One that has been waiting for its end follows the wanted number, in case it is needed again.
            Fate::Keep if deadline == Deadline::Ahead => Remains {
                size: facts.replicas,
                delay: false,
            },
            Fate::Keep => Remains {
                size: present,
                delay: false,
            },
            Fate::Drop => Remains {
                size: 0,
                delay: false,
            },
        };
        scaling::let_go(facts, plan, id, remains, delay, delays)?;
    }
    Ok(())
}

/// The phase of a current run, as far as it is known.
fn phase_of(facts: &Facts<'_>, slot: &AnalysisRunSlot) -> AnalysisPhase {
    let run = facts
        .world
        .runs
        .iter()
        .find(|run| run.metadata.name.as_ref() == Some(&slot.name));
    run.map_or(slot.status, |run| run.status.phase)
}

/// An analysis is not configured, or its current run was successful.
fn is_passed(
    facts: &Facts<'_>,
    analysis: Option<&RolloutAnalysis>,
    slot: Option<&AnalysisRunSlot>,
) -> bool {
    analysis.is_none()
        || slot.is_some_and(|slot| phase_of(facts, slot) == AnalysisPhase::Successful)
}

fn is_passed_before_switch(facts: &Facts<'_>, strategy: &BlueGreenStrategy) -> bool {
    // In the first pass of a retry the slot still names the run of the try before.
    let retried = facts.status.aborted_at.is_some() && !wrong(Mutant::RetryWithOldEvidence);
    let slot = facts
        .status
        .blue_green
        .pre_promotion_analysis_run_status
        .as_ref()
        .filter(|_| !retried);
    is_passed(facts, strategy.pre_promotion_analysis.as_ref(), slot)
        || wrong(Mutant::SwitchUnjudged)
}

/// Asks the gates before the switch. A version that is active needs nobody's leave.
fn ask_to_switch(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
    strategy: &BlueGreenStrategy,
) -> bool {
    is_active(facts, strategy, facts.new_id())
        || gates::ask(Moment::Advance, Answer::Go, facts, plan, asks)
}

/// Begins and ends the pause before the switch.
fn pause(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
    strategy: &BlueGreenStrategy,
    may_switch: bool,
) {
    let reason = PauseReason::BlueGreenPause;
    if asks.is_aborted(facts.status) || !has_its_size(facts, strategy) || is_halted(facts) {
        return;
    }
    let needs_none = strategy.auto_promotion_enabled() && strategy.auto_promotion_seconds == 0;
    if is_fast_tracked(facts, strategy)
        || facts.status.blue_green.scale_up_preview_check_point
        || needs_none
    {
        asks.resume(reason);
        return;
    }
    if !is_passed_before_switch(facts, strategy) {
        return;
    }
    if facts.is_paused_for(reason) {
        if is_pause_over(facts, asks, strategy) {
            // Ended and not used, it would begin anew.
            if may_switch {
                asks.resume(reason);
            }
        } else {
            let end = pause_end(facts, strategy);
            plan.waits.push(waits::pause(facts, reason, end));
            if let Some(end) = end {
                plan.look_again_in(facts.now.duration_until(end));
            }
        }
    } else if !facts.is_resumed() {
        asks.pause(reason);
        let seconds = SignedDuration::from_secs(i64::from(strategy.auto_promotion_seconds));
        let end = strategy
            .auto_promotion_enabled()
            .then(|| facts.now + seconds);
        plan.waits.push(waits::pause(facts, reason, end));
        if end.is_some() {
            plan.look_again_in(seconds);
        }
    }
}

/// When the pause before the switch ends by itself.
fn pause_end(facts: &Facts<'_>, strategy: &BlueGreenStrategy) -> Option<Timestamp> {
    let begun = facts.pause_start(PauseReason::BlueGreenPause)?;
    let seconds = SignedDuration::from_secs(i64::from(strategy.auto_promotion_seconds));
    strategy.auto_promotion_enabled().then(|| begun + seconds)
}

/// Nothing has to be waited for before the switch but analysis.
fn is_pause_over(facts: &Facts<'_>, asks: &Asks, strategy: &BlueGreenStrategy) -> bool {
    if asks.adds_a_pause() {
        return false;
    }
    facts.status.blue_green.scale_up_preview_check_point
        || (strategy.auto_promotion_enabled() && strategy.auto_promotion_seconds == 0)
        || pause_end(facts, strategy).is_some_and(|end| end <= facts.now)
        || facts.is_resumed()
        || wrong(Mutant::SwitchWithoutPause)
}

/// Gives production traffic to the new version when that is due, and back to the stable one after an abort. False if the new version
/// should have got it and did not.
fn switch<'w>(
    facts: &mut Facts<'w>,
    plan: &mut Plan<'_>,
    asks: &Asks,
    strategy: &'w BlueGreenStrategy,
    may_switch: bool,
) -> Result<bool, Halt> {
    let service = &strategy.active_service;
    if facts.status.abort && asks.is_aborted(facts.status) && !wrong(Mutant::SwitchBackForgotten) {
        switch_back(facts, plan, strategy)?;
        return Ok(true);
    }
    if is_halted(facts) {
        return Ok(true);
    }
    let new = facts.new_set();
    let complete = has_its_size(facts, strategy) && new.is_some_and(|new| facts.is_saturated(new));
    if !complete && !wrong(Mutant::SwitchBeforePods) {
        if let Some(new) = new {
            let size = new_size(facts, strategy);
            plan.waits
                .push(waits::pods("new", new.observed.available, size));
        }
        return Ok(true);
    }
    let may = is_fast_tracked(facts, strategy)
        || (is_pause_over(facts, asks, strategy) && is_passed_before_switch(facts, strategy));
    if may && may_switch {
        services::point(facts, plan, service, facts.new_id(), Check::Nothing)?;
        return Ok(is_active(facts, strategy, facts.new_id()));
    }
    Ok(true)
}

/// Traffic goes back as soon as the stable version can take it, whatever has become of the new one.
fn switch_back<'w>(
    facts: &mut Facts<'w>,
    plan: &mut Plan<'_>,
    strategy: &'w BlueGreenStrategy,
) -> Result<(), Halt> {
    let stable = facts
        .stable_set()
        .map_or(0, |stable| stable.observed.available);
    let new = facts.new_set().map_or(0, |new| new.observed.available);
    if is_active(facts, strategy, facts.stable_id()) {
        return Ok(());
    }
    if stable >= facts.replicas || stable > new || wrong(Mutant::SwitchBackBeforePods) {
        let id = facts.stable_id();
        return services::point(facts, plan, &strategy.active_service, id, Check::Nothing);
    }
    plan.waits.push(waits::stable_pods(stable, facts.replicas));
    Ok(())
}

/// Promotes where that is due, and says where the release stands.
fn conclude(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    mut asks: Asks,
    strategy: &BlueGreenStrategy,
    runs: Runs<'_>,
    changed: bool,
) -> Option<RolloutStatus> {
    let mut draft = Draft::new(facts);
    draft.pre_promotion_run = runs.pre_promotion;
    draft.post_promotion_run = runs.post_promotion;
    draft.error = runs.error;
    draft.preview_selector = Cow::Borrowed(
        facts
            .selected(&strategy.preview_service)
            .unwrap_or_default(),
    );
    draft.active_selector = Cow::Borrowed(active_hash(facts, strategy));
    count_active(facts, &mut draft);
    if changed {
        draft.reset(facts, &mut asks);
    } else {
        draft.restarted_at = restart::restarted_at(facts);
    }
    // A Rollout that was a canary may have rested in one of its steps.
    asks.resume(PauseReason::CanaryPauseStep);
    if facts.status.promote_full || facts.is_within_rollback_window() {
        asks.resume_all();
        asks.retract_abort();
    }
    let keeps_resume;
    if let Some(why) = promotion(facts, plan, &mut asks, &draft, strategy) {
        draft.promote(facts, plan, &mut asks, why);
        keeps_resume = false;
    } else {
        let stored = facts.status.blue_green.scale_up_preview_check_point;
        // A version that is tried again is previewed again.
        draft.scale_up_preview_check_point = !changed
            && !asks.is_aborted(facts.status)
            && strategy.preview_replica_count.is_some_and(|preview| {
                let at_size = facts
                    .new_set()
                    .is_some_and(|new| new.observed.available == preview);
                stored
                    || (at_size
                        && is_passed_before_switch(facts, strategy)
                        && is_pause_over(facts, &asks, strategy))
            });
        if asks.is_aborted(facts.status) {
            plan.waits.push(waits::after_abort(facts));
        }
        // A "go on" holds until the switch, also when the new version loses a pod just then. One that was said while an analysis could not
        // tell asks for another look, not for the switch.
        let resumed = facts.is_resumed() && is_passed_before_switch(facts, strategy);
        let switched = draft.active_selector == draft.current_pod_hash;
        keeps_resume = resumed && !changed && !switched && strategy.preview_replica_count.is_none();
    }
    draft.finish(facts, plan, asks, keeps_resume)
}

/// Other tools count the pods that serve: those of the active version.
fn count_active(facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let Some(active) = facts
        .by_hash(&draft.active_selector)
        .map(|id| facts.set(id))
    else {
        return;
    };
    draft.ready_replicas = active.observed.ready;
    draft.available_replicas = active.observed.available;
    draft.hpa_replicas = active.observed.current;
    let mut selector = facts.spec.selector.clone().unwrap_or_default();
    let labels = selector.match_labels.get_or_insert_default();
    labels.insert(label::POD_HASH.to_owned(), active.hash().to_owned());
    draft.selector = Cow::Owned(crossfade_api::selector::text(&selector));
}

/// Why the new version becomes the stable one now, if it does.
fn promotion(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    asks: &mut Asks,
    draft: &Draft<'_>,
    strategy: &BlueGreenStrategy,
) -> Option<&'static str> {
    // A canary that was taken back and then became blue-green has a version to go back to, though nothing serves yet.
    let goes_back = asks.is_aborted(facts.status) && facts.other_stable().is_some();
    if facts.stable_id().is_none() || (draft.active_selector.is_empty() && !goes_back) {
        return Some("Initial deploy");
    }
    if draft.active_selector != draft.current_pod_hash && !wrong(Mutant::PromoteBeforeSwitch) {
        return None;
    }
    // What was asked for the version before is not asked for this one.
    let (why, proved) = if draft.promote_full {
        ("Full promotion requested", Answer::Go)
    } else if facts.is_within_rollback_window() {
        ("Rollback within window", Answer::Go)
    } else if is_fast_rollback(facts) {
        ("Fast rollback", Answer::Go)
    } else if asks.is_aborted(facts.status) {
        return None;
    } else {
        ("Completed blue-green update", proof(facts, draft, strategy))
    };
    gates::ask(Moment::Promotion, proved, facts, plan, asks).then_some(why)
}

/// Whether the new version has proved itself since the switch.
fn proof(facts: &Facts<'_>, draft: &Draft<'_>, strategy: &BlueGreenStrategy) -> Answer {
    let slot = draft.post_promotion_run.as_deref();
    if is_passed(facts, strategy.post_promotion_analysis.as_ref(), slot)
        || wrong(Mutant::SkipPostPromotion)
    {
        return Answer::Go;
    }
    let name = slot.map_or("after the switch", |slot| slot.name.as_str());
    Answer::lacks(waits::analysis(name))
}
