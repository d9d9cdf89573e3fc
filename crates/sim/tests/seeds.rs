//! Many releases from seeds: every invariant holds in each, and together they reach every rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossfade_sim::canaries;
use crossfade_sim::coverage::Coverage;
use crossfade_sim::family::Family;
use crossfade_sim::run::{Broken, Options, run};
use crossfade_sim::{generate, invariants, shrink};

/// Seeds that are lived through in every run of the tests.
const SEEDS: u64 = 20_000;

/// What that many seeds must reach, by area.
const REACHED: &[(&str, &[&str])] = &[
    (
        "action",
        &[
            "create ReplicaSet",
            "update ReplicaSet",
            "delete ReplicaSet",
            "adopt ReplicaSet",
            "update Rollout",
            "switch Service",
            "route",
            "verify route",
            "evict pod",
            "label pod",
            "create AnalysisRun",
            "terminate AnalysisRun",
            "delete AnalysisRun",
            "measure",
            "create Job",
            "delete Job",
            "create Experiment",
            "terminate Experiment",
            "delete Experiment",
        ],
    ),
    (
        "step",
        &[
            "setWeight",
            "pause",
            "pause with a duration",
            "analysis",
            "setCanaryScale",
            "setHeaderRoute",
            "setMirrorRoute",
            "experiment",
        ],
    ),
    (
        "fault",
        &[
            "crash before an action",
            "crash after an action",
            "crash before the status",
            "crash before the events",
            "conflict",
            "lost reply",
            "refused write",
            "status conflict",
            "lost reply to the status",
            "stale Rollout",
            "stale ReplicaSets",
            "stale pods",
            "stale Services",
            "stale AnalysisRuns",
            "stale routers",
            "clock jump",
            "busy controller",
            "change of leadership",
            "extra passes",
        ],
    ),
    (
        "act",
        &[
            "deploy",
            "undo",
            "pause",
            "promote",
            "promote full",
            "skip step",
            "skip steps",
            "abort",
            "retry",
            "scale",
            "restart",
            "re-apply",
            "edit steps",
            "become blue-green",
            "become a canary",
            "delete",
            "delete last",
            "delete alone",
            "pod crash",
            "node loss",
            "foreign scale",
            "router down",
            "router slow",
            "router drift",
            "metrics down",
            "service lost",
        ],
    ),
    (
        "router",
        &[
            "ALB",
            "Istio",
            "Istio by subsets",
            "Nginx",
            "several header routes",
            "several mirror routes",
        ],
    ),
    ("verified", &["ALB", "Istio", "Nginx"]),
    (
        "refused",
        &["create ReplicaSet", "update ReplicaSet", "route"],
    ),
    ("outcome", &["deleted"]),
    (
        "canary action",
        &[
            "create",
            "patch",
            "copy configuration",
            "annotate",
            "set finalizers",
            "reconcile routes",
            "set weights",
            "restore routes",
            "call webhook",
            "check",
        ],
    ),
    (
        "canary fault",
        &[
            "crash before an action",
            "crash after an action",
            "crash before the status",
            "crash before the events",
            "conflict",
            "lost reply",
            "refused write",
            "status conflict",
            "lost reply to the status",
            "stale Canary",
            "stale workloads",
            "stale Services",
            "stale configurations",
            "stale autoscalers",
            "clock jump",
            "busy controller",
            "change of leadership",
            "extra passes",
        ],
    ),
    (
        "canary act",
        &[
            "deploy",
            "configure",
            "scale",
            "suspend",
            "resume",
            "skip the analysis",
            "analyse again",
            "edit the analysis",
            "scale the primary",
            "delete the primary",
            "delete a Service",
            "edit a Service",
            "pods of the target lost",
            "pods of the primary lost",
            "router down",
            "metrics down",
            "delete the target",
            "delete",
        ],
    ),
    (
        "canary phase",
        &[
            "Initializing",
            "Initialized",
            "Waiting",
            "Progressing",
            "WaitingPromotion",
            "Promoting",
            "Finalising",
            "Succeeded",
            "Failed",
            "Terminating",
        ],
    ),
    ("canary strategy", &["canary", "ab-testing", "blue-green"]),
    (
        "canary provider",
        &["istio", "gatewayapi:v1", "nginx", "kubernetes"],
    ),
    ("canary target", &["Deployment", "DaemonSet", "Service"]),
    ("canary outcome", &["deleted", "Succeeded", "Failed"]),
    (
        "run",
        &[
            "Step Successful",
            "Step Failed",
            "Step Error",
            "Step Inconclusive",
            "Background Successful",
            "Background Failed",
            "Background Error",
            "Background Inconclusive",
            "PrePromotion Successful",
            "PrePromotion Failed",
            "PrePromotion Error",
            "PrePromotion Inconclusive",
            "PostPromotion Successful",
            "PostPromotion Failed",
            "PostPromotion Error",
            "PostPromotion Inconclusive",
        ],
    ),
];

/// Seeds beyond those that are always lived in which the engine was wrong once, and how.
const FOUND: &[(u64, &str)] = &[
    (
        156_609,
        "full promotion asked for one version promoted the next",
    ),
    (
        163_640,
        "full promotion asked for one version promoted the next",
    ),
    (50_104, "a Job went on whose creation had not been answered"),
    (
        63_683,
        "a held canary grew beyond its surge when it was scaled",
    ),
    (192_201, "a revision was given twice"),
    (79_715, "the version that served was forgotten"),
    (
        201_083,
        "nobody looked when the deadline of a blocked canary passed",
    ),
    (
        312_085,
        "an abort gave requests to a version that had none in a fleet that was taken in",
    ),
    (
        386_073,
        "what was proved before an abort that was seen with an invalid spec counted for the retry",
    ),
    (
        451_282,
        "a held canary lost pods that were wanted when all others had gone",
    ),
    (
        166_435,
        "a pause step was left out after an Experiment that could not tell",
    ),
    (
        846_971,
        "of two versions that came in the same moment the newer one was forgotten",
    ),
    (
        792_331,
        "a held stable version behind a router lost pods that were wanted",
    ),
    (
        495_286,
        "a pause that was over began anew when the switch was refused",
    ),
];

/// The same for Canaries.
const FOUND_OF_CANARIES: &[(u64, &str)] = &[
    (
        831,
        "a promotion of a target that somebody had scaled to zero took all pods from the primary",
    ),
    (
        1386,
        "a crash between a note and the status made a revision count as promoted that never was",
    ),
    (
        1392,
        "traffic went to a target that was scaled to zero during its release",
    ),
];

#[test]
fn what_was_found_once_is_not_found_again() {
    for (seed, story) in FOUND {
        let report = run(&Arc::new(generate::scenario(*seed)), Options::default());
        assert_eq!(report.broken, None, "seed {seed}: {story}");
    }
    for (seed, story) in FOUND_OF_CANARIES {
        let scenario = Arc::new(canaries::generate::scenario(*seed));
        let report = canaries::run::run(&scenario, canaries::run::Options::default());
        assert_eq!(report.broken, None, "seed {seed}: {story}");
    }
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in 0..20 {
        let told = || {
            let options = Options {
                story: true,
                ..Options::default()
            };
            run(&Arc::new(generate::scenario(seed)), options).story
        };
        assert_eq!(told(), told(), "seed {seed}");
    }
}

#[test]
fn every_invariant_holds_in_many_releases_and_every_rule_is_reached() {
    let next = AtomicU64::new(0);
    let part = || {
        let mut coverage = Coverage::default();
        let mut broken: Vec<(u64, Broken)> = Vec::new();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= SEEDS {
                return (coverage, broken);
            }
            let (covered, found) = match Family::of(seed) {
                Family::Rollout => {
                    let report = run(&Arc::new(generate::scenario(seed)), Options::default());
                    (report.coverage, report.broken)
                }
                Family::Canary => {
                    let scenario = Arc::new(canaries::generate::scenario(seed));
                    let report = canaries::run::run(&scenario, canaries::run::Options::default());
                    (report.coverage, report.broken)
                }
            };
            coverage.merge(&covered);
            broken.extend(found.map(|broken| (seed, broken)));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(part)).collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.map(|part| part.expect("no panic")).collect()
    });
    let mut coverage = Coverage::default();
    let mut broken = Vec::new();
    for (part, failures) in parts {
        coverage.merge(&part);
        broken.extend(failures);
    }
    broken.sort_by_key(|(seed, _)| *seed);
    let stories: Vec<String> = broken
        .iter()
        .take(3)
        .map(|(seed, broken)| match Family::of(*seed) {
            Family::Rollout => {
                let (small, broken) = shrink::shrink(&generate::scenario(*seed), broken);
                shrink::tell(&small, &broken)
            }
            Family::Canary => {
                let scenario = canaries::generate::scenario(*seed);
                let (small, broken) = canaries::shrink::shrink(&scenario, broken);
                canaries::shrink::tell(&small, &broken)
            }
        })
        .collect();
    assert!(
        broken.is_empty(),
        "{} of {SEEDS} releases break an invariant:\n\n{}",
        broken.len(),
        stories.join("\n")
    );
    let missed: Vec<String> = REACHED
        .iter()
        .flat_map(|(area, things)| things.iter().map(move |thing| (area, thing)))
        .filter(|(area, thing)| coverage.of(area, thing) == 0)
        .map(|(area, thing)| format!("{area}: {thing}"))
        .collect();
    assert!(missed.is_empty(), "never reached: {missed:#?}\n{coverage}");
}

#[test]
fn the_page_lists_the_invariants_that_are_checked() {
    let page = include_str!("../../../docs/concepts/invariants.md");
    assert_eq!(
        page,
        invariants::page() + &canaries::invariants::page(),
        "cargo run -p crossfade-sim --example bench_sim -- --invariants > docs/concepts/invariants.md"
    );
}
