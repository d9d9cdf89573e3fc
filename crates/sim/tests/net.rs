//! The net catches fish: under each wrong rule of the engine, some check objects within 20,000 seeds.
//!
//! Seeds are lived in order, first with all rules right. That says which rules mattered in them, and only under those is a seed lived
//! again. A check that objects to the right rules, too, has caught nothing.
#![expect(
    clippy::print_stdout,
    reason = "which check caught what is what a developer wants to see"
)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crossfade_engine::mutant::{Mutant, live};
use crossfade_sim::canaries;
use crossfade_sim::cluster::Cluster;
use crossfade_sim::generate;
use crossfade_sim::invariants::Check;
use crossfade_sim::run::{Broken, Options, run};
use crossfade_sim::scenario::Scenario;
use crossfade_sim::watch::What;

/// Seeds within which each wrong rule must be caught.
const SEEDS: u64 = 20_000;

/// Wrong rules that nothing can see, and why.
const UNSEEN: &[(Mutant, &str)] = &[];

/// What the search has found so far.
#[derive(Default)]
struct Catch {
    /// The lowest seed in which each wrong rule was caught, and by which check.
    caught: BTreeMap<&'static str, (u64, &'static str)>,
    /// Seeds in which each rule mattered.
    mattered: BTreeMap<&'static str, u64>,
}

/// Passes and actions of one run that are waited for; a release takes some hundreds.
const MOST: u32 = 4_000;

/// Objects to a run that goes on and on, long before it would be found not to converge.
struct Patience(u32);

impl Check for Patience {
    fn name(&self) -> &'static str {
        "patience"
    }

    fn sentence(&self) -> &'static str {
        "A release does not take thousands of passes and actions."
    }

    fn see(&mut self, _: &Cluster, what: &What<'_>) -> Result<(), String> {
        if matches!(what, What::Ended(..) | What::Performed(..)) {
            self.0 += 1;
        }
        if self.0 > MOST {
            return Err(format!("more than {MOST} passes and actions"));
        }
        Ok(())
    }
}

/// What a seed is in each of the two families.
enum Lived {
    Rollout(Arc<Scenario>),
    Canary(Arc<canaries::scenario::Scenario>),
}

/// What a check says of a seed lived under a rule.
fn objection(lived: &Lived) -> Option<Broken> {
    let lived = catch_unwind(AssertUnwindSafe(|| match lived {
        Lived::Rollout(scenario) => {
            let options = Options {
                checks: vec![Box::new(Patience(0))],
                ..Options::default()
            };
            run(scenario, options).broken
        }
        Lived::Canary(scenario) => {
            canaries::run::run(scenario, canaries::run::Options::default()).broken
        }
    }));
    lived.unwrap_or_else(|_| {
        Some(Broken {
            check: "no-panic",
            what: String::new(),
            at: 0,
        })
    })
}

fn search(next: &AtomicU64, catch: &Mutex<Catch>) {
    let wanted = |rule: &&Mutant| UNSEEN.iter().all(|(unseen, _)| unseen != *rule);
    let rules: Vec<Mutant> = Mutant::ALL.iter().filter(wanted).copied().collect();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let open: Vec<Mutant> = {
            let catch = catch.lock().expect("no thread panics while it holds it");
            let before = |rule: &Mutant| {
                let caught = catch.caught.get(rule.name());
                caught.is_some_and(|(other, _)| *other < seed)
            };
            rules.iter().filter(|rule| !before(rule)).copied().collect()
        };
        if seed >= SEEDS || open.is_empty() {
            return;
        }
        let first = Mutant::CanaryGateIgnored as u32;
        let last = Mutant::CanarySuspendIgnored as u32;
        let is_canary = |rule: &Mutant| (first..=last).contains(&(*rule as u32));
        let (canary, rollout): (Vec<_>, Vec<_>) = open.into_iter().partition(is_canary);
        if !rollout.is_empty() {
            let scenario = Arc::new(generate::scenario(seed));
            wrong_rules(seed, &Lived::Rollout(scenario), &rollout, catch);
        }
        if !canary.is_empty() {
            let scenario = Arc::new(canaries::generate::scenario(seed));
            wrong_rules(seed, &Lived::Canary(scenario), &canary, catch);
        }
    }
}

/// Lives a seed under each of these rules that matters in it.
fn wrong_rules(seed: u64, lived: &Lived, open: &[Mutant], catch: &Mutex<Catch>) {
    let (right, asked) = live(None, || objection(lived));
    for &rule in open.iter().filter(|rule| asked.has(**rule)) {
        let (wrong, _) = live(Some(rule), || objection(lived));
        {
            let mut catch = catch.lock().expect("no thread panics while it holds it");
            *catch.mattered.entry(rule.name()).or_default() += 1;
            if let Some(broken) = wrong
                && right.is_none()
            {
                let found = (seed, broken.check);
                let lowest = catch.caught.entry(rule.name()).or_insert(found);
                *lowest = (*lowest).min(found);
            }
        }
    }
}

#[test]
fn every_wrong_rule_is_caught() {
    let (next, catch) = (AtomicU64::new(0), Mutex::new(Catch::default()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| search(&next, &catch));
        }
    });
    let catch = catch
        .into_inner()
        .expect("no thread panics while it holds it");
    let mut missed = Vec::new();
    for rule in Mutant::ALL {
        let name = rule.name();
        let unseen = UNSEEN.iter().find(|(unseen, _)| unseen == rule);
        match (catch.caught.get(name), unseen) {
            (Some((seed, check)), _) => println!("{name:>28}  seed {seed:>5}  {check}"),
            (None, Some((_, why))) => println!("{name:>28}  unseen      {why}"),
            (None, None) => {
                let seeds = catch.mattered.get(name).copied().unwrap_or(0);
                println!("{name:>28}  MISSED in {seeds} seeds: {}", rule.sentence());
                missed.push(name);
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn what_is_shipped_has_no_wrong_rules() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--package",
            "crossfade",
            "--edges",
            "normal,build,features",
        ])
        .args(["--invert", "crossfade-engine"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let features = String::from_utf8_lossy(&tree.stdout);
    assert!(
        features.contains("crossfade-engine feature \"default\""),
        "{features}"
    );
    assert!(!features.contains("feature \"mutants\""), "{features}");
}
