//! Rules for the spec of a Rollout: every rule, its path, kind, value and words.

use crossfade_api::{Resource, Rollout, merge_patch, validate};
use serde_json::{Value, json};

/// A valid canary with a patch applied to its spec.
fn canary(patch: &Value) -> Vec<String> {
    let mut json = json!({
        "metadata": {"name": "demo", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
            "strategy": {"canary": {}},
        },
    });
    merge_patch::apply(&mut json["spec"], patch);
    let (rollout, errors) = Rollout::from_json(json);
    assert_eq!(errors, []);
    validate::rollout(&rollout)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn steps(steps: &Value, canary_patch: &Value) -> Vec<String> {
    let mut strategy = json!({"steps": steps});
    merge_patch::apply(&mut strategy, canary_patch);
    canary(&json!({"strategy": {"canary": strategy}}))
}

fn blue_green(strategy: &Value) -> Vec<String> {
    canary(&json!({"strategy": {"canary": null, "blueGreen": strategy}}))
}

const NONE: [String; 0] = [];

#[test]
fn a_plain_canary_and_a_plain_blue_green_release_are_valid() {
    assert_eq!(canary(&json!({})), NONE);
    assert_eq!(
        blue_green(&json!({"activeService": "a", "previewService": "b"})),
        NONE
    );
}

#[test]
fn api_12_exactly_one_strategy_is_listed() {
    assert_eq!(
        canary(&json!({"strategy": {"blueGreen": {"activeService": "a"}}})),
        [
            "spec.strategy.strategy: Invalid value: \"blueGreen: true canary: true\": Multiple Strategies can not be listed"
        ]
    );
    assert_eq!(
        canary(&json!({"strategy": {"canary": null}})),
        [
            "spec.strategy.strategy: Required value: Rollout has missing field '.spec.strategy.canary or .spec.strategy.blueGreen'"
        ]
    );
}

#[test]
fn api_14_the_progress_deadline_exceeds_min_ready_seconds() {
    assert_eq!(
        canary(&json!({"progressDeadlineSeconds": 5, "minReadySeconds": 10})),
        ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"]
    );
    assert_eq!(
        canary(&json!({"minReadySeconds": 600})),
        ["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"]
    );
}

#[test]
fn api_15_a_pause_has_a_duration_that_can_be_read() {
    assert_eq!(
        steps(
            &json!([{"setWeight": 1}, {"pause": {"duration": "1d"}}]),
            &json!({})
        ),
        [
            "spec.strategy.steps[1].pause.duration: Invalid value: -1: Duration needs to be greater than 0"
        ]
    );
    for duration in [
        json!("10"),
        json!(10),
        json!(0),
        json!("1h30m"),
        json!("1ms"),
    ] {
        assert_eq!(
            steps(&json!([{"pause": {"duration": duration}}]), &json!({})),
            NONE,
            "{duration}"
        );
    }
}

#[test]
fn api_16_a_weight_is_within_the_routers_maximum() {
    assert_eq!(
        steps(&json!([{"setWeight": 101}]), &json!({})),
        [
            "spec.strategy.steps[0].setWeight: Invalid value: 101: SetWeight needs to be between 0 and 100"
        ]
    );
    let nginx = json!({
        "stableService": "s", "canaryService": "c",
        "trafficRouting": {"nginx": {"stableIngress": "i"}, "maxTrafficWeight": 1000},
    });
    assert_eq!(steps(&json!([{"setWeight": 101}]), &nginx), NONE);
    assert_eq!(
        steps(&json!([{"setWeight": -1}]), &nginx),
        [
            "spec.strategy.steps[0].setWeight: Invalid value: -1: SetWeight needs to be between 0 and 1000"
        ]
    );
}

#[test]
fn api_17_a_step_has_one_key() {
    assert_eq!(
        steps(&json!([{"setWeight": 10, "pause": {}}]), &json!({})),
        [
            "spec.strategy.steps[0]: Invalid value: \"step.Experiment: false step.Pause: true step.SetWeight: true step.Analysis: false\": Step must have one of the following set: experiment, setWeight, setCanaryScale, plugin or pause"
        ]
    );
    assert_eq!(
        steps(&json!([{}]), &json!({})),
        [
            "spec.strategy.steps[0]: Invalid value: \"step.Experiment: true step.Pause: true step.SetWeight: true step.Analysis: true step.SetCanaryScale: true step.SetHeaderRoute: true step.SetMirrorRoute: true step.Plugin: true\": Step must have one of the following set: experiment, setWeight, setCanaryScale, plugin or pause"
        ]
    );
}

#[test]
fn api_18_blue_green_services_differ_and_the_path_lacks_the_strategy() {
    assert_eq!(
        blue_green(&json!({"activeService": "svc", "previewService": "svc"})),
        [
            "spec.strategy.activeService: Invalid value: \"svc\": This rollout uses the same service for the active and preview services, but two different services are required."
        ]
    );
    assert_eq!(blue_green(&json!({"activeService": ""})).len(), 1);
}

#[test]
fn api_21_the_selector_matches_the_templates_labels() {
    let errors = canary(&json!({"template": {"metadata": {"labels": {"app": "x"}}}}));
    assert_eq!(
        errors,
        [
            "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`"
        ]
    );
    let errors = canary(&json!({"template": {"metadata": null}}));
    assert_eq!(
        errors,
        [
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`"
        ]
    );
}

#[test]
fn api_22_surge_and_unavailable_are_not_both_zero() {
    let zero = |surge: Value, unavailable: Value| {
        canary(&json!({"strategy": {"canary": {"maxSurge": surge, "maxUnavailable": unavailable}}}))
    };
    let text = "MaxSurge and MaxUnavailable both can not be zero";
    assert_eq!(
        zero(json!("0%"), json!(0)),
        [format!(
            "spec.strategy.maxSurge: Invalid value: \"0%\": {text}"
        )]
    );
    assert_eq!(
        zero(json!(0), json!("0")),
        [format!("spec.strategy.maxSurge: Invalid value: 0: {text}")]
    );
    assert_eq!(zero(json!("5"), json!(0)), NONE);
    assert_eq!(
        zero(json!("many"), json!(1)),
        ["spec.strategy.maxSurge: Invalid value: \"many\": must be an integer or a percentage"]
    );
    assert_eq!(
        zero(json!("5%"), json!("few")),
        [
            "spec.strategy.maxUnavailable: Invalid value: \"few\": must be an integer or a percentage"
        ]
    );
}

#[test]
fn general_numbers_are_not_negative() {
    let table = [
        ("replicas", "must be greater than or equal to 0"),
        ("minReadySeconds", "must be greater than or equal to 0"),
        ("revisionHistoryLimit", "must be greater than or equal to 0"),
    ];
    for (field, detail) in table {
        assert_eq!(
            canary(&json!({field: -1})),
            [format!("spec.{field}: Invalid value: -1: {detail}")]
        );
    }
    assert_eq!(
        canary(&json!({"progressDeadlineSeconds": -1})),
        [
            "spec.progressDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.progressDeadlineSeconds: Invalid value: -1: must be greater than minReadySeconds",
        ]
    );
}

#[test]
fn a_selector_is_present_well_formed_and_not_empty() {
    assert_eq!(
        canary(&json!({"selector": null})),
        ["spec.selector: Required value: Rollout has missing field '.spec.selector'"]
    );
    assert_eq!(
        canary(&json!({"selector": {"matchLabels": null}})),
        ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]
    );
    let malformed = canary(
        &json!({"selector": {"matchLabels": null, "matchExpressions": [
            {"key": "app", "operator": "In"}, {"key": "a/b/c", "operator": "Near"},
        ]}}),
    );
    assert_eq!(
        malformed[0],
        "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
    );
    assert_eq!(
        malformed[1],
        "spec.selector.matchExpressions[1].operator: Invalid value: \"Near\": not a valid selector operator"
    );
    assert!(malformed[2].starts_with(
        "spec.selector.matchExpressions[1].key: Invalid value: \"a/b/c\": a qualified name "
    ));
    assert!(
        malformed[3].ends_with(": invalid label selector"),
        "{malformed:?}"
    );
    assert_eq!(malformed.len(), 4);
}

#[test]
fn a_template_beside_a_workload_reference_is_empty() {
    assert_eq!(
        canary(&json!({"workloadRef": {"kind": "Deployment", "name": "d"}})),
        ["spec.template: Internal error: template must be empty for workload reference rollout"]
    );
    assert_eq!(
        canary(
            &json!({"workloadRef": {"kind": "Deployment", "name": "d"}, "template": null, "selector": null})
        ),
        NONE
    );
}

#[test]
fn a_pod_template_follows_the_rules_of_kubernetes() {
    let pod = |spec: Value| canary(&json!({"template": {"spec": spec}}));
    let dns = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let container = |patch: Value| {
        let mut container = json!({"name": "web", "image": "web:1"});
        merge_patch::apply(&mut container, &patch);
        json!({"containers": [container]})
    };
    let table = [
        (json!({"containers": null}), "containers: Required value".to_owned()),
        (container(json!({"name": null})), "containers[0].name: Required value".to_owned()),
        (container(json!({"name": "Web"})), format!("containers[0].name: Invalid value: \"Web\": {dns}")),
        (container(json!({"image": null})), "containers[0].image: Required value".to_owned()),
        (container(json!({"ports": [{"name": "http"}]})), "containers[0].ports[0].containerPort: Required value".to_owned()),
        (
            container(json!({"ports": [{"containerPort": 70000}]})),
            "containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive".to_owned(),
        ),
        (
            container(json!({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]})),
            "containers[0].ports[1].name: Duplicate value: \"a\"".to_owned(),
        ),
        (
            container(json!({"ports": [{"containerPort": 1, "protocol": "tcp"}]})),
            "containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"".to_owned(),
        ),
        (container(json!({"env": [{"value": "x"}]})), "containers[0].env[0].name: Required value".to_owned()),
        (
            container(json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]})),
            "containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty".to_owned(),
        ),
        (
            container(json!({"envFrom": [{}]})),
            "containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`".to_owned(),
        ),
        (
            container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
            "containers[0].volumeMounts[0].name: Not found: \"v\"".to_owned(),
        ),
        (
            container(json!({"imagePullPolicy": "Sometimes"})),
            "containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"".to_owned(),
        ),
        (
            container(json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})),
            "containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1".to_owned(),
        ),
        (container(json!({"livenessProbe": {}})), "containers[0].livenessProbe: Required value: must specify a handler type".to_owned()),
        (
            container(json!({"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}})),
            "containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1".to_owned(),
        ),
        (
            container(json!({"readinessProbe": {"tcpSocket": {"port": 1}, "exec": {"command": ["x"]}}})),
            "containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type".to_owned(),
        ),
        (json!({"volumes": [{"name": "a"}, {"name": "a"}]}), "volumes[1].name: Duplicate value: \"a\"".to_owned()),
        (
            json!({"volumes": [{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
            "volumes[0].hostPath: Forbidden: may not specify more than 1 volume type".to_owned(),
        ),
        (json!({"volumes": [{"name": "a", "secret": {}}]}), "volumes[0].secret.secretName: Required value".to_owned()),
        (
            json!({"restartPolicy": "Never"}),
            "restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"".to_owned(),
        ),
        (
            json!({"activeDeadlineSeconds": 5}),
            "activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported".to_owned(),
        ),
        (
            json!({"volumes": [{"name": "d", "gcePersistentDisk": {"pdName": "x"}}]}),
            "volumes[0].gcePersistentDisk.readOnly: Invalid value: false: must be true for replicated pods > 1; GCE PD can only be mounted on multiple machines if it is read-only".to_owned(),
        ),
        (
            json!({"terminationGracePeriodSeconds": -1}),
            "terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0".to_owned(),
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(
            pod(spec.clone()),
            [format!("spec.template.spec.{expected}")],
            "{spec}"
        );
    }
    assert_eq!(
        pod(container(json!({"securityContext": {"privileged": true}}))),
        NONE
    );
}

#[test]
fn blue_green_limits_and_anti_affinity_are_checked() {
    assert_eq!(
        blue_green(&json!({"activeService": "a", "scaleDownDelayRevisionLimit": 11})),
        [
            "spec.strategy.scaleDownDelayRevisionLimit: Invalid value: 11: This rollout's revision history limit can not be smaller than the rollout's scale down limit"
        ]
    );
    let modes = |preferred: bool, required: bool| {
        format!(
            "spec.strategy.antiAffinity: Invalid value: \"antiAffinity.PreferredDuringSchedulingIgnoredDuringExecution: {preferred} antiAffinity.RequiredDuringSchedulingIgnoredDuringExecution: {required}\": AntiAffinity must have exactly one strategy listed"
        )
    };
    assert_eq!(
        blue_green(&json!({"activeService": "a", "antiAffinity": {}})),
        [modes(false, false)]
    );
    let both = json!({
        "preferredDuringSchedulingIgnoredDuringExecution": {"weight": 101},
        "requiredDuringSchedulingIgnoredDuringExecution": {},
    });
    let weight = "spec.strategy.antiAffinity.weight: Invalid value: 101: AntiAffinity weight must be between 1-100";
    assert_eq!(
        blue_green(&json!({"activeService": "a", "antiAffinity": both})),
        [modes(true, true), weight.to_owned()]
    );
    assert_eq!(
        blue_green(&json!({"activeService": "a", "prePromotionAnalysis": {}})),
        [
            "spec.strategy.prePromotionAnalysis.templates: Required value: at least one template is needed, or the analysis never completes"
        ]
    );
}

#[test]
fn services_and_routers_of_a_canary_fit_together() {
    let rules = |patch: Value| canary(&json!({"strategy": {"canary": patch}}));
    let needed = "Canary service and Stable service must to be set to use Traffic Routing";
    let ping = "Ping service and Pong service must to be set to use Ping-Pong feature";
    let table = [
        (
            json!({"canaryService": "s", "stableService": "s"}),
            vec!["stableService: Invalid value: \"s\": This rollout uses the same service for the stable and canary services, but two different services are required.".to_owned()],
        ),
        (
            json!({"pingPong": {"pingService": "a", "pongService": "b"}, "trafficRouting": {}}),
            vec!["trafficRouting.alb: Invalid value: null: Ping-pong feature works with the ALB, Istio, and plugin-based traffic routers only".to_owned()],
        ),
        (json!({"pingPong": {"pingService": "a", "pongService": "b"}}), vec![]),
        (
            json!({"pingPong": {"pingService": "", "pongService": ""}}),
            vec![
                format!("pingPong.pingService: Invalid value: \"\": {ping}"),
                format!("pingPong.pongService: Invalid value: \"\": {ping}"),
                "pingPong.pingService: Invalid value: \"\": This rollout uses the same service for the ping and pong services, but two different services are required.".to_owned(),
            ],
        ),
        (
            json!({"pingPong": {"pingService": "a", "pongService": "b"}, "trafficRouting": {"alb": {"ingress": "i", "servicePort": 80}}}),
            vec!["trafficRouting.alb.rootService: Invalid value: \"\": Root service field is required for the configuration with ALB and ping-pong feature enabled".to_owned()],
        ),
        (
            json!({"trafficRouting": {"smi": {}}}),
            vec![
                format!("stableService: Invalid value: \"\": {needed}"),
                format!("canaryService: Invalid value: \"\": {needed}"),
            ],
        ),
        (json!({"trafficRouting": {}}), vec![]),
        (json!({"trafficRouting": {"plugins": {"a/b": {}}}}), vec![]),
        (
            json!({"trafficRouting": {"istio": {"virtualService": {"name": "v"}, "destinationRule": {"name": "d", "canarySubsetName": "c", "stableSubsetName": "s"}}}}),
            vec![],
        ),
        (
            json!({"scaleDownDelaySeconds": 5, "dynamicStableScale": true}),
            vec![
                "scaleDownDelaySeconds: Invalid value: 5: Canary scaleDownDelaySeconds can only be used with traffic routing".to_owned(),
                "dynamicStableScale: Invalid value: true: Canary dynamicStableScale can only be used with traffic routing".to_owned(),
            ],
        ),
        (
            json!({"scaleDownDelaySeconds": 5, "dynamicStableScale": true, "trafficRouting": {}}),
            vec!["dynamicStableScale: Invalid value: true: Canary dynamicStableScale cannot be used with scaleDownDelaySeconds".to_owned()],
        ),
        (
            json!({"trafficRouting": {"maxTrafficWeight": 1000}}),
            vec!["trafficRouting.maxTrafficWeight: Invalid value: 1000: Canary maxTrafficWeight in traffic routing only supported in Nginx and Plugins".to_owned()],
        ),
        (
            json!({"trafficRouting": {"plugins": {"a/b": {}}, "maxTrafficWeight": 0}}),
            vec!["trafficRouting.maxTrafficWeight: Invalid value: 0: must be greater than 0".to_owned()],
        ),
    ];
    for (patch, expected) in table {
        let expected: Vec<_> = expected
            .into_iter()
            .map(|error| format!("spec.strategy.{error}"))
            .collect();
        assert_eq!(rules(patch.clone()), expected, "{patch}");
    }
}

#[test]
fn steps_ask_only_for_what_the_routers_can_do() {
    let istio = json!({"stableService": "s", "canaryService": "c", "trafficRouting": {
        "istio": {"virtualService": {"name": "v"}}, "managedRoutes": [{"name": "r"}],
    }});
    let alb = json!({"stableService": "s", "canaryService": "c", "trafficRouting": {
        "alb": {"ingress": "i", "servicePort": 80}, "managedRoutes": [{"name": "r"}],
    }});
    let one = |name: &str, value: Value| json!([{"setHeaderRoute": {"name": name, "match": [{"headerName": "X", "headerValue": value}]}}]);
    let no_value = "StringMatch value missed, match value must have one of the following: exact, regex, prefix";
    let many =
        "StringMatch match value must have exactly one of the following: exact, regex, prefix";
    let table = [
        (
            json!([{"setCanaryScale": {"replicas": 1}}]),
            json!({}),
            "trafficRouting: Required value: SetCanaryScale requires TrafficRouting to be set".to_owned(),
        ),
        (
            one("r", json!({"exact": "<1>"})),
            json!({}),
            "steps[0].setHeaderRoute: Invalid value: {\"name\":\"r\",\"match\":[{\"headerName\":\"X\",\"headerValue\":{\"exact\":\"\\u003c1\\u003e\"}}]}: SetHeaderRoute requires TrafficRouting, supports Istio and ALB and Apisix".to_owned(),
        ),
        (one("r", json!(null)), istio.clone(), format!("steps[0].setHeaderRoute.match[0]: Invalid value: null: {no_value}")),
        (one("r", json!({})), istio.clone(), format!("steps[0].setHeaderRoute.match[0]: Invalid value: {{}}: {no_value}")),
        (
            one("r", json!({"exact": "a", "regex": "b"})),
            istio.clone(),
            format!("steps[0].setHeaderRoute.match[0]: Invalid value: {{\"exact\":\"a\",\"regex\":\"b\"}}: {many}"),
        ),
        (
            one("r", json!({"prefix": "a"})),
            alb,
            "steps[0].setHeaderRoute.match[0]: Invalid value: {\"prefix\":\"a\"}: SetHeaderRoute match value invalid. ALB supports 'exact' value only".to_owned(),
        ),
        (
            one("other", json!({"exact": "a"})),
            istio.clone(),
            "steps[0].setHeaderRoute: Invalid value: \"other\": Steps define a route that does not exist in spec.strategy.canary.trafficRouting.managedRoutes".to_owned(),
        ),
        (
            json!([{"setMirrorRoute": {"name": "r", "match": [{"method": {"exact": "a", "prefix": "b"}}]}}]),
            istio.clone(),
            format!("steps[0].setMirrorRoute.match[0]: Invalid value: {{\"exact\":\"a\",\"prefix\":\"b\"}}: {many}"),
        ),
        (
            json!([{"setMirrorRoute": {"name": "r"}}]),
            json!({}),
            "steps[0].setMirrorRoute: Invalid value: {\"name\":\"r\"}: SetMirrorRoute requires TrafficRouting, supports Istio and Plugins".to_owned(),
        ),
        (
            json!([{"setMirrorRoute": {"name": "r"}}]),
            json!({"trafficRouting": {"plugins": {"a/b": {}}}}),
            "trafficRouting.managedRoutes: Required value: Rollout has missing field 'spec.strategy.canary.trafficRouting.managedRoutes'".to_owned(),
        ),
        (
            json!([{"experiment": {"templates": [{"name": "a", "specRef": "canary", "weight": 5}]}}]),
            json!({}),
            "steps[0].experiment.templates[0].weight: Invalid value: 5: Experiment template weight cannot be set unless TrafficRouting is enabled".to_owned(),
        ),
        (
            json!([{"experiment": {"templates": [{"name": "a", "specRef": "canary", "weight": 5}]}}]),
            json!({"trafficRouting": {}}),
            "steps[0].experiment.templates[0].weight: Invalid value: 5: Experiment template weight is only available for TrafficRouting with SMI, ALB, Istio and Plugins at this time".to_owned(),
        ),
        (
            json!([{"analysis": {"templates": [{"templateName": "t"}], "args": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.owner"}}}]}}]),
            json!({}),
            "steps[0].analyses: Invalid value: [{\"name\":\"a\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.owner\"}}}]: Analyses arguments must refer to valid object metadata supported by downwardAPI".to_owned(),
        ),
        (
            json!([{"analysis": {}}]),
            json!({}),
            "steps[0].analysis.templates: Required value: at least one template is needed, or the analysis never completes".to_owned(),
        ),
    ];
    for (list, patch, expected) in table {
        assert_eq!(
            steps(&list, &patch),
            [format!("spec.strategy.{expected}")],
            "{list}"
        );
    }
    assert_eq!(steps(&one("r", json!({"regex": "a.*"})), &istio), NONE);
    let label = json!([{"analysis": {"templates": [{"templateName": "t"}], "args": [
        {"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "b", "valueFrom": {"fieldRef": {"fieldPath": "spec.replicas"}}},
    ]}}]);
    assert_eq!(steps(&label, &json!({})), NONE);
}
