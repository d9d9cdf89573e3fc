//! Whatever is written, the store refuses or keeps it; it never panics, and reads back what it kept.

use crossfade_host::store::{Immutable, Selector};
use crossfade_host::wire::ApplyRequest;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// JSON that resembles an object closely enough to get past the first checks now and then.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("web".to_owned()),
        Just("a".to_owned()),
        Just(String::new()),
        Just("default".to_owned()),
        Just("2026-01-01T00:00:00Z".to_owned()),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    let name = prop_oneof![
        4 => proptest::sample::select(vec![
            "metadata", "spec", "status", "data", "stringData", "name", "namespace", "labels", "annotations", "finalizers",
            "ownerReferences", "uid", "kind", "apiVersion", "resourceVersion", "generateName", "deletionTimestamp", "items",
            "replicas", "kubectl.kubernetes.io/last-applied-configuration", "op", "path", "value", "from",
        ]).prop_map(str::to_owned),
        1 => word,
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name.clone(), inner, 0..6).prop_map(|m| json!(m)),
        ]
    })
}

fn refused_or_kept<T>(result: Result<T, StoreError>) {
    let error = result.err();
    assert!(!matches!(error, Some(StoreError::Internal(_))), "{error:?}");
}

#[test]
fn whatever_is_written_the_store_never_panics_and_reads_back_what_it_kept() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let f = Fixture::new();
    let web = runtime
        .block_on(f.create(Kind::Rollout, rollout("web")))
        .key()
        .clone();
    let kinds = proptest::sample::select(Kind::ALL.to_vec());
    let mut runner = TestRunner::new(Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    });
    let inputs = (kinds, any_json(), any_json());
    // What has lost its owner may go at any moment.
    let all = |s: &Store| -> Vec<Arc<Object>> {
        let items = |kind| s.list(kind, None, &Selector::default()).items;
        let free = |object: &Arc<Object>| object.owners().next().is_none();
        Kind::ALL.into_iter().flat_map(items).filter(free).collect()
    };
    runner
        .run(&inputs, |(kind, one, other)| {
            runtime.block_on(async {
                let store = &f.store;
                refused_or_kept(store.create(host(), kind, "default", one.clone()).await);
                let mut likely = one.clone();
                if let Some(object) = likely.as_object_mut() {
                    object.insert("metadata".to_owned(), json!({"name": "a", "labels": other}));
                }
                refused_or_kept(store.create(host(), kind, "default", likely).await);
                for part in [Part::Object, Part::Status, Part::Scale] {
                    refused_or_kept(store.update(host(), web.clone(), part, one.clone()).await);
                    refused_or_kept(
                        store
                            .patch_merge(host(), web.clone(), part, other.clone())
                            .await,
                    );
                    refused_or_kept(
                        store
                            .patch_json(host(), web.clone(), part, json!([one, other]))
                            .await,
                    );
                }
                let mut document = rollout("web");
                document["spec"] = other.clone();
                let request = ApplyRequest {
                    documents: vec![document, one.clone()],
                    overlays: vec![other.clone()],
                };
                refused_or_kept(
                    store
                        .apply(host(), request, "default", Immutable::Replace)
                        .await,
                );
                if kind != Kind::Namespace {
                    let key = Key::new(kind, "default", "a");
                    refused_or_kept(store.delete(host(), key, Deletion::default()).await);
                }
            });
            Ok(())
        })
        .unwrap();
    let f = runtime.block_on(async {
        f.store.close().await;
        let before = all(&f.store);
        let f = f.reopened().await;
        assert_eq!(all(&f.store), before);
        f
    });
    drop(f);
}

#[test]
fn whatever_a_selector_says_it_selects_or_is_refused() {
    let mut runner = TestRunner::new(Config {
        cases: 2000,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(
            &("[a-c!=<>(), in\\-/]{0,20}", ".{0,20}"),
            |(labels, fields)| {
                let _ = Selector::parse(&labels, &fields);
                let _ = Selector::parse(&fields, &labels);
                Ok(())
            },
        )
        .unwrap();
}
