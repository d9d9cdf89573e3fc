//! Copies of requests, sent and forgotten.
//!
//! The original waits for nothing of a copy: the body is put aside while it goes by, and the copy leaves after it.
//! What would pile up is dropped and counted.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header, request::Parts};
use hyper::body::Body;
use tokio::sync::oneshot;

use super::{
    account::{Account, Trouble},
    body::{Copying, Passing, RequestBody},
    config::Protocol,
    forward::Caller,
    headers,
    shared::Shared,
    stats::method_label,
    table::{Route, Target},
    upstream::{self, Connection, Reuse},
};

/// Tells a pod that nobody sees its answer.
const MIRROR_HEADER: HeaderName = HeaderName::from_static("x-crossfade-mirror");
/// The longest a copy may take, the wait for its body included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the copies of a request; those of requests with a body wait for it.
pub(super) fn start(caller: &Caller, route: &Route, head: &Parts, mut body: Option<&mut Copying>) {
    for (target, percent) in &route.mirrors {
        if !route.is_mirrored(caller.worker, *percent) {
            continue;
        }
        let Ok(permit) = Arc::clone(&caller.shared.mirrors).try_acquire_owned() else {
            caller
                .shared
                .mirrors_dropped
                .fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let mut head = head.clone();
        head.extensions.clear();
        head.headers
            .insert(MIRROR_HEADER, HeaderValue::from_static("true"));
        head.headers.remove(header::EXPECT);
        let body = body.as_deref_mut().map(Copying::receiver);
        let copy = Mirrored {
            shared: Arc::clone(&caller.shared),
            worker: caller.worker,
            target: Arc::clone(target),
        };
        tokio::spawn(async move {
            // Whatever becomes of it is counted on the way, and nobody waits for it.
            let _ = tokio::time::timeout(PATIENCE, copy.send(head, body)).await;
            drop(permit);
        });
    }
}

struct Mirrored {
    shared: Arc<Shared>,
    worker: usize,
    target: Arc<Target>,
}

impl Mirrored {
    async fn send(self, mut head: Parts, body: Option<oneshot::Receiver<Bytes>>) {
        let body = match body {
            None => Ok(Bytes::new()),
            Some(copy) => copy.await,
        };
        let Ok(body) = body else {
            self.shared.mirrors_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let Some((endpoint, lease)) = self.target.choose(self.worker, &[]) else {
            self.shared.mirrors_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.shared.mirrored.fetch_add(1, Ordering::Relaxed);
        let mut account = Account::open(
            self.worker,
            &endpoint.tally,
            method_label(&head.method),
            Instant::now(),
            None,
        );
        account.assign(&endpoint.tally, lease);
        let Some(lease) = account.lease() else { return };
        // A copy is never sent twice either.
        let Ok(mut connection) = upstream::connection(lease, self.worker, Reuse::Fresh).await
        else {
            account.fail(Trouble::ConnectFailed, true);
            return;
        };
        let protocol = match connection {
            Connection::H1(_) | Connection::Tunnel(_) => Protocol::Http1,
            Connection::H2 { .. } => Protocol::H2c,
        };
        headers::speak(&mut head, protocol, None);
        let body = if body.is_empty() {
            RequestBody::Empty
        } else {
            RequestBody::Copied(body)
        };
        let Ok(response) = connection.send(Request::from_parts(head, body)).await else {
            account.fail(Trouble::ConnectionLost, true);
            return;
        };
        account.answered(response.status());
        let h1 = match connection {
            Connection::H1(h1) => Some(h1),
            Connection::H2 { .. } | Connection::Tunnel(_) => None,
        };
        let mut answer = Passing::new(response.into_body(), h1, account).into_body();
        // Read to its end, so that the connection can be used again.
        while !answer.is_end_stream()
            && poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx))
                .await
                .is_some_and(|frame| frame.is_ok())
        {}
    }
}
