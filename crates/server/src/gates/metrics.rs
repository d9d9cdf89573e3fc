//! What Prometheus is told: gates as they are kept, what was asked and changed, tasks, and the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossfade_metrics::exposition::{Histogram, Page};
use jiff::Timestamp;

use super::record::{CanaryId, Gates};

/// Upper bounds of the time that tasks take, in seconds.
const BOUNDS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0];

/// Values of the labels of a counter.
type Labels = Vec<String>;

#[derive(Debug, Default)]
struct Counted {
    checks: BTreeMap<Labels, u64>,
    changes: BTreeMap<Labels, u64>,
    store_errors: BTreeMap<Labels, u64>,
    tasks: BTreeMap<Labels, u64>,
    took: BTreeMap<String, Histogram<{ BOUNDS.len() }>>,
}

/// What is counted.
#[derive(Debug)]
pub(super) struct Metrics {
    counted: Mutex<Counted>,
    began: SystemTime,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            counted: Mutex::default(),
            began: SystemTime::now(),
        }
    }
}

/// The labels of a gate.
fn of_gate<'g>(canary: &'g CanaryId, gate: &'g str) -> [(&'static str, &'g str); 4] {
    [
        ("namespace", &canary.namespace),
        ("name", &canary.name),
        ("gate", gate),
        ("type", "webhook"),
    ]
}

fn one_more(counter: &mut BTreeMap<Labels, u64>, labels: &[&str]) {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    *counter.entry(labels).or_default() += 1;
}

impl Metrics {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A check was answered `granted`, `refused`, `expired` or with an `error`.
    pub(super) fn checked(&self, gate: &str, result: &str) {
        one_more(&mut self.counted().checks, &[gate, result]);
    }

    /// A gate was changed.
    pub(super) fn changed(&self, gate: &str, action: &str, auth: &str) {
        one_more(&mut self.counted().changes, &[gate, action, auth]);
    }

    /// The store gave no answer.
    pub(super) fn store_failed(&self, operation: &str) {
        one_more(&mut self.counted().store_errors, &[operation]);
    }

    /// A task ended: `ok`, `failed`, `timeout`, `cancelled`, `skipped` or `rejected`.
    pub(super) fn task(&self, kind: &str, result: &str, took: Option<Duration>) {
        let mut counted = self.counted();
        one_more(&mut counted.tasks, &[kind, result]);
        if let Some(took) = took {
            let of_kind = counted.took.entry(kind.to_owned());
            of_kind.or_insert_with(|| Histogram::new(&BOUNDS)).add(took);
        }
    }

    /// Everything, as Prometheus reads it; `gates` as they are kept, if the store says so.
    pub(super) fn render(&self, gates: &[(CanaryId, Gates)], now: Timestamp) -> String {
        let mut page = Page::default();
        self.process(&mut page);
        let all = || {
            gates
                .iter()
                .flat_map(|(canary, gates)| gates.iter().map(move |gate| (canary, gate)))
        };
        page.head(
            "crossfade_gate_open",
            "gauge",
            "Whether a check of the gate may be granted.",
        );
        for (canary, (gate, record)) in all() {
            page.line(
                "crossfade_gate_open",
                &of_gate(canary, gate),
                u8::from(record.is_open(now)),
            );
        }
        let name = "crossfade_gate_waiting_seconds";
        page.head(
            name,
            "gauge",
            "Time since the first refused check since the last granted one; 0 when nobody waits.",
        );
        for (canary, (gate, record)) in all() {
            let waits = record
                .waiting_since
                .map_or(0, |since| now.duration_since(since).as_secs());
            page.line(name, &of_gate(canary, gate), waits.max(0));
        }
        let counted = self.counted();
        counter(
            &mut page,
            "crossfade_gate_checks_total",
            "Checks of gates.",
            &["gate", "result"],
            &counted.checks,
        );
        counter(
            &mut page,
            "crossfade_gate_changes_total",
            "Changes of gates.",
            &["gate", "action", "auth"],
            &counted.changes,
        );
        counter(
            &mut page,
            "crossfade_gate_store_errors_total",
            "Requests that the store did not answer.",
            &["op"],
            &counted.store_errors,
        );
        counter(
            &mut page,
            "crossfade_tasks_total",
            "Tasks that ended.",
            &["type", "result"],
            &counted.tasks,
        );
        let name = "crossfade_task_duration_seconds";
        page.head(name, "histogram", "Time that tasks took.");
        for (kind, took) in &counted.took {
            page.histogram(name, &[("type", kind)], took);
        }
        page.into_text()
    }

    fn process(&self, page: &mut Page) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let began = self.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.head(
            "process_resident_memory_bytes",
            "gauge",
            "Memory in RAM, in bytes.",
        );
        page.line(
            "process_resident_memory_bytes",
            &[],
            number("VmRSS:") * 1024,
        );
        page.head("process_threads", "gauge", "Threads.");
        page.line("process_threads", &[], number("Threads:"));
        page.head(
            "process_start_time_seconds",
            "gauge",
            "When the process began, in seconds of Unix time.",
        );
        page.line("process_start_time_seconds", &[], began.as_secs());
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            page.head("process_open_fds", "gauge", "Open files and connections.");
            page.line("process_open_fds", &[], open.count());
        }
    }
}

fn counter(
    page: &mut Page,
    name: &str,
    help: &str,
    labels: &[&'static str],
    counts: &BTreeMap<Labels, u64>,
) {
    page.head(name, "counter", help);
    for (values, count) in counts {
        let values = values.iter().map(String::as_str);
        let labels: Vec<_> = labels.iter().copied().zip(values).collect();
        page.line(name, &labels, count);
    }
}
