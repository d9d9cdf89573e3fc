//! Rules for the steps of a canary.

use crate::field_error::FieldError;
use crate::field_path;
use crate::resource::Rollout;
use crate::rollout::{CanaryStrategy, RolloutArgument};
use crate::steps::{CanaryStep, ExperimentStep, SetHeaderRoute, SetMirrorRoute, StringMatch};
use crate::traffic_routing::TrafficRouting;
use crate::validate::rollout::analysis_without_templates;

const ONE_OF: &str = "Step must have one of the following set: experiment, setWeight, setCanaryScale, plugin or pause";
const NO_VALUE: &str =
    "StringMatch value missed, match value must have one of the following: exact, regex, prefix";
const MANY_VALUES: &str =
    "StringMatch match value must have exactly one of the following: exact, regex, prefix";

pub(crate) fn rules(rollout: &Rollout, canary: &CanaryStrategy) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, step) in canary.steps.iter().enumerate() {
        let path = format!("spec.strategy.steps[{index}]");
        one_kind(&path, step, &mut errors);
        weight_and_pause(&path, step, canary, &mut errors);
        routes(&path, step, canary.traffic_routing.as_ref(), &mut errors);
        if let Some(experiment) = &step.experiment {
            experiment_weights(
                &path,
                experiment,
                canary.traffic_routing.as_ref(),
                &mut errors,
            );
        }
        arguments(&path, step, rollout, &mut errors);
        errors.extend(analysis_without_templates(
            &format!("{path}.analysis"),
            step.analysis.as_ref(),
        ));
    }
    errors
}

fn one_kind(path: &str, step: &CanaryStep, errors: &mut Vec<FieldError>) {
    let (experiment, pause) = (step.experiment.is_some(), step.pause.is_some());
    let (weight, analysis) = (step.set_weight.is_some(), step.analysis.is_some());
    if [experiment, pause, weight, analysis]
        .into_iter()
        .filter(|present| *present)
        .count()
        > 1
    {
        // Here `true` says that the key is present ...
        let value = format!(
            "step.Experiment: {experiment} step.Pause: {pause} step.SetWeight: {weight} step.Analysis: {analysis}"
        );
        errors.push(FieldError::invalid(path, &value, ONE_OF));
    }
    if *step == CanaryStep::default() {
        // ... and here that it is absent.
        let value = "step.Experiment: true step.Pause: true step.SetWeight: true step.Analysis: true step.SetCanaryScale: true step.SetHeaderRoute: true step.SetMirrorRoute: true step.Plugin: true";
        errors.push(FieldError::invalid(path, value, ONE_OF));
    }
}

fn weight_and_pause(
    path: &str,
    step: &CanaryStep,
    canary: &CanaryStrategy,
    errors: &mut Vec<FieldError>,
) {
    let most = canary.max_traffic_weight();
    if let Some(weight) = step
        .set_weight
        .filter(|weight| *weight < 0 || *weight > most)
    {
        let detail = format!("SetWeight needs to be between 0 and {most}");
        errors.push(FieldError::invalid(
            format!("{path}.setWeight"),
            &weight,
            detail,
        ));
    }
    let seconds = step
        .pause
        .as_ref()
        .and_then(crate::steps::Pause::duration_seconds);
    if let Some(seconds) = seconds.filter(|seconds| *seconds < 0) {
        let detail = "Duration needs to be greater than 0";
        errors.push(FieldError::invalid(
            format!("{path}.pause.duration"),
            &seconds,
            detail,
        ));
    }
    if step.set_canary_scale.is_some() && canary.traffic_routing.is_none() {
        let detail = "SetCanaryScale requires TrafficRouting to be set";
        errors.push(FieldError::required("spec.strategy.trafficRouting", detail));
    }
}

fn routes(
    path: &str,
    step: &CanaryStep,
    routing: Option<&TrafficRouting>,
    errors: &mut Vec<FieldError>,
) {
    if let Some(route) = &step.set_header_route {
        header_route(&format!("{path}.setHeaderRoute"), route, routing, errors);
    }
    if let Some(route) = &step.set_mirror_route {
        mirror_route(&format!("{path}.setMirrorRoute"), route, routing, errors);
    }
    let named = [
        (
            "setHeaderRoute",
            step.set_header_route.as_ref().map(|route| &route.name),
        ),
        (
            "setMirrorRoute",
            step.set_mirror_route.as_ref().map(|route| &route.name),
        ),
    ];
    let (Some(routing), true) = (routing, named.iter().any(|(_, name)| name.is_some())) else {
        return;
    };
    let Some(managed) = &routing.managed_routes else {
        let detail =
            "Rollout has missing field 'spec.strategy.canary.trafficRouting.managedRoutes'";
        errors.push(FieldError::required(
            "spec.strategy.trafficRouting.managedRoutes",
            detail,
        ));
        return;
    };
    for (field, name) in named {
        if let Some(name) = name.filter(|name| managed.iter().all(|route| route.name != **name)) {
            let detail = "Steps define a route that does not exist in spec.strategy.canary.trafficRouting.managedRoutes";
            errors.push(FieldError::invalid(format!("{path}.{field}"), name, detail));
        }
    }
}

fn header_route(
    path: &str,
    route: &SetHeaderRoute,
    routing: Option<&TrafficRouting>,
    errors: &mut Vec<FieldError>,
) {
    let capable = |routing: &&TrafficRouting| {
        routing.istio.is_some()
            || routing.alb.is_some()
            || routing.apisix.is_some()
            || !routing.plugins.is_empty()
    };
    let Some(routing) = routing.filter(capable) else {
        let detail = "SetHeaderRoute requires TrafficRouting, supports Istio and ALB and Apisix";
        errors.push(FieldError::invalid(path, route, detail));
        return;
    };
    for (index, header) in route.matches.iter().enumerate() {
        let path = format!("{path}.match[{index}]");
        match &header.header_value {
            None => errors.push(FieldError::invalid(path, &(), NO_VALUE)),
            Some(value) if routing.alb.is_some() => {
                if value.exact.is_empty() || !value.regex.is_empty() || !value.prefix.is_empty() {
                    let detail =
                        "SetHeaderRoute match value invalid. ALB supports 'exact' value only";
                    errors.push(FieldError::invalid(path, value, detail));
                }
            }
            Some(value) => errors.extend(one_member(path, value)),
        }
    }
}

fn mirror_route(
    path: &str,
    route: &SetMirrorRoute,
    routing: Option<&TrafficRouting>,
    errors: &mut Vec<FieldError>,
) {
    if routing.is_none_or(|routing| routing.istio.is_none() && routing.plugins.is_empty()) {
        let detail = "SetMirrorRoute requires TrafficRouting, supports Istio and Plugins";
        errors.push(FieldError::invalid(path, route, detail));
    }
    for (index, entry) in route.matches.iter().enumerate() {
        for value in [&entry.method, &entry.path].into_iter().flatten() {
            errors.extend(one_member(format!("{path}.match[{index}]"), value));
        }
    }
}

fn one_member(path: String, value: &StringMatch) -> Option<FieldError> {
    let detail = match value.members() {
        0 => NO_VALUE,
        1 => return None,
        _ => MANY_VALUES,
    };
    Some(FieldError::invalid(path, value, detail))
}

fn experiment_weights(
    path: &str,
    experiment: &ExperimentStep,
    routing: Option<&TrafficRouting>,
    errors: &mut Vec<FieldError>,
) {
    for (index, template) in experiment.templates.iter().enumerate() {
        let Some(weight) = template.weight else {
            continue;
        };
        let detail = match routing {
            None => "Experiment template weight cannot be set unless TrafficRouting is enabled",
            Some(routing)
                if routing.smi.is_none()
                    && routing.alb.is_none()
                    && routing.istio.is_none()
                    && routing.plugins.is_empty() =>
            {
                "Experiment template weight is only available for TrafficRouting with SMI, ALB, Istio and Plugins at this time"
            }
            Some(_) => continue,
        };
        errors.push(FieldError::invalid(
            format!("{path}.experiment.templates[{index}].weight"),
            &weight,
            detail,
        ));
    }
}

/// Arguments may refer to the Rollout's metadata only by paths that the downward API knows.
fn arguments(path: &str, step: &CanaryStep, rollout: &Rollout, errors: &mut Vec<FieldError>) {
    let analysis = step.analysis.iter().flat_map(|analysis| &analysis.args);
    let experiment = step
        .experiment
        .iter()
        .flat_map(|experiment| &experiment.analyses)
        .flat_map(|analysis| &analysis.args);
    let args: Vec<&RolloutArgument> = analysis.chain(experiment).collect();
    let unknown = |argument: &&&RolloutArgument| {
        let field = argument
            .value_from
            .as_ref()
            .and_then(|from| from.field_ref.as_ref());
        field.is_some_and(|field| {
            field.field_path.starts_with("metadata")
                && field_path::in_metadata(&rollout.metadata, &field.field_path).is_err()
        })
    };
    if args.iter().any(|argument| unknown(&argument)) {
        let detail =
            "Analyses arguments must refer to valid object metadata supported by downwardAPI";
        errors.push(FieldError::invalid(
            format!("{path}.analyses"),
            &args,
            detail,
        ));
    }
}
