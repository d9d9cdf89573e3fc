//! What the controller tells Prometheus.

use crossfade_test_fleet::Outcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A page of metrics.
pub(crate) struct Scraped(String);

/// Reads the page behind this port.
pub(crate) async fn scrape(port: u16) -> Outcome<Scraped> {
    ask(port, "/metrics").await.map(Scraped)
}

/// Whether the controller says that it is ready.
pub(crate) async fn is_ready(port: u16) -> bool {
    let answer = ask(port, "/readyz").await;
    answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

async fn ask(port: u16, path: &str) -> Outcome<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    connection.read_to_string(&mut page).await?;
    Ok(page)
}

impl Scraped {
    /// The value of a metric without labels; 0 if it is not there.
    pub(crate) fn value(&self, name: &str) -> f64 {
        let line = self.0.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.strip_prefix(' ')
        });
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or(0.0)
    }

    /// The bound below which this share of a histogram lies, in its unit.
    pub(crate) fn quantile(&self, name: &str, share: f64) -> f64 {
        let all = self.value(&format!("{name}_count"));
        let prefix = format!("{name}_bucket{{le=\"");
        let buckets = self.0.lines().filter_map(|line| {
            let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
            Some((
                bound.parse::<f64>().ok()?,
                count.trim().parse::<f64>().ok()?,
            ))
        });
        let mut below = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= all * share && bound.is_finite() {
                let within = (all * share - below.1) / (count - below.1).max(1.0);
                return below.0 + (bound - below.0) * within;
            }
            below = (bound, count);
        }
        below.0
    }
}
