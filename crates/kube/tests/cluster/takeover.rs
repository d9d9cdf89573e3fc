//! Objects as older controllers left them, put on a real API server: nothing starts anew, hardly anything is written, and releases go on to
//! their end.

use std::path::Path;

use crossfade_test_cluster::{Actor, Request, Trouble};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::stage::{Rollout, Stage};

/// A Rollout beside: once it is healthy, everything that was there before has been looked at.
pub(crate) const OTHER: &str = "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: other}
spec:
  replicas: 1
  selector: {matchLabels: {app: other}}
  template:
    metadata: {labels: {app: other}}
    spec: {containers: [{name: main, image: other}]}
  strategy: {canary: {}}
";

/// Puts the objects of a moment into a namespace where nobody works yet, and waits until their pods are there.
async fn load(stage: &Stage, moment: &str) -> Result<(), Trouble> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/takeover");
    let text = std::fs::read_to_string(path.join(format!("{moment}.json"))).unwrap();
    load_all(stage, &serde_json::from_str(&text).unwrap()).await
}

/// Puts objects into a namespace where nobody works yet, and waits until their pods are there.
pub(crate) async fn load_all(stage: &Stage, moment: &Value) -> Result<(), Trouble> {
    let client = stage.namespace.cluster().client(Actor::Admin).await?;
    let name = stage.namespace.name();
    let mut objects: Vec<Value> = moment["items"].as_array().unwrap().clone();
    // What owns comes before what is owned.
    objects.sort_by_key(|object| object["kind"] != "Rollout");
    let mut uid = Value::Null;
    for mut object in objects {
        let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (
                String::new(),
                object["apiVersion"].as_str().unwrap().to_owned(),
            ),
        };
        let kind = object["kind"].as_str().unwrap().to_owned();
        let metadata = object["metadata"].as_object_mut().unwrap();
        for member in [
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "managedFields",
        ] {
            metadata.remove(member);
        }
        metadata.insert("namespace".to_owned(), json!(name));
        if let Some(owners) = metadata.get_mut("ownerReferences") {
            owners[0]["uid"] = uid.clone();
        }
        // A run keeps its status with everything else.
        let status = match kind.as_str() {
            "AnalysisRun" => None,
            _ => object.as_object_mut().unwrap().remove("status"),
        };
        if kind == "Service" {
            for member in ["clusterIP", "clusterIPs"] {
                object["spec"].as_object_mut().unwrap().remove(member);
            }
        }
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, &version, &kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), name, &resource);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let made = api.create(&PostParams::default(), &object).await.unwrap();
        let made_name = made.metadata.name.clone().unwrap();
        if kind == "Rollout" {
            uid = json!(made.metadata.uid);
            let mut status = status.unwrap();
            status["observedGeneration"] = json!(made.metadata.generation.unwrap().to_string());
            stage.change_status(&made_name, status).await;
        } else if kind == "ReplicaSet" {
            let has_its_pods = |set: &ReplicaSet| {
                let wanted = set
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.replicas)
                    .unwrap_or(0);
                let there = set
                    .status
                    .as_ref()
                    .and_then(|status| status.available_replicas);
                there.unwrap_or(0) == wanted
            };
            stage
                .namespace
                .until(&made_name, "all pods", has_its_pods)
                .await?;
        }
    }
    Ok(())
}

/// The writes so far that change the Rollout or what it owns.
fn writes(stage: &Stage) -> Vec<(String, Value)> {
    let cluster = stage.namespace.cluster();
    let requests = cluster
        .requests(Actor::Crossfade, stage.namespace.name())
        .unwrap();
    let writes = requests.unwrap_or_default().into_iter().filter(writes_to);
    writes
        .map(|request| {
            (
                format!("{} {}", request.verb, request.resource),
                request.body,
            )
        })
        .collect()
}

/// A write that changes the Rollout or what it owns.
pub(crate) fn writes_to(request: &Request) -> bool {
    request.name.starts_with("app")
        && request.resource != "events"
        && !["get", "list", "watch"].contains(&request.verb.as_str())
}

pub(crate) async fn set_names(stage: &Stage) -> Vec<String> {
    let sets = stage.namespace.api::<ReplicaSet>();
    let sets = sets.list(&kube::api::ListParams::default()).await.unwrap();
    let names = sets.into_iter().filter_map(|set| set.metadata.name);
    names.filter(|name| name.starts_with("app")).collect()
}

/// Takes a moment over; the Rollout as it then is.
async fn take_over(moment: &str) -> Result<(Stage, Rollout), Trouble> {
    let mut stage = Stage::without_controller().await?;
    load(&stage, moment).await?;
    let sets = set_names(&stage).await;
    let before = stage.namespace.api::<Rollout>().get("app").await.unwrap();
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    stage.start().await?;
    stage.namespace.apply(OTHER).await?;
    stage.until_healthy("other").await?;

    let after = stage.namespace.api::<Rollout>().get("app").await.unwrap();
    let told = |rollout: &Rollout| {
        [
            "phase",
            "currentPodHash",
            "stableRS",
            "currentStepIndex",
            "pauseConditions",
            "blueGreen",
        ]
        .map(|member| rollout.status[member].clone())
    };
    assert_eq!(told(&after), told(&before), "{moment}");
    assert_eq!(after.metadata.generation, before.metadata.generation);
    assert_eq!(
        set_names(&stage).await,
        sets,
        "{moment}: no ReplicaSet comes or goes"
    );
    let written = writes(&stage);
    let count = |what: &str| written.iter().filter(|(done, _)| done == what).count();
    assert!(
        count("patch rollouts/status") <= 1,
        "{moment}: {written:#?}"
    );
    // The digest of the template is noted once on each ReplicaSet that a user may come back to.
    assert!(
        count("patch replicasets") <= sets.len(),
        "{moment}: {written:#?}"
    );
    let others = written.len() - count("patch rollouts/status") - count("patch replicasets");
    assert_eq!(others, 0, "{moment}: {written:#?}");
    for (_, body) in &written {
        assert!(
            body["spec"].is_null(),
            "{moment}: nothing but notes: {body}"
        );
    }
    Ok((stage, after))
}

#[tokio::test]
async fn behaviour_39_a_healthy_release_of_an_older_controller_is_left_in_peace()
-> Result<(), Trouble> {
    for moment in [
        "v1.7.2/canary-basic/stable",
        "v1.9.1/bluegreen-manual/stable",
    ] {
        take_over(moment).await?;
    }
    Ok(())
}

#[tokio::test]
async fn behaviour_39_a_canary_of_an_older_controller_goes_on_where_it_stands()
-> Result<(), Trouble> {
    let (stage, before) = take_over("v1.8.4/canary-basic/paused-at-20").await?;
    stage
        .change_status("app", json!({"pauseConditions": null}))
        .await;
    let after = stage.until_healthy("app").await?;
    assert_eq!(after.status["stableRS"], before.status["currentPodHash"]);
    assert_eq!(set_names(&stage).await.len(), 2);
    Ok(())
}

#[tokio::test]
async fn behaviour_39_a_preview_of_an_older_controller_can_be_promoted() -> Result<(), Trouble> {
    let (stage, before) = take_over("v1.9.1/bluegreen-manual/preview").await?;
    stage
        .change_status("app", json!({"pauseConditions": null}))
        .await;
    let after = stage.until_healthy("app").await?;
    assert_eq!(after.status["stableRS"], before.status["currentPodHash"]);
    let services = stage.namespace.api::<Service>();
    let active = services
        .get(
            after.spec["strategy"]["blueGreen"]["activeService"]
                .as_str()
                .unwrap(),
        )
        .await
        .unwrap();
    let selector = active.spec.unwrap().selector.unwrap();
    assert_eq!(
        selector["rollouts-pod-template-hash"],
        after.status["stableRS"].as_str().unwrap()
    );
    Ok(())
}
