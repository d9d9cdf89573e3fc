//! The control plane: what changes becomes a subject to look at, and each subject is looked at until nothing is left to do.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossfade_api::rollout_status::RolloutStatus;
use crossfade_engine::action::Target;
use crossfade_engine::analysis::AnalysisRunSubject;
use crossfade_engine::decision::Event;
use crossfade_engine::experiment::ExperimentSubject;
use crossfade_engine::pass::{Ended, Need, Pass, Standing};
use crossfade_engine::rollout::RolloutSubject;
use crossfade_metrics::Defaults;
use crossfade_metrics::transport::Transport;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::data_plane::DataPlane;
use super::measuring::Measuring;
use super::objects::{ObjectError, Objects};
use super::prepared::PreparedRollouts;
use super::queue::Queue;
use super::{analysis_runs, experiments, metering, pods, rollouts, views};
use crate::server::{self, Doors};
use crate::store::{Interest, Kind, Options, Store};
use crate::supervisor::Supervisor;
use crate::telemetry::samples::Store as Samples;
use crate::wire::WatchChange;

/// How often every Rollout is looked at without a reason.
const RESYNC: Duration = Duration::from_mins(15);

/// The longest path of a state folder, in bytes: a socket's address has room for 107, and the longest name of one is
/// `/proxy.sock.new`.
const LONGEST_FOLDER: usize = 107 - 15;

/// Something that is looked after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Rollout(String, String),
    AnalysisRun(String, String),
    Experiment(String, String),
    ReplicaSet(String, String),
    Job(String, String),
    Pod(String, String),
    /// The data plane's configuration, and Services that nobody manages any more.
    Services,
}

/// What all subjects share.
pub(super) struct Context {
    pub(super) objects: Objects,
    pub(super) supervisor: Supervisor,
    pub(super) data_plane: Arc<DataPlane>,
    pub(super) measuring: Measuring,
    pub(super) prepared: PreparedRollouts,
    pub(super) queue: Queue<Subject>,
    /// What each Rollout and AnalysisRun waited for at its last pass.
    pub(super) ended: Mutex<BTreeMap<Subject, Ended>>,
}

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

impl Context {
    /// Looks after a subject once; tells when to look again, or why it failed.
    async fn look_after(&self, subject: &Subject) -> Result<Option<Duration>, String> {
        let text = |error: ObjectError| error.to_string();
        match subject {
            Subject::Rollout(namespace, name) => self.rollout(subject, namespace, name).await,
            Subject::AnalysisRun(namespace, name) => {
                self.analysis_run(subject, namespace, name).await
            }
            Subject::Experiment(namespace, name) => self.experiment(subject, namespace, name).await,
            Subject::ReplicaSet(namespace, name) => {
                pods::replica_set(self, namespace, name).await.map_err(text)
            }
            Subject::Job(namespace, name) => pods::job(self, namespace, name).await.map_err(text),
            Subject::Pod(namespace, name) => pods::pod(self, namespace, name).await.map_err(text),
            Subject::Services => {
                rollouts::release_services(self).await?;
                self.data_plane.bring_up_to_date(self).await.map(|()| None)
            }
        }
    }

    async fn rollout(
        &self,
        subject: &Subject,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Duration>, String> {
        let text = |error: ObjectError| error.to_string();
        let Some(world) = rollouts::observe(self, namespace, name) else {
            self.forget(subject);
            return Ok(None);
        };
        let rollout = Arc::clone(&world.rollout);
        let target = rollouts::target(&rollout);
        if rollout.status == RolloutStatus::default() {
            self.publish(Kind::Rollout, &target, &[first_seen(&target)])
                .await;
        }
        // What is read here is the store itself, not a copy of it: it always holds our own last write.
        let mut pass = Pass::<RolloutSubject>::start(world, Standing::Sound, Timestamp::now());
        let mut recorded_on = target.clone();
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let mut outcomes = Vec::with_capacity(actions.len());
                    for action in &actions {
                        let outcome = rollouts::perform(self, &rollout, action).await;
                        if let (
                            crossfade_engine::action::Action::UpdateRollout { .. },
                            Ok(crossfade_engine::action::Done::Written(version)),
                        ) = (action, &outcome)
                        {
                            recorded_on.resource_version.clone_from(version);
                        }
                        outcomes.push(outcome);
                    }
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    let stored = match &status {
                        Some(status) => {
                            rollouts::record(self, &recorded_on, &rollout.status, status)
                                .await
                                .map_err(text)
                        }
                        None => Ok(()),
                    };
                    if stored.is_ok() {
                        self.prepared
                            .follow(&target.uid, status.as_ref().unwrap_or(&rollout.status));
                        self.publish(Kind::Rollout, &target, &events).await;
                    }
                    pass.recorded(stored);
                }
            }
        }
        self.settle(subject, pass.ended())
    }

    async fn analysis_run(
        &self,
        subject: &Subject,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Duration>, String> {
        let text = |error: ObjectError| error.to_string();
        let Some(world) = analysis_runs::observe(self, namespace, name) else {
            self.forget(subject);
            return Ok(None);
        };
        let run = Arc::clone(&world.run);
        let target = analysis_runs::target(&run);
        let now = Timestamp::now();
        let mut pass = Pass::<AnalysisRunSubject>::start(world, Standing::Sound, now);
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let outcomes = analysis_runs::perform(self, &run, &actions, now).await;
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    let stored = match &status {
                        Some(status) => analysis_runs::record(self, &target, &run.status, status)
                            .await
                            .map_err(text),
                        None => Ok(()),
                    };
                    if stored.is_ok() {
                        self.publish(Kind::AnalysisRun, &target, &events).await;
                    }
                    pass.recorded(stored);
                }
            }
        }
        self.settle(subject, pass.ended())
    }

    async fn experiment(
        &self,
        subject: &Subject,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Duration>, String> {
        let text = |error: ObjectError| error.to_string();
        let Some(world) = experiments::observe(self, namespace, name) else {
            self.forget(subject);
            return Ok(None);
        };
        let experiment = Arc::clone(&world.experiment);
        let target = experiments::target(&experiment);
        let mut pass = Pass::<ExperimentSubject>::start(world, Standing::Sound, Timestamp::now());
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let mut outcomes = Vec::with_capacity(actions.len());
                    for action in &actions {
                        outcomes.push(experiments::perform(self, action).await);
                    }
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    let stored = match &status {
                        Some(status) => {
                            experiments::record(self, &target, &experiment.status, status)
                                .await
                                .map_err(text)
                        }
                        None => Ok(()),
                    };
                    if stored.is_ok() {
                        self.publish(Kind::Experiment, &target, &events).await;
                    }
                    pass.recorded(stored);
                }
            }
        }
        self.settle(subject, pass.ended())
    }

    /// The Rollout that controls an object.
    fn rollout_above(&self, kind: Kind, target: &Target) -> Option<Target> {
        let object = self.objects.get(kind, &target.namespace, &target.name)?;
        let (_, name, uid) =
            views::controller(&object).filter(|(kind, _, _)| *kind == "Rollout")?;
        Some(Target {
            namespace: target.namespace.clone(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            resource_version: String::new(),
        })
    }

    async fn publish(&self, kind: Kind, target: &Target, events: &[Event]) {
        for event in events {
            tracing::info!(
                kind = kind.name(),
                namespace = target.namespace,
                name = target.name,
                reason = event.reason,
                "{}",
                event.message
            );
            self.objects
                .event(kind, target, event.warning, &event.reason, &event.message)
                .await;
            self.objects
                .audit(kind, target, &event.reason, &event.message)
                .await;
            let above = event.for_owner.then(|| self.rollout_above(kind, target));
            if let Some(rollout) = above.flatten() {
                let (reason, message) = (&event.reason, &event.message);
                self.objects
                    .event(Kind::Rollout, &rollout, event.warning, reason, message)
                    .await;
            }
        }
    }

    fn forget(&self, subject: &Subject) {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(subject);
    }

    fn settle(&self, subject: &Subject, ended: Ended) -> Result<Option<Duration>, String> {
        let look_again = ended
            .look_again
            .map(|delay| Duration::try_from(delay).unwrap_or_default());
        let failed = ended.failed.clone();
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(subject.clone(), ended);
        match failed {
            // A failed pass keeps its timer, too: whichever comes first.
            Some(why) => {
                if let Some(delay) = look_again {
                    self.queue.add_after(subject.clone(), delay);
                }
                Err(why)
            }
            None => Ok(look_again),
        }
    }

    /// Everything that a change of an object is a reason to look after.
    fn wake(&self, kind: Kind, object: &Value, gone: bool) {
        let namespace = views::text(object, "/metadata/namespace").to_owned();
        let name = views::text(object, "/metadata/name").to_owned();
        let owner =
            views::controller(object).map(|(kind, name, _)| (kind.to_owned(), name.to_owned()));
        let owned_by = |wanted: &str| {
            owner
                .as_ref()
                .filter(|(kind, _)| kind == wanted)
                .map(|(_, name)| name.clone())
        };
        match kind {
            Kind::Rollout => {
                if gone {
                    self.prepared.forget(views::text(object, "/metadata/uid"));
                }
                self.queue.add(Subject::Rollout(namespace, name));
                self.queue.add(Subject::Services);
            }
            Kind::AnalysisRun => {
                if let Some(rollout) = owned_by("Rollout") {
                    self.queue.add(Subject::Rollout(namespace.clone(), rollout));
                }
                if let Some(experiment) = owned_by("Experiment") {
                    self.queue
                        .add(Subject::Experiment(namespace.clone(), experiment));
                }
                self.queue.add(Subject::AnalysisRun(namespace, name));
            }
            Kind::Experiment => {
                if let Some(rollout) = owned_by("Rollout") {
                    self.queue.add(Subject::Rollout(namespace.clone(), rollout));
                }
                self.queue.add(Subject::Experiment(namespace, name));
            }
            Kind::ReplicaSet => {
                if let Some(experiment) = owned_by("Experiment") {
                    self.queue
                        .add(Subject::Experiment(namespace.clone(), experiment));
                }
                match owned_by("Rollout") {
                    Some(rollout) => self.queue.add(Subject::Rollout(namespace.clone(), rollout)),
                    None => self.wake_rollouts(Some(&namespace)),
                }
                self.queue.add(Subject::ReplicaSet(namespace, name));
            }
            Kind::Job => {
                if let Some(run) = owned_by("AnalysisRun") {
                    self.queue.add(Subject::AnalysisRun(namespace.clone(), run));
                }
                self.queue.add(Subject::Job(namespace, name));
            }
            Kind::Pod => {
                if let Some(owner) = pods::owner_of(object) {
                    self.queue.add(owner);
                }
                self.queue.add(Subject::Pod(namespace, name));
            }
            Kind::Service => {
                if let Some(experiment) = owned_by("Experiment") {
                    self.queue
                        .add(Subject::Experiment(namespace.clone(), experiment));
                }
                self.queue.add(Subject::Services);
                self.wake_rollouts(Some(&namespace));
            }
            Kind::Ingress => {
                self.queue.add(Subject::Services);
                self.wake_rollouts(Some(&namespace));
            }
            Kind::AnalysisTemplate => {
                self.wake_rollouts(Some(&namespace));
                self.wake_experiments(Some(&namespace));
            }
            Kind::Deployment | Kind::VirtualService | Kind::DestinationRule | Kind::HttpRoute => {
                self.wake_rollouts(Some(&namespace));
            }
            Kind::ClusterAnalysisTemplate => {
                self.wake_rollouts(None);
                self.wake_experiments(None);
            }
            Kind::ConfigMap | Kind::Secret | Kind::Namespace | Kind::Event | Kind::IngressClass => {
            }
        }
    }

    fn wake_rollouts(&self, namespace: Option<&str>) {
        for rollout in self.objects.list(Kind::Rollout, namespace) {
            let namespace = views::text(&rollout, "/metadata/namespace").to_owned();
            self.queue.add(Subject::Rollout(
                namespace,
                views::text(&rollout, "/metadata/name").to_owned(),
            ));
        }
    }

    fn wake_experiments(&self, namespace: Option<&str>) {
        for experiment in self.objects.list(Kind::Experiment, namespace) {
            let target = views::target(&experiment);
            self.queue
                .add(Subject::Experiment(target.namespace, target.name));
        }
    }

    /// Looks at everything there is.
    fn wake_all(&self) {
        for kind in [
            Kind::Rollout,
            Kind::AnalysisRun,
            Kind::Experiment,
            Kind::ReplicaSet,
            Kind::Job,
            Kind::Pod,
        ] {
            self.wake_kind(kind);
        }
        self.queue.add(Subject::Services);
    }

    fn wake_kind(&self, kind: Kind) {
        for object in self.objects.list(kind, None) {
            self.wake(kind, &object, false);
        }
    }
}

/// Gives subjects out of the queue to tasks of their own, until the queue is closed.
async fn work(context: Arc<Context>) {
    let mut tasks = JoinSet::new();
    loop {
        let subject = tokio::select! {
            subject = context.queue.next() => subject,
            Some(_) = tasks.join_next() => continue,
        };
        let Some(subject) = subject else { break };
        let context = Arc::clone(&context);
        tasks.spawn(async move {
            let outcome = guarded(context.look_after(&subject)).await;
            if let Err(why) = &outcome {
                tracing::warn!(subject = ?subject, "{why}");
            }
            if let Ok(Some(delay)) = &outcome {
                context.queue.add_after(subject.clone(), *delay);
            }
            context.queue.done(&subject, outcome.is_err());
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// What other tools wait for as the first word about a Rollout.
fn first_seen(target: &Target) -> Event {
    Event {
        warning: false,
        reason: "RolloutAddedToInformer".to_owned(),
        message: format!(
            "Rollout resource added to informer: {}/{}",
            target.namespace, target.name
        ),
        done: true,
        for_owner: false,
    }
}

/// A mistake of ours about one subject is a failure of that subject, to be tried again with growing delays, and of nothing else.
async fn guarded<T>(looking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let outcome = std::panic::AssertUnwindSafe(looking).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err("an assertion failed; this is a defect of crossfade".to_owned()))
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
        let transport = Arc::new(Transport::new(Some(names)).map_err(StartError::Other)?);
        let defaults = Defaults {
            prometheus_address: settings
                .prometheus_address
                .clone()
                .or_else(|| Some(format!("http://{metrics}"))),
        };
        let context = Arc::new(Context {
            objects,
            supervisor,
            data_plane,
            measuring: Measuring::new(transport, defaults),
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
        let api = metrics_api.clone();
        part(&mut tasks, "the metric store's API", async move {
            crate::telemetry::api::serve(listener, api).await;
        });
        let feed = metering::feed(Arc::clone(&context), samples);
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

/// Wakes subjects whenever an object changes.
async fn watch_objects(context: Arc<Context>, store: Store) {
    loop {
        let mut watch = store.watch(Interest::default(), store.revision());
        // Whatever changed before the watch began is seen here.
        context.wake_all();
        while let Ok(sighting) = watch.next().await {
            let object = sighting.object();
            context.wake(
                object.kind(),
                object.value(),
                sighting.what == WatchChange::Deleted,
            );
        }
    }
}

/// Wakes a pod's object, its owner and the data plane whenever its processes change.
async fn watch_pods(context: Arc<Context>) {
    let mut changes = context.supervisor.changes();
    loop {
        match changes.recv().await {
            Ok(change) => match context.supervisor.status(&change.uid) {
                Some(pod) => context
                    .queue
                    .add(Subject::Pod(pod.identity.namespace, pod.identity.name)),
                None => context.wake_kind(Kind::Pod),
            },
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                context.wake_kind(Kind::Pod);
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
        context.queue.add(Subject::Services);
    }
}

/// Looks at everything every so often.
async fn resync(context: Arc<Context>) {
    loop {
        tokio::time::sleep(RESYNC).await;
        context.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::{guarded, is_name_of};

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

    #[tokio::test]
    async fn a_panic_about_one_subject_is_a_failure_like_any_other() {
        assert_eq!(guarded(async { Ok(1) }).await, Ok(1));
        let panics = async {
            assert!(std::env::args().count() > 1000, "a mistake");
            Ok(1)
        };
        let failed = guarded(panics).await;
        assert!(failed.is_err_and(|why| why.contains("defect")));
    }
}
