//! NGINX ingress: a second Ingress beside the user's, marked as canary, whose annotation is the weight.
//!
//! The user's Ingress is only read. The canary Ingress is ours: made from it, owned by the Rollout, never deleted here (its owner's end takes it along).

use crossfade_api::split::Split;
use crossfade_api::traffic_routing::{NginxTrafficRouting, TrafficRouting};
use serde_json::{Value, json};

use crate::contract::{
    Capabilities, Change, Kind, Need, Note, ObjectRef, Observed, Plan, RouteError, Router, Subject,
    Write,
};
use crate::json::{list, list_mut, metadata, object_at, text};
use crate::{patch, shares};

const CLASS: &str = "kubernetes.io/ingress.class";
/// The longest name of an Ingress that leaves room for the ending.
const LONGEST: usize = 246;

pub(crate) struct Nginx {
    settings: NginxTrafficRouting,
    /// The maximum was configured: then it is told to NGINX.
    tells_maximum: bool,
}

impl Nginx {
    pub(crate) fn new(settings: &NginxTrafficRouting, routing: &TrafficRouting) -> Self {
        Self {
            settings: settings.clone(),
            tells_maximum: routing.max_traffic_weight.is_some(),
        }
    }

    fn stable_names(&self) -> Vec<&str> {
        match &self.settings.stable_ingresses {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => vec![&self.settings.stable_ingress],
        }
    }

    fn annotation(&self, name: &str) -> String {
        let prefix = &self.settings.annotation_prefix;
        if prefix.is_empty() {
            format!("nginx.ingress.kubernetes.io/{name}")
        } else {
            format!("{prefix}/{name}")
        }
    }

    /// Annotations of the canary Ingress: the user's, then those by which NGINX knows it.
    fn annotations(&self, stable: &Value, split: &Split) -> Vec<(String, String)> {
        let prefix = self.annotation("");
        let mut annotations = Vec::new();
        if let Some(class) = metadata(stable, "annotations", CLASS) {
            annotations.push((CLASS.to_owned(), class.to_owned()));
        }
        for (key, value) in &self.settings.additional_ingress_annotations {
            // Only the prefix itself counts, without the slash, as in the tools that manifests were written for.
            let key = if key.starts_with(prefix.trim_end_matches('/')) {
                key.clone()
            } else {
                self.annotation(key)
            };
            annotations.push((key, value.clone()));
        }
        annotations.extend(self.settings.canary_ingress_annotations.clone());
        let weight = shares::as_wanted(split).canary;
        annotations.push((self.annotation("canary"), "true".to_owned()));
        annotations.push((self.annotation("canary-weight"), weight.to_string()));
        if self.tells_maximum {
            let total = split.max.to_string();
            annotations.push((self.annotation("canary-weight-total"), total));
        }
        annotations
    }

    fn plan_one(
        &self,
        subject: &Subject<'_>,
        observed: &Observed,
        split: &Split,
        name: &str,
    ) -> Result<Option<Change>, RouteError> {
        let lost = |why: &str| format!("error retrieving stableIngress `{name}` from cache: {why}");
        let reference = ingress(subject, name);
        let stable = observed
            .get(&reference)
            .map_err(|why| RouteError::world(lost(&why.message)))?
            .ok_or_else(|| {
                RouteError::user(lost(&format!(
                    "ingress.networking.k8s.io \"{name}\" not found"
                )))
            })?;
        let spec = canary_spec(stable, name, split)?;
        let annotations = self.annotations(stable, split);
        let object = ingress(subject, &canary_name(subject, name));
        let (canary, weight) = (&object.name, split.canary.weight);
        let Some(before) = observed.get(&object)? else {
            let annotations: serde_json::Map<_, _> = annotations
                .into_iter()
                .map(|(key, value)| (key, json!(value)))
                .collect();
            let note = Note::normal(
                "CreatingCanaryIngress",
                format!("Creating canary ingress `{canary}` with weight `{weight}`"),
            );
            let made = json!({
                "apiVersion": object.kind.api_version(),
                "kind": object.kind.kind,
                "metadata": {
                    "name": canary,
                    "namespace": subject.namespace,
                    "annotations": annotations,
                    "ownerReferences": [{
                        "apiVersion": "argoproj.io/v1alpha1",
                        "kind": "Rollout",
                        "name": subject.name,
                        "uid": subject.uid,
                        "controller": true,
                        "blockOwnerDeletion": true,
                    }],
                },
                "spec": spec,
            });
            return Ok(Some(Change {
                object,
                write: Write::Create(Box::new(made)),
                notes: vec![note],
                only_after: false,
                failure: None,
            }));
        };
        if !is_owned(before, subject) {
            return Err(RouteError::user(format!(
                "canary ingress `{canary}` controlled by different object"
            )));
        }
        let mut after = before.clone();
        if let Some(map) = object_at(&mut after, &["metadata", "annotations"]) {
            for (key, value) in annotations {
                map.insert(key, json!(value));
            }
        }
        if let Some(whole) = after.as_object_mut() {
            whole.insert("spec".to_owned(), spec);
        }
        let note = Note::normal(
            "PatchingCanaryIngress",
            format!("Updating Ingress `{canary}` to desiredWeight '{weight}'"),
        );
        Ok(patch::between(before, &after).map(|patch| Change {
            object,
            write: Write::Patch(patch),
            notes: vec![note],
            only_after: false,
            failure: None,
        }))
    }
}

impl Router for Nginx {
    fn kind(&self) -> &'static str {
        "Nginx"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            any_maximum: true,
            ..Capabilities::default()
        }
    }

    fn needs(&self, subject: &Subject<'_>, _split: &Split) -> Vec<Need> {
        self.stable_names()
            .into_iter()
            .flat_map(|name| {
                let canary = canary_name(subject, name);
                [ingress(subject, name), ingress(subject, &canary)]
            })
            .map(Need::Object)
            .collect()
    }

    fn plan(&self, subject: &Subject<'_>, observed: &Observed, split: &Split) -> Plan {
        let mut plan = Plan::default();
        for name in self.stable_names() {
            match self.plan_one(subject, observed, split, name) {
                Ok(change) => plan.changes.extend(change),
                Err(error) => plan.errors.push(error),
            }
        }
        plan
    }
}

fn ingress(subject: &Subject<'_>, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind(),
        namespace: subject.namespace.to_owned(),
        name: name.to_owned(),
    }
}

pub(crate) fn kind() -> Kind {
    Kind::new("networking.k8s.io", "v1", "Ingress", "ingresses")
}

fn canary_name(subject: &Subject<'_>, stable: &str) -> String {
    let mut name = format!("{}-{stable}", subject.name);
    name.truncate(name.floor_char_boundary(LONGEST));
    name + "-canary"
}

fn is_owned(object: &Value, subject: &Subject<'_>) -> bool {
    let owners = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| {
        owner.get("controller") == Some(&Value::Bool(true)) && text(owner, "uid") == subject.uid
    })
}

/// The stable Ingress's class, certificates and rules, as far as these lead to the stable Service, which becomes the canary's.
fn canary_spec(stable: &Value, name: &str, split: &Split) -> Result<Value, RouteError> {
    let none = Value::Null;
    let from = stable.get("spec").unwrap_or(&none);
    let mut rules = Vec::new();
    for rule in list(from, "rules") {
        let mut rule = rule.clone();
        let http = rule.get_mut("http").filter(|http| http.is_object());
        let Some(paths) = http
            .map(|http| list_mut(http, "paths"))
            .transpose()?
            .flatten()
        else {
            continue;
        };
        let mut leads_there = false;
        for path in paths {
            let service = path.pointer_mut("/backend/service/name");
            if let Some(service) = service.filter(|name| **name == split.stable.service.as_str()) {
                *service = json!(split.canary.service);
                leads_there = true;
            }
        }
        if leads_there {
            rules.push(rule);
        }
    }
    if rules.is_empty() {
        return Err(RouteError::user(format!(
            "ingress `{name}` has no rules using service {} backend",
            split.stable.service
        )));
    }
    let mut spec = json!({ "rules": rules });
    for field in ["ingressClassName", "tls"] {
        if let (Some(value), Some(spec)) = (from.get(field), spec.as_object_mut()) {
            spec.insert(field.to_owned(), value.clone());
        }
    }
    Ok(spec)
}
