//! A Prometheus, a server of values and webhooks beside the cluster, for as long as a test runs: what they answer, and what they were asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A Prometheus, webhooks (`/hook/…/<name>`), and values (`/value/…/<name>`). Every answer is good until it is told otherwise.
pub(crate) struct Beside {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    asked: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// What a kind of metric answers, `success`, `duration` or `custom`; or a value, by its name.
    metrics: BTreeMap<String, String>,
    /// The status that a hook answers with.
    hooks: BTreeMap<String, u16>,
    calls: Vec<(String, Value)>,
    queries: Vec<String>,
    paths: BTreeSet<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beside {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let all = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, Arc::clone(&all)));
            }
        });
        Self { address, shared }
    }

    /// From now on a kind of metric or a value is answered like this: a number, `down`; a kind also with `NaN`, `nodata`, or not at all: `silent`; a
    /// value also with any text.
    pub(crate) fn metric(&self, kind: &str, answer: &str) {
        let mut state = self.shared.state();
        state.metrics.insert(kind.to_owned(), answer.to_owned());
    }

    /// From now on a hook answers with this status.
    pub(crate) fn hook(&self, name: &str, status: u16) {
        self.shared.state().hooks.insert(name.to_owned(), status);
    }

    /// From now on a hook says no.
    pub(crate) fn close(&self, name: &str) {
        self.hook(name, 403);
    }

    /// From now on a hook says yes.
    pub(crate) fn open(&self, name: &str) {
        self.hook(name, 200);
    }

    /// The calls of hooks so far, in order: their names and what they were sent.
    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        self.shared.state().calls.clone()
    }

    /// How often a hook was called.
    pub(crate) fn called(&self, name: &str) -> usize {
        let state = self.shared.state();
        state.calls.iter().filter(|(one, _)| one == name).count()
    }

    /// Waits until a hook is called.
    pub(crate) async fn until_called(&self, name: &str) {
        let mut asked = self.shared.asked.subscribe();
        let called = asked.wait_for(|()| self.called(name) > 0);
        let called = tokio::time::timeout(Duration::from_mins(2), called).await;
        assert!(called.is_ok(), "{name} is never called");
    }

    /// The queries so far, but those for 1.
    pub(crate) fn queries(&self) -> Vec<String> {
        self.shared.state().queries.clone()
    }

    /// Paths under which metrics were asked for.
    pub(crate) fn paths(&self) -> BTreeSet<String> {
        self.shared.state().paths.clone()
    }
}

async fn answer(mut connection: TcpStream, shared: Arc<Shared>) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    let (head, body) = loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let line = line.to_lowercase();
                line.strip_prefix("content-length: ")?.trim().parse().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                break (head.to_owned(), body.to_owned());
            }
        }
        match connection.read(&mut part).await {
            Ok(count @ 1..) => request.extend_from_slice(&part[..count]),
            _ => return,
        }
    };
    let path = head.split(' ').nth(1).unwrap_or_default();
    let said = if path.starts_with("/hook/") {
        Some(hook(&shared, path, &body))
    } else if path.starts_with("/value/") {
        Some(value(&shared, path))
    } else if let Some(kind) = path.strip_prefix("/odd/") {
        odd(kind.split('/').next().unwrap_or_default())
    } else if path == "/fine" {
        Some((200, Vec::new()))
    } else {
        metric(&shared, path)
    };
    shared.asked.send_replace(());
    let Some((status, body)) = said else {
        // Whoever asks hangs up.
        let _ = connection.read(&mut part).await;
        return;
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nlocation: /fine\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = connection.write_all(head.as_bytes()).await;
    let _ = connection.write_all(&body).await;
}

/// What nobody should answer; `None` for no answer at all.
fn odd(kind: &str) -> Option<(u16, Vec<u8>)> {
    let value = |value: &str| (200, vector(&json!([{"metric": {}, "value": [1, value]}])));
    Some(match kind {
        "hang" => return None,
        "broken" | "down" => (500, b"out of order".to_vec()),
        "garbage" | "babble" => (403, vec![0xff, 0x00, b'?']),
        "big" => (200, vec![b'x'; 10_000_000]),
        "elsewhere" => (307, Vec::new()),
        "none" => (200, vector(&json!([]))),
        "nan" => value("NaN"),
        "text" => value("many"),
        _ => (200, Vec::new()),
    })
}

/// An answer of a Prometheus.
fn vector(result: &Value) -> Vec<u8> {
    let data = json!({"resultType": "vector", "result": result});
    let answer = json!({"status": "success", "data": data});
    answer.to_string().into_bytes()
}

fn hook(shared: &Shared, path: &str, body: &str) -> (u16, Vec<u8>) {
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let body = serde_json::from_str(body).unwrap_or_default();
    let mut state = shared.state();
    let status = state.hooks.get(&name).copied().unwrap_or(200);
    state.calls.push((name, body));
    (status, Vec::new())
}

/// Answers with a value, or with a text as it stands.
fn value(shared: &Shared, path: &str) -> (u16, Vec<u8>) {
    let name = path.rsplit('/').next().unwrap_or_default();
    let state = shared.state();
    let told = state.metrics.get(name).map_or("0.99", String::as_str);
    match told.parse::<f64>() {
        Ok(value) => (200, json!({"value": value}).to_string().into_bytes()),
        Err(_) if told == "down" => (500, b"down".to_vec()),
        Err(_) => (200, told.as_bytes().to_vec()),
    }
}

/// Answers a query; `None` for no answer at all.
fn metric(shared: &Shared, path: &str) -> Option<(u16, Vec<u8>)> {
    let url = reqwest::Url::parse(&format!("http://prometheus{path}")).unwrap();
    let query = url.query_pairs().find(|(key, _)| key == "query");
    let query = query.map(|(_, query)| query.into_owned())?;
    let mut state = shared.state();
    state.paths.insert(url.path().to_owned());
    let kind = if query.contains("histogram_quantile") || query.contains("* 1000") {
        "duration"
    } else if query.contains("* 100") {
        "success"
    } else {
        "custom"
    };
    let usual = match kind {
        "success" => "100",
        "duration" => "0.1",
        _ => "5",
    };
    let told = state.metrics.get(kind).map_or(usual, String::as_str);
    // Whether it is there at all is asked by a query for 1.
    let is_probe = query.starts_with("vector(");
    let answer = match told {
        "silent" => return None,
        "down" => (503, b"come back later".to_vec()),
        told => {
            let value = if is_probe { "1" } else { told };
            let sample = json!({"metric": {}, "value": [1, value]});
            let result = match told {
                "nodata" if !is_probe => json!([]),
                _ => json!([sample]),
            };
            (200, vector(&result))
        }
    };
    if !is_probe {
        state.queries.push(query);
    }
    Some(answer)
}
