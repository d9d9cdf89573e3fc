//! Where requests go, as values: decided by the engine, carried by routers. A [`Split`] is a Rollout's, [`Shares`] are a Canary's.

use serde::{Deserialize, Serialize};

use crate::steps::{HeaderMatch, RouteMatch};
use crate::words::{PodHash, Weight};

/// One side of a split: a share of traffic, the Service and the version that get it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Its share, in parts of [`Split::max`].
    pub weight: Weight,
    /// The Service, empty where none is named.
    pub service: String,
    /// The version, empty where there is none.
    pub hash: PodHash,
}

/// Where requests go: decided once by the engine, carried by every configured router.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    /// What the weights sum to; 100 unless configured.
    pub max: Weight,
    /// The new version's side.
    pub canary: Destination,
    /// The stable version's side.
    pub stable: Destination,
    /// Destinations of running experiments, in order.
    pub additional: Vec<Destination>,
    /// Header routes in force, in the order of `managedRoutes`.
    pub header_routes: Vec<HeaderRoute>,
    /// Mirror routes in force, in the order of `managedRoutes`.
    pub mirror_routes: Vec<MirrorRoute>,
    /// Names of all routes the controller may create and delete; one that is in neither list above is removed.
    pub managed: Vec<String>,
    /// Header and mirror routes that are there stay, whichever these are: who decided does not know them, and the two lists above are empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_routes: bool,
}

/// Requests with certain headers go to the new version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeaderRoute {
    /// Its name in `managedRoutes`.
    pub name: String,
    /// The match list of the step, as written.
    pub matches: Vec<HeaderMatch>,
}

/// Copies of some requests go to the new version, whose answers nobody sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorRoute {
    /// Its name in `managedRoutes`.
    pub name: String,
    /// Share of the matching requests that is copied, in percent.
    pub percentage: i32,
    /// The match list of the step, as written.
    pub matches: Vec<RouteMatch>,
}

/// Where the requests of a Canary go, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// To the version that serves.
    pub primary: i32,
    /// To the new version.
    pub canary: i32,
    /// The new version gets copies of the others.
    pub mirrored: bool,
}

/// The cookies of session affinity, whole: `name=value`. Empty ones are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cookies {
    /// Of users that have seen the new version.
    pub canary: String,
    /// Of users of the primary.
    pub primary: String,
    /// Of the release before, to be taken back.
    pub previous: String,
}
