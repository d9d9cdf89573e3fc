//! Rules for the metrics of a run, arguments put in.

use std::collections::BTreeSet;

use crate::analysis::Metric;
use crate::duration;
use crate::intstr;
use crate::providers::MetricProvider;

/// The first fault of a run's metrics, as the run's message tells it after `Analysis spec invalid: `.
pub fn metrics(metrics: &[Metric]) -> Result<(), String> {
    all_metrics(metrics).into_iter().next().map_or(Ok(()), Err)
}

/// Every fault of a run's metrics.
pub fn all_metrics(metrics: &[Metric]) -> Vec<String> {
    if metrics.is_empty() {
        return vec!["no metrics specified".to_owned()];
    }
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for (index, metric) in metrics.iter().enumerate() {
        let mut add = |fault: String| faults.push(format!("metrics[{index}]: {fault}"));
        if !seen.insert(&metric.name) {
            add(format!("duplicate name '{}'", metric.name));
        }
        limits(metric)
            .into_iter()
            .chain(times(metric))
            .for_each(&mut add);
        match provider_names(&metric.provider).len() {
            0 => add("no provider specified".to_owned()),
            1 => {}
            _ => add("multiple providers specified".to_owned()),
        }
    }
    faults
}

fn limits(metric: &Metric) -> Vec<String> {
    // What is written counts here, not the effective number of measurements.
    let count = metric.count.as_ref().map_or(0, intstr::count);
    let (failures, successes) = (metric.failure_limit(), metric.consecutive_success_limit());
    let inconclusive = metric.inconclusive_limit();
    let errors = metric.consecutive_error_limit.as_ref().map(intstr::count);
    let enough = i64::from(failures) + i64::from(successes);
    let rules = [
        (
            successes < 0,
            "consecutiveSuccessLimit must be >= 0".to_owned(),
        ),
        (
            failures < -1,
            "failureLimit must be >= 0, or -1 to be disabled".to_owned(),
        ),
        (
            successes == 0 && failures == -1,
            "failureLimit and consecutiveSuccessLimit cannot both be disabled".to_owned(),
        ),
        (
            inconclusive < 0,
            "inconclusiveLimit must be >= 0".to_owned(),
        ),
        (
            errors.is_some_and(|errors| errors < 0),
            "consecutiveErrorLimit must be >= 0".to_owned(),
        ),
        (
            count > 0 && failures >= 0 && i64::from(count) < enough,
            format!(
                "count ({count}) must be >= failureLimit + consecutiveSuccessLimit ({failures} + {successes}) if both >= 0"
            ),
        ),
        (
            count > 0 && failures == -1 && count < successes,
            "count must be >= consecutiveSuccessLimit".to_owned(),
        ),
        (
            count > 0 && count < inconclusive,
            "count must be >= inconclusiveLimit".to_owned(),
        ),
        (
            count > 1 && metric.interval.is_empty(),
            "interval must be specified when count > 1".to_owned(),
        ),
    ];
    rules
        .into_iter()
        .filter(|(broken, _)| *broken)
        .map(|(_, text)| text)
        .collect()
}

fn times(metric: &Metric) -> Vec<String> {
    [
        ("interval", &metric.interval),
        ("startDelay", &metric.initial_delay),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .filter_map(|(name, text)| {
        duration::parse(text)
            .err()
            .map(|error| format!("invalid {name} string: {error}"))
    })
    .collect()
}

/// The providers that are set, in the order in which one would be chosen; each plugin counts.
pub fn provider_names(provider: &MetricProvider) -> Vec<&str> {
    let set = [
        ("prometheus", provider.prometheus.is_some()),
        ("job", provider.job.is_some()),
        ("kayenta", provider.kayenta.is_some()),
        ("web", provider.web.is_some()),
        ("datadog", provider.datadog.is_some()),
        ("wavefront", provider.wavefront.is_some()),
        ("newRelic", provider.new_relic.is_some()),
        ("cloudWatch", provider.cloud_watch.is_some()),
        ("graphite", provider.graphite.is_some()),
        ("influxdb", provider.influxdb.is_some()),
        ("skywalking", provider.skywalking.is_some()),
    ];
    let built_in = set
        .into_iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| name);
    built_in
        .chain(provider.plugin.keys().map(String::as_str))
        .collect()
}
