//! The Services of Canaries.

use serde_json::{Value, json};

use super::bed::{Bed, canary, deployment};

fn service<'a>(bed: &'a Bed, name: &str) -> &'a Value {
    bed.stage.object("Service", name).expect("it is there")
}

#[test]
fn flagger_routing_01_three_services_are_made() {
    let mut bed = Bed::new(&canary("istio", &json!({})), &[]);
    bed.until("Initialized");
    let uid = bed.stage.object("Canary", "shop").expect("there")["metadata"]["uid"].clone();
    for (name, selects) in [
        ("shop", "shop-primary"),
        ("shop-primary", "shop-primary"),
        ("shop-canary", "shop"),
    ] {
        let service = service(&bed, name);
        assert_eq!(service["spec"]["selector"], json!({"app": selects}));
        assert_eq!(
            service["spec"]["ports"],
            json!([{"name": "http", "protocol": "TCP", "port": 8080, "targetPort": 8080}])
        );
        assert_eq!(service["spec"]["type"], "ClusterIP");
        let metadata = &service["metadata"];
        assert_eq!(metadata["labels"], json!({"app": name}));
        assert_eq!(
            metadata["annotations"],
            json!({
                "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
                "helm.toolkit.fluxcd.io/driftDetection": "disabled",
            })
        );
        assert_eq!(
            metadata["ownerReferences"],
            json!([{
                "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "shop", "uid": uid,
                "controller": true, "blockOwnerDeletion": true,
            }])
        );
    }
}

fn with_ports(containers: &Value, service: &Value) -> Bed {
    let mut target = deployment();
    target["spec"]["template"]["spec"]["containers"] = containers.clone();
    let canary = canary("istio", &json!({"service": service}));
    let mut bed = Bed::with(&[target, canary], &[]);
    bed.until("Initialized");
    bed
}

fn ports(bed: &Bed, service_name: &str) -> Vec<(String, i64)> {
    let ports = service(bed, service_name)["spec"]["ports"].as_array();
    let ports = ports.into_iter().flatten();
    ports
        .map(|port| {
            let name = port["name"].as_str().unwrap_or_default().to_owned();
            (name, port["port"].as_i64().unwrap_or(0))
        })
        .collect()
}

#[test]
fn flagger_routing_02_further_ports_are_found() {
    let bed = with_ports(
        &json!([
            {"name": "web", "image": "shop:v1", "ports": [{"containerPort": 8080}, {"containerPort": 9090}]},
            {"name": "istio-proxy", "image": "proxy", "ports": [{"name": "metrics", "containerPort": 15090}]},
        ]),
        &json!({"portDiscovery": true}),
    );
    for name in ["shop", "shop-primary", "shop-canary"] {
        let wanted = [("http".to_owned(), 8080), ("tcp-web-1".to_owned(), 9090)];
        assert_eq!(ports(&bed, name), wanted, "{name}");
    }
}

#[test]
fn flagger_routing_03_a_port_with_the_name_of_the_main_one_is_named_anew() {
    let bed = with_ports(
        &json!([{"name": "web", "image": "shop:v1", "ports": [
            {"containerPort": 8080},
            {"name": "http", "containerPort": 9090},
        ]}]),
        &json!({"portDiscovery": true}),
    );
    for name in ["shop", "shop-primary", "shop-canary"] {
        let wanted = [("http".to_owned(), 8080), ("tcp-web-1".to_owned(), 9090)];
        assert_eq!(ports(&bed, name), wanted, "{name}");
    }
    assert_eq!(bed.told("named anew: http (9090) as tcp-web-1"), 1);
    assert_eq!(bed.told("named anew"), 1);
}

#[test]
fn flagger_routing_04_a_service_of_somebody_else_is_adopted_and_given_back() {
    for last_applied in [None, Some(json!({"tier": "front"}))] {
        let mut own = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "shop", "labels": {"team": "a"}, "annotations": {}},
            "spec": {
                "type": "LoadBalancer",
                "selector": {"tier": "front"},
                "ports": [{"name": "http", "protocol": "TCP", "port": 8080, "targetPort": 8080, "nodePort": 30123}],
            },
        });
        if let Some(selector) = &last_applied {
            let text = json!({"spec": {"selector": selector}}).to_string();
            own["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
                json!(text);
        }
        let canary = canary("istio", &json!({"revertOnDeletion": true}));
        let mut bed = Bed::with(&[deployment(), own.clone(), canary], &[]);
        bed.until("Initialized");
        let adopted = service(&bed, "shop").clone();
        assert_eq!(adopted["spec"]["type"], "LoadBalancer");
        assert_eq!(adopted["spec"]["ports"], own["spec"]["ports"]);
        assert_eq!(adopted["metadata"]["labels"], json!({"team": "a"}));
        assert_eq!(adopted["metadata"]["ownerReferences"], Value::Null);
        assert_eq!(adopted["spec"]["selector"], json!({"app": "shop-primary"}));
        bed.stage.delete("Canary", "shop");
        bed.until_true("gone", |bed| bed.stage.object("Canary", "shop").is_none());
        let back = last_applied.unwrap_or(json!({"app": "shop"}));
        assert_eq!(service(&bed, "shop")["spec"]["selector"], back);
    }
}

#[test]
fn flagger_routing_05_annotations_that_others_look_after_stay() {
    let canary = canary(
        "istio",
        &json!({"service": {"unmanagedMetadata": {"annotations": ["x"]}}}),
    );
    let mut bed = Bed::new(&canary, &[]);
    bed.until("Initialized");
    for name in ["shop", "shop-primary", "shop-canary"] {
        bed.stage.patch(
            "Service",
            name,
            &json!({"metadata": {"annotations": {"x": "1", "y": "2"}}}),
        );
    }
    bed.stage.ticks(1);
    for name in ["shop", "shop-primary", "shop-canary"] {
        let annotations = &service(&bed, name)["metadata"]["annotations"];
        assert_eq!(annotations["x"], "1", "{name}");
        assert_eq!(annotations["y"], Value::Null, "{name}");
    }
}
