//! Rules for the spec of a Rollout that need no other object.
//!
//! All faults are told, in a fixed order, because conditions show the first. For compatibility the paths of
//! these rules lack the name of the strategy: `spec.strategy.steps[0]`, not `spec.strategy.canary.steps[0]`.

use crate::field_error::FieldError;
use crate::resource::Rollout;
use crate::rollout::{AntiAffinity, BlueGreenStrategy, RolloutAnalysis, RolloutSpec};
use crate::selector;
use crate::validate::{canary, names, pod_spec};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// Every fault of a Rollout's spec, the one to show first: fields that could not be read, then broken rules.
///
/// With `workloadRef` the world fills in the template and drops the reference before it asks.
pub fn rollout(rollout: &Rollout) -> Vec<FieldError> {
    let spec = &rollout.spec;
    // A status of the wrong type is mended by the next write.
    let unreadable = rollout
        .origin
        .faults()
        .iter()
        .filter(|fault| !fault.path.starts_with("status"));
    let mut errors: Vec<FieldError> = unreadable.cloned().collect();
    if let Some(replicas) = spec.replicas.filter(|replicas| *replicas < 0) {
        errors.push(FieldError::invalid(
            "spec.replicas",
            &replicas,
            NOT_NEGATIVE,
        ));
    }
    selector_and_template(spec, &mut errors);
    numbers(spec, &mut errors);
    match (&spec.strategy.blue_green, &spec.strategy.canary) {
        (None, None) => errors.push(FieldError::required(
            "spec.strategy.strategy",
            "Rollout has missing field '.spec.strategy.canary or .spec.strategy.blueGreen'",
        )),
        (Some(_), Some(_)) => errors.push(FieldError::invalid(
            "spec.strategy.strategy",
            "blueGreen: true canary: true",
            "Multiple Strategies can not be listed",
        )),
        (Some(blue_green), None) => errors.extend(blue_green_rules(spec, blue_green)),
        (None, Some(canary)) => errors.extend(canary::rules(rollout, canary)),
    }
    errors
}

fn selector_and_template(spec: &RolloutSpec, errors: &mut Vec<FieldError>) {
    if spec.workload_ref.is_some() {
        if !spec.template.has_no_metadata() {
            errors.push(FieldError::internal(
                "spec.template",
                "template must be empty for workload reference rollout",
            ));
        }
        return;
    }
    let Some(label_selector) = &spec.selector else {
        errors.push(FieldError::required(
            "spec.selector",
            "Rollout has missing field '.spec.selector'",
        ));
        errors.extend(pod_spec::template(spec, None));
        return;
    };
    let faults = names::label_selector("spec.selector", label_selector);
    let usable = faults.is_empty();
    errors.extend(faults);
    if selector::is_empty(label_selector) {
        errors.push(FieldError::invalid(
            "spec.selector",
            label_selector,
            "empty selector is invalid for deployment",
        ));
    }
    if usable {
        errors.extend(pod_spec::template(spec, Some(label_selector)));
    } else {
        errors.push(FieldError::invalid(
            "spec.selector",
            label_selector,
            "invalid label selector",
        ));
    }
}

fn numbers(spec: &RolloutSpec, errors: &mut Vec<FieldError>) {
    let given = [
        ("minReadySeconds", Some(spec.min_ready_seconds)),
        ("revisionHistoryLimit", spec.revision_history_limit),
        ("progressDeadlineSeconds", spec.progress_deadline_seconds),
    ];
    for (field, value) in given {
        if let Some(value) = value.filter(|value| *value < 0) {
            errors.push(FieldError::invalid(
                format!("spec.{field}"),
                &value,
                NOT_NEGATIVE,
            ));
        }
    }
    let deadline = spec.progress_deadline_seconds();
    if deadline <= spec.min_ready_seconds {
        let detail = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid(
            "spec.progressDeadlineSeconds",
            &deadline,
            detail,
        ));
    }
}

fn blue_green_rules(spec: &RolloutSpec, strategy: &BlueGreenStrategy) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if strategy.active_service == strategy.preview_service {
        errors.push(FieldError::invalid(
            "spec.strategy.activeService",
            &strategy.active_service,
            "This rollout uses the same service for the active and preview services, but two different services are required.",
        ));
    }
    if let Some(limit) = strategy
        .scale_down_delay_revision_limit
        .filter(|limit| *limit > spec.revision_history_limit())
    {
        errors.push(FieldError::invalid(
            "spec.strategy.scaleDownDelayRevisionLimit",
            &limit,
            "This rollout's revision history limit can not be smaller than the rollout's scale down limit",
        ));
    }
    errors.extend(anti_affinity(strategy.anti_affinity.as_ref()));
    for (field, analysis) in [
        ("prePromotionAnalysis", &strategy.pre_promotion_analysis),
        ("postPromotionAnalysis", &strategy.post_promotion_analysis),
    ] {
        errors.extend(analysis_without_templates(
            &format!("spec.strategy.{field}"),
            analysis.as_ref(),
        ));
    }
    errors
}

/// An analysis that a release waits for, but that measures nothing, would never end.
pub(crate) fn analysis_without_templates(
    path: &str,
    analysis: Option<&RolloutAnalysis>,
) -> Option<FieldError> {
    analysis
        .filter(|analysis| analysis.templates.is_empty())
        .map(|_| {
            let detail = "at least one template is needed, or the analysis never completes";
            FieldError::required(format!("{path}.templates"), detail)
        })
}

pub(crate) fn anti_affinity(affinity: Option<&AntiAffinity>) -> Vec<FieldError> {
    let Some(affinity) = affinity else {
        return Vec::new();
    };
    let preferred = affinity
        .preferred_during_scheduling_ignored_during_execution
        .as_ref();
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .is_some();
    let mut errors = Vec::new();
    if preferred.is_some() == required {
        errors.push(FieldError::invalid(
            "spec.strategy.antiAffinity",
            &format!(
                "antiAffinity.PreferredDuringSchedulingIgnoredDuringExecution: {} antiAffinity.RequiredDuringSchedulingIgnoredDuringExecution: {required}",
                preferred.is_some()
            ),
            "AntiAffinity must have exactly one strategy listed",
        ));
    }
    if let Some(preferred) = preferred.filter(|preferred| !(1..=100).contains(&preferred.weight)) {
        let detail = "AntiAffinity weight must be between 1-100";
        errors.push(FieldError::invalid(
            "spec.strategy.antiAffinity.weight",
            &preferred.weight,
            detail,
        ));
    }
    errors
}
