//! What Prometheus is told: how releases stand, and how the controller does.
//!
//! Names and labels are those that dashboards know from the reference; `crossfade_` ones are our own and name no objects.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossfade_api::Resource as _;
use crossfade_api::names::{condition, reason};
use crossfade_api::rollout_status::RolloutPhase;
use crossfade_engine::rollout;

use crate::cache::Key;
use crate::context::{Context, Subject};

/// Upper bounds of the reference's histograms, in seconds.
const BUCKETS: [f64; 5] = [0.01, 0.15, 0.25, 0.5, 1.0];

/// Upper bounds of the time that subjects wait for a look, in seconds.
const WAITS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// Durations, counted by upper bounds.
#[derive(Clone, Copy, Debug)]
struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    counts: [u64; N],
    count: u64,
    sum: f64,
}

impl Default for Histogram<{ BUCKETS.len() }> {
    fn default() -> Self {
        Self::new(&BUCKETS)
    }
}

impl Default for Histogram<{ WAITS.len() }> {
    fn default() -> Self {
        Self::new(&WAITS)
    }
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [f64; N]) -> Self {
        Self {
            bounds,
            counts: [0; N],
            count: 0,
            sum: 0.0,
        }
    }

    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (count, bound) in self.counts.iter_mut().zip(self.bounds) {
            *count += u64::from(seconds <= *bound);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct OfSubject {
    took: Histogram<{ BUCKETS.len() }>,
    failed: u64,
}

/// An Event: namespace and name of its Rollout, type, reason.
type Told = (String, String, &'static str, String);

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    rollouts: Mutex<BTreeMap<Key, OfSubject>>,
    runs: Mutex<BTreeMap<Key, OfSubject>>,
    experiments: Mutex<BTreeMap<Key, OfSubject>>,
    events: Mutex<BTreeMap<Told, u64>>,
    passes: AtomicU64,
    failures: AtomicU64,
    waits: Mutex<Histogram<{ WAITS.len() }>>,
}

impl Metrics {
    /// A subject was looked after.
    pub(crate) fn looked(&self, subject: &Subject, waited: Duration, took: Duration, failed: bool) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.failures
            .fetch_add(u64::from(failed), Ordering::Relaxed);
        self.waits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(waited);
        let (of_kind, key) = match subject {
            Subject::Rollout(key) => (&self.rollouts, key),
            Subject::AnalysisRun(key) => (&self.runs, key),
            Subject::Experiment(key) => (&self.experiments, key),
            Subject::Service(_) | Subject::Routed(..) => return,
        };
        let mut of_kind = of_kind.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = of_kind.entry(key.clone()).or_default();
        entry.took.add(took);
        entry.failed += u64::from(failed);
    }

    /// A subject is gone, and so is what was counted of it.
    pub(crate) fn forget(&self, subject: &Subject) {
        let lock = |of_kind: &Mutex<BTreeMap<Key, OfSubject>>, key: &Key| {
            of_kind
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(key);
        };
        match subject {
            Subject::Rollout(key) => {
                lock(&self.rollouts, key);
                let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
                events.retain(|(namespace, name, ..), _| (namespace, name) != (&key.0, &key.1));
            }
            Subject::AnalysisRun(key) => lock(&self.runs, key),
            Subject::Experiment(key) => lock(&self.experiments, key),
            Subject::Service(_) | Subject::Routed(..) => {}
        }
    }

    /// Something was told about a Rollout.
    pub(crate) fn told(&self, namespace: &str, name: &str, warning: bool, reason: &str) {
        let kind = if warning { "Warning" } else { "Normal" };
        let key = (
            namespace.to_owned(),
            name.to_owned(),
            kind,
            reason.to_owned(),
        );
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        *events.entry(key).or_default() += 1;
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn render(&self, context: &Context) -> String {
        let mut page = Page::default();
        rollouts(context, &mut page);
        runs(context, &mut page);
        let of_kind = |page: &mut Page, name: &str, of_kind: &Mutex<BTreeMap<Key, OfSubject>>| {
            let of_kind = of_kind.lock().unwrap_or_else(PoisonError::into_inner);
            page.head(
                &format!("{name}_reconcile"),
                "histogram",
                "Time that one look takes, in seconds.",
            );
            for (key, counted) in of_kind.iter() {
                page.histogram(&format!("{name}_reconcile"), &object(key), &counted.took);
            }
            page.head(
                &format!("{name}_reconcile_error"),
                "counter",
                "Looks that failed.",
            );
            for (key, counted) in of_kind.iter().filter(|(_, counted)| counted.failed > 0) {
                page.line(
                    &format!("{name}_reconcile_error"),
                    &object(key),
                    counted.failed,
                );
            }
        };
        of_kind(&mut page, "rollout", &self.rollouts);
        of_kind(&mut page, "analysis_run", &self.runs);
        of_kind(&mut page, "experiment", &self.experiments);
        page.head(
            "rollout_events_total",
            "counter",
            "Events by type and reason.",
        );
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        for ((namespace, name, kind, reason), count) in events.iter() {
            let labels = [
                ("namespace", namespace.as_str()),
                ("name", name),
                ("type", kind),
                ("reason", reason),
            ];
            page.line("rollout_events_total", &labels, count);
        }
        let own = [
            ("crossfade_passes_total", "Looks at subjects.", &self.passes),
            (
                "crossfade_failed_passes_total",
                "Looks that failed.",
                &self.failures,
            ),
        ];
        for (name, help, value) in own {
            page.head(name, "counter", help);
            page.line(name, &[], value.load(Ordering::Relaxed));
        }
        page.head(
            "crossfade_queue_wait_seconds",
            "histogram",
            "Time that subjects have waited for a look, in seconds.",
        );
        let waits = *self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        page.histogram("crossfade_queue_wait_seconds", &[], &waits);
        page.head(
            "crossfade_leading",
            "gauge",
            "Whether this controller leads.",
        );
        page.line(
            "crossfade_leading",
            &[],
            u8::from(context.requests.may_write()),
        );
        page.0
    }
}

/// A number of a Rollout's pods.
type Count = fn(&crossfade_api::Rollout) -> i32;

fn rollouts(context: &Context, page: &mut Page) {
    let known: Vec<_> = context
        .caches
        .rollouts
        .keys()
        .into_iter()
        .filter_map(|key| Some((context.caches.rollouts.get(&key.0, &key.1)?, key)))
        .collect();
    page.head("rollout_info", "gauge", "How Rollouts stand.");
    for (entry, key) in &known {
        let rollout = &entry.view.rollout;
        let strategy = &rollout.spec.strategy;
        let kind = match (&strategy.canary, &strategy.blue_green) {
            (Some(_), _) => "canary",
            (None, Some(_)) => "blueGreen",
            (None, None) => "none",
        };
        let router = rollout::routers(rollout)
            .into_iter()
            .next()
            .unwrap_or_default();
        let phase = phase(rollout);
        let labels = [
            ("namespace", key.0.as_str()),
            ("name", &key.1),
            ("strategy", kind),
            ("traffic_router", &router),
            ("phase", phase),
        ];
        page.line("rollout_info", &labels, 1);
    }
    let counts: [(&str, &str, Count); 4] = [
        (
            "rollout_info_replicas_available",
            "Pods that are available.",
            |rollout| rollout.status.available_replicas,
        ),
        (
            "rollout_info_replicas_unavailable",
            "Pods that are not.",
            |rollout| (rollout.status.replicas - rollout.status.available_replicas).max(0),
        ),
        (
            "rollout_info_replicas_desired",
            "Pods that are wanted.",
            |rollout| rollout.spec.replicas(),
        ),
        (
            "rollout_info_replicas_updated",
            "Pods of the newest version.",
            |rollout| rollout.status.updated_replicas,
        ),
    ];
    for (name, help, count) in counts {
        page.head(name, "gauge", help);
        for (entry, key) in &known {
            page.line(name, &object(key), count(&entry.view.rollout));
        }
    }
}

/// How a Rollout stands, in the words of this metric.
fn phase(rollout: &crossfade_api::Rollout) -> &'static str {
    let conditions = &rollout.status.conditions;
    let told = |kind: &str| conditions.iter().find(|told| told.kind == kind);
    if told(condition::INVALID_SPEC).is_some() {
        return "InvalidSpec";
    }
    let progressing = told(condition::PROGRESSING).map_or("", |told| told.reason.as_str());
    match rollout.status.phase {
        _ if rollout.status.abort => "Abort",
        RolloutPhase::Healthy => "Completed",
        RolloutPhase::Paused => "Paused",
        RolloutPhase::Degraded if progressing == reason::DEADLINE_EXCEEDED => "Timeout",
        RolloutPhase::Degraded => "Error",
        _ => "Progressing",
    }
}

fn runs(context: &Context, page: &mut Page) {
    page.head("analysis_run_info", "gauge", "How AnalysisRuns stand.");
    for key in context.caches.runs.keys() {
        if let Some(entry) = context.caches.runs.get(&key.0, &key.1) {
            let phase = entry.view.run.status.phase.to_string();
            let labels = [
                ("namespace", key.0.as_str()),
                ("name", entry.view.run.name()),
                ("phase", &phase),
            ];
            page.line("analysis_run_info", &labels, 1);
        }
    }
}

fn object(key: &Key) -> [(&'static str, &str); 2] {
    [("namespace", key.0.as_str()), ("name", key.1.as_str())]
}

/// A page in the text format.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let opens = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{opens}{label}=\"{text}\"");
        }
        let closes = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{closes} {value}");
    }

    fn histogram<const N: usize>(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        histogram: &Histogram<N>,
    ) {
        let mut bucket = |bound: &str, count: u64| {
            let mut labels = labels.to_vec();
            labels.push(("le", bound));
            self.line(&format!("{name}_bucket"), &labels, count);
        };
        for (bound, count) in histogram.bounds.iter().zip(histogram.counts) {
            bucket(&bound.to_string(), count);
        }
        bucket("+Inf", histogram.count);
        self.line(&format!("{name}_sum"), labels, histogram.sum);
        self.line(&format!("{name}_count"), labels, histogram.count);
    }
}
