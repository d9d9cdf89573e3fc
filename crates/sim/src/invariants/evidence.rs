//! Evidence: what was measured decides, when it was asked for, about the version that it was measured of.

use std::collections::BTreeSet;

use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::{AnalysisPhase, MetricResult};
use crossfade_api::names::label;
use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::{AnalysisRun, Resource as _, duration};
use crossfade_engine::action::Action;
use crossfade_engine::rollout::world::World;
use jiff::SignedDuration;

use super::traffic::{replicas, set_of};
use super::{Check, InPass, named};
use crate::cluster::Cluster;
use crate::run::Outcome;
use crate::scenario::{Act, FaultKind};
use crate::watch::{Seen, What};

/// Measurements that a status keeps of a metric; beyond that its own counters are believed.
const KEPT: usize = 10;

fn label_of<'a>(run: &'a AnalysisRun, key: &str) -> &'a str {
    let labels = run.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(key))
        .map_or("", String::as_str)
}

/// The run whose status was recorded.
fn recorded<'a>(cluster: &'a Cluster, what: &What<'_>) -> Option<&'a AnalysisRun> {
    let What::RunRecorded(before) = what else {
        return None;
    };
    cluster.runs.get(before.name()).map(|run| &**run)
}

/// What a value of a scenario's metric means; the conditions of scenarios are `result >= 0.9` and `result < 0.5`.
fn meaning(metric: &Metric, value: &str) -> AnalysisPhase {
    let Ok(number) = value.parse::<f64>() else {
        return AnalysisPhase::Error;
    };
    let good = (!metric.success_condition.is_empty()).then_some(number >= 0.9);
    let bad = (!metric.failure_condition.is_empty()).then_some(number < 0.5);
    match (good, bad) {
        (_, Some(true)) | (Some(false), None) => AnalysisPhase::Failed,
        (Some(false), Some(false)) => AnalysisPhase::Inconclusive,
        _ => AnalysisPhase::Successful,
    }
}

pub(super) struct ValuesDecide;

impl Check for ValuesDecide {
    named!(
        "values-decide",
        "Each measurement ends as its value, or its Job, says."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some(run) = recorded(cluster, what) else {
            return Ok(());
        };
        for metric in &run.spec.metrics {
            let results = run.status.metric_results.iter();
            let all = results.filter(|result| result.name == metric.name);
            for one in all.flat_map(|result| &result.measurements) {
                let job = one
                    .metadata
                    .get("job-name")
                    .and_then(|name| cluster.jobs.get(name));
                let meant = match (metric.provider.job.is_some(), job) {
                    (false, _) => meaning(metric, &one.value),
                    (true, Some(job)) if job.failed => AnalysisPhase::Failed,
                    (true, Some(job)) if job.complete => AnalysisPhase::Successful,
                    (true, _) => continue,
                };
                if one.phase.is_completed() && !run.spec.terminate && one.phase != meant {
                    return Err(format!(
                        "{}: \"{}\" counts as {} and means {meant}",
                        metric.name, one.value, one.phase
                    ));
                }
            }
        }
        Ok(())
    }
}

/// How often each outcome was measured.
#[derive(Default)]
struct Counts {
    failed: i32,
    inconclusive: i32,
    counted: i32,
    errors_in_a_row: i32,
    successes_in_a_row: i32,
}

impl Counts {
    fn of(result: &MetricResult) -> Self {
        if result.measurements.len() >= KEPT {
            return Self {
                failed: result.failed,
                inconclusive: result.inconclusive,
                counted: result.count,
                errors_in_a_row: result.consecutive_error,
                successes_in_a_row: result.consecutive_success,
            };
        }
        let mut counts = Self::default();
        for one in &result.measurements {
            let phase = one.phase;
            if !phase.is_completed() {
                continue;
            }
            counts.failed += i32::from(phase == AnalysisPhase::Failed);
            counts.inconclusive += i32::from(phase == AnalysisPhase::Inconclusive);
            counts.counted += i32::from(phase != AnalysisPhase::Error);
            let in_a_row = |before: i32, which| if phase == which { before + 1 } else { 0 };
            counts.errors_in_a_row = in_a_row(counts.errors_in_a_row, AnalysisPhase::Error);
            counts.successes_in_a_row =
                in_a_row(counts.successes_in_a_row, AnalysisPhase::Successful);
        }
        counts
    }

    /// The bad end that follows, if one does.
    fn bad_end(&self, metric: &Metric) -> Option<AnalysisPhase> {
        if self.errors_in_a_row > metric.consecutive_error_limit() {
            Some(AnalysisPhase::Error)
        } else if self.inconclusive > metric.inconclusive_limit() {
            Some(AnalysisPhase::Inconclusive)
        } else if (0..self.failed).contains(&metric.failure_limit()) {
            Some(AnalysisPhase::Failed)
        } else {
            None
        }
    }

    /// Nothing more is to be measured.
    fn is_complete(&self, metric: &Metric) -> bool {
        let in_a_row = metric.consecutive_success_limit();
        metric
            .effective_count()
            .is_some_and(|count| self.counted >= count)
            || (in_a_row > 0 && self.successes_in_a_row >= in_a_row)
    }
}

pub(super) struct LimitsDecide;

impl Check for LimitsDecide {
    named!(
        "limits-decide",
        "A metric ends badly exactly when a limit is exceeded, and well only when it was measured as often as it asks for or its run was ended."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some(run) = recorded(cluster, what) else {
            return Ok(());
        };
        let is_bad = |phase| {
            use AnalysisPhase::{Error, Failed, Inconclusive};
            matches!(phase, Error | Failed | Inconclusive)
        };
        let results = &run.status.metric_results;
        let counts = |metric: &Metric| {
            !run.spec
                .dry_run
                .iter()
                .any(|rule| rule.metric_name == metric.name)
        };
        let phase_of = |metric: &Metric| {
            let result = results.iter().find(|result| result.name == metric.name);
            result.map_or(AnalysisPhase::Unset, |result| result.phase)
        };
        let mut counting = run.spec.metrics.iter().filter(|metric| counts(metric));
        let stops = run.spec.terminate || counting.any(|metric| is_bad(phase_of(metric)));
        for metric in &run.spec.metrics {
            let Some(result) = results.iter().find(|result| result.name == metric.name) else {
                continue;
            };
            let counts = Counts::of(result);
            let tried = counts.is_complete(metric);
            let phase = result.phase;
            let in_a_row = metric.consecutive_success_limit() > 0;
            let fits = match counts.bad_end(metric) {
                Some(bad) => phase == bad,
                None if is_bad(phase) => in_a_row && tried,
                None => phase != AnalysisPhase::Successful || tried || stops,
            };
            if !fits {
                return Err(format!(
                    "{} is {phase} after {} counted, {} failed, {} inconclusive and {} errors in a row",
                    metric.name,
                    counts.counted,
                    counts.failed,
                    counts.inconclusive,
                    counts.errors_in_a_row
                ));
            }
        }
        Ok(())
    }
}

pub(super) struct WorstMetricDecides;

impl Check for WorstMetricDecides {
    named!(
        "the-worst-metric-decides",
        "A run ends as the worst of the metrics that count, and well only when all have ended or it was ended."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some(run) = recorded(cluster, what) else {
            return Ok(());
        };
        let status = &run.status;
        let invalid = ["Analysis spec invalid", "Unable to resolve"];
        if !status.phase.is_completed()
            || invalid.iter().any(|text| status.message.starts_with(text))
        {
            return Ok(());
        }
        let phases: Vec<AnalysisPhase> = run
            .spec
            .metrics
            .iter()
            .filter(|metric| {
                !run.spec
                    .dry_run
                    .iter()
                    .any(|rule| rule.metric_name == metric.name)
            })
            .map(|metric| {
                let mut results = status.metric_results.iter();
                let result = results.find(|result| result.name == metric.name);
                result.map_or(AnalysisPhase::Unset, |result| result.phase)
            })
            .collect();
        let order = [
            AnalysisPhase::Failed,
            AnalysisPhase::Error,
            AnalysisPhase::Inconclusive,
        ];
        let worst = order.into_iter().find(|phase| phases.contains(phase));
        let expected = worst.unwrap_or(AnalysisPhase::Successful);
        if status.phase != expected {
            return Err(format!(
                "{} is {} with metrics {phases:?}",
                run.name(),
                status.phase
            ));
        }
        let all = status.metric_results.len() == run.spec.metrics.len()
            && status
                .metric_results
                .iter()
                .all(|result| result.phase.is_completed());
        if worst.is_none() && !all && !run.spec.terminate {
            return Err(format!(
                "{} ends before its metrics: {phases:?}",
                run.name()
            ));
        }
        Ok(())
    }
}

pub(super) struct MeasuredInTime;

impl Check for MeasuredInTime {
    named!(
        "measured-in-time",
        "Measurements of a metric keep their interval, and the first one waits for its delay."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some(run) = recorded(cluster, what) else {
            return Ok(());
        };
        for metric in &run.spec.metrics {
            let mut results = run.status.metric_results.iter();
            let Some(result) = results.find(|result| result.name == metric.name) else {
                continue;
            };
            let delay = duration::parse(&metric.initial_delay).ok();
            let first = result.measurements.first().and_then(|one| one.started_at);
            if let (Some(delay), Some(first), Some(begun)) = (delay, first, run.status.started_at)
                && result.measurements.len() < KEPT
                && first < begun + delay
            {
                return Err(format!("{} does not wait for its delay", metric.name));
            }
            let interval =
                duration::parse(&metric.interval).unwrap_or(SignedDuration::from_secs(10));
            for (one, next) in result
                .measurements
                .iter()
                .zip(result.measurements.iter().skip(1))
            {
                let least = match one.phase {
                    AnalysisPhase::Error => SignedDuration::from_secs(10),
                    _ => interval,
                };
                if let (Some(ended), Some(begun)) = (one.finished_at, next.started_at)
                    && begun < ended + least
                {
                    return Err(format!("{} is measured again too soon", metric.name));
                }
            }
        }
        Ok(())
    }
}

/// Runs beside the steps of the update under way.
#[derive(Default)]
pub(super) struct BackgroundJudges {
    /// There is one, for this try.
    started: bool,
    /// A person has said that something may be left out, or has changed what is asked for.
    skipped: bool,
}

impl Check for BackgroundJudges {
    named!(
        "the-background-run-judges",
        "A run beside the steps starts at its step and not before, and nothing is promoted without it or against it, unless by full promotion, skip or on the way back."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Act(
                Act::SkipStep
                | Act::SkipSteps
                | Act::Promote
                | Act::PromoteFull
                | Act::EditSteps(_)
                | Act::Reapply,
            ) => self.skipped = true,
            What::Performing(Action::CreateAnalysisRun(run), Seen::Rollout(world))
                if label_of(run, label::ROLLOUT_TYPE) == "Background" =>
            {
                self.started = true;
                let canary = world.rollout.spec.strategy.canary.as_ref();
                let background = canary.and_then(|canary| canary.analysis.as_ref());
                let first = background
                    .and_then(|background| background.starting_step)
                    .unwrap_or(0);
                let index = world.rollout.status.current_step_index;
                if index.is_some_and(|index| index < first) {
                    return Err(format!("it starts at step {index:?}, before step {first}"));
                }
            }
            What::Recorded(before, world) => {
                let Some(rollout) = cluster.rollout() else {
                    return Ok(());
                };
                let (old, new) = (&before.status, &rollout.status);
                if old.current_pod_hash != new.current_pod_hash
                    || old.current_step_hash != new.current_step_hash
                {
                    self.skipped = false;
                    // After a change of the steps a run that goes on is taken over.
                    self.started = cluster.runs.values().any(|run| {
                        label_of(run, label::ROLLOUT_TYPE) == "Background"
                            && label_of(run, label::POD_HASH) == new.current_pod_hash.as_str()
                            && !run.spec.terminate
                            && !run.status.phase.is_completed()
                    });
                }
                let slot = |status: &RolloutStatus| {
                    let slot = &status.canary.current_background_analysis_run_status;
                    slot.as_ref().map(|slot| slot.name.clone())
                };
                self.started &= !new.abort;
                self.started |= slot(new).is_some();
                let created = |hash: &str| set_of(world, hash).map(|set| set.created);
                let forward =
                    created(new.current_pod_hash.as_str()) > created(old.stable_rs.as_str());
                let promoted = old.stable_rs != new.stable_rs && !old.stable_rs.is_empty();
                let canary = world.rollout.spec.strategy.canary.as_ref();
                let steps = canary.map_or(0, |canary| canary.steps.len());
                // Without templates there is nothing to run, and a step that is not there is never reached.
                let background = canary
                    .and_then(|canary| canary.analysis.as_ref())
                    .filter(|background| !background.analysis.templates.is_empty())
                    .filter(|background| {
                        let first = usize::try_from(background.starting_step()).unwrap_or(0);
                        steps == 0 || first <= steps
                    });
                if !promoted
                    || !forward
                    || self.skipped
                    || world.rollout.status.promote_full
                    || background.is_none()
                {
                    return Ok(());
                }
                if !self.started {
                    return Err("a version is promoted without a run beside its steps".to_owned());
                }
                let mut runs = world.runs.iter();
                let run = slot(old).and_then(|slot| runs.find(|run| run.name() == slot));
                if let Some(run) = run.filter(|run| {
                    matches!(
                        run.status.phase,
                        AnalysisPhase::Failed | AnalysisPhase::Error
                    )
                }) {
                    return Err(format!("a version is promoted against {}", run.name()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) struct JudgedWithPods;

impl Check for JudgedWithPods {
    named!(
        "judged-with-its-pods",
        "A blue-green release is judged only when the version has the pods for it."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Performing(Action::CreateAnalysisRun(run), Seen::Rollout(world)) = what else {
            return Ok(());
        };
        let Some(blue_green) = &world.rollout.spec.strategy.blue_green else {
            return Ok(());
        };
        let wanted = match label_of(run, label::ROLLOUT_TYPE) {
            "PrePromotion" => blue_green
                .preview_replica_count
                .unwrap_or(replicas(&world.rollout)),
            _ => replicas(&world.rollout),
        };
        let new = set_of(world, world.rollout.status.current_pod_hash.as_str());
        let available = new.map_or(0, |set| set.available);
        if available < wanted {
            return Err(format!(
                "{} starts with {available} of {wanted} pods",
                run.name()
            ));
        }
        Ok(())
    }
}

/// Whether a blue-green release that is tried again has been judged again.
#[derive(Default)]
pub(super) struct RetryIsJudged {
    /// It was tried again, and no run has been started since.
    waits: bool,
}

impl Check for RetryIsJudged {
    named!(
        "a-retry-is-judged-anew",
        "A blue-green release that is tried again is neither switched nor taken back because of runs of the try before."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let Some(rollout) = cluster.rollout() else {
            return Ok(());
        };
        match what {
            What::Act(Act::Retry) => {
                let status = &rollout.status;
                self.waits |= status.abort
                    && status.aborted_at.is_some()
                    && status
                        .blue_green
                        .pre_promotion_analysis_run_status
                        .is_some();
            }
            What::Act(_) => self.waits = false,
            What::Performing(Action::CreateAnalysisRun(_), _) => self.waits = false,
            What::Recorded(before, _) => {
                let (old, new) = (&before.status, &rollout.status);
                self.waits &= old.current_pod_hash == new.current_pod_hash;
                let told = new
                    .conditions
                    .iter()
                    .any(|one| one.message.contains("analysis phase"));
                if self.waits && !old.abort && new.abort && told {
                    return Err("it is taken back by a run of the try before".to_owned());
                }
            }
            What::Performing(Action::SwitchService { target, hash, .. }, Seen::Rollout(world)) => {
                let strategy = world.rollout.spec.strategy.blue_green.as_ref();
                let active =
                    strategy.is_some_and(|strategy| strategy.active_service == target.name);
                let status = &world.rollout.status;
                let forward =
                    active && *hash == status.current_pod_hash && *hash != status.stable_rs;
                // Full promotion asks for no run (rollout-behaviour 11.4).
                let asked = status.promote_full;
                if self.waits && forward && !asked && !is_way_back(world) {
                    return Err("it is switched on the run of the try before".to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The present version is older than the stable one.
fn is_way_back(world: &World) -> bool {
    let status = &world.rollout.status;
    let created = |hash: &str| set_of(world, hash).map(|set| set.created);
    created(status.current_pod_hash.as_str()) < created(status.stable_rs.as_str())
}

/// What a pass cannot know of Jobs.
#[derive(Default)]
pub(super) struct JobsAreOne {
    usurped: bool,
    /// The answer to the next action is lost.
    unheard: bool,
    /// Jobs of which a pass was not told that they were created: the next one sees them.
    unknown: BTreeSet<String>,
    /// Something was refused in the pass under way, as the deletion of a Job may be: the next one tries again.
    refused: InPass<bool>,
}

impl JobsAreOne {
    /// No Job of a run goes on, but those that no pass knows of.
    fn none_left(&self, cluster: &Cluster, run: &AnalysisRun) -> Result<(), String> {
        let mut jobs = cluster.jobs.iter();
        let left = jobs.find(|(name, job)| {
            Some(&job.run_uid) == run.metadata.uid.as_ref()
                && !job.finished()
                && !self.unknown.contains(*name)
        });
        left.map_or(Ok(()), |(name, _)| {
            Err(format!("{name} goes on after {} has ended", run.name()))
        })
    }
}

impl Check for JobsAreOne {
    named!(
        "one-job-a-measurement",
        "A measurement has one Job under way, and none goes on after its run has ended and the controller has looked at it."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        if let What::Fault(kind) = what {
            self.usurped |= matches!(kind, FaultKind::Usurped(_));
            self.unheard = *kind == FaultKind::LostReply;
            if matches!(kind, FaultKind::Conflict | FaultKind::Refused) {
                *self.refused.of(cluster) = true;
            }
        }
        match what {
            What::Performed(action, outcome, _) => {
                let unheard = std::mem::take(&mut self.unheard);
                let Action::CreateJob(new) = action else {
                    return Ok(());
                };
                if outcome.is_err() {
                    return Ok(());
                }
                let goes_on = cluster.jobs.iter().find(|(name, job)| {
                    **name != new.name
                        && job.run_uid == new.run_uid
                        && job.metric == new.metric.name
                        && !job.finished()
                });
                if let Some((name, _)) = goes_on {
                    return Err(format!("{} is started while {name} goes on", new.name));
                }
                if unheard {
                    self.unknown.insert(new.name.clone());
                }
            }
            What::RunRecorded(_) if !self.usurped && !*self.refused.of(cluster) => {
                if let Some(run) = recorded(cluster, what)
                    && run.status.phase.is_completed()
                {
                    return self.none_left(cluster, run);
                }
            }
            What::Ended(ended, Seen::Run(world)) if ended.failed.is_none() => {
                self.unknown
                    .retain(|name| !world.jobs.contains_key(name.as_str()));
                let run = cluster.runs.get(world.run.name());
                let excused = self.usurped || *self.refused.of(cluster);
                if let Some(run) = run.filter(|run| run.status.phase.is_completed() && !excused) {
                    return self.none_left(cluster, run);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        for run in cluster.runs.values().filter(|_| outcome.at_rest) {
            let mut jobs = cluster.jobs.iter();
            let left = jobs.find(|(_, job)| {
                run.status.phase.is_completed()
                    && Some(&job.run_uid) == run.metadata.uid.as_ref()
                    && !job.finished()
            });
            if let Some((name, _)) = left {
                return Err(format!("{name} goes on after {} has ended", run.name()));
            }
        }
        Ok(())
    }
}
