//! What holds for every provider that asks over HTTP: limits, redirects, pauses that a server asks for, TLS, proxies.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::host::{Host, error};
use super::prometheus::vector;
use super::server::{Reply, Server, nobody};

/// `OK`, compressed.
const OK_IN_GZIP: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xf3, 0xf7, 0x06, 0x00, 0x2d, 0xd9,
    0x36, 0xd7, 0x02, 0x00, 0x00, 0x00,
];

fn web(name: &str, url: &str, more: Value) -> Value {
    let mut provider = json!({"url": url});
    let fields = provider.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    json!({"name": name, "provider": {"web": provider}})
}

fn prometheus(name: &str, address: &str) -> Value {
    json!({"name": name, "provider": {"prometheus": {"address": address, "query": "up"}}})
}

fn instant(measurement: &Value, member: &str) -> Timestamp {
    let text = measurement[member].as_str().expect("a time");
    text.parse().expect("a time")
}

#[tokio::test]
async fn providers_17_an_answer_of_five_mebibytes_is_too_much_for_every_provider() {
    let server = Server::start(|asked| match asked.target.as_str() {
        "/most" => Reply::ok(&"x".repeat(4_194_304)),
        _ => Reply::Endless(5 * 1024 * 1024),
    });
    let host = Host::start().await;
    let measured = host
        .measure(json!([
            web("web", &server.url("/"), json!({})),
            web("most", &server.url("/most"), json!({})),
            prometheus("prometheus", &server.url("")),
        ]))
        .await;
    for name in ["web", "prometheus"] {
        assert_eq!(
            error(&measured[name]),
            "response body exceeds limit of 4194304 bytes"
        );
    }
    assert_eq!(
        measured["most"]["phase"], "Successful",
        "as much as is allowed is read"
    );
}

#[tokio::test]
async fn a_compressed_answer_is_read_and_a_compressed_flood_is_not() {
    let flood = Command::new("sh")
        .args(["-c", "head -c 100000000 /dev/zero | gzip"])
        .stderr(Stdio::null())
        .output()
        .expect("gzip runs")
        .stdout;
    assert!(flood.len() > 1000 && flood.len() < 1_000_000);
    let server = Server::start(move |asked| {
        let body = if asked.target == "/flood" {
            flood.clone()
        } else {
            OK_IN_GZIP.to_vec()
        };
        Reply::Answer(200, vec![("Content-Encoding", "gzip".to_owned())], body)
    });
    let host = Host::start().await;
    let measured = host
        .measure(json!([
            web("small", &server.url("/"), json!({})),
            web("flood", &server.url("/flood"), json!({})),
        ]))
        .await;
    assert_eq!(measured["small"]["value"], "OK");
    assert_eq!(
        error(&measured["flood"]),
        "response body exceeds limit of 4194304 bytes"
    );
    let accepted = server.asked()[0].header("accept-encoding");
    assert!(accepted.is_some_and(|accepted| accepted.contains("gzip")));
}

#[tokio::test]
async fn every_request_says_who_asks() {
    let server = Server::start(|_| Reply::ok("1"));
    let host = Host::start().await;
    host.measure(json!([web("m", &server.url("/"), json!({}))]))
        .await;
    assert_eq!(
        server.asked_once().header("user-agent"),
        Some(format!("crossfade/{}", env!("CARGO_PKG_VERSION")))
    );
}

#[tokio::test]
async fn a_pause_that_fits_is_kept_and_the_request_repeated_once() {
    let seen = [
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    ];
    let server = Server::start(move |asked| {
        let again = |which: usize| seen[which].fetch_add(1, Ordering::Relaxed) > 0;
        match asked.target.as_str() {
            "/seconds" if again(0) => Reply::ok("1"),
            "/seconds" => Reply::with(429, "Retry-After", "1", ""),
            "/date" if again(1) => Reply::ok("1"),
            "/date" => {
                let soon = Timestamp::now() + jiff::SignedDuration::from_secs(2);
                let date = jiff::fmt::rfc2822::DateTimePrinter::new();
                let date = date.timestamp_to_rfc9110_string(&soon).expect("a date");
                Reply::with(503, "Retry-After", &date, "")
            }
            "/past" if again(2) => Reply::with(503, "Retry-After", "0", ""),
            _ => Reply::with(503, "Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT", ""),
        }
    });
    let host = Host::start().await;
    let begun = Instant::now();
    let measured = host
        .measure(json!([
            web("seconds", &server.url("/seconds"), json!({})),
            web("date", &server.url("/date"), json!({})),
            web("past", &server.url("/past"), json!({})),
        ]))
        .await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    for name in ["seconds", "date"] {
        assert_eq!(measured[name]["phase"], "Successful", "{measured:?}");
    }
    assert_eq!(
        error(&measured["past"]),
        "received non 2xx response code: 503 (retry after 0s)"
    );
    let times = |path: &str| {
        let asked = server.asked();
        asked.iter().filter(|asked| asked.target == path).count()
    };
    assert_eq!(
        (times("/seconds"), times("/date"), times("/past")),
        (2, 2, 2)
    );
}

#[tokio::test]
async fn a_pause_that_does_not_fit_is_told_and_kept_before_the_next_measurement() {
    let server = Server::start(|asked| {
        let pause = match asked.target.as_str() {
            "/30" => "30",
            "/hour" => "3600",
            "/for-ever" => "18446744073709551615",
            "/soon" => "soon",
            _ => return Reply::with(429, "Retry-After", "30", "{}"),
        };
        Reply::with(503, "Retry-After", pause, "B")
    });
    let host = Host::start().await;
    let measured = host
        .measure(json!([
            web("30", &server.url("/30"), json!({"timeoutSeconds": 10})),
            web("hour", &server.url("/hour"), json!({})),
            web("for-ever", &server.url("/for-ever"), json!({})),
            web("soon", &server.url("/soon"), json!({})),
            {"name": "prometheus", "provider": {"prometheus": {"address": server.url(""), "query": "up", "timeout": 10}}},
        ]))
        .await;
    let pause = |name: &str| {
        let ended = instant(&measured[name], "finishedAt");
        instant(&measured[name], "resumeAt")
            .duration_since(ended)
            .as_secs()
    };
    assert_eq!(
        error(&measured["30"]),
        "received non 2xx response code: 503 (retry after 30s)"
    );
    assert_eq!(pause("30"), 30);
    assert_eq!(
        error(&measured["prometheus"]),
        "client_error: client error: 429 (retry after 30s)"
    );
    assert_eq!(pause("prometheus"), 30);
    assert!(error(&measured["hour"]).ends_with(" (retry after 3600s)"));
    assert_eq!(pause("hour"), 300, "no server may ask for more");
    assert!(error(&measured["for-ever"]).starts_with("received non 2xx response code: 503"));
    assert_eq!(
        error(&measured["soon"]),
        "received non 2xx response code: 503"
    );
    assert_eq!(measured["soon"]["resumeAt"], Value::Null);
    assert_eq!(server.asked().len(), 5, "nothing is repeated");
}

#[tokio::test]
async fn redirects_are_followed_ten_times_and_with_the_method_they_name() {
    let server = Server::start(|asked| {
        let (_, rest) = asked.target.split_at(1);
        match rest.split_once('/') {
            Some(("hop", "0")) => Reply::ok("1"),
            Some(("hop", left)) => {
                let left: usize = left.parse().unwrap_or(0);
                Reply::with(302, "Location", &format!("{}", left.saturating_sub(1)), "")
            }
            Some(("by", status)) => {
                Reply::with(status.parse().unwrap_or(500), "Location", "/end", "")
            }
            _ => Reply::ok("1"),
        }
    });
    let host = Host::start().await;
    let post = json!({"method": "POST", "body": "v=1", "headers": [{"key": "Content-Type", "value": "text/x"}]});
    let mut metrics = vec![
        web("ten", &server.url("/hop/10"), json!({})),
        web("eleven", &server.url("/hop/11"), json!({})),
    ];
    for status in [301, 302, 303, 307, 308] {
        metrics.push(web(
            &format!("by-{status}"),
            &server.url(&format!("/by/{status}")),
            post.clone(),
        ));
    }
    let measured = host.measure(json!(metrics)).await;
    assert_eq!(measured["ten"]["phase"], "Successful", "{measured:?}");
    assert_eq!(
        error(&measured["eleven"]),
        format!(
            "GET \"{}\": stopped after 10 redirects",
            server.url("/hop/0")
        )
    );
    let mut ends: Vec<_> = server
        .asked()
        .iter()
        .filter(|asked| asked.target == "/end")
        .map(|asked| {
            (
                asked.method.clone(),
                asked.body.clone(),
                asked.header("content-type"),
            )
        })
        .collect();
    ends.sort();
    let get = ("GET".to_owned(), String::new(), None);
    let post = (
        "POST".to_owned(),
        "v=1".to_owned(),
        Some("text/x".to_owned()),
    );
    assert_eq!(
        ends,
        [get.clone(), get.clone(), get, post.clone(), post],
        "303 and its older kin become GET, 307 and 308 repeat method and body"
    );
}

#[tokio::test]
async fn credentials_stay_with_the_server_that_they_are_for() {
    let other = Server::start(|_| Reply::ok("1"));
    let away = other.url("/away");
    let server = Server::start(move |asked| match asked.target.as_str() {
        "/stay" => Reply::with(302, "Location", "/here", ""),
        "/leave" => Reply::with(307, "Location", &away, ""),
        _ => Reply::ok("1"),
    });
    let tokens = Server::start(|_| Reply::ok(r#"{"access_token":"tok","expires_in":60}"#));
    let host = Host::start().await;
    let secret = json!({"headers": [
        {"key": "Authorization", "value": "Bearer mine"}, {"key": "Cookie", "value": "session=mine"},
        {"key": "X-Api-Key", "value": "mine"}, {"key": "Accept", "value": "text/plain"}]});
    let token = json!({"authentication": {"oauth2": {"tokenUrl": tokens.url("/"), "clientId": "c", "clientSecret": "s"}}});
    let measured = host
        .measure(json!([
            web("stay", &server.url("/stay"), secret.clone()),
            web("leave", &server.url("/leave"), secret),
            web("leave-token", &server.url("/leave"), token),
        ]))
        .await;
    for name in ["stay", "leave", "leave-token"] {
        assert_eq!(measured[name]["phase"], "Successful", "{measured:?}");
    }
    let asked = server.asked();
    let here = asked.iter().find(|asked| asked.target == "/here");
    let here = here.expect("it was asked");
    assert_eq!(
        (here.header("authorization"), here.header("cookie")),
        (
            Some("Bearer mine".to_owned()),
            Some("session=mine".to_owned())
        )
    );
    assert_eq!(other.asked().len(), 2);
    for asked in other.asked() {
        for header in ["authorization", "cookie", "x-api-key"] {
            assert_eq!(asked.header(header), None, "{asked:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_with_its_address_and_without_its_query() {
    let nobody = nobody();
    let host = Host::start().await;
    let measured = host
        .measure(json!([
            web(
                "refused",
                &format!("http://{nobody}/path?key=hush"),
                json!({})
            ),
            web(
                "unknown",
                "http://no-such-host.invalid/path?key=hush",
                json!({"timeoutSeconds": 100})
            ),
            web("scheme", "ftp://127.0.0.1/path", json!({})),
            web("no-url", "not an address", json!({})),
            web(
                "header",
                "http://127.0.0.1:1/",
                json!({"headers": [{"key": "X-Key", "value": "two\nlines-of-hush"}]})
            ),
            web("method", "http://127.0.0.1:1/", json!({"method": "GET IT"})),
        ]))
        .await;
    assert_eq!(
        error(&measured["refused"]),
        format!("GET \"http://{nobody}/path\": connection refused")
    );
    assert_eq!(
        error(&measured["unknown"]),
        "GET \"http://no-such-host.invalid/path\": no such host"
    );
    assert_eq!(
        error(&measured["header"]),
        "GET \"http://127.0.0.1:1/\": the header \"X-Key\" has a name or a value that HTTP does not allow"
    );
    for (name, start) in [
        ("scheme", "GET \"ftp://127.0.0.1/path\": "),
        ("no-url", "GET \"not an address\": "),
        ("method", "GET IT \"http://127.0.0.1:1/\": "),
    ] {
        let text = error(&measured[name]);
        assert!(text.starts_with(start), "{text}");
    }
    assert!(!json!(measured).to_string().contains("hush"));
}

#[tokio::test]
async fn certificates_are_checked_unless_the_metric_says_otherwise() {
    let server = Server::start_tls(|asked| {
        Reply::ok(&if asked.target == "/" {
            "1".to_owned()
        } else {
            vector(&["1"])
        })
    });
    let tokens = Server::start_tls(|_| Reply::ok(r#"{"access_token":"tok","expires_in":60}"#));
    let token =
        json!({"oauth2": {"tokenUrl": tokens.url("/"), "clientId": "c", "clientSecret": "s"}});
    let metrics = json!([
        web("web", &server.url("/"), json!({})),
        web("web-insecure", &server.url("/"), json!({"insecure": true})),
        prometheus("prometheus", &server.url("")),
        {"name": "prometheus-insecure", "provider": {"prometheus": {"address": server.url(""), "query": "up",
            "insecure": true, "authentication": token}}},
    ]);
    let host = Host::start().await;
    let measured = host.measure(metrics.clone()).await;
    for name in ["web-insecure", "prometheus-insecure"] {
        assert_eq!(measured[name]["phase"], "Successful", "{measured:?}");
    }
    for name in ["web", "prometheus"] {
        let text = error(&measured[name]);
        assert!(
            text.contains(&server.url("/")) && text.contains("certificate"),
            "{text}"
        );
    }
    let trusted = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/measuring/data/localhost.crt"
    );
    let host = Host::start_with(&[("SSL_CERT_FILE", trusted)]).await;
    for (name, measurement) in host.measure(metrics).await {
        assert_eq!(measurement["phase"], "Successful", "{name}: {measurement}");
    }
}

#[tokio::test]
async fn a_proxy_is_asked_for_what_is_not_on_this_machine() {
    let proxy = Server::start(|_| Reply::ok("\"by proxy\""));
    let server = Server::start(|_| Reply::ok("\"directly\""));
    let url = proxy.url("");
    let host = Host::start_with(&[("HTTP_PROXY", &url), ("NO_PROXY", "spared.example")]).await;
    let measured = host
        .measure(json!([
            web("away", "http://metrics.example/path?a=1", json!({})),
            web("insecure", "http://metrics.example/insecure", json!({"insecure": true})),
            prometheus("prometheus", "http://prometheus.example.com"),
            web("here", &server.url("/"), json!({})),
            web("localhost", &format!("http://localhost:{}/", server.address().port()), json!({})),
            web("spared", "http://spared.example/", json!({"timeoutSeconds": 100})),
            {"name": "store", "provider": {"prometheus": {"query": "vector(1)"}}},
            {"name": "alias", "provider": {"prometheus": {"address": "http://prometheus:9090", "query": "vector(1)"}}},
        ]))
        .await;
    assert_eq!(measured["away"]["value"], "\"by proxy\"");
    assert_eq!(measured["insecure"]["value"], "\"by proxy\"");
    assert!(error(&measured["prometheus"]).starts_with("bad_response: "));
    assert_eq!(measured["here"]["value"], "\"directly\"");
    assert_eq!(measured["localhost"]["value"], "\"directly\"");
    assert!(error(&measured["spared"]).contains("no such host"));
    for name in ["store", "alias"] {
        assert_eq!(
            measured[name]["phase"], "Successful",
            "the metric store is on this machine: {measured:?}"
        );
    }
    let mut asked: Vec<_> = proxy
        .asked()
        .into_iter()
        .map(|asked| asked.target)
        .collect();
    asked.sort();
    assert_eq!(
        asked,
        [
            "http://metrics.example/insecure",
            "http://metrics.example/path?a=1",
            "http://prometheus.example.com/api/v1/query"
        ]
    );
}

#[tokio::test]
async fn ten_at_a_time_ask_one_server_and_waiting_takes_no_time_from_anybody() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let server = Server::start(|_| {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_secs(1));
        NOW.fetch_sub(1, Ordering::SeqCst);
        Reply::ok("1")
    });
    let host = Host::start().await;
    let metrics: Vec<_> = (0..55)
        .map(|number| {
            web(
                &format!("m{number}"),
                &server.url("/"),
                json!({"timeoutSeconds": 5}),
            )
        })
        .collect();
    let begun = Instant::now();
    let measured = host.measure(json!(metrics)).await;
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "the last had to wait longer than its own time"
    );
    assert_eq!(measured.len(), 55);
    for (name, measurement) in measured {
        assert_eq!(measurement["phase"], "Successful", "{name}: {measurement}");
    }
    let most = MOST.load(Ordering::SeqCst);
    assert!((2..=10).contains(&most), "{most} at a time");
}
