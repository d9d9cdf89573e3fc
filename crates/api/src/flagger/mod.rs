//! The second family of kinds: a Deployment stays what it is, and a Canary beside it releases it.
//!
//! Start at [`CanarySpec`]; what users leave out has its value in [`CanarySpec`]'s and [`CanaryAnalysis`]'s methods. Nothing here knows
//! how a release goes on.

mod alert_provider;
mod analysis;
mod canary;
pub mod check;
pub(crate) mod crd;
pub mod hash;
mod metric_template;
mod refused;
mod service;
mod status;
mod traffic_policy;
pub mod validate;

pub use alert_provider::{AlertProviderKind, AlertProviderSpec};
pub use analysis::{
    AnalysisMatch, CanaryAlert, CanaryAnalysis, CanaryMetric, CanaryStrategyKind, CanaryWebhook,
    CrossNamespaceRef, HookType, SessionAffinity, Severity, ThresholdRange,
};
pub use canary::{AutoscalerRef, CanarySpec, ObjectRef, ScalerReplicas, TargetKind, UpstreamRef};
pub use metric_template::{
    MetricTemplateProvider, MetricTemplateSpec, PROMETHEUS, PROVIDERS_TO_FOLLOW, SecretRef,
};
pub use refused::refused;
pub use service::{
    CanaryService, CorsPolicy, GatewayRef, HeaderChange, HeaderOperations, HttpMatch, Metadata,
    MirrorBackend, Retries, Rewrite, ServiceMirror, StringMatch, UnmanagedMetadata,
};
pub use status::{CanaryCondition, CanaryPhase, CanaryStatus};
pub use traffic_policy::{
    ConnectionPool, ConsistentHash, HttpConnectionPool, HttpCookie, LoadBalancer, OutlierDetection,
    Tls, TrafficPolicy,
};

/// The group of the kinds.
pub const GROUP: &str = "flagger.app";
/// The API version of the kinds.
pub const API_VERSION: &str = "flagger.app/v1beta1";
/// What keeps a Canary until its target serves alone again.
pub const FINALIZER: &str = "finalizer.flagger.app";
