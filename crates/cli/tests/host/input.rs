//! Mistakes in what people apply: each is told in words, with an exit code, and nothing else suffers.

use crossfade_api::merge_patch;
use serde_json::{Value, json};

use crate::rig::{PROGRAM, Rig, sample, shop};

/// The exit code of a command that was refused.
const REFUSED: i32 = 6;
/// The exit code of a command that found the release degraded.
const DEGRADED: i32 = 3;

/// A good Rollout with a patch applied to its spec.
fn rollout(name: &str, patch: &Value) -> Value {
    let mut rollout = json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "sample:v1", "command": [PROGRAM, "sample"]}]},
            },
            "strategy": {"canary": {}},
        },
    });
    merge_patch::apply(&mut rollout["spec"], patch);
    rollout
}

fn documents(all: &[Value]) -> String {
    let texts: Vec<String> = all.iter().map(Value::to_string).collect();
    texts.join("\n---\n")
}

#[tokio::test]
async fn manifests_that_are_none_are_refused_with_their_place_and_nothing_is_made() {
    let rig = Rig::started().await;
    let good = rollout("good", &json!({})).to_string();
    let long = "x".repeat(300);
    let spaces = rollout("has spaces", &json!({})).to_string();
    let too_long = rollout(&long, &json!({})).to_string();
    let flux = r#"{"apiVersion": "example.com/v1", "kind": "Flux", "metadata": {"name": "x"}}"#;
    let old = r#"{"apiVersion": "argoproj.io/v1", "kind": "Rollout", "metadata": {"name": "x"}}"#;
    let text = rollout("text", &json!({"replicas": "three"})).to_string();
    // What is wrong, the document, words.
    let table = [
        (
            "broken YAML",
            "kind: [Rollout".to_owned(),
            vec!["manifests.yaml:3:"],
        ),
        (
            "a tab",
            "kind:\n\t- Rollout".to_owned(),
            vec!["manifests.yaml:4:2"],
        ),
        ("no object", "just words".to_owned(), vec!["manifests.yaml"]),
        ("no kind", "metadata: {name: x}".to_owned(), vec!["kind"]),
        (
            "an unknown kind",
            flux.to_owned(),
            vec!["no matches for kind \"Flux\""],
        ),
        (
            "an unknown version",
            old.to_owned(),
            vec!["argoproj.io/v1alpha1"],
        ),
        (
            "no name",
            good.replace("\"name\":\"good\"", "\"labels\":{}"),
            vec!["metadata.name"],
        ),
        (
            "spaces in a name",
            spaces,
            vec!["metadata.name", "has spaces"],
        ),
        (
            "a name that is too long",
            too_long,
            vec!["metadata.name", "no more than 253"],
        ),
        ("a word for a number", text, vec!["spec.replicas"]),
    ];
    for (what, document, words) in table {
        let ended = rig.try_apply(&format!("{good}\n---\n{document}\n")).await;
        assert!([2, REFUSED].contains(&ended.code), "{what}: {ended:?}");
        assert!(ended.stderr.starts_with("Error: "), "{what}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
        for word in words {
            assert!(
                ended.stderr.contains(word),
                "{what}: no {word:?} in {ended:?}"
            );
        }
        assert!(rig.rollout("good").await.is_null(), "{what}: all or none");
    }
    rig.end().await;
}

#[tokio::test]
async fn a_misspelt_field_is_warned_of_with_the_name_that_was_meant() {
    let rig = Rig::started().await;
    let ended = rig
        .try_apply(
            &rollout(
                "shop",
                &json!({"replica": 3, "strategy": {"canary": {"maxSurg": 1}}}),
            )
            .to_string(),
        )
        .await;
    assert_eq!(ended.code, 0, "{ended:?}");
    for words in [
        "unknown field \"spec.replica\"; did you mean \"replicas\"?",
        "unknown field \"spec.strategy.canary.maxSurg\"; did you mean \"maxSurge\"?",
    ] {
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
    rig.end().await;
}

#[tokio::test]
async fn every_fault_of_a_strategy_shows_on_the_release_and_ends_commands_with_3() {
    let rig = Rig::started().await;
    let canary = |canary: Value| json!({"strategy": {"canary": canary}});
    let steps = |steps: Value| canary(json!({"steps": steps}));
    let blue_green = |strategy: Value| json!({"strategy": {"canary": null, "blueGreen": strategy}});
    let nginx = |more: Value| {
        let mut strategy = json!({"stableService": "s", "canaryService": "c",
            "trafficRouting": {"nginx": {"stableIngress": "i"}}});
        merge_patch::apply(&mut strategy, &more);
        canary(strategy)
    };
    // A rule's number, the spec's patch, the words of the fault.
    let table = [
        (
            "1",
            json!({"replicas": -1}),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "2",
            json!({"selector": null}),
            "spec.selector: Required value: Rollout has missing field '.spec.selector'",
        ),
        (
            "4",
            json!({"selector": {"matchLabels": null}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            "7",
            json!({"selector": {"matchLabels": {"app": "other"}}}),
            "`selector` does not match template `labels`",
        ),
        (
            "8",
            json!({"template": {"spec": {"containers": [{"name": "A_B", "image": "x"}]}}}),
            "spec.template.spec.containers[0].name: Invalid value: \"A_B\"",
        ),
        (
            "10",
            json!({"template": {"spec": {"restartPolicy": "Never"}}}),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            "11",
            json!({"template": {"spec": {"activeDeadlineSeconds": 5}}}),
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        ),
        (
            "12",
            json!({"minReadySeconds": -1}),
            "spec.minReadySeconds: Invalid value: -1",
        ),
        (
            "13",
            json!({"revisionHistoryLimit": -1}),
            "spec.revisionHistoryLimit: Invalid value: -1",
        ),
        (
            "15",
            json!({"progressDeadlineSeconds": 5, "minReadySeconds": 10}),
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
        ),
        (
            "16",
            json!({"strategy": {"canary": null}}),
            "Rollout has missing field '.spec.strategy.canary or .spec.strategy.blueGreen'",
        ),
        (
            "17",
            json!({"strategy": {"blueGreen": {"activeService": "a"}}}),
            "Multiple Strategies can not be listed",
        ),
        (
            "b1",
            blue_green(json!({"activeService": "a", "previewService": "a"})),
            "two different services are required",
        ),
        (
            "b2",
            blue_green(json!({"activeService": "a", "scaleDownDelayRevisionLimit": 90})),
            "can not be smaller than the rollout's scale down limit",
        ),
        (
            "c1",
            canary(json!({"maxSurge": 0, "maxUnavailable": 0})),
            "MaxSurge and MaxUnavailable both can not be zero",
        ),
        (
            "c2",
            canary(json!({"canaryService": "a", "stableService": "a"})),
            "two different services are required",
        ),
        (
            "c8",
            nginx(json!({"stableService": null})),
            "Canary service and Stable service must to be set to use Traffic Routing",
        ),
        (
            "c10",
            canary(json!({"scaleDownDelaySeconds": 5})),
            "Canary scaleDownDelaySeconds can only be used with traffic routing",
        ),
        (
            "c11",
            canary(json!({"dynamicStableScale": true})),
            "Canary dynamicStableScale can only be used with traffic routing",
        ),
        (
            "c12",
            nginx(json!({"dynamicStableScale": true, "scaleDownDelaySeconds": 5})),
            "cannot be used with scaleDownDelaySeconds",
        ),
        (
            "s1",
            steps(json!([{"setWeight": 1, "pause": {}}])),
            "Step must have one of the following set",
        ),
        (
            "s2",
            steps(json!([{}])),
            "Step must have one of the following set",
        ),
        (
            "s3",
            steps(json!([{"setWeight": 101}])),
            "SetWeight needs to be between 0 and 100",
        ),
        (
            "s4",
            steps(json!([{"pause": {"duration": "1d"}}])),
            "Duration needs to be greater than 0",
        ),
        (
            "s5",
            steps(json!([{"setCanaryScale": {"weight": 5}}])),
            "SetCanaryScale requires TrafficRouting to be set",
        ),
        (
            "s6",
            steps(json!([{"setHeaderRoute": {"name": "r"}}])),
            "SetHeaderRoute requires TrafficRouting, supports Istio and ALB and Apisix",
        ),
        (
            "s11",
            steps(json!([{"setMirrorRoute": {"name": "r"}}])),
            "SetMirrorRoute requires TrafficRouting, supports Istio and Plugins",
        ),
        (
            "a1",
            canary(json!({"antiAffinity": {}})),
            "AntiAffinity must have exactly one strategy",
        ),
        (
            "service",
            canary(json!({"stableService": "nobody"})),
            "spec.strategy.canary.stableService: Invalid value: \"nobody\": service \"nobody\" not found",
        ),
        (
            "template",
            steps(json!([{"analysis": {"templates": [{"templateName": "nobody"}]}}])),
            "AnalysisTemplate 'nobody' not found",
        ),
        (
            "experiment",
            steps(
                json!([{"experiment": {"templates": [{"name": "a", "specRef": "stable", "weight": 5}]}}]),
            ),
            "Experiment template weight cannot be set unless TrafficRouting is enabled",
        ),
        (
            "selects",
            canary(json!({"stableService": "astray"})),
            "Service \"astray\" has unmatch label \"app\" in rollout",
        ),
    ];
    let astray = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "astray"},
        "spec": {"selector": {"app": "nothing"}, "ports": [{"port": 80}]}});
    let mut all = vec![astray];
    all.extend(
        table
            .iter()
            .map(|(rule, patch, _)| rollout(&format!("rule-{rule}"), patch)),
    );
    all.push(rollout("good", &json!({})));
    rig.apply(&documents(&all)).await;
    for (rule, _, words) in &table {
        let name = format!("rule-{rule}");
        let invalid = format!("The Rollout \"{name}\" is invalid: ");
        let seen = rig
            .becomes(&name, "InvalidSpec", |now| {
                let message = now["status"]["message"].as_str().unwrap_or_default();
                message.contains(&invalid) && message.contains(words)
            })
            .await;
        assert_eq!(seen["status"]["phase"], "Degraded", "{rule}");
        let conditions = seen["status"]["conditions"].as_array().expect("conditions");
        assert!(
            conditions
                .iter()
                .any(|told| told["type"] == "InvalidSpec" && told["status"] == "True"),
            "{rule}: {conditions:#?}"
        );
    }
    // A sample of the commands: each is a process.
    for (rule, _, words) in table.iter().step_by(8) {
        let name = format!("rule-{rule}");
        let ended = rig.crossfade(&["status", &name, "--timeout", "60s"]).await;
        assert_eq!(ended.code, DEGRADED, "{rule}: {ended:?}");
        assert!(ended.stdout.contains(words), "{rule}: {ended:?}");
        rig.explains(&name, &[words]).await;
    }
    let ended = rig.crossfade(&["status", "good", "--timeout", "60s"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    // Mended, it is like any other.
    let mended: Vec<Value> = table
        .iter()
        .step_by(8)
        .map(|(rule, ..)| rollout(&format!("rule-{rule}"), &json!({})))
        .collect();
    rig.apply(&documents(&mended)).await;
    for (rule, ..) in table.iter().step_by(8) {
        let name = format!("rule-{rule}");
        let ended = rig.crossfade(&["status", &name, "--timeout", "60s"]).await;
        assert_eq!(ended.code, 0, "{rule}: {ended:?}");
    }
    rig.end().await;
}

#[tokio::test]
async fn a_mount_that_cannot_be_and_a_secret_that_is_missing_hold_the_pods_with_the_reason() {
    let rig = Rig::started().await;
    let with = |name: &str, volume: Value, script: &str| {
        let container = json!({"name": "main", "image": "sample:v1", "command": ["/bin/sh", "-c", script],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
        let mut volume = volume;
        volume["name"] = json!("data");
        rollout(
            name,
            &json!({"replicas": 1, "progressDeadlineSeconds": 3,
            "template": {"spec": {"containers": [container], "volumes": [volume]}}}),
        )
    };
    let all = [
        with(
            "claim",
            json!({"persistentVolumeClaim": {"claimName": "big"}}),
            "cat /data/a; sleep 100",
        ),
        with(
            "secret",
            json!({"secret": {"secretName": "nobody"}}),
            "cat /data/a; sleep 100",
        ),
        // Nobody could tell this program that its folder is elsewhere.
        with("unmentioned", json!({"emptyDir": {}}), "sleep 100"),
    ];
    rig.apply(&documents(&all)).await;
    for (name, words) in [
        (
            "claim",
            "persistentVolumeClaim is not supported on one machine",
        ),
        ("secret", "nobody"),
        ("unmentioned", "volume `data` cannot appear at /data"),
    ] {
        rig.explains(name, &[words]).await;
        let ended = rig.crossfade(&["status", name, "--timeout", "60s"]).await;
        assert_eq!(ended.code, DEGRADED, "{name}: {ended:?}");
    }
    // The Secret comes, and the pod starts without being asked again.
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nobody"}, "stringData": {"a": "hidden"}});
    rig.apply(&secret.to_string()).await;
    rig.healthy("secret", "v1").await;
    assert!(!rig.log().contains("hidden"));
    rig.end().await;
}

#[tokio::test]
async fn two_services_with_one_port_are_both_reached() {
    let rig = Rig::started().await;
    rig.apply(&shop(&sample("v1"), "{canary: {}}", "")).await;
    rig.healthy("shop", "v1").await;
    let (one, other) = (rig.address("shop").await, rig.address("shop-canary").await);
    assert_ne!(one, other);
    let loads = [&one, &other].map(|address| crate::load::Load::start(address, true));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for load in loads {
        load.end_well();
    }
    let shown = rig.crossfade(&["get", "services"]).await;
    assert!(
        shown.stdout.contains(&one) && shown.stdout.contains(&other),
        "{shown:?}"
    );
    rig.end().await;
}
