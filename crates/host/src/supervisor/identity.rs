//! Who a pod is, and what is asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `terminationGracePeriodSeconds` where a template gives none.
pub(super) const DEFAULT_GRACE_SECONDS: u32 = 30;

/// Who a pod is: what Kubernetes keeps in its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodIdentity {
    /// The namespace it lives in; its ConfigMaps and Secrets are looked up there.
    pub namespace: String,
    /// Its name, also its `HOSTNAME`.
    pub name: String,
    /// What tells it from every other pod, past ones included. Names its folder: letters, digits, `-`, `_`, `.`.
    pub uid: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl PodIdentity {
    /// Whether the uid can name a folder.
    pub(super) fn has_usable_uid(&self) -> bool {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !self.uid.is_empty()
            && self.uid.len() <= 128
            && !self.uid.starts_with('.')
            && self.uid.chars().all(allowed)
    }
}

/// A pod that shall run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodRequest {
    /// Who it is.
    pub identity: PodIdentity,
    /// A Kubernetes pod template (`metadata` and `spec`) as written, for example a Rollout's `spec.template`.
    pub template: Value,
    /// Variables for all its containers that the template does not know of, for example where Services are
    /// reached; what the template sets itself wins.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

impl PodRequest {
    /// A request without further variables.
    pub fn new(identity: PodIdentity, template: Value) -> Self {
        Self {
            identity,
            template,
            environment: BTreeMap::new(),
        }
    }

    /// The time its containers have to end, unless a wish says otherwise.
    pub(super) fn grace_seconds(&self) -> u32 {
        let written = self
            .template
            .pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64);
        written.map_or(DEFAULT_GRACE_SECONDS, |seconds| {
            u32::try_from(seconds).unwrap_or(1)
        })
    }
}
