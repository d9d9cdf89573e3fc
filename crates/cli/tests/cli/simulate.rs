//! `crossfade simulate`, as a user asks it.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::stage::{FULL, program};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/simulate")
}

async fn simulate(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = program(FULL, home.path());
    command.arg("simulate").arg("-f").arg(example());
    command.args(arguments).output().await.expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_release_is_told_before_it_happens() {
    let output = simulate(&["--traffic", "40/min"]).await;
    let told = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(told.contains("tickets, good: promoted after 7d"), "{told}");
    assert!(told.contains("waiting for a person, once"), "{told}");
    assert!(
        told.contains("at 5 % of 40 requests a minute gate error-rate sees 2 requests a minute"),
        "{told}"
    );
    assert!(
        told.contains("from the beginning: it is taken back; until then it has 5% of the requests at most, some for 5m, 10 requests"),
        "{told}"
    );
    assert!(
        told.contains("at 100%: nothing takes it back") || !told.contains("at 100%"),
        "{told}"
    );
}

#[tokio::test]
async fn programs_get_the_same_as_json() {
    let output = simulate(&["--scenario", "bad@20%", "-o", "json"]).await;
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["schemaVersion"], "crossfade.dev/cli/v1");
    assert_eq!(told["end"], "takenBack");
    assert_eq!(told["scenario"], "bad@20%");
    let timeline = told["timeline"].as_array().expect("a list");
    let most = timeline.iter().filter_map(|line| line["percent"].as_f64());
    assert_eq!(most.fold(0.0, f64::max).to_string(), "20");
    assert_eq!(told["exposure"]["mostPercent"], 20.0);
    // Nobody said how many requests there are.
    assert!(told["exposure"].get("requests").is_none());
}

#[tokio::test]
async fn the_picture_shows_share_and_pods() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("release.svg");
    let output = simulate(&["--plot", path.to_str().expect("text")]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let drawn = std::fs::read_to_string(path).expect("written");
    assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"));
    assert_eq!(drawn.matches("stroke-width").count(), 3, "three lines");
}

#[tokio::test]
async fn what_cannot_be_played_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = std::fs::read_to_string(example().join("tickets.yaml")).expect("reads");
    let (rollout, _) = all.split_once("---").expect("two documents");
    let path = folder.path().join("rollout.yaml");
    std::fs::write(&path, rollout).expect("writes");
    let mut command = program(FULL, folder.path());
    let output = command.arg("simulate").arg("-f").arg(&path).output().await;
    let output = output.expect("it runs");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(
        told.contains("AnalysisTemplate 'tickets-errors' not found"),
        "{told}"
    );
    assert!(
        told.contains("hint:") && told.contains("--templates"),
        "{told}"
    );

    let output = simulate(&["--scenario", "worse"]).await;
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("provider-down"), "{told}");
}
