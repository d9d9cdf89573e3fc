//! A blue-green release: two sets of pods and one switch.

use crossfade_api::analysis_run::AnalysisPhase;
use serde_json::{Value, json};

use crate::cluster::{Cluster, rollout};

fn bluegreen(replicas: i32, extra: &Value) -> Cluster {
    let mut strategy = json!({"activeService": "active", "previewService": "preview"});
    crossfade_api::merge_patch::apply(&mut strategy, extra);
    let mut cluster = Cluster::new(rollout(
        &json!({"replicas": replicas, "strategy": {"blueGreen": strategy}}),
    ));
    cluster.add_template("smoke");
    cluster
}

fn settled(replicas: i32, extra: &Value) -> Cluster {
    let mut cluster = bluegreen(replicas, extra);
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    cluster.forget();
    cluster
}

fn sizes(cluster: &Cluster) -> (i32, i32) {
    (cluster.size("web:2"), cluster.size("web:1"))
}

fn analysis() -> Value {
    json!({"templates": [{"templateName": "smoke"}]})
}

/// Name of the run of revision 2 with this ending.
fn run(cluster: &Cluster, ending: &str) -> String {
    format!("web-{}-2-{ending}", cluster.hash("web:2"))
}

#[test]
fn the_deadline_of_the_version_before_does_not_take_back_the_way_back() {
    let mut cluster = settled(
        2,
        &json!({"previewService": null, "scaleDownDelaySeconds": 3600}),
    );
    cluster
        .patch(&json!({"spec": {"progressDeadlineSeconds": 30, "progressDeadlineAbort": true}}))
        .settle();
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.status().stable_rs.as_str(), cluster.hash("web:2"));
    cluster.run_for(60).forget();
    cluster.set_image("web:1").settle();
    assert!(cluster.told_events("RolloutAborted").is_empty());
    assert_eq!(cluster.status().stable_rs.as_str(), cluster.hash("web:1"));
    assert_eq!(cluster.selected("active"), "web:1");
}

#[test]
fn an_active_service_made_anew_gets_its_version_back_and_promotes_nothing() {
    let mut cluster = settled(2, &json!({"autoPromotionEnabled": false}));
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.phase(), "Paused: BlueGreenPause");
    cluster.add_service("active");
    assert_eq!(cluster.selected("active"), "");
    cluster.abort().settle();
    assert_eq!(cluster.status().stable_rs.as_str(), cluster.hash("web:1"));
    assert_eq!(cluster.selected("active"), "web:1");
    assert!(cluster.status().abort);
}

#[test]
fn the_first_version_is_promoted_before_its_pods_are_ready() {
    let mut cluster = bluegreen(2, &json!({}));
    cluster.pods_become_ready = false;
    cluster.settle();
    assert_eq!(cluster.status().stable_rs.as_str(), cluster.hash("web:1"));
    assert_eq!(cluster.selected("preview"), "web:1");
    assert_eq!(cluster.selected("active"), "");
    cluster.pods_become_ready = true;
    cluster.settle();
    assert_eq!(cluster.selected("active"), "web:1");
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(
        cluster.take_reasons(),
        [
            "RolloutUpdated",
            "NewReplicaSetCreated",
            "SwitchService",
            "ScalingReplicaSet",
            "RolloutCompleted",
            "SwitchService",
        ],
    );
    let hash = cluster.hash("web:1");
    assert_eq!(
        cluster.status().selector,
        format!("app=web,rollouts-pod-template-hash={hash}")
    );
}

#[test]
fn an_update_without_a_pause_switches_when_all_pods_are_there() {
    let mut cluster = settled(3, &json!({}));
    cluster.pods_become_ready = false;
    cluster.set_image("web:2").settle();
    assert_eq!(
        (
            cluster.selected("preview").as_str(),
            cluster.selected("active").as_str()
        ),
        ("web:2", "web:1")
    );
    cluster.make_available("web:2", 2).settle();
    assert_eq!(cluster.selected("active"), "web:1");
    assert!(
        cluster.waits_for("1 of 3 new pods to become available"),
        "{:?}",
        cluster.waits
    );
    cluster.make_available("web:2", 3).settle();
    assert_eq!(cluster.selected("active"), "web:2");
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(sizes(&cluster), (3, 3));
    assert!(cluster.told_events("RolloutCompleted")[0].ends_with("Completed blue-green update"));
    cluster.run_for(31);
    assert_eq!(sizes(&cluster), (3, 0));
}

#[test]
fn behaviour_29_seconds_do_not_promote_where_a_person_is_asked_for() {
    let mut cluster = settled(
        2,
        &json!({"autoPromotionEnabled": false, "autoPromotionSeconds": 10}),
    );
    cluster.set_image("web:2").run_for(60);
    assert_eq!(cluster.phase(), "Paused: BlueGreenPause");
    assert_eq!(cluster.selected("active"), "web:1");
    assert!(cluster.waits_for("a person to promote the preview"));
    cluster.resume().settle();
    assert_eq!(cluster.selected("active"), "web:2");
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn seconds_promote_by_themselves_and_a_person_can_be_quicker() {
    let mut cluster = settled(2, &json!({"autoPromotionSeconds": 10}));
    cluster.set_image("web:2").run_for(9);
    assert_eq!(cluster.phase(), "Paused: BlueGreenPause");
    cluster.run_for(2);
    assert_eq!(cluster.selected("active"), "web:2");
    assert_eq!(cluster.told_events("RolloutResumed").len(), 1);
    cluster.run_for(60);
    cluster.set_image("web:3").settle();
    cluster.resume().settle();
    assert_eq!(cluster.selected("active"), "web:3");
}

#[test]
fn a_promotion_is_not_forgotten_when_a_pod_is_lost_just_then() {
    let mut cluster = settled(2, &json!({"autoPromotionEnabled": false}));
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.phase(), "Paused: BlueGreenPause");
    cluster.pods_become_ready = false;
    cluster.make_available("web:2", 1).resume().settle();
    assert_eq!(cluster.selected("active"), "web:1");
    cluster.make_available("web:2", 2).settle();
    assert_eq!(cluster.selected("active"), "web:2");
    assert!(!cluster.status().controller_pause);
}

#[test]
fn behaviour_30_a_small_preview_is_analysed_paused_and_scaled_up_before_the_switch() {
    let mut cluster = settled(
        4,
        &json!({"previewReplicaCount": 1, "autoPromotionEnabled": false, "prePromotionAnalysis": analysis()}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(sizes(&cluster), (1, 4));
    let pre = run(&cluster, "pre");
    assert_eq!(cluster.run_names(), [&pre]);
    assert!(
        cluster.status().pause_conditions.is_empty(),
        "no pause before the analysis has passed"
    );
    cluster
        .end_run(&pre, AnalysisPhase::Successful, "")
        .settle();
    assert_eq!(cluster.phase(), "Paused: BlueGreenPause");
    assert_eq!(sizes(&cluster), (1, 4));
    cluster.pods_become_ready = false;
    cluster.resume().settle();
    assert_eq!(sizes(&cluster), (4, 4));
    assert!(cluster.status().blue_green.scale_up_preview_check_point);
    assert_eq!(cluster.selected("active"), "web:1");
    cluster.pods_become_ready = true;
    cluster.settle();
    assert_eq!(cluster.selected("active"), "web:2");
    assert_eq!(cluster.phase(), "Healthy");
    assert!(!cluster.status().blue_green.scale_up_preview_check_point);
    assert_eq!(cluster.run_names(), [&pre], "the run stays to be looked at");
    assert_eq!(
        cluster
            .status()
            .blue_green
            .pre_promotion_analysis_run_status
            .as_ref()
            .map(|slot| slot.name.as_str()),
        Some(pre.as_str()),
    );
}

#[test]
fn a_check_point_does_not_outlive_its_version() {
    let mut cluster = settled(
        4,
        &json!({"previewReplicaCount": 1, "autoPromotionEnabled": false}),
    );
    cluster.set_image("web:2").settle();
    cluster.pods_become_ready = false;
    cluster.resume().settle();
    assert!(cluster.status().blue_green.scale_up_preview_check_point);
    cluster.pods_become_ready = true;
    cluster.set_image("web:3").settle();
    assert!(!cluster.status().blue_green.scale_up_preview_check_point);
    assert_eq!(cluster.phase(), "Paused: BlueGreenPause");
    assert_eq!(cluster.size("web:3"), 1);
}

#[test]
fn behaviour_31_a_failed_analysis_after_the_switch_gives_traffic_back() {
    let mut cluster = settled(2, &json!({"postPromotionAnalysis": analysis()}));
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.selected("active"), "web:2");
    assert_eq!(
        cluster.phase(),
        "Progressing: waiting for analysis to complete"
    );
    assert_eq!(sizes(&cluster), (2, 2));
    // The new pods crash, so the new version is no longer complete.
    cluster.pods_become_ready = false;
    cluster.make_available("web:2", 0).settle();
    let post = run(&cluster, "post");
    cluster
        .end_run(&post, AnalysisPhase::Failed, "too many errors")
        .settle();
    assert_eq!(cluster.selected("active"), "web:1");
    assert_eq!(
        cluster.phase(),
        "Degraded: RolloutAborted: Rollout aborted update to revision 2: \
         Blue/green post-promotion analysis phase error/failed: too many errors",
    );
    assert_eq!(sizes(&cluster), (2, 2));
    assert_eq!(
        cluster.selected("preview"),
        "web:2",
        "so that it can be looked at"
    );
    assert!(cluster.performed.iter().all(|action| {
        let text = format!("{action:?}");
        !(text.contains("UpdateReplicaSet") && text.contains(&cluster.hash("web:1")))
    }));
    cluster.run_for(31);
    assert_eq!(sizes(&cluster), (0, 2));
}

#[test]
fn a_failed_version_that_is_still_active_keeps_its_pods() {
    let mut cluster = settled(2, &json!({"postPromotionAnalysis": analysis()}));
    cluster.set_image("web:2").settle();
    cluster.pods_become_ready = false;
    cluster.make_available("web:1", 0).settle();
    cluster.abort().run_for(600);
    assert_eq!(
        cluster.selected("active"),
        "web:2",
        "stable has no pod to take over with"
    );
    assert_eq!(sizes(&cluster), (2, 2));
    assert!(cluster.waits_for("stable pods to become available"));
    cluster.make_available("web:1", 2).settle();
    assert_eq!(cluster.selected("active"), "web:1");
}

#[test]
fn behaviour_32_going_back_within_the_delay_needs_no_pause_and_no_analysis() {
    let mut cluster = settled(
        2,
        &json!({"autoPromotionEnabled": false, "prePromotionAnalysis": analysis()}),
    );
    cluster.run_for(5);
    cluster.set_image("web:2").settle();
    let pre = run(&cluster, "pre");
    cluster.run_for(5);
    cluster
        .end_run(&pre, AnalysisPhase::Successful, "")
        .settle();
    cluster.resume().settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert!(cluster.deadline("web:1").is_some());
    cluster.forget();
    // Not complete at first: the way back is remembered until it is.
    cluster.pods_become_ready = false;
    cluster.make_available("web:1", 1);
    cluster.set_image("web:1").settle();
    assert_eq!(cluster.selected("active"), "web:2");
    cluster.make_available("web:1", 2).settle();
    assert_eq!(cluster.selected("active"), "web:1");
    assert_eq!(cluster.deadline("web:1"), None);
    assert_eq!(cluster.run_names().len(), 1);
    assert!(cluster.told_events("RolloutPaused").is_empty());
    assert!(cluster.told_events("RolloutCompleted")[0].ends_with("Fast rollback"));
}

#[test]
fn an_abort_before_the_switch_keeps_the_preview_for_a_while_and_a_retry_analyses_anew() {
    let mut cluster = settled(2, &json!({"prePromotionAnalysis": analysis()}));
    cluster.set_image("web:2").settle();
    let pre = run(&cluster, "pre");
    cluster.end_run(&pre, AnalysisPhase::Error, "").settle();
    assert_eq!(
        cluster.phase(),
        "Degraded: RolloutAborted: Rollout aborted update to revision 2: \
         Blue/green pre-promotion analysis phase error/failed",
    );
    assert_eq!(cluster.selected("active"), "web:1");
    assert_eq!(sizes(&cluster), (2, 2));
    cluster.run_for(31);
    assert_eq!(sizes(&cluster), (0, 2));
    assert_eq!(cluster.selected("preview"), "web:2");
    cluster.pods_become_ready = false;
    cluster.retry().settle();
    assert_eq!(sizes(&cluster), (2, 2));
    assert_eq!(
        cluster.run_names(),
        [&pre],
        "no analysis before the pods are there again"
    );
    cluster.pods_become_ready = true;
    cluster.settle();
    assert_eq!(cluster.run_names().len(), 2);
    let again = format!("{pre}.1");
    cluster
        .end_run(&again, AnalysisPhase::Successful, "")
        .settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(cluster.selected("active"), "web:2");
}

#[test]
fn full_promotion_skips_preview_size_pause_and_analysis() {
    let mut cluster = settled(
        4,
        &json!({"previewReplicaCount": 1, "autoPromotionEnabled": false, "prePromotionAnalysis": analysis()}),
    );
    cluster.set_image("web:2").settle();
    let pre = run(&cluster, "pre");
    cluster.promote_full().settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(cluster.selected("active"), "web:2");
    assert_eq!(cluster.size("web:2"), 4);
    assert!(cluster.run(&pre).spec.terminate);
    assert!(cluster.told_events("RolloutCompleted")[0].ends_with("Full promotion requested"));
}

#[test]
fn a_persons_pause_keeps_services_but_not_sizes() {
    let mut cluster = settled(2, &json!({}));
    cluster.patch(&json!({"spec": {"paused": true}})).settle();
    cluster.set_image("web:2").settle();
    assert_eq!(
        (
            cluster.selected("preview").as_str(),
            cluster.selected("active").as_str()
        ),
        ("web:1", "web:1")
    );
    assert_eq!(sizes(&cluster), (2, 2));
    cluster.patch(&json!({"spec": {"replicas": 3}})).settle();
    assert_eq!(sizes(&cluster), (3, 3));
    cluster.patch(&json!({"spec": {"paused": false}})).settle();
    assert_eq!(cluster.selected("active"), "web:2");
}

#[test]
fn an_undo_in_mid_flight_leaves_the_active_version_alone() {
    let mut cluster = settled(2, &json!({"autoPromotionEnabled": false}));
    cluster.set_image("web:2").settle();
    cluster.forget();
    cluster.set_image("web:1").settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(
        (
            cluster.selected("preview").as_str(),
            cluster.selected("active").as_str()
        ),
        ("web:1", "web:1")
    );
    assert!(cluster.deadline("web:2").is_some());
    cluster.run_for(31);
    assert_eq!(sizes(&cluster), (0, 2));
}

#[test]
fn analysis_32_a_failing_run_before_the_switch_keeps_the_active_service_where_it_is() {
    let mut cluster = settled(2, &json!({"prePromotionAnalysis": analysis()}));
    cluster.set_image("web:2").settle();
    let name = run(&cluster, "pre");
    cluster.end_run(&name, AnalysisPhase::Running, "").settle();
    assert_eq!(cluster.selected("active"), "web:1");
    let message = "Metric \"errors\" assessed Failed due to failed (1) > failureLimit (0)";
    cluster
        .end_run(&name, AnalysisPhase::Failed, message)
        .settle();
    assert!(cluster.status().abort);
    assert_eq!(
        cluster.phase(),
        format!(
            "Degraded: RolloutAborted: Rollout aborted update to revision 2: \
             Blue/green pre-promotion analysis phase error/failed: {message}"
        )
    );
    cluster.run_for(3600);
    assert_eq!(cluster.selected("active"), "web:1");
    assert_eq!(cluster.status().stable_rs.as_str(), cluster.hash("web:1"));
    let switched = cluster.told_events("SwitchService");
    assert!(
        !switched
            .iter()
            .any(|text| text.contains("service 'active'")),
        "{switched:?}"
    );
}

#[test]
fn a_full_promotion_after_a_failed_analysis_lets_the_old_version_go_in_its_time() {
    let mut cluster = settled(2, &json!({"postPromotionAnalysis": analysis()}));
    cluster.set_image("web:2").settle();
    let post = run(&cluster, "post");
    cluster
        .end_run(&post, AnalysisPhase::Failed, "too slow")
        .settle();
    assert_eq!(cluster.selected("active"), "web:1");
    cluster.forget().promote_full().settle();
    assert_eq!(cluster.selected("active"), "web:2");
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(
        cluster.told_events("SwitchService").len(),
        1,
        "the switch back is not repeated on the way"
    );
    assert_eq!(sizes(&cluster), (2, 2));
    cluster.run_for(31);
    assert_eq!(sizes(&cluster), (2, 0));
}

#[test]
fn a_version_that_is_tried_again_is_previewed_and_judged_anew() {
    let mut cluster = settled(
        2,
        &json!({"postPromotionAnalysis": analysis(), "previewReplicaCount": 1}),
    );
    cluster.set_image("web:2").settle();
    let post = run(&cluster, "post");
    cluster
        .end_run(&post, AnalysisPhase::Failed, "too slow")
        .settle();
    assert_eq!(cluster.selected("active"), "web:1");
    assert!(!cluster.status().blue_green.scale_up_preview_check_point);
    cluster.run_for(31);
    assert_eq!(sizes(&cluster), (0, 2));
    cluster.retry().settle();
    assert_eq!(cluster.selected("active"), "web:2");
    assert_eq!(
        cluster.phase(),
        "Progressing: waiting for analysis to complete",
        "the run of the try before does not take it back"
    );
    let again = format!("{post}.1");
    cluster
        .end_run(&again, AnalysisPhase::Successful, "")
        .settle();
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn a_full_promotion_that_was_asked_for_one_version_does_not_promote_the_next() {
    let mut cluster = settled(2, &json!({"postPromotionAnalysis": analysis()}));
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.selected("active"), "web:2");
    cluster.broken.insert("web:3".to_owned());
    cluster.set_image("web:3").settle();
    cluster.promote_full().set_image("web:2").settle();
    assert_eq!(cluster.selected("active"), "web:2");
    assert!(!cluster.status().promote_full);
    assert_eq!(
        cluster.status().stable_rs.as_str(),
        cluster.hash("web:1"),
        "it was not judged after its switch"
    );
}

#[test]
fn the_version_that_serves_is_not_forgotten_although_no_pods_are_wanted() {
    let mut cluster = settled(
        0,
        &json!({"autoPromotionEnabled": false, "postPromotionAnalysis": analysis()}),
    );
    cluster.patch(&json!({"spec": {"revisionHistoryLimit": 0}}));
    cluster.set_image("web:2").settle().resume().settle();
    assert_eq!(cluster.selected("active"), "web:2");
    cluster.set_image("web:3").settle();
    assert_eq!(cluster.phase(), "Paused: BlueGreenPause");
    assert_eq!(cluster.selected("active"), "web:2");
    assert_eq!(cluster.set("web:2").seen.replicas, 0);
}
