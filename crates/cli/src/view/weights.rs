//! The weight that a canary was told to have, and the one it has.

use crossfade_api::Rollout;
use k8s_openapi::api::apps::v1::ReplicaSet;

use super::icon::Tag;
use super::replica_set;

/// Weights of a canary, in parts of the router's maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    /// What the steps ask for.
    pub(crate) set: i32,
    /// What is so.
    pub(crate) actual: i32,
}

/// The weights of a canary; `None` for blue-green.
pub(crate) fn of(rollout: &Rollout, sets: &[&ReplicaSet]) -> Option<Weights> {
    let canary = rollout.spec.strategy.canary.as_ref()?;
    let status = &rollout.status;
    let whole = canary.max_traffic_weight();
    let index = usize::try_from(status.current_step_index.unwrap_or(0)).unwrap_or(0);
    let at_a_step = index < canary.steps.len();
    let set = if status.abort {
        0
    } else if at_a_step {
        let passed = canary.steps.iter().take(index + 1);
        passed.rev().find_map(|step| step.set_weight).unwrap_or(0)
    } else {
        whole
    };
    let actual = if !at_a_step {
        whole
    } else if status.available_replicas == 0 {
        0
    } else if canary.traffic_routing.is_some() {
        let weights = status.canary.weights.as_ref();
        weights.map_or(set, |weights| weights.canary.weight)
    } else {
        let canary_pods: i64 = sets
            .iter()
            .filter(|set| replica_set::tags(set, rollout).contains(&Tag::Canary))
            .map(|set| i64::from(replica_set::available(set)))
            .sum();
        (canary_pods * i64::from(whole) / i64::from(status.available_replicas)) as i32
    };
    Some(Weights { set, actual })
}

#[cfg(test)]
mod tests {
    use crossfade_api::Resource;
    use serde_json::{Value, json};

    use super::*;

    fn check(rollout: &Value, canary_pods: i32, set: i32, actual: i32) {
        let (read, errors) = Rollout::from_json(rollout.clone());
        assert_eq!(errors, [], "{rollout}");
        let canary: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"labels": {"rollouts-pod-template-hash": "new"}},
            "status": {"replicas": canary_pods, "availableReplicas": canary_pods}}))
        .expect("a ReplicaSet");
        assert_eq!(
            of(&read, &[&canary]),
            Some(Weights { set, actual }),
            "{rollout}"
        );
    }

    fn canary(strategy: &Value, mut status: Value) -> Value {
        status["currentPodHash"] = json!("new");
        status["stableRS"] = json!("old");
        json!({"spec": {"strategy": {"canary": strategy}}, "status": status})
    }

    #[test]
    fn cli_02_without_steps_the_weight_is_all() {
        check(
            &canary(&json!({}), json!({"availableReplicas": 1})),
            0,
            100,
            100,
        );
    }

    #[test]
    fn cli_03_an_aborted_canary_is_to_have_no_weight() {
        let strategy = json!({"steps": [{"setWeight": 20}, {"pause": {}}]});
        check(
            &canary(&strategy, json!({"abort": true, "currentStepIndex": 0})),
            0,
            0,
            0,
        );
    }

    #[test]
    fn cli_04_one_of_three_pods_is_a_third_of_the_traffic_rounded_down() {
        let strategy = json!({"steps": [{"setWeight": 20}, {"pause": {}}]});
        check(
            &canary(
                &strategy,
                json!({"availableReplicas": 3, "currentStepIndex": 1}),
            ),
            1,
            20,
            33,
        );
    }

    #[test]
    fn cli_05_with_all_steps_done_both_weights_are_the_routers_maximum() {
        let strategy = json!({"trafficRouting": {"maxTrafficWeight": 1000, "nginx": {}}, "steps": [{"setWeight": 200}]});
        check(
            &canary(
                &strategy,
                json!({"availableReplicas": 1, "currentStepIndex": 1}),
            ),
            0,
            1000,
            1000,
        );
    }

    #[test]
    fn behind_a_router_the_recorded_weight_counts_and_before_it_is_recorded_the_wanted_one() {
        let strategy =
            json!({"trafficRouting": {"nginx": {}}, "steps": [{"setWeight": 20}, {"pause": {}}]});
        let weights = json!({"canary": {"weight": 5}, "stable": {"weight": 95}});
        check(
            &canary(
                &strategy,
                json!({"availableReplicas": 1, "currentStepIndex": 1, "canary": {"weights": weights}}),
            ),
            1,
            20,
            5,
        );
        check(
            &canary(
                &strategy,
                json!({"availableReplicas": 1, "currentStepIndex": 1}),
            ),
            1,
            20,
            20,
        );
    }

    #[test]
    fn before_the_first_weight_step_the_weight_is_none() {
        let strategy = json!({"steps": [{"pause": {}}, {"setWeight": 20}]});
        check(&canary(&strategy, json!({"availableReplicas": 2})), 0, 0, 0);
    }
}
