//! When a metric is measured: what is due now, and when to look again.

use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::{AnalysisPhase, AnalysisRunStatus, Measurement, MetricResult};
use crossfade_api::duration;
use jiff::{SignedDuration, Timestamp};

use super::assess::count_reached;
use crate::mutant::{Mutant, wrong};

/// Time between a measurement in error and the next, whatever the interval.
const AFTER_ERROR: SignedDuration = SignedDuration::from_secs(10);
/// Time between two measurements of a metric without an interval.
const WITHOUT_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// What to do about a metric now.
#[derive(Debug, PartialEq)]
pub(crate) enum Due<'s> {
    /// Nothing.
    Nothing,
    /// Take a new measurement.
    Start,
    /// Go on with the one in flight.
    Resume(&'s Measurement),
    /// Stop the one in flight.
    Terminate(&'s Measurement),
}

/// What is due for a metric, by the first row that matches.
pub(crate) fn due<'s>(
    metric: &Metric,
    status: &'s AnalysisRunStatus,
    terminating: bool,
    now: Timestamp,
) -> Due<'s> {
    let result = status
        .metric_results
        .iter()
        .find(|result| result.name == metric.name);
    if result.is_some_and(|result| result.phase.is_completed()) {
        return Due::Nothing;
    }
    let last = result.and_then(|result| result.measurements.last());
    if let Some(last) = last.filter(|last| last.finished_at.is_none()) {
        return if terminating {
            Due::Terminate(last)
        } else if last.resume_at.is_some_and(|at| at > now) {
            Due::Nothing
        } else {
            Due::Resume(last)
        };
    }
    if terminating {
        return Due::Nothing;
    }
    let (Some(result), Some(last)) = (result, last) else {
        return match (initial_delay(metric), status.started_at) {
            (None, _) => Due::Start,
            (Some(delay), Some(started))
                if now >= started.saturating_add(delay).unwrap_or(started) =>
            {
                Due::Start
            }
            (Some(_), _) => Due::Nothing,
        };
    };
    if !count_reached(metric, result) && next_after(metric, last).is_some_and(|next| now > next) {
        Due::Start
    } else {
        Due::Nothing
    }
}

/// When to look at an uncompleted metric again; `None` if something else wakes the run.
pub(crate) fn next_look(metric: &Metric, status: &AnalysisRunStatus) -> Option<Timestamp> {
    let result: Option<&MetricResult> = status
        .metric_results
        .iter()
        .find(|result| result.name == metric.name);
    if result.is_some_and(|result| result.phase.is_completed()) {
        return None;
    }
    let (Some(result), Some(last)) = (result, result.and_then(|result| result.measurements.last()))
    else {
        let delay = initial_delay(metric)?;
        return status
            .started_at
            .and_then(|started| started.saturating_add(delay).ok());
    };
    if last.finished_at.is_none() {
        return last.resume_at;
    }
    if count_reached(metric, result) {
        None
    } else {
        next_after(metric, last)
    }
}

/// The earliest time after which the measurement that follows `last` may start.
fn next_after(metric: &Metric, last: &Measurement) -> Option<Timestamp> {
    let finished = last.finished_at?;
    let wait = if wrong(Mutant::IntervalIgnored) {
        SignedDuration::ZERO
    } else if last.phase == AnalysisPhase::Error {
        AFTER_ERROR
    } else {
        duration::parse(&metric.interval)
            .ok()
            .filter(|_| !metric.interval.is_empty())
            .unwrap_or(WITHOUT_INTERVAL)
    };
    let next = finished.saturating_add(wait).ok()?;
    // A finished measurement says when to come back only where the provider asked for it (Retry-After).
    Some(
        last.resume_at
            .filter(|_| last.phase == AnalysisPhase::Error)
            .map_or(next, |asked| asked.max(next)),
    )
}

fn initial_delay(metric: &Metric) -> Option<SignedDuration> {
    if metric.initial_delay.is_empty() || wrong(Mutant::InitialDelayIgnored) {
        None
    } else {
        duration::parse(&metric.initial_delay).ok()
    }
}
