//! Which ReplicaSet is the present version, and which are old.

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::canonical_json::Form;
use crossfade_api::hash;
use crossfade_api::names::{annotation, label};
use crossfade_engine::action::{Failure, FailureKind};
use crossfade_engine::rollout::world::ReplicaSet;
use serde_json::{Value, json};

use crate::cluster::{Cluster, canary, rollout};

fn settled(strategy: &Value) -> Cluster {
    let mut cluster = canary(3, strategy);
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    cluster.forget();
    cluster
}

/// Gives the only ReplicaSet another hash, as another controller would have named it.
fn rename_version(cluster: &mut Cluster, hash: &str) {
    let set = &mut cluster.sets[0];
    set.seen
        .labels
        .insert(label::POD_HASH.to_owned(), hash.to_owned());
    set.seen.annotations.remove(annotation::TEMPLATE_DIGEST);
    set.template.set_label(label::POD_HASH, hash);
    set.look();
    cluster.patch_status(&json!({"currentPodHash": hash, "stableRS": hash}));
}

#[test]
fn api_04_a_taken_name_is_a_collision_and_leads_to_another_hash() {
    let template = json!({
        "metadata": {"labels": {"app": "demo"}},
        "spec": {"containers": [{"name": "demo", "image": "nginx:1.25"}]},
    });
    let mut json =
        rollout(&json!({"selector": {"matchLabels": {"app": "demo"}}, "strategy": {"canary": {}}}));
    json["metadata"]["name"] = json!("demo");
    json["spec"]["template"] = template;
    let mut cluster = Cluster::new(json.clone());
    cluster.settle();
    assert_eq!(cluster.sets[0].seen.target.name, "demo-56459f669d");
    assert_eq!(cluster.status().collision_count, None);

    let mut cluster = Cluster::new(json);
    cluster.add_foreign_set("demo-56459f669d");
    cluster.pass();
    assert_eq!(cluster.status().collision_count, Some(1));
    assert!(
        cluster
            .failed
            .as_deref()
            .is_some_and(|why| why.contains("already exists"))
    );
    cluster.settle();
    assert_eq!(cluster.sets[1].seen.target.name, "demo-77567764bc");
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn behaviour_38_a_foreign_replica_set_of_the_same_name_is_left_alone() {
    let mut cluster = canary(1, &json!({}));
    let name = format!("web-{}", cluster.observe().prepared.hash);
    cluster.add_foreign_set(&name);
    let foreign = cluster.sets[0].seen.clone();
    cluster.settle();
    assert_eq!(cluster.status().collision_count, Some(1));
    assert_eq!(cluster.sets.len(), 2);
    assert_eq!(cluster.sets[0].seen, foreign);
    assert_ne!(cluster.sets[1].seen.target.name, name);
}

#[test]
fn a_replica_set_of_ours_that_the_cache_did_not_show_is_used() {
    let mut cluster = canary(1, &json!({}));
    cluster.pass();
    let set = cluster.sets.remove(0);
    cluster.hidden.push(set);
    cluster.patch(&json!({"metadata": {"annotations": {annotation::REVISION: null}}}));
    cluster.pass();
    assert_eq!(cluster.status().collision_count, None);
    assert_eq!(
        cluster
            .rollout
            .metadata
            .annotations
            .clone()
            .unwrap_or_default()[annotation::REVISION],
        "1"
    );
    assert_eq!(cluster.progress(), "FoundNewReplicaSet");
}

#[test]
fn a_replica_set_that_cannot_be_made_is_told() {
    let mut cluster = canary(1, &json!({}));
    let failure = crate::cluster::failure(
        crossfade_engine::action::FailureKind::Other,
        "quota exceeded",
    );
    cluster
        .failing
        .push(("CreateReplicaSet".to_owned(), failure));
    cluster.pass();
    let name = format!("web-{}", cluster.observe().prepared.hash);
    let message = format!("Failed to create new replica set \"{name}\": quota exceeded");
    assert_eq!(
        cluster.told_events("ReplicaSetCreateError"),
        [message.as_str()]
    );
    assert_eq!(
        cluster.told("Progressing"),
        Some((
            "False".to_owned(),
            "ReplicaSetCreateError".to_owned(),
            message
        )),
    );
    cluster.failing.clear();
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn api_06_a_version_named_by_an_older_controller_is_taken_over_quietly() {
    let mut cluster = settled(&json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    let template = &cluster.rollout.spec.template;
    let old = hash::pod_template_hash(template, None, Form::WithCreationTimestamp);
    rename_version(&mut cluster, old.as_str());
    cluster.forget();
    cluster.settle();
    assert_eq!(cluster.sets.len(), 1);
    assert_eq!(cluster.status().current_pod_hash, old);
    assert_eq!(cluster.revision("web:1"), "1");
    assert!(cluster.statuses.len() <= 1);
    assert!(cluster.performed.len() <= 1, "{:?}", cluster.performed);
    assert!(cluster.note("web:1", annotation::TEMPLATE_DIGEST).is_some());

    // Nothing but the hash leads there when the status is of an earlier generation.
    cluster.sets[0]
        .seen
        .annotations
        .insert(annotation::TEMPLATE_DIGEST.to_owned(), "other".to_owned());
    cluster
        .patch_status(&json!({"observedGeneration": "0"}))
        .settle();
    assert_eq!(cluster.sets.len(), 1);
}

#[test]
fn api_07_a_version_of_unknown_name_is_recognised_by_its_template() {
    let mut cluster = settled(&json!({}));
    rename_version(&mut cluster, "unknown");
    let set = &mut cluster.sets[0];
    set.template.set_label("role", "canary");
    let record = json!({"labels": {"role": "canary"}}).to_string();
    set.seen
        .annotations
        .insert(annotation::EPHEMERAL_METADATA.to_owned(), record);
    set.template.set_affinity(Some(json!({"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "labelSelector": {"matchExpressions": [{"key": label::POD_HASH, "operator": "In", "values": ["old"]}]},
            "topologyKey": "kubernetes.io/hostname",
        }],
    }})));
    set.look();
    cluster
        .patch_status(&json!({"observedGeneration": "0"}))
        .settle();
    assert_eq!(cluster.sets.len(), 1);
    assert_eq!(cluster.status().current_pod_hash.as_str(), "unknown");
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn a_version_is_known_by_the_status_while_its_spec_is_unchanged() {
    let mut cluster = settled(&json!({}));
    rename_version(&mut cluster, "unknown");
    // Somebody's webhook has changed the stored template beyond recognition.
    cluster.sets[0].template.set_annotation("injected", "yes");
    cluster.sets[0].look();
    cluster.settle();
    assert_eq!(cluster.sets.len(), 1);
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn a_version_that_was_changed_by_others_into_the_wanted_one_is_not_taken_for_it() {
    let mut cluster = settled(&json!({}));
    cluster.sets[0].template = crossfade_api::pod_template::PodTemplate::from(json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:2"}]},
    }));
    cluster.sets[0].look();
    cluster.set_image("web:2").settle();
    assert_eq!(
        cluster.sets.len(),
        2,
        "its recorded digest says what it was made from"
    );
}

#[test]
fn api_09_only_orphans_with_a_hash_and_matching_labels_are_adopted() {
    let mut cluster = settled(&json!({}));
    let with = |name: &str, controller: Option<&str>, labels: &[(&str, &str)]| {
        let mut set = cluster.sets[0].clone();
        set.seen = ReplicaSet {
            controller: controller.map(str::to_owned),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            replicas: 0,
            current: 0,
            ..set.seen
        };
        name.clone_into(&mut set.seen.target.name);
        name.clone_into(&mut set.seen.target.uid);
        name.clone_into(&mut set.image);
        set
    };
    let sets = [
        with("without-hash", None, &[("app", "web")]),
        with("orphan", None, &[("app", "web"), (label::POD_HASH, "abc")]),
        with(
            "of-a-deployment",
            Some("deployment"),
            &[("app", "web"), (label::POD_HASH, "abd")],
        ),
        with(
            "other-app",
            None,
            &[("app", "other"), (label::POD_HASH, "abf")],
        ),
        with(
            "no-longer-matching",
            Some("rollout-uid"),
            &[("app", "other"), (label::POD_HASH, "abg")],
        ),
    ];
    cluster.sets.extend(sets);
    // Worlds show only ReplicaSets with the hash label.
    cluster.settle();
    let owner = |image: &str| cluster.set(image).seen.controller.clone();
    assert_eq!(owner("without-hash"), None);
    assert_eq!(owner("orphan").as_deref(), Some("rollout-uid"));
    assert_eq!(owner("of-a-deployment").as_deref(), Some("deployment"));
    assert_eq!(owner("other-app"), None);
    assert_eq!(owner("no-longer-matching"), None);
}

#[test]
fn api_10_replica_sets_of_another_rollout_with_the_same_selector_are_left_alone() {
    let mut cluster = settled(&json!({}));
    let mut other = cluster.sets[0].clone();
    other.seen.controller = Some("other-rollout".to_owned());
    other.seen.target.uid = "other".to_owned();
    "other".clone_into(&mut other.image);
    let before = other.seen.clone();
    cluster.sets.push(other);
    cluster.set_image("web:2").run_for(60);
    assert_eq!(cluster.set("other").seen, before);
}

#[test]
fn nothing_is_released_while_the_selector_is_unknown() {
    let mut cluster = settled(&json!({}));
    cluster.patch(&json!({"spec": {"selector": null}})).settle();
    assert_eq!(
        cluster.sets[0].seen.controller.as_deref(),
        Some("rollout-uid")
    );
    assert!(cluster.phase().starts_with("Degraded: InvalidSpec"));
}

#[test]
fn api_13_a_default_spelled_out_starts_no_version_and_annotations_no_history() {
    let mut cluster = settled(&json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster
        .patch(&json!({"spec": {"template": {"spec": {"dnsPolicy": "ClusterFirst"}}}}))
        .settle();
    cluster
        .patch(&json!({"metadata": {"annotations": {"team": "blue"}}}))
        .settle();
    cluster
        .patch(&json!({"metadata": {"annotations": {"team": "red"}}}))
        .settle();
    assert_eq!(cluster.sets.len(), 1);
    assert_eq!(
        (cluster.revision("web:1").as_str(), cluster.index()),
        ("1", 2)
    );
    assert_eq!(cluster.note("web:1", "team").as_deref(), Some("red"));
    assert_eq!(cluster.note("web:1", annotation::REVISION_HISTORY), None);
    assert_eq!(cluster.status().observed_generation, "2");
}

#[test]
fn behaviour_39_an_update_begun_by_another_controller_goes_on_where_it_stands() {
    let steps = json!([{"setWeight": 10}, {"pause": {}}, {"setWeight": 40}, {"setWeight": 60}, {"pause": {}}]);
    let mut cluster = settled(&json!({"steps": steps}));
    cluster.set_image("web:2").settle();
    cluster.patch_status(&json!({"pauseConditions": null, "currentStepIndex": 3}));
    for (set, hash) in [(0, "6c9f5f5c6"), (1, "7d4b9d5f8")] {
        let set = &mut cluster.sets[set];
        set.seen
            .labels
            .insert(label::POD_HASH.to_owned(), hash.to_owned());
        set.seen.annotations.remove(annotation::TEMPLATE_DIGEST);
        set.template.set_label(label::POD_HASH, hash);
        set.look();
    }
    cluster.patch_status(&json!({"stableRS": "6c9f5f5c6", "currentPodHash": "7d4b9d5f8"}));
    cluster.forget();
    cluster.pods_become_ready = false;
    cluster.settle();
    assert_eq!(cluster.sets.len(), 2);
    assert_eq!(cluster.revision("web:2"), "2");
    assert_eq!(cluster.index(), 3);
    cluster.pods_become_ready = true;
    cluster.settle();
    assert_eq!(cluster.index(), 4);
    assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
}

#[test]
fn behaviour_40_the_oldest_idle_versions_go_with_their_runs() {
    let mut cluster = settled(&json!({}));
    cluster
        .patch(&json!({"spec": {"revisionHistoryLimit": 10}}))
        .settle();
    for number in 2..=6 {
        cluster.run_for(10);
        cluster.set_image(&format!("web:{number}")).settle();
        let hash = cluster.hash(&format!("web:{number}"));
        cluster.add_run(&format!("run-{number}"), &hash, AnalysisPhase::Successful);
    }
    let hash = cluster.hash("web:1");
    cluster.add_run("run-1", &hash, AnalysisPhase::Failed);
    assert_eq!(cluster.sets.len(), 6);
    cluster
        .patch(&json!({"spec": {"revisionHistoryLimit": 2}}))
        .settle();
    let images: Vec<_> = cluster.sets.iter().map(|set| set.image.as_str()).collect();
    assert_eq!(images, ["web:4", "web:5", "web:6"]);
    assert_eq!(cluster.run_names(), ["run-4", "run-5", "run-6"]);
}

#[test]
fn api_33_an_old_version_that_still_has_pods_is_kept_and_not_replaced_by_a_third() {
    let mut cluster = settled(&json!({}));
    cluster
        .patch(&json!({"spec": {"revisionHistoryLimit": 10}}))
        .settle();
    for number in 2..=5 {
        cluster.run_for(10);
        cluster.set_image(&format!("web:{number}")).settle();
    }
    for number in 1..=4 {
        let hash = cluster.hash(&format!("web:{number}"));
        cluster.add_run(&format!("run-{number}"), &hash, AnalysisPhase::Failed);
    }
    // The oldest still has a pod on its way out.
    cluster.sets[0].seen.current = 1;
    cluster.patch(&json!({"spec": {"revisionHistoryLimit": 2}}));
    cluster.pass();
    cluster.pass();
    let images: Vec<_> = cluster.sets.iter().map(|set| set.image.as_str()).collect();
    assert_eq!(images, ["web:1", "web:3", "web:4", "web:5"]);
    cluster.pass();
    assert_eq!(
        cluster.run_names(),
        ["run-1", "run-3", "run-4"],
        "runs go with their version"
    );

    // Once it has no pods it is nothing special any more: the two oldest go.
    cluster.sets[0].seen.current = 0;
    cluster.settle();
    let images: Vec<_> = cluster.sets.iter().map(|set| set.image.as_str()).collect();
    assert_eq!(images, ["web:3", "web:4", "web:5"]);
    assert_eq!(cluster.run_names(), ["run-3", "run-4"]);
}

#[test]
fn api_36_new_pods_keep_away_from_the_nodes_of_the_stable_version() {
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {}});
    let mut cluster =
        settled(&json!({"antiAffinity": required, "steps": [{"setWeight": 50}, {"pause": {}}]}));
    assert_eq!(cluster.set("web:1").template.affinity(), None);
    cluster.set_image("web:2").settle();
    let stable = cluster.hash("web:1");
    assert_eq!(
        cluster.set("web:2").template.affinity(),
        Some(
            &json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                "labelSelector": {"matchExpressions": [
                    {"key": label::POD_HASH, "operator": "In", "values": [stable]},
                ]},
                "namespaces": ["default"],
                "topologyKey": "kubernetes.io/hostname",
            }]}})
        ),
    );
    assert_eq!(cluster.rollout.spec.template.affinity(), None);
    assert_eq!(
        cluster.status().current_pod_hash.as_str(),
        cluster.observe().prepared.hash.as_str()
    );
    cluster.resume().settle();
    assert!(
        cluster.set("web:2").template.affinity().is_some(),
        "it stays until the ReplicaSet is next written"
    );
    cluster
        .patch(&json!({"metadata": {"annotations": {"team": "blue"}}}))
        .settle();
    assert_eq!(cluster.set("web:2").template.affinity(), None);
    assert_eq!(cluster.sets.len(), 2);
}

#[test]
fn api_35_pods_carry_the_metadata_of_their_role_without_being_restarted() {
    let mut cluster = settled(&json!({
        "canaryMetadata": {"labels": {"role": "canary", "only": "canary"}},
        "stableMetadata": {"labels": {"role": "stable"}, "annotations": {"since": "1"}},
        "steps": [{"setWeight": 50}, {"pause": {}}],
    }));
    let roles = |cluster: &Cluster, image: &str| {
        let uid = cluster.set(image).seen.target.uid.clone();
        let pods = cluster
            .pods
            .iter()
            .filter(|pod| pod.controller.as_ref() == Some(&uid));
        pods.map(|pod| {
            (
                pod.labels.get("role").cloned().unwrap_or_default(),
                pod.labels.contains_key("only"),
            )
        })
        .collect::<Vec<_>>()
    };
    let (canary, stable) = (("canary".to_owned(), true), ("stable".to_owned(), false));
    assert_eq!(roles(&cluster, "web:1"), vec![stable.clone(); 3]);
    cluster.set_image("web:2").settle();
    assert!(roles(&cluster, "web:1").iter().all(|role| *role == stable));
    assert!(!roles(&cluster, "web:2").is_empty());
    assert!(roles(&cluster, "web:2").iter().all(|role| *role == canary));
    let kept: Vec<_> = cluster
        .pods
        .iter()
        .map(|pod| pod.target.uid.clone())
        .collect();
    cluster.resume().settle();
    assert_eq!(roles(&cluster, "web:2"), vec![stable.clone(); 3]);
    assert!(
        cluster
            .pods
            .iter()
            .filter(|pod| kept.contains(&pod.target.uid))
            .count()
            > 0
    );
    assert_eq!(cluster.sets.len(), 2);

    // With the blocks gone nothing of them stays.
    cluster
        .patch(&json!({"spec": {"strategy": {"canary": {"canaryMetadata": null, "stableMetadata": null}}}}))
        .settle();
    assert!(
        roles(&cluster, "web:2")
            .iter()
            .all(|(role, only)| role.is_empty() && !only)
    );
    assert!(
        cluster
            .note("web:2", annotation::EPHEMERAL_METADATA)
            .is_none()
    );
    assert_eq!(cluster.sets.len(), 2);
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn a_users_own_label_comes_back_when_a_role_no_longer_covers_it() {
    let mut cluster = canary(
        2,
        &json!({"canaryMetadata": {"labels": {"tier": "new"}}, "steps": [{"setWeight": 50}, {"pause": {}}]}),
    );
    cluster
        .patch(&json!({"spec": {"template": {"metadata": {"labels": {"tier": "own"}}}}}))
        .settle();
    cluster.set_image("web:2").settle();
    let tier = |cluster: &Cluster| {
        cluster
            .set("web:2")
            .template
            .label("tier")
            .map(str::to_owned)
    };
    assert_eq!(tier(&cluster).as_deref(), Some("new"));
    cluster.resume().settle();
    assert_eq!(tier(&cluster).as_deref(), Some("own"));
    assert_eq!(cluster.sets.len(), 2);
}

#[test]
fn min_ready_seconds_are_applied_in_place() {
    let mut cluster = settled(&json!({}));
    cluster
        .patch(&json!({"spec": {"minReadySeconds": 5}}))
        .settle();
    assert_eq!(cluster.set("web:1").seen.min_ready_seconds, 5);
    assert_eq!(cluster.revision("web:1"), "1");
}

#[test]
fn api_32_a_rollback_within_the_window_skips_steps_and_analysis() {
    let strategy = json!({
        "analysis": {"templates": [{"templateName": "smoke"}]},
        "steps": [{"setWeight": 50}, {"setWeight": 80}],
    });
    let mut cluster = canary(2, &strategy);
    cluster.add_template("smoke");
    cluster
        .patch(&json!({"spec": {"rollbackWindow": {"revisions": 2}}}))
        .settle();
    for number in 2..=5 {
        cluster.run_for(10);
        cluster.set_image(&format!("web:{number}")).settle();
    }
    cluster.run_for(10);
    let runs = cluster.runs.len();
    cluster.forget();
    cluster.set_image("web:3").settle();
    assert!(cluster.told_events("RolloutCompleted")[0].ends_with("Rollback within window"));
    assert_eq!(cluster.runs.len(), runs);
    assert!(cluster.told_events("RolloutStepCompleted").is_empty());
    cluster.set_image("web:5").settle();
    cluster.forget();
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.told_events("RolloutStepCompleted").len(), 2);
    assert!(cluster.told_events("RolloutCompleted")[0].ends_with("Completed all 2 canary steps"));
}

#[test]
fn a_service_is_let_go_when_no_rollout_names_it_any_more() {
    use crossfade_engine::action::Action;
    use crossfade_engine::rollout::release;
    let mut cluster = crate::cluster::routed(1, &json!({}));
    cluster.settle();
    let service = cluster.services["web-stable"].clone();
    assert_eq!(release(&service, [&cluster.rollout]), None);
    let target = service.target.clone();
    assert_eq!(
        release(&service, []),
        Some(Action::ReleaseService { target })
    );
    cluster.patch(&json!({"spec": {"strategy": {"canary": {"stableService": "other"}}}}));
    assert!(release(&service, [&cluster.rollout]).is_some());
}

#[test]
fn a_revision_that_could_not_be_raised_at_once_is_not_given_twice() {
    let mut cluster = settled(&json!({}));
    cluster.patch(&json!({"spec": {"revisionHistoryLimit": 0}}));
    cluster.broken.insert("web:2".to_owned());
    cluster.set_image("web:2").settle().abort().settle();
    assert_eq!(cluster.size("web:2"), 0);
    cluster.failing.push((
        "rollout.argoproj.io/revision\": Some(\"3\")".to_owned(),
        Failure {
            kind: FailureKind::Conflict,
            message: "the object has been modified".to_owned(),
        },
    ));
    cluster.set_image("web:1").settle_failing();
    cluster.failing.clear();
    cluster.settle();
    assert_eq!(cluster.revision("web:1"), "3");
}
