//! Routers: their objects are watched as soon as a Rollout needs them, and changed as `crossfade_traffic` plans.
//!
//! A split that is in force costs nothing: every pass plans anew from what the caches show, and a plan without changes asks for nothing. What this
//! pass has changed itself is laid over the caches, so that a second split of the same pass is planned on the first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crossfade_api::split::Split;
use crossfade_api::validate::references::RouterKind;
use crossfade_api::words::PodHash;
use crossfade_api::{FieldError, Resource as _, Rollout};
use crossfade_engine::action::{Done, Failure, FailureKind, Outcome, Target};
use crossfade_engine::decision::{Event, Found};
use crossfade_engine::rollout;
use crossfade_engine::rollout::world::Router as Configured;
use crossfade_traffic::{
    Change, GATEWAY_API, Need, Note, ObjectRef, Observed, Pods, Router, Write,
};
use serde_json::Value;
use tokio::sync::Notify;

use crate::cache::Key;
use crate::caches::Routed;
use crate::context::{Context, Subject};
use crate::kind::Kind;
use crate::perform::other;
use crate::referrers::{Looked, Named};
use crate::requests::{Refusal, version_of};

/// Which kinds are watched because some Rollout names one of them, and which should be.
#[derive(Default)]
pub(crate) struct Watched {
    state: Mutex<(BTreeSet<Kind>, Vec<Kind>)>,
    more: Notify,
}

impl Watched {
    /// A Rollout needs this kind.
    pub(crate) fn want(&self, kind: &Kind) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.insert(kind.clone()) {
            state.1.push(kind.clone());
            self.more.notify_one();
        }
    }

    /// All kinds that nobody watches yet.
    pub(crate) fn wanted(&self) -> Vec<Kind> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.1)
    }

    /// The next kind that nobody watches yet.
    pub(crate) async fn next(&self) -> Kind {
        loop {
            let more = self.more.notified();
            let kind = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.1.pop()
            };
            match kind {
                Some(kind) => return kind,
                None => more.await,
            }
        }
    }
}

/// The routers that a Rollout configures and that are built in.
fn built_in(context: &Context, rollout: &Rollout) -> Vec<Box<dyn Router>> {
    let canary = rollout.spec.strategy.canary.as_ref();
    let routing = canary.and_then(|canary| canary.traffic_routing.as_ref());
    routing.map_or(Vec::new(), |routing| {
        crossfade_traffic::routers(routing, &context.settings.routers)
    })
}

/// The name by which a Rollout configures a router.
fn configured_as(router: &dyn Router) -> &'static str {
    match router.kind() {
        "GatewayAPI" => GATEWAY_API,
        kind => kind,
    }
}

/// What a Rollout configures and nobody can drive yet.
pub(crate) fn unsupported(rollout: &Rollout) -> Vec<FieldError> {
    let routers = rollout::routers(rollout).into_iter();
    let lacking = routers.filter(|name| !["Istio", "Nginx", GATEWAY_API].contains(&name.as_str()));
    lacking
        .map(|name| {
            let member = match name.as_str() {
                "ALB" => "alb".to_owned(),
                "SMI" => "smi".to_owned(),
                "Ambassador" => "ambassador".to_owned(),
                "AppMesh" => "appMesh".to_owned(),
                "Traefik" => "traefik".to_owned(),
                "Apisix" => "apisix".to_owned(),
                plugin => format!("plugins.{plugin}"),
            };
            let path = format!("spec.strategy.canary.trafficRouting.{member}");
            let detail = format!(
                "the router {name} cannot be driven yet; use nginx, istio or plugins.{GATEWAY_API}"
            );
            FieldError::forbidden(path, detail)
        })
        .collect()
}

/// The Rollout as routers see it.
fn subject<'r>(rollout: &'r Rollout, former: &'r [String]) -> crossfade_traffic::Subject<'r> {
    let canary = rollout.spec.strategy.canary.as_ref();
    crossfade_traffic::Subject {
        namespace: rollout.namespace(),
        name: rollout.name(),
        uid: rollout.metadata.uid.as_deref().unwrap_or_default(),
        replicas: rollout.spec.replicas(),
        canary_service: canary.map_or("", |canary| &canary.canary_service),
        stable_service: canary.map_or("", |canary| &canary.stable_service),
        former_additional: former,
    }
}

/// Services of the experiments whose destinations were recorded last.
fn former_additional(rollout: &Rollout) -> Vec<String> {
    let weights = rollout.status.canary.weights.as_ref();
    let additional = weights.into_iter().flat_map(|weights| &weights.additional);
    additional.map(|side| side.service_name.clone()).collect()
}

/// What the routers of a Rollout look at, whatever the split.
fn needs(context: &Context, rollout: &Rollout) -> Vec<Need> {
    let subject = subject(rollout, &[]);
    let split = Split::default();
    built_in(context, rollout)
        .iter()
        .flat_map(|router| router.needs(&subject, &split))
        .collect()
}

/// What is watched for a need.
pub(crate) fn named(need: &Need) -> Named {
    match need {
        Need::Object(object) => {
            let key = (object.namespace.clone(), object.name.clone());
            (kind_of(&object.kind), key)
        }
        // Any object of the kind may be meant.
        Need::Selected(kind, namespace, _) => (kind_of(kind), (namespace.clone(), String::new())),
    }
}

fn kind_of(kind: &crossfade_traffic::Kind) -> Kind {
    Kind::Routed(Arc::new(kind.clone()))
}

/// Whether all that the routers of a Rollout look at has been read; what has not is read from now on.
pub(crate) fn are_read(context: &Context, rollout: &Rollout, names: &mut BTreeSet<Named>) -> bool {
    let mut read = true;
    for need in needs(context, rollout) {
        let (kind, key) = named(&need);
        context.routes.want(&kind);
        read &= context.caches.routed(&kind).is_settled(&key.0);
        names.insert((kind, key));
    }
    read
}

/// The router objects that a Rollout names, for validation.
pub(crate) fn references(
    context: &Context,
    rollout: &Rollout,
    looked: &mut Looked,
) -> BTreeMap<(RouterKind, String, String), Found<Arc<Value>>> {
    let objects = needs(context, rollout)
        .into_iter()
        .filter_map(|need| match need {
            Need::Object(object) => Some(object),
            Need::Selected(..) => None,
        });
    objects
        .filter_map(|object| {
            let kind = match (object.kind.group.as_str(), object.kind.kind.as_str()) {
                ("networking.k8s.io", "Ingress") => RouterKind::Ingress,
                ("networking.istio.io", "VirtualService") => RouterKind::VirtualService,
                ("networking.istio.io", "DestinationRule") => RouterKind::DestinationRule,
                _ => return None,
            };
            let cache = context.caches.routed(&kind_of(&object.kind));
            let found = if let Some(entry) = cache.get(&object.namespace, &object.name) {
                Found::Found(Arc::clone(&entry.view.0))
            } else {
                let trouble = cache.trouble(&object.namespace);
                let plural = &object.kind.plural;
                looked.absent(trouble.map(|trouble| trouble.of(plural)))
            };
            Some(((kind, object.namespace, object.name), found))
        })
        .collect()
}

/// The configured routers as the engine sees them. What they carry is not read: a plan that has nothing to do says so.
pub(crate) fn routers(context: &Context, rollout: &Rollout) -> Vec<Configured> {
    let built_in = built_in(context, rollout);
    let confirms = |name: &str| {
        built_in
            .iter()
            .any(|router| configured_as(&**router) == name && router.capabilities().verifies)
    };
    rollout::routers(rollout)
        .into_iter()
        .map(|kind| Configured {
            confirms: confirms(&kind),
            in_force: None,
            kind,
        })
        .collect()
}

/// Whether a Rollout's routers use this object.
fn uses(context: &Context, rollout: &Rollout, kind: &Kind, key: &Key) -> bool {
    let is_going = rollout.metadata.deletion_timestamp.is_some();
    let needs = needs(context, rollout);
    let mut objects = needs.iter().filter(|need| matches!(need, Need::Object(_)));
    !is_going && objects.any(|need| named(need) == (kind.clone(), key.clone()))
}

/// Looks after an object that names a Rollout as its manager: lets it go when that Rollout does not use it any more.
pub(crate) async fn look_after(context: &Context, kind: &Kind, key: &Key) -> Result<(), String> {
    let cache = context.caches.routed(kind);
    match cache.get(&key.0, &key.1) {
        Some(entry) => let_go(context, kind, key, &entry.view).await,
        None => Ok(()),
    }
}

/// Looks once after the DestinationRules of Rollouts that went while nobody looked after them: a kind that no Rollout names is not watched.
pub(crate) async fn look_for_what_is_left(context: &Context) {
    let kind = kind_of(&crossfade_traffic::Kind {
        group: "networking.istio.io".to_owned(),
        version: context.settings.routers.istio_version.clone(),
        kind: "DestinationRule".to_owned(),
        plural: "destinationrules".to_owned(),
    });
    for scope in context.settings.scopes() {
        // A cluster without Istio has none, and whoever may not see them has never changed one.
        let found = context.requests.list(&kind, &scope, "").await;
        for mut object in found.unwrap_or_default() {
            // What is listed does not say what it is.
            object["kind"] = Value::from("DestinationRule");
            let target = crossfade_engine::views::target(&object);
            let key = (target.namespace, target.name);
            let object = Routed(Arc::new(object));
            if let Err(why) = let_go(context, &kind, &key, &object).await {
                tracing::warn!(namespace = key.0, name = key.1, "{why}");
            }
        }
    }
}

async fn let_go(context: &Context, kind: &Kind, key: &Key, object: &Routed) -> Result<(), String> {
    let Some(manager) = object.manager() else {
        return Ok(());
    };
    let rollouts = &context.caches.rollouts;
    // Who is not known might use it.
    if rollouts.trouble(&key.0).is_some() {
        return Ok(());
    }
    let known = rollouts.get(&key.0, manager);
    if known.is_some_and(|known| uses(context, &known.view.rollout, kind, key)) {
        return Ok(());
    }
    // Another controller's Rollout is not in the cache, and just as good a reason.
    let live = context.requests.get(&Kind::Rollout, &key.0, manager).await;
    let live = live.map_err(|why| why.to_string())?;
    let live = live.map(|live| Rollout::from_json(live).0);
    if live.is_some_and(|live| uses(context, &live, kind, key)) {
        return Ok(());
    }
    let Some(patch) = crossfade_traffic::release_destination_rule(&object.0) else {
        return Ok(());
    };
    let target = crossfade_engine::views::target(&object.0);
    let requests = &context.requests;
    match requests.patch_by_pointers(kind, &target, patch).await {
        // It has changed, and is looked at again for that.
        Ok(_) | Err(Refusal::NotFound(_) | Refusal::Conflict(_)) => Ok(()),
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// Objects as a pass sees them: what it has changed itself, else what the caches show; what is not watched is read.
pub(crate) struct Objects<'p> {
    context: &'p Context,
    subject: &'p Subject,
    /// Objects as this pass has left them.
    changed: BTreeMap<ObjectRef, Arc<Value>>,
}

impl<'p> Objects<'p> {
    pub(crate) fn new(context: &'p Context, subject: &'p Subject) -> Self {
        Self {
            context,
            subject,
            changed: BTreeMap::new(),
        }
    }

    /// What is needed, as it is now.
    pub(crate) async fn observe(&self, needs: Vec<Need>) -> Observed {
        let mut observed = Observed::default();
        for need in needs {
            match need {
                Need::Object(object) => {
                    if let Err(why) = self.look_at(&object, &mut observed).await {
                        observed.unreadable.insert(object, why);
                    }
                }
                Need::Selected(kind, namespace, _) => {
                    let cache = self.context.caches.routed(&kind_of(&kind));
                    for ((namespace, name), entry) in cache.of_namespace(&namespace) {
                        let object = ObjectRef {
                            kind: kind.clone(),
                            namespace,
                            name,
                        };
                        let value = Arc::clone(&entry.view.0);
                        observed.objects.insert(object, value);
                    }
                }
            }
        }
        observed.objects.extend(self.changed.clone());
        observed
    }

    async fn look_at(&self, object: &ObjectRef, observed: &mut Observed) -> Result<(), String> {
        let kind = kind_of(&object.kind);
        let cache = self.context.caches.routed(&kind);
        let found = match cache.get(&object.namespace, &object.name) {
            Some(entry) => Some(Arc::clone(&entry.view.0)),
            None if cache.trouble(&object.namespace).is_none() => None,
            None => {
                let requests = &self.context.requests;
                let read = requests.get(&kind, &object.namespace, &object.name).await;
                read.map_err(|why| why.to_string())?.map(Arc::new)
            }
        };
        if let Some(found) = found {
            observed.objects.insert(object.clone(), found);
        }
        Ok(())
    }

    /// Makes one change.
    pub(crate) async fn write(&mut self, change: &Change) -> Result<(), Refusal> {
        let object = &change.object;
        let kind = kind_of(&object.kind);
        let requests = &self.context.requests;
        let now = match &change.write {
            Write::Create(new) => {
                let created = requests
                    .create(&kind, &object.namespace, Value::clone(new))
                    .await;
                created.map_err(|refusal| match refusal {
                    Refusal::Exists(text) => Refusal::Conflict(text),
                    refusal => refusal,
                })?
            }
            Write::Patch(patch) => {
                let target = Target {
                    namespace: object.namespace.clone(),
                    name: object.name.clone(),
                    ..Target::default()
                };
                requests
                    .patch_by_pointers(&kind, &target, patch.clone())
                    .await?
            }
        };
        self.wrote(&kind, &now);
        self.changed.insert(object.clone(), Arc::new(now));
        Ok(())
    }

    /// An object was written: decisions wait until the caches show it. What nobody watches is read anew each time.
    pub(crate) fn wrote(&self, kind: &Kind, now: &Value) {
        let target = crossfade_engine::views::target(now);
        let caches = &self.context.caches;
        if caches.is_watched(kind, &target.namespace) {
            let key = (target.namespace, target.name);
            let own_writes = &self.context.own_writes;
            own_writes.wrote(caches, self.subject, kind, key, &version_of(now));
            self.context.answered(kind, now.clone());
        }
    }

    /// Tells people what was done, on this object.
    pub(crate) fn tell(&self, kind: &Kind, target: &Target, notes: Vec<Note>) {
        let events = notes.into_iter().map(|note| Event {
            warning: note.warning,
            reason: note.reason.to_owned(),
            message: note.message,
            done: true,
            for_owner: false,
        });
        self.context.tell(kind, target, events.collect());
    }
}

/// Carries out what a pass wants of its routers.
pub(crate) struct Routing<'p> {
    context: &'p Context,
    rollout: &'p Arc<Rollout>,
    former: Vec<String>,
    objects: Objects<'p>,
}

impl<'p> Routing<'p> {
    pub(crate) fn new(
        context: &'p Context,
        subject: &'p Subject,
        rollout: &'p Arc<Rollout>,
    ) -> Self {
        Self {
            context,
            rollout,
            former: former_additional(rollout),
            objects: Objects::new(context, subject),
        }
    }

    fn router(&self, name: &str) -> Option<Box<dyn Router>> {
        let mut built_in = built_in(self.context, self.rollout).into_iter();
        built_in.find(|router| configured_as(&**router) == name)
    }

    /// Makes a router carry a split.
    pub(crate) async fn route(&mut self, name: &str, split: &Split) -> Outcome {
        let Some(router) = self.router(name) else {
            return Err(other(format!("the router {name} cannot be driven yet")));
        };
        let observed = self.observe(&*router, split).await;
        let plan = router.plan(&subject(self.rollout, &self.former), &observed, split);
        let changes = !plan.changes.is_empty();
        let mut failed: Option<Failure> = None;
        for change in plan.changes {
            if change.only_after && failed.is_some() {
                continue;
            }
            match self.objects.write(&change).await {
                Ok(()) => self.tell(change.notes),
                Err(refusal) => {
                    let failure = Failure::from(refusal);
                    failed.get_or_insert(Failure {
                        message: change.failed(&failure.message),
                        ..failure
                    });
                }
            }
        }
        if changes && failed.is_none() {
            self.tell(router.capabilities().lacking(router.kind(), split));
        }
        for error in plan.errors {
            // The same fault is told once, however often it is met.
            if !self.rollout.status.message.contains(&error.message) {
                self.tell(error.note.clone().into_iter().collect());
            }
            failed.get_or_insert(other(error.message));
        }
        match (failed, plan.waits) {
            (Some(failure), _) => Err(failure),
            (None, Some(message)) => Err(Failure {
                kind: FailureKind::NotYet,
                message,
            }),
            (None, None) => Ok(Done::Written(String::new())),
        }
    }

    /// Asks a router whether a split is in force.
    pub(crate) async fn verify(&self, name: &str, split: &Split) -> Done {
        let Some(router) = self.router(name) else {
            return Done::Verified(None);
        };
        let observed = self.observe(&*router, split).await;
        let subject = subject(self.rollout, &self.former);
        Done::Verified(router.verify(&subject, &observed, split))
    }

    /// What a router looks at, as it is now.
    async fn observe(&self, router: &dyn Router, split: &Split) -> Observed {
        let rollout = self.rollout;
        let needs = router.needs(&subject(rollout, &self.former), split);
        let mut observed = self.objects.observe(needs).await;
        let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
        let sets = self
            .context
            .caches
            .replica_sets
            .owned(rollout.namespace(), uid);
        let pods = sets.iter().map(|set| {
            let available = set.view.available;
            (PodHash::from(set.view.hash()), Pods { available })
        });
        observed.pods = pods.collect();
        observed
    }

    fn tell(&self, notes: Vec<Note>) {
        let target = crate::object::target(&self.rollout.metadata);
        self.objects.tell(&Kind::Rollout, &target, notes);
    }
}
