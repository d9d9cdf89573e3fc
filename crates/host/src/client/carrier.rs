//! Ways to servers that are no hosts but speak the same language, such as a cluster's API server.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;

/// Why a request found no way, or a body ended early.
pub type CarrierError = Box<dyn std::error::Error + Send + Sync>;
/// A body that arrives bit by bit.
pub type Body = UnsyncBoxBody<Bytes, CarrierError>;
/// The head of an answer, its body to come.
pub type Carried<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Body>, CarrierError>> + Send + 'a>>;

/// Takes requests to a server that is no host.
///
/// It adds what the server wants to know of the caller; paths, bodies and refusals are those of Kubernetes.
pub trait Carrier: fmt::Debug + Send + Sync {
    /// The server as errors name it, for example `the API server https://127.0.0.1:6443`.
    fn server(&self) -> String;
    /// Sends a request whose URI is a path with its query.
    fn carry(&self, request: Request<Bytes>) -> Carried<'_>;
}
