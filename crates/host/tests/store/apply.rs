//! `apply`: three-way merges, overlays, all or nothing.

use crossfade_host::store::Immutable;
use crossfade_host::wire::ApplyResult::{Configured, Created, Unchanged};
use crossfade_host::wire::{Applied, ApplyRequest, ApplyResult};

use super::*;

async fn try_apply(
    f: &Fixture,
    documents: Vec<Value>,
    overlays: Vec<Value>,
) -> Result<Vec<Applied>, StoreError> {
    let request = ApplyRequest {
        documents,
        overlays,
    };
    f.store
        .apply(
            Act::by_person("anna"),
            request,
            "default",
            Immutable::Refuse,
        )
        .await
}

async fn apply(f: &Fixture, documents: Vec<Value>) -> Vec<ApplyResult> {
    try_apply(f, documents, Vec::new())
        .await
        .unwrap()
        .into_iter()
        .map(|a| a.result)
        .collect()
}

fn web(spec: &Value) -> Value {
    json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"}, "spec": spec})
}

#[tokio::test]
async fn a_manifest_is_created_configured_and_unchanged() {
    let f = Fixture::new();
    assert_eq!(
        apply(&f, vec![web(&json!({"replicas": 1}))]).await,
        [Created]
    );
    assert_eq!(
        apply(&f, vec![web(&json!({"replicas": 1}))]).await,
        [Unchanged]
    );
    assert_eq!(
        apply(&f, vec![web(&json!({"replicas": 2}))]).await,
        [Configured]
    );
    let stored = f.find(Kind::Rollout, "web").unwrap();
    assert_eq!(
        (
            number(&stored, "/spec/replicas"),
            number(&stored, "/metadata/generation")
        ),
        (2, 2)
    );
}

#[tokio::test]
async fn what_the_manifest_drops_goes_and_what_others_own_stays() {
    let f = Fixture::new();
    apply(&f, vec![web(&json!({"replicas": 2, "paused": true, "strategy": {"canary": {"steps": [{"setWeight": 5}], "maxSurge": 1}}}))]).await;
    let stored = f.find(Kind::Rollout, "web").unwrap();
    f.merge(&stored, Part::Object, json!({"metadata": {"annotations": {"rollout.argoproj.io/revision": "1"}}, "spec": {"restartAt": "2026-01-01T00:00:00Z"}})).await.unwrap();
    f.merge(&stored, Part::Status, json!({"status": {"replicas": 2}}))
        .await
        .unwrap();
    let next = web(&json!({"strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}}));
    assert_eq!(apply(&f, vec![next.clone()]).await, [Configured]);
    let stored = f.find(Kind::Rollout, "web").unwrap();
    assert_eq!(
        stored.at("/spec"),
        Some(
            &json!({"restartAt": "2026-01-01T00:00:00Z", "strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}})
        )
    );
    assert_eq!(stored.annotation("rollout.argoproj.io/revision"), Some("1"));
    assert_eq!(number(&stored, "/status/replicas"), 2);
    assert_eq!(apply(&f, vec![next]).await, [Unchanged]);
}

#[tokio::test]
async fn a_null_in_a_manifest_means_that_the_field_shall_not_be_there() {
    let f = Fixture::new();
    apply(&f, vec![web(&json!({"replicas": 2, "paused": null}))]).await;
    assert_eq!(
        f.find(Kind::Rollout, "web").unwrap().at("/spec"),
        Some(&json!({"replicas": 2}))
    );
    apply(&f, vec![web(&json!({"replicas": null}))]).await;
    assert_eq!(
        f.find(Kind::Rollout, "web").unwrap().at("/spec"),
        Some(&json!({}))
    );
}

#[tokio::test]
async fn an_exported_object_can_be_applied_again_and_its_status_is_not_taken() {
    let f = Fixture::new();
    apply(&f, vec![web(&json!({"replicas": 1}))]).await;
    let stored = f.find(Kind::Rollout, "web").unwrap();
    let stored = f
        .merge(&stored, Part::Status, json!({"status": {"abort": true}}))
        .await
        .unwrap();
    let exported = stored.value().clone();
    f.delete(&stored).await;
    assert_eq!(apply(&f, vec![exported]).await, [Created]);
    let again = f.find(Kind::Rollout, "web").unwrap();
    assert_ne!(again.uid(), stored.uid());
    assert_eq!(again.at("/status"), None);
    assert_eq!(apply(&f, vec![again.value().clone()]).await, [Unchanged]);
}

#[tokio::test]
async fn overlays_change_the_documents_of_their_kind_and_name_and_lists_whole() {
    let f = Fixture::new();
    let manifest = web(
        &json!({"replicas": 5, "strategy": {"canary": {"steps": [{"setWeight": 5}, {"pause": {"duration": "1h"}}]}}}),
    );
    let overlays = vec![
        json!({"kind": "Rollout", "metadata": {"name": "web", "labels": {"where": "here"}}, "spec": {"replicas": null, "strategy": {"canary": {"steps": [{"setWeight": 50}]}}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}),
        json!({"kind": "Rollout", "metadata": {"name": "web", "namespace": "other"}, "spec": {"replicas": 7}, "apiVersion": "argoproj.io/v1alpha1"}),
    ];
    let applied = try_apply(&f, vec![manifest], overlays).await.unwrap();
    let told: Vec<(&str, &str, &str)> = applied
        .iter()
        .map(|a| (a.kind.as_str(), a.namespace.as_str(), a.name.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("Rollout", "default", "web"),
            ("Service", "default", "web"),
            ("Rollout", "other", "web")
        ]
    );
    let stored = f.find(Kind::Rollout, "web").unwrap();
    assert_eq!(
        stored.at("/spec"),
        Some(&json!({"strategy": {"canary": {"steps": [{"setWeight": 50}]}}}))
    );
    assert_eq!(stored.label("where"), Some("here"));
    assert_eq!(
        number(
            &f.store.get(Kind::Rollout, "other", "web").unwrap(),
            "/spec/replicas"
        ),
        7
    );
}

#[tokio::test]
async fn with_a_fault_in_any_document_none_is_applied_and_all_faults_are_told() {
    let f = Fixture::new();
    let revision = f.store.revision();
    let documents = vec![
        web(&json!({"replicas": 1})),
        json!({"apiVersion": "example.com/v1", "kind": "Flux", "metadata": {"name": "x"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "No"}}),
    ];
    let error = try_apply(&f, documents, Vec::new()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("2 of the documents are refused"), "{text}");
    assert!(
        text.contains(r#"no matches for kind "Flux" in version "example.com/v1""#),
        "{text}"
    );
    assert!(text.contains(r#"ConfigMap "No" is invalid"#), "{text}");
    assert_eq!(error.to_status().details.map(|d| d.causes.len()), Some(2));
    assert_eq!(f.store.revision(), revision);
}

#[tokio::test]
async fn documents_that_are_no_objects_are_refused_and_named() {
    let f = Fixture::new();
    for (document, why) in [
        (json!("text"), "document 1 is no object"),
        (json!({"apiVersion": "v1"}), "document 1 has no kind"),
        (
            json!({"kind": "Pod", "metadata": {"name": "x"}}),
            "has no apiVersion",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod"}),
            "has no metadata.name",
        ),
        (
            json!({"apiVersion": "v1", "kind": "List", "items": [7]}),
            "item of document 1: 1 is no object",
        ),
    ] {
        let error = try_apply(&f, vec![document], Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(
        apply(
            &f,
            vec![
                Value::Null,
                json!({"apiVersion": "v1", "kind": "List", "items": [web(&json!({}))]})
            ]
        )
        .await,
        [Created]
    );
}

#[tokio::test]
async fn kinds_without_effect_here_are_accepted_with_one_warning() {
    let f = Fixture::new();
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}});
    let applied = try_apply(&f, vec![scaler], Vec::new()).await.unwrap();
    assert_eq!(applied[0].result, Unchanged);
    assert_eq!(applied[0].warnings.len(), 1);
    assert!(
        applied[0].warnings[0].contains("has no effect on one machine"),
        "{:?}",
        applied[0].warnings
    );
}

/// A schema with one unchangeable field, and a warning.
struct Fixed;

impl Admission for Fixed {
    fn admit(
        &self,
        _: Kind,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<Vec<String>, Vec<Fault>> {
        let field = |v: &Value| v.pointer("/spec/fixed").cloned();
        match old {
            Some(old) if field(old) != field(new) => Err(vec![Fault::immutable(
                "spec.fixed",
                "Invalid value: field is immutable",
            )]),
            _ => Ok(vec!["mind the gap".to_owned()]),
        }
    }
}

#[tokio::test]
async fn where_a_field_cannot_be_changed_force_replaces_the_object() {
    let f = Fixture::with(Options::new(Arc::new(Fixed)));
    apply(&f, vec![web(&json!({"fixed": 1}))]).await;
    let before = f.find(Kind::Rollout, "web").unwrap();
    f.create(Kind::ReplicaSet, owned("web-1", &before)).await;
    let error = try_apply(&f, vec![web(&json!({"fixed": 2}))], Vec::new())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Rollout.argoproj.io "web" is invalid: spec.fixed: Invalid value: field is immutable"#
    );
    let request = ApplyRequest {
        documents: vec![web(&json!({"fixed": 2}))],
        overlays: Vec::new(),
    };
    let applied = f
        .store
        .apply(host(), request, "default", Immutable::Replace)
        .await
        .unwrap();
    assert_eq!(applied[0].result, Configured);
    assert_eq!(applied[0].warnings, ["mind the gap"]);
    let after = f.find(Kind::Rollout, "web").unwrap();
    assert_ne!(after.uid(), before.uid());
    assert_eq!(number(&after, "/spec/fixed"), 2);
    f.until("what the old one owned is gone", |s| {
        s.get(Kind::ReplicaSet, "default", "web-1").is_err()
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_tells_what_would_happen_and_stores_nothing() {
    let f = Fixture::new();
    let request = ApplyRequest {
        documents: vec![web(&json!({}))],
        overlays: Vec::new(),
    };
    let applied = f
        .store
        .apply(host().dry(true), request, "default", Immutable::Refuse)
        .await
        .unwrap();
    assert_eq!(applied[0].result, Created);
    assert_eq!(f.find(Kind::Rollout, "web"), None);
}
