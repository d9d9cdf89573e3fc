//! A small HTTP load generator, for tasks that call `hey` where it is not installed.
//!
//! Workers send one request after another, each at its own rate, until their number or time is over; what they saw becomes a [`Report`] in the form that
//! readers of that tool know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// So many durations are kept; further answers are only counted.
const MOST_KEPT: usize = 1_000_000;
/// Bars of the histogram.
const BARS: usize = 10;
/// The longest bar, in characters.
const BAR: f64 = 40.0;
/// Percentiles that are told.
const PERCENTILES: [u64; 7] = [10, 25, 50, 75, 90, 95, 99];

/// What is to be sent.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own, and any of them go together"
)]
pub struct Load {
    /// Where to.
    pub url: Url,
    /// How.
    pub method: Method,
    /// With these headers.
    pub headers: Vec<(String, String)>,
    /// And this body.
    pub body: Vec<u8>,
    /// User and password for basic authentication.
    pub basic: Option<(String, String)>,
    /// Requests of all workers together; without meaning with a duration.
    pub requests: u64,
    /// How long requests are sent.
    pub duration: Option<Duration>,
    /// Requests under way at once.
    pub workers: u64,
    /// Requests a second of each worker; 0 without limit.
    pub rate: f64,
    /// How long one request may take; zero without limit.
    pub timeout: Duration,
    /// Through this proxy.
    pub proxy: Option<String>,
    /// HTTP/2 where the server has it.
    pub http2: bool,
    /// Redirects are answers.
    pub keep_redirects: bool,
    /// A connection for each request.
    pub no_keepalive: bool,
    /// Compressed answers are not asked for.
    pub no_compression: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    total: Duration,
    /// Seconds of each answer.
    took: Vec<f64>,
    bytes: u64,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    /// Offset, seconds, bytes and status of each answer.
    lines: Vec<(f64, f64, u64, u16)>,
}

/// What one worker saw.
#[derive(Debug, Default)]
struct Seen(Report);

impl Load {
    fn client(&self) -> Result<Client, String> {
        // Whoever comes first installs it; all of us want the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|why| format!("header {name}: {why}"))?;
            let value =
                HeaderValue::from_str(value).map_err(|why| format!("header {name}: {why}"))?;
            headers.append(name, value);
        }
        let mut builder = Client::builder()
            .default_headers(headers)
            .gzip(!self.no_compression)
            // It measures, and shall not judge certificates.
            .tls_danger_accept_invalid_certs(true);
        if !self.http2 {
            builder = builder.http1_only();
        }
        if self.keep_redirects {
            builder = builder.redirect(reqwest::redirect::Policy::none());
        }
        if self.no_keepalive {
            builder = builder.pool_max_idle_per_host(0);
        }
        if !self.timeout.is_zero() {
            builder = builder.timeout(self.timeout);
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|why| why.to_string())?);
        }
        builder.build().map_err(|why| why.to_string())
    }

    /// Sends it all, or until `stop` is cancelled.
    ///
    /// # Errors
    /// A header or the proxy's address is none; nothing was sent.
    pub async fn run(self, stop: CancellationToken) -> Result<Report, String> {
        let client = self.client()?;
        let workers = self.workers.max(1);
        let each = self.duration.is_none().then(|| self.requests / workers);
        let load = Arc::new(self);
        let begun = Instant::now();
        let ends = load
            .duration
            .and_then(|duration| begun.checked_add(duration));
        let mut all = JoinSet::new();
        for _ in 0..workers {
            let (load, client, stop) = (Arc::clone(&load), client.clone(), stop.clone());
            all.spawn(async move { load.work(&client, each, begun, ends, &stop).await });
        }
        let mut report = Report::default();
        while let Some(done) = all.join_next().await {
            report.add(done.map_err(|why| why.to_string())?.0);
        }
        report.total = begun.elapsed();
        report.took.sort_by(f64::total_cmp);
        Ok(report)
    }

    async fn work(
        &self,
        client: &Client,
        each: Option<u64>,
        begun: Instant,
        ends: Option<Instant>,
        stop: &CancellationToken,
    ) -> Seen {
        let mut seen = Seen::default();
        let mut pace = (self.rate > 0.0).then(|| {
            let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / self.rate));
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            pace
        });
        let mut sent = 0;
        let over = async {
            match ends {
                Some(ends) => tokio::time::sleep_until(ends.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        while each.is_none_or(|each| sent < each) {
            let once = async {
                if let Some(pace) = &mut pace {
                    pace.tick().await;
                }
                let at = Instant::now();
                (at, self.send(client).await)
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = &mut over => break,
                (at, answer) = once => seen.note(at.duration_since(begun), at.elapsed(), answer),
            }
            sent += 1;
        }
        seen
    }

    async fn send(&self, client: &Client) -> Result<(u16, u64), String> {
        let mut request = client
            .request(self.method.clone(), self.url.clone())
            .body(self.body.clone());
        if let Some((user, password)) = &self.basic {
            request = request.basic_auth(user, Some(password));
        }
        let failed = |error: reqwest::Error| crate::gates::chain(&error.without_url());
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut bytes = 0;
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            bytes += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        }
        Ok((status, bytes))
    }
}

impl Seen {
    fn note(&mut self, offset: Duration, took: Duration, answer: Result<(u16, u64), String>) {
        let report = &mut self.0;
        match answer {
            Err(why) => *report.errors.entry(why).or_default() += 1,
            Ok((status, bytes)) => {
                *report.statuses.entry(status).or_default() += 1;
                report.bytes += bytes;
                if report.took.len() < MOST_KEPT {
                    report.took.push(took.as_secs_f64());
                    report
                        .lines
                        .push((offset.as_secs_f64(), took.as_secs_f64(), bytes, status));
                }
            }
        }
    }
}

impl Report {
    fn add(&mut self, other: Self) {
        let room = MOST_KEPT.saturating_sub(self.took.len());
        self.took.extend(other.took.into_iter().take(room));
        self.lines.extend(other.lines.into_iter().take(room));
        self.bytes += other.bytes;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }

    /// Answers that came.
    pub fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Requests that got no answer.
    pub fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// One line for each answer.
    pub fn csv(&self) -> String {
        let mut text = "response-time,bytes,status-code,offset\n".to_owned();
        for (offset, took, bytes, status) in &self.lines {
            text.push_str(&format!("{took:.4},{bytes},{status},{offset:.4}\n"));
        }
        text
    }

    /// The whole for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let answers = self.answers();
        if answers > 0 {
            let count = self.took.len().max(1) as f64;
            let average = self.took.iter().sum::<f64>() / count;
            let fastest = self.took.first().copied().unwrap_or_default();
            let slowest = self.took.last().copied().unwrap_or_default();
            let total = self.total.as_secs_f64();
            text.push_str(&format!(
                "\nSummary:\n  Total:\t{total:.4} secs\n  Slowest:\t{slowest:.4} secs\n  Fastest:\t{fastest:.4} secs\n  Average:\t{average:.4} secs\n  Requests/sec:\t{:.4}\n",
                answers as f64 / total.max(f64::MIN_POSITIVE)
            ));
            if self.bytes > 0 {
                text.push_str(&format!(
                    "\n  Total data:\t{} bytes\n  Size/request:\t{} bytes\n",
                    self.bytes,
                    self.bytes / answers
                ));
            }
            text.push_str("\nResponse time histogram:\n");
            text.push_str(&self.histogram(fastest, slowest));
            text.push_str("\nLatency distribution:\n");
            for percentile in PERCENTILES {
                if let Some(seconds) = self.percentile(percentile) {
                    text.push_str(&format!("  {percentile}% in {seconds:.4} secs\n"));
                }
            }
            text.push_str("\nStatus code distribution:\n");
            for (status, count) in &self.statuses {
                text.push_str(&format!("  [{status}]\t{count} responses\n"));
            }
        }
        if !self.errors.is_empty() {
            text.push_str("\nError distribution:\n");
            for (error, count) in &self.errors {
                text.push_str(&format!("  [{count}]\t{error}\n"));
            }
        }
        text
    }

    /// The time within which this percentage of the answers came: the nearest rank.
    fn percentile(&self, percentile: u64) -> Option<f64> {
        let count = u64::try_from(self.took.len()).ok()?;
        let rank = (count * percentile).div_ceil(100).max(1);
        self.took.get(usize::try_from(rank - 1).ok()?).copied()
    }

    fn histogram(&self, fastest: f64, slowest: f64) -> String {
        let width = (slowest - fastest) / BARS as f64;
        let bounds: Vec<f64> = (0..=BARS).map(|bar| fastest + width * bar as f64).collect();
        let mut counts = vec![0_u64; bounds.len()];
        for seconds in &self.took {
            let bar = bounds
                .iter()
                .position(|bound| seconds <= bound)
                .unwrap_or(BARS);
            if let Some(count) = counts.get_mut(bar) {
                *count += 1;
            }
        }
        let most = counts.iter().max().copied().unwrap_or(0).max(1) as f64;
        let lines = bounds.iter().zip(&counts).map(|(bound, count)| {
            let length = (*count as f64 / most * BAR).round() as usize;
            format!("  {bound:.3} [{count}]\t|{}\n", "■".repeat(length))
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_adds_up() {
        let mut seen = Seen::default();
        for number in 1..=100_u64 {
            seen.note(Duration::ZERO, Duration::from_millis(number), Ok((200, 10)));
        }
        seen.note(Duration::ZERO, Duration::ZERO, Err("refused".to_owned()));
        let mut report = Report::default();
        report.add(seen.0);
        report.total = Duration::from_secs(2);
        assert_eq!((report.answers(), report.failures()), (100, 1));
        for (percentile, seconds) in [(10, 0.01), (50, 0.05), (99, 0.099)] {
            assert_eq!(report.percentile(percentile), Some(seconds));
        }
        let text = report.text();
        for part in [
            "Total:\t2.0000 secs",
            "Slowest:\t0.1000 secs",
            "Fastest:\t0.0010 secs",
            "Average:\t0.0505 secs",
            "Requests/sec:\t50.0000",
            "Total data:\t1000 bytes",
            "[200]\t100 responses",
            "[1]\trefused",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let bars: u64 = text
            .lines()
            .filter_map(|line| {
                line.split_once(" [")?
                    .1
                    .split_once("]\t|")?
                    .0
                    .parse::<u64>()
                    .ok()
            })
            .sum();
        assert_eq!(bars, 100, "{text}");
        assert_eq!(report.csv().lines().count(), 101);
    }
}
