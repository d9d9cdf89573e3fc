//! The CustomResourceDefinitions of this family: what Kubernetes is told beyond the shape of the types.

use serde_json::{Map, Value, json};

use super::{API_VERSION, GROUP, PROMETHEUS, PROVIDERS_TO_FOLLOW};
use crate::resource::{AlertProvider, Canary, MetricTemplate, Resource};
use crate::schema::{self, Kind};

/// A text that begins as an interval does; longer texts are judged by the controller.
pub(super) const INTERVAL: &str = "^[0-9]+(m|s)";

pub(crate) fn definitions() -> [Value; 3] {
    [
        definition::<Canary>(&canary(), &canary_columns()),
        definition::<MetricTemplate>(
            &metric_template(),
            &[column("Provider", "string", ".spec.provider.type", 0)],
        ),
        definition::<AlertProvider>(
            &alert_provider(),
            &[column("Type", "string", ".spec.type", 0)],
        ),
    ]
}

fn definition<R: Resource>(schema: &Value, columns: &[Value]) -> Value {
    let (_, version) = API_VERSION.split_once('/').unwrap_or_default();
    let version = json!({
        "name": version,
        "served": true,
        "storage": true,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", R::PLURAL),
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": R::KIND,
                "listKind": format!("{}List", R::KIND),
                "plural": R::PLURAL,
                "singular": R::KIND.to_lowercase(),
                "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    })
}

fn column(name: &str, kind: &str, path: &str, priority: u8) -> Value {
    let mut column = json!({"name": name, "type": kind, "jsonPath": path});
    if priority > 0 {
        column["priority"] = json!(priority);
    }
    column
}

fn canary_columns() -> Vec<Value> {
    vec![
        column("Status", "string", ".status.phase", 0),
        column("Weight", "string", ".status.canaryWeight", 0),
        column("Suspended", "boolean", ".spec.suspend", 1),
        column("FailedChecks", "string", ".status.failedChecks", 1),
        column("Interval", "string", ".spec.analysis.interval", 1),
        column("Mirror", "boolean", ".spec.analysis.mirror", 1),
        column("StepWeight", "string", ".spec.analysis.stepWeight", 1),
        column("StepWeights", "string", ".spec.analysis.stepWeights", 1),
        column("MaxWeight", "string", ".spec.analysis.maxWeight", 1),
        column(
            "LastTransitionTime",
            "string",
            ".status.lastTransitionTime",
            0,
        ),
    ]
}

fn whole(kind: Kind) -> Value {
    let mut schema = kind.schema();
    schema["properties"]["metadata"] = json!({"type": "object"});
    schema
}

/// The part of a schema at a path of properties; `*` means the items of a list, `.*` those of a map alike.
fn at<'s>(schema: &'s mut Value, path: &str) -> &'s mut Value {
    path.split('.').fold(schema, |schema, name| match name {
        "*" if schema["type"] == "object" => &mut schema["additionalProperties"],
        "*" => &mut schema["items"],
        name => &mut schema["properties"][name],
    })
}

fn requires(schema: &mut Value, members: &[&str]) {
    schema["required"] = json!(members);
}

fn one_of(schema: &mut Value, words: &[&str]) {
    schema["enum"] = json!(words);
}

fn canary() -> Value {
    let mut schema = whole(Kind::Canary);
    let spec = at(&mut schema, "spec");
    requires(spec, &["targetRef", "analysis"]);
    one_of(at(spec, "provider"), &PROVIDERS);
    let kinds = [
        ("targetRef", &["DaemonSet", "Deployment", "Service"][..]),
        (
            "autoscalerRef",
            &["HorizontalPodAutoscaler", "ScaledObject"],
        ),
        ("ingressRef", &["Ingress"]),
        ("routeRef", &["ApisixRoute"]),
        ("upstreamRef", &["Upstream"]),
    ];
    for (reference, kinds) in kinds {
        let reference = at(spec, reference);
        one_of(at(reference, "kind"), kinds);
    }
    service(at(spec, "service"));
    analysis(at(spec, "analysis"));
    one_of(at(&mut schema, "status.phase"), &PHASES);
    as_numbers(&mut schema);
    let bounds = at(&mut schema, "spec.autoscalerRef.primaryScalerReplicas");
    for bound in ["minReplicas", "maxReplicas"] {
        let bound = at(bounds, bound);
        bound["type"] = json!("integer");
        bound["minimum"] = json!(1.0);
    }
    let gateway = at(&mut schema, "spec.service.gatewayRefs.*");
    let port = at(gateway, "port");
    port["type"] = json!("integer");
    port["format"] = json!("int32");
    port["minimum"] = json!(1.0);
    port["maximum"] = json!(65535.0);
    schema
}

fn service(service: &mut Value) {
    one_of(
        at(service, "trafficDistribution"),
        &["PreferClose", "PreferSameZone", "PreferSameNode"],
    );
    at(service, "gatewayRefs")["maxItems"] = json!(32);
    let gateway = at(service, "gatewayRefs.*");
    at(gateway, "group")["default"] = json!("gateway.networking.k8s.io");
    at(gateway, "kind")["default"] = json!("Gateway");
    at(gateway, "name")["minLength"] = json!(1);
    at(gateway, "name")["maxLength"] = json!(253);
    let backend = at(service, "mirror.*.backendRef");
    at(backend, "group")["default"] = json!("");
    at(backend, "kind")["default"] = json!("Service");
    backend["x-kubernetes-validations"] = json!([{
        "message": "Must have port for Service reference",
        "rule": "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
    }]);
    for text in [
        "uri",
        "scheme",
        "method",
        "authority",
        "headers.*",
        "queryParams.*",
        "withoutHeaders.*",
    ] {
        let text = at(service, &format!("match.*.{text}"));
        one_match_at_most(text);
    }
    one_match_at_most(at(service, "corsPolicy.allowOrigins.*"));
    let balancer = at(service, "trafficPolicy.loadBalancer");
    balancer["oneOf"] = one_at_most(&["simple", "consistentHash"]);
}

fn analysis(analysis: &mut Value) {
    let sets = ["iterations", "stepWeight", "stepWeights"];
    let sets = sets.map(|third| json!({"required": ["interval", "threshold", third]}));
    analysis["oneOf"] = json!(sets);
    at(analysis, "interval")["pattern"] = json!(INTERVAL);
    at(analysis, "metrics.*.interval")["pattern"] = json!(INTERVAL);
    at(analysis, "webhooks.*.timeout")["pattern"] = json!(INTERVAL);
    at(analysis, "webhooks.*.url")["format"] = json!("url");
    one_of(
        at(analysis, "webhooks.*.type"),
        &[
            "",
            "confirm-rollout",
            "pre-rollout",
            "rollout",
            "confirm-promotion",
            "post-rollout",
            "event",
            "rollback",
            "confirm-traffic-increase",
        ],
    );
    one_of(
        at(analysis, "alerts.*.severity"),
        &["", "info", "warn", "error"],
    );
    let affinity = at(analysis, "sessionAffinity");
    at(affinity, "maxAge")["default"] = json!(86400);
    one_of(at(affinity, "sameSite"), &["Strict", "Lax", "None"]);
    for matched in ["headers.*", "queryParams.*"] {
        let text = at(analysis, &format!("match.*.{matched}"));
        text["oneOf"] = json!(MATCHES.map(|member| json!({"required": [member]})));
    }
}

const MATCHES: [&str; 4] = ["exact", "prefix", "suffix", "regex"];

const PROVIDERS: [&str; 19] = [
    "apisix",
    "appmesh",
    "appmesh:v1beta2",
    "contour",
    "gatewayapi:v1",
    "gatewayapi:v1beta1",
    "gloo",
    "istio",
    "knative",
    "kubernetes",
    "kuma",
    "linkerd",
    "nginx",
    "osm",
    "skipper",
    "smi:v1alpha1",
    "smi:v1alpha2",
    "smi:v1alpha3",
    "traefik",
];

const PHASES: [&str; 12] = [
    "",
    "Initializing",
    "Initialized",
    "Waiting",
    "Progressing",
    "WaitingPromotion",
    "Promoting",
    "Finalising",
    "Succeeded",
    "Failed",
    "Terminating",
    "Terminated",
];

/// A text that is matched exactly, by its beginning or by an expression, or not at all.
fn one_match_at_most(text: &mut Value) {
    if let Some(properties) = text["properties"].as_object_mut() {
        properties.remove("suffix");
    }
    text["oneOf"] = one_at_most(&["exact", "prefix", "regex"]);
}

fn one_at_most(members: &[&str]) -> Value {
    let each = members.iter().map(|member| json!({"required": [member]}));
    let each: Vec<Value> = each.collect();
    let mut forms = vec![json!({"not": {"anyOf": each}})];
    forms.extend(each);
    json!(forms)
}

/// The family's definitions say `number` where its controller reads whole numbers.
fn as_numbers(schema: &mut Value) {
    schema::for_each_schema(schema, &mut |schema: &mut Map<String, Value>| {
        if schema.get("type") == Some(&json!("integer")) {
            schema.insert("type".to_owned(), json!("number"));
        }
        if schema.get("type") == Some(&json!("number")) {
            schema.remove("format");
        }
    });
}

fn metric_template() -> Value {
    let mut schema = whole(Kind::MetricTemplate);
    let mut providers = vec![PROMETHEUS];
    providers.extend(PROVIDERS_TO_FOLLOW);
    one_of(at(&mut schema, "spec.provider.type"), &providers);
    schema
}

fn alert_provider() -> Value {
    let mut schema = whole(Kind::AlertProvider);
    let spec = at(&mut schema, "spec");
    one_of(
        at(spec, "type"),
        &["slack", "msteams", "discord", "rocket", "gchat"],
    );
    spec["oneOf"] = json!([
        {"required": ["type", "address"]},
        {"required": ["type", "secretRef"]},
    ]);
    schema
}
