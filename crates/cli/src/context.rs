//! What a command works with: its mode, its terminal, and the host that it talks to.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crossfade_host::client::{Address, Client};

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
}

impl Context {
    /// The context of a command with these options.
    pub(crate) fn new(mode: Mode, global: Global) -> Self {
        let terminal = Terminal::of_process(global.color, global.ascii);
        Self {
            mode,
            global,
            terminal,
        }
    }

    /// The namespace to work in.
    pub(crate) fn namespace(&self) -> &str {
        self.global.namespace.as_deref().unwrap_or(NAMESPACE)
    }

    /// True when everything is on offer, false when only what the reference has.
    pub(crate) fn is_full(&self) -> bool {
        self.mode == Mode::Full
    }

    /// A client of the host that is meant.
    pub(crate) fn client(&self) -> Result<Client> {
        let client = Client::new(self.address()?);
        Ok(if self.global.request_timeout.is_zero() {
            client
        } else {
            client.answered_within(self.global.request_timeout)
        })
    }

    fn address(&self) -> Result<Address> {
        let variable = std::env::var("CROSSFADE_HOST").ok();
        let named = self
            .global
            .host
            .clone()
            .or(variable)
            .filter(|host| !host.is_empty());
        if let Some(host) = named {
            return Ok(Address::parse(&host, self.token().as_deref())?);
        }
        if let Some(option) = self.global.kubernetes.names_a_cluster() {
            return Err(CliError::new(
                exit::UNREACHABLE,
                format!("this version cannot talk to Kubernetes clusters: {option}"),
            )
            .hint(
                "leave the option out to talk to a running crossfade host, or name one with --host",
            ));
        }
        let socket = default_state_folder().map(|folder| folder.join("control.sock"));
        let nobody = || {
            CliError::new(
                exit::UNREACHABLE,
                "no Kubernetes configuration and no running crossfade host: set --kubeconfig, or start one with \"crossfade host\"",
            )
            .hint("crossfade host")
        };
        let socket = socket.ok_or_else(nobody)?;
        // Asked beforehand, because "nobody answers" at a place that nobody named would help nobody.
        match UnixStream::connect(&socket) {
            Ok(_) => Ok(Address::Socket(socket)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(CliError::new(
                exit::NOT_PERMITTED,
                format!("may not talk to the host: {}: {error}", socket.display()),
            )
            .hint("the socket belongs to the user that runs the host")),
            Err(_) => Err(nobody()),
        }
    }

    fn token(&self) -> Option<String> {
        let stored = || std::fs::read_to_string(default_state_folder()?.join("token")).ok();
        self.global.token.clone().or_else(stored)
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
