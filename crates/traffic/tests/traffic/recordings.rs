//! Runs of the reference, replayed: for every status that it recorded, we carry the split which that status tells of, and our objects pass through no
//! state that its objects did not, in the same order, to the same end.

use std::path::Path;

use crossfade_api::rollout::CanaryStrategy;
use crossfade_api::rollout_status::TrafficWeights;
use crossfade_api::split::{Destination, HeaderRoute, MirrorRoute, Split};
use crossfade_api::words::Weight;
use serde_json::{Value, json};

use crate::rig::{World, text};

struct Recording {
    strategy: CanaryStrategy,
    trace: Vec<Value>,
    world: World,
}

fn read(name: &str) -> Recording {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.json"));
    let text = std::fs::read_to_string(path).expect("the recording is there");
    let mut recorded: Value = serde_json::from_str(&text).expect("JSON");
    let strategy: CanaryStrategy =
        serde_json::from_value(recorded["strategy"].take()).expect("a strategy");
    let mut world = World::new("{}", recorded["objects"].as_array().expect("objects"));
    world.name = "app";
    world.routing = strategy.traffic_routing.clone().expect("a router");
    world.services = if strategy.ping_pong.is_some() {
        ("", "")
    } else {
        ("app-canary", "app-stable")
    };
    let trace = recorded["trace"].as_array().expect("a trace").clone();
    Recording {
        strategy,
        trace,
        world,
    }
}

impl Recording {
    /// The split that a recorded status tells of; `stable_is_ping` says which role ping had when it was carried.
    fn split(&self, line: &Value, stable_is_ping: bool) -> Option<Split> {
        let weights: Option<TrafficWeights> =
            serde_json::from_value(line["weights"].clone()).expect("weights");
        let weights = weights?;
        let services = self.strategy.ping_pong.as_ref().map(|services| {
            let names = (services.ping_service.clone(), services.pong_service.clone());
            if stable_is_ping {
                (names.1, names.0)
            } else {
                names
            }
        });
        let (canary, stable) = services.unwrap_or((
            weights.canary.service_name.clone(),
            weights.stable.service_name.clone(),
        ));
        let side =
            |recorded: &crossfade_api::rollout_status::WeightDestination, service| Destination {
                weight: Weight(recorded.weight),
                service,
                hash: recorded.pod_template_hash.clone(),
            };
        let mut split = Split {
            max: Weight(100),
            canary: side(&weights.canary, canary),
            stable: side(&weights.stable, stable),
            ..Split::default()
        };
        let managed = self.world.routing.managed_routes.iter().flatten();
        split.managed = managed.map(|route| route.name.clone()).collect();
        let over = line["current"] == line["stable"] || line["abort"] == json!(true);
        let steps = usize::try_from(line["index"].as_u64().unwrap_or(0)).expect("a position");
        for step in self
            .strategy
            .steps
            .iter()
            .take(if over { 0 } else { steps + 1 })
        {
            if let Some(route) = &step.set_header_route {
                split.header_routes.retain(|other| other.name != route.name);
                if !route.matches.is_empty() {
                    split.header_routes.push(HeaderRoute {
                        name: route.name.clone(),
                        matches: route.matches.clone(),
                    });
                }
            }
            if let Some(route) = &step.set_mirror_route {
                split.mirror_routes.push(MirrorRoute {
                    name: route.name.clone(),
                    percentage: route.percentage(),
                    matches: route.matches.clone(),
                });
            }
        }
        Some(split)
    }
}

/// What is compared of an object.
fn visible(object: &Value) -> Value {
    let annotations = object
        .get("annotations")
        .or(object.pointer("/metadata/annotations"));
    json!({"annotations": annotations, "spec": object["spec"]})
}

/// Replays a recording and compares the states of one object.
fn replay(name: &str, kind: &str, object: &str, least: usize) {
    let mut recording = read(name);
    let mut recorded: Vec<Value> = recording
        .trace
        .iter()
        .filter(|line| line["kind"] == kind && line["name"] == object)
        .map(visible)
        .collect();
    recorded.dedup();
    let mut ours: Vec<Value> = recording
        .world
        .get(kind, object)
        .map(visible)
        .into_iter()
        .collect();
    let mut stable_is_ping = false;
    for line in recording.trace.clone() {
        if line["kind"] != "Rollout" {
            continue;
        }
        if let Some(split) = recording.split(&line, stable_is_ping) {
            recording.world.carry(&split);
            ours.extend(recording.world.get(kind, object).map(visible));
        }
        stable_is_ping = text(&line, "/stablePingPong") == "ping";
    }
    ours.dedup();
    assert_eq!(ours.first(), recorded.first(), "the first state");
    assert_eq!(ours.last(), recorded.last(), "the last state");
    assert!(
        ours.len() >= least,
        "only {} states of {}",
        ours.len(),
        recorded.len()
    );
    let mut rest = recorded.iter();
    for state in &ours {
        assert!(
            rest.any(|recorded| recorded == state),
            "the reference had no such state then: {state:#}"
        );
    }
}

#[test]
fn an_nginx_canary_is_written_as_the_reference_wrote_it() {
    replay("nginx-routed", "Ingress", "app-app-canary", 5);
}

#[test]
fn an_aborted_nginx_canary_is_written_as_the_reference_wrote_it() {
    replay("nginx-abort-with-delay", "Ingress", "app-app-canary", 3);
}

#[test]
fn an_nginx_canary_with_dynamic_stable_pods_is_written_as_the_reference_wrote_it() {
    replay("nginx-dynamic-stable-scale", "Ingress", "app-app-canary", 6);
}

#[test]
fn an_nginx_canary_with_its_own_scale_is_written_as_the_reference_wrote_it() {
    replay("nginx-set-canary-scale", "Ingress", "app-app-canary", 4);
}

#[test]
fn istio_header_and_mirror_routes_are_written_as_the_reference_wrote_them() {
    replay("istio-header-and-mirror", "VirtualService", "app", 6);
}

#[test]
fn istio_ping_pong_is_written_as_the_reference_wrote_it() {
    replay("istio-ping-pong", "VirtualService", "app", 5);
}
