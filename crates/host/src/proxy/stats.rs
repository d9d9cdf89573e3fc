//! Numbers about requests: counters and latency histograms by service, version, route, pod, method and status.
//!
//! Counting happens on the worker that served the request, in a part of the tally that no other worker touches.
//! [`Tallies::read`] adds the parts up. Counters only rise while the process lives; [`Stats::started`] tells its life
//! from another one's, so a reader can see a reset.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::Method;
use serde::{Deserialize, Serialize};

use super::{account::Trouble, pods::lock, shared::Apart};

/// Upper bounds of the latency buckets in seconds: the defaults of Prometheus' client libraries, with three finer
/// ones below, since local answers often take less than a millisecond. The last bucket, without bound, is not named.
pub const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Counters of a pod that is gone are kept for this long, so that their last increase is still read.
const KEPT: Duration = Duration::from_mins(10);

/// What the data plane has counted since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// When this process started, in seconds since 1970. Another value means that all counters began anew.
    pub started: f64,
    /// Revision of the configuration in force.
    pub revision: u64,
    /// Upper bounds of the latency buckets, in seconds ([`BUCKETS`]).
    pub bounds: Vec<f64>,
    /// Finished requests.
    pub series: Vec<Series>,
    /// Every pod that is configured or still has requests in flight.
    pub pods: Vec<PodStats>,
    /// Listeners that are open.
    pub listeners: Vec<ListenerStats>,
    /// Copies sent to mirrors.
    pub mirrored: u64,
    /// Copies not sent: too many under way, or the body too long.
    pub mirrors_dropped: u64,
}

/// Finished requests that share all labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Series {
    /// Service of the listener.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// Rollout or Canary behind the Service.
    pub rollout: String,
    /// Name of the route; empty if none matched.
    pub route: String,
    /// Service of the destination; empty if the request reached none.
    pub destination: String,
    /// Pod hash of the version; empty if the request reached none.
    pub version: String,
    /// Pod; empty if the request reached none.
    pub pod: String,
    /// A copy for a mirror, not a request of a client.
    pub mirror: bool,
    /// Method, or `OTHER`.
    pub method: String,
    /// Status code as the client got it; 499 if the client went away before there was one.
    pub code: u16,
    /// Why the data plane and not a pod made this outcome (the value of `X-Crossfade-Error`); empty if a pod did.
    pub error: String,
    /// Requests.
    pub count: u64,
    /// Sum of their times, from the head of the request to the end of the answer, in seconds.
    pub sum_seconds: f64,
    /// Requests that took at most `bounds[i]`, cumulative; the last entry is all of them.
    pub buckets: Vec<u64>,
}

/// One pod, now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStats {
    /// Name.
    pub pod: String,
    /// Address.
    pub addr: std::net::SocketAddr,
    /// Requests in flight, upgraded connections included.
    pub in_flight: usize,
    /// It gets no new request.
    pub draining: bool,
    /// Connections to it failed a moment ago.
    pub ejected: bool,
    /// How often that happened.
    pub ejections: u64,
    /// Requests that went elsewhere because it did not take them.
    pub retries: u64,
}

/// One listener, now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStats {
    /// Name.
    pub name: String,
    /// Where it listens.
    pub addr: std::net::SocketAddr,
    /// Connections of clients.
    pub connections: usize,
}

/// Labels that a request has before its method and outcome are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    pub(super) service: String,
    pub(super) namespace: String,
    pub(super) rollout: String,
    pub(super) route: String,
    pub(super) destination: String,
    pub(super) version: String,
    pub(super) pod: String,
    pub(super) mirror: bool,
}

/// Counters under one set of labels.
pub(super) struct Tally {
    labels: Labels,
    workers: Box<[Arc<Counter>]>,
}

/// One worker's part of a tally.
#[derive(Default)]
pub(super) struct Counter(Apart<Mutex<Vec<Cell>>>);

#[derive(Clone, Copy)]
struct Cell {
    method: &'static str,
    status: u16,
    trouble: Option<Trouble>,
    count: u64,
    sum: Duration,
    /// Not cumulative.
    buckets: [u64; BUCKETS.len() + 1],
}

impl Cell {
    fn is(&self, method: &str, status: u16, trouble: Option<Trouble>) -> bool {
        self.status == status && self.trouble == trouble && self.method == method
    }
}

impl Counter {
    pub(super) fn count(
        &self,
        method: &'static str,
        status: u16,
        trouble: Option<Trouble>,
        took: Duration,
    ) {
        let mut cells = lock(&self.0);
        let at = cells
            .iter()
            .position(|cell| cell.is(method, status, trouble))
            .unwrap_or_else(|| {
                cells.push(Cell {
                    method,
                    status,
                    trouble,
                    count: 0,
                    sum: Duration::ZERO,
                    buckets: [0; BUCKETS.len() + 1],
                });
                cells.len() - 1
            });
        let Some(cell) = cells.get_mut(at) else {
            return;
        };
        cell.count += 1;
        cell.sum += took;
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BUCKETS.len());
        if let Some(bucket) = cell.buckets.get_mut(bucket) {
            *bucket += 1;
        }
    }
}

impl Tally {
    /// What this worker counts with. None if there is no such worker.
    pub(super) fn at(&self, worker: usize) -> Option<Arc<Counter>> {
        self.workers.get(worker).map(Arc::clone)
    }

    /// A request that is not over yet will be counted here.
    fn is_awaited(&self) -> bool {
        self.workers
            .iter()
            .any(|counter| Arc::strong_count(counter) > 1)
    }

    fn read(&self, into: &mut Vec<Series>) {
        let mut sum: Vec<Cell> = Vec::new();
        for worker in &self.workers {
            for cell in lock(&worker.0).iter() {
                match sum
                    .iter_mut()
                    .find(|have| have.is(cell.method, cell.status, cell.trouble))
                {
                    Some(have) => {
                        have.count += cell.count;
                        have.sum += cell.sum;
                        have.buckets
                            .iter_mut()
                            .zip(cell.buckets)
                            .for_each(|(have, more)| *have += more);
                    }
                    None => sum.push(*cell),
                }
            }
        }
        into.extend(sum.into_iter().map(|cell| {
            Series {
                service: self.labels.service.clone(),
                namespace: self.labels.namespace.clone(),
                rollout: self.labels.rollout.clone(),
                route: self.labels.route.clone(),
                destination: self.labels.destination.clone(),
                version: self.labels.version.clone(),
                pod: self.labels.pod.clone(),
                mirror: self.labels.mirror,
                method: cell.method.to_owned(),
                code: cell.status,
                error: cell
                    .trouble
                    .map(|trouble| trouble.reason().to_owned())
                    .unwrap_or_default(),
                count: cell.count,
                sum_seconds: cell.sum.as_secs_f64(),
                buckets: cell
                    .buckets
                    .iter()
                    .scan(0, |below, n| {
                        *below += n;
                        Some(*below)
                    })
                    .collect(),
            }
        }));
    }
}

/// All tallies, by their labels.
#[derive(Default)]
pub(super) struct Tallies {
    all: HashMap<Labels, (Arc<Tally>, Option<Instant>)>,
}

impl Tallies {
    /// The tally under these labels; the same one each time.
    pub(super) fn of(&mut self, labels: Labels, workers: usize) -> Arc<Tally> {
        let (tally, unused) = self.all.entry(labels.clone()).or_insert_with(|| {
            let workers = (0..workers).map(|_| Arc::default()).collect();
            (Arc::new(Tally { labels, workers }), None)
        });
        *unused = None;
        Arc::clone(tally)
    }

    /// Everything counted, in a fixed order.
    pub(super) fn read(&mut self) -> Vec<Series> {
        self.forget(Instant::now());
        let mut series = Vec::new();
        for (tally, _) in self.all.values() {
            tally.read(&mut series);
        }
        series.sort_by(|a, b| {
            let key = |s: &Series| {
                (
                    s.namespace.clone(),
                    s.service.clone(),
                    s.route.clone(),
                    s.version.clone(),
                    s.pod.clone(),
                )
            };
            key(a)
                .cmp(&key(b))
                .then_with(|| (&a.method, a.code).cmp(&(&b.method, b.code)))
        });
        series
    }

    /// Drops what no configuration and no request has named for a while: pods come and go for months.
    fn forget(&mut self, now: Instant) {
        self.all.retain(|_, (tally, unused)| {
            if Arc::strong_count(tally) > 1 || tally.is_awaited() {
                *unused = None;
                return true;
            }
            now.duration_since(*unused.get_or_insert(now)) < KEPT
        });
    }
}

/// Any other method, and one that could not be read.
pub(super) const OTHER: &str = "OTHER";

/// The method as a label: names that clients invent must not make series without end.
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_workers_are_added_and_buckets_are_cumulative() {
        let mut tallies = Tallies::default();
        let tally = tallies.of(
            Labels {
                service: "web".into(),
                ..Labels::default()
            },
            2,
        );
        let [first, second] = [0, 1].map(|worker| tally.at(worker).expect("a worker"));
        first.count("GET", 200, None, Duration::from_micros(400));
        second.count("GET", 200, None, Duration::from_millis(3));
        second.count(
            "GET",
            503,
            Some(Trouble::NoReadyPod),
            Duration::from_mins(1),
        );
        let series = tallies.read();
        assert_eq!(series.len(), 2);
        let good = series.iter().find(|s| s.code == 200).expect("counted");
        assert_eq!((good.count, good.error.as_str()), (2, ""));
        assert_eq!(good.buckets.first(), Some(&1));
        assert_eq!(good.buckets.get(3), Some(&2), "3 ms is within 5 ms");
        let bad = series.iter().find(|s| s.code == 503).expect("counted");
        assert_eq!(bad.error, "no-ready-pod");
        assert_eq!(bad.buckets.get(BUCKETS.len() - 1), Some(&0));
        assert_eq!(bad.buckets.last(), Some(&1));
    }

    #[test]
    fn counters_of_pods_that_are_gone_stay_for_ten_minutes() {
        let mut tallies = Tallies::default();
        let tally = tallies.of(Labels::default(), 1);
        let counter = tally.at(0).expect("a worker");
        counter.count("GET", 200, None, Duration::ZERO);
        drop(tally);
        let long_ago = Instant::now();
        let now = long_ago + KEPT;
        tallies.forget(long_ago);
        tallies.forget(now);
        assert_eq!(tallies.all.len(), 1, "a request is not over yet");
        drop(counter);
        tallies.forget(now);
        assert_eq!(tallies.all.len(), 1);
        tallies.forget(now + KEPT);
        assert_eq!(tallies.all.len(), 0);
    }
}
