//! How a controller is set up.

use std::net::SocketAddr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::lease::Election;
use crate::traces::Tracing;

/// How a controller is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespaces to look after; all of them if empty.
    pub namespaces: Vec<String>,
    /// Only objects whose label `argo-rollouts.argoproj.io/controller-instance-id` has this value are looked after; if it is empty, only those
    /// without the label.
    pub instance_id: String,
    /// Which part of the objects is looked after; `None` for all.
    pub shard: Option<Shard>,
    /// The Prometheus server for metrics that name none.
    pub prometheus_address: Option<String>,
    /// What holds for all routers.
    pub routers: crossfade_traffic::Settings,
    /// What Canaries are run with.
    pub canaries: crossfade_engine::canary::world::Settings,
    /// How controllers agree on who leads; `None` for one that is alone.
    pub election: Option<Election>,
    /// Where `/metrics` is answered; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where `/healthz`, `/livez` and `/readyz` are answered; `None` for nowhere.
    pub health: Option<SocketAddr>,
    /// Metrics about single looks name objects; otherwise only their kind.
    pub metrics_by_object: bool,
    /// Rollouts and Experiments that are looked after at once.
    pub releases_at_once: usize,
    /// AnalysisRuns that are looked after at once; they wait for metric providers more than for the API server.
    pub runs_at_once: usize,
    /// How often everything is looked at without a reason.
    pub resync: Duration,
    /// How many requests go to the API server; `None` leaves that to its own rules of fairness.
    pub requests: Option<RequestLimit>,
    /// Where traces go; `None` for nowhere.
    pub traces: Option<Tracing>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespaces: Vec::new(),
            instance_id: String::new(),
            shard: None,
            prometheus_address: None,
            routers: crossfade_traffic::Settings::default(),
            canaries: crossfade_engine::canary::world::Settings {
                known_providers: crossfade_traffic::CANARY_PROVIDERS
                    .map(str::to_owned)
                    .to_vec(),
                ..crossfade_engine::canary::world::Settings::default()
            },
            election: None,
            metrics: None,
            health: None,
            metrics_by_object: true,
            releases_at_once: 32,
            runs_at_once: 256,
            resync: Duration::from_mins(15),
            requests: None,
            traces: None,
        }
    }
}

/// A limit for requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestLimit {
    /// Requests a second on average.
    pub per_second: f64,
    /// Requests at once, after a pause.
    pub burst: u32,
}

/// One of several parts of all objects, which controllers of their own look after. What a Rollout owns belongs to its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

impl Shard {
    /// Whether an object of this namespace and name belongs to it.
    pub(crate) fn has(self, namespace: &str, name: &str) -> bool {
        let digest = Sha256::digest(format!("{namespace}/{name}"));
        let mut number = [0; 8];
        number.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(number) % u64::from(self.count.max(1)) == u64::from(self.index)
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    /// Reads `0/3`: the first of three parts.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{text}\" is no part of a whole: write 0/3 for the first of three");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let index = index.parse().map_err(|_| wrong())?;
        let count = count.parse().map_err(|_| wrong())?;
        (index < count)
            .then_some(Self { index, count })
            .ok_or_else(wrong)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_belongs_to_exactly_one_shard() {
        let shards: Vec<Shard> = ["0/3", "1/3", "2/3"]
            .map(|text| text.parse().expect("a shard"))
            .to_vec();
        let mut sizes = [0; 3];
        for number in 0..300 {
            let name = format!("web-{number}");
            let has: Vec<usize> = (0..3)
                .filter(|index| shards[*index].has("shop", &name))
                .collect();
            assert_eq!(has.len(), 1, "{name}");
            sizes[has[0]] += 1;
        }
        assert!(sizes.iter().all(|size| *size > 60), "{sizes:?}");
        for wrong in ["3/3", "1", "a/b", "0/0", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
