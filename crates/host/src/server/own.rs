//! What is below `/crossfade/v1`: apply, audit, information, logs, explanations, metrics.

use std::sync::Arc;

use futures_util::StreamExt as _;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};

use super::answer::{self, Body};
use super::objects::{json_body, not_allowed};
use super::route::Own;
use super::{Backend, Call, Desk, bad_request};
use crate::store::{AuditFilter, Immutable};
use crate::wire::{ApplyRequest, Info, Items, LogQuery, Status};

/// Answers for everything of our own.
pub(super) async fn answer<B: Backend>(
    desk: &Arc<Desk<B>>,
    call: Call,
    own: Own,
) -> Result<Response<Body>, Status> {
    let expected = if own == Own::Apply {
        Method::POST
    } else {
        Method::GET
    };
    if !matches!(own, Own::Prometheus(_)) && call.method != expected {
        return Err(not_allowed(&call));
    }
    match own {
        Own::Apply => apply(desk, &call).await,
        Own::Audit => audit(desk, &call).await,
        Own::Info => info(desk),
        Own::Log { namespace, pod } => log(desk, &call, &namespace, &pod).await,
        Own::Explain {
            kind,
            namespace,
            name,
        } => {
            let explanation = desk.backend.explain(kind, &namespace, &name).await?;
            answer::json(StatusCode::OK, &explanation)
        }
        Own::Prometheus(path) => prometheus(desk, call, &path).await,
    }
}

async fn apply<B: Backend>(desk: &Desk<B>, call: &Call) -> Result<Response<Body>, Status> {
    let request: ApplyRequest = serde_json::from_value(json_body(call)?)
        .map_err(|error| bad_request(format!("the body is no apply request: {error}")))?;
    let namespace = match call.parameter("namespace") {
        "" => "default",
        namespace => namespace,
    };
    let immutable = if call.flag("force") {
        Immutable::Replace
    } else {
        Immutable::Refuse
    };
    let items = desk
        .store
        .apply(call.act.clone(), request, namespace, immutable)
        .await?;
    answer::json(StatusCode::OK, &Items { items })
}

async fn audit<B: Backend>(desk: &Desk<B>, call: &Call) -> Result<Response<Body>, Status> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let subject = call.parameter("subject");
    let (kind, name) = subject.split_once('/').unwrap_or(("", subject));
    // `ro/web` means what it means everywhere else.
    let kind = crate::store::Kind::of_word(kind).map_or(kind, |known| known.name());
    let filter = AuditFilter {
        namespace: some(call.parameter("namespace")),
        kind: some(kind),
        name: some(name),
        newest: call
            .number("limit")?
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
    };
    answer::json(
        StatusCode::OK,
        &Items {
            items: desk.store.audit_rows(filter).await?,
        },
    )
}

fn info<B: Backend>(desk: &Desk<B>) -> Result<Response<Body>, Status> {
    let info = Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        state: desk.store.folder().display().to_string(),
        ..desk.backend.info()
    };
    answer::json(StatusCode::OK, &info)
}

/// Streams the log of a pod.
pub(super) async fn log<B: Backend>(
    desk: &Desk<B>,
    call: &Call,
    namespace: &str,
    pod: &str,
) -> Result<Response<Body>, Status> {
    let wanted = LogQuery {
        container: Some(call.parameter("container").to_owned()).filter(|c| !c.is_empty()),
        follow: call.flag("follow"),
        tail_lines: call.number("tailLines")?,
        since_seconds: call.number("sinceSeconds")?,
        previous: call.flag("previous"),
    };
    let pieces = desk.backend.logs(namespace, pod, wanted).await?;
    Ok(answer::stream(
        "text/plain; charset=utf-8",
        pieces.take_until(desk.stop.clone().cancelled_owned()),
    ))
}

async fn prometheus<B: Backend>(
    desk: &Desk<B>,
    call: Call,
    path: &str,
) -> Result<Response<Body>, Status> {
    let mut target = if path.is_empty() {
        "/".to_owned()
    } else {
        path.to_owned()
    };
    if let Some(query) = call.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let target: Uri = target
        .parse()
        .map_err(|error| bad_request(format!("{path}: {error}")))?;
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = call.method;
    *request.uri_mut() = target;
    // The token is for this server only.
    *request.headers_mut() = call.headers;
    request.headers_mut().remove(http::header::AUTHORIZATION);
    let response = desk.backend.prometheus(request).await;
    Ok(response.map(|body| body.map_err(|never| match never {}).boxed_unsync()))
}
