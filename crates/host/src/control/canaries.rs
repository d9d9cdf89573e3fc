//! The world of a Canary on one machine: what is observed, how actions are performed, how a status is recorded.
//!
//! What the machine itself notes on Services is hidden from decisions, which otherwise would take it away again. An autoscaler has no
//! effect here, so decisions are taken as if none was named.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossfade_api::flagger::{CanaryStatus, Severity, TargetKind, hash};
use crossfade_api::{AlertProvider, Canary, MetricTemplate, Resource as _, merge_patch};
use crossfade_engine::action::{Action, Done, Failure, FailureKind, Outcome, Target};
use crossfade_engine::canary::action::{Alert, CanaryAction, CanaryDone, HookCall, ObjectKey};
use crossfade_engine::canary::world::{Config, ConfigKey, Known, Services, Settings, World};
use crossfade_engine::canary::{Named, named_configs, named_templates, service_names};
use crossfade_engine::decision::Found;
use crossfade_metrics::canary_checks::find;
use crossfade_notify::channel::{Channel, News};
use crossfade_notify::hooks::{Grants, Hook};
use serde_json::{Value, json};

use super::objects::ObjectError;
use super::subjects::Context;
use super::{canary_checks, canary_routes, entries, views};
use crate::store::{Kind, harmless};
use crate::wire::Part;

/// What this machine notes on Services.
const OWN_NOTES: [&str; 2] = [entries::ADDRESSES, canary_routes::ROUTE];

/// What a pass has learned: objects as it has seen them, by version, and what gates have granted.
#[derive(Default)]
pub(super) struct Seen {
    objects: Mutex<BTreeMap<String, Arc<Value>>>,
    grants: Grants,
}

impl Seen {
    /// What a pass begins with.
    pub(super) fn of(world: &World) -> Self {
        let Services {
            apex,
            primary,
            canary,
        } = &world.services;
        let all = [&world.target, &world.primary, apex, primary, canary];
        let seen = Self::default();
        for object in all.into_iter().filter_map(Found::found) {
            seen.add(object);
        }
        seen
    }

    fn add(&self, object: &Arc<Value>) {
        let version = views::target(object).resource_version;
        let mut seen = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(version, Arc::clone(object));
    }

    fn get(&self, version: &str) -> Option<Arc<Value>> {
        let seen = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(version).map(Arc::clone)
    }
}

/// A Canary as stored, with what is around it; `None` if it does not exist.
pub(super) fn observe(context: &Context, namespace: &str, name: &str) -> Option<World> {
    let objects = &context.objects;
    let object = objects.get(Kind::Canary, namespace, name)?;
    let mut canary = Canary::from_json(Value::clone(&object)).0;
    canary.spec.autoscaler_ref = None;
    let older_rival = older_rival(context, &object);
    let found = |kind: Option<Kind>, name: &str| {
        let object = kind.and_then(|kind| objects.get(kind, namespace, name));
        object.map_or(Found::Missing, |object| Found::Found(shown(&object)))
    };
    let reference = &canary.spec.target_ref;
    let kind = match canary.spec.target_kind() {
        Some(TargetKind::Deployment) => Some(Kind::Deployment),
        Some(TargetKind::Service) => Some(Kind::Service),
        Some(TargetKind::DaemonSet | TargetKind::Knative) | None => None,
    };
    let target = match canary.spec.target_kind() {
        Some(TargetKind::DaemonSet) => {
            Found::Unreadable("one machine has no DaemonSets; use a Deployment".to_owned())
        }
        _ => found(kind, &reference.name),
    };
    let primary = found(kind, &format!("{}-primary", reference.name));
    let [apex, of_primary, of_canary] = service_names(&canary);
    let named = target.found().map(|target| named_configs(target));
    let configs = named
        .unwrap_or_default()
        .into_iter()
        .map(|Named { key, .. }| (key.clone(), config(context, namespace, &key)))
        .collect();
    let foreign = [
        &canary.status.last_applied_spec,
        &canary.status.last_promoted_spec,
    ]
    .into_iter()
    .any(|hash| hash::is_foreign(hash));
    let target_uid = target
        .found()
        .filter(|_| foreign)
        .map(|target| views::target(target).uid);
    let sets = target_uid.map(|uid| objects.controlled_by(Kind::ReplicaSet, &uid));
    let sets = sets.into_iter().flatten();
    let templates = named_templates(&canary)
        .into_iter()
        .map(|reference| {
            let object = objects.get(Kind::MetricTemplate, &reference.namespace, &reference.name);
            let found = object.map_or(Found::Missing, |object| {
                let template = MetricTemplate::from_json(Value::clone(&object)).0;
                Found::Found(Arc::new(template))
            });
            (reference, found)
        })
        .collect();
    Some(World {
        settings: Arc::clone(&context.canary_settings),
        services: Services {
            apex: found(Some(Kind::Service), &apex),
            primary: found(Some(Kind::Service), &of_primary),
            canary: found(Some(Kind::Service), &of_canary),
        },
        target,
        primary,
        configs,
        autoscaler: Found::NotNeeded,
        primary_autoscaler: Found::NotNeeded,
        replica_sets: sets.map(|set| Arc::new(Value::clone(&set))).collect(),
        templates,
        older_rival,
        last_tick: context.looks.last(&views::target(&object).uid),
        known: Known::default(),
        canary: Arc::new(canary),
    })
}

/// What Canaries are run with on a machine whose metric store answers at this address.
pub(super) fn settings(metrics_server: String) -> Settings {
    Settings {
        metrics_server,
        ..Settings::default()
    }
}

/// An object without what this machine notes on it.
fn shown(object: &Value) -> Arc<Value> {
    let mut object = object.clone();
    if let Some(annotations) = object.pointer_mut("/metadata/annotations")
        && let Some(annotations) = annotations.as_object_mut()
    {
        annotations.retain(|key, _| !OWN_NOTES.contains(&key.as_str()));
    }
    Arc::new(object)
}

fn config(context: &Context, namespace: &str, key: &ConfigKey) -> Found<Config> {
    let (kind, name) = stored_config(key);
    let Some(object) = context.objects.get(kind, namespace, name) else {
        return Found::Missing;
    };
    let data = object.get("data").filter(|data| data.is_object());
    let data: Option<BTreeMap<String, String>> = data.map(|_| views::map(&object, "/data"));
    Found::Found(Config {
        target: views::target(&object),
        labels: views::map(&object, "/metadata/labels"),
        annotations: views::map(&object, "/metadata/annotations"),
        checksum: hash::config(data.as_ref()),
        kind: views::text(&object, "/type").to_owned(),
    })
}

fn stored_config(key: &ConfigKey) -> (Kind, &str) {
    match key {
        ConfigKey::ConfigMap(name) => (Kind::ConfigMap, name),
        ConfigKey::Secret(name) => (Kind::Secret, name),
    }
}

/// The name of an older Canary with the same target.
fn older_rival(context: &Context, own: &Value) -> Option<String> {
    let age = |canary: &Value| {
        (
            views::instant(canary, "/metadata/creationTimestamp"),
            views::text(canary, "/metadata/name").to_owned(),
        )
    };
    let target = |canary: &Value| {
        ["/spec/targetRef/kind", "/spec/targetRef/name"]
            .map(|pointer| views::text(canary, pointer).to_owned())
    };
    let namespace = views::text(own, "/metadata/namespace");
    let all = context.objects.list(Kind::Canary, Some(namespace));
    let older = all
        .iter()
        .filter(|other| target(other) == target(own) && age(other) < age(own));
    older.map(|other| age(other)).min().map(|(_, name)| name)
}

/// Performs one action of a Canary's pass.
pub(super) async fn perform(
    context: &Context,
    canary: &Canary,
    seen: &Seen,
    action: &Action,
) -> Outcome {
    let Action::Canary(action) = action else {
        return failed(FailureKind::Other, "a Canary does not do that");
    };
    let outcome = carry_out(context, canary, seen, action).await;
    count(context, canary, action, &outcome);
    if action.moves() {
        match &outcome {
            Ok(_) => seen.grants.spend(),
            Err(_) => seen.grants.give_back(&context.hooks).await,
        }
    }
    outcome
}

/// Counts what dashboards want to see.
fn count(context: &Context, canary: &Canary, action: &CanaryAction, outcome: &Outcome) {
    let done = match outcome {
        Ok(Done::Canary(done)) => Some(&**done),
        Ok(_) => None,
        Err(_) => return,
    };
    let (metrics, namespace) = (&context.canary_metrics, canary.namespace());
    match (action, done) {
        (CanaryAction::SetShares { shares, .. }, _)
        | (CanaryAction::ReadShares { .. }, Some(CanaryDone::Shares(shares))) => {
            metrics.weighed(namespace, &canary.spec.target_ref.name, *shares);
        }
        (CanaryAction::Check(check), Some(CanaryDone::Checked(checked))) => {
            metrics.checked(namespace, check, checked);
        }
        _ => {}
    }
}

async fn carry_out(
    context: &Context,
    canary: &Canary,
    seen: &Seen,
    action: &CanaryAction,
) -> Outcome {
    match action {
        CanaryAction::Create { object } => create(context, seen, object).await,
        CanaryAction::Patch { object, patch } => change(context, seen, object, patch).await,
        CanaryAction::Read { object } => {
            let target = &object.target;
            let kind = kind_of(object)?;
            let there = context
                .objects
                .get(kind, &target.namespace, &target.name)
                .ok_or_else(|| gone(object))?;
            answer(seen, &there)
        }
        CanaryAction::CopyConfig {
            from,
            labels,
            owner,
            ..
        } => copy_config(context, canary.namespace(), from, labels, owner).await,
        CanaryAction::Annotate {
            target,
            annotations,
        } => write(context, target, json!({"annotations": annotations})).await,
        CanaryAction::SetFinalizers { target, finalizers } => {
            write(context, target, json!({"finalizers": finalizers})).await
        }
        CanaryAction::ReconcileRoutes { .. } => canary_routes::reconcile(context, canary).await,
        CanaryAction::ReadShares { .. } => canary_routes::read(context, canary),
        CanaryAction::SetShares {
            shares, cookies, ..
        } => canary_routes::write(context, canary, *shares, cookies.clone()).await,
        CanaryAction::RestoreRoutes { .. } => canary_routes::forget(context, canary).await,
        CanaryAction::CallHook(call) => call_hook(context, canary, &seen.grants, call).await,
        CanaryAction::Alert(alert) => {
            tell(context, canary, alert);
            done()
        }
        CanaryAction::FindProvider(source) => match find(context, source).await {
            Ok(()) => done(),
            Err(why) => failed(FailureKind::Other, why),
        },
        CanaryAction::Check(check) => {
            let checked = crossfade_metrics::canary_checks::check(context, check).await;
            Ok(Done::Canary(Box::new(CanaryDone::Checked(checked))))
        }
    }
}

fn failed(kind: FailureKind, message: impl Into<String>) -> Outcome {
    Err(Failure {
        kind,
        message: message.into(),
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "one of the outcomes, which may be failures"
)]
fn done() -> Outcome {
    Ok(Done::Written(String::new()))
}

/// Answers with an object, which from now on has been seen.
#[expect(
    clippy::unnecessary_wraps,
    reason = "one of the outcomes, which may be failures"
)]
fn answer(seen: &Seen, object: &Value) -> Outcome {
    let object = shown(object);
    seen.add(&object);
    let object = CanaryDone::Object(Value::clone(&object));
    Ok(Done::Canary(Box::new(object)))
}

fn kind_of(key: &ObjectKey) -> Result<Kind, Failure> {
    Kind::of(&key.api_version, &key.kind).ok_or_else(|| Failure {
        kind: FailureKind::Other,
        message: format!("one machine keeps no {} {}", key.api_version, key.kind),
    })
}

fn gone(key: &ObjectKey) -> Failure {
    Failure {
        kind: FailureKind::NotFound,
        message: format!("{} {} is gone", key.kind, key.target.name),
    }
}

async fn create(context: &Context, seen: &Seen, object: &Value) -> Outcome {
    let text = |pointer| views::text(object, pointer);
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    let Some(stored) = Kind::of(version, kind) else {
        return match harmless(version, kind) {
            Some(_) => answer(seen, object),
            None => failed(
                FailureKind::Other,
                format!("one machine keeps no {version} {kind}"),
            ),
        };
    };
    let made = context.objects.create(stored, object.clone()).await?;
    answer(seen, &made)
}

/// Changes an object. That its status has changed since it was seen, or what this machine notes on it, is no conflict.
async fn change(context: &Context, seen: &Seen, key: &ObjectKey, patch: &Value) -> Outcome {
    let kind = kind_of(key)?;
    let patched = context
        .objects
        .patch(kind, &key.target, Part::Object, patch.clone());
    let conflict = match patched.await {
        Ok(object) => return answer(seen, &object),
        Err(error @ ObjectError::Conflict(_)) => error,
        Err(error) => return Err(error.into()),
    };
    let place = &key.target;
    let now = context.objects.get(kind, &place.namespace, &place.name);
    let now = now.ok_or_else(|| gone(key))?;
    let before = seen.get(&place.resource_version);
    if before.is_none_or(|before| !asks_for_the_same(&before, &now)) {
        return Err(conflict.into());
    }
    let place = views::target(&now);
    let object = context
        .objects
        .patch(kind, &place, Part::Object, patch.clone())
        .await?;
    answer(seen, &object)
}

/// Whether two versions of an object differ in nothing that anybody has written.
fn asks_for_the_same(before: &Value, now: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = Value::clone(&shown(object));
        object["status"] = Value::Null;
        object["metadata"]["resourceVersion"] = Value::Null;
        if views::map(&object, "/metadata/annotations").is_empty() {
            object["metadata"]["annotations"] = Value::Null;
        }
        object
    };
    merge_patch::diff(&bare(before), &bare(now)).is_none()
}

/// Writes metadata of the Canary itself.
async fn write(context: &Context, target: &Target, metadata: Value) -> Outcome {
    // Only this controller writes these keys, whoever else writes the Canary meanwhile.
    let target = Target {
        resource_version: String::new(),
        ..target.clone()
    };
    let patch = json!({"metadata": metadata});
    context
        .objects
        .patch(Kind::Canary, &target, Part::Object, patch)
        .await?;
    done()
}

async fn copy_config(
    context: &Context,
    namespace: &str,
    from: &ConfigKey,
    labels: &BTreeMap<String, String>,
    owner: &Value,
) -> Outcome {
    let (kind, name) = stored_config(from);
    let objects = &context.objects;
    let Some(original) = objects.get(kind, namespace, name) else {
        return failed(FailureKind::NotFound, format!("{kind} {name} is gone"));
    };
    let copy_name = format!("{name}-primary");
    let mut copy = json!({
        "apiVersion": "v1",
        "kind": kind.name(),
        "metadata": {
            "name": copy_name,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [owner],
        },
    });
    for member in ["data", "binaryData", "type"] {
        if let Some(value) = original.get(member) {
            copy[member] = value.clone();
        }
    }
    let Some(there) = objects.get(kind, namespace, &copy_name) else {
        objects.create(kind, copy).await?;
        return done();
    };
    let mut wanted = Value::clone(&there);
    for member in ["data", "binaryData", "type"] {
        wanted[member] = copy.get(member).cloned().unwrap_or_default();
    }
    wanted["metadata"]["labels"] = json!(labels);
    wanted["metadata"]["annotations"] = Value::Null;
    let owners = there.pointer("/metadata/ownerReferences");
    let others = owners.and_then(Value::as_array).into_iter().flatten();
    let others = others.filter(|other| other["uid"] != owner["uid"]).cloned();
    let mut owners: Vec<Value> = others.collect();
    for other in &mut owners {
        other["controller"] = json!(false);
    }
    owners.push(owner.clone());
    wanted["metadata"]["ownerReferences"] = json!(owners);
    if let Some(patch) = merge_patch::diff(&there, &wanted) {
        objects
            .patch(kind, &views::target(&there), Part::Object, patch)
            .await?;
    }
    done()
}

async fn call_hook(
    context: &Context,
    canary: &Canary,
    grants: &Grants,
    call: &HookCall,
) -> Outcome {
    let time = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let hook = Hook {
        url: call.url.clone(),
        body: call.body.clone(),
        timeout: time(call.timeout_ms),
        budget: time(call.budget_ms),
        retries: u32::try_from(call.retries).unwrap_or(0),
        insecure: call.disable_tls,
        revision: call.revision.clone(),
        dry: call.dry,
    };
    if !call.only_tells {
        return match context.hooks.ask(&hook).await {
            Ok(id) => {
                if !call.dry {
                    grants.add(hook, id);
                }
                done()
            }
            Err(why) => failed(FailureKind::Refused, why),
        };
    }
    let (hooks, about, name) = (context.hooks.clone(), full_name(canary), call.name.clone());
    context.turns.tell(&about.clone(), async move {
        if let Err(why) = hooks.ask(&hook).await {
            tracing::warn!(
                canary = about,
                hook = name,
                "error sending event to webhook: {why}"
            );
        }
    });
    done()
}

fn full_name(canary: &Canary) -> String {
    format!("{}.{}", canary.name(), canary.namespace())
}

/// Queues news for people. What goes wrong with that is told in the log and holds nothing up.
fn tell(context: &Context, canary: &Canary, alert: &Alert) {
    let Some(through) = &alert.through else {
        // This machine has no channel of its own.
        return;
    };
    let about = full_name(canary);
    let reference = &through.provider_ref;
    let namespace = if reference.namespace.is_empty() {
        canary.namespace()
    } else {
        &reference.namespace
    };
    let provider = format!("{}.{namespace}", reference.name);
    let channel = match channel(context, namespace, &reference.name) {
        Ok(channel) => channel,
        Err(why) => {
            tracing::warn!(canary = about, "alert provider {provider}: {why}");
            return;
        }
    };
    let news = News {
        severity: Severity::from(alert.severity.as_str()),
        about: about.clone(),
        text: alert.text.clone(),
        fields: alert.fields.clone(),
    };
    let http = context.http.clone();
    // In a line of their own: hooks that hang keep no alert waiting.
    context
        .turns
        .tell(&format!("{about} through {provider}"), async move {
            if let Err(why) = channel.tell(&http, &news).await {
                tracing::warn!(canary = about, "alert provider {provider}: {why}");
            }
        });
}

fn channel(context: &Context, namespace: &str, name: &str) -> Result<Channel, String> {
    let object = context.objects.get(Kind::AlertProvider, namespace, name);
    let object =
        object.ok_or_else(|| format!("alertproviders.flagger.app \"{name}\" not found"))?;
    let spec = AlertProvider::from_json(Value::clone(&object)).0.spec;
    let secret = spec.secret_ref.as_ref();
    let secret = secret.and_then(|secret| canary_checks::secret(context, namespace, &secret.name));
    Channel::of(&spec, secret.as_ref())
}

/// Stores a status, as the difference to the one that was observed. Nobody else writes it, so that nothing that happened to the Canary
/// meanwhile keeps it from being stored.
pub(super) async fn record(
    context: &Context,
    canary: &Canary,
    status: &CanaryStatus,
) -> Result<(), ObjectError> {
    // A first status says everything, also that nothing has failed yet.
    let before = if canary.status == CanaryStatus::default() {
        json!({})
    } else {
        json!(canary.status)
    };
    if let Some(patch) = merge_patch::diff(&before, &json!(status)) {
        let patch = json!({"status": patch});
        let target = Target {
            resource_version: String::new(),
            ..target(canary)
        };
        context
            .objects
            .patch(Kind::Canary, &target, Part::Status, patch)
            .await?;
    }
    Ok(())
}

/// Which Canary this is, and in which version.
pub(super) fn target(canary: &Canary) -> Target {
    let metadata = &canary.metadata;
    Target {
        namespace: canary.namespace().to_owned(),
        name: canary.name().to_owned(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// When Canaries were looked at last, by uid: it lives in memory, so that a host that starts looks at once.
#[derive(Default)]
pub(super) struct Looks(Mutex<BTreeMap<String, jiff::Timestamp>>);

impl Looks {
    fn last(&self, uid: &str) -> Option<jiff::Timestamp> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.get(uid).copied()
    }

    /// A Canary was looked at.
    pub(super) fn took(&self, uid: &str, at: jiff::Timestamp) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.insert(uid.to_owned(), at);
    }

    /// Forgets a Canary that is gone.
    pub(super) fn forget(&self, uid: &str) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.remove(uid);
    }
}
