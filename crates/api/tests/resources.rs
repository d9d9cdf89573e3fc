//! How resources are read and written.

use crossfade_api::rollout_status::{PauseReason, PingPongRole, RolloutPhase, RolloutStatus};
use crossfade_api::{AnalysisTemplate, Resource, Rollout, validate};
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
fn a_newer_version_of_an_object_is_read_like_any_other_whatever_was_read_of_it_before() {
    let json = |generation: u64, steps: serde_json::Value, message: serde_json::Value| {
        json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Rollout",
            "metadata": {"name": "web", "uid": "1", "generation": generation},
            "spec": {"novelty": 1, "strategy": {"canary": {"steps": steps}}},
            "status": {"message": message},
        })
    };
    let steps = json!([{"setWeight": 10}]);
    let versions = [
        json(1, steps.clone(), json!("first")),
        json(1, steps.clone(), json!("second")),
        json(1, steps.clone(), json!(3)),
        json(2, json!("oops"), json!("third")),
        json(2, json!("oops"), json!("fourth")),
        json(3, steps, json!("fifth")),
    ];
    let mut before = Rollout::default();
    for version in versions {
        let (expected, faults) = Rollout::from_json(version.clone());
        let (rollout, found) = Rollout::from_json_after(version.clone(), &before);
        assert_eq!(rollout, expected);
        assert_eq!(found, faults);
        assert_eq!(rollout.origin.faults(), expected.origin.faults());
        assert_eq!(rollout.to_json(), version);
        before = rollout;
        before.origin.forget_json();
    }
}

#[test]
fn an_object_made_here_has_its_kind_and_no_empty_status() {
    let template = AnalysisTemplate::default();
    assert_eq!(
        template.to_json(),
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {}, "spec": {}})
    );
}

#[test]
fn api_40_a_field_of_the_wrong_type_is_named_and_the_rest_is_read() {
    let json = json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "web", "generation": "two", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "strategy": {"canary": {"steps": "oops", "maxSurge": 1}},
            "template": {"spec": {"containers": [{"name": "a", "ports": 80}]}},
        },
        "status": {"phase": "Healthy", "replicas": "many"},
    });
    let (rollout, errors) = Rollout::from_json(json.clone());
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "metadata.generation: Invalid value: \"two\": must be an integer",
            "spec.strategy.canary.steps: Invalid value: \"oops\": must be a list",
            "spec.template.spec.containers[0].ports: Invalid value: 80: must be a list",
            "status.replicas: Invalid value: \"many\": must be a 32-bit integer",
        ]
    );
    assert_eq!(rollout.name(), "web");
    assert_eq!(rollout.spec.replicas(), 3);
    let canary = rollout
        .spec
        .strategy
        .canary
        .as_ref()
        .expect("the strategy is read");
    assert!(canary.steps.is_empty() && canary.max_surge.is_some());
    assert_eq!(rollout.status.phase, RolloutPhase::Healthy);
    assert_eq!(rollout.to_json(), json);
    let told: Vec<_> = validate::rollout(&rollout)
        .iter()
        .take(3)
        .map(ToString::to_string)
        .collect();
    assert_eq!(told, texts[..3]);
}

#[test]
fn an_item_of_the_wrong_type_keeps_the_others_in_their_places() {
    let (rollout, errors) = Rollout::from_json(json!({"spec": {"strategy": {"canary": {"steps": [
        {"setWeight": 1}, "pause", {"setWeight": 3},
    ]}}}}));
    assert_eq!(errors[0].path, "spec.strategy.canary.steps[1]");
    let steps = rollout
        .spec
        .strategy
        .canary
        .expect("the strategy is read")
        .steps;
    let weights: Vec<_> = steps.iter().map(|step| step.set_weight).collect();
    assert_eq!(weights, [Some(1), None, Some(3)]);
}

#[test]
fn a_status_is_written_as_other_tools_read_it() {
    let status = json!({
        "observedGeneration": "7", "currentPodHash": "5cd66ff7ff", "stableRS": "687d76d795", "currentStepHash": "849b756fd4",
        "currentStepIndex": 1, "replicas": 5, "updatedReplicas": 1, "readyReplicas": 5, "availableReplicas": 5, "HPAReplicas": 5,
        "selector": "app=rollouts-demo", "controllerPause": true,
        "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": "2024-01-31T10:00:05Z"}],
        "phase": "Paused", "message": "CanaryPauseStep",
        "canary": {"weights": {
            "canary": {"weight": 10, "serviceName": "demo-canary", "podTemplateHash": "5cd66ff7ff"},
            "stable": {"weight": 90, "serviceName": "demo-stable", "podTemplateHash": "687d76d795"},
        }},
        "conditions": [{
            "type": "Available", "status": "True", "reason": "AvailableReason", "message": "Rollout has minimum availability",
            "lastTransitionTime": "2024-01-31T09:00:00Z", "lastUpdateTime": "2024-01-31T09:00:00Z",
        }],
        "duration": {"totalManualPauseDurationSeconds": 0},
    });
    let (rollout, errors) = Rollout::from_json(json!({"spec": {}, "status": status}));
    assert_eq!(errors, []);
    assert_eq!(json!(rollout.status), status);
    assert_eq!(
        rollout.status.pause_conditions[0].reason,
        PauseReason::CanaryPauseStep
    );
    assert_eq!(rollout.status.canary.stable_ping_pong, PingPongRole::Unset);
    let changed = RolloutStatus {
        abort: true,
        ..rollout.status.clone()
    };
    assert_ne!(changed, rollout.status);
    // The other strategy's object may be stored empty.
    let (empty, _) = Rollout::from_json(
        json!({"spec": {}, "status": {"blueGreen": {}, "canary": {}, "abort": false}}),
    );
    assert_eq!(empty.status, RolloutStatus::default());
}
