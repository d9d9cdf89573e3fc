//! Creating, updating, patching and deleting: Kubernetes' rules for metadata, spec and status.

use crossfade_host::store::{Deleted, Selector};
use crossfade_host::wire::{Preconditions, Reason};

use super::*;

#[tokio::test]
async fn a_new_object_gets_what_only_the_store_may_give() {
    let f = Fixture::new();
    let mut wanted = rollout("web");
    wanted["metadata"]["uid"] = json!("made-up");
    wanted["metadata"]["generation"] = json!(7);
    wanted["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    wanted["metadata"]["managedFields"] = json!([{}]);
    wanted["status"] = json!({"abort": true});
    let made = f.create(Kind::Rollout, wanted).await;
    assert_eq!(made.uid().len(), 36);
    assert_eq!(number(&made, "/metadata/generation"), 1);
    assert_eq!(text(&made, "/metadata/namespace"), "default");
    assert_eq!(
        text(&made, "/metadata/resourceVersion"),
        made.revision().to_string()
    );
    assert!(text(&made, "/metadata/creationTimestamp").ends_with('Z'));
    for absent in [
        "/metadata/deletionTimestamp",
        "/metadata/managedFields",
        "/status",
    ] {
        assert_eq!(made.at(absent), None, "{absent}");
    }
    assert_eq!(f.find(Kind::Rollout, "web"), Some(made));
}

#[tokio::test]
async fn one_counter_numbers_the_changes_of_all_kinds() {
    let f = Fixture::new();
    let one = f.create(Kind::ConfigMap, named("one")).await;
    let two = f.create(Kind::Service, named("two")).await;
    assert_eq!(two.revision(), one.revision() + 1);
    let list = f.store.list(Kind::ConfigMap, None, &Selector::default());
    assert_eq!(list.revision, two.revision());
}

#[tokio::test]
async fn a_taken_name_is_refused_and_the_object_stays() {
    let f = Fixture::new();
    let first = f.create(Kind::Rollout, rollout("web")).await;
    let error = f
        .try_create(Kind::Rollout, rollout("web"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"rollouts.argoproj.io "web" already exists"#
    );
    assert_eq!(f.find(Kind::Rollout, "web"), Some(first));
}

#[tokio::test]
async fn a_generated_name_begins_as_wanted_and_is_free() {
    let f = Fixture::new();
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let made = f
            .create(
                Kind::AnalysisRun,
                json!({"metadata": {"generateName": "web-2-"}, "spec": {}}),
            )
            .await;
        assert!(
            made.name().starts_with("web-2-") && made.name().len() == 11,
            "{}",
            made.name()
        );
        names.insert(made.name().to_owned());
    }
    assert_eq!(names.len(), 20);
    let error = f
        .try_create(Kind::AnalysisRun, json!({"metadata": {}}))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("name or generateName is required"),
        "{error}"
    );
}

#[tokio::test]
async fn an_update_of_an_older_version_is_a_conflict() {
    let f = Fixture::new();
    let old = f.create(Kind::Rollout, rollout("web")).await;
    let new = f
        .merge(&old, Part::Object, json!({"spec": {"replicas": 2}}))
        .await
        .unwrap();
    let error = f
        .update(&old, Part::Object, |v| v["spec"]["replicas"] = json!(3))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::Conflict);
    assert!(
        error
            .to_string()
            .contains("please apply your changes to the latest version"),
        "{error}"
    );
    let error = f
        .merge(
            &new,
            Part::Status,
            json!({"metadata": {"resourceVersion": "1"}, "status": {}}),
        )
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::Conflict);
    let error = f
        .merge(&new, Part::Object, json!({"metadata": {"uid": "another"}}))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("UID in precondition: another"),
        "{error}"
    );
    assert_eq!(f.find(Kind::Rollout, "web"), Some(new));
}

#[tokio::test]
async fn the_generation_counts_changes_of_the_spec_only() {
    let f = Fixture::new();
    let made = f.create(Kind::Rollout, rollout("web")).await;
    let labelled = f
        .merge(
            &made,
            Part::Object,
            json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await
        .unwrap();
    assert_eq!(number(&labelled, "/metadata/generation"), 1);
    let reported = f
        .merge(&labelled, Part::Status, json!({"status": {"replicas": 1}}))
        .await
        .unwrap();
    assert_eq!(number(&reported, "/metadata/generation"), 1);
    let changed = f
        .merge(&reported, Part::Object, json!({"spec": {"replicas": 2}}))
        .await
        .unwrap();
    assert_eq!(number(&changed, "/metadata/generation"), 2);
    // AnalysisRuns have no sub-resource: their status counts, as in a cluster (rollout-api 1).
    let run = f
        .create(
            Kind::AnalysisRun,
            json!({"metadata": {"name": "run"}, "spec": {}}),
        )
        .await;
    let run = f
        .merge(&run, Part::Object, json!({"status": {"phase": "Running"}}))
        .await
        .unwrap();
    assert_eq!(number(&run, "/metadata/generation"), 2);
}

#[tokio::test]
async fn spec_and_status_are_written_apart() {
    let f = Fixture::new();
    let made = f.create(Kind::Rollout, rollout("web")).await;
    let both = json!({"spec": {"replicas": 9}, "status": {"abort": true}, "metadata": {"labels": {"a": "b"}}});
    let status = f.merge(&made, Part::Status, both.clone()).await.unwrap();
    assert_eq!(
        (number(&status, "/spec/replicas"), status.label("a")),
        (1, None)
    );
    assert_eq!(status.at("/status/abort"), Some(&json!(true)));
    let spec = f
        .merge(
            &status,
            Part::Object,
            json!({"spec": {"replicas": 9}, "status": null}),
        )
        .await
        .unwrap();
    assert_eq!(number(&spec, "/spec/replicas"), 9);
    assert_eq!(spec.at("/status/abort"), Some(&json!(true)));
    let error = f
        .merge(
            f.create(Kind::AnalysisRun, named("run")).await.as_ref(),
            Part::Status,
            both,
        )
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("have no sub-resource status"),
        "{error}"
    );
}

#[tokio::test]
async fn scale_changes_the_replicas_and_nothing_else() {
    let f = Fixture::new();
    let made = f.create(Kind::Rollout, rollout("web")).await;
    let scaled = f
        .merge(
            &made,
            Part::Scale,
            json!({"spec": {"replicas": 5, "paused": true}}),
        )
        .await
        .unwrap();
    assert_eq!(scaled.at("/spec"), Some(&json!({"replicas": 5})));
    assert_eq!(number(&scaled, "/metadata/generation"), 2);
    for bad in [json!(-1), json!("3"), json!(1.5), json!(1_u64 << 40)] {
        let error = f
            .merge(&made, Part::Scale, json!({"spec": {"replicas": bad}}))
            .await
            .unwrap_err();
        assert_eq!(error.reason(), Reason::Invalid, "{bad}");
    }
    assert!(
        f.merge(
            f.create(Kind::Pod, named("p")).await.as_ref(),
            Part::Scale,
            json!({"spec": {}})
        )
        .await
        .is_err()
    );
}

#[tokio::test]
async fn writing_what_is_there_already_changes_nothing() {
    let f = Fixture::new();
    let made = f.create(Kind::Rollout, rollout("web")).await;
    let revision = f.store.revision();
    for same in [
        json!({}),
        json!({"spec": {"replicas": 1}}),
        json!({"metadata": {"labels": {}}, "spec": {"paused": null}}),
    ] {
        assert_eq!(
            f.merge(&made, Part::Object, same).await.unwrap().revision(),
            made.revision()
        );
    }
    f.merge(&made, Part::Status, json!({"status": null}))
        .await
        .unwrap();
    f.update(&made, Part::Object, |_| {}).await.unwrap();
    assert_eq!(f.store.revision(), revision);
}

#[tokio::test]
async fn a_json_patch_is_carried_out_whole_or_not_at_all() {
    let f = Fixture::new();
    let made = f.create(Kind::Rollout, rollout("web")).await;
    let patch = |operations| {
        f.store
            .patch_json(host(), made.key().clone(), Part::Object, operations)
    };
    let done = patch(json!([{"op": "add", "path": "/spec/paused", "value": true}, {"op": "test", "path": "/spec/replicas", "value": 1}])).await.unwrap();
    assert_eq!(done.at("/spec/paused"), Some(&json!(true)));
    let error = patch(json!([{"op": "remove", "path": "/spec/paused"}, {"op": "test", "path": "/spec/replicas", "value": 2}])).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Invalid);
    assert_eq!(f.find(Kind::Rollout, "web"), Some(done));
    assert!(
        patch(json!([{"op": "replace", "path": "/metadata/name", "value": "other"}]))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_finalizer_keeps_a_deleted_object_until_it_is_removed() {
    let f = Fixture::new();
    let mut wanted = rollout("web");
    wanted["metadata"]["finalizers"] = json!(["crossfade.dev/traffic-reset"]);
    let made = f.create(Kind::Rollout, wanted).await;
    let deletion = f
        .store
        .delete(host(), made.key().clone(), Deletion::default())
        .await
        .unwrap();
    let Deleted::Waits(waits) = deletion else {
        panic!("{deletion:?}")
    };
    assert!(waits.is_deleting());
    assert_eq!(number(&waits, "/metadata/generation"), 2);
    let again = f
        .store
        .delete(host(), made.key().clone(), Deletion::default())
        .await
        .unwrap();
    assert!(matches!(again, Deleted::Waits(o) if o.revision() == waits.revision()));
    let error = f
        .merge(
            &waits,
            Part::Object,
            json!({"metadata": {"finalizers": ["crossfade.dev/traffic-reset", "a/b"]}}),
        )
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no new finalizers can be added"),
        "{error}"
    );
    f.merge(
        &waits,
        Part::Object,
        json!({"metadata": {"finalizers": null}}),
    )
    .await
    .unwrap();
    assert_eq!(f.find(Kind::Rollout, "web"), None);
}

#[tokio::test]
async fn a_deletion_holds_to_its_preconditions() {
    let f = Fixture::new();
    let made = f.create(Kind::Rollout, rollout("web")).await;
    let only_if = |preconditions| Deletion {
        preconditions: Some(preconditions),
        ..Deletion::default()
    };
    for stale in [
        Preconditions {
            uid: Some("another".to_owned()),
            resource_version: None,
        },
        Preconditions {
            uid: None,
            resource_version: Some("1".to_owned()),
        },
    ] {
        let error = f
            .store
            .delete(host(), made.key().clone(), only_if(stale))
            .await
            .unwrap_err();
        assert_eq!(error.reason(), Reason::Conflict);
    }
    let now = Preconditions {
        uid: Some(made.uid().to_owned()),
        resource_version: Some(made.revision().to_string()),
    };
    assert!(matches!(
        f.store
            .delete(host(), made.key().clone(), only_if(now))
            .await,
        Ok(Deleted::Gone(_))
    ));
    let error = f
        .store
        .delete(host(), made.key().clone(), Deletion::default())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), r#"rollouts.argoproj.io "web" not found"#);
}

#[tokio::test]
async fn a_deleted_pod_has_its_grace_to_end() {
    let f = Fixture::new();
    let pod = f
        .create(
            Kind::Pod,
            json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 7}}),
        )
        .await;
    f.delete(&pod).await;
    let waits = f.find(Kind::Pod, "p").unwrap();
    assert_eq!(number(&waits, "/metadata/deletionGracePeriodSeconds"), 7);
    let seconds = waits.deletion().unwrap().as_second() - jiff::Timestamp::now().as_second();
    assert!((5..=7).contains(&seconds), "{seconds}");
    let with_grace = |seconds| Deletion {
        grace_period_seconds: Some(seconds),
        ..Deletion::default()
    };
    f.store
        .delete(host(), pod.key().clone(), with_grace(60))
        .await
        .unwrap();
    assert_eq!(
        number(
            &f.find(Kind::Pod, "p").unwrap(),
            "/metadata/deletionGracePeriodSeconds"
        ),
        7,
        "longer is not heard"
    );
    f.store
        .delete(host(), pod.key().clone(), with_grace(1))
        .await
        .unwrap();
    assert_eq!(
        number(
            &f.find(Kind::Pod, "p").unwrap(),
            "/metadata/deletionGracePeriodSeconds"
        ),
        1,
        "shorter is"
    );
    f.store
        .delete(host(), pod.key().clone(), with_grace(0))
        .await
        .unwrap();
    assert_eq!(f.find(Kind::Pod, "p"), None);
    let ended = f.create(Kind::Pod, named("ended")).await;
    let ended = f
        .merge(
            &ended,
            Part::Status,
            json!({"status": {"phase": "Succeeded"}}),
        )
        .await
        .unwrap();
    f.delete(&ended).await;
    assert_eq!(
        f.find(Kind::Pod, "ended"),
        None,
        "what has ended needs no grace"
    );
}

#[tokio::test]
async fn objects_that_break_rules_are_refused_with_every_fault() {
    let f = Fixture::new();
    let bad = json!({"metadata": {"name": "Bad", "labels": {"a": 1, "b b": "c"}}, "spec": []});
    let StoreError::Invalid { faults, .. } = f.try_create(Kind::Rollout, bad).await.unwrap_err()
    else {
        panic!()
    };
    let fields: Vec<&str> = faults.iter().map(|f| f.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "metadata.name",
            "metadata.labels[a]",
            "metadata.labels",
            "spec"
        ]
    );
    let wrong = [
        (json!([]), "must be a JSON object"),
        (
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"}}),
            "is a Pod, the request is for a Rollout",
        ),
        (
            json!({"kind": "Flux", "apiVersion": "x/v1", "metadata": {"name": "x"}}),
            "no matches for kind",
        ),
        (
            json!({"metadata": {"name": "x", "namespace": "other"}}),
            "does not match the namespace",
        ),
        (
            json!({"metadata": {"name": "x", "resourceVersion": "4"}}),
            "resourceVersion should not be set",
        ),
        (json!({"metadata": 7}), "metadata"),
    ];
    for (object, why) in wrong {
        let error = f
            .try_create(Kind::Rollout, object.clone())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(why), "{object}: {error}");
    }
    assert_eq!(
        f.store
            .list(Kind::Rollout, None, &Selector::default())
            .items
            .len(),
        0
    );
}

#[tokio::test]
async fn objects_too_large_or_too_deep_are_refused() {
    let f = Fixture::new();
    let large = json!({"metadata": {"name": "x"}, "data": {"k": "x".repeat(3 << 20)}});
    assert!(
        f.try_create(Kind::ConfigMap, large)
            .await
            .unwrap_err()
            .to_string()
            .contains("more than the")
    );
    let mut deep = json!(1);
    for _ in 0..110 {
        deep = json!([deep]);
    }
    let error = f
        .try_create(
            Kind::Rollout,
            json!({"metadata": {"name": "x"}, "spec": {"a": deep}}),
        )
        .await
        .unwrap_err();
    assert!(error.to_string().contains("deeper than"), "{error}");
}

#[tokio::test]
async fn several_writes_happen_together_or_not_at_all() {
    let f = Fixture::new();
    let revision = f.store.revision();
    let failed: Result<(), _> = f
        .store
        .transact(host(), |t| {
            t.create(Kind::ConfigMap, "default", named("one"))?;
            assert_eq!(
                t.list(Kind::ConfigMap, None, &Selector::default()).len(),
                1,
                "a transaction sees its own writes"
            );
            t.create(Kind::ConfigMap, "default", named("one")).map(drop)
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(f.store.revision(), revision);
    assert_eq!(f.find(Kind::ConfigMap, "one"), None);
}

#[tokio::test]
async fn a_panic_in_one_write_harms_no_other() {
    let f = Fixture::new();
    let failed: Result<(), _> = f.store.transact(host(), |_| panic!("on purpose")).await;
    assert!(matches!(failed, Err(StoreError::Internal(_))));
    f.create(Kind::ConfigMap, named("one")).await;
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_stores_nothing() {
    let f = Fixture::new();
    let dry = host().dry(true);
    let made = f
        .store
        .create(dry.clone(), Kind::Rollout, "default", rollout("web"))
        .await
        .unwrap();
    assert_eq!(number(&made, "/metadata/generation"), 1);
    assert_eq!(f.find(Kind::Rollout, "web"), None);
    assert!(
        f.store
            .create(dry, Kind::Rollout, "default", named("Bad"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn ten_thousand_objects_are_listed_by_namespace_label_and_name() {
    let f = Fixture::new();
    f.store
        .transact(host(), |t| {
            for i in 0..10_000 {
                let object = json!({"metadata": {"name": format!("c{i:05}"), "labels": {"rest": (i % 7).to_string()}}});
                t.create(Kind::ConfigMap, if i % 2 == 0 { "even" } else { "odd" }, object)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let count = |namespace, labels: &str, fields: &str| {
        f.store
            .list(
                Kind::ConfigMap,
                namespace,
                &Selector::parse(labels, fields).unwrap(),
            )
            .items
            .len()
    };
    assert_eq!(count(None, "", ""), 10_000);
    assert_eq!(count(Some("odd"), "", ""), 5_000);
    assert_eq!(count(None, "rest=3", ""), 1_429);
    assert_eq!(count(None, "", "metadata.name=c00042"), 1);
    let start = std::time::Instant::now();
    for _ in 0..20 {
        count(Some("odd"), "rest in (1,2)", "");
    }
    // A thousandth of this is usual; a list that read the disk or copied every object would not come near.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}
