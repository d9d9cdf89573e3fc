//! The generated definitions: what Kubernetes is told about each kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crossfade_api::canonical_json::Form;
use crossfade_api::crd::{crds, duplicate_entries, fill_stored_defaults, render_all};
use crossfade_api::hash::pod_template_hash;
use crossfade_api::pod_template::PodTemplate;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds")
}

#[test]
fn the_files_in_deploy_crds_are_current() {
    for (name, text) in render_all() {
        let file = fs::read_to_string(folder().join(&name)).unwrap_or_default();
        assert!(
            file == text,
            "deploy/crds/{name} is stale; run `cargo xtask lint --fix`"
        );
    }
}

#[test]
fn the_files_can_be_read_back_and_hold_the_definitions() {
    let definitions = definitions();
    assert_eq!(definitions.len(), 8);
    for ((name, text), definition) in render_all().iter().zip(definitions) {
        let read: Value = serde_saphyr::from_str(text).expect("the file is YAML");
        assert_eq!(read["spec"], definition["spec"], "{name}");
        assert_eq!(read["metadata"]["name"], definition["metadata"]["name"]);
        assert!(
            text.len() < 262_144,
            "{name} has {} bytes and cannot be applied by a client",
            text.len()
        );
    }
}

fn definitions() -> &'static [Value] {
    static DEFINITIONS: OnceLock<Vec<Value>> = OnceLock::new();
    DEFINITIONS.get_or_init(|| crds().iter().map(|definition| json!(definition)).collect())
}

fn definition(kind: &str) -> &'static Value {
    let found = definitions()
        .iter()
        .find(|definition| definition["spec"]["names"]["kind"] == kind);
    found.expect("the kind is defined")
}

fn version(kind: &str) -> &'static Value {
    &definition(kind)["spec"]["versions"][0]
}

/// The part of a schema at a path of properties; `*` means the items of a list.
fn at(kind: &str, path: &str) -> &'static Value {
    let schema = &version(kind)["schema"]["openAPIV3Schema"];
    path.split('.').fold(schema, |schema, name| {
        let next = if name == "*" {
            &schema["items"]
        } else {
            &schema["properties"][name]
        };
        assert!(!next.is_null(), "{kind} has no {name} in {path}");
        next
    })
}

#[test]
fn api_01_kinds_have_their_names_scopes_and_columns() {
    let table = [
        (
            "Rollout",
            "rollouts",
            "ro",
            "Namespaced",
            vec![
                "Desired integer .spec.replicas",
                "Current integer .status.replicas",
                "Up-to-date integer .status.updatedReplicas",
                "Available integer .status.availableReplicas",
                "Age date .metadata.creationTimestamp",
            ],
        ),
        (
            "AnalysisRun",
            "analysisruns",
            "ar",
            "Namespaced",
            vec![
                "Status string .status.phase",
                "Age date .metadata.creationTimestamp",
            ],
        ),
        (
            "Experiment",
            "experiments",
            "exp",
            "Namespaced",
            vec![
                "Status string .status.phase",
                "Age date .metadata.creationTimestamp",
            ],
        ),
        (
            "AnalysisTemplate",
            "analysistemplates",
            "at",
            "Namespaced",
            vec!["Age date .metadata.creationTimestamp"],
        ),
        (
            "ClusterAnalysisTemplate",
            "clusteranalysistemplates",
            "cat",
            "Cluster",
            vec!["Age date .metadata.creationTimestamp"],
        ),
    ];
    for (kind, plural, short, scope, columns) in table {
        let definition = definition(kind);
        let spec = &definition["spec"];
        assert_eq!(
            definition["metadata"]["name"],
            format!("{plural}.argoproj.io")
        );
        assert_eq!(spec["group"], "argoproj.io");
        assert_eq!(spec["scope"], scope);
        assert_eq!(
            spec["names"],
            json!({
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural,
                "singular": kind.to_lowercase(), "shortNames": [short],
            })
        );
        assert_eq!(spec["versions"].as_array().map(Vec::len), Some(1));
        let version = version(kind);
        assert_eq!(
            (&version["name"], &version["served"], &version["storage"]),
            (&json!("v1alpha1"), &json!(true), &json!(true))
        );
        let shown: Vec<_> = version["additionalPrinterColumns"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|column| {
                let word = |name: &str| column[name].as_str().unwrap_or_default().to_owned();
                format!("{} {} {}", word("name"), word("type"), word("jsonPath"))
            })
            .collect();
        assert_eq!(shown, columns, "{kind}");
        assert_eq!(
            version["schema"]["openAPIV3Schema"]["required"],
            json!(["spec"])
        );
    }
}

#[test]
fn api_02_only_rollouts_have_a_status_and_a_scale_of_their_own() {
    assert_eq!(
        version("Rollout")["subresources"],
        json!({
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.HPAReplicas",
                "labelSelectorPath": ".status.selector",
            },
        })
    );
    for kind in [
        "AnalysisRun",
        "Experiment",
        "AnalysisTemplate",
        "ClusterAnalysisTemplate",
    ] {
        assert!(version(kind)["subresources"].is_null(), "{kind}");
    }
}

#[test]
fn api_11_the_selector_is_immutable_while_it_is_there() {
    let selector = at("Rollout", "spec.selector");
    assert_eq!(
        selector["x-kubernetes-validations"],
        json!([{"rule": "self == oldSelf", "message": ".spec.selector is immutable"}])
    );
    assert_eq!(selector["x-kubernetes-map-type"], "atomic");
}

#[test]
fn parts_that_keep_anything_are_marked() {
    let anything = "x-kubernetes-preserve-unknown-fields";
    for (kind, path) in [
        (
            "Rollout",
            "spec.template.spec.containers.*.resources.limits",
        ),
        (
            "Rollout",
            "spec.template.spec.initContainers.*.resources.requests",
        ),
        (
            "Rollout",
            "spec.template.spec.ephemeralContainers.*.resources.limits",
        ),
        ("Rollout", "spec.template.spec.volumes"),
        ("AnalysisRun", "spec.metrics.*.provider.web.jsonBody"),
        (
            "AnalysisTemplate",
            "spec.metrics.*.provider.job.spec.template.spec.volumes",
        ),
    ] {
        assert_eq!(*at(kind, path), json!({anything: true}), "{path}");
    }
    for (kind, path) in [
        ("Rollout", "spec.strategy.canary.trafficRouting.plugins"),
        ("Rollout", "spec.strategy.canary.steps.*.plugin.config"),
        ("Rollout", "status.canary.stepPluginStatuses.*.status"),
        ("AnalysisRun", "spec.metrics.*.provider.plugin"),
    ] {
        let part = at(kind, path);
        assert_eq!(
            (&part["type"], &part[anything]),
            (&json!("object"), &json!(true)),
            "{path}"
        );
    }
    let metadata = at("Rollout", "spec.template.metadata");
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    assert_eq!(
        *metadata,
        json!({"type": "object", "properties": {"labels": texts, "annotations": texts}})
    );
    for path in [
        "spec.strategy.canary.maxSurge",
        "spec.strategy.blueGreen.maxUnavailable",
        "spec.strategy.canary.steps.*.pause.duration",
    ] {
        assert_eq!(
            at("Rollout", path)["x-kubernetes-int-or-string"],
            true,
            "{path}"
        );
    }
}

#[test]
fn lists_of_a_rollouts_template_are_maps_and_those_of_jobs_are_not() {
    let keys = |kind: &str, path: &str| at(kind, path)["x-kubernetes-list-map-keys"].clone();
    let pod = "spec.template.spec";
    for (path, expected) in [
        ("containers", json!(["name"])),
        ("initContainers", json!(["name"])),
        ("ephemeralContainers", json!(["name"])),
        ("imagePullSecrets", json!(["name"])),
        ("resourceClaims", json!(["name"])),
        ("schedulingGates", json!(["name"])),
        ("hostAliases", json!(["ip"])),
        (
            "topologySpreadConstraints",
            json!(["topologyKey", "whenUnsatisfiable"]),
        ),
        ("containers.*.env", json!(["name"])),
        ("containers.*.ports", json!(["containerPort", "protocol"])),
        ("containers.*.volumeMounts", json!(["mountPath"])),
        ("containers.*.volumeDevices", json!(["devicePath"])),
        ("containers.*.resources.claims", json!(["name"])),
    ] {
        assert_eq!(
            keys("Rollout", &format!("{pod}.{path}")),
            expected,
            "{path}"
        );
        let job = format!("spec.metrics.*.provider.job.{pod}.{path}");
        assert_eq!(keys("AnalysisRun", &job), Value::Null, "{path}");
    }
}

/// Every default of a schema with its path.
fn defaults(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    if let Some(default) = schema.get("default") {
        found.push((path.to_owned(), default.clone()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        defaults(property, &format!("{path}.{name}"), found);
    }
    for part in ["items", "additionalProperties"] {
        if schema[part].is_object() {
            defaults(&schema[part], path, found);
        }
    }
}

#[test]
fn exactly_the_defaults_of_the_reference_are_stored() {
    let mut found = Vec::new();
    defaults(
        &version("Rollout")["schema"]["openAPIV3Schema"],
        "",
        &mut found,
    );
    let mut expected = vec![(
        ".spec.template.spec.imagePullSecrets.name".to_owned(),
        json!(""),
    )];
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        let container = format!(".spec.template.spec.{kind}");
        for (path, default) in [
            ("env.valueFrom.configMapKeyRef.name", json!("")),
            ("env.valueFrom.fileKeyRef.optional", json!(false)),
            ("env.valueFrom.secretKeyRef.name", json!("")),
            ("envFrom.configMapRef.name", json!("")),
            ("envFrom.secretRef.name", json!("")),
            ("livenessProbe.grpc.service", json!("")),
            ("ports.protocol", json!("TCP")),
            ("readinessProbe.grpc.service", json!("")),
            ("startupProbe.grpc.service", json!("")),
        ] {
            expected.push((format!("{container}.{path}"), default));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(found, expected);
    let datadog = at("AnalysisTemplate", "spec.metrics.*.provider.datadog");
    assert_eq!(datadog["properties"]["interval"]["default"], "5m");
    assert_eq!(datadog["properties"]["apiVersion"]["default"], "v1");
    assert_eq!(
        datadog["properties"]["apiVersion"]["enum"],
        json!(["v1", "v2"])
    );
    assert_eq!(datadog["properties"]["requestTimeout"]["default"], "10s");
    assert_eq!(
        datadog["properties"]["aggregator"]["enum"],
        json!([
            "avg",
            "min",
            "max",
            "sum",
            "last",
            "percentile",
            "mean",
            "l2norm",
            "area"
        ])
    );
}

#[test]
fn required_fields_are_those_of_the_reference() {
    let canary = "spec.strategy.canary";
    let step = "spec.strategy.canary.steps.*";
    for (path, expected) in [
        (
            "spec.strategy.blueGreen".to_owned(),
            json!(["activeService"]),
        ),
        (
            format!("{canary}.pingPong"),
            json!(["pingService", "pongService"]),
        ),
        (
            format!("{canary}.replicaProgressThreshold"),
            json!(["type", "value"]),
        ),
        (
            format!("{canary}.antiAffinity.preferredDuringSchedulingIgnoredDuringExecution"),
            json!(["weight"]),
        ),
        (
            format!("{canary}.trafficRouting.alb"),
            json!(["servicePort"]),
        ),
        (
            format!("{canary}.trafficRouting.alb.stickinessConfig"),
            json!(["durationSeconds", "enabled"]),
        ),
        (
            format!("{canary}.trafficRouting.ambassador"),
            json!(["mappings"]),
        ),
        (
            format!("{canary}.trafficRouting.apisix.route"),
            json!(["name"]),
        ),
        (
            format!("{canary}.trafficRouting.istio.destinationRule"),
            json!(["canarySubsetName", "name", "stableSubsetName"]),
        ),
        (
            format!("{canary}.trafficRouting.istio.virtualService"),
            json!(["name"]),
        ),
        (
            format!("{canary}.trafficRouting.managedRoutes.*"),
            json!(["name"]),
        ),
        (
            format!("{canary}.trafficRouting.traefik"),
            json!(["weightedTraefikServiceName"]),
        ),
        (format!("{step}.experiment"), json!(["templates"])),
        (
            format!("{step}.experiment.templates.*"),
            json!(["name", "specRef"]),
        ),
        (
            format!("{step}.experiment.analyses.*"),
            json!(["name", "templateName"]),
        ),
        (format!("{step}.plugin"), json!(["name"])),
        (
            format!("{step}.setHeaderRoute.match.*"),
            json!(["headerName", "headerValue"]),
        ),
        (format!("{step}.setMirrorRoute"), json!(["name"])),
        (format!("{step}.analysis.args.*"), json!(["name"])),
        (
            format!("{step}.analysis.args.*.valueFrom.fieldRef"),
            json!(["fieldPath"]),
        ),
        (format!("{step}.analysis.dryRun.*"), json!(["metricName"])),
        (
            format!("{step}.analysis.measurementRetention.*"),
            json!(["limit", "metricName"]),
        ),
    ] {
        let mut required = at("Rollout", &path)["required"].clone();
        if let Some(names) = required.as_array_mut() {
            names.sort_by_key(ToString::to_string);
        }
        assert_eq!(required, expected, "{path}");
    }
    for path in [
        "spec",
        "spec.strategy",
        "spec.strategy.canary",
        "status",
        &format!("{canary}.trafficRouting"),
    ] {
        assert!(at("Rollout", path)["required"].is_null(), "{path}");
    }
}

/// Kubernetes takes structural schemas only: every part says its type, or that it keeps anything.
fn is_structural(schema: &Value, path: &str) {
    let kept = schema["x-kubernetes-preserve-unknown-fields"] == json!(true);
    let int_or_string = schema["x-kubernetes-int-or-string"] == json!(true);
    assert!(
        schema["type"].is_string() || kept || int_or_string,
        "{path}: {schema}"
    );
    assert!(!schema.to_string().contains("\"nullable\""), "{path}");
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        is_structural(property, &format!("{path}.{name}"));
    }
    for part in ["items", "additionalProperties"] {
        if !schema[part].is_null() {
            is_structural(&schema[part], &format!("{path}.{part}"));
        }
    }
    assert_eq!(
        schema["type"] == "array",
        !schema["items"].is_null(),
        "{path}"
    );
}

#[test]
fn every_schema_is_structural() {
    for definition in definitions() {
        let kind = definition["spec"]["names"]["kind"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        is_structural(
            &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            &kind,
        );
    }
}

#[test]
fn a_list_with_keys_holds_each_key_once() {
    let mut object = json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "spec": {"template": {"spec": {"containers": [
            {
                "name": "main",
                "env": [{"name": "A", "value": "1"}, {"name": "B"}, {"name": "A", "value": "2"}],
                "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}, {"containerPort": 80, "protocol": "TCP"}],
                "args": ["x", "x"],
            },
            {"name": "side", "env": [{"name": "A"}]},
            {"name": "main"},
        ]}}},
    });
    fill_stored_defaults(&mut object);
    let found: Vec<String> = duplicate_entries(&object)
        .iter()
        .map(ToString::to_string)
        .collect();
    let containers = "spec.template.spec.containers";
    assert_eq!(
        found,
        [
            format!(r#"{containers}[0].env[2]: Duplicate value: {{"name":"A"}}"#),
            format!(
                r#"{containers}[0].ports[2]: Duplicate value: {{"containerPort":80,"protocol":"TCP"}}"#
            ),
            format!(r#"{containers}[2]: Duplicate value: {{"name":"main"}}"#),
        ]
    );
    object["kind"] = json!("Deployment");
    object["apiVersion"] = json!("apps/v1");
    assert_eq!(duplicate_entries(&object), []);
}

#[test]
fn a_template_gets_the_defaults_and_hence_the_hash_that_it_has_in_a_cluster() {
    let mut object = json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "app"},
        "spec": {"replicas": 2, "template": {
            "metadata": {"labels": {"app": "app"}},
            "spec": {"containers": [{
                "name": "main", "image": "registry.example/app:v1",
                "ports": [{"name": "http", "containerPort": 8080}],
                "resources": {"requests": {"cpu": "0.1", "memory": "64Mi"}},
            }]},
        }},
    });
    let before = object.clone();
    fill_stored_defaults(&mut object);
    let template = PodTemplate::from(object["spec"]["template"].clone());
    // As recorded from another controller in a cluster.
    assert_eq!(
        pod_template_hash(&template, None, Form::Current).as_str(),
        "5ccd549765"
    );
    let port = object["spec"]["template"]["spec"]["containers"][0]["ports"][0].take();
    assert_eq!(
        port,
        json!({"name": "http", "containerPort": 8080, "protocol": "TCP"})
    );
    object["spec"]["template"]["spec"]["containers"][0]["ports"] =
        json!([{"name": "http", "containerPort": 8080}]);
    assert_eq!(object, before);

    let mut other =
        json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}});
    let before = other.clone();
    fill_stored_defaults(&mut other);
    assert_eq!(other, before);
}
