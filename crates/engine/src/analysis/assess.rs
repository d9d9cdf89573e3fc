//! From measurements to the phase of a metric, and from metrics to the phase of a run.
//!
//! Inside one metric an error weighs more than an inconclusive result, which weighs more than a failure; across metrics it is failure, error,
//! inconclusive. The two orders differ on purpose: users know both.

use crate::mutant::{Mutant, wrong};
use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::{AnalysisPhase, MetricResult, RunSummary};

/// True once the metric has taken as many measurements as it should.
pub(crate) fn count_reached(metric: &Metric, result: &MetricResult) -> bool {
    metric.effective_count().is_some_and(|count| {
        result.count >= count || is_one_off(result.count, count, Mutant::CountOffByOne)
    })
}

/// A count is next to a limit, and that counts as good as the limit, which is never right.
fn is_one_off(count: i32, limit: i32, rule: Mutant) -> bool {
    count.saturating_add(1) == limit && wrong(rule)
}

/// Which limit a metric has exceeded, in words, with the phase that follows.
pub(crate) fn exceeded(metric: &Metric, result: &MetricResult) -> Option<(AnalysisPhase, String)> {
    let errors = metric.consecutive_error_limit();
    let inconclusive = metric.inconclusive_limit();
    let failures = metric.failure_limit();
    let exceeds = |count: i32, limit: i32, rule| count > limit && !is_one_off(limit, count, rule);
    if exceeds(result.consecutive_error, errors, Mutant::ErrorLimitOffByOne) {
        let text = format!(
            "consecutiveErrors ({}) > consecutiveErrorLimit ({errors})",
            result.consecutive_error
        );
        Some((AnalysisPhase::Error, text))
    } else if exceeds(
        result.inconclusive,
        inconclusive,
        Mutant::InconclusiveLimitOffByOne,
    ) {
        let text = format!(
            "inconclusive ({}) > inconclusiveLimit ({inconclusive})",
            result.inconclusive
        );
        Some((AnalysisPhase::Inconclusive, text))
    } else if failures >= 0 && exceeds(result.failed, failures, Mutant::FailureLimitOffByOne) {
        Some((
            AnalysisPhase::Failed,
            format!("failed ({}) > failureLimit ({failures})", result.failed),
        ))
    } else {
        None
    }
}

/// The phase of a metric after its measurements so far.
pub(crate) fn metric_phase(
    metric: &Metric,
    result: &MetricResult,
    terminating: bool,
) -> AnalysisPhase {
    if result.phase.is_completed() {
        return result.phase;
    }
    let Some(last) = result.measurements.last() else {
        return if terminating {
            AnalysisPhase::Successful
        } else {
            AnalysisPhase::Pending
        };
    };
    if !last.phase.is_completed() {
        return AnalysisPhase::Running;
    }
    if let Some((phase, _)) = exceeded(metric, result) {
        return phase;
    }
    let in_a_row = metric.consecutive_success_limit();
    let failures_count = metric.failure_limit() >= 0;
    if in_a_row > 0 && result.consecutive_success >= in_a_row {
        AnalysisPhase::Successful
    } else if count_reached(metric, result) {
        match (in_a_row > 0, failures_count) {
            (true, true) => AnalysisPhase::Inconclusive,
            (true, false) => AnalysisPhase::Failed,
            (false, _) => AnalysisPhase::Successful,
        }
    } else if terminating {
        AnalysisPhase::Successful
    } else {
        AnalysisPhase::Running
    }
}

/// How bad a completed phase is for the run; higher is worse.
fn badness(phase: AnalysisPhase) -> u8 {
    match phase {
        AnalysisPhase::Failed => 4,
        AnalysisPhase::Error => 3,
        AnalysisPhase::Inconclusive => 2,
        AnalysisPhase::Successful => 1,
        AnalysisPhase::Unset | AnalysisPhase::Pending | AnalysisPhase::Running => 0,
    }
}

/// What all metrics together say about the run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// The worst completed phase, `Unset` if no metric is completed.
    worst: AnalysisPhase,
    /// The text that goes with it.
    message: String,
    /// Some metric is not completed.
    incomplete: bool,
    /// Metrics that count, by how they ended.
    pub(crate) summary: RunSummary,
    /// Dry-run metrics, by how they ended.
    pub(crate) dry_run_summary: RunSummary,
}

impl Verdict {
    /// A verdict on nothing yet; `message` is what a run without a bad metric says.
    pub(crate) fn new(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            ..Self::default()
        }
    }

    /// Takes one metric into account, in spec order. For a completed dry-run metric the result's message is rewritten.
    pub(crate) fn add(
        &mut self,
        metric: &Metric,
        result: Option<&mut MetricResult>,
        dry_run: bool,
    ) {
        let summary = if dry_run {
            &mut self.dry_run_summary
        } else {
            &mut self.summary
        };
        summary.count += 1;
        let Some(result) = result else {
            self.incomplete = true;
            return;
        };
        match result.phase {
            AnalysisPhase::Successful => summary.successful += 1,
            AnalysisPhase::Failed => summary.failed += 1,
            AnalysisPhase::Error => summary.error += 1,
            AnalysisPhase::Inconclusive => summary.inconclusive += 1,
            AnalysisPhase::Unset | AnalysisPhase::Pending | AnalysisPhase::Running => {
                self.incomplete = true;
                return;
            }
        }
        let why = exceeded(metric, result);
        if dry_run && !wrong(Mutant::DryRunCounts) {
            if badness(self.worst) == 0 {
                self.worst = AnalysisPhase::Successful;
            }
            if let Some((phase, text)) = why {
                result.message = format!("Metric assessed {phase} due to {text}");
            }
            return;
        }
        if badness(result.phase) > badness(self.worst) {
            self.worst = result.phase;
            if let Some((phase, text)) = why {
                self.message = format!("Metric \"{}\" assessed {phase} due to {text}", metric.name);
                if !result.message.is_empty() {
                    self.message
                        .push_str(&format!(": \"Error Message: {}\"", result.message));
                }
            }
        }
    }

    /// The phase and message of the run.
    pub(crate) fn run_phase(&self, terminating: bool) -> (AnalysisPhase, String) {
        if terminating && badness(self.worst) == 0 {
            (AnalysisPhase::Successful, self.message.clone())
        } else if terminating
            || !self.incomplete
            || (badness(self.worst) > 0 && wrong(Mutant::FirstMetricDecides))
        {
            (self.worst, self.message.clone())
        } else {
            (AnalysisPhase::Running, String::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossfade_api::IntOrString;
    use crossfade_api::analysis_run::Measurement;

    fn limits(count: i32, failure: i32, in_a_row: i32) -> Metric {
        Metric {
            name: "m".to_owned(),
            interval: "10s".to_owned(),
            count: Some(IntOrString::Int(count)),
            failure_limit: Some(IntOrString::Int(failure)),
            consecutive_success_limit: Some(IntOrString::Int(in_a_row)),
            ..Metric::default()
        }
    }

    fn after(counts: [i32; 4]) -> MetricResult {
        let [count, failed, inconclusive, consecutive_success] = counts;
        let last = Measurement {
            phase: AnalysisPhase::Successful,
            ..Measurement::default()
        };
        MetricResult {
            phase: AnalysisPhase::Running,
            count,
            failed,
            inconclusive,
            consecutive_success,
            measurements: vec![last],
            ..MetricResult::default()
        }
    }

    #[test]
    fn the_phase_of_a_metric_follows_the_first_row_that_matches() {
        use AnalysisPhase::{Failed, Inconclusive, Running, Successful};
        //           metric              count failed inconclusive in a row   phase
        let table = [
            (limits(5, 3, 0), [1, 0, 0, 0], Running),
            (limits(5, 3, 0), [4, 3, 0, 0], Running),
            (limits(5, 3, 0), [4, 4, 0, 0], Failed),
            (limits(5, 3, 0), [5, 3, 0, 0], Successful),
            (limits(5, 3, 0), [5, 0, 1, 0], Inconclusive),
            (limits(5, 2, 3), [3, 0, 0, 3], Successful),
            (limits(5, 2, 3), [5, 1, 0, 2], Inconclusive),
            (limits(4, -1, 3), [4, 1, 0, 2], Failed),
            (limits(0, 0, 0), [99, 0, 0, 0], Running),
        ];
        for (metric, counts, phase) in table {
            assert_eq!(
                metric_phase(&metric, &after(counts), false),
                phase,
                "{metric:?} {counts:?}"
            );
        }
        assert_eq!(
            metric_phase(&limits(5, 3, 0), &after([1, 1, 0, 0]), true),
            Successful,
            "stopped within its limits"
        );
    }

    #[test]
    fn across_metrics_failure_weighs_most_and_the_first_of_equals_speaks() {
        let metric = |name: &str| Metric {
            name: name.to_owned(),
            ..Metric::default()
        };
        let result = |phase, failed, error| MetricResult {
            phase,
            failed,
            consecutive_error: error,
            ..MetricResult::default()
        };
        let mut verdict = Verdict::new("");
        verdict.add(
            &metric("slow"),
            Some(&mut result(AnalysisPhase::Error, 0, 5)),
            false,
        );
        verdict.add(
            &metric("bad"),
            Some(&mut result(AnalysisPhase::Failed, 1, 0)),
            false,
        );
        verdict.add(
            &metric("worse"),
            Some(&mut result(AnalysisPhase::Failed, 7, 0)),
            false,
        );
        let (phase, message) = verdict.run_phase(false);
        assert_eq!(phase, AnalysisPhase::Failed);
        assert_eq!(
            message,
            "Metric \"bad\" assessed Failed due to failed (1) > failureLimit (0)"
        );
        assert_eq!(
            (
                verdict.summary.count,
                verdict.summary.failed,
                verdict.summary.error
            ),
            (3, 2, 1)
        );
    }

    #[test]
    fn a_bad_dry_run_metric_never_worsens_the_run() {
        let mut verdict = Verdict::new("");
        let mut result = MetricResult {
            phase: AnalysisPhase::Failed,
            failed: 1,
            ..MetricResult::default()
        };
        verdict.add(&Metric::default(), Some(&mut result), true);
        assert_eq!(
            verdict.run_phase(false),
            (AnalysisPhase::Successful, String::new())
        );
        assert_eq!(
            result.message,
            "Metric assessed Failed due to failed (1) > failureLimit (0)"
        );
        assert_eq!(verdict.dry_run_summary.failed, 1);
    }
}
