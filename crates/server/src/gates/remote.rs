//! A client of a gate server, for the command line.

use std::time::Duration;

use crossfade_host::client;
use reqwest::{Client, Method, Url};
use serde_json::{Map, Value, json};

use super::keeper::Listed;
use super::record::{DEFAULT_GATE, GateId, Record, Scope};
use super::rules::Opening;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one may take that the API server asks.
const RELAYED: Duration = Duration::from_secs(15);

/// Why a server was asked in vain.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody answers.
    #[error("the gate server cannot be reached: {0}")]
    Unreachable(String),
    /// It refuses.
    #[error("the gate server refuses: {text}")]
    Answer {
        /// The status code.
        status: u16,
        /// What it says.
        text: String,
    },
    /// It is something else.
    #[error("the gate server's answer is not understood: {0}")]
    Garbled(String),
}

/// A gate server.
#[derive(Debug)]
pub struct Remote(Line);

/// How a server is spoken with.
#[derive(Debug)]
enum Line {
    /// At its address.
    Direct {
        client: Client,
        base: Url,
        token: Option<String>,
    },
    /// By the API server of its cluster, below this path.
    Relayed {
        client: client::Client,
        root: String,
    },
}

/// A Service of a cluster, as the API server relays requests to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Number or name of its port.
    pub port: String,
    /// It is spoken with by TLS.
    pub tls: bool,
    /// What comes before the server's own paths; empty or beginning with a slash.
    pub path: String,
}

impl Remote {
    /// The server at this address.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(address: &str, token: Option<&str>) -> Result<Self, String> {
        // Whoever comes first installs it; all of us want the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = Url::parse(address).map_err(|why| format!("{address}: {why}"))?;
        let client = Client::builder()
            .user_agent(concat!("crossfade/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(|why| why.to_string())?;
        Ok(Self(Line::Direct {
            client,
            base,
            token: token.map(str::to_owned),
        }))
    }

    /// The server behind a Service, by way of the API server, which takes no token along. Names must be names.
    pub fn relayed(client: client::Client, service: &ClusterService) -> Self {
        let ClusterService {
            namespace,
            name,
            port,
            tls,
            path,
        } = service;
        let scheme = if *tls { "https:" } else { "" };
        let path = path.trim_end_matches('/');
        let root =
            format!("/api/v1/namespaces/{namespace}/services/{scheme}{name}:{port}/proxy{path}");
        // A Service without a pod is asked again and again by the client; nobody wants to wait for that.
        let client = client.answered_within(RELAYED);
        Self(Line::Relayed { client, root })
    }

    async fn ask(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Value, RemoteError> {
        let (client, base, token) = match &self.0 {
            Line::Direct {
                client,
                base,
                token,
            } => (client, base, token),
            Line::Relayed { client, root } => {
                return relay(client, &format!("{root}{path}"), query, body).await;
            }
        };
        let mut url = base.clone();
        url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let method = if body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut request = client
            .request(method, url)
            .header("accept", "application/json");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let unreachable = |error: reqwest::Error| RemoteError::Unreachable(chain(&error));
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|why| RemoteError::Garbled(why.to_string()));
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let plain: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        let text = said["error"].as_str().map_or(plain, str::to_owned);
        let text = if text.is_empty() {
            status.to_string()
        } else {
            text
        };
        Err(RemoteError::Answer {
            status: status.as_u16(),
            text,
        })
    }

    /// All gates, of one namespace or all.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn list(&self, namespace: Option<&str>) -> Result<Vec<Listed>, RemoteError> {
        let query: Vec<_> = namespace
            .map(|name| ("namespace", name))
            .into_iter()
            .collect();
        read(self.ask("/gate/list", &query, None).await?)
    }

    /// A gate; `None` when nothing is known of it.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn status(&self, gate: &GateId) -> Result<Option<Record>, RemoteError> {
        let query = [
            ("namespace", gate.canary.namespace.as_str()),
            ("name", &gate.canary.name),
            ("gate", &gate.gate),
        ];
        let answer = self.ask("/gate/status", &query, None).await?;
        if answer["known"] == false {
            return Ok(None);
        }
        read(answer).map(Some)
    }

    /// Opens a gate; `by` counts where the server asks nobody who they are.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn open(
        &self,
        gate: &GateId,
        opening: &Opening,
        by: &str,
    ) -> Result<Record, RemoteError> {
        let mut body = body(gate, by, &opening.reason, opening.expect_version);
        let time = |time: Option<jiff::Timestamp>| time.map(|time| time.to_string());
        let further = [
            ("uses", json!(opening.uses)),
            (
                "ttl",
                json!(opening.ttl.map(|ttl| format!("{}ms", ttl.as_millis()))),
            ),
            ("notBefore", json!(time(opening.not_before))),
            ("notAfter", json!(time(opening.not_after))),
            ("checksum", json!(opening.checksum)),
            (
                "scope",
                json!((opening.scope == Scope::Revision).then_some("revision")),
            ),
        ];
        body.extend(further.map(|(name, value)| (name.to_owned(), value)));
        let path = if gate.is_rollback() {
            "/rollback/open"
        } else {
            "/gate/open"
        };
        read(self.ask(path, &[], Some(Value::Object(body))).await?)
    }

    /// Closes a gate; `by` counts where the server asks nobody who they are.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn close(
        &self,
        gate: &GateId,
        reason: &str,
        expect_version: Option<u64>,
        by: &str,
    ) -> Result<Record, RemoteError> {
        let body = body(gate, by, reason, expect_version);
        let path = if gate.is_rollback() {
            "/rollback/close"
        } else {
            "/gate/close"
        };
        read(self.ask(path, &[], Some(Value::Object(body))).await?)
    }
}

async fn relay(
    client: &client::Client,
    path: &str,
    query: &[(&str, &str)],
    body: Option<Value>,
) -> Result<Value, RemoteError> {
    let mut address = path.to_owned();
    if !query.is_empty() {
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        address = format!("{address}?{}", pairs.extend_pairs(query).finish());
    }
    let method = if body.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let answer = client.at(method, &address, &[], body.as_ref()).await;
    answer.map_err(|error| match error {
        client::Error::Status(status) => RemoteError::Answer {
            status: status.code,
            text: status.message,
        },
        client::Error::Answer { source, .. } => RemoteError::Garbled(source.to_string()),
        error => RemoteError::Unreachable(chain(&error)),
    })
}

fn body(gate: &GateId, by: &str, reason: &str, version: Option<u64>) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(gate.canary.name));
    body.insert("namespace".to_owned(), json!(gate.canary.namespace));
    body.insert("by".to_owned(), json!(by));
    body.insert("reason".to_owned(), json!(reason));
    body.insert("expectVersion".to_owned(), json!(version));
    if gate.gate != DEFAULT_GATE && !gate.is_rollback() {
        body.insert("gate".to_owned(), json!(gate.gate));
    }
    body
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, RemoteError> {
    serde_json::from_value(value).map_err(|why| RemoteError::Garbled(why.to_string()))
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    text
}
