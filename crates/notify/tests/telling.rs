//! Hooks and channels against real servers that agree, refuse, hang, babble and send on.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossfade_api::flagger::{AlertProviderKind, AlertProviderSpec, SecretRef, Severity};
use crossfade_http::Http;
use crossfade_notify::channel::{Channel, News};
use crossfade_notify::hooks::{Grants, Hook, Hooks};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

/// A request as a server got it.
#[derive(Clone, Debug)]
struct Got {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// What a server answers to its n-th request; `None` hangs.
type Answer = fn(usize) -> Option<Response<Full<Bytes>>>;

struct Server {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let got = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&got);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a client");
                let all = Arc::clone(&all);
                let service = service_fn(move |request| take(request, Arc::clone(&all), answer));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { address, got }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().expect("sound").clone()
    }
}

async fn take(
    request: Request<Incoming>,
    all: Arc<Mutex<Vec<Got>>>,
    answer: Answer,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    };
    let number = {
        let mut all = all.lock().expect("sound");
        all.push(Got {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            headers: head.headers.iter().map(header).collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        all.len()
    };
    match answer(number) {
        Some(answer) => Ok(answer),
        None => std::future::pending().await,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "servers may hang")]
fn says(status: u16, body: impl Into<Bytes>) -> Option<Response<Full<Bytes>>> {
    let answer = Response::builder().status(status);
    Some(answer.body(Full::new(body.into())).expect("an answer"))
}

fn http() -> Http {
    Http::new(None).expect("HTTP")
}

fn hook(url: String) -> Hook {
    Hook {
        url,
        body: r#"{"name":"web","namespace":"prod"}"#.to_owned(),
        timeout: Duration::from_secs(20),
        budget: Duration::from_mins(1),
        retries: 0,
        insecure: false,
        revision: "cf1:abc".to_owned(),
        dry: false,
    }
}

async fn ask(hook: &Hook) -> Result<(), String> {
    Hooks::new(http(), Vec::new()).ask(hook).await.map(drop)
}

#[tokio::test]
async fn what_a_gate_granted_for_a_step_that_was_not_made_is_given_back_once() {
    let server = Server::start(|_| says(200, "")).await;
    let hooks = Hooks::new(http(), Vec::new());
    let grants = Grants::default();
    for path in ["/gate/check", "/may-it-go-on"] {
        let hook = hook(server.url(path));
        let call = hooks.ask(&hook).await.expect("yes");
        grants.add(hook, call);
    }
    grants.give_back(&hooks).await;
    grants.give_back(&hooks).await;
    let got = server.got();
    let paths: Vec<&str> = got.iter().map(|got| got.path.as_str()).collect();
    assert_eq!(paths, ["/gate/check", "/may-it-go-on", "/gate/refund"]);
    let call = "x-crossfade-call";
    assert_eq!(got[2].headers[call], got[0].headers[call]);
    assert_eq!(
        got[2].body, got[0].body,
        "the gate is named as it was asked"
    );

    let hook = hook(server.url("/gate/check"));
    let call = hooks.ask(&hook).await.expect("yes");
    grants.add(hook, call);
    grants.spend();
    grants.give_back(&hooks).await;
    assert_eq!(server.got().len(), 4, "what is spent is not given back");
}

#[tokio::test]
async fn a_gate_is_told_when_somebody_only_wants_to_know() {
    let server = Server::start(|_| says(200, "")).await;
    let mut hook = hook(server.url("/gate/check"));
    assert_eq!(ask(&hook).await, Ok(()));
    hook.dry = true;
    assert_eq!(ask(&hook).await, Ok(()));
    let got = server.got();
    let dry = "x-crossfade-dry-run";
    assert_eq!(got[0].headers.get(dry), None);
    assert_eq!(got[1].headers[dry], "true");
}

#[tokio::test]
async fn a_hook_is_posted_what_it_is_told_and_agrees_by_200_201_or_202() {
    let server = Server::start(|number| says([200, 201, 202][number - 1], "")).await;
    for _ in 0..3 {
        assert_eq!(ask(&hook(server.url("/gate/check"))).await, Ok(()));
    }
    let got = server.got();
    let first = &got[0];
    assert_eq!(
        (first.method.as_str(), first.path.as_str()),
        ("POST", "/gate/check")
    );
    assert_eq!(first.body, r#"{"name":"web","namespace":"prod"}"#);
    assert_eq!(first.headers["content-type"], "application/json");
    assert_eq!(first.headers["x-crossfade-revision"], "cf1:abc");
    assert_ne!(
        first.headers["x-crossfade-call"], got[1].headers["x-crossfade-call"],
        "each call is another"
    );
}

#[tokio::test]
async fn flagger_22_a_status_above_202_fails_by_its_body_and_500_is_tried_again() {
    let server = Server::start(|_| says(203, "not now")).await;
    let refused = ask(&hook(server.url("/"))).await;
    assert_eq!(refused, Err("not now".to_owned()));
    assert_eq!(server.got().len(), 1, "a refusal is an answer");

    let server = Server::start(|number| says(if number == 1 { 500 } else { 200 }, "")).await;
    let mut patient = hook(server.url("/"));
    patient.retries = 1;
    assert_eq!(ask(&patient).await, Ok(()));
    let got = server.got();
    assert_eq!(
        got[0].headers["x-crossfade-call"], got[1].headers["x-crossfade-call"],
        "attempts of one call are told as one"
    );
}

#[tokio::test]
async fn a_hook_that_stays_broken_is_given_up_with_what_it_said() {
    let server = Server::start(|_| says(500, "out of order\n")).await;
    let url = server.url("/check?token=secret");
    let why = ask(&hook(url)).await.expect_err("broken");
    let place = server.url("/check");
    assert_eq!(
        why,
        format!("POST {place} giving up after 1 attempt(s): out of order")
    );
    let server = Server::start(|_| says(501, "never")).await;
    let mut patient = hook(server.url("/"));
    patient.retries = 3;
    assert_eq!(ask(&patient).await, Err("never".to_owned()));
    assert_eq!(server.got().len(), 1, "501 does not pass");

    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}/", nobody.local_addr().expect("an address"));
    drop(nobody);
    let why = ask(&hook(url.clone())).await.expect_err("nobody is there");
    assert_eq!(
        why,
        format!("POST {url} giving up after 1 attempt(s): connection refused")
    );
}

#[tokio::test]
async fn flagger_23_a_hook_that_hangs_fails_when_its_time_is_up() {
    let server = Server::start(|_| None).await;
    let mut short = hook(server.url("/"));
    short.timeout = Duration::from_millis(300);
    let begun = Instant::now();
    let why = ask(&short).await.expect_err("it hangs");
    assert!(
        why.contains("giving up after 1 attempt(s): no answer within"),
        "{why}"
    );
    assert!(begun.elapsed() >= Duration::from_millis(300));

    let mut many = hook(server.url("/"));
    many.timeout = Duration::from_millis(300);
    many.retries = 100;
    many.budget = Duration::from_millis(1800);
    let why = ask(&many).await.expect_err("it hangs");
    // One attempt, a second to wait, another; the next wait would end after all time is up.
    assert!(why.contains("after 2 attempt(s)"), "{why}");
}

#[tokio::test]
async fn an_answer_of_ten_megabytes_is_cut_and_garbage_made_readable() {
    let server = Server::start(|_| says(200, vec![b'x'; 10_000_000])).await;
    assert_eq!(
        ask(&hook(server.url("/"))).await,
        Ok(()),
        "it agrees, however long"
    );
    let server = Server::start(|_| says(403, vec![b'x'; 10_000_000])).await;
    let why = ask(&hook(server.url("/"))).await.expect_err("refused");
    assert_eq!(why, "x".repeat(900));
    let server = Server::start(|_| says(403, vec![0xff, 0x1b, b'[', b'3', b'1', b'm', b'!'])).await;
    let why = ask(&hook(server.url("/"))).await.expect_err("refused");
    assert_eq!(why, "\u{fffd}\u{fffd}[31m!");
}

#[tokio::test]
async fn a_hook_is_followed_where_it_sends_on_to_but_not_for_ever() {
    let server = Server::start(|number| match number {
        1 => {
            let answer = Response::builder().status(307).header("location", "/next");
            answer.body(Full::default()).ok()
        }
        2 => {
            let answer = Response::builder().status(302).header("location", "/last");
            answer.body(Full::default()).ok()
        }
        _ => says(200, ""),
    })
    .await;
    assert_eq!(ask(&hook(server.url("/first"))).await, Ok(()));
    let got = server.got();
    let steps: Vec<(&str, &str, bool)> = got
        .iter()
        .map(|got| (got.method.as_str(), got.path.as_str(), got.body.is_empty()))
        .collect();
    assert_eq!(
        steps,
        [
            ("POST", "/first", false),
            ("POST", "/next", false),
            ("GET", "/last", true)
        ]
    );

    let server = Server::start(|_| {
        let answer = Response::builder().status(302).header("location", "/again");
        answer.body(Full::default()).ok()
    })
    .await;
    let mut patient = hook(server.url("/"));
    patient.retries = 5;
    let why = ask(&patient).await.expect_err("a circle");
    assert!(why.ends_with("stopped after 10 redirects"), "{why}");
    assert_eq!(server.got().len(), 11, "a circle is walked once");
}

#[tokio::test]
async fn hooks_reach_only_the_hosts_that_are_allowed() {
    let server = Server::start(|_| says(200, "")).await;
    let hooks = Hooks::new(http(), vec!["gates.*".to_owned()]);
    let refused = hooks.ask(&hook(server.url("/"))).await;
    assert_eq!(refused, Err("webhook URL not allowed".to_owned()));
    let hooks = Hooks::new(http(), vec!["127.*".to_owned()]);
    assert_eq!(hooks.ask(&hook(server.url("/"))).await.map(drop), Ok(()));
    assert_eq!(server.got().len(), 1);
}

fn provider(kind: AlertProviderKind, address: &str) -> AlertProviderSpec {
    AlertProviderSpec {
        kind,
        address: address.to_owned(),
        ..AlertProviderSpec::default()
    }
}

fn news(severity: Severity) -> News {
    News {
        severity,
        about: "web.prod".to_owned(),
        text: "Canary is waiting for approval.".to_owned(),
        fields: vec![("Target".to_owned(), "Deployment/web.prod".to_owned())],
    }
}

#[tokio::test]
async fn slack_gets_the_news_with_the_token_of_the_secret() {
    let server = Server::start(|_| says(200, "ok")).await;
    let mut spec = provider(AlertProviderKind::Slack, "");
    spec.channel = "releases".to_owned();
    spec.secret_ref = Some(SecretRef {
        name: "slack".to_owned(),
    });
    let secret = [
        ("address", server.url("/hook").as_str()),
        ("token", "xoxb-1\n"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let channel = Channel::of(&spec, Some(&secret)).expect("a channel");
    channel
        .tell(&http(), &news(Severity::Error))
        .await
        .expect("told");
    let got = server.got();
    assert_eq!(got[0].headers["authorization"], "Bearer xoxb-1");
    let body: Value = serde_json::from_str(&got[0].body).expect("JSON");
    assert_eq!(
        body,
        json!({
            "channel": "releases",
            "username": "flagger",
            "icon_url": "",
            "icon_emoji": ":rocket:",
            "attachments": [{
                "color": "danger",
                "author_name": "web.prod",
                "text": "Canary is waiting for approval.",
                "mrkdwn_in": ["text"],
                "fields": [{"title": "Target", "value": "Deployment/web.prod", "short": false}],
            }],
        })
    );
}

#[tokio::test]
async fn no_fault_of_a_channel_brings_its_address_to_light() {
    let server = Server::start(|_| says(404, "no_team")).await;
    let address = server.url("/services/T0/B0/secret");
    let channel = Channel::of(&provider(AlertProviderKind::Slack, &address), None);
    let channel = channel.expect("a channel");
    let why = channel.tell(&http(), &news(Severity::Info)).await;
    assert_eq!(why, Err("slack answered 404".to_owned()));
    let why = Channel::of(&provider(AlertProviderKind::Slack, "secret"), None).err();
    assert_eq!(why.as_deref(), Some("slack: its address is no URL"));
}

#[test]
fn channels_that_are_not_delivered_to_yet_say_so_by_name() {
    for (kind, name) in [
        (AlertProviderKind::MsTeams, "msteams"),
        (AlertProviderKind::Discord, "discord"),
        (AlertProviderKind::Rocket, "rocket"),
        (AlertProviderKind::GChat, "gchat"),
    ] {
        let why = Channel::of(&provider(kind, "http://x/"), None).err();
        let expected = format!("{name} is not delivered to yet; use slack");
        assert_eq!(why, Some(expected));
    }
    let mut spec = provider(AlertProviderKind::Slack, "");
    spec.secret_ref = Some(SecretRef {
        name: "gone".to_owned(),
    });
    assert_eq!(
        Channel::of(&spec, None).err().as_deref(),
        Some("secrets \"gone\" not found")
    );
    assert_eq!(
        Channel::of(&spec, Some(&BTreeMap::new())).err().as_deref(),
        Some("the Secret gone has no key address")
    );
}
