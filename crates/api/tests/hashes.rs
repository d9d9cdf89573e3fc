//! Every vector of `data/hashes.json`, and which templates count as the same.

use crossfade_api::canonical_json::Form;
use crossfade_api::hash::{
    canonical_steps, canonical_template, pod_template_hash, step_hash, template_digest,
    templates_equal,
};
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::rollout::PodTemplateMetadata;
use crossfade_api::steps::CanaryStep;
use crossfade_api::template_defaults::without_injected;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vectors {
    pod_templates: Vec<TemplateVector>,
    steps: Vec<StepVector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TemplateVector {
    about: String,
    template: Value,
    collision_count: Option<i32>,
    canonical: String,
    #[serde(rename = "canonicalH0")]
    canonical_h0: Option<String>,
    h1: String,
    h0: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StepVector {
    about: String,
    steps: Option<Vec<CanaryStep>>,
    canonical: String,
    hash: String,
    older_canonical: Option<String>,
    older_hash: Option<String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("data/hashes.json")).expect("the vectors are JSON")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("canonical JSON is UTF-8")
}

#[test]
fn every_vector_of_a_pod_template_has_its_bytes_and_hashes() {
    let vectors = vectors().pod_templates;
    assert_eq!(vectors.len(), 16);
    for vector in vectors {
        let template = PodTemplate::from(vector.template);
        let about = vector.about;
        assert_eq!(
            text(canonical_template(&template, Form::Current)),
            vector.canonical,
            "{about}"
        );
        let hash = |form| pod_template_hash(&template, vector.collision_count, form);
        assert_eq!(hash(Form::Current).as_str(), vector.h1, "{about}");
        assert_eq!(
            hash(Form::WithCreationTimestamp).as_str(),
            vector.h0,
            "{about}"
        );
        if let Some(canonical) = vector.canonical_h0 {
            assert_eq!(
                text(canonical_template(&template, Form::WithCreationTimestamp)),
                canonical,
                "{about}"
            );
        }
    }
}

#[test]
fn every_vector_of_a_list_of_steps_has_its_bytes_and_hashes() {
    let vectors = vectors().steps;
    assert_eq!(vectors.len(), 17);
    for vector in vectors {
        let steps = vector.steps.unwrap_or_default();
        let about = vector.about;
        assert_eq!(
            text(canonical_steps(&steps, Form::Current)),
            vector.canonical,
            "{about}"
        );
        assert_eq!(step_hash(&steps, Form::Current), vector.hash, "{about}");
        if let Some(canonical) = vector.older_canonical {
            assert_eq!(
                text(canonical_steps(&steps, Form::OlderSteps)),
                canonical,
                "{about}"
            );
        }
        if let Some(hash) = vector.older_hash {
            assert_eq!(step_hash(&steps, Form::OlderSteps), hash, "{about}");
        }
    }
}

fn template(spec: &Value) -> PodTemplate {
    json!({"metadata": {"labels": {"app": "demo"}}, "spec": spec}).into()
}

#[test]
fn spelling_out_a_default_leaves_a_template_the_same() {
    let short = template(&json!({
        "containers": [{
            "name": "demo",
            "image": "nginx:1.25",
            "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "0.5"}},
            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "readinessProbe": {"httpGet": {"port": 80}},
        }],
        "volumes": [{"name": "tmp"}, {"name": "cfg", "configMap": {"name": "cm"}}],
        "serviceAccountName": "sa",
    }));
    let spelled_out = template(&json!({
        "containers": [{
            "name": "demo",
            "image": "nginx:1.25",
            "imagePullPolicy": "IfNotPresent",
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "500m"}, "requests": {}},
            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
            "readinessProbe": {
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
            },
            "command": [],
        }],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "cfg", "configMap": {"name": "cm", "defaultMode": 420}}],
        "serviceAccountName": "sa",
        "serviceAccount": "sa",
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "affinity": {"podAntiAffinity": {}},
    }));
    assert!(templates_equal(&short, &spelled_out));
    assert_eq!(template_digest(&short), template_digest(&spelled_out));
    assert_eq!(template_digest(&short).len(), 64);
}

#[test]
fn an_explicit_zero_and_another_image_make_another_template() {
    let with = |spec: Value| template(&spec);
    let plain = with(json!({"containers": [{"name": "a", "image": "x:1"}]}));
    for other in [
        with(json!({"containers": [{"name": "a", "image": "x:2"}]})),
        with(
            json!({"containers": [{"name": "a", "image": "x:1"}], "terminationGracePeriodSeconds": 0}),
        ),
        with(json!({"containers": [{"name": "a", "image": "x:1", "imagePullPolicy": "Always"}]})),
    ] {
        assert!(!templates_equal(&plain, &other), "{other:?}");
        assert_ne!(
            template_digest(&plain),
            template_digest(&other),
            "{other:?}"
        );
    }
}

#[test]
fn what_a_controller_put_into_a_template_is_taken_out_again() {
    let wanted = PodTemplate::from(json!({
        "metadata": {"labels": {"app": "demo", "role": "mine"}},
        "spec": {"containers": [{"name": "a", "image": "x:1"}]},
    }));
    let stored = PodTemplate::from(json!({
        "metadata": {
            "labels": {"app": "demo", "role": "canary", "track": "canary", "rollouts-pod-template-hash": "abc"},
            "annotations": {"note": "canary"},
        },
        "spec": {
            "containers": [{"name": "a", "image": "x:1"}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                "labelSelector": {"matchExpressions": [
                    {"key": "rollouts-pod-template-hash", "operator": "In", "values": ["old"]},
                ]},
                "namespaces": ["shop"],
                "topologyKey": "kubernetes.io/hostname",
            }]}},
        },
    }));
    let injected = serde_json::from_value(json!({
        "labels": {"role": "canary", "track": "canary"},
        "annotations": {"note": "canary"},
    }))
    .expect("metadata decodes");
    assert_eq!(without_injected(&stored, &injected, &wanted), wanted);
}

#[test]
fn api_04_the_hash_of_a_template_names_its_replica_set_and_differs_after_a_collision() {
    let demo = template(&json!({"containers": [{"name": "demo", "image": "nginx:1.25"}]}));
    assert_eq!(
        pod_template_hash(&demo, None, Form::Current).as_str(),
        "56459f669d"
    );
    assert_eq!(
        pod_template_hash(&demo, Some(1), Form::Current).as_str(),
        "77567764bc"
    );
}

#[test]
fn api_05_a_list_of_steps_has_a_hash() {
    let hash = |steps: Value| {
        let steps: Vec<CanaryStep> = serde_json::from_value(steps).expect("the steps decode");
        step_hash(&steps, Form::Current)
    };
    assert_eq!(hash(json!([{"setWeight": 50}, {"pause": {}}])), "757f5f97b");
    assert_eq!(hash(json!([])), "5ffbfbbd64");
}

#[test]
fn api_13_spelling_out_a_default_makes_no_new_version() {
    let short = template(&json!({"containers": [{"name": "demo", "image": "nginx:1.25"}]}));
    let spelled_out = template(&json!({
        "containers": [{"name": "demo", "image": "nginx:1.25"}], "dnsPolicy": "ClusterFirst",
    }));
    // The hash differs, as it does for the reference; the version is found by what its template means.
    assert_ne!(
        pod_template_hash(&short, None, Form::Current),
        pod_template_hash(&spelled_out, None, Form::Current)
    );
    assert!(templates_equal(&short, &spelled_out));
}

/// What a controller of another make stored, at one moment: a Rollout's template, steps and hashes, and its
/// ReplicaSets' templates as the API server keeps them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    from: String,
    template: Value,
    current_pod_hash: String,
    collision_count: Option<i32>,
    steps: Option<Vec<CanaryStep>>,
    current_step_hash: Option<String>,
    replica_sets: Vec<RecordedReplicaSet>,
}

#[derive(Deserialize)]
struct RecordedReplicaSet {
    hash: String,
    template: Value,
    #[serde(default)]
    injected: PodTemplateMetadata,
}

#[test]
fn recorded_versions_are_recognised_by_their_hash_or_by_what_their_template_means() {
    let (mut by_hash, mut by_older_hash, mut by_meaning) = (0, 0, 0);
    for line in include_str!("data/recorded_hashes.jsonl").lines() {
        let recorded: Recorded = serde_json::from_str(line).expect("the recording is JSON");
        let from = &recorded.from;
        let wanted = PodTemplate::from(recorded.template);
        let hash = |form| pod_template_hash(&wanted, recorded.collision_count, form).0;
        if hash(Form::Current) == recorded.current_pod_hash {
            by_hash += 1;
        } else if hash(Form::WithCreationTimestamp) == recorded.current_pod_hash {
            by_older_hash += 1;
        } else {
            by_meaning += 1;
        }
        let same: Vec<_> = recorded
            .replica_sets
            .iter()
            .filter(|set| {
                let plain = without_injected(
                    &PodTemplate::from(set.template.clone()),
                    &set.injected,
                    &wanted,
                );
                templates_equal(&plain, &wanted)
            })
            .map(|set| set.hash.as_str())
            .collect();
        assert_eq!(same, [recorded.current_pod_hash.as_str()], "{from}");
        if let (Some(steps), Some(stored)) = (recorded.steps, recorded.current_step_hash) {
            assert_eq!(step_hash(&steps, Form::Current), stored, "{from}");
        }
    }
    assert!(
        by_hash > 20 && by_older_hash > 5 && by_meaning > 2,
        "{by_hash} {by_older_hash} {by_meaning}"
    );
}
