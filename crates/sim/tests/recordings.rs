//! Every recording of the reference, replayed. What differs by design is listed with its reason in `docs/compatibility.md`.

use std::path::Path;

use crossfade_sim::recording::Recording;
use crossfade_sim::replay;

/// Compares a recording with its replay; differences that contain one of `known` are by design, and each of these must be there.
fn check(name: &str, known: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recorded")
        .join(name);
    let recording = Recording::read(&folder).expect("the recording is readable");
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
    ($($test:ident: $name:literal $(, $known:literal)*;)*) => {
        $(#[test]
        fn $test() {
            check($name, &[$($known),*]);
        })*
    };
}

recordings! {
    analysis_background_fails: "analysis-background-fails",
        "metricResults[0].count is 14, not 13",
        "metricResults[0].successful is 12, not 11";
    analysis_background_passes: "analysis-background-passes",
        "metricResults[0].consecutiveSuccess is 9, not 10",
        "metricResults[0].count is 9, not 10",
        "metricResults[0].measurements is",
        "metricResults[0].successful is 9, not 10";
    analysis_inline_dry_run_and_delay: "analysis-inline-dry-run-and-delay",
        "status.metricResults[0].",
        "status.metricResults[1].";
    analysis_inline_fails: "analysis-inline-fails";
    analysis_inline_garbage: "analysis-inline-garbage",
        r#".value is "<html>no json</html>", not nothing"#;
    analysis_inline_inconclusive: "analysis-inline-inconclusive";
    analysis_inline_passes: "analysis-inline-passes";
    analysis_inline_provider_down: "analysis-inline-provider-down";
    analysis_job: "analysis-job",
        r#"measurements[0].resumeAt is nothing, not "<time>""#,
        r#"revision-history is nothing, not "2""#;
    analysis_missing_template: "analysis-missing-template", "lacks here: SpecInvalid: ";
    bluegreen_auto_seconds_and_abort: "bluegreen-auto-seconds-and-abort";
    bluegreen_manual: "bluegreen-manual";
    bluegreen_pre_and_post: "bluegreen-pre-and-post",
        "at post-failed: ReplicaSet/app-v1.replicas is nothing, not 2",
        "at post-failed: ReplicaSet/app-v1.status is nothing",
        "at post-failed: Rollout/app.status.replicas is 6, not 8";
    canary_abort_retry_promote_full: "canary-abort-retry-promote-full";
    canary_basic: "canary-basic";
    canary_deadline_and_abort: "canary-deadline-and-abort", r#"we lack here: RolloutAborted: ReplicaSet "app-does-not-exist" has timed out progressing."#;
    canary_deadline_without_abort: "canary-deadline-without-abort",
        r#"set v2 is seen as "1 wanted, revision 3" while rollout is "Progressing: more replicas need to be updated, step 0"#,
        r#"set v1 is seen as "2 wanted, revision 1" while rollout is "Pr"#,
        r#"set v1 is seen as "2 wanted, revision 1" while rollout is "Pa"#,
        "ScalingReplicaSet: Scaled up ReplicaSet app-v2 (revision 3) from 0 to 1",
        "ScalingReplicaSet: Scaled down ReplicaSet app-v1 (revision 1) from 3 to 2";
    canary_ephemeral_metadata_and_affinity: "canary-ephemeral-metadata-and-affinity";
    canary_first_deployment_and_restart: "canary-first-deployment-and-restart";
    canary_pause_resume_spec: "canary-pause-resume-spec",
        r#"set v2 is seen as "2 wanted, revision 2" while rollout is "Paused: manually paused, step 1"#,
        r#"set v1 is seen as "4 wanted, revision 1" while set v2 is "2 wanted, revision 2""#,
        "Scaled down ReplicaSet app-v1 (revision 1) from 7 to",
        "Scaled down ReplicaSet app-v1 (revision 1) from 5 to 4",
        "at scaled-while-paused: ";
    canary_rollback_window: "canary-rollback-window";
    canary_scale_in_mid_flight: "canary-scale-in-mid-flight";
    canary_superseded: "canary-superseded";
    canary_surge_arithmetic: "canary-surge-arithmetic";
    canary_unavailable_only: "canary-unavailable-only";
    canary_undo_in_mid_flight: "canary-undo-in-mid-flight";
    experiment_step: "experiment-step",
        "event on Experiment/app-v2-2-0 that we lack here: TemplateRunning: ",
        "event on Experiment/app-v2-2-0 that we lack here: ExperimentRunning: ",
        "event on Rollout/app that the recording lacks here: AnalysisRun",
        "event on Rollout/app that we lack here: AnalysisRun";
    experiment_step_fails: "experiment-step-fails",
        "event on Experiment/app-v2-2-0 that the recording lacks here: TemplateRunning: Template 'baseline'",
        "event on Experiment/app-v2-2-0 that we lack here: TemplateRunning: Template 'baseline'",
        "event on Experiment/app-v2-2-0 that we lack here: ExperimentRunning: ",
        "event on Rollout/app that the recording lacks here: AnalysisRun",
        "event on Rollout/app that we lack here: AnalysisRun";
    history_limits: "history-limits";
    invalid_specs: "invalid-specs", "lacks here: SpecInvalid: ";
    istio_header_and_mirror: "istio-header-and-mirror";
    istio_ping_pong: "istio-ping-pong",
        "waiting for all steps to complete, step 2, v",
        r#"set v1 is seen as "0 wanted, revision 1" while"#,
        r#"nowhere stands what lasted: {"rollout": "Progressing: more replicas need to be updated, step 0, v3"#,
        r#"rollout is seen as "Healthy: , step 2, v3 of v3, 0 to v3"#,
        r#"rollout ends as "Healthy: , step 2, v3 of v3, 0 to v3, 100 to v3""#,
        r#"set v2 ends as "0 wanted"#,
        "Scaled down ReplicaSet app-v1 (revision 1) from 2 to 0",
        "RolloutUpdated: Rollout updated to revision 3",
        r#"serviceName is "app-p"#,
        "at promoted: ",
        "at second-paused: Rollout/app.status.conditions[3]",
        "at second-paused: Rollout/app.status.conditions[4]";
    nginx_abort_with_delay: "nginx-abort-with-delay";
    nginx_dynamic_stable_scale: "nginx-dynamic-stable-scale",
        "at at-80: Rollout/app.status.conditions[3]",
        "at at-80: Rollout/app.status.conditions[4]";
    nginx_routed: "nginx-routed";
    nginx_set_canary_scale: "nginx-set-canary-scale";
    strategy_change: "strategy-change";
    workload_ref: "workload-ref",
        r#"deployment app is seen as "0 wanted" while rollout is "Progressing: updated replicas are still becoming available"#,
        r#"revision-history is nothing, not "1""#;
}
