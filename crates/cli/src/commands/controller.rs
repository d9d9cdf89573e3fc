//! `crossfade controller`: looks after the releases of a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use crossfade_kube::{Controller as Running, Election, RequestLimit, Settings, Shard, Tracing};
use tokio::signal::unix::{SignalKind, signal};

use super::host::{LogFormat, LogLevel, PROMETHEUS_ADDRESS, log_to_stderr};
use crate::cluster::Cluster;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;

/// Run releases on a Kubernetes cluster
///
/// Looks after all Rollouts, AnalysisRuns and Experiments of the cluster that kubeconfig names, or of the one whose pod this runs in. Of several
/// controllers the one that holds the Lease does so, and the others wait. Ending it stops nothing: whoever leads next takes every release up
/// where it stands.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags are independent")]
pub(crate) struct Controller {
    /// Look after one namespace only: that of --namespace, else the controller's own
    #[arg(long)]
    pub(crate) namespaced: bool,
    /// Look after these namespaces only, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) namespaces: Vec<String>,
    /// Look after objects with this controller-instance-id only; without it, after those that have none
    #[arg(long, value_name = "ID", default_value = "")]
    pub(crate) instance_id: String,
    /// Look after one part of the objects only: 0/3 is the first of three. Each part has a Lease of its own
    #[arg(long, value_name = "PART")]
    pub(crate) shard: Option<Shard>,
    /// Ask for the Lease before anything is written; `--leader-elect=false` for a controller that is alone
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) leader_elect: bool,
    /// Namespace of the Lease; the controller's own when not given
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) leader_election_namespace: Option<String>,
    /// Name of the Lease: that of the controller that Crossfade takes over from, so that never both work
    #[arg(
        long,
        value_name = "NAME",
        default_value = "argo-rollouts-controller-lock"
    )]
    pub(crate) leader_election_lease: String,
    /// Seconds after which another controller may lead when the Lease is not renewed
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 15,
        value_parser = clap::value_parser!(u64).range(2..=600)
    )]
    pub(crate) leader_election_lease_duration: u64,
    /// Port of /metrics
    #[arg(
        long,
        alias = "metricsPort",
        alias = "metricsport",
        value_name = "PORT",
        default_value_t = 8090
    )]
    pub(crate) metrics_port: u16,
    /// Port of /healthz and /readyz
    #[arg(
        long,
        alias = "healthzPort",
        value_name = "PORT",
        default_value_t = 8080
    )]
    pub(crate) healthz_port: u16,
    /// Let metrics about single looks name their objects, or only the kinds of these: for fleets of thousands
    #[arg(long, value_enum, value_name = "DETAIL", default_value = "object")]
    pub(crate) metrics_detail: MetricsDetail,
    /// Rollouts and Experiments that are looked after at once
    #[arg(long, value_name = "NUMBER", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rollout_threads: u16,
    /// AnalysisRuns that are looked after at once
    #[arg(long, value_name = "NUMBER", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) analysis_threads: u16,
    /// Accepted for the sake of manifests that have it; --rollout-threads counts
    #[arg(
        long,
        aliases = ["service-threads", "ingress-threads", "ephemeral-metadata-threads"],
        value_name = "NUMBER",
        hide = true,
        action = clap::ArgAction::Append
    )]
    pub(crate) experiment_threads: Vec<u16>,
    /// Seconds after which everything is looked at without a reason
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rollout_resync: u64,
    /// Requests a second to the API server on average; 0 leaves that to its own rules of fairness
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub(crate) qps: f64,
    /// Requests at once after a pause, where --qps sets a limit
    #[arg(long, value_name = "NUMBER", default_value_t = 80)]
    pub(crate) burst: u32,
    /// Version of Istio's API
    #[arg(long, value_name = "VERSION", default_value = "v1alpha3")]
    pub(crate) istio_api_version: String,
    /// Who routes the requests of Canaries that do not say so
    #[arg(long, value_name = "PROVIDER", default_value = "istio")]
    pub(crate) mesh_provider: String,
    /// Prometheus that answers the built-in metrics of Canaries that name none
    #[arg(long, value_name = "URL", default_value = "http://prometheus:9090")]
    pub(crate) metrics_server: String,
    /// Labels that may tell the pods of a Canary's target from others; the first that is there counts
    #[arg(
        long,
        value_name = "LABELS",
        value_delimiter = ',',
        default_value = "app,name,app.kubernetes.io/name"
    )]
    pub(crate) selector_labels: Vec<String>,
    /// Prefixes of labels that a Canary's target hands on to its primary; * for all
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',')]
    pub(crate) include_label_prefix: Vec<String>,
    /// Watch the ConfigMaps and Secrets of Canaries' targets
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) enable_config_tracking: bool,
    /// Let Canaries name nothing of other namespaces
    #[arg(long)]
    pub(crate) no_cross_namespace_refs: bool,
    /// Name of the cluster in alerts
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_name: Option<String>,
    /// Where the events of Canaries without event webhooks are sent
    #[arg(long, value_name = "URL")]
    pub(crate) event_webhook: Option<String>,
    /// How the annotations of the NGINX ingress controller begin
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "nginx.ingress.kubernetes.io"
    )]
    pub(crate) ingress_annotations_prefix: String,
    /// How much is logged
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: LogLevel,
    /// Form of the log on standard error
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// How much metrics tell about single looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MetricsDetail {
    /// Each object by name.
    Object,
    /// All objects of a kind together.
    Kind,
}

impl Controller {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<()> {
        log_to_stderr(self.log_level, self.log_format);
        let options = &context.global.kubernetes;
        let cluster = Cluster::named(options, context.global.token.as_deref())?
            .or_else(|| Cluster::around_this_pod(options))
            .ok_or_else(|| {
                let text = "no cluster: there is no kubeconfig, and this is no pod of one";
                CliError::new(exit::UNREACHABLE, text)
                    .hint("crossfade controller --kubeconfig FILE")
            })?;
        let own = match (&context.global.namespace, cluster.namespace()) {
            (Some(given), _) => given.clone(),
            (None, "") => "default".to_owned(),
            (None, namespace) => namespace.to_owned(),
        };
        let mut settings = self.settings(&own);
        settings.traces =
            Tracing::from_variables(|name| std::env::var(name).ok()).map_err(CliError::usage)?;
        // It waits nearly all of the time: one thread has time enough, and tasks that go from one to another cost a fifth more.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|why| CliError::failure(format!("cannot start: {why}")))?;
        runtime.block_on(live(&cluster, settings))
    }

    fn settings(self, own: &str) -> Settings {
        let mut namespaces = self.namespaces;
        if self.namespaced && namespaces.is_empty() {
            namespaces.push(own.to_owned());
        }
        // Controllers of different objects do not compete.
        let mut lease = self.leader_election_lease;
        if !self.instance_id.is_empty() {
            lease = format!("{lease}-{}", self.instance_id);
        }
        if let Some(shard) = self.shard {
            lease = format!("{lease}-shard-{}", shard.index);
        }
        let election = self.leader_elect.then(|| {
            let namespace = self.leader_election_namespace.as_deref().unwrap_or(own);
            let lasts = Duration::from_secs(self.leader_election_lease_duration);
            Election {
                lasts,
                every: Duration::from_secs(2).min(lasts / 4),
                ..Election::new(namespace, &lease, identity())
            }
        });
        let requests = (self.qps > 0.0).then_some(RequestLimit {
            per_second: self.qps,
            burst: self.burst,
        });
        let on = |port| Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        let mut settings = Settings {
            namespaces,
            instance_id: self.instance_id,
            shard: self.shard,
            election,
            metrics: on(self.metrics_port),
            health: on(self.healthz_port),
            metrics_by_object: self.metrics_detail == MetricsDetail::Object,
            releases_at_once: self.rollout_threads.into(),
            runs_at_once: self.analysis_threads.into(),
            resync: Duration::from_secs(self.rollout_resync),
            requests,
            prometheus_address: std::env::var(PROMETHEUS_ADDRESS)
                .ok()
                .filter(|address| !address.is_empty()),
            ..Settings::default()
        };
        settings.routers.istio_version = self.istio_api_version;
        settings.routers.ingress_annotations_prefix = self.ingress_annotations_prefix;
        let canaries = &mut settings.canaries;
        canaries.provider = self.mesh_provider;
        canaries.metrics_server = self.metrics_server;
        canaries.selector_labels = self.selector_labels;
        canaries.include_label_prefixes = self.include_label_prefix;
        canaries.tracks_configs = self.enable_config_tracking;
        canaries.no_cross_namespace_refs = self.no_cross_namespace_refs;
        canaries.cluster_name = self.cluster_name.unwrap_or_default();
        canaries.event_webhook = self.event_webhook.unwrap_or_default();
        settings
    }
}

/// A name that no other controller has: the pod's or machine's, and something new with each start.
fn identity() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("{host}_{}_{now:x}", std::process::id())
}

/// Runs the controller until it is told to end, or does not lead any more.
async fn live(cluster: &Cluster, settings: Settings) -> Result<()> {
    let failed = |why: &dyn std::fmt::Display| CliError::failure(why.to_string());
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate()).map_err(|why| failed(&why))?,
        signal(SignalKind::interrupt()).map_err(|why| failed(&why))?,
    );
    let config = cluster.config().await;
    let config = config.map_err(|why| CliError::new(exit::UNREACHABLE, why.to_string()))?;
    let client = crossfade_kube::client(config).map_err(|why| failed(&why))?;
    let mut running = Running::start(client, settings)
        .await
        .map_err(|why| failed(&why))?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        why = running.broken() => Err(CliError::failure(why).hint("start it again: it takes up everything where it stands")),
    };
    if ended.is_ok() {
        running.stop().await;
    }
    ended
}
