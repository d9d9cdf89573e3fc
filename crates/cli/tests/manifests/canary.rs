//! Three canaries: by pods with an analysis as a step, through Istio with one in the background, through NGINX in the dark first.

use crossfade_host::store::Kind;

use crate::stage::{Load, Stage, version};

const INLINE: [&str; 2] = [
    "canary-inline-analysis.yaml",
    "analysis-inline-prometheus.yaml",
];
const INLINE_OVERLAY: &str = "canary-inline-analysis.local.yaml";

/// A step of a release as its Event tells it.
fn steps(of: &[&str]) -> Vec<String> {
    let step = |(index, step): (usize, &&str)| {
        format!("Rollout step {}/{} completed ({step})", index + 1, of.len())
    };
    of.iter().enumerate().map(step).collect()
}

fn passed(metrics: &[(&str, usize)]) -> Vec<(String, String, usize)> {
    let passed =
        |(name, count): &(&str, usize)| ((*name).to_owned(), "Successful".to_owned(), *count);
    metrics.iter().map(passed).collect()
}

#[tokio::test]
async fn a_canary_by_pods_passes_its_inline_analysis_and_is_promoted() {
    let stage = Stage::start("default").await;
    stage.apply(&INLINE, INLINE_OVERLAY, &[]).await;
    stage.healthy("payment-api").await;
    assert_eq!(
        stage.steps("payment-api").await,
        [""; 0],
        "a first version takes no steps"
    );
    let load = Load::start(&stage.address("payment-api").await);

    let new = [
        ("payment-api:2.4.0", "payment-api:2.5.0"),
        ("=2.4.0", "=2.5.0"),
    ];
    stage.apply(&INLINE, INLINE_OVERLAY, &new).await;
    stage.healthy("payment-api").await;

    let wanted = [
        "setWeight: 5",
        "pause: 2s",
        "analysis",
        "setWeight: 25",
        "pause: 1s",
        "setWeight: 50",
        "pause: 1s",
    ];
    assert_eq!(stage.steps("payment-api").await, steps(&wanted));
    assert_eq!(stage.measured().await, passed(&[("success-rate", 5)]));
    stage.only_pods_of("2.5.0", 10).await;
    let counts = load.stop().await;
    counts.none_failed();
    assert!(
        counts.of("2.4.0") > 0 && counts.of("2.5.0") > 0,
        "{counts:?}"
    );
    assert_eq!(counts.on_purpose, 0);
    stage.end().await;
}

#[tokio::test]
async fn a_bad_canary_by_pods_is_taken_back_by_its_inline_analysis() {
    let stage = Stage::start("default").await;
    stage.apply(&INLINE, INLINE_OVERLAY, &[]).await;
    stage.healthy("payment-api").await;
    let load = Load::start(&stage.address("payment-api").await);

    let bad = [
        ("payment-api:2.4.0", "payment-api:2.5.0"),
        (
            "\"--version=2.4.0\"",
            "\"--version=2.5.0\", \"--error-percent=100\"",
        ),
    ];
    stage.apply(&INLINE, INLINE_OVERLAY, &bad).await;
    let why = stage.taken_back("payment-api").await;
    assert!(why.contains("\"success-rate\" assessed Failed"), "{why}");

    assert_eq!(
        stage.steps("payment-api").await,
        [
            "Rollout step 1/7 completed (setWeight: 5)",
            "Rollout step 2/7 completed (pause: 2s)"
        ],
        "it never had more than the share at which it was judged"
    );
    stage.only_pods_of("2.4.0", 10).await;
    let before = load.counts();
    stage
        .until(
            "requests are answered by the old version again",
            async || (load.counts().of("2.4.0") > before.of("2.4.0") + 50).then_some(()),
        )
        .await;
    let counts = load.stop().await;
    counts.none_failed();
    assert_eq!(
        counts.of("2.5.0"),
        before.of("2.5.0"),
        "nobody meets the bad version any more"
    );
    assert_eq!(
        counts.on_purpose,
        counts.of("2.5.0"),
        "it failed, as it was made to"
    );
    assert!(counts.on_purpose > 0);
    stage.end().await;
}

#[tokio::test]
async fn a_canary_through_istio_passes_its_background_analysis_and_is_promoted() {
    let files = ["canary-istio.yaml", "analysis-canary-prometheus.yaml"];
    let overlay = "canary-istio.local.yaml";
    let stage = Stage::start("production").await;
    stage.apply(&files, overlay, &[]).await;
    stage.healthy("web-frontend").await;
    let load = Load::start(&stage.address("web-frontend-stable").await);

    let new = [
        ("web-frontend:v2.1.0", "web-frontend:v2.2.0"),
        ("=v2.1.0", "=v2.2.0"),
    ];
    stage.apply(&files, overlay, &new).await;
    stage.healthy("web-frontend").await;

    let wanted = [
        "setWeight: 5",
        "pause: 3s",
        "setWeight: 10",
        "pause: 1s",
        "setWeight: 25",
        "pause: 1s",
        "setWeight: 50",
        "pause: 1s",
        "setWeight: 75",
        "pause: 1s",
        "setWeight: 100",
    ];
    assert_eq!(stage.steps("web-frontend").await, steps(&wanted));
    let mut weights = stage.events("web-frontend", "TrafficWeightUpdated").await;
    weights.retain(|told| told.contains(" from ") && !told.ends_with(" to 0"));
    let path: Vec<String> = [0, 5, 10, 25, 50, 75, 100]
        .windows(2)
        .map(|pair| format!("Traffic weight updated from {} to {}", pair[0], pair[1]))
        .collect();
    assert_eq!(weights, path);
    // Measured once, since the release is shorter than the interval; what is under way ends with the release.
    let metrics = [("error-rate", 1), ("latency-p99", 1), ("success-rate", 1)];
    stage
        .until("the analysis has ended well", async || {
            (stage.measured().await == passed(&metrics)).then_some(())
        })
        .await;
    let counts = load.stop().await;
    counts.none_failed();
    assert!(
        counts.of("v2.1.0") > 0 && counts.of("v2.2.0") > 0,
        "{counts:?}"
    );
    stage.end().await;
}

#[tokio::test]
async fn a_canary_through_nginx_is_seen_in_the_dark_first_and_promoted_when_its_job_is_content() {
    let files = ["canary-nginx-dark.yaml", "analysis-job-dark.yaml"];
    let overlay = "canary-nginx-dark.local.yaml";
    let stage = Stage::start("default").await;
    stage.apply(&files, overlay, &[]).await;
    stage.healthy("progressive-demo").await;
    let address = stage.address("progressive-demo-stable").await;
    let load = Load::start(&address);

    let new = [
        ("hello-world:v1", "hello-world:v2"),
        ("--version=v1", "--version=v2"),
    ];
    stage.apply(&files, overlay, &new).await;
    stage
        .until("the canary waits in the dark", async || {
            let rollout = stage.get(Kind::Rollout, "progressive-demo").await;
            let status = &rollout["status"];
            (status["currentStepIndex"] == 1 && status["phase"] == "Paused").then_some(())
        })
        .await;
    for _ in 0..5 {
        assert_eq!(version(&address, Some(("X-Canary", "true"))).await, "v2");
        assert_eq!(version(&address, Some(("X-Canary", "false"))).await, "v1");
    }
    assert_eq!(
        load.counts().of("v2"),
        0,
        "nobody meets it who does not ask"
    );
    stage.healthy("progressive-demo").await;

    let wanted = [
        "setCanaryScale{replicas: 1}",
        "pause: 11s",
        "setWeight: 40",
        "setCanaryScale{matchTrafficWeight: true}",
        "pause: 2s",
        "setWeight: 60",
        "pause: 2s",
    ];
    assert_eq!(stage.steps("progressive-demo").await, steps(&wanted));
    assert_eq!(stage.measured().await, passed(&[("success-rate", 1)]));
    let jobs = stage.all(Kind::Job).await;
    assert_eq!(jobs.len(), 1);
    let name = jobs[0]["metadata"]["name"].as_str().expect("a name");
    let said = stage.done(&["logs", &format!("pod/{name}-1")]).await;
    assert!(said.contains("0 of 50 answers were bad"), "{said}");
    stage.only_pods_of("v2", 5).await;
    let counts = load.stop().await;
    counts.none_failed();
    stage.end().await;
}
