//! The world of a Rollout in a cluster: what is observed, and one pass over it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossfade_api::analysis::{AnalysisTemplateSpec, TemplateRef};
use crossfade_api::names::label;
use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::{AnalysisRun, Experiment, FieldError, Resource as _, Rollout};
use crossfade_engine::action::{Action, Done, Target};
use crossfade_engine::decision::{Event, Found};
use crossfade_engine::pass::{Need, Pass, Standing};
use crossfade_engine::rollout::world::{Body, Pod, ReplicaSet, Settings, TemplateKey, World};
use crossfade_engine::rollout::{self, RolloutSubject};
use crossfade_engine::{views, written};
use jiff::Timestamp;
use serde_json::Value;

use crate::cache::Key;
use crate::caches::ReadRollout;
use crate::context::{Context, Subject};
use crate::kind::Kind;
use crate::object::target;
use crate::perform::Performing;
use crate::referrers::Looked;
use crate::requests::Refusal;
use crate::stuck::Passed;
use crate::writes::Writes;
use crate::{routes, stuck, traces, workloads};

/// Within this time the ReplicaSet controller says that it has seen a new ReplicaSet: usually in milliseconds, and in many seconds where a whole
/// fleet is released at once.
const FIRST_WORD: Duration = Duration::from_secs(30);

/// Why a release that is taken back does not say so yet.
const UNRECORDED_VERDICT: &str = "the end of its analysis run could not be recorded";

/// Looks after a Rollout once; tells when to look again, or why that failed.
pub(crate) async fn pass(context: &Context, key: &Key) -> Result<Option<Duration>, String> {
    let Some(entry) = context.caches.rollouts.get(&key.0, &key.1) else {
        return Ok(None);
    };
    let read = &entry.view;
    let subject = Subject::Rollout(key.clone());
    let mut course = Course {
        target: target(&read.rollout.metadata),
        status: None,
        refused: None,
    };
    let outcome = look_after(context, &subject, read, &mut course).await;
    let status = course.status.as_ref().unwrap_or(&read.rollout.status);
    let passed = Passed {
        kind: Kind::Rollout,
        target: &course.target,
        conditions: Some(&status.conditions),
        refused: course.refused.as_deref(),
        failed: outcome.is_err(),
    };
    stuck::tell(context, &subject, passed).await;
    outcome
}

/// What a pass has come to so far.
struct Course {
    /// The Rollout, in the version that was written last.
    target: Target,
    /// The status that was recorded, if one was.
    status: Option<RolloutStatus>,
    /// What the API server has refused.
    refused: Option<String>,
}

async fn look_after(
    context: &Context,
    subject: &Subject,
    read: &ReadRollout,
    course: &mut Course,
) -> Result<Option<Duration>, String> {
    let rollout = &read.rollout;
    if let Some(trouble) = context.caches.trouble(rollout.namespace()) {
        course.refused = trouble.denied.then(|| trouble.why.clone());
        return Err(format!("cannot be decided on: {}", trouble.why));
    }
    let standing = context.standing(subject);
    let mut looked = Looked::default();
    let workload_is_read = workloads::is_read(context, rollout, &mut looked);
    if !routes::are_read(context, rollout, &mut looked.names) || !workload_is_read {
        context.names(subject, looked.names);
        // Whoever reads them wakes the Rollout.
        return Ok(None);
    }
    let world = observe(context, read, &mut looked).await;
    course.refused = looked.denied;
    context.names(subject, looked.names);
    let mut world = world?;
    let mut verdicts = context.verdicts.put_into(&mut world.runs);
    // A way back waits for nobody.
    if !rollout.status.abort
        && let Some(left) = is_being_taken_note_of(&world, Timestamp::now())
    {
        return Ok(Some(left));
    }
    let seen_as = course.target.clone();
    let mut is_new = rollout.status == RolloutStatus::default() && standing == Standing::Sound;
    let mut performing = Performing::new(context, subject, rollout);
    let mut pass = Pass::<RolloutSubject>::start(world, standing, Timestamp::now());
    while let Some(need) = pass.need() {
        match need {
            Need::Perform(actions) => {
                let mut outcomes = Vec::with_capacity(actions.len());
                for action in &actions {
                    // What was not tried any more is the next leader's.
                    if !context.requests.may_write() {
                        break;
                    }
                    let outcome = traces::action(action, performing.perform(action)).await;
                    if let (Action::UpdateRollout { .. }, Ok(Done::Written(version))) =
                        (action, &outcome)
                    {
                        course.target.resource_version.clone_from(version);
                    }
                    outcomes.push(outcome);
                }
                pass.performed(outcomes);
            }
            Need::Record(status, events) => {
                let uid = &seen_as.uid;
                // What was done is told whether or not anything is recorded.
                if let (Some(now), true) = (&status, events.iter().all(|event| event.done))
                    && let Some(left) = context.lagging.may_wait(uid, &rollout.status, now)
                {
                    context.follow(uid, now);
                    context.tell(&Kind::Rollout, &seen_as, events);
                    context.releases.add_after(subject.clone(), left);
                    pass.recorded(Ok(()));
                    continue;
                }
                if status.is_some() && !verdicts.are_recorded().await {
                    pass.recorded(Err(UNRECORDED_VERDICT.to_owned()));
                    continue;
                }
                let stored = record(context, subject, rollout, course, status).await;
                if stored.is_ok() {
                    // Once: a look that records nothing comes again.
                    if std::mem::take(&mut is_new) {
                        context.tell(&Kind::Rollout, &seen_as, vec![first_seen(&seen_as)]);
                    }
                    let status = course.status.as_ref().unwrap_or(&rollout.status);
                    context.follow(&seen_as.uid, status);
                    context.tell(&Kind::Rollout, &seen_as, events);
                }
                pass.recorded(stored);
            }
        }
    }
    if course.refused.is_none() {
        course.refused = stuck::refused(pass.evidence());
    }
    context.settle(subject, pass.ended())
}

/// How long a ReplicaSet may be left alone whose controller has said nothing about it yet: what it says first, at any moment, would make
/// another change of it a conflict. Without that controller there are no pods to decide on, and nothing is lost by the wait.
fn is_being_taken_note_of(world: &World, now: Timestamp) -> Option<Duration> {
    let uid = world.rollout.metadata.uid.as_deref().unwrap_or_default();
    let new = world.replica_sets.iter();
    let new = new.filter(|set| is_own(set, uid) && !set.observed && set.current == 0);
    let left = new.filter_map(|set| {
        let age = Duration::try_from(now.duration_since(set.created)).unwrap_or_default();
        FIRST_WORD.checked_sub(age).filter(|left| !left.is_zero())
    });
    left.max()
}

/// Stores a status, as the difference to the one that was observed.
async fn record(
    context: &Context,
    subject: &Subject,
    rollout: &Rollout,
    course: &mut Course,
    status: Option<RolloutStatus>,
) -> Result<(), String> {
    let patch = status
        .as_ref()
        .and_then(|status| written::rollout_status(&rollout.status, status));
    let writes = Writes::new(context, subject);
    match writes.record(&Kind::Rollout, &course.target, patch).await {
        Ok(version) => {
            course.target.resource_version = version;
            if let Some(status) = &status {
                context.metrics.recorded(&rollout.status, status);
            }
            course.status = status;
            Ok(())
        }
        Err(refusal) => {
            if let Refusal::Refused(why) = &refusal {
                course.refused = Some(why.clone());
            }
            Err(unwritten(&refusal))
        }
    }
}

/// Why a status is not stored.
pub(crate) fn unwritten(refusal: &Refusal) -> String {
    format!("the status could not be written: {refusal}")
}

/// A Rollout with what is around it, as far as the caches know. Nothing is asked of the API server but pods, for the few Rollouts whose pods are
/// looked at one by one. What it was looked at is added to `looked`.
pub(crate) async fn observe(
    context: &Context,
    read: &ReadRollout,
    looked: &mut Looked,
) -> Result<World, String> {
    let (rollout, workload, prepared) = workloads::resolve(context, read, looked).await?;
    let rollout = &rollout;
    let caches = &context.caches;
    let namespace = rollout.namespace();
    let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
    let replica_sets = caches.replica_sets_of(namespace, uid);
    let mut services = BTreeMap::new();
    for service in rollout::named_services(rollout) {
        let key = (namespace.to_owned(), service.to_owned());
        looked.names.insert((Kind::Service, key));
        let found = if let Some(entry) = caches.services.get(namespace, service) {
            Found::Found(entry.view.service.clone())
        } else {
            let trouble = caches.services.trouble(namespace);
            looked.absent(trouble.map(|trouble| trouble.of("services")))
        };
        services.insert(service.to_owned(), found);
    }
    let named = rollout::named_templates(rollout);
    let (templates, unread) = templates(context, namespace, named, looked);
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
    if has_experiments(rollout)
        && let Some(trouble) = caches.experiments.trouble(namespace)
    {
        let trouble = trouble.of("experiments");
        looked.absent::<()>(Some(trouble.clone()));
        return Err(trouble.why);
    }
    let mut experiments: Vec<Arc<Experiment>> = caches
        .experiments
        .owned(namespace, uid)
        .iter()
        .map(|entry| Arc::clone(&entry.view.experiment))
        .collect();
    experiments.sort_by_key(|experiment| {
        let created = experiment.metadata.creation_timestamp.as_ref();
        Reverse((created.map(|time| time.0), experiment.name().to_owned()))
    });
    let bodies = if needs_bodies(rollout, &experiments) {
        bodies(context, namespace, uid, &replica_sets).await?
    } else {
        BTreeMap::new()
    };
    let pods = if rollout::needs_pods(rollout, &replica_sets) {
        pods(context, namespace, uid, &replica_sets).await?
    } else {
        Vec::new()
    };
    let mut world = World {
        references: routes::references(context, rollout, looked),
        rollout: Arc::clone(rollout),
        workload,
        prepared,
        replica_sets,
        services,
        templates,
        unread,
        runs,
        experiments,
        bodies,
        routers: routes::routers(context, rollout),
        pods,
        faults: Arc::new([]),
        peaks: context.peaks(uid),
        gates: Vec::new(),
        settings: Settings::default(),
    };
    world.faults = world.find_faults();
    Ok(world)
}

type Templates = BTreeMap<TemplateKey, Found<Arc<AnalysisTemplateSpec>>>;

/// The templates that are named, and those that they name in turn; and what could not be read of them.
pub(crate) fn templates(
    context: &Context,
    namespace: &str,
    mut open: Vec<TemplateKey>,
    looked: &mut Looked,
) -> (Templates, BTreeMap<TemplateKey, Vec<FieldError>>) {
    let key = |reference: &TemplateRef| TemplateKey {
        cluster_scope: reference.is_cluster_scope(),
        name: reference.template_name.clone(),
    };
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
            (Kind::AnalysisTemplate, &context.caches.templates, namespace)
        };
        let plural = kind.resource().plural;
        let name = (namespace.to_owned(), wanted.name.clone());
        looked.names.insert((kind, name));
        let Some(entry) = cache.get(namespace, &wanted.name) else {
            let trouble = cache.trouble(namespace);
            let trouble = trouble.map(|trouble| trouble.of(&plural));
            found.insert(wanted, looked.absent(trouble));
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

/// Some step of a Rollout is an Experiment.
fn has_experiments(rollout: &Rollout) -> bool {
    let canary = rollout.spec.strategy.canary.iter();
    let mut steps = canary.flat_map(|canary| &canary.steps);
    steps.any(|step| step.experiment.is_some())
}

/// A Rollout is about to start an Experiment.
fn needs_bodies(rollout: &Rollout, experiments: &[Arc<Experiment>]) -> bool {
    let current = rollout.status.canary.current_experiment.as_str();
    let mut known = experiments.iter();
    rollout::needs_bodies(rollout) && !known.any(|experiment| experiment.name() == current)
}

/// What the versions of a Rollout are made of, by the names of their ReplicaSets.
async fn bodies(
    context: &Context,
    namespace: &str,
    uid: &str,
    replica_sets: &[ReplicaSet],
) -> Result<BTreeMap<String, Body>, String> {
    let listed = of_versions(context, &Kind::ReplicaSet, namespace, uid, replica_sets).await?;
    let body = |set: &Value| {
        let part = |pointer| set.pointer(pointer).cloned().unwrap_or_default();
        let body = Body {
            selector: part("/spec/selector"),
            template: part("/spec/template"),
        };
        (views::text(set, "/metadata/name").to_owned(), body)
    };
    Ok(listed.iter().map(body).collect())
}

/// The pods of a Rollout, as they are now.
async fn pods(
    context: &Context,
    namespace: &str,
    uid: &str,
    replica_sets: &[ReplicaSet],
) -> Result<Vec<Pod>, String> {
    let listed = of_versions(context, &Kind::Pod, namespace, uid, replica_sets).await?;
    let own = |pod: &Pod| {
        let mut sets = replica_sets.iter();
        sets.any(|set| is_own(set, uid) && pod.controller.as_ref() == Some(&set.target.uid))
    };
    Ok(listed.iter().map(views::pod).filter(own).collect())
}

fn is_own(set: &ReplicaSet, uid: &str) -> bool {
    set.controller.as_deref() == Some(uid)
}

/// The objects of a kind that carry the hash of one of a Rollout's versions, as they are now.
pub(crate) async fn of_versions(
    context: &Context,
    kind: &Kind,
    namespace: &str,
    uid: &str,
    replica_sets: &[ReplicaSet],
) -> Result<Vec<Value>, String> {
    let own = replica_sets.iter().filter(|set| is_own(set, uid));
    let hashes: Vec<&str> = own
        .map(ReplicaSet::hash)
        .filter(|hash| !hash.is_empty())
        .collect();
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    let selector = format!("{} in ({})", label::POD_HASH, hashes.join(","));
    let listed = context.requests.list(kind, namespace, &selector).await;
    listed.map_err(|why| format!("{}: {why}", kind.resource().plural))
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
