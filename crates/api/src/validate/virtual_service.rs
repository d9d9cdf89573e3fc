//! Whether an Istio VirtualService can carry a canary's weights.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::traffic_routing::{IstioDestinationRule, IstioVirtualService, TrafficRouting};
use crate::validate::json::Node;

/// Who must stand in a route: two Services, or two subsets of a DestinationRule.
pub(crate) struct Sides<'a> {
    /// The stable Service and the canary's.
    pub(crate) services: (&'a str, &'a str),
    /// The DestinationRule that splits instead.
    pub(crate) subsets: Option<&'a IstioDestinationRule>,
}

/// Looks at every route that would be split. The error is the text of the fault.
pub(crate) fn check(
    object: &Value,
    reference: &IstioVirtualService,
    routing: &TrafficRouting,
    sides: &Sides,
) -> Result<(), String> {
    let spec = Node::new("spec", object.get("spec"));
    let sections = spec.given(&["http", "tls", "tcp"]);
    if sections.is_empty() {
        return Err(
            "Unable to get any of the HTTP, TCP or TLS routes for the Istio VirtualService"
                .to_owned(),
        );
    }
    for section in sections {
        let word = section.to_uppercase();
        let well_formed = spec
            .value(section)
            .and_then(Value::as_array)
            .is_some_and(|items| items.iter().all(Value::is_object));
        if !well_formed {
            return Err(format!(
                "Unable to get {word} routes for Istio VirtualService"
            ));
        }
        let entries: Vec<_> = spec.objects(section).collect();
        let selected = match section {
            "http" => http(&entries, reference, routing),
            "tls" => tls(&entries, reference),
            _ => tcp(&entries, reference),
        };
        selected
            .and_then(|selected| {
                selected
                    .into_iter()
                    .try_for_each(|entry| both_sides(entry, sides))
            })
            .map_err(|text| {
                format!("Istio VirtualService has invalid {word} routes. Error: {text}")
            })?;
    }
    Ok(())
}

fn exactly_one(section: &str, field: &str) -> String {
    format!(
        "spec.{section}[] should be set in VirtualService and it must have exactly one route when omitting spec.strategy.canary.trafficRouting.istio.virtualService.{field}"
    )
}

fn http<'e, 'a>(
    entries: &'e [Node<'a>],
    reference: &IstioVirtualService,
    routing: &TrafficRouting,
) -> Result<Vec<&'e Node<'a>>, String> {
    if reference.routes.is_empty() {
        let managed = |entry: &&Node| {
            routing
                .managed_routes
                .iter()
                .flatten()
                .any(|route| route.name == entry.text("name"))
        };
        let own: Vec<_> = entries.iter().filter(|entry| !managed(entry)).collect();
        return if own.len() == 1 {
            Ok(own)
        } else {
            Err(exactly_one("http", "routes"))
        };
    }
    let find = |name: &String| {
        let missing =
            || format!("HTTP Route '{name}' is not found in the defined Virtual Service.");
        entries
            .iter()
            .find(|entry| entry.text("name") == name)
            .ok_or_else(missing)
    };
    reference.routes.iter().map(find).collect()
}

fn tls<'e, 'a>(
    entries: &'e [Node<'a>],
    reference: &IstioVirtualService,
) -> Result<Vec<&'e Node<'a>>, String> {
    if reference.tls_routes.is_empty() {
        return only_one(entries, "tls", "tlsRoutes");
    }
    let mut selected = Vec::new();
    for wanted in &reference.tls_routes {
        let hosts: BTreeSet<_> = wanted.sni_hosts.iter().map(String::as_str).collect();
        let fits = |entry: &&Node| {
            let given: Vec<_> = entry
                .objects("match")
                .flat_map(|block| block.texts("sniHosts").collect::<Vec<_>>())
                .collect();
            has_port(entry, wanted.port)
                && given.len() == wanted.sni_hosts.len()
                && given.into_iter().collect::<BTreeSet<_>>() == hosts
        };
        some_of(entries, fits, "TLS", &mut selected)?;
    }
    Ok(selected)
}

fn tcp<'e, 'a>(
    entries: &'e [Node<'a>],
    reference: &IstioVirtualService,
) -> Result<Vec<&'e Node<'a>>, String> {
    if reference.tcp_routes.is_empty() {
        return only_one(entries, "tcp", "tcpRoutes");
    }
    let mut selected = Vec::new();
    for wanted in &reference.tcp_routes {
        some_of(
            entries,
            |entry| has_port(entry, wanted.port),
            "TCP",
            &mut selected,
        )?;
    }
    Ok(selected)
}

fn only_one<'e, 'a>(
    entries: &'e [Node<'a>],
    section: &str,
    field: &str,
) -> Result<Vec<&'e Node<'a>>, String> {
    match entries {
        [entry] => Ok(vec![entry]),
        _ => Err(exactly_one(section, field)),
    }
}

fn some_of<'e, 'a>(
    entries: &'e [Node<'a>],
    fits: impl Fn(&&Node<'a>) -> bool,
    word: &str,
    selected: &mut Vec<&'e Node<'a>>,
) -> Result<(), String> {
    let before = selected.len();
    selected.extend(entries.iter().filter(|entry| fits(entry)));
    if selected.len() == before {
        return Err(format!(
            "No matching {word} routes found in the defined Virtual Service."
        ));
    }
    Ok(())
}

/// Whether the match blocks of an entry name this port and no other; 0 means that they name none.
fn has_port(entry: &Node, port: i64) -> bool {
    let ports: BTreeSet<_> = entry
        .objects("match")
        .filter_map(|block| block.number("port"))
        .collect();
    let named: Vec<_> = ports.into_iter().filter(|port| *port != 0).collect();
    match named[..] {
        [] => port == 0,
        [only] => only == port,
        _ => false,
    }
}

fn both_sides(entry: &Node, sides: &Sides) -> Result<(), String> {
    let destinations: Vec<_> = entry
        .objects("route")
        .filter_map(|route| route.object("destination"))
        .collect();
    if let Some(rule) = sides.subsets {
        let has = |subset: &str| {
            destinations
                .iter()
                .any(|destination| destination.text("subset") == subset)
        };
        for (word, subset) in [
            ("Canary", &rule.canary_subset_name),
            ("Stable", &rule.stable_subset_name),
        ] {
            if !has(subset) {
                return Err(format!(
                    "{word} DestinationRule subset '{subset}' not found in route"
                ));
            }
        }
        return Ok(());
    }
    // A host may be written in full; the part before the first dot names the Service.
    let host = |destination: &Node| {
        destination
            .text("host")
            .split('.')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let hosts: Vec<_> = destinations.iter().map(host).collect();
    let (stable, canary) = sides.services;
    for (word, service) in [("Canary", canary), ("Stable", stable)] {
        if !hosts.iter().any(|host| host == service) {
            return Err(format!("{word} Service '{service}' not found in route"));
        }
    }
    Ok(())
}
