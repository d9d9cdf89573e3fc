//! How Istio's proxies reach a workload; handed on as it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::is_zero;

/// How Istio's proxies reach a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// Bounds of connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
    /// How an endpoint is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// When an endpoint is avoided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections are secured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Bounds of connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPool {
    /// Bounds of HTTP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpConnectionPool>,
}

/// Bounds of HTTP connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpConnectionPool {
    /// Requests that may wait for a connection.
    #[serde(
        rename = "http1MaxPendingRequests",
        skip_serializing_if = "Option::is_none"
    )]
    pub http1_max_pending_requests: Option<i32>,
    /// Requests in flight.
    #[serde(rename = "http2MaxRequests", skip_serializing_if = "Option::is_none")]
    pub http2_max_requests: Option<i32>,
    /// Requests of one connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests_per_connection: Option<i32>,
    /// Retries in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<i32>,
    /// Time without requests after which a connection is closed.
    #[serde(skip_serializing_if = "is_zero")]
    pub idle_timeout: String,
    /// Whether HTTP/1.1 becomes HTTP/2.
    #[serde(rename = "h2UpgradePolicy", skip_serializing_if = "is_zero")]
    pub h2_upgrade_policy: String,
}

/// How an endpoint is chosen: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// By a rule, for example `ROUND_ROBIN`.
    #[serde(skip_serializing_if = "is_zero")]
    pub simple: String,
    /// By a property of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,
}

/// The property of requests that chooses an endpoint: one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHash {
    /// A header.
    #[serde(skip_serializing_if = "is_zero")]
    pub http_header_name: String,
    /// A cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_cookie: Option<HttpCookie>,
    /// A query parameter.
    #[serde(skip_serializing_if = "is_zero")]
    pub http_query_parameter_name: String,
    /// The caller's address.
    #[serde(skip_serializing_if = "is_zero")]
    pub use_source_ip: bool,
    /// Size of the ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_ring_size: Option<i64>,
}

/// A cookie that chooses an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpCookie {
    /// Its name.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Its path.
    #[serde(skip_serializing_if = "is_zero")]
    pub path: String,
    /// How long it holds.
    #[serde(skip_serializing_if = "is_zero")]
    pub ttl: String,
}

/// When an endpoint is avoided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// Errors in a row, by the former name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_errors: Option<i32>,
    /// Answers of 5xx in a row.
    #[serde(
        rename = "consecutive5xxErrors",
        skip_serializing_if = "Option::is_none"
    )]
    pub consecutive_5xx_errors: Option<i32>,
    /// Errors of gateways in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_gateway_errors: Option<i32>,
    /// Time between two looks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: String,
    /// Least time of avoiding.
    #[serde(skip_serializing_if = "is_zero")]
    pub base_ejection_time: String,
    /// Greatest percentage of avoided endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ejection_percent: Option<i32>,
    /// Percentage of healthy endpoints below which none is avoided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_health_percent: Option<i32>,
}

/// How connections are secured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    /// For example `ISTIO_MUTUAL`.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: String,
    /// Path of the client's certificate.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_certificate: String,
    /// Path of the client's key.
    #[serde(skip_serializing_if = "is_zero")]
    pub private_key: String,
    /// Path of the certificates that are trusted.
    #[serde(skip_serializing_if = "is_zero")]
    pub ca_certificates: String,
    /// Names that the server's certificate may have.
    #[serde(skip_serializing_if = "is_zero")]
    pub subject_alt_names: Vec<String>,
    /// Name that is asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub sni: String,
}
