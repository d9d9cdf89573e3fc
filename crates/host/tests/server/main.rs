//! The API server and its client, over real sockets on a real store.

#![expect(clippy::unwrap_used, reason = "tests")]

mod bad_input;
mod doors;
mod objects;
mod own;
mod watches;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossfade_host::client::{Address, Client};
use crossfade_host::server::{Backend, Doors, LogStream, Patience, serve_with};
use crossfade_host::store::{Admission, Fault, Kind, Options, Store};
use crossfade_host::wire::{Explanation, Info, Listener, LogQuery, Reason, Status};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Warns of a field `odd` and refuses a field `bad`.
struct Picky;

impl Admission for Picky {
    fn admit(
        &self,
        _: Kind,
        new: &mut Value,
        _: Option<&Value>,
    ) -> Result<Vec<String>, Vec<Fault>> {
        if new.pointer("/spec/bad").is_some() {
            return Err(vec![Fault::new("spec.bad", "Invalid value: bad")]);
        }
        Ok(new
            .pointer("/spec/odd")
            .iter()
            .map(|_| "unknown field \"spec.odd\"".to_owned())
            .collect())
    }
}

/// A control plane that answers in a recognisable way.
struct Echo;

impl Backend for Echo {
    fn info(&self) -> Info {
        let listener = Listener {
            service: "web".to_owned(),
            namespace: "default".to_owned(),
            address: "127.0.0.1:80".to_owned(),
        };
        Info {
            listeners: vec![listener],
            metrics: Some("127.0.0.1:9090".to_owned()),
            ..Info::default()
        }
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        wanted: LogQuery,
    ) -> Result<LogStream, Status> {
        if pod == "none" {
            return Err(Status::failure(Reason::NotFound, "pods \"none\" not found"));
        }
        let first = Bytes::from(format!("{namespace}/{pod} {wanted:?}\n"));
        let head = futures_util::stream::iter([Ok(first), Ok(Bytes::from_static(b"second\n"))]);
        if wanted.follow {
            use futures_util::StreamExt as _;
            return Ok(Box::pin(head.chain(futures_util::stream::pending())));
        }
        Ok(Box::pin(head))
    }

    async fn explain(&self, _: Kind, _: &str, rollout: &str) -> Result<Explanation, Status> {
        Ok(Explanation {
            rollout: rollout.to_owned(),
            phase: "Paused".to_owned(),
            ..Explanation::default()
        })
    }

    async fn prometheus(&self, request: Request<Full<Bytes>>) -> Response<Full<Bytes>> {
        let secret = request.headers().contains_key("authorization");
        let line = format!(
            "{} {} authorization={secret} ",
            request.method(),
            request.uri()
        );
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::builder()
            .status(207)
            .body(Full::new(
                [line.into_bytes(), body.to_vec()].concat().into(),
            ))
            .unwrap()
    }
}

/// A running host: its store, its server, and a client of each door.
struct Fixture {
    store: Store,
    client: Client,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
    loopback: SocketAddr,
    token: String,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Options::new(Arc::new(Picky)), Patience::default())
    }

    fn with(options: Options, patience: Patience) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), options).unwrap();
        let doors = Doors::open(folder.path(), Some(([127, 0, 0, 1], 0).into())).unwrap();
        let client = Client::new(Address::Socket(doors.socket().to_owned()));
        let loopback = doors.loopback().unwrap();
        let token = std::fs::read_to_string(folder.path().join("token")).unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve_with(
            patience,
            store.clone(),
            Arc::new(Echo),
            doors,
            stop.clone(),
        ));
        Self {
            store,
            client,
            stop,
            server,
            loopback,
            token,
            folder,
        }
    }

    fn loopback_client(&self, token: &str) -> Client {
        Client::new(Address::parse(&format!("http://{}", self.loopback), Some(token)).unwrap())
    }

    async fn create(&self, kind: Kind, object: Value) -> Value {
        self.client.create(kind, "default", &object).await.unwrap()
    }
}

fn rollout(name: &str) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": name}, "spec": {"replicas": 1},
    })
}

/// Sends bytes as they are to the socket and gives back all that comes, until the server closes or is silent.
async fn raw(f: &Fixture, request: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::UnixStream::connect(f.folder.path().join("control.sock"))
        .await
        .unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match tokio::time::timeout(Duration::from_secs(2), stream.read(&mut piece)).await {
            Ok(Ok(n)) if n > 0 => answer.extend_from_slice(&piece[..n]),
            _ => return String::from_utf8_lossy(&answer).into_owned(),
        }
        if let Some((head, body)) = String::from_utf8_lossy(&answer).split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| {
                l.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .map(str::to_owned)
            });
            if length.and_then(|l| l.parse::<usize>().ok()) == Some(body.len()) {
                return String::from_utf8_lossy(&answer).into_owned();
            }
        }
    }
}
