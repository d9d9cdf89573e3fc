//! A steady stream of requests, each of which is accounted for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::sample::{DELIBERATE_HEADER, VERSION_HEADER};

/// A request that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    /// Requests sent.
    pub(crate) total: u64,
    /// Requests that the service failed on purpose.
    pub(crate) failed_by_app: u64,
    /// Requests that failed in any other way: wrong status, no answer, a broken body.
    pub(crate) failed_by_platform: u64,
}

impl Tally {
    /// What has been added since an earlier tally.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            total: self.total - earlier.total,
            failed_by_app: self.failed_by_app - earlier.failed_by_app,
            failed_by_platform: self.failed_by_platform - earlier.failed_by_platform,
        }
    }
}

/// All requests so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// In all.
    pub(crate) tally: Tally,
    /// Answers by version.
    pub(crate) by_version: BTreeMap<String, u64>,
    /// What went wrong, each with its number of times.
    pub(crate) troubles: BTreeMap<String, u64>,
}

/// Requests under way; stops when dropped or by [`Load::stop`].
pub(crate) struct Load {
    counts: Arc<Mutex<Counts>>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

impl Load {
    /// Sends `per_second` requests to an address, spread over keep-alive connections.
    pub(crate) fn start(address: &Uri, per_second: u32, connections: u32) -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        let pause = Duration::from_secs(1) * connections / per_second.max(1);
        for _ in 0..connections {
            workers.spawn(worker(
                address.clone(),
                pause,
                Arc::clone(&counts),
                stopped.clone(),
            ));
        }
        Self {
            counts,
            stop,
            workers,
        }
    }

    /// All requests so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sends no more requests, waits for those under way, and tells what became of all.
    pub(crate) async fn stop(mut self) -> Counts {
        // Workers that are gone already need no telling.
        let _ = self.stop.send(true);
        while self.workers.join_next().await.is_some() {}
        self.counts()
    }
}

async fn worker(
    address: Uri,
    pause: Duration,
    counts: Arc<Mutex<Counts>>,
    mut stopped: watch::Receiver<bool>,
) {
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        // A repeated request would hide a failure.
        .retry_canceled_requests(false)
        .build_http::<Empty<Bytes>>();
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.changed() => return,
        }
        let outcome = tokio::time::timeout(PATIENCE, ask(&client, &address)).await;
        let outcome =
            outcome.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.tally.total += 1;
        match outcome {
            Ok(Answer {
                version,
                deliberate_failure,
            }) => {
                *counts.by_version.entry(version).or_default() += 1;
                counts.tally.failed_by_app += u64::from(deliberate_failure);
            }
            Err(why) => {
                counts.tally.failed_by_platform += 1;
                *counts.troubles.entry(why).or_default() += 1;
            }
        }
    }
}

struct Answer {
    version: String,
    deliberate_failure: bool,
}

async fn ask(
    client: &Client<HttpConnector, Empty<Bytes>>,
    address: &Uri,
) -> Result<Answer, String> {
    let request = Request::get(address.clone())
        .body(Empty::new())
        .map_err(|why| why.to_string())?;
    let response = client.request(request).await.map_err(|why| in_full(&why))?;
    let (head, body) = response.into_parts();
    let text = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let version = text(VERSION_HEADER);
    let deliberate_failure = text(DELIBERATE_HEADER).is_some();
    body.collect()
        .await
        .map_err(|why| format!("broken body: {}", in_full(&why)))?;
    match version {
        Some(version) if head.status.is_success() || deliberate_failure => Ok(Answer {
            version,
            deliberate_failure,
        }),
        _ => Err(format!(
            "status {}{}",
            head.status,
            text("x-crossfade-error").map_or(String::new(), |why| format!(" ({why})"))
        )),
    }
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
