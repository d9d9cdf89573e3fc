//! Gates that are no part of a strategy: what they hold back, what they take back, and what they never touch.

use crossfade_engine::decision::Wait;
use crossfade_engine::gate::{Answer, Gate, Moment};
use serde_json::{Value, json};

use crate::cluster::{Cluster, canary, rollout};

const ALWAYS: [Moment; 4] = [
    Moment::Start,
    Moment::Advance,
    Moment::Promotion,
    Moment::Bake,
];

fn closed() -> Answer {
    Answer::lacks(Wait {
        for_what: "the freeze to end".to_owned(),
        since: None,
        until: None,
        moved_by: &[],
    })
}

fn proof() -> Answer {
    Answer::Stop("incident 7 is open".to_owned())
}

impl Cluster {
    fn gate(&mut self, moments: &[Moment], answer: Answer) -> &mut Self {
        self.gates = vec![Gate {
            moments: moments.to_vec(),
            answer,
        }];
        self
    }

    fn open(&mut self) -> &mut Self {
        self.gates.clear();
        self.settle();
        self
    }
}

fn settled(mut cluster: Cluster) -> Cluster {
    cluster.settle();
    assert_eq!(cluster.phase(), "Healthy");
    cluster.run_for(60);
    cluster.forget();
    cluster
}

fn basic(steps: &Value) -> Cluster {
    settled(canary(4, &json!({ "steps": steps })))
}

fn routed(steps: &Value) -> Cluster {
    settled(canary(
        4,
        &json!({
            "canaryService": "canary",
            "stableService": "stable",
            "trafficRouting": {"nginx": {"stableIngress": "web"}},
            "steps": steps,
        }),
    ))
}

fn blue_green(extra: &Value) -> Cluster {
    let mut strategy = json!({"activeService": "active", "previewService": "preview"});
    crossfade_api::merge_patch::apply(&mut strategy, extra);
    settled(Cluster::new(rollout(
        &json!({"replicas": 2, "strategy": {"blueGreen": strategy}}),
    )))
}

fn sizes(cluster: &Cluster) -> (i32, i32) {
    (cluster.size("web:2"), cluster.size("web:1"))
}

#[test]
fn a_release_that_may_not_start_makes_its_replicaset_and_no_pod() {
    let steps = json!([{"setWeight": 50}, {"pause": {}}]);
    let releases = [
        (basic(&steps), 4, (2, 2)),
        (routed(&steps), 4, (2, 4)),
        (basic(&json!([{"pause": {}}, {"setWeight": 50}])), 4, (0, 4)),
        (
            blue_green(&json!({"autoPromotionEnabled": false})),
            2,
            (2, 2),
        ),
    ];
    for (mut cluster, replicas, started) in releases {
        cluster.gate(&[Moment::Start], closed());
        cluster.set_image("web:2").settle();
        assert_eq!(sizes(&cluster), (0, replicas));
        assert_eq!(
            cluster.phase(),
            "Progressing: more replicas need to be updated"
        );
        assert!(cluster.waits_for("the freeze to end"));
        assert_eq!(cluster.told_events("SwitchService"), [""; 0]);
        assert_eq!(cluster.told_events("RolloutPaused"), [""; 0]);
        cluster.open();
        assert_eq!(sizes(&cluster), started);
        assert!(cluster.phase().starts_with("Paused"), "{}", cluster.phase());
        assert!(!cluster.waits_for("the freeze to end"));
    }
}

#[test]
fn a_release_that_may_not_start_is_not_analysed_follows_its_replicas_and_is_not_pushed_by_a_full_promotion()
 {
    let analysis = json!({"templates": [{"templateName": "smoke"}]});
    let mut cluster = canary(
        4,
        &json!({"steps": [{"setWeight": 50}], "analysis": analysis}),
    );
    cluster.add_template("smoke");
    let mut cluster = settled(cluster);
    cluster.gate(&[Moment::Start], closed());
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.run_names(), [""; 0]);
    cluster.patch(&json!({"spec": {"replicas": 6}})).settle();
    assert_eq!(sizes(&cluster), (0, 6));
    cluster.promote_full().settle();
    assert_eq!((sizes(&cluster), cluster.index()), ((0, 6), 0));
    cluster.open();
    assert_eq!(sizes(&cluster), (6, 0));
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn a_step_that_is_done_waits_for_the_gates() {
    for mut cluster in [
        basic(&json!([{"setWeight": 25}, {"setWeight": 50}])),
        routed(&json!([{"setWeight": 25}, {"setWeight": 50}])),
    ] {
        cluster.gate(&[Moment::Advance], closed());
        cluster.set_image("web:2").settle();
        assert_eq!((cluster.size("web:2"), cluster.index()), (1, 0));
        assert!(cluster.waits_for("the freeze to end"));
        cluster.open();
        assert_eq!(cluster.phase(), "Healthy");
    }
}

#[test]
fn the_switch_waits_for_the_gates_and_no_go_on_is_lost() {
    let mut by_person = blue_green(&json!({"autoPromotionEnabled": false}));
    by_person.gate(&[Moment::Advance], closed());
    by_person.set_image("web:2").settle();
    by_person.resume().settle();
    assert_eq!(by_person.selected("active"), "web:1");
    assert!(by_person.waits_for("the freeze to end"));
    by_person.open();
    assert_eq!(by_person.selected("active"), "web:2");

    let mut by_time = blue_green(&json!({"autoPromotionSeconds": 10}));
    by_time.gate(&[Moment::Advance], closed());
    by_time.set_image("web:2").run_for(30);
    assert_eq!(by_time.selected("active"), "web:1");
    by_time.open();
    assert_eq!(by_time.selected("active"), "web:2");
    assert_eq!(by_time.phase(), "Healthy");
}

#[test]
fn a_promotion_waits_for_the_gates_and_the_old_version_keeps_its_pods() {
    let mut cluster = routed(&json!([{"setWeight": 50}]));
    cluster.gate(&[Moment::Promotion], closed());
    cluster.set_image("web:2").run_for(120);
    assert_eq!((sizes(&cluster), cluster.weight()), ((4, 4), Some(100)));
    assert_eq!(cluster.index(), 1);
    assert!(cluster.waits_for("the freeze to end"));
    cluster.open();
    assert_eq!(cluster.phase(), "Healthy");

    let mut cluster = blue_green(&json!({}));
    cluster.gate(&[Moment::Promotion], closed());
    cluster.set_image("web:2").run_for(120);
    assert_eq!(cluster.selected("active"), "web:2");
    assert_eq!(sizes(&cluster), (2, 2));
    assert_eq!(cluster.status().stable_rs.as_str(), cluster.hash("web:1"));
    cluster.open();
    assert_eq!(cluster.phase(), "Healthy");
}

#[test]
fn what_lacks_while_a_version_bakes_is_shown_and_holds_nothing() {
    for mut cluster in [
        basic(&json!([{"setWeight": 25}, {"pause": {}}])),
        blue_green(&json!({"autoPromotionEnabled": false})),
    ] {
        cluster.gate(&[Moment::Bake], closed());
        cluster.set_image("web:2").settle();
        assert!(cluster.phase().starts_with("Paused"));
        assert!(cluster.waits_for("the freeze to end"));
        cluster.resume().run_for(60);
        assert_eq!(cluster.phase(), "Healthy");
        assert!(!cluster.waits_for("the freeze to end"), "nothing bakes");
    }
}

#[test]
fn proof_takes_a_release_back_at_every_moment() {
    for moment in ALWAYS {
        for mut cluster in [
            basic(&json!([{"setWeight": 25}])),
            routed(&json!([{"setWeight": 25}])),
            blue_green(&json!({})),
        ] {
            cluster.gate(&[moment], proof());
            cluster.set_image("web:2").run_for(120);
            assert_eq!(
                cluster.phase(),
                "Degraded: RolloutAborted: Rollout aborted update to revision 2: incident 7 is open",
                "{moment:?}"
            );
            assert_eq!(cluster.told_events("RolloutAborted").len(), 1, "{moment:?}");
            assert_eq!(cluster.size("web:2"), 0, "{moment:?}");
            let replicas = cluster.rollout.spec.replicas();
            assert_eq!(cluster.size("web:1"), replicas, "{moment:?}");
            assert_ne!(cluster.weight().unwrap_or(0), 100);
        }
    }
}

#[test]
fn proof_is_acted_on_in_the_middle_of_a_pause() {
    let mut cluster = routed(&json!([{"setWeight": 25}, {"pause": {}}]));
    cluster.set_image("web:2").settle();
    assert_eq!(cluster.weight(), Some(25));
    cluster.gate(&[Moment::Bake], proof()).settle();
    assert!(cluster.status().abort);
    assert_eq!(cluster.weight(), Some(0));
}

#[test]
fn no_gate_holds_a_first_deployment_an_abort_or_a_way_back() {
    let mut first = canary(3, &json!({"steps": [{"setWeight": 50}]}));
    first.gate(&ALWAYS, proof()).settle();
    assert_eq!(first.phase(), "Healthy");

    let mut aborted = basic(&json!([{"setWeight": 50}, {"pause": {}}]));
    aborted.set_image("web:2").settle();
    aborted.gate(&ALWAYS, closed()).abort().settle();
    assert_eq!(sizes(&aborted), (0, 4));

    let mut undone = basic(&json!([{"setWeight": 50}, {"pause": {}}]));
    undone.set_image("web:2").settle();
    undone.gate(&ALWAYS, proof()).set_image("web:1").settle();
    assert_eq!(undone.phase(), "Healthy");
    assert_eq!(sizes(&undone), (0, 4));

    let mut window = basic(&json!([{"setWeight": 50}]));
    window.patch(&json!({"spec": {"rollbackWindow": {"revisions": 3}}}));
    for image in ["web:2", "web:3"] {
        window.run_for(10);
        window.set_image(image).settle();
    }
    window.gate(&ALWAYS, proof()).set_image("web:2").settle();
    assert_eq!(window.phase(), "Healthy");

    let mut delayed = blue_green(&json!({"autoPromotionEnabled": false}));
    delayed.set_image("web:2").settle();
    delayed.resume().settle();
    assert_eq!(delayed.selected("active"), "web:2");
    delayed.run_for(5);
    delayed.gate(&ALWAYS, proof()).set_image("web:1").settle();
    assert_eq!(delayed.selected("active"), "web:1");
    assert_eq!(delayed.phase(), "Healthy");
    for cluster in [first, undone, window, delayed] {
        assert_eq!(cluster.told_events("RolloutAborted"), [""; 0]);
    }
}
