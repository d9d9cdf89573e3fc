//! What analysis runs do to a release.

use crossfade_api::analysis_run::AnalysisPhase;
use serde_json::{Value, json};

use crate::cluster::{Cluster, canary, failure};
use crossfade_engine::action::FailureKind;

fn settled(strategy: &Value) -> Cluster {
    let mut cluster = canary(4, strategy);
    cluster.add_template("smoke");
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    cluster.forget();
    cluster
}

fn analysis() -> Value {
    json!({"templates": [{"templateName": "smoke"}]})
}

fn run(cluster: &Cluster, ending: &str) -> String {
    format!("web-{}-2{ending}", cluster.hash("web:2"))
}

#[test]
fn behaviour_24_a_retry_starts_over_with_the_same_revision_and_a_new_run() {
    let mut cluster = settled(&json!({"steps": [{"setWeight": 25}, {"analysis": analysis()}]}));
    cluster.set_image("web:2").settle();
    let first = run(&cluster, "-1");
    cluster.end_run(&first, AnalysisPhase::Failed, "").settle();
    assert!(cluster.status().abort);
    assert_eq!(cluster.index(), 0);
    cluster.forget();
    cluster.retry();
    cluster.pass();
    assert_eq!(cluster.progress(), "RolloutRetry");
    assert_eq!(cluster.index(), 0);
    cluster.settle();
    assert_eq!(cluster.revision("web:2"), "2");
    assert_eq!(cluster.run_names(), [first.clone(), format!("{first}.1")]);
    assert_eq!(cluster.index(), 1);
}

#[test]
fn behaviour_25_a_step_analysis_fails_or_cannot_tell() {
    let mut cluster = settled(
        &json!({"steps": [{"setWeight": 25}, {"analysis": analysis()}, {"setWeight": 50}]}),
    );
    cluster.set_image("web:2").settle();
    let first = run(&cluster, "-1");
    assert_eq!(cluster.run_names(), [&first]);
    assert!(cluster.waits_for(&format!("analysis run {first} to end")));
    cluster.end_run(&first, AnalysisPhase::Running, "").settle();
    cluster
        .end_run(&first, AnalysisPhase::Inconclusive, "no data")
        .settle();
    assert_eq!(cluster.phase(), "Paused: InconclusiveAnalysisRun");
    assert_eq!(
        cluster.told_events("AnalysisRunRunning"),
        [format!(
            "Step Analysis Run '{first}' Status New: 'Running' Previous: ''"
        )],
    );
    assert_eq!(
        cluster.told_events("AnalysisRunInconclusive"),
        [format!(
            "Step Analysis Run '{first}' Status New: 'Inconclusive' Previous: 'Running'"
        )],
    );
    cluster.patch(&json!({"spec": {"replicas": 8}})).settle();
    assert_eq!(
        (cluster.size("web:2"), cluster.size("web:1")),
        (1, 3),
        "sizes are frozen"
    );
    cluster.patch(&json!({"spec": {"replicas": 4}})).settle();

    cluster.resume().settle();
    let second = format!("{first}.1");
    assert_eq!(cluster.run_names(), [&first, &second]);
    assert_eq!(cluster.index(), 1);
    cluster
        .end_run(&second, AnalysisPhase::Failed, "2 of 3 bad")
        .settle();
    let cause =
        "Rollout aborted update to revision 2: Step-based analysis phase error/failed: 2 of 3 bad";
    assert_eq!(
        cluster.phase(),
        format!("Degraded: RolloutAborted: {cause}")
    );
    assert_eq!((cluster.size("web:2"), cluster.size("web:1")), (0, 4));
    assert_eq!(
        cluster.status().canary.current_step_analysis_run_status,
        None
    );
}

#[test]
fn an_inconclusive_step_can_be_skipped() {
    let mut cluster = settled(
        &json!({"steps": [{"setWeight": 25}, {"analysis": analysis()}, {"setWeight": 50}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    let first = run(&cluster, "-1");
    cluster
        .end_run(&first, AnalysisPhase::Inconclusive, "")
        .settle();
    cluster
        .patch_status(
            &json!({"pauseConditions": null, "controllerPause": false, "currentStepIndex": 2}),
        )
        .settle();
    assert_eq!(cluster.index(), 3);
    assert_eq!(cluster.run_names(), [&first]);
}

#[test]
fn behaviour_26_a_background_analysis_starts_at_its_step_and_ends_with_the_promotion() {
    let mut background = analysis();
    background["startingStep"] = json!(2);
    let mut cluster = settled(&json!({
        "analysis": background,
        "steps": [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}],
    }));
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.index(), 1);
    assert!(cluster.runs.is_empty());
    cluster.resume().settle();
    let name = run(&cluster, "");
    assert_eq!(cluster.run_names(), [&name]);
    assert_eq!(cluster.index(), 3);
    cluster.end_run(&name, AnalysisPhase::Running, "").settle();
    assert!(!cluster.run(&name).spec.terminate);
    cluster.resume().settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert!(cluster.run(&name).spec.terminate);
    assert_eq!(
        cluster
            .status()
            .canary
            .current_background_analysis_run_status,
        None
    );
}

#[test]
fn a_background_analysis_that_fails_aborts_and_one_that_succeeded_is_not_repeated() {
    let mut cluster = settled(
        &json!({"analysis": analysis(), "steps": [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    let name = run(&cluster, "");
    cluster
        .end_run(&name, AnalysisPhase::Successful, "")
        .settle();
    cluster.resume().settle();
    assert_eq!(cluster.run_names(), [&name]);
    cluster
        .end_run(&name, AnalysisPhase::Error, "no answer")
        .settle();
    assert_eq!(
        cluster.phase(),
        "Degraded: RolloutAborted: Rollout aborted update to revision 2: \
         Background analysis phase error/failed: no answer",
    );
}

#[test]
fn behaviour_27_full_promotion_stops_analysis() {
    let mut cluster = settled(&json!({
        "analysis": analysis(),
        "steps": [{"setWeight": 25}, {"analysis": analysis()}, {"setWeight": 50}, {"pause": {}}, {"setWeight": 75}, {"pause": {}}],
    }));
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.index(), 1);
    assert_eq!(cluster.runs.len(), 2);
    cluster.promote_full().settle();
    assert!(cluster.runs.iter().all(|run| run.spec.terminate));
    assert_eq!(cluster.runs.len(), 2, "none was started");
    assert_eq!(cluster.size("web:2"), 4);
    assert!(cluster.told_events("RolloutCompleted")[0].ends_with("Full promotion requested"));
    assert!(!cluster.status().promote_full);
}

#[test]
fn runs_of_a_superseded_version_are_asked_to_end() {
    let mut cluster = settled(
        &json!({"analysis": analysis(), "steps": [{"setWeight": 25}, {"analysis": analysis()}]}),
    );
    cluster.set_image("web:2").settle();
    let first = run(&cluster, "-1");
    let background = run(&cluster, "");
    cluster.set_image("web:3").settle();
    assert!(cluster.run(&first).spec.terminate);
    assert!(cluster.run(&background).spec.terminate);
    assert_eq!(cluster.index(), 1);
    let name = format!("web-{}-3-1", cluster.hash("web:3"));
    assert!(!cluster.run(&name).spec.terminate);
}

#[test]
fn a_run_carries_labels_arguments_and_rules() {
    let template = json!({
        "metrics": [{"name": "errors", "provider": {"web": {"url": "http://x/{{args.host}}"}}}],
        "args": [{"name": "host"}, {"name": "new"}, {"name": "old"}, {"name": "app"}, {"name": "many", "value": "5"}],
        "dryRun": [{"metricName": "a"}],
    });
    let stanza = json!({
        "templates": [{"templateName": "full"}],
        "args": [
            {"name": "host", "value": "web.svc"},
            {"name": "new", "valueFrom": {"podTemplateHashValue": "Latest"}},
            {"name": "old", "valueFrom": {"podTemplateHashValue": "Stable"}},
            {"name": "app", "valueFrom": {"fieldRef": {"fieldPath": "spec.template.metadata.labels.app"}}},
            {"name": "unknown", "value": "dropped"},
        ],
        "dryRun": [{"metricName": "b"}],
        "measurementRetention": [{"metricName": "errors", "limit": 3}],
        "analysisRunMetadata": {"labels": {"team": "blue", "rollout-type": "mine"}, "annotations": {"note": "x"}},
    });
    let mut cluster = canary(
        2,
        &json!({"steps": [{"setWeight": 50}, {"analysis": stanza}]}),
    );
    cluster.add_template_of("full", &template);
    cluster.settle();
    cluster.set_image("web:2").settle();
    let (new, old) = (cluster.hash("web:2"), cluster.hash("web:1"));
    let run = cluster.run(&run(&cluster, "-1"));
    let labels = run.metadata.labels.clone().unwrap_or_default();
    assert_eq!(
        labels
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>(),
        [
            "app=web",
            "rollout-type=Step",
            &format!("rollouts-pod-template-hash={new}"),
            "step-index=1",
            "team=blue"
        ],
    );
    let notes = run.metadata.annotations.clone().unwrap_or_default();
    assert_eq!(notes["rollout.argoproj.io/revision"], "2");
    assert_eq!(notes["note"], "x");
    let args = run
        .spec
        .args
        .iter()
        .map(|arg| (arg.name.as_str(), arg.value.as_deref().unwrap_or_default()));
    assert_eq!(
        args.collect::<Vec<_>>(),
        [
            ("host", "web.svc"),
            ("new", &new),
            ("old", &old),
            ("app", "web"),
            ("many", "5")
        ],
    );
    let rules = run
        .spec
        .dry_run
        .iter()
        .map(|rule| rule.metric_name.as_str());
    assert_eq!(rules.collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(run.spec.measurement_retention.len(), 1);
    let owner = &run.metadata.owner_references.as_ref().expect("an owner")[0];
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
        ("Rollout", "rollout-uid", Some(true))
    );
    assert_eq!(cluster.told_events("ReservedLabelIgnored").len(), 1);
}

#[test]
fn a_run_that_cannot_be_made_is_told_once_and_tried_again() {
    let mut cluster = settled(&json!({"steps": [{"setWeight": 25}, {"analysis": analysis()}]}));
    cluster.failing.push((
        "CreateAnalysisRun".to_owned(),
        failure(FailureKind::Other, "quota exceeded"),
    ));
    cluster.set_image("web:2").settle_failing();
    let error = "Failed to create Step AnalysisRun: quota exceeded";
    assert_eq!(cluster.told_events("AnalysisRunCreateError"), [error]);
    assert_eq!(cluster.phase(), format!("Progressing: {error}"));
    assert_eq!(cluster.index(), 1);
    cluster.failing.clear();
    cluster.settle();
    assert_eq!(cluster.runs.len(), 1);
}

#[test]
fn a_run_of_the_same_name_that_does_the_same_is_taken_over() {
    let mut cluster = settled(&json!({"steps": [{"setWeight": 25}, {"analysis": analysis()}]}));
    cluster.set_image("web:2").settle();
    let name = run(&cluster, "-1");
    // Its slot got lost, as after a status that was restored from a backup.
    cluster.end_run(&name, AnalysisPhase::Running, "").settle();
    cluster.patch_status(&json!({"canary": {"currentStepAnalysisRunStatus": null}}));
    cluster.forget();
    cluster.settle();
    assert_eq!(cluster.run_names(), [&name]);
    assert!(!cluster.run(&name).spec.terminate);
    assert_eq!(
        cluster.told_events("AnalysisRunRunning"),
        [format!(
            "Step Analysis Run '{name}' Status New: 'Running' Previous: 'NoPreviousStatus'"
        )],
    );
}

#[test]
fn a_run_that_ended_before_its_name_was_recorded_is_not_repeated() {
    let steps = json!({"steps": [{"setWeight": 25}, {"analysis": analysis()}, {"pause": {}}]});
    let lost = |cluster: &mut Cluster| {
        cluster.patch_status(&json!({"canary": {"currentStepAnalysisRunStatus": null}}));
    };
    for (phase, index) in [
        (AnalysisPhase::Successful, 2),
        (AnalysisPhase::Failed, 0),
        (AnalysisPhase::Error, 0),
    ] {
        let mut cluster = settled(&steps);
        cluster.set_image("web:2").settle();
        let name = run(&cluster, "-1");
        cluster.end_run(&name, phase, "");
        lost(&mut cluster);
        cluster.settle();
        assert_eq!(cluster.run_names(), [&name], "{phase:?}");
        assert_eq!(cluster.index(), index, "{phase:?}");
    }
    // One that was asked to end says nothing, and one of the try before nothing about this one.
    let mut cluster = settled(&steps);
    cluster.set_image("web:2").settle();
    let name = run(&cluster, "-1");
    cluster.end_run(&name, AnalysisPhase::Successful, "");
    cluster.runs[0].spec.terminate = true;
    lost(&mut cluster);
    cluster.settle();
    assert_eq!(cluster.run_names(), [name.clone(), format!("{name}.1")]);
    let second = format!("{name}.1");
    cluster
        .end_run(&second, AnalysisPhase::Successful, "")
        .settle();
    assert_eq!(cluster.index(), 2);
    cluster.abort().settle();
    cluster.retry().settle();
    assert_eq!(cluster.index(), 1);
    assert_eq!(cluster.runs.len(), 3);
}

#[test]
fn api_34_the_newest_runs_of_each_class_are_kept() {
    let mut cluster = settled(&json!({"steps": [{"setWeight": 25}]}));
    let hash = cluster.hash("web:1");
    for (phase, word) in [
        (AnalysisPhase::Successful, "good"),
        (AnalysisPhase::Failed, "bad"),
    ] {
        for number in 0..7 {
            cluster.add_run(&format!("{word}-{number}"), &hash, phase);
        }
    }
    cluster.add_run("of-nobody", "5d5d5d5", AnalysisPhase::Successful);
    cluster.add_run("going-on", &hash, AnalysisPhase::Running);
    cluster.settle();
    let kept = |word: &str| {
        cluster
            .run_names()
            .iter()
            .filter(|name| name.starts_with(word))
            .count()
    };
    assert_eq!((kept("good"), kept("bad")), (5, 5));
    assert!(cluster.run_names().contains(&"good-6") && !cluster.run_names().contains(&"good-1"));
    assert!(!cluster.run_names().contains(&"of-nobody"));
    assert!(cluster.run("going-on").spec.terminate);
}

#[test]
fn analysis_14_a_background_run_that_ends_inconclusive_after_the_promotion_changes_nothing() {
    let mut cluster =
        settled(&json!({"analysis": analysis(), "steps": [{"setWeight": 25}, {"pause": {}}]}));
    cluster.set_image("web:2").settle();
    let name = run(&cluster, "");
    cluster.end_run(&name, AnalysisPhase::Running, "").settle();
    cluster.resume().settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert!(cluster.run(&name).spec.terminate);
    // Its Job is stopped in flight, which makes it inconclusive.
    let text = "Metric \"job\" assessed Inconclusive due to inconclusive (1) > inconclusiveLimit (0): \"Error Message: Metric Terminated\"";
    cluster
        .end_run(&name, AnalysisPhase::Inconclusive, text)
        .run_for(60);
    assert_eq!(cluster.phase(), "Healthy");
    assert!(!cluster.status().abort);
    assert_eq!(cluster.size("web:2"), 4);
}

#[test]
fn analysis_15_a_job_that_cannot_start_pauses_the_release_and_a_promotion_starts_a_second_run() {
    let mut cluster = settled(
        &json!({"steps": [{"setWeight": 25}, {"analysis": analysis()}, {"setWeight": 50}]}),
    );
    cluster.set_image("web:2").settle();
    let first = run(&cluster, "-1");
    let text = "Metric \"job\" assessed Inconclusive due to inconclusive (1) > inconclusiveLimit (0): \"Error Message: Pod p, container c has terminal error (ImagePullBackOff): no such image\"";
    cluster
        .end_run(&first, AnalysisPhase::Inconclusive, text)
        .settle();
    assert_eq!(cluster.phase(), "Paused: InconclusiveAnalysisRun");
    let pauses = &cluster.status().pause_conditions;
    assert_eq!(pauses.len(), 1);
    assert_eq!(pauses[0].reason.as_str(), "InconclusiveAnalysisRun");
    cluster.run_for(3600);
    assert_eq!(
        cluster.run_names(),
        [&first],
        "nothing is repeated by itself"
    );
    cluster.resume().settle();
    assert_eq!(cluster.run_names(), [first.clone(), format!("{first}.1")]);
    assert_eq!(cluster.index(), 1);
}

#[test]
fn analysis_29_a_run_whose_making_was_never_recorded_is_taken_over() {
    let mut cluster = settled(&json!({"steps": [{"analysis": analysis()}, {"setWeight": 50}]}));
    cluster.set_image("web:2");
    let mut before = cluster.status().clone();
    for _ in 0..20 {
        before = cluster.status().clone();
        cluster.pass();
        if !cluster.runs.is_empty() {
            break;
        }
    }
    let name = run(&cluster, "-0");
    assert_eq!(cluster.run_names(), [&name], "it was made just now");
    assert_ne!(
        cluster.status().canary.current_step_analysis_run_status,
        None
    );
    // The controller dies after the run was made and before that is written down.
    cluster.rollout.status = before;
    assert_eq!(
        cluster.status().canary.current_step_analysis_run_status,
        None
    );
    cluster.settle();
    assert_eq!(cluster.run_names(), [&name], "no second one appears");
    assert!(!cluster.run(&name).spec.terminate);
    let slot = cluster
        .status()
        .canary
        .current_step_analysis_run_status
        .as_ref();
    assert_eq!(slot.map(|slot| slot.name.as_str()), Some(name.as_str()));
    cluster
        .end_run(&name, AnalysisPhase::Successful, "")
        .settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(cluster.run_names(), [&name]);
}

#[test]
fn analysis_30_five_finished_runs_stay_as_long_as_their_version() {
    let mut cluster = settled(&json!({"steps": [{"setWeight": 50}]}));
    let hash = cluster.hash("web:1");
    for number in 0..7 {
        cluster.add_run(&format!("good-{number}"), &hash, AnalysisPhase::Successful);
    }
    cluster.settle();
    let newest: Vec<String> = (2..7).map(|number| format!("good-{number}")).collect();
    assert_eq!(cluster.run_names(), newest);
    cluster
        .patch(&json!({"spec": {"revisionHistoryLimit": 0}}))
        .set_image("web:2")
        .run_for(3600);
    assert_eq!(cluster.phase(), "Healthy");
    assert!(
        cluster.sets.iter().all(|set| set.image == "web:2"),
        "the old version is gone"
    );
    assert!(cluster.runs.is_empty(), "{:?}", cluster.run_names());
}
