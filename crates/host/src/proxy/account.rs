//! The account of one request: when it came, who answers it, and how it ended.
//!
//! Every request is counted exactly once, when its answer has gone out in full or when it is given up; an account
//! that is dropped unsettled was given up by the client.

use std::{sync::Arc, task::Context, time::Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::{
    body::ResponseBody,
    guard::Watch,
    pods::{Lease, now_ms},
    stats::{Counter, Tally},
    upstream::H1,
};

/// Carries the reason when an answer is the data plane's own.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-crossfade-error");
/// The status that is counted when the client went away before there was an answer; never sent.
const CLIENT_CLOSED: u16 = 499;

/// Why a request did not get a pod's answer, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No route matches.
    NoRoute,
    /// All destinations have the weight zero.
    NoWeight,
    /// Destinations with a weight have no pod that may be used.
    NoReadyPod,
    /// No pod took the connection.
    ConnectFailed,
    /// The pod closed the connection without an answer, and the request cannot be repeated.
    ConnectionLost,
    /// What the pod sent is no HTTP.
    BadAnswer,
    /// The pod took too long.
    TimedOut,
    /// The request is malformed or its length is ambiguous.
    BadRequest,
    /// The head of the request is longer than is accepted, or has too many fields.
    HeadTooLarge,
    /// The body of the request is malformed.
    BadBody,
    /// CONNECT makes no sense here.
    MethodRefused,
    /// A transfer coding other than chunked.
    UnknownCoding,
    /// The pod ended its answer too early.
    AnswerCutShort,
    /// The client went away.
    ClientGone,
}

impl Trouble {
    /// The value of [`ERROR_HEADER`] and of the label `error`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::NoWeight => "no-weight",
            Self::NoReadyPod => "no-ready-pod",
            Self::ConnectFailed => "connect-failed",
            Self::ConnectionLost => "connection-lost",
            Self::BadAnswer => "bad-answer",
            Self::TimedOut => "timeout",
            Self::BadRequest => "bad-request",
            Self::HeadTooLarge => "head-too-large",
            Self::BadBody => "bad-body",
            Self::MethodRefused => "method-refused",
            Self::UnknownCoding => "unknown-transfer-coding",
            Self::AnswerCutShort => "answer-cut-short",
            Self::ClientGone => "client-gone",
        }
    }

    /// Why the library has refused a request by itself.
    pub(super) fn of_refusal(status: StatusCode) -> Self {
        if status == StatusCode::BAD_REQUEST {
            Self::BadRequest
        } else {
            Self::HeadTooLarge
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoWeight | Self::NoReadyPod => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::BadRequest | Self::BadBody | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Self::ConnectFailed | Self::ConnectionLost | Self::BadAnswer | Self::AnswerCutShort => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// The framing of the request is in doubt, so nothing after it can be trusted.
    fn closes(self) -> bool {
        matches!(
            self,
            Self::BadRequest
                | Self::HeadTooLarge
                | Self::BadBody
                | Self::MethodRefused
                | Self::UnknownCoding
        )
    }

    /// An answer that says it.
    pub(super) fn answer(self, http1: bool) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::Whole(Bytes::from_static(
            self.reason().as_bytes(),
        )));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(ERROR_HEADER, HeaderValue::from_static(self.reason()));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if self.closes() && http1 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The open account of a request.
pub(super) struct Account {
    worker: usize,
    counter: Option<Arc<Counter>>,
    lease: Option<Lease>,
    method: &'static str,
    started: Instant,
    status: u16,
    /// The client's connection, busy for as long as the account is open.
    watch: Option<Arc<Watch>>,
}

impl Account {
    pub(super) fn open(
        worker: usize,
        tally: &Tally,
        method: &'static str,
        started: Instant,
        watch: Option<Arc<Watch>>,
    ) -> Self {
        if let Some(watch) = &watch {
            watch.begin();
        }
        Self {
            worker,
            counter: tally.at(worker),
            lease: None,
            method,
            started,
            status: CLIENT_CLOSED,
            watch,
        }
    }

    /// A route was found; no pod yet.
    pub(super) fn route(&mut self, unserved: &Tally) {
        self.counter = unserved.at(self.worker);
    }

    /// Another pod is tried.
    pub(super) fn assign(&mut self, tally: &Tally, lease: Lease) {
        self.counter = tally.at(self.worker);
        self.lease = Some(lease);
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// The head of the answer is on its way.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// The connection may be used again.
    pub(super) fn put_back(&self, mut h1: Box<H1>, cx: &mut Context<'_>) {
        if let Some(lease) = &self.lease
            && h1.is_reusable(cx)
        {
            h1.idle_since = now_ms();
            lease.pod().keep_idle(self.worker, h1);
        }
    }

    /// Ends with an answer of our own.
    pub(super) fn fail(mut self, trouble: Trouble, http1: bool) -> Response<ResponseBody> {
        let answer = trouble.answer(http1);
        self.answered(answer.status());
        self.settle(Some(trouble));
        answer
    }

    /// Counts the request.
    pub(super) fn settle(mut self, trouble: Option<Trouble>) {
        self.count(trouble);
    }

    /// Hands the open account on; what stays behind counts nothing.
    pub(super) fn take(&mut self) -> Self {
        Self {
            worker: self.worker,
            counter: self.counter.take(),
            lease: self.lease.take(),
            method: self.method,
            started: self.started,
            status: self.status,
            watch: self.watch.take(),
        }
    }

    /// Counts the request now, and keeps the pod busy until the lease is dropped: for tunnels.
    pub(super) fn settle_keeping_lease(&mut self) -> Option<Lease> {
        self.count(None);
        self.lease.take()
    }

    fn count(&mut self, trouble: Option<Trouble>) {
        if let Some(counter) = self.counter.take() {
            counter.count(self.method, self.status, trouble, self.started.elapsed());
        }
        if let Some(watch) = self.watch.take() {
            watch.end();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.count(Some(Trouble::ClientGone));
    }
}
