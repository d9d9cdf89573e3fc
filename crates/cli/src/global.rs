//! Options that every command understands.

use std::time::Duration;

use clap::Args;

use crate::output::Format;
use crate::terminal::ColourWish;

/// Options that every command understands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Namespace to work in; that of the kubectl context, else `default`, when none is given
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Host to talk to: its socket, its state folder, or http://127.0.0.1:PORT
    ///
    /// Without it the variable CROSSFADE_HOST counts, then the cluster that kubectl would talk to, then the host that runs with the default state folder.
    #[arg(long, global = true, value_name = "PATH|URL")]
    pub(crate) host: Option<String>,
    /// Form of the result: table, wide, json, yaml, name or jsonpath=TEMPLATE
    ///
    /// JSON has a stable form named by its member `schemaVersion`, and errors become one JSON object on standard error.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    pub(crate) output: Format,
    /// When to use colours; NO_COLOR and TERM=dumb mean never
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) color: ColourWish,
    /// Words and plain lines instead of icons and box drawing
    #[arg(long, global = true)]
    pub(crate) ascii: bool,
    /// Longest time to wait for one answer, for example 5s; a plain number means seconds, 0 the usual minute
    #[arg(long, global = true, value_name = "DURATION", default_value = "0", hide_default_value = true, value_parser = request_timeout)]
    pub(crate) request_timeout: Duration,
    /// How much this command says about itself: trace, debug, info, warn or error
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info", hide = true, value_parser = log_level)]
    pub(crate) loglevel: String,
    /// Token for a cluster, or for a host that is talked to over a port; then that in the default state folder when none is given
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    #[command(flatten)]
    pub(crate) kubernetes: Kubernetes,
}

/// How to reach a cluster, as kubectl has it. A host needs none of these.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Kubernetes options")]
pub(crate) struct Kubernetes {
    /// File that says how to reach clusters; KUBECONFIG or ~/.kube/config when none is given
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<String>,
    /// Context in that file; its current one when none is given
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Cluster in that file
    #[arg(long, global = true, hide = true, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// User in that file
    #[arg(long, global = true, hide = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Address of the API server
    #[arg(short, long, global = true, hide = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// User to act as
    #[arg(long = "as", global = true, hide = true, value_name = "NAME")]
    pub(crate) act_as: Option<String>,
    /// Group to act as; may be given several times
    #[arg(long, global = true, hide = true, value_name = "NAME")]
    pub(crate) as_group: Vec<String>,
    /// Uid to act as
    #[arg(long, global = true, hide = true, value_name = "UID")]
    pub(crate) as_uid: Option<String>,
    /// File with the certificate of the server's authority
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub(crate) certificate_authority: Option<String>,
    /// File with the certificate of the user
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub(crate) client_certificate: Option<String>,
    /// File with the key of the user
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub(crate) client_key: Option<String>,
    /// Do not check the server's certificate
    #[arg(long, global = true, hide = true)]
    pub(crate) insecure_skip_tls_verify: bool,
    /// Name that the server's certificate must have
    #[arg(long, global = true, hide = true, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
    /// Folder for what was read from servers
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    cache_dir: Option<String>,
    /// Do not compress answers
    #[arg(long, global = true, hide = true)]
    pub(crate) disable_compression: bool,
    /// Log level of the client library
    #[arg(
        short = 'v',
        long,
        global = true,
        hide = true,
        value_name = "LEVEL",
        default_value_t = 0
    )]
    kloglevel: u8,
}

impl Kubernetes {
    /// The first option that names a cluster, if one was given.
    pub(crate) fn names_a_cluster(&self) -> Option<&'static str> {
        [
            ("--kubeconfig", self.kubeconfig.is_some()),
            ("--context", self.context.is_some()),
            ("--cluster", self.cluster.is_some()),
            ("--user", self.user.is_some()),
            ("--server", self.server.is_some()),
        ]
        .into_iter()
        .find_map(|(option, given)| given.then_some(option))
    }
}

/// Ids of the options that the kubectl plugin of the reference shows.
pub(crate) const PLUGIN_OPTIONS: [&str; 20] = [
    "namespace",
    "kubeconfig",
    "context",
    "cluster",
    "user",
    "server",
    "token",
    "act_as",
    "as_group",
    "as_uid",
    "certificate_authority",
    "client_certificate",
    "client_key",
    "insecure_skip_tls_verify",
    "tls_server_name",
    "cache_dir",
    "disable_compression",
    "request_timeout",
    "kloglevel",
    "loglevel",
];

/// A duration as Go writes it; the error is Go's.
pub(crate) fn go_duration(text: &str) -> Result<Duration, String> {
    let duration = crossfade_api::duration::parse(text)?;
    Ok(duration.try_into().unwrap_or(Duration::ZERO))
}

fn request_timeout(text: &str) -> Result<Duration, String> {
    text.parse().map_or_else(
        |_| go_duration(text),
        |seconds| Ok(Duration::from_secs(seconds)),
    )
}

fn log_level(text: &str) -> Result<String, String> {
    let known = ["trace", "debug", "info", "warn", "error"];
    if known.contains(&text.to_lowercase().as_str()) {
        Ok(text.to_lowercase())
    } else {
        Err(format!(
            "invalid log level \"{text}\": use trace, debug, info, warn, error"
        ))
    }
}
