//! Scenarios from seeds: a valid Rollout of any kind, versions good and bad, people, machines and faults.

use serde_json::{Value, json};

use crate::random::Random;
use crate::rare;
use crate::scenario::{
    Act, Fate, Fault, FaultKind, Happening, Kind, Millis, Nature, Reply, Say, Scenario,
    Surroundings,
};

/// The scenario of a seed, the same on every machine.
pub fn scenario(seed: u64) -> Scenario {
    if let Some(scenario) = rare::scenario(seed) {
        return scenario;
    }
    let mut random = Random::new(seed);
    let mut scenario = Scenario {
        seed,
        closing: true,
        ..Scenario::default()
    };
    let shape = Shape::new(&mut random);
    scenario.manifests = manifests(&mut random, &shape);
    scenario.surroundings = surroundings(&mut random);
    scenario.versions = (0..4).map(|index| nature(&mut random, index)).collect();
    scenario.happenings = happenings(&mut random, &shape);
    if random.one_in(4) {
        return scenario;
    }
    let last = scenario
        .happenings
        .iter()
        .map(|one| one.at)
        .max()
        .unwrap_or(0);
    scenario.faults = faults(&mut random, last + 60_000);
    scenario
}

/// What kind of release it is.
struct Shape {
    blue_green: bool,
    router: Option<&'static str>,
    replicas: i64,
    steps: Vec<Value>,
    services: bool,
}

impl Shape {
    fn new(random: &mut Random) -> Self {
        let blue_green = random.one_in(3);
        let router = if blue_green || random.one_in(2) {
            None
        } else {
            Some(random.pick(&["nginx", "istio"]))
        };
        let replicas = i64::from(random.pick(&[1, 1, 2, 3, 4, 5, 5, 7, 10, 0]));
        let mut shape = Self {
            blue_green,
            router,
            replicas,
            steps: Vec::new(),
            services: router.is_some() || random.one_in(3),
        };
        if !blue_green {
            shape.steps = steps(random, router);
        }
        shape
    }
}

fn steps(random: &mut Random, router: Option<&str>) -> Vec<Value> {
    let count = random.below(7);
    (0..count).map(|_| step(random, router)).collect()
}

fn step(random: &mut Random, router: Option<&str>) -> Value {
    match random.below(16) {
        0..=5 => {
            json!({"setWeight": random.pick(&[1, 5, 10, 20, 25, 33, 40, 50, 60, 75, 80, 90, 95, 100, 0])})
        }
        6 | 7 => json!({"pause": {"duration": random.pick(&["3s", "10s", "1m", "30s"])}}),
        8 => json!({"pause": {}}),
        9..=11 => json!({"analysis": analysis(random, false)}),
        12 | 13 if router.is_some() => {
            let scale = match random.below(3) {
                0 => json!({"weight": random.pick(&[10, 25, 50, 100, 150])}),
                1 => json!({"replicas": random.below(5)}),
                _ => json!({"matchTrafficWeight": true}),
            };
            json!({"setCanaryScale": scale})
        }
        14 if router == Some("istio") => {
            let matches = [
                json!([{"headerName": "x-canary", "headerValue": {"exact": "yes"}}]),
                Value::Null,
            ];
            match &matches[random.below(2)] {
                Value::Null => json!({"setHeaderRoute": {"name": "by-header"}}),
                matches => json!({"setHeaderRoute": {"name": "by-header", "match": matches}}),
            }
        }
        15 if router == Some("istio") => {
            json!({"setMirrorRoute": {"name": "shadow", "percentage": 35, "match": [{"method": {"exact": "GET"}, "path": {"prefix": "/"}}]}})
        }
        _ => json!({"setWeight": random.pick(&[20, 50, 70])}),
    }
}

fn analysis(random: &mut Random, background: bool) -> Value {
    let template = if background && random.one_in(2) {
        "watch"
    } else {
        random.pick(&["smoke", "judge", "job", "strict"])
    };
    let mut analysis = json!({"templates": [{"templateName": template}]});
    if random.one_in(5) {
        analysis["templates"] = json!([{"templateName": template}, {"templateName": "extra"}]);
    }
    if random.one_in(8) {
        analysis["dryRun"] = json!([{"metricName": "extra"}, {"metricName": "judge"}]);
    }
    analysis
}

fn templates(random: &mut Random) -> Vec<Value> {
    let web = |name: &str| json!({"web": {"url": format!("http://metrics/{name}"), "jsonPath": "{$.value}"}});
    let template = |name: &str, metrics: Value| {
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"metrics": metrics},
        })
    };
    let mut judge = json!({
        "name": "judge", "provider": web("judge"), "interval": "5s", "count": 1 + random.below(5),
        "successCondition": "result >= 0.9", "failureCondition": "result < 0.5",
    });
    if random.one_in(2) {
        judge["failureLimit"] = json!(random.below(3));
    }
    if random.one_in(2) {
        judge["inconclusiveLimit"] = json!(random.below(2));
    }
    if random.one_in(2) {
        judge["consecutiveErrorLimit"] = json!(random.below(5));
    }
    if random.one_in(4) {
        judge["initialDelay"] = json!("7s");
    }
    let mut watch = json!({
        "name": "watch", "provider": web("watch"), "interval": "20s",
        "successCondition": "result >= 0.9", "failureLimit": random.below(3),
    });
    if random.one_in(3) {
        watch["consecutiveSuccessLimit"] = json!(2);
        watch["failureLimit"] = json!(-1);
    }
    let job = json!({
        "name": "job",
        "provider": {"job": {"spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "job", "image": "registry.example/job:v1"}],
        }}}}},
    });
    vec![
        template(
            "smoke",
            json!([{
                "name": "smoke", "provider": web("smoke"), "successCondition": "result >= 0.9",
            }]),
        ),
        template("judge", json!([judge])),
        template("watch", json!([watch])),
        template("job", json!([job])),
        template(
            "strict",
            json!([{
                "name": "strict", "provider": web("strict"), "interval": "2s", "count": 3,
                "successCondition": "result >= 0.9", "failureCondition": "result < 0.5", "consecutiveErrorLimit": 0,
            }]),
        ),
        template(
            "extra",
            json!([{
                "name": "extra", "provider": web("extra"), "interval": "4s", "count": 2,
                "failureCondition": "result < 0.5",
            }]),
        ),
    ]
}

fn manifests(random: &mut Random, shape: &Shape) -> Vec<Value> {
    let service = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"app": "app"}, "ports": [{"port": 80}]},
        })
    };
    let mut manifests = templates(random);
    let mut spec = json!({
        "selector": {"matchLabels": {"app": "app"}},
        "template": {
            "metadata": {"labels": {"app": "app"}},
            "spec": {"containers": [{"name": "main", "image": "registry.example/app:v1"}]},
        },
    });
    if !random.one_in(20) {
        spec["replicas"] = json!(shape.replicas);
    }
    spec["revisionHistoryLimit"] = json!(random.below(4));
    if random.one_in(3) {
        spec["minReadySeconds"] = json!(random.pick(&[2, 5, 10]));
    }
    if random.one_in(2) {
        spec["progressDeadlineSeconds"] = json!(random.pick(&[30, 60, 120]));
        spec["progressDeadlineAbort"] = json!(random.one_in(2));
    }
    if random.one_in(4) {
        spec["rollbackWindow"] = json!({"revisions": 1 + random.below(3)});
    }
    if random.one_in(4) {
        spec["analysis"] = json!({
            "successfulRunHistoryLimit": random.below(3), "unsuccessfulRunHistoryLimit": random.below(3),
        });
    }
    if shape.blue_green {
        manifests.push(service("app-active"));
        spec["strategy"] = json!({"blueGreen": blue_green(random, &mut manifests, service)});
    } else {
        let canary = canary(random, shape, &mut manifests, service);
        spec["strategy"] = json!({"canary": canary});
    }
    // What nobody names would only take time.
    let text = spec.to_string();
    manifests.retain(|manifest| {
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        manifest["kind"] != "AnalysisTemplate"
            || text.contains(&format!("\"templateName\":\"{name}\""))
    });
    manifests.push(json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "app", "namespace": "default"}, "spec": spec,
    }));
    manifests
}

fn blue_green(
    random: &mut Random,
    manifests: &mut Vec<Value>,
    service: impl Fn(&str) -> Value,
) -> Value {
    let mut strategy = json!({"activeService": "app-active"});
    if random.one_in(2) {
        manifests.push(service("app-preview"));
        strategy["previewService"] = json!("app-preview");
    }
    if random.one_in(3) {
        strategy["previewReplicaCount"] = json!(1 + random.below(2));
    }
    match random.below(3) {
        0 => strategy["autoPromotionEnabled"] = json!(false),
        1 => strategy["autoPromotionSeconds"] = json!(random.pick(&[5, 20, 60])),
        _ => {}
    }
    if random.one_in(2) {
        strategy["scaleDownDelaySeconds"] = json!(random.pick(&[0, 5, 30, 60]));
    }
    if random.one_in(4) {
        strategy["scaleDownDelayRevisionLimit"] = json!(random.below(3));
    }
    if random.one_in(3) {
        strategy["abortScaleDownDelaySeconds"] = json!(random.pick(&[0, 10, 40]));
    }
    if random.one_in(2) {
        strategy["prePromotionAnalysis"] = analysis(random, false);
    }
    if random.one_in(2) {
        strategy["postPromotionAnalysis"] = analysis(random, false);
    }
    if random.one_in(8) {
        strategy["previewMetadata"] = json!({"labels": {"role": "preview"}});
        strategy["activeMetadata"] = json!({"labels": {"role": "active"}});
    }
    if random.one_in(8) {
        strategy["antiAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution": {}});
    }
    strategy
}

fn canary(
    random: &mut Random,
    shape: &Shape,
    manifests: &mut Vec<Value>,
    service: impl Fn(&str) -> Value,
) -> Value {
    let mut strategy = json!({});
    if !shape.steps.is_empty() || random.one_in(2) {
        strategy["steps"] = json!(shape.steps);
    }
    match random.below(5) {
        0 => {
            strategy["maxSurge"] = json!(random.pick(&["1", "25%", "50%", "100%"]));
            strategy["maxUnavailable"] = json!(0);
        }
        1 => {
            strategy["maxSurge"] = json!(0);
            strategy["maxUnavailable"] = json!(random.pick(&["1%", "20%", "50%"]));
        }
        2 => {
            strategy["maxSurge"] = json!(1 + random.below(3));
            strategy["maxUnavailable"] = json!(random.below(2));
        }
        _ => {}
    }
    if random.one_in(3) {
        let mut background = analysis(random, true);
        if random.one_in(2) && !shape.steps.is_empty() {
            background["startingStep"] = json!(random.below(shape.steps.len()));
        }
        strategy["analysis"] = background;
    }
    if shape.services {
        let ping_pong = shape.router.is_some() && random.one_in(8);
        if ping_pong {
            manifests.push(service("app-ping"));
            manifests.push(service("app-pong"));
            strategy["pingPong"] = json!({"pingService": "app-ping", "pongService": "app-pong"});
        } else {
            manifests.push(service("app-stable"));
            manifests.push(service("app-canary"));
            strategy["stableService"] = json!("app-stable");
            strategy["canaryService"] = json!("app-canary");
        }
        if let Some(router) = shape.router {
            let stable = if ping_pong { "app-ping" } else { "app-stable" };
            let canary = if ping_pong { "app-pong" } else { "app-canary" };
            strategy["trafficRouting"] = routing(random, router, stable, canary, manifests);
            if random.one_in(3) {
                strategy["dynamicStableScale"] = json!(true);
            } else if random.one_in(2) {
                strategy["scaleDownDelaySeconds"] = json!(random.pick(&[0, 5, 30, 60]));
            }
            if random.one_in(4) {
                strategy["scaleDownDelayRevisionLimit"] = json!(random.below(3));
            }
            if random.one_in(3) {
                strategy["abortScaleDownDelaySeconds"] = json!(random.pick(&[0, 10, 40]));
            }
            if random.one_in(5) {
                strategy["minPodsPerReplicaSet"] = json!(1 + random.below(3));
            }
        }
    }
    if random.one_in(6) {
        let (kind, value) =
            random.pick(&[("Percent", 90), ("Percent", 50), ("Pods", 1), ("Pods", 3)]);
        strategy["replicaProgressThreshold"] = json!({"type": kind, "value": value});
    }
    if random.one_in(8) {
        strategy["canaryMetadata"] = json!({"labels": {"role": "canary"}});
        strategy["stableMetadata"] = json!({"labels": {"role": "stable"}});
    }
    if random.one_in(8) {
        strategy["antiAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution": {}});
    }
    strategy
}

fn routing(
    random: &mut Random,
    router: &str,
    stable: &str,
    canary: &str,
    manifests: &mut Vec<Value>,
) -> Value {
    if router == "nginx" {
        manifests.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "app", "namespace": "default"},
            "spec": {"rules": [{"http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": stable, "port": {"number": 80}}},
            }]}}]},
        }));
        let mut routing = json!({"nginx": {"stableIngress": "app"}});
        if random.one_in(4) {
            routing["maxTrafficWeight"] = json!(random.pick(&[100, 1000]));
        }
        return routing;
    }
    manifests.push(json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "VirtualService",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {"hosts": ["app.example.org"], "http": [{"name": "primary", "route": [
            {"destination": {"host": stable}, "weight": 100}, {"destination": {"host": canary}, "weight": 0},
        ]}]},
    }));
    json!({
        "managedRoutes": [{"name": "by-header"}, {"name": "shadow"}],
        "istio": {"virtualServices": [{"name": "app", "routes": ["primary"]}]},
    })
}

fn surroundings(random: &mut Random) -> Surroundings {
    Surroundings {
        end: random.pick(&[100, 800, 5000]),
        job: random.pick(&[500, 3000]),
        confirms_after: random.one_in(3).then(|| random.pick(&[0, 500, 15_000])),
        notice: random.pick(&[0, 0, 0, 50, 700]),
    }
}

fn nature(random: &mut Random, index: usize) -> Nature {
    let mut nature = Nature {
        start: random.pick(&[100, 1200, 1200, 6000]),
        stagger: random.pick(&[0, 0, 300, 1500]),
        ..Nature::default()
    };
    if index == 0 {
        return nature;
    }
    nature.fate = match random.below(10) {
        0 => Fate::Never,
        1 | 2 => Fate::Crashes {
            after: random.pick(&[500, 4000, 20_000]),
            back: random.pick(&[1000, 10_000]),
            times: 1 + random.below(3) as u8,
        },
        _ => Fate::Ready,
    };
    nature.jobs_fail = random.one_in(4);
    let count = random.below(4);
    for _ in 0..count {
        nature.answers.push(Say {
            metric: random
                .pick(&["", "", "judge", "watch", "smoke", "strict", "extra"])
                .to_owned(),
            from: random.pick(&[0, 0, 5_000, 20_000, 60_000]),
            answer: random.pick(&[
                Reply::Good,
                Reply::Good,
                Reply::Bad,
                Reply::Doubtful,
                Reply::Nothing,
                Reply::Down,
                Reply::Flaky,
            ]),
        });
    }
    nature
}

/// Time between two things that happen.
fn gap(random: &mut Random) -> Millis {
    let most = random.pick(&[100, 3_000, 20_000, 90_000]);
    random.below(most) as Millis
}

fn happenings(random: &mut Random, shape: &Shape) -> Vec<Happening> {
    let mut at = 15_000 + gap(random);
    let mut happenings = vec![Happening {
        at: if random.one_in(12) { gap(random) } else { at },
        act: Act::Deploy(2),
    }];
    let count = random.pick(&[0, 1, 2, 2, 3, 4, 6]);
    for _ in 0..count {
        at += gap(random);
        let act = act(random, shape);
        happenings.push(Happening { at, act });
    }
    happenings
}

fn act(random: &mut Random, shape: &Shape) -> Act {
    let lasts = gap(random) + 500;
    match random.below(34) {
        0..=4 => Act::Deploy(1 + random.below(4) as u8),
        5 => Act::Undo,
        6 => Act::Pause,
        7..=10 => Act::Promote,
        11 | 12 => Act::PromoteFull,
        13 => Act::SkipStep,
        14 => Act::SkipSteps,
        15..=17 => Act::Abort,
        18 | 19 => Act::Retry,
        20 | 21 => Act::Scale(random.below(9) as i32),
        22 => Act::Restart,
        23 => Act::Reapply,
        24 if !shape.blue_green => {
            let mut steps = steps(random, shape.router);
            // Their templates may not be there.
            steps.retain(|step| step["analysis"].is_null() || shape.steps.contains(step));
            Act::EditSteps(steps)
        }
        25 | 26 => Act::PodCrash(1 + random.below(3) as u8, lasts),
        27 => Act::NodeLoss,
        28 => Act::ForeignScale(1 + random.below(3) as u8, random.below(8) as i32),
        29 => Act::RouterDown(lasts),
        30 => Act::RouterSlow(lasts),
        31 => Act::RouterDrift(random.below(101) as i32),
        32 => Act::MetricsDown(lasts),
        33 if random.one_in(3) => Act::ServiceLost(lasts),
        _ => Act::Promote,
    }
}

fn faults(random: &mut Random, until: Millis) -> Vec<Fault> {
    let count = random.pick(&[1, 1, 2, 3, 5]);
    (0..count)
        .map(|_| {
            let lasts = gap(random) + 200;
            let kind = match random.below(20) {
                0 | 1 => FaultKind::CrashBefore,
                2 | 3 => FaultKind::CrashAfter,
                4 => FaultKind::CrashUnrecorded,
                5 => FaultKind::CrashUntold,
                6 | 7 => FaultKind::Conflict,
                8 | 9 => FaultKind::LostReply,
                10 => FaultKind::Refused,
                11 => FaultKind::StatusConflict,
                12 => FaultKind::StatusLost,
                13..=15 => FaultKind::Stale(
                    random.pick(&[
                        Kind::Rollout,
                        Kind::ReplicaSets,
                        Kind::ReplicaSets,
                        Kind::Pods,
                        Kind::Services,
                        Kind::Runs,
                        Kind::Routers,
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
                skip: random.pick(&[0, 0, 1, 2, 4]),
                kind,
            }
        })
        .collect()
}
