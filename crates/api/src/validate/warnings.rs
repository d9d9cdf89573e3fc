//! What is accepted although it can hardly be meant: told once for each version of a spec, never refused.

use crate::field_error::FieldError;
use crate::resource::Rollout;
use crate::rollout::{CanaryStrategy, RolloutSpec};
use crate::steps::CanaryStep;
use crate::validate::canary::unreadable_amounts;

/// What is doubtful about a Rollout's spec.
pub fn warnings(rollout: &Rollout) -> Vec<FieldError> {
    let spec = &rollout.spec;
    let mut doubts = Vec::new();
    general(spec, &mut doubts);
    if let Some(canary) = &spec.strategy.canary {
        of_canary(canary, &mut doubts);
    }
    if let Some(blue_green) = &spec.strategy.blue_green {
        negative(
            "spec.strategy.blueGreen",
            [
                (
                    "autoPromotionSeconds",
                    Some(blue_green.auto_promotion_seconds),
                ),
                ("previewReplicaCount", blue_green.preview_replica_count),
                ("scaleDownDelaySeconds", blue_green.scale_down_delay_seconds),
                (
                    "abortScaleDownDelaySeconds",
                    blue_green.abort_scale_down_delay_seconds,
                ),
            ],
            &mut doubts,
        );
    }
    doubts
}

fn negative<const N: usize>(
    path: &str,
    fields: [(&str, Option<i32>); N],
    doubts: &mut Vec<FieldError>,
) {
    for (field, value) in fields {
        if let Some(value) = value.filter(|value| *value < 0) {
            doubts.push(FieldError::invalid(
                format!("{path}.{field}"),
                &value,
                "is negative",
            ));
        }
    }
}

fn general(spec: &RolloutSpec, doubts: &mut Vec<FieldError>) {
    negative(
        "spec.rollbackWindow",
        [("revisions", Some(spec.rollback_window()))],
        doubts,
    );
    if let Some(reference) = &spec.workload_ref {
        let known = ["", "never", "onsuccess", "progressively"];
        if !known.contains(&reference.scale_down.as_str()) {
            let path = "spec.workloadRef.scaleDown";
            doubts.push(FieldError::unsupported(
                path,
                &reference.scale_down,
                &known[1..],
            ));
        }
    }
}

fn of_canary(canary: &CanaryStrategy, doubts: &mut Vec<FieldError>) {
    let path = "spec.strategy.canary";
    if canary.traffic_routing.is_some() {
        for (field, value) in unreadable_amounts(canary) {
            let detail = "is neither an integer nor a percentage and counts as 0";
            doubts.push(FieldError::invalid(
                format!("{path}.{field}"),
                value,
                detail,
            ));
        }
    }
    negative(
        path,
        [
            ("scaleDownDelaySeconds", canary.scale_down_delay_seconds),
            (
                "abortScaleDownDelaySeconds",
                canary.abort_scale_down_delay_seconds,
            ),
            ("minPodsPerReplicaSet", canary.min_pods_per_replica_set),
        ],
        doubts,
    );
    if let Some(threshold) = &canary.replica_progress_threshold {
        let path = format!("{path}.replicaProgressThreshold");
        if !["Percent", "Pods"].contains(&threshold.kind.as_str()) {
            doubts.push(FieldError::unsupported(
                format!("{path}.type"),
                &threshold.kind,
                &["Percent", "Pods"],
            ));
        }
        if threshold.value < 0 || (threshold.is_percent() && threshold.value > 100) {
            doubts.push(FieldError::invalid(
                format!("{path}.value"),
                &threshold.value,
                "is out of range",
            ));
        }
    }
    if let Some(analysis) = &canary.analysis {
        let start = analysis.starting_step();
        let last = i32::try_from(canary.steps.len()).unwrap_or(i32::MAX);
        if !(0..=last).contains(&start) {
            let detail = format!("is not the index of a step; there are {last}");
            doubts.push(FieldError::invalid(
                format!("{path}.analysis.startingStep"),
                &start,
                detail,
            ));
        }
    }
    for (index, step) in canary.steps.iter().enumerate() {
        of_step(&format!("{path}.steps[{index}]"), step, doubts);
    }
}

fn of_step(path: &str, step: &CanaryStep, doubts: &mut Vec<FieldError>) {
    let keys = [
        ("pause", step.pause.is_some()),
        ("setCanaryScale", step.set_canary_scale.is_some()),
        ("setWeight", step.set_weight.is_some()),
        ("experiment", step.experiment.is_some()),
        ("analysis", step.analysis.is_some()),
        ("setHeaderRoute", step.set_header_route.is_some()),
        ("setMirrorRoute", step.set_mirror_route.is_some()),
        ("plugin", step.plugin.is_some()),
    ];
    let given: Vec<_> = keys
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(key, _)| key)
        .collect();
    if let [first, _, ..] = given[..] {
        let detail = format!("has several keys; {first} alone decides when the step is complete");
        doubts.push(FieldError::invalid(path, &given.join(", "), detail));
    }
    if let Some(scale) = &step.set_canary_scale {
        let path = format!("{path}.setCanaryScale");
        negative(
            &path,
            [("weight", scale.weight), ("replicas", scale.replicas)],
            doubts,
        );
    }
    if let Some(route) = &step.set_mirror_route {
        let path = format!("{path}.setMirrorRoute");
        if !(0..=100).contains(&route.percentage()) {
            doubts.push(FieldError::invalid(
                format!("{path}.percentage"),
                &route.percentage(),
                "is no percentage",
            ));
        }
        for (index, entry) in route.matches.iter().enumerate() {
            for (name, value) in entry
                .headers
                .iter()
                .filter(|(_, value)| value.members() != 1)
            {
                let path = format!("{path}.match[{index}].headers[{name}]");
                doubts.push(FieldError::invalid(
                    path,
                    value,
                    "must have exactly one of: exact, regex, prefix",
                ));
            }
        }
    }
}
