//! Which entries of a VirtualService are split.

use std::collections::BTreeSet;

use crossfade_api::traffic_routing::IstioVirtualService;
use serde_json::Value;

use crate::contract::RouteError;
use crate::json::{list, text};

/// Positions of the HTTP entries to split; routes that we manage ourselves do not count as the user's only one.
pub(super) fn http(
    entries: &[Value],
    reference: &IstioVirtualService,
    managed: &[String],
) -> Result<Vec<usize>, RouteError> {
    if reference.routes.is_empty() {
        let own: Vec<usize> = positions(entries, |entry| {
            !managed.iter().any(|name| name == text(entry, "name"))
        });
        return only_one(&own, "http", "routes");
    }
    let find = |name: &String| {
        let found = entries.iter().position(|entry| text(entry, "name") == name);
        found.ok_or_else(|| {
            RouteError::user(format!(
                "HTTP Route '{name}' is not found in the defined Virtual Service."
            ))
        })
    };
    reference.routes.iter().map(find).collect()
}

/// Positions of the TLS entries to split: by port and SNI hosts.
pub(super) fn tls(
    entries: &[Value],
    reference: &IstioVirtualService,
) -> Result<Vec<usize>, RouteError> {
    if reference.tls_routes.is_empty() {
        return only_one(&positions(entries, |_| true), "tls", "tlsRoutes");
    }
    let mut selected = Vec::new();
    for wanted in &reference.tls_routes {
        let hosts: BTreeSet<_> = wanted.sni_hosts.iter().map(String::as_str).collect();
        let fits = |entry: &Value| {
            let given: Vec<&str> = list(entry, "match")
                .iter()
                .flat_map(|block| list(block, "sniHosts"))
                .filter_map(Value::as_str)
                .collect();
            has_port(entry, wanted.port)
                && given.len() == wanted.sni_hosts.len()
                && given.into_iter().collect::<BTreeSet<_>>() == hosts
        };
        some(positions(entries, fits), "TLS", &mut selected)?;
    }
    Ok(selected)
}

/// Positions of the TCP entries to split: by port.
pub(super) fn tcp(
    entries: &[Value],
    reference: &IstioVirtualService,
) -> Result<Vec<usize>, RouteError> {
    if reference.tcp_routes.is_empty() {
        return only_one(&positions(entries, |_| true), "tcp", "tcpRoutes");
    }
    let mut selected = Vec::new();
    for wanted in &reference.tcp_routes {
        let fits = |entry: &Value| has_port(entry, wanted.port);
        some(positions(entries, fits), "TCP", &mut selected)?;
    }
    Ok(selected)
}

fn positions(entries: &[Value], fits: impl Fn(&Value) -> bool) -> Vec<usize> {
    let entries = entries.iter().enumerate();
    entries
        .filter(|(_, entry)| fits(entry))
        .map(|(index, _)| index)
        .collect()
}

fn only_one(found: &[usize], section: &str, field: &str) -> Result<Vec<usize>, RouteError> {
    if let [only] = found {
        return Ok(vec![*only]);
    }
    Err(RouteError::user(format!(
        "spec.{section}[] should be set in VirtualService and it must have exactly one route when omitting spec.strategy.canary.trafficRouting.istio.virtualService.{field}"
    )))
}

fn some(found: Vec<usize>, word: &str, selected: &mut Vec<usize>) -> Result<(), RouteError> {
    if found.is_empty() {
        return Err(RouteError::user(format!(
            "No matching {word} routes found in the defined Virtual Service."
        )));
    }
    selected.extend(found);
    selected.sort_unstable();
    selected.dedup();
    Ok(())
}

/// Whether the match blocks of an entry name this port and no other; 0 means that they name none.
fn has_port(entry: &Value, port: i64) -> bool {
    let ports: BTreeSet<i64> = list(entry, "match")
        .iter()
        .filter_map(|block| block.get("port")?.as_i64())
        .filter(|port| *port != 0)
        .collect();
    match ports.len() {
        0 => port == 0,
        1 => ports.contains(&port),
        _ => false,
    }
}
