//! The paths, and what each answers.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::{Value, json};

use super::Desk;
use super::identity::{Caller, Denied, Verb};
use super::keeper::ChangeError;
use super::payload::Payload;
use super::record::{Action, GateId, ROLLBACK_GATE, Record, Who, check_gate_name};
use super::rules::{Asked, Refused, Verdict};
use super::store::StoreError;

/// An answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// The largest body that is read.
const LARGEST_BODY: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY: Duration = Duration::from_secs(30);
/// The id of a call, the same for all its attempts.
const CALL: &str = "x-crossfade-call";
/// The revision that a call is about.
const REVISION: &str = "x-crossfade-revision";
/// A check that only wants to know.
const DRY_RUN: &str = "x-crossfade-dry-run";
/// In these phases a hook's checksum is that of the revision before.
const BEFORE_A_RELEASE: [&str; 4] = ["Initialized", "Succeeded", "Failed", "Waiting"];

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// The subject of its certificate, verified.
    pub(super) certificate: Option<String>,
}

/// Which gates a path is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Gate,
    Rollback,
}

/// One request with its body.
struct Call<'a> {
    desk: &'a Desk,
    peer: &'a Peer,
    method: Method,
    headers: HeaderMap,
    query: Vec<(String, String)>,
    body: Bytes,
}

/// A text; an empty one has no type.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let body = body.into();
    let is_empty = body.is_empty();
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    if !is_empty {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
    }
    response
}

fn json_of(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = text(status, body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Answers a request.
pub(super) async fn answer(desk: &Desk, peer: &Peer, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let cleaned = clean(&path);
    if cleaned != path {
        return moved(&cleaned, request.uri().query());
    }
    match path.as_str() {
        "/healthz" | "/gate/approve" => return text(StatusCode::OK, "OK"),
        "/gate/halt" => return text(StatusCode::FORBIDDEN, "Forbidden"),
        "/metrics" => return metrics(desk).await,
        _ => {}
    }
    let (head, body) = request.into_parts();
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    let call = Call {
        desk,
        peer,
        method: head.method,
        headers: head.headers,
        query,
        body,
    };
    let answered = match path.as_str() {
        "/gate/check" => call.check(Family::Gate).await,
        "/gate/open" => call.change(Family::Gate, Action::Open).await,
        "/gate/close" => call.change(Family::Gate, Action::Close).await,
        "/rollback/check" => call.check(Family::Rollback).await,
        "/rollback/open" => call.change(Family::Rollback, Action::Open).await,
        "/rollback/close" => call.change(Family::Rollback, Action::Close).await,
        "/gate/refund" => call.refund().await,
        "/gate/status" => call.status().await,
        "/gate/list" => call.list().await,
        other => {
            let is_gate = other.starts_with("/gate/") || other.starts_with("/rollback/");
            if is_gate && desk.strict_paths {
                Err(text(StatusCode::NOT_FOUND, "unknown gate path"))
            } else if desk.tasks.are_there() {
                call.task().await
            } else {
                Err(text(StatusCode::NOT_FOUND, "not found"))
            }
        }
    };
    answered.unwrap_or_else(|refusal| refusal)
}

/// The path without doubled slashes and dots, as the reference's router wants it.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut cleaned = format!("/{}", parts.join("/"));
    if path.ends_with('/') && cleaned != "/" {
        cleaned.push('/');
    }
    cleaned
}

fn moved(path: &str, query: Option<&str>) -> Answer {
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(target) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(header::LOCATION, target);
    }
    response
}

async fn read_body(body: Incoming) -> Result<Bytes, Answer> {
    let reading = Limited::new(body, LARGEST_BODY).collect();
    match tokio::time::timeout(BODY, reading).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            let why = format!("the body is larger than {LARGEST_BODY} bytes");
            Err(text(StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Ok(Err(error)) => {
            tracing::error!(error, "reading the request body failed");
            Err(text(StatusCode::BAD_REQUEST, ""))
        }
        Err(_) => {
            tracing::error!("reading the request body failed: it does not arrive");
            Err(text(StatusCode::REQUEST_TIMEOUT, ""))
        }
    }
}

async fn metrics(desk: &Desk) -> Answer {
    let gates = match desk.keeper.all().await {
        Ok(gates) => gates,
        Err(error) => {
            desk.metrics.store_failed("list");
            tracing::warn!(%error, "metrics of gates are left out");
            Vec::new()
        }
    };
    let page = desk.metrics.render(&gates, desk.keeper.now());
    let mut response = text(StatusCode::OK, page);
    let form = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, form);
    response
}

impl Call<'_> {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn wants_json(&self) -> bool {
        self.header("accept").contains("application/json")
    }

    /// GET and HEAD are sent by whoever previews a link.
    fn only_looks(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    #[expect(
        clippy::result_large_err,
        reason = "a refusal is the whole answer, made once for a request"
    )]
    fn payload(&self) -> Result<Payload, Answer> {
        Payload::read(&self.body).map_err(|error| {
            tracing::error!(error, "decoding the request body failed");
            text(StatusCode::BAD_REQUEST, "")
        })
    }

    fn refusal(&self, status: StatusCode, word: &str) -> Answer {
        if self.wants_json() {
            return json_of(status, &json!({"error": word}));
        }
        text(status, word.to_owned())
    }

    fn forbidden(&self) -> Answer {
        self.refusal(StatusCode::FORBIDDEN, "Forbidden")
    }

    fn may_name(&self, namespace: &str) -> bool {
        let allowed = self.desk.namespaces.as_ref();
        allowed.is_none_or(|allowed| allowed.is_match(namespace))
    }

    fn caller(&self) -> Caller {
        let bearer = self.header("authorization");
        let bearer = bearer
            .get(..7)
            .filter(|scheme| scheme.eq_ignore_ascii_case("bearer "))
            .and_then(|_| bearer.get(7..))
            .map(|token| token.trim().to_owned());
        Caller {
            address: self.peer.address,
            certificate: self.peer.certificate.clone(),
            bearer,
        }
    }

    fn nobody(&self) -> Who {
        Who {
            auth: "none",
            source_ip: self.peer.address.to_canonical().to_string(),
            ..Who::default()
        }
    }

    /// Lets the call in. `action` is what is refused otherwise.
    async fn admit(
        &self,
        verb: Verb,
        gate: &GateId,
        action: Option<Action>,
    ) -> Result<Who, Answer> {
        let keeper = &self.desk.keeper;
        match self.desk.guard.admit(verb, gate, &self.caller()).await {
            Ok(who) => Ok(who),
            Err(Denied::Unauthorized) => {
                if let Some(action) = action {
                    keeper
                        .refuse(gate, action, "Unauthorized", "", &self.nobody())
                        .await;
                }
                let mut answer = self.refusal(StatusCode::UNAUTHORIZED, "Unauthorized");
                let bearer = HeaderValue::from_static("Bearer");
                answer
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, bearer);
                Err(answer)
            }
            Err(Denied::Forbidden(who)) => {
                if let Some(action) = action {
                    keeper.refuse(gate, action, "Forbidden", "", &who).await;
                }
                Err(self.forbidden())
            }
            Err(Denied::Unavailable(error)) => {
                tracing::error!(error, "nobody can say whose this token is");
                Err(self.refusal(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "authentication unavailable",
                ))
            }
        }
    }

    fn unavailable(&self, operation: &str, error: &StoreError) -> Answer {
        self.desk.metrics.store_failed(operation);
        tracing::error!(%error, operation, "gate store unavailable");
        self.refusal(StatusCode::SERVICE_UNAVAILABLE, "gate store unavailable")
    }

    fn bad(&self, why: &str) -> Answer {
        self.refusal(StatusCode::BAD_REQUEST, why)
    }

    /// The payload of a check: a GET may put it into its query.
    #[expect(
        clippy::result_large_err,
        reason = "a refusal is the whole answer, made once for a request"
    )]
    fn asked(&self, family: Family) -> Result<(Payload, String), Answer> {
        let in_query = self.parameter("name").or(self.parameter("namespace"));
        if self.only_looks() && in_query.is_some() {
            let part = |name| self.parameter(name).unwrap_or_default().to_owned();
            let payload = Payload {
                name: part("name"),
                namespace: part("namespace"),
                phase: part("phase"),
                checksum: part("checksum"),
                ..Payload::default()
            };
            return Ok((payload, self.gate_in_query(family)?));
        }
        let payload = self.payload()?;
        let gate = match family {
            Family::Gate => payload.gate().map_err(|why| self.bad(&why))?,
            Family::Rollback => ROLLBACK_GATE.to_owned(),
        };
        Ok((payload, gate))
    }

    #[expect(
        clippy::result_large_err,
        reason = "a refusal is the whole answer, made once for a request"
    )]
    fn gate_in_query(&self, family: Family) -> Result<String, Answer> {
        match (family, self.parameter("gate")) {
            (Family::Rollback, _) => Ok(ROLLBACK_GATE.to_owned()),
            (Family::Gate, None) => Ok(super::DEFAULT_GATE.to_owned()),
            (Family::Gate, Some(gate)) => {
                check_gate_name(gate).map_err(|why| self.bad(&why))?;
                Ok(gate.to_owned())
            }
        }
    }

    async fn check(&self, family: Family) -> Result<Answer, Answer> {
        let (payload, gate) = self.asked(family)?;
        if !self.may_name(&payload.namespace) {
            return Err(self.forbidden());
        }
        let gate = GateId::new(&payload.namespace, &payload.name, &gate);
        let who = self.admit(Verb::Check, &gate, None).await?;
        let is_of_the_one_before = BEFORE_A_RELEASE.contains(&payload.phase.as_str());
        let revision = match self.header(REVISION) {
            "" if is_of_the_one_before => String::new(),
            "" => payload.checksum.clone(),
            revision => revision.to_owned(),
        };
        let is_true = |text: &str| matches!(text, "true" | "1" | "True");
        let asked = Asked {
            revision,
            call: self.header(CALL).to_owned(),
            dry: is_true(self.header(DRY_RUN)) || self.parameter("dryRun").is_some_and(is_true),
        };
        // Nobody can have opened a gate of no Canary.
        let verdict = if payload.name.is_empty() || payload.namespace.is_empty() {
            Ok(Verdict::Refused)
        } else {
            self.desk.keeper.check(&gate, asked, &who).await
        };
        let counted = match &verdict {
            Ok(Verdict::Granted) => "granted",
            Ok(Verdict::Refused) => "refused",
            Ok(Verdict::Expired) => "expired",
            Err(_) => "error",
        };
        self.desk.metrics.checked(&gate.gate, counted);
        let verdict = verdict.map_err(|error| self.unavailable("check", &error))?;
        let approved = verdict == Verdict::Granted;
        let canary = &gate.canary;
        match family {
            Family::Gate => {
                tracing::info!(gate = gate.gate, "{canary} gate check: approved {approved}");
            }
            Family::Rollback => {
                tracing::info!("rollback.{canary} rollback check: approved {approved}");
            }
        }
        Ok(if approved {
            text(StatusCode::OK, "Approved")
        } else {
            text(StatusCode::FORBIDDEN, "Forbidden")
        })
    }

    async fn change(&self, family: Family, action: Action) -> Result<Answer, Answer> {
        if self.only_looks() {
            return Err(self.not_by_looking());
        }
        let payload = self.payload()?;
        if !self.may_name(&payload.namespace) {
            return Err(self.forbidden());
        }
        let named = match family {
            Family::Gate => payload.gate().map_err(|why| self.bad(&why))?,
            Family::Rollback => ROLLBACK_GATE.to_owned(),
        };
        let gate = GateId::new(&payload.namespace, &payload.name, &named);
        let is_open = action == Action::Open;
        let verb = if is_open { Verb::Open } else { Verb::Close };
        let mut who = self.admit(verb, &gate, Some(action)).await?;
        if payload.name.is_empty() || payload.namespace.is_empty() {
            return Err(self.bad("name and namespace are required"));
        }
        let opening = payload.opening().map_err(|why| self.bad(&why))?;
        let says = payload.by().map_err(|why| self.bad(&why))?;
        if self.desk.guard.is_off() {
            who.by = says;
        }
        let keeper = &self.desk.keeper;
        let changed = if is_open {
            keeper.open(&gate, opening, &who).await
        } else {
            let (reason, version) = (&opening.reason, opening.expect_version);
            keeper.close(&gate, reason, version, &who).await
        };
        let record = changed.map_err(|why| self.unchanged(action, &why))?;
        let done = if is_open { "opened" } else { "closed" };
        let canary = &gate.canary;
        match family {
            Family::Gate => tracing::info!(gate = gate.gate, "{canary} gate {done}"),
            Family::Rollback => tracing::info!("rollback.{canary} rollback {done}"),
        }
        self.desk
            .metrics
            .changed(&gate.gate, action.word(), who.auth);
        Ok(self.accepted(&record))
    }

    fn accepted(&self, record: &Record) -> Answer {
        if self.wants_json() {
            return json_of(StatusCode::ACCEPTED, &record.shown(self.desk.keeper.now()));
        }
        text(StatusCode::ACCEPTED, "")
    }

    fn not_by_looking(&self) -> Answer {
        let mut answer = self.refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        let post = HeaderValue::from_static("POST");
        answer.headers_mut().insert(header::ALLOW, post);
        answer
    }

    fn unchanged(&self, action: Action, why: &ChangeError) -> Answer {
        match why {
            ChangeError::Store(error) => self.unavailable(action.word(), error),
            ChangeError::Refused(Refused::UnknownCall) => {
                self.refusal(StatusCode::NOT_FOUND, &why.to_string())
            }
            ChangeError::Refused(_) => self.refusal(StatusCode::CONFLICT, &why.to_string()),
        }
    }

    async fn refund(&self) -> Result<Answer, Answer> {
        if self.only_looks() {
            return Err(self.not_by_looking());
        }
        let payload = self.payload()?;
        if !self.may_name(&payload.namespace) {
            return Err(self.forbidden());
        }
        let named = payload.gate().map_err(|why| self.bad(&why))?;
        let gate = GateId::new(&payload.namespace, &payload.name, &named);
        let who = self
            .admit(Verb::Refund, &gate, Some(Action::Refund))
            .await?;
        if payload.name.is_empty() || payload.namespace.is_empty() {
            return Err(self.bad("name and namespace are required"));
        }
        let id = match self.header(CALL) {
            "" => payload.call_id(),
            id => id.to_owned(),
        };
        if id.is_empty() {
            return Err(
                self.bad("the id of the call is required: header X-Crossfade-Call, or callId")
            );
        }
        let refunded = self.desk.keeper.refund(&gate.canary, &id, &who).await;
        let record = refunded.map_err(|why| self.unchanged(Action::Refund, &why))?;
        self.desk
            .metrics
            .changed(&gate.gate, Action::Refund.word(), who.auth);
        Ok(self.accepted(&record))
    }

    async fn task(&self) -> Result<Answer, Answer> {
        let payload = self.payload()?;
        if !self.may_name(&payload.namespace) {
            return Err(self.forbidden());
        }
        let canary = GateId::new(&payload.namespace, &payload.name, super::DEFAULT_GATE);
        self.admit(Verb::Task, &canary, None).await?;
        let (status, body) = self.desk.tasks.answer(&payload).await;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Ok(text(status, body))
    }

    async fn status(&self) -> Result<Answer, Answer> {
        let part = |name| self.parameter(name).unwrap_or_default();
        let (namespace, name) = (part("namespace"), part("name"));
        if !self.may_name(namespace) {
            return Err(self.forbidden());
        }
        let gate = GateId::new(namespace, name, &self.gate_in_query(Family::Gate)?);
        self.admit(Verb::List, &gate, None).await?;
        if name.is_empty() || namespace.is_empty() {
            return Err(self.bad("name and namespace are required"));
        }
        let record = self.desk.keeper.status(&gate).await;
        let record = record.map_err(|error| self.unavailable("status", &error))?;
        let value = match record {
            Some(record) => json!(record),
            None => json!({"open": false, "known": false}),
        };
        Ok(json_of(StatusCode::OK, &value))
    }

    async fn list(&self) -> Result<Answer, Answer> {
        let namespace = self.parameter("namespace").filter(|name| !name.is_empty());
        let gate = GateId::new(namespace.unwrap_or_default(), "", super::DEFAULT_GATE);
        self.admit(Verb::List, &gate, None).await?;
        let gates = self.desk.keeper.list(namespace).await;
        let mut gates = gates.map_err(|error| self.unavailable("list", &error))?;
        gates.retain(|gate| self.may_name(&gate.namespace));
        let list: Vec<Value> = gates.iter().map(|gate| json!(gate)).collect();
        Ok(json_of(StatusCode::OK, &list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_the_references_router_does() {
        for (path, cleaned) in [
            ("/", "/"),
            ("/gate/check", "/gate/check"),
            ("/gate/check/", "/gate/check/"),
            ("//gate//check", "/gate/check"),
            ("/gate/./check", "/gate/check"),
            ("/gate/../x/", "/x/"),
            ("/..", "/"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }
}
