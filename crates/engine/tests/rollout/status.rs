//! What a user and other tools read: phase, conditions, timing, and what is wrong with a spec.

use crossfade_api::Resource as _;
use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::health;
use crossfade_api::rollout_status::CompletionStatus;
use crossfade_engine::rollout::seen_by_client;
use serde_json::{Value, json};

use crate::cluster::{Cluster, canary, rollout, routed};

fn settled(replicas: i32, strategy: &Value) -> Cluster {
    let mut cluster = canary(replicas, strategy);
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    cluster.forget();
    cluster
}

#[test]
fn api_03_a_first_deployment_tells_its_events_in_order_and_takes_no_step() {
    let mut cluster = canary(3, &json!({"steps": [{"setWeight": 20}, {"pause": {}}]}));
    cluster.settle();
    assert_eq!(
        cluster.told_events("RolloutCompleted"),
        [format!(
            "Rollout completed update to revision 1 ({}): Initial deploy",
            cluster.hash("web:1")
        )],
    );
    assert_eq!(
        cluster.take_reasons(),
        [
            "RolloutUpdated",
            "NewReplicaSetCreated",
            "RolloutNotCompleted",
            "ScalingReplicaSet",
            "RolloutCompleted"
        ],
    );
    assert_eq!(
        cluster.sets[0].seen.target.name,
        format!("web-{}", cluster.hash("web:1"))
    );
    assert_eq!(
        (
            cluster.revision("web:1").as_str(),
            cluster.index(),
            cluster.phase().as_str()
        ),
        ("1", 2, "Healthy")
    );
}

#[test]
fn the_reasons_of_a_whole_life_come_in_the_order_that_other_tools_know() {
    let mut cluster = canary(
        2,
        &json!({"steps": [{"setWeight": 50}, {"pause": {"duration": 5}}]}),
    );
    cluster.settle();
    cluster.forget();
    cluster.set_image("web:2").settle();
    let reasons = cluster.take_reasons();
    assert_eq!(
        reasons
            .iter()
            .map(String::as_str)
            .filter(|reason| *reason != "ScalingReplicaSet")
            .collect::<Vec<_>>(),
        [
            "RolloutUpdated",
            "NewReplicaSetCreated",
            "RolloutNotCompleted",
            "RolloutStepCompleted",
            "RolloutPaused"
        ],
    );
    cluster.abort().settle();
    assert!(
        cluster
            .take_reasons()
            .contains(&"RolloutAborted".to_owned())
    );
    cluster.retry().settle();
    let reasons = cluster.take_reasons();
    assert_eq!(reasons.last().map(String::as_str), Some("RolloutPaused"));
    cluster.run_for(6);
    let reasons = cluster.take_reasons();
    assert_eq!(reasons[..2], ["RolloutStepCompleted", "RolloutResumed"]);
    assert_eq!(reasons.last().map(String::as_str), Some("RolloutCompleted"));
}

#[test]
fn api_02_an_absent_number_of_replicas_is_stored() {
    let mut cluster = Cluster::new(rollout(
        &json!({"replicas": null, "strategy": {"canary": {}}}),
    ));
    cluster.settle();
    assert_eq!(cluster.rollout.spec.replicas, Some(1));
    assert_eq!(cluster.phase(), "Healthy");
    cluster.patch(&json!({"spec": {"replicas": 3}})).settle();
    assert_eq!(cluster.status().hpa_replicas, 3);
    assert_eq!(cluster.status().selector, "app=web");
}

#[test]
fn api_05_the_hash_of_the_steps_is_recorded() {
    let hash = |strategy: &Value| {
        let mut cluster = Cluster::new(rollout(&json!({"strategy": strategy})));
        cluster.settle();
        cluster.status().current_step_hash.clone()
    };
    assert_eq!(
        hash(&json!({"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}})),
        "757f5f97b"
    );
    assert_eq!(hash(&json!({"canary": {}})), "5ffbfbbd64");
    assert_eq!(hash(&json!({"blueGreen": {"activeService": "a"}})), "");
}

#[test]
fn api_08_a_pause_that_another_controller_began_is_kept_until_a_person_ends_it() {
    let mut cluster = settled(
        4,
        &json!({"steps": [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]}),
    );
    cluster.set_image("web:2").settle();
    assert_eq!(
        (cluster.index(), cluster.phase().as_str()),
        (1, "Paused: CanaryPauseStep")
    );
    cluster.forget();
    cluster.run_for(3600);
    assert_eq!(
        (cluster.index(), cluster.phase().as_str()),
        (1, "Paused: CanaryPauseStep")
    );
    cluster.resume();
    assert_eq!(
        seen_by_client(&cluster.rollout).1,
        "waiting for rollout to unpause"
    );
    cluster.pods_become_ready = false;
    cluster.settle();
    assert_eq!(cluster.index(), 2);
    assert!(!cluster.status().controller_pause);
}

#[test]
fn api_12_two_strategies_or_none_are_told_in_condition_and_phase() {
    let both = json!({"canary": {}, "blueGreen": {"activeService": "a"}});
    let neither = json!({"canary": null, "blueGreen": null});
    let texts = [
        (
            both,
            "spec.strategy.strategy: Invalid value: \"blueGreen: true canary: true\": Multiple Strategies can not be listed",
        ),
        (
            neither,
            "spec.strategy.strategy: Required value: Rollout has missing field '.spec.strategy.canary or .spec.strategy.blueGreen'",
        ),
    ];
    for (strategy, text) in texts {
        let mut json = rollout(&json!({"strategy": strategy}));
        json["metadata"]["name"] = json!("demo");
        let mut cluster = Cluster::new(json);
        cluster.settle();
        let message = format!("The Rollout \"demo\" is invalid: {text}");
        let told = ("True".to_owned(), "InvalidSpec".to_owned(), message.clone());
        assert_eq!(cluster.told("InvalidSpec"), Some(told));
        assert_eq!(cluster.phase(), format!("Degraded: InvalidSpec: {message}"));
        assert_eq!(cluster.status().observed_generation, "1");
        assert!(cluster.sets.is_empty());
        assert_eq!(cluster.told_events("SpecInvalid").len(), 1);
        assert_eq!(cluster.next_look(), Some(20));
    }
}

#[test]
fn behaviour_36_bad_input_is_told_and_leaves_running_pods_alone() {
    let bad = [
        (
            json!({"maxSurge": 0, "maxUnavailable": 0}),
            "MaxSurge and MaxUnavailable both can not be zero",
        ),
        (
            json!({"steps": [{"setWeight": 101}]}),
            "SetWeight needs to be between 0 and 100",
        ),
        (
            json!({"steps": [{"pause": {"duration": "5x"}}]}),
            "Duration needs to be greater than 0",
        ),
        (
            json!({"steps": [{}]}),
            "Step must have one of the following set: experiment, setWeight, setCanaryScale, plugin or pause",
        ),
        (
            json!({"steps": [{"setCanaryScale": {"weight": 5}}]}),
            "SetCanaryScale requires TrafficRouting to be set",
        ),
    ];
    for (strategy, text) in bad {
        let mut cluster = settled(3, &json!({"steps": [{"setWeight": 20}, {"pause": {}}]}));
        let good = cluster.rollout.spec.strategy.clone();
        cluster.patch(&json!({"spec": {"strategy": {"canary": strategy}}}));
        cluster.set_image("web:2").run_for(60);
        assert!(
            cluster.phase().starts_with(
                "Degraded: InvalidSpec: The Rollout \"web\" is invalid: spec.strategy."
            )
        );
        assert!(cluster.phase().ends_with(text), "{}", cluster.phase());
        assert_eq!((cluster.sets.len(), cluster.size("web:1")), (1, 3));
        assert!(cluster.performed.is_empty());
        let transitions = cluster
            .statuses
            .iter()
            .filter(|status| status.message == cluster.status().message);
        assert_eq!(transitions.count(), 1, "written once");

        cluster.patch(&json!({"spec": {"strategy": {"canary": null}}}));
        cluster.patch(&json!({"spec": {"strategy": good}})).settle();
        assert_eq!(cluster.told("InvalidSpec"), None);
        assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
    }
}

#[test]
fn behaviour_37_a_missing_or_foreign_service_is_told_and_recovered_from() {
    let mut cluster = routed(2, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    let service = cluster.services.remove("web-stable").expect("it was there");
    cluster.settle();
    assert_eq!(
        cluster.status().message,
        "InvalidSpec: The Rollout \"web\" is invalid: \
         spec.strategy.canary.stableService: Invalid value: \"web-stable\": service \"web-stable\" not found",
    );
    assert!(cluster.sets.is_empty());
    cluster.services.insert("web-stable".to_owned(), service);
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");

    let service = cluster.services.get_mut("web-canary").expect("it is there");
    service.managed_by = Some("somebody-else".to_owned());
    cluster.settle();
    assert!(
        cluster
            .phase()
            .ends_with("Service \"web-canary\" is managed by another Rollout")
    );
}

#[test]
fn api_19_a_rollout_goes_on_when_its_missing_service_comes() {
    let mut cluster = routed(1, &json!({"stableService": "s"}));
    let service = cluster.services.remove("s").expect("it was there");
    cluster.settle();
    assert_eq!(
        cluster.told("InvalidSpec").map(|told| told.2),
        Some(
            "The Rollout \"web\" is invalid: \
             spec.strategy.canary.stableService: Invalid value: \"s\": service \"s\" not found"
                .to_owned()
        ),
    );
    assert_eq!(cluster.next_look(), Some(20));
    assert!(cluster.sets.is_empty());
    cluster.services.insert("s".to_owned(), service);
    cluster.run_for(20);
    assert_eq!(cluster.told("InvalidSpec"), None);
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn api_20_a_service_that_does_not_fit_is_told() {
    let mut cluster = routed(1, &json!({"stableService": "s"}));
    let service = cluster.services.get_mut("s").expect("it is there");
    service.managed_by = Some("other".to_owned());
    cluster.settle();
    assert!(
        cluster
            .phase()
            .ends_with("Service \"s\" is managed by another Rollout"),
        "{}",
        cluster.phase()
    );
    let service = cluster.services.get_mut("s").expect("it is there");
    service.managed_by = None;
    service
        .selector
        .insert("app".to_owned(), "other".to_owned());
    cluster.settle();
    assert!(
        cluster
            .phase()
            .ends_with("Service \"s\" has unmatch label \"app\" in rollout"),
        "{}",
        cluster.phase()
    );
}

#[test]
fn a_missing_service_does_not_stop_an_abort_or_the_end_of_old_versions() {
    let mut cluster = routed(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.settle();
    cluster.set_image("web:2").settle();
    assert_eq!((cluster.size("web:2"), cluster.weight()), (2, Some(50)));
    cluster.services.remove("web-canary");
    cluster.settle();
    cluster.abort().settle();
    assert_eq!(cluster.weight(), Some(0));
    cluster.run_for(31);
    assert_eq!(cluster.size("web:2"), 0);
    assert!(cluster.phase().starts_with("Degraded: InvalidSpec"));
}

#[test]
fn an_unreadable_service_changes_nothing_and_is_read_again() {
    let mut cluster = routed(1, &json!({}));
    cluster.settle();
    cluster.forget();
    cluster.unreadable = Some("web-stable".to_owned());
    cluster.set_image("web:2");
    assert!(!cluster.pass());
    assert_eq!(
        cluster.failed.as_deref(),
        Some("the API server does not answer")
    );
    cluster.unreadable = None;
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn api_40_a_spec_that_cannot_be_read_is_invalid_and_releases_nothing() {
    let mut cluster = settled(2, &json!({}));
    cluster.break_spec("/spec/strategy/canary/steps", json!("oops"));
    cluster.settle();
    assert_eq!(
        cluster.status().message,
        "InvalidSpec: The Rollout \"web\" is invalid: \
         spec.strategy.canary.steps: Invalid value: \"oops\": must be a list",
    );
    assert!(cluster.performed.is_empty());
    assert_eq!(
        (
            cluster.size("web:1"),
            cluster.sets[0].seen.controller.as_deref()
        ),
        (2, Some("rollout-uid"))
    );
}

#[test]
fn api_26_an_abort_by_analysis_or_by_a_person_is_told_within_one_pass() {
    let steps =
        json!([{"setWeight": 50}, {"analysis": {"templates": [{"templateName": "smoke"}]}}]);
    let mut cluster = canary(2, &json!({"steps": steps}));
    cluster.add_template("smoke");
    cluster.settle();
    cluster.set_image("web:2").settle();
    let name = cluster.runs[0].metadata.name.clone().expect("a name");
    cluster.end_run(&name, AnalysisPhase::Failed, "m");
    cluster.pass();
    let status = cluster.status();
    assert!(status.abort && status.aborted_at.is_some() && status.pause_conditions.is_empty());
    let text = "Rollout aborted update to revision 2: Step-based analysis phase error/failed: m";
    assert_eq!(cluster.phase(), format!("Degraded: RolloutAborted: {text}"));

    let mut cluster = settled(2, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.set_image("web:2").settle();
    cluster.abort();
    cluster.pass();
    assert_eq!(
        cluster.phase(),
        "Degraded: RolloutAborted: Rollout aborted update to revision 2"
    );
}

#[test]
fn api_27_a_retry_starts_a_new_attempt() {
    let steps =
        json!([{"setWeight": 50}, {"analysis": {"templates": [{"templateName": "smoke"}]}}]);
    let mut cluster = canary(2, &json!({"steps": steps}));
    cluster.add_template("smoke");
    cluster.settle();
    cluster.set_image("web:2").run_for(5);
    let first = cluster.status().duration.clone().expect("timing");
    cluster.abort().run_for(5);
    let aborted = cluster.status().duration.clone().expect("timing");
    assert_eq!(aborted.completion_status, CompletionStatus::Aborted);
    assert!(aborted.finished_at.is_some());
    cluster.retry();
    cluster.pass();
    assert_eq!(
        cluster.told("Progressing").map(|told| (told.0, told.1)),
        Some(("Unknown".to_owned(), "RolloutRetry".to_owned()))
    );
    assert_eq!(cluster.index(), 0);
    cluster.settle();
    assert_eq!(cluster.runs.len(), 2);
    let second = cluster.status().duration.clone().expect("timing");
    assert!(second.rollout_started_at > first.rollout_started_at);
    assert_eq!(
        (second.finished_at, second.completion_status),
        (None, CompletionStatus::Unset)
    );
}

#[test]
fn api_28_a_persons_pause_shows_in_phase_and_condition() {
    let mut cluster = settled(1, &json!({}));
    cluster.patch(&json!({"spec": {"paused": true}})).settle();
    assert_eq!(cluster.phase(), "Paused: manually paused");
    assert_eq!(
        cluster.told("Paused").map(|told| told.0),
        Some("True".to_owned())
    );
    assert_eq!(
        health::of_rollout(&cluster.rollout.to_json()).0,
        health::Health::Suspended
    );
}

#[test]
fn api_29_a_version_that_never_gets_ready_times_out_or_is_aborted() {
    for abort in [false, true] {
        let mut cluster = settled(
            2,
            &json!({"maxSurge": 1, "maxUnavailable": 0, "steps": [{"setWeight": 50}, {"pause": {}}]}),
        );
        cluster
            .patch(
                &json!({"spec": {"progressDeadlineSeconds": 30, "progressDeadlineAbort": abort}}),
            )
            .settle();
        cluster.broken.insert("web:2".to_owned());
        cluster.set_image("web:2").run_for(33);
        let text = format!(
            "ReplicaSet \"web-{}\" has timed out progressing.",
            cluster.hash("web:2")
        );
        if abort {
            assert!(cluster.status().abort);
            assert_eq!(
                cluster.phase(),
                format!("Degraded: RolloutAborted: Rollout aborted update to revision 2: {text}")
            );
        } else {
            assert_eq!(
                cluster.phase(),
                format!("Degraded: ProgressDeadlineExceeded: {text}")
            );
            // It recovers when there is progress.
            cluster.broken.clear();
            cluster.settle();
            assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
            cluster.run_for(600);
            assert_eq!(
                cluster.phase(),
                "Paused: CanaryPauseStep",
                "nothing times out during a pause"
            );
        }
    }
}

#[test]
fn pods_that_crash_and_return_do_not_put_off_the_deadline() {
    let mut cluster = settled(
        4,
        &json!({"maxSurge": 2, "maxUnavailable": 0, "steps": [{"setWeight": 50}, {"pause": {}}]}),
    );
    cluster
        .patch(&json!({"spec": {"progressDeadlineSeconds": 30}}))
        .settle();
    cluster.pods_become_ready = false;
    cluster.set_image("web:2").settle();
    for round in 0..8 {
        cluster.make_available("web:2", 1 - round % 2);
        cluster.run_for(5);
    }
    assert!(
        cluster
            .phase()
            .starts_with("Degraded: ProgressDeadlineExceeded"),
        "{}",
        cluster.phase()
    );
}

#[test]
fn full_promotion_is_not_taken_back_by_the_deadline() {
    let mut cluster = settled(
        2,
        &json!({"maxSurge": 1, "maxUnavailable": 0, "steps": [{"setWeight": 50}]}),
    );
    cluster
        .patch(&json!({"spec": {"progressDeadlineSeconds": 30, "progressDeadlineAbort": true}}))
        .settle();
    cluster.broken.insert("web:2".to_owned());
    cluster.set_image("web:2").settle();
    cluster.promote_full().run_for(100);
    assert!(!cluster.status().abort);
    assert!(cluster.told_events("RolloutAborted").is_empty());
    cluster.broken.clear();
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn api_30_a_promoted_version_that_loses_a_pod_is_progressing_and_never_aborted() {
    let mut cluster = settled(3, &json!({}));
    cluster
        .patch(&json!({"spec": {"progressDeadlineAbort": true, "progressDeadlineSeconds": 10}}))
        .settle();
    cluster.pods_become_ready = false;
    cluster.make_available("web:1", 2).settle();
    assert_eq!(
        cluster.told("Healthy").map(|told| told.0),
        Some("False".to_owned())
    );
    let told = cluster.told("Progressing").expect("told");
    assert_eq!(
        (told.0.as_str(), told.1.as_str()),
        ("True", "ReplicaSetNotAvailable")
    );
    assert_eq!(
        cluster.phase(),
        "Progressing: updated replicas are still becoming available"
    );
    cluster.run_for(60);
    assert!(!cluster.status().abort);
}

#[test]
fn api_37_services_that_swap_start_with_ping() {
    let mut cluster = canary(
        2,
        &json!({
            "pingPong": {"pingService": "ping", "pongService": "pong"},
            "trafficRouting": {"istio": {"virtualService": {"name": "web"}}},
        }),
    );
    cluster.settle();
    let mut roles = vec![cluster.status().canary.stable_ping_pong.as_str()];
    for image in ["web:2", "web:3"] {
        cluster.set_image(image).settle();
        roles.push(cluster.status().canary.stable_ping_pong.as_str());
    }
    assert_eq!(roles, ["ping", "pong", "ping"]);
}

#[test]
fn api_38_a_change_is_seen_in_the_write_that_tells_its_phase() {
    let mut cluster = settled(2, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.set_image("web:2");
    assert_eq!(
        seen_by_client(&cluster.rollout).1,
        "waiting for rollout spec update to be observed"
    );
    assert_eq!(
        health::of_rollout(&cluster.rollout.to_json()).0,
        health::Health::Progressing
    );
    cluster.settle();
    let generation = cluster
        .rollout
        .metadata
        .generation
        .map(|generation| generation.to_string());
    let first = cluster
        .statuses
        .iter()
        .find(|status| Some(&status.observed_generation) == generation.as_ref());
    assert_eq!(
        first.map(|status| status.message.as_str()),
        Some("more replicas need to be updated")
    );
}

#[test]
fn timing_counts_waits_for_a_person_and_tells_how_an_attempt_ended() {
    let mut cluster = settled(
        2,
        &json!({"steps": [{"setWeight": 50}, {"pause": {}}, {"pause": {"duration": "10s"}}]}),
    );
    let timing = |cluster: &Cluster| cluster.status().duration.clone().expect("timing");
    assert_eq!(
        timing(&cluster).completion_status,
        CompletionStatus::Promoted
    );
    assert!(timing(&cluster).finished_at.is_some());
    let begun = cluster.now;
    cluster.set_image("web:2").run_for(60);
    assert_eq!(timing(&cluster).rollout_started_at, Some(begun));
    assert_eq!(timing(&cluster).manual_pause_started_at, Some(begun));
    cluster.resume().run_for(5);
    assert_eq!(
        timing(&cluster).total_manual_pause_duration_seconds,
        Some(60)
    );
    cluster.run_for(60);
    let ended = timing(&cluster);
    assert_eq!(ended.completion_status, CompletionStatus::Promoted);
    assert_eq!(
        ended
            .finished_at
            .map(|end| begun.duration_until(end).as_secs()),
        Some(70)
    );
    assert_eq!(
        ended.total_manual_pause_duration_seconds,
        Some(60),
        "a timed pause is nobody's wait"
    );

    cluster.set_image("web:3").settle();
    cluster.promote_full().settle();
    assert_eq!(
        timing(&cluster).completion_status,
        CompletionStatus::FastPromoted
    );
    cluster.run_for(5);
    cluster.set_image("web:4").settle();
    cluster.set_image("web:3").settle();
    assert_eq!(
        timing(&cluster).completion_status,
        CompletionStatus::FastRolledBack
    );
}

#[test]
fn a_replica_set_that_cannot_make_pods_says_why_in_the_message() {
    let mut cluster = settled(
        2,
        &json!({"maxSurge": 1, "maxUnavailable": 0, "steps": [{"setWeight": 50}, {"pause": {}}]}),
    );
    cluster.broken.insert("web:2".to_owned());
    cluster.set_image("web:2").settle();
    let set = cluster.sets.last_mut().expect("a ReplicaSet");
    set.seen.failure = Some(("FailedCreate".to_owned(), "exceeded quota".to_owned()));
    cluster.settle();
    assert_eq!(cluster.phase(), "Progressing: FailedCreate: exceeded quota");
    assert_eq!(
        cluster.told("ReplicaFailure").map(|told| told.2),
        Some("exceeded quota".to_owned())
    );
    cluster.sets.last_mut().expect("a ReplicaSet").seen.failure = None;
    cluster.settle();
    assert_eq!(cluster.told("ReplicaFailure"), None);
}

#[test]
fn a_change_of_template_and_replicas_together_is_not_healthy_for_a_moment() {
    let mut cluster = settled(4, &json!({"steps": [{"setWeight": 50}, {"pause": {}}]}));
    cluster.patch(&json!({"spec": {"replicas": 2}}));
    cluster.set_image("web:2").settle();
    let generation = cluster.status().observed_generation.clone();
    let wrong = cluster.statuses.iter().find(|status| {
        status.observed_generation == generation && status.phase.as_str() == "Healthy"
    });
    assert_eq!(wrong, None);
    assert_eq!(cluster.phase(), "Paused: CanaryPauseStep");
}

#[test]
fn a_strategy_can_be_changed_on_a_live_rollout() {
    let mut cluster = settled(2, &json!({"steps": [{"setWeight": 50}]}));
    cluster.add_service("active");
    cluster.patch(&json!({"spec": {"strategy": {"canary": null, "blueGreen": {"activeService": "active"}}}})).settle();
    assert_eq!(cluster.phase(), "Healthy");
    assert_eq!(
        (cluster.sets.len(), cluster.status().current_step_index),
        (1, None)
    );
    cluster.patch(&json!({"spec": {"strategy": {"blueGreen": null, "canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}}})).settle();
    assert_eq!(
        (
            cluster.phase().as_str(),
            cluster.index(),
            cluster.sets.len()
        ),
        ("Healthy", 2, 1)
    );
}

#[test]
fn what_was_done_is_told_once_although_the_status_is_refused_again_and_again() {
    let steps = json!({"steps": [{"setWeight": 50}, {"pause": {}}]});
    let reasons = |conflicts: usize| {
        let mut cluster = canary(4, &steps);
        cluster.settle();
        cluster.forget();
        cluster.set_image("web:2");
        for _ in 0..conflicts {
            cluster.conflicts = 1;
            cluster.pass();
            assert_eq!(cluster.conflicts == 0, cluster.failed.is_some());
        }
        cluster.conflicts = 0;
        cluster.settle();
        let mut told = cluster.take_reasons();
        told.sort();
        told
    };
    let undisturbed = reasons(0);
    for conflicts in 1..8 {
        assert_eq!(reasons(conflicts), undisturbed, "{conflicts} conflicts");
    }
}
