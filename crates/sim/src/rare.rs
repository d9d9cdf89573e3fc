//! Situations that chance alone hardly ever makes: a few things that have to come one upon the other, within seconds.
//!
//! Each is a release of its own with some of its numbers left to chance. One seed in some dozens is one of them.

use serde_json::{Value, json};

use crate::random::Random;
use crate::scenario::{Act, Fault, FaultKind, Happening, Millis, Nature, Scenario};

/// One seed in so many is a rare situation.
const ONE_IN: usize = 64;

/// The rare situation that a seed is, if it is one.
pub(crate) fn scenario(seed: u64) -> Option<Scenario> {
    let mut random = Random::new(!seed);
    if !random.one_in(ONE_IN) {
        return None;
    }
    let situation: fn(&mut Random) -> Scenario = random.pick(&[
        other_steps_while_stable_is_short,
        back_to_what_failed,
        back_one_too_far,
        a_successor_while_stable_is_small,
        stable_lost_in_the_moment_of_the_way_back,
    ]);
    let mut scenario = situation(&mut random);
    scenario.seed = seed;
    scenario.closing = true;
    Some(scenario)
}

fn at(seconds: u64, random: &mut Random, act: Act) -> Happening {
    Happening {
        at: seconds * 1000 + random.below(900) as Millis,
        act,
    }
}

/// A release of `app`, with everything that these situations refer to.
fn release(random: &mut Random, replicas: i64, strategy: &Value) -> Scenario {
    let service = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"app": "app"}, "ports": [{"port": 80}]},
        })
    };
    let template = |name: &str, count: i64| {
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"metrics": [{
                "name": name, "provider": {"web": {"url": format!("http://metrics/{name}"), "jsonPath": "{$.value}"}},
                "successCondition": "result >= 0.9", "interval": "20s", "count": count,
            }]},
        })
    };
    let manifests = vec![
        service("app-stable"),
        service("app-canary"),
        service("app-active"),
        template("smoke", 1),
        template("watch", 10),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "app", "namespace": "default"},
            "spec": {"rules": [{"http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "app-stable", "port": {"number": 80}}},
            }]}}]},
        }),
        json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "VirtualService",
            "metadata": {"name": "app", "namespace": "default"},
            "spec": {"hosts": ["app.example.org"], "http": [{"name": "primary", "route": [
                {"destination": {"host": "app-stable"}, "weight": 100}, {"destination": {"host": "app-canary"}, "weight": 0},
            ]}]},
        }),
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "app", "namespace": "default"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "app"}},
                "template": {
                    "metadata": {"labels": {"app": "app"}},
                    "spec": {"containers": [{"name": "main", "image": "registry.example/app:v1"}]},
                },
                "strategy": strategy,
            },
        }),
    ];
    let nature = Nature {
        start: random.pick(&[100, 1200]),
        stagger: random.pick(&[0, 300]),
        ..Nature::default()
    };
    Scenario {
        manifests,
        versions: vec![nature; 4],
        ..Scenario::default()
    }
}

/// Stable pods are lost, and then the steps are edited, so that traffic should go back to stable pods that are not there.
fn other_steps_while_stable_is_short(random: &mut Random) -> Scenario {
    let replicas = random.pick(&[1, 2, 4]);
    let strategy = json!({"canary": {
        "stableService": "app-stable", "canaryService": "app-canary",
        "trafficRouting": {
            "managedRoutes": [{"name": "by-header"}],
            "istio": {"virtualServices": [{"name": "app", "routes": ["primary"]}]},
        },
        "steps": [{"setWeight": random.pick(&[20, 50, 80])}, {"pause": {}}],
    }});
    let mut scenario = release(random, replicas, &strategy);
    scenario.happenings = vec![at(15, random, Act::Deploy(2))];
    let lost = Act::PodCrash(1, random.pick(&[10_000, 60_000]));
    for _ in 0..replicas {
        let lost = at(40, random, lost.clone());
        scenario.happenings.push(lost);
    }
    let route = json!({"name": "by-header", "match": [{"headerName": "x-canary", "headerValue": {"exact": "yes"}}]});
    let steps = vec![
        json!({"setHeaderRoute": route}),
        json!({"setWeight": 10}),
        json!({"pause": {}}),
    ];
    let edited = at(42, random, Act::EditSteps(steps));
    scenario.happenings.push(edited);
    scenario
}

/// Back to a version that still waits for its end, which is taken back and tried again.
fn back_to_what_failed(random: &mut Random) -> Scenario {
    let strategy = json!({"blueGreen": {
        "activeService": "app-active", "scaleDownDelaySeconds": 120,
        "abortScaleDownDelaySeconds": random.pick(&[0, 60]),
        "prePromotionAnalysis": {"templates": [{"templateName": "smoke"}]},
    }});
    let replicas = random.pick(&[1, 3]);
    let mut scenario = release(random, replicas, &strategy);
    let lost = Act::PodCrash(1, random.pick(&[20_000, 50_000]));
    scenario.happenings = vec![
        at(15, random, Act::Deploy(2)),
        at(25, random, lost),
        at(26, random, Act::Deploy(1)),
        at(28, random, Act::Abort),
        at(30, random, Act::Retry),
    ];
    scenario
}

/// Back by as many versions as the window allows, and by one more.
fn back_one_too_far(random: &mut Random) -> Scenario {
    let window = random.pick(&[1, 2]);
    let strategy = json!({"canary": {"steps": [{"pause": {}}, {"setWeight": 50}, {"pause": {}}]}});
    let mut scenario = release(random, 2, &strategy);
    let rollout = scenario
        .manifests
        .iter_mut()
        .find(|one| one["kind"] == "Rollout");
    if let Some(rollout) = rollout {
        rollout["spec"]["rollbackWindow"] = json!({"revisions": window});
    }
    for version in 2..=window + 2 {
        let second = 20 * u64::from(version);
        let deployed = at(second, random, Act::Deploy(version));
        let promoted = at(second + 4, random, Act::PromoteFull);
        scenario.happenings.extend([deployed, promoted]);
    }
    let back = 1 + u8::from(random.one_in(3));
    let back = at(100, random, Act::Deploy(back));
    scenario.happenings.push(back);
    scenario
}

/// A third version comes quickly while the second has most of the requests and stable pods are few and slow.
fn a_successor_while_stable_is_small(random: &mut Random) -> Scenario {
    let strategy = json!({"canary": {
        "stableService": "app-stable", "canaryService": "app-canary", "dynamicStableScale": true,
        "trafficRouting": {"nginx": {"stableIngress": "app"}},
        "steps": [{"setWeight": random.pick(&[50, 80])}, {"pause": {}}],
    }});
    let replicas = random.pick(&[5, 10]);
    let mut scenario = release(random, replicas, &strategy);
    scenario.versions[0].start = 6000;
    scenario.versions[0].stagger = 1500;
    scenario.versions[2].stagger = random.pick(&[300, 1500]);
    scenario.happenings = vec![
        at(25, random, Act::Deploy(2)),
        at(60, random, Act::Deploy(3)),
    ];
    if random.one_in(2) {
        let aborted = at(62, random, Act::Abort);
        scenario.happenings.push(aborted);
    }
    scenario
}

/// The way back is refused once, and then there are no stable pods to go back to.
fn stable_lost_in_the_moment_of_the_way_back(random: &mut Random) -> Scenario {
    let strategy = json!({"blueGreen": {
        "activeService": "app-active", "abortScaleDownDelaySeconds": random.pick(&[10, 30]),
        "postPromotionAnalysis": {"templates": [{"templateName": "watch"}]},
    }});
    let mut scenario = release(random, 1, &strategy);
    // Somebody looks a while after something has happened, so that the way back is not tried again at once.
    scenario.surroundings.notice = 700;
    let aborted = at(30, random, Act::Abort);
    let lost = Act::PodCrash(1, random.pick(&[20_000, 60_000]));
    scenario.faults = vec![Fault {
        at: aborted.at,
        skip: random.pick(&[0, 1, 1, 2]),
        kind: random.pick(&[FaultKind::Refused, FaultKind::Conflict]),
    }];
    scenario.happenings = vec![
        at(15, random, Act::Deploy(2)),
        Happening {
            at: aborted.at + 900,
            act: lost,
        },
        aborted,
    ];
    scenario
}
