//! The Services of a Canary, and how requests reach them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::traffic_policy::TrafficPolicy;
use crate::is_zero;

/// The Services of a Canary, and how requests reach them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryService {
    /// Name of the Service that users call; the target's name when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub name: String,
    /// Its port.
    pub port: i32,
    /// Name of the port; `http` when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub port_name: String,
    /// Port of the pods, by number or name; the Service's port when absent or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// Protocol of the port, for example `tcp`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub app_protocol: String,
    /// Which endpoints callers prefer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub traffic_distribution: String,
    /// Further ports of the pods become ports of the Services.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub port_discovery: bool,
    /// The Services get no address of their own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub headless: bool,
    /// Time for a request.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: String,
    /// Time for a request to a backend, for the Gateway API.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backend_timeout: String,
    /// Istio's gateways.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gateways: Vec<String>,
    /// The Gateway API's gateways.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gateway_refs: Vec<GatewayRef>,
    /// Host names that are served.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hosts: Vec<String>,
    /// Istio's VirtualService is one that others delegate to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delegation: bool,
    /// How Istio's proxies reach the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,
    /// Requests that are served.
    #[serde(default, rename = "match", skip_serializing_if = "is_zero")]
    pub matches: Vec<HttpMatch>,
    /// How requests are changed on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// How requests are tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// How headers are changed on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderOperations>,
    /// Who gets copies of requests, for the Gateway API.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mirror: Vec<ServiceMirror>,
    /// Which pages of other origins may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors_policy: Option<CorsPolicy>,
    /// Name of the App Mesh.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mesh_name: String,
    /// What the pods call through the App Mesh.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backends: Vec<String>,
    /// Labels and annotations of the Service that users call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apex: Option<Metadata>,
    /// Labels and annotations of the primary's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Metadata>,
    /// Labels and annotations of the new version's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Metadata>,
    /// Labels and annotations that others look after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged_metadata: Option<UnmanagedMetadata>,
}

impl CanaryService {
    /// Name of the port.
    pub fn port_name(&self) -> &str {
        if self.port_name.is_empty() {
            "http"
        } else {
            &self.port_name
        }
    }

    /// Port of the pods, where it is told.
    pub fn target_port(&self) -> Option<&IntOrString> {
        self.target_port
            .as_ref()
            .filter(|port| **port != IntOrString::Int(0))
    }
}

/// Labels and annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Labels.
    #[serde(skip_serializing_if = "is_zero")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "is_zero")]
    pub annotations: BTreeMap<String, String>,
}

/// Keys of labels and annotations that others look after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UnmanagedMetadata {
    /// Keys of labels.
    #[serde(skip_serializing_if = "is_zero")]
    pub labels: Vec<String>,
    /// Keys of annotations.
    #[serde(skip_serializing_if = "is_zero")]
    pub annotations: Vec<String>,
}

/// A Gateway that a route belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// Its group; `gateway.networking.k8s.io` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind; `Gateway` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace; the Canary's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// One of its listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// One of its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// A text to match: exactly one of these, or none for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StringMatch {
    /// The whole text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// How the text begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// How the text ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// A regular expression for the whole text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

/// Requests that are served; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// Its name.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// The path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<StringMatch>,
    /// The scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<StringMatch>,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<StringMatch>,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<StringMatch>,
    /// Headers by name.
    #[serde(skip_serializing_if = "is_zero")]
    pub headers: BTreeMap<String, StringMatch>,
    /// The port that is called.
    #[serde(skip_serializing_if = "is_zero")]
    pub port: i32,
    /// Labels of the calling workload.
    #[serde(skip_serializing_if = "is_zero")]
    pub source_labels: BTreeMap<String, String>,
    /// Istio's gateways.
    #[serde(skip_serializing_if = "is_zero")]
    pub gateways: Vec<String>,
    /// Query parameters by name.
    #[serde(skip_serializing_if = "is_zero")]
    pub query_params: BTreeMap<String, StringMatch>,
    /// Letters of the path match in both cases.
    #[serde(skip_serializing_if = "is_zero")]
    pub ignore_uri_case: bool,
    /// Headers that must not match.
    #[serde(skip_serializing_if = "is_zero")]
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Namespace of the calling workload.
    #[serde(skip_serializing_if = "is_zero")]
    pub source_namespace: String,
}

/// How requests are changed on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rewrite {
    /// The new path.
    #[serde(skip_serializing_if = "is_zero")]
    pub uri: String,
    /// The new host.
    #[serde(skip_serializing_if = "is_zero")]
    pub authority: String,
    /// `ReplacePrefixMatch`; anything else replaces the whole path.
    #[serde(rename = "type", skip_serializing_if = "is_zero")]
    pub kind: String,
}

/// How requests are tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retries {
    /// How often.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: i32,
    /// Time for each attempt.
    #[serde(skip_serializing_if = "is_zero")]
    pub per_try_timeout: String,
    /// On what.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_on: String,
}

/// How headers are changed on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderOperations {
    /// Those of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<HeaderChange>,
    /// Those of responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<HeaderChange>,
}

/// Changes of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderChange {
    /// Values to append.
    #[serde(skip_serializing_if = "is_zero")]
    pub add: BTreeMap<String, String>,
    /// Values to set.
    #[serde(skip_serializing_if = "is_zero")]
    pub set: BTreeMap<String, String>,
    /// Names to remove.
    #[serde(skip_serializing_if = "is_zero")]
    pub remove: Vec<String>,
}

/// Who gets copies of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMirror {
    /// The receiver.
    pub backend_ref: MirrorBackend,
}

/// A receiver of copies of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorBackend {
    /// Its group; empty for a core Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind; `Service` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// Its namespace; the Canary's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its port; required for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// Which pages of other origins may call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CorsPolicy {
    /// Origins, by the former name.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_origin: Vec<String>,
    /// Origins.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_origins: Vec<StringMatch>,
    /// Methods.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_methods: Vec<String>,
    /// Request headers.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_headers: Vec<String>,
    /// Response headers that pages may read.
    #[serde(skip_serializing_if = "is_zero")]
    pub expose_headers: Vec<String>,
    /// How long an answer holds, as a Go duration.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_age: String,
    /// Whether credentials may be sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_credentials: bool,
}
