//! Rollouts that take their template from another object.

use crossfade_api::Resource as _;
use serde_json::{Value, json};

use crate::cluster::{Cluster, rollout};

/// A Rollout of so many pods that refers to a workload.
fn referring(replicas: i32, reference: &Value) -> Cluster {
    let mut json = rollout(&json!({"replicas": replicas, "strategy": {"canary": {}}}));
    json["spec"]["template"] = json!({});
    json["spec"]["workloadRef"] = reference.clone();
    Cluster::new(json)
}

fn deployment(scale_down: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "scaleDown": scale_down})
}

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": image}]},
    })
}

fn add(cluster: &mut Cluster, replicas: i32, generation: i64) {
    let object = json!({
        "metadata": {"name": "d", "generation": generation},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template("web:1"),
        },
    });
    cluster.workloads.insert("Deployment/d".to_owned(), object);
}

fn size(cluster: &Cluster) -> Option<i64> {
    cluster.workloads["Deployment/d"]["spec"]["replicas"].as_i64()
}

fn invalid(cluster: &Cluster) -> String {
    let (_, _, message) = cluster.told("InvalidSpec").expect("it is refused");
    message
}

#[test]
fn api_23_a_missing_deployment_is_told_and_what_runs_goes_on() {
    let mut cluster = referring(2, &deployment(""));
    cluster.rollout.spec.selector = None;
    add(&mut cluster, 2, 7);
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(cluster.size("web:1"), 2);
    let gone = cluster
        .workloads
        .remove("Deployment/d")
        .expect("it was there");
    cluster.run_for(60);
    let why = "The Rollout \"web\" is invalid: deployments.apps \"default/d\" not found";
    assert_eq!(invalid(&cluster), why);
    assert_eq!(cluster.size("web:1"), 2);
    let owner = cluster.set("web:1").seen.controller.clone();
    assert_eq!(owner.as_deref(), Some("rollout-uid"));
    cluster.workloads.insert("Deployment/d".to_owned(), gone);
    cluster
        .workloads
        .get_mut("Deployment/d")
        .expect("it is there")["spec"]["template"] = template("web:2");
    cluster.run_for(21);
    assert!(cluster.told("InvalidSpec").is_none());
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(cluster.size("web:2"), 2);
    assert_eq!(cluster.status().workload_observed_generation, "7");
    assert!(cluster.rollout.to_json()["spec"]["template"]["spec"].is_null());
}

#[test]
fn api_24_what_cannot_be_referred_to_is_named() {
    let stateful = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "d"});
    let mut cluster = referring(1, &stateful);
    cluster.settle();
    let text = "The Rollout \"web\" is invalid: ";
    assert_eq!(
        invalid(&cluster),
        format!("{text}workload of type apps/StatefulSet is not supported")
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "d"});
    let mut cluster = referring(1, &pod);
    cluster.settle();
    assert_eq!(
        invalid(&cluster),
        format!("{text}workload of type /Pod is not supported")
    );
    let mut json = rollout(&json!({"strategy": {"canary": {}}}));
    json["spec"]["workloadRef"] = deployment("");
    let mut cluster = Cluster::new(json);
    add(&mut cluster, 1, 1);
    cluster.settle();
    assert_eq!(
        invalid(&cluster),
        format!("{text}template must be empty for workload reference rollout")
    );
    assert!(cluster.sets.is_empty());
}

#[test]
fn api_25_a_deployment_shrinks_only_while_the_first_revision_takes_over() {
    let mut cluster = referring(4, &deployment("progressively"));
    add(&mut cluster, 4, 1);
    cluster.pods_become_ready = false;
    cluster.settle();
    assert_eq!(size(&cluster), Some(4));
    cluster.make_available("web:1", 1).settle();
    assert_eq!(size(&cluster), Some(3));
    cluster.make_available("web:1", 4).settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(size(&cluster), Some(0));
    cluster.pods_become_ready = true;
    let deployment = cluster
        .workloads
        .get_mut("Deployment/d")
        .expect("it is there");
    deployment["spec"]["template"] = template("web:2");
    deployment["spec"]["replicas"] = json!(4);
    deployment["metadata"]["generation"] = json!(9);
    cluster.settle();
    assert_eq!(cluster.revision("web:2"), "2");
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(
        size(&cluster),
        Some(4),
        "from revision 2 on it is left alone"
    );
    cluster
        .patch(
            &json!({"metadata": {"annotations": {"crossfade.dev/workload-scale-down": "always"}}}),
        )
        .settle();
    assert_eq!(size(&cluster), Some(0), "unless its writer asks for it");
}

#[test]
fn behaviour_34_a_rollout_proceeds_once_its_workload_exists() {
    let mut cluster = referring(1, &deployment(""));
    cluster.settle();
    assert!(invalid(&cluster).contains("not found"));
    assert_eq!(cluster.phase().split(':').next(), Some("Degraded"));
    assert!(cluster.sets.is_empty());
    add(&mut cluster, 1, 1);
    cluster.run_for(20);
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn behaviour_35_a_deployment_shrinks_as_pods_become_ready() {
    let mut cluster = referring(5, &deployment("progressively"));
    add(&mut cluster, 5, 1);
    cluster.pods_become_ready = false;
    cluster.settle();
    for (ready, left) in [(0, 5), (1, 4), (3, 2), (5, 0)] {
        cluster.make_available("web:1", ready).settle();
        assert_eq!(size(&cluster), Some(left), "{ready} ready");
    }
}

#[test]
fn a_deployment_may_be_scaled_down_only_after_success_or_never() {
    for (scale_down, sizes) in [("onsuccess", [3, 0]), ("never", [3, 3]), ("", [3, 3])] {
        let mut cluster = referring(3, &deployment(scale_down));
        add(&mut cluster, 3, 1);
        cluster.pods_become_ready = false;
        cluster.settle();
        cluster.make_available("web:1", 2).settle();
        assert_eq!(size(&cluster), Some(sizes[0]), "{scale_down}");
        cluster.make_available("web:1", 3).settle();
        assert_eq!(size(&cluster), Some(sizes[1]), "{scale_down}");
    }
}

#[test]
fn replica_sets_and_pod_templates_may_be_referred_to() {
    let of = |kind: &str, version: &str| json!({"apiVersion": version, "kind": kind, "name": "t"});
    let mut cluster = referring(1, &of("PodTemplate", "v1"));
    let object = json!({"metadata": {"generation": 3}, "template": template("web:1")});
    cluster.workloads.insert("PodTemplate/t".to_owned(), object);
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(cluster.status().workload_observed_generation, "3");

    let mut cluster = referring(1, &of("ReplicaSet", "apps/v1"));
    let object = json!({"metadata": {"generation": 2}, "spec": {"template": template("web:1")}});
    cluster.workloads.insert("ReplicaSet/t".to_owned(), object);
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
}

/// What a Rollout is without its reference: with a template of its own.
fn on_its_own() -> Value {
    json!({"spec": {
        "workloadRef": null,
        "selector": {"matchLabels": {"app": "web"}},
        "template": template("web:1"),
    }})
}

#[test]
fn a_deployment_gets_its_pods_back_when_the_reference_goes_if_its_writer_asks_for_that() {
    let restores = |value: &str| json!({"metadata": {"annotations": {"crossfade.dev/workload-restore": value}}});
    for (value, left) in [("true", 4), ("false", 0)] {
        let mut cluster = referring(4, &deployment("progressively"));
        cluster.patch(&restores(value));
        add(&mut cluster, 4, 1);
        cluster.settle();
        assert_eq!(size(&cluster), Some(0), "{value}");
        assert_eq!(cluster.phase(), "Healthy");
        cluster.patch(&on_its_own()).settle();
        assert_eq!(size(&cluster), Some(left), "{value}");
        assert_eq!(cluster.phase(), "Healthy", "and the Rollout keeps its own");
        assert_eq!(cluster.size("web:1"), 4);
        let annotations = cluster.rollout.metadata.annotations.clone();
        let noted = annotations.unwrap_or_default();
        assert_eq!(
            noted.get("crossfade.dev/workload-replicas"),
            None,
            "{value}"
        );
    }
}

#[test]
fn a_deployment_that_gave_half_of_its_pods_gets_these_back_and_one_that_has_more_keeps_them() {
    for (now, then) in [(2, 5), (7, 7)] {
        let mut cluster = referring(5, &deployment("progressively"));
        cluster.patch(
            &json!({"metadata": {"annotations": {"crossfade.dev/workload-restore": "true"}}}),
        );
        add(&mut cluster, 5, 1);
        cluster.pods_become_ready = false;
        cluster.settle();
        cluster.make_available("web:1", 3).settle();
        assert_eq!(size(&cluster), Some(2));
        let there = cluster.workloads.get_mut("Deployment/d");
        there.expect("it is there")["spec"]["replicas"] = json!(now);
        // Without a template of its own it is invalid, and gives back all the same.
        cluster
            .patch(&json!({"spec": {"workloadRef": null}}))
            .settle();
        assert_eq!(size(&cluster), Some(then));
        assert!(!invalid(&cluster).is_empty());
    }
}

#[test]
fn a_deployment_that_is_gone_is_waited_for_by_nobody() {
    let mut cluster = referring(2, &deployment("onsuccess"));
    cluster
        .patch(&json!({"metadata": {"annotations": {"crossfade.dev/workload-restore": "true"}}}));
    add(&mut cluster, 2, 1);
    cluster.settle();
    assert_eq!(size(&cluster), Some(0));
    cluster.workloads.clear();
    cluster.patch(&on_its_own()).settle();
    assert_eq!(cluster.phase(), "Healthy");
    let annotations = cluster.rollout.metadata.annotations.clone();
    assert_eq!(
        annotations
            .unwrap_or_default()
            .get("crossfade.dev/workload-replicas"),
        None
    );
}
