//! What the controller answers over HTTP: whether it lives, whether it is ready, and its metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::context::Context;

/// Listens; who cannot listen does not start.
pub(crate) async fn open(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|why| format!("cannot listen on {address}: {why}"))
}

/// Whether the caches are filled, or somebody else leads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready(Arc<AtomicBool>);

impl Ready {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>, ready: Ready) {
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let (context, ready) = (Arc::clone(&context), ready.clone());
        connections.spawn(async move {
            let answering = service_fn(|request| {
                let answer = answer(&request, &context, &ready);
                async { Ok::<_, std::convert::Infallible>(answer) }
            });
            let connection = TokioIo::new(connection);
            // Who breaks off wants no answer.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(connection, answering)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

fn answer(request: &Request<Incoming>, context: &Context, ready: &Ready) -> Response<Full<Bytes>> {
    let (status, body) = match request.uri().path() {
        "/healthz" | "/livez" => (StatusCode::OK, "ok".to_owned()),
        "/readyz" if ready.is_set() => (StatusCode::OK, "ok".to_owned()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "objects are still being read".to_owned(),
        ),
        "/metrics" => (StatusCode::OK, context.metrics.render(context)),
        _ => (
            StatusCode::NOT_FOUND,
            "there is /healthz, /livez, /readyz and /metrics".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
