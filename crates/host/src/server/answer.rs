//! Answers as HTTP responses.

use std::io;

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

use crate::wire::{Reason, Status};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there already.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn with(code: StatusCode, content: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    response
}

/// A value as JSON.
pub(super) fn json(code: StatusCode, value: &impl Serialize) -> Result<Response<Body>, Status> {
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(with(code, "application/json", whole(bytes))),
        Err(error) => Err(Status::failure(Reason::InternalError, error.to_string())),
    }
}

/// JSON that is there already.
pub(super) fn ready_json(bytes: Vec<u8>) -> Response<Body> {
    with(StatusCode::OK, "application/json", whole(bytes))
}

/// A line for people and probes.
pub(super) fn text(line: &str) -> Response<Body> {
    with(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        whole(line.to_owned()),
    )
}

/// A body that arrives bit by bit.
pub(super) fn stream(
    content: &'static str,
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    use futures_util::StreamExt as _;
    let frames = pieces.map(|piece| piece.map(Frame::data));
    with(
        StatusCode::OK,
        content,
        StreamBody::new(frames).boxed_unsync(),
    )
}

/// A refusal.
pub(super) fn refusal(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match json(code, status) {
        Ok(response) => response,
        Err(worse) => with(code, "text/plain; charset=utf-8", whole(worse.message)),
    };
    if status.reason == Reason::Unauthorized {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(
        status.reason,
        Reason::RequestEntityTooLarge | Reason::Timeout
    ) {
        // The rest of the body is not read: nothing more can be said on this connection.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Adds what the writer should know, one header for each warning, as Kubernetes does.
pub(super) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let plain: String = warning
            .chars()
            .map(|c| match c {
                '"' | '\\' => '\'',
                c if c.is_ascii_graphic() || c == ' ' => c,
                _ => ' ',
            })
            .take(500)
            .collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{plain}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
