//! Who is asked about a Canary, and who is told: metric providers, webhooks, channels.
//!
//! Secrets are read when they are needed and not kept; nothing of them comes back in a text.

use std::collections::BTreeMap;
use std::time::Duration;

use crossfade_api::flagger::Severity;
use crossfade_api::words::{ProviderError, Reading};
use crossfade_api::{AlertProvider, Canary, Resource as _};
use crossfade_engine::action::{Done, Failure, FailureKind, Outcome};
use crossfade_engine::canary::action::{Alert, HookCall};
use crossfade_metrics::canary_checks::Means;
use crossfade_metrics::canary_prometheus::CanaryPrometheus;
use crossfade_notify::channel::{Channel, News};
use crossfade_notify::hooks::{Grants, Hook, Hooks};
use crossfade_notify::turns::Turns;
use k8s_openapi::ByteString;
use serde_json::Value;

use super::read::whole;
use crate::context::Context;
use crate::kind::Kind;
use crate::requests::Requests;

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

impl Means for Context {
    async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, String>, String> {
        secret(&self.requests, namespace, name).await
    }

    async fn ask(&self, provider: &CanaryPrometheus) -> Result<Reading, ProviderError> {
        self.measuring.ask(provider).await
    }
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

fn full_name(canary: &Canary) -> String {
    format!("{}.{}", canary.name(), canary.namespace())
}

/// Calls a webhook; one that only tells waits for its turn, and nobody for it.
pub(super) async fn call(
    context: &Context,
    canary: &Canary,
    grants: &Grants,
    call: &HookCall,
) -> Outcome {
    let time = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let hook = Hook {
        url: call.url.clone(),
        body: call.body.clone(),
        timeout: time(call.timeout_ms),
        budget: time(call.budget_ms),
        retries: u32::try_from(call.retries).unwrap_or(0),
        insecure: call.disable_tls,
        revision: call.revision.clone(),
        dry: call.dry,
    };
    let hooks = &context.tongues.hooks;
    if !call.only_tells {
        return match hooks.ask(&hook).await {
            Ok(id) => {
                if !call.dry {
                    grants.add(hook, id);
                }
                Ok(Done::Written(String::new()))
            }
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

/// A step was made, or it was not: what gates granted for it is spent, or given back.
pub(super) async fn settle(context: &Context, grants: &Grants, was_made: bool) {
    if was_made {
        grants.spend();
    } else {
        grants.give_back(&context.tongues.hooks).await;
    }
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
