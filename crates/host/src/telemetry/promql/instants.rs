//! Functions of one value at a time, beyond what `f64` has, and those that rewrite labels.

#![expect(
    clippy::unnecessary_wraps,
    reason = "the functions of a table have one type"
)]

use regex::Regex;

use super::super::labels::Labels;
use super::QueryError;
use super::number;

/// Between the two limits; nothing when the lower is above the upper.
pub(super) fn clamp(value: f64, limits: &[f64]) -> Option<f64> {
    let [least, most] = limits else { return None };
    if most < least {
        None
    } else {
        Some(number::max(*least, number::min(*most, value)))
    }
}

pub(super) fn clamp_min(value: f64, limits: &[f64]) -> Option<f64> {
    limits.first().map(|least| number::max(*least, value))
}

pub(super) fn clamp_max(value: f64, limits: &[f64]) -> Option<f64> {
    limits.first().map(|most| number::min(*most, value))
}

/// To the nearest multiple of the argument (1 when left out); halves go up.
pub(super) fn round(value: f64, to: &[f64]) -> Option<f64> {
    // Multiplying with the inverse, as the reference does, keeps round(x, 0.1) free of dust.
    let inverse = 1.0 / to.first().copied().unwrap_or(1.0);
    Some((value * inverse + 0.5).floor() / inverse)
}

/// -1, 0 or 1; NaN stays.
pub(super) fn sgn(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// `label_replace`: sets a label from another by a regular expression that must match all of it.
pub(super) struct Replacement {
    pattern: Regex,
    target: String,
    template: String,
    source: String,
}

impl Replacement {
    pub(super) fn new(
        target: &str,
        template: &str,
        source: &str,
        pattern: &str,
    ) -> Result<Self, QueryError> {
        let compiled = Regex::new(&format!("^(?:{pattern})$")).map_err(|_| {
            QueryError::Execution(format!(
                "invalid regular expression in label_replace(): {pattern}"
            ))
        })?;
        if !is_label_name(target) {
            return Err(QueryError::Execution(format!(
                "invalid destination label name in label_replace(): {target}"
            )));
        }
        Ok(Self {
            pattern: compiled,
            target: target.into(),
            template: template.into(),
            source: source.into(),
        })
    }

    pub(super) fn apply(&self, labels: &Labels) -> Labels {
        let Some(found) = self.pattern.captures(labels.get(&self.source)) else {
            return labels.clone();
        };
        let mut value = String::new();
        found.expand(&self.template, &mut value);
        labels.with(&self.target, &value)
    }
}

/// `label_join`: sets a label to the values of others.
pub(super) struct Join {
    target: String,
    separator: String,
    sources: Vec<String>,
}

impl Join {
    pub(super) fn new(
        target: &str,
        separator: &str,
        sources: Vec<String>,
    ) -> Result<Self, QueryError> {
        if let Some(source) = sources.iter().find(|source| !is_label_name(source)) {
            return Err(QueryError::Execution(format!(
                "invalid source label name in label_join(): {source}"
            )));
        }
        if !is_label_name(target) {
            return Err(QueryError::Execution(format!(
                "invalid destination label name in label_join(): {target}"
            )));
        }
        Ok(Self {
            target: target.into(),
            separator: separator.into(),
            sources,
        })
    }

    pub(super) fn apply(&self, labels: &Labels) -> Labels {
        let values: Vec<&str> = self
            .sources
            .iter()
            .map(|source| labels.get(source))
            .collect();
        labels.with(&self.target, &values.join(&self.separator))
    }
}

/// Whether a text may be a label's name.
pub(in super::super) fn is_label_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|rest| rest.is_ascii_alphanumeric() || rest == '_')
}
