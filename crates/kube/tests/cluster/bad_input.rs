//! What users get wrong is told on the object, and nothing else suffers from it.

use std::sync::Arc;

use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_cluster::{Actor, Cluster, Namespace, Trouble};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::analysis::server_by_leave;
use crate::routers::SERVICES;
use crate::stage::{AnalysisRun, Rollout, Stage};

fn manifest(name: &str, strategy: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: main, image: shop}}]}}
  strategy: {strategy}
"
    )
}

/// What the condition says.
fn invalid(rollout: &Rollout) -> Option<&str> {
    rollout.condition("InvalidSpec")?["message"].as_str()
}

#[tokio::test]
async fn a_bad_spec_is_told_and_everything_else_goes_on() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage
        .namespace
        .apply(&manifest("bad", "{canary: {steps: [{setWeight: 140}]}}"))
        .await?;
    stage
        .namespace
        .apply(&manifest("lost", "{blueGreen: {activeService: nowhere}}"))
        .await?;
    stage
        .namespace
        .apply(&manifest("good", "{canary: {}}"))
        .await?;
    stage.until_healthy("good").await?;
    let bad = stage
        .until("bad", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    let told = invalid(&bad).unwrap();
    assert!(told.contains("spec.strategy.steps[0].setWeight"), "{told}");
    assert_eq!(bad.phase(), "Degraded");
    let lost = stage
        .until("lost", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    assert!(
        invalid(&lost)
            .unwrap()
            .contains("service \"nowhere\" not found")
    );

    // What was lacking comes, and nobody has to ask again.
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: nowhere}\nspec: {selector: {app: lost}, ports: [{port: 80}]}\n";
    stage.namespace.apply(service).await?;
    stage.until_healthy("lost").await?;
    stage
        .change(
            "bad",
            json!({"spec": {"strategy": {"canary": {"steps": [{"setWeight": 40}]}}}}),
        )
        .await;
    stage.until_healthy("bad").await?;
    Ok(())
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_told_by_its_field_and_releases_nothing()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    // The API server looks no deeper into volumes than that they are there.
    let strange = manifest("strange", "{canary: {}}")
        .replace("spec: {containers:", "spec: {volumes: many, containers:");
    let applied = stage.namespace.apply(&strange).await;
    assert!(
        applied.is_ok(),
        "the API server itself refuses it: {applied:?}"
    );
    stage
        .namespace
        .apply(&manifest("good", "{canary: {}}"))
        .await?;
    stage.until_healthy("good").await?;
    let told = stage
        .until("strange", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    assert!(
        invalid(&told).unwrap().contains("volumes"),
        "{:?}",
        invalid(&told)
    );
    assert!(!stage.sizes().await.contains_key("strange"));
    Ok(())
}

#[tokio::test]
async fn a_router_that_nobody_drives_yet_is_told_by_its_name() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let strategy =
        "{canary: {stableService: stable, canaryService: canary, trafficRouting: {smi: {}}}}";
    stage.namespace.apply(&manifest("meshed", strategy)).await?;
    let told = stage
        .until("meshed", "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    assert!(
        invalid(&told).unwrap().contains("trafficRouting.smi"),
        "{:?}",
        invalid(&told)
    );
    Ok(())
}

/// Waits for the condition, and returns what it says.
async fn until_invalid(stage: &Stage, name: &str) -> Result<String, Trouble> {
    let told = stage
        .until(name, "an invalid spec", |rollout| {
            invalid(rollout).is_some()
        })
        .await?;
    Ok(invalid(&told).unwrap().to_owned())
}

#[tokio::test]
async fn what_no_schema_has_kept_out_is_told_by_its_field_and_all_others_go_on()
-> Result<(), Trouble> {
    // Definitions belong to the whole cluster, and these keep nothing out.
    let (cluster, plane) = Cluster::own().await?;
    let mut stage = Stage::on(Namespace::on(cluster, Pace::default()).await?).await?;
    for definition in crossfade_api::crd::crds() {
        let mut definition = serde_json::to_value(definition).unwrap();
        if definition["spec"]["names"]["kind"] == "Rollout" {
            let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = anything;
            stage.define(definition).await?;
        }
    }
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    stage.start().await?;
    let faulty = [
        (
            "worded",
            "{canary: {steps: [{setWeight: many}]}}",
            "setWeight",
        ),
        ("dancing", "{canary: {steps: [{dance: {}}]}}", "steps[0]"),
        ("listed", "{canary: {maxSurge: [1]}}", "maxSurge"),
    ];
    for (name, strategy, _) in faulty {
        // The schema that was there before is forgotten within moments.
        while let Err(why) = stage.namespace.apply(&manifest(name, strategy)).await {
            let why = why.to_string();
            let by_schema = why.contains("invalid") || why.contains("failed to create typed patch");
            assert!(by_schema, "{why}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    let good = manifest("good", "{canary: {}}");
    stage.namespace.apply(&good).await?;
    stage.until_healthy("good").await?;
    for (name, strategy, field) in faulty {
        let told = until_invalid(&stage, name).await?;
        assert!(told.contains(field), "{strategy}: {told}");
    }
    let next = good.replace("image: shop", "image: shop:2");
    stage.namespace.apply(&next).await?;
    stage
        .until("good", "the next version", |rollout| {
            rollout.is_healthy() && rollout.status["availableReplicas"] == 1
        })
        .await?;
    let sizes = stage.sizes().await;
    assert_eq!(sizes.len(), 2, "nothing else is released: {sizes:?}");
    stage
        .change(
            "worded",
            json!({"spec": {"strategy": {"canary": {"steps": [{"setWeight": 40}]}}}}),
        )
        .await;
    stage.until_healthy("worded").await?;
    stage.stop().await;
    drop(stage);
    tokio::task::spawn_blocking(move || drop(plane))
        .await
        .unwrap();
    Ok(())
}

/// A template that asks this server, four times in a second each, and is content below this rate.
fn template(address: std::net::SocketAddr, limit: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {{name: errors}}
spec:
  metrics:
  - name: errors
    interval: 1s
    count: 4
    provider: {{web: {{url: 'http://{address}/', jsonPath: '{{$.rate}}'}}}}
    successCondition: result < {limit}
"
    )
}

async fn until_measured(stage: &Stage) -> Result<AnalysisRun, Trouble> {
    let runs = stage.namespace.api::<AnalysisRun>();
    let name = loop {
        let found = runs.list(&ListParams::default()).await.unwrap().items;
        if let Some(run) = found.into_iter().next() {
            break run.metadata.name.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let measured = |run: &AnalysisRun| run.status["metricResults"][0]["count"] == 1;
    stage
        .namespace
        .until(&name, "a measurement", measured)
        .await
}

#[tokio::test]
async fn a_template_that_changes_or_goes_during_a_run_changes_nothing_about_the_run()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let leave = Arc::new(Semaphore::new(0));
    let address = server_by_leave("{\"rate\": 0.01}", Arc::clone(&leave)).await;
    let strategy = "{canary: {steps: [{analysis: {templates: [{templateName: errors}]}}]}}";
    let shop = manifest("shop", strategy);

    // Missing from the start.
    stage.namespace.apply(&shop).await?;
    let told = until_invalid(&stage, "shop").await?;
    assert!(
        told.contains("errors") && told.contains("not found"),
        "{told}"
    );
    stage.namespace.apply(&template(address, "0.05")).await?;
    stage.until_healthy("shop").await?;

    // Changed: what runs keeps its words, which are kinder.
    stage
        .namespace
        .apply(&shop.replace("image: shop", "image: shop:2"))
        .await?;
    leave.add_permits(1);
    let run = until_measured(&stage).await?;
    stage.namespace.apply(&template(address, "0.001")).await?;
    leave.add_permits(3);
    stage.until_healthy("shop").await?;
    let name = run.metadata.name.unwrap();
    let runs = stage.namespace.api::<AnalysisRun>();
    let ended = runs.get(&name).await.unwrap();
    assert_eq!(ended.status["phase"], "Successful");
    assert_eq!(ended.status["metricResults"][0]["count"], 4);
    runs.delete(&name, &DeleteParams::default()).await.unwrap();

    // Gone: that is told, what runs goes on, and the release when it is back.
    stage.namespace.apply(&template(address, "0.05")).await?;
    stage
        .namespace
        .apply(&shop.replace("image: shop", "image: shop:3"))
        .await?;
    leave.add_permits(1);
    let name = until_measured(&stage).await?.metadata.name.unwrap();
    let templates = kube::api::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
        "argoproj.io",
        "v1alpha1",
        "AnalysisTemplate",
    ));
    let client = stage.namespace.cluster().client(Actor::Admin).await?;
    let templates: kube::Api<kube::api::DynamicObject> =
        kube::Api::namespaced_with(client, stage.namespace.name(), &templates);
    templates
        .delete("errors", &DeleteParams::default())
        .await
        .unwrap();
    let told = until_invalid(&stage, "shop").await?;
    assert!(
        told.contains("errors") && told.contains("not found"),
        "{told}"
    );
    leave.add_permits(3);
    let has_ended = |run: &AnalysisRun| run.status["phase"] == "Successful";
    stage.namespace.until(&name, "its end", has_ended).await?;
    stage.namespace.apply(&template(address, "0.05")).await?;
    stage.until_healthy("shop").await?;
    assert_eq!(stage.sizes().await["shop:3"], 1);
    Ok(())
}

fn routed(name: &str, image: &str) -> String {
    let strategy = "{canary: {stableService: stable, canaryService: canary, trafficRouting: {nginx: {stableIngress: web}}, steps: [{setWeight: 40}, {pause: {}}]}}";
    manifest(name, strategy).replace("image: shop", &format!("image: {image}"))
}

#[tokio::test]
async fn a_service_of_another_rollout_is_told_and_left_to_it() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: stable}\nspec: {selector: {team: shops}, ports: [{port: 80}]}\n";
    stage.namespace.apply(service).await?;
    let of_team = |name: &str| {
        let manifest = manifest(name, "{blueGreen: {activeService: stable}}");
        let labels = format!("metadata: {{labels: {{app: {name}");
        manifest.replace(&labels, &format!("{labels}, team: shops"))
    };
    stage.namespace.apply(&of_team("first")).await?;
    let first = stage.until_healthy("first").await?;
    stage.namespace.apply(&of_team("second")).await?;
    let told = until_invalid(&stage, "second").await?;
    let expected = "Service \"stable\" is managed by another Rollout";
    assert!(told.contains(expected), "{told}");
    assert_eq!(stage.selected("stable").await, first.status["stableRS"]);
    let services = stage.namespace.api::<Service>();
    let notes = services
        .get("stable")
        .await
        .unwrap()
        .metadata
        .annotations
        .unwrap();
    assert_eq!(
        notes["argo-rollouts.argoproj.io/managed-by-rollouts"],
        "first"
    );
    Ok(())
}

#[tokio::test]
async fn an_ingress_of_somebody_else_by_the_name_of_the_canarys_is_told_and_left_alone()
-> Result<(), Trouble> {
    let mut stage = Stage::new().await?;
    stage.namespace.apply(SERVICES).await?;
    let rule = |service: &str| {
        json!({"http": {"paths": [{"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": service, "port": {"number": 80}}}}]}})
    };
    let ingress = |name: &str| -> Ingress {
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
            "spec": {"ingressClassName": "nginx", "rules": [rule("stable")]},
        });
        serde_json::from_value(object).unwrap()
    };
    let ingresses = stage.namespace.api::<Ingress>();
    let parameters = PostParams::default();
    ingresses
        .create(&parameters, &ingress("web"))
        .await
        .unwrap();
    stage.namespace.apply(&routed("shop", "shop:1")).await?;
    stage.until_healthy("shop").await?;
    stage.stop().await;
    let gone = DeleteParams::default();
    ingresses.delete("shop-web-canary", &gone).await.unwrap();
    let theirs = ingress("shop-web-canary");
    let theirs = ingresses.create(&parameters, &theirs).await.unwrap();
    stage.start().await?;
    stage.namespace.apply(&routed("shop", "shop:2")).await?;
    stage.until_told("Rollout", "shop-web-canary").await;
    let now = ingresses.get("shop-web-canary").await.unwrap();
    assert_eq!(
        now.metadata.resource_version,
        theirs.metadata.resource_version
    );

    ingresses.delete("shop-web-canary", &gone).await.unwrap();
    stage
        .until("shop", "the pause", |rollout| rollout.is_paused_at(1))
        .await?;
    Ok(())
}

#[tokio::test]
async fn routes_that_are_missing_are_told_and_waited_for() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let (group, version) = ("networking.istio.io", "v1alpha3");
    crate::routers::objects(&stage, group, version, "VirtualService", "virtualservices").await?;
    stage.namespace.apply(SERVICES).await?;
    let routing = "{istio: {virtualService: {name: web, routes: [main]}}}";
    let strategy = format!(
        "{{canary: {{stableService: stable, canaryService: canary, trafficRouting: {routing}, steps: [{{setWeight: 40}}, {{pause: {{}}}}]}}}}"
    );
    stage.namespace.apply(&manifest("shop", &strategy)).await?;
    let told = until_invalid(&stage, "shop").await?;
    assert!(told.contains("web"), "{told}");
    assert!(stage.sizes().await.is_empty(), "nothing is released");
    let route = |name: &str| -> Value {
        json!({
            "apiVersion": format!("{group}/{version}"), "kind": "VirtualService", "metadata": {"name": "web"},
            "spec": {"hosts": ["web"], "http": [{"name": name, "route": [
                {"destination": {"host": "stable"}, "weight": 100},
                {"destination": {"host": "canary"}, "weight": 0},
            ]}]},
        })
    };
    // It is there, but not the route that is named.
    stage.namespace.apply(&route("other").to_string()).await?;
    stage
        .until("shop", "the route that is missing", |rollout| {
            rollout.status["conditions"].to_string().contains("main")
        })
        .await?;
    stage.namespace.apply(&route("main").to_string()).await?;
    stage.until_healthy("shop").await?;
    Ok(())
}
