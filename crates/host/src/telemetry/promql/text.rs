//! What must hold of a query's text before the parser may see it.
//!
//! The parser takes any length and depth and builds a tree as deep as its input, which ends on
//! the stack; it cuts duration parts above 32 bits to nothing, and panics on a range like `[1e300]`.
//! All of that is refused here, on a plain walk over the words outside strings and comments.

use super::QueryError;

/// Longest text of a query, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// Most words, numbers, brackets and operator signs of a query: bounds what its tree can hold.
const MAX_TOKENS: usize = 4_000;
/// Deepest nesting of brackets and braces.
const MAX_NESTING: usize = 64;
/// Longest duration, in milliseconds: a hundred years.
const MAX_DURATION_MS: u64 = 100 * 365 * 86_400_000;

/// Refuses what the parser must not see.
pub(super) fn check(text: &str) -> Result<(), QueryError> {
    if text.len() > MAX_BYTES {
        return refuse(format!(
            "query is {} bytes long, more than {MAX_BYTES}",
            text.len()
        ));
    }
    let mut rest = text;
    let mut tokens = 0usize;
    let mut open = 0usize;
    let mut expects_duration = false;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' | '`' => quoted_len(rest, first),
            '#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            _ if is_word(first) || first == '.' => {
                let word = word_of(rest);
                if first.is_ascii_digit() || first == '.' || expects_duration {
                    check_number(word, expects_duration)?;
                }
                expects_duration = word.eq_ignore_ascii_case("offset");
                word.len()
            }
            _ => {
                match first {
                    '(' | '[' | '{' => open += 1,
                    ')' | ']' | '}' => open = open.saturating_sub(1),
                    _ => {}
                }
                // `offset -5m` and `[5m:1m]`: a sign, a colon and white space lead on to a duration.
                let leads_on = first.is_whitespace() || matches!(first, '+' | '-' | ':');
                expects_duration = first == '[' || (expects_duration && leads_on) || first == ':';
                first.len_utf8()
            }
        };
        tokens += usize::from(!first.is_whitespace());
        if tokens > MAX_TOKENS {
            return refuse(format!("query has more than {MAX_TOKENS} words and signs"));
        }
        if open > MAX_NESTING {
            return refuse(format!("query is nested more than {MAX_NESTING} deep"));
        }
        rest = rest.get(length..).unwrap_or("");
    }
    Ok(())
}

fn refuse<T>(why: String) -> Result<T, QueryError> {
    Err(QueryError::Invalid(why))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Length of a string with its quotes; to the end of the text when it is not closed.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != '`' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// A name, a number or a duration at the start of the text, with the sign of an exponent.
fn word_of(text: &str) -> &str {
    let hex = text.starts_with("0x") || text.starts_with("0X");
    let number = text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let exponent_sign = number && !hex && matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
        if !(is_word(c) || c == '.' || exponent_sign) {
            return &text[..at];
        }
        before = c;
    }
    text
}

fn check_number(word: &str, expects_duration: bool) -> Result<(), QueryError> {
    let fits = if let Ok(seconds) = word.parse::<f64>() {
        !expects_duration || (0.0..=MAX_DURATION_MS as f64 / 1000.0).contains(&seconds)
    } else if word.starts_with("0x") || word.starts_with("0X") {
        !expects_duration
    } else {
        duration(word).is_some()
    };
    if fits {
        Ok(())
    } else {
        refuse(format!("bad number or duration syntax: {word:?}"))
    }
}

/// A duration such as `1h30m`, in milliseconds: whole numbers with units from `y` down to `ms`,
/// each unit once and the larger first. `None` when it is none, or above a hundred years.
pub(in super::super) fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut units = UNITS.iter();
    let mut total = 0u64;
    let mut rest = text;
    loop {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(
            after
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(after.len()),
        );
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        // The parser holds each part in 32 bits and drops what does not fit.
        total = total.checked_add(u64::from(number.parse::<u32>().ok()?).checked_mul(*millis)?)?;
        if after.is_empty() {
            return i64::try_from(total)
                .ok()
                .filter(|_| total <= MAX_DURATION_MS);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_queries_pass() {
        for query in [
            "sum(rate(http_requests_total{status=~\"5..\"}[5m])) by (le) > 1e-3",
            "x offset -5m @ 1e9 + 0x1F * .5 # a comment with [1e300]",
            "up{a=\"[1e300\\\"]\"}[1h30m:15s] offset 1h",
            "1e400 + Inf",
            "",
        ] {
            assert_eq!(check(query), Ok(()), "{query}");
        }
    }

    #[test]
    fn durations_that_the_parser_would_misread_are_refused() {
        for query in [
            "x[1e300]",
            "x[5000000000ms]",
            "x[1h9999999999s]",
            "x offset 1e300",
            "x offset nan",
            "x offset - inf",
            "x[5m:1e99]",
            "x[200y]",
        ] {
            assert!(check(query).is_err(), "{query}");
        }
    }

    #[test]
    fn deep_and_long_queries_are_refused() {
        assert!(check(&"(".repeat(5_000)).is_err());
        assert!(check(&"-".repeat(5_000)).is_err());
        assert!(check(&"a".repeat(100_000)).is_err());
        assert!(check(&"1+".repeat(3_000)).is_err());
    }
}
