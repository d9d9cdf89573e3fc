//! The vectors of the condition language: one evaluation each, computed with the reference's engine.

#![expect(
    clippy::unwrap_used,
    reason = "the file of vectors has the form that its head describes"
)]

use crossfade_api::words::Value;
use crossfade_judge::condition::{Condition, ConditionError};
use jiff::Timestamp;
use serde_json::Value as Json;

fn vectors() -> Vec<Json> {
    let file: Json = serde_json::from_str(include_str!("data/conditions.json")).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

/// A value as the file writes it.
fn value(json: &Json) -> Value {
    let float = |json: &Json| match json.as_str() {
        Some("NaN") => f64::NAN,
        Some("+Inf") => f64::INFINITY,
        Some("-Inf") => f64::NEG_INFINITY,
        _ => json.as_f64().unwrap(),
    };
    if let Some(int) = json.get("$int") {
        return Value::Int(int.as_i64().unwrap());
    }
    if let Some(number) = json.get("$float") {
        return Value::Float(float(number));
    }
    if let Some(items) = json.get("$floats") {
        return Value::Floats(items.as_array().unwrap().iter().map(float).collect());
    }
    Value::from(json.clone())
}

fn outcome(text: &str, value: &Value) -> Result<bool, ConditionError> {
    Condition::parse(text)?.evaluate(value, Timestamp::UNIX_EPOCH)
}

#[test]
fn analysis_34_every_vector_gives_its_result() {
    let mut failures = Vec::new();
    let vectors = vectors();
    for vector in &vectors {
        let text = vector["expr"].as_str().unwrap();
        let found = outcome(text, &value(&vector["result"]));
        let told = match &found {
            Ok(true) => "true",
            Ok(false) => "false",
            Err(_) => "error",
        };
        if vector["expected"] != told && vector["relaxed"] != told {
            failures.push(format!(
                "{text} on {}: {found:?} instead of {}",
                vector["result"], vector["expected"]
            ));
        }
    }
    assert_eq!(vectors.len(), 317);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
