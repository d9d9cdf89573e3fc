//! Measurements for Canaries: a query is made, its server asked, the answer told by its class, and nothing secret.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossfade_api::flagger::{MetricTemplateProvider, MetricTemplateSpec};
use crossfade_api::words::{ProviderError, ProviderErrorKind, Value};
use crossfade_engine::action::{Done, Failure, FailureKind, Outcome};
use crossfade_engine::canary::action::{
    Check, CheckFault, CheckFaultKind, Checked, MetricSource, Query,
};
use crossfade_metrics::canary_prometheus::CanaryPrometheus;
use crossfade_metrics::canary_queries::{render, request_duration, success_rate};
use k8s_openapi::ByteString;

use super::subjects::Context;
use crate::store::Kind;

/// Providers of MetricTemplates that are known by name and cannot be asked yet. What nobody knows is asked as a Prometheus.
const FOLLOW: [&str; 10] = [
    "influxdb",
    "datadog",
    "externalmetrics",
    "stackdriver",
    "cloudwatch",
    "newrelic",
    "graphite",
    "dynatrace",
    "keptn",
    "splunk",
];

/// Asks whether a metric provider answers at all.
pub(super) async fn find(context: &Context, source: &MetricSource) -> Outcome {
    let asked = match provider(context, source, None) {
        Ok((provider, secrets)) => ask(context, &provider, &secrets).await,
        Err(fault) => Err(fault),
    };
    let why = match asked {
        Ok(value) if (value - 1.0).abs() < f64::EPSILON => {
            return Ok(Done::Written(String::new()));
        }
        Ok(_) => "value is not 1 for query: vector(1)".to_owned(),
        Err(fault) => fault.text,
    };
    Err(Failure {
        kind: FailureKind::Other,
        message: why,
    })
}

/// Takes a measurement.
pub(super) async fn check(context: &Context, check: &Check) -> Checked {
    let wait = u64::try_from(check.wait_ms).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(wait)).await;
    let begun = Instant::now();
    let answer = measure(context, check).await;
    let took_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    Checked { answer, took_ms }
}

async fn measure(context: &Context, check: &Check) -> Result<f64, CheckFault> {
    let mut factor = 1.0;
    let query = match &check.query {
        Query::SuccessRate { set } => success_rate(set, &check.variables),
        Query::Duration { set } => {
            let query = request_duration(set, &check.variables);
            factor = query.to_milliseconds;
            query.text
        }
        Query::Text(text) => render(text, &check.variables, &check.template_variables)
            .map_err(|why| fault(CheckFaultKind::Render, why))?,
    };
    let (provider, secrets) = provider(context, &check.source, Some(&query))?;
    let value = ask(context, &provider, &secrets).await?;
    Ok(value * factor)
}

fn fault(kind: CheckFaultKind, text: impl Into<String>) -> CheckFault {
    CheckFault {
        kind,
        text: text.into(),
    }
}

/// The values of a Secret that an answer must not bring to light.
type Secrets = Vec<String>;

fn provider(
    context: &Context,
    source: &MetricSource,
    query: Option<&str>,
) -> Result<(CanaryPrometheus, Secrets), CheckFault> {
    match source {
        MetricSource::Server { address } => CanaryPrometheus::new(address, query)
            .map(|provider| (provider, Secrets::new()))
            .map_err(|why| fault(CheckFaultKind::Address, why)),
        MetricSource::Template {
            namespace, spec, ..
        } => of_template(context, namespace, spec, query),
    }
}

fn of_template(
    context: &Context,
    namespace: &str,
    spec: &MetricTemplateSpec,
    query: Option<&str>,
) -> Result<(CanaryPrometheus, Secrets), CheckFault> {
    let MetricTemplateProvider {
        kind, secret_ref, ..
    } = &spec.provider;
    if FOLLOW.contains(&kind.as_str()) {
        let text = format!("{kind} cannot be asked yet; use prometheus");
        return Err(fault(CheckFaultKind::Construction, text));
    }
    let values = match secret_ref {
        None => None,
        Some(named) => Some(secret(context, namespace, &named.name).ok_or_else(|| {
            let text = format!("secrets \"{}\" not found", named.name);
            fault(CheckFaultKind::Secret(named.name.clone()), text)
        })?),
    };
    let provider = CanaryPrometheus::of(&spec.provider, values.as_ref(), query)
        .map_err(|why| fault(CheckFaultKind::Construction, why))?;
    let secrets = values.into_iter().flat_map(BTreeMap::into_values);
    Ok((provider, secrets.collect()))
}

/// What a Secret holds, as texts; what is no text is left out.
pub(super) fn secret(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Option<BTreeMap<String, String>> {
    let object = context.objects.get(Kind::Secret, namespace, name)?;
    let data = object.get("data").cloned().unwrap_or_default();
    let data: BTreeMap<String, ByteString> = serde_json::from_value(data).unwrap_or_default();
    let text = |(key, value): (String, ByteString)| Some((key, String::from_utf8(value.0).ok()?));
    Some(data.into_iter().filter_map(text).collect())
}

async fn ask(
    context: &Context,
    provider: &CanaryPrometheus,
    secrets: &Secrets,
) -> Result<f64, CheckFault> {
    let taken = context.measuring.ask(provider).await;
    match taken {
        Ok(reading) => match reading.value {
            Value::Float(value) => Ok(value),
            _ => Err(fault(CheckFaultKind::NoData, "no values found")),
        },
        Err(error) => {
            let mut told = classified(error);
            let hidden = secrets.iter().map(|secret| secret.trim());
            for secret in hidden.filter(|secret| !secret.is_empty()) {
                told.text = told.text.replace(secret, "***");
            }
            Err(told)
        }
    }
}

fn classified(error: ProviderError) -> CheckFault {
    use ProviderErrorKind as Kind;
    let text = error.message;
    match error.kind {
        Kind::NoData => fault(CheckFaultKind::NoData, text),
        Kind::Transport | Kind::Timeout => {
            fault(CheckFaultKind::Provider, format!("request failed: {text}"))
        }
        Kind::RateLimited | Kind::Server | Kind::TooLarge | Kind::Cancelled => {
            fault(CheckFaultKind::Provider, text)
        }
        Kind::Auth | Kind::Parse => fault(CheckFaultKind::Refused, text),
        Kind::Config
        | Kind::Credentials
        | Kind::NotFound
        | Kind::MultipleValues
        | Kind::Evaluation => fault(CheckFaultKind::Query, text),
    }
}
