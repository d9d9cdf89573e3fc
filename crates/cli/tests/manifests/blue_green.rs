//! A blue-green release with an analysis before a person promotes it, and another after.

use crossfade_host::store::Kind;

use crate::stage::{Load, Stage, version};

const FILES: [&str; 2] = ["bluegreen-analysis.yaml", "analysis-job-smoke.yaml"];
const OVERLAY: &str = "bluegreen-analysis.local.yaml";

/// Waits until the preview is good and only a person is waited for.
async fn waits_for_a_person(stage: &Stage) {
    stage
        .until("the preview waits for a person", async || {
            let rollout = stage.get(Kind::Rollout, "api-backend").await;
            let status = &rollout["status"];
            let run = &status["blueGreen"]["prePromotionAnalysisRunStatus"]["status"];
            let waits = status["phase"] == "Paused" && status["message"] == "BlueGreenPause";
            (waits && run == "Successful").then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_blue_green_release_passes_both_analyses_and_a_person_promotes_it() {
    let stage = Stage::start("production").await;
    stage.apply(&FILES, OVERLAY, &[]).await;
    stage.healthy("api-backend").await;
    let active = stage.address("api-backend-active").await;
    let preview = stage.address("api-backend-preview").await;
    let load = Load::start(&active);

    let new = [
        ("api-backend:v3.0.0", "api-backend:v3.1.0"),
        ("=v3.0.0", "=v3.1.0"),
    ];
    stage.apply(&FILES, OVERLAY, &new).await;
    waits_for_a_person(&stage).await;
    assert_eq!(version(&preview, None).await, "v3.1.0");
    assert_eq!(version(&active, None).await, "v3.0.0");
    assert_eq!(load.counts().of("v3.1.0"), 0);
    let explained = stage.done(&["explain", "api-backend"]).await;
    assert!(
        explained.contains("a person to promote the preview"),
        "{explained}"
    );
    assert!(
        explained.contains("crossfade promote api-backend -n production"),
        "{explained}"
    );

    stage.done(&["promote", "api-backend"]).await;
    stage.healthy("api-backend").await;
    assert_eq!(version(&active, None).await, "v3.1.0");
    let measured: Vec<String> = stage
        .measured()
        .await
        .into_iter()
        .map(|(name, phase, count)| format!("{name}: {phase} after {count}"))
        .collect();
    assert_eq!(
        measured,
        [
            "answers: Successful after 2",
            "health-check: Successful after 5",
            "success-rate: Successful after 3",
        ]
    );
    let counts = load.stop().await;
    counts.none_failed();
    assert!(
        counts.of("v3.0.0") > 0 && counts.of("v3.1.0") > 0,
        "{counts:?}"
    );
    assert_eq!(counts.on_purpose, 0);
    stage.end().await;
}

#[tokio::test]
async fn a_bad_blue_green_release_is_taken_back_before_or_after_its_promotion() {
    let stage = Stage::start("production").await;
    stage.apply(&FILES, OVERLAY, &[]).await;
    stage.healthy("api-backend").await;
    let active = stage.address("api-backend-active").await;
    let load = Load::start(&active);

    // The smoke test sees what is wrong: nobody else ever does.
    let sick = [
        ("api-backend:v3.0.0", "api-backend:v3.1.0"),
        (
            "\"--version=v3.0.0\"",
            "\"--version=v3.1.0\", \"--unhealthy\"",
        ),
    ];
    stage.apply(&FILES, OVERLAY, &sick).await;
    let why = stage.taken_back("api-backend").await;
    assert!(why.contains("pre-promotion analysis"), "{why}");
    assert!(why.contains("\"health-check\" assessed Failed"), "{why}");
    assert_eq!(load.counts().of("v3.1.0"), 0, "it was never active");

    // This one passes the smoke test and fails only where it is really used.
    let bad = [
        ("api-backend:v3.0.0", "api-backend:v3.2.0"),
        (
            "\"--version=v3.0.0\"",
            "\"--version=v3.2.0\", \"--error-percent=30\"",
        ),
    ];
    stage.apply(&FILES, OVERLAY, &bad).await;
    waits_for_a_person(&stage).await;
    stage.done(&["promote", "api-backend"]).await;
    let why = stage.taken_back("api-backend").await;
    assert!(why.contains("post-promotion analysis"), "{why}");
    assert!(why.contains("\"success-rate\" assessed Failed"), "{why}");
    stage
        .until("the old version is active again", async || {
            (version(&active, None).await == "v3.0.0").then_some(())
        })
        .await;

    let before = load.counts();
    stage
        .until(
            "requests are answered by the old version again",
            async || (load.counts().of("v3.0.0") > before.of("v3.0.0") + 50).then_some(()),
        )
        .await;
    let counts = load.stop().await;
    counts.none_failed();
    assert!(
        counts.of("v3.2.0") > 0 && counts.on_purpose > 0,
        "{counts:?}"
    );
    stage.end().await;
}
