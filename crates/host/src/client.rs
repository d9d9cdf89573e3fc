//! A client of the host's API, for the command line and for tests.
//!
//! Start at [`Client::new`]. Every call opens a connection of its own: on a Unix socket that costs less than keeping
//! count of old ones, and a watch or a followed log has its connection to itself. A refusal by the host is
//! [`Error::Status`] with the Kubernetes `Status` that it sent; the other variants say that no answer came.
//!
//! Nothing is tried again here: whether that is safe, only the caller knows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};

use crate::store::{Kind, Scope};
use crate::wire::{
    Applied, ApplyRequest, AuditRow, Deletion, Explanation, Info, Items, LogQuery, Reason, Status,
    WatchChange, WatchEvent,
};
pub use crate::wire::{Part, Patch};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the first byte of an answer may take. A full apply on a slow disk needs a few seconds.
const ANSWER: Duration = Duration::from_mins(1);
/// The largest answer that is kept in memory: a list of every object of a large host fits many times.
const LARGEST_ANSWER: usize = 1 << 30;

/// Where a host listens.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// The Unix socket in its state folder.
    Socket(PathBuf),
    /// A loopback port.
    Loopback {
        /// `host:port`.
        authority: String,
        /// Content of the file `token` in the state folder.
        token: String,
    },
}

impl Address {
    /// Reads `http://127.0.0.1:7000`, `unix:/path` or a plain path; a folder means the socket `control.sock` in it.
    ///
    /// # Errors
    /// When the text is a URL of another form.
    pub fn parse(text: &str, token: Option<&str>) -> Result<Self> {
        if let Some(rest) = text.strip_prefix("http://") {
            let authority = rest.trim_end_matches('/');
            let valid = authority
                .parse::<http::uri::Authority>()
                .is_ok_and(|a| a.port().is_some());
            if !valid {
                return Err(Error::Address {
                    text: text.to_owned(),
                });
            }
            return Ok(Self::Loopback {
                authority: authority.to_owned(),
                token: token.unwrap_or_default().trim().to_owned(),
            });
        }
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.is_empty() || path.contains("://") {
            return Err(Error::Address {
                text: text.to_owned(),
            });
        }
        let path = Path::new(path);
        Ok(Self::Socket(if path.is_dir() {
            path.join("control.sock")
        } else {
            path.to_owned()
        }))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Loopback { authority, .. } => write!(f, "http://{authority}"),
        }
    }
}

/// As [`Display`](std::fmt::Display): a token never shows.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host answered with a refusal.
    #[error("{}", .0.message)]
    Status(Box<Status>),
    /// Nobody answers at the address.
    #[error("no host answers at {address}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke in the middle of an answer.
    #[error("the connection to the host at {address} broke")]
    Broken {
        /// The address.
        address: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is not what this client understands; most likely the versions differ.
    #[error("the host's answer is not understood ({what})")]
    Answer {
        /// What was read.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The host did not answer in time.
    #[error("the host at {address} did not answer within {} s", .after.as_secs())]
    Timeout {
        /// The address.
        address: String,
        /// How long the client waited.
        after: Duration,
    },
    /// The address is of no known form.
    #[error(
        "`{text}` is no address of a host; use the path of its socket or http://127.0.0.1:PORT"
    )]
    Address {
        /// The text.
        text: String,
    },
    /// A name that cannot stand in a path.
    #[error("`{name}` is not a valid name")]
    Name {
        /// The name.
        name: String,
    },
}

impl Error {
    /// The host's word for the refusal, when it was one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Status(status) => Some(status.reason),
            _ => None,
        }
    }

    /// Whether the host said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.reason() == Some(Reason::NotFound)
    }

    /// Whether somebody else changed the object first.
    pub fn is_conflict(&self) -> bool {
        self.reason() == Some(Reason::Conflict)
    }
}

/// A result of a call.
pub type Result<T> = std::result::Result<T, Error>;

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

/// What [`Client::apply`] does besides applying.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyMode {
    /// Say what would happen and change nothing.
    pub dry_run: bool,
    /// Where a field cannot be changed, delete the object and create it anew.
    pub force: bool,
}

/// A connection to a host: an address, and what is told about every write.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    action: Option<String>,
    reason: Option<String>,
    answer: Duration,
}

impl Client {
    /// A client of the host at this address. Nothing is opened yet.
    pub fn new(address: Address) -> Self {
        Self {
            address,
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

    /// Where it connects to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The same client whose writes appear in the audit trail as `action` (`promote`), with the user's reason.
    #[must_use]
    pub fn acting(&self, action: &str, reason: Option<&str>) -> Self {
        Self {
            address: self.address.clone(),
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
        let answer: Value = self.call(Method::GET, &path, None).await?;
        let Value::Object(mut answer) = answer else {
            return Ok(List {
                items: Vec::new(),
                resource_version: String::new(),
            });
        };
        let resource_version = answer
            .get("metadata")
            .and_then(|m| m.get("resourceVersion"))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let items = match answer.remove("items") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        Ok(List {
            items,
            resource_version,
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
        Ok(Watch {
            body: self.stream(refused(response, &self.address).await?),
            line: BytesMut::new(),
        })
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

    /// Applies manifests, all or none; `namespace` is for those that name none.
    pub async fn apply(
        &self,
        request: &ApplyRequest,
        namespace: &str,
        mode: ApplyMode,
    ) -> Result<Vec<Applied>> {
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
        let path = format!(
            "/crossfade/v1/namespaces/{}/pods/{}/log{}",
            segment(namespace)?,
            segment(pod)?,
            query(&pairs)
        );
        let response = self.send(Method::GET, &path, None).await?;
        Ok(self.stream(refused(response, &self.address).await?))
    }

    /// Why a release stands where it stands.
    pub async fn explain(&self, namespace: &str, rollout: &str) -> Result<Explanation> {
        let path = format!(
            "/crossfade/v1/namespaces/{}/rollouts/{}/explain",
            segment(namespace)?,
            segment(rollout)?
        );
        self.call(Method::GET, &path, None).await
    }

    /// The audit trail, oldest first; `subject` is a name or `Kind/name`.
    pub async fn audit(
        &self,
        namespace: Option<&str>,
        subject: Option<&str>,
    ) -> Result<Vec<AuditRow>> {
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
        let response = refused(response, &self.address).await?;
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
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path);
        let authority = match &self.address {
            Address::Socket(_) => "crossfade",
            Address::Loopback { authority, token } => {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
                authority
            }
        };
        request = request
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/json");
        for (name, value) in [(ACTION, &self.action), (REASON, &self.reason)] {
            if let Some(value) = value {
                request = request.header(name, crate::wire::encode(value));
            }
        }
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
        let request = request
            .body(Full::new(bytes))
            .map_err(|source| self.broken(source))?;
        let exchange = async {
            match &self.address {
                Address::Socket(path) => {
                    let stream = self.opened(UnixStream::connect(path)).await?;
                    self.exchange(stream, request).await
                }
                Address::Loopback { authority, .. } => {
                    let stream = self.opened(TcpStream::connect(authority)).await?;
                    stream
                        .set_nodelay(true)
                        .map_err(|source| self.broken(source))?;
                    self.exchange(stream, request).await
                }
            }
        };
        tokio::time::timeout(self.answer, exchange)
            .await
            .unwrap_or_else(|_| Err(self.late(self.answer)))
    }

    async fn opened<S>(&self, connecting: impl Future<Output = std::io::Result<S>>) -> Result<S> {
        tokio::time::timeout(CONNECT, connecting)
            .await
            .map_err(|_| self.late(CONNECT))?
            .map_err(|source| Error::Unreachable {
                address: self.address.to_string(),
                source,
            })
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.broken(source))?;
        // Ends by itself when the answer has been read or dropped; an error reaches the caller through the body.
        tokio::spawn(connection);
        sender
            .send_request(request)
            .await
            .map_err(|source| self.broken(source))
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes> {
        match Limited::new(response.into_body(), LARGEST_ANSWER)
            .collect()
            .await
        {
            Ok(body) => Ok(body.to_bytes()),
            Err(source) => Err(Error::Broken {
                address: self.address.to_string(),
                source,
            }),
        }
    }

    fn stream(&self, response: Response<Incoming>) -> Chunks {
        Chunks {
            body: response.into_body(),
            address: self.address.clone(),
        }
    }

    fn broken(&self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Broken {
            address: self.address.to_string(),
            source: Box::new(source),
        }
    }

    fn late(&self, after: Duration) -> Error {
        Error::Timeout {
            address: self.address.to_string(),
            after,
        }
    }
}

/// Header with the action for the audit trail, percent-encoded.
pub(crate) const ACTION: &str = "x-crossfade-action";
/// Header with the user's reason for the audit trail, percent-encoded.
pub(crate) const REASON: &str = "x-crossfade-reason";

const JSON: &str = "application/json";

/// A body that arrives bit by bit.
#[derive(Debug)]
pub struct Chunks {
    body: Incoming,
    address: Address,
}

impl Chunks {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => {}
                },
                Err(source) => {
                    return Some(Err(Error::Broken {
                        address: self.address.to_string(),
                        source: Box::new(source),
                    }));
                }
            }
        }
    }
}

/// A watch that runs.
#[derive(Debug)]
pub struct Watch {
    body: Chunks,
    line: BytesMut,
}

impl Watch {
    /// The next change; `None` when the host ended the watch (watch again from the last resourceVersion). An error event
    /// arrives as [`Error::Status`]; after [`Reason::Expired`] list again.
    pub async fn next(&mut self) -> Option<Result<WatchEvent>> {
        loop {
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                let line = self.line.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Some(read_event(&line));
            }
            match self.body.next().await? {
                Ok(data) => self.line.extend_from_slice(&data),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn read_event(line: &[u8]) -> Result<WatchEvent> {
    let event: WatchEvent = serde_json::from_slice(line).map_err(|source| Error::Answer {
        what: "watch event",
        source,
    })?;
    match event.change {
        WatchChange::Error => Err(Error::Status(Box::new(decode(event.object)?))),
        WatchChange::Added
        | WatchChange::Modified
        | WatchChange::Deleted
        | WatchChange::Bookmark => Ok(event),
    }
}

/// Turns a refusal into an error.
async fn refused(response: Response<Incoming>, address: &Address) -> Result<Response<Incoming>> {
    let code = response.status();
    if code.is_success() {
        return Ok(response);
    }
    let body = match Limited::new(response.into_body(), 1 << 20).collect().await {
        Ok(body) => body.to_bytes(),
        Err(source) => {
            return Err(Error::Broken {
                address: address.to_string(),
                source,
            });
        }
    };
    let status = serde_json::from_slice(&body).unwrap_or_else(|_| plain_status(code, &body));
    Err(Error::Status(Box::new(status)))
}

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

fn selectors(wanted: &Wanted) -> Vec<(&'static str, String)> {
    [
        ("labelSelector", &wanted.labels),
        ("fieldSelector", &wanted.fields),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .map(|(name, text)| (name, text.clone()))
    .collect()
}

fn query<K: AsRef<str>>(pairs: &[(K, String)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name.as_ref());
        text.push('=');
        text.push_str(&crate::wire::encode(value));
    }
    text
}

/// A name as one segment of a path. An empty one would name the collection, `..` another object.
fn segment(name: &str) -> Result<String> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(Error::Name {
            name: name.to_owned(),
        });
    }
    Ok(crate::wire::encode(name))
}

fn collection_path(kind: Kind, namespace: Option<&str>) -> Result<String> {
    let root = if kind.group().is_empty() {
        "/api"
    } else {
        "/apis/"
    };
    let mut path = format!("{root}{}/{}", kind.group(), kind.version());
    if let (Scope::Namespaced, Some(namespace)) = (kind.scope(), namespace) {
        path.push_str("/namespaces/");
        path.push_str(&segment(namespace)?);
    }
    path.push('/');
    path.push_str(kind.plural());
    Ok(path)
}

fn object_path(kind: Kind, namespace: Option<&str>, name: &str) -> Result<String> {
    Ok(format!(
        "{}/{}",
        collection_path(kind, namespace)?,
        segment(name)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_kubernetes() {
        let path = |kind, namespace| object_path(kind, namespace, "x").unwrap();
        assert_eq!(
            path(Kind::Rollout, Some("shop")),
            "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/x"
        );
        assert_eq!(
            path(Kind::Pod, Some("shop")),
            "/api/v1/namespaces/shop/pods/x"
        );
        assert_eq!(path(Kind::Namespace, Some("shop")), "/api/v1/namespaces/x");
        assert_eq!(collection_path(Kind::Pod, None).unwrap(), "/api/v1/pods");
    }

    #[test]
    fn a_name_cannot_reach_another_path() {
        for name in ["", "..", "a/b"] {
            assert!(
                matches!(
                    object_path(Kind::Pod, Some("d"), name),
                    Err(Error::Name { .. })
                ),
                "{name}"
            );
        }
        assert_eq!(
            object_path(Kind::Pod, Some("d"), "a b?").unwrap(),
            "/api/v1/namespaces/d/pods/a%20b%3F"
        );
    }

    #[test]
    fn an_address_never_shows_its_token() {
        let address = Address::parse("http://127.0.0.1:7000/", Some("s3cret\n")).unwrap();
        assert_eq!(
            format!("{address} {address:?}"),
            "http://127.0.0.1:7000 http://127.0.0.1:7000"
        );
        assert!(!format!("{:?}", Client::new(address)).contains("s3cret"));
    }

    #[test]
    fn addresses_of_other_forms_are_refused() {
        for text in ["", "https://host:1", "http://host", "ftp://x"] {
            assert!(
                matches!(Address::parse(text, None), Err(Error::Address { .. })),
                "{text}"
            );
        }
    }
}
