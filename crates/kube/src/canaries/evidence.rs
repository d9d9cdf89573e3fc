//! Who is asked about a Canary, and who is told: metric providers, webhooks, channels.
//!
//! Secrets are read when they are needed and not kept; nothing of them comes back in a text.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossfade_api::flagger::{MetricTemplateProvider, MetricTemplateSpec, Severity};
use crossfade_api::words::{ProviderError, ProviderErrorKind, Value as Measured};
use crossfade_api::{AlertProvider, Canary, Resource as _};
use crossfade_engine::action::{Done, Failure, FailureKind, Outcome};
use crossfade_engine::canary::action::{
    Alert, Check, CheckFault, CheckFaultKind, Checked, HookCall, MetricSource, Query,
};
use crossfade_metrics::canary_prometheus::CanaryPrometheus;
use crossfade_metrics::canary_queries::{render, request_duration, success_rate};
use crossfade_notify::channel::{Channel, News};
use crossfade_notify::hooks::{Hook, Hooks};
use crossfade_notify::turns::Turns;
use k8s_openapi::ByteString;
use serde_json::Value;

use super::read::whole;
use crate::context::Context;
use crate::kind::Kind;
use crate::requests::Requests;

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

/// The ways to those who are asked and told.
pub(crate) struct Tongues {
    http: crossfade_http::Http,
    hooks: Hooks,
    turns: Turns,
}

impl Tongues {
    /// # Errors
    /// There is no way to make connections.
    pub(crate) fn new() -> Result<Self, String> {
        let http = crossfade_http::Http::new(None)?;
        Ok(Self {
            hooks: Hooks::new(http.clone(), Vec::new()),
            http,
            turns: Turns::default(),
        })
    }
}

/// Asks whether a metric provider answers at all.
pub(super) async fn find(context: &Context, source: &MetricSource) -> Outcome {
    let asked = match provider(context, source, None).await {
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
    Err(crate::perform::other(why))
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
    let (provider, secrets) = provider(context, &check.source, Some(&query)).await?;
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
type Hidden = Vec<String>;

async fn provider(
    context: &Context,
    source: &MetricSource,
    query: Option<&str>,
) -> Result<(CanaryPrometheus, Hidden), CheckFault> {
    match source {
        MetricSource::Server { address } => CanaryPrometheus::new(address, query)
            .map(|provider| (provider, Hidden::new()))
            .map_err(|why| fault(CheckFaultKind::Address, why)),
        MetricSource::Template {
            namespace, spec, ..
        } => of_template(context, namespace, spec, query).await,
    }
}

async fn of_template(
    context: &Context,
    namespace: &str,
    spec: &MetricTemplateSpec,
    query: Option<&str>,
) -> Result<(CanaryPrometheus, Hidden), CheckFault> {
    let MetricTemplateProvider {
        kind, secret_ref, ..
    } = &spec.provider;
    if FOLLOW.contains(&kind.as_str()) {
        let text = format!("{kind} cannot be asked yet; use prometheus");
        return Err(fault(CheckFaultKind::Construction, text));
    }
    let mut values = None;
    if let Some(named) = secret_ref {
        let read = secret(&context.requests, namespace, &named.name).await;
        let read = read.map_err(|why| fault(CheckFaultKind::Secret(named.name.clone()), why))?;
        values = Some(read);
    }
    let provider = CanaryPrometheus::of(&spec.provider, values.as_ref(), query)
        .map_err(|why| fault(CheckFaultKind::Construction, why))?;
    let hidden = values.into_iter().flat_map(BTreeMap::into_values);
    Ok((provider, hidden.collect()))
}

/// What a Secret holds, as texts; what is no text is left out.
async fn secret(
    requests: &Requests,
    namespace: &str,
    name: &str,
) -> Result<BTreeMap<String, String>, String> {
    let found = requests.get(&Kind::Secret, namespace, name).await;
    let found = found.map_err(|why| why.to_string())?;
    let found = found.ok_or_else(|| format!("secrets \"{name}\" not found"))?;
    let data = found.get("data").cloned().unwrap_or_default();
    let data: BTreeMap<String, ByteString> = serde_json::from_value(data).unwrap_or_default();
    let text = |(key, value): (String, ByteString)| Some((key, String::from_utf8(value.0).ok()?));
    Ok(data.into_iter().filter_map(text).collect())
}

async fn ask(
    context: &Context,
    provider: &CanaryPrometheus,
    hidden: &Hidden,
) -> Result<f64, CheckFault> {
    match context.measuring.ask(provider).await {
        Ok(reading) => match reading.value {
            Measured::Float(value) => Ok(value),
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

fn full_name(canary: &Canary) -> String {
    format!("{}.{}", canary.name(), canary.namespace())
}

/// Calls a webhook; one that only tells waits for its turn, and nobody for it.
pub(super) async fn call(context: &Context, canary: &Canary, call: &HookCall) -> Outcome {
    let time = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let hook = Hook {
        url: call.url.clone(),
        body: call.body.clone(),
        timeout: time(call.timeout_ms),
        budget: time(call.budget_ms),
        retries: u32::try_from(call.retries).unwrap_or(0),
        insecure: call.disable_tls,
        revision: call.revision.clone(),
    };
    let hooks = &context.tongues.hooks;
    if !call.only_tells {
        return match hooks.ask(&hook).await {
            Ok(()) => Ok(Done::Written(String::new())),
            Err(message) => Err(Failure {
                kind: FailureKind::Refused,
                message,
            }),
        };
    }
    let (hooks, about, name) = (hooks.clone(), full_name(canary), call.name.clone());
    context.tongues.turns.tell(&about.clone(), async move {
        if let Err(why) = hooks.ask(&hook).await {
            tracing::warn!(
                canary = about,
                hook = name,
                "error sending event to webhook: {why}"
            );
        }
    });
    Ok(Done::Written(String::new()))
}

/// Queues news for people. What goes wrong with that is told in the log and holds nothing up.
pub(super) fn alert(context: &Context, canary: &Canary, alert: &Alert) {
    let Some(through) = &alert.through else {
        // The controller has no channel of its own.
        return;
    };
    let about = full_name(canary);
    let reference = &through.provider_ref;
    let namespace = if reference.namespace.is_empty() {
        canary.namespace().to_owned()
    } else {
        reference.namespace.clone()
    };
    let name = reference.name.clone();
    let provider = format!("{name}.{namespace}");
    let news = News {
        severity: Severity::from(alert.severity.as_str()),
        about: about.clone(),
        text: alert.text.clone(),
        fields: alert.fields.clone(),
    };
    let (requests, http) = (context.requests.clone(), context.tongues.http.clone());
    // In a line of their own: hooks that hang keep no alert waiting.
    let line = format!("{about} through {provider}");
    context.tongues.turns.tell(&line, async move {
        let told = match channel(&requests, &namespace, &name).await {
            Ok(channel) => channel.tell(&http, &news).await,
            Err(why) => Err(why),
        };
        if let Err(why) = told {
            tracing::warn!(canary = about, "alert provider {provider}: {why}");
        }
    });
}

async fn channel(requests: &Requests, namespace: &str, name: &str) -> Result<Channel, String> {
    let kind = whole("flagger.app/v1beta1", "AlertProvider");
    let found: Option<Value> = requests
        .get(&kind, namespace, name)
        .await
        .map_err(|why| why.to_string())?;
    let found = found.ok_or_else(|| format!("alertproviders.flagger.app \"{name}\" not found"))?;
    let spec = AlertProvider::from_json(found).0.spec;
    let mut values = None;
    if let Some(named) = &spec.secret_ref {
        values = Some(secret(requests, namespace, &named.name).await?);
    }
    Channel::of(&spec, values.as_ref())
}
