//! The world of a Canary in a cluster: what is observed, and one pass over it.
//!
//! A Canary is looked at when its interval has passed, and by nothing else: what happens around it shows at the next look, from caches. The kinds
//! that only some Canaries name are watched as soon as one does, whole objects as they are, ConfigMaps and Secrets by their checksums alone.

mod evidence;
mod perform;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossfade_api::flagger::{CanaryStatus, TargetKind, hash};
use crossfade_api::{Canary, MetricTemplate, Resource as _, merge_patch};
use crossfade_engine::action::{Action, Target};
use crossfade_engine::canary::world::{Known, Services, World};
use crossfade_engine::canary::{CanarySubject, is_look, named_configs, named_templates};
use crossfade_engine::canary::{pod_label, service_names};
use crossfade_engine::decision::Found;
use crossfade_engine::pass::{Need, Pass, Standing};
use crossfade_engine::views;
use crossfade_traffic::{RoutedCanary, canary_router};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cache::Key;
use crate::context::{Context, Subject};
use crate::kind::Kind;
use crate::object::target;
use crate::referrers::Looked;
use crate::requests::{Refusal, version_of};
use crate::rollouts::unwritten;
use crate::routes;
use crate::stuck::{self, Passed};
use crate::traces;
use crate::writes::Writes;

pub(crate) use evidence::Tongues;
use perform::Performing;
pub(crate) use read::{ReadCanary, ReadConfig};
use read::{config_kind, whole};

/// How soon to look again where the caches do not show all that was written.
const SOON: Duration = Duration::from_millis(100);
/// Looks fall on multiples of this time, in milliseconds: a process that wakes up for several Canaries at once spends less on each.
const BEAT_MS: i64 = 250;
/// How often a status is tried to be stored that somebody else's change of the Canary keeps from it.
const ATTEMPTS: usize = 5;

/// When Canaries were looked at last, by uid. It lives in memory: a controller that starts looks at once.
#[derive(Default)]
pub(crate) struct Looks(Mutex<BTreeMap<String, Timestamp>>);

impl Looks {
    fn last(&self, uid: &str) -> Option<Timestamp> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.get(uid).copied()
    }

    fn looked(&self, uid: &str, at: Timestamp) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.insert(uid.to_owned(), at);
    }

    pub(crate) fn forget(&self, uid: &str) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.remove(uid);
    }
}

/// Looks after a Canary once; tells when to look again, or why that failed.
pub(crate) async fn pass(context: &Context, key: &Key) -> Result<Option<Duration>, String> {
    let Some(entry) = context.caches.canaries.get(&key.0, &key.1) else {
        return Ok(None);
    };
    let subject = Subject::Canary(key.clone());
    let mut refused = None;
    let outcome = look_after(context, &subject, &entry.view, &mut refused).await;
    let passed = Passed {
        kind: Kind::Canary,
        target: &target(&entry.view.canary.metadata),
        conditions: None,
        refused: refused.as_deref(),
        failed: outcome.is_err(),
    };
    stuck::tell(context, &subject, passed).await;
    outcome
}

async fn look_after(
    context: &Context,
    subject: &Subject,
    read: &ReadCanary,
    refused: &mut Option<String>,
) -> Result<Option<Duration>, String> {
    let canary = &read.canary;
    let uid = canary.metadata.uid.as_deref().unwrap_or_default();
    if !is_read(context, subject, canary) {
        // Whoever reads what is missing wakes the Canary.
        return Ok(None);
    }
    let standing = context.standing(subject);
    if standing == Standing::Stale {
        return Ok(Some(SOON));
    }
    let mut looked = Looked::default();
    let now = Timestamp::now();
    let world = observe(context, canary, now, &mut looked).await?;
    *refused = looked.denied;
    let looks = is_look(&world, now);
    let began = std::time::Instant::now();
    let mut performing = Performing::new(context, subject, &world);
    let mut pass = Pass::<CanarySubject>::start(world, standing, now);
    while let Some(need) = pass.need() {
        match need {
            Need::Perform(actions) => {
                let mut outcomes = Vec::with_capacity(actions.len());
                for action in &actions {
                    // What was not tried any more is the next leader's.
                    if !context.requests.may_write() {
                        break;
                    }
                    let performed = perform_one(&mut performing, action);
                    outcomes.push(traces::action(action, performed).await);
                }
                pass.performed(outcomes);
            }
            Need::Record(status, events) => {
                let after = status.clone();
                let stored = record(context, subject, read, performing.own(), status).await;
                if let Err(Refusal::Refused(why)) = &stored {
                    *refused = Some(why.clone());
                }
                if let (Ok(()), Some(after)) = (&stored, after) {
                    context.canary_metrics.recorded(canary, &after);
                }
                // What was seen is told even where it could not be recorded.
                let target = target(&canary.metadata);
                context.tell(&Kind::Canary, &target, events);
                pass.recorded(stored.map_err(|refusal| unwritten(&refusal)));
            }
        }
    }
    if refused.is_none() {
        *refused = stuck::refused(pass.evidence());
    }
    let ended = pass.ended();
    let counted_from = if looks { on_beat(now) } else { now };
    if looks {
        context.looks.looked(uid, counted_from);
    }
    if ended.judged {
        context.canary_metrics.judged(canary, began.elapsed());
    }
    let look_again = context.settle(subject, ended)?;
    // What the pass has taken is part of the time until the next one: looks come at each interval, however slow hooks and metrics are.
    let passed = Duration::try_from(Timestamp::now().duration_since(counted_from));
    let passed = passed.unwrap_or_default();
    Ok(look_again.map(|delay| delay.saturating_sub(passed)))
}

/// The beat that this time belongs to.
fn on_beat(now: Timestamp) -> Timestamp {
    let ms = now.as_millisecond();
    Timestamp::from_millisecond(ms - ms.rem_euclid(BEAT_MS)).unwrap_or(now)
}

async fn perform_one(
    performing: &mut Performing<'_>,
    action: &Action,
) -> crossfade_engine::action::Outcome {
    match action {
        Action::Canary(action) => performing.perform(action).await,
        _ => Err(crate::perform::other("a Canary does not do that")),
    }
}

/// Stores a status, as the difference to the one that was observed. Nobody else writes it: that the Canary was changed otherwise in the meantime
/// keeps nothing from being stored.
async fn record(
    context: &Context,
    subject: &Subject,
    read: &ReadCanary,
    own: &Target,
    status: Option<CanaryStatus>,
) -> Result<(), Refusal> {
    let Some(status) = status else {
        return Ok(());
    };
    let before = if read.has_status {
        json!(read.canary.status)
    } else {
        json!({})
    };
    let Some(patch) = merge_patch::diff(&before, &json!(status)) else {
        return Ok(());
    };
    let patch = json!({"status": patch});
    let writes = Writes::new(context, subject);
    let mut target = own.clone();
    for _ in 1..ATTEMPTS {
        let stored = writes
            .record(&Kind::Canary, &target, Some(patch.clone()))
            .await;
        let Err(Refusal::Conflict(_)) = stored else {
            return stored.map(drop);
        };
        let requests = &context.requests;
        let live = requests.get(&Kind::Canary, &target.namespace, &target.name);
        let Some(live) = live.await?.filter(|live| {
            let same = Canary::from_json(live.clone()).0.status == read.canary.status;
            same && views::text(live, "/metadata/uid") == target.uid
        }) else {
            return stored.map(drop);
        };
        target.resource_version = version_of(&live);
    }
    let stored = writes.record(&Kind::Canary, &target, Some(patch)).await;
    stored.map(drop)
}

/// Kinds whose whole objects a Canary names.
fn named_kinds(context: &Context, canary: &Canary) -> BTreeSet<Kind> {
    let spec = &canary.spec;
    let mut kinds = BTreeSet::from([whole("v1", "Service")]);
    match spec.target_kind() {
        Some(TargetKind::Deployment) => {
            kinds.insert(whole("apps/v1", "Deployment"));
        }
        Some(TargetKind::DaemonSet) => {
            kinds.insert(whole("apps/v1", "DaemonSet"));
        }
        Some(TargetKind::Service | TargetKind::Knative) | None => {}
    }
    if let Some(scaler) = &spec.autoscaler_ref {
        kinds.insert(autoscaler_kind(&scaler.kind));
    }
    if !named_templates(canary).is_empty() {
        kinds.insert(whole("flagger.app/v1beta1", "MetricTemplate"));
    }
    let subject = RoutedCanary { canary, label: "" };
    if let Ok(Some(router)) = canary_router(provider(context, canary), &context.settings.routers) {
        for need in router.needs(&subject) {
            kinds.insert(routes::named(&need).0);
        }
    }
    kinds
}

fn autoscaler_kind(kind: &str) -> Kind {
    match kind {
        "ScaledObject" => whole("keda.sh/v1alpha1", "ScaledObject"),
        _ => whole("autoscaling/v2", "HorizontalPodAutoscaler"),
    }
}

/// Who routes a Canary's requests.
fn provider<'c>(context: &'c Context, canary: &'c Canary) -> &'c str {
    if canary.spec.provider.is_empty() {
        &context.settings.canaries.provider
    } else {
        &canary.spec.provider
    }
}

/// Whether all that a Canary names has been read; what has not is read from now on.
fn is_read(context: &Context, subject: &Subject, canary: &Canary) -> bool {
    let namespace = canary.namespace();
    let mut kinds = named_kinds(context, canary);
    let mut read = true;
    for kind in &kinds {
        context.routes.want(kind);
        read &= context.caches.routed(kind).is_settled(namespace);
    }
    if let Some(target) = find_target(context, canary).found()
        && context.settings.canaries.tracks_configs
    {
        for named in named_configs(target) {
            let kind = config_kind(&named.key);
            context.routes.want(&kind);
            read &= context.caches.configs(&kind).is_settled(namespace);
            kinds.insert(kind);
        }
    }
    // No object has this key: what is read for the first time wakes a Canary, what changes shows at its next look.
    let names = kinds.into_iter().map(|kind| (kind, <_>::default()));
    context.names(subject, names.collect());
    read
}

/// A whole object as the caches show it.
fn find(context: &Context, kind: &Kind, namespace: &str, name: &str) -> Found<Arc<Value>> {
    find_noting(context, kind, namespace, name, &mut Looked::default())
}

fn find_noting(
    context: &Context,
    kind: &Kind,
    namespace: &str,
    name: &str,
    looked: &mut Looked,
) -> Found<Arc<Value>> {
    let cache = context.caches.routed(kind);
    if let Some(entry) = cache.get(namespace, name) {
        return Found::Found(Arc::clone(&entry.view.0));
    }
    let plural = kind.resource().plural;
    looked.absent(cache.trouble(namespace).map(|trouble| trouble.of(&plural)))
}

fn target_kind(canary: &Canary) -> Option<Kind> {
    Some(match canary.spec.target_kind()? {
        TargetKind::Deployment => whole("apps/v1", "Deployment"),
        TargetKind::DaemonSet => whole("apps/v1", "DaemonSet"),
        TargetKind::Service => whole("v1", "Service"),
        TargetKind::Knative => return None,
    })
}

fn find_target(context: &Context, canary: &Canary) -> Found<Arc<Value>> {
    target_kind(canary).map_or(Found::Missing, |kind| {
        let name = &canary.spec.target_ref.name;
        find(context, &kind, canary.namespace(), name)
    })
}

/// A Canary with what is around it, from caches. Nothing is asked of the API server but the ReplicaSets of a target that another controller has
/// looked after until now.
pub(crate) async fn observe(
    context: &Context,
    canary: &Arc<Canary>,
    now: Timestamp,
    looked: &mut Looked,
) -> Result<World, String> {
    let (namespace, spec) = (canary.namespace(), &canary.spec);
    let uid = canary.metadata.uid.as_deref().unwrap_or_default();
    let kind = target_kind(canary);
    let mut of_target = |name: &str| {
        kind.as_ref().map_or(Found::Missing, |kind| {
            find_noting(context, kind, namespace, name, looked)
        })
    };
    let target = of_target(&spec.target_ref.name);
    let primary = of_target(&format!("{}-primary", spec.target_ref.name));
    let services = whole("v1", "Service");
    let [apex, of_primary, of_canary] =
        service_names(canary).map(|name| find_noting(context, &services, namespace, &name, looked));
    let scaler = |ending: &str| {
        spec.autoscaler_ref
            .as_ref()
            .map_or(Found::NotNeeded, |one| {
                let name = format!("{}{ending}", one.name);
                find(context, &autoscaler_kind(&one.kind), namespace, &name)
            })
    };
    let tracked = target
        .found()
        .filter(|_| context.settings.canaries.tracks_configs);
    let configs = tracked
        .map(|target| named_configs(target))
        .unwrap_or_default();
    let configs = configs.into_iter().map(|named| {
        let kind = config_kind(&named.key);
        let cache = context.caches.configs(&kind);
        let found = if let Some(entry) = cache.get(namespace, named.key.name()) {
            Found::Found(entry.view.0.clone())
        } else {
            let trouble = cache.trouble(namespace);
            looked.absent(trouble.map(|trouble| trouble.of(&kind.resource().plural)))
        };
        (named.key, found)
    });
    let configs = configs.collect();
    let templates = whole("flagger.app/v1beta1", "MetricTemplate");
    let templates = named_templates(canary).into_iter().map(|reference| {
        let found = find(context, &templates, &reference.namespace, &reference.name);
        let found = match found {
            Found::Found(object) => {
                let template = MetricTemplate::from_json(Value::clone(&object)).0;
                Found::Found(Arc::new(template))
            }
            Found::Missing => Found::Missing,
            Found::NotNeeded => Found::NotNeeded,
            Found::Unreadable(why) => Found::Unreadable(why),
        };
        (reference, found)
    });
    let templates = templates.collect();
    let mut world = World {
        canary: Arc::clone(canary),
        settings: Arc::clone(&context.canary_settings),
        primary,
        services: Services {
            apex,
            primary: of_primary,
            canary: of_canary,
        },
        configs,
        autoscaler: scaler(""),
        primary_autoscaler: scaler("-primary"),
        replica_sets: Vec::new(),
        templates,
        older_rival: older_rival(context, canary),
        last_tick: context.looks.last(uid),
        known: Known::default(),
        target,
    };
    if is_look(&world, now) {
        world.replica_sets = foreign_sets(context, &world).await?;
    }
    Ok(world)
}

/// The ReplicaSets of the target, as long as a hash in the status is another controller's.
async fn foreign_sets(context: &Context, world: &World) -> Result<Vec<Arc<Value>>, String> {
    let status = &world.canary.status;
    let mut hashes = [&status.last_applied_spec, &status.last_promoted_spec].into_iter();
    let Some(target) = world
        .target
        .found()
        .filter(|_| hashes.any(|hash| hash::is_foreign(hash)))
    else {
        return Ok(Vec::new());
    };
    let labels = views::map(target, "/spec/selector/matchLabels");
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let namespace = world.canary.namespace();
    let listed = context
        .requests
        .list(&Kind::ReplicaSet, namespace, &labels.join(","))
        .await
        .map_err(|why| format!("replicasets: {why}"))?;
    let uid = views::text(target, "/metadata/uid");
    let own = listed
        .into_iter()
        .filter(|set| views::controller(set).is_some_and(|(_, _, owner)| owner == uid));
    Ok(own.map(Arc::new).collect())
}

/// The oldest of the other Canaries with the same target, if it is older.
fn older_rival(context: &Context, canary: &Canary) -> Option<String> {
    let age = |canary: &Canary| {
        let created = canary.metadata.creation_timestamp.as_ref();
        (created.map(|time| time.0), canary.name().to_owned())
    };
    let caches = &context.caches;
    let rivals = caches
        .canaries
        .owned(canary.namespace(), &read::target_of(canary));
    let ages = rivals.iter().map(|entry| age(&entry.view.canary));
    let oldest = ages.min()?;
    (oldest < age(canary)).then_some(oldest.1)
}

/// The key of the label that tells the pods of a Canary's target from others.
fn label(context: &Context, world: &World) -> String {
    let target = world.target.found();
    let label = target.and_then(|target| pod_label(target, &context.settings.canaries));
    label.map_or(String::new(), |(key, _)| key)
}
