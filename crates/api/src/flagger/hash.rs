//! What identifies a revision, a configuration and a state, as short texts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::CanaryStatus;

/// How our own hashes begin; hashes without it were written by another controller.
const OWN: &str = "cf1:";

/// The hash of what a target's revision is made of: its pod template, its spec, or the name of its revision. Members that are null
/// do not count; an empty one differs from an absent one.
pub fn revision(input: &Value) -> String {
    let mut canonical = String::new();
    write_sorted(&mut canonical, input);
    let mut text = OWN.to_owned();
    push_hex(&mut text, &Sha256::digest(canonical), 16);
    text
}

/// Whether a hash was written by another controller.
pub fn is_foreign(hash: &str) -> bool {
    !hash.is_empty() && !hash.starts_with(OWN)
}

/// The checksum of a ConfigMap's or Secret's `data`, as it stands in `status.trackedConfigs`: the values of a Secret are base64 as
/// they are stored, absent data counts as null.
pub fn config(data: Option<&BTreeMap<String, String>>) -> String {
    let text = match data {
        Some(data) => json!(data).to_string(),
        None => "null".to_owned(),
    };
    // As Go writes JSON, so that checksums of both controllers are equal.
    let text = text
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    let mut hex = String::new();
    push_hex(&mut hex, &Sha256::digest(text), 8);
    hex
}

/// What hooks are told as `checksum`: changes exactly when the tracked configurations or the revision in the status do.
pub fn checksum(status: &CanaryStatus) -> String {
    const ALPHABET: [char; 10] = ['4', '5', '6', '7', '8', '9', 'b', 'c', 'd', 'f'];
    let canonical = json!([status.tracked_configs, status.last_applied_spec]).to_string();
    let hash = canonical.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let digits = hash.to_string();
    let place = |digit: char| {
        digit
            .to_digit(10)
            .and_then(|digit| usize::try_from(digit).ok())
    };
    digits
        .chars()
        .filter_map(|digit| ALPHABET.get(place(digit)?).copied())
        .collect()
}

/// Letters that nobody has seen before, made from what nobody has seen before.
pub fn letters(seed: &str, count: usize) -> String {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let digest = Sha256::digest(seed);
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    digest.iter().map(letter).take(count).collect()
}

/// An identifier in the form of a random UUID, made from what nobody has seen before.
pub fn uuid(seed: &str) -> String {
    let mut bytes: Vec<u8> = Sha256::digest(seed).iter().copied().take(16).collect();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        push_hex(&mut text, &[*byte], 1);
    }
    text
}

fn push_hex(text: &mut String, bytes: &[u8], count: usize) {
    for byte in bytes.iter().take(count) {
        write!(text, "{byte:02x}").expect("writing to a text does not fail");
    }
}

/// JSON with its members in order, and without those that are null.
fn write_sorted(out: &mut String, value: &Value) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members
                .iter()
                .filter(|(_, value)| !value.is_null())
                .collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&json!(name).to_string());
                out.push(':');
                write_sorted(out, value);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_sorted(out, item);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_have_the_checksums_of_the_reference() {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert_eq!(config(None), "74234e98afe7498f");
        assert_eq!(config(Some(&one("color", "red"))), "241889ca0604e333");
        // Secret values are base64.
        assert_eq!(config(Some(&one("apiKey", "dGVzdA=="))), "3930f0692c2295eb");
        assert_ne!(
            config(Some(&one("a", "<"))),
            config(Some(&one("a", "\\u003c")))
        );
    }

    #[test]
    fn a_revision_does_not_depend_on_order_or_nulls() {
        let hash = revision(&json!({"a": 1, "b": {"c": [1, {"d": null}]}, "e": null}));
        assert_eq!(hash, revision(&json!({"b": {"c": [1, {}]}, "a": 1})));
        assert_eq!((hash.len(), &hash[..4]), (36, "cf1:"));
        assert_ne!(revision(&json!({"a": {}})), revision(&json!({})));
        assert!(!is_foreign(&hash) && !is_foreign("") && is_foreign("c8dbc95df"));
    }

    #[test]
    fn the_checksum_changes_exactly_with_configurations_and_revision() {
        let status = CanaryStatus {
            last_applied_spec: "x".to_owned(),
            ..CanaryStatus::default()
        };
        let first = checksum(&status);
        assert!(first.chars().all(|c| "456789bcdf".contains(c)), "{first}");
        assert_eq!(
            first,
            checksum(&CanaryStatus {
                canary_weight: 3,
                failed_checks: 1,
                ..status.clone()
            })
        );
        let empty = CanaryStatus {
            tracked_configs: Some(BTreeMap::new()),
            ..status.clone()
        };
        assert_ne!(first, checksum(&empty));
        assert_ne!(
            first,
            checksum(&CanaryStatus {
                last_applied_spec: "y".to_owned(),
                ..status
            })
        );
    }

    #[test]
    fn made_up_names_have_their_form() {
        let id = uuid("seed");
        assert_eq!(id.len(), 36);
        assert_eq!((&id[14..15], id.matches('-').count()), ("4", 4));
        assert_ne!(id, uuid("another"));
        let letters = letters("seed", 10);
        assert!(letters.len() == 10 && letters.chars().all(|c| c.is_ascii_alphabetic()));
    }
}
