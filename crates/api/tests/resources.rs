//! How resources are read and written.

use crossfade_api::{AnalysisTemplate, Resource, Rollout};
use serde_json::json;

#[test]
fn a_rollout_keeps_every_field_that_this_version_does_not_know() {
    let json = json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "replicas": 2,
            "novelty": {"a": null, "b": [1]},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "future": 1}]}},
            "strategy": {"canary": {"steps": [{"setWeight": 10, "why": "x"}, {"pause": {}}]}},
        },
        "status": {"abort": false, "phase": "Healthy", "later": true},
    });
    let (mut rollout, errors) = Rollout::from_json(json.clone());
    assert_eq!(errors, []);
    assert_eq!(rollout.to_json(), json);

    rollout.status.message = "changed".to_owned();
    let mut expected = json;
    expected["status"]["message"] = json!("changed");
    assert_eq!(rollout.to_json(), expected);
}

#[test]
fn an_object_made_here_has_its_kind_and_no_empty_status() {
    let template = AnalysisTemplate::default();
    assert_eq!(
        template.to_json(),
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {}, "spec": {}})
    );
}
