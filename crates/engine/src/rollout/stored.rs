//! What the template of a stored ReplicaSet says, once everything is taken out that the controller put in.
//!
//! A world looks at a ReplicaSet's template once, when it first sees it, and keeps only what is found here. The same is what an undo
//! gives back to a user.

use std::collections::BTreeMap;

use crossfade_api::hash;
use crossfade_api::names::{annotation, label};
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::rollout::PodTemplateMetadata;
use crossfade_api::words::PodHash;
use serde_json::Value;

/// The lists of an anti-affinity, and where in an entry of each the term stands.
const LISTS: [(&str, &str); 2] = [
    ("requiredDuringSchedulingIgnoredDuringExecution", ""),
    (
        "preferredDuringSchedulingIgnoredDuringExecution",
        "/podAffinityTerm",
    ),
];

/// The template as its user wrote it: without the hash label, the metadata of a role and the anti-affinity term. A user's own entry that a
/// role had overwritten is lost.
pub fn plain(template: &PodTemplate, annotations: &BTreeMap<String, String>) -> PodTemplate {
    let mut plain = template.clone();
    plain.remove_label(label::POD_HASH);
    let record = annotations.get(annotation::EPHEMERAL_METADATA);
    let injected: PodTemplateMetadata = record
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    for key in injected.labels.keys() {
        plain.remove_label(key);
    }
    for key in injected.annotations.keys() {
        plain.remove_annotation(key);
    }
    if let Some(affinity) = template
        .affinity()
        .filter(|affinity| avoided(affinity).is_some())
    {
        plain.set_affinity(without_term(affinity.clone()));
    }
    plain
}

/// The digest of the template as its user wrote it; see [`plain`].
pub fn digest(template: &PodTemplate, annotations: &BTreeMap<String, String>) -> String {
    hash::template_digest(&plain(template, annotations))
}

/// The version that an injected anti-affinity term keeps away from.
pub fn avoids(template: &PodTemplate) -> Option<PodHash> {
    avoided(template.affinity()?).map(PodHash::from)
}

fn avoided(affinity: &Value) -> Option<&str> {
    LISTS.iter().find_map(|(list, term)| {
        let rules = affinity.get("podAntiAffinity")?.get(list)?.as_array()?;
        rules.iter().find_map(|rule| hash_in(rule.pointer(term)?))
    })
}

/// The hash that a term names by the label of versions.
fn hash_in(term: &Value) -> Option<&str> {
    let expressions = term
        .get("labelSelector")?
        .get("matchExpressions")?
        .as_array()?;
    let by_hash = expressions.iter().find(|expression| {
        expression.get("key").and_then(Value::as_str) == Some(label::POD_HASH)
    })?;
    by_hash.get("values")?.get(0)?.as_str()
}

/// An affinity without the terms that name a version; `None` when nothing is left of it.
pub(super) fn without_term(mut affinity: Value) -> Option<Value> {
    if avoided(&affinity).is_none() {
        return Some(affinity);
    }
    let anti = affinity.get_mut("podAntiAffinity")?.as_object_mut()?;
    for (list, term) in LISTS {
        if let Some(rules) = anti.get_mut(list).and_then(Value::as_array_mut) {
            rules.retain(|rule| rule.pointer(term).and_then(hash_in).is_none());
            if rules.is_empty() {
                anti.remove(list);
            }
        }
    }
    if anti.is_empty() {
        affinity.as_object_mut()?.remove("podAntiAffinity");
    }
    (!affinity.as_object()?.is_empty()).then_some(affinity)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_controller_put_into_a_template_is_taken_out_again() {
        let own = json!({"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "zone"});
        let injected = json!({
            "labelSelector": {"matchExpressions": [
                {"key": "rollouts-pod-template-hash", "operator": "In", "values": ["5cc"]},
            ]},
            "namespaces": ["default"],
            "topologyKey": "kubernetes.io/hostname",
        });
        let user = |affinity: Value| {
            json!({
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}], "affinity": affinity},
            })
        };
        let record =
            json!({"labels": {"role": "canary"}, "annotations": {"note": "x"}}).to_string();
        let annotations = BTreeMap::from([(annotation::EPHEMERAL_METADATA.to_owned(), record)]);
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (wish, list) in [(false, required), (true, preferred)] {
            let term = if wish {
                json!({"weight": 5, "podAffinityTerm": injected})
            } else {
                injected.clone()
            };
            let mut stored = user(json!({"podAntiAffinity": {required: [own.clone()]}}));
            let rules = &mut stored["spec"]["affinity"]["podAntiAffinity"][list];
            match rules.as_array_mut() {
                Some(rules) => rules.push(term),
                None => *rules = json!([term]),
            }
            stored["metadata"]["labels"]["rollouts-pod-template-hash"] = json!("7f9");
            stored["metadata"]["labels"]["role"] = json!("canary");
            stored["metadata"]["annotations"]["note"] = json!("x");
            let stored = PodTemplate::from(stored);
            let wanted =
                PodTemplate::from(user(json!({"podAntiAffinity": {required: [own.clone()]}})));
            assert_eq!(avoids(&stored), Some(PodHash::from("5cc")));
            assert_eq!(plain(&stored, &annotations).as_json(), wanted.as_json());
            assert_eq!(
                digest(&stored, &annotations),
                hash::template_digest(&wanted)
            );
        }
        assert_eq!(
            avoids(&PodTemplate::from(user(
                json!({"podAntiAffinity": {required: [own]}})
            ))),
            None
        );
    }
}
