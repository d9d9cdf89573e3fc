//! Pods that expose metrics, scraped over real HTTP, and the store asked over real HTTP.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use crossfade_host::telemetry::api::{Api, serve};
use crossfade_host::telemetry::ingest::scrape::{
    MAX_BODY_BYTES, MAX_SAMPLES, ScrapeTarget, Scraper,
};
use crossfade_host::telemetry::labels::Labels;
use crossfade_host::telemetry::promql::{Answer, Limits, query};
use crossfade_host::telemetry::samples::Store;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A program with a `/metrics` page that the test writes.
struct Exposer {
    url: String,
    page: Arc<Mutex<(StatusCode, Bytes)>>,
    served: watch::Receiver<usize>,
}

impl Exposer {
    async fn start(page: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        let page = Arc::new(Mutex::new((StatusCode::OK, Bytes::from(page.to_owned()))));
        let (count, served) = watch::channel(0);
        let (count, shown) = (Arc::new(count), page.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (count, shown) = (count.clone(), shown.clone());
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    assert_eq!(request.uri().path(), "/metrics");
                    count.send_modify(|count| *count += 1);
                    let (status, body) = shown.lock().unwrap().clone();
                    let mut response = Response::new(Full::new(body));
                    *response.status_mut() = status;
                    async move { Ok::<_, Infallible>(response) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, page, served }
    }

    fn show(&self, status: u16, page: impl Into<Bytes>) {
        *self.page.lock().unwrap() = (StatusCode::from_u16(status).unwrap(), page.into());
    }

    /// Waits until what is shown now has been scraped and written: a scrape begins when the one
    /// before has been written.
    async fn scraped(&mut self) {
        let now = *self.served.borrow_and_update();
        self.served
            .wait_for(|served| *served >= now + 3)
            .await
            .unwrap();
    }

    fn target(&self, labels: &[(&str, &str)]) -> ScrapeTarget {
        let labels = Labels::new(labels.to_vec());
        ScrapeTarget {
            url: self.url.clone(),
            labels,
            interval: Duration::from_millis(10),
        }
    }
}

/// The series that a query gives now, as text.
fn ask(store: &Store, text: &str) -> Vec<String> {
    match query(
        store,
        &Limits::default(),
        text,
        Timestamp::now().as_millisecond(),
    ) {
        Ok(Answer::Vector(points)) => points
            .iter()
            .map(|point| format!("{} {}", point.labels, point.sample.value))
            .collect(),
        other => vec![format!("{other:?}")],
    }
}

#[tokio::test]
async fn labels_of_the_target_go_before_those_of_the_text() {
    let mut exposer =
        Exposer::start("jobs_total{pod=\"mine\",kind=\"a\"} 3 1395066363000\nempty{kind=\"\"} 1\n")
            .await;
    let store = Arc::new(Store::default());
    let mut scraper = Scraper::new(store.clone());
    scraper.set_targets([exposer.target(&[("pod", "web-1"), ("instance", "i")])]);
    exposer.scraped().await;
    let wanted = r#"jobs_total{exported_pod="mine", instance="i", kind="a", pod="web-1"} 3"#;
    assert_eq!(ask(&store, "jobs_total"), [wanted]);
    assert_eq!(
        ask(&store, "empty"),
        [r#"empty{instance="i", pod="web-1"} 1"#]
    );
    assert_eq!(ask(&store, "up"), [r#"up{instance="i", pod="web-1"} 1"#]);
    assert_eq!(
        ask(&store, "scrape_samples_scraped"),
        [r#"scrape_samples_scraped{instance="i", pod="web-1"} 2"#]
    );
    assert_eq!(ask(&store, "scrape_duration_seconds >= 0").len(), 1);
}

#[tokio::test]
async fn a_series_ends_when_it_is_missing_when_a_scrape_fails_and_with_its_target() {
    let mut exposer = Exposer::start("a 1\nb 2\n").await;
    let instance = exposer
        .url
        .trim_start_matches("http://")
        .trim_end_matches("/metrics")
        .to_owned();
    let store = Arc::new(Store::default());
    let mut scraper = Scraper::new(store.clone());
    scraper.set_targets([exposer.target(&[])]);
    exposer.scraped().await;
    assert_eq!(
        ask(&store, "b"),
        [format!("b{{instance=\"{instance}\"}} 2")]
    );

    exposer.show(200, "a 1\n");
    exposer.scraped().await;
    assert_eq!(
        (ask(&store, "a").len(), ask(&store, "b").len()),
        (1, 0),
        "b is missing"
    );

    let too_many = "a 1\n".repeat(MAX_SAMPLES + 1);
    let too_long = format!("# {}\na 1\n", "x".repeat(MAX_BODY_BYTES));
    for (status, page) in [
        (500, "a 1\n".into()),
        (200, "a 1\nb\n".into()),
        (200, vec![b'a', b' ', b'1', 0xff]),
        (200, too_many.into()),
        (200, too_long.into()),
    ] {
        exposer.show(status, page);
        exposer.scraped().await;
        assert_eq!(ask(&store, "a"), [""; 0], "the scrape failed");
        assert_eq!(
            ask(&store, "up"),
            [format!("up{{instance=\"{instance}\"}} 0")]
        );
        exposer.show(200, "a 1\n");
        exposer.scraped().await;
        assert_eq!(
            (ask(&store, "a").len(), ask(&store, "up == 1").len()),
            (1, 1),
            "and works again"
        );
    }

    scraper.set_targets([]);
    assert_eq!(
        (ask(&store, "a").len(), ask(&store, "up").len()),
        (0, 0),
        "the target is gone"
    );
}

#[tokio::test]
async fn a_target_that_stays_is_not_started_anew() {
    let mut exposer = Exposer::start("a 1\n").await;
    let store = Arc::new(Store::default());
    let mut scraper = Scraper::new(store.clone());
    for _ in 0..3 {
        scraper.set_targets([exposer.target(&[("pod", "a")])]);
        exposer.scraped().await;
    }
    assert_eq!(
        ask(&store, "changes(up[1m])"),
        [format!(
            r#"{{instance="{}", pod="a"}} 0"#,
            instance(&exposer)
        )]
    );
    scraper.set_targets([exposer.target(&[("pod", "b")])]);
    exposer.scraped().await;
    assert_eq!(ask(&store, "count by (pod) (up)"), [r#"{pod="b"} 1"#]);
}

fn instance(exposer: &Exposer) -> &str {
    exposer
        .url
        .trim_start_matches("http://")
        .trim_end_matches("/metrics")
}

#[tokio::test]
async fn nobody_there_is_down() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let store = Arc::new(Store::default());
    let mut scraper = Scraper::new(store.clone());
    let interval = Duration::from_millis(10);
    scraper.set_targets(
        [
            "http://127.0.0.1:1/",
            "not an address",
            &format!("http://{free}/metrics"),
        ]
        .map(|url| ScrapeTarget {
            url: url.to_owned(),
            labels: Labels::new([("pod", url)]),
            interval,
        }),
    );
    let all_down = async {
        while ask(&store, "count(up == 0)") != ["{} 3"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_down)
        .await
        .expect("three targets are down");
}

#[tokio::test]
async fn the_store_is_asked_over_http_by_several_clients_at_once() {
    let mut exposer = Exposer::start("a{b=\"c\"} 1.5\n").await;
    let store = Arc::new(Store::default());
    let mut scraper = Scraper::new(store.clone());
    scraper.set_targets([exposer.target(&[("instance", "i")])]);
    exposer.scraped().await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, Api::new(store, Limits::default())));
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let ask = |query: &str| {
        client.get(
            format!("http://{address}/api/v1/query?query={query}")
                .parse()
                .unwrap(),
        )
    };
    let answers = futures_util::future::join_all((0..50).map(|n| ask(&format!("a*{n}")))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        let body = answer
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            answer["data"]["result"][0]["value"][1],
            (n as f64 * 1.5).to_string()
        );
    }
    server.abort();
    let _ = server.await;
    assert!(ask("1").await.is_err(), "connections end with the server");
}
