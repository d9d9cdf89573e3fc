//! What Prometheus is told of the queues, by the names that controllers have for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::context::{Context, Subject};
use crate::metrics::{Histogram, Page};

/// Upper bounds of times in and after a queue, in seconds: those of controllers everywhere.
pub(crate) const BOUNDS: [f64; 10] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];

/// What is counted of the subjects of one name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// How often something was put into the queue.
    pub(crate) adds: u64,
    /// How often something was put back after a failure.
    pub(crate) retries: u64,
    /// What waits now.
    pub(crate) depth: u64,
    /// How long things have waited.
    pub(crate) waited: Histogram<{ BOUNDS.len() }>,
    /// How long looks have taken.
    pub(crate) worked: Histogram<{ BOUNDS.len() }>,
    /// How long the looks that are under way have taken so far.
    pub(crate) unfinished: Duration,
    /// The longest of them.
    pub(crate) longest: Duration,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            adds: 0,
            retries: 0,
            depth: 0,
            waited: Histogram::new(&BOUNDS),
            worked: Histogram::new(&BOUNDS),
            unfinished: Duration::ZERO,
            longest: Duration::ZERO,
        }
    }
}

/// The name by which dashboards know the queue of a subject.
pub(crate) fn name(subject: &Subject) -> &'static str {
    match subject {
        Subject::Rollout(_) => "Rollouts",
        Subject::AnalysisRun(_) => "AnalysisRuns",
        Subject::Experiment(_) => "Experiments",
        Subject::Canary(_) => "Canaries",
        Subject::Service(_) => "Services",
        Subject::Routed(..) => "Ingresses",
    }
}

pub(crate) fn render(context: &Context, page: &mut Page) {
    let mut queues = context.releases.numbers();
    queues.extend(context.runs.numbers());
    let count =
        |page: &mut Page, name: &str, kind: &str, help: &str, value: fn(&Numbers) -> f64| {
            page.head(name, kind, help);
            lines(page, name, &queues, value);
        };
    count(
        page,
        "workqueue_depth",
        "gauge",
        "Subjects that wait for a look.",
        |numbers| numbers.depth as f64,
    );
    count(
        page,
        "workqueue_adds_total",
        "counter",
        "How often a subject was put into the queue.",
        |numbers| numbers.adds as f64,
    );
    count(
        page,
        "workqueue_retries_total",
        "counter",
        "How often a subject was put back after a failure.",
        |numbers| numbers.retries as f64,
    );
    count(
        page,
        "workqueue_unfinished_work_seconds",
        "gauge",
        "Time that the looks under way have taken so far, in seconds.",
        |numbers| numbers.unfinished.as_secs_f64(),
    );
    count(
        page,
        "workqueue_longest_running_processor_seconds",
        "gauge",
        "Time that the longest look under way has taken so far, in seconds.",
        |numbers| numbers.longest.as_secs_f64(),
    );
    let name = "workqueue_queue_duration_seconds";
    let help = "Time that subjects have waited for a look, in seconds.";
    page.head(name, "histogram", help);
    for (queue, numbers) in &queues {
        page.histogram(name, &[("name", queue)], &numbers.waited);
    }
    let name = "workqueue_work_duration_seconds";
    page.head(name, "histogram", "Time that looks take, in seconds.");
    for (queue, numbers) in &queues {
        page.histogram(name, &[("name", queue)], &numbers.worked);
    }
}

fn lines(
    page: &mut Page,
    name: &str,
    queues: &BTreeMap<&'static str, Numbers>,
    value: fn(&Numbers) -> f64,
) {
    for (queue, numbers) in queues {
        page.line(name, &[("name", queue)], value(numbers));
    }
}
