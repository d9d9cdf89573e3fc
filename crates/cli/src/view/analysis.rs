//! Analysis runs: their state, their counts, and their measurements in full.

use crossfade_api::analysis_run::{AnalysisPhase, AnalysisRunStatus, Measurement};
use crossfade_api::intstr;
use crossfade_api::{AnalysisRun, Resource};
use jiff::Timestamp;
use serde::Serialize;

use super::age;
use super::icon::{Icon, Look, State};
use super::table::Table;

/// What measurements store the name of their Job under.
const JOB_NAME: &str = "job-name";

/// A phase of an analysis, an experiment or a Job, with its sign.
pub(crate) fn state(phase: AnalysisPhase) -> State {
    let icon = match phase {
        AnalysisPhase::Unset => Icon::Blank,
        AnalysisPhase::Pending => Icon::Waiting,
        AnalysisPhase::Running => Icon::Progressing,
        AnalysisPhase::Successful => Icon::Ok,
        AnalysisPhase::Failed => Icon::Bad,
        AnalysisPhase::Error => Icon::Warning,
        AnalysisPhase::Inconclusive => Icon::Unknown,
    };
    State::new(icon, phase.as_str())
}

/// Measurements of a run by how they ended, over all metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Good ones.
    pub(crate) successful: i32,
    /// Bad ones.
    pub(crate) failed: i32,
    /// Those that were neither.
    pub(crate) inconclusive: i32,
    /// Those that could not be taken.
    pub(crate) error: i32,
}

impl Counts {
    /// Counts the measurements of a run.
    pub(crate) fn of(status: &AnalysisRunStatus) -> Self {
        let mut counts = Self::default();
        for metric in &status.metric_results {
            counts.successful += metric.successful;
            counts.failed += metric.failed;
            counts.inconclusive += metric.inconclusive;
            counts.error += metric.error;
        }
        counts
    }

    /// Sign and number of each kind that occurs.
    pub(crate) fn painted(self, look: Look) -> String {
        let kinds = [
            (Icon::Ok, self.successful),
            (Icon::Bad, self.failed),
            (Icon::Unknown, self.inconclusive),
            (Icon::Warning, self.error),
        ];
        let shown: Vec<_> = kinds
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(icon, count)| format!("{} {count}", icon.painted(look)))
            .collect();
        shown.join(",")
    }
}

/// A Job that took a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobFacts {
    /// Name of the Job.
    pub(crate) name: String,
    /// How the measurement stands.
    pub(crate) phase: AnalysisPhase,
    /// When it was started.
    pub(crate) started_at: Option<Timestamp>,
}

/// The Jobs of a run's measurements, in the order of metrics and measurements.
pub(crate) fn jobs(status: &AnalysisRunStatus) -> Vec<JobFacts> {
    let measurements = status
        .metric_results
        .iter()
        .flat_map(|metric| &metric.measurements);
    measurements
        .filter_map(|measurement| {
            Some(JobFacts {
                name: measurement.metadata.get(JOB_NAME)?.clone(),
                phase: measurement.phase,
                started_at: measurement.started_at,
            })
        })
        .collect()
}

/// A run with every metric and its newest measurements.
pub(crate) fn in_full(run: &AnalysisRun, look: Look, now: Timestamp) -> String {
    let status = &run.status;
    let mut head = super::head::Head::default();
    head.line("Name:", run.name());
    head.line("Namespace:", run.namespace());
    head.line("Status:", &state(status.phase).painted(look));
    if !status.message.is_empty() {
        head.line("Message:", &status.message);
    }
    if let Some(started) = status.started_at {
        let ended = status.completed_at.unwrap_or(now);
        head.line(
            "Started:",
            &format!("{} ago", age::since(Some(started), now)),
        );
        head.line("Duration:", &age::human(ended.duration_since(started)));
    }
    let mut text = head.text();
    text.push('\n');
    let mut metrics = Table::new(&["METRIC", "STATUS", "MEASUREMENTS", "CONDITION", "MESSAGE"]);
    for metric in &run.spec.metrics {
        let result = status
            .metric_results
            .iter()
            .find(|result| result.name == metric.name);
        let (phase, counts, message) =
            result.map_or((AnalysisPhase::Unset, Counts::default(), ""), |result| {
                let counts = Counts {
                    successful: result.successful,
                    failed: result.failed,
                    inconclusive: result.inconclusive,
                    error: result.error,
                };
                (result.phase, counts, result.message.as_str())
            });
        let conditions: Vec<_> = [
            ("success", metric.success_condition.as_str()),
            ("failure", metric.failure_condition.as_str()),
        ]
        .iter()
        .filter(|(_, condition)| !condition.is_empty())
        .map(|(kind, condition)| format!("{kind}: {condition}"))
        .chain(
            metric
                .failure_limit
                .iter()
                .map(|limit| format!("failureLimit: {}", intstr::text(limit))),
        )
        .collect();
        let name = if result.is_some_and(|result| result.dry_run) {
            format!("{} (dry run)", metric.name)
        } else {
            metric.name.clone()
        };
        metrics.row(vec![
            name,
            state(phase).painted(look).trim().to_owned(),
            counts.painted(look),
            conditions.join(", "),
            message.to_owned(),
        ]);
    }
    text.push_str(&metrics.text());
    if status
        .metric_results
        .iter()
        .any(|result| !result.measurements.is_empty())
    {
        text.push('\n');
        let mut table = Table::new(&["METRIC", "MEASURED", "STATUS", "VALUE", "MESSAGE"]);
        for result in &status.metric_results {
            for measurement in &result.measurements {
                table.row(measured(&result.name, measurement, look, now));
            }
        }
        text.push_str(&table.text());
    }
    text
}

fn measured(metric: &str, measurement: &Measurement, look: Look, now: Timestamp) -> Vec<String> {
    let when = measurement.finished_at.or(measurement.started_at);
    vec![
        metric.to_owned(),
        format!("{} ago", age::since(when, now)),
        state(measurement.phase).painted(look),
        measurement.value.clone(),
        measurement.message.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_above_nothing_show_in_a_fixed_order() {
        let counts = Counts {
            successful: 5,
            failed: 0,
            inconclusive: 2,
            error: 1,
        };
        assert_eq!(counts.painted(Look::default()), "✔ 5,? 2,⚠ 1");
        assert_eq!(Counts::default().painted(Look::default()), "");
    }
}
