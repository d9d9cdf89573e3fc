//! Numbers in texts: the literals of the language, and the forms that Go reads and writes.

use super::error::Fault;

/// A number as written in a condition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Literal {
    Int(i64),
    Float(f64),
}

/// The value of a number in a condition. The lexer lets more pass than numbers, for example `1e`.
pub(super) fn literal(text: &str) -> Result<Literal, Fault> {
    let text = text.replace('_', "").to_ascii_lowercase();
    let whole = |digits: &str, radix| {
        i64::from_str_radix(digits, radix)
            .map(Literal::Int)
            .map_err(|_| Fault::new(format!("invalid integer literal {text}")))
    };
    let is_float = text.contains(['.', 'e']);
    match text.get(..2) {
        Some("0x") => whole(&text[2..], 16),
        _ if is_float => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Literal::Float(value)),
            _ => Err(Fault::new(format!("invalid float literal {text}"))),
        },
        Some("0b") => whole(&text[2..], 2),
        Some("0o") => whole(&text[2..], 8),
        _ => whole(&text, 10),
    }
}

/// An integer in base 10 with an optional sign and nothing else.
pub(super) fn int(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// A float as Go reads it: decimal or hexadecimal, `_` between digits, `NaN` and infinities in any case. `None`
/// for anything else and for numbers beyond the range of a float.
pub(super) fn float(text: &str) -> Option<f64> {
    let (negative, number) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match number.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" if number.len() == text.len() => f64::NAN,
        lower => {
            if !underscores_fit(lower) {
                return None;
            }
            let plain = lower.replace('_', "");
            let value = match plain.strip_prefix("0x") {
                Some(hexadecimal) => hexadecimal_float(hexadecimal)?,
                None if plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                    plain.parse().ok()?
                }
                None => return None,
            };
            if value.is_infinite() {
                return None;
            }
            value
        }
    };
    Some(if negative { -value } else { value })
}

/// Whether every `_` stands between digits, or between a prefix such as `0x` and a digit.
fn underscores_fit(text: &str) -> bool {
    let hexadecimal = text.starts_with("0x");
    let prefixed = hexadecimal || text.starts_with("0b") || text.starts_with("0o");
    let digits = if prefixed { &text[2..] } else { text };
    let is_digit = |byte: u8| byte.is_ascii_digit() || (hexadecimal && byte.is_ascii_hexdigit());
    let bytes = digits.as_bytes();
    bytes.iter().enumerate().all(|(index, byte)| {
        let before = match index.checked_sub(1) {
            Some(before) => is_digit(bytes[before]),
            None => prefixed,
        };
        *byte != b'_' || (before && bytes.get(index + 1).is_some_and(|byte| is_digit(*byte)))
    })
}

/// `1.8p3` behind `0x`: hexadecimal digits with a point, then a power of two.
fn hexadecimal_float(text: &str) -> Option<f64> {
    let (digits, power) = text.split_once('p')?;
    let sign_len = usize::from(power.starts_with(['+', '-']));
    if power.len() == sign_len || !power[sign_len..].bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Far powers all lead to zero or beyond the range.
    let negative = power.starts_with('-');
    let size = power[sign_len..]
        .parse::<i64>()
        .unwrap_or(i64::MAX)
        .min(1_000_000);
    let mut power = if negative { -size } else { size };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut mantissa: u64 = 0;
    // Whether anything that does not fit into the mantissa was not zero: it decides ties.
    let mut beyond = false;
    for (digit, in_fraction) in whole
        .chars()
        .map(|c| (c, false))
        .chain(fraction.chars().map(|c| (c, true)))
    {
        let digit = u64::from(digit.to_digit(16)?);
        if mantissa < 1 << 58 {
            mantissa = mantissa << 4 | digit;
            if in_fraction {
                power -= 4;
            }
        } else {
            beyond |= digit != 0;
            if !in_fraction {
                power += 4;
            }
        }
    }
    Some(scaled(mantissa, beyond, power))
}

/// `mantissa` times two to the power `power`, rounded to the nearest float, ties to even.
fn scaled(mantissa: u64, beyond: bool, power: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let bits = i64::from(64 - mantissa.leading_zeros());
    // The power of the lowest bit that a float of this size can hold.
    let lowest = (power + bits - 53).max(-1074);
    let cut = lowest - power;
    let kept = if cut <= 0 {
        // No bit is lost; there is room, because the mantissa stays within 53 bits.
        mantissa << -cut
    } else if cut > 63 {
        // The mantissa is below 2^62: less than half of the lowest bit.
        0
    } else {
        let rest = mantissa & ((1 << cut) - 1);
        let half = 1 << (cut - 1);
        let kept = mantissa >> cut;
        let up = rest > half || (rest == half && (beyond || kept & 1 == 1));
        kept + u64::from(up)
    };
    if lowest > 971 {
        return f64::INFINITY;
    }
    // Two exact steps: the mantissa is a whole number below 2^53 + 1, and each power of two is a float.
    #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
    let kept = kept as f64;
    #[expect(clippy::cast_possible_truncation, reason = "between -1074 and 971")]
    let lowest = lowest as i32;
    let halfway = lowest / 2;
    kept * 2f64.powi(halfway) * 2f64.powi(lowest - halfway)
}

/// A float as Go prints it (`%v`): shortest digits, an exponent below 1e-4 and from a million.
pub(super) fn printed(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    match exponent(value) {
        -4..=5 => format!("{value}"),
        _ => with_exponent(value, 2),
    }
}

/// A float as Go writes it into JSON: an exponent below 1e-6 and from 1e21. `None` for NaN and infinities.
pub(super) fn json(value: f64) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    Some(match exponent(value) {
        _ if value == 0.0 => format!("{value}"),
        exponent if exponent < -6 => with_exponent(value, 1),
        exponent if exponent >= 21 => with_exponent(value, 2),
        _ => format!("{value}"),
    })
}

/// The power of ten of the first digit.
fn exponent(value: f64) -> i32 {
    format!("{value:e}")
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok())
        .unwrap_or(0)
}

fn with_exponent(value: f64, least_digits: usize) -> String {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>least_digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_go_reads_them() {
        let table = [
            ("1", Some(1.0)),
            ("-1.5e3", Some(-1500.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("1_000.5", Some(1000.5)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("0x_1p4", Some(16.0)),
            ("0x1p4", Some(16.0)),
            ("0X1.8P1", Some(3.0)),
            ("0x.8p0", Some(0.5)),
            ("0x1", None),
            ("0x1p", None),
            ("0xp1", None),
            ("0x1p1024", None),
            ("0x1p-1074", Some(5e-324)),
            ("0x1p-1075", Some(0.0)),
            ("0x1.8p-1075", Some(5e-324)),
            ("0x1.fffffffffffffp1023", Some(f64::MAX)),
            ("0x1.fffffffffffff8p1023", None),
            ("0x1.00000000000008p0", Some(1.0)),
            (
                "0x1.000000000000080000000000000000001p0",
                Some(1.000_000_000_000_000_2),
            ),
            ("0x10000000000000000p0", Some(18_446_744_073_709_551_616.0)),
            ("1e400", None),
            ("1e-400", Some(0.0)),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("+INF", Some(f64::INFINITY)),
            ("+nan", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("+", None),
            (".", None),
            ("e5", None),
            ("1e", None),
            ("--1", None),
            ("infin", None),
        ];
        for (text, expected) in table {
            assert_eq!(float(text), expected, "{text}");
        }
        assert!(float("NaN").is_some_and(f64::is_nan));
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        let table = [
            (5.0, "5", "5"),
            (-0.0, "-0", "-0"),
            (0.1, "0.1", "0.1"),
            (999_999.0, "999999", "999999"),
            (1e6, "1e+06", "1000000"),
            (1_234_567.0, "1.234567e+06", "1234567"),
            (1e20, "1e+20", "100000000000000000000"),
            (1e21, "1e+21", "1e+21"),
            (1.5e300, "1.5e+300", "1.5e+300"),
            (0.0001, "0.0001", "0.0001"),
            (0.00001, "1e-05", "0.00001"),
            (0.000_000_1, "1e-07", "1e-7"),
            (1e-10, "1e-10", "1e-10"),
        ];
        for (value, in_text, in_json) in table {
            assert_eq!(printed(value), in_text);
            assert_eq!(json(value).as_deref(), Some(in_json));
        }
        assert_eq!(printed(f64::NAN), "NaN");
        assert_eq!(printed(f64::NEG_INFINITY), "-Inf");
        assert_eq!(json(f64::INFINITY), None);
    }
}
