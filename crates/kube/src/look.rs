//! One look at a Rollout, by whoever asks and with his rights: all that a pass would decide on, read once, and nothing written.

use std::time::Duration;

use crossfade_api::Resource as _;
use crossfade_engine::decision::Wait;
use crossfade_engine::rollout::world::ReplicaSet;
use crossfade_engine::{analysis, experiment, rollout, views};
use kube::Client;

use crate::cache::{Cache, Trouble, View};
use crate::canaries::Tongues;
use crate::context::Context;
use crate::events::events;
use crate::kind::Kind;
use crate::lease::Leadership;
use crate::measuring::Measuring;
use crate::object::Object;
use crate::referrers::Looked;
use crate::requests::{Refusal, Requests};
use crate::settings::Settings;
use crate::traces::traces;
use crate::{ailing, experiments, rollouts, routes, runs, workloads};

/// Pods that are shown with what ails them; all would hide the rest.
const PODS_SHOWN: usize = 3;
/// How often a list is asked for again that the API server has no time for.
const PATIENCE: usize = 20;
/// How long to wait before that.
const PAUSE: Duration = Duration::from_millis(250);

/// A Rollout with what is around it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What its next pass is decided on.
    pub rollout: rollout::world::World,
    /// What is decided on about its AnalysisRuns that have not ended.
    pub runs: Vec<analysis::world::World>,
    /// What is decided on about the Experiment that it waits for.
    pub experiment: Option<experiment::world::World>,
    /// What keeps some of its pods from being ready, as far as whoever asks may see pods.
    pub ailing: Vec<Wait>,
}

/// Looks at a Rollout; `None` if there is none of that name.
///
/// # Errors
/// The API server does not show what is needed; the text says what.
pub async fn look(client: Client, namespace: &str, name: &str) -> Result<Option<Seen>, String> {
    let settings = Settings {
        namespaces: vec![namespace.to_owned()],
        ..Settings::default()
    };
    // Who never leads never writes.
    let requests = Requests::new(client, Leadership::default(), None);
    let (events, _) = events();
    let (traces, _) = traces(None)?;
    let measuring = Measuring::new(None)?;
    let tongues = Tongues::new()?;
    let context = Context::new(settings, requests, events, traces, measuring, tongues);
    let found = context.requests.get(&Kind::Rollout, namespace, name).await;
    let Some(json) = found.map_err(|why| why.to_string())? else {
        return Ok(None);
    };
    let caches = &context.caches;
    caches.rollouts.add_scope(namespace);
    caches.rollouts.begin(namespace);
    caches.rollouts.listed(namespace, Object::new(json));
    caches.rollouts.complete(namespace);
    read(&context, &Kind::AnalysisRun, namespace, &caches.runs).await;
    read(&context, &Kind::Experiment, namespace, &caches.experiments).await;
    read(&context, &Kind::ReplicaSet, namespace, &caches.replica_sets).await;
    read(&context, &Kind::Service, namespace, &caches.services).await;
    read(&context, &Kind::Job, namespace, &caches.jobs).await;
    let templates = Kind::AnalysisTemplate;
    read(&context, &templates, namespace, &caches.templates).await;
    let templates = Kind::ClusterAnalysisTemplate;
    read(&context, &templates, "", &caches.cluster_templates).await;
    let Some(entry) = caches.rollouts.get(namespace, name) else {
        return Ok(None);
    };
    let mut looked = Looked::default();
    workloads::is_read(&context, &entry.view.rollout, &mut looked);
    routes::are_read(&context, &entry.view.rollout, &mut looked.names);
    for kind in context.routes.wanted() {
        if let Kind::Workload(_) = kind {
            read(&context, &kind, namespace, &caches.workloads(&kind)).await;
        } else {
            read(&context, &kind, namespace, &caches.routed(&kind)).await;
        }
    }
    if let Some(trouble) = caches.trouble(namespace) {
        return Err(trouble.why);
    }
    let rollout = rollouts::observe(&context, &entry.view, &mut looked).await?;
    let mut of_runs = Vec::new();
    for run in rollout
        .runs
        .iter()
        .filter(|run| !run.status.phase.is_completed())
    {
        of_runs.push(runs::observe(&context, run).await?);
    }
    let current = &rollout.rollout.status.canary.current_experiment;
    let mut known = rollout.experiments.iter();
    let current = known.find(|experiment| experiment.name() == current);
    let experiment = current.map(|current| experiments::observe(&context, current, &mut looked));
    let ailing = ailing_pods(&context, &rollout).await;
    Ok(Some(Seen {
        rollout,
        runs: of_runs,
        experiment,
        ailing,
    }))
}

/// What ails the pods of a release. Who may not see them is told nothing of them.
async fn ailing_pods(context: &Context, world: &rollout::world::World) -> Vec<Wait> {
    let rollout = &world.rollout;
    let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
    let own = |set: &&ReplicaSet| set.controller.as_deref() == Some(uid);
    let sets: Vec<&ReplicaSet> = world.replica_sets.iter().filter(own).collect();
    let namespace = rollout.namespace();
    let pods = rollouts::of_versions(context, &Kind::Pod, namespace, uid, &world.replica_sets);
    let pods = pods.await.unwrap_or_default();
    let of_release = pods.iter().filter(|pod| {
        let owner = views::text(pod, "/metadata/ownerReferences/0/uid");
        sets.iter().any(|set| set.target.uid == owner)
    });
    of_release
        .filter_map(ailing::wait)
        .take(PODS_SHOWN)
        .collect()
}

/// Fills a cache once.
async fn read<T: View>(context: &Context, kind: &Kind, scope: &str, cache: &Cache<T>) {
    cache.add_scope(scope);
    cache.begin(scope);
    let labels = match kind {
        Kind::ReplicaSet | Kind::Job => kind.selector("").unwrap_or_default(),
        _ => String::new(),
    };
    let mut listed = context.requests.list(kind, scope, &labels).await;
    // An API server that has just learned of a kind, or has much to do, answers a moment later.
    for _ in 0..PATIENCE {
        if !matches!(listed, Err(Refusal::TooMany(_))) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        listed = context.requests.list(kind, scope, &labels).await;
    }
    match listed {
        Ok(objects) => {
            for object in objects {
                cache.listed(scope, Object::new(object));
            }
            cache.complete(scope);
        }
        // The API server knows no such kind, so there are no such objects.
        Err(Refusal::NotFound(_)) => {
            cache.complete(scope);
        }
        Err(refusal) => {
            let trouble = Trouble {
                why: refusal.to_string(),
                denied: matches!(refusal, Refusal::Refused(_)),
            };
            cache.fail(scope, trouble);
        }
    }
}
