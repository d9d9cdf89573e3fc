//! Asks pods for their metrics at intervals.
//!
//! As Prometheus does it: labels of the target go before labels of the same name in the text,
//! which become `exported_<name>`; each scrape writes `up`, `scrape_duration_seconds` and
//! `scrape_samples_scraped`; a series that is missing from a scrape, fails with it or goes with its
//! target is marked as ended. Time stamps in the text are not honoured. HTTP only: the targets are
//! processes on this machine.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::super::labels::{Labels, METRIC_NAME};
use super::super::samples::{Sample, Store, stale};
use super::exposition;

/// Longest body of an answer, in bytes.
pub const MAX_BODY_BYTES: usize = 10 << 20;
/// Most samples in one answer.
pub const MAX_SAMPLES: usize = 20_000;
/// Bounds of the time for one scrape, which is the interval within these bounds.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// Shortest interval.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// A pod's metrics: where they are, under which labels they go, how often they are asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScrapeTarget {
    /// Address, such as `http://127.0.0.1:8080/metrics`.
    pub url: String,
    /// Labels of all its series: `job`, `namespace`, `pod` and so on. `instance` is the host and
    /// port of the address when it is not among them.
    pub labels: Labels,
    /// Time between two scrapes.
    pub interval: Duration,
}

/// Keeps scraping the targets it is given, until it is dropped. Needs a tokio runtime.
pub struct Scraper {
    store: Arc<Store>,
    running: BTreeMap<ScrapeTarget, Task>,
}

/// A task that scrapes one target; ends, and marks the series as ended, when it is dropped.
struct Task {
    handle: JoinHandle<()>,
    target: Arc<Target>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
        self.target.end(Timestamp::now().as_millisecond());
    }
}

impl Scraper {
    /// A scraper without targets that writes into a store.
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            running: BTreeMap::new(),
        }
    }

    /// Sets the targets: new ones begin, those not named end, the others go on.
    pub fn set_targets(&mut self, targets: impl IntoIterator<Item = ScrapeTarget>) {
        let mut before = std::mem::take(&mut self.running);
        for target in targets {
            let task = before
                .remove(&target)
                .unwrap_or_else(|| start(&target, self.store.clone()));
            self.running.insert(target, task);
        }
    }
}

fn start(target: &ScrapeTarget, store: Arc<Store>) -> Task {
    let interval = target.interval.max(MIN_INTERVAL);
    let timeout = interval.clamp(TIMEOUTS[0], TIMEOUTS[1]);
    let target = Arc::new(Target::new(target, store));
    let handle = tokio::spawn({
        let target = target.clone();
        async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let client = Client::builder(TokioExecutor::new()).build_http();
            loop {
                ticks.tick().await;
                target.scrape(&client, timeout).await;
            }
        }
    });
    Task { handle, target }
}

/// Why a scrape failed.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error("the address is not one: {0}")]
    Address(#[from] http::Error),
    #[error("no answer: {0}")]
    Transport(#[from] hyper_util::client::legacy::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the server answered {0}")]
    Status(http::StatusCode),
    #[error("the answer broke off or is longer than {MAX_BODY_BYTES} bytes: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is not UTF-8")]
    Encoding,
    #[error("the answer has {0} samples, more than {MAX_SAMPLES}")]
    TooMany(usize),
    #[error(transparent)]
    Text(#[from] exposition::BadText),
}

/// A target with what its last scrape left.
struct Target {
    store: Arc<Store>,
    url: String,
    labels: Labels,
    /// Series that are current, so that their end can be marked. Locked also while samples are
    /// written: after the end nothing may follow.
    state: std::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    current: HashSet<Labels>,
    ended: bool,
    /// Whether the last scrape failed; each change is logged once.
    failing: bool,
}

impl Target {
    fn new(target: &ScrapeTarget, store: Arc<Store>) -> Self {
        let mut labels = target.labels.without(&[METRIC_NAME]);
        if labels.get("instance").is_empty() {
            let authority = target
                .url
                .parse::<Uri>()
                .ok()
                .and_then(|uri| uri.authority().map(ToString::to_string));
            labels = labels.with("instance", &authority.unwrap_or_default());
        }
        Self {
            store,
            url: target.url.clone(),
            labels,
            state: std::sync::Mutex::default(),
        }
    }

    async fn scrape(&self, client: &Client<HttpConnector, Empty<Bytes>>, timeout: Duration) {
        let at = Timestamp::now().as_millisecond();
        let started = tokio::time::Instant::now();
        let read = tokio::time::timeout(timeout, self.fetch(client)).await;
        let read = read.unwrap_or(Err(ScrapeError::Timeout(timeout)));
        let seconds = started.elapsed().as_secs_f64();
        let (up, samples) = match &read {
            Ok(samples) => (1.0, samples.as_slice()),
            Err(_) => (0.0, [].as_slice()),
        };
        let own = |name: &str, value: f64| (self.labels.with(METRIC_NAME, name), value);
        let mut all = vec![
            own("up", up),
            own("scrape_duration_seconds", seconds),
            own("scrape_samples_scraped", samples.len() as f64),
        ];
        all.extend(samples.iter().cloned());
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.ended {
            return;
        }
        match &read {
            Err(problem) if !state.failing => {
                tracing::warn!(url = %self.url, %problem, "cannot scrape metrics");
            }
            Ok(_) if state.failing => {
                tracing::info!(url = %self.url, "metrics can be scraped again");
            }
            _ => {}
        }
        state.failing = read.is_err();
        let mut batch = self.store.batch();
        let mut missing = std::mem::take(&mut state.current);
        for (labels, value) in all {
            missing.remove(&labels);
            batch.append(&labels, Sample { at, value });
            state.current.insert(labels);
        }
        for labels in missing {
            batch.append(&labels, Sample { at, value: stale() });
        }
    }

    async fn fetch(
        &self,
        client: &Client<HttpConnector, Empty<Bytes>>,
    ) -> Result<Vec<(Labels, f64)>, ScrapeError> {
        let accept =
            "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1";
        let request = Request::get(&self.url)
            .header(header::ACCEPT, HeaderValue::from_static(accept))
            .header(
                header::USER_AGENT,
                concat!("crossfade/", env!("CARGO_PKG_VERSION")),
            )
            .body(Empty::new())?;
        let response = client.request(request).await?;
        if !response.status().is_success() {
            return Err(ScrapeError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(ScrapeError::Body)?;
        let text = String::from_utf8(body.to_bytes().into()).map_err(|_| ScrapeError::Encoding)?;
        let exposed = exposition::read(&text)?;
        if exposed.len() > MAX_SAMPLES {
            return Err(ScrapeError::TooMany(exposed.len()));
        }
        Ok(exposed
            .into_iter()
            .map(|sample| (self.labelled(sample.metric, sample.labels), sample.value))
            .collect())
    }

    /// The labels of an exposed sample with those of the target.
    fn labelled(&self, metric: String, exposed: Vec<(String, String)>) -> Labels {
        let own = self
            .labels
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let exposed = exposed.into_iter().map(|(name, value)| {
            if self.labels.get(&name).is_empty() {
                (name, value)
            } else {
                (format!("exported_{name}"), value)
            }
        });
        Labels::new(
            exposed
                .chain(own)
                .chain([(METRIC_NAME.to_owned(), metric)])
                .collect::<Vec<_>>(),
        )
    }

    /// Marks all series as ended; later scrapes write nothing.
    fn end(&self, at: i64) {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        state.ended = true;
        let mut batch = self.store.batch();
        for labels in state.current.drain() {
            batch.append(&labels, Sample { at, value: stale() });
        }
    }
}
