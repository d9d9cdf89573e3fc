//! Gateway API: weights in the backends of HTTPRoutes, GRPCRoutes, TCPRoutes and TLSRoutes, under the name of the plugin that manifests know.
//!
//! The plugin's texts of errors stay, prefixed as it prefixes them: alerts match on them.

mod configuration;
mod managed_rules;
mod route;

use crossfade_api::split::Split;
use serde_json::Value;

use crate::contract::{
    Capabilities, Kind, Need, ObjectRef, Observed, Plan, RouteError, Router, Settings, Subject,
};
use configuration::{Configuration, RouteKind};

/// One route to split.
struct Route {
    kind: RouteKind,
    object: ObjectRef,
    header_routes: bool,
}

pub(crate) struct Gateway {
    configuration: Result<Configuration, String>,
    verifies: bool,
}

impl Gateway {
    pub(crate) fn new(configuration: &Value, settings: &Settings) -> Self {
        Self {
            configuration: Configuration::read(configuration),
            verifies: settings.verify_gateway_routes,
        }
    }

    /// The routes named by the configuration, then those that its selectors have found.
    fn routes(
        &self,
        subject: &Subject<'_>,
        observed: &Observed,
    ) -> Result<(&Configuration, Vec<Route>), RouteError> {
        let configuration = self
            .configuration
            .as_ref()
            .map_err(|why| RouteError::user(why.clone()))?;
        let namespace = configuration.namespace(subject);
        let mut routes: Vec<Route> = Vec::new();
        for (kind, named) in configuration.named() {
            routes.push(Route {
                kind,
                object: kind.object(namespace, &named.name),
                header_routes: named.use_header_routes,
            });
        }
        for (kind, selector) in configuration.selectors() {
            let wanted = kind.kind();
            for (object, value) in &observed.objects {
                if object.kind == wanted
                    && object.namespace == namespace
                    && configuration::selects(selector, value)
                    && !routes.iter().any(|route| route.object == *object)
                {
                    routes.push(Route {
                        kind,
                        object: object.clone(),
                        header_routes: false,
                    });
                }
            }
        }
        Ok((configuration, routes))
    }
}

impl Router for Gateway {
    fn kind(&self) -> &'static str {
        "GatewayAPI"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            header_routes: true,
            mirror_routes: true,
            additional: true,
            any_maximum: true,
            verifies: true,
        }
    }

    fn needs(&self, subject: &Subject<'_>, split: &Split) -> Vec<Need> {
        let Ok(configuration) = &self.configuration else {
            return Vec::new();
        };
        let namespace = configuration.namespace(subject);
        let named = configuration
            .named()
            .map(|(kind, named)| Need::Object(kind.object(namespace, &named.name)));
        let selected = configuration.selectors().map(|(kind, selector)| {
            let selector = Box::new(selector.clone());
            Need::Selected(kind.kind(), namespace.to_owned(), selector)
        });
        let services = split
            .additional
            .iter()
            .map(|side| Need::Object(service(subject, &side.service)));
        named.chain(selected).chain(services).collect()
    }

    fn plan(&self, subject: &Subject<'_>, observed: &Observed, split: &Split) -> Plan {
        let mut plan = Plan::default();
        let failed = |error: RouteError| RouteError {
            message: format!("failed to set weight via plugin: {}", error.message),
            ..error
        };
        let (configuration, routes) = match self.routes(subject, observed) {
            Ok(found) => found,
            Err(error) => {
                plan.errors.push(failed(error));
                return plan;
            }
        };
        for route in &routes {
            let edit = route::Edit {
                route,
                configuration,
                subject,
                observed,
                split,
            };
            match edit.plan() {
                Ok(change) => plan.changes.extend(change),
                Err(route::Fault::Weight(error)) => plan.errors.push(failed(error)),
                Err(route::Fault::Header(error)) => plan.errors.push(RouteError {
                    message: format!("failed to set header route via plugin: {}", error.message),
                    ..error
                }),
                Err(route::Fault::Mirror(error)) => plan.errors.push(RouteError {
                    message: format!("failed to set mirror route via plugin: {}", error.message),
                    ..error
                }),
            }
        }
        plan
    }

    fn verify(&self, subject: &Subject<'_>, observed: &Observed, _split: &Split) -> Option<bool> {
        if !self.verifies {
            return Some(true);
        }
        let (_, routes) = self.routes(subject, observed).ok()?;
        let attached = |route: &Route| {
            let there = observed.objects.get(&route.object);
            there.is_some_and(|there| is_attached(there))
        };
        Some(routes.iter().all(attached))
    }
}

/// HTTPRoutes in a version of theirs.
pub(crate) fn http_route_kind(version: &str) -> Kind {
    Kind {
        version: version.to_owned(),
        ..RouteKind::Http.kind()
    }
}

fn service(subject: &Subject<'_>, name: &str) -> ObjectRef {
    ObjectRef {
        kind: Kind::new("", "v1", "Service", "services"),
        namespace: subject.namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// Every parent has accepted the route as it is now, and resolved what it refers to.
fn is_attached(route: &Value) -> bool {
    let generation = route
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let parents = route.pointer("/status/parents").and_then(Value::as_array);
    let holds = |parent: &Value, kind: &str| {
        crate::json::list(parent, "conditions")
            .iter()
            .any(|condition| {
                let observed = condition.get("observedGeneration").and_then(Value::as_i64);
                crate::json::text(condition, "type") == kind
                    && crate::json::text(condition, "status") == "True"
                    && observed.unwrap_or(0) >= generation
            })
    };
    parents.is_some_and(|parents| {
        !parents.is_empty()
            && parents
                .iter()
                .all(|parent| holds(parent, "Accepted") && holds(parent, "ResolvedRefs"))
    })
}
