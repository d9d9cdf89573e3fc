//! Templates, their arguments, and the rules for the metrics of a run.

use std::collections::BTreeMap;

use crossfade_api::analysis::{AnalysisTemplateSpec, Argument, Metric, TemplateRef};
use crossfade_api::rollout::RolloutArgument;
use crossfade_api::template_set::{
    Hashes, ResolveError, TemplateSet, merge_arguments, resolve_field_defaults, rollout_arguments,
};
use crossfade_api::validate::{analysis, unsupported, warnings};
use crossfade_api::{Resource, Rollout};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn read<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("it decodes")
}

fn fault(metric: &Value) -> String {
    let mut json = json!({"name": "m", "provider": {"prometheus": {"query": "up"}}});
    crossfade_api::merge_patch::apply(&mut json, metric);
    analysis::metrics(&[read::<Metric>(json)])
        .err()
        .unwrap_or_default()
}

#[test]
fn the_metrics_of_a_run_follow_the_rules_in_order() {
    let table = [
        (json!({}), ""),
        (
            json!({"consecutiveSuccessLimit": -1}),
            "consecutiveSuccessLimit must be >= 0",
        ),
        (
            json!({"failureLimit": -2}),
            "failureLimit must be >= 0, or -1 to be disabled",
        ),
        (
            json!({"failureLimit": -1}),
            "failureLimit and consecutiveSuccessLimit cannot both be disabled",
        ),
        (
            json!({"inconclusiveLimit": -1}),
            "inconclusiveLimit must be >= 0",
        ),
        (
            json!({"consecutiveErrorLimit": "-1"}),
            "consecutiveErrorLimit must be >= 0",
        ),
        (
            json!({"count": 2, "interval": "1s", "failureLimit": 2, "consecutiveSuccessLimit": 1}),
            "count (2) must be >= failureLimit + consecutiveSuccessLimit (2 + 1) if both >= 0",
        ),
        (
            json!({"count": 2, "interval": "1s", "failureLimit": -1, "consecutiveSuccessLimit": 3}),
            "count must be >= consecutiveSuccessLimit",
        ),
        (
            json!({"count": 1, "inconclusiveLimit": 2}),
            "count must be >= inconclusiveLimit",
        ),
        (
            json!({"interval": "1d"}),
            "invalid interval string: time: unknown unit \"d\" in duration \"1d\"",
        ),
        (
            json!({"initialDelay": "asdf"}),
            "invalid startDelay string: time: invalid duration \"asdf\"",
        ),
        (
            json!({"provider": {"prometheus": null}}),
            "no provider specified",
        ),
        (
            json!({"provider": {"web": {"url": "http://x"}}}),
            "multiple providers specified",
        ),
        (
            json!({"provider": {"prometheus": null, "plugin": {"a/b": {}, "c/d": {}}}}),
            "multiple providers specified",
        ),
    ];
    for (metric, expected) in table {
        let expected = if expected.is_empty() {
            String::new()
        } else {
            format!("metrics[0]: {expected}")
        };
        assert_eq!(fault(&metric), expected, "{metric}");
    }
    assert_eq!(
        analysis::metrics(&[]),
        Err("no metrics specified".to_owned())
    );
    let twice: Vec<Metric> = read(json!([
        {"name": "m", "provider": {"prometheus": {}}}, {"name": "m", "provider": {"prometheus": {}}},
    ]));
    assert_eq!(
        analysis::metrics(&twice),
        Err("metrics[1]: duplicate name 'm'".to_owned())
    );
}

#[test]
fn analysis_23_an_interval_without_a_unit_is_refused() {
    assert_eq!(
        fault(&json!({"interval": "60"})),
        "metrics[0]: invalid interval string: time: missing unit in duration \"60\""
    );
}

#[test]
fn analysis_24_several_measurements_need_an_interval() {
    assert_eq!(
        fault(&json!({"count": 5})),
        "metrics[0]: interval must be specified when count > 1"
    );
}

#[test]
fn analysis_25_some_limit_must_hold() {
    assert_eq!(
        fault(&json!({"failureLimit": -1})),
        "metrics[0]: failureLimit and consecutiveSuccessLimit cannot both be disabled"
    );
}

#[test]
fn templates_are_found_depth_first_and_once() {
    let templates: BTreeMap<&str, AnalysisTemplateSpec> = [
        (
            "a",
            json!({"templates": [{"templateName": "b"}, {"templateName": "c"}]}),
        ),
        (
            "b",
            json!({"templates": [{"templateName": "d"}, {"templateName": "a"}]}),
        ),
        ("c", json!({"templates": [{"templateName": "d"}]})),
        (
            "d",
            json!({"templates": [{"templateName": "e", "clusterScope": true}]}),
        ),
        ("e", json!({"templates": [{"templateName": "f"}]})),
        ("f", json!({})),
    ]
    .map(|(name, spec)| (name, read(spec)))
    .into();
    let references: Vec<TemplateRef> = read(json!([{"templateName": "a"}, {"templateName": "d"}]));
    let set =
        TemplateSet::resolve(&references, |name, _| templates.get(name)).expect("all are there");
    let names: Vec<_> = set.all().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "d", "f", "c", "e"]);
    let missing = TemplateSet::resolve(&references, |name, _| {
        templates.get(name).filter(|_| name != "f")
    });
    assert_eq!(
        missing,
        Err(ResolveError::NotFound {
            name: "f".to_owned(),
            cluster_scope: false,
            nested: true
        })
    );
}

#[test]
fn a_hundred_templates_are_the_limit() {
    let endless: Vec<AnalysisTemplateSpec> = (0..150)
        .map(|index| read(json!({"templates": [{"templateName": (index + 1).to_string()}]})))
        .collect();
    let references: Vec<TemplateRef> = read(json!([{"templateName": "0"}]));
    let find = |name: &str, _| {
        name.parse()
            .ok()
            .and_then(|index: usize| endless.get(index))
    };
    let error = TemplateSet::resolve(&references, find).expect_err("they are too many");
    assert_eq!(
        error.to_string(),
        "too many nested analysis templates (limit 100)"
    );
}

fn flatten(one: Value, other: Value) -> Result<AnalysisTemplateSpec, String> {
    let (one, other) = (read(one), read(other));
    TemplateSet {
        namespaced: vec![("a".to_owned(), &one)],
        cluster: vec![("b".to_owned(), &other)],
    }
    .flatten()
}

#[test]
fn arguments_of_several_templates_are_united_by_name() {
    let args = |one: Value, other: Value| {
        flatten(json!({"args": [one]}), json!({"args": [other]})).map(|flat| json!(flat.args))
    };
    let secret = json!({"name": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
    assert_eq!(
        args(
            json!({"name": "x", "value": "1"}),
            json!({"name": "x", "value": "2"})
        ),
        Err("Argument `x` specified multiple times with different values: '1', '2'".to_owned())
    );
    let one = json!({"name": "x", "value": "1"});
    assert_eq!(args(one.clone(), json!({"name": "x"})), Ok(json!([one])));
    assert_eq!(args(json!({"name": "x"}), one.clone()), Ok(json!([one])));
    assert_eq!(args(secret.clone(), one.clone()), Ok(json!([one])));
    assert_eq!(
        args(secret.clone(), json!({"name": "x"})),
        Ok(json!([secret]))
    );
    assert_eq!(args(one.clone(), secret), Ok(json!([one])));
}

#[test]
fn rules_of_several_templates_must_differ() {
    let rule = json!([{"metricName": ".*"}]);
    assert_eq!(
        flatten(json!({"dryRun": rule}), json!({"dryRun": rule}))
            .err()
            .as_deref(),
        Some("two Dry-Run metric rules have the same name '.*'")
    );
    let rule = json!([{"metricName": ".*", "limit": 5}]);
    assert_eq!(
        flatten(
            json!({"measurementRetention": rule}),
            json!({"measurementRetention": rule})
        )
        .err()
        .as_deref(),
        Some("two Measurement Retention metric rules have the same name '.*'")
    );
}

#[test]
fn given_arguments_fill_declared_ones_and_no_others() {
    let declared: Vec<Argument> = read(json!([
        {"name": "a"},
        {"name": "b", "value": "default"},
        {"name": "c", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]));
    let given: Vec<Argument> = read(
        json!([{"name": "a", "value": "1"}, {"name": "c", "value": "2"}, {"name": "z", "value": "3"}]),
    );
    assert_eq!(
        merge_arguments(&declared, &given).map(|args| json!(args)),
        Ok(json!([
            {"name": "a", "value": "1"},
            {"name": "b", "value": "default"},
            {"name": "c", "value": "2", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]))
    );
    assert_eq!(
        merge_arguments(&declared, &[]),
        Err("args.a was not resolved".to_owned())
    );
}

fn rollout() -> Rollout {
    let (rollout, errors) = Rollout::from_json(json!({
        "metadata": {
            "name": "demo", "namespace": "shop", "uid": "u-1",
            "labels": {"app": "web", "tier": "fr\"ont"}, "annotations": {"example.com/Owner": "me"},
        },
        "spec": {"replicas": 1_000_000, "paused": true, "strategy": {"canary": {"steps": [{"setWeight": 20}]}}},
        "status": {"phase": "Healthy"},
    }));
    assert_eq!(errors, []);
    rollout
}

fn field(path: &str) -> Result<String, String> {
    let args: Vec<RolloutArgument> =
        read(json!([{"name": "x", "valueFrom": {"fieldRef": {"fieldPath": path}}}]));
    let hashes = Hashes {
        latest: "new",
        stable: None,
    };
    rollout_arguments(&args, &rollout(), hashes)
        .map(|args| args[0].value.clone().unwrap_or_default())
}

#[test]
fn arguments_are_taken_from_the_rollouts_fields() {
    let table = [
        ("metadata.name", Ok("demo")),
        ("metadata.namespace", Ok("shop")),
        ("metadata.uid", Ok("u-1")),
        ("metadata.labels", Ok("app=\"web\"\ntier=\"fr\\\"ont\"")),
        ("metadata.labels['app']", Ok("web")),
        ("metadata.labels['none']", Ok("")),
        ("metadata.annotations['example.com/Owner']", Ok("me")),
        (
            "metadata.owner",
            Err("unsupported fieldPath: metadata.owner"),
        ),
        (
            "metadata.labels['a b']",
            Err("unsupported fieldPath: metadata.labels['a b']"),
        ),
        ("spec.replicas", Ok("1000000")),
        ("spec.paused", Ok("true")),
        ("status.phase", Ok("Healthy")),
        ("spec.strategy.canary.steps[0].setWeight", Ok("20")),
        (
            "spec.strategy.canary.steps[x].setWeight",
            Err("invalid index 'x'"),
        ),
        (
            "spec.strategy.canary.steps[1].setWeight",
            Err("index 1 out of range"),
        ),
        ("spec.nothing", Err("invalid path spec.nothing in rollout")),
        (
            "spec.replicas.more",
            Err("invalid path spec.replicas.more in rollout"),
        ),
        (
            "spec.strategy",
            Err("path spec.strategy in rollout must terminate in a primitive value"),
        ),
    ];
    for (path, expected) in table {
        assert_eq!(
            field(path),
            expected.map(str::to_owned).map_err(str::to_owned),
            "{path}"
        );
    }
}

#[test]
fn arguments_are_taken_from_hashes_and_default_to_nothing() {
    let args = |from: Value| -> Vec<RolloutArgument> { read(json!([from])) };
    let value = |args: &[RolloutArgument], stable: Option<&str>| {
        let hashes = Hashes {
            latest: "new",
            stable,
        };
        rollout_arguments(args, &rollout(), hashes)
            .map(|args| args[0].value.clone().unwrap_or_default())
    };
    let latest =
        args(json!({"name": "h", "value": "v", "valueFrom": {"podTemplateHashValue": "Latest"}}));
    assert_eq!(value(&latest, None), Ok("new".to_owned()));
    let stable = args(json!({"name": "h", "valueFrom": {"podTemplateHashValue": "Stable"}}));
    assert_eq!(value(&stable, Some("old")), Ok("old".to_owned()));
    assert_eq!(
        value(&stable, None),
        Err("no stable ReplicaSet for argument 'h'".to_owned())
    );
    let other =
        args(json!({"name": "h", "value": "v", "valueFrom": {"podTemplateHashValue": "Next"}}));
    assert_eq!(value(&other, None), Ok("v".to_owned()));
    assert_eq!(value(&args(json!({"name": "h"})), None), Ok(String::new()));
}

#[test]
fn a_field_as_the_default_of_an_argument_is_resolved_against_the_rollout() {
    let mut args: Vec<Argument> = read(json!([
        {"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "b", "valueFrom": {"fieldRef": {"fieldPath": "spec.nothing"}}},
    ]));
    resolve_field_defaults(&mut args, &rollout());
    assert_eq!(
        json!(args),
        json!([{"name": "a", "value": "demo"}, {"name": "b", "valueFrom": {"fieldRef": {"fieldPath": "spec.nothing"}}}])
    );
}

#[test]
fn what_this_version_cannot_do_is_named() {
    let (rollout, _) = Rollout::from_json(json!({"spec": {
        "workloadRef": {"kind": "Deployment", "name": "d"},
        "strategy": {"canary": {"steps": [
            {"setWeight": 5}, {"experiment": {"templates": []}}, {"plugin": {"name": "org/step"}},
        ]}},
    }}));
    let texts: Vec<_> = unsupported::rollout(&rollout)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        texts,
        [
            "spec.strategy.canary.steps[2].plugin: Forbidden: step plugins cannot be run yet (plugin \"org/step\"); remove the step",
        ]
    );
    let template: AnalysisTemplateSpec = read(json!({"metrics": [
        {"name": "a", "provider": {"web": {"url": "http://x"}}},
        {"name": "b", "provider": {"datadog": {"query": "q"}}},
        {"name": "c", "provider": {"plugin": {"org/p": {}}}},
        {"name": "d", "provider": {"prometheus": {"address": "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/w",
            "query": "up", "authentication": {"sigv4": {"region": "eu-west-1"}}}}},
    ]}));
    let texts: Vec<_> = unsupported::template(&template)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        texts,
        [
            "spec.metrics[1].provider.datadog: Forbidden: metric \"b\" cannot be measured with datadog yet; use prometheus, web or job",
            "spec.metrics[2].provider.plugin.org/p: Forbidden: metric \"c\" cannot be measured with org/p yet; use prometheus, web or job",
        ]
    );
}

#[test]
fn what_is_accepted_but_hardly_meant_is_told() {
    let (rollout, errors) = Rollout::from_json(json!({"spec": {
        "rollbackWindow": {"revisions": -1},
        "strategy": {"canary": {
            "trafficRouting": {}, "maxSurge": "many", "abortScaleDownDelaySeconds": -5,
            "replicaProgressThreshold": {"type": "Pod", "value": 200},
            "analysis": {"startingStep": 7},
            "steps": [
                {"setWeight": 5, "setCanaryScale": {"replicas": -1}},
                {"setMirrorRoute": {"name": "r", "percentage": 101, "match": [{"headers": {"a": {}}}]}},
            ],
        }},
    }}));
    assert_eq!(errors, []);
    let texts: Vec<_> = warnings(&rollout).iter().map(ToString::to_string).collect();
    let canary = "spec.strategy.canary";
    assert_eq!(
        texts,
        [
            "spec.rollbackWindow.revisions: Invalid value: -1: is negative".to_owned(),
            format!(
                "{canary}.maxSurge: Invalid value: \"many\": is neither an integer nor a percentage and counts as 0"
            ),
            format!("{canary}.abortScaleDownDelaySeconds: Invalid value: -5: is negative"),
            format!(
                "{canary}.replicaProgressThreshold.type: Unsupported value: \"Pod\": supported values: \"Percent\", \"Pods\""
            ),
            format!(
                "{canary}.analysis.startingStep: Invalid value: 7: is not the index of a step; there are 2"
            ),
            format!(
                "{canary}.steps[0]: Invalid value: \"setCanaryScale, setWeight\": has several keys; setCanaryScale alone decides when the step is complete"
            ),
            format!("{canary}.steps[0].setCanaryScale.replicas: Invalid value: -1: is negative"),
            format!(
                "{canary}.steps[1].setMirrorRoute.percentage: Invalid value: 101: is no percentage"
            ),
            format!(
                "{canary}.steps[1].setMirrorRoute.match[0].headers[a]: Invalid value: {{}}: must have exactly one of: exact, regex, prefix"
            ),
        ]
    );
}
