//! ReplicaSets and Services of an experiment, its duration and its end.

use crossfade_api::names::annotation;
use crossfade_api::words::PodHash;
use crossfade_engine::action::FailureKind;
use crossfade_engine::experiment::world::Service;
use crossfade_engine::rollout::world::ReplicaSet;
use serde_json::{Value, json};

use crate::rig::{Rig, failure, template};

fn two(more: &Value) -> Rig {
    let mut spec = json!({"templates": [template("old", &json!({})), template("new", &json!({}))]});
    crossfade_api::merge_patch::apply(&mut spec, more);
    Rig::new(&spec)
}

#[test]
fn experiment_01_two_templates_run_for_their_duration_and_go_a_while_later() {
    let mut rig = two(&json!({"duration": "20s"}));
    rig.pass();
    assert_eq!(rig.phase(), "Pending");
    assert_eq!(rig.available_at(), None);
    rig.settle();
    assert_eq!(rig.phase(), "Running");
    assert_eq!(rig.available_at().as_deref(), Some("2026-01-02T03:00:00Z"));
    assert!(rig.waits_for("the duration of the experiment to pass"));
    assert_eq!(
        rig.condition("Progressing").as_deref(),
        Some("True NewReplicaSetAvailable: Experiment \"e\" is running."),
    );
    rig.run_for(19);
    assert_eq!(rig.phase(), "Running");
    rig.run_for(2);
    assert_eq!(rig.phase(), "Successful");
    assert_eq!(
        rig.condition("Progressing").as_deref(),
        Some("False ExperimentCompleted: Experiment \"e\" has successfully ran and completed."),
    );
    assert_eq!(rig.sizes(), [("e-old", 1), ("e-new", 1)], "for a while");
    rig.run_for(28);
    assert_eq!(rig.sizes(), [("e-old", 1), ("e-new", 1)]);
    rig.run_for(3);
    assert_eq!(rig.sizes(), [("e-old", 0), ("e-new", 0)]);
    assert_eq!(
        rig.told("ScalingReplicaSet")[2..],
        [
            "Scaled down ReplicaSet e-old from 1 to 0",
            "Scaled down ReplicaSet e-new from 1 to 0",
        ],
    );
    assert_eq!(
        [
            rig.told("ExperimentPending"),
            rig.told("ExperimentRunning"),
            rig.told("ExperimentSuccessful"),
        ]
        .concat(),
        [
            "Experiment transitioned from  -> Pending",
            "Experiment transitioned from Pending -> Running",
            "Experiment transitioned from Running -> Successful",
        ],
    );
    assert_eq!(
        rig.told("TemplateSuccessful"),
        [
            "Template 'old' transitioned from Running -> Successful",
            "Template 'new' transitioned from Running -> Successful",
        ],
    );
}

#[test]
fn experiment_02_the_first_pass_makes_empty_replica_sets_and_the_second_scales_them() {
    let mut rig = Rig::with(&json!({}));
    rig.pass();
    assert_eq!(rig.phase(), "Pending");
    assert_eq!(rig.sizes(), [("e-canary", 0)]);
    let set = rig.set("e-canary");
    assert_eq!(set.annotations[annotation::EXPERIMENT_NAME], "e");
    assert_eq!(set.annotations[annotation::EXPERIMENT_TEMPLATE], "canary");
    assert_eq!(set.labels["app"], "web");
    assert_eq!(set.labels["rollouts-pod-template-hash"], set.hash());
    assert!(rig.told("ScalingReplicaSet").is_empty());
    rig.pass();
    assert_eq!(rig.sizes(), [("e-canary", 1)]);
    assert_eq!(
        rig.told("ScalingReplicaSet"),
        ["Scaled up ReplicaSet e-canary from 0 to 1"]
    );
    assert_eq!(
        rig.told("TemplateProgressing"),
        ["Template 'canary' transitioned from  -> Progressing"]
    );
    assert!(rig.waits_for("pods of template canary to become available: 0 of 1 are"));
}

#[test]
fn experiment_03_pods_that_never_start_fail_it_at_the_progress_deadline() {
    let mut rig = Rig::with(&json!({"progressDeadlineSeconds": 30}));
    rig.broken.insert("canary".to_owned());
    rig.run_for(29);
    assert_eq!(rig.phase(), "Pending");
    rig.run_for(3);
    let why = "Template 'canary' exceeded its progressDeadlineSeconds (30)";
    assert_eq!(rig.phase(), format!("Failed: {why}"));
    assert_eq!(rig.template("canary").message, why);
    assert_eq!(
        rig.told("TemplateFailed"),
        [format!(
            "!Template 'canary' transitioned from Progressing -> Failed: {why}"
        )]
    );
    assert_eq!(
        rig.told("ExperimentFailed"),
        ["!Experiment transitioned from Pending -> Failed"]
    );
}

#[test]
fn experiment_04_a_replica_set_that_is_refused_ends_it_in_error() {
    let mut rig = Rig::with(&json!({}));
    let refused = failure(
        FailureKind::Refused,
        "`selector` does not match template `labels`",
    );
    rig.failing.push(("CreateReplicaSet".to_owned(), refused));
    rig.settle();
    assert_eq!(
        rig.phase(),
        "Error: Failed to create ReplicaSet for template 'canary': `selector` does not match template `labels`",
    );
    assert_eq!(
        rig.told("ReplicaSetCreateError"),
        [
            "!Failed to create new replica set \"e-canary\": `selector` does not match template `labels`"
        ],
    );
}

/// The message of the condition InvalidSpec, after checking that nothing else happened.
fn refusal(spec: &Value) -> String {
    let mut rig = Rig::new(spec);
    rig.settle();
    assert!(rig.sets.is_empty());
    assert_eq!(rig.phase(), "", "the phase is not touched");
    let told = rig.condition("InvalidSpec").expect("it is refused");
    told.strip_prefix("True InvalidSpec: ")
        .unwrap_or(&told)
        .to_owned()
}

#[test]
fn experiment_05_a_template_without_selector_is_refused_until_it_has_one() {
    let bare = template("canary", &json!({"selector": null}));
    let why = "Rollout has missing field '.Spec.Templates[0].Selector'";
    assert_eq!(refusal(&json!({"templates": [bare]})), why);
    let empty = template("canary", &json!({"selector": {"matchLabels": null}}));
    assert_eq!(
        refusal(&json!({"templates": [template("a", &json!({})), empty]})),
        "This experiment is selecting all pods at index 1. A non-empty selector is required.",
    );
    let mut rig = Rig::new(&json!({"templates": [bare]}));
    rig.settle();
    rig.patch(&json!({"spec": {"templates": [template("canary", &json!({}))]}}))
        .settle();
    assert_eq!(rig.condition("InvalidSpec"), None);
    assert_eq!(rig.phase(), "Running");
}

#[test]
fn experiment_06_template_names_are_there_and_unique() {
    let twice = json!([template("x", &json!({})), template("x", &json!({}))]);
    assert_eq!(
        refusal(&json!({"templates": twice})),
        "Experiment e has repeated template name 'x' in templates",
    );
    assert_eq!(
        refusal(&json!({"templates": [template("", &json!({}))]})),
        "Experiment e has empty template name at index 0",
    );
}

#[test]
fn experiment_07_pods_must_be_able_to_become_available_before_the_deadline() {
    let slow = template("canary", &json!({"minReadySeconds": 700}));
    assert_eq!(
        refusal(&json!({"templates": [slow]})),
        "MinReadySeconds cannot be longer than ProgressDeadlineSeconds. Check template index 0",
    );
}

fn served(service: &Value, ports: &Value) -> Rig {
    let container = json!({"name": "main", "image": "web:1", "ports": ports});
    let with = json!({
        "service": service,
        "template": {"spec": {"containers": [container]}},
    });
    Rig::new(&json!({"duration": "10s", "templates": [template("canary", &with)]}))
}

#[test]
fn experiment_08_a_template_gets_a_service_as_long_as_its_pods_are_there() {
    let ports = json!([
        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
        {"name": "metrics", "containerPort": 9090},
    ]);
    let mut rig = served(&json!({}), &ports);
    rig.pass();
    assert!(rig.services.is_empty(), "from the next pass on");
    rig.settle();
    let [service] = &rig.created[..] else {
        panic!("one Service, not {:?}", rig.created);
    };
    assert_eq!(service.name, "e-canary");
    assert_eq!(service.selector, rig.set("e-canary").labels);
    assert_eq!(
        json!(service.ports),
        json!([
            {"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"},
            {"name": "metrics", "port": 9090, "targetPort": 9090},
        ]),
    );
    assert_eq!(rig.template("canary").service_name, "e-canary");
    let hash = rig.set("e-canary").hash();
    assert_eq!(rig.template("canary").pod_template_hash, hash);
    rig.run_for(20);
    assert_eq!(rig.phase(), "Successful");
    assert_eq!(rig.services.len(), 1, "as long as pods are there");
    rig.run_for(40);
    assert!(rig.services.is_empty());
    assert_eq!(rig.template("canary").service_name, "");
    assert_eq!(rig.template("canary").pod_template_hash, "");
}

#[test]
fn experiment_09_somebody_elses_service_is_left_alone() {
    let mut rig = served(&json!({"name": "svc"}), &json!([{"containerPort": 80}]));
    let foreign = failure(
        FailureKind::ServiceExists(Some(Box::new(Service::default()))),
        "services \"svc\" already exists",
    );
    rig.failing.push(("CreateService".to_owned(), foreign));
    rig.settle();
    assert_eq!(
        rig.phase(),
        "Error: Failed to create Service svc for template 'canary': service svc already exists and is not owned by experiment template canary",
    );
}

#[test]
fn experiment_10_without_ports_there_is_no_service_and_no_error() {
    let mut rig = served(&json!({}), &json!(null));
    rig.settle();
    assert_eq!(rig.phase(), "Running");
    assert!(rig.created.is_empty());
    assert_eq!(rig.template("canary").service_name, "");
}

#[test]
fn experiment_20_a_person_ends_it_and_its_pods_go_after_the_delay() {
    let mut rig = Rig::with(&json!({}));
    rig.run_for(3600);
    assert_eq!(rig.phase(), "Running");
    assert!(rig.waits_for("a person to end the experiment"));
    rig.patch(&json!({"spec": {"terminate": true}})).settle();
    assert_eq!(rig.phase(), "Successful");
    assert_eq!(rig.sizes(), [("e-canary", 1)]);
    rig.run_for(32);
    assert_eq!(rig.sizes(), [("e-canary", 0)]);

    let mut rig = Rig::with(&json!({"scaleDownDelaySeconds": 0}));
    rig.settle();
    rig.patch(&json!({"spec": {"terminate": true}})).settle();
    assert_eq!(rig.phase(), "Successful");
    assert_eq!(rig.sizes(), [("e-canary", 0)], "at once");

    let mut rig = Rig::with(&json!({"terminate": true}));
    rig.settle();
    assert_eq!(rig.phase(), "Successful");
    assert!(rig.sets.is_empty(), "nothing is made that nobody wants");
}

#[test]
fn experiment_22_a_lost_pod_shows_as_pending_until_it_is_there_again() {
    let mut rig = Rig::with(&json!({"duration": "1h"}));
    rig.settle();
    let available = rig.available_at();
    rig.run_for(60);
    rig.broken.insert("canary".to_owned());
    rig.settle();
    assert_eq!(rig.phase(), "Pending");
    assert_eq!(rig.available_at(), available);
    rig.broken.clear();
    rig.run_for(5);
    assert_eq!(rig.phase(), "Running");
    assert_eq!(rig.available_at(), available);
}

#[test]
fn experiment_31_a_delay_of_a_minute_costs_at_most_three_writes() {
    let mut rig = Rig::with(&json!({"duration": "5s", "scaleDownDelaySeconds": 60}));
    rig.run_for(6);
    assert_eq!(rig.phase(), "Successful");
    let before = rig.writes;
    for _ in 0..58 {
        rig.run_for(1);
    }
    assert_eq!(rig.sizes(), [("e-canary", 1)]);
    assert!(rig.writes - before <= 3, "{} writes", rig.writes - before);
    rig.run_for(5);
    assert_eq!(rig.sizes(), [("e-canary", 0)]);
}

#[test]
fn a_replica_set_of_the_same_name_is_taken_only_if_it_is_the_experiments_own() {
    let mut rig = Rig::with(&json!({}));
    let foreign = FailureKind::ReplicaSetExists(Some(Box::new(ReplicaSet::default())));
    let foreign = failure(foreign, "replicasets.apps \"e-canary\" already exists");
    rig.failing.push(("CreateReplicaSet".to_owned(), foreign));
    rig.settle();
    assert_eq!(
        rig.phase(),
        "Error: ReplicaSet name 'e-canary' is already in use"
    );
    assert!(rig.failed.is_none(), "it is not tried for ever");
}

#[test]
fn pods_of_an_experiment_are_never_taken_for_those_of_its_rollout() {
    let mut free = Rig::with(&json!({}));
    free.settle();
    let hash = free.set("e-canary").hash().to_owned();
    let mut rig = Rig::with(&json!({}));
    rig.taken = vec![PodHash::from(hash.as_str())];
    rig.settle();
    assert_ne!(rig.set("e-canary").hash(), hash);
    assert_eq!(rig.template("canary").collision_count, Some(1));
    assert_eq!(free.template("canary").collision_count, None);
}

#[test]
fn a_deadline_that_cannot_be_read_is_written_anew() {
    let mut rig = Rig::with(&json!({}));
    rig.settle();
    let note = annotation::SCALE_DOWN_DEADLINE;
    rig.sets[0]
        .annotations
        .insert(note.to_owned(), "soon".to_owned());
    rig.patch(&json!({"spec": {"terminate": true}})).settle();
    assert_eq!(rig.sizes(), [("e-canary", 1)]);
    assert_eq!(rig.sets[0].annotations[note], "2026-01-02T03:00:30Z");
}

#[test]
fn two_replica_sets_for_one_template_fail_the_pass() {
    let mut rig = Rig::with(&json!({}));
    rig.settle();
    let mut other = rig.sets[0].clone();
    other.target.name = "other".to_owned();
    rig.sets.push(other);
    rig.pass();
    assert_eq!(
        rig.failed.as_deref(),
        Some("multiple ReplicaSets match single experiment template: canary"),
    );
}

#[test]
fn what_was_not_refused_is_tried_again_and_ends_at_the_progress_deadline() {
    let lost = || failure(FailureKind::Other, "the answer did not arrive");
    for action in ["CreateReplicaSet", "UpdateReplicaSet"] {
        let mut rig = Rig::with(&json!({"progressDeadlineSeconds": 60}));
        rig.failing.push((action.to_owned(), lost()));
        rig.settle();
        assert_eq!(rig.phase(), "Pending", "{action}");
        assert_eq!(rig.failed.as_deref(), Some("the answer did not arrive"));
        rig.failing.clear();
        rig.settle();
        assert_eq!(rig.phase(), "Running", "{action}");
    }
    let mut rig = Rig::with(&json!({"progressDeadlineSeconds": 60}));
    rig.failing.push(("CreateReplicaSet".to_owned(), lost()));
    rig.run_for(62);
    let why = "Template 'canary' exceeded its progressDeadlineSeconds (60)";
    assert_eq!(rig.phase(), format!("Failed: {why}"));
}

#[test]
fn an_experiment_that_is_tried_again_has_its_delay_once_more() {
    let mut rig = Rig::with(&json!({"duration": "5s"}));
    rig.run_for(60);
    assert_eq!(rig.sizes(), [("e-canary", 0)]);
    rig.patch(&json!({"status": null})).settle();
    assert_eq!(rig.phase(), "Running");
    rig.run_for(10);
    assert_eq!(rig.phase(), "Successful");
    assert_eq!(rig.sizes(), [("e-canary", 1)]);
    rig.run_for(40);
    assert_eq!(rig.sizes(), [("e-canary", 0)]);
}
