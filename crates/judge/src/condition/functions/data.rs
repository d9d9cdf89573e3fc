//! Values as text and back: printing, JSON, base64, and the names of kinds.

use crossfade_api::words::Value;

use super::super::budget::Budget;
use super::super::builtin::Builtin;
use super::super::datum::{Datum, Entries};
use super::super::error::Fault;
use super::super::number;
use super::super::time;
use super::unsupported;

pub(super) fn call(
    function: Builtin,
    arguments: &[Datum],
    budget: &mut Budget,
) -> Result<Datum, Fault> {
    match (function, arguments) {
        (Builtin::String, [datum]) => {
            let mut text = String::new();
            print(datum, &mut text, budget)?;
            Ok(Datum::text(text))
        }
        (Builtin::Type, [datum]) => Ok(Datum::text(kind(datum))),
        (Builtin::ToJson, [datum]) => {
            let mut text = String::new();
            write_json(datum, 0, &mut text, budget)?;
            Ok(Datum::text(text))
        }
        (Builtin::FromJson, [Datum::Text(text)]) => {
            // An element takes two bytes at least, and mostly many more.
            budget.elements(text.len() / 4)?;
            let json: serde_json::Value = serde_json::from_str(text)
                .map_err(|fault| Fault::new(format!("invalid JSON: {fault}")))?;
            Datum::of(&Value::from(json))
        }
        (Builtin::ToBase64, [Datum::Text(text)]) => {
            budget.text(text.len().saturating_mul(2))?;
            Ok(Datum::text(to_base64(text.as_bytes())))
        }
        (Builtin::FromBase64, [Datum::Text(text)]) => {
            budget.text(text.len())?;
            let bytes = from_base64(text).ok_or_else(|| Fault::new("illegal base64 data"))?;
            String::from_utf8(bytes)
                .map(Datum::text)
                .map_err(|_| Fault::new("decoded base64 is not UTF-8"))
        }
        _ => Err(unsupported(function, arguments)),
    }
}

fn kind(datum: &Datum) -> &'static str {
    match datum {
        Datum::Nil => "nil",
        Datum::Bool(_) => "bool",
        Datum::Int(_) => "int",
        Datum::Float(_) => "float",
        Datum::Text(_) => "string",
        Datum::Bytes(_) | Datum::List(_) => "array",
        Datum::Map(_) => "map",
        Datum::Time(_) => "time.Time",
        Datum::Duration(_) => "time.Duration",
        Datum::Month(_) => "time.Month",
        Datum::Weekday(_) => "time.Weekday",
        Datum::Zone(_) => "unknown",
        Datum::Function(_) => "func",
    }
}

/// Writes a piece of text after paying for it.
fn push(text: &mut String, piece: &str, budget: &mut Budget) -> Result<(), Fault> {
    budget.text(piece.len())?;
    text.push_str(piece);
    Ok(())
}

/// As Go prints any value (`%v`): `5`, `[1 2]`, `map[a:1]`, `<nil>`.
fn print(datum: &Datum, out: &mut String, budget: &mut Budget) -> Result<(), Fault> {
    let piece = match datum {
        Datum::Nil => "<nil>".to_owned(),
        Datum::Bool(value) => value.to_string(),
        Datum::Int(value) => value.to_string(),
        Datum::Float(value) => number::printed(*value),
        Datum::Text(text) => return push(out, text, budget),
        Datum::Bytes(_) | Datum::List(_) => {
            push(out, "[", budget)?;
            for (index, item) in datum.elements()?.items().iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                print(item, out, budget)?;
            }
            "]".to_owned()
        }
        Datum::Map(map) => {
            push(out, "map[", budget)?;
            for (index, (key, value)) in map.pairs().iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                print(key, out, budget)?;
                out.push(':');
                print(value, out, budget)?;
            }
            "]".to_owned()
        }
        Datum::Time(_)
        | Datum::Duration(_)
        | Datum::Zone(_)
        | Datum::Month(_)
        | Datum::Weekday(_) => time::printed(datum),
        Datum::Function(_) => return Err(Fault::new("a function has no text")),
    };
    push(out, &piece, budget)
}

/// JSON with an indent of two blanks, keys in order, and the escapes that Go writes.
fn write_json(
    datum: &Datum,
    level: usize,
    out: &mut String,
    budget: &mut Budget,
) -> Result<(), Fault> {
    let line = |out: &mut String, level: usize, budget: &mut Budget| {
        budget.text(1 + 2 * level)?;
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', 2 * level));
        Ok::<_, Fault>(())
    };
    match datum {
        Datum::Nil => push(out, "null", budget),
        Datum::Bool(value) => push(out, &value.to_string(), budget),
        Datum::Int(value) | Datum::Duration(value) => push(out, &value.to_string(), budget),
        Datum::Month(value) | Datum::Weekday(value) => push(out, &value.to_string(), budget),
        Datum::Float(value) => {
            let text = number::json(*value)
                .ok_or_else(|| Fault::new(format!("json: unsupported value: {value}")))?;
            push(out, &text, budget)
        }
        Datum::Text(text) => quote(text, out, budget),
        Datum::Bytes(bytes) => quote(&to_base64(bytes), out, budget),
        Datum::Time(_) => quote(&time::rfc3339(datum), out, budget),
        Datum::List(list) if list.is_nil() => push(out, "null", budget),
        Datum::List(list) if list.items().is_empty() => push(out, "[]", budget),
        Datum::List(list) => {
            push(out, "[", budget)?;
            for (index, item) in list.items().iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, level + 1, budget)?;
                write_json(item, level + 1, out, budget)?;
            }
            line(out, level, budget)?;
            push(out, "]", budget)
        }
        Datum::Map(map) => {
            let Entries::Named { entries, .. } = map.entries() else {
                return Err(Fault::new(format!(
                    "json: unsupported type: {}",
                    datum.kind()
                )));
            };
            push(out, "{", budget)?;
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, level + 1, budget)?;
                quote(key, out, budget)?;
                out.push_str(": ");
                write_json(value, level + 1, out, budget)?;
            }
            if !entries.is_empty() {
                line(out, level, budget)?;
            }
            push(out, "}", budget)
        }
        Datum::Zone(_) => push(out, "{}", budget),
        Datum::Function(_) => Err(Fault::new("json: unsupported type: function")),
    }
}

fn quote(text: &str, out: &mut String, budget: &mut Budget) -> Result<(), Fault> {
    budget.text(text.len().saturating_mul(2))?;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                push(out, &format!("\\u{:04x}", u32::from(c)), budget)?;
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = (group >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= chunk.len() {
                char::from(BASE64[digit])
            } else {
                '='
            });
        }
    }
    text
}

/// Padded base64; line ends are passed over. `None` for anything else.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    let groups = digits.len() / 4;
    for (index, group) in digits.chunks(4).enumerate() {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && index + 1 < groups) {
            return None;
        }
        let mut bits: u32 = 0;
        for byte in &group[..4 - padding] {
            let digit = BASE64.iter().position(|digit| digit == byte)?;
            bits = bits << 6 | u32::try_from(digit).ok()?;
        }
        bits <<= 6 * padding;
        let [_, first, second, third] = bits.to_be_bytes();
        bytes.extend_from_slice(&[first, second, third][..3 - padding]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_reads_what_it_writes() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(to_base64(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded).as_deref(), Some(plain.as_bytes()));
        }
        for broken in [
            "Z", "Zg", "Zg=", "Zg===", "Zg==Zg==", "=Zg=", "Z===", "====", "Zö==",
        ] {
            assert_eq!(from_base64(broken), None, "{broken}");
        }
        assert_eq!(from_base64("Zm9v\nZg==\r\n").as_deref(), Some(&b"foof"[..]));
    }
}
