//! What Prometheus is told: how releases stand, and how the controller does.
//!
//! Names and labels are those that dashboards know from the reference; `crossfade_` ones are our own and name no objects.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossfade_api::rollout_status::{RolloutDuration, RolloutStatus};
pub(crate) use crossfade_metrics::exposition::{Histogram, Page};
use jiff::Timestamp;

use crate::cache::Key;
use crate::context::{Context, Subject};
use crate::process::Began;

/// Upper bounds of the reference's histograms, in seconds.
const BUCKETS: [f64; 5] = [0.01, 0.15, 0.25, 0.5, 1.0];

/// Upper bounds of the time that subjects wait for a look, in seconds.
const WAITS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0,
];

/// Upper bounds of the time that an attempt to release takes, in seconds.
const ATTEMPTS: [f64; 11] = [
    30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0,
];
/// The same without the time spent waiting for a person.
const PROGRESSIONS: [f64; 8] = [30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0];
/// The time spent waiting for a person.
const PAUSES: [f64; 9] = [
    0.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0,
];

#[derive(Clone, Copy, Debug)]
struct OfSubject {
    took: Histogram<{ BUCKETS.len() }>,
    failed: u64,
}

impl Default for OfSubject {
    fn default() -> Self {
        Self {
            took: Histogram::new(&BUCKETS),
            failed: 0,
        }
    }
}

/// Times that subjects have waited for a look.
#[derive(Clone, Copy, Debug)]
struct Waits(Histogram<{ WAITS.len() }>);

impl Default for Waits {
    fn default() -> Self {
        Self(Histogram::new(&WAITS))
    }
}

/// Attempts to release that have ended in one way.
#[derive(Clone, Copy, Debug)]
struct Attempts {
    whole: Histogram<{ ATTEMPTS.len() }>,
    progression: Histogram<{ PROGRESSIONS.len() }>,
    paused: Histogram<{ PAUSES.len() }>,
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
    attempts: Mutex<BTreeMap<String, Attempts>>,
    began: Began,
    /// Looks are counted by kind alone.
    by_kind: bool,
    passes: AtomicU64,
    failures: AtomicU64,
    waits: Mutex<Waits>,
}

impl Metrics {
    /// Counts looks for each object, or only for each kind.
    pub(crate) fn new(by_object: bool) -> Self {
        Self {
            by_kind: !by_object,
            ..Self::default()
        }
    }

    /// A status was recorded; if that ended an attempt to release, the attempt is counted.
    pub(crate) fn recorded(&self, before: &RolloutStatus, after: &RolloutStatus) {
        let (before, after) = (before.duration.as_ref(), after.duration.as_ref());
        let began = |attempt: Option<&RolloutDuration>| attempt?.rollout_started_at;
        let running = before.filter(|attempt| attempt.finished_at.is_none());
        if let (Some(running), Some(next)) = (running, began(after))
            && began(before).is_some_and(|began| began != next)
        {
            self.ended("Superseded".to_owned(), running, next);
        }
        if let Some(attempt) = after
            && let Some(end) = attempt.finished_at
            && before.and_then(|before| before.finished_at) != Some(end)
        {
            self.ended(attempt.completion_status.to_string(), attempt, end);
        }
    }

    fn ended(&self, how: String, attempt: &RolloutDuration, end: Timestamp) {
        let Some(began) = attempt.rollout_started_at else {
            return;
        };
        let whole = Duration::try_from(end.duration_since(began)).unwrap_or_default();
        let paused = attempt.total_manual_pause_duration_seconds.unwrap_or(0);
        let paused = Duration::from_secs(u64::try_from(paused).unwrap_or(0));
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = attempts.entry(how).or_insert_with(|| Attempts {
            whole: Histogram::new(&ATTEMPTS),
            progression: Histogram::new(&PROGRESSIONS),
            paused: Histogram::new(&PAUSES),
        });
        of_kind.whole.add(whole);
        of_kind.progression.add(whole.saturating_sub(paused));
        of_kind.paused.add(paused);
    }

    fn attempts(&self, page: &mut Page) {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let name = "rollout_duration_seconds";
        page.head(name, "histogram", "Time that an attempt to release takes.");
        for (how, counted) in attempts.iter() {
            page.histogram(name, &[("status", how)], &counted.whole);
        }
        let name = "rollout_progression_duration_seconds";
        page.head(name, "histogram", "The same without waiting for a person.");
        for (how, counted) in attempts.iter() {
            page.histogram(name, &[("status", how)], &counted.progression);
        }
        let name = "rollout_manual_pause_duration_seconds";
        page.head(
            name,
            "histogram",
            "Time that an attempt waits for a person.",
        );
        for (how, counted) in attempts.iter() {
            page.histogram(name, &[("status", how)], &counted.paused);
        }
    }

    /// A subject was looked after.
    pub(crate) fn looked(&self, subject: &Subject, waited: Duration, took: Duration, failed: bool) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.failures
            .fetch_add(u64::from(failed), Ordering::Relaxed);
        self.waits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .add(waited);
        let (of_kind, key) = match subject {
            Subject::Rollout(key) => (&self.rollouts, key),
            Subject::AnalysisRun(key) => (&self.runs, key),
            Subject::Experiment(key) => (&self.experiments, key),
            Subject::Canary(_) | Subject::Service(_) | Subject::Routed(..) => return,
        };
        let key = if self.by_kind {
            Key::default()
        } else {
            key.clone()
        };
        let mut of_kind = of_kind.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = of_kind.entry(key).or_default();
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
            Subject::Canary(_) | Subject::Service(_) | Subject::Routed(..) => {}
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
        crate::standings::render(context, &mut page);
        self.attempts(&mut page);
        let canaries = &context.caches.canaries;
        let canaries = canaries.keys().into_iter();
        let canaries = canaries.filter_map(|key| context.caches.canaries.get(&key.0, &key.1));
        let canaries: Vec<_> = canaries.collect();
        let provider = &context.settings.canaries.provider;
        let known = canaries.iter().map(|entry| &*entry.view.canary);
        context.canary_metrics.render(known, provider, &mut page);
        context.requests.render(&mut page);
        self.began.render(context.caches.rollouts.len(), &mut page);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.head("argo_rollouts_controller_info", "gauge", "This controller.");
        page.line("argo_rollouts_controller_info", &version, 1);
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
        page.histogram("crossfade_queue_wait_seconds", &[], &waits.0);
        crate::workqueue::render(context, &mut page);
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
        page.into_text()
    }
}

/// The labels that name an object.
pub(crate) fn object(key: &Key) -> [(&'static str, &str); 2] {
    [("namespace", key.0.as_str()), ("name", key.1.as_str())]
}
