//! Analyses of an experiment: when they start, with what, and what their ends lead to.

use crossfade_api::Resource as _;
use crossfade_api::analysis_run::AnalysisPhase;
use serde_json::{Value, json};

use crossfade_engine::action::FailureKind;

use crate::rig::{Rig, failure, key};

fn analysis(name: &str, more: &Value) -> Value {
    let mut analysis = json!({"name": name, "templateName": "check"});
    crossfade_api::merge_patch::apply(&mut analysis, more);
    analysis
}

fn required(name: &str) -> Value {
    analysis(name, &json!({"requiredForCompletion": true}))
}

#[test]
fn experiment_11_a_run_starts_only_when_all_pods_are_available() {
    let more = json!({
        "analyses": [analysis("smoke", &json!({}))],
        "dryRun": [{"metricName": "m"}],
        "measurementRetention": [{"metricName": "m", "limit": 3}],
        "analysisRunMetadata": {"labels": {"team": "web"}, "annotations": {"note": "x"}},
    });
    let mut rig = Rig::with(&more);
    rig.broken.insert("canary".to_owned());
    rig.run_for(40);
    assert!(rig.runs.is_empty());
    assert_eq!(rig.available_at(), None);
    rig.broken.clear();
    rig.settle();
    assert!(rig.available_at().is_some());
    let run = rig.run("e-smoke");
    let owner = run.metadata.owner_references.iter().flatten().next();
    let owner = owner.expect("it has an owner");
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()),
        ("Experiment", "e", "e-uid")
    );
    assert_eq!(run.spec.dry_run.len(), 1);
    assert_eq!(run.spec.measurement_retention[0].limit, 3);
    let labels = run.metadata.labels.clone().unwrap_or_default();
    assert_eq!(labels["team"], "web");
    assert_eq!(
        run.metadata.annotations.clone().unwrap_or_default()["note"],
        "x"
    );
    let entry = rig.analysis("smoke");
    assert_eq!(
        (entry.phase, entry.analysis_run.as_str()),
        (AnalysisPhase::Pending, "e-smoke")
    );
    assert_eq!(
        rig.told("AnalysisRunPending"),
        ["AnalysisRun 'smoke' transitioned from  -> Pending"]
    );
    let told = rig.events.iter();
    let mut told = told.filter(|event| event.reason == "AnalysisRunPending");
    assert!(told.all(|event| event.for_owner), "the Rollout hears of it");
    rig.end_run("e-smoke", AnalysisPhase::Running, "").settle();
    rig.end_run("e-smoke", AnalysisPhase::Successful, "")
        .settle();
    assert_eq!(rig.analysis("smoke").phase, AnalysisPhase::Successful);
    assert_eq!(rig.phase(), "Running", "it is not required");
}

fn with_argument(value: &str, more: &Value) -> Rig {
    let args = json!({"args": [{"name": "hash", "value": value}]});
    let mut spec = json!({"analyses": [analysis("smoke", &args)]});
    crossfade_api::merge_patch::apply(&mut spec, more);
    let mut rig = Rig::with(&spec);
    rig.settle();
    rig
}

#[test]
fn experiment_12_arguments_may_name_versions_and_times() {
    let value = |text: &str| {
        let rig = with_argument(text, &json!({"duration": "90s"}));
        let args = &rig.run("e-smoke").spec.args;
        args[0].value.clone().unwrap_or_default()
    };
    let hash = with_argument("x", &json!({}))
        .set("e-canary")
        .hash()
        .to_owned();
    for (text, expected) in [
        ("{{templates.canary.podTemplateHash}}", hash.as_str()),
        ("rs={{ templates.canary.replicaset.name }}", "rs=e-canary"),
        ("{{experiment.availableAt}}", "2026-01-02T03:00:00Z"),
        ("{{experiment.finishedAt}}", "2026-01-02T03:01:30Z"),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
    let secret = json!({"args": [
        {"name": "hash", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]});
    let mut rig = Rig::with(&json!({"analyses": [analysis("smoke", &secret)]}));
    rig.settle();
    let from = rig.run("e-smoke").spec.args[0].value_from.clone();
    assert!(from.is_some_and(|from| from.secret_key_ref.is_some()));
}

#[test]
fn experiment_13_an_argument_that_cannot_be_resolved_ends_it_in_error() {
    for (text, why) in [
        (
            "{{templates.nope.podTemplateHash}}",
            "failed to resolve {{templates.nope.podTemplateHash}}",
        ),
        ("{{args.x}}", "failed to resolve {{args.x}}"),
        (
            "{{experiment.finishedAt}}",
            "failed to resolve {{experiment.finishedAt}}",
        ),
    ] {
        let rig = with_argument(text, &json!({}));
        assert_eq!(
            rig.phase(),
            format!("Error: Failed to create AnalysisRun for analysis 'smoke': {why}"),
        );
        assert!(rig.runs.is_empty());
    }
    let rig = with_argument("x", &json!({"duration": "soon"}));
    assert!(
        rig.phase()
            .starts_with("Error: Failed to create AnalysisRun for analysis 'smoke': "),
        "{}",
        rig.phase()
    );
    assert_eq!(
        rig.told("InvalidExperimentField"),
        ["!spec.duration: \"soon\" is no duration and counts as none"]
    );
}

#[test]
fn experiment_14_a_missing_template_ends_it_in_error_after_a_while() {
    for (scope, kind, resource) in [
        (false, "AnalysisTemplate", "analysistemplate"),
        (true, "ClusterAnalysisTemplate", "clusteranalysistemplate"),
    ] {
        let nope = json!({"templateName": "nope", "clusterScope": scope});
        let mut rig = Rig::with(&json!({"analyses": [analysis("a", &nope)]}));
        rig.broken.insert("canary".to_owned());
        rig.settle();
        assert_eq!(rig.phase(), "Pending");
        assert!(rig.waits_for("analysis template nope to exist"));
        rig.run_for(31);
        assert_eq!(
            rig.phase(),
            format!(
                "Error: {kind} verification failed for analysis 'a': {resource}.argoproj.io \"nope\" not found"
            ),
        );
        assert_eq!(rig.told("AnalysisRunError").len(), 1);
        rig.run_for(60);
        assert_eq!(rig.sizes(), [("e-canary", 0)], "no pod is kept");
    }
    // It may come late.
    let mut rig = Rig::with(&json!({"analyses": [analysis("a", &json!({}))]}));
    let late = rig.templates.remove(&key("check")).expect("it was there");
    rig.run_for(10);
    assert!(rig.runs.is_empty());
    rig.templates.insert(key("check"), late);
    rig.run_for(10);
    assert_eq!(rig.phase(), "Running");
    assert_eq!(rig.runs.len(), 1);
}

#[test]
fn experiment_15_a_failing_analysis_ends_it_at_once() {
    let analyses = json!([analysis("bad", &json!({})), analysis("other", &json!({}))]);
    let mut rig = Rig::with(&json!({"duration": "1h", "analyses": analyses}));
    rig.settle();
    for run in ["e-bad", "e-other"] {
        rig.end_run(run, AnalysisPhase::Running, "");
    }
    rig.settle();
    rig.end_run("e-bad", AnalysisPhase::Failed, "too slow")
        .settle();
    assert_eq!(rig.phase(), "Failed: too slow");
    assert!(rig.run("e-other").spec.terminate);
    assert_eq!(
        rig.told("AnalysisRunTerminating"),
        ["Terminating other (e-other)"]
    );
    assert_eq!(
        rig.told("AnalysisRunFailed"),
        ["!AnalysisRun 'bad' transitioned from Running -> Failed: too slow"]
    );
    assert_eq!(rig.sizes(), [("e-canary", 1)]);
    rig.run_for(32);
    assert_eq!(rig.sizes(), [("e-canary", 0)]);
    for phase in [AnalysisPhase::Error, AnalysisPhase::Inconclusive] {
        let mut rig = Rig::with(&json!({"analyses": [analysis("bad", &json!({}))]}));
        rig.settle();
        rig.end_run("e-bad", phase, "why").settle();
        assert_eq!(rig.phase(), format!("{phase}: why"));
    }
}

#[test]
fn experiment_16_a_required_analysis_that_succeeds_ends_it() {
    let mut rig = Rig::with(&json!({"duration": "1h", "analyses": [required("a")]}));
    rig.settle();
    assert!(rig.waits_for("analysis run e-a to end"));
    rig.end_run("e-a", AnalysisPhase::Successful, "").settle();
    assert_eq!(rig.phase(), "Successful: Required AnalysisRuns completed");
    rig.run_for(32);
    assert_eq!(rig.sizes(), [("e-canary", 0)]);
}

#[test]
fn experiment_17_a_run_without_end_does_not_keep_it_once_the_required_ones_are_done() {
    let analyses = json!([required("a"), analysis("endless", &json!({}))]);
    let mut rig = Rig::with(&json!({"analyses": analyses}));
    rig.settle();
    rig.end_run("e-endless", AnalysisPhase::Running, "")
        .settle();
    rig.end_run("e-a", AnalysisPhase::Successful, "").settle();
    assert!(rig.run("e-endless").spec.terminate);
    // Its own controller ends it now, in whichever way.
    rig.end_run("e-endless", AnalysisPhase::Inconclusive, "")
        .settle();
    assert_eq!(rig.phase(), "Successful: Required AnalysisRuns completed");

    let mut rig = Rig::with(&json!({"analyses": [required("a"), analysis("b", &json!({}))]}));
    rig.settle();
    rig.end_run("e-a", AnalysisPhase::Successful, "").settle();
    rig.end_run("e-b", AnalysisPhase::Failed, "it was bad")
        .settle();
    assert_eq!(rig.phase(), "Failed: it was bad", "what is proven counts");
}

#[test]
fn experiment_18_pods_stay_as_long_as_a_required_analysis_measures_them() {
    let mut rig = Rig::with(&json!({"duration": "10s", "analyses": [required("a")]}));
    rig.settle();
    rig.end_run("e-a", AnalysisPhase::Running, "").run_for(59);
    assert_eq!(rig.phase(), "Running");
    assert_eq!(rig.sizes(), [("e-canary", 1)]);
    rig.end_run("e-a", AnalysisPhase::Successful, "").settle();
    assert_eq!(rig.phase(), "Successful: Required AnalysisRuns completed");
    rig.run_for(32);
    assert_eq!(rig.sizes(), [("e-canary", 0)]);
}

#[test]
fn experiment_19_the_duration_ends_it_whatever_else_is_measured() {
    let analyses = json!([analysis("a", &json!({}))]);
    let mut rig = Rig::with(&json!({"duration": "10s", "analyses": analyses}));
    rig.settle();
    rig.end_run("e-a", AnalysisPhase::Running, "").run_for(11);
    assert_eq!(rig.phase(), "Successful");
    assert!(rig.run("e-a").spec.terminate);
}

#[test]
fn experiment_21_a_person_ends_it_although_a_required_analysis_goes_on() {
    let mut rig = Rig::with(&json!({"analyses": [required("a")]}));
    rig.settle();
    rig.end_run("e-a", AnalysisPhase::Running, "").settle();
    rig.patch(&json!({"spec": {"terminate": true}})).settle();
    assert!(rig.run("e-a").spec.terminate);
    rig.end_run("e-a", AnalysisPhase::Successful, "").settle();
    assert_eq!(rig.phase(), "Successful", "and not because it was measured");
    assert_eq!(rig.run("e-a").name(), "e-a");
}

#[test]
fn a_run_that_could_not_be_asked_for_is_asked_for_again() {
    let lost = failure(FailureKind::Other, "the answer did not arrive");
    let mut rig = Rig::with(&json!({"analyses": [analysis("a", &json!({}))]}));
    rig.failing.push(("CreateAnalysisRun".to_owned(), lost));
    rig.settle();
    assert_eq!(rig.phase(), "Running");
    rig.failing.clear();
    rig.settle();
    assert_eq!(rig.runs.len(), 1);

    let refused = failure(FailureKind::Refused, "quota exceeded");
    let mut rig = Rig::with(&json!({"analyses": [analysis("a", &json!({}))]}));
    rig.failing.push(("CreateAnalysisRun".to_owned(), refused));
    rig.settle();
    assert_eq!(
        rig.phase(),
        "Error: Failed to create AnalysisRun for analysis 'a': quota exceeded"
    );
}

#[test]
fn a_run_that_is_gone_is_an_error_and_one_of_the_same_name_is_taken_over() {
    let mut rig = Rig::with(&json!({"analyses": [analysis("a", &json!({}))]}));
    rig.settle();
    // The status was lost after the run was created.
    rig.experiment.status.analysis_runs.clear();
    rig.settle();
    assert_eq!(rig.runs.len(), 1);
    rig.runs.clear();
    rig.settle();
    assert_eq!(
        rig.phase(),
        "Error: analysisruns.argoproj.io \"e-a\" not found"
    );
}
