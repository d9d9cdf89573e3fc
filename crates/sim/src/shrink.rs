//! A failing scenario made as small as it can be: what can be left out without the failure going away is left out.

use std::sync::Arc;

use serde_json::Value;

use crate::run::{self, Broken, Options};
use crate::scenario::{Fate, Scenario, Surroundings};

/// Runs that may be spent on one scenario.
const RUNS: usize = 600;

/// Parts of a Rollout that a release can do without.
const OPTIONAL: [&str; 8] = [
    "/spec",
    "/spec/strategy/canary",
    "/spec/strategy/blueGreen",
    "/spec/strategy/canary/trafficRouting",
    "/spec/strategy/canary/analysis",
    "/spec/strategy/blueGreen/prePromotionAnalysis",
    "/spec/strategy/blueGreen/postPromotionAnalysis",
    "/spec/template/spec",
];

/// The smallest scenario found in which the same check does not hold, with what is so instead.
pub fn shrink(scenario: &Scenario, broken: &Broken) -> (Scenario, Broken) {
    let mut search = Search {
        best: scenario.clone(),
        broken: broken.clone(),
        left: RUNS,
    };
    loop {
        let before = search.left;
        let small = search.pass();
        if !small || search.left == 0 || before == search.left {
            return (search.best, search.broken);
        }
    }
}

struct Search {
    best: Scenario,
    broken: Broken,
    left: usize,
}

impl Search {
    /// Takes a change if the failure stays.
    fn attempt(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut smaller = self.best.clone();
        change(&mut smaller);
        if smaller == self.best || self.left == 0 {
            return false;
        }
        self.left -= 1;
        let smaller = Arc::new(smaller);
        let report = run::run(&smaller, Options::default());
        match report.broken {
            Some(broken) if broken.check == self.broken.check => {
                self.broken = broken;
                self.best = Arc::unwrap_or_clone(smaller);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Tries everything once; true if something could go.
    fn pass(&mut self) -> bool {
        let mut smaller = false;
        let half = self.best.happenings.len() / 2;
        smaller |= self.attempt(|one| one.happenings.truncate(half));
        smaller |= self.attempt(|one| one.faults.clear());
        for index in (0..self.best.faults.len()).rev() {
            smaller |= self.attempt(|one| {
                one.faults.remove(index);
            });
        }
        for index in (0..self.best.happenings.len()).rev() {
            smaller |= self.attempt(|one| {
                one.happenings.remove(index);
            });
        }
        smaller |= self.attempt(|one| one.surroundings = Surroundings::default());
        smaller |= self.attempt(|one| one.surroundings.notice = 0);
        smaller |= self.attempt(|one| one.surroundings.confirms_after = None);
        for index in 0..self.best.versions.len() {
            smaller |= self.attempt(|one| one.versions[index].answers.clear());
            smaller |= self.attempt(|one| one.versions[index].fate = Fate::Ready);
            smaller |= self.attempt(|one| {
                one.versions[index].start = 1000;
                one.versions[index].stagger = 0;
            });
        }
        smaller |= self.fewer_steps();
        smaller |= self.fewer_fields();
        for pods in 1..4 {
            smaller |= self.attempt(|one| {
                if let Some(replicas) =
                    rollout(one).and_then(|one| one.pointer_mut("/spec/replicas"))
                    && replicas.as_i64().is_some_and(|replicas| replicas > pods)
                {
                    *replicas = Value::from(pods);
                }
            });
        }
        smaller
    }

    fn fewer_steps(&mut self) -> bool {
        let mut smaller = false;
        let count = rollout(&mut self.best)
            .and_then(|one| one.pointer("/spec/strategy/canary/steps"))
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        for index in (0..count).rev() {
            smaller |= self.attempt(|one| {
                let steps = rollout(one)
                    .and_then(|one| one.pointer_mut("/spec/strategy/canary/steps"))
                    .and_then(Value::as_array_mut);
                if let Some(steps) = steps.filter(|steps| index < steps.len()) {
                    steps.remove(index);
                }
            });
        }
        smaller
    }

    fn fewer_fields(&mut self) -> bool {
        let mut smaller = false;
        for pointer in OPTIONAL {
            let members = rollout(&mut self.best)
                .and_then(|one| one.pointer(pointer))
                .and_then(Value::as_object);
            let names: Vec<String> = members
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect();
            for name in names {
                if [
                    "strategy",
                    "template",
                    "selector",
                    "containers",
                    "activeService",
                ]
                .contains(&name.as_str())
                {
                    continue;
                }
                smaller |= self.attempt(|one| {
                    let members = rollout(one)
                        .and_then(|one| one.pointer_mut(pointer))
                        .and_then(Value::as_object_mut);
                    if let Some(members) = members {
                        members.remove(&name);
                    }
                });
            }
        }
        smaller
    }
}

/// The manifest of a scenario's Rollout.
pub fn rollout(scenario: &mut Scenario) -> Option<&mut Value> {
    let mut manifests = scenario.manifests.iter_mut();
    manifests.find(|manifest| manifest["kind"] == "Rollout")
}

/// What went wrong, in words: the release, its story and how to see it again.
pub fn tell(scenario: &Scenario, broken: &Broken) -> String {
    let mut scenario = scenario.clone();
    let seed = scenario.seed;
    let spec = rollout(&mut scenario)
        .map(|one| one["spec"].clone())
        .unwrap_or_default();
    let report = run::run(
        &Arc::new(scenario.clone()),
        Options {
            story: true,
            ..Options::default()
        },
    );
    let check = crate::invariants::all(&Arc::new(scenario.clone()))
        .into_iter()
        .find(|check| check.name() == broken.check)
        .map_or("", |check| check.sentence());
    let mut text = format!(
        "seed {seed}: {} does not hold.\n  {check}\n  {} ms: {}\n",
        broken.check, broken.at, broken.what
    );
    text += &format!("  {}\n", json(&spec));
    for (index, nature) in scenario.versions.iter().enumerate() {
        text += &format!("  v{}: {}\n", index + 1, json(nature));
    }
    text += &format!("  {}\n", json(&scenario.surroundings));
    text += &report.story.to_string();
    text += &format!("see the whole of it: cargo xtask bench sim --rollouts --seed {seed}\n");
    text
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
