//! Kubernetes' rules for pod templates, and the further ones for templates of ReplicaSets.
//!
//! The rules that people meet, in Kubernetes' order and words; containers and volumes are in files of their own.
//! The rules are applied to a copy with Kubernetes' defaults filled in.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::field_error::FieldError;
use crate::rollout::RolloutSpec;
use crate::selector;
use crate::template_defaults::with_defaults;
use crate::validate::json::Node;
use crate::validate::{container, names, volume};

pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// Every fault of a Rollout's template.
pub(crate) fn template(
    spec: &RolloutSpec,
    label_selector: Option<&LabelSelector>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let labels = spec.template.labels();
    if label_selector
        .is_some_and(|label_selector| !selector::matches(Some(label_selector), &labels))
    {
        let shown = Some(&labels).filter(|labels| !labels.is_empty());
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(
            "spec.template.metadata.labels",
            &shown,
            detail,
        ));
    }
    errors.extend(names::labels("spec.template.metadata.labels", &labels));
    for key in spec.template.annotations().keys() {
        errors.extend(names::at(
            "spec.template.metadata.annotations",
            key,
            names::qualified_name(&key.to_lowercase()),
        ));
    }
    let defaulted = with_defaults(&spec.template);
    let pod = Node::new("spec.template.spec", defaulted.as_json().get("spec"));
    pod_spec(&pod, &mut errors);
    of_replica_set(&pod, spec.replicas(), &mut errors);
    errors
}

fn of_replica_set(pod: &Node, replicas: i32, errors: &mut Vec<FieldError>) {
    if replicas > 1 {
        for volume in pod.objects("volumes") {
            if let Some(disk) = volume
                .object("gcePersistentDisk")
                .filter(|disk| !disk.is_true("readOnly"))
            {
                let detail = "must be true for replicated pods > 1; GCE PD can only be mounted on multiple machines if it is read-only";
                errors.push(FieldError::invalid(
                    disk.child_path("readOnly"),
                    &false,
                    detail,
                ));
            }
        }
    }
    let policy = pod.text("restartPolicy");
    if !policy.is_empty() && policy != "Always" {
        errors.push(FieldError::unsupported(
            pod.child_path("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if pod.value("activeDeadlineSeconds").is_some() {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(FieldError::forbidden(
            pod.child_path("activeDeadlineSeconds"),
            detail,
        ));
    }
}

fn pod_spec(pod: &Node, errors: &mut Vec<FieldError>) {
    let volumes = volume::all(pod, errors);
    containers(pod, &volumes, errors);
    one_of(
        pod,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
        errors,
    );
    one_of(
        pod,
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
        errors,
    );
    if pod
        .number("terminationGracePeriodSeconds")
        .is_some_and(|seconds| seconds < 0)
    {
        let path = pod.child_path("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(
            path,
            &pod.value("terminationGracePeriodSeconds"),
            NOT_NEGATIVE,
        ));
    }
    errors.extend(names::labels(
        &pod.child_path("nodeSelector"),
        &pod.map("nodeSelector"),
    ));
    for (field, faults) in [
        (
            "serviceAccountName",
            names::dns_subdomain as fn(&str) -> Vec<String>,
        ),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
    ] {
        let name = pod.text(field);
        if !name.is_empty() {
            errors.extend(names::at(&pod.child_path(field), name, faults(name)));
        }
    }
    pod.objects("tolerations")
        .for_each(|toleration| tolerate(&toleration, errors));
    affinity(pod, errors);
}

/// A member that must be one of a few words, if it is given.
pub(crate) fn one_of(node: &Node, field: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    let word = node.text(field);
    if !word.is_empty() && !allowed.contains(&word) {
        let mut sorted = allowed.to_vec();
        sorted.sort_unstable();
        errors.push(FieldError::unsupported(
            node.child_path(field),
            word,
            &sorted,
        ));
    }
}

/// A member that must be given.
pub(crate) fn required(node: &Node, field: &str, errors: &mut Vec<FieldError>) {
    if node.text(field).is_empty() {
        errors.push(FieldError::required(node.child_path(field), ""));
    }
}

fn containers(pod: &Node, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    if pod.objects("containers").next().is_none() {
        errors.push(FieldError::required(pod.child_path("containers"), ""));
    }
    let host_network = pod.is_true("hostNetwork");
    for (list, role) in [
        ("containers", container::Role::Main),
        ("initContainers", container::Role::Init),
        ("ephemeralContainers", container::Role::Ephemeral),
    ] {
        for node in pod.objects(list) {
            container::rules(&node, role, volumes, host_network, errors);
            let name = node.text("name");
            if !name.is_empty() && !names.insert(name) {
                errors.push(FieldError::duplicate(node.child_path("name"), name));
            }
        }
    }
}

fn tolerate(toleration: &Node, errors: &mut Vec<FieldError>) {
    let key = toleration.text("key");
    if !key.is_empty() {
        errors.extend(names::at(
            &toleration.child_path("key"),
            key,
            names::qualified_name(key),
        ));
    }
    let operator = toleration.text("operator");
    let path = toleration.child_path("operator");
    if key.is_empty() && operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(&path, operator, detail));
    }
    if toleration.value("tolerationSeconds").is_some() && toleration.text("effect") != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(
            toleration.child_path("effect"),
            toleration.text("effect"),
            detail,
        ));
    }
    match operator {
        "" | "Equal" => {
            let value = toleration.text("value");
            errors.extend(names::at(&path, value, names::label_value(value)));
        }
        "Exists" if !toleration.text("value").is_empty() => {
            let detail = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(&path, toleration.text("value"), detail));
        }
        "Exists" => {}
        other => errors.push(FieldError::unsupported(&path, other, &["Equal", "Exists"])),
    }
    one_of(
        toleration,
        "effect",
        &["NoExecute", "NoSchedule", "PreferNoSchedule"],
        errors,
    );
}

fn affinity(pod: &Node, errors: &mut Vec<FieldError>) {
    let Some(affinity) = pod.object("affinity") else {
        return;
    };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(kind) = affinity.object(kind) else {
            continue;
        };
        for term in kind.objects("requiredDuringSchedulingIgnoredDuringExecution") {
            pod_term(&term, errors);
        }
        for weighted in kind.objects("preferredDuringSchedulingIgnoredDuringExecution") {
            weight(&weighted, errors);
            if let Some(term) = weighted.object("podAffinityTerm") {
                pod_term(&term, errors);
            }
        }
    }
    if let Some(node) = affinity.object("nodeAffinity") {
        if let Some(required) = node.object("requiredDuringSchedulingIgnoredDuringExecution")
            && required.objects("nodeSelectorTerms").next().is_none()
        {
            let detail = "must have at least one node selector term";
            errors.push(FieldError::required(
                required.child_path("nodeSelectorTerms"),
                detail,
            ));
        }
        for preferred in node.objects("preferredDuringSchedulingIgnoredDuringExecution") {
            weight(&preferred, errors);
        }
    }
}

fn weight(preferred: &Node, errors: &mut Vec<FieldError>) {
    let weight = preferred.number("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(
            preferred.child_path("weight"),
            &weight,
            "must be in the range 1-100",
        ));
    }
}

fn pod_term(term: &Node, errors: &mut Vec<FieldError>) {
    let key = term.text("topologyKey");
    let path = term.child_path("topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(path, "can not be empty"));
    } else {
        errors.extend(names::at(&path, key, names::qualified_name(key)));
    }
}
