//! A client of the host's API, for the command line and for tests; over a [`Carrier`] also of any other server that has the API of
//! Kubernetes.
//!
//! Start at [`Client::new`]. Every call opens a connection of its own: on a Unix socket that costs less than keeping
//! count of old ones, and a watch or a followed log has its connection to itself. A refusal by the host is
//! [`Error::Status`] with the Kubernetes `Status` that it sent; the other variants say that no answer came.
//!
//! Nothing is tried again here: whether that is safe, only the caller knows.

mod address;
mod applying;
mod carrier;
mod error;
mod paths;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};

use paths::{collection_path, object_path, query, segment, selectors};

pub use address::Address;
pub use applying::MANAGER;
pub use carrier::{Body, Carried, Carrier, CarrierError};
pub use error::{Error, Result};
pub use streams::{Chunks, Watch};

use crate::store::Kind;
use crate::wire::{
    Applied, ApplyRequest, AuditRow, Deletion, Explanation, Info, Items, LogQuery, Reason, Status,
};
pub use crate::wire::{Part, Patch};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the first byte of an answer may take. A full apply on a slow disk needs a few seconds.
const ANSWER: Duration = Duration::from_mins(1);
/// The largest answer that is kept in memory: a list of every object of a large host fits many times.
const LARGEST_ANSWER: usize = 1 << 30;
/// The largest refusal that is read.
const LARGEST_REFUSAL: usize = 1 << 20;

/// Which objects of a kind are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Label selector in Kubernetes' text form; empty for all.
    pub labels: String,
    /// Field selector, for example `metadata.name=web`; empty for all.
    pub fields: String,
}

/// A list and the resourceVersion from which a watch goes on without a gap.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// The objects, ordered by namespace and name.
    pub items: Vec<Value>,
    /// To be handed to [`Client::watch`].
    pub resource_version: String,
}

/// A list as it arrives.
#[derive(Deserialize)]
struct Listed {
    metadata: ListMetadata,
    items: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
}

/// What [`Client::apply`] does besides applying.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyMode {
    /// Say what would happen and change nothing.
    pub dry_run: bool,
    /// Where a field cannot be changed, delete the object and create it anew.
    pub force: bool,
}

/// How requests get to a server.
#[derive(Clone, Debug)]
enum Way {
    Host(Address),
    Carried(Arc<dyn Carrier>),
}

/// The way to a server, and what a host is told about every write.
#[derive(Clone, Debug)]
pub struct Client {
    way: Way,
    action: Option<String>,
    reason: Option<String>,
    answer: Duration,
}

impl Client {
    /// A client of the host at this address. Nothing is opened yet.
    pub fn new(address: Address) -> Self {
        Self::by(Way::Host(address))
    }

    /// A client of the server that the carrier goes to. It answers to everything that Kubernetes has; what only a host has ends in
    /// [`Error::OnlyHosts`].
    pub fn over(carrier: Arc<dyn Carrier>) -> Self {
        Self::by(Way::Carried(carrier))
    }

    fn by(way: Way) -> Self {
        Self {
            way,
            action: None,
            reason: None,
            answer: ANSWER,
        }
    }

    /// The same client that gives up when an answer does not begin within `limit`.
    #[must_use]
    pub fn answered_within(self, limit: Duration) -> Self {
        Self {
            answer: limit,
            ..self
        }
    }

    /// Whether the server is a host.
    pub fn is_of_a_host(&self) -> bool {
        matches!(self.way, Way::Host(_))
    }

    /// The server, as errors name it.
    pub fn server(&self) -> String {
        match &self.way {
            Way::Host(address) => format!("the host at {address}"),
            Way::Carried(carrier) => carrier.server(),
        }
    }

    fn only_of_a_host(&self, what: &'static str) -> Result<()> {
        if self.is_of_a_host() {
            return Ok(());
        }
        Err(Error::OnlyHosts {
            server: self.server(),
            what,
        })
    }

    /// The same client whose writes appear in the audit trail as `action` (`promote`), with the user's reason.
    #[must_use]
    pub fn acting(&self, action: &str, reason: Option<&str>) -> Self {
        Self {
            way: self.way.clone(),
            action: Some(action.to_owned()),
            reason: reason.map(str::to_owned),
            answer: self.answer,
        }
    }

    /// One object.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Value> {
        self.call(
            Method::GET,
            &object_path(kind, Some(namespace), name)?,
            None,
        )
        .await
    }

    /// Any other call of the API, with a body as JSON: below `root` the path has these segments, each of which is a name.
    pub async fn at(
        &self,
        method: Method,
        root: &str,
        segments: &[&str],
        body: Option<&Value>,
    ) -> Result<Value> {
        let mut path = root.to_owned();
        for name in segments {
            path.push('/');
            path.push_str(&segment(name)?);
        }
        self.call(method, &path, body.map(|body| (JSON, body)))
            .await
    }

    /// One object, decoded.
    pub async fn get_as<T: DeserializeOwned>(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<T> {
        decode(self.get(kind, namespace, name).await?)
    }

    /// The objects of a kind in a namespace, or in all of them.
    pub async fn list(&self, kind: Kind, namespace: Option<&str>, wanted: &Wanted) -> Result<List> {
        let path = format!(
            "{}{}",
            collection_path(kind, namespace)?,
            query(&selectors(wanted))
        );
        let answer = self.call::<Listed>(Method::GET, &path, None).await;
        let answer = answer.map_err(|error| self.of_kind(kind, error))?;
        Ok(List {
            items: answer.items,
            resource_version: answer.metadata.resource_version,
        })
    }

    /// Changes after `resource_version` (that of a [`List`]); empty means: first all that exists, then changes.
    pub async fn watch(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        wanted: &Wanted,
        resource_version: &str,
    ) -> Result<Watch> {
        let mut pairs = selectors(wanted);
        pairs.push(("watch", "true".to_owned()));
        pairs.push(("allowWatchBookmarks", "true".to_owned()));
        if !resource_version.is_empty() {
            pairs.push(("resourceVersion", resource_version.to_owned()));
        }
        let path = format!("{}{}", collection_path(kind, namespace)?, query(&pairs));
        let response = self.send(Method::GET, &path, None).await?;
        Ok(Watch::new(self.stream(self.refused(response).await?)))
    }

    /// Creates an object and gives it back as stored.
    pub async fn create(&self, kind: Kind, namespace: &str, object: &Value) -> Result<Value> {
        self.call(
            Method::POST,
            &collection_path(kind, Some(namespace))?,
            Some((JSON, object)),
        )
        .await
    }

    /// Replaces an object (or its status, or its scale) and gives it back as stored.
    pub async fn replace(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        part: Part,
        object: &Value,
    ) -> Result<Value> {
        let path = format!(
            "{}{}",
            object_path(kind, Some(namespace), name)?,
            part.suffix()
        );
        self.call(Method::PUT, &path, Some((JSON, object))).await
    }

    /// Patches an object (or its status, or its scale) and gives it back as stored.
    pub async fn patch(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        part: Part,
        form: Patch,
        change: &Value,
    ) -> Result<Value> {
        let path = format!(
            "{}{}",
            object_path(kind, Some(namespace), name)?,
            part.suffix()
        );
        let content = match form {
            Patch::Merge => "application/merge-patch+json",
            Patch::Json => "application/json-patch+json",
        };
        self.call(Method::PATCH, &path, Some((content, change)))
            .await
    }

    /// Deletes an object. The answer is the object when it lives on for a while (finalizers, a pod that ends), else a `Status`.
    pub async fn delete(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        deletion: &Deletion,
    ) -> Result<Value> {
        let body = json!(deletion);
        self.call(
            Method::DELETE,
            &object_path(kind, Some(namespace), name)?,
            Some((JSON, &body)),
        )
        .await
    }

    /// Applies manifests; `namespace` is for those that name none. A host applies all or none; any other server is asked first whether it
    /// would take each of them.
    pub async fn apply(
        &self,
        request: &ApplyRequest,
        namespace: &str,
        mode: ApplyMode,
    ) -> Result<Vec<Applied>> {
        if !self.is_of_a_host() {
            return self.apply_each(request.clone(), namespace, mode).await;
        }
        let mut pairs = vec![("namespace", namespace.to_owned())];
        if mode.dry_run {
            pairs.push(("dryRun", "All".to_owned()));
        }
        if mode.force {
            pairs.push(("force", "true".to_owned()));
        }
        let body = json!(request);
        let answer: Items<Applied> = self
            .call(
                Method::POST,
                &format!("/crossfade/v1/apply{}", query(&pairs)),
                Some((JSON, &body)),
            )
            .await?;
        Ok(answer.items)
    }

    /// The log of a pod.
    pub async fn logs(&self, namespace: &str, pod: &str, wanted: &LogQuery) -> Result<Chunks> {
        let mut pairs = Vec::new();
        if let Some(container) = &wanted.container {
            pairs.push(("container", container.clone()));
        }
        if wanted.follow {
            pairs.push(("follow", "true".to_owned()));
        }
        if let Some(lines) = wanted.tail_lines {
            pairs.push(("tailLines", lines.to_string()));
        }
        if let Some(seconds) = wanted.since_seconds {
            pairs.push(("sinceSeconds", seconds.to_string()));
        }
        if wanted.previous {
            pairs.push(("previous", "true".to_owned()));
        }
        let root = if self.is_of_a_host() {
            "/crossfade/v1"
        } else {
            "/api/v1"
        };
        let path = format!(
            "{root}/namespaces/{}/pods/{}/log{}",
            segment(namespace)?,
            segment(pod)?,
            query(&pairs)
        );
        let response = self.send(Method::GET, &path, None).await?;
        Ok(self.stream(self.refused(response).await?))
    }

    /// Why a release stands where it stands.
    pub async fn explain(&self, kind: Kind, namespace: &str, name: &str) -> Result<Explanation> {
        self.only_of_a_host("explanation of its own")?;
        let path = format!(
            "/crossfade/v1/namespaces/{}/{}/{}/explain",
            segment(namespace)?,
            kind.plural(),
            segment(name)?
        );
        self.call(Method::GET, &path, None).await
    }

    /// The audit trail, oldest first; `subject` is a name or `Kind/name`.
    pub async fn audit(
        &self,
        namespace: Option<&str>,
        subject: Option<&str>,
    ) -> Result<Vec<AuditRow>> {
        self.only_of_a_host("audit trail")?;
        let mut pairs = Vec::new();
        pairs.extend(namespace.map(|n| ("namespace", n.to_owned())));
        pairs.extend(subject.map(|s| ("subject", s.to_owned())));
        let answer: Items<AuditRow> = self
            .call(
                Method::GET,
                &format!("/crossfade/v1/audit{}", query(&pairs)),
                None,
            )
            .await?;
        Ok(answer.items)
    }

    /// What the host is and where it listens.
    pub async fn info(&self) -> Result<Info> {
        self.only_of_a_host("word about itself")?;
        self.call(Method::GET, "/crossfade/v1/info", None).await
    }

    /// Whether the host has taken up its work.
    pub async fn ready(&self) -> Result<bool> {
        Ok(self
            .send(Method::GET, "/readyz", None)
            .await?
            .status()
            .is_success())
    }

    /// A `GET` to the metric store, for example `api/v1/query` with `[("query", "up")]`: status code and body as they came.
    pub async fn prometheus(&self, path: &str, pairs: &[(&str, String)]) -> Result<(u16, Bytes)> {
        self.only_of_a_host("metric store")?;
        let path = format!(
            "/crossfade/v1/prometheus/{}{}",
            path.trim_start_matches('/'),
            query(pairs)
        );
        let response = self.send(Method::GET, &path, None).await?;
        let code = response.status().as_u16();
        Ok((code, self.whole(response).await?))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<T> {
        let response = self.send(method, path, body).await?;
        let response = self.refused(response).await?;
        let bytes = self.whole(response).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Answer {
            what: "body",
            source,
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Response<Body>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, "application/json");
        let bytes = match body {
            None => Bytes::new(),
            Some((content, value)) => {
                request = request.header(header::CONTENT_TYPE, content);
                serde_json::to_vec(value)
                    .map_err(|source| Error::Answer {
                        what: "request",
                        source,
                    })?
                    .into()
            }
        };
        let exchange = async {
            match &self.way {
                Way::Carried(carrier) => {
                    let request = request.body(bytes).map_err(|source| self.broken(source))?;
                    let answer = carrier.carry(request).await;
                    answer.map_err(|source| Error::NoWay {
                        server: carrier.server(),
                        source,
                    })
                }
                Way::Host(address) => self.to_host(address, request, bytes).await,
            }
        };
        tokio::time::timeout(self.answer, exchange)
            .await
            .unwrap_or_else(|_| Err(self.late(self.answer)))
    }

    async fn to_host(
        &self,
        address: &Address,
        mut request: http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Body>> {
        request = match address {
            Address::Socket(_) => request.header(header::HOST, "crossfade"),
            Address::Loopback { authority, token } => request
                .header(header::HOST, authority)
                .header(header::AUTHORIZATION, format!("Bearer {token}")),
        };
        for (name, value) in [(ACTION, &self.action), (REASON, &self.reason)] {
            if let Some(value) = value {
                request = request.header(name, crate::wire::encode(value));
            }
        }
        let request = request
            .body(Full::new(body))
            .map_err(|source| self.broken(source))?;
        match address {
            Address::Socket(path) => {
                let stream = self.opened(address, UnixStream::connect(path)).await?;
                self.exchange(stream, request).await
            }
            Address::Loopback { authority, .. } => {
                let stream = self.opened(address, TcpStream::connect(authority)).await?;
                stream
                    .set_nodelay(true)
                    .map_err(|source| self.broken(source))?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn opened<S>(
        &self,
        address: &Address,
        connecting: impl Future<Output = std::io::Result<S>>,
    ) -> Result<S> {
        tokio::time::timeout(CONNECT, connecting)
            .await
            .map_err(|_| self.late(CONNECT))?
            .map_err(|source| Error::Unreachable {
                address: address.to_string(),
                source,
            })
    }

    async fn exchange<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Response<Body>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.broken(source))?;
        // Ends by itself when the answer has been read or dropped; an error reaches the caller through the body.
        tokio::spawn(connection);
        let response = sender
            .send_request(request)
            .await
            .map_err(|source| self.broken(source))?;
        Ok(response.map(|body| body.map_err(CarrierError::from).boxed_unsync()))
    }

    async fn whole(&self, response: Response<Body>) -> Result<Bytes> {
        self.collected(response, LARGEST_ANSWER).await
    }

    async fn collected(&self, response: Response<Body>, limit: usize) -> Result<Bytes> {
        // Boxed, because the compiler cannot see through it that it may change threads.
        let collect: futures_util::future::BoxFuture<'_, _> =
            Box::pin(Limited::new(response.into_body(), limit).collect());
        let body = collect.await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|source| Error::Broken {
                server: self.server(),
                source,
            })
    }

    /// A list that is not found is one of a kind that the server does not know.
    fn of_kind(&self, kind: Kind, error: Error) -> Error {
        match error {
            Error::Status(status) if status.code == 404 => Error::NoKind {
                server: self.server(),
                resource: kind.resource(),
            },
            error => error,
        }
    }

    /// Turns a refusal into an error.
    async fn refused(&self, response: Response<Body>) -> Result<Response<Body>> {
        let code = response.status();
        if code.is_success() {
            return Ok(response);
        }
        let body = self.collected(response, LARGEST_REFUSAL).await?;
        // Any JSON object reads as a `Status`; one that says nothing is none.
        let status = serde_json::from_slice(&body)
            .ok()
            .filter(|status: &Status| !status.message.is_empty())
            .unwrap_or_else(|| plain_status(code, &body));
        Err(Error::Status(Box::new(status)))
    }

    fn stream(&self, response: Response<Body>) -> Chunks {
        Chunks::new(response.into_body(), self.server())
    }

    fn broken(&self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Broken {
            server: self.server(),
            source: Box::new(source),
        }
    }

    fn late(&self, after: Duration) -> Error {
        Error::Timeout {
            server: self.server(),
            after,
        }
    }
}

/// Header with the action for the audit trail, percent-encoded.
pub(crate) const ACTION: &str = "x-crossfade-action";
/// Header with the user's reason for the audit trail, percent-encoded.
pub(crate) const REASON: &str = "x-crossfade-reason";

const JSON: &str = "application/json";

/// A refusal that is no `Status`: something else than a host may listen at the address.
fn plain_status(code: StatusCode, body: &[u8]) -> Status {
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    let mut status = Status::failure(Reason::Unknown, format!("{code}: {}", text.trim()));
    status.code = code.as_u16();
    status
}

fn decode<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|source| Error::Answer {
        what: "object",
        source,
    })
}
