//! What measurements for Canaries need of this machine: its Secrets, and its way to servers.

use std::collections::BTreeMap;

use crossfade_api::words::{ProviderError, Reading};
use crossfade_metrics::canary_checks::Means;
use crossfade_metrics::canary_prometheus::CanaryPrometheus;
use k8s_openapi::ByteString;

use super::subjects::Context;
use crate::store::Kind;

impl Means for Context {
    async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, String>, String> {
        secret(self, namespace, name).ok_or_else(|| format!("secrets \"{name}\" not found"))
    }

    async fn ask(&self, provider: &CanaryPrometheus) -> Result<Reading, ProviderError> {
        self.measuring.ask(provider).await
    }
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
