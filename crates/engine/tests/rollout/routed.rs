//! A canary behind a router: weight and pods are separate.

use crossfade_api::analysis_run::AnalysisPhase;
use serde_json::{Value, json};

use crate::cluster::{Cluster, failure, routed};
use crossfade_engine::action::{Action, FailureKind};

fn settled(replicas: i32, strategy: &Value) -> Cluster {
    let mut cluster = routed(replicas, strategy);
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    cluster.forget();
    cluster
}

/// Canary pods, stable pods, recorded canary weight.
fn state(cluster: &Cluster) -> (i32, i32, Option<i32>) {
    (
        cluster.size("web:2"),
        cluster.size("web:1"),
        cluster.weight(),
    )
}

/// Gives a release an analysis in the background.
fn analysed(cluster: &mut Cluster) {
    let analysis = json!({"templates": [{"templateName": "smoke"}]});
    cluster.add_template("smoke");
    cluster
        .patch(&json!({"spec": {"strategy": {"canary": {"analysis": analysis}}}}))
        .settle();
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn without_replicas_there_is_no_traffic_that_a_step_waits_for() {
    let mut cluster = settled(0, &json!({"steps": [{"setWeight": 20}, {"setWeight": 50}]}));
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.status().stable_rs.as_str(), cluster.hash("web:2"));
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn behaviour_14_weight_follows_available_canary_pods() {
    let mut cluster = settled(10, &json!({"steps": [{"setWeight": 20}, {"pause": {}}]}));
    assert_eq!(cluster.weight(), Some(0));
    cluster.pods_become_ready = false;
    cluster.set_image("web:2").settle();
    assert_eq!(state(&cluster), (2, 10, Some(0)));
    assert!(
        cluster.waits_for("2 of 2 canary pods to become available"),
        "{:?}",
        cluster.waits
    );
    cluster.make_available("web:2", 1).settle();
    assert_eq!(state(&cluster), (2, 10, Some(0)));
    assert!(cluster.waits_for("1 of 2 canary pods to become available"));
    cluster.make_available("web:2", 2).settle();
    assert_eq!(state(&cluster), (2, 10, Some(20)));
    assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
    assert_eq!(cluster.selected("web-canary"), "web:2");
    assert_eq!(
        cluster.told_events("TrafficWeightUpdated"),
        [
            "Traffic weight updated ",
            "Traffic weight updated from 0 to 20"
        ],
    );
    let split = cluster.routers[0].1.clone().expect("routed");
    assert_eq!((split.canary.weight.0, split.stable.weight.0), (20, 80));
    assert_eq!(split.canary.hash.as_str(), cluster.hash("web:2"));
    assert_eq!(split.stable.service, "web-stable");
}

#[test]
fn behaviour_15_a_dynamic_stable_version_shrinks_after_its_weight() {
    let steps = json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}, {"setWeight": 80}, {"pause": {}}]);
    let mut cluster = settled(10, &json!({"dynamicStableScale": true, "steps": steps}));
    cluster.set_image("web:2").settle();
    assert_eq!(state(&cluster), (2, 8, Some(20)));
    cluster.resume().settle();
    assert_eq!(state(&cluster), (5, 5, Some(50)));
    cluster.resume().settle();
    assert_eq!(state(&cluster), (8, 2, Some(80)));
    // Each time the weight was set first.
    let order = cluster.performed.iter().filter_map(|action| match action {
        Action::Route { split, .. } => Some(("weight", split.canary.weight.0)),
        Action::UpdateReplicaSet { target, change }
            if *target.name == cluster.set("web:1").seen.target.name =>
        {
            Some(("stable", change.replicas?))
        }
        _ => None,
    });
    assert_eq!(
        order.collect::<Vec<_>>(),
        [
            ("weight", 0),
            ("weight", 20),
            ("stable", 8),
            ("weight", 50),
            ("stable", 5),
            ("weight", 80),
            ("stable", 2)
        ],
    );
    cluster.resume().settle();
    assert_eq!(state(&cluster), (10, 0, Some(0)));
    assert_eq!(cluster.selected("web-stable"), "web:2");
    assert_eq!(cluster.phase(), "Healthy");
}

/// A dynamic canary in the middle of its last pause: 8 canary pods, 2 stable ones, weight 80.
fn at_80(extra: &Value) -> Cluster {
    let steps = json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}, {"setWeight": 80}, {"pause": {}}]);
    let mut strategy = json!({"dynamicStableScale": true, "steps": steps});
    crossfade_api::merge_patch::apply(&mut strategy, extra);
    let mut cluster = settled(10, &strategy);
    cluster.set_image("web:2").settle();
    cluster.resume().settle();
    cluster.resume().settle();
    assert_eq!(state(&cluster), (8, 2, Some(80)));
    cluster.pods_become_ready = false;
    cluster.forget();
    cluster
}

#[test]
fn behaviour_16_a_dynamic_abort_moves_traffic_as_stable_pods_return() {
    let mut cluster = at_80(&json!({}));
    cluster.abort().settle();
    assert_eq!(state(&cluster), (8, 5, Some(80)));
    let canary_still = |cluster: &Cluster| cluster.selected("web-canary") == "web:2";
    for (available, expected) in [
        (5, (5, 8, Some(50))),
        (8, (2, 10, Some(20))),
        (9, (1, 10, Some(10))),
    ] {
        cluster.make_available("web:1", available).settle();
        assert_eq!(state(&cluster), expected, "{available} stable pods");
        assert!(canary_still(&cluster));
    }
    cluster.make_available("web:1", 10).settle();
    assert_eq!(state(&cluster), (0, 10, Some(0)));
    assert_eq!(cluster.selected("web-canary"), "web:1");
}

#[test]
fn a_dynamic_abort_with_a_delay_keeps_the_canary_until_traffic_is_gone() {
    let mut cluster = at_80(&json!({"abortScaleDownDelaySeconds": 30}));
    cluster.abort().settle();
    cluster.make_available("web:1", 7).settle();
    assert_eq!((cluster.size("web:2"), cluster.weight()), (8, Some(80)));
    for (available, weight) in [(8, 20), (9, 10), (10, 0)] {
        cluster.make_available("web:1", available).settle();
        assert_eq!((cluster.size("web:2"), cluster.weight()), (8, Some(weight)));
    }
    assert!(cluster.deadline("web:2").is_some());
    cluster.run_for(31);
    assert_eq!(state(&cluster), (0, 10, Some(0)));
}

#[test]
fn behaviour_17_going_back_keeps_the_weight_until_stable_is_whole() {
    let mut cluster = at_80(&json!({}));
    cluster.set_image("web:1").settle();
    assert_eq!(state(&cluster), (8, 10, Some(80)));
    assert_eq!(cluster.selected("web-canary"), "web:2");
    cluster.make_available("web:1", 9).settle();
    assert_eq!(state(&cluster), (8, 10, Some(80)));
    cluster.make_available("web:1", 10).settle();
    assert_eq!(state(&cluster), (0, 10, Some(0)));
    assert_eq!(cluster.selected("web-canary"), "web:1");
    let weight_gone = cluster.performed.iter().position(
        |action| matches!(action, Action::Route { split, .. } if split.canary.weight.0 == 0),
    );
    let pods_gone = cluster.performed.iter().position(|action| {
        matches!(action, Action::UpdateReplicaSet { change, .. } if change.replicas == Some(0))
    });
    assert!(weight_gone.expect("routed") < pods_gone.expect("scaled"));
}

#[test]
fn behaviour_18_the_canary_scale_is_fixed_until_it_follows_traffic_again() {
    let steps = json!([
        {"setCanaryScale": {"replicas": 3}},
        {"setWeight": 10},
        {"pause": {}},
        {"setCanaryScale": {"matchTrafficWeight": true}},
        {"pause": {}},
    ]);
    let mut cluster = settled(10, &json!({"steps": steps}));
    cluster.set_image("web:2").settle();
    assert_eq!(state(&cluster), (3, 10, Some(10)));
    cluster.resume().settle();
    assert_eq!(state(&cluster), (1, 10, Some(10)));
    assert_eq!(cluster.index(), 4);
}

#[test]
fn behaviour_19_a_version_has_no_fewer_pods_than_asked_for() {
    let strategy = json!({"minPodsPerReplicaSet": 2, "steps": [{"setWeight": 5}, {"pause": {}}]});
    let mut cluster = settled(10, &strategy);
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.size("web:2"), 2);
    let mut cluster = settled(1, &strategy);
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.size("web:2"), 1);
}

#[test]
fn behaviour_20_an_unconfirmed_weight_holds_step_promotion_and_scale_down() {
    let mut cluster = settled(10, &json!({"steps": [{"setWeight": 20}]}));
    cluster.confirms = Some(false);
    cluster.set_image("web:2").settle();
    assert_eq!((cluster.index(), cluster.weight()), (0, Some(20)));
    let verified = |cluster: &Cluster| {
        cluster
            .status()
            .canary
            .weights
            .as_ref()
            .and_then(|weights| weights.verified)
    };
    assert_eq!(verified(&cluster), Some(false));
    assert!(cluster.waits_for("the router to confirm weight 20"));
    assert_eq!(cluster.next_look(), Some(10));
    let before = cluster.asked;
    cluster.run_for(30);
    assert!(cluster.asked >= before + 3);
    assert_eq!((cluster.index(), cluster.next_look()), (0, Some(10)));

    cluster.confirms = Some(true);
    cluster.run_for(10);
    assert_eq!(cluster.phase(), "Healthy");

    let mut cluster = settled(10, &json!({"steps": [{"setWeight": 20}, {"pause": {}}]}));
    cluster.confirms = Some(true);
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.index(), 1);
    cluster.confirms = Some(false);
    cluster.resume().settle();
    assert_eq!((cluster.index(), cluster.weight()), (2, Some(100)));
    assert_ne!(cluster.status().stable_rs.as_str(), cluster.hash("web:2"));
    assert_eq!((cluster.size("web:2"), cluster.size("web:1")), (10, 10));
    cluster.run_for(100);
    assert_eq!((cluster.size("web:2"), cluster.size("web:1")), (10, 10));
    cluster.confirms = Some(true);
    cluster.run_for(10);
    assert_eq!(cluster.status().stable_rs.as_str(), cluster.hash("web:2"));
}

#[test]
fn behaviour_21_after_a_promotion_service_then_weight_then_pods() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 50}]}));
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(cluster.selected("web-stable"), "web:2");
    assert_eq!(state(&cluster), (4, 4, Some(0)));
    let switched = cluster.performed.iter().rposition(|action| {
        matches!(action, Action::SwitchService { target, .. } if target.name == "web-stable")
    });
    let back_to_zero = cluster
        .performed
        .iter()
        .rposition(|action| matches!(action, Action::Route { .. }));
    assert!(switched < back_to_zero);
    let deadline = cluster.deadline("web:1").expect("a deadline");
    assert_eq!(
        deadline,
        crossfade_api::time::text(cluster.now + jiff::SignedDuration::from_secs(30))
    );
    cluster.run_for(29);
    assert_eq!(cluster.size("web:1"), 4);
    cluster.run_for(2);
    assert_eq!(cluster.size("web:1"), 0);
    assert_eq!(cluster.deadline("web:1"), None);
}

#[test]
fn behaviour_22_only_so_many_old_versions_wait_for_their_end() {
    let mut cluster = settled(
        2,
        &json!({"scaleDownDelayRevisionLimit": 1, "steps": [{"setWeight": 50}]}),
    );
    cluster.set_image("web:2").settle();
    assert!(cluster.deadline("web:1").is_some());
    cluster.set_image("web:3").settle();
    assert_eq!(cluster.size("web:1"), 0);
    assert_eq!(cluster.size("web:2"), 2);
    assert!(cluster.deadline("web:2").is_some());
}

#[test]
fn a_delay_of_zero_means_at_once() {
    let mut cluster = settled(
        2,
        &json!({"scaleDownDelaySeconds": 0, "steps": [{"setWeight": 50}]}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.size("web:1"), 0);
}

#[test]
fn an_abort_returns_traffic_at_once_and_keeps_the_canary_for_a_while() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.set_image("web:2").settle();
    assert_eq!(state(&cluster), (2, 4, Some(50)));
    cluster.forget();
    cluster.abort().settle();
    assert_eq!(state(&cluster), (2, 4, Some(0)));
    assert_eq!(cluster.selected("web-canary"), "web:1");
    assert_eq!(
        cluster.told_events("SwitchService").len(),
        1,
        "no switching to and fro"
    );
    cluster.run_for(29);
    assert_eq!(cluster.size("web:2"), 2);
    cluster.run_for(2);
    assert_eq!(cluster.size("web:2"), 0);
    assert!(!cluster.pass(), "nothing left to do");

    cluster.retry().settle();
    assert_eq!(state(&cluster), (2, 4, Some(50)));
    assert_eq!(cluster.deadline("web:2"), None);
}

#[test]
fn a_bad_analysis_takes_the_traffic_before_anything_else_is_written() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    analysed(&mut cluster);
    cluster.set_image("web:2").settle();
    assert_eq!(state(&cluster), (2, 4, Some(50)));
    let run = cluster.run_names()[0].to_owned();
    cluster.end_run(&run, AnalysisPhase::Failed, "too slow");
    cluster.pass();
    let (_, in_force) = &cluster.routers[0];
    let in_force = in_force.as_ref().map(|split| split.canary.weight.0);
    assert_eq!(in_force, Some(0));
    assert!(cluster.status().abort);
    assert_eq!(
        (cluster.weight(), cluster.selected("web-canary").as_str()),
        (Some(50), "web:2"),
        "all else follows the record"
    );
    cluster.settle();
    assert_eq!(state(&cluster), (2, 4, Some(0)));
    assert_eq!(cluster.selected("web-canary"), "web:1");
}

#[test]
fn an_abort_that_cannot_be_recorded_does_not_move_traffic_to_and_fro() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    analysed(&mut cluster);
    cluster.set_image("web:2").settle();
    let run = cluster.run_names()[0].to_owned();
    cluster.end_run(&run, AnalysisPhase::Failed, "too slow");
    cluster.forget();
    cluster.conflicts = 3;
    while cluster.conflicts > 0 {
        cluster.pass();
        assert!(!cluster.status().abort);
    }
    cluster.settle();
    let routed = cluster.performed.iter().filter_map(|action| match action {
        Action::Route { split, .. } => Some(split.canary.weight.0),
        _ => None,
    });
    assert!(routed.clone().count() > 0 && routed.max() == Some(0));
    assert_eq!(state(&cluster), (2, 4, Some(0)));
}

#[test]
fn an_abort_delay_of_zero_keeps_the_canary_for_good() {
    let mut cluster = settled(
        4,
        &json!({"abortScaleDownDelaySeconds": 0, "steps": [{"setWeight": 50}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    cluster.abort().run_for(3600);
    assert_eq!(state(&cluster), (2, 4, Some(0)));
}

#[test]
fn an_abort_delay_longer_than_the_resync_is_honoured() {
    let mut cluster = settled(
        4,
        &json!({"abortScaleDownDelaySeconds": 2000, "steps": [{"setWeight": 50}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    cluster.abort().run_for(1900);
    assert_eq!(cluster.size("web:2"), 2);
    cluster.run_for(200);
    assert_eq!(cluster.size("web:2"), 0);
}

#[test]
fn a_stable_version_short_of_pods_does_not_hold_back_its_own_fix() {
    let mut cluster = settled(10, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.pods_become_ready = false;
    cluster.make_available("web:1", 3);
    cluster.set_image("web:2").settle();
    cluster.make_available("web:2", 5).settle();
    assert_eq!(state(&cluster), (5, 10, Some(50)));
    assert_eq!(cluster.index(), 1);
}

#[test]
fn an_abort_takes_traffic_away_even_while_stable_lacks_pods() {
    let mut cluster = settled(10, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.set_image("web:2").settle();
    cluster.pods_become_ready = false;
    cluster.make_available("web:1", 9);
    cluster.abort().settle();
    assert_eq!(
        cluster.weight(),
        Some(0),
        "the canary's Service selects stable pods already"
    );
}

#[test]
fn behaviour_23_a_superseded_version_keeps_its_pods_while_traffic_names_it() {
    let mut cluster = settled(10, &json!({"steps": [{"setWeight": 30}, {"pause": {}}]}));
    analysed(&mut cluster);
    cluster.set_image("web:2").settle();
    assert_eq!(state(&cluster), (3, 10, Some(30)));
    let run = format!("web-{}-2", cluster.hash("web:2"));
    cluster.end_run(&run, AnalysisPhase::Running, "").settle();
    assert!(!cluster.run(&run).spec.terminate);
    cluster.pods_become_ready = false;
    cluster.make_available("web:1", 5);
    cluster.set_image("web:3").settle();
    assert_eq!(cluster.index(), 0);
    assert!(cluster.run(&run).spec.terminate, "its analysis ends");
    assert_eq!(
        cluster.size("web:2"),
        3,
        "stable cannot take all traffic yet"
    );
    assert_eq!(cluster.selected("web-canary"), "web:2");
    let weights = cluster.status().canary.weights.clone().expect("weights");
    assert_eq!(
        (weights.canary.weight, weights.canary.pod_template_hash.0),
        (30, cluster.hash("web:2"))
    );
    cluster.make_available("web:1", 10).settle();
    assert_eq!(cluster.weight(), Some(0));
    assert_eq!(cluster.size("web:2"), 3, "its Service still selects it");
    cluster.pods_become_ready = true;
    cluster.settle();
    assert_eq!(cluster.selected("web-canary"), "web:3");
    assert_eq!(cluster.weight(), Some(30));
    cluster.run_for(31);
    assert_eq!(cluster.size("web:2"), 0);
    assert_eq!(cluster.size("web:3"), 3);
}

#[test]
fn weight_leaves_an_earlier_version_before_its_service_does() {
    let mut cluster = at_80(&json!({}));
    cluster.pods_become_ready = true;
    cluster.set_image("web:3").settle();
    let former = cluster.hash("web:2");
    let at = |wanted: &dyn Fn(&Action) -> bool| cluster.performed.iter().position(wanted);
    let lowered = at(
        &|action| matches!(action, Action::Route { split, .. } if split.canary.weight.0 == 20 && split.canary.hash.0 == former),
    );
    let switched = at(
        &|action| matches!(action, Action::SwitchService { target, .. } if target.name == "web-canary"),
    );
    assert!(lowered.expect("routed") < switched.expect("switched"));
    assert_eq!(cluster.weight(), Some(20));
}

#[test]
fn header_and_mirror_routes_stay_until_a_later_step_or_an_abort() {
    let steps = json!([
        {"setCanaryScale": {"weight": 25}},
        {"setHeaderRoute": {"name": "beta", "match": [{"headerName": "beta", "headerValue": {"exact": "1"}}]}},
        {"setMirrorRoute": {"name": "shadow", "percentage": 50, "match": [{"path": {"prefix": "/"}}]}},
        {"pause": {}},
        {"setHeaderRoute": {"name": "beta"}},
        {"pause": {}},
    ]);
    let strategy = json!({
        "steps": steps,
        "trafficRouting": {
            "nginx": null,
            "istio": {"virtualService": {"name": "web"}},
            "managedRoutes": [{"name": "shadow"}, {"name": "beta"}],
        },
    });
    let mut cluster = settled(4, &strategy);
    cluster.set_image("web:2").settle();
    let routes = |cluster: &Cluster| {
        let split = cluster.routers[0].1.clone().expect("routed");
        let headers = split
            .header_routes
            .iter()
            .map(|route| route.name.clone())
            .collect::<Vec<_>>();
        let mirrors = split
            .mirror_routes
            .iter()
            .map(|route| format!("{} {}", route.name, route.percentage));
        (headers, mirrors.collect::<Vec<_>>(), split.managed)
    };
    let managed = vec!["shadow".to_owned(), "beta".to_owned()];
    assert_eq!(cluster.index(), 3);
    assert_eq!(
        routes(&cluster),
        (
            vec!["beta".to_owned()],
            vec!["shadow 50".to_owned()],
            managed.clone()
        )
    );

    // Without a pod there is nobody to send requests to; with one the routes are back.
    cluster.make_available("web:2", 0);
    cluster.pods_become_ready = false;
    cluster.settle();
    assert_eq!(routes(&cluster), (vec![], vec![], managed.clone()));
    cluster.make_available("web:2", 1).settle();
    assert_eq!(routes(&cluster).0, ["beta"]);

    cluster.resume().settle();
    assert_eq!(cluster.index(), 5);
    assert_eq!(
        routes(&cluster),
        (vec![], vec!["shadow 50".to_owned()], managed.clone())
    );
    cluster.abort().settle();
    assert_eq!(routes(&cluster), (vec![], vec![], managed));
}

#[test]
fn a_router_that_fails_blocks_steps_but_not_aborts() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.set_image("web:2");
    cluster.failing.push((
        "Route {".to_owned(),
        failure(FailureKind::Other, "the ingress is gone"),
    ));
    cluster.settle_failing();
    assert_eq!(cluster.index(), 0);
    assert_eq!(
        cluster.phase(),
        "Progressing: traffic routing: Nginx: the ingress is gone"
    );
    assert_eq!(
        cluster.failed.as_deref(),
        Some("traffic routing: Nginx: the ingress is gone")
    );
    assert_eq!(
        cluster.told_events("TrafficRoutingError").len(),
        1,
        "once, not in every pass"
    );
    cluster.abort().settle_failing();
    assert_eq!(
        cluster.phase(),
        "Degraded: RolloutAborted: Rollout aborted update to revision 2"
    );
    cluster.failing.clear();
    cluster.settle();
    assert_eq!(cluster.weight(), Some(0));
}

#[test]
fn a_router_that_is_not_ready_yet_is_waited_for_and_nobody_is_blamed() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.set_image("web:2");
    cluster.failing.push((
        "Route {".to_owned(),
        failure(FailureKind::NotYet, "the subset has no pods yet"),
    ));
    cluster.settle_failing();
    assert_eq!(cluster.index(), 0);
    assert_eq!(cluster.failed, None);
    assert!(cluster.waits_for("Nginx: the subset has no pods yet"));
    assert!(cluster.told_events("TrafficRoutingError").is_empty());
    cluster.failing.clear();
    cluster.settle();
    assert_eq!((cluster.index(), cluster.weight()), (1, Some(50)));
}

#[test]
fn services_of_a_ping_pong_canary_swap_roles_at_each_promotion() {
    let strategy = json!({
        "canaryService": null,
        "stableService": null,
        "pingPong": {"pingService": "ping", "pongService": "pong"},
        "trafficRouting": {"nginx": null, "istio": {"virtualService": {"name": "web"}}},
        "steps": [{"setWeight": 50}, {"pause": {}}],
    });
    let mut cluster = settled(2, &strategy);
    let role = |cluster: &Cluster| cluster.status().canary.stable_ping_pong.as_str();
    assert_eq!(role(&cluster), "ping");
    assert_eq!(cluster.selected("ping"), "web:1");
    cluster.set_image("web:2").settle();
    assert_eq!(
        (
            cluster.selected("ping").as_str(),
            cluster.selected("pong").as_str()
        ),
        ("web:1", "web:2")
    );
    let weights = cluster.status().canary.weights.clone().expect("weights");
    assert_eq!(
        (
            weights.canary.service_name.as_str(),
            weights.stable.service_name.as_str()
        ),
        ("pong", "ping")
    );
    cluster.resume().settle();
    assert_eq!(role(&cluster), "pong");
    cluster.run_for(60);
    assert_eq!(
        cluster.size("web:1"),
        0,
        "the canary's half of the pair keeps the old hash, but no traffic"
    );
}

#[test]
fn behaviour_28_a_rollback_within_the_window_skips_steps_and_waits_for_pods() {
    let mut cluster = routed(4, &json!({"steps": [{"setWeight": 25}, {"setWeight": 50}]}));
    cluster
        .patch(&json!({"spec": {"rollbackWindow": {"revisions": 3}}}))
        .settle();
    for image in ["web:2", "web:3", "web:4", "web:5"] {
        cluster.run_for(60);
        cluster.set_image(image).settle();
        assert_eq!(cluster.phase(), "Healthy");
    }
    cluster.run_for(60);
    analysed(&mut cluster);
    cluster.forget();
    cluster.pods_become_ready = false;
    cluster.set_image("web:3").settle();
    assert_eq!((cluster.size("web:3"), cluster.weight()), (4, Some(0)));
    cluster.make_available("web:3", 3).settle();
    assert_eq!(cluster.weight(), Some(0), "until all pods are there");
    cluster.make_available("web:3", 4).settle();
    assert!(cluster.told_events("RolloutCompleted")[0].ends_with("Rollback within window"));
    assert!(cluster.told_events("RolloutStepCompleted").is_empty());
    assert!(cluster.told_events("RolloutPaused").is_empty());
    assert!(cluster.runs.is_empty(), "no analysis runs on the way back");

    cluster.pods_become_ready = true;
    cluster.run_for(60);
    cluster.set_image("web:5").settle();
    cluster.run_for(60);
    cluster.forget();
    cluster.set_image("web:1").settle();
    assert_eq!(cluster.told_events("RolloutStepCompleted").len(), 2);
}

#[test]
fn a_weight_rises_only_a_while_after_routers_were_told_of_the_pods_where_that_is_asked_for() {
    let by_subset = json!({
        "trafficRouting": {"nginx": null, "istio": {
            "virtualService": {"name": "web"},
            "destinationRule": {"name": "web", "canarySubsetName": "canary", "stableSubsetName": "stable"},
        }},
        "steps": [{"setWeight": 20}, {"pause": {}}],
    });
    let asked = json!({"metadata": {"annotations": {"crossfade.dev/weight-update-delay": "15"}}});
    let mut cluster = settled(5, &by_subset);
    cluster.patch(&asked).settle();
    cluster.set_image("web:2").run_for(14);
    assert_eq!(state(&cluster), (1, 5, Some(0)));
    assert!(cluster.waits_for("the routers to spread the new version"));
    cluster.run_for(1);
    assert_eq!(state(&cluster), (1, 5, Some(20)));
    // Later steps find the hash where it was.
    cluster.resume().settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(cluster.status().stable_rs.as_str(), cluster.hash("web:2"));

    let mut at_once = settled(5, &by_subset);
    at_once.set_image("web:2").settle();
    assert_eq!(at_once.weight(), Some(20));
    let mut by_service = settled(5, &json!({"steps": [{"setWeight": 20}, {"pause": {}}]}));
    by_service.patch(&asked).set_image("web:2").settle();
    assert_eq!(
        by_service.weight(),
        Some(20),
        "Services are switched, not told"
    );
}

#[test]
fn an_abort_waits_for_no_spreading_and_a_retry_does() {
    let mut cluster = settled(
        4,
        &json!({
            "abortScaleDownDelaySeconds": 5,
            "trafficRouting": {"nginx": null, "istio": {
                "virtualService": {"name": "web"},
                "destinationRule": {"name": "web", "canarySubsetName": "canary", "stableSubsetName": "stable"},
            }},
            "steps": [{"setWeight": 50}, {"pause": {}}],
        }),
    );
    cluster
        .patch(&json!({"metadata": {"annotations": {"crossfade.dev/weight-update-delay": "15"}}}))
        .set_image("web:2")
        .run_for(20);
    assert_eq!(cluster.weight(), Some(50));
    cluster.abort().settle();
    assert_eq!(cluster.weight(), Some(0));
    cluster.run_for(30);
    assert_eq!(cluster.size("web:2"), 0);
    let quiet = cluster.performed.len();
    cluster.pass();
    assert_eq!(
        cluster.performed.len(),
        quiet,
        "an aborted release is at rest"
    );
    cluster.retry().run_for(10);
    assert_eq!(cluster.weight(), Some(0));
    cluster.run_for(10);
    assert_eq!(cluster.weight(), Some(50));
}

#[test]
fn a_routed_canary_grows_by_its_surge_where_that_is_asked_for() {
    let strategy = json!({"maxSurge": 3, "steps": [{"setWeight": 80}, {"pause": {}}]});
    let asked = json!({"metadata": {"annotations": {"crossfade.dev/canary-growth": "max-surge"}}});
    let grown = |cluster: &mut Cluster| {
        let sizes = cluster.take_sizes().into_iter();
        let canary = sizes.filter(|(image, _)| image == "web:2");
        canary.map(|(_, size)| size).collect::<Vec<_>>()
    };
    let mut at_once = settled(10, &strategy);
    at_once.set_image("web:2").settle();
    assert_eq!(grown(&mut at_once), [8]);

    let mut by_surge = settled(10, &strategy);
    by_surge.patch(&asked).settle();
    by_surge.forget().set_image("web:2").settle();
    assert_eq!(grown(&mut by_surge), [3, 6, 8]);
    assert_eq!(by_surge.weight(), Some(80));
    assert_eq!(
        by_surge.told_events("TrafficWeightUpdated"),
        [
            "Traffic weight updated ",
            "Traffic weight updated from 0 to 80"
        ],
        "the weight waits for all of them"
    );
    by_surge.resume().settle();
    assert_eq!(grown(&mut by_surge), [10]);

    let mut without_ready_pods = settled(10, &strategy);
    without_ready_pods.patch(&asked).settle();
    without_ready_pods.pods_become_ready = false;
    without_ready_pods.forget().set_image("web:2").settle();
    assert_eq!(grown(&mut without_ready_pods), [3]);
    without_ready_pods.abort().run_for(60);
    assert_eq!(without_ready_pods.size("web:2"), 0);

    let mut other_value = settled(10, &strategy);
    other_value
        .patch(&json!({"metadata": {"annotations": {"crossfade.dev/canary-growth": "slowly"}}}))
        .settle();
    other_value.forget().set_image("web:2").settle();
    assert_eq!(grown(&mut other_value), [8]);
}

#[test]
fn a_full_promotion_ends_an_abort_before_anything_else_moves() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.set_image("web:2").settle();
    cluster.abort().settle();
    assert_eq!(cluster.selected("web-canary"), "web:1");
    // The delay of the failed version ends at the moment at which somebody promotes it.
    for set in &mut cluster.sets {
        let annotations = &mut set.seen.annotations;
        if let Some(deadline) = annotations.get_mut("scale-down-deadline") {
            "2020-01-01T00:00:00Z".clone_into(deadline);
        }
    }
    cluster.forget().promote_full().settle();
    let sizes = cluster.take_sizes();
    let grown = ("web:2".to_owned(), 4);
    assert_eq!(sizes.first(), Some(&grown), "{sizes:?}");
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(cluster.status().stable_rs.as_str(), cluster.hash("web:2"));
}

#[test]
fn an_abort_on_the_way_back_within_the_window_takes_no_pods_from_what_serves() {
    let mut cluster = settled(
        2,
        &json!({"steps": [{"setWeight": 20}, {"pause": {}}], "scaleDownDelaySeconds": 0}),
    );
    cluster
        .patch(&json!({"spec": {"rollbackWindow": {"revisions": 3}}}))
        .settle();
    cluster.run_for(60);
    cluster.set_image("web:2").settle().promote_full().settle();
    assert_eq!(cluster.size("web:1"), 0);
    cluster.confirms = Some(false);
    cluster.set_image("web:1").settle_failing();
    assert_eq!((cluster.size("web:1"), cluster.weight()), (2, Some(100)));
    cluster.take_sizes();
    cluster.abort().settle_failing();
    assert_eq!(cluster.take_sizes(), []);
    assert!(!cluster.status().abort);
}
