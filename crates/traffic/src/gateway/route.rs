//! One route: the weights of the two versions in its rules, our own rules behind the user's, and the label that says so.

use std::collections::BTreeSet;

use crossfade_api::split::Split;
use serde_json::{Value, json};

use super::configuration::Configuration;
use super::managed_rules::{self, Wanted};
use super::{Route, service};
use crate::contract::{Change, Observed, RouteError, Subject, Write};
use crate::json::{list, list_mut, metadata, object_at, text};
use crate::patch;
use crate::shares::{self, Shares};

/// What could not be planned, by the operation that users know.
pub(super) enum Fault {
    Weight(RouteError),
    Header(RouteError),
    Mirror(RouteError),
}

/// One route to bring to a split.
pub(super) struct Edit<'a> {
    pub(super) route: &'a Route,
    pub(super) configuration: &'a Configuration,
    pub(super) subject: &'a Subject<'a>,
    pub(super) observed: &'a Observed,
    pub(super) split: &'a Split,
}

impl Edit<'_> {
    pub(super) fn plan(&self) -> Result<Option<Change>, Fault> {
        let object = &self.route.object;
        let missing = || RouteError::user(object.kind.not_found(&object.name));
        let before = self.observed.get(object).map_err(Fault::Weight)?;
        let before = before.ok_or_else(missing).map_err(Fault::Weight)?;
        let mut after = before.clone();
        let rules = object_at(&mut after, &["spec"]).and_then(|spec| spec.get_mut("rules"));
        let Some(Value::Array(rules)) = rules else {
            return Err(self.no_backend());
        };
        let header_routes = self.route.kind.has_headers() && self.route.header_routes;
        let (mut managed, mut own): (Vec<Value>, Vec<Value>) = std::mem::take(rules)
            .into_iter()
            .partition(|rule| header_routes && managed_rules::is_managed(rule, self.split));
        self.write_weights(&mut own).map_err(|error| match error {
            Some(error) => Fault::Weight(error),
            None => self.no_backend(),
        })?;
        if self.split.keeps_routes {
            // A mirror has the weights of all requests.
            let (canary, stable) = (&self.split.canary, &self.split.stable);
            let splits =
                |rule: &Value| self.has(rule, &canary.service) && self.has(rule, &stable.service);
            for rule in managed.iter_mut().filter(|rule| splits(rule)) {
                self.write_weights(std::slice::from_mut(rule))
                    .map_err(|error| match error {
                        Some(error) => Fault::Weight(error),
                        None => self.no_backend(),
                    })?;
            }
        } else if header_routes {
            let wanted = Wanted {
                kind: self.route.kind,
                split: self.split,
                sources: own
                    .iter()
                    .filter(|rule| self.has(rule, &self.split.canary.service))
                    .filter(|rule| self.has(rule, &self.split.stable.service))
                    .collect(),
                canary: |reference: &Value| self.is_service(reference, &self.split.canary.service),
            };
            managed = managed_rules::bring(&wanted.rules()?, &managed);
        }
        let busy = self.split.canary.weight.0 != 0
            || !self.split.additional.is_empty()
            || !managed.is_empty();
        own.extend(managed);
        *rules = own;
        self.label(&mut after, busy);
        Ok(patch::between(before, &after).map(|patch| Change {
            object: object.clone(),
            write: Write::Patch(patch),
            notes: Vec::new(),
            only_after: false,
            failure: None,
        }))
    }

    fn no_backend(&self) -> Fault {
        Fault::Weight(RouteError::user(self.route.kind.no_backend()))
    }

    fn has(&self, rule: &Value, service: &str) -> bool {
        let mut references = list(rule, "backendRefs").iter();
        references.any(|reference| self.is_service(reference, service))
    }

    /// Whether a backend is this Service of the Rollout's namespace.
    fn is_service(&self, reference: &Value, service: &str) -> bool {
        let (kind, group) = (text(reference, "kind"), text(reference, "group"));
        let namespace = match text(reference, "namespace") {
            "" => &self.route.object.namespace,
            namespace => namespace,
        };
        matches!(kind, "" | "Service")
            && matches!(group, "" | "core")
            && namespace == self.subject.namespace
            && text(reference, "name") == service
    }

    /// Writes the weights into the user's rules. `Err(None)` when a side is in none of them.
    fn write_weights(&self, rules: &mut [Value]) -> Result<(), Option<RouteError>> {
        let Shares {
            canary,
            stable,
            additional,
        } = shares::as_wanted(self.split);
        let (mut canaries, mut stables) = (0, 0);
        let ended: BTreeSet<&str> = self
            .subject
            .former_additional
            .iter()
            .map(String::as_str)
            .filter(|former| {
                !self
                    .split
                    .additional
                    .iter()
                    .any(|side| side.service == *former)
            })
            .collect();
        for rule in rules {
            let Some(references) = list_mut(rule, "backendRefs").map_err(Some)? else {
                continue;
            };
            let mut ours = false;
            for reference in references.iter_mut() {
                let share = if self.is_service(reference, &self.split.canary.service) {
                    canaries += 1;
                    canary
                } else if self.is_service(reference, &self.split.stable.service) {
                    stables += 1;
                    stable
                } else {
                    continue;
                };
                ours = true;
                set_weight(reference, share);
            }
            if !ours {
                continue;
            }
            references.retain(|reference| !ended.contains(text(reference, "name")));
            for (side, share) in self.split.additional.iter().zip(&additional) {
                let there = references
                    .iter_mut()
                    .find(|reference| self.is_service(reference, &side.service));
                match there {
                    Some(reference) => set_weight(reference, *share),
                    None => references.push(json!({
                        "name": side.service,
                        "namespace": self.subject.namespace,
                        "port": self.port(&side.service).map_err(Some)?,
                        "weight": share,
                    })),
                }
            }
        }
        if canaries == 0 || stables == 0 {
            return Err(None);
        }
        Ok(())
    }

    /// The port of an experiment's Service: the one named `http`, else its first.
    fn port(&self, name: &str) -> Result<i64, RouteError> {
        let object = service(self.subject, name);
        let service = self.observed.get(&object)?;
        let service = service.ok_or_else(|| RouteError::user(object.kind.not_found(name)))?;
        let none = Value::Null;
        let ports = list(service.get("spec").unwrap_or(&none), "ports");
        let http = ports.iter().find(|port| text(port, "name") == "http");
        let port = http.or_else(|| ports.first());
        Ok(port
            .and_then(|port| port.get("port")?.as_i64())
            .unwrap_or(8080))
    }

    /// Sets or removes the label by which GitOps tools leave a route alone that is in the middle of a release.
    fn label(&self, route: &mut Value, busy: bool) {
        if self.configuration.disable_in_progress_label {
            return;
        }
        let (key, value) = self.configuration.label();
        if busy {
            if let Some(labels) = object_at(route, &["metadata", "labels"]) {
                labels.insert(key.to_owned(), json!(value));
            }
        } else if metadata(route, "labels", key).is_some()
            && let Some(labels) = object_at(route, &["metadata", "labels"])
        {
            labels.remove(key);
        }
    }
}

fn set_weight(reference: &mut Value, share: i64) {
    if let Some(reference) = reference.as_object_mut() {
        reference.insert("weight".to_owned(), json!(share));
    }
}
