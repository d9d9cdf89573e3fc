//! From readings of the proxy's counters to series.
//!
//! The proxy counts since it started; the control plane reads it at intervals and hands each
//! reading to [`ProxyFeed::take`]. A rate needs two samples, so a series that begins with its
//! first count would lose that count, and the first errors of a release are the ones that matter:
//! what is new in a reading of a known process was zero at the reading before, and that zero is
//! written, too. What a control plane finds counted when it starts is never taken for new.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::samples::{Batch, ColumnId, SET_BACK_MS, Sample, Store, stale};
use super::names;

/// All counters of the proxy at one time.
#[derive(Clone, Debug)]
pub struct ProxyReading {
    /// When the proxy's process started, Unix milliseconds; tells its counters from those of
    /// another process.
    pub started_at: i64,
    /// When the counters were read, Unix milliseconds.
    pub taken_at: i64,
    /// Upper bounds of the latency buckets, in seconds, rising, without infinity.
    pub bounds: Arc<[f64]>,
    /// The counters. Those of one process only rise; a missing one has ended.
    pub samples: Vec<ProxySample>,
}

impl ProxyReading {
    /// The reading with a success and a failure, none of which has happened, for pods that have answered in other ways only.
    ///
    /// Queries divide failures by requests. A pod that has never failed would have no series of failures, and a fraction
    /// without numerator is no number but no answer; so would be the share of successes of a pod that only fails.
    #[must_use]
    pub fn with_zeros(mut self) -> Self {
        let known: HashSet<Identity> = self.samples.iter().map(ProxySample::identity).collect();
        let mut zeros = HashMap::new();
        for sample in self.samples.iter().filter(|sample| !sample.pod.is_empty()) {
            for status in ALWAYS_SHOWN {
                let zero = ProxySample {
                    status,
                    error: String::new(),
                    count: 0,
                    sum_seconds: 0.0,
                    buckets: vec![0; sample.buckets.len()],
                    ..sample.clone()
                };
                let identity = zero.identity();
                if !known.contains(&identity) {
                    zeros.insert(identity, zero);
                }
            }
        }
        self.samples.extend(zeros.into_values());
        self
    }
}

/// The statuses that every pod is shown with that has answered anything.
const ALWAYS_SHOWN: [u16; 2] = [200, 500];

/// Requests that are alike: what tells them from others, and how many they are.
#[derive(Clone, Debug)]
pub struct ProxySample {
    /// Service at whose listener they came in.
    pub entry: String,
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the route that matched; empty if none.
    pub route: String,
    /// Service that the route led to (the canary's or the stable one's); empty if none.
    pub destination: String,
    /// Pod hash of the version that answered; empty if no pod was reached.
    pub version: String,
    /// Pod that answered; empty if none was reached.
    pub pod: String,
    /// Whether they are copies for a mirror.
    pub mirror: bool,
    /// Method.
    pub method: String,
    /// Status code that the client got.
    pub status: u16,
    /// Why the proxy and not the pod made the answer; empty if the pod did.
    pub error: String,
    /// What is known about the pod's workload. It may change; the counters go on under new labels.
    pub subject: Subject,
    /// How many there were since the proxy started.
    pub count: u64,
    /// Sum of their durations, in seconds.
    pub sum_seconds: f64,
    /// How many took at most each of [`ProxyReading::bounds`], cumulative. What is beyond the
    /// bounds is not looked at: everything is [`ProxySample::count`].
    pub buckets: Vec<u64>,
}

/// What the control plane knows about the workload that answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Name of the Rollout or Deployment.
    pub workload: String,
    /// Name of the application: the pod's label `app`, else `app.kubernetes.io/name`, else the
    /// workload.
    pub app: String,
    /// On which side of a release the pod is.
    pub role: Role,
    /// Name of the Ingress or route object through which the Service is reached.
    pub ingress: String,
    /// Tools whose metric names are wanted beside those that everything has.
    pub tools: Vec<Tool>,
}

/// On which side of a release a pod is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Of the version that all requests go to when no release is under way.
    Stable,
    /// Of the version being released.
    Canary,
    /// Of no release.
    #[default]
    Other,
}

/// A router or mesh with metric names of its own.
#[expect(missing_docs, reason = "the names say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Apisix,
    AppMesh,
    Contour,
    Gloo,
    Kuma,
    Linkerd,
    Nginx,
    Osm,
    Skipper,
    Traefik,
}

impl ProxySample {
    /// The Service that counts as theirs: where they were led to, else where they came in.
    pub(super) fn service(&self) -> &str {
        if self.destination.is_empty() {
            &self.entry
        } else {
            &self.destination
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            texts: [
                &self.entry,
                &self.namespace,
                &self.route,
                &self.destination,
                &self.version,
                &self.pod,
                &self.method,
                &self.error,
            ]
            .map(Clone::clone),
            mirror: self.mirror,
            status: self.status,
        }
    }

    /// The values of its columns: the count, a bucket for each bound, the sum.
    fn values(&self, bounds: &[f64]) -> Vec<f64> {
        let buckets =
            (0..bounds.len()).map(|at| self.buckets.get(at).copied().unwrap_or(self.count) as f64);
        [self.count as f64]
            .into_iter()
            .chain(buckets)
            .chain([self.sum_seconds])
            .collect()
    }
}

/// What tells requests from others; the key of a counter in the proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    texts: [String; 8],
    mirror: bool,
    status: u16,
}

/// Takes readings of the proxy into a store. One for each proxy, kept as long as the store.
pub struct ProxyFeed {
    counters: HashMap<Identity, Counter>,
    /// Start of the process and time of the last reading; at first the time of creation.
    last: (Option<i64>, i64),
}

/// What is known of one counter.
#[derive(Default)]
struct Counter {
    /// Values at the last reading, when it was in it.
    values: Option<Vec<f64>>,
    /// Its series under the labels it has now and those it had before.
    shown: Vec<Shown>,
}

struct Shown {
    subject: Subject,
    bounds: Arc<[f64]>,
    columns: Vec<ColumnId>,
    current: bool,
}

impl ProxyFeed {
    /// A feed from now on (Unix milliseconds). What a proxy counted that started before is not
    /// taken for new.
    pub fn new(now: i64) -> Self {
        Self {
            counters: HashMap::new(),
            last: (None, now),
        }
    }

    /// Takes a reading. One that is not newer than the last is ignored, unless the clock was set
    /// back.
    pub fn take(&mut self, store: &Store, reading: &ProxyReading) {
        let (process, before) = self.last;
        if process.is_some() && (before - SET_BACK_MS..=before).contains(&reading.taken_at) {
            return;
        }
        let before = before.min(reading.taken_at - 1);
        let same_process = process == Some(reading.started_at);
        // When all that is not known from the last reading was zero, if that can be said.
        let zero_at = if same_process {
            Some(before)
        } else {
            (reading.started_at > before).then(|| reading.started_at.min(reading.taken_at - 1))
        };
        let mut batch = store.batch();
        let mut seen: HashMap<Identity, Vec<f64>> = HashMap::with_capacity(reading.samples.len());
        for sample in &reading.samples {
            let identity = sample.identity();
            let values = sample.values(&reading.bounds);
            let counter = self.counters.entry(identity.clone()).or_default();
            let known = counter.values.take().filter(|_| same_process);
            if let Some((columns, is_new)) =
                counter.shown_as(&mut batch, sample, &reading.bounds, reading.taken_at)
            {
                match (known, zero_at) {
                    (Some(values), _) if is_new => push(&mut batch, columns, before, &values),
                    (None, Some(at)) => push(&mut batch, columns, at, &vec![0.0; values.len()]),
                    _ => {}
                }
                push(&mut batch, columns, reading.taken_at, &values);
            }
            seen.insert(identity, values);
        }
        self.counters.retain(|identity, counter| {
            counter.values = seen.remove(identity);
            if counter.values.is_none() {
                counter.end(&mut batch, reading.taken_at);
            }
            counter.shown.retain(|shown| shown.is_in(&batch));
            counter.values.is_some() || !counter.shown.is_empty()
        });
        self.last = (Some(reading.started_at), reading.taken_at);
    }

    /// Ends all series at a time (Unix milliseconds): the proxy cannot be read. They go on with
    /// the next reading.
    pub fn lost(&mut self, store: &Store, at: i64) {
        let mut batch = store.batch();
        for counter in self.counters.values_mut() {
            counter.end(&mut batch, at);
        }
    }
}

impl Counter {
    /// Its columns under the labels it has now, and whether they were not current before. Ends
    /// the series under other labels. `None` when the store has no room.
    fn shown_as(
        &mut self,
        batch: &mut Batch<'_>,
        sample: &ProxySample,
        bounds: &Arc<[f64]>,
        at: i64,
    ) -> Option<(&[ColumnId], bool)> {
        self.shown.retain(|shown| shown.is_in(batch));
        let wanted = |shown: &Shown| shown.subject == sample.subject && shown.bounds == *bounds;
        for other in self.shown.iter_mut().filter(|shown| !wanted(shown)) {
            other.end(batch, at);
        }
        let place = if let Some(place) = self.shown.iter().position(wanted) {
            place
        } else {
            let columns = register(batch, sample, bounds)?;
            self.shown.push(Shown {
                subject: sample.subject.clone(),
                bounds: bounds.clone(),
                columns,
                current: false,
            });
            self.shown.len() - 1
        };
        let shown = self.shown.get_mut(place)?;
        let is_new = !std::mem::replace(&mut shown.current, true);
        Some((&shown.columns, is_new))
    }

    fn end(&mut self, batch: &mut Batch<'_>, at: i64) {
        for shown in &mut self.shown {
            shown.end(batch, at);
        }
    }
}

impl Shown {
    /// Marks the end of the series.
    fn end(&mut self, batch: &mut Batch<'_>, at: i64) {
        if std::mem::take(&mut self.current) {
            push(batch, &self.columns, at, &vec![stale(); self.columns.len()]);
        }
    }

    fn is_in(&self, batch: &Batch<'_>) -> bool {
        self.columns
            .iter()
            .all(|column| batch.last(*column).is_some())
    }
}

fn register(batch: &mut Batch<'_>, sample: &ProxySample, bounds: &[f64]) -> Option<Vec<ColumnId>> {
    let names = names::columns(sample, bounds);
    batch.columns(
        [names.count]
            .into_iter()
            .chain(names.buckets)
            .chain([names.sum])
            .collect(),
    )
}

/// Appends a value to each column, not before what it has.
fn push(batch: &mut Batch<'_>, columns: &[ColumnId], at: i64, values: &[f64]) {
    for (column, value) in columns.iter().zip(values) {
        batch.push(*column, Sample { at, value: *value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::promql::{Answer, Limits, query};

    const T0: i64 = 1_700_000_000_000;

    fn sample(pod: &str, status: u16, count: u64) -> ProxySample {
        ProxySample {
            entry: "web".into(),
            namespace: "shop".into(),
            route: String::new(),
            destination: "web-canary".into(),
            version: "abc".into(),
            pod: pod.into(),
            mirror: false,
            method: "GET".into(),
            status,
            error: String::new(),
            subject: Subject {
                workload: "web".into(),
                app: "web".into(),
                role: Role::Canary,
                ..Subject::default()
            },
            count,
            sum_seconds: count as f64 * 0.02,
            buckets: vec![0, count],
        }
    }

    fn reading(started_at: i64, seconds: i64, samples: Vec<ProxySample>) -> ProxyReading {
        ProxyReading {
            started_at,
            taken_at: T0 + seconds * 1000,
            bounds: Arc::new([0.01, 0.05]),
            samples,
        }
    }

    /// The only value of a query at a time, or that there is none.
    fn value(store: &Store, text: &str, seconds: i64) -> Option<f64> {
        match query(store, &Limits::default(), text, T0 + seconds * 1000) {
            Ok(Answer::Vector(points)) => {
                assert!(points.len() < 2, "{text}: {points:?}");
                points.first().map(|point| point.sample.value)
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    fn near(value: Option<f64>, wanted: f64) -> bool {
        value.is_some_and(|value| (value - wanted).abs() < 1e-9)
    }

    #[test]
    fn the_first_errors_of_a_pod_count() {
        let (store, mut feed) = (Store::default(), ProxyFeed::new(T0));
        feed.take(&store, &reading(T0 - 1, 0, vec![sample("a", 200, 100)]));
        feed.take(
            &store,
            &reading(
                T0 - 1,
                10,
                vec![sample("a", 200, 150), sample("a", 500, 30)],
            ),
        );
        let errors = "increase(http_requests_total{status=~\"5..\"}[10s])";
        assert!(
            near(value(&store, errors, 10), 30.0),
            "{:?}",
            value(&store, errors, 10)
        );
        assert!(near(
            value(
                &store,
                "increase(http_requests_total{status=\"200\"}[10s])",
                10
            ),
            50.0
        ));
    }

    #[test]
    fn a_pod_that_never_failed_has_an_error_rate_and_one_that_only_fails_a_success_rate() {
        let (store, mut feed) = (Store::default(), ProxyFeed::new(T0));
        let share = |statuses: &str, pod: &str| {
            format!(
                "sum(rate(http_requests_total{{pod=\"{pod}\",status=~\"{statuses}\"}}[1m])) / sum(rate(http_requests_total{{pod=\"{pod}\"}}[1m]))"
            )
        };
        let at = |good, bad| vec![sample("good", 200, good), sample("bad", 503, bad)];
        feed.take(&store, &reading(T0 - 1, 0, at(10, 10)).with_zeros());
        feed.take(&store, &reading(T0 - 1, 10, at(20, 30)).with_zeros());
        assert_eq!(value(&store, &share("5..", "good"), 10), Some(0.0));
        assert_eq!(value(&store, &share("2..", "bad"), 10), Some(0.0));
        assert!(near(value(&store, &share("5..", "bad"), 10), 1.0));
        // The zero was the beginning of the count.
        let mut later = at(20, 30);
        later.push(sample("good", 500, 5));
        feed.take(&store, &reading(T0 - 1, 20, later).with_zeros());
        let failures = "increase(http_requests_total{pod=\"good\",status=\"500\"}[10s])";
        assert!(near(value(&store, failures, 20), 5.0));
    }

    #[test]
    fn a_control_plane_that_starts_anew_sees_no_spike() {
        let started = T0 - 3_600_000;
        let (store, mut feed) = (Store::default(), ProxyFeed::new(T0));
        feed.take(
            &store,
            &reading(started, 1, vec![sample("a", 200, 1_000_000)]),
        );
        assert_eq!(value(&store, "rate(http_requests_total[1m])", 1), None);
        feed.take(
            &store,
            &reading(started, 11, vec![sample("a", 200, 1_000_010)]),
        );
        assert!(near(
            value(&store, "irate(http_requests_total[1m])", 11),
            1.0
        ));
    }

    #[test]
    fn a_proxy_that_starts_anew_counts_from_zero() {
        let (store, mut feed) = (Store::default(), ProxyFeed::new(T0));
        feed.take(&store, &reading(T0 - 1, 0, vec![sample("a", 200, 100)]));
        feed.take(&store, &reading(T0 - 1, 10, vec![sample("a", 200, 200)]));
        // More than before, so that only the start of the process tells of the reset.
        feed.take(
            &store,
            &reading(T0 + 15_000, 20, vec![sample("a", 200, 250)]),
        );
        assert!(near(
            value(&store, "increase(http_requests_total[20s])", 20),
            350.0
        ));
        assert!(near(
            value(&store, "resets(http_requests_total[20s])", 20),
            1.0
        ));
    }

    #[test]
    fn a_promoted_pod_goes_on_under_its_new_labels_without_a_spike() {
        let (store, mut feed) = (Store::default(), ProxyFeed::new(T0));
        let promoted = |count, role| {
            let mut sample = sample("a", 200, count);
            sample.subject.role = role;
            sample
        };
        for (seconds, count, role) in [
            (0, 100, Role::Canary),
            (10, 200, Role::Canary),
            (20, 300, Role::Stable),
            (30, 400, Role::Canary),
            (40, 500, Role::Canary),
        ] {
            feed.take(
                &store,
                &reading(T0 - 1, seconds, vec![promoted(count, role)]),
            );
        }
        let increase = |canary: &str, seconds| {
            value(
                &store,
                &format!("increase(http_requests_total{{canary=\"{canary}\"}}[10s])"),
                seconds,
            )
        };
        assert!(near(increase("true", 10), 100.0));
        assert!(
            near(increase("false", 20), 100.0),
            "{:?}",
            increase("false", 20)
        );
        assert!(near(increase("true", 40), 100.0));
        assert!(
            value(&store, "http_requests_total{canary=\"true\"}", 25).is_none(),
            "it is not the canary then"
        );
        assert!(near(value(&store, "sum(http_requests_total)", 25), 300.0));
    }

    #[test]
    fn what_is_missing_has_ended_and_begins_at_zero_again() {
        let (store, mut feed) = (Store::default(), ProxyFeed::new(T0));
        feed.take(
            &store,
            &reading(T0 - 1, 0, vec![sample("a", 200, 100), sample("b", 200, 7)]),
        );
        feed.take(&store, &reading(T0 - 1, 10, vec![sample("b", 200, 8)]));
        assert_eq!(value(&store, "http_requests_total{pod=\"a\"}", 10), None);
        assert!(near(
            value(&store, "http_requests_total{pod=\"b\"}", 10),
            8.0
        ));
        feed.take(
            &store,
            &reading(T0 - 1, 20, vec![sample("a", 200, 3), sample("b", 200, 8)]),
        );
        assert!(near(
            value(&store, "http_requests_total{pod=\"a\"}", 20),
            3.0
        ));
        assert!(near(
            value(&store, "increase(http_requests_total{pod=\"b\"}[10s])", 20),
            0.0
        ));
    }

    #[test]
    fn a_proxy_that_could_not_be_read_for_a_while_makes_no_spike() {
        let (store, mut feed) = (Store::default(), ProxyFeed::new(T0));
        feed.take(&store, &reading(T0 - 1, 0, vec![sample("a", 200, 100)]));
        feed.lost(&store, T0 + 5_000);
        assert_eq!(value(&store, "http_requests_total", 6), None);
        feed.take(&store, &reading(T0 - 1, 30, vec![sample("a", 200, 130)]));
        assert!(near(
            value(&store, "increase(http_requests_total[30s])", 30),
            30.0
        ));
        feed.take(&store, &reading(T0 - 1, 30, vec![sample("a", 200, 900)]));
        assert!(
            near(value(&store, "http_requests_total", 30), 130.0),
            "an old reading is ignored"
        );
    }

    #[test]
    fn a_counter_that_had_no_room_makes_no_spike_when_it_gets_some() {
        let settings = crate::telemetry::samples::Settings {
            max_series: 0,
            ..Default::default()
        };
        let (full, store, mut feed) = (Store::new(settings), Store::default(), ProxyFeed::new(T0));
        for seconds in [0, 10] {
            feed.take(
                &full,
                &reading(T0 - 1, seconds, vec![sample("a", 200, 1_000)]),
            );
        }
        feed.take(&store, &reading(T0 - 1, 20, vec![sample("a", 200, 1_000)]));
        assert!(near(
            value(&store, "increase(http_requests_total[10s])", 20),
            0.0
        ));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_end_the_measuring() {
        let (store, mut feed) = (Store::default(), ProxyFeed::new(T0));
        for (seconds, count) in [(0, 100), (10, 200), (-86_400, 300), (-86_390, 400)] {
            feed.take(
                &store,
                &reading(T0 - 1, seconds, vec![sample("a", 200, count)]),
            );
        }
        let increase = value(&store, "increase(http_requests_total[10s])", -86_390);
        assert!(near(increase, 100.0), "{increase:?}");
        assert!(
            value(&store, "http_requests_total", 10).is_none(),
            "what was in the future is gone"
        );
    }
}
