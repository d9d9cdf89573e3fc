//! The way to the gates: beside the Canaries, in a file, or at a server.

use crossfade_host::client::Client;
use crossfade_server::gates::{
    ChangeError, GateId, Gates, Keeper, Listed, Opening, Record, Refused, Remote, RemoteError,
    Store, StoreError, Who,
};
use http::Method;
use serde_json::json;

use super::Place;
use super::asked::elsewhere;
use crate::commands::gates::{StoreName, sqlite};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;

/// The way to the gates.
pub(super) enum Way {
    /// We change them ourselves.
    Ours {
        keeper: Keeper,
        /// The server that Canaries are asked of, where there is one.
        client: Option<Client>,
        who: Who,
    },
    /// A server does.
    Server(Remote, Who),
}

impl Way {
    /// The way that is meant.
    pub(super) async fn find(place: &Place, context: &Context) -> Result<Self> {
        let named = place.named();
        if let Some(address) = named
            .as_deref()
            .filter(|text| text.starts_with("http://") || text.starts_with("https://"))
        {
            let remote = Remote::new(address, context.global.token.as_deref())
                .map_err(|why| CliError::usage(format!("--gates: {why}")))?;
            return Ok(Self::Server(remote, user()));
        }
        let store = match named.as_deref().map(str::parse).transpose() {
            Ok(store) => store.unwrap_or(StoreName::Objects),
            Err(_) => StoreName::Memory,
        };
        match store {
            StoreName::Memory => Err(CliError::usage(
                "--gates takes http://ADDRESS, https://ADDRESS, sqlite:FILE, kubernetes or host",
            )),
            StoreName::Sqlite(file) => Ok(Self::Ours {
                keeper: Keeper::new(sqlite(&file)?),
                client: None,
                who: user(),
            }),
            StoreName::Objects => {
                let client = context.client()?;
                let who = if client.is_of_a_host() {
                    user()
                } else {
                    known_to(&client).await
                };
                Ok(Self::Ours {
                    keeper: Keeper::new(Store::objects(client.clone())),
                    client: Some(client),
                    who,
                })
            }
        }
    }

    /// The way to one gate, or to all gates of its Canary: as [`Way::find`], but where none of that Canary is kept beside it, to the server
    /// that its hooks ask, if that knows the gate.
    pub(super) async fn to(
        place: &Place,
        context: &Context,
        gate: &GateId,
        one: bool,
    ) -> Result<Self> {
        let way = Self::find(place, context).await?;
        if place.is_given() || !way.gates(gate, false).await?.is_empty() {
            return Ok(way);
        }
        Ok(elsewhere(context, gate, one).await.unwrap_or(way))
    }

    /// The server that Canaries are asked of.
    pub(super) fn client(&self) -> Option<&Client> {
        match self {
            Self::Ours { client, .. } => client.as_ref(),
            Self::Server(..) => None,
        }
    }

    pub(super) async fn list(&self, namespace: Option<&str>) -> Result<Vec<Listed>> {
        match self {
            Self::Ours { keeper, .. } => keeper.list(namespace).await.map_err(|why| lost(&why)),
            Self::Server(remote, _) => remote.list(namespace).await.map_err(said),
        }
    }

    /// The gates of a Canary by name: one, or all of them.
    pub(super) async fn gates(&self, gate: &GateId, one: bool) -> Result<Gates> {
        let mut gates = match self {
            Self::Ours { keeper, .. } => {
                let found = keeper.of(&gate.canary).await;
                found.map_err(|why| lost(&why))?
            }
            Self::Server(remote, _) => {
                let mut names = vec![gate.gate.clone()];
                if !one {
                    let all = remote
                        .list(Some(&gate.canary.namespace))
                        .await
                        .map_err(said)?;
                    let of_canary = all
                        .into_iter()
                        .filter(|listed| listed.name == gate.canary.name);
                    names = of_canary.map(|listed| listed.gate).collect();
                }
                let mut gates = Gates::new();
                for name in names {
                    let id = GateId {
                        gate: name.clone(),
                        ..gate.clone()
                    };
                    if let Some(record) = remote.status(&id).await.map_err(said)? {
                        gates.insert(name, record);
                    }
                }
                gates
            }
        };
        if one {
            gates.retain(|name, _| *name == gate.gate);
        }
        Ok(gates)
    }

    pub(super) async fn open(&self, gate: &GateId, opening: Opening) -> Result<Record> {
        match self {
            Self::Ours { keeper, who, .. } => {
                let done = keeper.open(gate, opening, who).await;
                done.map_err(|why| unchanged(gate, &why))
            }
            Self::Server(remote, who) => remote.open(gate, &opening, &who.by).await.map_err(said),
        }
    }

    pub(super) async fn close(
        &self,
        gate: &GateId,
        reason: &str,
        version: Option<u64>,
    ) -> Result<Record> {
        match self {
            Self::Ours { keeper, who, .. } => {
                let done = keeper.close(gate, reason, version, who).await;
                done.map_err(|why| unchanged(gate, &why))
            }
            Self::Server(remote, who) => {
                let done = remote.close(gate, reason, version, &who.by).await;
                done.map_err(said)
            }
        }
    }
}

/// Who runs this command, as the machine says.
pub(super) fn user() -> Who {
    let variable = |name: &str| std::env::var(name).ok().filter(|name| !name.is_empty());
    let by = variable("USER").or_else(|| variable("LOGNAME"));
    Who {
        by: by.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw())),
        auth: "none",
        ..Who::default()
    }
}

/// Who runs this command, as the cluster says.
pub(super) async fn known_to(client: &Client) -> Who {
    let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let root = "/apis/authentication.k8s.io/v1";
    let answer = client.at(Method::POST, root, &["selfsubjectreviews"], Some(&asked));
    // An old cluster cannot say; what we write is refused there like anybody's.
    let review = answer.await.unwrap_or_default();
    match review["status"]["userInfo"]["username"].as_str() {
        Some(name) => Who {
            by: name.to_owned(),
            auth: "kubernetes",
            ..Who::default()
        },
        None => user(),
    }
}

fn lost(why: &StoreError) -> CliError {
    let code = match why {
        StoreError::Unavailable(_) => exit::UNREACHABLE,
        StoreError::Refused(_) => exit::NOT_PERMITTED,
        StoreError::Busy(_) => exit::REFUSED,
    };
    CliError::new(code, format!("the gates cannot be asked: {why}"))
}

fn unchanged(gate: &GateId, why: &ChangeError) -> CliError {
    match why {
        ChangeError::Store(why) => lost(why),
        ChangeError::Refused(why) => {
            let error = CliError::new(
                exit::REFUSED,
                format!(
                    "gate {} of {} was not changed: {why}",
                    gate.gate, gate.canary
                ),
            );
            match why {
                Refused::NoRevision => error.hint("name it: --revision CHECKSUM"),
                Refused::Version(_) => error.hint(format!(
                    "crossfade gate status {} {} -n {}",
                    gate.canary.name, gate.gate, gate.canary.namespace
                )),
                Refused::Changed | Refused::UnknownCall => error,
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "errors are mapped by it")]
fn said(error: RemoteError) -> CliError {
    match error {
        RemoteError::Unreachable(_) => CliError::new(exit::UNREACHABLE, error.to_string())
            .hint("crossfade gates --gate-store sqlite:FILE"),
        RemoteError::Answer { status, .. } => {
            let code = match status {
                401 | 403 => exit::NOT_PERMITTED,
                400 | 409 => exit::REFUSED,
                503 => exit::UNREACHABLE,
                _ => exit::FAILURE,
            };
            let error = CliError::new(code, error.to_string());
            if status == 401 {
                error.hint("show a token with --token")
            } else {
                error
            }
        }
        RemoteError::Garbled(_) => CliError::failure(error.to_string()),
    }
}
