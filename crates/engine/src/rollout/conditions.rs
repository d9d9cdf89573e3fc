//! The conditions of a Rollout: what is so, why, and since when.
//!
//! A condition keeps its times while status and reason stay; `Progressing` alone is rewritten whenever progress is seen, because the
//! progress deadline counts from its last update. The order of the list is that of the last changes.

use std::borrow::Cow;
use std::fmt::{self, Write};

use crossfade_api::names::{condition, reason};
use crossfade_api::rollout_status::{ConditionStatus, RolloutCondition};
use jiff::{SignedDuration, Timestamp};

use crate::decision::Plan;
use crate::mutant::{Mutant, wrong};

use super::facts::Facts;
use super::pause::Asks;
use super::status::Draft;

/// The conditions of a status that is being built: as stored, until one changes.
pub(super) type Conditions<'w> = Cow<'w, [RolloutCondition]>;

/// What a condition shall say.
pub(super) struct Told<'a> {
    pub(super) kind: &'a str,
    pub(super) status: ConditionStatus,
    pub(super) reason: &'a str,
    pub(super) message: fmt::Arguments<'a>,
}

/// The condition of a type.
pub(super) fn find<'a>(
    conditions: &'a [RolloutCondition],
    kind: &str,
) -> Option<&'a RolloutCondition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// The condition `Progressing`.
pub(super) fn progressing(conditions: &[RolloutCondition]) -> Option<&RolloutCondition> {
    find(conditions, condition::PROGRESSING)
}

/// Sets a condition. True if its status or reason changed, or it is new.
pub(super) fn set(conditions: &mut Conditions<'_>, told: &Told<'_>, now: Timestamp) -> bool {
    if let Some(before) = find(conditions, told.kind)
        && before.status == told.status
        && before.reason == told.reason
    {
        if !says(&before.message, told.message) {
            let text = told.message.to_string();
            let same = conditions
                .to_mut()
                .iter_mut()
                .filter(|condition| condition.kind == told.kind);
            same.for_each(|condition| condition.message.clone_from(&text));
        }
        return false;
    }
    replace(conditions, told, now);
    true
}

/// As [`set`], on a list of its own.
pub(super) fn set_in(
    conditions: &mut Vec<RolloutCondition>,
    told: &Told<'_>,
    now: Timestamp,
) -> bool {
    let mut list = Cow::Owned(std::mem::take(conditions));
    let changed = set(&mut list, told, now);
    *conditions = list.into_owned();
    changed
}

/// Sets a condition as if it were new, whatever it said; the time of its last transition stays while its status does.
fn replace(conditions: &mut Conditions<'_>, told: &Told<'_>, now: Timestamp) {
    let now = whole_seconds(now);
    let before = find(conditions, told.kind).filter(|before| before.status == told.status);
    let new = RolloutCondition {
        kind: told.kind.to_owned(),
        status: told.status,
        last_update_time: now,
        last_transition_time: before.map_or(now, |before| before.last_transition_time),
        reason: told.reason.to_owned(),
        message: told.message.to_string(),
    };
    let list = conditions.to_mut();
    list.retain(|condition| condition.kind != told.kind);
    list.push(new);
}

/// Removes a condition. True if it was there.
pub(super) fn remove(conditions: &mut Conditions<'_>, kind: &str) -> bool {
    let there = find(conditions, kind).is_some();
    if there {
        conditions
            .to_mut()
            .retain(|condition| condition.kind != kind);
    }
    there
}

/// Times in a status hold whole seconds, cut.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Whether a text is what these arguments would make, found out without making it.
fn says(text: &str, arguments: fmt::Arguments<'_>) -> bool {
    struct Rest<'a>(&'a str);
    impl Write for Rest<'_> {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut rest = Rest(text);
    rest.write_fmt(arguments).is_ok() && rest.0.is_empty()
}

/// Pauses, resumes and retries as they are told at the start of a pass. `None` when there is nothing to tell.
pub(super) fn checkpoint<'w>(facts: &Facts<'w>) -> Option<Conditions<'w>> {
    if !facts.is_observed() {
        return None;
    }
    let mut conditions = Cow::Borrowed(facts.status.conditions.as_slice());
    let paused = facts.spec.paused || !facts.status.pause_conditions.is_empty();
    let told = progressing(&conditions).map_or("", |told| told.reason.as_str());
    let told_abort = told == reason::ABORTED;
    let told_pause = told == reason::PAUSED;
    let completed = !facts.status.stable_rs.is_empty() && facts.is_fully_promoted();
    let mut changed = false;
    let mut tell = |kind, status, reason, message| {
        let told = Told {
            kind,
            status,
            reason,
            message: format_args!("{message}"),
        };
        changed |= set(&mut conditions, &told, facts.now);
    };
    if paused != told_pause && !told_abort && !completed {
        if paused {
            tell(
                condition::PROGRESSING,
                ConditionStatus::Unknown,
                reason::PAUSED,
                "Rollout is paused",
            );
        } else {
            tell(
                condition::PROGRESSING,
                ConditionStatus::Unknown,
                reason::RESUMED,
                "Rollout is resumed",
            );
        }
    }
    if !facts.status.abort && told_abort {
        tell(
            condition::PROGRESSING,
            ConditionStatus::Unknown,
            reason::RETRY,
            "Retrying Rollout after abort",
        );
    }
    let stored = find(&facts.status.conditions, condition::PAUSED);
    let shows_pause = stored.is_some_and(|stored| stored.status == ConditionStatus::True);
    if paused != shows_pause && !told_abort {
        let status = if paused {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        tell(
            condition::PAUSED,
            status,
            reason::PAUSED,
            "Rollout is paused",
        );
    }
    changed.then_some(conditions)
}

/// All conditions of a full status, in the order in which they are judged.
pub(super) fn judge<'w>(
    facts: &Facts<'w>,
    plan: &mut Plan<'_>,
    draft: &mut Draft<'w>,
    asks: &Asks,
) {
    let paused = facts.spec.paused || !draft.pauses.is_empty();
    let healthy = is_healthy(facts, draft);
    let became_unhealthy = tell_health(facts, draft, healthy && !paused);
    if draft.abort {
        tell_abort(facts, plan, draft, asks.cause());
    } else {
        // Until it is promoted, a release that is paused says so; see `checkpoint`.
        let arrived = healthy && (!paused || draft.is_promoted());
        tell_progress(facts, draft, arrived, became_unhealthy);
    }
    tell_availability(facts, draft);
    tell_replica_failure(facts, draft);
    tell_completion(facts, plan, draft);
    if remove(&mut draft.conditions, condition::INVALID_SPEC)
        && let Some(told) = progressing(&draft.conditions)
    {
        // Time during which nobody could work does not count against the deadline.
        let now = whole_seconds(facts.now);
        if told.last_update_time != now {
            let list = draft.conditions.to_mut().iter_mut();
            let told = list.filter(|told| told.kind == condition::PROGRESSING);
            told.for_each(|told| told.last_update_time = now);
        }
    }
}

/// Everything is of the newest version, available, and where it belongs.
fn is_healthy(facts: &Facts<'_>, draft: &Draft<'_>) -> bool {
    let counts =
        draft.updated_replicas == facts.replicas && draft.available_replicas == facts.replicas;
    if !counts || !facts.is_observed() {
        return false;
    }
    let current = &*draft.current_pod_hash;
    if let Some(blue_green) = facts.blue_green() {
        return draft.active_selector == current
            && (blue_green.preview_service.is_empty() || draft.preview_selector == current);
    }
    let steps = facts.steps().len();
    let all_done = steps == 0 || draft.step_index() == steps;
    all_done && draft.is_promoted() && draft.replicas == facts.replicas
}

/// Tells `Healthy`; true if that turned from yes to no.
fn tell_health(facts: &Facts<'_>, draft: &mut Draft<'_>, healthy: bool) -> bool {
    let known = find(&draft.conditions, condition::HEALTHY).is_some();
    if !healthy && !known {
        return false;
    }
    let (status, message) = if healthy {
        (ConditionStatus::True, "Rollout is healthy")
    } else {
        (ConditionStatus::False, "Rollout is not healthy")
    };
    let told = Told {
        kind: condition::HEALTHY,
        status,
        reason: reason::HEALTHY,
        message: format_args!("{message}"),
    };
    set(&mut draft.conditions, &told, facts.now) && !healthy
}

fn tell_abort(facts: &Facts<'_>, plan: &mut Plan<'_>, draft: &mut Draft<'_>, cause: &str) {
    let revision = facts.revision.unwrap_or(0);
    let told_before =
        progressing(&draft.conditions).is_some_and(|told| told.reason == reason::ABORTED);
    if told_before && cause.is_empty() {
        return;
    }
    let colon = if cause.is_empty() { "" } else { ": " };
    let message = format!("Rollout aborted update to revision {revision}{colon}{cause}");
    let told = Told {
        kind: condition::PROGRESSING,
        status: ConditionStatus::False,
        reason: reason::ABORTED,
        message: format_args!("{message}"),
    };
    if set(&mut draft.conditions, &told, facts.now) {
        plan.warn(reason::ABORTED, message);
    }
}

fn tell_progress(facts: &Facts<'_>, draft: &mut Draft<'_>, healthy: bool, became_unhealthy: bool) {
    let subject = Subject(facts);
    let told = |status, reason, message| Told {
        kind: condition::PROGRESSING,
        status,
        reason,
        message,
    };
    if healthy {
        let message = format_args!("{subject} has successfully progressed.");
        let told = told(ConditionStatus::True, reason::NEW_RS_AVAILABLE, message);
        set(&mut draft.conditions, &told, facts.now);
    } else if became_unhealthy && draft.is_promoted() {
        let message = format_args!("Rollout does not have minimum availability");
        let told = told(ConditionStatus::True, reason::RS_NOT_AVAILABLE, message);
        replace(&mut draft.conditions, &told, facts.now);
    } else if became_unhealthy || draft.has_progressed(facts) {
        let message = format_args!("{subject} is progressing.");
        let told = told(ConditionStatus::True, reason::RS_UPDATED, message);
        replace(&mut draft.conditions, &told, facts.now);
    } else if deadline_counts(facts, &draft.conditions) && is_timed_out(facts, &draft.conditions) {
        let message = format_args!("{subject} has timed out progressing.");
        let told = told(ConditionStatus::False, reason::DEADLINE_EXCEEDED, message);
        set(&mut draft.conditions, &told, facts.now);
    } else if let Some(new) = facts.new_set()
        && progressing(&draft.conditions).is_none()
    {
        // The deadline of a release that somebody else began counts from here.
        let message = format_args!("Found new replica set \"{}\"", new.name());
        let told = told(ConditionStatus::True, reason::FOUND_NEW_RS, message);
        set(&mut draft.conditions, &told, facts.now);
    }
}

/// What progresses, as messages name it.
struct Subject<'a, 'w>(&'a Facts<'w>);

impl fmt::Display for Subject<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.new_set() {
            Some(set) => write!(f, "ReplicaSet \"{}\"", set.name()),
            None => write!(f, "Rollout \"{}\"", self.0.name()),
        }
    }
}

/// Why an update that made no progress for too long is aborted, if that is asked for and is so.
pub(super) fn deadline_abort(
    facts: &Facts<'_>,
    draft: &Draft<'_>,
    aborted: bool,
) -> Option<String> {
    let stored = facts.status.conditions.as_slice();
    let stuck = facts.spec.progress_deadline_abort
        && !aborted
        && !takes_nothing_back(facts)
        && !draft.is_promoted()
        && !draft.stable_rs.is_empty()
        && !draft.has_progressed(facts)
        && deadline_counts(facts, stored)
        && is_timed_out(facts, stored);
    stuck.then(|| format!("{} has timed out progressing.", Subject(facts)))
}

/// An abort would be taken back by the very next pass.
fn takes_nothing_back(facts: &Facts<'_>) -> bool {
    facts.status.promote_full || facts.is_within_rollback_window()
}

/// The progress deadline is running: nothing that takes its own time is under way.
fn deadline_counts(facts: &Facts<'_>, conditions: &[RolloutCondition]) -> bool {
    may_be_late(facts, conditions) && last_leaver(facts).is_none()
}

/// Neither the step nor a person asks for patience.
fn may_be_late(facts: &Facts<'_>, conditions: &[RolloutCondition]) -> bool {
    let step = facts.step();
    let takes_its_time = step.is_some_and(|step| {
        step.pause.is_some() || step.analysis.is_some() || step.experiment.is_some()
    });
    let paused = find(conditions, condition::PAUSED)
        .is_some_and(|told| told.status == ConditionStatus::True);
    (!takes_its_time || wrong(Mutant::DeadlineDuringAnalysis)) && !paused
}

/// When the last of the former versions that keep their pods for a while loses them.
fn last_leaver(facts: &Facts<'_>) -> Option<Timestamp> {
    let active = facts.others().map(|id| facts.set(id));
    let ends = active.filter(|set| set.is_active());
    ends.filter_map(|set| set.delayed_until(facts.now)).max()
}

fn is_timed_out(facts: &Facts<'_>, conditions: &[RolloutCondition]) -> bool {
    let Some(told) = progressing(conditions) else {
        return false;
    };
    match told.reason.as_str() {
        reason::DEADLINE_EXCEEDED => true,
        reason::ABORTED | reason::PAUSED => false,
        _ => told.last_update_time + deadline(facts) < facts.now && !wrong(Mutant::NoDeadline),
    }
}

fn deadline(facts: &Facts<'_>) -> SignedDuration {
    SignedDuration::from_secs(i64::from(facts.spec.progress_deadline_seconds()))
}

/// When the progress deadline is to be looked at again; `None` while it does not run.
pub(super) fn next_progress_check(facts: &Facts<'_>, draft: &Draft<'_>) -> Option<SignedDuration> {
    let told = progressing(&draft.conditions)?;
    let over = matches!(
        told.reason.as_str(),
        reason::DEADLINE_EXCEEDED | reason::ABORTED | reason::PAUSED
    );
    if over
        || is_healthy(facts, draft)
        || !may_be_late(facts, &draft.conditions)
        || wrong(Mutant::DeadlineNotAwaited)
    {
        return None;
    }
    let second = SignedDuration::from_secs(1);
    let late = told.last_update_time + deadline(facts) + second;
    // Once the last former version has gone, nobody else would wake this one.
    let late = last_leaver(facts).map_or(late, |gone| late.max(gone));
    Some(facts.now.duration_until(late).max(second))
}

fn tell_availability(facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let available = match facts.blue_green() {
        Some(_) => facts
            .by_hash(&draft.active_selector)
            .is_some_and(|active| facts.is_saturated(facts.set(active))),
        None => facts.sum(|set| set.available) >= facts.replicas,
    };
    let (status, not) = if available {
        (ConditionStatus::True, "has")
    } else {
        (ConditionStatus::False, "does not have")
    };
    let told = Told {
        kind: condition::AVAILABLE,
        status,
        reason: reason::AVAILABLE,
        message: format_args!("Rollout {not} minimum availability"),
    };
    set(&mut draft.conditions, &told, facts.now);
}

fn tell_replica_failure(facts: &Facts<'_>, draft: &mut Draft<'_>) {
    let new = facts.new_set().into_iter();
    let failure = new
        .chain(&facts.sets)
        .find_map(|set| set.observed.failure.as_ref());
    match failure {
        Some((reason, message)) => {
            let told = Told {
                kind: condition::REPLICA_FAILURE,
                status: ConditionStatus::True,
                reason,
                message: format_args!("{message}"),
            };
            set(&mut draft.conditions, &told, facts.now);
        }
        None => {
            remove(&mut draft.conditions, condition::REPLICA_FAILURE);
        }
    }
}

fn tell_completion(facts: &Facts<'_>, plan: &mut Plan<'_>, draft: &mut Draft<'_>) {
    let completed = draft.is_promoted();
    let told = Told {
        kind: condition::COMPLETED,
        status: if completed {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        },
        reason: reason::COMPLETED,
        message: format_args!("{}", reason::COMPLETED),
    };
    if set(&mut draft.conditions, &told, facts.now) && !completed {
        let revision = facts.revision.unwrap_or(0);
        let hash = &draft.current_pod_hash;
        plan.event(
            "RolloutNotCompleted",
            format!("Rollout not completed, started update to revision {revision} ({hash})"),
        );
    }
}

/// Marks a spec that cannot be acted on.
pub(super) fn tell_invalid(
    conditions: &mut Conditions<'_>,
    name: &str,
    error: &str,
    now: Timestamp,
) {
    let told = Told {
        kind: condition::INVALID_SPEC,
        status: ConditionStatus::True,
        reason: reason::INVALID_SPEC,
        message: format_args!("The Rollout \"{name}\" is invalid: {error}"),
    };
    let before = find(conditions, condition::INVALID_SPEC);
    if !before.is_some_and(|before| says(&before.message, told.message)) {
        // Another fault is a transition of its own.
        remove(conditions, told.kind);
        replace(conditions, &told, now);
    }
}
