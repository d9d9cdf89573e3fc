//! Experiments as steps: in one seed of some dozens a canary has one step more, which tries versions out beside each other.
//!
//! What is added has chances of its own, so that seeds without it stay what they were.

use serde_json::{Value, json};

use crate::random::Random;
use crate::scenario::Scenario;

/// One seed in so many has an Experiment, if it is a canary with steps.
const ONE_IN: usize = 32;

/// Adds an Experiment to the steps of a release that shall have one.
pub(crate) fn add(scenario: &mut Scenario) {
    let mut random = Random::new(scenario.seed.rotate_left(32));
    if !random.one_in(ONE_IN) {
        return;
    }
    let mut manifests = scenario.manifests.iter_mut();
    let steps = manifests.find_map(|one| one.pointer_mut("/spec/strategy/canary/steps"));
    let Some(steps) = steps.and_then(Value::as_array_mut) else {
        return;
    };
    let place = random.below(steps.len() + 1);
    steps.insert(place, experiment(&mut random));
    scenario.manifests.insert(0, template(&mut random));
}

fn experiment(random: &mut Random) -> Value {
    let mut templates = vec![json!({"name": "candidate", "specRef": "canary"})];
    if random.one_in(2) {
        templates.push(json!({"name": "baseline", "specRef": "stable", "replicas": 2}));
    }
    let mut experiment = json!({"templates": templates});
    let limited = !random.one_in(3);
    if limited {
        experiment["duration"] = json!(random.pick(&["5s", "20s", "1m"]));
    }
    // One without an end of its own needs an analysis that ends it.
    let required = !limited || random.one_in(2);
    if required || random.one_in(2) {
        experiment["analyses"] = json!([{
            "name": "compare", "templateName": "compare", "requiredForCompletion": required,
        }]);
    }
    json!({"experiment": experiment})
}

fn template(random: &mut Random) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate",
        "metadata": {"name": "compare", "namespace": "default"},
        "spec": {"metrics": [{
            "name": "judge", "provider": {"web": {"url": "http://metrics/compare", "jsonPath": "{$.value}"}},
            "interval": "5s", "count": 1 + random.below(3),
            "successCondition": "result >= 0.9", "failureCondition": "result < 0.5",
        }]},
    })
}
