//! Owners and their dependents, and namespaces.

use super::*;

fn policy(name: &str) -> Deletion {
    Deletion {
        propagation_policy: Some(name.to_owned()),
        ..Deletion::default()
    }
}

#[tokio::test]
async fn what_an_object_owned_goes_with_it_level_by_level() {
    let f = Fixture::new();
    let rollout = f.create(Kind::Rollout, rollout("web")).await;
    let set = f.create(Kind::ReplicaSet, owned("web-1", &rollout)).await;
    let run = f
        .create(Kind::AnalysisRun, owned("web-run", &rollout))
        .await;
    f.create(Kind::Job, owned("web-job", &run)).await;
    f.create(Kind::Pod, owned("web-1-a", &set)).await;
    f.create(Kind::ConfigMap, named("free")).await;
    f.delete(&rollout).await;
    f.until("all owned objects are gone", |s| {
        let gone = |kind, name| s.get(kind, "default", name).is_err();
        // The pod has a process, perhaps: it is being deleted, and goes when the supervisor says so.
        gone(Kind::ReplicaSet, "web-1")
            && gone(Kind::AnalysisRun, "web-run")
            && gone(Kind::Job, "web-job")
            && s.get(Kind::Pod, "default", "web-1-a")
                .is_ok_and(|p| p.is_deleting())
    })
    .await;
    assert!(f.find(Kind::ConfigMap, "free").is_some());
}

#[tokio::test]
async fn an_object_stays_as_long_as_one_of_its_owners() {
    let f = Fixture::new();
    let one = f.create(Kind::Rollout, rollout("one")).await;
    let two = f.create(Kind::Rollout, rollout("two")).await;
    let reference = |o: &Object| json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": o.name(), "uid": o.uid()});
    f.create(Kind::ConfigMap, json!({"metadata": {"name": "shared", "ownerReferences": [reference(&one), reference(&two)]}})).await;
    f.delete(&one).await;
    f.until("the lost owner is no longer named", |s| {
        s.get(Kind::ConfigMap, "default", "shared")
            .is_ok_and(|o| o.owners().collect::<Vec<_>>() == [two.uid()])
    })
    .await;
    f.delete(&two).await;
    f.until("gone with its last owner", |s| {
        s.get(Kind::ConfigMap, "default", "shared").is_err()
    })
    .await;
}

#[tokio::test]
async fn an_object_whose_owner_never_was_or_lives_elsewhere_is_deleted() {
    let f = Fixture::new();
    let elsewhere = f
        .store
        .create(host(), Kind::Rollout, "other", rollout("web"))
        .await
        .unwrap();
    f.create(Kind::ConfigMap, owned("stray", &elsewhere)).await;
    f.until("the stray is gone", |s| {
        s.get(Kind::ConfigMap, "default", "stray").is_err()
    })
    .await;
    assert!(f.store.get(Kind::Rollout, "other", "web").is_ok());
}

#[tokio::test]
async fn orphaned_dependents_live_on_without_their_owner() {
    let f = Fixture::new();
    let rollout = f.create(Kind::Rollout, rollout("web")).await;
    f.create(Kind::ReplicaSet, owned("web-1", &rollout)).await;
    f.store
        .delete(host(), rollout.key().clone(), policy("Orphan"))
        .await
        .unwrap();
    assert_eq!(f.find(Kind::Rollout, "web"), None);
    let set = f.find(Kind::ReplicaSet, "web-1").unwrap();
    assert_eq!(set.at("/metadata/ownerReferences"), None);
}

#[tokio::test]
async fn a_foreground_deletion_waits_for_the_dependents() {
    let f = Fixture::new();
    let rollout = f.create(Kind::Rollout, rollout("web")).await;
    let mut set = owned("web-1", &rollout);
    set["metadata"]["finalizers"] = json!(["test/hold"]);
    let set = f.create(Kind::ReplicaSet, set).await;
    f.store
        .delete(host(), rollout.key().clone(), policy("Foreground"))
        .await
        .unwrap();
    f.until("the dependent is being deleted", |s| {
        s.get(Kind::ReplicaSet, "default", "web-1")
            .is_ok_and(|o| o.is_deleting())
    })
    .await;
    assert!(
        f.find(Kind::Rollout, "web")
            .is_some_and(|o| o.is_deleting())
    );
    f.merge(
        &set,
        Part::Object,
        json!({"metadata": {"finalizers": null}}),
    )
    .await
    .unwrap();
    f.until("both are gone", |s| {
        s.get(Kind::Rollout, "default", "web").is_err()
            && s.get(Kind::ReplicaSet, "default", "web-1").is_err()
    })
    .await;
    assert!(
        f.store
            .delete(host(), rollout.key().clone(), policy("Sideways"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn orphans_that_a_dead_host_left_are_found_at_the_start() {
    let f = Fixture::new();
    let rollout = f.create(Kind::Rollout, rollout("web")).await;
    f.create(Kind::ReplicaSet, owned("web-1", &rollout)).await;
    f.store.close().await;
    // As if the host had died between the deletion and the collection.
    let file = f.folder.path().join("objects.db");
    rusqlite::Connection::open(file)
        .unwrap()
        .execute("DELETE FROM objects WHERE kind = 'Rollout'", [])
        .unwrap();
    let f = f.reopened().await;
    f.until("the orphan is gone", |s| {
        s.get(Kind::ReplicaSet, "default", "web-1").is_err()
    })
    .await;
}

#[tokio::test]
async fn a_namespace_comes_with_its_first_object_and_takes_all_with_it() {
    let f = Fixture::new();
    let put = |kind, object| f.store.create(host(), kind, "shop", object);
    put(Kind::ConfigMap, named("a")).await.unwrap();
    let pod = put(Kind::Pod, named("p")).await.unwrap();
    let namespace = f.store.get(Kind::Namespace, "", "shop").unwrap();
    assert_eq!(text(&namespace, "/status/phase"), "Active");
    f.delete(&namespace).await;
    let error = put(Kind::ConfigMap, named("late")).await.unwrap_err();
    assert!(
        error.to_string().contains("because it is being terminated"),
        "{error}"
    );
    f.until("the pod is being deleted", |s| {
        s.find(pod.key()).is_some_and(|p| p.is_deleting())
    })
    .await;
    assert_eq!(
        text(
            &f.store.get(Kind::Namespace, "", "shop").unwrap(),
            "/status/phase"
        ),
        "Terminating"
    );
    f.store
        .delete(
            host(),
            pod.key().clone(),
            Deletion {
                grace_period_seconds: Some(0),
                ..Deletion::default()
            },
        )
        .await
        .unwrap();
    f.until("the namespace is gone", |s| {
        s.get(Kind::Namespace, "", "shop").is_err()
    })
    .await;
    f.store
        .create(host(), Kind::ConfigMap, "shop", named("new"))
        .await
        .unwrap();
}
