//! From Services, splits and ready pods to what the data plane is told.
//!
//! Every port of a Service is a listener. A Service that a Rollout routes carries a split: its requests go to versions by weight,
//! header and mirror rules. Any other Service sends requests to the pods it selects, as in a cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crossfade_api::names::label;
use crossfade_api::steps::StringMatch as Written;
use crossfade_engine::action::{Destination as Side, HeaderRoute, MirrorRoute, Split};

use super::canary_routes::CanaryRoute;
use super::deployments::VERSION;
use super::nginx::Choices;
use crate::proxy::{
    Destination, Endpoint, HeaderMatch, ListenerConfig, Mirror, Protocol, ProxyConfig, RouteConfig,
    RouteMatch, StringMatch,
};
use crate::supervisor::PodSnapshot;

/// A Service as the data plane needs it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) selector: BTreeMap<String, String>,
    pub(super) ports: Vec<Port>,
    /// The split it carries, and how its router combines several header matches.
    pub(super) split: Option<(Split, Combination)>,
    /// Where a Canary sends its requests.
    pub(super) canary: Option<CanaryRoute>,
    /// Which requests may choose their side themselves.
    pub(super) choices: Choices,
    /// The Rollout or Canary that manages or routes it, for labels of metrics.
    pub(super) rollout: String,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Port {
    /// Its number in the Service.
    pub(super) number: u16,
    /// Its name in the Service; may be empty.
    pub(super) name: String,
    /// The pods' port, by name or number.
    pub(super) target: String,
    /// Where the data plane listens for it.
    pub(super) address: SocketAddr,
    /// Where it listens for it besides, as soon as nobody else does: the address with its own number, if it has another.
    pub(super) own: Option<SocketAddr>,
    /// Pods speak HTTP/2 without TLS there.
    pub(super) h2c: bool,
}

/// How several header matches of one step combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Combination {
    /// Any one is enough (Istio).
    Any,
    /// All are needed (the others).
    All,
}

/// The name of a port's listener.
pub(super) fn listener_name(namespace: &str, service: &str, port: u16) -> String {
    format!("{namespace}/{service}:{port}")
}

/// The name of the listener on a port's own number, where the port has another address.
pub(super) fn own_listener_name(namespace: &str, service: &str, port: u16) -> String {
    format!("{}=own", listener_name(namespace, service, port))
}

/// The whole configuration.
pub(super) fn config(entries: &[Entry], pods: &[PodSnapshot], revision: u64) -> ProxyConfig {
    let listeners = entries
        .iter()
        .flat_map(|entry| entry.ports.iter().map(move |port| (entry, port)))
        .flat_map(|(entry, port)| listeners(entry, port, pods))
        .collect();
    ProxyConfig {
        revision,
        listeners,
    }
}

fn listeners(entry: &Entry, port: &Port, pods: &[PodSnapshot]) -> Vec<ListenerConfig> {
    let first = listener(entry, port, pods);
    let own = port.own.map(|address| ListenerConfig {
        name: own_listener_name(&entry.namespace, &entry.name, port.number),
        address,
        ..first.clone()
    });
    std::iter::once(first).chain(own).collect()
}

fn listener(entry: &Entry, port: &Port, pods: &[PodSnapshot]) -> ListenerConfig {
    let routes = match (&entry.split, &entry.canary) {
        (Some((split, combination)), _) => split_routes(entry, port, pods, split, *combination),
        (None, Some(canary)) => canary.routes(entry, port, pods),
        (None, None) => vec![plain_route(entry, port, pods)],
    };
    ListenerConfig {
        name: listener_name(&entry.namespace, &entry.name, port.number),
        address: port.address,
        namespace: entry.namespace.clone(),
        service: entry.name.clone(),
        rollout: entry.rollout.clone(),
        routes,
    }
}

fn in_namespace<'p>(
    entry: &Entry,
    pods: &'p [PodSnapshot],
) -> impl Iterator<Item = &'p PodSnapshot> {
    pods.iter()
        .filter(|pod| pod.identity.namespace == entry.namespace && pod.is_ready())
}

/// True if a selector, a key of it left out if one is named, selects what bears these labels.
pub(super) fn matches(
    selector: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    without: Option<&str>,
) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| Some(key.as_str()) == without || labels.get(key) == Some(value))
}

fn endpoint(pod: &PodSnapshot, port: &Port) -> Option<Endpoint> {
    Some(Endpoint {
        pod: format!("{}/{}", pod.identity.namespace, pod.identity.name),
        addr: pod.address(&port.target)?,
    })
}

/// What the pods speak on a port.
pub(super) fn protocol(port: &Port) -> Protocol {
    if port.h2c {
        Protocol::H2c
    } else {
        Protocol::Http1
    }
}

/// The version of a pod: of a Rollout's, or of a Deployment's.
pub(super) fn version(labels: &BTreeMap<String, String>) -> String {
    let known = [label::POD_HASH, VERSION];
    let hash = known.iter().find_map(|label| labels.get(*label));
    hash.cloned().unwrap_or_default()
}

/// The ready pods that a selector selects, by version.
pub(super) fn versions(
    entry: &Entry,
    port: &Port,
    pods: &[PodSnapshot],
    selector: &BTreeMap<String, String>,
) -> BTreeMap<String, Vec<Endpoint>> {
    let mut versions: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
    for pod in in_namespace(entry, pods).filter(|pod| matches(selector, &pod.identity.labels, None))
    {
        versions
            .entry(version(&pod.identity.labels))
            .or_default()
            .extend(endpoint(pod, port));
    }
    versions
}

/// Requests go to every ready pod that the Service selects, told apart by version; each pod has the same share.
fn plain_route(entry: &Entry, port: &Port, pods: &[PodSnapshot]) -> RouteConfig {
    let versions = versions(entry, port, pods, &entry.selector);
    let destinations = versions
        .into_iter()
        .map(|(version, endpoints)| Destination {
            version,
            service: entry.name.clone(),
            weight: u32::try_from(endpoints.len()).unwrap_or(u32::MAX),
            protocol: protocol(port),
            endpoints,
            ..Destination::default()
        })
        .collect();
    RouteConfig {
        name: "all".to_owned(),
        destinations,
        ..RouteConfig::default()
    }
}

/// One side of a split with its ready pods.
fn destination(entry: &Entry, port: &Port, pods: &[PodSnapshot], side: &Side) -> Destination {
    let belongs = |labels: &BTreeMap<String, String>| {
        matches(&entry.selector, labels, Some(label::POD_HASH))
            && labels.get(label::POD_HASH).map(String::as_str) == Some(side.hash.as_str())
    };
    Destination {
        version: side.hash.to_string(),
        service: if side.service.is_empty() {
            entry.name.clone()
        } else {
            side.service.clone()
        },
        weight: u32::try_from(side.weight.0).unwrap_or(0),
        protocol: protocol(port),
        endpoints: in_namespace(entry, pods)
            .filter(|pod| belongs(&pod.identity.labels))
            .filter_map(|pod| endpoint(pod, port))
            .collect(),
        ..Destination::default()
    }
}

/// A share of traffic never meets a version without a ready pod while another has one.
pub(super) fn only_alive(weighted: &mut [Destination]) {
    if weighted
        .iter()
        .any(|one| one.weight > 0 && !one.endpoints.is_empty())
    {
        for empty in weighted.iter_mut().filter(|one| one.endpoints.is_empty()) {
            empty.weight = 0;
        }
    } else if let Some(alive) = weighted.iter_mut().find(|one| !one.endpoints.is_empty()) {
        alive.weight = 1;
    }
}

fn split_routes(
    entry: &Entry,
    port: &Port,
    pods: &[PodSnapshot],
    split: &Split,
    combination: Combination,
) -> Vec<RouteConfig> {
    let canary = destination(entry, port, pods, &split.canary);
    let mut weighted = vec![destination(entry, port, pods, &split.stable)];
    if split.canary.hash == split.stable.hash {
        // One version only: it has the whole traffic, whatever the weights say.
        weighted[0].weight = 1;
    } else {
        weighted.push(canary.clone());
    }
    weighted.extend(
        split
            .additional
            .iter()
            .map(|side| destination(entry, port, pods, side)),
    );
    only_alive(&mut weighted);
    let mut routes = Vec::new();
    for name in &split.managed {
        if let Some(route) = split.header_routes.iter().find(|route| route.name == *name) {
            routes.push(header_route(route, &canary, combination));
        }
        if let Some(route) = split.mirror_routes.iter().find(|route| route.name == *name) {
            routes.push(mirror_route(route, &canary, &weighted));
        }
    }
    if let Some(stable) = weighted.first() {
        routes.extend(entry.choices.routes(&canary, stable));
    }
    routes.push(RouteConfig {
        name: "split".to_owned(),
        destinations: weighted,
        ..RouteConfig::default()
    });
    routes
}

fn pattern(written: &Written) -> StringMatch {
    if !written.exact.is_empty() {
        StringMatch::Exact(written.exact.clone())
    } else if !written.prefix.is_empty() {
        StringMatch::Prefix(written.prefix.clone())
    } else {
        StringMatch::Regex(written.regex.clone())
    }
}

fn header_route(
    route: &HeaderRoute,
    canary: &Destination,
    combination: Combination,
) -> RouteConfig {
    let headers = route.matches.iter().filter_map(|one| {
        let value = one.header_value.as_ref()?;
        Some(HeaderMatch {
            name: one.header_name.clone(),
            value: pattern(value),
        })
    });
    let matches = match combination {
        Combination::Any => headers
            .map(|header| RouteMatch {
                headers: vec![header],
                ..RouteMatch::default()
            })
            .collect(),
        Combination::All => vec![RouteMatch {
            headers: headers.collect(),
            ..RouteMatch::default()
        }],
    };
    RouteConfig {
        name: route.name.clone(),
        matches,
        destinations: vec![Destination {
            weight: 1,
            ..canary.clone()
        }],
        ..RouteConfig::default()
    }
}

fn mirror_route(
    route: &MirrorRoute,
    canary: &Destination,
    weighted: &[Destination],
) -> RouteConfig {
    let matches = route.matches.iter().map(|one| RouteMatch {
        method: one.method.as_ref().map(pattern),
        path: one.path.as_ref().map(pattern),
        headers: one
            .headers
            .iter()
            .map(|(name, value)| HeaderMatch {
                name: name.clone(),
                value: pattern(value),
            })
            .collect(),
        cookies: Vec::new(),
    });
    RouteConfig {
        name: route.name.clone(),
        matches: matches.collect(),
        destinations: weighted.to_vec(),
        mirrors: vec![Mirror {
            destination: Destination {
                weight: 1,
                ..canary.clone()
            },
            percent: f64::from(route.percentage),
        }],
        ..RouteConfig::default()
    }
}
