//! Measurements for Canaries: a query is made, its server asked, the answer told by its class, and nothing secret.
//!
//! Start at [`check`]. How a server is reached and where Secrets are is the business of whoever calls ([`Means`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossfade_api::flagger::check::{
    Check, CheckFault, CheckFaultKind, Checked, MetricSource, Query,
};
use crossfade_api::flagger::{
    MetricTemplateProvider, MetricTemplateSpec, PROMETHEUS, PROVIDERS_TO_FOLLOW,
};
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading, Value};

use crate::canary_prometheus::CanaryPrometheus;
use crate::canary_queries::{render, request_duration, success_rate};

/// What a measurement needs of the world around it.
pub trait Means: Sync {
    /// What a Secret holds, as texts; the error says why it cannot be had.
    fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<BTreeMap<String, String>, String>> + Send;

    /// Asks a server for one reading, whose time is now.
    fn ask(
        &self,
        provider: &CanaryPrometheus,
    ) -> impl Future<Output = Result<Reading, ProviderError>> + Send;
}

/// Asks whether a metric provider answers at all.
///
/// # Errors
/// Why it does not, in words without secrets.
pub async fn find(means: &impl Means, source: &MetricSource) -> Result<(), String> {
    let asked = match provider(means, source, None).await {
        Ok((provider, hidden)) => ask(means, &provider, &hidden).await,
        Err(fault) => Err(fault),
    };
    match asked {
        Ok(value) if (value - 1.0).abs() < f64::EPSILON => Ok(()),
        Ok(_) => Err("value is not 1 for query: vector(1)".to_owned()),
        Err(fault) => Err(fault.text),
    }
}

/// Takes a measurement.
pub async fn check(means: &impl Means, check: &Check) -> Checked {
    let wait = u64::try_from(check.wait_ms).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(wait)).await;
    let begun = Instant::now();
    let answer = measure(means, check).await;
    let took_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    Checked { answer, took_ms }
}

async fn measure(means: &impl Means, check: &Check) -> Result<f64, CheckFault> {
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
    let (provider, hidden) = provider(means, &check.source, Some(&query)).await?;
    let value = ask(means, &provider, &hidden).await?;
    Ok(value * factor)
}

fn fault(kind: CheckFaultKind, text: impl Into<String>) -> CheckFault {
    CheckFault {
        kind,
        text: text.into(),
    }
}

/// The values of a Secret that an answer must not bring to light.
type Hidden = Vec<String>;

async fn provider(
    means: &impl Means,
    source: &MetricSource,
    query: Option<&str>,
) -> Result<(CanaryPrometheus, Hidden), CheckFault> {
    match source {
        MetricSource::Server { address } => CanaryPrometheus::new(address, query)
            .map(|provider| (provider, Hidden::new()))
            .map_err(|why| fault(CheckFaultKind::Address, why)),
        MetricSource::Template {
            namespace, spec, ..
        } => of_template(means, namespace, spec, query).await,
    }
}

async fn of_template(
    means: &impl Means,
    namespace: &str,
    spec: &MetricTemplateSpec,
    query: Option<&str>,
) -> Result<(CanaryPrometheus, Hidden), CheckFault> {
    let MetricTemplateProvider {
        kind, secret_ref, ..
    } = &spec.provider;
    // What nobody knows is asked as a Prometheus.
    if PROVIDERS_TO_FOLLOW.contains(&kind.as_str()) {
        let text = format!("{kind} cannot be asked yet; use {PROMETHEUS}");
        return Err(fault(CheckFaultKind::Construction, text));
    }
    let mut values = None;
    if let Some(named) = secret_ref {
        let read = means.secret(namespace, &named.name).await;
        let read = read.map_err(|why| fault(CheckFaultKind::Secret(named.name.clone()), why))?;
        values = Some(read);
    }
    let provider = CanaryPrometheus::of(&spec.provider, values.as_ref(), query)
        .map_err(|why| fault(CheckFaultKind::Construction, why))?;
    let hidden = values.into_iter().flat_map(BTreeMap::into_values);
    Ok((provider, hidden.collect()))
}

async fn ask(
    means: &impl Means,
    provider: &CanaryPrometheus,
    hidden: &Hidden,
) -> Result<f64, CheckFault> {
    match means.ask(provider).await {
        Ok(reading) => match reading.value {
            Value::Float(value) => Ok(value),
            _ => Err(fault(CheckFaultKind::NoData, "no values found")),
        },
        Err(error) => {
            let mut told = classified(error);
            let hidden = hidden.iter().map(|secret| secret.trim());
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
