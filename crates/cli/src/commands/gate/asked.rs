//! Which gates the hooks of a Canary ask, and where those are kept.
//!
//! A hook names the server that it asks. Gates that are kept beside the Canaries need no server; others are changed where the hook asks.

use crossfade_api::flagger::{CanaryPhase, CanaryWebhook, HookType};
use crossfade_api::{Canary, Resource as _};
use crossfade_host::store::Kind;
use crossfade_server::gates::{
    ClusterService, DEFAULT_GATE, GateId, Opening, ROLLBACK_GATE, Record, Remote, RemoteError,
    Scope,
};
use jiff::Timestamp;

use super::Place;
use super::way::{Way, known_to, user};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;

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

    /// The way to where it is kept: the place that is given, else beside the Canaries, else the server that the hook asks; in a cluster the API
    /// server relays.
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
        let (way, record) = self.asks_server(context).await?;
        Ok(Reached {
            record: record.unwrap_or_default(),
            asked: self,
            way,
        })
    }

    /// The way to the server that the hook asks, and what that knows of the gate.
    async fn asks_server(&self, context: &Context) -> Result<(Way, Option<Record>)> {
        let Self { hook, gate, server } = self;
        let (remote, who) = if context.cluster().is_some() {
            let client = context.client()?;
            let service = service(&gate.canary.namespace, server).ok_or_else(|| {
                let text = format!(
                    "gate '{}' of '{}', which hook '{hook}' asks at {}, is not kept beside the Canaries",
                    gate.gate,
                    gate.canary.name,
                    shown(server)
                );
                CliError::new(exit::REFUSED, text)
                    .hint("say where it is kept, for example --gates http://localhost:8080")
            })?;
            let who = known_to(&client).await;
            (Remote::relayed(client, &service), who)
        } else {
            // Whoever wrote the hook chose the server: it is shown no token of ours.
            let address = address(context, &gate.canary.namespace, server).await?;
            let remote = Remote::new(&address, None).map_err(|why| {
                CliError::new(exit::REFUSED, format!("hook '{hook}' asks no gate: {why}"))
            })?;
            (remote, user())
        };
        match remote.status(gate).await {
            Ok(record) => Ok((Way::Server(remote, who), record)),
            Err(why) if context.cluster().is_some() => Err(self.unrelayed(&why)),
            Err(why) => Err(self.foreign(&why)),
        }
    }

    /// Why the API server brought no answer.
    fn unrelayed(&self, why: &RemoteError) -> CliError {
        let Self { hook, gate, server } = self;
        let code = match why {
            RemoteError::Unreachable(_) => exit::UNREACHABLE,
            RemoteError::Answer {
                status: 401 | 403, ..
            } => exit::NOT_PERMITTED,
            RemoteError::Answer { .. } | RemoteError::Garbled(_) => exit::REFUSED,
        };
        let text = format!(
            "gate '{}' of '{}' is not kept beside the Canaries, and of {}, which hook '{hook}' asks, the API server brings no answer: {why}",
            gate.gate,
            gate.canary.name,
            shown(server)
        );
        let error = CliError::new(code, text);
        match service(&gate.canary.namespace, server) {
            Some(ClusterService { namespace, name, port, .. }) => error.hint(format!(
                "kubectl -n {namespace} port-forward service/{name} 8080:{port}, and beside it --gates http://localhost:8080"
            )),
            None => error,
        }
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

/// The Service of a cluster that an address names, seen from this namespace; none for an address elsewhere.
fn service(namespace: &str, server: &str) -> Option<ClusterService> {
    let (scheme, rest) = server.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port),
        None => (authority, if scheme == "https" { "443" } else { "80" }),
    };
    let mut labels = host.trim_end_matches('.').split('.');
    let name = labels.next()?;
    let namespace = labels.next().unwrap_or(namespace);
    let is_name = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !text.is_empty() && text.bytes().all(fits)
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_here = labels.next().is_none_or(|third| third == "svc")
        && name != "localhost"
        && [name, namespace].into_iter().all(is_name)
        && port.parse::<u16>().is_ok()
        && !is_number(namespace);
    is_here.then(|| ClusterService {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port: port.to_owned(),
        tls: scheme == "https",
        path: path.to_owned(),
    })
}

/// The way to one gate, or any of its Canary, that is not kept beside the Canaries, if the server that a hook asks knows it.
pub(super) async fn elsewhere(context: &Context, gate: &GateId, one: bool) -> Option<Way> {
    let client = context.client().ok()?;
    let GateId { canary, .. } = gate;
    let object = client.get(Kind::Canary, &canary.namespace, &canary.name);
    let canary = Canary::from_json(object.await.ok()?).0;
    let hooks = canary.spec.analysis()?.webhooks.iter();
    let mut asked = hooks.filter_map(|hook| Asked::by(&canary, hook));
    let asked = asked.find(|asked| !one || asked.gate == *gate)?;
    let (way, record) = asked.asks_server(context).await.ok()?;
    record.is_some().then_some(way)
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
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_shown_of_an_address_holds_no_secret() {
        let address = "https://me:secret@gates.test:8443/gate/check?token=secret";
        assert_eq!(shown(address), "https://gates.test:8443/gate/check");
        assert_eq!(shown("http://gates"), "http://gates");
    }

    #[test]
    fn a_service_is_known_by_its_names_and_servers_elsewhere_are_none() {
        for (server, known) in [
            ("http://gates", Some(("shop", "gates", "80", ""))),
            (
                "http://gates.test:8080/x",
                Some(("test", "gates", "8080", "/x")),
            ),
            ("https://gates.test.svc", Some(("test", "gates", "443", ""))),
            (
                "http://gates.test.svc.cluster.local",
                Some(("test", "gates", "80", "")),
            ),
            ("http://gates.example.com", None),
            ("http://localhost:8080", None),
            ("http://10.0.0.1", None),
            ("http://user:pass@gates", None),
            ("gates", None),
        ] {
            let found = service("shop", server);
            let found = found.as_ref().map(|one| {
                (
                    one.namespace.as_str(),
                    one.name.as_str(),
                    one.port.as_str(),
                    one.path.as_str(),
                )
            });
            assert_eq!(found, known, "{server}");
        }
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
