//! Keeps the values of Secrets out of everything that is stored or shown.

use std::collections::BTreeMap;

use crossfade_api::analysis_run::Measurement;
use crossfade_api::words::Reading;
use serde_json::json;

/// What stands where a secret stood.
const MASK: &str = "*****";
/// Where a long text was cut off.
const CUT: char = '…';
/// Shorter secrets are left alone in values, where hiding them would garble ordinary numbers.
const SHORTEST_IN_VALUES: usize = 4;

/// Knows the secrets of one measurement and hides them, also where a server or a provider wrote them in another form.
#[derive(Default)]
pub struct Redactor {
    /// Longest first, so that a secret that contains another is hidden whole.
    forms: Vec<Form>,
}

/// A way to write a secret.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    text: String,
    /// The secret is too short to be hidden in values.
    short: bool,
}

impl Redactor {
    /// Hides these values; empty ones hide nothing.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut redactor = Self::default();
        redactor.hide_too(secrets);
        redactor
    }

    /// Hides these values, too.
    pub fn hide_too(&mut self, secrets: impl IntoIterator<Item = String>) {
        for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
            let short = secret.len() < SHORTEST_IN_VALUES;
            let plain = [
                percent_encoded(&secret, is_unreserved),
                percent_encoded(&secret, is_unreserved).replace("%20", "+"),
                percent_encoded(&secret, stays_in_paths),
                secret,
            ];
            let texts = plain
                .into_iter()
                .flat_map(|text| [in_json(&text), in_html_safe_json(&text), text]);
            self.forms.extend(texts.map(|text| Form { text, short }));
        }
        self.forms.sort_by(|left, right| {
            let longest_first = right.text.len().cmp(&left.text.len());
            longest_first.then_with(|| left.cmp(right))
        });
        self.forms.dedup();
    }

    /// A message without secrets, also where the text of a server was cut (`…`) in the middle of one.
    pub fn message(&self, text: &str) -> String {
        let whole = self
            .forms
            .iter()
            .fold(text.to_owned(), |text, form| text.replace(&form.text, MASK));
        let mut shown = String::with_capacity(whole.len());
        for (index, piece) in whole.split(CUT).enumerate() {
            if index > 0 {
                let kept = shown.len() - self.begun(&shown);
                if kept < shown.len() {
                    shown.truncate(kept);
                    shown.push_str(MASK);
                }
                shown.push(CUT);
            }
            shown.push_str(piece);
        }
        shown
    }

    /// How many bytes at the end of a text are the beginning of a secret; fewer than [`SHORTEST_IN_VALUES`] may be chance.
    fn begun(&self, text: &str) -> usize {
        let begins = |form: &Form| {
            let ends = form.text.char_indices().map(|(end, _)| end);
            ends.filter(|end| *end >= SHORTEST_IN_VALUES)
                .filter(|end| text.ends_with(&form.text[..*end]))
                .max()
        };
        self.forms.iter().filter_map(begins).max().unwrap_or(0)
    }

    /// A value or metadata without secrets of four characters and more.
    pub fn value(&self, text: &str) -> String {
        let long = self.forms.iter().filter(|form| !form.short);
        long.fold(text.to_owned(), |text, form| text.replace(&form.text, MASK))
    }

    /// What a provider says, without secrets where it is shown. The value that conditions see stays.
    ///
    /// To be called before anything is cut: half a secret would not be found any more.
    pub fn reading(&self, reading: Reading) -> Reading {
        Reading {
            display: self.value(&reading.display),
            metadata: self.metadata(&reading.metadata),
            value: reading.value,
        }
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

/// As JSON writes it between quotes.
fn in_json(secret: &str) -> String {
    let quoted = json!(secret).to_string();
    let inner = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

/// As writers write it whose JSON may stand in a page.
fn in_html_safe_json(secret: &str) -> String {
    in_json(secret)
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// With `%XX` for every byte that does not stay as it is.
fn percent_encoded(secret: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut text = String::new();
    for byte in secret.bytes() {
        if stays(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// What stays as it is everywhere in an address or a form (RFC 3986, section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// What stays as it is in the path of an address that was written without care (URL Standard, path percent-encode set).
fn stays_in_paths(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"#<>?^`{}".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_secret_before_a_cut_is_hidden_too() {
        let redactor = Redactor::new(["swordfish-17".to_owned()]);
        for (cut, shown) in [
            ("token swordfish-1… (truncated)", "token *****… (truncated)"),
            ("token sword… (truncated)", "token *****… (truncated)"),
            ("token swo… (truncated)", "token swo… (truncated)"),
            ("a… sword…", "a… *****…"),
            ("sword of nobody", "sword of nobody"),
        ] {
            assert_eq!(redactor.message(cut), shown);
        }
    }

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

    #[test]
    fn secrets_are_hidden_in_whatever_form_they_come_back() {
        let redactor = Redactor::new(["p\"w <&".to_owned()]);
        for form in [
            "p\"w <&",
            r#"p\"w <&"#,
            r#"p\"w \u003c\u0026"#,
            "p%22w%20%3C%26",
            "p%22w+%3C%26",
            "p%22w%20%3C&",
            r"p%22w%20%3C\u0026",
        ] {
            assert_eq!(redactor.message(&format!("[{form}]")), "[*****]");
            assert_eq!(redactor.value(&format!("[{form}]")), "[*****]");
        }
        let reading = Reading {
            value: crossfade_api::words::Value::String("p\"w <&".to_owned()),
            display: "p\"w <&".to_owned(),
            metadata: BTreeMap::new(),
        };
        let shown = redactor.reading(reading.clone());
        assert_eq!(
            (shown.display.as_str(), shown.value),
            ("*****", reading.value)
        );
    }
}
