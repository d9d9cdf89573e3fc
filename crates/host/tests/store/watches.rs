//! Following changes: order, resuming, selectors, and being told when one comes too late.

use crossfade_host::store::{Interest, Selector};
use crossfade_host::wire::WatchChange::{Added, Deleted, Modified};

use super::*;

#[tokio::test]
async fn a_watch_tells_every_change_after_its_start_in_order() {
    let f = Fixture::new();
    f.create(Kind::ConfigMap, named("before")).await;
    let mut watch = f
        .store
        .watch(Interest::kind(Kind::ConfigMap), f.store.revision());
    let made = f.create(Kind::ConfigMap, named("one")).await;
    f.create(Kind::Service, named("elsewhere")).await;
    let changed = f
        .merge(&made, Part::Object, json!({"data": {"a": "b"}}))
        .await
        .unwrap();
    f.delete(&changed).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let sighting = watch.next().await.unwrap();
        told.push((
            sighting.what,
            sighting.object().name().to_owned(),
            sighting.change.revision,
        ));
    }
    let last = f.store.revision();
    let one = || "one".to_owned();
    assert_eq!(
        told,
        [
            (Added, one(), made.revision()),
            (Modified, one(), changed.revision()),
            (Deleted, one(), last)
        ]
    );
}

#[tokio::test]
async fn a_deleted_object_is_told_with_its_last_state_and_the_revision_of_the_deletion() {
    let f = Fixture::new();
    let made = f
        .create(
            Kind::ConfigMap,
            json!({"metadata": {"name": "one"}, "data": {"a": "b"}}),
        )
        .await;
    let mut watch = f.store.watch(Interest::default(), made.revision());
    f.delete(&made).await;
    let sighting = watch.next().await.unwrap();
    assert_eq!(sighting.object().at("/data/a"), Some(&json!("b")));
    assert_eq!(
        text(sighting.object(), "/metadata/resourceVersion"),
        f.store.revision().to_string()
    );
}

#[tokio::test]
async fn a_watch_goes_on_where_another_ended() {
    let f = Fixture::new();
    let one = f.create(Kind::ConfigMap, named("one")).await;
    f.create(Kind::ConfigMap, named("two")).await;
    f.create(Kind::ConfigMap, named("three")).await;
    let mut watch = f
        .store
        .watch(Interest::kind(Kind::ConfigMap), one.revision());
    assert_eq!(watch.next().await.unwrap().object().name(), "two");
    let position = watch.next().await.unwrap().change.revision;
    assert_eq!(watch.position(), Some(position));
    f.create(Kind::ConfigMap, named("four")).await;
    let mut resumed = f.store.watch(Interest::kind(Kind::ConfigMap), position);
    assert_eq!(resumed.next().await.unwrap().object().name(), "four");
}

#[tokio::test]
async fn an_object_that_no_longer_matches_counts_as_deleted_and_one_that_begins_to_as_added() {
    let f = Fixture::new();
    let interest = Interest {
        selector: Selector::parse("app=web", "").unwrap(),
        ..Interest::kind(Kind::Pod)
    };
    let mut watch = f.store.watch(interest, f.store.revision());
    let pod = f.create(Kind::Pod, named("p")).await;
    for app in ["web", "web", "api"] {
        f.merge(
            &pod,
            Part::Object,
            json!({"metadata": {"labels": {"app": app, "n": f.store.revision().to_string()}}}),
        )
        .await
        .unwrap();
    }
    for what in [Added, Modified, Deleted] {
        assert_eq!(watch.next().await.unwrap().what, what);
    }
}

#[tokio::test]
async fn a_watch_that_comes_too_late_is_told_to_list_again() {
    let f = Fixture::with(Options {
        remembered_changes: 10,
        ..options()
    });
    let start = f.store.revision();
    let mut slow = f.store.watch(Interest::default(), start);
    for i in 0..20 {
        f.create(Kind::ConfigMap, named(&format!("c{i}"))).await;
    }
    for late in [&mut slow, &mut f.store.watch(Interest::default(), start)] {
        let error = late.next().await.unwrap_err();
        assert!(matches!(error, StoreError::Expired { .. }), "{error}");
        assert_eq!(error.to_status().code, 410);
    }
    let recent = f.store.revision() - 3;
    assert_eq!(
        f.store
            .watch(Interest::default(), recent)
            .next()
            .await
            .unwrap()
            .change
            .revision,
        recent + 1
    );
    let unknown = f.store.revision() + 1;
    assert!(
        f.store
            .watch(Interest::default(), unknown)
            .next()
            .await
            .is_err(),
        "a revision of another store"
    );
}

#[tokio::test]
async fn memory_for_watches_is_bounded_in_bytes_too() {
    let f = Fixture::with(Options {
        remembered_bytes: 100_000,
        ..options()
    });
    let start = f.store.revision();
    for i in 0..20 {
        f.create(
            Kind::ConfigMap,
            json!({"metadata": {"name": format!("c{i}")}, "data": {"a": "x".repeat(20_000)}}),
        )
        .await;
    }
    assert!(
        f.store
            .watch(Interest::default(), start)
            .next()
            .await
            .is_err()
    );
    assert!(
        f.store
            .watch(Interest::default(), f.store.revision() - 3)
            .next()
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_reopened_store_counts_on_and_older_watches_list_again() {
    let f = Fixture::new();
    let made = f.create(Kind::ConfigMap, named("one")).await;
    f.delete(&made).await;
    let before = f.store.revision();
    let f = f.reopened().await;
    assert_eq!(
        f.store.revision(),
        before,
        "also when the newest change was a deletion"
    );
    assert!(matches!(
        f.store.watch(Interest::default(), before - 1).next().await,
        Err(StoreError::Expired { .. })
    ));
    let mut watch = f.store.watch(Interest::default(), before);
    let next = f.create(Kind::ConfigMap, named("two")).await;
    assert_eq!(watch.next().await.unwrap().change.revision, next.revision());
}

#[tokio::test]
async fn a_watch_ends_with_the_store() {
    let f = Fixture::new();
    let mut watch = f.store.watch(Interest::default(), f.store.revision());
    f.store.close().await;
    assert!(matches!(watch.next().await, Err(StoreError::Closed)));
    assert!(matches!(
        f.try_create(Kind::ConfigMap, named("x")).await,
        Err(StoreError::Closed)
    ));
}
