//! Steps that run an Experiment.

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::experiment::TemplateStatus;
use crossfade_api::{Experiment, Resource as _};
use crossfade_engine::action::{Action, FailureKind};
use serde_json::{Value, json};

use crate::cluster::{Cluster, canary, failure, routed};

fn step(more: &Value) -> Value {
    let mut step = json!({
        "duration": "6s",
        "templates": [
            {"name": "baseline", "specRef": "stable"},
            {"name": "canary", "specRef": "canary", "replicas": 2},
        ],
        "analyses": [{
            "name": "compare", "templateName": "smoke",
            "args": [
                {"name": "new", "valueFrom": {"podTemplateHashValue": "Latest"}},
                {"name": "old", "valueFrom": {"podTemplateHashValue": "Stable"}},
                {"name": "app", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "tag", "value": "{{templates.canary.podTemplateHash}}"},
            ],
        }],
    });
    crossfade_api::merge_patch::apply(&mut step, more);
    json!({"experiment": step})
}

fn settled(mut cluster: Cluster) -> Cluster {
    cluster.add_template("smoke");
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    cluster.forget();
    cluster
}

/// A release of `web:2` whose Experiment has been made.
fn under_way(more: &Value) -> Cluster {
    let steps = json!({"steps": [step(more), {"setWeight": 50}, {"pause": {}}]});
    let mut cluster = settled(canary(4, &steps));
    cluster.set_image("web:2").settle();
    cluster
}

fn names(cluster: &Cluster) -> Vec<&str> {
    let all = cluster.experiments.iter().rev();
    all.map(crossfade_api::Resource::name).collect()
}

fn end(cluster: &mut Cluster, name: &str, phase: AnalysisPhase, why: &str) {
    let mut all = cluster.experiments.iter_mut();
    let one = all.find(|one| one.name() == name).expect("it exists");
    one.status.phase = phase;
    why.clone_into(&mut one.status.message);
}

fn current(cluster: &Cluster) -> &str {
    &cluster.status().canary.current_experiment
}

#[test]
fn experiment_23_a_step_makes_an_experiment_and_waits_for_it() {
    let mut cluster = under_way(&json!({
        "templates": [
            {"name": "baseline", "specRef": "stable", "service": {"name": "base"}},
            {"name": "canary", "specRef": "canary", "replicas": 2,
             "metadata": {"labels": {"role": "exp"}, "annotations": {"note": "x"}}},
        ],
        "scaleDownDelaySeconds": 5,
        "dryRun": [{"metricName": "m"}],
        "analysisRunMetadata": {"labels": {"team": "web"}},
    }));
    let hash = cluster.hash("web:2");
    let name = format!("web-{hash}-2-0");
    assert_eq!(names(&cluster), [&name]);
    assert_eq!(
        cluster.told_events("ExperimentCreated"),
        [format!("Created Experiment '{name}'")]
    );
    assert_eq!((cluster.index(), current(&cluster)), (0, name.as_str()));
    assert!(cluster.waits_for(&format!("experiment {name} to end")));
    assert_eq!(cluster.size("web:2"), 0);

    let made: Experiment = cluster.experiments[0].clone();
    let metadata = &made.metadata;
    let labels = metadata.labels.clone().unwrap_or_default();
    assert_eq!(labels["rollouts-pod-template-hash"], hash);
    let annotations = metadata.annotations.clone().unwrap_or_default();
    assert_eq!(annotations["rollout.argoproj.io/revision"], "2");
    let owner = metadata.owner_references.iter().flatten().next();
    assert_eq!(owner.map(|owner| owner.kind.as_str()), Some("Rollout"));
    let [baseline, canary] = &made.spec.templates[..] else {
        panic!("two templates");
    };
    let image = |template: &crossfade_api::experiment::TemplateSpec| {
        template.template.as_json()["spec"]["containers"][0]["image"].clone()
    };
    assert_eq!(
        (image(baseline), image(canary)),
        (json!("web:1"), json!("web:2"))
    );
    assert_eq!((baseline.replicas, canary.replicas), (None, Some(2)));
    assert_eq!(
        baseline.service.as_ref().map(|one| one.name.as_str()),
        Some("base")
    );
    assert!(canary.service.is_none());
    assert_eq!(canary.template.label("role"), Some("exp"));
    assert_eq!(canary.template.annotations()["note"], "x");
    let selected = canary.selector.clone().unwrap_or_default().match_labels;
    assert_eq!(selected.unwrap_or_default()["role"], "exp");
    assert_eq!(made.spec.duration, "6s");
    assert_eq!(made.spec.scale_down_delay_seconds, Some(5));
    assert_eq!(made.spec.dry_run.len(), 1);
    let args = json!(made.spec.analyses[0].args);
    assert_eq!(
        args,
        json!([
            {"name": "new", "value": hash},
            {"name": "old", "value": cluster.hash("web:1")},
            {"name": "app", "value": "web"},
            {"name": "tag", "value": "{{templates.canary.podTemplateHash}}"},
        ])
    );

    end(&mut cluster, &name, AnalysisPhase::Running, "");
    cluster.settle();
    assert_eq!(cluster.index(), 0);
    end(&mut cluster, &name, AnalysisPhase::Successful, "");
    cluster.settle();
    assert_eq!((cluster.index(), current(&cluster)), (2, ""));
    assert_eq!(
        cluster.told_events("RolloutStepCompleted")[0],
        "Rollout step 1/3 completed (experiment)"
    );
    assert_eq!(names(&cluster), [&name], "none is made again");
}

#[test]
fn experiment_24_a_failed_experiment_takes_the_release_back() {
    let mut cluster = under_way(&json!({}));
    let name = current(&cluster).to_owned();
    end(&mut cluster, &name, AnalysisPhase::Failed, "too slow");
    cluster.settle();
    assert!(cluster.status().abort);
    let why = "Experiment analysis phase is error/failed: too slow";
    assert!(cluster.phase().ends_with(why), "{}", cluster.phase());
    assert_eq!(current(&cluster), "");
    cluster.retry().settle();
    assert_eq!(names(&cluster), [name.clone(), format!("{name}-1")]);
    assert_eq!(current(&cluster), format!("{name}-1"));
}

#[test]
fn experiment_25_one_that_cannot_tell_pauses_until_a_person_decides() {
    let mut cluster = under_way(&json!({}));
    let name = current(&cluster).to_owned();
    end(&mut cluster, &name, AnalysisPhase::Inconclusive, "");
    cluster.settle();
    assert_eq!(cluster.phase(), "Paused: InconclusiveExperiment");
    for _ in 0..10 {
        cluster.pass();
    }
    assert_eq!(names(&cluster), [&name]);
    assert_eq!((cluster.index(), current(&cluster)), (0, name.as_str()));
    cluster.resume().settle();
    assert_eq!(names(&cluster), [name.clone(), format!("{name}-1")]);
    assert_eq!(cluster.phase().split(':').next(), Some("Progressing"));
}

fn with_weights(weights: [i32; 2]) -> Cluster {
    let templates = json!([
        {"name": "baseline", "specRef": "stable", "weight": weights[0]},
        {"name": "canary", "specRef": "canary", "weight": weights[1]},
    ]);
    let mut strategy = json!({"steps": [step(&json!({"templates": templates})), {"pause": {}}]});
    strategy["trafficRouting"] =
        json!({"nginx": null, "istio": {"virtualService": {"name": "web"}}});
    let mut cluster = settled(routed(4, &strategy));
    cluster.set_image("web:2").settle();
    cluster
}

fn run_with_services(cluster: &mut Cluster) {
    let one = &mut cluster.experiments[0];
    one.status.phase = AnalysisPhase::Running;
    let status = |name: &str| TemplateStatus {
        name: name.to_owned(),
        service_name: format!("svc-{name}"),
        pod_template_hash: format!("hash-{name}"),
        ..TemplateStatus::default()
    };
    one.status.template_statuses = vec![status("baseline"), status("canary")];
}

/// Weights of stable, canary and the experiment's templates.
fn weights(cluster: &Cluster) -> (i32, i32, Vec<i32>) {
    let split = cluster.routers[0].1.clone().expect("routed");
    let more = split.additional.iter().map(|one| one.weight.0).collect();
    (split.stable.weight.0, split.canary.weight.0, more)
}

#[test]
fn experiment_26_templates_get_their_weight_while_the_experiment_runs() {
    let mut cluster = with_weights([5, 5]);
    assert_eq!(weights(&cluster), (100, 0, vec![]));
    assert!(
        cluster.experiments[0]
            .spec
            .templates
            .iter()
            .all(|template| template.service.is_some())
    );
    run_with_services(&mut cluster);
    cluster.settle();
    assert_eq!(weights(&cluster), (90, 0, vec![5, 5]));
    let recorded = json!(cluster.status().canary.weights);
    assert_eq!(
        recorded["additional"],
        json!([
            {"weight": 5, "serviceName": "svc-baseline", "podTemplateHash": "hash-baseline"},
            {"weight": 5, "serviceName": "svc-canary", "podTemplateHash": "hash-canary"},
        ])
    );
    assert_eq!(recorded["stable"]["weight"], 90);
    let name = current(&cluster).to_owned();
    end(&mut cluster, &name, AnalysisPhase::Successful, "");
    cluster.settle();
    assert_eq!(weights(&cluster), (100, 0, vec![]));
    assert!(json!(cluster.status().canary.weights)["additional"].is_null());
}

#[test]
fn a_template_without_a_service_gets_no_share_and_shares_must_fit() {
    let mut cluster = with_weights([5, 5]);
    run_with_services(&mut cluster);
    cluster.experiments[0].status.template_statuses[0]
        .service_name
        .clear();
    cluster.settle();
    assert_eq!(weights(&cluster), (95, 0, vec![5]));
    assert!(!cluster.told_events("ExperimentServiceMissing").is_empty());

    let mut cluster = with_weights([60, 50]);
    run_with_services(&mut cluster);
    cluster.settle_failing();
    assert_eq!(weights(&cluster), (100, 0, vec![]));
    assert!(
        cluster
            .phase()
            .contains("the weights of the experiment's templates do not fit"),
        "{}",
        cluster.phase()
    );
}

#[test]
fn experiment_27_a_weight_needs_a_router() {
    let templates = json!([{"name": "a", "specRef": "canary", "weight": 5}]);
    let steps = json!({"steps": [step(&json!({"templates": templates}))]});
    let mut cluster = canary(1, &steps);
    cluster.add_template("smoke");
    cluster.settle();
    let (_, _, message) = cluster.told("InvalidSpec").expect("it is refused");
    assert!(
        message
            .contains("Experiment template weight cannot be set unless TrafficRouting is enabled"),
        "{message}"
    );
}

#[test]
fn experiment_28_an_abort_ends_the_experiment() {
    let mut cluster = under_way(&json!({}));
    cluster.abort().settle();
    assert!(cluster.experiments[0].spec.terminate);
    assert_eq!(current(&cluster), "");
    let before = cluster.experiments.len();
    cluster.retry().settle();
    assert_eq!(
        cluster.experiments.len(),
        before + 1,
        "one that was asked to end would end well without having measured"
    );
}

#[test]
fn behaviour_27_full_promotion_stops_experiments() {
    let mut cluster = under_way(&json!({}));
    cluster.promote_full().settle();
    assert!(cluster.experiments[0].spec.terminate);
    assert_eq!(cluster.experiments.len(), 1, "none was started");
    assert_eq!(cluster.size("web:2"), 4);
    assert!(cluster.told_events("RolloutCompleted")[0].ends_with("Full promotion requested"));
    assert!(!cluster.status().promote_full);
}

#[test]
fn experiments_of_a_superseded_version_are_asked_to_end() {
    let mut cluster = under_way(&json!({}));
    cluster.set_image("web:3").settle();
    let name = format!("web-{}-3-0", cluster.hash("web:3"));
    assert_eq!(current(&cluster), name);
    let ended: Vec<_> = cluster
        .experiments
        .iter()
        .map(|one| one.spec.terminate)
        .collect();
    assert_eq!(ended, [false, true]);
}

fn finished(cluster: &mut Cluster, number: usize, hash: &str, phase: AnalysisPhase) {
    let mut one = Experiment::from_json(json!({"metadata": {
        "name": format!("old-{number}"),
        "labels": {"rollouts-pod-template-hash": hash},
    }}))
    .0;
    one.status.phase = phase;
    cluster.experiments.insert(0, one);
}

#[test]
fn experiment_29_only_the_newest_five_of_each_kind_are_kept() {
    let mut cluster = under_way(&json!({}));
    let hash = cluster.hash("web:1");
    for number in 0..8 {
        finished(&mut cluster, number, &hash, AnalysisPhase::Successful);
    }
    finished(&mut cluster, 8, "gone", AnalysisPhase::Successful);
    finished(&mut cluster, 9, &hash, AnalysisPhase::Failed);
    cluster.settle();
    let name = current(&cluster);
    let expected = [name, "old-3", "old-4", "old-5", "old-6", "old-7", "old-9"];
    assert_eq!(names(&cluster), expected);
}

#[test]
fn behaviour_40_experiments_go_with_their_versions() {
    let mut cluster = settled(canary(1, &json!({})));
    cluster
        .patch(&json!({"spec": {"revisionHistoryLimit": 10}}))
        .settle();
    for number in 2..=6 {
        cluster.run_for(10);
        cluster.set_image(&format!("web:{number}")).settle();
        let hash = cluster.hash(&format!("web:{number}"));
        finished(&mut cluster, number, &hash, AnalysisPhase::Successful);
    }
    cluster
        .patch(&json!({"spec": {"revisionHistoryLimit": 2}}))
        .settle();
    assert_eq!(names(&cluster), ["old-4", "old-5", "old-6"]);
}

#[test]
fn experiment_30_one_that_was_made_before_a_crash_is_taken_over() {
    let mut cluster = under_way(&json!({}));
    let name = current(&cluster).to_owned();
    cluster.patch_status(&json!({"canary": {"currentExperiment": null}}));
    cluster.settle();
    assert_eq!(names(&cluster), [&name]);
    assert_eq!(current(&cluster), name);
}

#[test]
fn what_an_experiment_cannot_be_made_from_is_told() {
    let steps = |templates: Value| json!({"steps": [step(&json!({"templates": templates}))]});
    let wrong = steps(json!([{"name": "a", "specRef": "both"}]));
    let mut cluster = settled(canary(1, &wrong));
    cluster.set_image("web:2").settle_failing();
    let why = "Invalid template step SpecRef: must be canary or stable";
    assert!(cluster.phase().contains(why), "{}", cluster.phase());
    assert!(cluster.experiments.is_empty());

    let right = steps(json!([{"name": "a", "specRef": "canary"}]));
    let mut cluster = settled(canary(1, &right));
    let refused = failure(FailureKind::Other, "quota exceeded");
    cluster
        .failing
        .push(("CreateExperiment".to_owned(), refused));
    cluster.set_image("web:2").settle_failing();
    assert!(cluster.phase().contains("quota exceeded"));
    cluster.failing.clear();
    cluster.settle();
    assert_eq!(cluster.experiments.len(), 1);
    let creates = |action: &&Action| matches!(action, Action::CreateExperiment(_));
    assert!(cluster.performed.iter().any(|action| creates(&action)));
}
