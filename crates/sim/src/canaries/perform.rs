//! Actions in the simulated namespace: at once, and exactly as asked.

use crossfade_api::merge_patch;
use crossfade_engine::action::{Action, Done, Failure, FailureKind, Outcome};
use crossfade_engine::canary::action::{
    CanaryAction, CanaryDone, Check, CheckFault, CheckFaultKind, Checked, ObjectKey, Query, Shares,
};
use crossfade_engine::canary::world::ConfigKey;
use crossfade_engine::views;
use serde_json::{Value, json};

use super::{Answer, Answering, Called, Namespace, Route, key};

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

#[expect(
    clippy::unnecessary_wraps,
    reason = "one of the outcomes, which may be failures"
)]
fn answer(done: CanaryDone) -> Outcome {
    Ok(Done::Canary(Box::new(done)))
}

impl Namespace {
    /// Performs one action for a Canary.
    pub(super) fn perform(&mut self, canary: &str, action: &Action) -> Outcome {
        let Action::Canary(action) = action else {
            return failed(FailureKind::Other, "a Canary does not do that");
        };
        if let CanaryAction::ReconcileRoutes { .. }
        | CanaryAction::ReadShares { .. }
        | CanaryAction::SetShares { .. }
        | CanaryAction::RestoreRoutes { .. } = &**action
            && self.router_fault.is_none()
            && let Some(mut routing) = self.routing.take()
        {
            let own = self.object("Canary", canary).cloned().unwrap_or_default();
            let outcome = routing.perform(&own, action);
            self.routing = Some(routing);
            return outcome;
        }
        match &**action {
            CanaryAction::Create { object } => self.create_once(object),
            CanaryAction::Patch { object, patch } => self.patch_object(object, patch),
            CanaryAction::Read { object } => {
                let there = self.object(&object.kind, &object.target.name).cloned();
                match there {
                    Some(there) => answer(CanaryDone::Object(there)),
                    None => failed(FailureKind::NotFound, "it is gone"),
                }
            }
            CanaryAction::CopyConfig {
                from,
                labels,
                owner,
                ..
            } => self.copy_config(from, &json!(labels), owner),
            CanaryAction::Annotate { annotations, .. } => {
                self.writes += 1;
                let patch = json!({"metadata": {"annotations": annotations}});
                self.patch("Canary", canary, &patch);
                done()
            }
            CanaryAction::SetFinalizers { finalizers, .. } => {
                self.writes += 1;
                let patch = json!({"metadata": {"finalizers": finalizers}});
                self.patch("Canary", canary, &patch);
                let there = self.object("Canary", canary);
                let goes = there.is_some_and(views::is_deleting);
                if goes && finalizers.is_empty() {
                    self.delete("Canary", canary);
                }
                done()
            }
            CanaryAction::ReconcileRoutes { provider } => self.reconcile_routes(canary, provider),
            CanaryAction::ReadShares { .. } => {
                if let Some(why) = &self.router_fault {
                    return failed(FailureKind::Other, why.clone());
                }
                let route = self.routes.get(canary).cloned().unwrap_or_default();
                answer(CanaryDone::Shares(route.shares))
            }
            CanaryAction::SetShares {
                shares, cookies, ..
            } => {
                if let Some(why) = &self.router_fault {
                    return failed(FailureKind::Other, why.clone());
                }
                let route = Route {
                    shares: *shares,
                    cookies: cookies.clone(),
                };
                if self.routes.insert(canary.to_owned(), route.clone()) != Some(route) {
                    self.writes += 1;
                }
                self.look();
                done()
            }
            CanaryAction::RestoreRoutes { .. } => {
                self.routes.remove(canary);
                done()
            }
            CanaryAction::CallHook(call) => {
                if !self.keeps_no_record {
                    self.calls.push(Called {
                        at: self.now,
                        name: call.name.clone(),
                        body: serde_json::from_str(&call.body).unwrap_or_default(),
                        revision: call.revision.clone(),
                    });
                }
                let answer = match &mut self.answering {
                    Some(Answering(answer)) => Some(answer(call)),
                    None => self.hooks.get(&call.name).cloned(),
                };
                match answer {
                    Some((status, text)) if status >= 500 => {
                        let attempts = call.retries.max(0) + 1;
                        let tail = if text.is_empty() {
                            String::new()
                        } else {
                            format!(": {text}")
                        };
                        let message = format!(
                            "POST {} giving up after {attempts} attempt(s){tail}",
                            call.url
                        );
                        failed(FailureKind::Other, message)
                    }
                    Some((status, text)) if status > 202 => failed(FailureKind::Refused, text),
                    _ => done(),
                }
            }
            CanaryAction::Alert(alert) => {
                if !self.keeps_no_record {
                    self.alerts.push((**alert).clone());
                }
                done()
            }
            CanaryAction::FindProvider(_) => done(),
            CanaryAction::Check(check) => {
                if !self.keeps_no_record {
                    self.checks.push((**check).clone());
                }
                answer(CanaryDone::Checked(Checked {
                    answer: self.measure(check),
                    took_ms: 5,
                }))
            }
        }
    }

    fn create_once(&mut self, object: &Value) -> Outcome {
        let key = key(object);
        if self.objects.contains_key(&key) {
            let message = format!("{} \"{}\" already exists", key.0, key.1);
            return failed(FailureKind::Conflict, message);
        }
        self.writes += 1;
        let made = self.create(object.clone());
        answer(CanaryDone::Object(made))
    }

    fn patch_object(&mut self, object: &ObjectKey, patch: &Value) -> Outcome {
        let Some(there) = self.object(&object.kind, &object.target.name) else {
            return failed(FailureKind::NotFound, "it is gone");
        };
        let version = &object.target.resource_version;
        if !version.is_empty() && there["metadata"]["resourceVersion"] != version.as_str() {
            return failed(FailureKind::Conflict, "the object has been modified");
        }
        let mut next = there.clone();
        merge_patch::apply(&mut next, patch);
        self.writes += 1;
        let stored = self.store(next);
        answer(CanaryDone::Object(stored))
    }

    fn copy_config(&mut self, from: &ConfigKey, labels: &Value, owner: &Value) -> Outcome {
        let kind = match from {
            ConfigKey::ConfigMap(_) => "ConfigMap",
            ConfigKey::Secret(_) => "Secret",
        };
        let Some(original) = self.object(kind, from.name()).cloned() else {
            return failed(FailureKind::NotFound, "it is gone");
        };
        let name = format!("{}-primary", from.name());
        let mut copy = json!({
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": self.name, "labels": labels, "ownerReferences": [owner]},
            "data": original["data"],
        });
        if kind == "Secret" {
            copy["type"] = original["type"].clone();
        }
        let there = self.object(kind, &name);
        if there.is_some_and(|there| there["data"] == copy["data"]) {
            return done();
        }
        self.writes += 1;
        self.objects.remove(&(kind.to_owned(), name));
        self.create(copy);
        done()
    }

    fn reconcile_routes(&mut self, canary: &str, provider: &str) -> Outcome {
        if let Some(why) = &self.router_fault {
            return failed(FailureKind::Other, why.clone());
        }
        if provider == "nginx" {
            let spec = |pointer| {
                let canary = self.object("Canary", canary);
                canary.map_or("", |canary| views::text(canary, pointer))
            };
            let ingress = spec("/spec/ingressRef/name").to_owned();
            let named = spec("/spec/service/name");
            let apex = if named.is_empty() {
                spec("/spec/targetRef/name")
            } else {
                named
            };
            let Some(object) = self.object("Ingress", &ingress) else {
                let text = format!(
                    "ingress {ingress}.{} get query error: ingresses.networking.k8s.io \"{ingress}\" not found",
                    self.name
                );
                return failed(FailureKind::NotFound, text);
            };
            let names_apex = object["spec"]["rules"]
                .to_string()
                .contains(&format!("\"name\":\"{apex}\""));
            if !names_apex {
                return failed(
                    FailureKind::Other,
                    format!("backend {apex} not found in ingress {ingress}"),
                );
            }
        }
        if !self.routes.contains_key(canary) {
            let shares = Shares {
                primary: 100,
                ..Shares::default()
            };
            let route = Route {
                shares,
                cookies: None,
            };
            self.routes.insert(canary.to_owned(), route);
            self.writes += 1;
            self.look();
        }
        done()
    }

    fn measure(&self, check: &Check) -> Result<f64, CheckFault> {
        let by_kind = match check.query {
            Query::SuccessRate { .. } => "success",
            Query::Duration { .. } => "duration",
            Query::Text(_) => "custom",
        };
        let own = self.metrics.get(&check.metric);
        match own.or_else(|| self.metrics.get(by_kind)) {
            Some(Answer::Value(value)) => Ok(*value),
            Some(Answer::Fault(kind, text)) => Err(CheckFault {
                kind: kind.clone(),
                text: text.clone(),
            }),
            None => Err(CheckFault {
                kind: CheckFaultKind::NoData,
                text: "no values found".to_owned(),
            }),
        }
    }
}
