//! Durations as Go writes them: `90s`, `1h30m`, `1.5h`.

use jiff::SignedDuration;

use crate::go_text::quote;

/// Reads a duration: an optional sign, then decimal numbers each with a unit out of `ns`, `us`, `µs`, `ms`,
/// `s`, `m`, `h`; or the bare text `0`. The error text is Go's, because it appears in status messages.
pub fn parse(text: &str) -> Result<SignedDuration, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    // Go adds up in unsigned nanoseconds and allows 2^63 for negative durations only.
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits(rest);
        let after_whole = &rest[whole..];
        let fraction = after_whole.strip_prefix('.').map_or(0, digits);
        if whole == 0 && fraction == 0 {
            return Err(invalid());
        }
        let number_len = whole + after_whole.strip_prefix('.').map_or(0, |_| 1 + fraction);
        let (number, after) = rest.split_at(number_len);
        let unit_len = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some(nanos_each) = unit_nanos(unit) else {
            return Err(format!(
                "time: unknown unit {} in duration {}",
                quote(unit),
                quote(text)
            ));
        };
        total = total.saturating_add(nanos(number, nanos_each).ok_or_else(invalid)?);
        if total > 1 << 63 {
            return Err(invalid());
        }
        rest = next;
    }
    let signed = i128::try_from(total).map_err(|_| invalid())? * if negative { -1 } else { 1 };
    i64::try_from(signed)
        .map(SignedDuration::from_nanos)
        .map_err(|_| invalid())
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A decimal number of units in nanoseconds, the rest below one nanosecond cut; `None` when it is too large.
fn nanos(number: &str, nanos_each: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // More digits than these are below one nanosecond of an hour.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    whole
        .checked_mul(nanos_each)?
        .checked_add(fraction * nanos_each / scale)
}
