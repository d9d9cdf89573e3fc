//! Services as the data plane needs them, and where each of their ports is listened for on this machine.
//!
//! Every Service of a cluster has an address of its own; on one machine they share one, so two of them cannot both have the
//! port 8080. A port gets its own number if that is free, otherwise a free one that no outgoing connection can take while the
//! data plane is away, and that is recorded on the Service, so that it stays the same over restarts. A port that could not have
//! its own number gets it besides as soon as it is free: nobody who has learned the other address loses it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use crossfade_api::names::annotation;
use crossfade_api::{Canary, Resource as _, Rollout};
use crossfade_engine::action::Target;
use crossfade_engine::canary::service_names;
use serde_json::{Value, json};

use super::nginx::Choices;
use super::objects::ObjectError;
use super::routes::{Combination, Entry, Port};
use super::subjects::Context;
use super::{canary_routes, rollouts, views};
use crate::store::Kind;
use crate::supervisor::quiet_ports;
use crate::wire::Part;

/// Where a Service's ports are listened for on this machine: `80=127.0.0.1:8080,…`.
pub(super) const ADDRESSES: &str = "crossfade.dev/addresses";

/// All Services; ports without an address get one on `ip`.
pub(super) async fn all(context: &Context, ip: IpAddr) -> Result<Vec<Entry>, ObjectError> {
    let rollouts: Vec<Arc<Rollout>> = context
        .objects
        .list(Kind::Rollout, None)
        .iter()
        .map(|object| context.prepared.of(object).0)
        .collect();
    let canaries: Vec<Canary> = context
        .objects
        .list(Kind::Canary, None)
        .iter()
        .map(|object| Canary::from_json(Value::clone(object)).0)
        .collect();
    let services = context.objects.list(Kind::Service, None);
    let mut taken: BTreeSet<SocketAddr> = services
        .iter()
        .flat_map(|service| recorded(service).into_values())
        .collect();
    let mut entries = Vec::with_capacity(services.len());
    for service in &services {
        let before = recorded(service);
        let (ports, addresses) = ports(service, ip, &mut taken);
        if addresses != before {
            record(context, service, &addresses).await?;
        }
        let mut entry = entry(service, ports, &rollouts);
        entry.canary = canaries
            .iter()
            .filter(|canary| canary.namespace() == entry.namespace)
            .filter(|canary| service_names(canary)[0] == entry.name)
            .find_map(|canary| canary_routes::of(context, canary, service));
        if let Some(canary) = &entry.canary {
            canary.canary().clone_into(&mut entry.rollout);
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Forgets where a Service's ports are listened for: they get other addresses.
pub(super) async fn forget_addresses(
    context: &Context,
    namespace: &str,
    service: &str,
) -> Result<(), ObjectError> {
    let target = Target {
        namespace: namespace.to_owned(),
        name: service.to_owned(),
        ..Target::default()
    };
    let patch = json!({"metadata": {"annotations": {ADDRESSES: null}}});
    let patched = context
        .objects
        .patch(Kind::Service, &target, Part::Object, patch);
    patched.await.map(|_| ())
}

async fn record(
    context: &Context,
    service: &Value,
    addresses: &BTreeMap<u16, SocketAddr>,
) -> Result<(), ObjectError> {
    let text: Vec<String> = addresses
        .iter()
        .map(|(number, address)| format!("{number}={address}"))
        .collect();
    let target = Target {
        resource_version: String::new(),
        ..views::target(service)
    };
    let patch = json!({"metadata": {"annotations": {ADDRESSES: text.join(",")}}});
    let patched = context
        .objects
        .patch(Kind::Service, &target, Part::Object, patch);
    patched.await.map(|_| ())
}

/// The ports of a Service, and all addresses that are to be recorded on it.
fn ports(
    service: &Value,
    ip: IpAddr,
    taken: &mut BTreeSet<SocketAddr>,
) -> (Vec<Port>, BTreeMap<u16, SocketAddr>) {
    let mut addresses = recorded(service);
    let mut ports = Vec::new();
    let written = service.pointer("/spec/ports").and_then(Value::as_array);
    for port in written.into_iter().flatten() {
        let number = port.get("port").and_then(Value::as_u64);
        let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else {
            continue;
        };
        let address = match addresses.get(&number) {
            Some(address) => *address,
            None => match free_address(ip, number, taken) {
                Some(address) => *addresses.entry(number).or_insert(address),
                None => continue,
            },
        };
        taken.insert(address);
        // Its own number, unless another Service has it or waits for it already.
        let own = SocketAddr::new(ip, number);
        let own = (own != address && taken.insert(own)).then_some(own);
        let target = match port.get("targetPort") {
            Some(Value::String(name)) => name.clone(),
            Some(Value::Number(target)) => target.to_string(),
            _ => number.to_string(),
        };
        let h2c = ["h2c", "kubernetes.io/h2c", "grpc"].contains(&views::text(port, "/appProtocol"));
        ports.push(Port {
            number,
            name: views::text(port, "/name").to_owned(),
            target,
            address,
            own,
            h2c,
        });
    }
    (ports, addresses)
}

fn entry(service: &Value, ports: Vec<Port>, rollouts: &[Arc<Rollout>]) -> Entry {
    let view = views::service(service);
    let routed = rollouts.iter().find(|rollout| {
        rollout.namespace() == view.target.namespace
            && rollouts::entry(rollout).as_deref() == Some(view.target.name.as_str())
    });
    let combination = |rollout: &Rollout| {
        let canary = rollout.spec.strategy.canary.as_ref();
        let istio = canary
            .and_then(|canary| canary.traffic_routing.as_ref())
            .is_some_and(|routing| routing.istio.is_some());
        if istio {
            Combination::Any
        } else {
            Combination::All
        }
    };
    let choices = |rollout: &Rollout| {
        let canary = rollout.spec.strategy.canary.as_ref()?;
        let routing = canary.traffic_routing.as_ref()?;
        Some(Choices::of(routing.nginx.as_ref()?))
    };
    let manager = views::map(service, "/metadata/annotations").remove(annotation::MANAGED_BY);
    Entry {
        split: routed.and_then(|rollout| Some((rollouts::split(service)?, combination(rollout)))),
        canary: None,
        choices: routed
            .and_then(|rollout| choices(rollout))
            .unwrap_or_default(),
        rollout: routed
            .map(|rollout| rollout.name().to_owned())
            .or(manager)
            .unwrap_or_default(),
        namespace: view.target.namespace,
        name: view.target.name,
        selector: view.selector,
        ports,
    }
}

/// The Service's own port if it can be had, otherwise any.
fn free_address(ip: IpAddr, number: u16, taken: &BTreeSet<SocketAddr>) -> Option<SocketAddr> {
    std::iter::once(number)
        .chain(quiet_ports())
        .map(|port| SocketAddr::new(ip, port))
        .find(|address| !taken.contains(address) && TcpListener::bind(address).is_ok())
}

/// The addresses that a Service's annotation records, by port.
fn recorded(service: &Value) -> BTreeMap<u16, SocketAddr> {
    let annotations = views::map(service, "/metadata/annotations");
    let text = annotations.get(ADDRESSES).map_or("", String::as_str);
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(number, address)| Some((number.parse().ok()?, address.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn service(port: u16) -> Value {
        json!({"spec": {"ports": [{"port": port}]}})
    }

    #[test]
    fn a_port_that_is_taken_is_listened_for_elsewhere_and_waited_for() {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let stranger = TcpListener::bind((ip, 0)).expect("a port");
        let own = stranger.local_addr().expect("an address");
        let mut taken = BTreeSet::new();
        let (first, recorded) = ports(&service(own.port()), ip, &mut taken);
        let [first] = first.as_slice() else {
            panic!("one port: {first:?}")
        };
        assert_ne!(first.address, own);
        assert_eq!(first.own, Some(own));
        assert_eq!(recorded, BTreeMap::from([(own.port(), first.address)]));
        // The number goes to whoever asked first; the other is content with what it has.
        let (second, _) = ports(&service(own.port()), ip, &mut taken);
        assert_eq!(second.first().and_then(|port| port.own), None);
    }
}
