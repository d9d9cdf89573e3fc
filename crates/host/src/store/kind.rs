//! Which kinds of objects the host knows, and what the API needs to know about each.
//!
//! Start at [`Kind`]; the table is `Kind::facts`. Two lists stand beside it: kinds that a manifest may carry
//! although they mean nothing on one machine ([`harmless`]), and everything else, which is refused.

use std::fmt;

/// A kind of object that the host stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the resources")]
pub enum Kind {
    Rollout,
    AnalysisTemplate,
    ClusterAnalysisTemplate,
    AnalysisRun,
    Experiment,
    ReplicaSet,
    Deployment,
    PodTemplate,
    Pod,
    Service,
    ConfigMap,
    Secret,
    Namespace,
    Event,
    Job,
    Ingress,
    IngressClass,
    VirtualService,
    DestinationRule,
    HttpRoute,
    Canary,
    MetricTemplate,
    AlertProvider,
}

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One set of names for each namespace.
    Namespaced,
    /// One set of names for the whole host.
    Cluster,
}

/// How the status of a kind is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWrites {
    /// Through the sub-resource `status` only; a write of the object leaves the status as it was.
    SubResource,
    /// With the object itself; a status is one more field.
    WithObject,
}

/// What the table says about one kind.
struct Facts {
    kind: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
    scope: Scope,
    status: StatusWrites,
    scale: bool,
}

const fn facts(
    kind: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
) -> Facts {
    let status = StatusWrites::WithObject;
    Facts {
        kind,
        group,
        versions,
        plural,
        singular,
        short,
        scope: Scope::Namespaced,
        status,
        scale: false,
    }
}

impl Facts {
    const fn cluster(self) -> Self {
        Self {
            scope: Scope::Cluster,
            ..self
        }
    }
    const fn with_status(self) -> Self {
        Self {
            status: StatusWrites::SubResource,
            ..self
        }
    }
    const fn with_scale(self) -> Self {
        Self {
            scale: true,
            ..self
        }
    }
}

const ARGO: &str = "argoproj.io";
const FLAGGER: &str = "flagger.app";
const ISTIO: &str = "networking.istio.io";
const ISTIO_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

static ROLLOUT: Facts = facts(
    "Rollout",
    ARGO,
    &["v1alpha1"],
    "rollouts",
    "rollout",
    &["ro"],
)
.with_status()
.with_scale();
static ANALYSIS_TEMPLATE: Facts = facts(
    "AnalysisTemplate",
    ARGO,
    &["v1alpha1"],
    "analysistemplates",
    "analysistemplate",
    &["at"],
);
static CLUSTER_ANALYSIS_TEMPLATE: Facts = facts(
    "ClusterAnalysisTemplate",
    ARGO,
    &["v1alpha1"],
    "clusteranalysistemplates",
    "clusteranalysistemplate",
    &["cat"],
)
.cluster();
static ANALYSIS_RUN: Facts = facts(
    "AnalysisRun",
    ARGO,
    &["v1alpha1"],
    "analysisruns",
    "analysisrun",
    &["ar"],
);
static EXPERIMENT: Facts = facts(
    "Experiment",
    ARGO,
    &["v1alpha1"],
    "experiments",
    "experiment",
    &["exp"],
);
static REPLICA_SET: Facts = facts(
    "ReplicaSet",
    "apps",
    &["v1"],
    "replicasets",
    "replicaset",
    &["rs"],
)
.with_status()
.with_scale();
static DEPLOYMENT: Facts = facts(
    "Deployment",
    "apps",
    &["v1"],
    "deployments",
    "deployment",
    &["deploy"],
)
.with_status()
.with_scale();
static POD_TEMPLATE: Facts = facts(
    "PodTemplate",
    "",
    &["v1"],
    "podtemplates",
    "podtemplate",
    &[],
);
static POD: Facts = facts("Pod", "", &["v1"], "pods", "pod", &["po"]).with_status();
static SERVICE: Facts =
    facts("Service", "", &["v1"], "services", "service", &["svc"]).with_status();
static CONFIG_MAP: Facts = facts("ConfigMap", "", &["v1"], "configmaps", "configmap", &["cm"]);
static SECRET: Facts = facts("Secret", "", &["v1"], "secrets", "secret", &[]);
static NAMESPACE: Facts = facts("Namespace", "", &["v1"], "namespaces", "namespace", &["ns"])
    .cluster()
    .with_status();
static EVENT: Facts = facts("Event", "", &["v1"], "events", "event", &["ev"]);
static JOB: Facts = facts("Job", "batch", &["v1"], "jobs", "job", &[]).with_status();
static INGRESS: Facts = facts(
    "Ingress",
    "networking.k8s.io",
    &["v1"],
    "ingresses",
    "ingress",
    &["ing"],
)
.with_status();
static INGRESS_CLASS: Facts = facts(
    "IngressClass",
    "networking.k8s.io",
    &["v1"],
    "ingressclasses",
    "ingressclass",
    &[],
)
.cluster();
static VIRTUAL_SERVICE: Facts = facts(
    "VirtualService",
    ISTIO,
    ISTIO_VERSIONS,
    "virtualservices",
    "virtualservice",
    &["vs"],
)
.with_status();
static DESTINATION_RULE: Facts = facts(
    "DestinationRule",
    ISTIO,
    ISTIO_VERSIONS,
    "destinationrules",
    "destinationrule",
    &["dr"],
)
.with_status();
static HTTP_ROUTE: Facts = facts(
    "HTTPRoute",
    "gateway.networking.k8s.io",
    &["v1", "v1beta1"],
    "httproutes",
    "httproute",
    &[],
)
.with_status();

static CANARY: Facts =
    facts("Canary", FLAGGER, &["v1beta1"], "canaries", "canary", &[]).with_status();
static METRIC_TEMPLATE: Facts = facts(
    "MetricTemplate",
    FLAGGER,
    &["v1beta1"],
    "metrictemplates",
    "metrictemplate",
    &[],
);
static ALERT_PROVIDER: Facts = facts(
    "AlertProvider",
    FLAGGER,
    &["v1beta1"],
    "alertproviders",
    "alertprovider",
    &[],
);

impl Kind {
    /// Every kind, in the order in which listings show them.
    pub const ALL: [Self; 23] = [
        Self::Rollout,
        Self::AnalysisTemplate,
        Self::ClusterAnalysisTemplate,
        Self::AnalysisRun,
        Self::Experiment,
        Self::ReplicaSet,
        Self::Deployment,
        Self::PodTemplate,
        Self::Pod,
        Self::Service,
        Self::ConfigMap,
        Self::Secret,
        Self::Namespace,
        Self::Event,
        Self::Job,
        Self::Ingress,
        Self::IngressClass,
        Self::VirtualService,
        Self::DestinationRule,
        Self::HttpRoute,
        Self::Canary,
        Self::MetricTemplate,
        Self::AlertProvider,
    ];

    fn facts(self) -> &'static Facts {
        match self {
            Self::Rollout => &ROLLOUT,
            Self::AnalysisTemplate => &ANALYSIS_TEMPLATE,
            Self::ClusterAnalysisTemplate => &CLUSTER_ANALYSIS_TEMPLATE,
            Self::AnalysisRun => &ANALYSIS_RUN,
            Self::Experiment => &EXPERIMENT,
            Self::ReplicaSet => &REPLICA_SET,
            Self::Deployment => &DEPLOYMENT,
            Self::PodTemplate => &POD_TEMPLATE,
            Self::Pod => &POD,
            Self::Service => &SERVICE,
            Self::ConfigMap => &CONFIG_MAP,
            Self::Secret => &SECRET,
            Self::Namespace => &NAMESPACE,
            Self::Event => &EVENT,
            Self::Job => &JOB,
            Self::Ingress => &INGRESS,
            Self::IngressClass => &INGRESS_CLASS,
            Self::VirtualService => &VIRTUAL_SERVICE,
            Self::DestinationRule => &DESTINATION_RULE,
            Self::HttpRoute => &HTTP_ROUTE,
            Self::Canary => &CANARY,
            Self::MetricTemplate => &METRIC_TEMPLATE,
            Self::AlertProvider => &ALERT_PROVIDER,
        }
    }

    /// The name as it stands in `kind:`, for example `Rollout`.
    pub fn name(self) -> &'static str {
        self.facts().kind
    }

    /// The API group; empty for the core group.
    pub fn group(self) -> &'static str {
        self.facts().group
    }

    /// The version that is written when nobody asked for another.
    pub fn version(self) -> &'static str {
        self.facts().versions.first().copied().unwrap_or("v1")
    }

    /// Every version under which the kind is served, the preferred one first.
    pub fn versions(self) -> &'static [&'static str] {
        self.facts().versions
    }

    /// `group/version` of the preferred version, as it stands in `apiVersion:`.
    pub fn api_version(self) -> String {
        api_version(self.group(), self.version())
    }

    /// The name in paths, for example `rollouts`.
    pub fn plural(self) -> &'static str {
        self.facts().plural
    }

    /// The name of one, in lower case, for example `rollout`.
    pub fn singular(self) -> &'static str {
        self.facts().singular
    }

    /// Short names, for example `ro`.
    pub fn short_names(self) -> &'static [&'static str] {
        self.facts().short
    }

    /// Whether objects of this kind live in a namespace.
    pub fn scope(self) -> Scope {
        self.facts().scope
    }

    /// How the status is written.
    pub fn status_writes(self) -> StatusWrites {
        self.facts().status
    }

    /// Whether the sub-resource `scale` exists.
    pub fn has_scale(self) -> bool {
        self.facts().scale
    }

    /// `plural.group` as error texts name it (`rollouts.argoproj.io`, `pods`).
    pub fn resource(self) -> String {
        self.dotted(self.plural())
    }

    /// `Kind.group` as error texts name it (`Rollout.argoproj.io`, `Pod`).
    pub fn qualified(self) -> String {
        self.dotted(self.name())
    }

    fn dotted(self, word: &str) -> String {
        if self.group().is_empty() {
            word.to_owned()
        } else {
            format!("{word}.{}", self.group())
        }
    }

    /// The kind with this `apiVersion` and `kind`, if the host stores it.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let (group, version) = split_api_version(api_version);
        Self::ALL
            .into_iter()
            .find(|k| k.name() == kind && k.group() == group && k.versions().contains(&version))
    }

    /// The kind behind a path `/apis/{group}/{version}/…/{plural}`.
    pub fn of_path(group: &str, version: &str, plural: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|k| k.plural() == plural && k.group() == group && k.versions().contains(&version))
    }

    /// The kind that a person means by `rollout`, `rollouts`, `ro`, `Rollout` or `rollouts.argoproj.io`; letter case is ignored.
    pub fn of_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().find(|k| {
            word == k.plural()
                || word == k.singular()
                || k.short_names().contains(&word.as_str())
                || word == k.resource()
                || word == k.dotted(k.singular())
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `group/version`, or the version alone for the core group.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// The two parts of an `apiVersion`; the group of the core group is empty.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Why an object of this kind may stand in a manifest although the host keeps none of it; `None` for kinds that matter.
///
/// The answer completes the sentence "&lt;kind&gt; …".
pub fn harmless(api_version: &str, kind: &str) -> Option<&'static str> {
    let (group, _) = split_api_version(api_version);
    Some(match (group, kind) {
        ("autoscaling", "HorizontalPodAutoscaler")
        | ("autoscaling.k8s.io", "VerticalPodAutoscaler")
        | ("keda.sh", "ScaledObject") => {
            "has no effect on one machine: nothing scales by itself; change spec.replicas instead"
        }
        ("policy", "PodDisruptionBudget") => {
            "has no effect on one machine: there are no nodes to drain"
        }
        ("", "ServiceAccount")
        | (
            "rbac.authorization.k8s.io",
            "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding",
        ) => "has no effect on one machine: every process runs as the user of the host",
        ("networking.k8s.io", "NetworkPolicy") => {
            "has no effect on one machine: the processes share its network"
        }
        ("", "ResourceQuota" | "LimitRange") | ("scheduling.k8s.io", "PriorityClass") => {
            "has no effect on one machine: resources are not divided"
        }
        ("monitoring.coreos.com", "ServiceMonitor" | "PodMonitor" | "PrometheusRule") => {
            "has no effect on one machine: the host scrapes pods that carry the prometheus.io annotations"
        }
        ("gateway.networking.k8s.io", "Gateway" | "GatewayClass" | "ReferenceGrant")
        | (ISTIO, "Gateway")
        | ("split.smi-spec.io", "TrafficSplit")
        | (
            "traefik.io" | "traefik.containo.us",
            "TraefikService" | "IngressRoute" | "Middleware",
        )
        | ("getambassador.io", "Mapping")
        | ("apisix.apache.org", "ApisixRoute")
        | ("appmesh.k8s.aws", "VirtualService" | "VirtualRouter" | "VirtualNode" | "Mesh") => {
            "has no effect on one machine: the built-in proxy routes by the Services and the Rollout"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_every_name_people_use() {
        for word in [
            "ro",
            "rollout",
            "Rollouts",
            "rollouts.argoproj.io",
            "ROLLOUT.argoproj.io",
        ] {
            assert_eq!(Kind::of_word(word), Some(Kind::Rollout), "{word}");
        }
        assert_eq!(Kind::of_word("svc"), Some(Kind::Service));
        assert_eq!(Kind::of_word("flux"), None);
    }

    #[test]
    fn names_are_unambiguous() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_word(kind.plural()), Some(kind));
            assert_eq!(Kind::of_word(kind.singular()), Some(kind));
            for short in kind.short_names() {
                assert_eq!(Kind::of_word(short), Some(kind), "{short}");
            }
            assert_eq!(Kind::of(&kind.api_version(), kind.name()), Some(kind));
            assert_eq!(
                Kind::of_path(kind.group(), kind.version(), kind.plural()),
                Some(kind)
            );
            assert_eq!(harmless(&kind.api_version(), kind.name()), None);
        }
    }

    #[test]
    fn istio_objects_are_known_in_every_version_and_unknown_versions_are_not() {
        for version in ["v1", "v1beta1", "v1alpha3"] {
            assert_eq!(
                Kind::of(&format!("networking.istio.io/{version}"), "VirtualService"),
                Some(Kind::VirtualService)
            );
        }
        assert_eq!(Kind::of("networking.istio.io/v9", "VirtualService"), None);
        assert_eq!(Kind::of("v1", "Rollout"), None);
    }
}
