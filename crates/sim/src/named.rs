//! Differences from recordings of the reference that stay, each a part of the words that tell of it. Why they are there is said in
//! `docs/compatibility.md`.

/// Parts of differences that stay, by recording.
const NAMED: &[(&str, &[&str])] = &[
    (
        "analysis-background-fails",
        &[
            "metricResults[0].count is 14, not 13",
            "metricResults[0].successful is 12, not 11",
        ],
    ),
    (
        "analysis-background-passes",
        &[
            "metricResults[0].consecutiveSuccess is 9, not 10",
            "metricResults[0].count is 9, not 10",
            "metricResults[0].measurements is",
            "metricResults[0].successful is 9, not 10",
        ],
    ),
    (
        "analysis-inline-dry-run-and-delay",
        &["status.metricResults[0].", "status.metricResults[1]."],
    ),
    (
        "analysis-inline-garbage",
        &[r#".value is "<html>no json</html>", not nothing"#],
    ),
    (
        "analysis-job",
        &[
            r#"measurements[0].resumeAt is nothing, not "<time>""#,
            r#"revision-history is nothing, not "2""#,
        ],
    ),
    ("analysis-missing-template", &["lacks here: SpecInvalid: "]),
    (
        "bluegreen-pre-and-post",
        &[
            "at post-failed: ReplicaSet/app-v1.replicas is nothing, not 2",
            "at post-failed: ReplicaSet/app-v1.status is nothing",
            "at post-failed: Rollout/app.status.replicas is 6, not 8",
        ],
    ),
    (
        "canary-deadline-and-abort",
        &[
            r#"we lack here: RolloutAborted: ReplicaSet "app-does-not-exist" has timed out progressing."#,
        ],
    ),
    (
        "canary-deadline-without-abort",
        &[
            r#"set v2 is seen as "1 wanted, revision 3" while rollout is "Progressing: more replicas need to be updated, step 0"#,
            r#"set v1 is seen as "2 wanted, revision 1" while rollout is "Pr"#,
            r#"set v1 is seen as "2 wanted, revision 1" while rollout is "Pa"#,
            "ScalingReplicaSet: Scaled up ReplicaSet app-v2 (revision 3) from 0 to 1",
            "ScalingReplicaSet: Scaled down ReplicaSet app-v1 (revision 1) from 3 to 2",
        ],
    ),
    (
        "canary-pause-resume-spec",
        &[
            r#"set v2 is seen as "2 wanted, revision 2" while rollout is "Paused: manually paused, step 1"#,
            r#"set v1 is seen as "4 wanted, revision 1" while set v2 is "2 wanted, revision 2""#,
            "Scaled down ReplicaSet app-v1 (revision 1) from 7 to",
            "Scaled down ReplicaSet app-v1 (revision 1) from 5 to 4",
            "at scaled-while-paused: ",
        ],
    ),
    (
        "experiment-step",
        &[
            "event on Experiment/app-v2-2-0 that we lack here: TemplateRunning: ",
            "event on Experiment/app-v2-2-0 that we lack here: ExperimentRunning: ",
            "event on Rollout/app that the recording lacks here: AnalysisRun",
            "event on Rollout/app that we lack here: AnalysisRun",
        ],
    ),
    (
        "experiment-step-fails",
        &[
            "event on Experiment/app-v2-2-0 that the recording lacks here: TemplateRunning: Template 'baseline'",
            "event on Experiment/app-v2-2-0 that we lack here: TemplateRunning: Template 'baseline'",
            "event on Experiment/app-v2-2-0 that we lack here: ExperimentRunning: ",
            "event on Rollout/app that the recording lacks here: AnalysisRun",
            "event on Rollout/app that we lack here: AnalysisRun",
        ],
    ),
    ("invalid-specs", &["lacks here: SpecInvalid: "]),
    (
        "istio-ping-pong",
        &[
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
            "at second-paused: Rollout/app.status.conditions[4]",
        ],
    ),
    (
        "nginx-dynamic-stable-scale",
        &[
            "at at-80: Rollout/app.status.conditions[3]",
            "at at-80: Rollout/app.status.conditions[4]",
        ],
    ),
    (
        "workload-ref",
        &[
            r#"deployment app is seen as "0 wanted" while rollout is "Progressing: updated replicas are still becoming available"#,
            r#"revision-history is nothing, not "1""#,
        ],
    ),
];

/// Parts of the differences that a recording stays with.
pub fn of(recording: &str) -> &'static [&'static str] {
    let found = NAMED.iter().find(|(name, _)| *name == recording);
    found.map_or(&[], |(_, parts)| parts)
}
