//! What each router makes of a Rollout's [`Split`](crossfade_api::split::Split) or a Canary's [`Shares`](crossfade_api::split::Shares): pure functions
//! from observed objects to changes of them.
//!
//! One file (or folder) a router, all of one shape, [`Router`]. A world asks [`routers`] which ones a Rollout configures, observes the objects that
//! each [`needs`](Router::needs), and performs the changes that it [`plan`](Router::plan)s, in order; there are none when the objects carry the split
//! already. Nothing here reads a cluster, waits, or knows why a split is wanted.
//!
//! Surprises: routers that only know percent get scaled weights (see [`shares`]); objects of others are edited, never rewritten, so that what we do not
//! know of them stays (see [`patch`]).

mod canary;
mod contract;
mod gateway;
mod istio;
mod json;
mod nginx;
pub mod patch;
pub mod shares;

pub use canary::{CANARY_PROVIDERS, canary_router};
pub use contract::{
    CanaryRouter, Capabilities, Change, Kind, Need, Note, ObjectRef, Observed, Plan, Pods, Remedy,
    RouteError, RoutedCanary, Router, Settings, Subject, Wish, Write,
};

use crossfade_api::traffic_routing::TrafficRouting;

/// The name under which manifests configure the Gateway API.
pub const GATEWAY_API: &str = "argoproj-labs/gatewayAPI";

/// The patch by which a DestinationRule is let go that no Rollout names any more: its subsets select all pods again. `None` for one that no Rollout
/// has had.
pub fn release_destination_rule(observed: &serde_json::Value) -> Option<serde_json::Value> {
    istio::release(observed)
}

/// The configured routers that are built in, in the order in which they are served.
pub fn routers(routing: &TrafficRouting, settings: &Settings) -> Vec<Box<dyn Router>> {
    let mut routers: Vec<Box<dyn Router>> = Vec::new();
    if let Some(istio) = &routing.istio {
        routers.push(Box::new(istio::Istio::new(istio, settings)));
    }
    if let Some(nginx) = &routing.nginx {
        routers.push(Box::new(nginx::Nginx::new(nginx, routing)));
    }
    if let Some(configuration) = routing.plugins.get(GATEWAY_API) {
        routers.push(Box::new(gateway::Gateway::new(configuration, settings)));
    }
    routers
}
