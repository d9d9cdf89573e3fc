//! Every verb on objects.

use crossfade_host::client::{Error, Part, Patch, Wanted};
use crossfade_host::wire::{Deletion, Preconditions};

use super::*;

#[tokio::test]
async fn an_object_is_created_read_changed_and_deleted() {
    let f = Fixture::new();
    let made = f.create(Kind::Rollout, rollout("web")).await;
    assert_eq!(
        f.client.get(Kind::Rollout, "default", "web").await.unwrap(),
        made
    );
    let mut wanted = made.clone();
    wanted["spec"]["replicas"] = json!(3);
    let replaced = f
        .client
        .replace(Kind::Rollout, "default", "web", Part::Object, &wanted)
        .await
        .unwrap();
    assert_eq!(replaced["spec"]["replicas"], 3);
    assert_eq!(replaced["metadata"]["generation"], 2);
    let gone = f
        .client
        .delete(Kind::Rollout, "default", "web", &Deletion::default())
        .await
        .unwrap();
    assert_eq!(
        (gone["status"].as_str(), gone["details"]["name"].as_str()),
        (Some("Success"), Some("web"))
    );
    let error = f
        .client
        .get(Kind::Rollout, "default", "web")
        .await
        .unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), r#"rollouts.argoproj.io "web" not found"#);
}

#[tokio::test]
async fn both_kinds_of_patch_change_spec_status_and_scale() {
    let f = Fixture::new();
    f.create(Kind::Rollout, rollout("web")).await;
    let patch = async |part, form, change: Value| {
        f.client
            .patch(Kind::Rollout, "default", "web", part, form, &change)
            .await
    };
    let done = patch(
        Part::Object,
        Patch::Merge,
        json!({"spec": {"paused": true}}),
    )
    .await
    .unwrap();
    assert_eq!(done["spec"], json!({"replicas": 1, "paused": true}));
    let done = patch(
        Part::Object,
        Patch::Json,
        json!([{"op": "remove", "path": "/spec/paused"}]),
    )
    .await
    .unwrap();
    assert_eq!(done["spec"], json!({"replicas": 1}));
    let done = patch(
        Part::Status,
        Patch::Merge,
        json!({"status": {"abort": true, "HPAReplicas": 4, "selector": "app=web"}, "spec": null}),
    )
    .await
    .unwrap();
    assert_eq!(
        (&done["status"]["abort"], &done["spec"]["replicas"]),
        (&json!(true), &json!(1))
    );
    let scale = patch(Part::Scale, Patch::Merge, json!({"spec": {"replicas": 7}}))
        .await
        .unwrap();
    assert_eq!(
        (scale["kind"].as_str(), &scale["spec"]["replicas"]),
        (Some("Scale"), &json!(7))
    );
    assert_eq!(
        scale["status"],
        json!({"replicas": 4, "selector": "app=web"})
    );
    assert_eq!(
        f.client.get(Kind::Rollout, "default", "web").await.unwrap()["spec"]["replicas"],
        7
    );
    let error = patch(Part::Object, Patch::Merge, json!({"spec": {"bad": 1}}))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Invalid));
}

#[tokio::test]
async fn a_stale_write_is_a_conflict() {
    let f = Fixture::new();
    let made = f.create(Kind::Rollout, rollout("web")).await;
    let merge = json!({"spec": {"replicas": 2}});
    f.client
        .patch(
            Kind::Rollout,
            "default",
            "web",
            Part::Object,
            Patch::Merge,
            &merge,
        )
        .await
        .unwrap();
    let mut stale = made.clone();
    stale["spec"]["replicas"] = json!(9);
    let error = f
        .client
        .replace(Kind::Rollout, "default", "web", Part::Object, &stale)
        .await
        .unwrap_err();
    assert!(error.is_conflict(), "{error}");
    let only = Deletion {
        preconditions: Some(Preconditions {
            uid: None,
            resource_version: made["metadata"]["resourceVersion"]
                .as_str()
                .map(str::to_owned),
        }),
        ..Deletion::default()
    };
    assert!(
        f.client
            .delete(Kind::Rollout, "default", "web", &only)
            .await
            .unwrap_err()
            .is_conflict()
    );
    let error = f
        .client
        .create(Kind::Rollout, "default", &rollout("web"))
        .await
        .unwrap_err();
    let Error::Status(status) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (
            status.code,
            status.reason,
            status.details.unwrap().name.as_str()
        ),
        (409, Reason::AlreadyExists, "web")
    );
}

#[tokio::test]
async fn lists_are_of_a_namespace_or_of_all_and_selected_by_label_and_field() {
    let f = Fixture::new();
    for (namespace, name, app) in [("a", "one", "x"), ("a", "two", "y"), ("b", "one", "x")] {
        let object = json!({"metadata": {"name": name, "labels": {"app": app}}});
        f.client
            .create(Kind::ConfigMap, namespace, &object)
            .await
            .unwrap();
    }
    let count = async |namespace, labels: &str, fields: &str| {
        let wanted = Wanted {
            labels: labels.to_owned(),
            fields: fields.to_owned(),
        };
        f.client
            .list(Kind::ConfigMap, namespace, &wanted)
            .await
            .map(|l| l.items.len())
    };
    assert_eq!(count(None, "", "").await.unwrap(), 3);
    assert_eq!(count(Some("a"), "", "").await.unwrap(), 2);
    assert_eq!(count(None, "app in (x),app!=y", "").await.unwrap(), 2);
    assert_eq!(
        count(None, "", "metadata.name=one,metadata.namespace=b")
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        count(None, "app in", "").await.unwrap_err().reason(),
        Some(Reason::BadRequest)
    );
    let list = f
        .client
        .list(Kind::ConfigMap, None, &Wanted::default())
        .await
        .unwrap();
    assert_eq!(list.resource_version, f.store.revision().to_string());
    assert_eq!(
        f.client
            .list(Kind::Namespace, None, &Wanted::default())
            .await
            .unwrap()
            .items
            .len(),
        2
    );
}

#[tokio::test]
async fn an_object_is_read_in_the_version_that_was_asked_for() {
    let f = Fixture::new();
    let object = json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "VirtualService", "metadata": {"name": "web"}, "spec": {}});
    f.create(Kind::VirtualService, object).await;
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let path =
            format!("/apis/networking.istio.io/{version}/namespaces/default/virtualservices");
        for path in [path.clone(), format!("{path}/web")] {
            let answer = raw(
                &f,
                format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes(),
            )
            .await;
            let wanted = format!("networking.istio.io/{version}");
            assert_eq!(
                answer.matches("apiVersion").count(),
                answer.matches(&wanted).count(),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn warnings_come_with_the_answer_and_a_dry_run_stores_nothing() {
    let f = Fixture::new();
    let body = json!({"metadata": {"name": "web"}, "spec": {"odd": 1}}).to_string();
    let request = format!(
        "POST /apis/argoproj.io/v1alpha1/namespaces/default/rollouts?dryRun=All HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = raw(&f, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(
        answer.contains("warning: 299 - \"unknown field 'spec.odd'\""),
        "{answer}"
    );
    assert!(
        f.client
            .get(Kind::Rollout, "default", "web")
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn a_pod_lives_on_while_it_ends() {
    let f = Fixture::new();
    f.create(Kind::Pod, json!({"metadata": {"name": "p"}}))
        .await;
    let waits = f
        .client
        .delete(Kind::Pod, "default", "p", &Deletion::default())
        .await
        .unwrap();
    assert_eq!(
        (
            waits["kind"].as_str(),
            &waits["metadata"]["deletionGracePeriodSeconds"]
        ),
        (Some("Pod"), &json!(30))
    );
    let now = Deletion {
        grace_period_seconds: Some(0),
        ..Deletion::default()
    };
    assert_eq!(
        f.client
            .delete(Kind::Pod, "default", "p", &now)
            .await
            .unwrap()["status"],
        "Success"
    );
}

#[tokio::test]
async fn ten_thousand_objects_are_listed_in_one_answer() {
    let f = Fixture::new();
    let act = crossfade_host::store::Act::by_host("test");
    f.store
        .transact(act, |t| {
            for i in 0..10_000 {
                t.create(
                    Kind::ConfigMap,
                    "default",
                    json!({"metadata": {"name": format!("c{i}")}, "data": {"a": "x".repeat(500)}}),
                )?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let start = std::time::Instant::now();
    assert_eq!(
        f.client
            .list(Kind::ConfigMap, None, &Wanted::default())
            .await
            .unwrap()
            .items
            .len(),
        10_000
    );
    // A fraction of a second, optimised; ten seconds would mean that something is quadratic.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}
