//! A proxy between a controller and the API server that breaks what it is told to break.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossfade_test_cluster::{Actor, Cluster, Trouble};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused, because somebody else has changed the object in between.
    Conflict,
    /// It is done, and nobody hears of it.
    Lost,
    /// It is refused, because there are too many.
    TooMany,
    /// That a run has failed is refused, until [`Proxy::mend`].
    Verdict,
}

/// A running proxy.
pub(crate) struct Proxy {
    address: SocketAddr,
    struck: Arc<AtomicUsize>,
    mended: Arc<AtomicBool>,
    cuts: watch::Sender<()>,
    serving: JoinHandle<()>,
}

struct Breaking {
    client: Client,
    fault: Option<Fault>,
    /// How often each write was asked for.
    asked: Mutex<BTreeMap<String, usize>>,
    struck: Arc<AtomicUsize>,
    mended: Arc<AtomicBool>,
}

impl Proxy {
    /// Passes what this actor asks for on to the API server. With a fault, every write is struck once, and goes through when it is
    /// tried again; Events and Leases are spared.
    pub(crate) async fn start(
        cluster: &Cluster,
        actor: Actor,
        fault: Option<Fault>,
    ) -> Result<Self, Trouble> {
        let struck = Arc::new(AtomicUsize::new(0));
        let mended = Arc::new(AtomicBool::new(false));
        let breaking = Arc::new(Breaking {
            client: cluster.client(actor).await?,
            fault,
            asked: Mutex::default(),
            struck: Arc::clone(&struck),
            mended: Arc::clone(&mended),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, cut) = watch::channel(());
        let serving = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (breaking, mut cut) = (Arc::clone(&breaking), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let answer = service_fn(|request| answer(&breaking, request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(connection), answer);
                    tokio::select! {
                        _ = connection => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self {
            address,
            struck,
            mended,
            cuts,
            serving,
        })
    }

    /// A client that goes through here.
    pub(crate) fn client(&self) -> Client {
        let address = format!("http://{}", self.address).parse().unwrap();
        crossfade_kube::client(Config::new(address)).unwrap()
    }

    /// Breaks off every connection: watches, and what is under way.
    pub(crate) fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// Breaks nothing more.
    pub(crate) fn mend(&self) {
        self.mended.store(true, Ordering::Relaxed);
    }

    /// How many requests were struck.
    pub(crate) fn struck(&self) -> usize {
        self.struck.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
        self.cut();
    }
}

/// Nobody hears of the answer.
#[derive(Debug, thiserror::Error)]
#[error("lost")]
struct Lost;

async fn answer(breaking: &Breaking, request: Request<Incoming>) -> Result<Response<Body>, Lost> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    let path = head.uri.path().to_owned();
    let fault = breaking.fault.filter(|fault| {
        if breaking.mended.load(Ordering::Relaxed) {
            return false;
        }
        let writes = match fault {
            Fault::Verdict => {
                let text = String::from_utf8_lossy(&body);
                return path.contains("/analysisruns/") && text.contains("\"Failed\"");
            }
            Fault::Conflict => head.method == Method::PATCH || head.method == Method::DELETE,
            Fault::Lost | Fault::TooMany => head.method != Method::GET,
        };
        let spared = path.contains("/events") || path.contains("/leases");
        if !writes || spared {
            return false;
        }
        let mut asked = breaking
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let times = asked.entry(format!("{} {path}", head.method)).or_default();
        *times += 1;
        *times % 2 == 1
    });
    if fault.is_some() {
        breaking.struck.fetch_add(1, Ordering::Relaxed);
    }
    let refuse = |code: u16, reason: &str| {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": "struck by the test",
        });
        let answer = Response::builder()
            .status(code)
            .header("content-type", "application/json")
            .body(Body::from(status.to_string().into_bytes()));
        Ok(answer.unwrap())
    };
    match fault {
        Some(Fault::Conflict) => return refuse(409, "Conflict"),
        Some(Fault::Verdict) => return refuse(403, "Forbidden"),
        Some(Fault::TooMany) => return refuse(429, "TooManyRequests"),
        Some(Fault::Lost) | None => {}
    }
    let mut passed = Request::builder().method(head.method).uri(head.uri);
    for (name, value) in &head.headers {
        if !["host", "content-length", "connection"].contains(&name.as_str()) {
            passed = passed.header(name, value);
        }
    }
    let passed = passed.body(Body::from(body.to_vec())).unwrap();
    let answered = breaking.client.send(passed).await.map_err(|_| Lost)?;
    if fault == Some(Fault::Lost) {
        return Err(Lost);
    }
    Ok(answered)
}
