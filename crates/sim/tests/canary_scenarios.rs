//! Acceptance scenarios of Canaries, in virtual time.

#![expect(clippy::panic, reason = "tests")]

use std::sync::Arc;

use crossfade_engine::canary::action::CheckFaultKind;
use crossfade_sim::canaries::{Answer, Namespace};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// What most scenarios start from: a Deployment of two pods and a Canary by weight.
fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "app", "labels": {"app": "app", "team": "payments"}, "annotations": {"note": "kept"}},
        "spec": {
            "replicas": 2,
            "progressDeadlineSeconds": 60,
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app"}},
                "spec": {"containers": [{"name": "main", "image": "app:v1"}]},
            },
        },
    })
}

fn canary(analysis: &Value) -> Value {
    json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
        "metadata": {"name": "web"},
        "spec": {
            "provider": "istio",
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"},
            "progressDeadlineSeconds": 60,
            "service": {"port": 80, "targetPort": 8080},
            "analysis": analysis,
        },
    })
}

fn by_weight(more: &Value) -> Value {
    let mut analysis = json!({
        "interval": "10s", "threshold": 3, "stepWeight": 10, "maxWeight": 30,
        "metrics": [{"name": "request-success-rate", "thresholdRange": {"min": 99}, "interval": "1m"}],
    });
    crossfade_api::merge_patch::apply(&mut analysis, more);
    analysis
}

fn hook(name: &str, kind: &str) -> Value {
    json!({"name": name, "type": kind, "url": format!("http://gates/{name}")})
}

struct Stage(Namespace);

impl Stage {
    /// A namespace in which these objects were just applied.
    fn with(objects: &[Value]) -> Self {
        let now: Timestamp = "2026-01-05T10:00:00Z".parse().expect("it is a time");
        let mut world = Namespace::new("shop", now);
        for object in objects {
            world.apply(object);
        }
        world.advance(now + SignedDuration::from_secs(3));
        Self(world)
    }

    /// A Canary whose primary serves.
    fn initialised(canary: &Value) -> Self {
        let mut stage = Self::with(&[deployment(), canary.clone()]);
        stage.until("Initialized");
        stage
    }

    fn status(&self) -> Value {
        let canary = self.0.object("Canary", "web");
        canary
            .map(|canary| canary["status"].clone())
            .unwrap_or_default()
    }

    fn phase(&self) -> String {
        self.status()["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn until(&mut self, phase: &str) {
        for _ in 0..60 {
            if self.phase() == phase {
                return;
            }
            self.0.ticks(1);
        }
        panic!(
            "{phase} is not reached: {} {:?}",
            self.status(),
            self.0.texts("web")
        );
    }

    fn shares(&self) -> (i32, i32) {
        let shares = self.0.routes.get("web").cloned().unwrap_or_default().shares;
        (shares.primary, shares.canary)
    }

    fn replicas(&self, name: &str) -> i64 {
        let deployment = self.0.object("Deployment", name);
        deployment
            .and_then(|one| one["spec"]["replicas"].as_i64())
            .unwrap_or(-1)
    }

    fn image(&self, name: &str) -> String {
        let deployment = self.0.object("Deployment", name);
        let image =
            deployment.map(|one| &one["spec"]["template"]["spec"]["containers"][0]["image"]);
        image.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The weights after each look, until a phase is reached.
    fn weights_until(&mut self, phase: &str) -> Vec<i32> {
        let mut weights = Vec::new();
        for _ in 0..40 {
            self.0.ticks(1);
            weights.push(self.shares().1);
            if self.phase() == phase {
                return weights;
            }
        }
        panic!(
            "{phase} is not reached: {weights:?} {:?}",
            self.0.texts("web")
        );
    }

    fn is_told(&self, text: &str) -> usize {
        let texts = self.0.texts("web");
        texts.iter().filter(|told| told.contains(text)).count()
    }

    fn calls(&self, name: &str) -> usize {
        self.0.calls.iter().filter(|call| call.name == name).count()
    }

    fn answer(&mut self, hook: &str, status: u16) {
        self.0
            .hooks
            .insert(hook.to_owned(), (status, String::new()));
    }

    /// A new version whose pods are ready when the next look comes.
    fn release(&mut self, version: &str) {
        self.0.set_image("app", &format!("app:{version}"));
        self.until("Progressing");
    }
}

#[test]
fn flagger_01_a_new_canary_gets_its_primary_services_and_routes() {
    let mut stage = Stage::with(&[deployment(), canary(&by_weight(&json!({})))]);
    stage.0.ticks(1);
    assert_eq!(stage.phase(), "Initialized");
    assert_eq!(
        (stage.replicas("app"), stage.replicas("app-primary")),
        (0, 2)
    );
    for (service, selected) in [
        ("app", "app-primary"),
        ("app-primary", "app-primary"),
        ("app-canary", "app"),
    ] {
        let service = stage.0.object("Service", service).expect("it is there");
        assert_eq!(service["spec"]["selector"], json!({"app": selected}));
        assert_eq!(
            service["spec"]["ports"],
            json!([{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}])
        );
    }
    assert_eq!(stage.shares(), (100, 0));
    let condition = &stage.status()["conditions"][0];
    assert_eq!(
        (
            &condition["type"],
            &condition["status"],
            &condition["reason"]
        ),
        (&json!("Promoted"), &json!("True"), &json!("Initialized"))
    );
    let primary = stage
        .0
        .object("Deployment", "app-primary")
        .expect("it is there");
    assert_eq!(primary["metadata"]["labels"], json!({"app": "app-primary"}));
    assert_eq!(primary["metadata"]["annotations"]["note"], "kept");
    assert_eq!(primary["metadata"]["ownerReferences"][0]["kind"], "Canary");
    assert_eq!(
        primary["spec"]["selector"],
        json!({"matchLabels": {"app": "app-primary"}})
    );
    // What was handled is noted at the look after it was recorded.
    stage.0.ticks(1);
    let writes = stage.0.writes;
    stage.0.ticks(5);
    assert_eq!(stage.0.writes, writes, "nothing is written at rest");
}

#[test]
fn flagger_02_while_the_primary_is_not_ready_nothing_is_taken_over() {
    let mut broken = deployment();
    broken["spec"]["template"]["spec"]["containers"][0]["image"] = json!("does-not-exist");
    let mut stage = Stage::with(&[broken, canary(&by_weight(&json!({})))]);
    stage.0.ticks(2);
    let told = "app-primary.shop not ready: waiting for rollout to finish: ";
    assert_eq!(stage.is_told(told), 3);
    let texts = stage.0.texts("web");
    assert!(
        texts[1].ends_with("observed deployment generation less than desired generation"),
        "{texts:?}"
    );
    assert!(
        texts[3].ends_with("0 of 2 (readyThreshold 100%) updated replicas are available"),
        "{texts:?}"
    );
    assert_eq!(stage.0.object("Service", "app"), None);
    assert_eq!(
        (stage.replicas("app"), stage.phase()),
        (2, "Initializing".to_owned())
    );
}

#[test]
fn flagger_03_and_04_a_good_version_is_promoted_step_by_step() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.0.set_image("app", "app:v2");
    stage.0.ticks(1);
    assert_eq!(
        stage.is_told("New revision detected! Scaling up app.shop"),
        1
    );
    assert_eq!(
        (stage.replicas("app"), stage.phase()),
        (2, "Progressing".to_owned())
    );
    assert_eq!(
        (&stage.status()["canaryWeight"], stage.shares()),
        (&json!(0), (100, 0))
    );
    let checks = stage.0.checks.len();
    stage.0.ticks(1);
    assert_eq!(
        (stage.shares(), stage.0.checks.len()),
        ((90, 10), checks),
        "the first step asks nothing"
    );
    assert_eq!(stage.is_told("Starting canary analysis for app.shop"), 1);
    stage.0.ticks(1);
    assert_eq!(stage.shares(), (80, 20));
    stage.0.ticks(1);
    assert_eq!(stage.shares(), (70, 30));
    stage.0.ticks(1);
    assert_eq!(
        (stage.phase(), stage.image("app-primary")),
        ("Promoting".to_owned(), "app:v2".to_owned())
    );
    stage.0.ticks(1);
    assert_eq!(
        (stage.phase(), stage.shares()),
        ("Finalising".to_owned(), (100, 0))
    );
    stage.0.ticks(1);
    assert_eq!(
        (stage.phase(), stage.replicas("app")),
        ("Succeeded".to_owned(), 0)
    );
    for weight in [10, 20, 30] {
        assert_eq!(
            stage.is_told(&format!("Advance web.shop canary weight {weight}")),
            1
        );
    }
    assert_eq!(
        stage.is_told("Promotion completed! Scaling down app.shop"),
        1
    );
    let status = stage.status();
    assert_eq!(status["lastAppliedSpec"], status["lastPromotedSpec"]);
    stage.0.ticks(5);
    assert_eq!(stage.phase(), "Succeeded");
}

#[test]
fn flagger_05_06_and_07_steps_follow_the_users_numbers() {
    let run = |more: Value| {
        let mut stage = Stage::initialised(&canary(&by_weight(&more)));
        stage.release("v2");
        (stage.weights_until("Promoting"), stage)
    };
    let (weights, _) = run(json!({"stepWeight": 20, "maxWeight": 50}));
    assert_eq!(weights, [20, 40, 60, 60]);
    let (weights, _) = run(json!({"stepWeight": null, "stepWeights": [1, 2, 10, 200]}));
    assert_eq!(weights, [1, 2, 10, 100, 100]);
    let (weights, mut stage) =
        run(json!({"stepWeight": 100, "maxWeight": 100, "stepWeightPromotion": 50}));
    assert_eq!(weights, [100, 100]);
    assert_eq!(stage.weights_until("Finalising"), [50, 0]);
    for weight in [50, 100] {
        assert_eq!(
            stage.is_told(&format!("Advance web.shop primary weight {weight}")),
            1
        );
    }
}

#[test]
fn flagger_08_a_bad_version_is_taken_back() {
    let mut stage = Stage::initialised(&canary(&by_weight(
        &json!({"webhooks": [hook("after", "post-rollout")]}),
    )));
    stage
        .0
        .metrics
        .insert("success".to_owned(), Answer::Value(50.0));
    stage.release("v2");
    stage.0.ticks(1);
    assert_eq!(stage.shares(), (90, 10));
    for failed in 1..=3 {
        stage.0.ticks(1);
        assert_eq!(
            (&stage.status()["failedChecks"], stage.shares()),
            (&json!(failed), (90, 10))
        );
    }
    assert_eq!(
        stage.is_told("Halt web.shop advancement success rate 50.00% < 99%"),
        3
    );
    stage.0.ticks(1);
    assert_eq!(
        (stage.phase(), stage.shares(), stage.replicas("app")),
        ("Failed".to_owned(), (100, 0), 0)
    );
    assert_eq!(stage.status()["failedChecks"], 0);
    assert_eq!(
        stage.is_told("Rolling back web.shop failed checks threshold reached 3"),
        1
    );
    assert_eq!(stage.is_told("Canary failed! Scaling down web.shop"), 1);
    let call = stage
        .0
        .calls
        .iter()
        .find(|call| call.name == "after")
        .expect("it was called");
    assert_eq!(call.body["phase"], "Failed");
    let writes = stage.0.writes;
    stage.0.ticks(5);
    assert_eq!(
        (stage.phase(), stage.0.writes),
        ("Failed".to_owned(), writes)
    );
}

#[test]
fn flagger_09_failures_add_up_unless_only_those_in_a_row_count() {
    let run = |consecutive: bool| {
        let mut object = canary(&by_weight(
            &json!({"stepWeight": 1, "maxWeight": 100, "webhooks": [hook("gate", "confirm-traffic-increase")]}),
        ));
        if consecutive {
            object["metadata"]["annotations"] =
                json!({"crossfade.dev/failed-check-mode": "consecutive"});
        }
        let mut stage = Stage::initialised(&object);
        stage.release("v2");
        stage.0.ticks(1);
        stage.answer("gate", 403);
        for tick in 1..=101 {
            let value = if [1, 50, 100].contains(&tick) {
                50.0
            } else {
                100.0
            };
            stage
                .0
                .metrics
                .insert("success".to_owned(), Answer::Value(value));
            assert_eq!(stage.phase(), "Progressing", "{tick}");
            stage.0.ticks(1);
        }
        stage.phase()
    };
    assert_eq!(run(false), "Failed");
    assert_eq!(run(true), "Progressing");
}

#[test]
fn flagger_10_a_newer_revision_restarts_the_release() {
    let mut stage = Stage::initialised(&canary(&by_weight(
        &json!({"webhooks": [hook("ask", "confirm-rollout")]}),
    )));
    stage.release("v2");
    stage.0.ticks(2);
    assert_eq!((stage.shares(), stage.calls("ask")), ((80, 20), 1));
    stage.0.set_image("app", "app:v3");
    stage.0.ticks(1);
    assert_eq!(stage.shares(), (100, 0));
    let status = stage.status();
    let numbers =
        ["canaryWeight", "failedChecks", "iterations"].map(|member| status[member].clone());
    assert_eq!(numbers, [json!(0), json!(0), json!(0)]);
    assert_eq!(
        stage.is_told("New revision detected! Restarting analysis for app.shop"),
        1
    );
    assert_eq!(stage.calls("ask"), 1);
    stage.until("Succeeded");
    assert_eq!(stage.image("app-primary"), "app:v3");
}

#[test]
fn flagger_11_a_changed_configuration_is_released_as_well() {
    let run = |disabled: bool| {
        let mut target = deployment();
        target["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": "settings"}}]);
        let mut settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"color": "red"}});
        if disabled {
            settings["metadata"]["annotations"] =
                json!({"flagger.app/config-tracking": "disabled"});
        }
        let mut stage = Stage::with(&[settings, target, canary(&by_weight(&json!({})))]);
        stage.until("Initialized");
        let primary = stage
            .0
            .object("Deployment", "app-primary")
            .expect("it is there")
            .clone();
        let named = primary["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"].clone();
        stage.release("v2");
        stage.0.ticks(2);
        stage.0.patch(
            "ConfigMap",
            "settings",
            &json!({"data": {"color": "green"}}),
        );
        stage.0.ticks(1);
        (named, stage)
    };
    let (named, mut stage) = run(false);
    assert_eq!(named, "settings-primary");
    assert_eq!(
        stage.status()["trackedConfigs"]
            .as_object()
            .map(serde_json::Map::len),
        Some(1)
    );
    assert_eq!(
        (stage.is_told("Restarting analysis"), stage.shares()),
        (1, (100, 0))
    );
    let copy = |stage: &Stage| {
        stage
            .0
            .object("ConfigMap", "settings-primary")
            .expect("it is there")["data"]
            .clone()
    };
    assert_eq!(copy(&stage), json!({"color": "red"}));
    stage.until("Succeeded");
    assert_eq!(copy(&stage), json!({"color": "green"}));
    let (named, stage) = run(true);
    assert_eq!(named, "settings");
    assert_eq!(
        (stage.is_told("Restarting analysis"), stage.shares()),
        (0, (70, 30))
    );
    assert_eq!(stage.status()["trackedConfigs"], json!({}));
}

#[test]
fn flagger_12_going_back_to_the_promoted_revision_starts_nothing() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.release("v2");
    stage.until("Succeeded");
    stage
        .0
        .metrics
        .insert("success".to_owned(), Answer::Value(1.0));
    stage.release("v3");
    stage.until("Failed");
    stage.0.set_image("app", "app:v2");
    stage.0.ticks(5);
    assert_eq!(stage.phase(), "Failed");
    assert_eq!(stage.is_told("Scaling up"), 2);
    let status = stage.status();
    assert_eq!(status["lastAppliedSpec"], status["lastPromotedSpec"]);
}

#[test]
fn flagger_13_and_14_iterations_count_looks() {
    let header = json!([{"headers": {"x-user": {"exact": "me"}}}]);
    let looks = |more: &Value| {
        let mut analysis = by_weight(&json!({"stepWeight": null, "maxWeight": null}));
        crossfade_api::merge_patch::apply(&mut analysis, more);
        analysis
    };
    let mut stage = Stage::initialised(&canary(&looks(&json!({"iterations": 2, "match": header}))));
    stage.release("v2");
    assert_eq!(stage.weights_until("Promoting"), [100, 100, 100]);
    for told in [
        "Advance web.shop canary iteration 1/2",
        "Advance web.shop canary iteration 2/2",
    ] {
        assert_eq!(stage.is_told(told), 1);
    }
    let mut stage = Stage::initialised(&canary(&looks(&json!({"iterations": 1}))));
    stage.release("v2");
    assert_eq!(stage.weights_until("Promoting"), [0, 100, 100]);
    assert_eq!(stage.is_told("Advance web.shop canary iteration 1/1"), 1);
    assert_eq!(stage.is_told("Routing all traffic to canary"), 1);
}

#[test]
fn flagger_15_without_a_router_weights_become_ten_looks() {
    let mut object = canary(&by_weight(&json!({})));
    object["spec"]["provider"] = json!("kubernetes");
    let mut stage = Stage::initialised(&object);
    stage.release("v2");
    stage.until("Succeeded");
    let looks =
        stage.is_told("Progressive traffic is not supported when using the kubernetes provider");
    assert_eq!(
        stage.is_told("Setting canaryAnalysis.iterations: 10"),
        looks
    );
    assert_eq!(looks, 12);
    assert_eq!(stage.is_told("canary iteration 10/10"), 1);
    assert!(stage.0.routes.is_empty());
}

#[test]
fn flagger_16_copies_come_before_requests() {
    let mut stage = Stage::initialised(&canary(&by_weight(
        &json!({"mirror": true, "webhooks": [hook("more", "confirm-traffic-increase")]}),
    )));
    stage.release("v2");
    stage.0.ticks(1);
    let shares = stage.0.routes["web"].shares;
    assert_eq!(
        (shares.primary, shares.canary, shares.mirrored),
        (100, 0, true)
    );
    assert_eq!(
        (
            stage.is_told("Advance web.shop canary weight 0"),
            stage.calls("more")
        ),
        (1, 1)
    );
    stage.0.ticks(1);
    let shares = stage.0.routes["web"].shares;
    assert_eq!(
        (shares.primary, shares.canary, shares.mirrored),
        (90, 10, false)
    );
    assert_eq!(stage.calls("more"), 1);
}

#[test]
fn flagger_17_a_release_waits_for_approval() {
    let alerts = json!([{"name": "people", "severity": "warn", "providerRef": {"name": "slack"}}]);
    let mut stage = Stage::initialised(&canary(&by_weight(
        &json!({"alerts": alerts, "webhooks": [hook("ask", "confirm-rollout")]}),
    )));
    stage.answer("ask", 403);
    stage.0.set_image("app", "app:v2");
    stage.0.ticks(3);
    assert_eq!(
        (stage.phase(), stage.calls("ask"), stage.replicas("app")),
        ("Waiting".to_owned(), 3, 0)
    );
    assert_eq!(
        stage.is_told("Halt web.shop advancement waiting for approval ask"),
        1
    );
    let texts: Vec<_> = stage
        .0
        .alerts
        .iter()
        .map(|alert| (alert.text.as_str(), alert.severity.as_str()))
        .collect();
    assert_eq!(texts, [("Canary is waiting for approval.", "warn")]);
    let phases: Vec<_> = stage
        .0
        .calls
        .iter()
        .map(|call| call.body["phase"].clone())
        .collect();
    assert_eq!(phases, ["Initialized", "Waiting", "Waiting"]);
    stage.answer("ask", 200);
    stage.0.ticks(1);
    assert_eq!(
        (
            stage.phase(),
            stage.is_told("Confirm-rollout check ask passed")
        ),
        ("Progressing".to_owned(), 1)
    );
}

#[test]
fn flagger_18_while_promotion_waits_the_analysis_goes_on() {
    let mut stage = Stage::initialised(&canary(&by_weight(
        &json!({"webhooks": [hook("promote", "confirm-promotion")]}),
    )));
    stage.answer("promote", 403);
    stage.release("v2");
    stage.until("WaitingPromotion");
    assert_eq!(
        stage.is_told("Halt web.shop advancement waiting for promotion approval promote"),
        1
    );
    assert_eq!(stage.status()["canaryWeight"], 30);
    let checks = stage.0.checks.len();
    stage.0.ticks(3);
    assert_eq!(stage.0.checks.len(), checks + 3);
    assert_eq!(
        (stage.phase(), stage.shares()),
        ("WaitingPromotion".to_owned(), (70, 30))
    );
    stage
        .0
        .metrics
        .insert("success".to_owned(), Answer::Value(1.0));
    stage.0.ticks(4);
    assert_eq!(
        (stage.phase(), stage.shares()),
        ("Failed".to_owned(), (100, 0))
    );
}

#[test]
fn flagger_19_and_20_one_opening_buys_one_step() {
    let recipe = |first: &str, second: &str| {
        json!({"stepWeight": null, "maxWeight": null, "stepWeights": [5, 25, 50], "webhooks": [
            hook(first, "confirm-traffic-increase"), hook(second, "confirm-traffic-increase"),
            hook("check-promotion", "confirm-promotion"), hook("abort", "rollback"),
        ]})
    };
    let closed = |stage: &mut Stage| {
        stage.answer("check", 403);
        stage.answer("check-promotion", 403);
        stage.answer("abort", 403);
    };
    let mut stage = Stage::initialised(&canary(&by_weight(&recipe("check", "close"))));
    closed(&mut stage);
    stage.release("v2");
    stage.0.ticks(3);
    let mut weights = vec![stage.shares().1];
    let mut openings = 0;
    while stage.phase() != "Promoting" {
        // Opened for one look; `close` closes it in the middle of that look, before promotion is asked about.
        openings += 1;
        let promotes = stage.phase() == "WaitingPromotion";
        stage.answer("check", 200);
        stage.answer("check-promotion", if promotes { 200 } else { 403 });
        stage.0.ticks(1);
        closed(&mut stage);
        weights.push(stage.shares().1);
        if stage.phase() != "Promoting" {
            stage.0.ticks(2);
        }
        assert!(openings < 9, "{weights:?} {:?}", stage.0.texts("web"));
    }
    assert_eq!((openings, weights), (5, vec![0, 5, 25, 50, 50, 50]));
    // `close` first: it is called at each look, and the gate is closed when it is asked.
    let mut stage = Stage::initialised(&canary(&by_weight(&recipe("close", "check"))));
    closed(&mut stage);
    stage.release("v2");
    stage.0.ticks(5);
    assert_eq!(
        (stage.shares(), stage.calls("close"), stage.calls("check")),
        ((100, 0), 5, 5)
    );
}

#[test]
fn flagger_21_a_rollback_hook_that_answers_takes_the_release_back() {
    let analysis = by_weight(&json!({"webhooks": [hook("abort", "rollback")]}));
    let mut stage = Stage::initialised(&canary(&analysis));
    stage.answer("abort", 500);
    stage.release("v2");
    stage.0.ticks(2);
    assert_eq!(stage.shares(), (80, 20));
    assert_eq!(
        stage.is_told("Rollback hook abort not signaling a rollback"),
        2
    );
    let normal = stage
        .0
        .told
        .iter()
        .filter(|told| told.event.message.contains("not signaling"));
    assert!(normal.clone().all(|told| !told.event.warning));
    stage.answer("abort", 200);
    stage.0.ticks(1);
    assert_eq!(
        (stage.phase(), stage.shares()),
        ("Failed".to_owned(), (100, 0))
    );
    assert_eq!(stage.is_told("Rollback check abort passed"), 1);
    assert_eq!(
        stage.is_told("Rolling back web.shop manual webhook invoked"),
        1
    );
}

#[test]
fn flagger_24_skipping_the_analysis_in_the_middle_promotes() {
    let mut stage = Stage::initialised(&canary(&by_weight(
        &json!({"webhooks": [hook("after", "post-rollout")]}),
    )));
    stage.release("v2");
    stage.0.ticks(3);
    assert_eq!(stage.shares(), (70, 30));
    stage
        .0
        .patch("Canary", "web", &json!({"spec": {"skipAnalysis": true}}));
    stage.0.ticks(1);
    assert_eq!(
        (stage.phase(), stage.shares(), stage.replicas("app")),
        ("Succeeded".to_owned(), (100, 0), 0)
    );
    assert_eq!(
        (stage.image("app-primary"), stage.calls("after")),
        ("app:v2".to_owned(), 1)
    );
    assert_eq!(
        stage.is_told("Promotion completed! Canary analysis was skipped for app.shop"),
        1
    );
}

#[test]
fn flagger_25_a_skipped_version_that_does_not_start_is_taken_back() {
    let mut object = canary(&by_weight(&json!({})));
    object["spec"]["skipAnalysis"] = json!(true);
    let mut stage = Stage::initialised(&object);
    stage.0.set_image("app", "does-not-exist");
    stage.until("Failed");
    assert_eq!(
        (stage.replicas("app"), stage.image("app-primary")),
        (0, "app:v1".to_owned())
    );
    let late = stage
        .0
        .alerts
        .iter()
        .find(|alert| alert.text.starts_with("Progress deadline exceeded "));
    assert_eq!(late.map(|alert| alert.severity.as_str()), Some("error"));
    assert_eq!(
        stage.is_told("Rolling back web.shop progress deadline exceeded"),
        1
    );
}

#[test]
fn flagger_26_a_promotion_that_fails_leaves_the_good_copy_in_service() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.release("v2");
    stage.until("Promoting");
    // The primary's pods cannot start where the target's could.
    stage.0.set_image("app-primary", "does-not-exist");
    stage.until("Failed");
    assert_eq!((stage.shares(), stage.replicas("app")), ((0, 100), 2));
    assert_eq!(stage.status()["canaryWeight"], 100);
    assert_eq!(
        stage.is_told("Promotion of app.shop failed, primary not ready: "),
        1
    );
    assert_eq!(
        stage.status()["conditions"][0]["message"],
        "Promotion failed, canary is serving all traffic."
    );
    stage.0.set_image("app", "app:v3");
    for _ in 0..8 {
        stage.0.ticks(1);
        assert_eq!(stage.shares(), (0, 100));
        assert_eq!(stage.replicas("app"), 2);
    }
}

#[test]
fn flagger_27_a_suspended_canary_rests_where_it_is() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.release("v2");
    stage.0.ticks(2);
    stage
        .0
        .patch("Canary", "web", &json!({"spec": {"suspend": true}}));
    stage.0.ticks(4);
    assert_eq!(
        (
            stage.shares(),
            stage.is_told("skipping canary run as object is suspended")
        ),
        ((80, 20), 4)
    );
    stage
        .0
        .patch("Canary", "web", &json!({"spec": {"suspend": false}}));
    stage.0.ticks(1);
    assert_eq!(stage.shares(), (70, 30));
}

#[test]
fn flagger_28_a_canary_that_goes_gives_everything_back() {
    let mut object = canary(&by_weight(&json!({})));
    object["spec"]["revertOnDeletion"] = json!(true);
    let own = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "app", "annotations": {"kubectl.kubernetes.io/last-applied-configuration":
            "{\"spec\":{\"selector\":{\"app\":\"app\"}}}"}},
        "spec": {"selector": {"app": "app"}, "ports": [{"name": "http", "port": 80}]},
    });
    let mut stage = Stage::with(&[own, deployment(), object.clone()]);
    stage.until("Initialized");
    let selector = |stage: &Stage| {
        stage.0.object("Service", "app").expect("it is there")["spec"]["selector"].clone()
    };
    assert_eq!(selector(&stage), json!({"app": "app-primary"}));
    let finalizers =
        stage.0.object("Canary", "web").expect("it is there")["metadata"]["finalizers"].clone();
    assert_eq!(finalizers, json!(["finalizer.flagger.app"]));
    stage.0.delete("Canary", "web");
    stage.0.advance(stage.0.now + SignedDuration::from_secs(30));
    assert_eq!(stage.0.object("Canary", "web"), None);
    assert_eq!(
        (stage.replicas("app"), selector(&stage)),
        (2, json!({"app": "app"}))
    );
    assert!(stage.0.routes.is_empty());
    assert_eq!(stage.0.object("Deployment", "app-primary"), None);
    for told in ["Terminating canary web.shop", "Terminated canary web.shop"] {
        assert_eq!(stage.is_told(told), 1, "{told}");
    }
    // Without a target it goes as well.
    let mut stage = Stage::with(&[deployment(), object]);
    stage.until("Initialized");
    stage.0.delete("Deployment", "app");
    stage.0.delete("Canary", "web");
    stage.0.advance(stage.0.now + SignedDuration::from_secs(30));
    assert_eq!(stage.0.object("Canary", "web"), None);
}

#[test]
fn flagger_29_without_revert_owned_objects_vanish_and_the_target_sleeps() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.0.delete("Canary", "web");
    stage.0.advance(stage.0.now + SignedDuration::from_secs(30));
    for (kind, name) in [
        ("Deployment", "app-primary"),
        ("Service", "app"),
        ("Service", "app-canary"),
        ("Service", "app-primary"),
    ] {
        assert_eq!(stage.0.object(kind, name), None, "{name}");
    }
    assert_eq!(stage.replicas("app"), 0);
}

#[test]
fn flagger_30_and_31_autoscalers_get_a_copy_for_the_primary() {
    let hpa = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "app"},
        "spec": {"minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}},
    });
    let mut object = canary(&by_weight(&json!({})));
    object["spec"]["autoscalerRef"] = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "app",
        "primaryScalerReplicas": {"minReplicas": 3},
    });
    let mut stage = Stage::with(&[hpa, deployment(), object.clone()]);
    stage.until("Initialized");
    let copy = stage
        .0
        .object("HorizontalPodAutoscaler", "app-primary")
        .expect("it is there");
    assert_eq!(
        (
            &copy["spec"]["minReplicas"],
            &copy["spec"]["maxReplicas"],
            &copy["spec"]["scaleTargetRef"]["name"]
        ),
        (&json!(3), &json!(4), &json!("app-primary"))
    );
    stage.release("v2");
    assert_eq!(stage.replicas("app"), 2);
    let scaled = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "app"},
        "spec": {
            "minReplicaCount": 1, "maxReplicaCount": 4, "scaleTargetRef": {"name": "app"},
            "triggers": [{"type": "prometheus", "metadata": {"query": "rate(x{pod=~\"app-.*\"})"}}],
        },
    });
    object["spec"]["autoscalerRef"] =
        json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "app"});
    let mut stage = Stage::with(&[scaled, deployment(), object]);
    stage.until("Initialized");
    let paused = |stage: &Stage| {
        let object = stage.0.object("ScaledObject", "app").expect("it is there");
        object["metadata"]["annotations"]["autoscaling.keda.sh/paused-replicas"].clone()
    };
    assert_eq!(paused(&stage), "0");
    let copy = stage
        .0
        .object("ScaledObject", "app-primary")
        .expect("it is there");
    assert_eq!(
        copy["spec"]["triggers"][0]["metadata"]["query"],
        "rate(x{pod=~\"app-primary-.*\"})"
    );
    assert_eq!(copy["metadata"].get("annotations"), None);
    stage.release("v2");
    assert_eq!(paused(&stage), Value::Null);
    stage.until("Succeeded");
    assert_eq!(paused(&stage), "0");
}

#[test]
fn flagger_32_a_target_without_a_known_label_is_left_alone() {
    let mut target = deployment();
    target["spec"]["selector"]["matchLabels"] = json!({"component": "x"});
    let mut stage = Stage::with(&[target, canary(&by_weight(&json!({})))]);
    stage.0.ticks(2);
    let text = "deployment app.shop spec.selector.matchLabels must contain one of [app name app.kubernetes.io/name]";
    assert_eq!(stage.is_told(text), 3);
    assert_eq!(stage.0.objects.len(), 2);
}

#[test]
fn flagger_33_a_blocked_reference_keeps_a_canary_from_running_also_when_it_is_added_later() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    let mut settings = (*stage.0.settings).clone();
    settings.no_cross_namespace_refs = true;
    stage.0.settings = Arc::new(settings);
    stage.release("v2");
    stage.0.ticks(1);
    let metrics = json!([{"name": "m", "templateRef": {"name": "t", "namespace": "other"}}]);
    stage.0.patch(
        "Canary",
        "web",
        &json!({"spec": {"analysis": {"metrics": metrics}}}),
    );
    stage.0.ticks(2);
    let text = "invalid canary spec: can't access metric template t.other, cross-namespace references are blocked";
    assert_eq!((stage.is_told(text), stage.shares()), (2, (90, 10)));
}

#[test]
fn flagger_34_and_35_metrics_that_cannot_be_asked_count_as_failed() {
    let run = |metric: Value| {
        let mut stage = Stage::initialised(&canary(&by_weight(&json!({"metrics": [metric]}))));
        stage.release("v2");
        stage.0.ticks(2);
        stage
    };
    let stage = run(json!({"name": "m", "templateRef": {"name": "t"}}));
    assert_eq!(
        stage.is_told("Metric template t.shop error: "),
        3,
        "twice while it was initialised"
    );
    assert_eq!(stage.status()["failedChecks"], 1);
    let stage = run(json!({"name": "m"}));
    assert_eq!(
        stage.is_told(
            "Metric query failed for no usable metrics template and query were configured"
        ),
        1
    );
    assert_eq!(stage.status()["failedChecks"], 1);
}

#[test]
fn flagger_36_a_provider_that_stumbles_is_asked_again_and_may_be_forgiven() {
    let run = |policy: &str| {
        let mut object = canary(&by_weight(&json!({})));
        object["metadata"]["annotations"] = json!({"crossfade.dev/metric-error-policy": policy});
        let mut stage = Stage::initialised(&object);
        stage.release("v2");
        stage.0.ticks(1);
        let down = Answer::Fault(
            CheckFaultKind::Provider,
            "request failed: connection refused".to_owned(),
        );
        stage.0.metrics.insert("success".to_owned(), down);
        let before = stage.0.checks.len();
        stage.0.ticks(1);
        let waits: Vec<i64> = stage.0.checks[before..]
            .iter()
            .map(|check| check.wait_ms)
            .collect();
        assert_eq!(waits, [0, 1000, 2000]);
        assert_eq!(stage.shares(), (90, 10));
        stage
    };
    let stage = run("count");
    assert_eq!(stage.status()["failedChecks"], 1);
    assert_eq!(
        stage.is_told("Prometheus query failed: request failed: connection refused"),
        1
    );
    let mut stage = run("hold");
    assert_eq!(stage.status()["failedChecks"], 0);
    assert_eq!(stage.is_told("connection refused (not counted)"), 1);
    stage
        .0
        .metrics
        .insert("success".to_owned(), Answer::Value(100.0));
    stage.0.ticks(1);
    assert_eq!(stage.shares(), (80, 20));
}

#[test]
fn flagger_37_people_are_told_from_the_severity_on_that_they_chose() {
    let run = |severity: &str| {
        let mut alert = json!({"name": "people", "providerRef": {"name": "slack"}});
        if !severity.is_empty() {
            alert["severity"] = json!(severity);
        }
        let mut stage = Stage::initialised(&canary(&by_weight(
            &json!({"alerts": [alert], "webhooks": [hook("ask", "confirm-rollout")]}),
        )));
        stage.answer("ask", 403);
        stage.0.set_image("app", "app:v2");
        stage.0.ticks(2);
        stage.answer("ask", 200);
        stage
            .0
            .metrics
            .insert("success".to_owned(), Answer::Value(1.0));
        stage.until("Failed");
        stage
            .0
            .metrics
            .insert("success".to_owned(), Answer::Value(100.0));
        stage.release("v3");
        stage.until("Succeeded");
        stage
            .0
            .alerts
            .iter()
            .map(|alert| alert.severity.clone())
            .collect::<Vec<_>>()
    };
    let all = ["info", "warn", "info", "error", "info", "info"];
    assert_eq!(run(""), all);
    assert_eq!(run("info"), all);
    assert_eq!(run("warn"), ["warn", "error"]);
    assert_eq!(run("error"), ["error"]);
}

#[test]
fn flagger_38_a_canary_of_the_other_controller_is_carried_on() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.release("v2");
    stage.until("Succeeded");
    let foreign = json!({"status": {"lastAppliedSpec": "654499f758", "lastPromotedSpec": "654499f758"},
        "metadata": {"annotations": {"crossfade.dev/last-synced": null}}});
    stage.0.patch("Canary", "web", &foreign);
    stage.0.restart();
    stage.0.ticks(2);
    let status = stage.status();
    assert_eq!(stage.phase(), "Succeeded");
    for member in ["lastAppliedSpec", "lastPromotedSpec"] {
        assert_eq!(status[member], stage.0.revision("app"), "{member}");
    }
    stage.release("v3");
    stage.until("Succeeded");
    assert_eq!(stage.image("app-primary"), "app:v3");
}

#[test]
fn flagger_39_of_two_canaries_with_one_target_the_older_runs() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    let mut younger = canary(&by_weight(&json!({})));
    younger["metadata"]["name"] = json!("younger");
    stage.0.apply(&younger);
    stage.0.advance(stage.0.now + SignedDuration::from_secs(15));
    stage.release("v2");
    stage.until("Succeeded");
    let told = stage.0.texts("younger");
    assert!(
        !told.is_empty()
            && told
                .iter()
                .all(|text| text.contains("same target app.shop; web is older")),
        "{told:?}"
    );
}

#[test]
fn flagger_40_a_canary_with_one_cookie_name_for_both_is_not_run() {
    let affinity = json!({"cookieName": "c", "primaryCookieName": "c"});
    let mut stage = Stage::with(&[
        deployment(),
        canary(&by_weight(&json!({"sessionAffinity": affinity}))),
    ]);
    stage.0.ticks(1);
    assert_eq!(stage.is_told("invalid canary spec: can't use the same cookie name for both primary and cookie name; please update them to be different"), 2);
    assert_eq!(stage.0.objects.len(), 2);
}

#[test]
fn cookies_are_handed_out_while_the_new_version_gets_requests_and_taken_back_after() {
    let affinity = json!({"cookieName": "c"});
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({"sessionAffinity": affinity}))));
    stage.release("v2");
    stage.0.ticks(1);
    let cookie = stage.status()["sessionAffinityCookie"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(cookie.starts_with("c=") && cookie.len() == 12, "{cookie}");
    let handed = stage.0.routes["web"]
        .cookies
        .clone()
        .expect("there are some");
    assert_eq!(
        (handed.canary, handed.primary),
        (cookie.clone(), String::new())
    );
    stage.0.ticks(1);
    assert_eq!(stage.status()["sessionAffinityCookie"], cookie.as_str());
    stage.until("Succeeded");
    let status = stage.status();
    assert_eq!(status["previousSessionAffinityCookie"], cookie.as_str());
    assert_eq!(status.get("sessionAffinityCookie"), None);
    assert_eq!(status.get("primarySessionAffinityCookie"), None);
}

#[test]
fn a_version_that_comes_while_another_is_promoted_is_released_next() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.release("v2");
    stage.until("Promoting");
    stage.0.set_image("app", "app:v3");
    stage.until("Succeeded");
    assert_eq!(stage.image("app-primary"), "app:v2");
    stage.0.ticks(1);
    assert_eq!(stage.phase(), "Progressing");
    stage.until("Succeeded");
    assert_eq!(stage.image("app-primary"), "app:v3");
}

#[test]
fn a_week_of_manual_steps_survives_stumbles_restarts_and_waiting() {
    let mut object = canary(&by_weight(&json!({
        "interval": "5m", "stepWeight": 10, "maxWeight": 50,
        "webhooks": [hook("check", "confirm-traffic-increase"), hook("close", "confirm-traffic-increase"), hook("abort", "rollback")],
    })));
    object["metadata"]["annotations"] = json!({"crossfade.dev/metric-error-policy": "hold", "crossfade.dev/no-data-policy": "hold"});
    let mut stage = Stage::initialised(&object);
    stage.answer("check", 403);
    stage.answer("abort", 403);
    stage.release("v2");
    for day in 0..7 {
        let stumbles = [1, 3, 4].contains(&day);
        stage.0.advance(stage.0.now + SignedDuration::from_hours(8));
        if stumbles {
            let down = Answer::Fault(CheckFaultKind::Provider, "timeout".to_owned());
            stage.0.metrics.insert("success".to_owned(), down);
            stage.0.ticks(20);
            stage
                .0
                .metrics
                .insert("success".to_owned(), Answer::Value(100.0));
        }
        if day == 2 {
            stage.0.restart();
        }
        let before = stage.shares().1;
        stage.answer("check", 200);
        stage.0.ticks(1);
        stage.answer("check", 403);
        assert_eq!(
            stage.shares().1,
            (before + 10).min(50),
            "day {day}: {:?}",
            stage.status()
        );
        if stage.phase() == "Promoting" {
            break;
        }
        assert_eq!(stage.status()["failedChecks"], 0);
        stage
            .0
            .advance(stage.0.now + SignedDuration::from_hours(16));
    }
    stage.until("Succeeded");
    assert_eq!(stage.is_told("Rolling back"), 0);
    assert_eq!(stage.image("app-primary"), "app:v2");
}

#[test]
fn a_daemon_set_sleeps_by_a_node_selector_that_its_primary_does_not_have() {
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "app"},
        "spec": {
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app"}},
                "spec": {"containers": [{"name": "main", "image": "app:v1"}]},
            },
        },
    });
    let mut object = canary(&by_weight(&json!({})));
    object["spec"]["targetRef"]["kind"] = json!("DaemonSet");
    let mut stage = Stage::with(&[set, object]);
    // Nobody runs DaemonSets here: their status is what the test says.
    let settle = |stage: &mut Stage| {
        for name in ["app", "app-primary"] {
            let Some(set) = stage.0.object("DaemonSet", name) else {
                continue;
            };
            let generation = set["metadata"]["generation"].clone();
            let status = json!({"status": {
                "observedGeneration": generation, "desiredNumberScheduled": 2,
                "updatedNumberScheduled": 2, "numberAvailable": 2,
            }});
            stage.0.patch("DaemonSet", name, &status);
        }
    };
    let selector = |stage: &Stage, name: &str| {
        let set = stage.0.object("DaemonSet", name).expect("it is there");
        set["spec"]["template"]["spec"].get("nodeSelector").cloned()
    };
    let asleep = Some(json!({"flagger.app/scale-to-zero": "true"}));
    settle(&mut stage);
    stage.0.ticks(1);
    assert_eq!(stage.phase(), "Initialized");
    assert_eq!(
        (selector(&stage, "app"), selector(&stage, "app-primary")),
        (asleep.clone(), None)
    );
    stage.0.ticks(3);
    assert_eq!(stage.phase(), "Initialized", "sleeping is no new revision");
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "app:v2"}]}}}});
    stage.0.patch("DaemonSet", "app", &patch);
    for _ in 0..12 {
        stage.0.ticks(1);
        settle(&mut stage);
    }
    assert_eq!(stage.phase(), "Succeeded", "{:?}", stage.0.texts("web"));
    assert_eq!(
        (selector(&stage, "app"), selector(&stage, "app-primary")),
        (asleep, None)
    );
    let primary = stage
        .0
        .object("DaemonSet", "app-primary")
        .expect("it is there");
    assert_eq!(
        primary["spec"]["template"]["spec"]["containers"][0]["image"],
        "app:v2"
    );
}

#[test]
fn a_service_as_target_has_two_copies_of_which_one_is_promoted() {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app", "labels": {"a": "b"}},
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "selector": {"v": "1"}, "ports": [{"port": 80}]},
    });
    let mut object = canary(&by_weight(&json!({})));
    object["spec"]["targetRef"] = json!({"apiVersion": "v1", "kind": "Service", "name": "app"});
    let mut stage = Stage::with(&[service, object]);
    stage.until("Initialized");
    let selector = |stage: &Stage, name: &str| {
        stage.0.object("Service", name).expect("it is there")["spec"]["selector"].clone()
    };
    let copy = stage
        .0
        .object("Service", "app-canary")
        .expect("it is there");
    assert_eq!(
        (
            copy["spec"].get("clusterIP"),
            copy["spec"].get("clusterIPs")
        ),
        (None, None)
    );
    stage
        .0
        .patch("Service", "app", &json!({"spec": {"selector": {"v": "2"}}}));
    stage.0.ticks(2);
    assert_eq!(
        (
            selector(&stage, "app-primary"),
            selector(&stage, "app-canary")
        ),
        (json!({"v": "1"}), json!({"v": "2"}))
    );
    stage.until("Succeeded");
    assert_eq!(selector(&stage, "app-primary"), json!({"v": "2"}));
    let owner = stage
        .0
        .object("Service", "app-primary")
        .expect("it is there");
    assert_eq!(owner["metadata"]["ownerReferences"][0]["kind"], "Canary");
}

#[test]
fn a_primary_that_never_starts_leaves_the_target_in_service_and_recovers() {
    let mut broken = deployment();
    broken["spec"]["template"]["spec"]["containers"][0]["image"] = json!("does-not-exist");
    let mut stage = Stage::with(&[broken, canary(&by_weight(&json!({})))]);
    stage.until("Failed");
    assert_eq!(
        (stage.replicas("app"), stage.0.object("Service", "app")),
        (2, None)
    );
    assert!(stage.0.routes.is_empty());
    stage.0.set_image("app-primary", "app:v1");
    stage.until("Initialized");
    assert_eq!(stage.replicas("app"), 0);
}

#[test]
fn a_change_between_the_last_check_and_the_copy_is_not_promoted_unseen() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.release("v2");
    stage.0.ticks(3);
    assert_eq!(stage.shares(), (70, 30));
    // The change comes after the look has begun: only a reading past all caches sees it.
    let before = stage
        .0
        .object("Deployment", "app")
        .expect("it is there")
        .clone();
    stage.0.set_image("app", "app:v3");
    stage.0.stale = Some(before);
    stage.0.ticks(1);
    stage.0.stale = None;
    assert_eq!(
        (stage.phase(), stage.image("app-primary")),
        ("Progressing".to_owned(), "app:v1".to_owned())
    );
    assert_eq!(
        (stage.shares(), stage.is_told("Restarting analysis")),
        ((100, 0), 1)
    );
    stage.until("Succeeded");
    assert_eq!(stage.image("app-primary"), "app:v3");
}

#[test]
fn a_gate_that_somebody_opens_on_the_canary_itself_is_passed_once() {
    let mut promote = hook("promote", "confirm-promotion");
    promote["metadata"] = json!({"gate": "promotion"});
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({
        "webhooks": [hook("ask", "confirm-traffic-increase"), promote, hook("abort", "rollback")],
    }))));
    for gate in ["ask", "promote", "abort"] {
        stage.answer(gate, 403);
    }
    let open = |stage: &mut Stage, gate: &str| {
        let patch = json!({"metadata": {"annotations": {"crossfade.dev/gate-open": gate}}});
        stage.0.patch("Canary", "web", &patch);
    };
    let is_open = |stage: &Stage| {
        let canary = stage.0.object("Canary", "web").expect("it is there");
        canary["metadata"]["annotations"]["crossfade.dev/gate-open"].is_string()
    };
    // What is written between releases is for none.
    open(&mut stage, "default");
    stage.0.ticks(1);
    assert!(!is_open(&stage));

    stage.release("v2");
    stage.0.ticks(2);
    assert_eq!(stage.shares(), (100, 0));
    open(&mut stage, "promotion");
    stage.0.ticks(1);
    assert_eq!(
        (stage.shares(), is_open(&stage)),
        ((100, 0), true),
        "another gate"
    );
    for weight in [10, 20, 30] {
        open(&mut stage, "default");
        stage.0.ticks(3);
        assert_eq!(
            stage.shares(),
            (100 - weight, weight),
            "one opening, one step"
        );
        assert!(!is_open(&stage));
    }
    let told = "Gate default opened once by the annotation crossfade.dev/gate-open";
    assert_eq!(stage.is_told(told), 3);
    // At the last weight the gate of the traffic is asked once more, and then that of the promotion.
    open(&mut stage, "default");
    stage.until("WaitingPromotion");
    open(&mut stage, "promotion");
    stage.until("Succeeded");

    stage.release("v3");
    open(&mut stage, "rollback");
    stage.until("Failed");
    assert_eq!(
        (stage.shares(), stage.image("app-primary")),
        ((100, 0), "app:v2".to_owned())
    );
    stage.0.ticks(1);
    assert!(!is_open(&stage), "the next release is not taken back");
}

#[test]
fn a_look_at_a_closed_gate_counts_nothing_where_waiting_is_to_be_quiet() {
    let run = |annotation: &str| {
        let close = hook("close", "confirm-traffic-increase");
        let mut object = canary(&by_weight(&json!({
            "webhooks": [hook("check", "confirm-traffic-increase"), close],
        })));
        object["metadata"]["annotations"] =
            json!({"crossfade.dev/analyse-while-waiting": annotation});
        let mut stage = Stage::initialised(&object);
        stage.release("v2");
        stage.0.ticks(1);
        assert_eq!(stage.shares(), (90, 10));
        stage.answer("check", 403);
        stage
            .0
            .metrics
            .insert("success".to_owned(), Answer::Value(0.0));
        stage.0.calls.clear();
        stage.0.ticks(2);
        stage
    };
    let stage = run("true");
    assert_eq!(stage.status()["failedChecks"], 2);
    assert_eq!(stage.calls("check"), 0, "a bad version is not asked for");

    let mut stage = run("false");
    assert_eq!(stage.status()["failedChecks"], 0);
    assert_eq!(
        stage.is_told("while it waits for more traffic (not counted)"),
        2
    );
    assert_eq!(
        (stage.calls("check"), stage.calls("close")),
        (2, 0),
        "nothing is closed by looking"
    );
    // An open gate helps a bad version in no way.
    stage.answer("check", 200);
    stage.0.ticks(1);
    assert_eq!(stage.status()["failedChecks"], 1);
    assert_eq!(stage.shares(), (90, 10));
}

// What simulation has found: each a rule that was wrong once.

#[test]
fn traffic_that_a_former_leader_gives_to_a_sleeping_target_comes_home_at_the_next_look() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    let route = stage.0.routes.get_mut("web").expect("it is routed");
    (route.shares.primary, route.shares.canary) = (75, 25);
    stage.0.ticks(1);
    assert_eq!(stage.shares(), (100, 0));
    assert_eq!(stage.phase(), "Initialized");
    let writes = stage.0.writes;
    stage.0.ticks(3);
    assert_eq!(stage.0.writes, writes, "at rest nothing is written");
}

#[test]
fn an_abort_stays_written_until_the_failure_is_recorded() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.release("v2");
    let revision = stage.status()["lastAppliedSpec"].clone();
    let asked = json!({"metadata": {"annotations": {"crossfade.dev/abort": revision}}});
    stage.0.patch("Canary", "web", &asked);
    let abort = |stage: &Stage| {
        let canary = stage.0.object("Canary", "web").expect("it is there");
        canary["metadata"]["annotations"]["crossfade.dev/abort"].clone()
    };
    stage.until("Failed");
    assert_eq!(abort(&stage), revision);
    stage.0.ticks(1);
    assert_eq!(abort(&stage), Value::Null);
    assert_eq!(stage.phase(), "Failed");
}

#[test]
fn a_target_that_is_put_to_sleep_during_its_promotion_is_woken() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.release("v2");
    stage.until("Promoting");
    stage
        .0
        .patch("Deployment", "app", &json!({"spec": {"replicas": 0}}));
    stage.0.ticks(1);
    assert_eq!(stage.replicas("app"), 2);
    stage.until("Succeeded");
    assert_eq!(stage.image("app-primary"), "app:v2");
}

#[test]
fn an_old_view_of_the_target_is_no_new_way_of_hashing_it() {
    let mut stage = Stage::initialised(&canary(&by_weight(&json!({}))));
    stage.release("v2");
    // The first weight; the look notes under which hash v2 is known.
    stage.0.ticks(2);
    assert!(stage.shares().1 > 0);
    let old = stage.0.object("Deployment", "app").cloned();
    stage.0.set_image("app", "app:v3");
    stage.0.ticks(1);
    assert_eq!(stage.is_told("New revision detected! Restarting"), 1);
    assert_eq!(stage.shares(), (100, 0));
    stage.0.stale = old;
    stage.0.ticks(1);
    assert_eq!(stage.shares(), (100, 0), "v3 has no traffic for what v2 is");
    stage.0.stale = None;
    stage.until("Succeeded");
    assert_eq!(stage.image("app-primary"), "app:v3");
}
