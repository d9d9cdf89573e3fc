//! A Canary of the other family: by weight through whatever router it names, judged by the built-in checks.

use crossfade_host::store::Kind;
use serde_json::{Value, json};

use crate::stage::{Load, Stage, version};

pub(crate) const FILES: [&str; 1] = ["flagger-canary.yaml"];
pub(crate) const OVERLAY: &str = "flagger-canary.local.yaml";
const NEW: [(&str, &str); 2] = [
    ("payment-api:2.4.0", "payment-api:2.5.0"),
    ("=2.4.0", "=2.5.0"),
];

impl Stage {
    /// Waits until a Canary is in a phase; returns it.
    pub(crate) async fn canary_is(&self, name: &str, phase: &str) -> Value {
        let what = format!("the Canary {name} is {phase}");
        self.until(&what, async || {
            let canary = self.get(Kind::Canary, name).await;
            (canary["status"]["phase"] == phase).then_some(canary)
        })
        .await
    }

    /// What was told of a Canary, in order.
    pub(crate) async fn told(&self, name: &str) -> Vec<String> {
        self.events(name, "Synced").await
    }
}

#[tokio::test]
async fn a_canary_by_weight_passes_its_built_in_checks_and_is_promoted() {
    let stage = Stage::start("default").await;
    stage.apply(&FILES, OVERLAY, &[]).await;
    let canary = stage.canary_is("payment-api", "Initialized").await;
    assert_eq!(canary["status"]["conditions"][0]["status"], "True");
    let target = stage.get(Kind::Deployment, "payment-api").await;
    assert_eq!(target["spec"]["replicas"], 0, "the target sleeps");
    let load = Load::start(&stage.address("payment-api").await);

    stage.apply(&FILES, OVERLAY, &NEW).await;
    stage.canary_is("payment-api", "Progressing").await;
    let canary = stage.canary_is("payment-api", "Succeeded").await;
    assert_eq!(canary["status"]["failedChecks"], 0);
    let told = stage
        .until("all is told", async || {
            let told = stage.told("payment-api").await;
            let last = told.last()?.starts_with("Promotion completed!");
            last.then_some(told)
        })
        .await;
    let moves: Vec<&String> = told
        .iter()
        .filter(|told| !told.contains("not ready"))
        .collect();
    assert_eq!(
        moves,
        [
            "all the metrics providers are available!",
            "Initialization done! payment-api.default",
            "New revision detected! Scaling up payment-api.default",
            "Starting canary analysis for payment-api.default",
            "Advance payment-api.default canary weight 25",
            "Advance payment-api.default canary weight 50",
            "Copying payment-api.default template spec to payment-api-primary.default",
            "Routing all traffic to primary",
            "Promotion completed! Scaling down payment-api.default",
        ]
    );
    let counts = load.stop().await;
    counts.none_failed();
    assert!(
        counts.of("2.4.0") > 0 && counts.of("2.5.0") > 0,
        "{counts:?}"
    );
    let primary = stage.get(Kind::Deployment, "payment-api-primary").await;
    assert!(
        primary["spec"]["template"].to_string().contains("=2.5.0"),
        "{primary}"
    );
    for (query, value) in [
        (
            r#"flagger_canary_successes_total{name="payment-api",analysis_status="completed"}"#,
            "1",
        ),
        (
            r#"flagger_canary_weight{workload="payment-api-primary"}"#,
            "100",
        ),
        (r#"flagger_canary_status{namespace="default"}"#, "1"),
        (
            // To 25 %, to 50 %, to the primary: looks that wait for pods, or finish, judge nothing.
            r#"flagger_canary_duration_seconds_count{name="payment-api"}"#,
            "3",
        ),
        (
            r#"count(flagger_canary_metric_analysis{metric="request-success-rate"} == 100)"#,
            "1",
        ),
    ] {
        stage
            .until(query, async || {
                let answer = stage.query(query).await;
                let found = answer.pointer("/data/result/0/value/1")?;
                (found == value).then_some(())
            })
            .await;
    }
    stage.end().await;
}

#[tokio::test]
async fn users_that_a_canary_names_meet_the_new_version_and_nobody_else() {
    let stage = Stage::start("default").await;
    stage.apply(&FILES, OVERLAY, &[]).await;
    stage.canary_is("payment-api", "Initialized").await;
    let analysis = json!({
        "stepWeight": null, "maxWeight": null, "iterations": 2,
        "match": [{"headers": {"x-cohort": {"exact": "beta"}}}],
    });
    let patch = json!({"spec": {"analysis": analysis}});
    stage.change(Kind::Canary, "payment-api", &patch).await;
    let address = stage.address("payment-api").await;
    stage.apply_new().await;
    stage
        .until("the first iteration has begun", async || {
            let canary = stage.get(Kind::Canary, "payment-api").await;
            (canary["status"]["iterations"] == 1).then_some(())
        })
        .await;
    for _ in 0..10 {
        assert_eq!(version(&address, Some(("x-cohort", "beta"))).await, "2.5.0");
        assert_eq!(
            version(&address, Some(("x-cohort", "gamma"))).await,
            "2.4.0"
        );
        assert_eq!(version(&address, None).await, "2.4.0");
    }
    stage.end().await;
}

impl Stage {
    /// The next version of the Deployment, and nothing else.
    pub(crate) async fn apply_new(&self) {
        let target = self.get(Kind::Deployment, "payment-api").await;
        let mut container = target["spec"]["template"]["spec"]["containers"][0].clone();
        container["args"] = json!(["--version=2.5.0", "--port=$(PORT)"]);
        let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        self.change(Kind::Deployment, "payment-api", &patch).await;
    }
}

#[tokio::test]
async fn a_canary_goes_on_after_its_host_was_killed_and_back_when_somebody_aborts_it() {
    let mut stage = Stage::start("default").await;
    stage.apply(&FILES, OVERLAY, &[]).await;
    stage.canary_is("payment-api", "Initialized").await;
    let analysis =
        json!({"analysis": {"stepWeight": 10, "sessionAffinity": {"cookieName": "seen"}}});
    let patch = json!({"spec": analysis});
    stage.change(Kind::Canary, "payment-api", &patch).await;
    let address = stage.address("payment-api").await;
    let load = Load::start(&address);
    stage.apply_new().await;
    let at_ten = stage
        .until("it has its first share", async || {
            let canary = stage.get(Kind::Canary, "payment-api").await;
            (canary["status"]["canaryWeight"] == 10).then_some(canary)
        })
        .await;
    stage.start_again().await;
    stage.done(&["pause", "payment-api"]).await;
    let cookie = at_ten["status"]["sessionAffinityCookie"]
        .as_str()
        .expect("a cookie");
    assert!(cookie.starts_with("seen="), "{cookie}");
    for _ in 0..10 {
        let known = version(&address, Some(("cookie", cookie))).await;
        assert_eq!(known, "2.5.0", "who has seen it stays with it");
    }
    stage
        .until("it is told that it is held", async || {
            let told = stage.told("payment-api").await;
            let held = "skipping canary run as object is suspended";
            told.iter().any(|told| told == held).then_some(())
        })
        .await;
    let waits = stage.run(&["status", "payment-api"]).await;
    assert_eq!(waits.code, Some(7), "{}", waits.stdout);
    let explained = stage.done(&["explain", "canary/payment-api"]).await;
    assert!(
        explained.contains("crossfade resume canary/payment-api"),
        "{explained}"
    );
    let listed = stage.done(&["list", "canaries"]).await;
    assert!(listed.contains("Progressing"), "{listed}");

    stage.done(&["resume", "payment-api"]).await;
    stage
        .done(&["abort", "payment-api", "--reason", "users complain"])
        .await;
    let canary = stage.canary_is("payment-api", "Failed").await;
    assert_eq!(canary["status"]["canaryWeight"], 0);
    stage
        .until("the abort is forgotten once it is done", async || {
            let canary = stage.get(Kind::Canary, "payment-api").await;
            canary["metadata"]["annotations"]["crossfade.dev/abort"]
                .is_null()
                .then_some(())
        })
        .await;
    let ended = stage.run(&["status", "payment-api"]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    for _ in 0..10 {
        assert_eq!(version(&address, Some(("cookie", cookie))).await, "2.4.0");
    }
    let told = stage.told("payment-api").await;
    for wanted in [
        "Rollback asked for by the annotation crossfade.dev/abort",
        "Canary failed! Scaling down payment-api.default",
    ] {
        assert!(told.iter().any(|told| told == wanted), "{wanted}: {told:?}");
    }
    let history = stage.done(&["history", "canary/payment-api"]).await;
    assert!(history.contains("users complain"), "{history}");
    load.stop().await.none_failed();
    stage.end().await;
}
