//! What a manifest says under `plugins."argoproj-labs/gatewayAPI"`.

use crossfade_api::{LabelSelector, selector};
use serde::Deserialize;
use serde_json::Value;

use crate::contract::{Kind, ObjectRef, Subject};
use crate::json::metadata;

const NO_ROUTES: &str = "No routes configured. At least one of 'httpRoutes', 'grpcRoutes', 'tcpRoutes', 'tlsRoutes', 'httpRoute', 'grpcRoute', 'tcpRoute' or 'tlsRoute' must be set";

/// The kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteKind {
    Http,
    Grpc,
    Tcp,
    Tls,
}

impl RouteKind {
    /// The kind as an API server has it. The newest served version of TCPRoute and TLSRoute is the world's to find: objects are observed under this
    /// name whichever it is.
    pub(super) fn kind(self) -> Kind {
        let (version, kind, plural) = match self {
            Self::Http => ("v1", "HTTPRoute", "httproutes"),
            Self::Grpc => ("v1", "GRPCRoute", "grpcroutes"),
            Self::Tcp => ("v1alpha2", "TCPRoute", "tcproutes"),
            Self::Tls => ("v1alpha2", "TLSRoute", "tlsroutes"),
        };
        Kind::new("gateway.networking.k8s.io", version, kind, plural)
    }

    pub(super) fn object(self, namespace: &str, name: &str) -> ObjectRef {
        ObjectRef {
            kind: self.kind(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// What is said when a route has not both Services.
    pub(super) fn no_backend(self) -> &'static str {
        match self {
            Self::Http => "backendRef was not found in httpRoute",
            Self::Grpc => "backendRef was not found in grpcRoute",
            Self::Tcp => "backendRef list was not found in tcpRoute",
            Self::Tls => "backendRef list was not found in tlsRoute",
        }
    }

    /// Rules of this kind match headers.
    pub(super) fn has_headers(self) -> bool {
        matches!(self, Self::Http | Self::Grpc)
    }
}

/// A route by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) use_header_routes: bool,
}

/// The settings. Unknown ones are left to those who know them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Configuration {
    http_route: String,
    grpc_route: String,
    tcp_route: String,
    tls_route: String,
    http_routes: Vec<Named>,
    grpc_routes: Vec<Named>,
    tcp_routes: Vec<Named>,
    tls_routes: Vec<Named>,
    http_route_selector: Option<LabelSelector>,
    grpc_route_selector: Option<LabelSelector>,
    tcp_route_selector: Option<LabelSelector>,
    tls_route_selector: Option<LabelSelector>,
    namespace: String,
    pub(super) disable_in_progress_label: bool,
    in_progress_label_key: String,
    in_progress_label_value: String,
}

impl Configuration {
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let mut read: Self = serde_json::from_value(value.clone())
            .map_err(|why| format!("the configuration of the Gateway API: {why}"))?;
        for (alone, list) in [
            (&mut read.http_route, &mut read.http_routes),
            (&mut read.grpc_route, &mut read.grpc_routes),
            (&mut read.tcp_route, &mut read.tcp_routes),
            (&mut read.tls_route, &mut read.tls_routes),
        ] {
            if !alone.is_empty() {
                list.push(Named {
                    name: std::mem::take(alone),
                    use_header_routes: true,
                });
            }
        }
        if read.named().next().is_none() && read.selectors().next().is_none() {
            return Err(NO_ROUTES.to_owned());
        }
        Ok(read)
    }

    pub(super) fn namespace<'a>(&'a self, subject: &Subject<'a>) -> &'a str {
        if self.namespace.is_empty() {
            subject.namespace
        } else {
            &self.namespace
        }
    }

    pub(super) fn named(&self) -> impl Iterator<Item = (RouteKind, &Named)> {
        [
            (RouteKind::Http, &self.http_routes),
            (RouteKind::Grpc, &self.grpc_routes),
            (RouteKind::Tcp, &self.tcp_routes),
            (RouteKind::Tls, &self.tls_routes),
        ]
        .into_iter()
        .flat_map(|(kind, list)| list.iter().map(move |named| (kind, named)))
    }

    pub(super) fn selectors(&self) -> impl Iterator<Item = (RouteKind, &LabelSelector)> {
        [
            (RouteKind::Http, &self.http_route_selector),
            (RouteKind::Grpc, &self.grpc_route_selector),
            (RouteKind::Tcp, &self.tcp_route_selector),
            (RouteKind::Tls, &self.tls_route_selector),
        ]
        .into_iter()
        .filter_map(|(kind, selector)| Some((kind, selector.as_ref()?)))
    }

    /// The label that says: this route is in the middle of a release.
    pub(super) fn label(&self) -> (&str, &str) {
        let key = if self.in_progress_label_key.is_empty() {
            "rollouts.argoproj.io/gatewayapi-canary"
        } else {
            &self.in_progress_label_key
        };
        let value = if self.in_progress_label_value.is_empty() {
            "in-progress"
        } else {
            &self.in_progress_label_value
        };
        (key, value)
    }
}

/// Whether a selector finds an object.
pub(super) fn selects(selector: &LabelSelector, object: &Value) -> bool {
    selector::matches_by(Some(selector), |key| metadata(object, "labels", key))
}
