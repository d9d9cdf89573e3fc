//! A check that several Canaries share: a query and who answers it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::is_zero;

/// The provider of templates that can be asked.
pub const PROMETHEUS: &str = "prometheus";

/// Providers that templates may name, too, and that cannot be asked yet.
pub const PROVIDERS_TO_FOLLOW: [&str; 10] = [
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

/// What a user asks for in a MetricTemplate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricTemplateSpec {
    /// Who answers.
    pub provider: MetricTemplateProvider,
    /// The query, with variables such as `{{ namespace }}` and `{{ target }}`.
    pub query: String,
}

/// Who answers a query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricTemplateProvider {
    /// Its kind, for example `prometheus`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its address.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub address: String,
    /// Headers sent with each request.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub headers: BTreeMap<String, Vec<String>>,
    /// A Secret in the template's namespace with what the provider asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Region of a cloud.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub region: String,
    /// The server's certificate is not verified.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub insecure_skip_verify: bool,
}

/// A Secret in the namespace of the object that names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    pub name: String,
}
