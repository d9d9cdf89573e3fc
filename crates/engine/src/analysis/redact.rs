//! Keeps the values of Secrets out of everything that is stored or shown.

use std::collections::BTreeMap;

use crossfade_api::analysis_run::Measurement;

/// What stands where a secret stood.
const MASK: &str = "*****";
/// Shorter secrets are left alone in values, where hiding them would garble ordinary numbers.
const SHORTEST_IN_VALUES: usize = 4;

/// Knows the secrets of one measurement and hides them.
#[derive(Default)]
pub struct Redactor {
    /// Longest first, so that a secret that contains another is hidden whole.
    secrets: Vec<String>,
}

impl Redactor {
    /// Hides these values; empty ones hide nothing.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = secrets
            .into_iter()
            .filter(|secret| !secret.is_empty())
            .collect();
        secrets.sort_by(|left, right| right.len().cmp(&left.len()).then_with(|| left.cmp(right)));
        secrets.dedup();
        Self { secrets }
    }

    /// A message without secrets.
    pub fn message(&self, text: &str) -> String {
        self.secrets
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret, MASK))
    }

    /// A value or metadata without secrets of four characters and more.
    pub fn value(&self, text: &str) -> String {
        let long = self
            .secrets
            .iter()
            .filter(|secret| secret.len() >= SHORTEST_IN_VALUES);
        long.fold(text.to_owned(), |text, secret| text.replace(secret, MASK))
    }

    /// Metadata without secrets.
    pub fn metadata(&self, metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        metadata
            .iter()
            .map(|(key, value)| (self.value(key), self.value(value)))
            .collect()
    }

    /// A measurement without secrets.
    #[must_use]
    pub fn measurement(&self, mut measurement: Measurement) -> Measurement {
        measurement.message = self.message(&measurement.message);
        measurement.value = self.value(&measurement.value);
        measurement.metadata = self.metadata(&measurement.metadata);
        measurement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_longest_first() {
        let redactor = Redactor::new([
            "abc".to_owned(),
            "abcdef".to_owned(),
            String::new(),
            "7".to_owned(),
        ]);
        assert_eq!(redactor.message("abcdef abc 17"), "***** ***** 1*****");
        assert_eq!(
            redactor.value("abcdef abc 17"),
            "***** abc 17",
            "short ones would garble numbers"
        );
    }
}
