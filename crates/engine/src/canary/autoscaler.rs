//! What scales the target: a copy of it scales the primary, and the target's own rests while the target sleeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::flagger::AutoscalerRef;
use serde_json::{Value, json};

use super::tick::{Step, Tick};
use super::workload::is_toolkit;
use crate::decision::Found;
use crate::views::{map, number, text};

/// Keeps a ScaledObject's workload at a size.
const PAUSED: &str = "autoscaling.keda.sh/paused-replicas";
const PAUSED_PREFIX: &str = "autoscaling.keda.sh/paused";

/// How far the primary's autoscaler is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// It is made where it is missing.
    Make,
    /// It becomes what the original is.
    Renew,
}

impl Tick<'_, '_, '_> {
    /// The autoscaler that the Canary names. One that is missing ends the look.
    fn autoscaler(&mut self) -> Step<Option<(AutoscalerRef, Arc<Value>)>> {
        let Some(reference) = self.spec.autoscaler_ref.clone() else {
            return Ok(None);
        };
        let why = match &self.world.autoscaler {
            Found::Found(object) => return Ok(Some((reference, Arc::clone(object)))),
            Found::Unreadable(why) => why.clone(),
            Found::Missing | Found::NotNeeded => {
                let plural = if is_hpa(&reference) {
                    "horizontalpodautoscalers.autoscaling"
                } else {
                    "scaledobjects.keda.sh"
                };
                format!("{plural} \"{}\" not found", reference.name)
            }
        };
        let word = if is_hpa(&reference) {
            "HorizontalPodAutoscaler"
        } else {
            "Keda ScaledObject"
        };
        let namespace = self.namespace();
        Err(self.ends(&format!(
            "{word} {}.{namespace} get query error: {why}",
            reference.name
        )))
    }

    /// Looks after the primary's autoscaler.
    pub(super) fn reconcile_autoscaler(&mut self, care: Care) -> Step {
        let Some((reference, original)) = self.autoscaler()? else {
            return Ok(());
        };
        let wanted = self.primary_autoscaler(&reference, &original);
        match &self.world.primary_autoscaler {
            Found::Missing | Found::NotNeeded => self.create(wanted, "").map(drop),
            Found::Unreadable(why) => {
                let name = text(&wanted, "/metadata/name").to_owned();
                Err(self.ends(&format!("{} {name} get query error: {why}", reference.kind)))
            }
            Found::Found(there) if care == Care::Renew => {
                let mut renewed = (**there).clone();
                renewed["spec"] = wanted["spec"].clone();
                renewed["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
                self.change(there, &renewed, "").map(drop)
            }
            Found::Found(_) => Ok(()),
        }
    }

    fn primary_autoscaler(&self, reference: &AutoscalerRef, original: &Value) -> Value {
        let primary = self.primary_name();
        let mut spec = original["spec"].clone();
        spec["scaleTargetRef"]["name"] = json!(primary);
        let bounds = reference
            .primary_scaler_replicas
            .clone()
            .unwrap_or_default();
        let (min, max) = if is_hpa(reference) {
            ("minReplicas", "maxReplicas")
        } else {
            ("minReplicaCount", "maxReplicaCount")
        };
        for (member, bound) in [(min, bounds.min_replicas), (max, bounds.max_replicas)] {
            if let Some(bound) = bound {
                spec[member] = json!(bound);
            }
        }
        let mut annotations = BTreeMap::new();
        if !is_hpa(reference) {
            annotations = map(original, "/metadata/annotations");
            annotations.retain(|key, _| !is_toolkit(key) && !key.starts_with(PAUSED_PREFIX));
            self.rename_queries(reference, &mut spec);
            let pointer = "/advanced/horizontalPodAutoscalerConfig/name";
            if let Some(name) = spec.pointer_mut(pointer)
                && let Some(text) = name.as_str()
            {
                *name = json!(format!("{text}-primary"));
            }
        }
        let mut labels = map(original, "/metadata/labels");
        labels.retain(|key, _| !is_toolkit(key));
        let mut metadata = json!({
            "name": format!("{}-primary", reference.name),
            "namespace": self.namespace(),
            "labels": labels,
            "ownerReferences": [self.owner()],
        });
        if !annotations.is_empty() {
            metadata["annotations"] = json!(annotations);
        }
        json!({
            "apiVersion": reference.api_version,
            "kind": reference.kind,
            "metadata": metadata,
            "spec": spec,
        })
    }

    /// Queries of the primary's triggers: those that the Canary gives, else those of the target with the primary's name.
    fn rename_queries(&self, reference: &AutoscalerRef, spec: &mut Value) {
        let given = &reference.primary_scaler_queries;
        let triggers = spec.get_mut("triggers").and_then(Value::as_array_mut);
        for trigger in triggers.into_iter().flatten() {
            let name = text(trigger, "/name").to_owned();
            let Some(query) = trigger.pointer_mut("/metadata/query") else {
                continue;
            };
            if !given.is_empty() {
                if let Some(own) = given.get(&name) {
                    *query = json!(own);
                }
            } else if let Some(text) = query.as_str() {
                let target = &self.spec.target_ref.name;
                *query = json!(primary_query(text, target));
            }
        }
    }

    /// Lets the target's autoscaler rest, or lets it work again.
    pub(super) fn rest_autoscaler(&mut self, rests: bool) -> Step {
        let Some((reference, original)) = self.autoscaler()? else {
            return Ok(());
        };
        if is_hpa(&reference) {
            return Ok(());
        }
        let mut wanted = (*original).clone();
        let mut annotations = map(&original, "/metadata/annotations");
        if rests {
            annotations.insert(PAUSED.to_owned(), "0".to_owned());
        } else {
            annotations.remove(PAUSED);
        }
        wanted["metadata"]["annotations"] = json!(annotations);
        if map(&original, "/metadata/annotations") == annotations {
            return Ok(());
        }
        self.change(&original, &wanted, "").map(drop)
    }

    /// The number of pods that the autoscaler gives at least; 1 without one.
    pub(super) fn least_size(&self) -> i32 {
        let least = self.world.autoscaler.found().map_or(0, |object| {
            number(object, "/spec/minReplicas").max(number(object, "/spec/minReplicaCount"))
        });
        least.max(1)
    }
}

fn is_hpa(reference: &AutoscalerRef) -> bool {
    reference.kind == "HorizontalPodAutoscaler"
}

/// A query about the target as one about the primary, never with the ending twice.
fn primary_query(query: &str, target: &str) -> String {
    let primary = format!("{target}-primary");
    query
        .replace(&format!("{target}-canary"), &primary)
        .replace(&primary, "\u{0}")
        .replace(target, &primary)
        .replace('\u{0}', &primary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_name_the_primary_once() {
        for (query, expected) in [
            (
                r#"rate(x{pod=~"app-.*"})"#,
                r#"rate(x{pod=~"app-primary-.*"})"#,
            ),
            (r#"x{svc="app-canary"}"#, r#"x{svc="app-primary"}"#),
            (r#"x{svc="app-primary"}"#, r#"x{svc="app-primary"}"#),
        ] {
            assert_eq!(primary_query(query, "app"), expected);
        }
    }
}
