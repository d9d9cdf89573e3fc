//! The routers that split a canary's traffic, as users configure them.
//!
//! Only settings: what each router's objects look like and how they are changed is another room's subject.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::is_zero;

/// The routers of a canary; several may be set at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficRouting {
    /// Routes that the controller may create; earlier ones take precedence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_routes: Option<Vec<ManagedRoute>>,
    /// Istio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub istio: Option<IstioTrafficRouting>,
    /// The NGINX ingress controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nginx: Option<NginxTrafficRouting>,
    /// The AWS load balancer controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alb: Option<AlbTrafficRouting>,
    /// Service Mesh Interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smi: Option<SmiTrafficRouting>,
    /// Ambassador (Emissary).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ambassador: Option<AmbassadorTrafficRouting>,
    /// AWS App Mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_mesh: Option<AppMeshTrafficRouting>,
    /// Traefik.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traefik: Option<TraefikTrafficRouting>,
    /// Apache APISIX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apisix: Option<ApisixTrafficRouting>,
    /// Router plugins by name, with their settings.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub plugins: BTreeMap<String, Value>,
    /// The weight that means all traffic; 100 when absent. Only with NGINX and plugins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_traffic_weight: Option<i32>,
}

/// A route that the controller may create.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedRoute {
    /// Name of the route.
    pub name: String,
}

/// Settings for Istio: exactly one of the first two is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IstioTrafficRouting {
    /// The VirtualService to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_service: Option<IstioVirtualService>,
    /// The VirtualServices to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_services: Option<Vec<IstioVirtualService>>,
    /// Split by subsets of this DestinationRule instead of by Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_rule: Option<IstioDestinationRule>,
}

/// A VirtualService and which of its routes are split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IstioVirtualService {
    /// `name`, `name.namespace`, or a name that ends in `.cluster.local`.
    pub name: String,
    /// HTTP routes by name; may be left out when there is exactly one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub routes: Vec<String>,
    /// TLS routes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tls_routes: Vec<TlsRoute>,
    /// TCP routes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tcp_routes: Vec<TcpRoute>,
}

/// Which TLS routes are split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsRoute {
    /// Port of the match.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub port: i64,
    /// SNI hosts of the match.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sni_hosts: Vec<String>,
}

/// Which TCP routes are split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpRoute {
    /// Port of the match.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub port: i64,
}

/// A DestinationRule whose subsets are the two versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IstioDestinationRule {
    /// Name of the DestinationRule.
    pub name: String,
    /// Subset of the canary.
    pub canary_subset_name: String,
    /// Subset of the stable version.
    pub stable_subset_name: String,
    /// Subsets in the route whose weight is left alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub additional_subset_names: Vec<String>,
}

/// Settings for the NGINX ingress controller: exactly one of the two ingress fields is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NginxTrafficRouting {
    /// Prefix of the annotations; `nginx.ingress.kubernetes.io` when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub annotation_prefix: String,
    /// The Ingress of the stable Service.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stable_ingress: String,
    /// The Ingresses of the stable Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_ingresses: Option<Vec<String>>,
    /// Annotations for the canary Ingress, prefixed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub additional_ingress_annotations: BTreeMap<String, String>,
    /// Annotations for the canary Ingress, as they stand.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub canary_ingress_annotations: BTreeMap<String, String>,
}

/// Settings for the AWS load balancer controller: exactly one of the two ingress fields is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlbTrafficRouting {
    /// The Ingress to change.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ingress: String,
    /// The Ingresses to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingresses: Option<Vec<String>>,
    /// Port of the Services.
    pub service_port: i32,
    /// Service that names the action; the stable Service when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub root_service: String,
    /// Prefix of the annotations; `alb.ingress.kubernetes.io` when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub annotation_prefix: String,
    /// Stickiness between target groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stickiness_config: Option<StickinessConfig>,
}

/// Stickiness between target groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StickinessConfig {
    /// Whether it is on.
    pub enabled: bool,
    /// For how long, from 1 to 604800 seconds.
    pub duration_seconds: i64,
}

/// Settings for Service Mesh Interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmiTrafficRouting {
    /// The Service that clients use; the stable Service when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub root_service: String,
    /// Name of the TrafficSplit; the Rollout's name when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub traffic_split_name: String,
}

/// Settings for Ambassador.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmbassadorTrafficRouting {
    /// The mappings to copy, at least one.
    pub mappings: Vec<String>,
}

/// Settings for AWS App Mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppMeshTrafficRouting {
    /// The virtual service whose router is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_service: Option<AppMeshVirtualService>,
    /// The virtual nodes of the two versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_node_group: Option<AppMeshVirtualNodeGroup>,
}

/// A virtual service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppMeshVirtualService {
    /// Its name.
    pub name: String,
    /// Routes by name; all when empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub routes: Vec<String>,
}

/// The virtual nodes of the two versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppMeshVirtualNodeGroup {
    /// That of the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_virtual_node_ref: Option<AppMeshVirtualNodeRef>,
    /// That of the stable version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_virtual_node_ref: Option<AppMeshVirtualNodeRef>,
}

/// A virtual node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppMeshVirtualNodeRef {
    /// Its name.
    pub name: String,
}

/// Settings for Traefik.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraefikTrafficRouting {
    /// The weighted TraefikService to change.
    pub weighted_traefik_service_name: String,
}

/// Settings for Apache APISIX.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApisixTrafficRouting {
    /// The route to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<ApisixRoute>,
}

/// An ApisixRoute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApisixRoute {
    /// Its name.
    pub name: String,
    /// Rules by name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rules: Vec<String>,
}
