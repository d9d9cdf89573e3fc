//! Requests that ask for the canary, or not for it, as annotations of the NGINX ingress controller let them.
//!
//! `additionalIngressAnnotations` and `canaryIngressAnnotations` of a Rollout may name a header and a cookie that go before the weight:
//! a dark canary has weight 0 and is seen only by those who ask. The controller's rules, in its order: a header with the value that is
//! named (or that matches the pattern) leads to the canary, without such a value `always` leads there and `never` does not; then the
//! cookie, with these two words; then the weight.

use std::collections::BTreeMap;

use crossfade_api::traffic_routing::NginxTrafficRouting;

use crate::proxy::{Destination, HeaderMatch, RouteConfig, RouteMatch, StringMatch};

/// What a Rollout's annotations say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Choices {
    header: Option<(String, Asked)>,
    cookie: Option<String>,
}

/// How the header asks.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    /// By `always` or `never`.
    InWords,
    /// By this value.
    By(StringMatch),
}

impl Choices {
    /// What a router's settings say.
    pub(super) fn of(nginx: &NginxTrafficRouting) -> Self {
        let prefix = nginx.annotation_prefix();
        let mut annotations: BTreeMap<String, &String> = BTreeMap::new();
        for (key, value) in &nginx.additional_ingress_annotations {
            let key = if key.starts_with(prefix) {
                key.clone()
            } else {
                format!("{prefix}/{key}")
            };
            annotations.insert(key, value);
        }
        for (key, value) in &nginx.canary_ingress_annotations {
            annotations.insert(key.clone(), value);
        }
        let given = |name: &str| {
            let value = annotations.get(&format!("{prefix}/{name}"))?;
            Some(value.as_str()).filter(|value| !value.is_empty())
        };
        let asked = match (
            given("canary-by-header-value"),
            given("canary-by-header-pattern"),
        ) {
            (Some(value), _) => Asked::By(StringMatch::Exact(value.to_owned())),
            // The controller looks for the pattern anywhere in the value.
            (None, Some(pattern)) => Asked::By(StringMatch::Regex(format!(".*(?:{pattern}).*"))),
            (None, None) => Asked::InWords,
        };
        Self {
            header: given("canary-by-header").map(|name| (name.to_owned(), asked)),
            cookie: given("canary-by-cookie").map(str::to_owned),
        }
    }

    /// The routes that go before the weights, given both sides. What cannot be a header, a cookie or a pattern has no effect.
    pub(super) fn routes(&self, canary: &Destination, stable: &Destination) -> Vec<RouteConfig> {
        let header = |name: &str, value: StringMatch| RouteMatch {
            headers: vec![HeaderMatch {
                name: name.to_owned(),
                value,
            }],
            ..RouteMatch::default()
        };
        let cookie = |name: &str, value: StringMatch| RouteMatch {
            cookies: vec![HeaderMatch {
                name: name.to_owned(),
                value,
            }],
            ..RouteMatch::default()
        };
        let word = |word: &str| StringMatch::Exact(word.to_owned());
        let mut routes = Vec::new();
        match &self.header {
            Some((name, Asked::By(value))) => {
                routes.push(("canary-by-header", header(name, value.clone()), canary));
            }
            Some((name, Asked::InWords)) => {
                routes.push(("canary-by-header", header(name, word("always")), canary));
                routes.push(("never-by-header", header(name, word("never")), stable));
            }
            None => {}
        }
        if let Some(name) = &self.cookie {
            routes.push(("canary-by-cookie", cookie(name, word("always")), canary));
            routes.push(("never-by-cookie", cookie(name, word("never")), stable));
        }
        routes
            .into_iter()
            // A side without a ready pod is as good as not there: such requests go by weight.
            .filter(|(_, _, side)| !side.endpoints.is_empty())
            .map(|(name, condition, side)| RouteConfig {
                name: name.to_owned(),
                matches: vec![condition],
                destinations: vec![Destination {
                    weight: 1,
                    ..side.clone()
                }],
                ..RouteConfig::default()
            })
            .filter(is_sound)
            .collect()
    }
}

/// A configuration with one fault is refused whole, so a faulty route must not get into it.
fn is_sound(route: &RouteConfig) -> bool {
    let faults = route.faults();
    if let Some(fault) = faults.first() {
        tracing::warn!("{} has no effect: {fault}", route.name);
    }
    faults.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::proxy::Endpoint;

    fn side(version: &str, ready: bool) -> Destination {
        let endpoint = Endpoint {
            pod: format!("prod/{version}-1"),
            addr: ([127, 0, 0, 1], 2000).into(),
        };
        Destination {
            version: version.to_owned(),
            endpoints: ready.then_some(endpoint).into_iter().collect(),
            ..Destination::default()
        }
    }

    /// Each route as `condition -> version`.
    fn routes(settings: serde_json::Value, canary_ready: bool) -> Vec<String> {
        let nginx: NginxTrafficRouting = serde_json::from_value(settings).expect("settings");
        let routes = Choices::of(&nginx).routes(&side("new", canary_ready), &side("old", true));
        let shown = |route: &RouteConfig| {
            let one = &route.matches[0];
            let (kind, condition) = match one.headers.first() {
                Some(header) => ("header", header),
                None => ("cookie", &one.cookies[0]),
            };
            let value = match &condition.value {
                StringMatch::Exact(value) => value.clone(),
                StringMatch::Prefix(value) => format!("{value}*"),
                StringMatch::Regex(value) => format!("/{value}/"),
            };
            let version = &route.destinations[0].version;
            format!("{kind} {}={value} -> {version}", condition.name)
        };
        routes.iter().map(shown).collect()
    }

    #[test]
    fn annotations_let_requests_ask_for_the_canary() {
        let additional = |annotations: serde_json::Value| {
            routes(json!({"additionalIngressAnnotations": annotations}), true)
        };
        assert_eq!(
            additional(json!({"canary-by-header": "X-Canary", "canary-by-header-value": "true"})),
            ["header X-Canary=true -> new"]
        );
        assert_eq!(
            additional(json!({"canary-by-header": "X-Canary"})),
            [
                "header X-Canary=always -> new",
                "header X-Canary=never -> old"
            ]
        );
        assert_eq!(
            additional(json!({"canary-by-header": "X-User", "canary-by-header-pattern": "^beta-"})),
            ["header X-User=/.*(?:^beta-).*/ -> new"]
        );
        assert_eq!(
            additional(json!({"canary-by-cookie": "canary", "canary-weight": "7"})),
            ["cookie canary=always -> new", "cookie canary=never -> old"]
        );
        assert_eq!(
            additional(json!({"canary-by-header-value": "true"})),
            [""; 0]
        );
    }

    #[test]
    fn whole_keys_go_before_those_that_get_the_prefix() {
        let settings = json!({
            "annotationPrefix": "ingress.example.com",
            "additionalIngressAnnotations": {"ingress.example.com/canary-by-header": "X-One"},
            "canaryIngressAnnotations": {
                "ingress.example.com/canary-by-header": "X-Two",
                "nginx.ingress.kubernetes.io/canary-by-cookie": "not-ours",
            },
        });
        assert_eq!(
            routes(settings, true),
            ["header X-Two=always -> new", "header X-Two=never -> old"]
        );
    }

    #[test]
    fn nobody_is_sent_to_a_canary_without_pods_or_by_a_rule_that_cannot_be() {
        let dark = json!({"additionalIngressAnnotations": {"canary-by-header": "X-Canary", "canary-by-header-value": "true"}});
        assert_eq!(routes(dark, false), [""; 0]);
        let faulty = json!({"additionalIngressAnnotations": {"canary-by-header": "no header", "canary-by-cookie": "ok"}});
        assert_eq!(
            routes(faulty, true),
            ["cookie ok=always -> new", "cookie ok=never -> old"]
        );
        let pattern = json!({"additionalIngressAnnotations": {"canary-by-header": "X", "canary-by-header-pattern": "("}});
        assert_eq!(routes(pattern, true), [""; 0]);
    }
}
