//! A failing scenario of a Canary made as small as it can be, and told.

use std::sync::Arc;

use serde_json::Value;

use super::invariants;
use super::run::{self, Options};
use super::scenario::{Hook, Scenario};
use crate::run::Broken;

/// The smallest scenario found in which the same check does not hold, with what is so instead.
pub fn shrink(scenario: &Scenario, broken: &Broken) -> (Scenario, Broken) {
    let mut best = (scenario.clone(), broken.clone());
    loop {
        let before = best.0.clone();
        for smaller in smaller(&before) {
            let smaller = Arc::new(smaller);
            let report = run::run(&smaller, Options::default());
            if let Some(found) = report.broken
                && found.check == broken.check
            {
                best = (Arc::unwrap_or_clone(smaller), found);
                break;
            }
        }
        if best.0 == before {
            return best;
        }
    }
}

/// Scenarios with one thing less.
fn smaller(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut one = scenario.clone();
        change(&mut one);
        if one != *scenario {
            all.push(one);
        }
    };
    with(&|one| one.faults.clear());
    with(&|one| one.happenings.truncate(1));
    for index in 0..scenario.faults.len() {
        with(&|one| {
            one.faults.remove(index);
        });
    }
    for index in 0..scenario.happenings.len() {
        with(&|one| drop(one.happenings.remove(index)));
    }
    for index in 0..scenario.versions.len() {
        with(&|one| one.versions[index].says.clear());
        with(&|one| one.versions[index].ready_after = Some(1200));
    }
    for name in scenario.hooks.keys() {
        with(&|one| {
            if let Some(hooks) =
                canary(one).and_then(|one| one.pointer_mut("/spec/analysis/webhooks"))
                && let Some(hooks) = hooks.as_array_mut()
            {
                hooks.retain(|hook| hook["name"] != name.as_str());
            }
            one.hooks.remove(name);
        });
        with(&|one| drop(one.hooks.insert(name.clone(), Hook::Open)));
    }
    for pointer in ["/spec/analysis", "/metadata/annotations", "/spec"] {
        for member in [
            "metrics",
            "mirror",
            "sessionAffinity",
            "stepWeightPromotion",
            "primaryReadyThreshold",
            "canaryReadyThreshold",
            "autoscalerRef",
            "revertOnDeletion",
            "skipAnalysis",
            "crossfade.dev/metric-error-policy",
            "crossfade.dev/no-data-policy",
            "crossfade.dev/failed-check-mode",
            "crossfade.dev/traffic-gate-at-max",
            "crossfade.dev/confirm-on-restart",
            "crossfade.dev/renew-primary-cookie",
            "crossfade.dev/rebuild-primary",
        ] {
            with(&|one| {
                let members = canary(one).and_then(|one| one.pointer_mut(pointer));
                if let Some(members) = members.and_then(Value::as_object_mut) {
                    members.remove(member);
                }
            });
        }
    }
    all
}

fn canary(scenario: &mut Scenario) -> Option<&mut Value> {
    let mut manifests = scenario.manifests.iter_mut();
    manifests.find(|manifest| manifest["kind"] == "Canary")
}

/// What went wrong, in words: the Canary, its story and how to see it again.
pub fn tell(scenario: &Scenario, broken: &Broken) -> String {
    let scenario = Arc::new(scenario.clone());
    let options = Options {
        story: true,
        ..Options::default()
    };
    let report = run::run(&scenario, options);
    let checks = invariants::all(&scenario);
    let check = checks.iter().find(|check| check.name() == broken.check);
    let sentence = check.map_or("", |check| check.sentence());
    let canary = scenario.canary().cloned().unwrap_or_default();
    let mut text = format!(
        "seed {}: {} does not hold.\n  {sentence}\n  {} ms: {}\n  {} {}\n",
        scenario.seed, broken.check, broken.at, broken.what, canary["metadata"], canary["spec"],
    );
    for (index, nature) in scenario.versions.iter().enumerate() {
        text += &format!("  v{}: {nature:?}\n", index + 1);
    }
    text += &format!("  {:?}\n{}\n", scenario.hooks, report.story.join("\n"));
    text += &format!(
        "see the whole of it: cargo xtask bench sim --canaries --seed {}\n",
        scenario.seed
    );
    text
}
