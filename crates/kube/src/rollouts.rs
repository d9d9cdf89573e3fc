//! The world of a Rollout in a cluster: what is observed, and one pass over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crossfade_api::analysis::{AnalysisTemplateSpec, TemplateRef};
use crossfade_api::names::label;
use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::validate::unsupported;
use crossfade_api::{AnalysisRun, FieldError, Resource as _, Rollout};
use crossfade_engine::action::{Action, Done, Target};
use crossfade_engine::decision::{Event, Found};
use crossfade_engine::pass::{Need, Pass, Standing};
use crossfade_engine::rollout::world::{Pod, ReplicaSet, Settings, TemplateKey, World};
use crossfade_engine::rollout::{self, RolloutSubject};
use crossfade_engine::{views, written};
use jiff::Timestamp;

use crate::cache::Key;
use crate::context::{Context, Subject};
use crate::kind::Kind;
use crate::perform::Performing;
use crate::referrers::Named;
use crate::requests::version_of;
use crate::routes;

/// Looks after a Rollout once; tells when to look again, or why that failed.
pub(crate) async fn pass(context: &Context, key: &Key) -> Result<Option<Duration>, String> {
    let subject = Subject::Rollout(key.clone());
    if let Some(trouble) = context.caches.trouble(&key.0) {
        return Err(format!("cannot be decided on: {trouble}"));
    }
    let standing = match context.own_writes.unseen(&context.caches, &subject) {
        Some(unseen) => {
            tracing::debug!(
                namespace = key.0,
                name = key.1,
                "waits to see its own write of {unseen}"
            );
            Standing::Stale
        }
        None => Standing::Sound,
    };
    let Some(entry) = context.caches.rollouts.get(&key.0, &key.1) else {
        return Ok(None);
    };
    let (rollout, prepared) = (&entry.view.rollout, &entry.view.prepared);
    let mut names = BTreeSet::new();
    if !routes::are_read(context, rollout, &mut names) {
        context.referrers.set(key, names);
        // Whoever reads them wakes the Rollout.
        return Ok(None);
    }
    let Some(world) = observe(context, rollout, prepared, &mut names).await? else {
        return Ok(None);
    };
    for (kind, key) in context.referrers.set(key, names) {
        if kind == Kind::Service {
            let service = Subject::Service(key);
            context
                .releases
                .add(service, crate::queue::Priority::Ordinary);
        }
    }
    let now = Timestamp::now();
    let target = target(rollout);
    if rollout.status == RolloutStatus::default() && standing == Standing::Sound {
        context.tell(&Kind::Rollout, &target, vec![first_seen(&target)]);
    }
    let mut performing = Performing::new(context, &subject, rollout);
    let mut pass = Pass::<RolloutSubject>::start(world, standing, now);
    let mut recorded_on = target.clone();
    while let Some(need) = pass.need() {
        match need {
            Need::Perform(actions) => {
                let mut outcomes = Vec::with_capacity(actions.len());
                for action in &actions {
                    // What was not tried any more is the next leader's.
                    if !context.requests.may_write() {
                        break;
                    }
                    let outcome = performing.perform(action).await;
                    if let (Action::UpdateRollout { .. }, Ok(Done::Written(version))) =
                        (action, &outcome)
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
                        record(context, &subject, &recorded_on, &rollout.status, status).await
                    }
                    None => Ok(()),
                };
                if stored.is_ok() {
                    context.follow(&target.uid, status.as_ref().unwrap_or(&rollout.status));
                    context.tell(&Kind::Rollout, &target, events);
                }
                pass.recorded(stored);
            }
        }
    }
    context.settle(&subject, pass.ended())
}

/// A Rollout with what is around it, as far as the caches know. Nothing is asked of the API server but pods, for the few Rollouts whose pods are
/// looked at one by one. The names of all that was looked at are added to `names`.
async fn observe(
    context: &Context,
    rollout: &Arc<Rollout>,
    prepared: &Arc<rollout::prepared::Prepared>,
    names: &mut BTreeSet<Named>,
) -> Result<Option<World>, String> {
    let caches = &context.caches;
    let namespace = rollout.namespace();
    let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
    let replica_sets = caches.replica_sets_of(namespace, uid);
    let mut services = BTreeMap::new();
    for service in rollout::named_services(rollout) {
        let key = (namespace.to_owned(), service.to_owned());
        names.insert((Kind::Service, key));
        let found = match caches.services.get(namespace, service) {
            Some(entry) => Found::Found(entry.view.clone()),
            None => absent("services", caches.services.trouble(namespace)),
        };
        services.insert(service.to_owned(), found);
    }
    let (templates, unread) = templates(context, rollout, names);
    let mut runs: Vec<Arc<AnalysisRun>> = caches
        .runs
        .owned(namespace, uid)
        .iter()
        .map(|entry| Arc::clone(&entry.view.run))
        .collect();
    runs.sort_by(|left, right| {
        let key = |run: &AnalysisRun| {
            let created = run.metadata.creation_timestamp.clone();
            (created.map(|time| time.0), run.name().to_owned())
        };
        key(right).cmp(&key(left))
    });
    let pods = if rollout::needs_pods(rollout, &replica_sets) {
        pods(context, namespace, uid, &replica_sets).await?
    } else {
        Vec::new()
    };
    let mut world = World {
        references: routes::references(context, rollout),
        rollout: Arc::clone(rollout),
        // A clear fault, until the objects that are referred to are watched.
        workload: rollout::workload::resolve(rollout, |_, _| {
            Found::Unreadable(
                "workloadRef is not supported on a cluster yet; put the template under spec.template"
                    .to_owned(),
            )
        })
        .1,
        prepared: Arc::clone(prepared),
        replica_sets,
        services,
        templates,
        unread,
        runs,
        experiments: Vec::new(),
        bodies: BTreeMap::new(),
        routers: routes::routers(context, rollout),
        pods,
        faults: Arc::new([]),
        peaks: context.peaks(uid),
        gates: Vec::new(),
        settings: Settings::default(),
    };
    let mut faults = world.find_faults().to_vec();
    faults.extend(unsupported::experiments(rollout));
    world.faults = faults.into();
    Ok(Some(world))
}

/// What is not in a cache is missing, unless the cache has not been read.
fn absent<T>(what: &str, trouble: Option<String>) -> Found<T> {
    trouble.map_or(Found::Missing, |trouble| {
        Found::Unreadable(format!("{what}: {trouble}"))
    })
}

type Templates = BTreeMap<TemplateKey, Found<Arc<AnalysisTemplateSpec>>>;

/// The templates that a Rollout names, and those that they name in turn; and what could not be read of them.
fn templates(
    context: &Context,
    rollout: &Rollout,
    names: &mut BTreeSet<Named>,
) -> (Templates, BTreeMap<TemplateKey, Vec<FieldError>>) {
    let key = |reference: &TemplateRef| TemplateKey {
        cluster_scope: reference.is_cluster_scope(),
        name: reference.template_name.clone(),
    };
    let mut open: Vec<TemplateKey> = rollout::named_templates(rollout);
    let (mut found, mut unread) = (BTreeMap::new(), BTreeMap::new());
    while let Some(wanted) = open.pop() {
        if found.contains_key(&wanted) {
            continue;
        }
        let (kind, cache, namespace) = if wanted.cluster_scope {
            (
                Kind::ClusterAnalysisTemplate,
                &context.caches.cluster_templates,
                "",
            )
        } else {
            (
                Kind::AnalysisTemplate,
                &context.caches.templates,
                rollout.namespace(),
            )
        };
        let plural = kind.resource().plural;
        names.insert((kind, (namespace.to_owned(), wanted.name.clone())));
        let Some(entry) = cache.get(namespace, &wanted.name) else {
            found.insert(wanted, absent(&plural, cache.trouble(namespace)));
            continue;
        };
        let template = &entry.view;
        open.extend(template.spec.templates.iter().map(key));
        if !template.unread.is_empty() {
            unread.insert(wanted.clone(), template.unread.clone());
        }
        found.insert(wanted, Found::Found(Arc::clone(&template.spec)));
    }
    (found, unread)
}

/// The pods of a Rollout, as they are now.
async fn pods(
    context: &Context,
    namespace: &str,
    uid: &str,
    replica_sets: &[ReplicaSet],
) -> Result<Vec<Pod>, String> {
    let own: Vec<&ReplicaSet> = replica_sets
        .iter()
        .filter(|set| set.controller.as_deref() == Some(uid))
        .collect();
    let hashes: Vec<&str> = own
        .iter()
        .map(|set| set.hash())
        .filter(|hash| !hash.is_empty())
        .collect();
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    let selector = format!("{} in ({})", label::POD_HASH, hashes.join(","));
    let listed = context
        .requests
        .list(&Kind::Pod, namespace, &selector)
        .await;
    let listed = listed.map_err(|why| format!("pods: {why}"))?;
    let pods = listed.iter().map(views::pod);
    let is_own = |pod: &Pod| {
        own.iter()
            .any(|set| pod.controller.as_ref() == Some(&set.target.uid))
    };
    Ok(pods.filter(is_own).collect())
}

/// Stores a status, as the difference to the one that was observed.
async fn record(
    context: &Context,
    subject: &Subject,
    target: &Target,
    before: &RolloutStatus,
    after: &RolloutStatus,
) -> Result<(), String> {
    let Some(patch) = written::rollout_status(before, after) else {
        return Ok(());
    };
    let stored = context
        .requests
        .merge_status(&Kind::Rollout, target, patch)
        .await;
    let stored = stored.map_err(|why| format!("the status could not be written: {why}"))?;
    let key = (target.namespace.clone(), target.name.clone());
    let version = version_of(&stored);
    context
        .own_writes
        .wrote(&context.caches, subject, &Kind::Rollout, key, &version);
    Ok(())
}

/// Which Rollout this is, and in which version.
pub(crate) fn target(rollout: &Rollout) -> Target {
    Target {
        namespace: rollout.namespace().to_owned(),
        name: rollout.name().to_owned(),
        uid: rollout.metadata.uid.clone().unwrap_or_default(),
        resource_version: rollout
            .metadata
            .resource_version
            .clone()
            .unwrap_or_default(),
    }
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
