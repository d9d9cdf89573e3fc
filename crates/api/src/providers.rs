//! Metric providers, as users configure them: one struct for each.
//!
//! Every text may hold `{{args.<name>}}`. How a provider is asked is another room's subject.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::is_zero;
use crate::pod_template::JobSpec;
use crate::rollout::PodTemplateMetadata;

/// Where a value comes from: exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricProvider {
    /// Prometheus and what speaks its API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusMetric>,
    /// Kayenta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kayenta: Option<KayentaMetric>,
    /// Any HTTP endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<WebMetric>,
    /// Datadog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datadog: Option<DatadogMetric>,
    /// Wavefront.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wavefront: Option<WavefrontMetric>,
    /// New Relic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_relic: Option<NewRelicMetric>,
    /// A Kubernetes Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobMetric>,
    /// AWS CloudWatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_watch: Option<CloudWatchMetric>,
    /// Graphite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphite: Option<GraphiteMetric>,
    /// InfluxDB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub influxdb: Option<InfluxdbMetric>,
    /// Apache SkyWalking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skywalking: Option<SkyWalkingMetric>,
    /// Provider plugins by name, with their settings.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub plugin: BTreeMap<String, Value>,
}

/// A PromQL query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusMetric {
    /// Base URL of the server; the controller's setting when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub address: String,
    /// The query.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub query: String,
    /// How to sign in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub authentication: Authentication,
    /// Seconds to wait for an answer; 30 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// Do not check the server's certificate.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub insecure: bool,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub headers: Vec<WebHeader>,
    /// Makes it a range query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_query: Option<PrometheusRangeQuery>,
}

/// The range of a range query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusRangeQuery {
    /// Expression for the first instant.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start: String,
    /// Expression for the last instant.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub end: String,
    /// Resolution, as a Go duration.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub step: String,
}

/// How to sign in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// Sign requests for AWS.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sigv4: Sigv4,
    /// Ask for a token first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oauth2: OAuth2,
    /// Name and password.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub basic_auth: BasicAuth,
}

/// Signing of requests for AWS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sigv4 {
    /// Region of the workspace.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub region: String,
    /// Profile of the credentials.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub profile: String,
    /// Role to assume.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub role_arn: String,
}

/// A token by client credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2 {
    /// Where to ask; empty means off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub token_url: String,
    /// Client id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub client_id: String,
    /// Client secret.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub client_secret: String,
    /// Scopes to ask for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub scopes: Vec<String>,
}

/// Name and password.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// The name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub username: String,
    /// The password.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub password: String,
}

/// A header to send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebHeader {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// An HTTP request whose answer is the value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebMetric {
    /// Where to ask.
    pub url: String,
    /// The method; GET when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub method: String,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub headers: Vec<WebHeader>,
    /// Body to send, as text.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub body: String,
    /// Seconds to wait for an answer; 10 when not positive.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout_seconds: i64,
    /// Where the value stands in the answer; `{$}` when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub json_path: String,
    /// Do not check the server's certificate.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub insecure: bool,
    /// Body to send, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_body: Option<Value>,
    /// How to sign in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub authentication: Authentication,
}

/// A canary analysis by Kayenta.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KayentaMetric {
    /// Base URL.
    pub address: String,
    /// Application.
    pub application: String,
    /// Name of the canary configuration.
    pub canary_config_name: String,
    /// Account for metrics.
    pub metrics_account_name: String,
    /// Account for configurations.
    pub configuration_account_name: String,
    /// Account for results.
    pub storage_account_name: String,
    /// Scores that count as good.
    pub threshold: KayentaThreshold,
    /// What is compared.
    pub scopes: Vec<KayentaScope>,
    /// Look at everything since the run began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lookback: bool,
}

/// Scores that count as good.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KayentaThreshold {
    /// From here on good.
    pub pass: i64,
    /// From here on inconclusive.
    pub marginal: i64,
}

/// A pair of things that are compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KayentaScope {
    /// Name of the scope.
    pub name: String,
    /// The baseline.
    pub control_scope: ScopeDetail,
    /// The canary.
    pub experiment_scope: ScopeDetail,
}

/// One side of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScopeDetail {
    /// Which servers.
    pub scope: String,
    /// Where.
    pub region: String,
    /// Resolution in seconds.
    pub step: i64,
    /// First instant.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start: String,
    /// Last instant.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub end: String,
}

/// A Datadog query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatadogMetric {
    /// How far to look back, as a Go duration; 5 minutes when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: String,
    /// The query.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub query: String,
    /// Queries by name, for `formula`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queries: BTreeMap<String, String>,
    /// A formula over `queries`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub formula: String,
    /// `v1` or `v2`; `v1` when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub api_version: String,
    /// How samples become one value, with `v2`; `last` when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub aggregator: String,
    /// Where the credentials are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub secret_ref: DatadogSecretRef,
    /// How long to wait for an answer, as a Go duration; 10 seconds when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub request_timeout: String,
}

/// Where the credentials are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatadogSecretRef {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub name: String,
    /// Whether it is in the namespace of the run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub namespaced: bool,
}

/// A Wavefront query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WavefrontMetric {
    /// Host of the server.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub address: String,
    /// The query.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub query: String,
}

/// A New Relic query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewRelicMetric {
    /// Name of the Secret; `newrelic` when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub profile: String,
    /// The query, in NRQL.
    pub query: String,
    /// Seconds that the query may take; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// A Kubernetes Job whose outcome is the verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobMetric {
    /// Labels and annotations of the Job.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metadata: PodTemplateMetadata,
    /// The Job.
    pub spec: JobSpec,
}

/// CloudWatch metric queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudWatchMetric {
    /// How far to look back, as a Go duration; 5 minutes when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: String,
    /// The queries.
    pub metric_data_queries: Vec<CloudWatchMetricDataQuery>,
}

/// A CloudWatch metric query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudWatchMetricDataQuery {
    /// Its id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub id: String,
    /// An expression over other queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// A metric and its statistic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_stat: Option<CloudWatchMetricStat>,
    /// Resolution in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<IntOrString>,
    /// Whether its result is part of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_data: Option<bool>,
}

/// A metric and its statistic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudWatchMetricStat {
    /// The metric.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metric: CloudWatchStatMetric,
    /// Resolution in seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub period: IntOrString,
    /// The statistic.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stat: String,
    /// The unit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unit: String,
}

/// A CloudWatch metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudWatchStatMetric {
    /// Its dimensions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dimensions: Vec<CloudWatchDimension>,
    /// Its name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metric_name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A dimension of a CloudWatch metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudWatchDimension {
    /// Its name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value: String,
}

/// A Graphite query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphiteMetric {
    /// Base URL.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub address: String,
    /// The render query.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub query: String,
}

/// An InfluxDB query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InfluxdbMetric {
    /// Name of the Secret; `influxdb` when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub profile: String,
    /// The query, in Flux.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub query: String,
}

/// A SkyWalking query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkyWalkingMetric {
    /// Base URL.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub address: String,
    /// The query, in GraphQL.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub query: String,
    /// How far to look back, as a Go duration.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: String,
}
