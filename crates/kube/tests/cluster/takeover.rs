//! Objects as older controllers left them, put on a real API server: nothing starts anew, hardly anything is written, and releases go on to
//! their end.

use std::collections::BTreeMap;
use std::path::Path;

use crossfade_test_cluster::{Actor, Request, Trouble};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
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

/// Puts objects into a namespace where nobody works yet, and waits until their pods are there. Jobs have ended and are left out; ReplicaSets of a
/// Deployment are made by its own controller.
pub(crate) async fn load_all(stage: &Stage, moment: &Value) -> Result<(), Trouble> {
    let client = stage.namespace.cluster().client(Actor::Admin).await?;
    let name = stage.namespace.name();
    let mut objects: Vec<Value> = moment["items"].as_array().unwrap().clone();
    let owner = |object: &Value| object["metadata"]["ownerReferences"][0].clone();
    objects.retain(|object| object["kind"] != "Job" && owner(object)["kind"] != "Deployment");
    // What owns comes before what is owned.
    let place = |object: &Value| match object["kind"].as_str() {
        Some("Rollout") => 0,
        Some("Experiment") => 1,
        Some("ReplicaSet") => 3,
        _ => 2,
    };
    objects.sort_by_key(place);
    let mut uids: BTreeMap<String, Value> = BTreeMap::new();
    for mut object in objects {
        let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (
                String::new(),
                object["apiVersion"].as_str().unwrap().to_owned(),
            ),
        };
        let kind = object["kind"].as_str().unwrap().to_owned();
        let former = object["metadata"]["uid"].as_str().unwrap().to_owned();
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(1);
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
            owners[0]["uid"] = uids[owners[0]["uid"].as_str().unwrap()].clone();
        }
        // Kinds without a door of its own for the status keep it with everything else.
        let status = match kind.as_str() {
            "AnalysisRun" | "Experiment" => None,
            _ => object.as_object_mut().unwrap().remove("status"),
        };
        if kind == "Service" {
            for member in ["clusterIP", "clusterIPs"] {
                object["spec"].as_object_mut().unwrap().remove(member);
            }
        }
        let deadline = object["spec"]["progressDeadlineSeconds"].as_i64();
        if kind == "Deployment" {
            object["spec"]["progressDeadlineSeconds"] = json!(deadline.unwrap() + generation - 1);
        }
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, &version, &kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), name, &resource);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let made = api.create(&PostParams::default(), &object).await.unwrap();
        let made_name = made.metadata.name.clone().unwrap();
        uids.insert(former, json!(made.metadata.uid));
        match kind.as_str() {
            "Rollout" => {
                let mut status = status.unwrap();
                status["observedGeneration"] = json!(made.metadata.generation.unwrap().to_string());
                stage.change_status(&made_name, status).await;
            }
            "Deployment" => {
                // As often changed as it was there.
                for more in (0..generation - 1).rev() {
                    let seconds = deadline.unwrap() + more;
                    let patch = Patch::Merge(json!({"spec": {"progressDeadlineSeconds": seconds}}));
                    let parameters = PatchParams::default();
                    api.patch(&made_name, &parameters, &patch).await.unwrap();
                }
                let is_seen = |deployment: &Deployment| {
                    let status = deployment.status.as_ref();
                    let observed = status.and_then(|status| status.observed_generation);
                    observed == Some(generation)
                };
                let namespace = &stage.namespace;
                namespace
                    .until(&made_name, "its controller", is_seen)
                    .await?;
            }
            "ReplicaSet" => {
                stage
                    .namespace
                    .until(&made_name, "all pods", has_its_pods)
                    .await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// All pods that there can be.
fn has_its_pods(set: &ReplicaSet) -> bool {
    let spec = set.spec.as_ref().unwrap();
    let pods = spec.template.as_ref().and_then(|one| one.spec.as_ref());
    let image = pods.and_then(|pods| pods.containers[0].image.clone());
    let status = set.status.as_ref();
    let there = if image.is_some_and(|image| image.contains("does-not-exist")) {
        status.map(|status| status.replicas)
    } else {
        status.and_then(|status| status.available_replicas)
    };
    there.unwrap_or(0) == spec.replicas.unwrap_or(0)
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
    // The digest of the present template is noted on its ReplicaSet.
    assert!(count("patch replicasets") <= 1, "{moment}: {written:#?}");
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
