//! How releases stand, as Prometheus is told: read from the caches when somebody asks.

use std::sync::Arc;

use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::{condition, reason};
use crossfade_api::rollout_status::RolloutPhase;
use crossfade_api::validate::analysis::provider_names;
use crossfade_api::{AnalysisRun, Rollout};
use crossfade_engine::rollout;

use crate::cache::{Cache, Entry, Key, View};
use crate::caches::{Caches, ReadRun};
use crate::context::{Context, Subject};
use crate::metrics::{Page, object};

/// Everything about the objects that are looked after.
pub(crate) fn render(context: &Context, page: &mut Page) {
    let caches = &context.caches;
    rollouts(context, page);
    let known = own(context, &caches.experiments, Subject::Experiment);
    phases(page, "experiment", "Experiments", &known, |entry| {
        entry.experiment.status.phase
    });
    let known = own(context, &caches.runs, Subject::AnalysisRun);
    phases(page, "analysis_run", "AnalysisRuns", &known, |entry| {
        entry.run.status.phase
    });
    measurements(&known, page);
    templates(caches, page);
    page.head(
        "crossfade_cache_objects",
        "gauge",
        "Objects that are known.",
    );
    let known = [
        ("Rollout", caches.rollouts.len()),
        ("AnalysisRun", caches.runs.len()),
        ("Experiment", caches.experiments.len()),
        ("AnalysisTemplate", caches.templates.len()),
        ("ClusterAnalysisTemplate", caches.cluster_templates.len()),
        ("ReplicaSet", caches.replica_sets.len()),
        ("Service", caches.services.len()),
        ("Job", caches.jobs.len()),
        ("Pod", caches.pods.len()),
    ];
    for (kind, count) in known {
        page.line("crossfade_cache_objects", &[("kind", kind)], count);
    }
}

fn all<T: View>(cache: &Cache<T>) -> Vec<(Key, Arc<Entry<T>>)> {
    let keys = cache.keys().into_iter();
    keys.filter_map(|key| Some((cache.get(&key.0, &key.1)?, key)))
        .map(|(entry, key)| (key, entry))
        .collect()
}

/// The objects of a cache that this controller looks after.
fn own<T: View>(
    context: &Context,
    cache: &Cache<T>,
    subject: fn(Key) -> Subject,
) -> Vec<(Key, Arc<Entry<T>>)> {
    let mut known = all(cache);
    known.retain(|(key, _)| context.is_ours(&subject(key.clone())));
    known
}

/// How a Rollout stands, in the words of these metrics.
const ROLLOUT_PHASES: [&str; 7] = [
    "InvalidSpec",
    "Completed",
    "Progressing",
    "Paused",
    "Timeout",
    "Error",
    "Abort",
];

fn phase(rollout: &Rollout) -> &'static str {
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
        RolloutPhase::Unset | RolloutPhase::Progressing => "Progressing",
    }
}

fn strategy(rollout: &Rollout) -> &'static str {
    let strategy = &rollout.spec.strategy;
    match (&strategy.canary, &strategy.blue_green) {
        (Some(_), _) => "canary",
        (None, Some(_)) => "blueGreen",
        (None, None) => "none",
    }
}

/// A number of a Rollout's pods.
type Count = fn(&Rollout) -> i32;

fn rollouts(context: &Context, page: &mut Page) {
    let known = own(context, &context.caches.rollouts, Subject::Rollout);
    page.head("rollout_info", "gauge", "How Rollouts stand.");
    for (key, entry) in &known {
        let rollout = &entry.view.rollout;
        let routers = rollout::routers(rollout);
        let router = routers.first().map_or("", String::as_str);
        let labels = [
            ("namespace", key.0.as_str()),
            ("name", &key.1),
            ("strategy", strategy(rollout)),
            ("traffic_router", router),
            ("phase", phase(rollout)),
        ];
        page.line("rollout_info", &labels, 1);
    }
    page.head(
        "rollout_phase",
        "gauge",
        "How Rollouts stand; rollout_info says the same.",
    );
    for (key, entry) in &known {
        let (strategy, now) = (strategy(&entry.view.rollout), phase(&entry.view.rollout));
        for phase in ROLLOUT_PHASES {
            let [namespace, name] = object(key);
            let labels = [namespace, name, ("strategy", strategy), ("phase", phase)];
            page.line("rollout_phase", &labels, u8::from(phase == now));
        }
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
        for (key, entry) in &known {
            page.line(name, &object(key), count(&entry.view.rollout));
        }
    }
}

const PHASES: [AnalysisPhase; 6] = [
    AnalysisPhase::Pending,
    AnalysisPhase::Running,
    AnalysisPhase::Successful,
    AnalysisPhase::Failed,
    AnalysisPhase::Error,
    AnalysisPhase::Inconclusive,
];

/// The phases of the objects of a kind: the present one, and each with 0 or 1.
fn phases<T: View>(
    page: &mut Page,
    name: &str,
    kind: &str,
    known: &[(Key, Arc<Entry<T>>)],
    phase: impl Fn(&T) -> AnalysisPhase,
) {
    let info = format!("{name}_info");
    page.head(&info, "gauge", &format!("How {kind} stand."));
    for (key, entry) in known {
        let [namespace, name] = object(key);
        let now = phase(&entry.view).to_string();
        page.line(&info, &[namespace, name, ("phase", &now)], 1);
    }
    let each = format!("{name}_phase");
    page.head(
        &each,
        "gauge",
        &format!("How {kind} stand; {info} says the same."),
    );
    for (key, entry) in known {
        let now = phase(&entry.view);
        for one in PHASES {
            let [namespace, name] = object(key);
            let text = one.to_string();
            page.line(
                &each,
                &[namespace, name, ("phase", &text)],
                u8::from(one == now),
            );
        }
    }
}

/// What measures a metric, in the words of these metrics.
fn provider(metric: &Metric) -> String {
    let name = provider_names(&metric.provider).first().copied();
    let name = match name {
        Some("prometheus") => "Prometheus",
        Some("job") => "Job",
        Some("kayenta") => "Kayenta",
        Some("web") => "Web",
        Some("datadog") => "Datadog",
        Some("wavefront") => "Wavefront",
        Some("newRelic") => "NewRelic",
        Some("cloudWatch") => "CloudWatch",
        Some("graphite") => "Graphite",
        Some("influxdb") => "Influxdb",
        Some("skywalking") => "skywalking",
        Some(_) => "RPCPlugin",
        None => "Unknown Provider",
    };
    name.to_owned()
}

fn measurements(known: &[(Key, Arc<Entry<ReadRun>>)], page: &mut Page) {
    page.head(
        "analysis_run_metric_type",
        "gauge",
        "What measures the metrics of AnalysisRuns.",
    );
    for (key, entry) in known {
        for metric in &entry.view.run.spec.metrics {
            let [namespace, name] = object(key);
            let kind = provider(metric);
            let labels = [
                namespace,
                name,
                ("metric", metric.name.as_str()),
                ("type", &kind),
            ];
            page.line("analysis_run_metric_type", &labels, 1);
        }
    }
    page.head(
        "analysis_run_metric_phase",
        "gauge",
        "How the metrics of AnalysisRuns stand.",
    );
    for (key, entry) in known {
        of_run(page, key, &entry.view.run);
    }
}

fn of_run(page: &mut Page, key: &Key, run: &AnalysisRun) {
    for metric in &run.spec.metrics {
        let mut results = run.status.metric_results.iter();
        let result = results.find(|result| result.name == metric.name);
        let Some(result) = result else {
            continue;
        };
        let kind = provider(metric);
        let dry_run = result.dry_run.to_string();
        for phase in PHASES {
            let [namespace, name] = object(key);
            let text = phase.to_string();
            let labels = [
                namespace,
                name,
                ("metric", metric.name.as_str()),
                ("type", &kind),
                ("dry_run", &dry_run),
                ("phase", &text),
            ];
            let is = u8::from(phase == result.phase);
            page.line("analysis_run_metric_phase", &labels, is);
        }
    }
}

fn templates(caches: &Caches, page: &mut Page) {
    let known = [all(&caches.templates), all(&caches.cluster_templates)].concat();
    page.head("analysis_template_info", "gauge", "Templates of analyses.");
    for (key, _) in &known {
        page.line("analysis_template_info", &object(key), 1);
    }
    let name = "analysis_template_metric_info";
    page.head(name, "gauge", "What measures the metrics of templates.");
    for (key, entry) in &known {
        for metric in &entry.view.spec.metrics {
            let [namespace, own] = object(key);
            let kind = provider(metric);
            let labels = [
                namespace,
                own,
                ("type", kind.as_str()),
                ("metric", &metric.name),
            ];
            page.line(name, &labels, 1);
        }
    }
}
