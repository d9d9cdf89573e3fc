//! Label selectors: what they match and how they are written as one text.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Whether a selector has no requirement; such a selector matches everything.
pub fn is_empty(selector: &LabelSelector) -> bool {
    labels(selector).next().is_none() && expressions(selector).next().is_none()
}

/// Whether a selector matches labels. An absent selector matches nothing, an empty one everything, one with an
/// unknown operator nothing.
pub fn matches(selector: Option<&LabelSelector>, of: &BTreeMap<&str, &str>) -> bool {
    matches_by(selector, |key| of.get(key).copied())
}

/// As [`matches()`], on labels that are looked up one by one.
pub fn matches_by<'v>(
    selector: Option<&LabelSelector>,
    of: impl Fn(&str) -> Option<&'v str>,
) -> bool {
    let Some(selector) = selector else {
        return false;
    };
    labels(selector).all(|(key, value)| of(key) == Some(value.as_str()))
        && expressions(selector)
            .all(|expression| expression_matches(expression, of(&expression.key)))
}

fn expression_matches(expression: &LabelSelectorRequirement, value: Option<&str>) -> bool {
    let listed = value.is_some_and(|value| {
        expression
            .values
            .iter()
            .flatten()
            .any(|allowed| allowed == value)
    });
    match expression.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// The selector as one text, requirements sorted by key: `a=b,c in (x,y),d,!e`.
pub fn text(selector: &LabelSelector) -> String {
    let equal = labels(selector).map(|(key, value)| (key.clone(), format!("{key}={value}")));
    let others = expressions(selector)
        .map(|expression| (expression.key.clone(), expression_text(expression)));
    let mut requirements: Vec<_> = equal.chain(others).collect();
    requirements.sort_by(|(one, _), (other, _)| one.cmp(other));
    requirements
        .into_iter()
        .map(|(_, text)| text)
        .collect::<Vec<_>>()
        .join(",")
}

fn expression_text(expression: &LabelSelectorRequirement) -> String {
    let key = &expression.key;
    let mut values: Vec<_> = expression
        .values
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    values.sort_unstable();
    let values = values.join(",");
    match expression.operator.as_str() {
        "In" => format!("{key} in ({values})"),
        "NotIn" => format!("{key} notin ({values})"),
        "DoesNotExist" => format!("!{key}"),
        _ => key.clone(),
    }
}

fn labels(selector: &LabelSelector) -> impl Iterator<Item = (&String, &String)> {
    selector.match_labels.iter().flatten()
}

fn expressions(selector: &LabelSelector) -> impl Iterator<Item = &LabelSelectorRequirement> {
    selector.match_expressions.iter().flatten()
}
