//! The second opinion objects to histories that must not be, and to nothing else.

use std::sync::Arc;

use crossfade_api::rollout_status::{PauseReason, RolloutPhase};
use crossfade_sim::opinion::evidence::{Answer, Evidence, Purpose, Verdict};
use crossfade_sim::opinion::plan::Plan;
use crossfade_sim::opinion::{Facts, Look, Opinion, Side};
use serde_json::{Value, json};

/// A release of version 2 over version 1 that has just begun.
fn begun(strategy: &Value) -> (Opinion, Look) {
    begun_on(strategy, &facts(0))
}

fn begun_on(strategy: &Value, facts: &Facts) -> (Opinion, Look) {
    let plan = Arc::new(Plan::read(&json!({"strategy": strategy})));
    let canary = !plan.steps().is_empty();
    let stable = Look {
        version: 2,
        replicas: 2,
        paused: false,
        current: Some(1),
        stable: Some(1),
        active: Some(1),
        step: canary.then(|| i32::try_from(plan.steps().len()).expect("few steps")),
        steps: "digest".to_owned(),
        aborted: false,
        full: false,
        pauses: Vec::new(),
        held: false,
        runs: Vec::new(),
        phase: RolloutPhase::Healthy,
        message: String::new(),
        plan,
    };
    let first = Look {
        current: None,
        stable: None,
        active: None,
        step: None,
        version: 1,
        steps: String::new(),
        ..stable.clone()
    };
    let begun = Look {
        current: Some(2),
        step: canary.then_some(0),
        phase: RolloutPhase::Progressing,
        ..stable.clone()
    };
    let mut opinion = Opinion::default();
    let settled = Look {
        version: 1,
        ..stable.clone()
    };
    opinion
        .recorded(&first, &settled, facts)
        .expect("the first version comes at once");
    opinion
        .recorded(&stable, &begun, facts)
        .expect("an update begins");
    (opinion, begun)
}

/// Both versions have their pods, so many seconds after the update began.
fn facts(seconds: i64) -> Facts {
    let side = |version, came| Side {
        version,
        came,
        wanted: 2,
        available: 2,
        ..Side::default()
    };
    Facts {
        clock: seconds * 1000,
        runs_are_fresh: true,
        overtaken: false,
        switched_late: false,
        trial_without_pods: false,
        sides: vec![side(1, 0), side(2, 1)],
    }
}

fn canary(steps: &Value) -> (Opinion, Look) {
    begun(&json!({"canary": {"steps": steps}}))
}

fn metric() -> Value {
    json!({"metrics": [{
        "name": "rate", "interval": "5s", "count": 2, "successCondition": "result >= 0.9", "failureCondition": "result < 0.5",
    }]})
}

/// A run of version 2 measures these numbers.
fn measured(opinion: &mut Opinion, purpose: Purpose, numbers: &[f64]) {
    opinion.run_made("run", Evidence::new(purpose, 2, &metric()));
    for number in numbers {
        opinion.measured("run", "rate", Answer::Number(*number));
    }
}

fn next(look: &Look) -> Look {
    Look {
        step: look.step.map(|step| step + 1),
        ..look.clone()
    }
}

fn promoted(look: &Look) -> Look {
    Look {
        stable: Some(2),
        phase: RolloutPhase::Healthy,
        ..look.clone()
    }
}

fn aborted(look: &Look) -> Look {
    Look {
        aborted: true,
        phase: RolloutPhase::Degraded,
        ..look.clone()
    }
}

/// It objects, with these words.
fn objects(verdict: Result<(), String>, words: &str) {
    let why = verdict.expect_err(words);
    assert!(why.contains(words), "{why}");
}

#[test]
fn a_good_release_is_as_it_should_be() {
    let (mut opinion, look) = canary(&json!([{"setWeight": 50}, {"analysis": {}}]));
    let analysed = next(&look);
    assert_eq!(opinion.recorded(&look, &analysed, &facts(1)), Ok(()));
    measured(&mut opinion, Purpose::Step(1), &[0.95, 0.99]);
    assert_eq!(opinion.run_ended("run", Verdict::Successful, false), Ok(()));
    let done = next(&analysed);
    assert_eq!(opinion.recorded(&analysed, &done, &facts(2)), Ok(()));
    let end = promoted(&done);
    assert_eq!(opinion.recorded(&done, &end, &facts(3)), Ok(()));
    assert_eq!(opinion.at_rest(&end, &facts(4)), Ok(()));
}

#[test]
fn a_step_is_not_over_without_its_run() {
    let (mut opinion, look) = canary(&json!([{"analysis": {}}]));
    let verdict = opinion.recorded(&look, &next(&look), &facts(1));
    objects(verdict, "no run of it was successful");
}

#[test]
fn a_run_is_what_was_measured() {
    let (mut opinion, _) = canary(&json!([{"analysis": {}}]));
    measured(&mut opinion, Purpose::Step(0), &[0.95, 0.1]);
    let verdict = opinion.run_ended("run", Verdict::Successful, false);
    objects(verdict, "by what was measured it is Failed");
    measured(&mut opinion, Purpose::Step(0), &[0.95]);
    let verdict = opinion.run_ended("run", Verdict::Successful, false);
    objects(verdict, "by what was measured it is not over");
}

#[test]
fn a_pause_is_over_when_time_is_or_somebody_says_so() {
    let steps = json!([{"pause": {"duration": "30s"}}]);
    let (mut opinion, look) = canary(&steps);
    let paused = Look {
        pauses: vec![PauseReason::CanaryPauseStep],
        held: true,
        phase: RolloutPhase::Paused,
        ..look.clone()
    };
    assert_eq!(opinion.recorded(&look, &paused, &facts(1)), Ok(()));
    let verdict = opinion.recorded(&paused, &next(&look), &facts(29));
    objects(verdict, "nobody resumed and its time was not over");
    let (mut opinion, look) = canary(&steps);
    assert_eq!(opinion.recorded(&look, &paused, &facts(1)), Ok(()));
    assert_eq!(
        opinion.recorded(&paused, &next(&look), &facts(31)),
        Ok(()),
        "time is over"
    );
    let (mut opinion, look) = canary(&steps);
    assert_eq!(opinion.recorded(&look, &paused, &facts(1)), Ok(()));
    assert_eq!(
        opinion.recorded(&look, &next(&look), &facts(2)),
        Ok(()),
        "somebody has taken the pause away"
    );
}

#[test]
fn nothing_is_promoted_before_its_last_step_or_without_pods() {
    let (mut opinion, look) = canary(&json!([{"setWeight": 50}, {"setWeight": 80}]));
    let verdict = opinion.recorded(&look, &promoted(&look), &facts(1));
    objects(verdict, "promoted at step 0 of 2");
    let mut few = facts(0);
    few.sides[1].available = 1;
    let (mut opinion, look) = begun_on(&json!({"canary": {"maxSurge": 1}}), &few);
    let verdict = opinion.recorded(&look, &promoted(&look), &few);
    objects(verdict, "with 1 pods at most, 2 are enough");
}

#[test]
fn a_release_is_taken_back_for_a_reason_and_stays_so() {
    let (mut opinion, look) = canary(&json!([{"setWeight": 50}]));
    let verdict = opinion.recorded(&look, &aborted(&look), &facts(1));
    objects(verdict, "no run was bad and time was not over");
    let (mut opinion, look) = canary(&json!([{"setWeight": 50}]));
    // Somebody wrote it.
    let back = aborted(&look);
    assert_eq!(opinion.recorded(&back, &back, &facts(1)), Ok(()));
    let verdict = opinion.recorded(&back, &look, &facts(2));
    objects(verdict, "goes on by itself");
}

#[test]
fn bad_evidence_takes_a_release_back() {
    let (mut opinion, look) = canary(&json!([{"analysis": {}}]));
    measured(&mut opinion, Purpose::Step(0), &[0.1]);
    assert_eq!(opinion.run_ended("run", Verdict::Failed, false), Ok(()));
    let judged = Look {
        runs: vec!["run".to_owned()],
        ..look.clone()
    };
    let verdict = opinion.at_rest(&judged, &facts(3));
    objects(verdict, "run run was bad, but it was not taken back");
    let back = aborted(&judged);
    assert_eq!(opinion.recorded(&judged, &back, &facts(1)), Ok(()));
    assert_eq!(opinion.at_rest(&back, &facts(3)), Ok(()));
}

#[test]
fn requests_are_switched_after_the_run_and_the_pause() {
    let switched = |look: &Look| Look {
        active: Some(2),
        ..look.clone()
    };
    let pre = json!({"blueGreen": {"activeService": "active", "prePromotionAnalysis": {}}});
    let (mut opinion, look) = begun(&pre);
    let verdict = opinion.recorded(&look, &switched(&look), &facts(1));
    objects(verdict, "no run before it was successful");
    let by_hand = json!({"blueGreen": {"activeService": "active", "autoPromotionEnabled": false}});
    let (mut opinion, look) = begun(&by_hand);
    let verdict = opinion.recorded(&look, &switched(&look), &facts(1));
    objects(verdict, "nobody ended the pause");
    let post = json!({"blueGreen": {"activeService": "active", "postPromotionAnalysis": {}}});
    let (mut opinion, look) = begun(&post);
    let now = switched(&look);
    assert_eq!(opinion.recorded(&look, &now, &facts(1)), Ok(()));
    let verdict = opinion.recorded(&now, &promoted(&now), &facts(2));
    objects(verdict, "no run after the switch was successful");
}

#[test]
fn a_switch_after_its_pause_is_right_although_the_pause_is_still_on_record() {
    let timed = json!({"blueGreen": {"activeService": "active", "autoPromotionSeconds": 5}});
    let (mut opinion, look) = begun(&timed);
    let paused = Look {
        pauses: vec![PauseReason::BlueGreenPause],
        phase: RolloutPhase::Paused,
        ..look.clone()
    };
    assert_eq!(opinion.recorded(&look, &paused, &facts(1)), Ok(()));
    let switched = Look {
        active: Some(2),
        ..paused.clone()
    };
    let verdict = opinion.recorded(&paused, &switched, &facts(5));
    objects(verdict, "nobody ended the pause");
    assert_eq!(opinion.recorded(&paused, &switched, &facts(6)), Ok(()));
}

#[test]
fn a_pause_goes_on_to_count_when_an_abort_was_taken_back_before_anybody_looked() {
    let timed = json!({"blueGreen": {"activeService": "active", "autoPromotionSeconds": 5}});
    let (mut opinion, look) = begun(&timed);
    let paused = Look {
        pauses: vec![PauseReason::BlueGreenPause],
        phase: RolloutPhase::Paused,
        ..look.clone()
    };
    assert_eq!(opinion.recorded(&look, &paused, &facts(1)), Ok(()));
    // Nothing but the phase was recorded of the abort, for want of something that the spec names.
    let taken_back = aborted(&paused);
    assert_eq!(
        opinion.recorded(&taken_back, &taken_back, &facts(2)),
        Ok(())
    );
    let switched = Look {
        active: Some(2),
        pauses: Vec::new(),
        ..paused.clone()
    };
    assert_eq!(opinion.recorded(&paused, &switched, &facts(6)), Ok(()));
}

#[test]
fn nothing_rests_without_a_reason() {
    let (opinion, look) = canary(&json!([{"setWeight": 50}]));
    let verdict = opinion.at_rest(&look, &facts(1));
    objects(verdict, "nothing holds it back");
    let healthy = Look {
        phase: RolloutPhase::Healthy,
        ..look
    };
    let verdict = opinion.at_rest(&healthy, &facts(1));
    objects(verdict, "Healthy before it was promoted");
}
