//! Rules for the objects of routers: Ingresses, VirtualServices, mappings, App Mesh.

use serde_json::Value;

use crate::field_error::FieldError;
use crate::resource::{Resource, Rollout};
use crate::rollout::CanaryStrategy;
use crate::traffic_routing::{AppMeshTrafficRouting, IstioTrafficRouting, TrafficRouting};
use crate::validate::json::Node;
use crate::validate::references::{Lookup, References, RouterKind, stable_and_canary};
use crate::validate::virtual_service;

const PATH: &str = "spec.strategy.canary.trafficRouting";

/// Where faults are put: objects that are missing come before those that do not fit.
pub(crate) struct Faults<'f> {
    missing: &'f mut Vec<FieldError>,
    unfit: &'f mut Vec<FieldError>,
}

pub(crate) fn rules(
    rollout: &Rollout,
    canary: &CanaryStrategy,
    routing: &TrafficRouting,
    known: &impl References,
    missing: &mut Vec<FieldError>,
    unfit: &mut Vec<FieldError>,
) {
    let mut faults = Faults { missing, unfit };
    ingresses(rollout, canary, routing, known, &mut faults);
    if let Some(istio) = &routing.istio {
        istio_rules(rollout, canary, routing, istio, known, &mut faults);
    }
    if let Some(ambassador) = &routing.ambassador {
        mappings(rollout, &ambassador.mappings, known, &mut faults);
    }
    if let Some(app_mesh) = &routing.app_mesh {
        app_mesh_rules(rollout, app_mesh, known, &mut faults);
    }
}

/// The text for an object that is not there.
fn not_found(kind: RouterKind, name: &str) -> String {
    format!("{} \"{name}\" not found", kind.resource())
}

/// A router that names its Ingresses by one field or by another.
struct IngressFields<'a> {
    router: &'static str,
    one: (&'static str, &'a str),
    many: (&'static str, Option<&'a [String]>),
    /// What the many are called where they are looked up, and in texts.
    looked_up: &'static str,
    words: (&'static str, &'static str),
    service: &'a str,
}

fn ingresses(
    rollout: &Rollout,
    canary: &CanaryStrategy,
    routing: &TrafficRouting,
    known: &impl References,
    faults: &mut Faults,
) {
    let nginx = routing.nginx.as_ref().map(|nginx| IngressFields {
        router: "nginx",
        one: ("stableIngress", &nginx.stable_ingress),
        many: ("stableIngresses", nginx.stable_ingresses.as_deref()),
        looked_up: "StableIngresses",
        words: ("StableIngress", "StableIngresses"),
        service: &canary.stable_service,
    });
    let alb = routing.alb.as_ref().map(|alb| IngressFields {
        router: "alb",
        one: ("ingress", &alb.ingress),
        many: ("ingresses", alb.ingresses.as_deref()),
        looked_up: "ingresses",
        words: ("Ingress", "Ingresses"),
        service: if alb.root_service.is_empty() {
            &canary.stable_service
        } else {
            &alb.root_service
        },
    });
    for fields in [nginx, alb].into_iter().flatten() {
        ingress_rules(rollout, &fields, known, faults);
    }
}

fn ingress_rules(
    rollout: &Rollout,
    fields: &IngressFields,
    known: &impl References,
    faults: &mut Faults,
) {
    let path = format!("{PATH}.{}", fields.router);
    let (one, many) = fields.words;
    let names = match (fields.one.1, fields.many.1) {
        ("", None) => {
            let detail =
                format!("Either {one} or {many} must be configured. Neither are configured.");
            faults.missing.push(FieldError::internal(path, detail));
            return;
        }
        ("", Some(names)) => names.to_vec(),
        (name, None) => vec![name.to_owned()],
        (_, Some(_)) => {
            let detail = format!("Either {one} or {many} must be configured. Both are configured.");
            faults.missing.push(FieldError::internal(path, detail));
            return;
        }
    };
    for name in &names {
        match known.object(RouterKind::Ingress, rollout.namespace(), name) {
            Lookup::Missing => {
                let detail = not_found(RouterKind::Ingress, name);
                faults.missing.push(match fields.many.1 {
                    Some(all) => {
                        FieldError::invalid(format!("{path}.{}", fields.looked_up), all, detail)
                    }
                    None => FieldError::invalid(format!("{path}.{}", fields.one.0), name, detail),
                });
            }
            Lookup::Found(ingress) if !ingress_uses(ingress, fields.service) => {
                let field = if fields.many.1.is_some() {
                    fields.many.0
                } else {
                    fields.one.0
                };
                let detail = format!(
                    "ingress `{name}` has no rules using service {} backend",
                    fields.service
                );
                faults
                    .unfit
                    .push(FieldError::invalid(format!("{path}.{field}"), name, detail));
            }
            Lookup::Found(_) | Lookup::NotNeeded => {}
        }
    }
}

/// Whether a rule of an Ingress leads to a Service. A backend that is no Service leads elsewhere.
fn ingress_uses(ingress: &Value, service: &str) -> bool {
    let spec = Node::new("", ingress.get("spec"));
    spec.objects("rules")
        .filter_map(|rule| rule.object("http"))
        .any(|http| {
            http.objects("paths")
                .filter_map(|path| path.object("backend"))
                .any(|backend| {
                    let named = backend
                        .object("service")
                        .map(|service| service.text("name"));
                    named.unwrap_or_else(|| backend.text("serviceName")) == service
                })
        })
}

fn istio_rules(
    rollout: &Rollout,
    canary: &CanaryStrategy,
    routing: &TrafficRouting,
    istio: &IstioTrafficRouting,
    known: &impl References,
    faults: &mut Faults,
) {
    let path = format!("{PATH}.istio");
    if istio.virtual_service.is_some() == istio.virtual_services.is_some() {
        let detail = "either VirtualService or VirtualServices must be configured";
        faults.missing.push(FieldError::internal(path, detail));
        return;
    }
    let field = if istio.virtual_service.is_some() {
        "virtualService"
    } else {
        "virtualServices"
    };
    let path = format!("{path}.{field}.name");
    for reference in istio.virtual_services() {
        let (name, namespace) = reference.name_and_namespace(rollout.namespace());
        match known.object(RouterKind::VirtualService, namespace, name) {
            Lookup::Missing => {
                let detail = not_found(RouterKind::VirtualService, name);
                faults
                    .missing
                    .push(FieldError::invalid(&path, name, detail));
            }
            Lookup::Found(object) => {
                let sides = virtual_service::Sides {
                    services: stable_and_canary(rollout, canary),
                    subsets: istio.destination_rule.as_ref(),
                };
                if let Err(detail) = virtual_service::check(object, reference, routing, &sides) {
                    faults.unfit.push(FieldError::invalid(&path, name, detail));
                }
            }
            Lookup::NotNeeded => {}
        }
    }
    if let Some(rule) = &istio.destination_rule
        && known.object(RouterKind::DestinationRule, rollout.namespace(), &rule.name)
            == Lookup::Missing
    {
        let detail = not_found(RouterKind::DestinationRule, &rule.name);
        faults.missing.push(FieldError::invalid(
            format!("{PATH}.istio.destinationRule.name"),
            &rule.name,
            detail,
        ));
    }
}

fn mappings(rollout: &Rollout, names: &[String], known: &impl References, faults: &mut Faults) {
    let path = format!("{PATH}.ambassador.mappings");
    if names.is_empty() {
        faults.missing.push(FieldError::invalid(
            &path,
            &(),
            "must provide at least one mapping",
        ));
    }
    for name in names {
        match known.object(RouterKind::Mapping, rollout.namespace(), name) {
            Lookup::Missing => {
                faults.missing.push(FieldError::invalid(
                    &path,
                    name,
                    not_found(RouterKind::Mapping, name),
                ));
            }
            Lookup::Found(mapping)
                if mapping
                    .pointer("/spec/weight")
                    .and_then(Value::as_f64)
                    .unwrap_or(0.0)
                    != 0.0 =>
            {
                let detail = format!("Ambassador mapping \"{name}\" can not define weight");
                faults
                    .unfit
                    .push(FieldError::invalid("spec.weight", name, detail));
            }
            Lookup::Found(_) | Lookup::NotNeeded => {}
        }
    }
}

fn app_mesh_rules(
    rollout: &Rollout,
    app_mesh: &AppMeshTrafficRouting,
    known: &impl References,
    faults: &mut Faults,
) {
    let path = format!("{PATH}.appmesh.virtualService");
    let Some(reference) = &app_mesh.virtual_service else {
        faults.missing.push(FieldError::invalid(
            path,
            &(),
            "must provide virtual-service",
        ));
        return;
    };
    let Some(service) = app_mesh_object(
        RouterKind::AppMeshVirtualService,
        rollout.namespace(),
        &reference.name,
        &path,
        known,
        faults,
    ) else {
        return;
    };
    let spec = Node::new("", service.get("spec"));
    let router = spec
        .object("provider")
        .and_then(|provider| provider.object("virtualRouter"));
    let Some(router) = router.and_then(|router| router.object("virtualRouterRef")) else {
        return;
    };
    let name = router.text("name");
    let namespace = Some(router.text("namespace"))
        .filter(|text| !text.is_empty())
        .unwrap_or(rollout.namespace());
    if let Some(object) = app_mesh_object(
        RouterKind::AppMeshVirtualRouter,
        namespace,
        name,
        &path,
        known,
        faults,
    ) {
        virtual_router(object, name, faults);
    }
    let nodes = app_mesh.virtual_node_group.as_ref();
    let both = nodes.filter(|group| {
        group.canary_virtual_node_ref.is_some() && group.stable_virtual_node_ref.is_some()
    });
    if both.is_none() {
        let detail = "must name the virtual nodes of the canary and of the stable version";
        faults.unfit.push(FieldError::required(
            format!("{PATH}.appMesh.virtualNodeGroup"),
            detail,
        ));
    }
}

fn app_mesh_object<'k>(
    kind: RouterKind,
    namespace: &str,
    name: &str,
    path: &str,
    known: &'k impl References,
    faults: &mut Faults,
) -> Option<&'k Value> {
    match known.object(kind, namespace, name) {
        Lookup::Found(object) => Some(object),
        Lookup::Missing => {
            let value = format!("{name}.{namespace}");
            faults
                .missing
                .push(FieldError::invalid(path, &value, not_found(kind, name)));
            None
        }
        Lookup::NotNeeded => None,
    }
}

fn virtual_router(router: &Value, name: &str, faults: &mut Faults) {
    let spec = Node::new("spec", router.get("spec"));
    let mut entries = spec.objects("routes").peekable();
    if entries.peek().is_none() {
        let detail = format!("No routes defined for AppMesh virtual-router {name}");
        faults
            .unfit
            .push(FieldError::invalid("spec.routes", name, detail));
    }
    for route in entries {
        let kinds = ["grpcRoute", "httpRoute", "http2Route", "tcpRoute"];
        let Some(kind) = route.given(&kinds).first().copied() else {
            let detail = format!(
                "Error getting route details for AppMesh virtual-router {name} and route {}. Error: Route has unsupported route type",
                route.text("name")
            );
            faults
                .unfit
                .push(FieldError::invalid(route.path.clone(), name, detail));
            continue;
        };
        let action = route
            .object(kind)
            .and_then(|details| details.object("action"));
        let targets = action.map_or(0, |action| action.objects("weightedTargets").count());
        if targets != 2 {
            let detail = format!(
                "Invalid number of weightedTargets ({targets}) for AppMesh virtual-router {name} and route {}, expected 2",
                route.text("name")
            );
            let path = route.child_path(&format!("{kind}.action.weightedTargets"));
            faults.unfit.push(FieldError::invalid(path, name, detail));
        }
    }
}
