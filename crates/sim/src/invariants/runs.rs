//! AnalysisRuns: one at a time, measured as often as asked for, and final once they have ended.

use std::collections::BTreeMap;

use crossfade_api::names::label;
use crossfade_api::{AnalysisRun, IntOrString, Resource as _};

use crossfade_engine::action::Action;

use super::{Check, named};
use crate::cluster::Cluster;
use crate::watch::{Seen, What};

fn label_of<'a>(run: &'a AnalysisRun, key: &str) -> &'a str {
    let labels = run.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(key))
        .map_or("", String::as_str)
}

/// A run's name without the number that it got because the name was taken.
fn without_number(name: &str) -> &str {
    let numbered = name.rsplit_once('.');
    numbered
        .filter(|(_, number)| number.parse::<u32>().is_ok())
        .map_or(name, |(name, _)| name)
}

pub(super) struct OneRunAtATime;

impl Check for OneRunAtATime {
    named!(
        "one-run-at-a-time",
        "No analysis of a version is started while one goes on that measures the same for it, and after a pass none goes on twice for the same purpose."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let goes_on = |run: &AnalysisRun| !run.spec.terminate && !run.status.phase.is_completed();
        if let What::Performed(Action::CreateAnalysisRun(new), Ok(_), _) = what {
            let mut runs = cluster.runs.values();
            let same = runs.find(|run| {
                goes_on(run)
                    && run.name() != new.name()
                    && without_number(run.name()) == without_number(new.name())
                    && run.spec == new.spec
            });
            if let Some(run) = same {
                return Err(format!("{} is started beside {}", new.name(), run.name()));
            }
            return Ok(());
        }
        let What::Ended(ended, Seen::Rollout(_)) = what else {
            return Ok(());
        };
        if ended.failed.is_some() {
            return Ok(());
        }
        let key = |run: &AnalysisRun| {
            [label::POD_HASH, label::ROLLOUT_TYPE, label::STEP_INDEX]
                .map(|key| label_of(run, key).to_owned())
        };
        let mut seen = BTreeMap::new();
        for run in cluster.own_runs().filter(|run| goes_on(run)) {
            if let Some(other) = seen.insert(key(run), run.name()) {
                return Err(format!("{} goes on beside {other}", run.name()));
            }
        }
        Ok(())
    }
}

pub(super) struct MeasuredAsAsked;

impl Check for MeasuredAsAsked {
    named!(
        "measured-as-often-as-asked",
        "No metric counts more measurements than it asks for."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::RunRecorded(before) = what else {
            return Ok(());
        };
        let Some(run) = cluster.runs.get(before.name()) else {
            return Ok(());
        };
        for result in &run.status.metric_results {
            let mut metrics = run.spec.metrics.iter();
            let count = metrics
                .find(|metric| metric.name == result.name)
                .and_then(|metric| metric.count.as_ref());
            if let Some(IntOrString::Int(count)) = count
                && *count > 0
                && result.count > *count
            {
                return Err(format!(
                    "{} counts {} of {count}",
                    result.name, result.count
                ));
            }
        }
        Ok(())
    }
}

pub(super) struct EndsAreFinal;

impl Check for EndsAreFinal {
    named!(
        "ends-are-final",
        "An AnalysisRun that has ended keeps its phase."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::RunRecorded(before) = what else {
            return Ok(());
        };
        let run = cluster.runs.get(before.name());
        let after = run.map_or(before.status.phase, |run| run.status.phase);
        if before.status.phase.is_completed() && after != before.status.phase {
            return Err(format!(
                "{} was {} and becomes {after}",
                before.name(),
                before.status.phase
            ));
        }
        Ok(())
    }
}
