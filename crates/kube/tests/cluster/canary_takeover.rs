//! Canaries that another controller left in the middle of a release are carried on from where they stand.

use std::path::Path;

use crossfade_test_cluster::{Actor, Trouble};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::canary_stage::{phase, until_phase, until_told, wants, weight};
use crate::stage::{Canary, Stage};

/// Puts the objects of a moment into a namespace where nobody works yet, as Flagger left them.
async fn load(stage: &Stage, beside: &Beside, moment: &str) -> Result<(), Trouble> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/takeover-canaries");
    let text = std::fs::read_to_string(folder.join(format!("{moment}.json"))).unwrap();
    let text = text.replace("127.0.0.1:19090", &beside.address.to_string());
    let moment: Value = serde_json::from_str(&text).unwrap();
    let client = stage.namespace.cluster().client(Actor::Admin).await?;
    let name = stage.namespace.name();
    let mut objects = moment["items"].as_array().unwrap().clone();
    objects.retain(|object| object["kind"] != "ConfigMap");
    objects.sort_by_key(|object| object["kind"] != "Canary");
    let mut uid = Value::Null;
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let version = object["apiVersion"].as_str().unwrap().to_owned();
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let status = object.as_object_mut().unwrap().remove("status");
        let metadata = object["metadata"].as_object_mut().unwrap();
        for member in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
            metadata.remove(member);
        }
        metadata.insert("namespace".to_owned(), json!(name));
        if let Some(owners) = metadata.get_mut("ownerReferences") {
            owners[0]["uid"] = uid.clone();
        }
        if kind == "Service" {
            for member in ["clusterIP", "clusterIPs"] {
                object["spec"].as_object_mut().unwrap().remove(member);
            }
        }
        if kind == "Canary" {
            object["spec"]["metricsServer"] = json!(format!("http://{}", beside.address));
        }
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), name, &resource);
        let own = object["metadata"]["name"].as_str().unwrap().to_owned();
        let merge = PatchParams::default();
        if kind == "Deployment" && own == "app" {
            // The version before has its ReplicaSet.
            let image = object["spec"]["template"]["spec"]["containers"][0]["image"].clone();
            let mut first = object.clone();
            let text = image.as_str().unwrap().replace(":v2", ":v1");
            first["spec"]["template"]["spec"]["containers"][0]["image"] = json!(text);
            let first: DynamicObject = serde_json::from_value(first).unwrap();
            api.create(&PostParams::default(), &first).await.unwrap();
            let seen = |deployment: &Deployment| {
                let status = deployment.status.as_ref();
                status.and_then(|one| one.observed_generation) == Some(1)
            };
            stage
                .namespace
                .until(&own, "its first version", seen)
                .await?;
            let patch = Patch::Merge(json!({"spec": {"template": object["spec"]["template"]}}));
            api.patch(&own, &merge, &patch).await.unwrap();
        } else {
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            let made = api.create(&PostParams::default(), &object).await.unwrap();
            if kind == "Canary" {
                uid = json!(made.metadata.uid);
                let patch = Patch::Merge(json!({"status": status}));
                api.patch_status(&own, &merge, &patch).await.unwrap();
            }
        }
        if kind == "Deployment" {
            let ready = |deployment: &Deployment| {
                let (spec, status) = (deployment.spec.as_ref(), deployment.status.as_ref());
                let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
                status.is_some_and(|status| {
                    status.available_replicas.unwrap_or(0) == wanted
                        && status.updated_replicas.unwrap_or(0) == wanted
                        && status.replicas.unwrap_or(0) == wanted
                        && status.observed_generation == deployment.metadata.generation
                })
            };
            stage.namespace.until(&own, "its pods", ready).await?;
        }
    }
    Ok(())
}

/// A namespace with what Flagger left, and a controller that finds it.
async fn taken_over(beside: &Beside, moment: &str) -> Result<Stage, Trouble> {
    let mut stage = Stage::without_controller().await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    load(&stage, beside, moment).await?;
    stage.start().await?;
    Ok(stage)
}

#[tokio::test]
async fn a_release_at_20_percent_is_carried_on_from_there() -> Result<(), Trouble> {
    let beside = Beside::new().await;
    let stage = taken_over(&beside, "nginx-promotes.at-20").await?;
    let at_30 = |canary: &Canary| canary.status["canaryWeight"] == 30;
    stage.namespace.until("app", "weight 30", at_30).await?;
    let told = stage.told("Canary").await;
    let restarted = told
        .iter()
        .find(|text| text.contains("New revision detected"));
    assert_eq!(restarted, None, "{told:#?}");
    until_phase(&stage, "app", "Succeeded").await?;
    let (image, replicas) = wants(&stage, "app-primary").await;
    assert!(
        image.ends_with(":v2") && replicas == 2,
        "{image} {replicas}"
    );
    Ok(())
}

#[tokio::test]
async fn a_release_that_waits_for_approval_goes_on_waiting() -> Result<(), Trouble> {
    let beside = Beside::new().await;
    beside.close("rollout-gate");
    beside.close("back");
    let stage = taken_over(&beside, "nginx-gates.waiting").await?;
    beside.until_called("rollout-gate").await;
    let waiting = stage.namespace.api::<Canary>().get("app").await.unwrap();
    assert_eq!(phase(&waiting), "Waiting");
    assert_eq!(wants(&stage, "app").await.1, 0);
    beside.open("rollout-gate");
    until_phase(&stage, "app", "Succeeded").await?;
    let (image, _) = wants(&stage, "app-primary").await;
    assert!(image.ends_with(":v2"), "{image}");
    Ok(())
}

#[tokio::test]
async fn a_release_held_at_10_percent_is_held_until_its_gate_opens() -> Result<(), Trouble> {
    let beside = Beside::new().await;
    beside.close("traffic-gate");
    beside.close("back");
    let stage = taken_over(&beside, "nginx-manual-gating-one-step.held-at-10").await?;
    until_told(&stage, "traffic-gate").await;
    let held = stage.namespace.api::<Canary>().get("app").await.unwrap();
    assert_eq!(
        (phase(&held), &held.status["canaryWeight"]),
        ("Progressing", &json!(10))
    );
    let ingress = stage.namespace.api::<Ingress>().get("app-canary").await;
    assert_eq!(weight(&ingress.unwrap()), "10");
    beside.open("traffic-gate");
    until_phase(&stage, "app", "Succeeded").await?;
    Ok(())
}
