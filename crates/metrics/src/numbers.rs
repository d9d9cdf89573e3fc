//! How numbers and JSON are written into `measurement.value`: the forms other tools have learnt to read.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// Shortest decimal that reads back as the same float, never with an exponent; `NaN`, `+Inf`, `-Inf`.
pub fn plain(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        format!("{number}")
    }
}

/// A list of floats in [`plain`] form: `[0.5,NaN]`.
pub fn plain_list(numbers: &[f64]) -> String {
    let mut text = String::from("[");
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&plain(*number));
    }
    text.push(']');
    text
}

/// JSON without spaces, keys in byte order, `<`, `>`, `&`, U+2028 and U+2029 escaped, numbers shortest and with an exponent only
/// below 1e-6 or from 1e21.
pub fn compact_json(value: &Json) -> String {
    let mut text = String::new();
    write_json(value, &mut text);
    text
}

fn write_json(value: &Json, out: &mut String) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Json::Number(number) => out.push_str(&json_number(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => write_string(text, out),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Json::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by(|left, right| left.0.as_bytes().cmp(right.0.as_bytes()));
            out.push('{');
            for (index, (key, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_json(item, out);
            }
            out.push('}');
        }
    }
}

/// A number as JSON writers in the field print it.
pub fn json_number(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        // Rust writes `1e21`, the field writes `1e+21`.
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                format!("{digits}e+{exponent}")
            }
            _ => text,
        }
    } else {
        format!("{number}")
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", character as u32);
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// What a decoder says, in an error text: one line of at most 200 characters. Decoders quote what they could not read.
pub fn one_line(text: &str) -> String {
    const MOST: usize = 200;
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST)
        .collect();
    if text.chars().nth(MOST).is_none() {
        line
    } else {
        line.chars().take(MOST - 1).chain(['…']).collect()
    }
}

/// A response body in an error text: at most 1024 bytes of it, as UTF-8.
pub fn body_in_message(body: &[u8]) -> String {
    const MOST: usize = 1024;
    if body.len() <= MOST {
        String::from_utf8_lossy(body).into_owned()
    } else {
        format!("{}… (truncated)", String::from_utf8_lossy(&body[..MOST]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn floats_are_written_plainly_and_without_an_exponent() {
        let table = [
            (10.0, "10"),
            (0.00001, "0.00001"),
            (1e8, "100000000"),
            (0.987, "0.987"),
            (-1.5, "-1.5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (number, text) in table {
            assert_eq!(plain(number), text);
        }
        assert_eq!(plain_list(&[]), "[]");
        assert_eq!(plain_list(&[1.0, f64::NAN, 0.25]), "[1,NaN,0.25]");
    }

    #[test]
    fn json_is_compact_sorted_and_escaped() {
        assert_eq!(
            compact_json(&json!({"b": [1, 2.5], "a": "<&>\u{2028}\u{1}"})),
            r#"{"a":"\u003c\u0026\u003e\u2028\u0001","b":[1,2.5]}"#
        );
        let table = [
            (1e-7, "1e-7"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (0.000_001, "0.000001"),
            (0.0, "0"),
        ];
        for (number, text) in table {
            assert_eq!(json_number(number), text);
        }
    }
}
