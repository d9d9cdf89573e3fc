//! Every recording of the reference, replayed. What differs by design is listed with its reason in `docs/compatibility.md`.

use std::path::Path;

use crossfade_sim::recording::Recording;
use crossfade_sim::{again, named, replay};
use serde_json::Value;

fn read(name: &str) -> Recording {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recorded")
        .join(name);
    Recording::read(&folder).expect("the recording is readable")
}

/// Compares a recording with its replay; differences that stay have names, and each of these must be there.
fn check(name: &str) {
    let known = named::of(name);
    let recording = read(name);
    let differences = replay::replay(&recording).differences();
    let unknown: Vec<String> = differences
        .iter()
        .filter(|one| !known.iter().any(|known| one.contains(known)))
        .map(|one| format!("  {one}"))
        .collect();
    assert!(
        unknown.is_empty(),
        "{name} differs from the recording:\n{}",
        unknown.join("\n")
    );
    for known in known {
        assert!(
            differences.iter().any(|one| one.contains(known)),
            "{name} no longer differs by {known}"
        );
    }
}

macro_rules! recordings {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() {
            check($name);
        })*
    };
}

recordings! {
    analysis_background_fails: "analysis-background-fails";
    analysis_background_passes: "analysis-background-passes";
    analysis_inline_dry_run_and_delay: "analysis-inline-dry-run-and-delay";
    analysis_inline_fails: "analysis-inline-fails";
    analysis_inline_garbage: "analysis-inline-garbage";
    analysis_inline_inconclusive: "analysis-inline-inconclusive";
    analysis_inline_passes: "analysis-inline-passes";
    analysis_inline_provider_down: "analysis-inline-provider-down";
    analysis_job: "analysis-job";
    analysis_missing_template: "analysis-missing-template";
    bluegreen_auto_seconds_and_abort: "bluegreen-auto-seconds-and-abort";
    bluegreen_manual: "bluegreen-manual";
    bluegreen_pre_and_post: "bluegreen-pre-and-post";
    canary_abort_retry_promote_full: "canary-abort-retry-promote-full";
    canary_basic: "canary-basic";
    canary_deadline_and_abort: "canary-deadline-and-abort";
    canary_deadline_without_abort: "canary-deadline-without-abort";
    canary_ephemeral_metadata_and_affinity: "canary-ephemeral-metadata-and-affinity";
    canary_first_deployment_and_restart: "canary-first-deployment-and-restart";
    canary_pause_resume_spec: "canary-pause-resume-spec";
    canary_rollback_window: "canary-rollback-window";
    canary_scale_in_mid_flight: "canary-scale-in-mid-flight";
    canary_superseded: "canary-superseded";
    canary_surge_arithmetic: "canary-surge-arithmetic";
    canary_unavailable_only: "canary-unavailable-only";
    canary_undo_in_mid_flight: "canary-undo-in-mid-flight";
    experiment_step: "experiment-step";
    experiment_step_fails: "experiment-step-fails";
    history_limits: "history-limits";
    invalid_specs: "invalid-specs";
    istio_header_and_mirror: "istio-header-and-mirror";
    istio_ping_pong: "istio-ping-pong";
    nginx_abort_with_delay: "nginx-abort-with-delay";
    nginx_dynamic_stable_scale: "nginx-dynamic-stable-scale";
    nginx_routed: "nginx-routed";
    nginx_set_canary_scale: "nginx-set-canary-scale";
    strategy_change: "strategy-change";
    workload_ref: "workload-ref";
}

/// A story told again in the same words, with one text in its lines replaced by another, and what differs then.
fn told_again(name: &str, text: &str, by: &str) -> Vec<String> {
    let recording = read(name);
    let changed = |line: &Value| {
        let line = line.to_string().replace(text, by);
        serde_json::from_str(&line).expect("a line")
    };
    let lines = recording.lines().iter().map(changed).collect();
    let again = Recording::of(Vec::new(), lines);
    again::differences(&recording, &again, |_| false)
}

#[test]
fn a_story_told_again_in_the_same_words_is_the_same() {
    for name in ["canary-basic", "bluegreen-manual", "experiment-step"] {
        assert_eq!(told_again(name, "", ""), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_story_told_again_otherwise_is_noticed() {
    let (routed, aborted) = ("nginx-routed", "canary-abort-retry-promote-full");
    for (name, text, by) in [
        (
            aborted,
            r#""currentStepIndex":1"#,
            r#""currentStepIndex":3"#,
        ),
        (aborted, "CanaryPauseStep", "PauseStep"),
        (aborted, "from 0 to 2", "from 0 to 3"),
        (aborted, "Rollout is paused", "Rollout rests"),
        (aborted, r#""type":"Warning""#, r#""type":"Normal""#),
        (aborted, "rollouts-pod-template-hash", "pod-template-hash"),
        (routed, r#""weight":20"#, r#""weight":30"#),
        (routed, "RolloutHealthy", "RolloutWell"),
        (
            routed,
            r#""replicas":5,"status""#,
            r#""replicas":6,"status""#,
        ),
    ] {
        let lines = read(name);
        let mut lines = lines.lines().iter();
        let is_there = lines.any(|line| line.to_string().contains(text));
        assert!(is_there, "{text} is not in {name}");
        let differences = told_again(name, text, by);
        assert!(!differences.is_empty(), "{text} -> {by} is not noticed");
    }
}
