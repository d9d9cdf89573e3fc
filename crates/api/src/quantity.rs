//! Amounts of resources as Kubernetes writes them: `500m`, `1.5Gi`, `1e3`.
//!
//! Exact arithmetic on whole nano-units; smaller fractions are rounded up, as Kubernetes does.

use serde_json::Value;

/// An amount and the family of suffixes it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    /// The amount in units of 10⁻⁹.
    pub nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

const NANO: i128 = 1_000_000_000;
const MILLI_IN_NANOS: i128 = 1_000_000;
/// Kubernetes caps amounts at 2^63 − 1.
const MAX: i128 = (i64::MAX as i128) * NANO;
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// Reads an amount; `None` for what Kubernetes refuses.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let number_len = unsigned
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let (number, suffix) = unsigned.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let (scale, format) = suffix_scale(suffix)?;
        let magnitude = scaled(whole, fraction, scale)?.min(MAX);
        Some(Self {
            nanos: if negative { -magnitude } else { magnitude },
            format,
        })
    }

    /// The amount rounded up to thousandths, as resource requests are.
    #[must_use]
    pub fn rounded_up_to_milli(self) -> Self {
        let rest = self.nanos.rem_euclid(MILLI_IN_NANOS);
        let up = if rest == 0 { 0 } else { MILLI_IN_NANOS - rest };
        Self {
            nanos: self.nanos + up,
            ..self
        }
    }

    /// The one text for this amount: the largest suffix without a fraction, the family kept.
    pub fn canonical(self) -> String {
        if self.nanos == 0 {
            return "0".to_owned();
        }
        // Below 1024, and with fractions, binary suffixes would lose precision or confuse.
        let binary = self.format == Format::Binary
            && self.nanos.abs() >= 1024 * NANO
            && self.nanos % NANO == 0;
        if binary {
            let mut value = self.nanos / NANO;
            let mut power = 0;
            while value % 1024 == 0 && power + 1 < BINARY.len() {
                value /= 1024;
                power += 1;
            }
            return format!("{value}{}", BINARY[power]);
        }
        let mut value = self.nanos;
        let mut exponent = -9;
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        match self.format {
            Format::Exponent if exponent == 0 => value.to_string(),
            Format::Exponent => format!("{value}e{exponent}"),
            Format::Decimal | Format::Binary => {
                let suffix = DECIMAL
                    .iter()
                    .find(|(_, scale)| *scale == exponent)
                    .map_or("", |(suffix, _)| suffix);
                format!("{value}{suffix}")
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    TwoToThe(u32),
}

fn suffix_scale(suffix: &str) -> Option<(Scale, Format)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(known, _)| *known == suffix) {
        return Some((Scale::Ten(*exponent), Format::Decimal));
    }
    if let Some(power) = BINARY.iter().position(|known| *known == suffix) {
        return Some((
            Scale::TwoToThe(10 * u32::try_from(power).ok()?),
            Format::Binary,
        ));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((Scale::Ten(exponent.parse().ok()?), Format::Exponent))
}

/// `whole.fraction` times a scale in nano-units, rounded up.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> Option<i128> {
    // More digits than these are beyond the cap, or below one nano-unit of the largest suffix.
    let fraction = &fraction[..fraction.len().min(18)];
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    if digits.len() > 36 {
        return Some(MAX);
    }
    let mantissa: i128 = digits.parse().ok()?;
    let (mantissa, ten) = match scale {
        Scale::Ten(exponent) => (mantissa, i64::from(exponent)),
        Scale::TwoToThe(power) => (mantissa.checked_mul(1 << power).unwrap_or(i128::MAX), 0),
    };
    let exponent = ten - i64::try_from(fraction.len()).ok()? + 9;
    if exponent >= 0 {
        let factor = u32::try_from(exponent)
            .ok()
            .and_then(|exponent| 10_i128.checked_pow(exponent));
        Some(
            factor
                .and_then(|factor| mantissa.checked_mul(factor))
                .unwrap_or(MAX),
        )
    } else {
        let divisor = u32::try_from(-exponent)
            .ok()
            .and_then(|exponent| 10_i128.checked_pow(exponent));
        Some(divisor.map_or(1, |divisor| {
            mantissa / divisor + i128::from(mantissa % divisor != 0)
        }))
    }
}

/// Reads an amount that may be written as a number or as a text.
pub fn read(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    }
}

/// The one text for an amount; `None` when it cannot be read.
pub(crate) fn canonical(value: &Value) -> Option<String> {
    read(value).map(Quantity::canonical)
}
