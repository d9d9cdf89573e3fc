//! Scenarios of Canaries from seeds: valid Canaries of any kind, versions good and bad, gates, people, machines and faults.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::scenario::{Act, Fault, FaultKind, Happening, Hook, Kind, Nature, Scenario};
use crate::random::Random;
use crate::scenario::{Millis, Reply};

/// The scenario of a seed, the same on every machine.
pub fn scenario(seed: u64) -> Scenario {
    // What Rollouts are made from the same seed has nothing to do with it.
    let mut random = Random::new(seed ^ 0x00ca_0000_0000_00a5);
    let shape = Shape::new(&mut random);
    let mut scenario = Scenario {
        seed,
        versions: (0..4).map(|index| nature(&mut random, index)).collect(),
        ..Scenario::default()
    };
    let analysis = analysis(&mut random, &shape, &mut scenario.hooks);
    scenario.manifests = manifests(&mut random, &shape, &analysis);
    scenario.happenings = happenings(&mut random, &shape);
    if !random.one_in(3) {
        let last = scenario.happenings.iter().map(|one| one.at).max();
        scenario.faults = faults(&mut random, last.unwrap_or(0) + 90_000);
    }
    scenario
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strategy {
    Weight,
    Iterations,
    AbTest,
}

/// What kind of Canary it is.
struct Shape {
    strategy: Strategy,
    provider: &'static str,
    target: &'static str,
    configured: bool,
    autoscaled: bool,
    is_reverted: bool,
}

impl Shape {
    fn new(random: &mut Random) -> Self {
        let strategy = random.pick(&[
            Strategy::Weight,
            Strategy::Weight,
            Strategy::Weight,
            Strategy::Iterations,
            Strategy::AbTest,
        ]);
        let provider = random.pick(&["istio", "istio", "gatewayapi:v1", "nginx", "kubernetes"]);
        let target = random.pick(&[
            "Deployment",
            "Deployment",
            "Deployment",
            "Deployment",
            "Deployment",
            "DaemonSet",
            "Service",
        ]);
        Self {
            strategy,
            provider,
            target,
            configured: target != "Service" && random.one_in(3),
            autoscaled: target == "Deployment" && random.one_in(5),
            is_reverted: random.one_in(3),
        }
    }
}

fn manifests(random: &mut Random, shape: &Shape, analysis: &Value) -> Vec<Value> {
    let mut manifests = vec![target(random, shape)];
    if shape.configured {
        manifests.push(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
            "data": {"value": "0"},
        }));
    }
    if shape.provider == "nginx" {
        manifests.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "app"},
            "spec": {"rules": [{"http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "app", "port": {"number": 80}}},
            }]}}]},
        }));
    }
    if shape.autoscaled {
        manifests.push(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "app"},
            "spec": {
                "minReplicas": 2, "maxReplicas": 4,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"},
            },
        }));
    }
    if shape.target != "Service" && random.one_in(3) {
        // Somebody else's Service of that name was there before.
        manifests.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"},
            "spec": {"selector": {"app": "app"}, "ports": [{"name": "http", "port": 80, "targetPort": 80, "protocol": "TCP"}]},
        }));
    }
    if analysis.to_string().contains("templateRef") {
        manifests.push(json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "MetricTemplate", "metadata": {"name": "errors"},
            "spec": {"provider": {"type": "prometheus", "address": "http://prometheus"}, "query": "errors"},
        }));
    }
    manifests.push(canary(random, shape, analysis));
    manifests
}

fn target(random: &mut Random, shape: &Shape) -> Value {
    if shape.target == "Service" {
        return json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"},
            "spec": {"selector": {"app": "app", "version": "v1"}, "ports": [{"name": "http", "port": 80}]},
        });
    }
    let mut pods = json!({"containers": [{"name": "main", "image": "app:v1"}]});
    if shape.configured {
        pods["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    }
    let mut target = json!({
        "apiVersion": "apps/v1", "kind": shape.target,
        "metadata": {"name": "app", "labels": {"app": "app"}},
        "spec": {
            "selector": {"matchLabels": {"app": "app"}},
            "template": {"metadata": {"labels": {"app": "app"}}, "spec": pods},
        },
    });
    if shape.target == "Deployment" {
        target["spec"]["replicas"] = json!(1 + random.below(4));
        target["spec"]["progressDeadlineSeconds"] = json!(random.pick(&[30, 60]));
    }
    target
}

fn canary(random: &mut Random, shape: &Shape, analysis: &Value) -> Value {
    let api_version = if shape.target == "Service" {
        "v1"
    } else {
        "apps/v1"
    };
    let mut canary = json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
        "metadata": {"name": "app"},
        "spec": {
            "provider": shape.provider,
            "targetRef": {"apiVersion": api_version, "kind": shape.target, "name": "app"},
            "progressDeadlineSeconds": random.pick(&[30, 60]),
            "service": {"port": 80},
            "analysis": analysis,
        },
    });
    if shape.provider == "nginx" {
        canary["spec"]["ingressRef"] =
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "app"});
    }
    if shape.autoscaled {
        canary["spec"]["autoscalerRef"] = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "app",
        });
    }
    if shape.is_reverted {
        canary["spec"]["revertOnDeletion"] = json!(true);
    }
    if random.one_in(12) {
        canary["spec"]["skipAnalysis"] = json!(true);
    }
    let mut annotations = json!({});
    let choices = [
        ("metric-error-policy", ["hold", "ignore", "count"], 4),
        ("no-data-policy", ["hold", "ignore", "count"], 6),
        ("failed-check-mode", ["consecutive", "", ""], 8),
        ("traffic-gate-at-max", ["false", "true", "false"], 8),
        ("confirm-on-restart", ["true", "true", "false"], 8),
        ("renew-primary-cookie", ["true", "true", "false"], 8),
        ("rebuild-primary", ["true", "true", "true"], 4),
    ];
    for (name, words, times) in choices {
        let word = random.pick(&words);
        if random.one_in(times) {
            annotations[format!("crossfade.dev/{name}")] = json!(word);
        }
    }
    if annotations.as_object().is_some_and(|all| !all.is_empty()) {
        canary["metadata"]["annotations"] = annotations;
    }
    canary
}

fn analysis(random: &mut Random, shape: &Shape, hooks: &mut BTreeMap<String, Hook>) -> Value {
    let mut analysis = json!({
        "interval": random.pick(&["10s", "10s", "30s"]),
        "threshold": random.pick(&[1, 2, 2, 3, 5]),
        "metrics": metrics(random),
    });
    match shape.strategy {
        Strategy::Weight if random.one_in(3) => {
            analysis["stepWeights"] = random
                .pick(&["[10,50]", "[5,20,60]", "[30]", "[20,100]"])
                .into();
            let text = analysis["stepWeights"].as_str().unwrap_or_default();
            analysis["stepWeights"] = serde_json::from_str(text).unwrap_or_default();
        }
        Strategy::Weight => {
            analysis["stepWeight"] = json!(random.pick(&[10, 20, 25, 50]));
            analysis["maxWeight"] = json!(random.pick(&[20, 50, 50, 100]));
        }
        Strategy::Iterations | Strategy::AbTest => {
            analysis["iterations"] = json!(1 + random.below(4));
        }
    }
    if shape.strategy == Strategy::AbTest {
        analysis["match"] = json!([{"headers": {"x-canary": {"exact": "yes"}}}]);
    }
    if random.one_in(4) {
        analysis["stepWeightPromotion"] = json!(random.pick(&[25, 50]));
    }
    if shape.strategy != Strategy::AbTest && random.one_in(6) {
        analysis["mirror"] = json!(true);
    }
    let affine =
        shape.strategy == Strategy::Weight && matches!(shape.provider, "istio" | "gatewayapi:v1");
    if affine && random.one_in(4) {
        analysis["sessionAffinity"] = json!({"cookieName": "seen"});
        if random.one_in(2) {
            analysis["sessionAffinity"]["primaryCookieName"] = json!("unseen");
        }
    }
    if random.one_in(8) {
        analysis["primaryReadyThreshold"] = json!(50);
        analysis["canaryReadyThreshold"] = json!(50);
    }
    let webhooks = webhooks(random, hooks);
    if !webhooks.is_empty() {
        analysis["webhooks"] = json!(webhooks);
    }
    analysis
}

fn metrics(random: &mut Random) -> Value {
    let all = [
        json!({"name": "request-success-rate", "thresholdRange": {"min": 99}, "interval": "1m"}),
        json!({"name": "request-duration", "thresholdRange": {"max": 500}, "interval": "30s"}),
        json!({"name": "errors", "thresholdRange": {"max": 10}, "templateRef": {"name": "errors"}}),
        json!({"name": "inline", "threshold": 10, "query": "errors"}),
    ];
    let mut chosen: Vec<Value> = Vec::new();
    for metric in all {
        if random.one_in(2) {
            chosen.push(metric);
        }
    }
    json!(chosen)
}

fn webhooks(random: &mut Random, hooks: &mut BTreeMap<String, Hook>) -> Vec<Value> {
    let kinds = [
        ("confirm-rollout", 5),
        ("pre-rollout", 4),
        ("rollout", 4),
        ("confirm-traffic-increase", 3),
        ("confirm-promotion", 4),
        ("post-rollout", 4),
        ("rollback", 4),
        ("event", 10),
    ];
    let mut webhooks = Vec::new();
    for (kind, times) in kinds {
        for number in 0..2 {
            if !random.one_in(times) {
                break;
            }
            let name = format!("{kind}-{number}");
            let url = format!("http://gates/{name}");
            webhooks.push(json!({"name": name, "type": kind, "url": url}));
            hooks.insert(name, hook(random, kind));
        }
    }
    webhooks
}

fn hook(random: &mut Random, kind: &str) -> Hook {
    let when = |random: &mut Random| random.below(240_000) as Millis;
    if kind == "rollback" {
        return match random.below(5) {
            0 => Hook::OpensAt(when(random)),
            1 | 2 => Hook::OneShot(vec![when(random)]),
            _ => Hook::Closed,
        };
    }
    match random.below(8) {
        0 | 1 => Hook::OpensAt(when(random)),
        2 | 3 => {
            let mut times = [when(random), when(random), when(random)];
            times.sort_unstable();
            Hook::OneShot(times.to_vec())
        }
        4 => Hook::Flaky,
        5 if random.one_in(2) => Hook::Closed,
        6 if random.one_in(2) => Hook::Broken,
        _ => Hook::Open,
    }
}

fn nature(random: &mut Random, index: usize) -> Nature {
    let mut nature = Nature {
        ready_after: Some(random.pick(&[1200, 1200, 4000, 18_000])),
        says: Vec::new(),
    };
    if index == 0 {
        return nature;
    }
    if random.one_in(10) {
        nature.ready_after = None;
    }
    for _ in 0..random.below(4) {
        nature.says.push((
            random
                .pick(&[
                    "",
                    "",
                    "request-success-rate",
                    "request-duration",
                    "errors",
                    "inline",
                ])
                .to_owned(),
            random.pick(&[0, 0, 15_000, 40_000]),
            random.pick(&[
                Reply::Good,
                Reply::Good,
                Reply::Bad,
                Reply::Doubtful,
                Reply::Nothing,
                Reply::Down,
                Reply::Flaky,
            ]),
        ));
    }
    nature
}

/// Time between two things that happen.
fn gap(random: &mut Random) -> Millis {
    let most = random.pick(&[100, 3_000, 20_000, 60_000]);
    random.below(most) as Millis
}

fn happenings(random: &mut Random, shape: &Shape) -> Vec<Happening> {
    let mut at = 15_000 + gap(random);
    let mut happenings = vec![Happening {
        at: if random.one_in(12) { gap(random) } else { at },
        act: Act::Deploy(2),
    }];
    for _ in 0..random.pick(&[0, 0, 1, 1, 2, 3, 5]) {
        at += gap(random);
        let act = act(random, shape);
        if let Act::Suspend(true) = act {
            let at = at + gap(random);
            let act = Act::Suspend(false);
            happenings.push(Happening { at, act });
        }
        happenings.push(Happening { at, act });
    }
    happenings
}

fn act(random: &mut Random, shape: &Shape) -> Act {
    let lasts = gap(random) + 500;
    match random.below(30) {
        0..=5 => Act::Deploy(1 + random.below(4) as u8),
        6 | 7 if shape.configured => Act::Configure(random.below(4) as u8),
        8 if shape.target == "Deployment" => Act::Scale(random.below(4) as i64),
        9 | 10 => Act::Suspend(true),
        11 => Act::SkipAnalysis(true),
        12 => Act::SkipAnalysis(false),
        13 | 14 => Act::EditAnalysis(edit(random, shape)),
        15 if shape.target == "Deployment" => Act::ScalePrimary(1 + random.below(4) as i64),
        16 if random.one_in(2) => Act::DropPrimary,
        17 => Act::DropService(random.below(3) as u8),
        18 | 19 => Act::EditService(random.below(3) as u8),
        20 | 21 => Act::PodsLost(random.one_in(2), lasts),
        22 => Act::RouterDown(lasts),
        23 => Act::MetricsDown(lasts),
        24 if random.one_in(2) => Act::DropTarget(lasts),
        25 | 26 => Act::Delete((!random.one_in(3)).then_some(lasts)),
        _ => Act::Deploy(3),
    }
}

fn edit(random: &mut Random, shape: &Shape) -> Value {
    match (random.below(3), shape.strategy) {
        (0, _) => json!({"threshold": 1 + random.below(4)}),
        (1, Strategy::Weight) => json!({"maxWeight": random.pick(&[10, 30, 60])}),
        (_, Strategy::Weight) => {
            json!({"stepWeights": null, "stepWeight": random.pick(&[5, 15, 40])})
        }
        (_, _) => json!({"iterations": 1 + random.below(4)}),
    }
}

fn faults(random: &mut Random, until: Millis) -> Vec<Fault> {
    (0..random.pick(&[1, 1, 2, 3, 5]))
        .map(|_| {
            let lasts = gap(random) + 200;
            let kind = match random.below(20) {
                0 | 1 => FaultKind::CrashBefore,
                2 | 3 => FaultKind::CrashAfter,
                4 | 5 => FaultKind::CrashUnrecorded,
                6 => FaultKind::CrashUntold,
                7 => FaultKind::Conflict,
                8 | 9 => FaultKind::LostReply,
                10 => FaultKind::Refused,
                11 => FaultKind::StatusConflict,
                12 => FaultKind::StatusLost,
                13..=15 => FaultKind::Stale(
                    random.pick(&[
                        Kind::Canary,
                        Kind::Workloads,
                        Kind::Workloads,
                        Kind::Services,
                        Kind::Configs,
                        Kind::Autoscalers,
                    ]),
                    lasts,
                ),
                16 => FaultKind::Clock(random.pick(&[-60_000, -5_000, 5_000, 60_000, 700_000])),
                17 => FaultKind::Busy(lasts),
                18 => FaultKind::Usurped(lasts),
                _ => FaultKind::Extra(1 + random.below(5) as u8),
            };
            let within = usize::try_from(until).unwrap_or(usize::MAX).max(1);
            Fault {
                at: random.below(within) as Millis,
                skip: random.pick(&[0, 0, 1, 2, 4, 8]),
                kind,
            }
        })
        .collect()
}
