//! One split as it is wanted: compared with what a router carries, and written down only where they differ.

use crossfade_api::rollout::CanaryStrategy;
use crossfade_api::rollout_status::WeightDestination;
use crossfade_api::steps::{SetHeaderRoute, SetMirrorRoute};
use crossfade_api::traffic_routing::ManagedRoute;
use crossfade_api::words::{PodHash, Weight};

use crate::action::{Destination, HeaderRoute, MirrorRoute, Split};

use super::facts::Facts;
use super::services;

/// Header and mirror routes that the controller keeps.
pub(super) enum Routes<'a> {
    /// Those that a router has, as far as that is known.
    AsTheyAre,
    /// None.
    Removed,
    /// What the steps so far left in place.
    BySteps(Vec<&'a SetHeaderRoute>, Vec<&'a SetMirrorRoute>),
}

/// A split as it is wanted, not yet written down.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) max: i32,
    pub(super) weight: i32,
    pub(super) canary_service: &'a str,
    pub(super) canary_hash: &'a str,
    pub(super) stable_service: &'a str,
    pub(super) stable_hash: &'a str,
    pub(super) routes: &'a Routes<'a>,
    pub(super) managed: Option<&'a [ManagedRoute]>,
    /// Shares of running experiments; they are taken from the stable version's.
    pub(super) additional: &'a [Destination],
}

impl<'a> Wanted<'a> {
    /// The split of a canary at this weight.
    pub(super) fn new(
        facts: &Facts<'a>,
        canary: &'a CanaryStrategy,
        weight: i32,
        canary_hash: &'a str,
        routes: &'a Routes<'a>,
    ) -> Self {
        let (canary_service, stable_service) = match &canary.ping_pong {
            Some(services) => {
                let (stable, other) =
                    services::roles(services, facts.status.canary.stable_ping_pong);
                (other, stable)
            }
            None => (
                canary.canary_service.as_str(),
                canary.stable_service.as_str(),
            ),
        };
        let routing = canary.traffic_routing.as_ref();
        Self {
            max: facts.max_weight,
            weight: weight.clamp(0, facts.max_weight.max(0)),
            canary_service,
            canary_hash,
            stable_service,
            stable_hash: facts.status.stable_rs.as_str(),
            routes,
            managed: routing.and_then(|routing| routing.managed_routes.as_deref()),
            additional: &[],
        }
    }

    /// What is left for the stable version.
    pub(super) fn stable_weight(&self) -> i32 {
        let shares = self.additional.iter().map(|one| one.weight.0);
        shares.fold(self.max.saturating_sub(self.weight), i32::saturating_sub)
    }

    /// A router carries this split.
    pub(super) fn is(&self, split: &Split) -> bool {
        let side = |side: &Destination, weight: i32, service: &str, hash: &str| {
            side.weight.0 == weight && side.service == service && side.hash.as_str() == hash
        };
        let routes = match self.routes {
            Routes::AsTheyAre => true,
            Routes::Removed => split.header_routes.is_empty() && split.mirror_routes.is_empty(),
            Routes::BySteps(headers, mirrors) => {
                let header = |(wanted, there): (&&SetHeaderRoute, &HeaderRoute)| {
                    wanted.name == there.name && wanted.matches == there.matches
                };
                let mirror = |(wanted, there): (&&SetMirrorRoute, &MirrorRoute)| {
                    wanted.name == there.name
                        && wanted.matches == there.matches
                        && wanted.percentage() == there.percentage
                };
                headers.len() == split.header_routes.len()
                    && mirrors.len() == split.mirror_routes.len()
                    && headers.iter().zip(&split.header_routes).all(header)
                    && mirrors.iter().zip(&split.mirror_routes).all(mirror)
            }
        };
        let managed = self.managed.unwrap_or_default();
        routes
            && split.max.0 == self.max
            && split.additional == self.additional
            && side(
                &split.canary,
                self.weight,
                self.canary_service,
                self.canary_hash,
            )
            && side(
                &split.stable,
                self.stable_weight(),
                self.stable_service,
                self.stable_hash,
            )
            && managed.len() == split.managed.len()
            && managed
                .iter()
                .zip(&split.managed)
                .all(|(wanted, there)| wanted.name == *there)
    }

    /// The split written down, with the routes that a router has where they are to stay as they are.
    pub(super) fn split(&self, present: Option<&Split>) -> Split {
        let (header_routes, mirror_routes) = match self.routes {
            Routes::AsTheyAre => present.map_or((Vec::new(), Vec::new()), |split| {
                (split.header_routes.clone(), split.mirror_routes.clone())
            }),
            Routes::Removed => (Vec::new(), Vec::new()),
            Routes::BySteps(headers, mirrors) => (
                headers
                    .iter()
                    .map(|route| HeaderRoute {
                        name: route.name.clone(),
                        matches: route.matches.clone(),
                    })
                    .collect(),
                mirrors
                    .iter()
                    .map(|route| MirrorRoute {
                        name: route.name.clone(),
                        percentage: route.percentage(),
                        matches: route.matches.clone(),
                    })
                    .collect(),
            ),
        };
        let side = |weight, service: &str, hash: &str| Destination {
            weight: Weight(weight),
            service: service.to_owned(),
            hash: PodHash::from(hash),
        };
        Split {
            max: Weight(self.max),
            canary: side(self.weight, self.canary_service, self.canary_hash),
            stable: side(self.stable_weight(), self.stable_service, self.stable_hash),
            additional: self.additional.to_vec(),
            header_routes,
            mirror_routes,
            managed: self
                .managed
                .unwrap_or_default()
                .iter()
                .map(|route| route.name.clone())
                .collect(),
            keeps_routes: matches!(self.routes, Routes::AsTheyAre) && present.is_none(),
        }
    }

    /// One side of it as the status records it.
    pub(super) fn side(weight: i32, service: &str, hash: &str) -> WeightDestination {
        WeightDestination {
            weight,
            service_name: service.to_owned(),
            pod_template_hash: PodHash::from(hash),
        }
    }
}
