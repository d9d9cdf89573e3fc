//! Measurements by Jobs: a Job is created, watched and deleted like any other object; how it ends is the verdict.

use std::collections::BTreeMap;

use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::{AnalysisPhase, AnalysisRunStatus, Measurement};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::measure::{Call, Measured};
use super::world::{Job, World};
use super::{Order, attempt, target_of};
use crate::action::{Action, Failure, FailureKind, NewJob};
use crate::decision::{Halt, Plan};
use crate::mutant::{Mutant, wrong};

/// The longest name a Job may have, so that its pods can carry it as a label.
const LONGEST_NAME: usize = 63;
/// Where a measurement keeps the name of its Job.
const JOB_NAME: &str = "job-name";
/// Where a measurement keeps the namespace of its Job.
const JOB_NAMESPACE: &str = "job-namespace";

/// How the measurement stands, or `None` while an action has to be performed first.
pub(super) fn measure(
    world: &World,
    plan: &mut Plan,
    order: &Order,
    now: Timestamp,
) -> Option<Measured> {
    match &order.call {
        Call::Start => start(world, plan, order, now),
        Call::Resume(last) => resume(world, plan, last, now),
        Call::Terminate(last) => terminate(world, plan, last, now),
    }
}

/// The measurement in flight of a metric whose Job has something to say: it ended, cannot start, or is gone.
pub(super) fn with_news<'s>(
    world: &World,
    metric: &Metric,
    status: &'s AnalysisRunStatus,
) -> Option<&'s Measurement> {
    metric.provider.job.as_ref()?;
    let result = status
        .metric_results
        .iter()
        .find(|result| result.name == metric.name)?;
    let last = result
        .measurements
        .last()
        .filter(|last| last.finished_at.is_none())?;
    let job = world.jobs.get(last.metadata.get(JOB_NAME)?);
    job.is_none_or(|job| job.finished() || job.blocked.is_some())
        .then_some(last)
}

fn taken(measurement: Measurement) -> Measured {
    Measured::Taken {
        measurement,
        metadata: BTreeMap::new(),
    }
}

fn finished(last: &Measurement, phase: AnalysisPhase, message: &str, now: Timestamp) -> Measured {
    let finished = Measurement {
        phase,
        message: message.to_owned(),
        finished_at: Some(now),
        resume_at: None,
        ..last.clone()
    };
    taken(finished)
}

fn start(world: &World, plan: &mut Plan, order: &Order, now: Timestamp) -> Option<Measured> {
    let run = target_of(world);
    let namespace = world
        .job_namespace
        .clone()
        .unwrap_or_else(|| run.namespace.clone());
    let others = if wrong(Mutant::JobTwice) {
        world.jobs.len()
    } else {
        0
    };
    let attempt = order
        .attempt
        .saturating_add(i32::try_from(others).unwrap_or(0));
    let name = name(&run.uid, &order.metric.name, attempt);
    let running = Measurement {
        phase: AnalysisPhase::Running,
        started_at: Some(now),
        resume_at: Some(now),
        metadata: [
            (JOB_NAME.to_owned(), name.clone()),
            (JOB_NAMESPACE.to_owned(), namespace.clone()),
        ]
        .into(),
        ..Measurement::default()
    };
    let ours = |job: &Job| is_ours(job, &run.uid);
    // Created by an earlier pass whose status was never recorded.
    if world.jobs.get(&name).is_some_and(ours) {
        return Some(taken(running));
    }
    let job = NewJob {
        namespace,
        name,
        run_name: run.name.clone(),
        run_uid: run.uid.clone(),
        metric: order.written.clone(),
        args: order.sources.clone(),
    };
    match plan.want(Action::CreateJob(Box::new(job)))? {
        Ok(_) => Some(taken(running)),
        Err(Failure {
            kind: FailureKind::JobExists(Some(job)),
            ..
        }) if ours(job.as_ref()) => Some(taken(running)),
        Err(Failure {
            kind: FailureKind::Unresolved,
            message,
        }) => Some(Measured::Unresolved(message.clone())),
        Err(failure) => {
            let begun = Measurement {
                started_at: Some(now),
                ..Measurement::default()
            };
            Some(finished(
                &begun,
                AnalysisPhase::Error,
                &failure.message,
                now,
            ))
        }
    }
}

fn resume(world: &World, plan: &mut Plan, last: &Measurement, now: Timestamp) -> Option<Measured> {
    let Some(name) = last.metadata.get(JOB_NAME) else {
        return Some(finished(
            last,
            AnalysisPhase::Error,
            "job metadata reference missing",
            now,
        ));
    };
    let Some(job) = world.jobs.get(name) else {
        return Some(finished(
            last,
            AnalysisPhase::Error,
            &format!("job.batch \"{name}\" not found"),
            now,
        ));
    };
    if job.complete {
        return Some(finished(last, AnalysisPhase::Successful, "", now));
    }
    if job.failed && wrong(Mutant::JobFailureIsSuccess) {
        return Some(finished(last, AnalysisPhase::Successful, "", now));
    }
    if job.failed {
        return Some(finished(last, AnalysisPhase::Failed, "", now));
    }
    if let Some(blocked) = &job.blocked {
        let message = format!(
            "Pod {}, container {} has terminal error ({}): {}\n",
            blocked.pod, blocked.container, blocked.reason, blocked.message
        );
        // A pod that can never start would keep the Job for ever. Whether it could be deleted does not change the result.
        plan.want(Action::DeleteJob {
            target: job.target.clone(),
        })?
        .as_ref()
        .ok();
        return Some(finished(last, AnalysisPhase::Inconclusive, &message, now));
    }
    let elapsed = last
        .started_at
        .map_or(SignedDuration::ZERO, |started| now.duration_since(started));
    let pause = SignedDuration::from_secs_f64((2.0 * elapsed.as_secs_f64().max(0.0)).sqrt());
    Some(taken(Measurement {
        resume_at: now.saturating_add(pause).ok(),
        ..last.clone()
    }))
}

fn terminate(
    world: &World,
    plan: &mut Plan,
    last: &Measurement,
    now: Timestamp,
) -> Option<Measured> {
    let job = last
        .metadata
        .get(JOB_NAME)
        .and_then(|name| world.jobs.get(name));
    if let Some(job) = job
        && !wrong(Mutant::JobLeftBehind)
        && let Err(failure) = plan.want(Action::DeleteJob {
            target: job.target.clone(),
        })?
        && failure.kind != FailureKind::NotFound
    {
        return Some(finished(last, AnalysisPhase::Error, &failure.message, now));
    }
    Some(finished(last, AnalysisPhase::Inconclusive, "", now))
}

/// Deletes the Job of a measurement in flight, because its run ends.
pub(super) fn stop(world: &World, plan: &mut Plan, last: &Measurement) -> Result<(), Halt> {
    if let Some(job) = last
        .metadata
        .get(JOB_NAME)
        .and_then(|name| world.jobs.get(name))
    {
        plan.act(Action::DeleteJob {
            target: job.target.clone(),
        })?;
    }
    Ok(())
}

/// Deletes Jobs that go on although no measurement is theirs: the answer to their creation, or to their deletion, was lost. A Job of the
/// attempt that comes next is not among them, as its measurement may begin with it.
pub(super) fn clear_strays(
    world: &World,
    plan: &mut Plan,
    metrics: &[Metric],
    terminating: bool,
) -> Result<(), Halt> {
    if world.jobs.values().all(Job::finished) {
        return Ok(());
    }
    let (run, status) = (target_of(world), &world.run.status);
    let is_used = |job: &Job| {
        metrics.iter().any(|metric| {
            let mut results = status.metric_results.iter();
            let result = results.find(|result| result.name == metric.name);
            let last = result.and_then(|result| result.measurements.last());
            let in_flight = last.filter(|last| last.finished_at.is_none());
            match in_flight {
                Some(last) => last.metadata.get(JOB_NAME) == Some(&job.target.name),
                None => {
                    !terminating
                        && result.is_none_or(|result| !result.phase.is_completed())
                        && name(&run.uid, &metric.name, attempt(status, &metric.name))
                            == job.target.name
                }
            }
        })
    };
    for job in world.jobs.values() {
        if !job.finished() && is_ours(job, &run.uid) && !is_used(job) {
            plan.must(Action::DeleteJob {
                target: job.target.clone(),
            })?;
        }
    }
    Ok(())
}

/// Whether a Job belongs to this run.
fn is_ours(job: &Job, run_uid: &str) -> bool {
    let owner = job.controller.as_ref().unwrap_or(&job.run_uid);
    owner == run_uid
}

/// Deletes finished Jobs of a metric beyond the newest `keep`.
pub(super) fn trim(world: &World, plan: &mut Plan, metric: &str, keep: usize) {
    let mut jobs: Vec<&Job> = world
        .jobs
        .values()
        .filter(|job| job.metric == metric)
        .collect();
    jobs.sort_by(|left, right| {
        (right.created, &right.target.name).cmp(&(left.created, &left.target.name))
    });
    for job in jobs.into_iter().skip(keep).filter(|job| job.finished()) {
        plan.want(Action::DeleteJob {
            target: job.target.clone(),
        });
    }
}

/// The name of the Job for one attempt: `<run uid>.<metric>.<attempt>`, unless that is too long or no DNS name; then the metric is
/// cleaned and cut, and a digest of its whole name keeps two similar metrics apart.
fn name(run_uid: &str, metric: &str, attempt: i32) -> String {
    let plain = format!("{run_uid}.{metric}.{attempt}");
    let clean = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-'
    };
    let is_label = !metric.is_empty()
        && metric.chars().all(clean)
        && !metric.starts_with('-')
        && !metric.ends_with('-');
    if plain.len() <= LONGEST_NAME && is_label {
        return plain;
    }
    let digest = Sha256::digest(metric.as_bytes());
    let digits = format!(
        "{:05x}",
        u32::from_be_bytes([0, digest[0], digest[1], digest[2]]) >> 4
    );
    let room = LONGEST_NAME
        .saturating_sub(run_uid.len() + 1 + 1 + digits.len() + 1 + attempt.to_string().len());
    let cleaned: String = metric
        .chars()
        .map(|character| character.to_ascii_lowercase())
        .map(|c| if clean(c) { c } else { '-' })
        .take(room)
        .collect();
    let prefix = cleaned.trim_matches('-');
    let middle = if prefix.is_empty() {
        digits
    } else {
        format!("{prefix}-{digits}")
    };
    format!("{run_uid}.{middle}.{attempt}")
}

#[cfg(test)]
mod tests {
    use super::name;

    const UID: &str = "1f0c2a77-93d1-4c6e-8c99-0242ac120002";

    #[test]
    fn short_names_are_plain_and_long_ones_stay_apart() {
        assert_eq!(name(UID, "smoke", 1), format!("{UID}.smoke.1"));
        let long = [
            "a-metric-with-a-very-long-name-about-latency",
            "a-metric-with-a-very-long-name-about-errors",
        ];
        let names = long.map(|metric| name(UID, metric, 12));
        assert_ne!(names[0], names[1]);
        for name in names {
            assert!(
                name.len() <= 63 && name.starts_with(UID) && name.ends_with(".12"),
                "{name}"
            );
        }
        let odd = name(UID, "Größe (p95)", 1);
        assert!(
            odd.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c)),
            "{odd}"
        );
    }
}
