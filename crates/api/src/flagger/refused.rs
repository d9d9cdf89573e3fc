//! What an API server refuses by the definitions of the kinds, beyond types: words, bounds, members that exclude one another.

use serde_json::Value;

use super::{API_VERSION, crd::INTERVAL};
use crate::crd::stored_schema;
use crate::field_error::FieldError;

/// Every fault of a Canary, MetricTemplate or AlertProvider that the definition of its kind does not allow, in the order of its fields.
/// Other kinds have none here.
pub fn refused(object: &Value) -> Vec<FieldError> {
    let mut found = Vec::new();
    if object["apiVersion"] == API_VERSION
        && let Some(schema) = stored_schema(object)
    {
        // Nobody writes a status by hand.
        walk(
            &schema["properties"]["spec"],
            &object["spec"],
            "spec",
            &mut found,
        );
    }
    found
}

fn walk(schema: &Value, value: &Value, path: &str, found: &mut Vec<FieldError>) {
    match value {
        Value::String(text) => {
            let words = schema["enum"].as_array().into_iter().flatten();
            let words: Vec<&str> = words.filter_map(Value::as_str).collect();
            if !words.is_empty() && !words.contains(&text.as_str()) {
                found.push(FieldError::unsupported(path, text, &words));
            }
            if schema["pattern"] == INTERVAL && !is_interval(text) {
                let detail = "must begin with a whole number and m or s, for example 1m";
                found.push(FieldError::invalid(path, text, detail));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
                let detail = format!("must be at least {least}");
                found.push(FieldError::invalid(path, value, detail));
            }
            if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
                let detail = format!("must be at most {most}");
                found.push(FieldError::invalid(path, value, detail));
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                walk(&schema["items"], item, &format!("{path}[{i}]"), found);
            }
        }
        Value::Object(members) => {
            for name in names(&schema["required"]) {
                if !members.contains_key(name) {
                    found.push(FieldError::required(format!("{path}.{name}"), ""));
                }
            }
            let forms = schema["oneOf"].as_array().map_or(&[][..], Vec::as_slice);
            let fitting = forms.iter().filter(|form| fits(form, value)).count();
            if !forms.is_empty() && fitting != 1 {
                let forms = forms.iter().map(|form| names(&form["required"]).join(", "));
                let forms: Vec<String> = forms.filter(|form| !form.is_empty()).collect();
                let detail = format!("must have exactly one of: {}", forms.join("; "));
                let there: Vec<&String> = members.keys().collect();
                found.push(FieldError::invalid(path, &there, detail));
            }
            for (name, member) in members {
                let (schema, path) = match schema["properties"].get(name) {
                    Some(schema) => (schema, format!("{path}.{name}")),
                    None => (&schema["additionalProperties"], format!("{path}[{name}]")),
                };
                walk(schema, member, &path, found);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

/// Whether an object has what a form of it requires.
fn fits(form: &Value, object: &Value) -> bool {
    if let Some(others) = form.pointer("/not/anyOf").and_then(Value::as_array) {
        return !others.iter().any(|other| fits(other, object));
    }
    names(&form["required"])
        .iter()
        .all(|name| object.get(name).is_some())
}

/// A whole number and a unit; what follows does not matter.
fn is_interval(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && unit.starts_with(['m', 's'])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(kind: &str, spec: &Value) -> Vec<String> {
        let object = json!({"apiVersion": API_VERSION, "kind": kind, "spec": spec});
        refused(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_canary_is_refused_for_all_that_its_definition_forbids() {
        let good = json!({
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "provider": "istio",
            "analysis": {"interval": "1m30s", "threshold": 5, "stepWeight": 10},
        });
        assert_eq!(told("Canary", &good), [""; 0]);
        let bad = json!({
            "targetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"},
            "provider": "istoi",
            "autoscalerRef": {"apiVersion": "v2", "kind": "HorizontalPodAutoscaler", "name": "a", "primaryScalerReplicas": {"minReplicas": 0}},
            "analysis": {
                "interval": "1h", "threshold": 5, "stepWeight": 10, "iterations": 3,
                "match": [{"headers": {"x": {"exact": "a", "prefix": "b"}}}],
                "webhooks": [{"name": "gate", "url": "http://x", "type": "confirm"}],
            },
        });
        let told = told("Canary", &bad);
        for path in [
            "spec.targetRef.kind: Unsupported value",
            "spec.provider: Unsupported value",
            "spec.autoscalerRef.primaryScalerReplicas.minReplicas: Invalid value: 0: must be at least 1",
            "spec.analysis.interval: Invalid value",
            "spec.analysis: Invalid value",
            "spec.analysis.match[0].headers[x]: Invalid value",
            "spec.analysis.webhooks[0].type: Unsupported value",
        ] {
            assert!(
                told.iter().any(|one| one.starts_with(path)),
                "{path}: {told:?}"
            );
        }
        assert_eq!(told.len(), 7, "{told:?}");
    }

    #[test]
    fn a_provider_of_alerts_has_an_address_or_a_secret() {
        let both = json!({"type": "slack", "address": "http://x", "secretRef": {"name": "s"}});
        let neither = json!({"type": "slack"});
        for spec in [both, neither] {
            let told = told("AlertProvider", &spec);
            assert!(
                told.len() == 1
                    && told[0].contains("exactly one of: type, address; type, secretRef"),
                "{told:?}"
            );
        }
        assert_eq!(
            told(
                "MetricTemplate",
                &json!({"provider": {"type": "abacus"}, "query": "1"})
            )
            .len(),
            1
        );
    }
}
