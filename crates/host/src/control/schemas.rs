//! The last look at an object before it is stored: what an API server would refuse, and what it would warn of.
//!
//! Faults that an object had already when it was stored do not stop a write of something else in it: a newer version with
//! a stricter schema must not lock the objects of an older one.

use crossfade_api::crd::{duplicate_entries, fill_stored_defaults};
use crossfade_api::flagger::PROMETHEUS;
use crossfade_api::flagger::{self, refused};
use crossfade_api::{FieldError, schema};
use serde_json::Value;

use crate::store::{Admission, Fault, Kind};

/// The schemas of the kinds that this version knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schemas;

impl Admission for Schemas {
    fn admit(
        &self,
        kind: Kind,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<Vec<String>, Vec<Fault>> {
        fill_stored_defaults(new);
        let (mut faults, unknown) = look(new);
        if let (false, Some(old)) = (faults.is_empty(), old) {
            let before = look(old).0;
            faults.retain(|fault| !before.contains(fault));
        }
        faults.extend(old.and_then(|old| changed_for_ever(kind, old, new)));
        if faults.is_empty() {
            Ok(unknown)
        } else {
            Err(faults)
        }
    }
}

/// What does not fit the schema, and the warnings.
fn look(object: &Value) -> (Vec<Fault>, Vec<String>) {
    let findings = schema::findings(object);
    let wrong = findings.wrong.into_iter().chain(findings.missing);
    let mut faults: Vec<FieldError> = wrong.chain(duplicate_entries(object)).collect();
    for refused in refused(object) {
        if faults.iter().all(|fault| fault.path != refused.path) {
            faults.push(refused);
        }
    }
    let unknown = findings.unknown.iter().map(ToString::to_string);
    let faults = faults.into_iter().map(fault).collect();
    (faults, unknown.chain(without_effect(object)).collect())
}

/// What is accepted although it does nothing here.
fn without_effect(object: &Value) -> Option<String> {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    if object["apiVersion"] != flagger::API_VERSION {
        return None;
    }
    match (
        text("/kind")?,
        text("/spec/type"),
        text("/spec/provider/type"),
    ) {
        ("Canary", ..) if object["spec"]["autoscalerRef"].is_object() => {
            let why = "has no effect on one machine: nothing scales by itself; change spec.replicas instead";
            Some(format!("spec.autoscalerRef {why}"))
        }
        ("AlertProvider", Some(kind), _) if kind != "slack" => Some(format!(
            "spec.type: {kind} is not delivered to yet; use slack"
        )),
        ("MetricTemplate", _, Some(kind)) if kind != PROMETHEUS => Some(format!(
            "spec.provider.type: {kind} cannot be asked yet; use {PROMETHEUS}"
        )),
        _ => None,
    }
}

fn fault(error: FieldError) -> Fault {
    let problem = error.body();
    Fault::new(error.path, problem)
}

/// The field that differs although it never may.
fn changed_for_ever(kind: Kind, old: &Value, new: &Value) -> Option<Fault> {
    let both = |pointer| Some((old.pointer(pointer)?, new.pointer(pointer)?));
    let differs = |pointer| both(pointer).is_some_and(|(one, other)| one != other);
    match kind {
        // Adding or removing the selector is allowed (rollout-api 1).
        Kind::Rollout if differs("/spec/selector") => Some(Fault::immutable(
            "spec.selector",
            "Invalid value: .spec.selector is immutable",
        )),
        Kind::Deployment | Kind::ReplicaSet | Kind::Job if differs("/spec/selector") => Some(
            Fault::immutable("spec.selector", "Invalid value: field is immutable"),
        ),
        Kind::ConfigMap | Kind::Secret if old.get("immutable") == Some(&Value::Bool(true)) => {
            ["immutable", "data", "binaryData"]
                .into_iter()
                .find(|field| old.get(field) != new.get(field))
                .map(|field| {
                    Fault::immutable(
                        field,
                        "Forbidden: field is immutable when `immutable` is set",
                    )
                })
        }
        Kind::Secret if differs("/type") => Some(Fault::immutable(
            "type",
            "Invalid value: field is immutable",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout(spec: &Value) -> Value {
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"}, "spec": spec})
    }

    fn admit(kind: Kind, mut new: Value, old: Option<&Value>) -> Result<Vec<String>, Vec<String>> {
        let told = |faults: Vec<Fault>| {
            faults
                .iter()
                .map(|f| format!("{}: {}", f.field, f.problem))
                .collect()
        };
        Schemas.admit(kind, &mut new, old).map_err(told)
    }

    #[test]
    fn what_an_api_server_refuses_is_refused_with_every_fault() {
        let spec = json!({"replicas": "three", "strategy": {"blueGreen": {}, "canary": {"steps": [{"setWeight": "x"}]}}});
        let faults = admit(Kind::Rollout, rollout(&spec), None).unwrap_err();
        for path in [
            "spec.replicas: ",
            "spec.strategy.blueGreen.activeService: ",
            "spec.strategy.canary.steps[0].setWeight: ",
        ] {
            assert!(
                faults.iter().any(|f| f.starts_with(path)),
                "{path}: {faults:?}"
            );
        }
    }

    #[test]
    fn a_canary_that_its_definition_forbids_is_refused_and_one_with_an_autoscaler_warned_of() {
        let canary = |provider: &str| {
            json!({
                "apiVersion": "flagger.app/v1beta1",
                "kind": "Canary",
                "metadata": {"name": "web"},
                "spec": {
                    "provider": provider,
                    "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                    "autoscalerRef": {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "web"},
                    "analysis": {"interval": "1m", "threshold": 1, "stepWeight": 10},
                },
            })
        };
        let warnings = admit(Kind::Canary, canary("nginx"), None).unwrap();
        assert!(
            warnings.len() == 1 && warnings[0].starts_with("spec.autoscalerRef has no effect"),
            "{warnings:?}"
        );
        let faults = admit(Kind::Canary, canary("ngnix"), None).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].starts_with("spec.provider: Unsupported value"),
            "{faults:?}"
        );
    }

    #[test]
    fn unknown_fields_are_warned_of_with_the_nearest_known_name() {
        let warnings = admit(Kind::Rollout, rollout(&json!({"replica": 1})), None).unwrap();
        assert_eq!(
            warnings,
            ["unknown field \"spec.replica\"; did you mean \"replicas\"?"]
        );
    }

    #[test]
    fn a_template_is_stored_with_the_defaults_of_a_cluster() {
        let container = json!({"name": "main", "ports": [{"containerPort": 80}]});
        let mut object = rollout(&json!({"template": {"spec": {"containers": [container]}}}));
        Schemas.admit(Kind::Rollout, &mut object, None).unwrap();
        assert_eq!(
            object.pointer("/spec/template/spec/containers/0/ports/0/protocol"),
            Some(&json!("TCP"))
        );
    }

    #[test]
    fn an_env_name_stands_once() {
        let container = json!({"name": "main", "env": [{"name": "A"}, {"name": "A"}]});
        let faults = admit(
            Kind::Rollout,
            rollout(&json!({"template": {"spec": {"containers": [container]}}})),
            None,
        );
        assert_eq!(
            faults.unwrap_err(),
            [r#"spec.template.spec.containers[0].env[1]: Duplicate value: {"name":"A"}"#]
        );
    }

    #[test]
    fn selectors_never_change_but_may_be_added_and_removed_on_rollouts() {
        let with = |app: &str| rollout(&json!({"selector": {"matchLabels": {"app": app}}}));
        let without = rollout(&json!({}));
        let faults = admit(Kind::Rollout, with("b"), Some(&with("a"))).unwrap_err();
        assert_eq!(
            faults,
            ["spec.selector: Invalid value: .spec.selector is immutable"]
        );
        admit(Kind::Rollout, with("a"), Some(&without)).unwrap();
        admit(Kind::Rollout, without, Some(&with("a"))).unwrap();
    }

    #[test]
    fn immutable_data_stays() {
        let map = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "immutable": true, "data": {"a": value}});
        admit(Kind::ConfigMap, map("1"), Some(&map("1"))).unwrap();
        assert_eq!(
            admit(Kind::ConfigMap, map("2"), Some(&map("1"))).unwrap_err(),
            ["data: Forbidden: field is immutable when `immutable` is set"]
        );
    }

    #[test]
    fn a_fault_that_was_stored_before_does_not_stop_other_writes() {
        let old = rollout(&json!({"replicas": "three"}));
        let mut new = old.clone();
        new["status"] = json!({"abort": true});
        admit(Kind::Rollout, new.clone(), Some(&old)).unwrap();
        new["spec"]["minReadySeconds"] = json!("soon");
        let faults = admit(Kind::Rollout, new, Some(&old)).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].starts_with("spec.minReadySeconds: "),
            "{faults:?}"
        );
    }
}
