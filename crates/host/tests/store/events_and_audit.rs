//! Events merge and are bounded; the audit trail tells who did what and never a secret.

use crossfade_host::store::{
    AuditFilter, AuditLimits, EventLimits, EventType, Happening, Selector,
};
use crossfade_host::wire::AuditRow;
use jiff::{SignedDuration, Timestamp};

use super::*;

async fn happen(f: &Fixture, about: &Arc<Object>, reason: &'static str, message: &str) {
    let (about, message) = (Arc::clone(about), message.to_owned());
    f.store
        .transact(host(), move |t| {
            t.event(
                &about,
                &Happening {
                    event_type: EventType::Normal,
                    reason,
                    message: &message,
                    component: "rollouts-controller",
                },
            )
        })
        .await
        .unwrap();
}

fn events(f: &Fixture) -> Vec<Arc<Object>> {
    f.store.list(Kind::Event, None, &Selector::default()).items
}

#[tokio::test]
async fn the_same_event_again_raises_a_count() {
    let f = Fixture::new();
    let web = f.create(Kind::Rollout, rollout("web")).await;
    for message in [
        "paused at step 1",
        "paused at step 1",
        "paused at step 2",
        "paused at step 1",
    ] {
        happen(&f, &web, "RolloutPaused", message).await;
    }
    let found = events(&f);
    let counts: Vec<i64> = found.iter().map(|e| number(e, "/count")).collect();
    assert_eq!((found.len(), counts.iter().max()), (2, Some(&3)));
    let event = &found[0];
    assert!(event.name().starts_with("web."));
    assert_eq!(text(event, "/involvedObject/uid"), web.uid());
    assert_eq!(text(event, "/involvedObject/kind"), "Rollout");
    assert_eq!(text(event, "/source/component"), "rollouts-controller");
    let selector = Selector::parse(
        "",
        "involvedObject.name=web,reason=RolloutPaused,type=Normal",
    )
    .unwrap();
    assert_eq!(
        f.store
            .list(Kind::Event, Some("default"), &selector)
            .items
            .len(),
        2
    );
}

#[tokio::test]
async fn a_busy_object_pushes_out_only_its_own_oldest_events() {
    let f = Fixture::with(Options {
        events: EventLimits {
            each: 5,
            ..EventLimits::default()
        },
        ..options()
    });
    let quiet = f.create(Kind::Rollout, rollout("quiet")).await;
    let busy = f.create(Kind::Rollout, rollout("busy")).await;
    happen(&f, &quiet, "Rare", "once").await;
    for i in 0..30 {
        happen(&f, &busy, "Often", &format!("number {i}")).await;
    }
    let reasons: Vec<String> = events(&f)
        .iter()
        .map(|e| text(e, "/reason").to_owned())
        .collect();
    assert_eq!(reasons.iter().filter(|r| *r == "Often").count(), 5);
    assert_eq!(reasons.iter().filter(|r| *r == "Rare").count(), 1);
}

#[tokio::test]
async fn old_events_and_audit_rows_are_dropped() {
    let f = Fixture::new();
    let web = f
        .store
        .create(
            Act::by_person("anna"),
            Kind::Rollout,
            "default",
            rollout("web"),
        )
        .await
        .unwrap();
    happen(&f, &web, "Old", "long ago").await;
    f.store.close().await;
    let later = Timestamp::now() + SignedDuration::from_hours(3);
    let limits = Options {
        clock: Arc::new(move || later),
        events: EventLimits {
            age: SignedDuration::from_hours(2),
            ..EventLimits::default()
        },
        audit: AuditLimits {
            age: SignedDuration::from_hours(2),
            ..AuditLimits::default()
        },
        ..options()
    };
    let store = Store::open(f.folder.path(), limits).unwrap();
    let f = Fixture {
        store,
        folder: f.folder,
    };
    f.until("the event is gone", |s| {
        s.list(Kind::Event, None, &Selector::default())
            .items
            .is_empty()
    })
    .await;
    // Both happen in one go before the writer takes its first request.
    f.create(Kind::ConfigMap, named("next")).await;
    assert_eq!(rows(&f, AuditFilter::default()).await, []);
    assert!(f.find(Kind::Rollout, "web").is_some());
}

async fn rows(f: &Fixture, filter: AuditFilter) -> Vec<AuditRow> {
    f.store.audit_rows(filter).await.unwrap()
}

#[tokio::test]
async fn every_change_by_a_person_leaves_a_row_and_what_changes_nothing_leaves_none() {
    let f = Fixture::new();
    let anna = Act::by_person("anna");
    let web = f
        .store
        .create(anna.clone(), Kind::Rollout, "default", rollout("web"))
        .await
        .unwrap();
    let promote = anna.clone().doing(Some("promote"), "looks good");
    f.store
        .patch_merge(
            promote,
            web.key().clone(),
            Part::Status,
            json!({"status": {"promoteFull": true}}),
        )
        .await
        .unwrap();
    f.store
        .patch_merge(
            anna.clone(),
            web.key().clone(),
            Part::Object,
            json!({"spec": {"replicas": 1}}),
        )
        .await
        .unwrap();
    f.store
        .patch_merge(
            host(),
            web.key().clone(),
            Part::Object,
            json!({"spec": {"replicas": 2}}),
        )
        .await
        .unwrap();
    f.store
        .delete(anna, web.key().clone(), Deletion::default())
        .await
        .unwrap();
    let told: Vec<[String; 4]> = rows(
        &f,
        AuditFilter {
            name: Some("web".to_owned()),
            ..AuditFilter::default()
        },
    )
    .await
    .into_iter()
    .map(|r| [r.actor, r.action, r.reason, r.detail])
    .collect();
    let row = |action: &str, reason: &str, detail: &str| {
        ["anna", action, reason, detail].map(str::to_owned)
    };
    assert_eq!(
        told,
        [
            row("create", "", ""),
            row("promote", "looks good", "status"),
            row("delete", "", "")
        ]
    );
}

#[tokio::test]
async fn decisions_of_the_host_leave_rows_when_they_say_so() {
    let f = Fixture::new();
    let web = f.create(Kind::Rollout, rollout("web")).await;
    let key = web.key().clone();
    f.store
        .transact(host(), move |t| {
            t.audit("abort", &key, "metric error-rate failed", "step 2 of 5");
            Ok(())
        })
        .await
        .unwrap();
    let found = rows(&f, AuditFilter::default()).await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (
            found[0].actor.as_str(),
            found[0].action.as_str(),
            found[0].subject.name.as_str()
        ),
        ("test", "abort", "web")
    );
    for (filter, matches) in [
        (
            AuditFilter {
                kind: Some("rollout".to_owned()),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                kind: Some("Pod".to_owned()),
                ..AuditFilter::default()
            },
            0,
        ),
        (
            AuditFilter {
                namespace: Some("other".to_owned()),
                ..AuditFilter::default()
            },
            0,
        ),
    ] {
        assert_eq!(rows(&f, filter.clone()).await.len(), matches, "{filter:?}");
    }
}

#[tokio::test]
async fn neither_audit_nor_the_last_applied_manifest_hold_what_a_secret_holds() {
    let f = Fixture::new();
    let anna = Act::by_person("anna");
    let secret = |word: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": word}});
    for word in ["hunter2-one", "hunter2-two"] {
        let request = crossfade_host::wire::ApplyRequest {
            documents: vec![secret(word)],
            overlays: Vec::new(),
        };
        f.store
            .apply(
                anna.clone(),
                request,
                "default",
                crossfade_host::store::Immutable::Refuse,
            )
            .await
            .unwrap();
    }
    let stored = f.find(Kind::Secret, "s").unwrap();
    assert_eq!(
        crossfade_host::store::decode_secret(stored.at("/data/password").unwrap()).unwrap(),
        b"hunter2-two"
    );
    assert!(!format!("{stored:?}").contains("aHVudGVy"));
    let annotations = stored.at("/metadata/annotations").unwrap().to_string();
    let audit = format!("{:?}", rows(&f, AuditFilter::default()).await);
    assert!(audit.contains("data.password"), "{audit}");
    for place in [annotations, audit] {
        // The plain text and its base64 form.
        assert!(
            !place.contains("hunter2") && !place.contains("aHVudGVy"),
            "{place}"
        );
    }
}

#[tokio::test]
async fn the_audit_trail_is_bounded_in_rows() {
    let f = Fixture::new();
    for i in 0..30 {
        f.store
            .create(
                Act::by_person("anna"),
                Kind::ConfigMap,
                "default",
                named(&format!("c{i}")),
            )
            .await
            .unwrap();
    }
    f.store.close().await;
    let limits = Options {
        audit: AuditLimits {
            rows: 10,
            ..AuditLimits::default()
        },
        ..options()
    };
    let store = Store::open(f.folder.path(), limits).unwrap();
    let f = Fixture {
        store,
        folder: f.folder,
    };
    f.create(Kind::ConfigMap, named("next")).await;
    let found = rows(&f, AuditFilter::default()).await;
    assert_eq!((found.len(), found[0].id, found[9].id), (10, 21, 30));
}
