//! Everything a decision about one Canary is taken on.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crossfade_api::flagger::CrossNamespaceRef;
use crossfade_api::{Canary, MetricTemplate};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::Target;
use crate::decision::Found;

/// One Canary and everything around it. Objects are as stored; those that a list may hold are given by what identifies them.
#[derive(Clone, Debug)]
pub struct World {
    /// The Canary as stored, spec and status.
    pub canary: Arc<Canary>,
    /// What the controller itself was started with.
    pub settings: Arc<Settings>,
    /// The workload that is released.
    pub target: Found<Arc<Value>>,
    /// Its copy that serves.
    pub primary: Found<Arc<Value>>,
    /// The three Services.
    pub services: Services,
    /// ConfigMaps and Secrets that the target's pods name, by what [`crate::canary::named_configs`] finds.
    pub configs: BTreeMap<ConfigKey, Found<Config>>,
    /// The autoscaler that the Canary names; `NotNeeded` where it names none.
    pub autoscaler: Found<Arc<Value>>,
    /// Its copy for the primary.
    pub primary_autoscaler: Found<Arc<Value>>,
    /// ReplicaSets that the target controls; needed only while a hash in the status is foreign.
    pub replica_sets: Vec<Arc<Value>>,
    /// The templates that the Canary's metrics name.
    pub templates: BTreeMap<CrossNamespaceRef, Found<Arc<MetricTemplate>>>,
    /// Name of an older Canary with the same target.
    pub older_rival: Option<String>,
    /// When the Canary was looked at last, where that is remembered. It lives in memory: a controller that starts looks at once.
    pub last_tick: Option<Timestamp>,
    /// What was found out of the rest.
    pub known: Known,
}

/// What the decisions of a pass have found out of their world: they are several, and the world is the same for all.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The hash of the target's revision.
    pub(super) revision: OnceLock<String>,
    /// What the Services select that are as they should be, in the order of their [names](crate::canary::service_names).
    pub(super) selectors: [OnceLock<String>; 3],
}

/// The three Services of a Canary, by their [names](crate::canary::service_names).
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// The one that users call.
    pub apex: Found<Arc<Value>>,
    /// That of the version that serves.
    pub primary: Found<Arc<Value>>,
    /// That of the new version.
    pub canary: Found<Arc<Value>>,
}

/// A ConfigMap or Secret in the Canary's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConfigKey {
    /// A ConfigMap of this name.
    ConfigMap(String),
    /// A Secret of this name.
    Secret(String),
}

impl ConfigKey {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::ConfigMap(name) | Self::Secret(name) => name,
        }
    }

    /// Its key in `status.trackedConfigs`.
    pub fn in_status(&self) -> String {
        match self {
            Self::ConfigMap(name) => format!("configmap/{name}"),
            Self::Secret(name) => format!("secret/{name}"),
        }
    }
}

/// A ConfigMap or Secret, without what it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Which one, and in which version.
    pub target: Target,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The checksum of its data: [`crossfade_api::flagger::hash::config`].
    pub checksum: String,
    /// A Secret's type; empty for ConfigMaps.
    pub kind: String,
}

/// What the controller was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who routes requests where a Canary does not say so.
    pub provider: String,
    /// Who can route requests in this world; empty for anybody.
    pub known_providers: Vec<String>,
    /// The Prometheus that answers built-in metrics where a Canary does not say so.
    pub metrics_server: String,
    /// Labels that may tell a target's pods from others, the first that is there counts.
    pub selector_labels: Vec<String>,
    /// Prefixes of labels and annotations that are copied to the primary; `*` for all.
    pub include_label_prefixes: Vec<String>,
    /// ConfigMaps and Secrets are tracked.
    pub tracks_configs: bool,
    /// Objects of other namespaces may not be named.
    pub no_cross_namespace_refs: bool,
    /// Name of the cluster, shown in alerts.
    pub cluster_name: String,
    /// Where events are sent for Canaries without hooks of their own for that.
    pub event_webhook: String,
    /// Restores what a script could have come to depend on.
    pub strict_compat: bool,
    /// After how long a closed gate is told again through alerts; zero for never.
    pub gate_realert_interval: SignedDuration,
    /// What a metric provider's error does where a Canary does not say so.
    pub metric_error_policy: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            provider: "istio".to_owned(),
            known_providers: Vec::new(),
            metrics_server: "http://prometheus:9090".to_owned(),
            selector_labels: ["app", "name", "app.kubernetes.io/name"]
                .map(str::to_owned)
                .to_vec(),
            include_label_prefixes: Vec::new(),
            tracks_configs: true,
            no_cross_namespace_refs: false,
            cluster_name: String::new(),
            event_webhook: String::new(),
            strict_compat: false,
            gate_realert_interval: SignedDuration::ZERO,
            metric_error_policy: String::new(),
        }
    }
}
