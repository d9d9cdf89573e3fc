//! Times, durations and time zones: the functions that make them and the methods they have.
//!
//! The clock is handed in. Names of zones are looked up in the time zone database of the machine; without one only
//! `UTC` is known. The zone `Local` is UTC, so that a condition means the same on every machine.

use std::sync::Arc;

use crossfade_api::duration;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::builtin::Builtin;
use super::datum::Datum;
use super::error::Fault;
use super::kind::Kind;
use super::layout;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Seconds from the beginning of year 1, which Go calls the zero time, to 1970.
const ZERO_TIME: i64 = -62_135_596_800;

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(super) const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

pub(super) fn call(function: Builtin, arguments: &[Datum], now: Timestamp) -> Result<Datum, Fault> {
    match (function, arguments) {
        (Builtin::Now, []) => Ok(time(now.to_zoned(TimeZone::UTC))),
        (Builtin::Now, [Datum::Zone(zone)]) => Ok(time(now.to_zoned((**zone).clone()))),
        (Builtin::Duration, [Datum::Text(text)]) => {
            let parsed = duration::parse(text).map_err(Fault::new)?;
            Ok(Datum::Duration(nanos(parsed)))
        }
        (Builtin::Timezone, [Datum::Text(name)]) => Ok(Datum::Zone(Arc::new(zone(name)?))),
        (Builtin::Date, [Datum::Zone(zone), rest @ ..]) => date(Some(zone), rest),
        (Builtin::Date, all) => date(None, all),
        _ => Err(Fault::new(format!(
            "invalid arguments for {}",
            function.name()
        ))),
    }
}

fn time(zoned: Zoned) -> Datum {
    Datum::Time(Arc::new(zoned))
}

/// The zone of a name, spelled as the database spells it.
fn zone(name: &str) -> Result<TimeZone, Fault> {
    if matches!(name, "" | "UTC" | "Local") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name)
        .ok()
        .filter(|zone| zone.iana_name() == Some(name))
        .ok_or_else(|| Fault::new(format!("unknown time zone {name}")))
}

/// A text, optionally with a layout, optionally with the name of a zone.
fn date(zone_given: Option<&TimeZone>, arguments: &[Datum]) -> Result<Datum, Fault> {
    /// Tried in turn when no layout is given.
    const LAYOUTS: [&str; 7] = [
        "2006-01-02",
        "15:04:05",
        "2006-01-02 15:04:05",
        "2006-01-02T15:04:05Z07:00",
        "02 Jan 06 15:04 MST",
        "Monday, 02-Jan-06 15:04:05 MST",
        "Mon, 02 Jan 2006 15:04:05 MST",
    ];
    let texts = arguments
        .iter()
        .map(|argument| argument.as_text().map(|text| &**text))
        .collect::<Result<Vec<&str>, _>>()?;
    let utc = TimeZone::UTC;
    let in_zone = zone_given.unwrap_or(&utc);
    let found = match texts.as_slice() {
        [text] => LAYOUTS
            .iter()
            .find_map(|layout| layout::parse(layout, text, in_zone)),
        [text, layout] => layout::parse(layout, text, in_zone),
        [text, layout, name] => layout::parse(layout, text, &zone(name)?),
        _ => None,
    };
    found.map(time).ok_or_else(|| {
        Fault::new(format!(
            "invalid date {}",
            texts.first().copied().unwrap_or_default()
        ))
    })
}

fn nanos(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(if duration.is_negative() {
        i64::MIN
    } else {
        i64::MAX
    })
}

/// The nanoseconds from one time to another, the largest there are when there are more.
pub(super) fn between(from: &Zoned, to: &Zoned) -> i64 {
    nanos(to.timestamp().duration_since(from.timestamp()))
}

/// The methods that a kind has: what they take and give.
pub(super) fn signature(of: &Kind, name: &str) -> Option<(Vec<Kind>, Kind)> {
    use Kind::{Bool, Duration, Float, Int, Int64, Month, Text, Time, Weekday, Zone};
    let (takes, gives) = match (of, name) {
        (Time, "Year" | "Day" | "Hour" | "Minute" | "Second" | "Nanosecond" | "YearDay") => {
            (vec![], Int)
        }
        (Time, "Month") => (vec![], Month),
        (Time, "Weekday") => (vec![], Weekday),
        (Time, "Unix" | "UnixMilli" | "UnixMicro" | "UnixNano") => (vec![], Int64),
        (Time, "Add") => (vec![Duration], Time),
        (Time, "AddDate") => (vec![Int, Int, Int], Time),
        (Time, "Sub") => (vec![Time], Duration),
        (Time, "Before" | "After" | "Equal") => (vec![Time], Bool),
        (Time, "Compare") => (vec![Time], Int),
        (Time, "IsZero") => (vec![], Bool),
        (Time, "Format") => (vec![Text], Text),
        (Time, "UTC" | "Local") => (vec![], Time),
        (Time, "In") => (vec![Zone], Time),
        (Time, "Location") => (vec![], Zone),
        (Time, "Truncate" | "Round") => (vec![Duration], Time),
        (Duration, "Hours" | "Minutes" | "Seconds") => (vec![], Float),
        (Duration, "Milliseconds" | "Microseconds" | "Nanoseconds") => (vec![], Int64),
        (Duration, "Truncate" | "Round") => (vec![Duration], Duration),
        (Duration, "Abs") => (vec![], Duration),
        (Time | Duration | Zone | Month | Weekday, "String") => (vec![], Text),
        _ => return None,
    };
    Some((takes, gives))
}

/// Calls a method; `None` when `base` is not of a kind with methods.
pub(super) fn method(
    base: &Datum,
    name: &str,
    arguments: &[Datum],
) -> Result<Option<Datum>, Fault> {
    let found = match base {
        Datum::Time(time) => of_time(time, name, arguments)?,
        Datum::Duration(nanos) => of_duration(*nanos, name, arguments),
        Datum::Zone(_) | Datum::Month(_) | Datum::Weekday(_) => None,
        _ => return Ok(None),
    };
    match (found, name, arguments) {
        (Some(found), _, _) => Ok(Some(found)),
        (None, "String", []) => Ok(Some(Datum::text(printed(base)))),
        _ => Err(Fault::new(format!(
            "{} has no method {name} for these arguments",
            base.kind()
        ))),
    }
}

fn of_time(time: &Zoned, name: &str, arguments: &[Datum]) -> Result<Option<Datum>, Fault> {
    let at = time.timestamp();
    let moved = |zoned: Result<Zoned, jiff::Error>| {
        zoned
            .map(self::time)
            .map_err(|_| Fault::new("time is out of range"))
    };
    let later = |nanos: i64| moved(time.checked_add(SignedDuration::from_nanos(nanos)));
    Ok(Some(match (name, arguments) {
        ("Year", []) => Datum::Int(time.year().into()),
        ("Month", []) => Datum::Month(time.month()),
        ("Day", []) => Datum::Int(time.day().into()),
        ("Hour", []) => Datum::Int(time.hour().into()),
        ("Minute", []) => Datum::Int(time.minute().into()),
        ("Second", []) => Datum::Int(time.second().into()),
        ("Nanosecond", []) => Datum::Int(time.subsec_nanosecond().into()),
        ("YearDay", []) => Datum::Int(time.day_of_year().into()),
        ("Weekday", []) => Datum::Weekday(time.weekday().to_sunday_zero_offset()),
        ("Unix", []) => Datum::Int(at.as_second() - i64::from(at.subsec_nanosecond() < 0)),
        ("UnixMilli", []) => Datum::Int(floored(at, 1_000_000)),
        ("UnixMicro", []) => Datum::Int(floored(at, 1_000)),
        ("UnixNano", []) => Datum::Int(floored(at, 1)),
        ("Add", [Datum::Duration(nanos)]) => later(*nanos)?,
        ("Sub", [Datum::Time(other)]) => Datum::Duration(between(other, time)),
        ("Before", [Datum::Time(other)]) => Datum::Bool(at < other.timestamp()),
        ("After", [Datum::Time(other)]) => Datum::Bool(at > other.timestamp()),
        ("Equal", [Datum::Time(other)]) => Datum::Bool(at == other.timestamp()),
        ("Compare", [Datum::Time(other)]) => Datum::Int(at.cmp(&other.timestamp()) as i64),
        ("IsZero", []) => Datum::Bool(at.as_second() == ZERO_TIME && at.subsec_nanosecond() == 0),
        ("Format", [Datum::Text(wanted)]) => Datum::text(layout::format(wanted, time)),
        ("UTC" | "Local", []) => self::time(at.to_zoned(TimeZone::UTC)),
        ("In", [Datum::Zone(zone)]) => self::time(at.to_zoned((**zone).clone())),
        ("Location", []) => Datum::Zone(Arc::new(time.time_zone().clone())),
        ("AddDate", [Datum::Int(years), Datum::Int(months), Datum::Int(days)]) => {
            let moved = add_date(time, *years, *months, *days);
            self::time(moved.ok_or_else(|| Fault::new("time is out of range"))?)
        }
        ("Truncate", [Datum::Duration(unit)]) if *unit > 0 => later(-since_unit(at, *unit))?,
        ("Round", [Datum::Duration(unit)]) if *unit > 0 => {
            let past = since_unit(at, *unit);
            // Half a unit rounds up.
            later(if past < *unit - past {
                -past
            } else {
                *unit - past
            })?
        }
        ("Truncate" | "Round", [Datum::Duration(_)]) => self::time(time.clone()),
        _ => return Ok(None),
    }))
}

/// Whole units of nanoseconds since 1970, rounded down, wrapped around where 64 bits end.
fn floored(at: Timestamp, unit: i128) -> i64 {
    let units = at.as_nanosecond().div_euclid(unit);
    // The low 64 bits are what Go keeps.
    units as i64
}

/// How long ago the last multiple of a positive `unit` since the zero time was.
fn since_unit(at: Timestamp, unit: i64) -> i64 {
    let since_zero = at.as_nanosecond() - i128::from(ZERO_TIME) * i128::from(SECOND);
    i64::try_from(since_zero.rem_euclid(i128::from(unit))).unwrap_or(0)
}

/// The same clock on another day. What goes beyond the end of a month runs into the next one.
fn add_date(time: &Zoned, years: i64, months: i64, days: i64) -> Option<Zoned> {
    let months = i64::from(time.month()) - 1 + months % 120_000;
    let year = i64::from(time.year())
        .checked_add(years)?
        .checked_add(months.div_euclid(12))?;
    let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
    let first = Date::new(i16::try_from(year).ok()?, month, 1).ok()?;
    let days = days.checked_add(i64::from(time.day()) - 1)?;
    let date = first
        .checked_add(SignedDuration::from_hours(days.checked_mul(24)?))
        .ok()?;
    date.to_datetime(time.time())
        .to_zoned(time.time_zone().clone())
        .ok()
}

fn of_duration(nanos: i64, name: &str, arguments: &[Datum]) -> Option<Datum> {
    let fractional = |unit: i64| {
        #[expect(clippy::cast_precision_loss, reason = "as in Go")]
        let (whole, rest, unit) = ((nanos / unit) as f64, (nanos % unit) as f64, unit as f64);
        Datum::Float(whole + rest / unit)
    };
    Some(match (name, arguments) {
        ("Hours", []) => fractional(HOUR),
        ("Minutes", []) => fractional(MINUTE),
        ("Seconds", []) => fractional(SECOND),
        ("Milliseconds", []) => Datum::Int(nanos / 1_000_000),
        ("Microseconds", []) => Datum::Int(nanos / 1_000),
        ("Nanoseconds", []) => Datum::Int(nanos),
        ("Abs", []) => Datum::Duration(nanos.saturating_abs()),
        ("Truncate" | "Round", [Datum::Duration(unit)]) if *unit <= 0 => Datum::Duration(nanos),
        ("Truncate", [Datum::Duration(unit)]) => Datum::Duration(nanos - nanos % unit),
        ("Round", [Datum::Duration(unit)]) => {
            let rest = nanos % unit;
            let down = nanos - rest;
            // Half a unit rounds away from zero.
            Datum::Duration(if rest.abs() < unit - rest.abs() {
                down
            } else {
                down.saturating_add(unit * nanos.signum())
            })
        }
        _ => return None,
    })
}

/// How Go prints it.
pub(super) fn printed(datum: &Datum) -> String {
    match datum {
        Datum::Time(time) => layout::format("2006-01-02 15:04:05.999999999 -0700 MST", time),
        Datum::Duration(nanos) => printed_duration(*nanos),
        Datum::Zone(zone) => zone_name(zone),
        Datum::Month(month) => usize::try_from(month - 1)
            .ok()
            .and_then(|index| MONTHS.get(index))
            .map_or_else(String::new, |name| (*name).to_owned()),
        Datum::Weekday(day) => usize::try_from(*day)
            .ok()
            .and_then(|index| WEEKDAYS.get(index))
            .map_or_else(String::new, |name| (*name).to_owned()),
        _ => String::new(),
    }
}

/// A time in JSON.
pub(super) fn rfc3339(datum: &Datum) -> String {
    match datum {
        Datum::Time(time) => layout::format("2006-01-02T15:04:05.999999999Z07:00", time),
        _ => String::new(),
    }
}

fn zone_name(zone: &TimeZone) -> String {
    let nameless = if *zone == TimeZone::UTC { "UTC" } else { "" };
    zone.iana_name().unwrap_or(nameless).to_owned()
}

/// `1h30m0.5s`, below a second `1.5ms`, `0s`.
fn printed_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let part = |unit: u64, name: &str| {
        let rest = size % unit;
        if rest == 0 {
            return format!("{}{name}", size / unit);
        }
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        format!("{}.{}{name}", size / unit, fraction.trim_end_matches('0'))
    };
    let below_a_minute = |size: u64| {
        let fraction = format!("{:09}", size % 1_000_000_000);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{}{point}{fraction}s", size / 1_000_000_000)
    };
    let text = match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{size}ns"),
        1_000..1_000_000 => part(1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => part(1_000_000, "ms"),
        _ => {
            let minutes = size / 60_000_000_000;
            let seconds = below_a_minute(size % 60_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let table = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (4 * MINUTE + 5 * SECOND, "4m5s"),
            (4 * MINUTE + 5 * SECOND + 1_000_000, "4m5.001s"),
            (5 * HOUR + 6 * MINUTE + 7 * SECOND + 1_000_000, "5h6m7.001s"),
            (8 * MINUTE + 1, "8m0.000000001s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanos, expected) in table {
            assert_eq!(printed_duration(nanos), expected);
        }
    }
}
