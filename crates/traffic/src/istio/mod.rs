//! Istio: weights in the routes of VirtualServices, by Service or by subset of a DestinationRule.
//!
//! A plan names the versions first (DestinationRule), then moves the weights (VirtualServices): the subset that gets more must have its pods.

mod destination_rule;
mod managed_routes;
mod selected;
mod virtual_service;

pub(crate) use destination_rule::release;

use crossfade_api::split::Split;
use crossfade_api::traffic_routing::{
    IstioDestinationRule, IstioTrafficRouting, IstioVirtualService,
};

use crate::contract::{
    Capabilities, Kind, Need, ObjectRef, Observed, Plan, Router, Settings, Subject,
};
use crate::shares::{self, Shares};

pub(crate) struct Istio {
    virtual_services: Vec<IstioVirtualService>,
    rule: Option<IstioDestinationRule>,
    version: String,
}

/// Who gets which share in a route.
struct Sides<'a> {
    canary_service: &'a str,
    stable_service: &'a str,
    rule: Option<&'a IstioDestinationRule>,
    shares: Shares,
    /// Services of experiments with their shares.
    additional: Vec<(&'a str, i64)>,
}

impl Istio {
    pub(crate) fn new(settings: &IstioTrafficRouting, all: &Settings) -> Self {
        let several = settings.virtual_services.iter().flatten();
        Self {
            virtual_services: several.chain(&settings.virtual_service).cloned().collect(),
            rule: settings.destination_rule.clone(),
            version: all.istio_version.clone(),
        }
    }

    fn kind(&self, kind: &str, plural: &str) -> Kind {
        Kind::new("networking.istio.io", &self.version, kind, plural)
    }

    fn virtual_service(&self, subject: &Subject<'_>, reference: &IstioVirtualService) -> ObjectRef {
        let (namespace, name) = namespace_and_name(subject.namespace, &reference.name);
        ObjectRef {
            kind: self.kind("VirtualService", "virtualservices"),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn destination_rule(
        &self,
        subject: &Subject<'_>,
    ) -> Option<(&IstioDestinationRule, ObjectRef)> {
        let rule = self.rule.as_ref()?;
        let object = ObjectRef {
            kind: self.kind("DestinationRule", "destinationrules"),
            namespace: subject.namespace.to_owned(),
            name: rule.name.clone(),
        };
        Some((rule, object))
    }

    fn sides<'a>(&'a self, subject: &Subject<'a>, split: &'a Split) -> Sides<'a> {
        let shares = shares::percent(split);
        // With both Services named, ping and pong are another router's.
        let named = !subject.canary_service.is_empty() && !subject.stable_service.is_empty();
        let (canary_service, stable_service) = if named {
            (subject.canary_service, subject.stable_service)
        } else {
            (split.canary.service.as_str(), split.stable.service.as_str())
        };
        let services = split.additional.iter().map(|side| side.service.as_str());
        Sides {
            canary_service,
            stable_service,
            rule: self.rule.as_ref(),
            additional: services.zip(shares.additional.iter().copied()).collect(),
            shares,
        }
    }
}

impl Router for Istio {
    fn kind(&self) -> &'static str {
        "Istio"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            header_routes: true,
            mirror_routes: true,
            additional: true,
            any_maximum: false,
            verifies: false,
        }
    }

    fn needs(&self, subject: &Subject<'_>, _split: &Split) -> Vec<Need> {
        let rule = self.destination_rule(subject).map(|(_, object)| object);
        let services = self
            .virtual_services
            .iter()
            .map(|reference| self.virtual_service(subject, reference));
        rule.into_iter().chain(services).map(Need::Object).collect()
    }

    fn plan(&self, subject: &Subject<'_>, observed: &Observed, split: &Split) -> Plan {
        let mut plan = Plan::default();
        let mut may_rise = true;
        let mut host = None;
        if let Some((rule, object)) = self.destination_rule(subject) {
            host = observed
                .objects
                .get(&object)
                .and_then(|rule| destination_rule::host(rule));
            match destination_rule::plan(rule, &object, subject, observed, split) {
                Ok(destination_rule::Answer::Ready(change)) => {
                    plan.changes.extend(change.map(|change| *change));
                }
                Ok(destination_rule::Answer::NotYet(why)) => {
                    plan.waits = Some(why);
                    may_rise = false;
                }
                Err(error) => {
                    plan.errors.push(error);
                    may_rise = false;
                }
            }
        }
        for reference in &self.virtual_services {
            let edit = virtual_service::Edit {
                reference,
                object: self.virtual_service(subject, reference),
                sides: self.sides(subject, split),
                host,
                split,
                may_rise,
            };
            match edit.plan(observed) {
                Ok(change) => plan.changes.extend(change),
                Err(error) => plan.errors.push(error),
            }
        }
        plan
    }
}

/// Where a VirtualService is: `name`, `name.namespace`, or the latter with the ending `.cluster.local`.
fn namespace_and_name<'a>(namespace: &'a str, reference: &'a str) -> (&'a str, &'a str) {
    let reference = reference
        .strip_suffix(".cluster.local")
        .unwrap_or(reference);
    match reference.rsplit_once('.') {
        Some((name, namespace)) => (namespace, name),
        None => (namespace, reference),
    }
}
