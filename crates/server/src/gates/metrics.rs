//! What Prometheus is told: gates as they are kept, what was asked and changed, tasks, and the process.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use super::record::{CanaryId, Gates};

/// Upper bounds of the time that tasks take, in seconds.
const BOUNDS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0];

/// Values of the labels of a counter.
type Labels = Vec<String>;

#[derive(Debug, Default)]
struct Took {
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

#[derive(Debug, Default)]
struct Counted {
    checks: BTreeMap<Labels, u64>,
    changes: BTreeMap<Labels, u64>,
    store_errors: BTreeMap<Labels, u64>,
    tasks: BTreeMap<Labels, u64>,
    took: BTreeMap<String, Took>,
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
            let seconds = took.as_secs_f64();
            let of_kind = counted.took.entry(kind.to_owned()).or_default();
            for (count, bound) in of_kind.counts.iter_mut().zip(BOUNDS) {
                *count += u64::from(seconds <= bound);
            }
            of_kind.count += 1;
            of_kind.sum += seconds;
        }
    }

    /// Everything, as Prometheus reads it; `gates` as they are kept, if the store says so.
    pub(super) fn render(&self, gates: &[(CanaryId, Gates)], now: Timestamp) -> String {
        let mut page = Page::default();
        self.process(&mut page);
        let labels = |canary: &CanaryId, gate: &str| {
            [
                ("namespace", canary.namespace.clone()),
                ("name", canary.name.clone()),
                ("gate", gate.to_owned()),
                ("type", "webhook".to_owned()),
            ]
        };
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
                &labels(canary, gate),
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
            page.line(name, &labels(canary, gate), waits.max(0));
        }
        let counted = self.counted();
        page.counter(
            "crossfade_gate_checks_total",
            "Checks of gates.",
            &["gate", "result"],
            &counted.checks,
        );
        page.counter(
            "crossfade_gate_changes_total",
            "Changes of gates.",
            &["gate", "action", "auth"],
            &counted.changes,
        );
        page.counter(
            "crossfade_gate_store_errors_total",
            "Requests that the store did not answer.",
            &["op"],
            &counted.store_errors,
        );
        page.counter(
            "crossfade_tasks_total",
            "Tasks that ended.",
            &["type", "result"],
            &counted.tasks,
        );
        let name = "crossfade_task_duration_seconds";
        page.head(name, "histogram", "Time that tasks took.");
        for (kind, took) in &counted.took {
            let mut bucket = |bound: String, count| {
                let labels = [("type", kind.clone()), ("le", bound)];
                page.line(&format!("{name}_bucket"), &labels, count);
            };
            for (bound, count) in BOUNDS.iter().zip(took.counts) {
                bucket(bound.to_string(), count);
            }
            bucket("+Inf".to_owned(), took.count);
            let labels = [("type", kind.clone())];
            page.line(&format!("{name}_sum"), &labels, took.sum);
            page.line(&format!("{name}_count"), &labels, took.count);
        }
        page.0
    }

    fn process(&self, page: &mut Page) {
        let none: [(&str, String); 0] = [];
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
            &none,
            number("VmRSS:") * 1024,
        );
        page.head("process_threads", "gauge", "Threads.");
        page.line("process_threads", &none, number("Threads:"));
        page.head(
            "process_start_time_seconds",
            "gauge",
            "When the process began, in seconds of Unix time.",
        );
        page.line("process_start_time_seconds", &none, began.as_secs());
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            page.head("process_open_fds", "gauge", "Open files and connections.");
            page.line("process_open_fds", &none, open.count());
        }
    }
}

/// A page in the text format.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, String)], value: impl Display) {
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

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&'static str],
        counts: &BTreeMap<Labels, u64>,
    ) {
        self.head(name, "counter", help);
        for (values, count) in counts {
            let labels: Vec<_> = labels.iter().copied().zip(values.iter().cloned()).collect();
            self.line(name, &labels, count);
        }
    }
}
