//! Actions of a Canary's pass, carried out by the API server and by those who are asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_engine::action::{Done, Failure, FailureKind, Outcome, Target};
use crossfade_engine::canary::action::{CanaryAction, CanaryDone, ObjectKey};
use crossfade_engine::canary::world::{ConfigKey, Services, World};
use crossfade_engine::decision::Found;
use crossfade_engine::views;
use crossfade_metrics::canary_checks::find;
use crossfade_notify::hooks::Grants;
use crossfade_traffic::{CanaryRouter, RoutedCanary, Wish, canary_router};
use serde_json::{Value, json};

use super::read::{config_kind, whole};
use super::{evidence, label};
use crate::context::{Context, Subject};
use crate::kind::Kind;
use crate::object::target;
use crate::perform::other;
use crate::requests::{Refusal, version_of};
use crate::routes::Objects;

/// Carries out the actions of one pass.
pub(super) struct Performing<'p> {
    context: &'p Context,
    canary: Arc<crossfade_api::Canary>,
    label: String,
    objects: Objects<'p>,
    /// The Canary, in the version that was written last.
    own: Target,
    /// Objects as this pass has seen them, by version.
    seen: BTreeMap<String, Arc<Value>>,
    /// What gates have granted in this pass.
    grants: Grants,
}

impl<'p> Performing<'p> {
    pub(super) fn new(context: &'p Context, subject: &'p Subject, world: &World) -> Self {
        let Services {
            apex,
            primary,
            canary,
        } = &world.services;
        let all = [
            &world.target,
            &world.primary,
            &world.autoscaler,
            &world.primary_autoscaler,
            apex,
            primary,
            canary,
        ];
        let seen = all.into_iter().filter_map(Found::found);
        Self {
            context,
            canary: Arc::clone(&world.canary),
            label: label(context, world),
            objects: Objects::new(context, subject),
            own: target(&world.canary.metadata),
            seen: seen
                .map(|object| (version_of(object), Arc::clone(object)))
                .collect(),
            grants: Grants::default(),
        }
    }

    /// The Canary, in the version that was written last.
    pub(super) fn own(&self) -> &Target {
        &self.own
    }

    /// Performs one action.
    pub(super) async fn perform(&mut self, action: &CanaryAction) -> Outcome {
        let outcome = self.carry_out(action).await;
        if action.moves() {
            evidence::settle(self.context, &self.grants, outcome.is_ok()).await;
        }
        outcome
    }

    async fn carry_out(&mut self, action: &CanaryAction) -> Outcome {
        match action {
            CanaryAction::Create { object } => self.create(object).await,
            CanaryAction::Patch { object, patch } => self.change(object, patch).await,
            CanaryAction::Read { object } => {
                let kind = whole(&object.api_version, &object.kind);
                let Target {
                    namespace, name, ..
                } = &object.target;
                let found = self.context.requests.get(&kind, namespace, name).await?;
                let found = found.ok_or_else(|| gone(object))?;
                self.answer(found)
            }
            CanaryAction::CopyConfig {
                from,
                labels,
                owner,
                ..
            } => self.copy_config(from, labels, owner).await,
            CanaryAction::Annotate { annotations, .. } => {
                self.note(json!({"annotations": annotations})).await
            }
            CanaryAction::SetFinalizers { finalizers, .. } => {
                self.note(json!({"finalizers": finalizers})).await
            }
            CanaryAction::ReconcileRoutes { provider } => self.route(provider, &Wish::Kept).await,
            CanaryAction::SetShares {
                provider,
                shares,
                cookies,
            } => {
                let wish = Wish::Split(shares, cookies.as_ref());
                self.route(provider, &wish).await
            }
            CanaryAction::RestoreRoutes { provider } => self.route(provider, &Wish::Restored).await,
            CanaryAction::ReadShares { provider } => {
                let (router, subject) = (self.router(provider)?, self.subject());
                let observed = self.objects.observe(router.needs(&subject)).await;
                let shares = router.read(&subject, &observed);
                let shares = shares.map_err(|error| other(error.message))?;
                let target = &self.canary.spec.target_ref.name;
                self.context
                    .canary_metrics
                    .weighed(&self.own.namespace, target, shares);
                Ok(Done::Canary(Box::new(CanaryDone::Shares(shares))))
            }
            CanaryAction::CallHook(call) => {
                evidence::call(self.context, &self.canary, &self.grants, call).await
            }
            CanaryAction::Alert(alert) => {
                evidence::alert(self.context, &self.canary, alert);
                Ok(Done::Written(String::new()))
            }
            CanaryAction::FindProvider(source) => match find(self.context, source).await {
                Ok(()) => Ok(Done::Written(String::new())),
                Err(why) => Err(other(why)),
            },
            CanaryAction::Check(check) => {
                let checked = crossfade_metrics::canary_checks::check(self.context, check).await;
                self.context
                    .canary_metrics
                    .checked(&self.own.namespace, check, &checked);
                Ok(Done::Canary(Box::new(CanaryDone::Checked(checked))))
            }
        }
    }

    /// Answers with an object, which from now on has been seen.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "one of the outcomes, which may be failures"
    )]
    fn answer(&mut self, object: Value) -> Outcome {
        let shared = Arc::new(object.clone());
        self.seen.insert(version_of(&object), shared);
        Ok(Done::Canary(Box::new(CanaryDone::Object(object))))
    }

    async fn create(&mut self, object: &Value) -> Outcome {
        let kind = whole(
            views::text(object, "/apiVersion"),
            views::text(object, "/kind"),
        );
        let namespace = views::text(object, "/metadata/namespace");
        let requests = &self.context.requests;
        let made = requests.create(&kind, namespace, object.clone()).await;
        let made = made.map_err(|refusal| match refusal {
            Refusal::Exists(text) => Refusal::Conflict(text),
            refusal => refusal,
        })?;
        self.objects.wrote(&kind, &made);
        self.answer(made)
    }

    /// Changes an object. That others have changed what the pass does not look at is no conflict.
    async fn change(&mut self, key: &ObjectKey, patch: &Value) -> Outcome {
        let kind = whole(&key.api_version, &key.kind);
        let requests = &self.context.requests;
        let patched = requests.merge(&kind, &key.target, patch.clone()).await;
        let now = match patched {
            Err(Refusal::Conflict(text)) => {
                let before = self.seen.get(&key.target.resource_version);
                let Target {
                    namespace, name, ..
                } = &key.target;
                let live = requests.get(&kind, namespace, name).await?;
                let live = live.ok_or_else(|| gone(key))?;
                let same = before.is_some_and(|before| {
                    before["spec"] == live["spec"]
                        && before["metadata"]["uid"] == live["metadata"]["uid"]
                        && views::is_deleting(before) == views::is_deleting(&live)
                });
                if !same {
                    return Err(Refusal::Conflict(text).into());
                }
                let target = views::target(&live);
                requests.merge(&kind, &target, patch.clone()).await?
            }
            patched => patched?,
        };
        self.objects.wrote(&kind, &now);
        self.answer(now)
    }

    /// Writes metadata of the Canary itself.
    async fn note(&mut self, metadata: Value) -> Outcome {
        let patch = json!({"metadata": metadata});
        let requests = &self.context.requests;
        let now = requests.merge(&Kind::Canary, &self.own, patch).await?;
        self.own.resource_version = version_of(&now);
        self.objects.wrote(&Kind::Canary, &now);
        Ok(Done::Written(self.own.resource_version.clone()))
    }

    async fn copy_config(
        &mut self,
        from: &ConfigKey,
        labels: &BTreeMap<String, String>,
        owner: &Value,
    ) -> Outcome {
        let (kind, name) = (config_kind(from), from.name());
        let namespace = self.own.namespace.clone();
        let requests = &self.context.requests;
        let plural = kind.resource().plural;
        let original = requests.get(&kind, &namespace, name).await?;
        let original = original.ok_or_else(|| Failure {
            kind: FailureKind::NotFound,
            message: format!("{plural} \"{name}\" not found"),
        })?;
        let copy = format!("{name}-primary");
        let members = ["data", "binaryData", "type"];
        let members = members.map(|member| (member, original.get(member)));
        let there = requests.get(&kind, &namespace, &copy).await?;
        let written = match there {
            None => {
                let resource = kind.resource();
                let mut made = json!({
                    "apiVersion": resource.api_version,
                    "kind": resource.kind,
                    "metadata": {
                        "name": copy,
                        "namespace": namespace,
                        "labels": labels,
                        "ownerReferences": [owner],
                    },
                });
                for (member, value) in members {
                    if let Some(value) = value {
                        made[member] = value.clone();
                    }
                }
                requests.create(&kind, &namespace, made).await?
            }
            Some(there) => {
                let mut wanted = there.clone();
                for (member, value) in members {
                    match (value, wanted.as_object_mut()) {
                        (Some(value), Some(wanted)) => {
                            wanted.insert(member.to_owned(), value.clone());
                        }
                        (None, Some(wanted)) => {
                            wanted.remove(member);
                        }
                        (_, None) => {}
                    }
                }
                wanted["metadata"]["labels"] = json!(labels);
                if let Some(metadata) = wanted["metadata"].as_object_mut() {
                    metadata.remove("annotations");
                }
                wanted["metadata"]["ownerReferences"] = owners(&there, owner);
                match crossfade_api::merge_patch::diff(&there, &wanted) {
                    None => return Ok(Done::Written(version_of(&there))),
                    Some(patch) => {
                        let target = views::target(&there);
                        requests.merge(&kind, &target, patch).await?
                    }
                }
            }
        };
        self.objects.wrote(&kind, &written);
        Ok(Done::Written(version_of(&written)))
    }

    fn subject(&self) -> RoutedCanary<'_> {
        RoutedCanary {
            canary: &self.canary,
            label: &self.label,
        }
    }

    fn router(&self, provider: &str) -> Result<Box<dyn CanaryRouter>, Failure> {
        let router = canary_router(provider, &self.context.settings.routers);
        let router = router.map_err(other)?;
        router.ok_or_else(|| other(format!("the provider {provider} has no objects")))
    }

    async fn route(&mut self, provider: &str, wish: &Wish<'_>) -> Outcome {
        let router = self.router(provider)?;
        let subject = self.subject();
        let observed = self.objects.observe(router.needs(&subject)).await;
        let plan = router.plan(&subject, &observed, wish);
        for change in plan.changes {
            if let Err(refusal) = self.objects.write(&change).await {
                let failure = Failure::from(refusal);
                return Err(Failure {
                    message: change.failed(&failure.message),
                    ..failure
                });
            }
            let target = target(&self.canary.metadata);
            self.objects.tell(&Kind::Canary, &target, change.notes);
        }
        if let Some(error) = plan.errors.into_iter().next() {
            return Err(other(error.message));
        }
        if let Wish::Split(shares, _) = wish {
            let target = &self.canary.spec.target_ref.name;
            self.context
                .canary_metrics
                .weighed(&self.own.namespace, target, **shares);
        }
        Ok(Done::Written(String::new()))
    }
}

fn gone(key: &ObjectKey) -> Failure {
    Failure {
        kind: FailureKind::NotFound,
        message: format!("{} {} is gone", key.kind, key.target.name),
    }
}

/// The owners of a copy: this one controls it, others stay without control.
fn owners(there: &Value, owner: &Value) -> Value {
    let others = there.pointer("/metadata/ownerReferences");
    let others = others.and_then(Value::as_array).into_iter().flatten();
    let others = others.filter(|other| other["uid"] != owner["uid"]).cloned();
    let mut all: Vec<Value> = others
        .map(|mut other| {
            other["controller"] = json!(false);
            other
        })
        .collect();
    all.push(owner.clone());
    Value::Array(all)
}
