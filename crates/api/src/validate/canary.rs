//! Rules for the canary strategy, its steps left to [`super::steps`].

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::field_error::FieldError;
use crate::intstr::PodAmount;
use crate::resource::Rollout;
use crate::rollout::{CanaryStrategy, PingPong};
use crate::traffic_routing::TrafficRouting;
use crate::validate::rollout::anti_affinity;
use crate::validate::steps;

const SAME_SERVICE: &str = "services, but two different services are required.";
const SERVICES_NEEDED: &str =
    "Canary service and Stable service must to be set to use Traffic Routing";
const PING_PONG_NEEDED: &str =
    "Ping service and Pong service must to be set to use Ping-Pong feature";

pub(crate) fn rules(rollout: &Rollout, canary: &CanaryStrategy) -> Vec<FieldError> {
    let mut errors = Vec::new();
    surge(canary, &mut errors);
    if !canary.canary_service.is_empty() && canary.canary_service == canary.stable_service {
        errors.push(FieldError::invalid(
            "spec.strategy.stableService",
            &canary.stable_service,
            format!("This rollout uses the same service for the stable and canary {SAME_SERVICE}"),
        ));
    }
    if let Some(ping_pong) = &canary.ping_pong {
        ping_pong_rules(ping_pong, canary.traffic_routing.as_ref(), &mut errors);
    }
    if let Some(routing) = &canary.traffic_routing {
        with_router(canary, routing, &mut errors);
    } else {
        without_router(canary, &mut errors);
    }
    errors.extend(steps::rules(rollout, canary));
    errors.extend(anti_affinity(canary.anti_affinity.as_ref()));
    errors
}

fn surge(canary: &CanaryStrategy, errors: &mut Vec<FieldError>) {
    // A text that is no number moves no pod, whatever the number of replicas.
    let number = |amount: Option<PodAmount>| match amount {
        Some(PodAmount::Count(number) | PodAmount::Percent(number)) => number,
        None => 0,
    };
    if number(canary.max_surge()) == 0 && number(canary.max_unavailable()) == 0 {
        let detail = "MaxSurge and MaxUnavailable both can not be zero";
        errors.push(FieldError::invalid(
            "spec.strategy.maxSurge",
            &canary.max_surge,
            detail,
        ));
    }
    if canary.traffic_routing.is_none() {
        for (field, value) in unreadable_amounts(canary) {
            let detail = "must be an integer or a percentage";
            errors.push(FieldError::invalid(
                format!("spec.strategy.{field}"),
                value,
                detail,
            ));
        }
    }
}

/// The texts of `maxSurge` and `maxUnavailable` that are no numbers.
pub(crate) fn unreadable_amounts(canary: &CanaryStrategy) -> Vec<(&'static str, &IntOrString)> {
    [
        ("maxSurge", &canary.max_surge),
        ("maxUnavailable", &canary.max_unavailable),
    ]
    .into_iter()
    .filter_map(|(field, value)| Some((field, value.as_ref()?)))
    .filter(|(_, value)| PodAmount::read(value).is_none())
    .collect()
}

fn ping_pong_rules(
    ping_pong: &PingPong,
    routing: Option<&TrafficRouting>,
    errors: &mut Vec<FieldError>,
) {
    let capable = |routing: &TrafficRouting| {
        routing.alb.is_some() || routing.istio.is_some() || !routing.plugins.is_empty()
    };
    if routing.is_some_and(|routing| !capable(routing)) {
        let detail =
            "Ping-pong feature works with the ALB, Istio, and plugin-based traffic routers only";
        errors.push(FieldError::invalid(
            "spec.strategy.trafficRouting.alb",
            &(),
            detail,
        ));
    }
    if ping_pong.ping_service.is_empty() {
        errors.push(FieldError::invalid(
            "spec.strategy.pingPong.pingService",
            "",
            PING_PONG_NEEDED,
        ));
    }
    if ping_pong.pong_service.is_empty() {
        errors.push(FieldError::invalid(
            "spec.strategy.pingPong.pongService",
            "",
            PING_PONG_NEEDED,
        ));
    }
    if ping_pong.ping_service == ping_pong.pong_service {
        errors.push(FieldError::invalid(
            "spec.strategy.pingPong.pingService",
            &ping_pong.ping_service,
            format!("This rollout uses the same service for the ping and pong {SAME_SERVICE}"),
        ));
    }
    if routing
        .and_then(|routing| routing.alb.as_ref())
        .is_some_and(|alb| alb.root_service.is_empty())
    {
        let detail = "Root service field is required for the configuration with ALB and ping-pong feature enabled";
        errors.push(FieldError::invalid(
            "spec.strategy.trafficRouting.alb.rootService",
            "",
            detail,
        ));
    }
}

/// Whether the routers need a Service for each side.
fn needs_services(canary: &CanaryStrategy, routing: &TrafficRouting) -> bool {
    let by_host = routing
        .istio
        .as_ref()
        .is_some_and(|istio| istio.destination_rule.is_none());
    let swappable = routing.alb.is_some() || by_host;
    (swappable && canary.ping_pong.is_none())
        || routing.smi.is_some()
        || routing.apisix.is_some()
        || routing.ambassador.is_some()
        || routing.nginx.is_some()
        || routing.app_mesh.is_some()
        || routing.traefik.is_some()
}

fn with_router(canary: &CanaryStrategy, routing: &TrafficRouting, errors: &mut Vec<FieldError>) {
    if needs_services(canary, routing) {
        for (field, service) in [
            ("stableService", &canary.stable_service),
            ("canaryService", &canary.canary_service),
        ] {
            if service.is_empty() {
                errors.push(FieldError::invalid(
                    format!("spec.strategy.{field}"),
                    "",
                    SERVICES_NEEDED,
                ));
            }
        }
    }
    if canary.scale_down_delay_seconds.is_some() && canary.dynamic_stable_scale {
        let detail = "Canary dynamicStableScale cannot be used with scaleDownDelaySeconds";
        errors.push(FieldError::invalid(
            "spec.strategy.dynamicStableScale",
            &true,
            detail,
        ));
    }
    if let Some(weight) = routing.max_traffic_weight {
        let path = "spec.strategy.trafficRouting.maxTrafficWeight";
        if routing.nginx.is_none() && routing.plugins.is_empty() {
            let detail =
                "Canary maxTrafficWeight in traffic routing only supported in Nginx and Plugins";
            errors.push(FieldError::invalid(path, &weight, detail));
        }
        if weight <= 0 {
            errors.push(FieldError::invalid(path, &weight, "must be greater than 0"));
        }
    }
}

fn without_router(canary: &CanaryStrategy, errors: &mut Vec<FieldError>) {
    if let Some(seconds) = canary.scale_down_delay_seconds {
        let detail = "Canary scaleDownDelaySeconds can only be used with traffic routing";
        errors.push(FieldError::invalid(
            "spec.strategy.scaleDownDelaySeconds",
            &seconds,
            detail,
        ));
    }
    if canary.dynamic_stable_scale {
        let detail = "Canary dynamicStableScale can only be used with traffic routing";
        errors.push(FieldError::invalid(
            "spec.strategy.dynamicStableScale",
            &true,
            detail,
        ));
    }
}
