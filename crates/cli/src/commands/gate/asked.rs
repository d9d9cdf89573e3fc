//! Which gates the hooks of a Canary ask, and where those are kept.
//!
//! A hook names the server that it asks. Gates that are kept beside the Canaries need no server; others are changed where the hook asks.

use crossfade_api::flagger::{CanaryPhase, CanaryWebhook, HookType};
use crossfade_api::{Canary, Resource as _};
use crossfade_host::store::Kind;
use crossfade_server::gates::{
    DEFAULT_GATE, GateId, Opening, ROLLBACK_GATE, Record, Remote, RemoteError, Scope,
};
use jiff::Timestamp;
use serde_json::json;

use super::Place;
use super::change::gate_document;
use super::way::{Way, user};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::output::{document, object_name};
use crate::terminal;

/// A gate that a hook asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The hook's name.
    pub(crate) hook: String,
    /// The gate.
    pub(crate) gate: GateId,
    /// The address of the server that is asked.
    server: String,
}

/// A gate with the way to it.
pub(crate) struct Reached {
    /// Which hook asks it.
    pub(crate) asked: Asked,
    /// How it is changed.
    way: Way,
    /// What is kept of it; empty while nobody has asked it.
    pub(crate) record: Record,
}

impl Reached {
    /// Whether a release asks it in vain.
    pub(crate) fn is_waited_at(&self) -> bool {
        self.record.waiting_since.is_some() && !self.is_open()
    }

    /// Whether it lets the release pass that asked it last.
    pub(crate) fn is_open(&self) -> bool {
        let fits = self.record.scope == Scope::Any || self.record.checksum == self.revision();
        self.record.is_open(Timestamp::now()) && fits
    }

    /// Opens it on these terms, unless somebody has changed it since.
    pub(crate) async fn open(&mut self, opening: Opening) -> Result<()> {
        let opening = Opening {
            expect_version: Some(self.record.version),
            ..opening
        };
        self.record = self.way.open(&self.asked.gate, opening).await?;
        Ok(())
    }

    /// The revision that it was asked about last; empty when that is not known.
    pub(crate) fn revision(&self) -> &str {
        let last = self.record.last_check.as_ref();
        last.map_or("", |check| &check.checksum)
    }
}

/// Says what became of a Canary: to people a sentence, to programs the gate, too.
pub(crate) fn tell(
    context: &Context,
    canary: &Canary,
    gate: Option<&Reached>,
    message: &str,
) -> Result<()> {
    let output = &context.global.output;
    if output.is_for_people() {
        return terminal::line(message);
    }
    let facts = json!({
        "canary": canary.name(),
        "namespace": context.namespace(),
        "message": message,
        "gate": gate.map(|gate| gate_document(&gate.asked.gate, &gate.record)),
    });
    let name = object_name(Kind::Canary, canary.name());
    output.print(&document("CanaryAnswer", &facts)?, &[name])
}

/// The hooks that a Canary asks in its present phase before it goes on.
pub(crate) fn hooks_of_phase(canary: &Canary) -> Vec<&CanaryWebhook> {
    let kind = match canary.status.phase {
        CanaryPhase::Waiting => HookType::ConfirmRollout,
        CanaryPhase::Progressing => HookType::ConfirmTrafficIncrease,
        CanaryPhase::WaitingPromotion => HookType::ConfirmPromotion,
        _ => return Vec::new(),
    };
    hooks(canary, kind)
}

/// The hooks of a type.
pub(crate) fn hooks(canary: &Canary, kind: HookType) -> Vec<&CanaryWebhook> {
    let analysis = canary.spec.analysis();
    analysis.map_or_else(Vec::new, |analysis| analysis.hooks(kind).collect())
}

impl Asked {
    /// The gate that a hook asks, if it asks one as our servers have them.
    pub(crate) fn by(canary: &Canary, hook: &CanaryWebhook) -> Option<Self> {
        let url = hook.url.split(['?', '#']).next().unwrap_or_default();
        let (server, gate) = match url.strip_suffix("/gate/check") {
            Some(server) => {
                let named = hook.metadata.get("gate");
                (server, named.map_or(DEFAULT_GATE, String::as_str))
            }
            None => (url.strip_suffix("/rollback/check")?, ROLLBACK_GATE),
        };
        Some(Self {
            hook: hook.name.clone(),
            gate: GateId::new(canary.namespace(), canary.name(), gate),
            server: server.to_owned(),
        })
    }

    /// The way to where it is kept: the place that is given, else beside the Canaries, else the server that the hook asks.
    pub(crate) async fn reach(self, place: &Place, context: &Context) -> Result<Reached> {
        let way = Way::find(place, context).await?;
        let record = way.gates(&self.gate, true).await?.remove(&self.gate.gate);
        if record.is_some() || place.is_given() {
            return Ok(Reached {
                record: record.unwrap_or_default(),
                asked: self,
                way,
            });
        }
        let Self { hook, gate, server } = &self;
        let (name, shown) = (&gate.gate, shown(server));
        if context.cluster().is_some() {
            let text = format!(
                "gate '{name}' of '{}', which hook '{hook}' asks at {shown}, is not kept beside the Canaries",
                gate.canary.name
            );
            return Err(CliError::new(exit::REFUSED, text)
                .hint("say where it is kept, for example --gates http://localhost:8080 beside \"kubectl port-forward\""));
        }
        // Whoever wrote the hook chose the server: it is shown no token of ours.
        let remote = Remote::new(
            &address(context, &gate.canary.namespace, server).await?,
            None,
        );
        let remote = remote.map_err(|why| {
            CliError::new(exit::REFUSED, format!("hook '{hook}' asks no gate: {why}"))
        })?;
        let record = match remote.status(gate).await {
            Ok(record) => record.unwrap_or_default(),
            Err(why) => return Err(self.foreign(&why)),
        };
        Ok(Reached {
            record,
            asked: self,
            way: Way::Server(remote, user()),
        })
    }

    fn foreign(&self, why: &RemoteError) -> CliError {
        let Self { hook, gate, server } = self;
        let server = shown(server);
        match why {
            RemoteError::Unreachable(_) => CliError::new(
                exit::UNREACHABLE,
                format!("hook '{hook}' asks {server}, and there {why}"),
            )
            .hint("start it again, or say where its gates are kept with --gates"),
            RemoteError::Answer {
                status: 401 | 403, ..
            } => CliError::new(
                exit::NOT_PERMITTED,
                format!("hook '{hook}' asks {server}, and {why}"),
            )
            .hint(format!("--gates {server} --token TOKEN")),
            RemoteError::Answer { .. } | RemoteError::Garbled(_) => CliError::new(
                exit::REFUSED,
                format!("hook '{hook}' asks {server}, which is no gate server of crossfade; open its gate as that server wants it"),
            )
            .hint(format!(
                "with Flagger's load tester: curl -d '{{\"name\":\"{}\",\"namespace\":\"{}\"}}' {server}/gate/open",
                gate.canary.name, gate.canary.namespace
            )),
        }
    }
}

/// An address without user, password and query, which may hold secrets.
pub(crate) fn shown(address: &str) -> String {
    let Ok(uri) = address.parse::<hyper::Uri>() else {
        return "an address that cannot be read".to_owned();
    };
    let port = uri.port().map_or(String::new(), |port| format!(":{port}"));
    let (scheme, host) = (uri.scheme_str().unwrap_or("http"), uri.host());
    let path = uri.path().trim_end_matches('/');
    format!("{scheme}://{}{port}{path}", host.unwrap_or_default())
}

/// Where a server is found from here: names of the host's Services lead to their listeners.
async fn address(context: &Context, namespace: &str, server: &str) -> Result<String> {
    let (scheme, rest) = server.split_once("://").unwrap_or(("http", server));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let name = authority.split(':').next().unwrap_or_default();
    let mut labels = name.split('.');
    let service = labels.next().unwrap_or_default();
    let namespace = labels.next().unwrap_or(namespace);
    let info = context.client()?.info().await?;
    let listener = info
        .listeners
        .into_iter()
        .find(|listener| listener.service == service && listener.namespace == namespace);
    Ok(match listener {
        Some(listener) => format!("{scheme}://{}{path}", listener.address),
        None => server.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_an_address_holds_no_secret() {
        let address = "https://me:secret@gates.test:8443/gate/check?token=secret";
        assert_eq!(shown(address), "https://gates.test:8443/gate/check");
        assert_eq!(shown("http://gates"), "http://gates");
    }

    #[test]
    fn a_hook_asks_the_gate_that_its_address_and_its_metadata_name() {
        let canary = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {}});
        let canary = Canary::from_json(canary).0;
        for (hook, gate) in [
            (json!({"url": "http://gates/gate/check"}), Some("default")),
            (
                json!({"url": "http://gates/gate/check?x=1", "metadata": {"gate": "promotion"}}),
                Some("promotion"),
            ),
            (
                json!({"url": "http://gates/rollback/check"}),
                Some("rollback"),
            ),
            (json!({"url": "http://gates/gate/close"}), None),
            (json!({"url": "http://ci.example.com/may-it-go-on"}), None),
        ] {
            let mut hook = hook;
            hook["name"] = json!("ask");
            let hook: CanaryWebhook = serde_json::from_value(hook).expect("a hook");
            let asked = Asked::by(&canary, &hook);
            let expected = gate.map(|gate| Asked {
                hook: "ask".to_owned(),
                gate: GateId::new("shop", "web", gate),
                server: "http://gates".to_owned(),
            });
            assert_eq!(asked, expected, "{}", hook.url);
        }
    }
}
