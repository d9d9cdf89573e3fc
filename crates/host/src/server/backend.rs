//! What the API server cannot know itself.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use http::{Request, Response};
use http_body_util::Full;

use crate::store::Kind;
use crate::wire::{Explanation, Info, LogQuery, Status};

/// The text of a log, piece by piece.
pub type LogStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The part of the control plane that answers where objects are not enough.
pub trait Backend: Send + Sync + 'static {
    /// Where the Services listen, and the metric store. Version, pid and state folder are filled in by the server.
    fn info(&self) -> Info;

    /// Whether the control plane has taken up its work.
    ///
    /// # Errors
    /// In words: what it still waits for.
    fn ready(&self) -> Result<(), String>;

    /// The log of a pod's container. A followed log ends when the pod is gone.
    ///
    /// # Errors
    /// When there is no such pod or container, or its log cannot be read.
    fn logs(
        &self,
        namespace: &str,
        pod: &str,
        wanted: LogQuery,
    ) -> impl Future<Output = Result<LogStream, Status>> + Send;

    /// Why a release stands where it stands.
    ///
    /// # Errors
    /// When there is no such Rollout or Canary.
    fn explain(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Explanation, Status>> + Send;

    /// Answers a request to the metric store's Prometheus API; its path begins after the prefix (`/api/v1/query`).
    fn prometheus(
        &self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}
