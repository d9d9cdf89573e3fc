//! The controller as a whole: its watches, its workers, its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use kube::Client;
use kube::config::{Config, KubeConfigOptions};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::cache::{Cache, Change, View};
use crate::caches::Routed;
use crate::context::{Context, Subject};
use crate::events::events;
use crate::kind::Kind;
use crate::measuring::Measuring;
use crate::perform;
use crate::queue::Queue;
use crate::requests::Requests;
use crate::settings::Settings;
use crate::watch::watch;
use crate::{rollouts, runs};

/// Rollouts that are looked after at once.
const RELEASES_AT_ONCE: usize = 32;
/// AnalysisRuns that are looked after at once; they wait for metric providers more than for the API server.
const RUNS_AT_ONCE: usize = 256;
/// How often everything is looked at without a reason.
const RESYNC: Duration = Duration::from_mins(15);
/// How long passes under way may take to end with the controller.
const LAST_PASSES: Duration = Duration::from_secs(10);

/// Why a controller does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no way to the API server.
    #[error("no way to the API server: {0}")]
    Client(String),
    /// Metric providers cannot be asked.
    #[error("metric providers cannot be asked: {0}")]
    Transport(String),
}

/// A client by kubeconfig (a context of it, or the current one), or by the account of the pod that this runs in.
///
/// # Errors
/// There is neither, or it cannot be used.
pub async fn client(context: Option<&str>) -> Result<Client, StartError> {
    let failed = |why: &dyn std::fmt::Display| StartError::Client(why.to_string());
    // Who set one before set the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = match context {
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context.to_owned()),
                ..KubeConfigOptions::default()
            };
            Config::from_kubeconfig(&options)
                .await
                .map_err(|why| failed(&why))?
        }
        None => Config::infer().await.map_err(|why| failed(&why))?,
    };
    // A refusal is an answer: the queue knows better than the client what to try again, and when.
    config.default_retry = false;
    Client::try_from(config).map_err(|why| failed(&why))
}

/// A running controller.
pub struct Controller {
    context: Arc<Context>,
    watches: JoinSet<()>,
    work: JoinSet<()>,
    teller: tokio::task::JoinHandle<()>,
}

impl Controller {
    /// Begins to look after Rollouts and AnalysisRuns.
    ///
    /// # Errors
    /// Metric providers cannot be asked on this machine.
    pub fn start(client: Client, settings: Settings) -> Result<Self, StartError> {
        let requests = Requests::new(client);
        let (events, teller) = events();
        let measuring =
            Measuring::new(settings.prometheus_address.clone()).map_err(StartError::Transport)?;
        let context = Arc::new(Context::new(settings, requests.clone(), events, measuring));
        let settled = Arc::new(Notify::new());
        let mut watches = JoinSet::new();
        watch_all(&mut watches, &context, &settled);
        watches.spawn(watch_routes(Arc::clone(&context)));
        let mut work = JoinSet::new();
        work.spawn(begin(Arc::clone(&context), settled));
        Ok(Self {
            context,
            watches,
            work,
            teller: tokio::spawn(teller.run(requests)),
        })
    }

    /// Ends: passes under way are finished, nothing new is begun, and what was told is written.
    pub async fn stop(mut self) {
        self.context.releases.close();
        self.context.runs.close();
        let finished = async { while self.work.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_PASSES, finished).await.is_err() {
            tracing::warn!("some passes did not end in time");
        }
        self.work.shutdown().await;
        self.watches.shutdown().await;
        // The last one who could tell anything goes with the context.
        drop(self.context);
        let _ = tokio::time::timeout(LAST_PASSES, self.teller).await;
    }

    /// Returns when a part of the controller has ended by itself: only a mistake of ours does that.
    pub async fn broken(&mut self) {
        tokio::select! {
            _ = self.work.join_next() => {}
            _ = self.watches.join_next() => {}
        }
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
        AnalysisTemplate, templates, |context, change| context.template_changed(&Kind::AnalysisTemplate, change);
        ReplicaSet, replica_sets, Context::replica_set_changed;
        Service, services, Context::service_changed;
        Job, jobs, Context::job_changed;
        Pod, pods, Context::pod_changed;
    }
    if context.settings.sees_all() {
        watch_kinds! {
            ClusterAnalysisTemplate, cluster_templates,
                |context, change| context.template_changed(&Kind::ClusterAnalysisTemplate, change);
        }
    }
}

/// Watches the objects of routers, as soon as somebody needs them.
async fn watch_routes(context: Arc<Context>) {
    let mut watches = JoinSet::new();
    loop {
        let kind = tokio::select! {
            kind = context.routes.next() => kind,
            Some(_) = watches.join_next() => continue,
        };
        let cache = context.caches.routed(&kind);
        for scope in context.settings.scopes() {
            cache.add_scope(&scope);
            let (context, kind, cache) = (Arc::clone(&context), kind.clone(), Arc::clone(&cache));
            watches.spawn(async move {
                watch::<Routed>(
                    context.requests.clone(),
                    kind.clone(),
                    scope,
                    None,
                    &cache,
                    |change| context.routed_changed(&kind, change),
                    || {
                        for rollout in context.referrers.of_kind(&kind) {
                            context.wake_rollout(rollout);
                        }
                    },
                )
                .await;
            });
        }
    }
}

/// Begins to work once the caches are filled; what cannot be read is not waited for.
async fn begin(context: Arc<Context>, settled: Arc<Notify>) {
    let is_settled = || {
        let caches = &context.caches;
        context.settings.scopes().iter().all(|scope| {
            caches.rollouts.is_settled(scope)
                && caches.runs.is_settled(scope)
                && caches.templates.is_settled(scope)
                && caches.replica_sets.is_settled(scope)
                && caches.services.is_settled(scope)
                && caches.jobs.is_settled(scope)
                && caches.pods.is_settled(scope)
                && (!context.settings.sees_all() || caches.cluster_templates.is_settled(scope))
        })
    };
    while !is_settled() {
        settled.notified().await;
    }
    context.wake_all();
    let resync = async {
        loop {
            tokio::time::sleep(RESYNC).await;
            context.wake_all();
        }
    };
    let work = async {
        tokio::join!(
            work(&context, &context.releases, RELEASES_AT_ONCE),
            work(&context, &context.runs, RUNS_AT_ONCE),
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
        let Some((subject, waited)) = queue.next().await else {
            break;
        };
        tracing::trace!(?subject, ?waited, "looks");
        let context = Arc::clone(context);
        tasks.spawn(async move {
            let outcome = guarded(Box::pin(look_after(&context, &subject))).await;
            if let Err(why) = &outcome {
                tracing::warn!(?subject, "{why}");
            }
            let queue = context.queue(&subject);
            if let Ok(Some(delay)) = &outcome {
                queue.add_after(subject.clone(), *delay);
            }
            queue.done(&subject, outcome.is_err());
            drop(place);
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

async fn look_after(context: &Context, subject: &Subject) -> Result<Option<Duration>, String> {
    match subject {
        Subject::Rollout(key) => rollouts::pass(context, key).await,
        Subject::AnalysisRun(key) => runs::pass(context, key).await,
        Subject::Service(key) => perform::look_after_service(context, key)
            .await
            .map(|()| None),
    }
}

/// A mistake of ours about one subject is a failure of that subject, to be tried again with growing delays, and of nothing else.
async fn guarded<T>(looking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let outcome = AssertUnwindSafe(looking).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err("an assertion failed; this is a defect of crossfade".to_owned()))
}
