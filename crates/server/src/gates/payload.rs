//! The body of a hook's call, read as the reference reads it: names in any case, unknown members ignored, strings only.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::record::{DEFAULT_GATE, ROLLBACK_GATE, Scope, check_gate_name};
use super::rules::Opening;

/// The longest reason, in characters.
const LONGEST_REASON: usize = 500;
/// The longest name of somebody who opens a gate, in characters.
const LONGEST_BY: usize = 200;
/// How often a gate may be opened for at most.
const MOST_USES: u64 = 100;
/// The longest time that a gate may be opened for.
const LONGEST_TTL: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The body of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Payload {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) phase: String,
    pub(super) checksum: String,
    pub(super) metadata: BTreeMap<String, String>,
    /// What the reference does not know.
    pub(super) further: BTreeMap<String, Value>,
}

/// Members in the order in which they came, repeated ones too.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<Members, E> {
                Ok(Members(Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Payload {
    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(body);
        let Members(members) = serde_json::from_str(&text).map_err(|why| why.to_string())?;
        let mut payload = Self::default();
        for (name, value) in members {
            let field = match name.to_lowercase().as_str() {
                "name" => &mut payload.name,
                "namespace" => &mut payload.namespace,
                "phase" => &mut payload.phase,
                "checksum" => &mut payload.checksum,
                "metadata" => {
                    payload.read_metadata(value)?;
                    continue;
                }
                _ => {
                    payload.further.insert(name, value);
                    continue;
                }
            };
            match value {
                Value::String(text) => *field = text,
                Value::Null => {}
                other => return Err(format!("{name} is {other}, not a string")),
            }
        }
        Ok(payload)
    }

    fn read_metadata(&mut self, value: Value) -> Result<(), String> {
        let members = match value {
            Value::Null => {
                self.metadata.clear();
                return Ok(());
            }
            Value::Object(members) => members,
            other => return Err(format!("metadata is {other}, not an object")),
        };
        for (key, value) in members {
            let text = match value {
                Value::String(text) => text,
                Value::Null => String::new(),
                other => return Err(format!("metadata.{key} is {other}, not a string")),
            };
            self.metadata.insert(key, text);
        }
        Ok(())
    }

    /// The gate that a call of `/gate/…` is about.
    pub(super) fn gate(&self) -> Result<String, String> {
        let named = match self.further.get("gate") {
            Some(Value::String(gate)) => Some(gate),
            Some(Value::Null) | None => self.metadata.get("gate"),
            Some(other) => return Err(format!("gate is {other}, not a string")),
        };
        let Some(gate) = named else {
            return Ok(DEFAULT_GATE.to_owned());
        };
        check_gate_name(gate)?;
        if gate == DEFAULT_GATE || gate == ROLLBACK_GATE {
            return Err(format!(
                "gate `{gate}` is reserved: leave `gate` out, or use /rollback/…"
            ));
        }
        Ok(gate.clone())
    }

    /// The id of a call in the body.
    pub(super) fn call_id(&self) -> String {
        let id = self.further.get("callId").and_then(Value::as_str);
        id.unwrap_or_default().to_owned()
    }

    /// The version that a change expects.
    pub(super) fn expect_version(&self) -> Result<Option<u64>, String> {
        self.whole_number("expectVersion", 0, u64::MAX)
    }

    /// Why somebody changes a gate.
    pub(super) fn reason(&self) -> Result<String, String> {
        self.text("reason", LONGEST_REASON)
    }

    /// Who says that they change a gate.
    pub(super) fn by(&self) -> Result<String, String> {
        self.text("by", LONGEST_BY)
    }

    /// On what terms a gate is to be opened.
    pub(super) fn opening(&self) -> Result<Opening, String> {
        let once = match self.word("mode")? {
            "" | "sticky" => false,
            "once" => true,
            other => return Err(format!("mode is {other:?}: use \"sticky\" or \"once\"")),
        };
        let scope = match self.word("scope")? {
            "" | "any" => Scope::Any,
            "revision" => Scope::Revision,
            other => return Err(format!("scope is {other:?}: use \"any\" or \"revision\"")),
        };
        let uses = self.whole_number("uses", 1, MOST_USES)?;
        let uses = uses.or(once.then_some(1));
        let ttl = match self.word("ttl")? {
            "" => None,
            text => {
                let ttl =
                    crossfade_api::duration::parse(text).map_err(|why| format!("ttl: {why}"))?;
                if ttl < SignedDuration::from_secs(1) || ttl > LONGEST_TTL {
                    return Err(format!("ttl is {text:?}: use a duration from 1s to 720h"));
                }
                Some(ttl)
            }
        };
        Ok(Opening {
            uses: uses.and_then(|uses| u32::try_from(uses).ok()),
            ttl,
            not_before: self.time("notBefore")?,
            not_after: self.time("notAfter")?,
            scope,
            checksum: Some(self.checksum.clone()).filter(|checksum| !checksum.is_empty()),
            reason: self.reason()?,
            expect_version: self.expect_version()?,
        })
    }

    fn word(&self, name: &str) -> Result<&str, String> {
        match self.further.get(name) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(format!("{name} is {other}, not a string")),
        }
    }

    fn text(&self, name: &str, longest: usize) -> Result<String, String> {
        let text = self.word(name)?;
        if text.chars().count() > longest {
            return Err(format!("{name} is longer than {longest} characters"));
        }
        Ok(text.to_owned())
    }

    fn whole_number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, String> {
        match self.further.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value
                    .as_u64()
                    .filter(|number| (least..=most).contains(number));
                let number = number.ok_or_else(|| {
                    format!("{name} is {value}: use a whole number from {least} to {most}")
                })?;
                Ok(Some(number))
            }
        }
    }

    fn time(&self, name: &str) -> Result<Option<Timestamp>, String> {
        match self.word(name)? {
            "" => Ok(None),
            text => {
                let time = crossfade_api::time::parse(text);
                time.map(Some).map_err(|_| {
                    format!("{name} is {text:?}: use a time such as 2026-01-31T08:00:00Z")
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_as_the_reference_reads_them() {
        let read = |body: &str| Payload::read(body.as_bytes());
        for body in ["null", "{}", "  {\"other\": [1, {}]} "] {
            let payload = read(body).expect(body);
            assert_eq!(
                (payload.name.as_str(), payload.namespace.as_str()),
                ("", ""),
                "{body}"
            );
        }
        let payload = read(
            r#"{"Name":"a","NAMESPACE":"b","name":"c","metadata":{"k":"v","n":null},"phase":null}"#,
        );
        let payload = payload.expect("reads");
        assert_eq!(
            (payload.name.as_str(), payload.namespace.as_str()),
            ("c", "b")
        );
        assert_eq!(payload.metadata["k"], "v");
        assert_eq!(payload.metadata["n"], "");
        for body in [
            "",
            " ",
            "[]",
            "5",
            "\"x\"",
            "{",
            "{} x",
            r#"{"name":5}"#,
            r#"{"name":"a"} x"#,
            r#"{"metadata":{"a":1}}"#,
            r#"{"metadata":[]}"#,
            r#"{"phase":true}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }

    #[test]
    fn terms_that_make_no_sense_are_named() {
        for (terms, named) in [
            (r#""mode":"twice""#, "mode"),
            (r#""uses":0"#, "uses"),
            (r#""uses":101"#, "uses"),
            (r#""uses":"3""#, "uses"),
            (r#""ttl":"999ms""#, "ttl"),
            (r#""ttl":"721h""#, "ttl"),
            (r#""ttl":"soon""#, "ttl"),
            (r#""notAfter":"tomorrow""#, "notAfter"),
            (r#""scope":"all""#, "scope"),
            (r#""expectVersion":-1"#, "expectVersion"),
        ] {
            let payload = Payload::read(format!("{{{terms}}}").as_bytes()).expect("reads");
            let why = payload.opening().expect_err(terms);
            assert!(why.starts_with(named), "{terms}: {why}");
        }
        let long = "x".repeat(501);
        let payload = Payload::read(format!(r#"{{"reason":"{long}"}}"#).as_bytes()).expect("reads");
        assert!(payload.opening().is_err());
    }

    #[test]
    fn a_gate_is_named_by_a_hook_or_by_who_opens_it() {
        let gate = |body: &str| Payload::read(body.as_bytes()).expect("reads").gate();
        assert_eq!(gate("{}").as_deref(), Ok("default"));
        assert_eq!(
            gate(r#"{"metadata":{"gate":"promotion"}}"#).as_deref(),
            Ok("promotion")
        );
        assert_eq!(gate(r#"{"gate":"traffic"}"#).as_deref(), Ok("traffic"));
        for name in [
            "",
            "Promotion",
            "-a",
            "a-",
            "a.b",
            "default",
            "rollback",
            &"a".repeat(41),
        ] {
            assert!(gate(&format!(r#"{{"gate":"{name}"}}"#)).is_err(), "{name}");
        }
        assert!(gate(&format!(r#"{{"gate":"{}"}}"#, "a".repeat(40))).is_ok());
    }
}
