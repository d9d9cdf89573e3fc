//! What a command works with: its mode, its terminal, and the host or cluster that it talks to.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crossfade_host::client::{Address, Client};

use crate::cluster::Cluster;
use crate::error::{CliError, Result};
use crate::exit;
use crate::global::Global;
use crate::invocation::Mode;
use crate::terminal::Terminal;

/// The namespace that is meant when none is given.
const NAMESPACE: &str = "default";

/// What a command works with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// How the command line behaves.
    pub(crate) mode: Mode,
    /// The options that every command understands.
    pub(crate) global: Global,
    /// Where results go.
    pub(crate) terminal: Terminal,
    server: Result<Server>,
}

/// Whom commands talk to.
#[derive(Clone, Debug)]
enum Server {
    Host(Address),
    Cluster(Box<Cluster>),
}

impl Context {
    /// The context of a command with these options.
    pub(crate) fn new(mode: Mode, global: Global) -> Self {
        let terminal = Terminal::of_process(global.color, global.ascii);
        let server = server(&global);
        Self {
            mode,
            global,
            terminal,
            server,
        }
    }

    /// The namespace to work in.
    pub(crate) fn namespace(&self) -> &str {
        let of_cluster = || match &self.server {
            Ok(Server::Cluster(cluster)) => Some(cluster.namespace()),
            _ => None,
        };
        let given = self.global.namespace.as_deref().or_else(of_cluster);
        given.filter(|name| !name.is_empty()).unwrap_or(NAMESPACE)
    }

    /// True when everything is on offer, false when only what the reference has.
    pub(crate) fn is_full(&self) -> bool {
        self.mode == Mode::Full
    }

    /// The cluster that is meant, if it is one.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        match &self.server {
            Ok(Server::Cluster(cluster)) => Some(cluster),
            Ok(Server::Host(_)) | Err(_) => None,
        }
    }

    /// A client of the host or cluster that is meant.
    pub(crate) fn client(&self) -> Result<Client> {
        let client = match self.server.clone()? {
            Server::Host(address) => Client::new(address),
            Server::Cluster(cluster) => Client::over(cluster.carrier()),
        };
        Ok(if self.global.request_timeout.is_zero() {
            client
        } else {
            client.answered_within(self.global.request_timeout)
        })
    }
}

/// A host that is named, else the cluster that kubectl would talk to, else the host that runs here.
fn server(global: &Global) -> Result<Server> {
    let variable = || std::env::var("CROSSFADE_HOST").ok();
    let named = global.host.clone().or_else(variable);
    if let Some(host) = named.filter(|host| !host.is_empty()) {
        let stored = || std::fs::read_to_string(default_state_folder()?.join("token")).ok();
        let token = global.token.clone().or_else(stored);
        return Ok(Server::Host(Address::parse(&host, token.as_deref())?));
    }
    if let Some(cluster) = Cluster::named(&global.kubernetes, global.token.as_deref())? {
        return Ok(Server::Cluster(Box::new(cluster)));
    }
    let nobody = || {
        CliError::new(
            exit::UNREACHABLE,
            "no Kubernetes configuration and no running crossfade host: set --kubeconfig, or start one with \"crossfade host\"",
        )
        .hint("crossfade host")
    };
    let socket = default_state_folder().map(|folder| folder.join("control.sock"));
    let socket = socket.ok_or_else(nobody)?;
    // Asked beforehand, because "nobody answers" at a place that nobody named would help nobody.
    match UnixStream::connect(&socket) {
        Ok(_) => Ok(Server::Host(Address::Socket(socket))),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(CliError::new(
            exit::NOT_PERMITTED,
            format!("may not talk to the host: {}: {error}", socket.display()),
        )
        .hint("the socket belongs to the user that runs the host")),
        Err(_) => Cluster::around_this_pod(&global.kubernetes)
            .map(|cluster| Server::Cluster(Box::new(cluster)))
            .ok_or_else(nobody),
    }
}

/// Where a host keeps its state unless told otherwise; `None` when there is no home.
pub(crate) fn default_state_folder() -> Option<PathBuf> {
    let folder = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let state = folder("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = state.or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("crossfade"))
}
