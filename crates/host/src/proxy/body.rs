//! Bodies on their way through.
//!
//! [`RequestBody`] goes from client to pod. It knows whether any of it was taken, gives itself back if not
//! ([`Kept`]), can wait for the pod's `100 Continue` ([`Gate`]), and feeds the copy for a mirror ([`Copying`]).
//! [`ResponseBody`] goes from pod to client, drives the pod's connection while it does, and settles the account of the
//! request when it ends, however it ends.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{sync::oneshot, time::Sleep};

use super::{
    account::{Account, Trouble},
    pods::lock,
    upstream::H1,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A pod that says nothing for this long after `Expect: 100-continue` gets the body anyway, as RFC 9110, 10.1.1 asks
/// of clients.
const CONTINUE_AFTER: Duration = Duration::from_secs(1);
/// Longest body that is copied for a mirror, in bytes; a longer one is not mirrored.
const COPY_MAX: usize = 1 << 20;

/// What is sent to a pod.
pub(super) enum RequestBody {
    /// Nothing.
    Empty,
    /// A copy for a mirror.
    Copied(Bytes),
    /// What the client sends.
    Streaming(Box<Streaming>),
}

/// A client's body in the hands of a connection.
pub(super) struct Streaming {
    kept: Arc<Kept>,
    gate: Option<Gate>,
    hint: SizeHint,
    ended: bool,
}

/// The hold that the request keeps on its body while a connection sends it.
pub(super) struct Kept {
    body: Mutex<Held>,
    taken: AtomicBool,
    broken: AtomicBool,
}

struct Held {
    body: Incoming,
    copy: Option<Copying>,
}

impl Kept {
    pub(super) fn new(body: Incoming, copy: Option<Copying>) -> Arc<Self> {
        Arc::new(Self {
            body: Mutex::new(Held { body, copy }),
            taken: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    /// Some of it was handed to a connection: it cannot be sent again.
    pub(super) fn taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// The client did not send it properly.
    pub(super) fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// For one attempt at sending it.
    pub(super) fn attempt(self: &Arc<Self>, gate: Option<Gate>) -> RequestBody {
        let hint = lock(&self.body).body.size_hint();
        RequestBody::Streaming(Box::new(Streaming {
            kept: Arc::clone(self),
            gate,
            hint,
            ended: false,
        }))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Copied(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Copied(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streaming(streaming) => streaming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Copied(bytes) => bytes.is_empty(),
            Self::Streaming(streaming) => streaming.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Copied(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streaming(streaming) => streaming.hint,
        }
    }
}

impl Streaming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(gate) = &mut self.gate {
            if gate.poll_open(cx).is_pending() {
                return Poll::Pending;
            }
            self.gate = None;
        }
        let mut held = lock(&self.kept.body);
        let Held { body, copy } = &mut *held;
        let polled = Pin::new(&mut *body).poll_frame(cx);
        if polled.is_ready() {
            self.kept.taken.store(true, Ordering::Relaxed);
        }
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                self.ended = body.is_end_stream() || frame.is_trailers();
                if let (Some(copy), Some(data)) = (copy.as_mut(), frame.data_ref()) {
                    copy.add(data);
                }
            }
            Poll::Ready(Some(Err(_))) => {
                self.kept.broken.store(true, Ordering::Relaxed);
                *copy = None;
            }
            Poll::Ready(None) => self.ended = true,
        }
        if self.ended
            && let Some(copy) = copy.take()
        {
            copy.finish();
        }
        polled.map_err(Into::into)
    }
}

/// Holds a body back until the pod wants it.
pub(super) struct Gate {
    open: Arc<Open>,
    patience: Option<Pin<Box<Sleep>>>,
}

/// Opens a [`Gate`].
#[derive(Default)]
pub(super) struct Open {
    open: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Open {
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
        if let Some(waker) = lock(&self.waiting).take() {
            waker.wake();
        }
    }
}

impl Gate {
    pub(super) fn new() -> (Self, Arc<Open>) {
        let open = Arc::new(Open::default());
        (
            Self {
                open: Arc::clone(&open),
                patience: None,
            },
            open,
        )
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        *lock(&self.open.waiting) = Some(cx.waker().clone());
        if self.open.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(CONTINUE_AFTER)))
            .as_mut()
            .poll(cx)
    }
}

/// Collects the copy of a body for mirrors, up to a bound.
#[derive(Default)]
pub(super) struct Copying {
    parts: Vec<Bytes>,
    length: usize,
    waiting: Vec<oneshot::Sender<Bytes>>,
}

impl Copying {
    /// The whole body, once it has gone by; fails if it was too long or did not come to its end.
    pub(super) fn receiver(&mut self) -> oneshot::Receiver<Bytes> {
        let (done, copy) = oneshot::channel();
        self.waiting.push(done);
        copy
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn add(&mut self, data: &Bytes) {
        self.length += data.len();
        if self.length > COPY_MAX {
            self.waiting.clear();
            self.parts.clear();
        } else {
            self.parts.push(data.clone());
        }
    }

    fn finish(self) {
        let whole: Bytes = match self.parts.as_slice() {
            [one] => one.clone(),
            parts => parts.concat().into(),
        };
        for done in self.waiting {
            // The mirror may have given up.
            let _ = done.send(whole.clone());
        }
    }
}

/// What is sent to a client.
pub(super) enum ResponseBody {
    /// Nothing, or a text of our own.
    Whole(Bytes),
    /// What the pod sends.
    Passing(Box<Passing>),
}

/// A pod's body on its way to the client.
pub(super) struct Passing {
    body: Incoming,
    /// The connection, if nobody else drives it.
    h1: Option<Box<H1>>,
    account: Option<Account>,
    ended: bool,
}

impl Passing {
    pub(super) fn new(body: Incoming, h1: Option<Box<H1>>, account: Account) -> Self {
        Self {
            body,
            h1,
            account: Some(account),
            ended: false,
        }
    }

    /// An answer without a body ends with its head.
    pub(super) fn end_if_empty(&mut self, cx: &mut Context<'_>) {
        if self.body.is_end_stream() {
            self.end(cx);
        }
    }

    /// The body as the server wants it.
    pub(super) fn into_body(self) -> ResponseBody {
        if self.ended {
            ResponseBody::Whole(Bytes::new())
        } else {
            ResponseBody::Passing(Box::new(self))
        }
    }

    /// Everything has come: the connection is free for the next request.
    fn end(&mut self, cx: &mut Context<'_>) {
        self.ended = true;
        if let Some(account) = self.account.take() {
            if let Some(h1) = self.h1.take() {
                account.put_back(h1, cx);
            }
            account.settle(None);
        }
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(h1) = &mut self.h1 else {
            return Pin::new(&mut self.body).poll_frame(cx);
        };
        // As with the head: only driving the connection brings frames, so no waker is left with the body.
        let mut quiet = Context::from_waker(Waker::noop());
        let first = Pin::new(&mut self.body).poll_frame(&mut quiet);
        if first.is_ready() {
            return first;
        }
        h1.drive(cx);
        Pin::new(&mut self.body).poll_frame(&mut quiet)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let passing = match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Whole(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Passing(passing) => passing,
        };
        if passing.ended {
            return Poll::Ready(None);
        }
        let polled = passing.poll_body(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                // The server does not ask again after the last frame.
                if passing.body.is_end_stream() || frame.is_trailers() {
                    passing.end(cx);
                }
            }
            Poll::Ready(None) => passing.end(cx),
            Poll::Ready(Some(Err(_))) => {
                passing.ended = true;
                passing.h1 = None;
                if let Some(account) = passing.account.take() {
                    account.settle(Some(Trouble::AnswerCutShort));
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Passing(passing) => passing.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Passing(passing) => passing.body.size_hint(),
        }
    }
}
