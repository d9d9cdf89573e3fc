//! The last look at an object before it is stored: what an API server would refuse, and what it would warn of.

use crossfade_api::schema;
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
        let findings = schema::findings(new);
        let mut faults: Vec<Fault> = findings
            .wrong
            .iter()
            .chain(&findings.missing)
            .map(|error| {
                let text = error.to_string();
                let problem = text
                    .strip_prefix(&format!("{}: ", error.path))
                    .unwrap_or(&text)
                    .to_owned();
                Fault::new(error.path.clone(), problem)
            })
            .collect();
        if kind == Kind::Rollout {
            let selector = |object: &Value| object.pointer("/spec/selector").cloned();
            if let (Some(now), Some(before)) = (selector(new), old.and_then(selector))
                && now != before
            {
                faults.push(Fault::immutable(
                    "spec.selector",
                    "Invalid value: .spec.selector is immutable",
                ));
            }
        }
        if faults.is_empty() {
            Ok(findings.unknown.iter().map(ToString::to_string).collect())
        } else {
            Err(faults)
        }
    }
}
