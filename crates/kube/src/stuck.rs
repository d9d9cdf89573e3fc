//! A subject that the API server keeps from being looked after, by a right that is missing or a rule that nothing satisfies: told on the subject
//! itself, once, and taken back when it is over. Everything else goes on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crossfade_api::rollout_status::{ConditionStatus, RolloutCondition};
use crossfade_engine::action::{Evidence, FailureKind, Target};
use crossfade_engine::decision::Event;
use jiff::Timestamp;
use serde_json::json;

use crate::context::{Context, Subject};
use crate::kind::Kind;
use crate::writes::Writes;

/// The condition that a subject has as long as it is stuck; the status is False.
const CONDITION: &str = "Reconciled";
/// Why a subject is stuck, as the reference calls it in its events.
const REASON: &str = "ReconciliationError";

/// What was told about subjects that have no conditions.
#[derive(Default)]
pub(crate) struct Told(Mutex<BTreeMap<Subject, String>>);

impl Told {
    /// The subject is not stuck, or gone.
    pub(crate) fn forget(&self, subject: &Subject) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.remove(subject);
    }

    /// True if this was not told last.
    fn is_news(&self, subject: &Subject, why: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.insert(subject.clone(), why.to_owned());
        before.as_deref() != Some(why)
    }
}

/// The first thing that the API server has refused in a pass, and would refuse again.
pub(crate) fn refused(evidence: &Evidence) -> Option<String> {
    let mut failures = evidence
        .iter()
        .filter_map(|(_, outcome)| outcome.as_ref().err());
    let refused = failures.find(|failure| failure.kind == FailureKind::Refused);
    refused.map(|failure| failure.message.clone())
}

/// How a pass over a subject has ended.
pub(crate) struct Passed<'p> {
    pub(crate) kind: Kind,
    /// The subject, in the version that the pass left it in.
    pub(crate) target: &'p Target,
    /// Its conditions now; `None` for one that has none.
    pub(crate) conditions: Option<&'p [RolloutCondition]>,
    /// What kept the pass from its end, if it was refused.
    pub(crate) refused: Option<&'p str>,
    pub(crate) failed: bool,
}

/// Tells of a subject that is stuck, or that it is not any more.
pub(crate) async fn tell(context: &Context, subject: &Subject, passed: Passed<'_>) {
    let refused = passed.refused.filter(|_| passed.failed);
    let Some(conditions) = passed.conditions else {
        match refused {
            Some(why) if context.stuck.is_news(subject, why) => warn(context, &passed, why),
            Some(_) => {}
            None if !passed.failed => context.stuck.forget(subject),
            None => {}
        }
        return;
    };
    let mut told = conditions.iter();
    let told = told.find(|condition| condition.kind == CONDITION);
    let others = conditions.iter();
    let others = others.filter(|condition| condition.kind != CONDITION);
    let mut after: Vec<RolloutCondition> = others.cloned().collect();
    match (refused, told) {
        (Some(why), told) if told.is_none_or(|told| told.message != why) => {
            let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
            after.push(RolloutCondition {
                kind: CONDITION.to_owned(),
                status: ConditionStatus::False,
                last_update_time: now,
                last_transition_time: told.map_or(now, |told| told.last_transition_time),
                reason: REASON.to_owned(),
                message: why.to_owned(),
            });
            // Where not even a status can be written, the event has to do, once.
            if told.is_some() || context.stuck.is_news(subject, why) {
                warn(context, &passed, why);
            }
        }
        (None, Some(_)) if !passed.failed => context.stuck.forget(subject),
        _ => return,
    }
    let patch = json!({"status": {"conditions": after}});
    let writes = Writes::new(context, subject);
    if let Err(why) = writes
        .record(&passed.kind, passed.target, Some(patch))
        .await
    {
        tracing::debug!(?subject, "what it is stuck with could not be told: {why}");
    }
}

fn warn(context: &Context, passed: &Passed<'_>, why: &str) {
    let event = Event {
        warning: true,
        reason: REASON.to_owned(),
        message: format!("Reconciliation failed with error: {why}"),
        done: true,
        for_owner: false,
    };
    context.tell(&passed.kind, passed.target, vec![event]);
}
