//! Rules for the objects that a Rollout names.

use std::collections::BTreeMap;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::validate::references::{Lookup, References, RouterKind, Service, references};
use crossfade_api::{Resource, Rollout, merge_patch};
use serde_json::{Value, json};

#[derive(Default)]
struct Known {
    services: BTreeMap<String, (BTreeMap<String, String>, Option<String>)>,
    templates: BTreeMap<(bool, String), AnalysisTemplateSpec>,
    objects: BTreeMap<(RouterKind, String, String), Value>,
}

impl References for Known {
    fn service(&self, name: &str) -> Lookup<Service<'_>> {
        self.services
            .get(name)
            .map_or(Lookup::Missing, |(selector, managed_by)| {
                Lookup::Found(Service {
                    selector,
                    managed_by: managed_by.as_deref(),
                })
            })
    }

    fn template(&self, name: &str, cluster_scope: bool) -> Lookup<&AnalysisTemplateSpec> {
        self.templates
            .get(&(cluster_scope, name.to_owned()))
            .map_or(Lookup::Missing, Lookup::Found)
    }

    fn object(&self, kind: RouterKind, namespace: &str, name: &str) -> Lookup<&Value> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        self.objects
            .get(&key)
            .map_or(Lookup::Missing, Lookup::Found)
    }
}

impl Known {
    fn service(mut self, name: &str, selector: &[(&str, &str)], managed_by: Option<&str>) -> Self {
        let selector = selector
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.services
            .insert(name.to_owned(), (selector, managed_by.map(str::to_owned)));
        self
    }

    fn template(mut self, name: &str, spec: Value) -> Self {
        let spec = serde_json::from_value(spec).expect("the template decodes");
        self.templates.insert((false, name.to_owned()), spec);
        self
    }

    fn object(mut self, kind: RouterKind, name: &str, object: Value) -> Self {
        self.objects
            .insert((kind, "shop".to_owned(), name.to_owned()), object);
        self
    }
}

fn rollout(strategy: &Value) -> Rollout {
    let json = json!({
        "metadata": {"name": "demo", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
            "strategy": strategy,
        },
    });
    let (rollout, errors) = Rollout::from_json(json);
    assert_eq!(errors, []);
    rollout
}

fn faults(strategy: &Value, known: &Known) -> Vec<String> {
    references(&rollout(strategy), known)
        .iter()
        .map(ToString::to_string)
        .collect()
}

const NONE: [String; 0] = [];

#[test]
fn api_19_a_missing_service_is_named_with_its_field() {
    let strategy = json!({"canary": {"stableService": "s"}});
    assert_eq!(
        faults(&strategy, &Known::default()),
        ["spec.strategy.canary.stableService: Invalid value: \"s\": service \"s\" not found"]
    );
    assert_eq!(
        faults(&strategy, &Known::default().service("s", &[], None)),
        NONE
    );
    let blue_green = json!({"blueGreen": {"activeService": "a", "previewService": "p"}});
    assert_eq!(
        faults(&blue_green, &Known::default()),
        [
            "spec.strategy.blueGreen.activeService: Invalid value: \"a\": service \"a\" not found",
            "spec.strategy.blueGreen.previewService: Invalid value: \"p\": service \"p\" not found",
        ]
    );
    let ping_pong = json!({"canary": {"pingPong": {"pingService": "a", "pongService": "b"}}});
    assert_eq!(
        faults(&ping_pong, &Known::default())[1],
        "spec.strategy.canary.pingPong.pongService: Invalid value: \"b\": service \"b\" not found"
    );
}

#[test]
fn api_20_a_service_belongs_to_this_rollout_and_its_pods() {
    let strategy = json!({"canary": {"stableService": "s"}});
    let path = "spec.strategy.canary.stableService: Invalid value: \"s\": ";
    assert_eq!(
        faults(
            &strategy,
            &Known::default().service("s", &[("app", "web")], Some("other"))
        ),
        [format!("{path}Service \"s\" is managed by another Rollout")]
    );
    assert_eq!(
        faults(
            &strategy,
            &Known::default().service("s", &[("app", "other")], None)
        ),
        [format!(
            "{path}Service \"s\" has unmatch label \"app\" in rollout"
        )]
    );
    let own = [("app", "web"), ("rollouts-pod-template-hash", "abc")];
    assert_eq!(
        faults(
            &strategy,
            &Known::default().service("s", &own, Some("demo"))
        ),
        NONE
    );
}

fn metric(name: &str, patch: &Value) -> Value {
    let mut metric = json!({"name": name, "provider": {"prometheus": {"query": "up"}}});
    merge_patch::apply(&mut metric, patch);
    metric
}

fn step(templates: &Value, args: &Value) -> Value {
    json!({"canary": {"steps": [{"setWeight": 5}, {"analysis": {"templates": templates, "args": args}}]}})
}

const STEP: &str = "spec.strategy.canary.steps[1].analysis.templates: Invalid value: ";

#[test]
fn a_missing_template_is_named_with_its_kind_and_its_field() {
    let strategy = step(&json!([{"templateName": "t"}]), &json!([]));
    assert_eq!(
        faults(&strategy, &Known::default()),
        [format!("{STEP}\"t\": AnalysisTemplate 't' not found")]
    );
    let cluster = step(
        &json!([{"templateName": "t", "clusterScope": true}]),
        &json!([]),
    );
    assert_eq!(
        faults(&cluster, &Known::default()),
        [format!(
            "{STEP}\"t\": ClusterAnalysisTemplate 't' not found"
        )]
    );
    let known = Known::default().template("t", json!({"templates": [{"templateName": "u"}]}));
    assert_eq!(
        faults(&strategy, &known),
        ["spec.templates: Invalid value: \"u\": AnalysisTemplate 'u' not found"]
    );
    let background = json!({"canary": {"analysis": {"templates": [{"templateName": "t"}]}}});
    assert_eq!(
        faults(&background, &Known::default()),
        [
            "spec.strategy.canary.analysis.templates: Invalid value: \"t\": AnalysisTemplate 't' not found"
        ]
    );
    let post = json!({"blueGreen": {"activeService": "a", "postPromotionAnalysis": {"templates": [{"templateName": "t"}]}}});
    assert_eq!(
        faults(&post, &Known::default().service("a", &[], None)),
        [
            "spec.strategy.blueGreen.postPromotionAnalysis.templates: Invalid value: \"t\": AnalysisTemplate 't' not found"
        ]
    );
}

#[test]
fn analysis_26_a_count_that_the_rollout_sets_is_accepted() {
    let known = Known::default().template(
        "t",
        json!({
            "args": [{"name": "count", "value": "0"}],
            "metrics": [metric("m", &json!({"count": "{{args.count}}", "interval": "5s"}))],
        }),
    );
    let templates = json!([{"templateName": "t"}]);
    assert_eq!(
        faults(
            &step(&templates, &json!([{"name": "count", "value": "4"}])),
            &known
        ),
        NONE
    );
    assert_eq!(
        faults(&step(&templates, &json!([])), &known),
        [format!(
            "{STEP}\"t\": AnalysisTemplate t has metric m which runs indefinitely. Invalid value for count: 0"
        )]
    );
    let endless = Known::default().template(
        "t",
        json!({"metrics": [metric("m", &json!({"interval": "5s"}))]}),
    );
    assert_eq!(
        faults(&step(&templates, &json!([])), &endless),
        [format!(
            "{STEP}\"t\": AnalysisTemplate t has metric m which runs indefinitely. Invalid value for count: <nil>"
        )]
    );
    let background = json!({"canary": {"analysis": {"templates": templates}}});
    assert_eq!(faults(&background, &endless), NONE);
}

#[test]
fn analysis_27_two_templates_with_one_metric_make_the_rollout_invalid() {
    let spec = json!({"metrics": [metric("m", &json!({}))]});
    let known = Known::default()
        .template("a", spec.clone())
        .template("b", spec);
    assert_eq!(
        faults(
            &step(
                &json!([{"templateName": "a"}, {"templateName": "b"}]),
                &json!([])
            ),
            &known
        ),
        [format!(
            "{STEP}\"templateNames: [a b]\": two metrics have the same name 'm'"
        )]
    );
}

#[test]
fn analysis_28_templates_that_nest_each_other_count_once() {
    let known = Known::default()
        .template(
            "a",
            json!({"metrics": [metric("m", &json!({}))], "templates": [{"templateName": "b"}]}),
        )
        .template(
            "b",
            json!({"metrics": [metric("n", &json!({}))], "templates": [{"templateName": "a"}]}),
        );
    assert_eq!(
        faults(&step(&json!([{"templateName": "a"}]), &json!([])), &known),
        NONE
    );
}

#[test]
fn arguments_of_an_analysis_are_given_or_have_a_default() {
    let known = Known::default().template(
        "t",
        json!({
            "args": [{"name": "service"}],
            "metrics": [metric("m", &json!({"successCondition": "result == \"{{args.service}}\""}))],
        }),
    );
    let templates = json!([{"templateName": "t"}]);
    assert_eq!(
        faults(&step(&templates, &json!([])), &known),
        [format!(
            "{STEP}\"templateNames: [t]\": args.service was not resolved"
        )]
    );
    for given in [
        json!({"name": "service", "value": "web"}),
        json!({"name": "service"}),
    ] {
        assert_eq!(faults(&step(&templates, &json!([given])), &known), NONE);
    }
    let unknown = Known::default().template(
        "t",
        json!({"metrics": [metric("m", &json!({"successCondition": "{{args.x}}"}))]}),
    );
    assert_eq!(
        faults(&step(&templates, &json!([])), &unknown),
        [format!(
            "{STEP}\"t\": AnalysisTemplate t: failed to resolve {{{{args.x}}}}"
        )]
    );
    let twice = json!({"canary": {"steps": [{"analysis": {
        "templates": templates, "args": [{"name": "service", "value": "a"}], "dryRun": [{"metricName": ".*"}],
    }}]}});
    let known = Known::default().template(
        "t",
        json!({"args": [{"name": "service"}], "metrics": [metric("m", &json!({}))], "dryRun": [{"metricName": ".*"}]}),
    );
    assert_eq!(
        faults(&twice, &known),
        [
            "spec.strategy.canary.steps[0].analysis.templates: Invalid value: \"templateNames: [t]\": two Dry-Run metric rules have the same name '.*'"
        ]
    );
}

#[test]
fn an_ingress_is_named_once_exists_and_leads_to_the_stable_service() {
    let nginx = |settings: Value| json!({"canary": {"stableService": "s", "canaryService": "c", "trafficRouting": {"nginx": settings}}});
    let services = || {
        Known::default()
            .service("s", &[], None)
            .service("c", &[], None)
    };
    let path = "spec.strategy.canary.trafficRouting.nginx";
    let table = [
        (
            json!({"stableIngress": "i", "stableIngresses": ["j"]}),
            format!(
                "{path}: Internal error: Either StableIngress or StableIngresses must be configured. Both are configured."
            ),
        ),
        (
            json!({}),
            format!(
                "{path}: Internal error: Either StableIngress or StableIngresses must be configured. Neither are configured."
            ),
        ),
        (
            json!({"stableIngress": "i"}),
            format!(
                "{path}.stableIngress: Invalid value: \"i\": ingress.networking.k8s.io \"i\" not found"
            ),
        ),
        (
            json!({"stableIngresses": ["j"]}),
            format!(
                "{path}.StableIngresses: Invalid value: [\"j\"]: ingress.networking.k8s.io \"j\" not found"
            ),
        ),
    ];
    for (settings, expected) in table {
        assert_eq!(
            faults(&nginx(settings.clone()), &services()),
            [expected],
            "{settings}"
        );
    }
    let ingress =
        |backend: Value| json!({"spec": {"rules": [{"http": {"paths": [{"backend": backend}]}}]}});
    let with = |backend: Value| services().object(RouterKind::Ingress, "i", ingress(backend));
    let one = nginx(json!({"stableIngress": "i"}));
    assert_eq!(faults(&one, &with(json!({"service": {"name": "s"}}))), NONE);
    assert_eq!(faults(&one, &with(json!({"serviceName": "s"}))), NONE);
    for other in [
        json!({"service": {"name": "x"}}),
        json!({"resource": {"kind": "Bucket"}}),
    ] {
        assert_eq!(
            faults(&one, &with(other)),
            [format!(
                "{path}.stableIngress: Invalid value: \"i\": ingress `i` has no rules using service s backend"
            )]
        );
    }
    let alb = json!({"canary": {"stableService": "s", "canaryService": "c", "trafficRouting": {
        "alb": {"ingress": "i", "rootService": "root", "servicePort": 80},
    }}});
    assert_eq!(
        faults(&alb, &with(json!({"service": {"name": "s"}}))),
        [
            "spec.strategy.canary.trafficRouting.alb.ingress: Invalid value: \"i\": ingress `i` has no rules using service root backend"
        ]
    );
}

fn istio(settings: &Value) -> Value {
    json!({"canary": {"stableService": "s", "canaryService": "c", "trafficRouting": {
        "istio": settings, "managedRoutes": [{"name": "managed"}],
    }}})
}

const ISTIO: &str = "spec.strategy.canary.trafficRouting.istio";

fn with_virtual_service(spec: &Value) -> Known {
    Known::default()
        .service("s", &[], None)
        .service("c", &[], None)
        .object(RouterKind::VirtualService, "v", json!({"spec": spec}))
}

fn route(name: &str, hosts: &[&str]) -> Value {
    let hosts: Vec<_> = hosts
        .iter()
        .map(|host| json!({"destination": {"host": host}}))
        .collect();
    json!({"name": name, "route": hosts})
}

#[test]
fn virtual_services_are_named_by_one_field_and_exist() {
    let known =
        with_virtual_service(&json!({"http": [route("a", &["s.shop.svc.cluster.local", "c"])]}));
    let internal = format!(
        "{ISTIO}: Internal error: either VirtualService or VirtualServices must be configured"
    );
    assert_eq!(
        faults(&istio(&json!({})), &known),
        std::slice::from_ref(&internal)
    );
    let both = json!({"virtualService": {"name": "v"}, "virtualServices": [{"name": "v"}]});
    assert_eq!(faults(&istio(&both), &known), [internal]);
    for name in ["v", "v.shop", "v.shop.cluster.local"] {
        assert_eq!(
            faults(&istio(&json!({"virtualService": {"name": name}})), &known),
            NONE,
            "{name}"
        );
    }
    assert_eq!(
        faults(&istio(&json!({"virtualServices": [{"name": "w"}]})), &known),
        [format!(
            "{ISTIO}.virtualServices.name: Invalid value: \"w\": virtualservices.networking.istio.io \"w\" not found"
        )]
    );
}

#[test]
fn a_virtual_service_has_the_routes_that_are_split_and_both_sides_in_each() {
    let one = |settings: &Value, spec: Value| {
        let mut reference = json!({"name": "v"});
        merge_patch::apply(&mut reference, settings);
        faults(
            &istio(&json!({"virtualService": reference})),
            &with_virtual_service(&spec),
        )
    };
    let path = format!("{ISTIO}.virtualService.name: Invalid value: \"v\"");
    let http = |text: &str| {
        [format!(
            "{path}: Istio VirtualService has invalid HTTP routes. Error: {text}"
        )]
    };
    let omit = "spec.http[] should be set in VirtualService and it must have exactly one route when omitting spec.strategy.canary.trafficRouting.istio.virtualService.routes";
    assert_eq!(
        one(&json!({}), json!({})),
        [format!(
            "{path}: Unable to get any of the HTTP, TCP or TLS routes for the Istio VirtualService"
        )]
    );
    assert_eq!(
        one(&json!({}), json!({"http": "oops"})),
        [format!(
            "{path}: Unable to get HTTP routes for Istio VirtualService"
        )]
    );
    assert_eq!(
        one(
            &json!({"routes": ["b"]}),
            json!({"http": [route("a", &["s", "c"])]})
        ),
        http("HTTP Route 'b' is not found in the defined Virtual Service.")
    );
    assert_eq!(
        one(
            &json!({}),
            json!({"http": [route("a", &["s", "c"]), route("b", &["s", "c"])]})
        ),
        http(omit)
    );
    assert_eq!(
        one(
            &json!({}),
            json!({"http": [route("a", &["s", "c"]), route("managed", &["c"])]})
        ),
        NONE
    );
    assert_eq!(
        one(&json!({}), json!({"http": [route("a", &["s"])]})),
        http("Canary Service 'c' not found in route")
    );
    assert_eq!(
        one(&json!({}), json!({"http": [route("a", &["c"])]})),
        http("Stable Service 's' not found in route")
    );

    let tls = |port: i64| {
        json!({"match": [{"port": port, "sniHosts": ["a.example"]}], "route": [
            {"destination": {"host": "s"}}, {"destination": {"host": "c"}},
        ]})
    };
    let spec = json!({"tls": [tls(443), tls(8443)]});
    assert_eq!(
        one(
            &json!({"tlsRoutes": [{"port": 8443, "sniHosts": ["a.example"]}]}),
            spec.clone()
        ),
        NONE
    );
    assert_eq!(
        one(&json!({"tlsRoutes": [{"port": 1}]}), spec),
        [format!(
            "{path}: Istio VirtualService has invalid TLS routes. Error: No matching TLS routes found in the defined Virtual Service."
        )]
    );
    let tcp = json!({"tcp": [{"match": [{"port": 9}], "route": [{"destination": {"host": "s"}}, {"destination": {"host": "c"}}]}]});
    assert_eq!(one(&json!({}), tcp.clone()), NONE);
    assert_eq!(
        one(&json!({"tcpRoutes": [{"port": 7}]}), tcp),
        [format!(
            "{path}: Istio VirtualService has invalid TCP routes. Error: No matching TCP routes found in the defined Virtual Service."
        )]
    );
}

#[test]
fn a_destination_rule_splits_by_subsets_instead_of_services() {
    let settings = json!({
        "virtualService": {"name": "v"},
        "destinationRule": {"name": "d", "canarySubsetName": "new", "stableSubsetName": "old"},
    });
    let spec = |subsets: &[&str]| {
        let route: Vec<_> = subsets
            .iter()
            .map(|subset| json!({"destination": {"host": "h", "subset": subset}}))
            .collect();
        json!({"http": [{"route": route}]})
    };
    let known = |subsets: &[&str]| {
        with_virtual_service(&spec(subsets)).object(RouterKind::DestinationRule, "d", json!({}))
    };
    assert_eq!(faults(&istio(&settings), &known(&["new", "old"])), NONE);
    let path = format!(
        "{ISTIO}.virtualService.name: Invalid value: \"v\": Istio VirtualService has invalid HTTP routes. Error: "
    );
    assert_eq!(
        faults(&istio(&settings), &known(&["old"])),
        [format!(
            "{path}Canary DestinationRule subset 'new' not found in route"
        )]
    );
    assert_eq!(
        faults(&istio(&settings), &known(&["new"])),
        [format!(
            "{path}Stable DestinationRule subset 'old' not found in route"
        )]
    );
    assert_eq!(
        faults(
            &istio(&settings),
            &with_virtual_service(&spec(&["new", "old"]))
        ),
        [format!(
            "{ISTIO}.destinationRule.name: Invalid value: \"d\": destinationrules.networking.istio.io \"d\" not found"
        )]
    );
}

#[test]
fn mappings_exist_and_carry_no_weight() {
    let strategy = |mappings: Value| json!({"canary": {"stableService": "s", "canaryService": "c", "trafficRouting": {"ambassador": {"mappings": mappings}}}});
    let known = || {
        Known::default()
            .service("s", &[], None)
            .service("c", &[], None)
    };
    let path = "spec.strategy.canary.trafficRouting.ambassador.mappings: Invalid value: ";
    assert_eq!(
        faults(&strategy(json!([])), &known()),
        [format!("{path}null: must provide at least one mapping")]
    );
    assert_eq!(
        faults(&strategy(json!(["m"])), &known()),
        [format!(
            "{path}\"m\": mappings.getambassador.io \"m\" not found"
        )]
    );
    let heavy = known().object(RouterKind::Mapping, "m", json!({"spec": {"weight": 5}}));
    assert_eq!(
        faults(&strategy(json!(["m"])), &heavy),
        ["spec.weight: Invalid value: \"m\": Ambassador mapping \"m\" can not define weight"]
    );
}

#[test]
fn an_app_mesh_router_has_two_targets_in_every_route() {
    let strategy = json!({"canary": {"stableService": "s", "canaryService": "c", "trafficRouting": {"appMesh": {
        "virtualService": {"name": "v"},
        "virtualNodeGroup": {"canaryVirtualNodeRef": {"name": "a"}, "stableVirtualNodeRef": {"name": "b"}},
    }}}});
    let known = |router: Value| {
        Known::default()
            .service("s", &[], None)
            .service("c", &[], None)
            .object(
                RouterKind::AppMeshVirtualService,
                "v",
                json!({"spec": {"provider": {"virtualRouter": {"virtualRouterRef": {"name": "r"}}}}}),
            )
            .object(RouterKind::AppMeshVirtualRouter, "r", router)
    };
    let targets = |count: usize| json!({"spec": {"routes": [{"name": "p", "httpRoute": {"action": {"weightedTargets": vec![json!({}); count]}}}]}});
    assert_eq!(faults(&strategy, &known(targets(2))), NONE);
    assert_eq!(
        faults(&strategy, &known(targets(1))),
        [
            "spec.routes[0].httpRoute.action.weightedTargets: Invalid value: \"r\": Invalid number of weightedTargets (1) for AppMesh virtual-router r and route p, expected 2"
        ]
    );
    assert_eq!(
        faults(&strategy, &known(json!({"spec": {}}))),
        ["spec.routes: Invalid value: \"r\": No routes defined for AppMesh virtual-router r"]
    );
    let missing = Known::default()
        .service("s", &[], None)
        .service("c", &[], None);
    assert_eq!(
        faults(&strategy, &missing),
        [
            "spec.strategy.canary.trafficRouting.appmesh.virtualService: Invalid value: \"v.shop\": virtualservices.appmesh.k8s.aws \"v\" not found"
        ]
    );
}
