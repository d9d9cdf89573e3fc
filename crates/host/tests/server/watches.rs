//! Watches over HTTP: from the start, from a revision, too late, and to the end.

use crossfade_host::client::{Error, Wanted, Watch};
use crossfade_host::server::Patience;
use crossfade_host::wire::{Deletion, WatchChange, WatchEvent};

use super::*;

async fn next(watch: &mut Watch) -> WatchEvent {
    tokio::time::timeout(Duration::from_secs(10), watch.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

/// What happened to whom.
async fn told(watch: &mut Watch) -> (WatchChange, String) {
    let event = next(watch).await;
    (
        event.change,
        event.object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    )
}

#[tokio::test]
async fn a_watch_without_revision_begins_with_what_is_there() {
    let f = Fixture::new();
    f.create(Kind::ConfigMap, json!({"metadata": {"name": "one"}}))
        .await;
    let mut watch = f
        .client
        .watch(Kind::ConfigMap, Some("default"), &Wanted::default(), "")
        .await
        .unwrap();
    assert_eq!(
        told(&mut watch).await,
        (WatchChange::Added, "one".to_owned())
    );
    let bookmark = next(&mut watch).await;
    assert_eq!(bookmark.change, WatchChange::Bookmark);
    assert_eq!(
        bookmark.object["metadata"]["resourceVersion"],
        f.store.revision().to_string()
    );
    f.create(Kind::ConfigMap, json!({"metadata": {"name": "two"}}))
        .await;
    f.client
        .delete(Kind::ConfigMap, "default", "one", &Deletion::default())
        .await
        .unwrap();
    assert_eq!(
        told(&mut watch).await,
        (WatchChange::Added, "two".to_owned())
    );
    assert_eq!(
        told(&mut watch).await,
        (WatchChange::Deleted, "one".to_owned())
    );
}

#[tokio::test]
async fn a_watch_goes_on_after_a_list() {
    let f = Fixture::new();
    f.create(Kind::ConfigMap, json!({"metadata": {"name": "one"}}))
        .await;
    let list = f
        .client
        .list(Kind::ConfigMap, None, &Wanted::default())
        .await
        .unwrap();
    f.create(
        Kind::ConfigMap,
        json!({"metadata": {"name": "two", "labels": {"app": "web"}}}),
    )
    .await;
    f.create(Kind::ConfigMap, json!({"metadata": {"name": "three"}}))
        .await;
    let mut all = f
        .client
        .watch(
            Kind::ConfigMap,
            None,
            &Wanted::default(),
            &list.resource_version,
        )
        .await
        .unwrap();
    assert_eq!(told(&mut all).await.1, "two");
    assert_eq!(told(&mut all).await.1, "three");
    let web = Wanted {
        labels: "app=web".to_owned(),
        ..Wanted::default()
    };
    let mut some = f
        .client
        .watch(Kind::ConfigMap, None, &web, &list.resource_version)
        .await
        .unwrap();
    assert_eq!(told(&mut some).await.1, "two");
}

#[tokio::test]
async fn a_watch_from_too_long_ago_is_gone() {
    let mut options = Options::new(Arc::new(Picky));
    options.remembered_changes = 3;
    let f = Fixture::with(options, Patience::default());
    for i in 0..10 {
        f.create(
            Kind::ConfigMap,
            json!({"metadata": {"name": format!("c{i}")}}),
        )
        .await;
    }
    for version in ["1", "99999"] {
        let error = f
            .client
            .watch(Kind::ConfigMap, None, &Wanted::default(), version)
            .await
            .unwrap_err();
        let Error::Status(status) = error else {
            panic!("{error}")
        };
        assert_eq!(
            (status.code, status.reason),
            (410, Reason::Expired),
            "{version}"
        );
    }
    let error = f
        .client
        .watch(Kind::ConfigMap, None, &Wanted::default(), "soon")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Some(Reason::BadRequest));
}

#[tokio::test]
async fn a_watch_ends_after_its_time_and_with_the_host() {
    let f = Fixture::new();
    let answer = raw(&f, b"GET /api/v1/configmaps?watch=true&timeoutSeconds=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(
        answer.ends_with("0\r\n\r\n"),
        "the stream is complete: {answer}"
    );
    let mut watch = f
        .client
        .watch(Kind::ConfigMap, None, &Wanted::default(), "")
        .await
        .unwrap();
    assert_eq!(next(&mut watch).await.change, WatchChange::Bookmark);
    f.stop.cancel();
    assert!(
        tokio::time::timeout(Duration::from_secs(5), watch.next())
            .await
            .unwrap()
            .is_none()
    );
    tokio::time::timeout(Duration::from_secs(5), f.server)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_end_of_the_store_is_told_to_watchers() {
    let f = Fixture::new();
    let mut watch = f
        .client
        .watch(Kind::ConfigMap, None, &Wanted::default(), "")
        .await
        .unwrap();
    assert_eq!(next(&mut watch).await.change, WatchChange::Bookmark);
    f.store.close().await;
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ServiceUnavailable));
    assert!(watch.next().await.is_none());
}
