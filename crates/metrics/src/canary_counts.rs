//! What Prometheus is told of Canaries, by the names that dashboards of this family know.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossfade_api::Canary;
use crossfade_api::Resource as _;
use crossfade_api::flagger::check::{Check, Checked, Query};
use crossfade_api::flagger::{CanaryPhase, CanaryStatus};
use crossfade_api::split::Shares;

use crate::exposition::{Histogram, Page};

/// Namespace and name.
type Key = (String, String);

/// Upper bounds of the time that a look takes which judges a release, in seconds.
const LOOKS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// How a release went: name of the target, namespace, strategy, how it was judged.
type Ended = (String, String, &'static str, &'static str);

#[derive(Debug, Default)]
struct State {
    /// By namespace and workload.
    weights: BTreeMap<Key, i32>,
    /// By namespace and target.
    looks: BTreeMap<Key, Histogram<{ LOOKS.len() }>>,
    /// By namespace and target, and metric.
    values: BTreeMap<(Key, String), f64>,
    successes: BTreeMap<Ended, u64>,
    failures: BTreeMap<Ended, u64>,
}

/// What is counted of Canaries.
#[derive(Debug, Default)]
pub struct CanaryMetrics(Mutex<State>);

impl CanaryMetrics {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests go where these shares say.
    pub fn weighed(&self, namespace: &str, target: &str, shares: Shares) {
        let mut state = self.state();
        let key = |name: String| (namespace.to_owned(), name);
        let primary = key(format!("{target}-primary"));
        state.weights.insert(primary, shares.primary);
        state.weights.insert(key(target.to_owned()), shares.canary);
    }

    /// A value was measured.
    pub fn checked(&self, namespace: &str, check: &Check, checked: &Checked) {
        let Ok(value) = &checked.answer else { return };
        // Durations are told in seconds.
        let value = match check.query {
            Query::Duration { .. } => value / 1000.0,
            Query::SuccessRate { .. } | Query::Text(_) => *value,
        };
        let target = check.variables.get("target").cloned().unwrap_or_default();
        let key = ((namespace.to_owned(), target), check.metric.clone());
        self.state().values.insert(key, value);
    }

    /// A Canary was looked at, and its release judged.
    pub fn judged(&self, canary: &Canary, took: Duration) {
        let mut state = self.state();
        let looks = state.looks.entry(of_target(canary));
        looks.or_insert_with(|| Histogram::new(&LOOKS)).add(took);
    }

    /// A status was recorded; if that ended a release, the release is counted.
    pub fn recorded(&self, canary: &Canary, after: &CanaryStatus) {
        let before = canary.status.phase;
        let (namespace, name) = of_target(canary);
        let strategy = canary
            .spec
            .analysis()
            .map_or("canary", |analysis| analysis.strategy().as_str());
        let judged = if canary.spec.skips_analysis() {
            "skipped"
        } else {
            "completed"
        };
        let ended = (name, namespace, strategy, judged);
        let mut state = self.state();
        match (before, after.phase) {
            (CanaryPhase::Succeeded, CanaryPhase::Succeeded)
            | (CanaryPhase::Failed, CanaryPhase::Failed) => {}
            (_, CanaryPhase::Succeeded) => *state.successes.entry(ended).or_default() += 1,
            (_, CanaryPhase::Failed) => *state.failures.entry(ended).or_default() += 1,
            _ => {}
        }
    }

    /// A Canary is gone, and so is what stands about it.
    pub fn forget(&self, canary: &Canary) {
        let own = of_target(canary);
        let primary = (own.0.clone(), format!("{}-primary", own.1));
        let mut state = self.state();
        state.weights.remove(&own);
        state.weights.remove(&primary);
        state.looks.remove(&own);
        state.values.retain(|(key, _), _| *key != own);
    }

    /// Everything, with the Canaries that there are and who routes for those that do not say. Where there are no Canaries nothing is told.
    pub fn render<'c>(
        &self,
        canaries: impl Iterator<Item = &'c Canary>,
        provider: &str,
        page: &mut Page,
    ) {
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        let mut statuses = BTreeMap::new();
        for canary in canaries {
            *totals.entry(canary.namespace().to_owned()).or_default() += 1;
            let status = match canary.status.phase {
                CanaryPhase::Progressing => 0,
                CanaryPhase::Failed => 2,
                _ => 1,
            };
            statuses.insert(of_target(canary), status);
        }
        if totals.is_empty() {
            return;
        }
        let info = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("mesh_provider", provider),
        ];
        page.head("flagger_info", "gauge", "This controller.");
        page.line("flagger_info", &info, 1);
        page.head("flagger_canary_total", "gauge", "Canaries that are known.");
        for (namespace, total) in &totals {
            page.line("flagger_canary_total", &[("namespace", namespace)], total);
        }
        let name = "flagger_canary_status";
        page.head(name, "gauge", "0 under way, 1 fine, 2 failed.");
        for (key, status) in &statuses {
            page.line(name, &named(key), status);
        }
        let state = self.state();
        let name = "flagger_canary_weight";
        page.head(name, "gauge", "Percentage of the requests of a workload.");
        for ((namespace, workload), weight) in &state.weights {
            let labels = [
                ("workload", workload.as_str()),
                ("namespace", namespace.as_str()),
            ];
            page.line(name, &labels, weight);
        }
        let name = "flagger_canary_duration_seconds";
        page.head(
            name,
            "histogram",
            "Time that looks take which judge a release, in seconds.",
        );
        for (key, looks) in &state.looks {
            page.histogram(name, &named(key), looks);
        }
        let name = "flagger_canary_metric_analysis";
        page.head(name, "gauge", "The last value of a metric.");
        for ((key, metric), value) in &state.values {
            let [target, namespace] = named(key);
            page.line(name, &[target, namespace, ("metric", metric)], value);
        }
        let counters = [
            (
                "flagger_canary_successes_total",
                "Releases that ended well.",
                &state.successes,
            ),
            (
                "flagger_canary_failures_total",
                "Releases that were taken back.",
                &state.failures,
            ),
        ];
        for (name, help, counted) in counters {
            page.head(name, "counter", help);
            for ((target, namespace, strategy, judged), count) in counted {
                let labels = [
                    ("name", target.as_str()),
                    ("namespace", namespace.as_str()),
                    ("deployment_strategy", strategy),
                    ("analysis_status", judged),
                ];
                page.line(name, &labels, count);
            }
        }
    }
}

/// Namespace and name of the target.
fn of_target(canary: &Canary) -> Key {
    let target = canary.spec.target_ref.name.clone();
    (canary.namespace().to_owned(), target)
}

fn named(key: &Key) -> [(&'static str, &str); 2] {
    [("name", key.1.as_str()), ("namespace", key.0.as_str())]
}
