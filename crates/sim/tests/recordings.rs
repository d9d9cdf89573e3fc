//! Every recording of the reference, replayed. What differs by design is listed with its reason in `docs/compatibility.md`.

use std::path::Path;

use crossfade_sim::replay::Recording;

/// Compares a recording with its replay; differences that contain one of `known` are by design.
fn replay(name: &str, known: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recorded")
        .join(name);
    let recording = Recording::read(&folder).expect("the recording is readable");
    let differences = recording.replay().differences();
    let unknown: Vec<&String> = differences
        .iter()
        .filter(|one| !known.iter().any(|known| one.contains(known)))
        .collect();
    let list: Vec<String> = unknown.iter().map(|one| format!("  {one}")).collect();
    assert!(
        unknown.is_empty(),
        "{name} differs from the recording:\n{}",
        list.join("\n")
    );
}

macro_rules! recordings {
    ($($test:ident: $name:literal $(, $known:literal)*;)*) => {
        $(#[test]
        fn $test() {
            replay($name, &[$($known),*]);
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
    canary_abort_retry_promote_full: "canary-abort-retry-promote-full", r#"size v1: "1" at this point"#;
    canary_basic: "canary-basic";
    canary_deadline_and_abort: "canary-deadline-and-abort", r#"RolloutAborted: ReplicaSet "app-HASH" has timed out progressing."#;
    canary_deadline_without_abort: "canary-deadline-without-abort";
    canary_ephemeral_metadata_and_affinity: "canary-ephemeral-metadata-and-affinity";
    canary_first_deployment_and_restart: "canary-first-deployment-and-restart";
    canary_pause_resume_spec: "canary-pause-resume-spec", r#"Scaled down ReplicaSet app-HASH (revision 1) from 7 to"#;
    canary_rollback_window: "canary-rollback-window";
    canary_scale_in_mid_flight: "canary-scale-in-mid-flight";
    canary_superseded: "canary-superseded";
    canary_surge_arithmetic: "canary-surge-arithmetic", r#"size v1: "3" at this point"#;
    canary_unavailable_only: "canary-unavailable-only";
    canary_undo_in_mid_flight: "canary-undo-in-mid-flight";
    history_limits: "history-limits";
    invalid_specs: "invalid-specs", r#"SpecInvalid: "#;
    istio_header_and_mirror: "istio-header-and-mirror", r#"event on Rollout/app"#;
    nginx_abort_with_delay: "nginx-abort-with-delay";
    nginx_dynamic_stable_scale: "nginx-dynamic-stable-scale", r#"size v2: "1" at this point"#, r#"weight: "10" at this point"#;
    nginx_routed: "nginx-routed";
    nginx_set_canary_scale: "nginx-set-canary-scale";
    strategy_change: "strategy-change", r#"service app-active: ends differently"#;
}
