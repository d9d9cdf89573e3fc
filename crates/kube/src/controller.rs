//! The controller as a whole: its watches, its workers, its end.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use kube::Client;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Change, View};
use crate::canaries::Tongues;
use crate::context::{Context, Subject};
use crate::doors::{self, Ready};
use crate::events::events;
use crate::kind::Kind;
use crate::lease::{Candidate, Leadership};
use crate::measuring::Measuring;
use crate::perform;
use crate::queue::{Queue, Taken};
use crate::requests::Requests;
use crate::settings::Settings;
use crate::traces::traces;
use crate::watch::watch;
use crate::{canaries, experiments, rollouts, routes, runs};

/// How long passes under way may take to end with the controller.
const LAST_PASSES: Duration = Duration::from_secs(10);

/// Why a controller does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no way to the API server.
    #[error("no way to the API server: {0}")]
    Client(String),
    /// An address is taken.
    #[error("{0}")]
    Door(String),
    /// Neither metric providers nor collectors of traces can be asked.
    #[error("no way to make HTTP requests: {0}")]
    Transport(String),
}

/// A running controller.
pub struct Controller {
    closing: CancellationToken,
    running: JoinHandle<Option<String>>,
    doors: JoinSet<()>,
    metrics: Option<SocketAddr>,
    health: Option<SocketAddr>,
}

impl Controller {
    /// Begins to look after Rollouts and AnalysisRuns, as soon as it leads.
    ///
    /// # Errors
    /// Metric providers cannot be asked on this machine, or an address cannot be listened on.
    pub async fn start(client: Client, settings: Settings) -> Result<Self, StartError> {
        let leadership = match &settings.election {
            Some(_) => Leadership::default(),
            None => Leadership::undisputed(),
        };
        let requests = Requests::new(client, leadership.clone(), settings.requests);
        let (events, teller) = events();
        let measuring =
            Measuring::new(settings.prometheus_address.clone()).map_err(StartError::Transport)?;
        let (traces, sender) = traces(settings.traces.clone()).map_err(StartError::Transport)?;
        let candidate = settings
            .election
            .clone()
            .map(|election| Candidate::new(election, requests.clone(), leadership));
        let (metrics, health) = (settings.metrics, settings.health);
        let tongues = Tongues::new().map_err(StartError::Transport)?;
        let context = Context::new(
            settings,
            requests.clone(),
            events,
            traces,
            measuring,
            tongues,
        );
        let context = Arc::new(context);
        let ready = Ready::default();
        let mut doors = JoinSet::new();
        let mut listen = async |address: Option<SocketAddr>| -> Result<_, StartError> {
            let Some(address) = address else {
                return Ok(None);
            };
            let listener = doors::open(address).await.map_err(StartError::Door)?;
            let address = listener.local_addr().ok();
            doors.spawn(doors::serve(listener, Arc::clone(&context), ready.clone()));
            Ok(address)
        };
        let metrics = listen(metrics).await?;
        let health = listen(health).await?;
        let closing = CancellationToken::new();
        let life = Life {
            context,
            closing: closing.clone(),
            ready,
            candidate,
        };
        let tellers = async { tokio::join!(teller.run(requests), sender.run()) };
        let tellers = tokio::spawn(tellers.map(drop));
        Ok(Self {
            closing,
            running: tokio::spawn(life.live(tellers)),
            doors,
            metrics,
            health,
        })
    }

    /// Where `/metrics` is answered.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Where `/readyz` is answered.
    pub fn health(&self) -> Option<SocketAddr> {
        self.health
    }

    /// Ends: passes under way are finished, nothing new is begun, what was told is written, and somebody else may lead.
    pub async fn stop(mut self) {
        self.closing.cancel();
        let _ = (&mut self.running).await;
        self.doors.shutdown().await;
    }

    /// Returns, and says why, when the controller has ended by itself: it does not lead any more, or a part of it has failed. One that is
    /// started anew takes up everything where it stands.
    pub async fn broken(&mut self) -> String {
        match (&mut self.running).await {
            Ok(Some(why)) => why,
            Ok(None) => "the controller has ended".to_owned(),
            Err(error) => format!("the controller has failed: {error}"),
        }
    }
}

/// The life of a controller from start to end.
struct Life {
    context: Arc<Context>,
    closing: CancellationToken,
    ready: Ready,
    candidate: Option<Candidate>,
}

impl Life {
    /// Lives until it is told to end; says why when it ends before.
    async fn live(self, tellers: JoinHandle<()>) -> Option<String> {
        let Self {
            context,
            closing,
            ready,
            candidate,
        } = self;
        if let Some(candidate) = &candidate {
            // Whoever waits to lead is ready: nothing more can be asked of him.
            ready.set();
            tokio::select! {
                () = candidate.acquire() => {}
                () = closing.cancelled() => return None,
            }
        }
        let settled = Arc::new(Notify::new());
        let mut watches = JoinSet::new();
        watch_all(&mut watches, &context, &settled);
        watches.spawn(watch_named(Arc::clone(&context)));
        let renewing = async {
            match &candidate {
                Some(candidate) => candidate.keep().await,
                None => std::future::pending().await,
            }
        };
        let mut working = pin!(begin(Arc::clone(&context), settled, ready, closing.clone(),));
        let why = tokio::select! {
            () = closing.cancelled() => None,
            why = renewing => Some(why),
            () = &mut working => Some("the work has ended".to_owned()),
            _ = watches.join_next() => Some("a watch has ended".to_owned()),
        };
        context.releases.close();
        context.runs.close();
        if why.is_none() && tokio::time::timeout(LAST_PASSES, working).await.is_err() {
            tracing::warn!("some passes did not end in time");
        }
        watches.shutdown().await;
        // Nobody waits for more than what was told until now.
        context.events.close();
        context.traces.close();
        let _ = tokio::time::timeout(LAST_PASSES, tellers).await;
        if let Some(candidate) = candidate {
            candidate.release().await;
        }
        why
    }
}

/// Watches a kind of objects in all scopes.
fn watch_kind<T: View>(
    watches: &mut JoinSet<()>,
    context: &Arc<Context>,
    kind: &Kind,
    settled: &Arc<Notify>,
    cache: fn(&Context) -> &Cache<T>,
    changed: fn(&Context, &Change<T>),
) {
    for scope in context.settings.scopes() {
        cache(context).add_scope(&scope);
        let (context, kind, settled) = (Arc::clone(context), kind.clone(), Arc::clone(settled));
        watches.spawn(async move {
            let selector = kind.selector(&context.settings.instance_id);
            watch(
                context.requests.clone(),
                kind,
                scope,
                selector,
                cache(&context),
                |change| changed(&context, change),
                || settled.notify_one(),
            )
            .await;
        });
    }
}

fn watch_all(watches: &mut JoinSet<()>, context: &Arc<Context>, settled: &Arc<Notify>) {
    macro_rules! watch_kinds {
        ($($kind:ident, $cache:ident, $changed:expr;)*) => {$(
            watch_kind(watches, context, &Kind::$kind, settled, |context| &context.caches.$cache, $changed);
        )*};
    }
    watch_kinds! {
        Rollout, rollouts, Context::rollout_changed;
        AnalysisRun, runs, Context::run_changed;
        Experiment, experiments, Context::experiment_changed;
        Canary, canaries, Context::canary_changed;
        AnalysisTemplate, templates, |context, change| context.named_changed(&Kind::AnalysisTemplate, change);
        ReplicaSet, replica_sets, Context::replica_set_changed;
        Service, services, Context::service_changed;
        Job, jobs, Context::job_changed;
        Pod, pods, Context::pod_changed;
    }
    if context.settings.sees_all() {
        watch_kinds! {
            ClusterAnalysisTemplate, cluster_templates,
                |context, change| context.named_changed(&Kind::ClusterAnalysisTemplate, change);
        }
    }
}

/// Watches what only some Rollouts name, as soon as one does.
async fn watch_named(context: Arc<Context>) {
    let mut watches = JoinSet::new();
    loop {
        let kind = tokio::select! {
            kind = context.routes.next() => kind,
            Some(_) = watches.join_next() => continue,
        };
        if let Kind::Workload(_) = kind {
            let cache = context.caches.workloads(&kind);
            let changed = Context::named_changed;
            watch_one(&mut watches, &context, &kind, &cache, changed);
        } else if let Kind::ConfigMap | Kind::Secret = kind {
            let cache = context.caches.configs(&kind);
            let changed = Context::named_changed;
            watch_one(&mut watches, &context, &kind, &cache, changed);
        } else {
            let cache = context.caches.routed(&kind);
            let changed = Context::routed_changed;
            watch_one(&mut watches, &context, &kind, &cache, changed);
        }
    }
}

fn watch_one<T: View>(
    watches: &mut JoinSet<()>,
    context: &Arc<Context>,
    kind: &Kind,
    cache: &Arc<Cache<T>>,
    changed: fn(&Context, &Kind, &Change<T>),
) {
    for scope in context.settings.scopes() {
        cache.add_scope(&scope);
        let (context, kind, cache) = (Arc::clone(context), kind.clone(), Arc::clone(cache));
        watches.spawn(async move {
            watch(
                context.requests.clone(),
                kind.clone(),
                scope,
                None,
                &cache,
                |change| changed(&context, &kind, change),
                || {
                    for subject in context.referrers.of_kind(&kind) {
                        context.wake_subject(subject);
                    }
                },
            )
            .await;
        });
    }
}

/// Begins to work once the caches are filled; what cannot be read is not waited for.
async fn begin(
    context: Arc<Context>,
    settled: Arc<Notify>,
    ready: Ready,
    closing: CancellationToken,
) {
    let is_settled = || {
        let caches = &context.caches;
        context.settings.scopes().iter().all(|scope| {
            caches.rollouts.is_settled(scope)
                && caches.runs.is_settled(scope)
                && caches.experiments.is_settled(scope)
                && caches.canaries.is_settled(scope)
                && caches.templates.is_settled(scope)
                && caches.replica_sets.is_settled(scope)
                && caches.services.is_settled(scope)
                && caches.jobs.is_settled(scope)
                && caches.pods.is_settled(scope)
                && (!context.settings.sees_all() || caches.cluster_templates.is_settled(scope))
        })
    };
    while !is_settled() {
        tokio::select! {
            () = settled.notified() => {}
            () = closing.cancelled() => return,
        }
    }
    ready.set();
    context.wake_all();
    let resync = async {
        routes::look_for_what_is_left(&context).await;
        loop {
            tokio::time::sleep(context.settings.resync).await;
            context.wake_all();
        }
    };
    let settings = &context.settings;
    let work = async {
        tokio::join!(
            work(&context, &context.releases, settings.releases_at_once),
            work_first(&context, &context.releases),
            work(&context, &context.runs, settings.runs_at_once),
        )
    };
    tokio::select! {
        () = resync => {}
        _ = work => {}
    }
}

/// Gives subjects out of a queue to tasks of their own, until the queue is closed.
async fn work(context: &Arc<Context>, queue: &Queue<Subject>, at_once: usize) {
    let places = Arc::new(Semaphore::new(at_once));
    let mut tasks = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        let Some(taken) = queue.next().await else {
            break;
        };
        let context = Arc::clone(context);
        tasks.spawn(async move {
            look_at(&context, taken).await;
            drop(place);
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

/// Gives out what goes first: it waits for no place.
async fn work_first(context: &Arc<Context>, queue: &Queue<Subject>) {
    let mut tasks = JoinSet::new();
    while let Some(taken) = queue.next_first().await {
        let context = Arc::clone(context);
        tasks.spawn(async move { look_at(&context, taken).await });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

/// Looks after a subject once, and says in its queue how that ended.
async fn look_at(context: &Context, taken: Taken<Subject>) {
    let subject = taken.key;
    let began = Instant::now();
    let looking = Box::pin(look_after(context, &subject));
    let looking = guarded(context.traces.pass(&subject, taken.waited, looking));
    let outcome = if taken.first {
        context.requests.urgently(looking).await
    } else {
        looking.await
    };
    let took = began.elapsed();
    context
        .metrics
        .looked(&subject, taken.waited, took, outcome.is_err());
    if let Err(why) = &outcome {
        tracing::warn!(?subject, "{why}");
    }
    let queue = context.queue(&subject);
    if let Ok(Some(delay)) = &outcome {
        queue.add_after(subject.clone(), *delay);
    }
    queue.done(&subject, outcome.is_err());
}

async fn look_after(context: &Context, subject: &Subject) -> Result<Option<Duration>, String> {
    match subject {
        Subject::Rollout(key) => {
            let pass = Box::pin(rollouts::pass(context, key));
            context.requests.in_turn(pass).await
        }
        Subject::AnalysisRun(key) => runs::pass(context, key).await,
        Subject::Experiment(key) => experiments::pass(context, key).await,
        Subject::Canary(key) => canaries::pass(context, key).await,
        Subject::Service(key) => perform::look_after_service(context, key)
            .await
            .map(|()| None),
        Subject::Routed(kind, key) => routes::look_after(context, kind, key).await.map(|()| None),
    }
}

/// A mistake of ours about one subject is a failure of that subject, to be tried again with growing delays, and of nothing else.
async fn guarded<T>(looking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let outcome = AssertUnwindSafe(looking).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err("an assertion failed; this is a defect of crossfade".to_owned()))
}
