//! The second family of kinds: what is written reads back, what is left out has its value, what is wrong is told.

use std::fs;
use std::path::Path;

use crossfade_api::crd::{crds, fill_stored_defaults};
use crossfade_api::flagger::validate::{self, Rules};
use crossfade_api::flagger::{CanaryPhase, CanaryStrategyKind, HookType, TargetKind};
use crossfade_api::manifest;
use crossfade_api::{AlertProvider, Canary, MetricTemplate, Resource, merge_patch, schema};
use jiff::SignedDuration;
use serde_json::{Value, json};

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/flagger")
        .join(name);
    fs::read_to_string(path).expect("the file is there")
}

fn canary(spec: &Value) -> Canary {
    let object = json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
        "metadata": {"name": "app", "namespace": "shop"}, "spec": spec,
    });
    let (canary, faults) = Canary::from_json(object);
    assert_eq!(faults, []);
    canary
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"})
}

/// Reads an object and writes it again, with and without a change.
fn round_trip<R: Resource>(object: &Value) -> R {
    let (read, faults) = R::from_json(object.clone());
    assert_eq!(faults, [], "{object}");
    assert_eq!(read.to_json(), *object);
    read
}

fn definition(kind: &str) -> Value {
    let definitions = crds();
    let mut definitions = definitions.iter().map(|one| json!(one));
    definitions
        .find(|one| one["spec"]["names"]["kind"] == kind)
        .expect("the kind is defined")
}

fn property(kind: &str, path: &str) -> Value {
    let mut schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    for name in path.split('.') {
        schema = match name {
            "*" if schema["type"] == "array" => schema["items"].take(),
            "*" => schema["additionalProperties"].take(),
            name => schema["properties"][name].take(),
        };
        assert!(!schema.is_null(), "{kind} has {name} of {path}");
    }
    schema
}

#[test]
fn kinds_have_their_names_and_columns() {
    let columns =
        |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
    let table = [
        (
            "Canary",
            "canaries",
            columns(&[
                "Status string .status.phase",
                "Weight string .status.canaryWeight",
                "Suspended boolean .spec.suspend wide",
                "FailedChecks string .status.failedChecks wide",
                "Interval string .spec.analysis.interval wide",
                "Mirror boolean .spec.analysis.mirror wide",
                "StepWeight string .spec.analysis.stepWeight wide",
                "StepWeights string .spec.analysis.stepWeights wide",
                "MaxWeight string .spec.analysis.maxWeight wide",
                "LastTransitionTime string .status.lastTransitionTime",
            ]),
        ),
        (
            "MetricTemplate",
            "metrictemplates",
            columns(&["Provider string .spec.provider.type"]),
        ),
        (
            "AlertProvider",
            "alertproviders",
            columns(&["Type string .spec.type"]),
        ),
    ];
    for (kind, plural, columns) in table {
        let definition = definition(kind);
        assert_eq!(
            definition["metadata"]["name"],
            format!("{plural}.flagger.app")
        );
        assert_eq!(
            definition["metadata"]["annotations"],
            json!({"helm.sh/resource-policy": "keep"})
        );
        let spec = &definition["spec"];
        assert_eq!(
            (&spec["group"], &spec["scope"]),
            (&json!("flagger.app"), &json!("Namespaced"))
        );
        assert_eq!(
            spec["names"],
            json!({
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural,
                "singular": kind.to_lowercase(), "categories": ["all"],
            })
        );
        assert_eq!(spec["versions"].as_array().map(Vec::len), Some(1));
        let version = &spec["versions"][0];
        assert_eq!(
            (&version["name"], &version["served"], &version["storage"]),
            (&json!("v1beta1"), &json!(true), &json!(true))
        );
        assert_eq!(version["subresources"], json!({"status": {}}));
        let shown: Vec<String> = version["additionalPrinterColumns"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|column| {
                let word = |name: &str| column[name].as_str().unwrap_or_default().to_owned();
                let wide = if column["priority"] == 1 { " wide" } else { "" };
                format!(
                    "{} {} {}{wide}",
                    word("name"),
                    word("type"),
                    word("jsonPath")
                )
            })
            .collect();
        assert_eq!(shown, columns, "{kind}");
        assert!(
            !version["schema"]
                .to_string()
                .contains("preserve-unknown-fields"),
            "{kind}"
        );
    }
}

#[test]
fn definitions_require_and_bound_what_the_family_does() {
    let required = |kind: &str, path: &str| property(kind, path)["required"].clone();
    assert_eq!(required("Canary", "spec"), json!(["targetRef", "analysis"]));
    for reference in [
        "targetRef",
        "autoscalerRef",
        "ingressRef",
        "routeRef",
        "upstreamRef",
    ] {
        assert_eq!(
            required("Canary", &format!("spec.{reference}")),
            json!(["apiVersion", "kind", "name"]),
            "{reference}"
        );
    }
    assert_eq!(required("Canary", "spec.service"), json!(["port"]));
    assert_eq!(
        required("Canary", "spec.service.gatewayRefs.*"),
        json!(["name"])
    );
    assert_eq!(
        required("Canary", "spec.analysis.metrics.*"),
        json!(["name"])
    );
    assert_eq!(
        required("Canary", "spec.analysis.metrics.*.templateRef"),
        json!(["name"])
    );
    assert_eq!(
        required("Canary", "spec.analysis.alerts.*"),
        json!(["name", "providerRef"])
    );
    assert_eq!(
        required("Canary", "spec.analysis.webhooks.*"),
        json!(["name", "url"])
    );
    assert_eq!(
        required("Canary", "spec.analysis.sessionAffinity"),
        json!(["cookieName"])
    );
    assert_eq!(
        required("Canary", "status.conditions.*"),
        json!(["type", "status", "reason"])
    );
    assert_eq!(
        required("MetricTemplate", "spec"),
        json!(["provider", "query"])
    );
    assert_eq!(required("MetricTemplate", "spec.provider"), json!(["type"]));
    let sets = property("Canary", "spec.analysis")["oneOf"].clone();
    let set = |third: &str| json!({"required": ["interval", "threshold", third]});
    assert_eq!(
        sets,
        json!([set("iterations"), set("stepWeight"), set("stepWeights")])
    );
    assert_eq!(
        property("AlertProvider", "spec")["oneOf"],
        json!([{"required": ["type", "address"]}, {"required": ["type", "secretRef"]}])
    );
    let words = |path: &str| property("Canary", path)["enum"].as_array().map(Vec::len);
    assert_eq!(words("spec.provider"), Some(19));
    assert_eq!(words("spec.analysis.webhooks.*.type"), Some(9));
    assert_eq!(words("status.phase"), Some(12));
    assert_eq!(
        property("Canary", "spec.analysis.interval")["pattern"],
        "^[0-9]+(m|s)"
    );
    assert_eq!(
        property("Canary", "spec.analysis.threshold")["type"],
        "number"
    );
    for bound in ["minReplicas", "maxReplicas"] {
        let path = format!("spec.autoscalerRef.primaryScalerReplicas.{bound}");
        let bound = property("Canary", &path);
        assert_eq!(
            (&bound["type"], bound["minimum"].as_f64()),
            (&json!("integer"), Some(1.0))
        );
    }
    let schema = definition("Canary")["spec"]["versions"][0]["schema"].clone();
    assert!(!schema.to_string().contains("canaryAnalysis"));
}

#[test]
fn what_an_api_server_stores_with_a_canary_is_stored_with_it_elsewhere() {
    let mut object = json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
        "spec": {
            "service": {"gatewayRefs": [{"name": "g"}], "mirror": [{"backendRef": {"name": "b"}}]},
            "analysis": {"sessionAffinity": {"cookieName": "c"}},
        },
    });
    fill_stored_defaults(&mut object);
    assert_eq!(
        object["spec"],
        json!({
            "service": {
                "gatewayRefs": [{"name": "g", "group": "gateway.networking.k8s.io", "kind": "Gateway"}],
                "mirror": [{"backendRef": {"name": "b", "group": "", "kind": "Service"}}],
            },
            "analysis": {"sessionAffinity": {"cookieName": "c", "maxAge": 86400}},
        })
    );
}

#[test]
fn manifests_and_recorded_objects_read_back_as_they_were() {
    let manifest = manifest::read(&data("flagger-canary.yaml")).expect("it is a manifest");
    // An overlay: a part of a Canary, to be merged in.
    let overlay: Value =
        serde_saphyr::from_str(&data("flagger-manual-gating.yaml")).expect("it is YAML");
    for document in manifest {
        let mut gated = document.object.clone();
        merge_patch::apply(&mut gated, &overlay);
        for object in [&document.object, &gated] {
            let findings = schema::findings(object);
            assert_eq!(
                (findings.unknown, findings.wrong, findings.missing),
                (vec![], vec![], vec![])
            );
            round_trip::<Canary>(object);
        }
        let (gated, _) = Canary::from_json(gated);
        let hooks = gated.spec.analysis().expect("it is there").webhooks.iter();
        let hooks: Vec<_> = hooks.map(|hook| (hook.kind, hook.mute_alert)).collect();
        assert_eq!(
            hooks,
            [
                (HookType::ConfirmTrafficIncrease, true),
                (HookType::ConfirmTrafficIncrease, true),
                (HookType::Rollback, false),
            ]
        );
    }
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for line in data("recorded.jsonl").lines() {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        let object = &line["object"];
        let kind = object["kind"].as_str().unwrap_or_default();
        let findings = schema::findings(object);
        assert_eq!(
            (findings.unknown, findings.wrong, findings.missing),
            (vec![], vec![], vec![]),
            "{line}"
        );
        match kind {
            "Canary" => {
                let mut canary: Canary = round_trip(object);
                // What is written from the values alone says the same.
                let status = json!(canary.status);
                let stored = &object["status"];
                if stored["phase"].is_string() {
                    assert_eq!(status, *stored, "{line}");
                }
                canary.status.phase = CanaryPhase::Terminating;
                let mut changed = object.clone();
                changed["status"]["phase"] = json!("Terminating");
                if stored.is_object() {
                    assert_eq!(canary.to_json(), changed);
                }
            }
            "MetricTemplate" => drop(round_trip::<MetricTemplate>(object)),
            _ => drop(round_trip::<AlertProvider>(object)),
        }
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    assert!(
        kinds["Canary"] == 114 && kinds["MetricTemplate"] == 1,
        "{kinds:?}"
    );
}

#[test]
fn fields_that_nobody_knows_survive_a_change() {
    let object = json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "app"},
        "spec": {
            "targetRef": deployment(), "later": {"field": [1]},
            "analysis": {"interval": "1m", "threshold": 1, "iterations": 2, "alsoLater": true},
        },
        "status": {"phase": "Initialized", "canaryWeight": 0, "failedChecks": 0, "iterations": 0, "more": "here"},
    });
    let mut canary: Canary = round_trip(&object);
    canary.status.canary_weight = 10;
    canary.spec.suspend = true;
    let mut expected = object;
    expected["status"]["canaryWeight"] = json!(10);
    expected["spec"]["suspend"] = json!(true);
    assert_eq!(canary.to_json(), expected);
}

#[test]
fn a_fraction_is_no_whole_number() {
    let object = json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "app"},
        "spec": {"targetRef": deployment(), "analysis": {"interval": "1m", "threshold": 1.5, "iterations": 1}},
    });
    let (canary, faults) = Canary::from_json(object);
    let told = "spec.analysis.threshold: Invalid value: 1.5: must be a 32-bit integer";
    assert_eq!(
        faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [told]
    );
    assert_eq!(
        validate::canary(&canary, Rules::default()),
        Err(told.to_owned())
    );
}

#[test]
fn what_is_left_out_has_its_value() {
    let bare = canary(&json!({"targetRef": deployment()}));
    assert_eq!(bare.spec.progress_deadline(), 600);
    assert_eq!(bare.spec.interval(), SignedDuration::from_mins(1));
    assert!(bare.spec.skips_analysis());
    assert_eq!(
        (bare.spec.apex(), bare.spec.target_kind()),
        ("app", Some(TargetKind::Deployment))
    );
    for (text, seconds) in [
        ("1s", 10),
        ("30s", 30),
        ("1m30s", 90),
        ("", 60),
        ("1x", 60),
        ("-1m", 10),
    ] {
        let one = canary(&json!({"targetRef": deployment(), "analysis": {"interval": text}}));
        assert_eq!(one.spec.interval().as_secs(), seconds, "{text}");
        assert!(!one.spec.skips_analysis());
    }
    let former = canary(
        &json!({"targetRef": deployment(), "canaryAnalysis": {"interval": "20s", "threshold": 3}}),
    );
    assert_eq!(former.spec.interval().as_secs(), 20);
    assert!(!former.spec.skips_analysis());
    let analysis = |analysis: Value| {
        let canary = canary(&json!({"targetRef": deployment(), "analysis": analysis}));
        canary.spec.analysis().cloned().unwrap_or_default()
    };
    assert_eq!(analysis(json!({"threshold": 0})).threshold(), 1);
    assert_eq!(analysis(json!({"threshold": -2})).threshold(), 1);
    assert_eq!(analysis(json!({"threshold": 4})).threshold(), 4);
    assert_eq!(
        analysis(json!({"stepWeights": [1, 2, 200]})).max_weight(),
        100
    );
    assert_eq!(
        analysis(json!({"stepWeights": [1, 2], "maxWeight": 50})).max_weight(),
        2
    );
    assert_eq!(analysis(json!({"maxWeight": 50})).max_weight(), 50);
    assert_eq!(analysis(json!({})).max_weight(), 100);
    let header = json!([{"headers": {"x": {"exact": "1"}}}]);
    let strategies = [
        (
            json!({"match": header, "iterations": 1}),
            CanaryStrategyKind::AbTesting,
            "ab-testing",
        ),
        (
            json!({"iterations": 1}),
            CanaryStrategyKind::BlueGreen,
            "blue-green",
        ),
        (
            json!({"match": header}),
            CanaryStrategyKind::Canary,
            "canary",
        ),
    ];
    for (written, strategy, label) in strategies {
        let one = analysis(written).strategy();
        assert_eq!((one, one.as_str()), (strategy, label));
    }
    let hooks = analysis(json!({"webhooks": [
        {"name": "a", "url": "http://a"}, {"name": "b", "url": "http://b", "type": "rollback"},
        {"name": "c", "url": "http://c", "type": ""}, {"name": "d", "url": "http://d", "type": "rollout"},
    ]}));
    let names: Vec<_> = hooks
        .hooks(HookType::Rollout)
        .map(|hook| hook.name.as_str())
        .collect();
    assert_eq!(names, ["a", "c", "d"]);
}

#[test]
fn the_status_always_has_its_four_numbers() {
    let mut canary = canary(&json!({"targetRef": deployment(), "analysis": {}}));
    assert_eq!(canary.to_json().get("status"), None);
    canary.status.phase = CanaryPhase::Initialized;
    assert_eq!(
        canary.to_json()["status"],
        json!({"phase": "Initialized", "canaryWeight": 0, "failedChecks": 0, "iterations": 0})
    );
}

#[test]
fn knative_needs_its_own_provider_and_no_autoscaler() {
    let knative = json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "app"});
    let check = |spec: Value| validate::canary(&canary(&spec), Rules::default());
    assert_eq!(
        check(json!({"targetRef": knative, "provider": "istio"})),
        Err("can't use istio provider with Knative Service as target".to_owned())
    );
    assert_eq!(
        check(json!({"targetRef": knative})),
        Err("can't use  provider with Knative Service as target".to_owned())
    );
    assert_eq!(
        check(json!({"targetRef": deployment(), "provider": "knative"})),
        Err("can't use apps/v1/Deployment as target if provider is set to knative".to_owned())
    );
    let scaler =
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "app"});
    assert_eq!(
        check(json!({"targetRef": knative, "provider": "knative", "autoscalerRef": scaler})),
        Err("can't use autoscaler with Knative Service".to_owned())
    );
    assert_eq!(
        check(json!({"targetRef": knative, "provider": "knative"})),
        Ok(())
    );
}

#[test]
fn flagger_33_references_into_other_namespaces_are_refused_where_the_controller_says_so() {
    let spec = |namespace: &str| {
        json!({
            "targetRef": deployment(),
            "upstreamRef": {"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "name": "up", "namespace": namespace},
            "analysis": {
                "metrics": [{"name": "m", "templateRef": {"name": "t", "namespace": namespace}}],
                "alerts": [{"name": "a", "providerRef": {"name": "p", "namespace": namespace}}],
            },
        })
    };
    let strict = Rules {
        no_cross_namespace_refs: true,
    };
    for own in ["", "shop"] {
        assert_eq!(
            validate::canary(&canary(&spec(own)), strict),
            Ok(()),
            "{own}"
        );
    }
    let mut foreign = canary(&spec("other"));
    assert_eq!(validate::canary(&foreign, Rules::default()), Ok(()));
    let blocked = |what: &str| {
        Err(format!(
            "can't access {what}.other, cross-namespace references are blocked"
        ))
    };
    assert_eq!(
        validate::canary(&foreign, strict),
        blocked("gloo upstream up")
    );
    foreign.spec.upstream_ref = None;
    assert_eq!(
        validate::canary(&foreign, strict),
        blocked("metric template t")
    );
    foreign
        .spec
        .analysis
        .as_mut()
        .expect("it is there")
        .metrics
        .clear();
    assert_eq!(
        validate::canary(&foreign, strict),
        blocked("alert provider p")
    );
}

#[test]
fn flagger_40_equal_cookie_names_are_refused() {
    let spec = |primary: &str| {
        json!({
            "targetRef": deployment(),
            "analysis": {"sessionAffinity": {"cookieName": "c", "primaryCookieName": primary}},
        })
    };
    let check = |primary: &str| validate::canary(&canary(&spec(primary)), Rules::default());
    assert_eq!(
        check("c"),
        Err("can't use the same cookie name for both primary and cookie name; please update them to be different".to_owned())
    );
    assert_eq!(check("d"), Ok(()));
}
