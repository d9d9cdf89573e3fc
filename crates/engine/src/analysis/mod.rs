//! How evidence is gathered: one pass over an AnalysisRun.
//!
//! A run takes measurements of its metrics until each has an answer, or until one is bad enough to end all. A decision here
//! follows a fixed sequence: put in the arguments, validate, find what is due, measure, assess metrics and run, trim, look again.

mod assess;
mod job;
pub mod measure;
pub mod redact;
mod retention;
mod schedule;
pub mod substitute;
pub mod world;

use std::collections::BTreeMap;

use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::{AnalysisPhase, AnalysisRunStatus, Measurement, MetricResult};
use crossfade_api::{Resource as _, validate};
use jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Done, Evidence, Failure, FailureKind, Target};
use crate::decision::{Decision, Halt, Plan, Wait};
use crate::mutant::{Mutant, wrong};
use crate::pass::Subject;
use measure::{ArgumentSource, Call, MeasureRequest, Measured};
use schedule::Due;
use world::World;

/// The AnalysisRun as a subject of passes.
#[derive(Clone, Copy, Debug)]
pub struct AnalysisRunSubject;

impl Subject for AnalysisRunSubject {
    type World = World;
    type Status = AnalysisRunStatus;

    fn decide(world: &World, evidence: &Evidence, now: Timestamp) -> Decision<AnalysisRunStatus> {
        decide(world, evidence, now)
    }
}

/// A time as statuses hold it: whole seconds, cut.
fn stamp(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What to do about an AnalysisRun now.
pub fn decide(world: &World, evidence: &Evidence, now: Timestamp) -> Decision<AnalysisRunStatus> {
    let mut plan = Plan::new(evidence);
    let outcome = if world.run.metadata.deletion_timestamp.is_some() {
        Ok(None)
    } else if world.run.status.phase.is_completed() {
        expire(world, &mut plan, now)
    } else {
        go_on(world, &mut plan, now)
    };
    plan.decide(outcome.map(|status| {
        status.filter(|status| *status != world.run.status || wrong(Mutant::RunWrittenAlways))
    }))
}

/// A finished run: Jobs that it lost sight of end, and it is deleted when its time to live is over.
fn expire(
    world: &World,
    plan: &mut Plan,
    now: Timestamp,
) -> Result<Option<AnalysisRunStatus>, Halt> {
    job::clear_strays(world, plan, &[], true)?;
    let status = &world.run.status;
    let Some((seconds, completed)) =
        retention::seconds_to_live(&world.run.spec, status.phase).zip(status.completed_at)
    else {
        return Ok(None);
    };
    let over = completed
        .saturating_add(SignedDuration::from_secs(i64::from(seconds) + 1))
        .unwrap_or(Timestamp::MAX);
    if now >= over {
        plan.must(Action::DeleteAnalysisRun {
            target: target_of(world),
        })?;
    } else {
        plan.look_again_in(over.duration_since(now));
    }
    Ok(None)
}

fn target_of(world: &World) -> Target {
    let meta = &world.run.metadata;
    Target {
        namespace: world.run.namespace().to_owned(),
        name: world.run.name().to_owned(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
    }
}

fn go_on(
    world: &World,
    plan: &mut Plan,
    now: Timestamp,
) -> Result<Option<AnalysisRunStatus>, Halt> {
    let spec = &world.run.spec;
    // What could not be read was left out: the rest is not what the writer asked for.
    let faults = world.run.origin.faults().iter();
    if let Some(fault) = faults
        .into_iter()
        .find(|fault| fault.path.starts_with("spec"))
    {
        let text = format!("Analysis spec invalid: {fault}");
        return end_in_error(world, plan, now, &[], &text);
    }
    let resolved = substitute::sources(&spec.args).and_then(|sources| {
        let values = substitute::planning_values(&sources);
        let metrics = spec
            .metrics
            .iter()
            .map(|metric| substitute::metric(metric, &values))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((sources, metrics))
    });
    let (sources, metrics) = match resolved {
        Ok(resolved) => resolved,
        Err(why) => {
            return end_in_error(
                world,
                plan,
                now,
                &[],
                &format!("Unable to resolve metric arguments: {why}"),
            );
        }
    };
    let valid =
        validate::analysis::metrics(&metrics).and_then(|()| retention::Rules::read(spec, &metrics));
    let rules = match valid {
        Ok(rules) => rules,
        Err(why) => {
            return end_in_error(
                world,
                plan,
                now,
                &metrics,
                &format!("Analysis spec invalid: {why}"),
            );
        }
    };

    let mut status = world.run.status.clone();
    let ending = terminating(world, &status);
    job::clear_strays(world, plan, &metrics, ending)?;
    match measure_due(world, plan, now, &sources, &metrics, &rules, &mut status)? {
        Measuring::Done => {}
        Measuring::Unresolved(why) => {
            return end_in_error(
                world,
                plan,
                now,
                &metrics,
                &format!("Unable to resolve metric arguments: {why}"),
            );
        }
    }
    assess_all(world, plan, now, &metrics, &rules, &mut status);
    trim(world, plan, &metrics, &rules, &mut status);
    if status.phase.is_completed() {
        if let Some(seconds) = retention::seconds_to_live(spec, status.phase) {
            plan.look_again_in(SignedDuration::from_secs(i64::from(seconds) + 1));
        }
    } else if let Some(next) = metrics
        .iter()
        .filter_map(|metric| schedule::next_look(metric, &status))
        .min()
    {
        // A tick later than the second in which it is due, because due means strictly after.
        plan.look_again_in(next.duration_since(now) + SignedDuration::from_millis(1));
    }
    explain(plan, &metrics, &status);
    Ok(Some(status))
}

/// Ends the run at once, without regard to dry-run mode; what is in flight is stopped first.
fn end_in_error(
    world: &World,
    plan: &mut Plan,
    now: Timestamp,
    metrics: &[Metric],
    message: &str,
) -> Result<Option<AnalysisRunStatus>, Halt> {
    let mut status = world.run.status.clone();
    for result in &status.metric_results {
        let in_flight = result
            .measurements
            .last()
            .filter(|last| last.finished_at.is_none());
        let is_job = metrics
            .iter()
            .any(|metric| metric.name == result.name && metric.provider.job.is_some());
        if let Some(last) = in_flight.filter(|_| is_job || metrics.is_empty()) {
            job::stop(world, plan, last)?;
        }
    }
    status.started_at.get_or_insert(stamp(now));
    status.completed_at.get_or_insert(stamp(now));
    status.phase = AnalysisPhase::Error;
    message.clone_into(&mut status.message);
    announce_end(plan, AnalysisPhase::Error);
    Ok(Some(status))
}

fn announce_end(plan: &mut Plan, phase: AnalysisPhase) {
    announce(
        plan,
        &format!("AnalysisRun{phase}"),
        phase,
        format!("Analysis Completed. Result: {phase}"),
    );
}

fn announce(plan: &mut Plan, reason: &str, phase: AnalysisPhase, message: String) {
    if matches!(phase, AnalysisPhase::Error | AnalysisPhase::Failed) {
        plan.warn(reason, message);
    } else {
        plan.event(reason, message);
    }
}

/// True if everything shall come to its end: asked for, or a metric that counts is bad.
fn terminating(world: &World, status: &AnalysisRunStatus) -> bool {
    let bad = |result: &MetricResult| {
        !result.dry_run
            && matches!(
                result.phase,
                AnalysisPhase::Failed | AnalysisPhase::Error | AnalysisPhase::Inconclusive
            )
    };
    world.run.spec.terminate || status.metric_results.iter().any(bad)
}

enum Measuring {
    Done,
    Unresolved(String),
}

/// Takes, continues and stops measurements, and counts those that ended.
fn measure_due(
    world: &World,
    plan: &mut Plan,
    now: Timestamp,
    sources: &BTreeMap<String, ArgumentSource>,
    metrics: &[Metric],
    rules: &retention::Rules,
    status: &mut AnalysisRunStatus,
) -> Result<Measuring, Halt> {
    let before = &world.run.status;
    let terminating = terminating(world, before);
    let mut answers = Vec::new();
    let mut pending = false;
    for (metric, written) in metrics.iter().zip(&world.run.spec.metrics) {
        let call = match schedule::due(metric, before, terminating, now) {
            Due::Nothing => match job::with_news(world, metric, before) {
                // The Job itself says that it ended; there is no need to wait for the next look at it.
                Some(last) => Call::Resume(last.clone()),
                None => continue,
            },
            Due::Start => Call::Start,
            Due::Resume(last) => Call::Resume(last.clone()),
            Due::Terminate(last) => Call::Terminate(last.clone()),
        };
        let order = Order {
            metric,
            written,
            sources,
            call,
            attempt: attempt(before, &metric.name),
        };
        match take(world, plan, order, now) {
            Some(answer) => answers.push((metric, answer)),
            None => pending = true,
        }
    }
    // All of them are asked for before any is waited for, so that they run side by side.
    if pending {
        return Err(Halt::Pending);
    }
    for (metric, (answer, stopped)) in answers {
        match answer {
            Measured::Unresolved(why) => return Ok(Measuring::Unresolved(why)),
            Measured::TryLater(why) => plan.fail(why),
            Measured::Taken {
                mut measurement,
                metadata,
            } => {
                if stopped
                    && matches!(
                        measurement.phase,
                        AnalysisPhase::Successful | AnalysisPhase::Inconclusive
                    )
                {
                    "Metric Terminated".clone_into(&mut measurement.message);
                }
                count(
                    result_of(status, metrics, &metric.name, rules, metadata),
                    measurement,
                    now,
                );
            }
        }
    }
    Ok(Measuring::Done)
}

/// One measurement to carry out.
pub(crate) struct Order<'o> {
    /// The metric, planned: arguments put in, secrets replaced.
    metric: &'o Metric,
    /// The metric as written.
    written: &'o Metric,
    sources: &'o BTreeMap<String, ArgumentSource>,
    call: Call,
    attempt: i32,
}

/// Names the attempt that comes next: measurements counted and in error, plus one.
fn attempt(status: &AnalysisRunStatus, metric: &str) -> i32 {
    status
        .metric_results
        .iter()
        .find(|result| result.name == metric)
        .map_or(1, |result| result.count + result.error + 1)
}

/// How a measurement stands and whether it was stopped, or `None` while that has to be found out.
fn take(world: &World, plan: &mut Plan, order: Order, now: Timestamp) -> Option<(Measured, bool)> {
    let stopped = matches!(order.call, Call::Terminate(_));
    if order.metric.provider.job.is_some() {
        return job::measure(world, plan, &order, now).map(|measured| (measured, stopped));
    }
    let target = target_of(world);
    let request = MeasureRequest {
        namespace: target.namespace,
        run_name: target.name,
        run_uid: target.uid,
        metric: order.written.clone(),
        args: order.sources.clone(),
        call: order.call,
        attempt: order.attempt,
    };
    match plan.want(Action::Measure(Box::new(request)))? {
        Ok(Done::Measured(measured)) => Some((measured.as_ref().clone(), stopped)),
        Ok(_) => Some((in_error(now, "the measurement was not answered"), stopped)),
        Err(Failure {
            kind: FailureKind::Unresolved,
            message,
        }) => Some((Measured::Unresolved(message.clone()), stopped)),
        Err(failure) => Some((in_error(now, &failure.message), stopped)),
    }
}

fn in_error(now: Timestamp, message: &str) -> Measured {
    let measurement = Measurement {
        phase: AnalysisPhase::Error,
        message: message.to_owned(),
        started_at: Some(now),
        finished_at: Some(now),
        ..Measurement::default()
    };
    Measured::Taken {
        measurement,
        metadata: BTreeMap::new(),
    }
}

/// The result entry of a metric, made on first use. Entries stand in the order of the spec.
fn result_of<'s>(
    status: &'s mut AnalysisRunStatus,
    metrics: &[Metric],
    name: &str,
    rules: &retention::Rules,
    metadata: BTreeMap<String, String>,
) -> &'s mut MetricResult {
    let place = |name: &str| {
        metrics
            .iter()
            .position(|metric| metric.name == name)
            .unwrap_or(usize::MAX)
    };
    let at = if let Some(at) = status
        .metric_results
        .iter()
        .position(|result| result.name == name)
    {
        at
    } else {
        let at = status
            .metric_results
            .partition_point(|result| place(&result.name) < place(name));
        let result = MetricResult {
            name: name.to_owned(),
            phase: AnalysisPhase::Running,
            dry_run: rules.is_dry_run(name),
            ..MetricResult::default()
        };
        status.metric_results.insert(at, result);
        at
    };
    let result = &mut status.metric_results[at];
    if result.metadata.is_empty() {
        result.metadata = metadata;
    }
    result
}

/// Adds a measurement to its metric, or replaces the one in flight, and counts it once it has ended.
fn count(result: &mut MetricResult, mut measurement: Measurement, now: Timestamp) {
    if measurement.phase.is_completed() && measurement.finished_at.is_none() {
        measurement.finished_at = Some(now);
    }
    for time in [
        &mut measurement.started_at,
        &mut measurement.finished_at,
        &mut measurement.resume_at,
    ] {
        *time = time.map(stamp);
    }
    if measurement.phase == AnalysisPhase::Error && wrong(Mutant::ErrorIsSuccess) {
        measurement.phase = AnalysisPhase::Successful;
    }
    match measurement.phase {
        AnalysisPhase::Successful => {
            result.successful += 1;
            result.count += 1;
            result.consecutive_error = 0;
            result.consecutive_success += 1;
        }
        AnalysisPhase::Failed | AnalysisPhase::Inconclusive => {
            if measurement.phase == AnalysisPhase::Failed {
                result.failed += 1;
            } else {
                result.inconclusive += 1;
            }
            result.count += 1;
            result.consecutive_error = 0;
            result.consecutive_success = 0;
        }
        AnalysisPhase::Error => {
            result.error += 1;
            result.consecutive_error += 1;
            result.consecutive_success = 0;
        }
        AnalysisPhase::Unset | AnalysisPhase::Pending | AnalysisPhase::Running => {}
    }
    match result
        .measurements
        .last_mut()
        .filter(|last| last.finished_at.is_none())
    {
        Some(in_flight) => *in_flight = measurement,
        None => result.measurements.push(measurement),
    }
}

/// Brings the phases of the metrics and of the run up to date.
fn assess_all(
    world: &World,
    plan: &mut Plan,
    now: Timestamp,
    metrics: &[Metric],
    rules: &retention::Rules,
    status: &mut AnalysisRunStatus,
) {
    status.started_at.get_or_insert(stamp(now));
    // Taken before any phase changes below: a metric that turns bad now stops the others in the next pass.
    let terminating = terminating(world, status);
    let mut verdict = assess::Verdict::new(if world.run.spec.terminate {
        "Run Terminated"
    } else {
        ""
    });
    for metric in metrics {
        let mut result = status
            .metric_results
            .iter_mut()
            .find(|result| result.name == metric.name);
        if let Some(result) = result.as_deref_mut() {
            let phase = assess::metric_phase(metric, result, terminating);
            if phase != result.phase {
                if phase.is_completed() {
                    let text = format!("Metric '{}' Completed. Result: {phase}", metric.name);
                    announce(plan, &format!("Metric{phase}"), phase, text);
                }
                result.message = result
                    .measurements
                    .last()
                    .map(|last| last.message.clone())
                    .unwrap_or_default();
                result.phase = phase;
            }
        }
        verdict.add(metric, result, rules.is_dry_run(&metric.name));
    }
    let (phase, message) = verdict.run_phase(terminating);
    status.run_summary = verdict.summary;
    status.dry_run_summary = Some(verdict.dry_run_summary);
    if phase != status.phase {
        status.phase = phase;
        status.message = message;
        if phase.is_completed() {
            announce_end(plan, phase);
            status.completed_at.get_or_insert(stamp(now));
        }
    }
}

/// Keeps the newest measurements of each metric, and their Jobs.
fn trim(
    world: &World,
    plan: &mut Plan,
    metrics: &[Metric],
    rules: &retention::Rules,
    status: &mut AnalysisRunStatus,
) {
    for result in &mut status.metric_results {
        let keep = rules.measurements_to_keep(&result.name);
        let surplus = result.measurements.len().saturating_sub(keep);
        result.measurements.drain(..surplus);
        let is_job = |metric: &&Metric| metric.name == result.name && metric.provider.job.is_some();
        if metrics.iter().any(|metric| is_job(&metric)) {
            // Also where no measurement is surplus now: a Job that was started in the pass that cut them could not be counted there.
            job::trim(world, plan, &result.name, keep);
        }
    }
}

/// Says in words what the run waits for.
fn explain(plan: &mut Plan, metrics: &[Metric], status: &AnalysisRunStatus) {
    for metric in metrics {
        let result = status
            .metric_results
            .iter()
            .find(|result| result.name == metric.name);
        if result.is_some_and(|result| result.phase.is_completed()) {
            continue;
        }
        let taken = result.map_or(0, |result| result.count);
        let number = match metric.effective_count() {
            Some(count) => format!("measurement {} of {count}", taken + 1),
            None => format!("measurement {}", taken + 1),
        };
        let bad = result.map_or(String::new(), |result| {
            let limit = metric.failure_limit();
            match (result.failed, result.consecutive_error) {
                (0, 0) => String::new(),
                (failed, 0) => format!(" ({failed} of {limit} allowed failures)"),
                (_, errors) => format!(" ({errors} errors in a row)"),
            }
        });
        plan.waits.push(Wait {
            for_what: format!("metric {}: {number}{bad}", metric.name),
            since: status.started_at,
            until: schedule::next_look(metric, status),
            moved_by: &[],
        });
    }
}
