//! A namespace with a Canary in virtual time whose requests real routers split.

use std::sync::{Arc, Mutex, MutexGuard};

use crossfade_api::{Canary, Resource as _};
use crossfade_engine::action::{Done, Failure, FailureKind, Outcome};
use crossfade_engine::canary::action::{CanaryAction, CanaryDone};
use crossfade_sim::canaries::{Namespace, Routing};
use crossfade_traffic::{CanaryRouter, Need, RoutedCanary, Settings, Wish, canary_router};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::rig::World;

/// The routers' objects, as an API server would keep them.
#[derive(Clone)]
struct Cluster(Arc<Mutex<World>>);

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a cluster")
    }
}

fn failed(message: String) -> Outcome {
    Err(Failure {
        kind: FailureKind::Other,
        message,
    })
}

impl Routing for Cluster {
    fn perform(&mut self, canary: &Value, action: &CanaryAction) -> Outcome {
        let mut world = self.0.lock().expect("nobody else failed");
        let canary = Canary::from_json(canary.clone()).0;
        let subject = RoutedCanary {
            canary: &canary,
            label: "app",
        };
        let (provider, wish) = match action {
            CanaryAction::ReconcileRoutes { provider } => (provider, Some(Wish::Kept)),
            CanaryAction::ReadShares { provider } => (provider, None),
            CanaryAction::SetShares {
                provider,
                shares,
                cookies,
            } => (provider, Some(Wish::Split(shares, cookies.as_ref()))),
            CanaryAction::RestoreRoutes { provider } => (provider, Some(Wish::Restored)),
            other => unreachable!("{other:?}"),
        };
        let router = canary_router(provider, &Settings::default());
        let router = router.expect("known").expect("it has objects");
        match wish {
            None => match router.read(&subject, &world.observed) {
                Ok(shares) => Ok(Done::Canary(Box::new(CanaryDone::Shares(shares)))),
                Err(error) => failed(error.message),
            },
            Some(wish) => carry(&mut world, &*router, &subject, &wish),
        }
    }
}

fn carry(
    world: &mut World,
    router: &dyn CanaryRouter,
    subject: &RoutedCanary<'_>,
    wish: &Wish<'_>,
) -> Outcome {
    let plan = router.plan(subject, &world.observed, wish);
    let needs = router.needs(subject);
    for change in &plan.changes {
        assert!(
            needs.contains(&Need::Object(change.object.clone())),
            "{} was not asked for",
            change.object
        );
    }
    let error = plan.errors.first().map(|error| error.message.clone());
    let before = world.observed.objects.clone();
    let notes = world.perform(plan);
    world
        .notes
        .extend(notes.into_iter().map(|note| note.message));
    for (object, now) in &mut world.observed.objects {
        let now = Arc::make_mut(now);
        complete(now);
        let was = before.get(object).map(|was| &was["spec"]);
        if was.is_some_and(|was| *was != now["spec"]) {
            let generation = now["metadata"]["generation"].as_i64().unwrap_or(1);
            now["metadata"]["generation"] = json!(generation + 1);
        }
    }
    if let Some(error) = error {
        return failed(error);
    }
    let after = router.plan(subject, &world.observed, wish);
    assert!(after.is_done(), "it is not content: {after:#?}");
    Ok(Done::Written(String::new()))
}

/// Fills in what an API server fills in.
fn complete(object: &mut Value) {
    if object["kind"] != "HTTPRoute" {
        return;
    }
    let default = |at: &mut Value, field: &str, value: Value| {
        if at.get(field).is_none() {
            at[field] = value;
        }
    };
    let each = |at: &mut Value, change: &mut dyn FnMut(&mut Value)| {
        at.as_array_mut().into_iter().flatten().for_each(change);
    };
    let spec = &mut object["spec"];
    each(&mut spec["parentRefs"], &mut |parent| {
        default(parent, "group", json!("gateway.networking.k8s.io"));
        default(parent, "kind", json!("Gateway"));
    });
    each(&mut spec["rules"], &mut |rule| {
        each(&mut rule["backendRefs"], &mut |side| {
            default(side, "group", json!(""));
            default(side, "kind", json!("Service"));
            default(side, "weight", json!(1));
        });
        each(&mut rule["matches"], &mut |one| {
            default(one, "path", json!({"type": "PathPrefix", "value": "/"}));
            for list in ["headers", "queryParams"] {
                if one.get(list).is_some() {
                    each(&mut one[list], &mut |value| {
                        default(value, "type", json!("Exact"));
                    });
                }
            }
        });
        if rule.get("filters").is_some() {
            each(&mut rule["filters"], &mut |filter| {
                if filter.get("cors").is_some() {
                    default(&mut filter["cors"], "maxAge", json!(5));
                }
            });
        }
    });
}

/// A namespace `web` with a Canary `shop` of the Deployment `shop`.
pub(super) struct Bed {
    pub(super) stage: Namespace,
    cluster: Cluster,
}

/// The Deployment.
pub(super) fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "shop", "labels": {"app": "shop"}},
        "spec": {
            "replicas": 2,
            "progressDeadlineSeconds": 60,
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "web", "image": "shop:v1"}]},
            },
        },
    })
}

/// A Canary by weight; `more` is merged into its spec.
pub(super) fn canary(provider: &str, more: &Value) -> Value {
    let mut canary = json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
        "metadata": {"name": "shop"},
        "spec": {
            "provider": provider,
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
            "progressDeadlineSeconds": 60,
            "service": {"port": 8080},
            "analysis": {"interval": "10s", "threshold": 3, "stepWeight": 10, "maxWeight": 50},
        },
    });
    crossfade_api::merge_patch::apply(&mut canary["spec"], more);
    canary
}

impl Bed {
    /// The Deployment and this Canary are applied; routers' objects of these are there.
    pub(super) fn new(canary: &Value, routed: &[Value]) -> Self {
        Self::with(&[deployment(), canary.clone()], routed)
    }

    pub(super) fn with(applied: &[Value], routed: &[Value]) -> Self {
        let now: Timestamp = "2026-01-05T10:00:00Z".parse().expect("a time");
        let cluster = Cluster(Arc::new(Mutex::new(World::new("{}", routed))));
        let mut stage = Namespace::new("web", now);
        stage.routing = Some(Box::new(cluster.clone()));
        for object in applied {
            stage.apply(object);
        }
        stage.advance(now + SignedDuration::from_secs(3));
        Self { stage, cluster }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.cluster.0.lock().expect("nobody failed")
    }

    /// A router's object.
    pub(super) fn routed(&self, kind: &str, name: &str) -> Value {
        self.world().get(kind, name).cloned().unwrap_or_default()
    }

    /// Somebody changes a router's object.
    pub(super) fn edit(&self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut world = self.world();
        let mut objects = world.observed.objects.iter_mut();
        let found = objects.find(|(object, _)| object.kind.kind == kind && object.name == name);
        let (_, object) = found.expect("it is there");
        change(Arc::make_mut(object));
    }

    pub(super) fn status(&self) -> Value {
        let canary = self.stage.object("Canary", "shop");
        canary
            .map(|canary| canary["status"].clone())
            .unwrap_or_default()
    }

    pub(super) fn until(&mut self, phase: &str) {
        self.until_true(phase, |bed| bed.status()["phase"] == phase);
    }

    pub(super) fn until_true(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..60 {
            if is_so(self) {
                return;
            }
            self.stage.ticks(1);
        }
        assert!(
            is_so(self),
            "not reached: {what}: {} {:#?}",
            self.status(),
            self.stage.texts("shop")
        );
    }

    pub(super) fn at_weight(&mut self, weight: i32) {
        let what = format!("weight {weight}");
        self.until_true(&what, |bed| bed.status()["canaryWeight"] == weight);
    }

    /// A new version, with this weight reached.
    pub(super) fn release_to(&mut self, weight: i32) {
        self.until("Initialized");
        self.stage.set_image("shop", "shop:v2");
        self.at_weight(weight);
    }

    /// The Canary's spec changes.
    pub(super) fn change(&mut self, spec: &Value) {
        self.stage.patch("Canary", "shop", &json!({"spec": spec}));
    }

    /// How often a text was told that contains this.
    pub(super) fn told(&self, part: &str) -> usize {
        let texts = self.stage.texts("shop");
        texts.iter().filter(|text| text.contains(part)).count()
    }

    /// What the routers' objects say.
    pub(super) fn read(&self, provider: &str) -> (i32, i32, bool) {
        let canary = self.stage.object("Canary", "shop").expect("it is there");
        let canary = Canary::from_json(canary.clone()).0;
        let router = canary_router(provider, &Settings::default());
        let router = router.expect("known").expect("it has objects");
        let subject = RoutedCanary {
            canary: &canary,
            label: "app",
        };
        let shares = router.read(&subject, &self.world().observed);
        let shares = shares.expect("readable");
        (shares.primary, shares.canary, shares.mirrored)
    }
}
