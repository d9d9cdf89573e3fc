//! Kubernetes' rules for containers.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field_error::FieldError;
use crate::quantity::{self, Quantity};
use crate::validate::json::Node;
use crate::validate::names;
use crate::validate::pod_spec::{NOT_NEGATIVE, one_of, required};

/// Which list a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `containers`.
    Main,
    /// `initContainers`.
    Init,
    /// `ephemeralContainers`.
    Ephemeral,
}

pub(crate) fn rules(
    container: &Node,
    role: Role,
    volumes: &BTreeSet<&str>,
    host_network: bool,
    errors: &mut Vec<FieldError>,
) {
    let name = container.text("name");
    if name.is_empty() {
        errors.push(FieldError::required(container.child_path("name"), ""));
    } else {
        errors.extend(names::at(
            &container.child_path("name"),
            name,
            names::dns_label(name),
        ));
    }
    let image = container.text("image");
    if image.is_empty() {
        errors.push(FieldError::required(container.child_path("image"), ""));
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(
            container.child_path("image"),
            image,
            detail,
        ));
    }
    one_of(
        container,
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
        errors,
    );
    ports(container, host_network, errors);
    container
        .objects("env")
        .for_each(|env| variable(&env, errors));
    container
        .objects("envFrom")
        .for_each(|source| variables_from(&source, errors));
    mounts(container, volumes, errors);
    one_of(
        container,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        errors,
    );
    resources(container, errors);
    // An init container has probes only as a side car, which restarts for ever.
    let side_car = role == Role::Init && container.text("restartPolicy") == "Always";
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(node) = container.object(probe) else {
            continue;
        };
        if role == Role::Init && !side_car {
            let detail = "must not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(node.path.clone(), detail));
        } else {
            probe_rules(&node, probe, errors);
        }
    }
    if let Some(lifecycle) = container.object("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.object(hook) {
                handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], errors);
            }
        }
    }
}

fn port_number(path: String, number: i64, errors: &mut Vec<FieldError>) {
    if !(1..=65535).contains(&number) {
        errors.push(FieldError::invalid(
            path,
            &number,
            "must be between 1 and 65535, inclusive",
        ));
    }
}

fn ports(container: &Node, host_network: bool, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for port in container.objects("ports") {
        let name = port.text("name");
        if !name.is_empty() {
            let faults = names::port_name(name);
            if faults.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(port.child_path("name"), name));
            }
            errors.extend(names::at(&port.child_path("name"), name, faults));
        }
        let number = port.number("containerPort").unwrap_or(0);
        if number == 0 {
            errors.push(FieldError::required(port.child_path("containerPort"), ""));
        } else {
            port_number(port.child_path("containerPort"), number, errors);
        }
        let host = port.number("hostPort").unwrap_or(0);
        if host != 0 {
            port_number(port.child_path("hostPort"), host, errors);
            if host_network && host != number {
                let detail = "must match `hostPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(
                    port.child_path("containerPort"),
                    &number,
                    detail,
                ));
            }
        }
        one_of(&port, "protocol", &["SCTP", "TCP", "UDP"], errors);
    }
}

const ENV_SOURCES: [&str; 5] = [
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

fn variable(env: &Node, errors: &mut Vec<FieldError>) {
    let name = env.text("name");
    if name.is_empty() {
        errors.push(FieldError::required(env.child_path("name"), ""));
    } else if !name.chars().all(|c| matches!(c, ' '..='~') && c != '=') {
        let detail = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.push(FieldError::invalid(env.child_path("name"), name, detail));
    }
    let Some(source) = env.object("valueFrom") else {
        return;
    };
    let given = source.given(&ENV_SOURCES);
    if !env.text("value").is_empty() && !given.is_empty() {
        let detail = "may not be specified when `value` is not empty";
        errors.push(FieldError::invalid(&source.path, "", detail));
    } else if given.is_empty() {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        errors.push(FieldError::invalid(&source.path, "", detail));
    } else if given.len() > 1 {
        errors.push(FieldError::invalid(
            &source.path,
            "",
            "may not have more than one field specified at a time",
        ));
    }
    for (kind, field) in [
        ("fieldRef", "fieldPath"),
        ("resourceFieldRef", "resource"),
        ("configMapKeyRef", "key"),
        ("secretKeyRef", "key"),
    ] {
        if let Some(source) = source.object(kind) {
            required(&source, field, errors);
        }
    }
}

fn variables_from(source: &Node, errors: &mut Vec<FieldError>) {
    match source.given(&["configMapRef", "secretRef"])[..] {
        [] => errors.push(FieldError::invalid(
            &source.path,
            "",
            "must specify one of: `configMapRef` or `secretRef`",
        )),
        [kind] => {
            if let Some(source) = source.object(kind) {
                required(&source, "name", errors);
            }
        }
        _ => errors.push(FieldError::invalid(
            &source.path,
            "",
            "may not have more than one field specified at a time",
        )),
    }
}

fn mounts(container: &Node, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for mount in container.objects("volumeMounts") {
        let name = mount.text("name");
        if name.is_empty() {
            errors.push(FieldError::required(mount.child_path("name"), ""));
        } else if !volumes.contains(name) {
            errors.push(FieldError::not_found(mount.child_path("name"), name));
        }
        let path = mount.text("mountPath");
        if path.is_empty() {
            errors.push(FieldError::required(mount.child_path("mountPath"), ""));
        } else if !seen.insert(path) {
            errors.push(FieldError::invalid(
                mount.child_path("mountPath"),
                path,
                "must be unique",
            ));
        }
        let below = mount.text("subPath");
        if below.starts_with('/') {
            errors.push(FieldError::invalid(
                mount.child_path("subPath"),
                below,
                "must be a relative path",
            ));
        } else if below.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(
                mount.child_path("subPath"),
                below,
                "must not contain '..'",
            ));
        }
        if !below.is_empty() && !mount.text("subPathExpr").is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(
                mount.child_path("subPathExpr"),
                mount.text("subPathExpr"),
                detail,
            ));
        }
    }
}

fn resources(container: &Node, errors: &mut Vec<FieldError>) {
    let Some(resources) = container.object("resources") else {
        return;
    };
    let amounts = |list: &str| {
        let members = resources
            .value(list)
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        members
            .map(|(name, amount)| (name.as_str(), quantity::read(amount), amount))
            .collect::<Vec<_>>()
    };
    let (limits, requests) = (amounts("limits"), amounts("requests"));
    for (list, amounts) in [("limits", &limits), ("requests", &requests)] {
        for (name, amount, written) in amounts {
            let path = format!("{}[{name}]", resources.child_path(list));
            match amount {
                None => {
                    let detail = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
                    errors.push(FieldError::invalid(path, written, detail));
                }
                Some(amount) if amount.nanos < 0 => {
                    errors.push(FieldError::invalid(path, &amount.canonical(), NOT_NEGATIVE));
                }
                Some(_) => {}
            }
        }
    }
    for (name, request, _) in &requests {
        let limit = limits
            .iter()
            .find(|(limited, _, _)| limited == name)
            .and_then(|(_, limit, _)| *limit);
        if let (Some(request), Some(limit)) = (*request, limit)
            && request.nanos > limit.nanos
        {
            errors.push(too_much(
                resources.child_path("requests"),
                name,
                request,
                limit,
            ));
        }
    }
}

fn too_much(path: String, name: &str, request: Quantity, limit: Quantity) -> FieldError {
    let detail = format!(
        "must be less than or equal to {name} limit of {}",
        limit.canonical()
    );
    FieldError::invalid(path, &request.canonical(), detail)
}

fn probe_rules(probe: &Node, kind: &str, errors: &mut Vec<FieldError>) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        if let Some(number) = probe.number(field).filter(|number| *number < 0) {
            errors.push(FieldError::invalid(
                probe.child_path(field),
                &number,
                NOT_NEGATIVE,
            ));
        }
    }
    if let Some(seconds) = probe
        .number("terminationGracePeriodSeconds")
        .filter(|seconds| *seconds <= 0)
    {
        let path = probe.child_path("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(
            path,
            &seconds,
            "must be greater than 0",
        ));
    }
    let successes = probe.number("successThreshold").unwrap_or(1);
    if kind != "readinessProbe" && successes != 1 {
        errors.push(FieldError::invalid(
            probe.child_path("successThreshold"),
            &successes,
            "must be 1",
        ));
    }
}

fn handler(node: &Node, kinds: &[&'static str], errors: &mut Vec<FieldError>) {
    let given = node.given(kinds);
    let Some((first, others)) = given.split_first() else {
        errors.push(FieldError::required(
            node.path.clone(),
            "must specify a handler type",
        ));
        return;
    };
    for other in others {
        errors.push(FieldError::forbidden(
            node.child_path(other),
            "may not specify more than 1 handler type",
        ));
    }
    let Some(action) = node.object(first) else {
        return;
    };
    match *first {
        "exec" if action.texts("command").next().is_none() => {
            errors.push(FieldError::required(action.child_path("command"), ""));
        }
        "httpGet" => {
            one_of(&action, "scheme", &["HTTP", "HTTPS"], errors);
            port(&action, errors);
        }
        "tcpSocket" => port(&action, errors),
        "grpc" => port_number(
            action.child_path("port"),
            action.number("port").unwrap_or(0),
            errors,
        ),
        _ => {}
    }
}

/// A port by number or by name.
fn port(action: &Node, errors: &mut Vec<FieldError>) {
    let path = action.child_path("port");
    match action.value("port") {
        Some(Value::String(name)) => errors.extend(names::at(&path, name, names::port_name(name))),
        other => port_number(path, other.and_then(Value::as_i64).unwrap_or(0), errors),
    }
}
