//! The JSON that Prometheus makes of what was asked for: values as texts, times as numbers.

use std::fmt::Write as _;

use super::labels::Labels;
use super::promql::{Answer, format_value};
use super::samples::Sample;

/// The result of a query with its type.
pub(super) fn write_answer(answer: &Answer) -> String {
    let (kind, result) = match answer {
        Answer::Scalar(sample) => ("scalar", write_sample(*sample)),
        Answer::Text(at, text) => ("string", format!("[{},{}]", write_time(*at), quoted(text))),
        Answer::Vector(points) => (
            "vector",
            list(points.iter().map(|point| {
                format!(
                    r#"{{"metric":{},"value":{}}}"#,
                    write_labels(&point.labels),
                    write_sample(point.sample)
                )
            })),
        ),
        Answer::Matrix(series) => (
            "matrix",
            list(series.iter().map(|series| {
                let values = list(series.samples.iter().map(|sample| write_sample(*sample)));
                format!(
                    r#"{{"metric":{},"values":{values}}}"#,
                    write_labels(&series.labels)
                )
            })),
        ),
    };
    format!(r#"{{"resultType":"{kind}","result":{result}}}"#)
}

/// A series by its labels.
pub(super) fn write_labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{}:{}", quoted(name), quoted(value)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

fn write_sample(sample: Sample) -> String {
    format!(
        r#"[{},"{}"]"#,
        write_time(sample.at),
        format_value(sample.value)
    )
}

/// Seconds, with three decimals unless they are whole.
fn write_time(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    let (seconds, fraction) = (millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000);
    if fraction == 0 {
        format!("{sign}{seconds}")
    } else {
        format!("{sign}{seconds}.{fraction:03}")
    }
}

/// A list of what is JSON already.
pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (at, item) in items.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{comma}{item}");
    }
    text.push(']');
    text
}

/// A text.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
