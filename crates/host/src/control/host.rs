//! The control plane: what changes becomes a subject to look at, and each subject is looked at until nothing is left to do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossfade_http::Http;
use crossfade_metrics::Defaults;
use crossfade_metrics::canary_counts::CanaryMetrics;
use crossfade_metrics::transport::Transport;
use crossfade_notify::hooks::Hooks;
use crossfade_notify::turns::Turns;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::canaries;
use super::data_plane::DataPlane;
use super::measuring::Measuring;
use super::metering;
use super::objects::Objects;
use super::prepared::PreparedRollouts;
use super::queue::Queue;
use super::subjects::{Context, work};
use super::waking::{resync, watch_objects, watch_pods};
use crate::server::{self, Doors};
use crate::store::{Options, Store};
use crate::supervisor::Supervisor;
use crate::telemetry::samples::Store as Samples;

/// The longest path of a state folder, in bytes: a socket's address has room for 107, and the longest name of one is
/// `/proxy.sock.new`.
const LONGEST_FOLDER: usize = 107 - 15;

/// How a host is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of everything that outlives the control plane.
    pub state: PathBuf,
    /// This program, which is also the shim and the data plane.
    pub program: PathBuf,
    /// Address on which Services are listened for.
    pub service_ip: IpAddr,
    /// Address of the metric store's Prometheus API; port 0 for any.
    pub metrics: SocketAddr,
    /// Host names under which the metric store answers where no Service has the name.
    pub metric_aliases: Vec<String>,
    /// Where metrics are asked for that name no Prometheus server; the metric store when absent.
    pub prometheus_address: Option<String>,
    /// Also listen on this loopback address, for clients with the token.
    pub listen: Option<SocketAddr>,
    /// End pods and data plane with the control plane, and leave nothing behind.
    pub ephemeral: bool,
}

impl Settings {
    /// The usual set-up for a state folder.
    ///
    /// # Errors
    /// When this program's path cannot be found out.
    pub fn usual(state: PathBuf) -> std::io::Result<Self> {
        let aliases = [
            "prometheus",
            "prometheus-server",
            "prometheus-operated",
            "prometheus-k8s",
            "prometheus-kube-prometheus-prometheus",
            "kube-prometheus-stack-prometheus",
        ];
        Ok(Self {
            state,
            program: std::env::current_exe()?,
            service_ip: Ipv4Addr::LOCALHOST.into(),
            metrics: (Ipv4Addr::LOCALHOST, 0).into(),
            metric_aliases: aliases.map(str::to_owned).to_vec(),
            prometheus_address: None,
            listen: None,
            ephemeral: false,
        })
    }
}

/// A running control plane.
pub struct Host {
    context: Arc<Context>,
    settings: Settings,
    metrics: SocketAddr,
    socket: PathBuf,
    loopback: Option<SocketAddr>,
    closing: CancellationToken,
    /// The parts of the host, by name. None ends before it is told to.
    tasks: JoinSet<&'static str>,
}

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder cannot be used, for example because another host has it.
    #[error(transparent)]
    Store(#[from] crate::store::OpenError),
    /// The pods cannot be taken charge of.
    #[error(transparent)]
    Supervisor(#[from] crate::supervisor::SupervisorError),
    /// The API cannot be reached by anybody.
    #[error(transparent)]
    Doors(#[from] crate::server::DoorError),
    /// The address of the metric store cannot be listened on.
    #[error("cannot listen for metrics on {address}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Sockets in the folder would have addresses that are too long.
    #[error("the path of the state folder {} is too long for the sockets in it: it may have {LONGEST_FOLDER} bytes", .0.display())]
    TooLong(PathBuf),
    /// Something else; the text says what.
    #[error("{0}")]
    Other(String),
}

impl StartError {
    /// Whether another host works in the state folder.
    pub fn is_in_use(&self) -> bool {
        matches!(
            self,
            Self::Store(crate::store::OpenError::InUse { .. })
                | Self::Supervisor(crate::supervisor::SupervisorError::InUse(_))
        )
    }
}

impl Host {
    /// Takes charge of a state folder: finds pods and data plane again, or starts them.
    ///
    /// # Errors
    /// When another host has the folder, or an address cannot be listened on.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let other =
            |what: &str, why: &dyn std::fmt::Display| StartError::Other(format!("{what}: {why}"));
        if settings.state.as_os_str().len() > LONGEST_FOLDER {
            return Err(StartError::TooLong(settings.state));
        }
        let store = Store::open(
            &settings.state,
            Options::new(Arc::new(super::schemas::Schemas)),
        )?;
        let objects = Objects::new(store.clone());
        let mut shims = crate::supervisor::Settings::usual()
            .map_err(|why| other("cannot find this program", &why))?;
        shims.shim.clone_from(&settings.program);
        let supervisor =
            Supervisor::open(&settings.state, shims, Arc::new(objects.clone())).await?;
        let data_plane = Arc::new(DataPlane::new(
            &settings.program,
            &settings.state,
            settings.service_ip,
        ));

        let samples = Arc::new(Samples::new(crate::telemetry::samples::Settings::default()));
        let metrics_api = crate::telemetry::api::Api::new(
            Arc::clone(&samples),
            crate::telemetry::promql::Limits::default(),
        );
        let listener = tokio::net::TcpListener::bind(settings.metrics)
            .await
            .map_err(|source| StartError::Metrics {
                address: settings.metrics,
                source,
            })?;
        let metrics = listener
            .local_addr()
            .map_err(|why| other("cannot listen for metrics", &why))?;
        // Before anything is started: an address that is taken leaves nothing behind.
        let doors = Doors::open(&settings.state, settings.listen)?;

        let names = names(
            Arc::clone(&data_plane),
            settings.metric_aliases.clone(),
            metrics,
        );
        let http = Http::new(Some(Arc::clone(&names))).map_err(StartError::Other)?;
        let transport = Arc::new(Transport::new(Some(names)).map_err(StartError::Other)?);
        let prometheus = settings
            .prometheus_address
            .clone()
            .unwrap_or_else(|| format!("http://{metrics}"));
        let defaults = Defaults {
            prometheus_address: Some(prometheus.clone()),
        };
        let context = Arc::new(Context {
            objects,
            supervisor,
            data_plane,
            measuring: Measuring::new(transport, defaults),
            hooks: Hooks::new(http.clone(), Vec::new()),
            http,
            turns: Turns::default(),
            canary_settings: Arc::new(canaries::settings(prometheus)),
            looks: canaries::Looks::default(),
            canary_metrics: CanaryMetrics::default(),
            prepared: PreparedRollouts::default(),
            queue: Queue::new(),
            ended: Mutex::default(),
        });
        context
            .data_plane
            .bring_up_to_date(&context)
            .await
            .map_err(StartError::Other)?;

        let mut tasks = JoinSet::new();
        let told = Arc::clone(&context);
        let metrics_api = metrics_api.telling(Arc::new(move || metering::canary_page(&told)));
        let api = metrics_api.clone();
        part(&mut tasks, "the metric store's API", async move {
            crate::telemetry::api::serve(listener, api).await;
        });
        let feed = metering::feed(Arc::clone(&context), samples, metrics);
        part(&mut tasks, "the metric store's feed", feed);
        let objects = watch_objects(Arc::clone(&context), store.clone());
        part(&mut tasks, "the watch of objects", objects);
        let pods = watch_pods(Arc::clone(&context));
        part(&mut tasks, "the watch of pods", pods);
        part(&mut tasks, "the timer", resync(Arc::clone(&context)));
        let kept_up = Arc::clone(&context);
        part(&mut tasks, "the keeper of the data plane", async move {
            kept_up.data_plane.keep_up(&kept_up).await;
        });
        part(&mut tasks, "the work", work(Arc::clone(&context)));

        let (socket, loopback) = (doors.socket().to_owned(), doors.loopback());
        let closing = CancellationToken::new();
        let answers = Arc::new(Answers {
            context: Arc::clone(&context),
            metrics,
            metrics_api,
        });
        // Served last: whoever is let in finds everything in its place.
        let api = server::serve(store, answers, doors, closing.clone());
        part(&mut tasks, "the API", api);
        Ok(Self {
            context,
            settings,
            metrics,
            socket,
            loopback,
            closing,
            tasks,
        })
    }

    /// Where the metric store answers.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// The socket of the API.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The loopback address of the API, if it has one.
    pub fn loopback(&self) -> Option<SocketAddr> {
        self.loopback
    }

    /// Returns, and says which, when a part of the host has ended by itself: only a mistake of ours does that. What is left
    /// must not go on without it; a host that starts anew takes up everything.
    pub async fn broken(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(part)) => format!("{part} has ended"),
            Some(Err(error)) => format!("a part of the host has failed: {error}"),
            None => std::future::pending().await,
        }
    }

    /// Stops deciding. Pods and data plane go on, unless the host is ephemeral.
    pub async fn stop(mut self) {
        self.closing.cancel();
        self.context.queue.close();
        self.tasks.shutdown().await;
        if self.settings.ephemeral {
            end_everything(&self.context).await;
        }
        self.context.objects.close().await;
    }
}

/// Starts a part of the host.
fn part(
    tasks: &mut JoinSet<&'static str>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        task.await;
        name
    });
}

/// Ends all pods and the data plane.
async fn end_everything(context: &Context) {
    let mut changes = context.supervisor.changes();
    for pod in context.supervisor.list() {
        if let Err(error) = context.supervisor.delete_pod(&pod.identity.uid, Some(2)) {
            tracing::warn!("a pod could not be ended: {error}");
        }
    }
    let gone = async {
        while !context.supervisor.list().is_empty() {
            // A missed change is no reason to wait for another.
            let _ = tokio::time::timeout(Duration::from_millis(200), changes.recv()).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .is_err()
    {
        tracing::warn!("some pods did not end in time");
    }
    context.data_plane.end().await;
}

/// How names in addresses of metrics are resolved: Services first, then aliases of the metric store.
fn names(
    data_plane: Arc<DataPlane>,
    aliases: Vec<String>,
    metrics: SocketAddr,
) -> crossfade_metrics::transport::Names {
    Arc::new(move |host, port| {
        data_plane.resolve(host, port).or_else(|| {
            aliases
                .iter()
                .any(|alias| is_name_of(host, alias))
                .then_some(metrics)
        })
    })
}

/// Whether a host name is that of a Service in some namespace, in the forms that resolve inside a cluster. A name of the wide
/// world (`prometheus.example.com`) is none.
fn is_name_of(host: &str, service: &str) -> bool {
    let Some(rest) = host.strip_prefix(service) else {
        return false;
    };
    let rest = rest.strip_suffix(".cluster.local").unwrap_or(rest);
    let rest = rest.strip_suffix(".svc").unwrap_or(rest);
    rest.is_empty()
        || rest
            .strip_prefix('.')
            .is_some_and(|namespace| !namespace.is_empty() && !namespace.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::is_name_of;

    #[test]
    fn an_alias_is_the_name_of_a_service_and_of_nothing_else() {
        for host in [
            "prometheus",
            "prometheus.monitoring",
            "prometheus.monitoring.svc",
            "prometheus.monitoring.svc.cluster.local",
        ] {
            assert!(is_name_of(host, "prometheus"), "{host}");
        }
        for host in [
            "prometheus2",
            "prometheus.",
            "prometheus.example.com",
            "eu.prometheus",
            "prometheus.a.b.svc",
        ] {
            assert!(!is_name_of(host, "prometheus"), "{host}");
        }
    }
}
