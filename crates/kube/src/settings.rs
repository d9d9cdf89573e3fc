//! How a controller is set up.

use std::net::SocketAddr;

use crate::lease::Election;

/// How a controller is set up.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The namespaces to look after; all of them if empty.
    pub namespaces: Vec<String>,
    /// Only objects whose label `argo-rollouts.argoproj.io/controller-instance-id` has this value are looked after; if it is empty, only those
    /// without the label.
    pub instance_id: String,
    /// The Prometheus server for metrics that name none.
    pub prometheus_address: Option<String>,
    /// What holds for all routers.
    pub routers: crossfade_traffic::Settings,
    /// How controllers agree on who leads; `None` for one that is alone.
    pub election: Option<Election>,
    /// Where `/metrics` is answered; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where `/healthz`, `/livez` and `/readyz` are answered; `None` for nowhere.
    pub health: Option<SocketAddr>,
}

impl Settings {
    /// The scopes to watch: namespaces, or the empty one for all.
    pub(crate) fn scopes(&self) -> Vec<String> {
        if self.namespaces.is_empty() {
            vec![String::new()]
        } else {
            self.namespaces.clone()
        }
    }

    /// Objects that belong to no namespace can be read.
    pub(crate) fn sees_all(&self) -> bool {
        self.namespaces.is_empty()
    }
}
