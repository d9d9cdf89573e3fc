//! The API server: the store and the control plane behind HTTP, in the form of the Kubernetes REST API.
//!
//! Start at [`serve`]. `doors` opens the Unix socket and, if wanted, a loopback port with a token; `route` reads paths;
//! `objects` answers for stored objects, `watching` streams their changes, `own` is everything below `/crossfade/v1/`. What
//! only the control plane knows (logs, explanations, metrics) comes from a [`Backend`].
//!
//! Whatever arrives, the answer is a `Status` and not a panic: bodies, headers and waiting times are bounded.

mod answer;
mod backend;
mod doors;
mod objects;
mod own;
mod route;
mod watching;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use answer::Body;
pub use backend::{Backend, LogStream};
pub use doors::{DoorError, Doors};

use crate::store::{Act, Store};
use crate::wire::{Reason, Status};
use answer::refusal;
use route::Route;

/// The largest body that is read. The manifests of a large installation have a tenth of it.
const LARGEST_BODY: usize = 16 << 20;
/// Connections at a time; each watch has one.
const CONNECTIONS: usize = 1024;
/// How long to wait when no connection can be accepted, as when all file handles are in use.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How long the server waits for its clients, and they for it.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head, on a new connection or an idle one.
    pub head: Duration,
    /// For a request's body.
    pub body: Duration,
    /// For an answer, streams aside.
    pub answer: Duration,
}

impl Default for Patience {
    /// Ten seconds, thirty seconds, two minutes.
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            answer: Duration::from_mins(2),
        }
    }
}

/// What every request needs.
struct Desk<B> {
    store: Store,
    backend: Arc<B>,
    stop: CancellationToken,
    patience: Patience,
}

/// One request, read.
struct Call {
    method: Method,
    route: Route,
    query: Vec<(String, String)>,
    headers: http::HeaderMap,
    /// Path and query as they came.
    uri: http::Uri,
    body: Bytes,
    act: Act,
}

impl Call {
    /// A parameter of the query; empty when absent.
    fn parameter(&self, name: &str) -> &str {
        self.query
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// Whether a parameter is set and true.
    fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), "true" | "1" | "True")
    }

    /// A parameter that must be a number when it is there.
    fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        match self.parameter(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| bad_request(format!("{name}={text:?} is no whole number"))),
        }
    }
}

/// A request that makes no sense.
fn bad_request(why: impl Into<String>) -> Status {
    Status::failure(Reason::BadRequest, why)
}

/// Serves until `stop` is cancelled and the requests under way have been answered; watches and followed logs end at once.
pub async fn serve<B: Backend>(
    store: Store,
    backend: Arc<B>,
    doors: Doors,
    stop: CancellationToken,
) {
    serve_with(Patience::default(), store, backend, doors, stop).await;
}

/// As [`serve`], with other limits of time.
pub async fn serve_with<B: Backend>(
    patience: Patience,
    store: Store,
    backend: Arc<B>,
    doors: Doors,
    stop: CancellationToken,
) {
    let desk = Arc::new(Desk {
        store,
        backend,
        stop: stop.clone(),
        patience,
    });
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = Arc::clone(&free).acquire_owned() => permit,
        };
        let visitor = tokio::select! {
            () = stop.cancelled() => break,
            visitor = doors.next() => visitor,
        };
        match visitor {
            Ok(visitor) => {
                let desk = Arc::clone(&desk);
                connections.spawn(async move {
                    match visitor.stream {
                        doors::Stream::Socket(stream) => converse(desk, stream, visitor.who).await,
                        doors::Stream::Loopback(stream) => {
                            converse(desk, stream, visitor.who).await;
                        }
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(doors);
    connections.close();
    connections.wait().await;
}

/// One connection, from its first request to its end.
async fn converse<B: Backend, S>(desk: Arc<Desk<B>>, stream: S, who: doors::Who)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stop, patience) = (desk.stop.clone(), desk.patience);
    let who = Arc::new(who);
    let service = service_fn(move |request| {
        let (desk, who) = (Arc::clone(&desk), Arc::clone(&who));
        async move {
            Ok::<_, Infallible>(
                answer(&desk, &who, request)
                    .await
                    .unwrap_or_else(|status| refusal(&status)),
            )
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A connection that breaks off concerns its client only.
    let _ = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(patience.head, connection).await.unwrap_or(Ok(()))
        }
    };
}

async fn answer<B: Backend>(
    desk: &Arc<Desk<B>>,
    who: &doors::Who,
    request: Request<Incoming>,
) -> Result<Response<Body>, Status> {
    let route = Route::read(request.uri().path())?;
    if !matches!(route, Route::Health | Route::Ready) {
        who.admit(request.headers())?;
    }
    let act = acting(who, request.headers());
    let (head, body) = request.into_parts();
    let body = read_body(body, desk.patience.body).await?;
    let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    let call = Call {
        method: head.method,
        route,
        query,
        headers: head.headers,
        uri: head.uri,
        body,
        act,
    };
    let call = Call {
        act: call.act.clone().dry(is_dry_run(&call)?),
        ..call
    };
    let answering = async {
        match call.route.clone() {
            Route::Health => Ok(answer::text("ok")),
            Route::Ready => desk
                .backend
                .ready()
                .map(|()| answer::text("ok"))
                .map_err(|why| Status::failure(Reason::ServiceUnavailable, why)),
            Route::Collection(place) => objects::collection(desk, &call, &place).await,
            Route::Object(place) => objects::object(desk, &call, &place).await,
            Route::Own(own) => own::answer(desk, call, own).await,
        }
    };
    let late = |_| {
        Status::failure(
            Reason::Timeout,
            format!(
                "no answer within {} s; a write may still happen",
                desk.patience.answer.as_secs()
            ),
        )
    };
    tokio::time::timeout(desk.patience.answer, answering)
        .await
        .map_err(late)?
}

/// In whose name the request's writes happen, and what the audit trail says about them.
fn acting(who: &doors::Who, headers: &http::HeaderMap) -> Act {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .and_then(crate::wire::decode)
    };
    let action = header(crate::client::ACTION).filter(|a| !a.is_empty());
    Act::by_person(who.name()).doing(
        action.as_deref(),
        &header(crate::client::REASON).unwrap_or_default(),
    )
}

fn is_dry_run(call: &Call) -> Result<bool, Status> {
    match call.parameter("dryRun") {
        "" | "false" => Ok(false),
        "All" | "true" => Ok(true),
        other => Err(bad_request(format!("dryRun={other:?} is unknown; use All"))),
    }
}

async fn read_body(body: Incoming, patience: Duration) -> Result<Bytes, Status> {
    let too_large = || {
        Status::failure(
            Reason::RequestEntityTooLarge,
            format!("the body is larger than {LARGEST_BODY} bytes"),
        )
    };
    if body.size_hint().lower() > LARGEST_BODY as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(patience, Limited::new(body, LARGEST_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(bad_request(format!("the body cannot be read: {error}"))),
        Err(_) => Err(Status::failure(
            Reason::Timeout,
            format!("the body did not arrive within {} s", patience.as_secs()),
        )),
    }
}

/// The media type of a request's body, without its parameters.
fn media_type(headers: &http::HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}
