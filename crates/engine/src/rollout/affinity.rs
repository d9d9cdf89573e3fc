//! Keeping new pods off the nodes of old ones: one pod anti-affinity term put into a new ReplicaSet's template.
//!
//! The term names the stable version's hash, and is recognised by that label key. The Rollout's own template never has it, and
//! comparing templates ignores it.

use crossfade_api::names::label;
use crossfade_api::rollout::AntiAffinity;
use serde_json::{Value, json};

use super::facts::Facts;
use super::stored;
use crate::mutant::{Mutant, wrong};

/// The term that the new version's template shall carry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    /// The stable version to keep away from.
    pub(super) stable: String,
    namespace: String,
    /// The weight of a wish; `None` for a must.
    weight: Option<i32>,
}

/// The term that applies now: only while an update is under way, never on the first deployment.
pub(super) fn wanted(facts: &Facts<'_>) -> Option<Term> {
    let configured: &AntiAffinity = match (facts.canary(), facts.blue_green()) {
        (Some(canary), _) => canary.anti_affinity.as_ref()?,
        (None, Some(blue_green)) => blue_green.anti_affinity.as_ref()?,
        (None, None) => return None,
    };
    let stable = facts.status.stable_rs.as_str();
    let preferred = configured
        .preferred_during_scheduling_ignored_during_execution
        .as_ref();
    let applies = !stable.is_empty() && stable != facts.new_hash();
    (applies && !wrong(Mutant::AntiAffinityForgotten)).then(|| Term {
        stable: stable.to_owned(),
        namespace: facts.namespace().to_owned(),
        weight: preferred.map(|preferred| preferred.weight),
    })
}

/// The affinity of a template with this term at the end of the user's own; `None` when nothing is left of it. A term that names another
/// version goes: an undo may have brought it into the user's template.
pub(super) fn with_term(own: Option<&Value>, term: Option<&Term>) -> Option<Value> {
    let own = own.cloned().and_then(stored::without_term);
    let Some(term) = term else {
        return own;
    };
    let rule = json!({
        "labelSelector": {
            "matchExpressions": [{"key": label::POD_HASH, "operator": "In", "values": [term.stable]}],
        },
        "namespaces": [term.namespace],
        "topologyKey": "kubernetes.io/hostname",
    });
    let (list, rule) = match term.weight {
        Some(weight) => (
            "preferredDuringSchedulingIgnoredDuringExecution",
            json!({"weight": weight, "podAffinityTerm": rule}),
        ),
        None => ("requiredDuringSchedulingIgnoredDuringExecution", rule),
    };
    let mut affinity = own.filter(Value::is_object).unwrap_or(json!({}));
    let anti = &mut affinity["podAntiAffinity"];
    if !anti.is_object() {
        *anti = json!({});
    }
    match anti[list].as_array_mut() {
        Some(rules) => rules.push(rule),
        None => anti[list] = json!([rule]),
    }
    Some(affinity)
}
