//! What simulation has found: each a small release in which a rule was wrong once.

use std::sync::Arc;

use crossfade_api::rollout_status::RolloutPhase;
use crossfade_sim::run::{Options, Report, run};
use crossfade_sim::scenario::{
    Act, Fate, Fault, FaultKind, Happening, Nature, Propagation, Reply, Say, Scenario,
};
use serde_json::{Value, json};

/// A release of `app` with this spec but for its template, and everything that it may refer to.
fn release(replicas: i32, strategy: &Value) -> Scenario {
    let service = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"app": "app"}, "ports": [{"port": 80}]},
        })
    };
    let manifests = vec![
        service("app-stable"),
        service("app-canary"),
        service("app-active"),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "app", "namespace": "default"},
            "spec": {"rules": [{"http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "app-stable", "port": {"number": 80}}},
            }]}}]},
        }),
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate",
            "metadata": {"name": "judge", "namespace": "default"},
            "spec": {"metrics": [{
                "name": "judge", "provider": {"web": {"url": "http://metrics/judge", "jsonPath": "{$.value}"}},
                "successCondition": "result >= 0.9", "failureCondition": "result < 0.5",
            }]},
        }),
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "app", "namespace": "default"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "app"}},
                "template": {
                    "metadata": {"labels": {"app": "app"}},
                    "spec": {"containers": [{"name": "main", "image": "registry.example/app:v1"}]},
                },
                "strategy": strategy,
            },
        }),
    ];
    Scenario {
        manifests,
        versions: vec![ready(1000), ready(1000), ready(1000)],
        closing: true,
        ..Scenario::default()
    }
}

fn routed(extra: &Value) -> Value {
    let mut canary = json!({
        "stableService": "app-stable", "canaryService": "app-canary",
        "trafficRouting": {"nginx": {"stableIngress": "app"}},
    });
    for (key, value) in extra.as_object().into_iter().flatten() {
        canary[key] = value.clone();
    }
    json!({"canary": canary})
}

fn ready(start: u64) -> Nature {
    Nature {
        start,
        ..Nature::default()
    }
}

fn at(seconds: u64, act: Act) -> Happening {
    Happening {
        at: seconds * 1000,
        act,
    }
}

fn after(at: u64, act: Act) -> Happening {
    Happening { at, act }
}

/// From this age of a version on, all metrics answer so.
fn say(from: u64, answer: Reply) -> Say {
    Say {
        metric: String::new(),
        from,
        answer,
    }
}

fn fault(at: u64, skip: u8, kind: FaultKind) -> Fault {
    Fault { at, skip, kind }
}

/// A blue-green release that is judged before its switch.
fn judged(extra: &Value) -> Value {
    let mut blue_green = json!({
        "activeService": "app-active",
        "prePromotionAnalysis": {"templates": [{"templateName": "judge"}]},
    });
    for (key, value) in extra.as_object().into_iter().flatten() {
        blue_green[key] = value.clone();
    }
    json!({"blueGreen": blue_green})
}

/// Runs it; every invariant holds.
fn lived(scenario: Scenario) -> Report {
    let options = Options {
        story: true,
        ..Options::default()
    };
    let report = run(&Arc::new(scenario), options);
    assert_eq!(report.broken, None, "{}", report.story);
    report
}

/// The set-up of a Rollout's spec outside of its strategy.
fn with(mut scenario: Scenario, member: &str, value: Value) -> Scenario {
    let rollout = scenario
        .manifests
        .iter_mut()
        .find(|one| one["kind"] == "Rollout");
    rollout.expect("there is one")["spec"][member] = value;
    scenario
}

#[test]
fn the_share_of_a_superseded_canary_is_not_given_to_its_successor_when_that_is_aborted() {
    let strategy = routed(&json!({
        "dynamicStableScale": true, "steps": [{"setWeight": 75}, {"pause": {}}],
    }));
    let mut scenario = release(4, &strategy);
    // Stable pods come back one after the other, the third version never comes.
    scenario.versions[0].stagger = 4000;
    scenario.versions[2].fate = Fate::Never;
    scenario.happenings = vec![
        at(60, Act::Deploy(2)),
        at(90, Act::Deploy(3)),
        at(96, Act::Abort),
    ];
    let report = lived(scenario);
    assert!(report.outcome.aborted);
    assert_eq!(report.outcome.weight, Some(0));
}

#[test]
fn a_share_goes_back_to_stable_only_once_that_has_a_pod() {
    let strategy = routed(&json!({
        "dynamicStableScale": true,
        "steps": [{"setWeight": 100}, {"pause": {"duration": "10s"}}, {"setWeight": 10}, {"pause": {"duration": "10s"}}],
    }));
    let mut scenario = release(1, &strategy);
    scenario.happenings = vec![at(15, Act::Deploy(2))];
    let report = lived(scenario);
    assert_eq!(report.outcome.phase, RolloutPhase::Healthy);
}

#[test]
fn a_paused_release_that_has_been_switched_comes_to_rest() {
    let strategy = json!({"blueGreen": {
        "activeService": "app-active",
        "postPromotionAnalysis": {"templates": [{"templateName": "judge"}]},
    }});
    let mut scenario = release(1, &strategy);
    scenario.versions[1].answers = vec![say(0, Reply::Doubtful)];
    scenario.closing = false;
    scenario.happenings = vec![at(15, Act::Deploy(2))];
    let report = lived(scenario);
    assert_eq!(report.outcome.message, "InconclusiveAnalysisRun");
}

#[test]
fn a_go_on_counts_once_for_runs_that_cannot_tell() {
    let strategy = judged(&json!({"autoPromotionEnabled": false}));
    let mut scenario = release(1, &strategy);
    scenario.versions[1].answers = vec![say(0, Reply::Doubtful)];
    scenario.closing = false;
    scenario.happenings = vec![at(15, Act::Deploy(2)), at(30, Act::Promote)];
    let report = lived(scenario);
    assert_eq!(report.outcome.message, "InconclusiveAnalysisRun");
}

#[test]
fn a_go_on_after_a_doubtful_run_asks_for_another_look_not_for_the_switch() {
    let strategy = judged(&json!({"autoPromotionEnabled": false}));
    let mut scenario = release(1, &strategy);
    scenario.versions[1].answers = vec![say(0, Reply::Doubtful), say(10_000, Reply::Good)];
    scenario.closing = false;
    scenario.happenings = vec![at(15, Act::Deploy(2)), at(30, Act::Promote)];
    let report = lived(scenario);
    assert_eq!(report.outcome.message, "BlueGreenPause");
    assert_eq!(report.outcome.stable, Some(1));
}

#[test]
fn a_release_that_is_held_does_not_grow_in_the_moment_its_analysis_fails() {
    let strategy = json!({"canary": {"analysis": {"templates": [{"templateName": "judge"}]}}});
    let mut scenario = release(1, &strategy);
    scenario.versions[1].answers = vec![say(0, Reply::Bad)];
    scenario.closing = false;
    scenario.happenings = vec![at(15, Act::Pause), at(20, Act::Deploy(2))];
    let report = lived(scenario);
    assert!(report.outcome.aborted);
    let story = report.story.to_string();
    assert!(!story.contains("update v2 to"), "{story}");
}

#[test]
fn the_deadline_does_not_abort_what_was_promoted_in_full() {
    let strategy = json!({"canary": {"steps": [{"setWeight": 50}]}});
    let scenario = with(release(2, &strategy), "progressDeadlineSeconds", json!(30));
    let mut scenario = with(scenario, "progressDeadlineAbort", json!(true));
    scenario.versions[1].fate = Fate::Never;
    scenario.happenings = vec![at(15, Act::Deploy(2)), at(16, Act::PromoteFull)];
    let report = lived(scenario);
    assert!(!report.outcome.aborted);
    assert!(
        report
            .outcome
            .message
            .starts_with("ProgressDeadlineExceeded"),
        "{}",
        report.outcome.message
    );
}

#[test]
fn going_back_to_stable_with_another_number_of_pods_leaves_stable_its_pods() {
    let strategy = routed(&json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    let mut scenario = release(1, &strategy);
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(30, Act::Scale(4)),
        at(40, Act::Abort),
        at(80, Act::Reapply),
    ];
    let report = lived(scenario);
    assert_eq!(report.outcome.stable, Some(1));
    assert_eq!(report.outcome.phase, RolloutPhase::Healthy);
}

#[test]
fn an_aborted_canary_that_keeps_its_pods_gives_back_all_traffic() {
    let strategy = routed(&json!({
        "dynamicStableScale": true, "abortScaleDownDelaySeconds": 0,
        "steps": [{"setCanaryScale": {"weight": 150}}, {"setWeight": 33}, {"pause": {}}],
    }));
    let mut scenario = release(1, &strategy);
    scenario.happenings = vec![at(15, Act::Deploy(2)), at(30, Act::Abort)];
    let report = lived(scenario);
    assert_eq!(report.outcome.weight, Some(0));
}

#[test]
fn a_pause_step_is_served_also_when_a_background_analysis_could_not_tell() {
    let strategy = json!({"canary": {
        "analysis": {"templates": [{"templateName": "judge"}]},
        "steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 80}],
    }});
    let mut scenario = release(2, &strategy);
    scenario.versions[1].answers = vec![say(0, Reply::Doubtful)];
    scenario.closing = false;
    scenario.happenings = vec![at(15, Act::Deploy(2))];
    let report = lived(scenario);
    assert_eq!(report.outcome.phase, RolloutPhase::Paused);
    assert!(report.outcome.step < Some(2), "{:?}", report.outcome);
}

#[test]
fn broken_pods_of_the_newest_version_leave_room_for_stable() {
    let mut scenario = with(
        release(3, &json!({"canary": {}})),
        "minReadySeconds",
        json!(2),
    );
    scenario.versions[2].fate = Fate::Never;
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(20, Act::Deploy(3)),
        at(21, Act::Abort),
    ];
    let report = lived(scenario);
    assert!(report.outcome.aborted);
    assert_eq!(report.outcome.stable, Some(1));
}

#[test]
fn an_undo_that_brings_an_injected_anti_affinity_along_comes_to_rest() {
    let strategy = json!({"canary": {
        "antiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}},
        "steps": [{"pause": {"duration": "10s"}}],
    }});
    let mut scenario = release(1, &strategy);
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(60, Act::Deploy(1)),
        at(65, Act::Undo),
    ];
    let report = lived(scenario);
    assert_eq!(report.outcome.phase, RolloutPhase::Healthy);
}

#[test]
fn a_controller_that_dies_between_any_two_actions_leaves_the_same_end() {
    let strategy = routed(&json!({
        "steps": [{"setWeight": 20}, {"analysis": {"templates": [{"templateName": "judge"}]}}, {"setWeight": 60}],
    }));
    let mut scenario = release(3, &strategy);
    scenario.happenings = vec![at(15, Act::Deploy(2))];
    let end = lived(scenario.clone()).outcome;
    let kinds = [
        FaultKind::CrashBefore,
        FaultKind::CrashAfter,
        FaultKind::CrashUnrecorded,
        FaultKind::CrashUntold,
        FaultKind::Conflict,
        FaultKind::LostReply,
        FaultKind::StatusLost,
        FaultKind::StatusConflict,
    ];
    for kind in kinds {
        for skip in 0..30 {
            let mut scenario = scenario.clone();
            scenario.faults = vec![fault(0, skip, kind)];
            let report = lived(scenario);
            let same = (
                report.outcome.phase,
                report.outcome.stable,
                report.outcome.step,
            );
            assert_eq!(
                same,
                (end.phase, end.stable, end.step),
                "{kind} after {skip}: {}",
                report.story
            );
        }
    }
}

#[test]
fn a_canary_whose_stable_pods_follow_keeps_its_pods_until_routers_confirm_that_it_gets_nothing() {
    let strategy = routed(&json!({
        "dynamicStableScale": true, "steps": [{"setWeight": 20}, {"pause": {}}],
    }));
    let mut scenario = release(1, &strategy);
    scenario.surroundings.confirms_after = Some(15_000);
    scenario.happenings = vec![at(15, Act::Deploy(2)), at(60, Act::Abort)];
    let report = lived(scenario);
    let story = report.story.to_string();
    let line = |text: &str| {
        let line = story.lines().find(|line| line.contains(text));
        let time = line.and_then(|line| line.split_whitespace().next());
        let time: Option<f64> = time.and_then(|time| time.parse().ok());
        time.expect(text)
    };
    assert!(
        line("update v2 to 0 pods") >= line("the user aborts") + 15.0,
        "{story}"
    );
}

#[test]
fn a_run_that_goes_on_is_taken_over_under_whatever_number_it_has() {
    let strategy = json!({"canary": {
        "analysis": {"templates": [{"templateName": "slow"}]}, "steps": [{"pause": {}}],
    }});
    let limits = json!({"successfulRunHistoryLimit": 0});
    let mut scenario = with(release(1, &strategy), "analysis", limits);
    scenario.manifests.insert(0, json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate",
        "metadata": {"name": "slow", "namespace": "default"},
        "spec": {"metrics": [{
            "name": "judge", "provider": {"web": {"url": "http://metrics/judge", "jsonPath": "{$.value}"}},
            "successCondition": "result >= 0.9", "interval": "5s", "count": 2,
        }]},
    }));
    let pause = |seconds: i32| vec![json!({"pause": {"duration": seconds}})];
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(30, Act::EditSteps(pause(40))),
        at(32, Act::EditSteps(pause(50))),
    ];
    let story = lived(scenario).story.to_string();
    assert_eq!(story.matches("create run").count(), 2, "{story}");
}

#[test]
fn a_run_that_failed_while_nobody_listened_is_believed() {
    let strategy = json!({"canary": {
        "steps": [{"pause": {"duration": 3}}, {"analysis": {"templates": [{"templateName": "judge"}]}}],
    }});
    let mut scenario = release(1, &strategy);
    scenario.versions[1].answers = vec![say(0, Reply::Bad)];
    scenario.happenings = vec![at(15, Act::Deploy(2)), at(60, Act::Retry)];
    for skip in 0..30 {
        let mut scenario = scenario.clone();
        scenario.faults = vec![fault(0, skip, FaultKind::LostReply)];
        let report = lived(scenario);
        assert!(report.outcome.aborted, "after {skip}: {}", report.story);
        let story = report.story.to_string();
        // Once for the update, and once for its retry.
        assert_eq!(story.matches("create run").count(), 2, "{story}");
    }
}

#[test]
fn stable_pods_come_back_for_a_lower_weight_also_while_the_canary_is_kept_large() {
    let strategy = routed(&json!({
        "dynamicStableScale": true,
        "steps": [{"setWeight": 50}, {"setCanaryScale": {"weight": 150}}, {"setWeight": 10}],
    }));
    let mut scenario = release(7, &strategy);
    scenario.happenings = vec![at(15, Act::Deploy(2))];
    let report = lived(scenario);
    assert_eq!(
        report.outcome.phase,
        RolloutPhase::Healthy,
        "{}",
        report.story
    );
}

#[test]
fn a_retry_is_not_switched_on_the_run_that_was_good_before_the_abort() {
    let strategy = judged(&json!({}));
    let mut scenario = release(1, &strategy);
    scenario.happenings = vec![
        at(15, Act::Pause),
        at(20, Act::Deploy(2)),
        at(40, Act::Abort),
        at(50, Act::Promote),
        at(51, Act::Retry),
    ];
    let report = lived(scenario);
    assert_eq!(report.outcome.stable, Some(2));
    let story = report.story.to_string();
    assert_eq!(story.matches("create run").count(), 2, "{story}");
}

#[test]
fn a_retry_whose_run_could_not_be_made_at_once_is_not_taken_back_by_the_run_before() {
    let strategy = judged(&json!({}));
    let mut scenario = release(1, &strategy);
    scenario.versions[1].answers = vec![say(0, Reply::Bad), say(20_000, Reply::Good)];
    scenario.happenings = vec![at(15, Act::Deploy(2)), at(60, Act::Retry)];
    for skip in 0..4 {
        let mut scenario = scenario.clone();
        scenario.faults = vec![fault(60_000, skip, FaultKind::Conflict)];
        assert_eq!(lived(scenario).outcome.stable, Some(2), "after {skip}");
    }
}

#[test]
fn a_fleet_that_is_taken_in_keeps_the_pods_that_routers_still_send_requests_to() {
    let strategy = routed(&json!({"steps": [{"setWeight": 40}, {"pause": {}}]}));
    let mut scenario = release(5, &strategy);
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(60, Act::Delete(Propagation::Orphan, Some(3000))),
    ];
    let report = lived(scenario);
    assert_eq!(report.outcome.phase, RolloutPhase::Healthy);
    assert_eq!(report.outcome.stable, Some(1));
    assert_eq!(report.coverage.of("action", "adopt ReplicaSet"), 2);
}

#[test]
fn a_rollout_that_comes_back_before_its_former_pods_are_gone_makes_its_own() {
    let strategy =
        json!({"canary": {"steps": [{"setWeight": 40}, {"pause": {"duration": "10s"}}]}});
    let mut scenario = release(3, &strategy);
    scenario.happenings = vec![at(20, Act::Delete(Propagation::Background, Some(300)))];
    let report = lived(scenario);
    assert_eq!(report.outcome.phase, RolloutPhase::Healthy);
    assert_eq!(report.coverage.of("refused", "create ReplicaSet"), 1);
}

#[test]
fn a_rollout_that_goes_last_is_left_alone_until_it_is_gone() {
    let strategy = routed(&json!({"steps": [{"setWeight": 40}, {"pause": {}}]}));
    let mut scenario = release(5, &strategy);
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(60, Act::Delete(Propagation::Foreground, None)),
    ];
    assert!(lived(scenario).outcome.gone);
}

#[test]
fn a_canary_becomes_blue_green_in_the_middle_and_a_canary_again() {
    let canary = json!({"canary": {"steps": [{"setWeight": 40}, {"pause": {}}]}});
    let blue_green = json!({"blueGreen": {"activeService": "app-active"}});
    let mut scenario = release(5, &canary);
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(60, Act::ChangeStrategy(blue_green)),
        at(90, Act::ChangeStrategy(canary)),
        at(120, Act::Deploy(3)),
    ];
    let report = lived(scenario);
    assert_eq!(report.outcome.phase, RolloutPhase::Healthy);
    assert_eq!(report.outcome.stable, Some(3));
}

#[test]
fn a_canary_that_rests_in_a_step_and_becomes_blue_green_waits_for_a_person_before_the_switch() {
    let canary = json!({"canary": {
        "stableService": "app-active",
        "steps": [{"setWeight": 40}, {"pause": {}}],
    }});
    let blue_green =
        json!({"blueGreen": {"activeService": "app-active", "autoPromotionEnabled": false}});
    let mut scenario = release(5, &canary);
    scenario.closing = false;
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(60, Act::ChangeStrategy(blue_green)),
    ];
    let report = lived(scenario);
    let story = report.story.to_string();
    assert_eq!(report.outcome.phase, RolloutPhase::Paused, "{story}");
    assert_eq!(report.outcome.stable, Some(1));
    assert!(story.contains("pauses [BlueGreenPause]"), "{story}");
}

#[test]
fn what_was_taken_back_is_not_promoted_by_becoming_blue_green() {
    let canary = json!({"canary": {"steps": [{"setWeight": 40}, {"pause": {}}]}});
    let mut scenario = release(5, &canary);
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(46, Act::Abort),
        at(
            68,
            Act::ChangeStrategy(json!({"blueGreen": {"activeService": "app-active"}})),
        ),
    ];
    // The first try to point the active Service at the version that serves does not succeed.
    scenario.faults = vec![fault(68_000, 0, FaultKind::Conflict)];
    let report = lived(scenario);
    assert!(report.outcome.aborted);
    assert_eq!(report.outcome.stable, Some(1));
}

#[test]
fn stable_pods_that_follow_the_weight_come_back_before_it_whatever_the_size_of_the_canary() {
    let strategy = routed(&json!({
        "dynamicStableScale": true,
        "steps": [{"setWeight": 100}, {"setCanaryScale": {"weight": 50}}, {"setWeight": 0}],
    }));
    let mut scenario = release(2, &strategy);
    scenario.happenings = vec![at(15, Act::Deploy(2))];
    let report = lived(scenario);
    assert_eq!(report.outcome.phase, RolloutPhase::Healthy);
    assert_eq!(report.outcome.stable, Some(2));
}

#[test]
fn a_canary_that_is_blocked_is_late_also_when_a_former_version_waited_for_its_end_before() {
    let blue_green = json!({"blueGreen": {"activeService": "app-active"}});
    let canary = json!({"canary": {"steps": [{"setWeight": 80}, {"pause": {"duration": "10s"}}]}});
    let mut scenario = with(release(1, &blue_green), "minReadySeconds", json!(10));
    // The second version serves before the first one is ready, and never has a pod itself.
    scenario.versions[0].start = 6000;
    scenario.versions[1].fate = Fate::Never;
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(17, Act::ChangeStrategy(canary)),
        at(33, Act::Deploy(3)),
    ];
    // A controller that was there before would look again when that version's time is over.
    scenario.faults = vec![fault(33_000, 0, FaultKind::CrashAfter)];
    let report = lived(scenario);
    assert!(
        report
            .outcome
            .message
            .starts_with("ProgressDeadlineExceeded"),
        "{}",
        report.outcome.message
    );
}

#[test]
fn an_abort_of_a_rollout_that_goes_last_is_left_alone() {
    let strategy = routed(&json!({"steps": [{"setWeight": 20}]}));
    let mut scenario = release(1, &strategy);
    scenario.surroundings.confirms_after = Some(15_000);
    let aborted = after(27_230, Act::Abort);
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(27, Act::Delete(Propagation::Foreground, None)),
        aborted,
    ];
    assert!(lived(scenario).outcome.gone);
}

#[test]
fn a_fleet_that_is_taken_in_keeps_the_hash_that_it_got_by_a_collision() {
    let mut scenario = release(1, &json!({"canary": {}}));
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(40, Act::Delete(Propagation::Background, Some(500))),
        at(50, Act::Delete(Propagation::Orphan, Some(3000))),
    ];
    let report = lived(scenario);
    assert_eq!(report.outcome.phase, RolloutPhase::Healthy);
    assert_eq!(report.outcome.stable, Some(1));
}

#[test]
fn what_a_former_leader_does_for_a_rollout_that_is_gone_is_not_held_against_its_successor() {
    let strategy = judged(&json!({}));
    let mut scenario = release(1, &strategy);
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(40, Act::Delete(Propagation::Background, Some(500))),
    ];
    // The switch comes when another Rollout has been there for long.
    for skip in 0..8 {
        let mut scenario = scenario.clone();
        scenario.faults = vec![fault(15_000, skip, FaultKind::Usurped(60_000))];
        assert_eq!(lived(scenario).outcome.stable, Some(1), "after {skip}");
    }
}

#[test]
fn a_run_of_a_former_strategy_decides_nothing() {
    let strategy = judged(&json!({}));
    let canary = json!({"canary": {"steps": [{"setWeight": 20}, {"pause": {"duration": "10s"}}]}});
    let mut scenario = release(1, &strategy);
    // It is measured once more after the change, before anybody has noticed that.
    scenario.manifests.iter_mut().for_each(|manifest| {
        if manifest["kind"] == "AnalysisTemplate" {
            manifest["spec"]["metrics"][0]["interval"] = json!("5s");
            manifest["spec"]["metrics"][0]["count"] = json!(2);
        }
    });
    scenario.surroundings.notice = 700;
    scenario.versions[1].answers = vec![say(0, Reply::Good), say(5000, Reply::Bad)];
    for changed in [22_500, 23_000, 23_500, 24_000] {
        let mut scenario = scenario.clone();
        let act = Act::ChangeStrategy(canary.clone());
        scenario.happenings = vec![at(15, Act::Deploy(2)), after(changed, act)];
        lived(scenario);
    }
}

#[test]
fn a_pause_that_is_over_does_not_begin_anew_when_the_switch_is_refused() {
    let strategy =
        json!({"blueGreen": {"activeService": "app-active", "autoPromotionSeconds": 60}});
    let mut scenario = release(1, &strategy);
    scenario.happenings = vec![at(15, Act::Deploy(2))];
    scenario.faults = vec![fault(70_000, 0, FaultKind::Conflict)];
    let report = lived(scenario);
    assert_eq!(report.outcome.stable, Some(2));
    let story = report.story.to_string();
    assert_eq!(
        story.matches("pauses [BlueGreenPause]").count(),
        1,
        "{story}"
    );
}

#[test]
fn a_held_version_keeps_the_pods_that_are_wanted_when_all_others_have_gone() {
    let strategy =
        json!({"canary": {"canaryService": "app-canary", "maxSurge": 0, "maxUnavailable": "1%"}});
    let mut scenario = release(10, &strategy);
    scenario.versions[2].start = 100;
    scenario.happenings = vec![
        at(15, Act::Deploy(3)),
        after(15_590, Act::Undo),
        after(15_680, Act::ServiceLost(2878)),
        after(15_710, Act::Scale(5)),
        at(18, Act::Pause),
    ];
    lived(scenario);
}

#[test]
fn what_was_good_before_an_abort_that_was_seen_with_an_invalid_spec_is_judged_anew() {
    let strategy = judged(&json!({"autoPromotionSeconds": 60}));
    let mut scenario = release(1, &strategy);
    scenario.happenings = vec![
        at(15, Act::Deploy(2)),
        at(20, Act::ServiceLost(33_000)),
        at(21, Act::Abort),
        at(38, Act::Retry),
    ];
    let report = lived(scenario);
    assert_eq!(report.outcome.stable, Some(2));
    let story = report.story.to_string();
    assert_eq!(story.matches("create run").count(), 2, "{story}");
}

#[test]
fn a_held_stable_version_behind_a_router_loses_no_pods_that_are_wanted() {
    let mut scenario = release(10, &routed(&json!({})));
    scenario.happenings = vec![
        at(15, Act::Pause),
        at(20, Act::ForeignScale(1, 5)),
        at(60, Act::Scale(8)),
    ];
    lived(scenario);
}
