//! Rules by metric name: which metrics do not count, how many measurements stay, how long a finished run lives.

use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::{AnalysisPhase, AnalysisRunSpec};
use regex::Regex;

/// Measurements kept of a metric that no rule mentions.
const KEPT: usize = 10;

/// The rules of one run, resolved to its metrics.
#[derive(Debug)]
pub(crate) struct Rules {
    dry_run: Vec<String>,
    keep: Vec<(String, usize)>,
}

impl Rules {
    /// Resolves the rules of a run to its metrics. A rule that matches no metric is an error, as is an expression that cannot be read.
    pub(crate) fn read(spec: &AnalysisRunSpec, metrics: &[Metric]) -> Result<Self, String> {
        let mut rules = Self {
            dry_run: Vec::new(),
            keep: Vec::new(),
        };
        for (index, rule) in spec.dry_run.iter().enumerate() {
            let matching =
                matching(&rule.metric_name, metrics).ok_or_else(|| unmatched("dryRun", index))?;
            rules.dry_run.extend(matching);
        }
        for (index, rule) in spec.measurement_retention.iter().enumerate() {
            let matching = matching(&rule.metric_name, metrics)
                .ok_or_else(|| unmatched("measurementRetention", index))?;
            let keep = usize::try_from(rule.limit)
                .ok()
                .filter(|limit| *limit > 0)
                .unwrap_or(KEPT);
            rules
                .keep
                .extend(matching.into_iter().map(|name| (name, keep)));
        }
        Ok(rules)
    }

    /// True for a metric that is measured but does not count.
    pub(crate) fn is_dry_run(&self, metric: &str) -> bool {
        self.dry_run.iter().any(|name| name == metric)
    }

    /// How many of the newest measurements of a metric stay; of several rules the last counts.
    pub(crate) fn measurements_to_keep(&self, metric: &str) -> usize {
        self.keep
            .iter()
            .rev()
            .find(|(name, _)| name == metric)
            .map_or(KEPT, |(_, keep)| *keep)
    }
}

fn unmatched(field: &str, index: usize) -> String {
    format!("{field}[{index}]: Rule didn't match any metric name(s)")
}

/// Names of the metrics that an unanchored expression matches; `None` if there are none.
fn matching(expression: &str, metrics: &[Metric]) -> Option<Vec<String>> {
    let expression = Regex::new(expression).ok()?;
    let names: Vec<String> = metrics
        .iter()
        .filter(|metric| expression.is_match(&metric.name))
        .map(|metric| metric.name.clone())
        .collect();
    (!names.is_empty()).then_some(names)
}

/// Seconds that a finished run lives, or `None` for ever.
pub(crate) fn seconds_to_live(spec: &AnalysisRunSpec, phase: AnalysisPhase) -> Option<i32> {
    let strategy = spec.ttl_strategy.as_ref()?;
    let special = match phase {
        AnalysisPhase::Successful => strategy.seconds_after_success,
        AnalysisPhase::Failed => strategy.seconds_after_failure,
        AnalysisPhase::Error | AnalysisPhase::Inconclusive => None,
        AnalysisPhase::Unset | AnalysisPhase::Pending | AnalysisPhase::Running => return None,
    };
    special.or(strategy.seconds_after_completion)
}
