//! Scenarios from seeds: a valid Rollout of any kind, versions good and bad, people, machines and faults.

use serde_json::{Value, json};

use crate::random::Random;
use crate::rare;
use crate::scenario::{
    Act, Fate, Fault, FaultKind, Happening, Kind, Millis, Nature, Propagation, Reply, Say,
    Scenario, Surroundings,
};
use crate::trials;

/// The scenario of a seed, the same on every machine.
pub fn scenario(seed: u64) -> Scenario {
    rare::scenario(seed).unwrap_or_else(|| {
        let mut scenario = ordinary(seed);
        trials::add(&mut scenario);
        scenario
    })
}

/// A release of any kind.
fn ordinary(seed: u64) -> Scenario {
    let mut random = Random::new(seed);
    let mut scenario = Scenario {
        seed,
        closing: true,
        ..Scenario::default()
    };
    let shape = Shape::new(&mut random);
    scenario.manifests = manifests(&mut random, &shape);
    scenario.surroundings = surroundings(&mut random);
    if shape.router == Some(Router::Alb) {
        // A load balancer always says how far it is.
        scenario.surroundings.confirms_after.get_or_insert(500);
    }
    scenario.versions = (0..4).map(|index| nature(&mut random, index)).collect();
    scenario.happenings = happenings(&mut random, &shape);
    let changes = |one: &Happening| matches!(one.act, Act::ChangeStrategy(_));
    if !shape.blue_green && scenario.happenings.iter().any(changes) {
        scenario.manifests.insert(0, service("app-active"));
    }
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

/// What splits the traffic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Router {
    Nginx,
    Istio,
    /// Istio, by subsets of a DestinationRule.
    Subsets,
    Alb,
}

impl Router {
    fn is_istio(self) -> bool {
        matches!(self, Self::Istio | Self::Subsets)
    }
}

/// What kind of release it is.
struct Shape {
    blue_green: bool,
    router: Option<Router>,
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
            Some(random.pick(&[
                Router::Nginx,
                Router::Nginx,
                Router::Istio,
                Router::Istio,
                Router::Subsets,
                Router::Alb,
            ]))
        };
        let replicas = i64::from(random.pick(&[1, 1, 2, 3, 4, 5, 5, 7, 10, 0]));
        let mut shape = Self {
            blue_green,
            router,
            replicas,
            steps: Vec::new(),
            services: if router.is_none() || router == Some(Router::Subsets) {
                random.one_in(3)
            } else {
                true
            },
        };
        if !blue_green {
            shape.steps = steps(random, router);
        }
        shape
    }
}

fn steps(random: &mut Random, router: Option<Router>) -> Vec<Value> {
    let count = random.below(7);
    (0..count).map(|_| step(random, router)).collect()
}

fn step(random: &mut Random, router: Option<Router>) -> Value {
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
        14 if router.is_some_and(|router| router.is_istio() || router == Router::Alb) => {
            let matches = [
                json!([{"headerName": "x-canary", "headerValue": {"exact": "yes"}}]),
                Value::Null,
            ];
            let name = random.pick(&["by-header", "by-header", "by-team"]);
            match &matches[random.below(2)] {
                Value::Null => json!({"setHeaderRoute": {"name": name}}),
                matches => json!({"setHeaderRoute": {"name": name, "match": matches}}),
            }
        }
        15 if router.is_some_and(Router::is_istio) => {
            let name = random.pick(&["shadow", "shadow", "echo"]);
            json!({"setMirrorRoute": {"name": name, "percentage": 35, "match": [{"method": {"exact": "GET"}, "path": {"prefix": "/"}}]}})
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

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": "app"}, "ports": [{"port": 80}]},
    })
}

fn manifests(random: &mut Random, shape: &Shape) -> Vec<Value> {
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
        spec["strategy"] = json!({"blueGreen": blue_green(random, &mut manifests)});
    } else {
        let canary = canary(random, shape, &mut manifests);
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

fn blue_green(random: &mut Random, manifests: &mut Vec<Value>) -> Value {
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

fn canary(random: &mut Random, shape: &Shape, manifests: &mut Vec<Value>) -> Value {
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
    }
    if let Some(router) = shape.router {
        let ping_pong = !strategy["pingPong"].is_null();
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
    router: Router,
    stable: &str,
    canary: &str,
    manifests: &mut Vec<Value>,
) -> Value {
    match router {
        Router::Nginx => {
            manifests.push(ingress(stable));
            let mut routing = json!({"nginx": {"stableIngress": "app"}});
            if random.one_in(4) {
                routing["maxTrafficWeight"] = json!(random.pick(&[100, 1000]));
            }
            routing
        }
        Router::Alb => {
            manifests.push(ingress("app-root"));
            json!({
                "managedRoutes": [{"name": "by-team"}, {"name": "by-header"}],
                "alb": {"ingress": "app", "servicePort": 80, "rootService": "app-root"},
            })
        }
        Router::Istio | Router::Subsets => {
            let side = |host: &str, subset: &str, weight: i32| match router {
                Router::Subsets => {
                    json!({"destination": {"host": "app", "subset": subset}, "weight": weight})
                }
                _ => json!({"destination": {"host": host}, "weight": weight}),
            };
            manifests.push(json!({
                "apiVersion": "networking.istio.io/v1alpha3", "kind": "VirtualService",
                "metadata": {"name": "app", "namespace": "default"},
                "spec": {"hosts": ["app.example.org"], "http": [{"name": "primary", "route": [
                    side(stable, "stable", 100), side(canary, "canary", 0),
                ]}]},
            }));
            let mut istio = json!({"virtualServices": [{"name": "app", "routes": ["primary"]}]});
            if router == Router::Subsets {
                manifests.push(json!({
                    "apiVersion": "networking.istio.io/v1alpha3", "kind": "DestinationRule",
                    "metadata": {"name": "app", "namespace": "default"},
                    "spec": {"host": "app", "subsets": [
                        {"name": "stable", "labels": {"app": "app"}}, {"name": "canary", "labels": {"app": "app"}},
                    ]},
                }));
                istio["destinationRule"] = json!({
                    "name": "app", "canarySubsetName": "canary", "stableSubsetName": "stable",
                });
            }
            json!({
                "managedRoutes": [{"name": "by-header"}, {"name": "shadow"}, {"name": "by-team"}, {"name": "echo"}],
                "istio": istio,
            })
        }
    }
}

fn ingress(service: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "app", "namespace": "default"},
        "spec": {"rules": [{"http": {"paths": [{
            "path": "/", "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}},
        }]}}]},
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
    match random.below(36) {
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
        34 => Act::Delete(
            random.pick(&[
                Propagation::Background,
                Propagation::Foreground,
                Propagation::Orphan,
            ]),
            (!random.one_in(4)).then_some(lasts),
        ),
        35 => Act::ChangeStrategy(other_strategy(random, shape)),
        _ => Act::Promote,
    }
}

/// The strategy that a Rollout does not have; it needs no more than what is there.
fn other_strategy(random: &mut Random, shape: &Shape) -> Value {
    if shape.blue_green {
        let weights = [20, 50, 80].map(|weight| json!({"setWeight": weight}));
        return json!({"canary": {"steps": [weights[random.below(3)], {"pause": {"duration": "10s"}}]}});
    }
    let mut blue_green = json!({"activeService": "app-active"});
    if random.one_in(2) {
        blue_green["autoPromotionEnabled"] = json!(false);
    }
    json!({"blueGreen": blue_green})
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
