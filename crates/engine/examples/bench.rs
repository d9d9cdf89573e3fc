//! How quickly passes are decided, and what a pass that wants nothing allocates.
//!
//! The Rollout stands in the middle of a canary: five ReplicaSets, two analysis runs, one router. The bounds are those of the design;
//! the program fails when one is missed. Times come from this program, not from the engine, which has no clock.

#![expect(clippy::print_stdout, reason = "the result is what is printed")]
#![expect(clippy::disallowed_methods, reason = "measuring takes a clock")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::words::{PodHash, Weight};
use crossfade_api::{AnalysisRun, Resource as _, Rollout};
use crossfade_engine::action::{Destination, Evidence, Split, Target};
use crossfade_engine::decision::Found;
use crossfade_engine::rollout::decide;
use crossfade_engine::rollout::prepared::prepare;
use crossfade_engine::rollout::world::{
    Peaks, ReplicaSet, Router, Service, Settings, TemplateKey, World,
};
use jiff::Timestamp;
use serde_json::json;

/// Least passes a second on one core.
const LEAST_PASSES: f64 = 100_000.0;
/// Most bytes that a pass which wants nothing may allocate.
const MOST_BYTES: u64 = 1024;
/// Passes that are timed at a stretch, and how often.
const PASSES: u32 = 2_000;
const SPELLS: u32 = 200;

/// Counts what is allocated.
struct Counting;

static BYTES: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

#[expect(
    unsafe_code,
    reason = "allocators cannot be written without; both calls go to the system's own"
)]
// SAFETY: every call is handed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as u64, Relaxed);
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let now: Timestamp = Timestamp::from_second(1_700_000_100).expect("a time");
    let world = mid_canary(now);
    let evidence = Evidence::default();
    let decision = decide(&world, &evidence, now);
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    assert!(decision.status.is_none(), "{:?}", decision.status);

    let (bytes, calls) = (BYTES.load(Relaxed), CALLS.load(Relaxed));
    drop(decide(&world, &evidence, now));
    let (bytes, calls) = (BYTES.load(Relaxed) - bytes, CALLS.load(Relaxed) - calls);

    // The quickest of many short spells: whatever else the machine does only takes away.
    let spell = || {
        let begun = Instant::now();
        for _ in 0..PASSES {
            drop(std::hint::black_box(decide(
                std::hint::black_box(&world),
                &evidence,
                now,
            )));
        }
        f64::from(PASSES) / begun.elapsed().as_secs_f64()
    };
    let per_second = (0..SPELLS).map(|_| spell()).fold(0.0, f64::max);
    println!(
        "{}",
        json!({"passesPerSecond": per_second.round(), "bytesPerPass": bytes, "allocationsPerPass": calls}),
    );
    let good = per_second >= LEAST_PASSES && bytes <= MOST_BYTES;
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A Rollout at a pause in the middle of its steps, with nothing left to do.
fn mid_canary(now: Timestamp) -> World {
    let template = |image: &str| {
        json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": image, "ports": [{"containerPort": 8080}]}]},
        })
    };
    let json = |status: serde_json::Value| {
        json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Rollout",
            "metadata": {
                "name": "web", "namespace": "default", "uid": "rollout", "generation": 5, "resourceVersion": "9",
                "annotations": {"rollout.argoproj.io/revision": "5"},
            },
            "spec": {
                "replicas": 10,
                "selector": {"matchLabels": {"app": "web"}},
                "template": template("web:5"),
                "strategy": {"canary": {
                    "canaryService": "web-canary",
                    "stableService": "web-stable",
                    "trafficRouting": {"nginx": {"stableIngress": "web"}},
                    "analysis": {"templates": [{"templateName": "errors"}]},
                    "steps": [{"setWeight": 20}, {"analysis": {"templates": [{"templateName": "errors"}]}}, {"setWeight": 50}],
                }},
            },
            "status": status,
        })
    };
    let (rollout, _) = Rollout::from_json(json(json!({})));
    let prepared = Arc::new(prepare(&rollout));
    let new = prepared.hash.as_str().to_owned();
    let stable = "5d7c6b5f4".to_owned();
    let run = |name: &str| json!({"name": name, "status": "Running"});
    let (mut rollout, unread) = Rollout::from_json(json(json!({
        "currentPodHash": new,
        "currentStepHash": prepared.step_hash,
        "currentStepIndex": 1,
        "stableRS": stable,
        "observedGeneration": "5",
        "phase": "Progressing",
        "canary": {
            "weights": {
                "canary": {"weight": 20, "serviceName": "web-canary", "podTemplateHash": new},
                "stable": {"weight": 80, "serviceName": "web-stable", "podTemplateHash": stable},
            },
            "currentStepAnalysisRunStatus": run("step"),
            "currentBackgroundAnalysisRunStatus": run("background"),
        },
    })));
    assert!(unread.is_empty(), "{unread:?}");
    let set = |hash: &str, revision: usize, pods: i32| {
        let mut set = ReplicaSet {
            target: Target {
                namespace: "default".to_owned(),
                name: format!("web-{hash}"),
                uid: format!("set-{hash}"),
                resource_version: revision.to_string(),
            },
            created: Timestamp::from_second(1_699_000_000 + revision.cast_signed() as i64)
                .expect("a time"),
            controller: Some("rollout".to_owned()),
            observed: true,
            replicas: pods,
            current: pods,
            ready: pods,
            available: pods,
            template_digest: hash.to_owned(),
            ..ReplicaSet::default()
        };
        set.labels = labels(&[("app", "web"), ("rollouts-pod-template-hash", hash)]);
        set.annotations = labels(&[
            ("rollout.argoproj.io/revision", &revision.to_string()),
            ("rollout.argoproj.io/desired-replicas", "10"),
        ]);
        set
    };
    let mut newest = set(&new, 5, 2);
    newest.annotations.insert(
        "crossfade.dev/template-digest".to_owned(),
        prepared.template_digest.clone(),
    );
    let replica_sets = vec![
        set("4444444", 1, 0),
        set("5555555", 2, 0),
        set("6666666", 3, 0),
        set(&stable, 4, 10),
        newest,
    ];
    let service = |name: &str, hash: &str| {
        let target = Target {
            name: name.to_owned(),
            ..Target::default()
        };
        let selector = labels(&[("app", "web"), ("rollouts-pod-template-hash", hash)]);
        (
            name.to_owned(),
            Found::Found(Service {
                target,
                selector,
                managed_by: Some("web".to_owned()),
            }),
        )
    };
    let side = |weight, service: &str, hash: &str| Destination {
        weight: Weight(weight),
        service: service.to_owned(),
        hash: PodHash::from(hash),
    };
    let split = Split {
        max: Weight(100),
        canary: side(20, "web-canary", &new),
        stable: side(80, "web-stable", &stable),
        ..Split::default()
    };
    let analysis_run = |name: &str| {
        let (run, _) = AnalysisRun::from_json(json!({
            "metadata": {"name": name, "labels": {"rollouts-pod-template-hash": new, "step-index": "1"}},
            "spec": {"metrics": []},
            "status": {"phase": "Running"},
        }));
        Arc::new(run)
    };
    let key = TemplateKey {
        cluster_scope: false,
        name: "errors".to_owned(),
    };
    let mut world = World {
        services: BTreeMap::from([service("web-canary", &new), service("web-stable", &stable)]),
        references: BTreeMap::new(),
        templates: BTreeMap::from([(key, Found::Found(Arc::new(AnalysisTemplateSpec::default())))]),
        unread: BTreeMap::new(),
        runs: vec![analysis_run("step"), analysis_run("background")],
        experiments: Vec::new(),
        bodies: BTreeMap::new(),
        workload: None,
        routers: vec![Router {
            kind: "Nginx".to_owned(),
            in_force: Some(split),
            confirms: false,
        }],
        pods: Vec::new(),
        faults: Arc::default(),
        peaks: Peaks::default(),
        gates: Vec::new(),
        settings: Settings::default(),
        rollout: Arc::new(rollout.clone()),
        prepared,
        replica_sets,
    };
    // The first passes write down what they find; then there is nothing more to say.
    for _ in 0..5 {
        match decide(&world, &Evidence::default(), now).status {
            Some(status) => rollout.status = status,
            None => break,
        }
        world.rollout = Arc::new(rollout.clone());
    }
    world
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}
