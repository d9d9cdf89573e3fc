//! Canaries that the reference left in the middle of something are carried on from where it stood.

#![expect(clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;

use crossfade_engine::canary::action::Shares;
use crossfade_sim::canaries::{Namespace, Route};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// What the reference left, with the ReplicaSets of these images, whose hashes are its hashes.
fn left(moment: &str, replica_sets: &[(&str, &str)]) -> Namespace {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/takeover-canaries");
    let text = fs::read_to_string(path.join(format!("{moment}.json"))).expect("the file is there");
    let snapshot: Value = serde_json::from_str(&text).expect("it is JSON");
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("it is a time");
    let items = snapshot["items"].as_array().expect("it is a list");
    let name = items[0]["metadata"]["namespace"]
        .as_str()
        .expect("it is a text");
    let mut world = Namespace::new(name, now);
    for item in items {
        if item["kind"] == "Ingress" && item["metadata"]["name"] == "app-canary" {
            let weight =
                &item["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary-weight"];
            let canary = weight
                .as_str()
                .and_then(|weight| weight.parse().ok())
                .expect("it is a number");
            let shares = Shares {
                primary: 100 - canary,
                canary,
                mirrored: false,
            };
            world.routes.insert(
                "app".to_owned(),
                Route {
                    shares,
                    cookies: None,
                },
            );
        }
        world.left(item);
    }
    let target = world
        .object("Deployment", "app")
        .expect("it is there")
        .clone();
    for (hash, image) in replica_sets {
        let mut template = target["spec"]["template"].clone();
        template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        template["spec"]["containers"][0]["image"] = json!(format!("registry.example/app:{image}"));
        world.left(&json!({
            "kind": "ReplicaSet",
            "metadata": {
                "name": format!("app-{hash}"),
                "creationTimestamp": "2026-11-21T10:50:00Z",
                "labels": {"app": "app", "pod-template-hash": hash},
                "ownerReferences": [{"kind": "Deployment", "name": "app", "uid": target["metadata"]["uid"], "controller": true}],
            },
            "spec": {"template": template},
        }));
    }
    for hook in ["back", "traffic-gate", "rollout-gate"] {
        world.hooks.insert(hook.to_owned(), (403, String::new()));
    }
    // Pods are there and ready.
    world.look_at("app", now + SignedDuration::from_secs(5));
    world.advance(now + SignedDuration::from_secs(5));
    world
}

const BOTH: [(&str, &str); 2] = [("c8dbc95df", "v1"), ("654499f758", "v2")];

fn status(world: &Namespace) -> Value {
    world.object("Canary", "app").expect("it is there")["status"].clone()
}

fn until(world: &mut Namespace, phase: &str) {
    for _ in 0..40 {
        if status(world)["phase"] == phase {
            return;
        }
        world.ticks(1);
    }
    panic!(
        "{phase} is not reached: {} {:?}",
        status(world),
        world.texts("app")
    );
}

fn is_told(world: &Namespace, text: &str) -> bool {
    world.texts("app").iter().any(|told| told.contains(text))
}

#[test]
fn a_release_in_the_middle_goes_on_where_it_stood() {
    let mut world = left("nginx-promotes.at-20", &BOTH);
    assert_eq!(
        (
            world.routes["app"].shares.canary,
            &status(&world)["canaryWeight"]
        ),
        (30, &json!(30))
    );
    assert!(!is_told(&world, "Restarting"));
    until(&mut world, "Succeeded");
    let status = status(&world);
    assert_eq!(status["lastAppliedSpec"], world.revision("app"));
    assert_eq!(status["lastPromotedSpec"], world.revision("app"));
    assert!(!is_told(&world, "Restarting") && !is_told(&world, "Rolling back"));
}

#[test]
fn a_release_whose_revision_nobody_can_recognise_begins_anew_once() {
    let mut world = left("nginx-promotes.at-20", &[]);
    assert_eq!(world.routes["app"].shares.canary, 0);
    until(&mut world, "Succeeded");
    let restarts = world
        .texts("app")
        .iter()
        .filter(|told| told.contains("Restarting"))
        .count();
    assert_eq!(restarts, 1);
}

#[test]
fn a_release_that_is_held_by_a_gate_stays_held() {
    let mut world = left("nginx-manual-gating-one-step.held-at-10", &BOTH);
    world.ticks(3);
    assert_eq!(world.routes["app"].shares.canary, 10);
    assert!(is_told(
        &world,
        "waiting for traffic increase approval traffic-gate"
    ));
    world
        .hooks
        .insert("traffic-gate".to_owned(), (200, String::new()));
    world.ticks(1);
    assert_eq!(world.routes["app"].shares.canary, 20);
}

#[test]
fn a_release_that_waits_for_approval_still_waits() {
    let mut world = left("nginx-gates.waiting", &BOTH);
    world.ticks(2);
    assert_eq!(status(&world)["phase"], "Waiting");
    world
        .hooks
        .insert("rollout-gate".to_owned(), (200, String::new()));
    world
        .hooks
        .insert("traffic-gate".to_owned(), (200, String::new()));
    until(&mut world, "Succeeded");
}

#[test]
fn releases_that_ended_stay_ended() {
    for (moment, replica_sets) in [
        ("nginx-promotes.succeeded", &BOTH[..]),
        ("nginx-promotes.succeeded", &[]),
        ("nginx-fails-success-rate.failed", &BOTH[..]),
        ("nginx-fails-success-rate.failed", &[]),
    ] {
        let mut world = left(moment, replica_sets);
        let phase = status(&world)["phase"].clone();
        world.ticks(3);
        assert_eq!(
            status(&world)["phase"],
            phase,
            "{moment}: {:?}",
            world.texts("app")
        );
        assert_eq!(
            status(&world)["lastAppliedSpec"],
            world.revision("app"),
            "{moment}"
        );
        let promoted = status(&world)["lastPromotedSpec"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(promoted.starts_with("cf1:"), "{moment}: {promoted}");
        assert_eq!(
            promoted == world.revision("app"),
            moment.ends_with("succeeded")
        );
        // The next revision is released.
        world.set_image("app", "registry.example/app:v9");
        until(&mut world, "Progressing");
    }
}
