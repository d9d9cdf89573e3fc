//! `crossfade gates`: the server of gates and tasks; also what a binary called `loadtester` does.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use crossfade_host::client::Client;
use crossfade_server::gates::log::{self, Encoding};
use crossfade_server::gates::{
    AuthMode, Guard, Keeper, Server, Settings, StartError, Store, TaskSettings, TaskType, TlsFiles,
};
use http::Method;
use regex::Regex;
use serde_json::json;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::global::go_duration;

/// How long requests under way are waited for at the end.
const FAREWELL: Duration = Duration::from_mins(1);
/// How long a cluster may take to say what this pod may do.
const MAY_WRITE: Duration = Duration::from_secs(10);

/// Serve gates that people open and releases ask
///
/// Answers what Flagger's load tester answers, under the same paths, and takes its options, with
/// one dash or two. This program does the same when it is called `loadtester`. Gates are opened
/// with `crossfade gate open`, or by a request:
///
///   curl -d '{"name":"podinfo","namespace":"test"}' http://localhost:9090/gate/open
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Gates {
    /// Port to listen on; 0 means any free one
    #[arg(long, value_name = "PORT", default_value_t = 9090)]
    port: u16,
    /// Address to listen on; all of the machine when not given
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// Answer only for namespaces in which this expression is found
    #[arg(
        long,
        value_name = "EXPRESSION",
        default_value = "",
        hide_default_value = true
    )]
    namespace_regexp: String,
    /// The expression must fit the whole name of the namespace
    #[arg(long)]
    namespace_regexp_full: bool,
    /// How much is logged: debug, info, warn, error, fatal or panic
    #[arg(long, value_name = "LEVEL", default_value = "debug")]
    log_level: String,
    /// Form of the log on standard error
    #[arg(long, value_enum, value_name = "FORM", default_value = "json")]
    zap_encoding: LogEncoding,
    /// Accepted for the sake of manifests that have it
    #[arg(long, value_name = "BOOL", hide = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    zap_replace_globals: bool,
    /// Where gates are kept: memory, sqlite:FILE, kubernetes or host
    ///
    /// `kubernetes` and `host` keep them as ConfigMaps beside the Canaries of the cluster or host that commands talk to, where any number of
    /// servers may look after them. When nothing is given: `kubernetes` in a pod that may write ConfigMaps, else `memory`.
    #[arg(long, value_name = "STORE")]
    gate_store: Option<StoreName>,
    /// Which requests need an identity: none, those that change gates or run tasks, or all but probes
    #[arg(long, value_enum, value_name = "MODE", default_value = "off")]
    gate_auth: Auth,
    /// File with tokens, one a line: token,user,namespaces,verbs
    ///
    /// Namespaces are a pattern such as `team-*`; verbs are check, open, close, refund, list and task, or get, update and *. The file is read anew
    /// whenever somebody shows a token.
    #[arg(long, value_name = "FILE")]
    gate_token_file: Option<PathBuf>,
    /// File with the server's certificate, and those above it: HTTPS instead of HTTP. Read anew when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File with its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// File with the authorities whose certificates identify clients
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Longest time that a task may take, for example 1h
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = go_duration)]
    timeout: Duration,
    /// Types of tasks that are run, separated by commas: cmd, ngrinder, bash, helm, helmv3, kubectl, concord, all, or none
    #[arg(long, value_name = "TYPES", default_value = "all")]
    tasks: Tasks,
    /// Tasks that run at once
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    max_tasks: u16,
    /// So much of the output of a task is kept, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    max_output: usize,
    /// Answer 404 to unknown paths under /gate/ and /rollback/ instead of taking them for tasks; the default with --tasks=none
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    strict_paths: Option<bool>,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogEncoding {
    /// JSON objects, one a line
    Json,
    /// Columns for people
    Console,
}

/// Which requests need an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Auth {
    /// None
    Off,
    /// Those that change or list gates, and tasks
    Mutations,
    /// All but probes, metrics, /gate/approve and /gate/halt
    All,
}

/// Where gates are kept, as people write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreName {
    /// In memory.
    Memory,
    /// In a file.
    Sqlite(PathBuf),
    /// Beside the Canaries.
    Objects,
}

/// Types of tasks, as people write them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tasks(Vec<TaskType>);

impl std::str::FromStr for Tasks {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "all" => Ok(Self(TaskType::ALL.to_vec())),
            "none" => Ok(Self(Vec::new())),
            _ => {
                let types = text.split(',').map(|word| word.trim().parse());
                types.collect::<std::result::Result<_, _>>().map(Self)
            }
        }
    }
}

impl std::str::FromStr for StoreName {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match (text, text.strip_prefix("sqlite:")) {
            ("memory", _) => Ok(Self::Memory),
            ("kubernetes" | "host", _) => Ok(Self::Objects),
            (_, Some(file)) if !file.is_empty() => Ok(Self::Sqlite(file.into())),
            _ => Err("use memory, sqlite:FILE, kubernetes or host".to_owned()),
        }
    }
}

/// Opens a SQLite file of gates.
pub(crate) fn sqlite(file: &Path) -> Result<Store> {
    Store::sqlite(file).map_err(|why| CliError::failure(format!("cannot open the gates: {why}")))
}

impl Gates {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<()> {
        let encoding = match self.zap_encoding {
            LogEncoding::Json => Encoding::Json,
            LogEncoding::Console => Encoding::Console,
        };
        log::start(&self.log_level, encoding);
        let runtime = tokio::runtime::Runtime::new()
            .map_err(|why| CliError::failure(format!("cannot start: {why}")))?;
        let done = runtime.block_on(self.live(context));
        // Tasks in the background are not waited for.
        runtime.shutdown_background();
        done
    }

    async fn live(self, context: &Context) -> Result<()> {
        let signals = || -> std::io::Result<_> {
            Ok((
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ))
        };
        let (mut terminate, mut interrupt) = signals()
            .map_err(|why| CliError::failure(format!("cannot wait for signals: {why}")))?;
        let (port, address) = (self.port, self.address);
        let programs = programs();
        let mut settings = self.settings(context).await?;
        settings.tasks.programs = programs.as_ref().map(|folder| folder.path().to_owned());
        let server = Server::start(address, port, settings).await;
        let server = server.map_err(|why| {
            let error = CliError::failure(why.to_string());
            match why {
                StartError::Listen { .. } => error
                    .hint("end the program that uses the port, or choose another one with --port"),
                StartError::Tls(_) => error,
            }
        })?;
        let stop = CancellationToken::new();
        let serving = server.serve(stop.clone());
        tokio::pin!(serving);
        tokio::select! {
            () = &mut serving => return Ok(()),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        stop.cancel();
        tokio::select! {
            () = serving => Ok(()),
            _ = terminate.recv() => Err(CliError::silent(exit::FAILURE)),
            _ = interrupt.recv() => Err(CliError::silent(exit::FAILURE)),
        }
    }

    async fn settings(self, context: &Context) -> Result<Settings> {
        let namespaces = match (self.namespace_regexp.as_str(), self.namespace_regexp_full) {
            ("", _) => None,
            (expression, false) => Some(Regex::new(expression)),
            (expression, true) => Some(Regex::new(&format!("^(?:{expression})$"))),
        };
        let namespaces = namespaces.transpose().map_err(|why| {
            CliError::usage(format!(
                "--namespace-regexp is no regular expression: {why}"
            ))
        })?;
        let (store, cluster) = self.store(context).await?;
        let mode = match self.gate_auth {
            Auth::Off => AuthMode::Off,
            Auth::Mutations => AuthMode::Mutations,
            Auth::All => AuthMode::All,
        };
        let guard = Guard::new(mode, self.gate_token_file, cluster)
            .map_err(|why| CliError::usage(format!("--gate-token-file: {why}")))?;
        Ok(Settings {
            keeper: Keeper::new(store),
            guard,
            namespaces,
            tls: self
                .tls_cert
                .zip(self.tls_key)
                .map(|(certificate, key)| TlsFiles {
                    certificate,
                    key,
                    clients: self.tls_client_ca,
                }),
            strict_paths: self.strict_paths.unwrap_or(self.tasks.0.is_empty()),
            tasks: TaskSettings {
                enabled: self.tasks.0,
                time: self.timeout,
                most: self.max_tasks.into(),
                output: self.max_output,
                programs: None,
            },
            farewell: FAREWELL,
        })
    }

    /// The store, and the cluster that knows whose a token is.
    async fn store(&self, context: &Context) -> Result<(Store, Option<Client>)> {
        let around = || {
            let pod = Cluster::around_this_pod(&context.global.kubernetes)?;
            Some(Client::over(pod.carrier()))
        };
        match &self.gate_store {
            Some(StoreName::Memory) => Ok((Store::memory(), around())),
            Some(StoreName::Sqlite(file)) => Ok((sqlite(file)?, around())),
            Some(StoreName::Objects) => {
                let client = context.client()?;
                let cluster = (!client.is_of_a_host()).then(|| client.clone());
                Ok((Store::objects(client), cluster))
            }
            None => {
                let cluster = around();
                if let Some(client) = &cluster
                    && may_write(client).await
                {
                    return Ok((Store::objects(client.clone()), cluster));
                }
                tracing::warn!("gates are kept in memory and will be lost on restart");
                Ok((Store::memory(), cluster))
            }
        }
    }
}

/// A folder in which this program is called `hey`, for tasks that want it where it is not installed.
fn programs() -> Option<TempDir> {
    let make = || -> std::io::Result<TempDir> {
        let folder = tempfile::Builder::new()
            .prefix("crossfade-gates-")
            .tempdir()?;
        std::os::unix::fs::symlink(std::env::current_exe()?, folder.path().join("hey"))?;
        Ok(folder)
    };
    match make() {
        Ok(folder) => Some(folder),
        Err(error) => {
            tracing::warn!(%error, "tasks find no built-in hey");
            None
        }
    }
}

/// Whether this pod may write ConfigMaps everywhere.
async fn may_write(client: &Client) -> bool {
    let asked = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "update", "resource": "configmaps"}},
    });
    let client = client.clone().answered_within(MAY_WRITE);
    let root = "/apis/authorization.k8s.io/v1";
    let answer = client.at(
        Method::POST,
        root,
        &["selfsubjectaccessreviews"],
        Some(&asked),
    );
    answer
        .await
        .is_ok_and(|review| review["status"]["allowed"] == true)
}
