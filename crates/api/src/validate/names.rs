//! Kubernetes' rules for names, labels and label selectors, in its words.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::field_error::FieldError;

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn too_long(name: &str, most: usize) -> Option<String> {
    (name.len() > most).then(|| format!("must be no more than {most} bytes"))
}

fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

fn is_name(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.chars().all(inner) && ends(name.chars().next()) && ends(name.chars().next_back())
}

/// Faults of a DNS label, such as the name of a container.
pub(crate) fn dns_label(name: &str) -> Vec<String> {
    let form = (!is_dns_label(name)).then(|| DNS_LABEL.to_owned());
    too_long(name, 63).into_iter().chain(form).collect()
}

/// Faults of a DNS subdomain, such as the name of most objects.
pub(crate) fn dns_subdomain(name: &str) -> Vec<String> {
    let form = (!name.split('.').all(is_dns_label)).then(|| DNS_SUBDOMAIN.to_owned());
    too_long(name, 253).into_iter().chain(form).collect()
}

/// Faults of a qualified name, such as the key of a label: `[prefix/]name`.
pub(crate) fn qualified_name(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match name.split_once('/') {
        None => name,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(
                    dns_subdomain(prefix)
                        .into_iter()
                        .map(|fault| format!("prefix part {fault}")),
                );
            }
            name
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    }
    faults.extend(too_long(name, 63).map(|fault| format!("name part {fault}")));
    if !is_name(name) {
        faults.push(format!("name part {QUALIFIED}"));
    }
    faults
}

/// Faults of the value of a label.
pub(crate) fn label_value(value: &str) -> Vec<String> {
    let form = (!value.is_empty() && !is_name(value)).then(|| LABEL_VALUE.to_owned());
    too_long(value, 63).into_iter().chain(form).collect()
}

/// Faults of a port name.
pub(crate) fn port_name(name: &str) -> Vec<String> {
    let mut faults: Vec<String> = too_long(name, 15).into_iter().collect();
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        faults.push(
            "must contain only alphanumeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// Each fault of a value as an error at a path.
pub(crate) fn at(path: &str, value: &str, faults: Vec<String>) -> impl Iterator<Item = FieldError> {
    faults
        .into_iter()
        .map(move |fault| FieldError::invalid(path, value, fault))
}

/// Faults of a map of labels.
pub(crate) fn labels(path: &str, labels: &BTreeMap<&str, &str>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels {
        errors.extend(at(path, key, qualified_name(key)));
        errors.extend(at(path, value, label_value(value)));
    }
    errors
}

/// Faults of a label selector; empty when it can be used.
pub(crate) fn label_selector(path: &str, selector: &LabelSelector) -> Vec<FieldError> {
    let equal: BTreeMap<&str, &str> = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let mut errors = labels(&format!("{path}.matchLabels"), &equal);
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(format!("{path}.values"), detail));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{path}.values"), detail));
            }
            "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                format!("{path}.operator"),
                other,
                "not a valid selector operator",
            )),
        }
        errors.extend(at(
            &format!("{path}.key"),
            &expression.key,
            qualified_name(&expression.key),
        ));
        for (value_index, value) in values.iter().enumerate() {
            errors.extend(at(
                &format!("{path}.values[{value_index}]"),
                value,
                label_value(value),
            ));
        }
    }
    errors
}
