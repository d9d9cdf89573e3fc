//! What the data plane is told: listeners, their routes, and where requests go.
//!
//! A [`ProxyConfig`] is always whole: it replaces the one before it in one step, so a request sees the old or the
//! new one and never a mixture. It is made by the control plane, sent as JSON over the control socket, and kept in
//! the state file. Start at [`ProxyConfig`]; what the proxy makes of it is in `table`.

use std::{collections::BTreeSet, net::SocketAddr};

use http::{HeaderName, Method};
use regex::Regex;
use serde::{Deserialize, Serialize};

/// Everything the data plane obeys at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// The sender's number for this configuration; acknowledgements and statistics repeat it. It need not rise: a
    /// control plane that lost its memory may start again from any number.
    pub revision: u64,
    /// One entry for each Service port.
    pub listeners: Vec<ListenerConfig>,
}

/// One port of one Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerConfig {
    /// Unique among all listeners; names the listener over its life, for example `shop/web:80`.
    pub name: String,
    /// Where to listen. Port 0 takes any free port, which then stays the same for as long as the name stays.
    pub address: SocketAddr,
    /// Namespace of the Service (metric label).
    #[serde(default)]
    pub namespace: String,
    /// Name of the Service (metric label).
    #[serde(default)]
    pub service: String,
    /// Name of the Rollout or Canary behind the Service, empty if none (metric label).
    #[serde(default)]
    pub rollout: String,
    /// Tried in order; the first that matches decides. A request that no route matches is answered 404.
    #[serde(default)]
    pub routes: Vec<RouteConfig>,
}

/// Which requests, and where they go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteConfig {
    /// Unique within its listener (metric label).
    pub name: String,
    /// Alternatives: one of them must match. None at all matches every request.
    pub matches: Vec<RouteMatch>,
    /// Where matching requests go, by weight.
    pub destinations: Vec<Destination>,
    /// Where copies of matching requests go.
    pub mirrors: Vec<Mirror>,
    /// Keep a client on the version that it met first.
    pub sticky: Option<Sticky>,
    /// Longest wait for the head of the answer, in milliseconds; then the client gets 504. None waits for ever.
    pub timeout_ms: Option<u64>,
}

/// Conditions on one request; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteMatch {
    /// The method, for example `GET`.
    pub method: Option<StringMatch>,
    /// The path without the query.
    pub path: Option<StringMatch>,
    /// Headers; a header that is absent never matches, one that is repeated matches if any of its values does.
    pub headers: Vec<HeaderMatch>,
    /// Cookies, by name.
    pub cookies: Vec<HeaderMatch>,
}

/// A condition on a header or cookie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Name; without regard to case for headers, with regard to case for cookies.
    pub name: String,
    /// What its value must be.
    pub value: StringMatch,
}

/// A condition on a string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// The same, byte by byte.
    Exact(String),
    /// Begins with this.
    Prefix(String),
    /// The whole value matches this regular expression, as in Istio.
    Regex(String),
}

/// One version behind a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// Pod hash of the version (metric label). The sticky cookie carries it.
    pub version: String,
    /// Service that selects these pods (metric label), for example `web-canary`.
    pub service: String,
    /// Share of the requests, in relation to the sum over all destinations of the route. Zero gets none.
    pub weight: u32,
    /// What the pods speak.
    pub protocol: Protocol,
    /// How a pod is chosen.
    pub balance: Balance,
    /// What answers of these pods set as a cookie, as the header says it; empty for nothing. A route that keeps clients sets its own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub set_cookie: String,
    /// The pods that may get requests: ready, and not about to be stopped.
    pub endpoints: Vec<Endpoint>,
}

/// One pod's port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Name of the pod, unique on the machine (metric label); pods are drained by it.
    pub pod: String,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// What pods speak on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS (`appProtocol: kubernetes.io/h2c`).
    H2c,
}

/// How a pod of a version is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Balance {
    /// Of the next pod in turn and another one, that with fewer requests in flight.
    #[default]
    LeastInFlight,
    /// Each in turn.
    RoundRobin,
}

/// Where copies of requests go. Their answers are thrown away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mirror {
    /// The version that gets the copies; its weight has no meaning here.
    pub destination: Destination,
    /// Share of the requests that are copied, 0 to 100.
    pub percent: f64,
}

/// A cookie that keeps a client on its version for as long as that version has a weight above zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sticky {
    /// Name of the cookie.
    pub cookie: String,
    /// Its life in seconds; none ends with the browser's session.
    pub max_age_seconds: Option<u64>,
    /// Only clients of these versions are kept; none means of all.
    pub versions: Vec<String>,
}

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ConfigError {
    /// Field path, for example `listeners[0].routes[1].name`.
    pub path: String,
    /// The fault and what to do about it.
    pub problem: String,
}

impl ProxyConfig {
    /// Checks what the types do not: names unique, patterns readable, numbers in range.
    ///
    /// Returns every fault, in the order of the fields.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut faults = Faults(Vec::new());
        let mut names = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for (i, listener) in self.listeners.iter().enumerate() {
            let path = format!("listeners[{i}]");
            if !names.insert(&listener.name) {
                faults.add(
                    format!("{path}.name"),
                    format!("`{}` is used twice", listener.name),
                );
            }
            if listener.address.port() != 0 && !addresses.insert(listener.address) {
                faults.add(
                    format!("{path}.address"),
                    format!("{} is used twice", listener.address),
                );
            }
            let mut routes = BTreeSet::new();
            for (j, route) in listener.routes.iter().enumerate() {
                let path = format!("{path}.routes[{j}]");
                if !routes.insert(&route.name) {
                    faults.add(
                        format!("{path}.name"),
                        format!("`{}` is used twice", route.name),
                    );
                }
                route.check(&path, &mut faults);
            }
        }
        faults.0
    }
}

struct Faults(Vec<ConfigError>);

impl Faults {
    fn add(&mut self, path: String, problem: String) {
        self.0.push(ConfigError { path, problem });
    }
}

impl RouteConfig {
    /// What would make a configuration with this route be refused, in the order of the fields.
    pub fn faults(&self) -> Vec<ConfigError> {
        let mut faults = Faults(Vec::new());
        self.check(&self.name, &mut faults);
        faults.0
    }

    fn check(&self, path: &str, faults: &mut Faults) {
        for (i, one) in self.matches.iter().enumerate() {
            let path = format!("{path}.matches[{i}]");
            if let Some(method) = &one.method {
                method.check(&format!("{path}.method"), faults);
                if let StringMatch::Exact(name) = method
                    && Method::from_bytes(name.as_bytes()).is_err()
                {
                    faults.add(
                        format!("{path}.method"),
                        format!("`{name}` is not a method"),
                    );
                }
            }
            if let Some(pattern) = &one.path {
                pattern.check(&format!("{path}.path"), faults);
            }
            for (j, header) in one.headers.iter().enumerate() {
                let path = format!("{path}.headers[{j}]");
                if HeaderName::from_bytes(header.name.as_bytes()).is_err() {
                    faults.add(
                        format!("{path}.name"),
                        format!("`{}` is not a header name", header.name),
                    );
                }
                header.value.check(&format!("{path}.value"), faults);
            }
            for (j, cookie) in one.cookies.iter().enumerate() {
                let path = format!("{path}.cookies[{j}]");
                if !is_token(&cookie.name) {
                    faults.add(
                        format!("{path}.name"),
                        format!("`{}` is not a cookie name", cookie.name),
                    );
                }
                cookie.value.check(&format!("{path}.value"), faults);
            }
        }
        for (i, mirror) in self.mirrors.iter().enumerate() {
            if !(0.0..=100.0).contains(&mirror.percent) {
                faults.add(
                    format!("{path}.mirrors[{i}].percent"),
                    format!("{} is not between 0 and 100", mirror.percent),
                );
            }
        }
        if let Some(sticky) = &self.sticky {
            if !is_token(&sticky.cookie) {
                faults.add(
                    format!("{path}.sticky.cookie"),
                    format!("`{}` is not a cookie name", sticky.cookie),
                );
            }
            for (i, destination) in self.destinations.iter().enumerate() {
                if !is_token(&destination.version) {
                    faults.add(
                        format!("{path}.destinations[{i}].version"),
                        format!("`{}` cannot be carried by a cookie", destination.version),
                    );
                }
            }
        }
    }
}

impl StringMatch {
    fn check(&self, path: &str, faults: &mut Faults) {
        if let Self::Regex(pattern) = self
            && let Err(error) = whole(pattern)
        {
            faults.add(format!("{path}.regex"), error.to_string());
        }
    }
}

/// A pattern that must match the whole value.
pub(super) fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:{pattern})$"))
}

/// RFC 9110, 5.6.2: what names of cookies, and values that need no quotes, consist of.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_configuration_is_told_with_its_place() {
        let route = RouteConfig {
            name: "main".into(),
            matches: vec![RouteMatch {
                path: Some(StringMatch::Regex("(".into())),
                headers: vec![HeaderMatch {
                    name: "a b".into(),
                    value: StringMatch::Exact("x".into()),
                }],
                ..RouteMatch::default()
            }],
            mirrors: vec![Mirror {
                percent: 101.0,
                ..Mirror::default()
            }],
            sticky: Some(Sticky {
                cookie: "a;b".into(),
                ..Sticky::default()
            }),
            ..RouteConfig::default()
        };
        let listener = ListenerConfig {
            name: "web".into(),
            address: ([127, 0, 0, 1], 80).into(),
            namespace: String::new(),
            service: String::new(),
            rollout: String::new(),
            routes: vec![route.clone(), route],
        };
        let config = ProxyConfig {
            revision: 1,
            listeners: vec![listener.clone(), listener],
        };
        let paths: Vec<String> = config.check().into_iter().map(|fault| fault.path).collect();
        for wanted in [
            "listeners[0].routes[0].matches[0].path.regex",
            "listeners[0].routes[0].matches[0].headers[0].name",
            "listeners[0].routes[0].mirrors[0].percent",
            "listeners[0].routes[0].sticky.cookie",
            "listeners[0].routes[1].name",
            "listeners[1].name",
            "listeners[1].address",
        ] {
            assert!(
                paths.iter().any(|path| path == wanted),
                "{wanted} in {paths:?}"
            );
        }
    }
}
