//! The life of one request: taken in, routed, tried at pods until one takes it, answered.
//!
//! When a request may be tried again (RFC 9110, 9.2.2, and stricter):
//! - no connection could be made, or nothing of the request left: always, at another pod;
//! - the connection died without a byte of an answer, because it had been idle or with its pod: only requests that are safe
//!   to repeat (idempotent methods) and of whose body nothing was taken, on a new connection. If that one dies as well, once
//!   more at another pod: a pod may be killed, but a request that kills its pod must not go through all of them;
//! - otherwise never. Requests that are not safe to repeat use idle connections only if those were busy a moment ago
//!   and are open now, so that they seldom meet a pod that is just closing one.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    ops::Deref,
    sync::{Arc, Mutex, atomic::Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::{
    body::{Body, Incoming},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;

use super::{
    account::{Account, Trouble},
    body::{Copying, Gate, Kept, Passing, RequestBody, ResponseBody},
    config::Protocol,
    guard::Watch,
    headers::{self, Client},
    mirror,
    pods::{Lease, Pod, lock},
    shared::{Open, Shared},
    spare::Spare,
    stats::{OTHER, method_label},
    table::{Listener, Route},
    upstream::{self, Connection, Reuse, SendFailure},
};

/// Attempts for one request; more pods than this being dead at once means that the machine is in trouble.
const ATTEMPTS: usize = 8;

/// Rules as one connection knows them. Its requests share a pointer of its own, so that workers do not fight over one count of
/// references.
pub(super) struct Known(pub(super) Arc<Listener>);

impl Deref for Known {
    type Target = Listener;

    fn deref(&self) -> &Listener {
        &self.0
    }
}

/// One client's connection.
pub(super) struct Caller {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: usize,
    /// Name of the listener that it came in by.
    pub(super) listener: Arc<str>,
    pub(super) client: Client,
    pub(super) watch: Arc<Watch>,
    /// The rules that it knows, and their number.
    pub(super) rules: Mutex<(u64, Arc<Known>)>,
    /// Holds the counts of the listener's and the worker's connections, also for tunnels.
    pub(super) open: [Open; 2],
}

impl Caller {
    /// The rules in force now, and their number. A listener that was just removed keeps its last ones for those still
    /// connected.
    fn rules(&self) -> (u64, Arc<Known>) {
        let version = self.shared.version.load(Ordering::Acquire);
        let mut rules = lock(&self.rules);
        if rules.0 != version {
            let table = self.shared.table();
            if let Some(listener) = table.listeners.get(&*self.listener) {
                rules.1 = Arc::new(Known(Arc::clone(listener)));
            }
            rules.0 = version;
        }
        rules.clone()
    }

    /// Counts a request that the library has answered by itself, with this status: its head could not be read.
    pub(super) fn refused(&self, status: StatusCode) {
        let unrouted = &self.rules().1.unrouted;
        let mut account = Account::open(self.worker, unrouted, OTHER, Instant::now(), None);
        account.answered(status);
        account.settle(Some(Trouble::of_refusal(status)));
    }
}

/// Answers one request.
pub(super) async fn serve(
    caller: Arc<Caller>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let started = Instant::now();
    let (mut version, mut rules) = caller.rules();
    let (mut head, body) = request.into_parts();
    let http1 = head.version < Version::HTTP_2;
    let account = Account::open(
        caller.worker,
        &rules.unrouted,
        method_label(&head.method),
        started,
        Some(Arc::clone(&caller.watch)),
    );
    if http1 && caller.watch.next_is_ambiguous() {
        return Ok(account.fail(Trouble::BadRequest, http1));
    }
    let on_client = head.extensions.remove::<OnUpgrade>();
    let upgrade = match headers::take_in(&mut head, &caller.client) {
        Ok(upgrade) => upgrade.zip(on_client),
        Err(trouble) => return Ok(account.fail(trouble, http1)),
    };
    let Some(route) = rules.route(&head) else {
        return Ok(account.fail(Trouble::NoRoute, http1));
    };
    let mut attempt = Attempt {
        caller: &caller,
        kept_at: None,
        repeatable: is_idempotent(&head.method),
        lost: false,
        expects: !body.is_end_stream() && head.headers.contains_key(header::EXPECT),
        body: Intake::new(&caller, route, &head, body),
        upgrade,
        head: Some(head),
        account,
    };
    loop {
        let Some(route) = attempt.head.as_ref().and_then(|head| rules.route(head)) else {
            return Ok(attempt.account.fail(Trouble::NoRoute, http1));
        };
        let trouble = match attempt.run(route).await {
            Ok(response) => return Ok(response),
            Err(trouble) => trouble,
        };
        let known = version;
        (version, rules) = caller.rules();
        // A configuration that came in between drains the pods that it no longer names: they are not to be had, while
        // the new ones are.
        if version == known || attempt.head.is_none() {
            return Ok(attempt.account.fail(trouble, http1));
        }
    }
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// The body of a request, ready to be sent more than once as long as nothing of it is taken.
enum Intake {
    Empty,
    Streaming(Arc<Kept>),
}

impl Intake {
    fn new(caller: &Arc<Caller>, route: &Route, head: &Parts, body: Incoming) -> Self {
        if body.is_end_stream() {
            mirror::start(caller, route, head, None);
            return Self::Empty;
        }
        let mut copying = Copying::default();
        mirror::start(caller, route, head, Some(&mut copying));
        Self::Streaming(Kept::new(body, copying.is_wanted().then_some(copying)))
    }

    fn taken(&self) -> bool {
        matches!(self, Self::Streaming(kept) if kept.taken())
    }

    fn broken(&self) -> bool {
        matches!(self, Self::Streaming(kept) if kept.broken())
    }
}

/// A request on its way to a pod.
struct Attempt<'a> {
    caller: &'a Arc<Caller>,
    /// The version that the client's cookie keeps it at.
    kept_at: Option<usize>,
    repeatable: bool,
    /// A new connection died with it: one such death is the pod's fault, a second one its own.
    lost: bool,
    /// The client waits for `100 Continue`.
    expects: bool,
    body: Intake,
    upgrade: Option<(HeaderValue, OnUpgrade)>,
    /// Gone only while a connection has it.
    head: Option<Parts>,
    account: Account,
}

impl Attempt<'_> {
    /// On failure the head is still here if another route may be tried.
    async fn run(&mut self, route: &Route) -> Result<Response<ResponseBody>, Trouble> {
        self.account.route(&route.unserved);
        self.kept_at = self
            .head
            .as_ref()
            .and_then(|head| route.kept_at(&head.headers));
        let worker = self.caller.worker;
        let mut tried: Vec<Arc<Pod>> = Vec::new();
        let mut target = self.kept_at;
        let mut reuse = if self.repeatable {
            Reuse::Any
        } else {
            Reuse::Fresh
        };
        let mut trouble = None;
        for _ in 0..ATTEMPTS {
            let choice = match route.choose(worker, target, &tried) {
                Ok(choice) => choice,
                // Nobody is left to try: the first fault says more than that.
                Err(none) => return Err(trouble.unwrap_or(none)),
            };
            let at = choice.target;
            target = Some(at);
            let pod = &choice.endpoint.pod;
            self.account.assign(&choice.endpoint.tally, choice.lease);
            let Ok(mut connection) = self.connect(reuse).await else {
                pod.count_retry();
                tried.push(Arc::clone(pod));
                trouble = Some(Trouble::ConnectFailed);
                continue;
            };
            match self.send(route, &mut connection).await {
                Ok(response) => return self.pass_on(route, at, response, connection).await,
                Err(Fault::Final(trouble)) => return Err(trouble),
                Err(Fault::Again) => {
                    pod.count_retry();
                    if !connection.reused() {
                        tried.push(Arc::clone(pod));
                    }
                    reuse = Reuse::Never;
                    trouble = Some(Trouble::ConnectionLost);
                }
            }
        }
        Err(trouble.unwrap_or(Trouble::NoReadyPod))
    }

    async fn connect(&self, reuse: Reuse) -> std::io::Result<Connection> {
        let Some(lease) = self.account.lease() else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        if self.upgrade.is_some() && lease.pod().key.protocol == Protocol::Http1 {
            upstream::tunnel(lease).await
        } else {
            upstream::connection(lease, self.caller.worker, reuse).await
        }
    }

    async fn send(
        &mut self,
        route: &Route,
        connection: &mut Connection,
    ) -> Result<Response<Incoming>, Fault> {
        let reused = connection.reused();
        let (request, spare) = self.made_for(connection)?;
        // Pinned here, so that its bytes are not moved once more.
        let sending = std::pin::pin!(connection.send(request));
        let Some(sent) = within(route.timeout, sending).await else {
            return Err(Fault::Final(Trouble::TimedOut));
        };
        sent.map_err(|failure| self.judge(failure, spare, reused))
    }

    /// The request for this connection, and its head once more if it may be repeated.
    fn made_for(
        &mut self,
        connection: &Connection,
    ) -> Result<(Request<RequestBody>, Option<Spare>), Fault> {
        let Some(mut head) = self.head.take() else {
            return Err(Fault::Final(Trouble::ConnectionLost));
        };
        let spare = self
            .may_repeat(connection.reused())
            .then(|| Spare::of(&head));
        let protocol = match connection {
            Connection::H1(_) | Connection::Tunnel(_) => Protocol::Http1,
            Connection::H2 { .. } => Protocol::H2c,
        };
        headers::speak(&mut head, protocol, self.upgrade.as_ref().map(|(to, _)| to));
        let gate = (self.expects && protocol == Protocol::Http1).then(Gate::new);
        let (gate, opener) = gate.unzip();
        let body = match &self.body {
            Intake::Empty => RequestBody::Empty,
            Intake::Streaming(kept) => kept.attempt(gate),
        };
        let mut request = Request::from_parts(head, body);
        if let Some(opener) = opener {
            hyper::ext::on_informational(&mut request, move |informational| {
                if informational.status() == StatusCode::CONTINUE {
                    opener.open();
                }
            });
        }
        Ok((request, spare))
    }

    /// Whether it may be sent again although a pod may have seen it.
    fn may_repeat(&self, reused: bool) -> bool {
        self.repeatable && (reused || !self.lost)
    }

    /// Whether the request may be tried again, and if not, whose fault it was.
    fn judge(&mut self, failure: SendFailure, spare: Option<Spare>, reused: bool) -> Fault {
        if self.body.broken() {
            return Fault::Final(Trouble::BadBody);
        }
        let nothing_left = failure.unsent.is_some() || !failure.left;
        let may_repeat = self.may_repeat(reused) && !failure.answered;
        let head = failure
            .unsent
            .map(|request| request.into_parts().0)
            .or_else(|| spare?.restore());
        if head.is_some() && !self.body.taken() && (nothing_left || may_repeat) {
            self.head = head;
            self.lost |= !reused && !nothing_left;
            return Fault::Again;
        }
        Fault::Final(
            if failure.answered && !failure.error.is_incomplete_message() {
                Trouble::BadAnswer
            } else {
                Trouble::ConnectionLost
            },
        )
    }

    async fn pass_on(
        &mut self,
        route: &Route,
        target: usize,
        response: Response<Incoming>,
        connection: Connection,
    ) -> Result<Response<ResponseBody>, Trouble> {
        let (mut head, body) = response.into_parts();
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let upgrade = self.upgrade.take().filter(|_| switched);
        if switched && upgrade.is_none() {
            return Err(Trouble::BadAnswer);
        }
        headers::give_out(head.status, &mut head.headers);
        if self.kept_at != Some(target)
            && let Some(cookie) = route.cookie_for(target)
        {
            head.headers.append(header::SET_COOKIE, cookie.clone());
        }
        self.account.answered(head.status);
        if let Some((_, client)) = upgrade {
            let pod = head.extensions.remove::<OnUpgrade>();
            let lease = self.account.settle_keeping_lease();
            if let Some(pod) = pod {
                self.caller.watch.stop();
                tokio::spawn(tunnel(client, pod, lease, self.caller.open.clone()));
            }
            return Ok(Response::from_parts(
                head,
                ResponseBody::Whole(Bytes::new()),
            ));
        }
        // The library's own notes about the pod's connection do not concern the client's.
        head.extensions.clear();
        head.version = Version::HTTP_11;
        let h1 = match connection {
            Connection::H1(h1) => Some(h1),
            Connection::H2 { .. } | Connection::Tunnel(_) => None,
        };
        let mut passing = Passing::new(body, h1, self.account.take());
        poll_fn(|cx| {
            passing.end_if_empty(cx);
            Poll::Ready(())
        })
        .await;
        Ok(Response::from_parts(head, passing.into_body()))
    }
}

enum Fault {
    /// Another attempt is harmless.
    Again,
    Final(Trouble),
}

async fn within<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    match limit {
        None => Some(future.await),
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
    }
}

/// Carries bytes both ways until both sides have ended. The pod counts as busy for that long.
async fn tunnel(client: OnUpgrade, pod: OnUpgrade, lease: Option<Lease>, open: [Open; 2]) {
    if let Ok((client, pod)) = futures_util::future::try_join(client, pod).await {
        // An end that breaks has nobody left to be told.
        let _ =
            tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(pod)).await;
    }
    drop((lease, open));
}
