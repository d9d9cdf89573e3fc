//! Times as text by example: a layout shows how 2 January 2006, 15:04:05 would be written, as in Go.
//!
//! Start at [`parse`] and [`format`](fn@format); [`next_part`] knows the parts of a layout.

use std::fmt::{self, Write as _};

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Zoned};

use super::time::{MONTHS, WEEKDAYS};

/// A part of a layout that stands for a part of a time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    LongMonth,
    Month,
    MonthNumber {
        padded: bool,
    },
    LongWeekday,
    Weekday,
    Day {
        pad: Pad,
    },
    YearDay {
        pad: Pad,
    },
    Hour,
    Hour12 {
        padded: bool,
    },
    Minute {
        padded: bool,
    },
    Second {
        padded: bool,
    },
    LongYear,
    Year,
    /// `PM` or `pm`
    HalfDay {
        upper: bool,
    },
    ZoneName,
    Offset(OffsetForm),
    /// A point or comma and digits of a second: exactly so many, or up to so many.
    Fraction {
        comma: bool,
        digits: usize,
        exact: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pad {
    Nothing,
    Zero,
    Blank,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct OffsetForm {
    /// `Z` stands for no offset.
    z_for_utc: bool,
    colons: bool,
    to: Precision,
}

/// The smallest unit that is written.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Precision {
    Hours,
    Minutes,
    Seconds,
}

/// The text before the next part, the part, and the text behind it.
fn next_part(layout: &str) -> (&str, Option<Part>, &str) {
    for (at, _) in layout.char_indices() {
        if let Some((part, skipped, length)) = part_at(layout, at) {
            let start = at + skipped;
            return (&layout[..start], Some(part), &layout[start + length..]);
        }
    }
    (layout, None, "")
}

/// The part that begins at a place, if one does: how many bytes before it are plain text after all, and its length.
fn part_at(layout: &str, at: usize) -> Option<(Part, usize, usize)> {
    use Pad::{Blank, Nothing, Zero};
    const fn form(z_for_utc: bool, colons: bool, to: Precision) -> OffsetForm {
        OffsetForm {
            z_for_utc,
            colons,
            to,
        }
    }
    const OFFSETS: [(&str, OffsetForm); 10] = [
        ("-070000", form(false, false, Precision::Seconds)),
        ("-07:00:00", form(false, true, Precision::Seconds)),
        ("-0700", form(false, false, Precision::Minutes)),
        ("-07:00", form(false, true, Precision::Minutes)),
        ("-07", form(false, false, Precision::Hours)),
        ("Z070000", form(true, false, Precision::Seconds)),
        ("Z07:00:00", form(true, true, Precision::Seconds)),
        ("Z0700", form(true, false, Precision::Minutes)),
        ("Z07:00", form(true, true, Precision::Minutes)),
        ("Z07", form(true, false, Precision::Hours)),
    ];
    let rest = &layout[at..];
    let followed_by_lower =
        |length: usize| rest[length..].starts_with(|c: char| c.is_ascii_lowercase());
    let table: &[(&str, Part)] = &[
        ("January", Part::LongMonth),
        ("Monday", Part::LongWeekday),
        ("MST", Part::ZoneName),
        ("002", Part::YearDay { pad: Zero }),
        ("01", Part::MonthNumber { padded: true }),
        ("02", Part::Day { pad: Zero }),
        ("03", Part::Hour12 { padded: true }),
        ("04", Part::Minute { padded: true }),
        ("05", Part::Second { padded: true }),
        ("06", Part::Year),
        ("15", Part::Hour),
        ("1", Part::MonthNumber { padded: false }),
        ("2006", Part::LongYear),
        ("2", Part::Day { pad: Nothing }),
        ("__2", Part::YearDay { pad: Blank }),
        ("3", Part::Hour12 { padded: false }),
        ("4", Part::Minute { padded: false }),
        ("5", Part::Second { padded: false }),
        ("PM", Part::HalfDay { upper: true }),
        ("pm", Part::HalfDay { upper: false }),
    ];
    if rest.starts_with("_2006") {
        // An underscore before a year, not a padded day.
        return Some((Part::LongYear, 1, 4));
    }
    if rest.starts_with("_2") {
        return Some((Part::Day { pad: Blank }, 0, 2));
    }
    if let Some((text, part)) = table.iter().find(|(text, _)| rest.starts_with(text)) {
        return Some((*part, 0, text.len()));
    }
    if rest.starts_with("Jan") && !followed_by_lower(3) {
        return Some((Part::Month, 0, 3));
    }
    if rest.starts_with("Mon") && !followed_by_lower(3) {
        return Some((Part::Weekday, 0, 3));
    }
    if let Some((text, form)) = OFFSETS.iter().find(|(text, _)| rest.starts_with(text)) {
        return Some((Part::Offset(*form), 0, text.len()));
    }
    let comma = rest.starts_with(',');
    if comma || rest.starts_with('.') {
        let digit = rest[1..]
            .chars()
            .next()
            .filter(|c| matches!(c, '0' | '9'))?;
        let digits = rest[1..].chars().take_while(|c| *c == digit).count();
        if !rest[1 + digits..].starts_with(|c: char| c.is_ascii_digit()) {
            let exact = digit == '0';
            return Some((
                Part::Fraction {
                    comma,
                    digits,
                    exact,
                },
                0,
                1 + digits,
            ));
        }
    }
    None
}

/// Writes a time by a layout.
pub(super) fn format(layout: &str, time: &Zoned) -> String {
    let mut out = String::new();
    let mut rest = layout;
    loop {
        let (before, part, after) = next_part(rest);
        out.push_str(before);
        let Some(part) = part else { return out };
        // Writing to a text cannot fail.
        let written = write_part(part, time, &mut out);
        debug_assert!(written.is_ok(), "a text takes everything");
        rest = after;
    }
}

fn write_part(part: Part, time: &Zoned, out: &mut String) -> fmt::Result {
    let offset = time.offset().seconds();
    let hour12 = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let named = |names: &[&'static str], index: i8| {
        usize::try_from(index)
            .ok()
            .and_then(|index| names.get(index).copied())
            .unwrap_or_default()
    };
    let weekday = named(&WEEKDAYS, time.weekday().to_sunday_zero_offset());
    let month = named(&MONTHS, time.month() - 1);
    match part {
        Part::LongMonth => out.write_str(month),
        Part::Month => out.write_str(&month[..3]),
        Part::MonthNumber { padded: true } => write!(out, "{:02}", time.month()),
        Part::MonthNumber { padded: false } => write!(out, "{}", time.month()),
        Part::LongWeekday => out.write_str(weekday),
        Part::Weekday => out.write_str(&weekday[..3]),
        Part::Day { pad: Pad::Nothing } => write!(out, "{}", time.day()),
        Part::Day { pad: Pad::Zero } => write!(out, "{:02}", time.day()),
        Part::Day { pad: Pad::Blank } => write!(out, "{:2}", time.day()),
        Part::YearDay { pad: Pad::Blank } => write!(out, "{:3}", time.day_of_year()),
        Part::YearDay { .. } => write!(out, "{:03}", time.day_of_year()),
        Part::Hour => write!(out, "{:02}", time.hour()),
        Part::Hour12 { padded: true } => write!(out, "{hour12:02}"),
        Part::Hour12 { padded: false } => write!(out, "{hour12}"),
        Part::Minute { padded: true } => write!(out, "{:02}", time.minute()),
        Part::Minute { padded: false } => write!(out, "{}", time.minute()),
        Part::Second { padded: true } => write!(out, "{:02}", time.second()),
        Part::Second { padded: false } => write!(out, "{}", time.second()),
        Part::LongYear if time.year() < 0 => write!(out, "-{:04}", -i32::from(time.year())),
        Part::LongYear => write!(out, "{:04}", time.year()),
        Part::Year => write!(out, "{:02}", time.year().rem_euclid(100)),
        Part::HalfDay { upper } => out.write_str(match (time.hour() >= 12, upper) {
            (true, true) => "PM",
            (true, false) => "pm",
            (false, true) => "AM",
            (false, false) => "am",
        }),
        Part::ZoneName => {
            if let Some(name) = abbreviation(time) {
                return out.write_str(&name);
            }
            let minutes = offset / 60;
            let sign = if minutes < 0 { '-' } else { '+' };
            let minutes = minutes.abs();
            match minutes % 60 {
                0 => write!(out, "{sign}{:02}", minutes / 60),
                rest => write!(out, "{sign}{:02}{rest:02}", minutes / 60),
            }
        }
        Part::Offset(form) if form.z_for_utc && offset == 0 => out.write_str("Z"),
        Part::Offset(form) => {
            let sign = if offset < 0 { '-' } else { '+' };
            let size = offset.abs();
            let colon = if form.colons { ":" } else { "" };
            write!(out, "{sign}{:02}", size / 3600)?;
            if form.to >= Precision::Minutes {
                write!(out, "{colon}{:02}", size / 60 % 60)?;
            }
            if form.to >= Precision::Seconds {
                write!(out, "{colon}{:02}", size % 60)?;
            }
            Ok(())
        }
        Part::Fraction {
            comma,
            digits,
            exact,
        } => {
            let nanos = format!("{:09}", time.subsec_nanosecond());
            let point = if comma { ',' } else { '.' };
            if exact {
                let shown = digits.min(9);
                write!(out, "{point}{}{:0<2$}", &nanos[..shown], "", digits - shown)
            } else {
                match nanos[..digits.min(9)].trim_end_matches('0') {
                    "" => Ok(()),
                    fraction => write!(out, "{point}{fraction}"),
                }
            }
        }
    }
}

/// The short name of the zone at that time, such as `CEST`; `None` for a bare offset.
fn abbreviation(time: &Zoned) -> Option<String> {
    let zone = time.time_zone();
    if *zone == TimeZone::UTC {
        return Some("UTC".to_owned());
    }
    zone.iana_name()?;
    let info = zone.to_offset_info(time.timestamp());
    let name = info.abbreviation();
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        .then(|| name.to_owned())
}

/// What has been read of a time.
#[derive(Default)]
struct Read {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    year_day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i64,
    afternoon: Option<bool>,
    is_utc: bool,
    offset: Option<i64>,
    zone_name: Option<String>,
}

/// Reads a time by a layout; what names no zone and no offset is a time in `zone`. `None` when it does not fit.
pub(super) fn parse(layout: &str, text: &str, zone: &TimeZone) -> Option<Zoned> {
    let mut read = Read::default();
    let mut layout = layout;
    let mut text = text;
    loop {
        let (before, part, after) = next_part(layout);
        text = skip(text, before)?;
        let Some(part) = part else {
            if !text.is_empty() {
                return None;
            }
            return read.time(zone);
        };
        text = read.part(part, text, after)?;
        layout = after;
    }
}

/// Passes over the plain text of a layout. A run of blanks stands for any run, also an empty one.
fn skip<'t>(text: &'t str, plain: &str) -> Option<&'t str> {
    let mut text = text;
    let mut plain = plain;
    while let Some(c) = plain.chars().next() {
        if c == ' ' {
            if !text.is_empty() && !text.starts_with(' ') {
                return None;
            }
            plain = plain.trim_start_matches(' ');
            text = text.trim_start_matches(' ');
        } else {
            text = text.strip_prefix(c)?;
            plain = &plain[c.len_utf8()..];
        }
    }
    Some(text)
}

/// A number of so many digits at most, and the text behind it.
fn digits(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let count = text
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    if count < least {
        return None;
    }
    Some((text[..count].parse().ok()?, &text[count..]))
}

/// Which of the names the text begins with, whatever their case.
fn name<'t>(text: &'t str, names: &[&str], length: Option<usize>) -> Option<(i64, &'t str)> {
    names.iter().enumerate().find_map(|(index, name)| {
        let name = &name[..length.unwrap_or(name.len())];
        let start = text.get(..name.len())?;
        start
            .eq_ignore_ascii_case(name)
            .then(|| (i64::try_from(index).unwrap_or(0), &text[name.len()..]))
    })
}

/// Digits of a second behind a point or comma.
fn fraction(text: &str, count: usize) -> Option<(i64, &str)> {
    if !text.starts_with(['.', ',']) {
        return None;
    }
    let shown = text.get(1..=count)?;
    if !shown.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Beyond nanoseconds nothing counts.
    let nanos = format!("{:0<9}", &shown[..shown.len().min(9)]);
    Some((nanos.parse().ok()?, &text[1 + count..]))
}

fn within(number: i64, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    range.contains(&number).then_some(number)
}

impl Read {
    /// Reads one part; `after` is the layout behind it.
    fn part<'t>(&mut self, part: Part, text: &'t str, after: &str) -> Option<&'t str> {
        let two = |padded: bool| digits(text, if padded { 2 } else { 1 }, 2);
        let (number, rest) = match part {
            Part::LongMonth => name(text, &MONTHS, None)?,
            Part::Month => name(text, &MONTHS, Some(3))?,
            Part::LongWeekday => name(text, &WEEKDAYS, None)?,
            Part::Weekday => name(text, &WEEKDAYS, Some(3))?,
            Part::MonthNumber { padded }
            | Part::Hour12 { padded }
            | Part::Minute { padded }
            | Part::Second { padded } => two(padded)?,
            Part::Day { pad: Pad::Zero } => two(true)?,
            Part::Day { pad: Pad::Blank } => digits(text.strip_prefix(' ').unwrap_or(text), 1, 2)?,
            Part::Day { .. } | Part::Hour => two(false)?,
            Part::YearDay { pad } => self::year_day(text, pad)?,
            Part::LongYear => digits(text, 4, 4)?,
            Part::Year => two(true)?,
            Part::HalfDay { upper } => {
                let (after_noon, before_noon) = if upper { ("PM", "AM") } else { ("pm", "am") };
                let rest = text
                    .strip_prefix(after_noon)
                    .map(|rest| (1, rest))
                    .or_else(|| text.strip_prefix(before_noon).map(|rest| (0, rest)));
                rest?
            }
            Part::ZoneName => {
                if let Some(rest) = text.strip_prefix("UTC") {
                    self.is_utc = true;
                    return Some(rest);
                }
                let length = zone_name_length(text)?;
                self.zone_name = Some(text.get(..length)?.to_owned());
                return text.get(length..);
            }
            Part::Offset(form) => return self.offset(form, text),
            Part::Fraction {
                digits,
                exact: true,
                ..
            } => fraction(text, digits)?,
            Part::Fraction { .. } => {
                if !starts_with_fraction(text) {
                    return Some(text);
                }
                fraction(text, fraction_digits(text))?
            }
        };
        match part {
            Part::LongMonth | Part::Month => self.month = Some(number + 1),
            Part::MonthNumber { .. } => self.month = Some(within(number, 1..=12)?),
            Part::Day { .. } => self.day = Some(number),
            Part::YearDay { .. } => self.year_day = Some(number),
            Part::Hour => self.hour = within(number, 0..=23)?,
            Part::Hour12 { .. } => self.hour = within(number, 0..=12)?,
            Part::Minute { .. } => self.minute = within(number, 0..=59)?,
            Part::Second { .. } => {
                self.second = within(number, 0..=59)?;
                // A fraction may follow the seconds although the layout has none.
                let (plain, next, _) = next_part(after);
                let expected = plain.is_empty() && matches!(next, Some(Part::Fraction { .. }));
                if !expected && starts_with_fraction(rest) {
                    let (nanos, rest) = fraction(rest, fraction_digits(rest))?;
                    self.nanos = nanos;
                    return Some(rest);
                }
            }
            Part::LongYear => self.year = number,
            Part::Year => self.year = number + if number >= 69 { 1900 } else { 2000 },
            Part::HalfDay { .. } => self.afternoon = Some(number == 1),
            Part::Fraction { .. } => self.nanos = number,
            Part::LongWeekday | Part::Weekday | Part::ZoneName | Part::Offset(_) => {}
        }
        Some(rest)
    }

    fn offset<'t>(&mut self, form: OffsetForm, text: &'t str) -> Option<&'t str> {
        if form.z_for_utc
            && let Some(rest) = text.strip_prefix('Z')
        {
            self.is_utc = true;
            return Some(rest);
        }
        let (sign, mut rest) = if let Some(rest) = text.strip_prefix('-') {
            (-1, rest)
        } else {
            (1, text.strip_prefix('+')?)
        };
        let mut seconds = 0;
        for (unit, wanted, most) in [
            (3600, true, 24),
            (60, form.to >= Precision::Minutes, 59),
            (1, form.to >= Precision::Seconds, 59),
        ] {
            if wanted {
                if form.colons && unit < 3600 {
                    rest = rest.strip_prefix(':')?;
                }
                let (number, behind) = digits(rest, 2, 2)?;
                seconds += unit * within(number, 0..=most)?;
                rest = behind;
            }
        }
        self.offset = Some(sign * seconds);
        Some(rest)
    }

    fn time(self, zone: &TimeZone) -> Option<Zoned> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let year = i16::try_from(self.year).ok()?;
        let small = |number: i64| i8::try_from(number).ok();
        let date = match self.year_day {
            Some(year_day) => {
                let days = SignedDuration::from_hours(24 * (within(year_day, 1..=366)? - 1));
                let date = Date::new(year, 1, 1).ok()?.checked_add(days).ok()?;
                let agrees = date.year() == year
                    && self
                        .month
                        .is_none_or(|month| month == i64::from(date.month()))
                    && self.day.is_none_or(|day| day == i64::from(date.day()));
                agrees.then_some(date)?
            }
            None => Date::new(
                year,
                small(self.month.unwrap_or(1))?,
                small(self.day.unwrap_or(1))?,
            )
            .ok()?,
        };
        let time = date.at(
            small(hour)?,
            small(self.minute)?,
            small(self.second)?,
            i32::try_from(self.nanos).ok()?,
        );
        if self.is_utc {
            return time.to_zoned(TimeZone::UTC).ok();
        }
        if let Some(offset) = self.offset {
            return at_offset(time, offset, zone);
        }
        match &self.zone_name {
            Some(name) => at_named_zone(time, name, zone),
            None => time.to_zoned(zone.clone()).ok(),
        }
    }
}

fn starts_with_fraction(text: &str) -> bool {
    text.starts_with(['.', ',']) && text[1..].starts_with(|c: char| c.is_ascii_digit())
}

fn fraction_digits(text: &str) -> usize {
    text.bytes().skip(1).take_while(u8::is_ascii_digit).count()
}

fn year_day(text: &str, pad: Pad) -> Option<(i64, &str)> {
    let blanks = match pad {
        Pad::Blank => text
            .bytes()
            .take(2)
            .take_while(|byte| *byte == b' ')
            .count(),
        Pad::Zero | Pad::Nothing => 0,
    };
    digits(&text[blanks..], 3 - blanks, 3 - blanks)
}

/// A time with an offset. It is a time of `zone` when that has the same offset then.
fn at_offset(time: DateTime, offset: i64, zone: &TimeZone) -> Option<Zoned> {
    let offset = Offset::from_seconds(i32::try_from(offset).ok()?).ok()?;
    let at = offset.to_timestamp(time).ok()?;
    let in_zone = at.to_zoned(zone.clone());
    if in_zone.offset() == offset {
        return Some(in_zone);
    }
    Some(at.to_zoned(TimeZone::fixed(offset)))
}

/// A time with the short name of a zone: that of `zone` when it has the name then, `GMT+3` by its number, and
/// otherwise a name that nobody knows, which counts as no offset.
fn at_named_zone(time: DateTime, name: &str, zone: &TimeZone) -> Option<Zoned> {
    let in_zone = time.to_zoned(zone.clone()).ok()?;
    if abbreviation(&in_zone).as_deref() == Some(name) {
        return Some(in_zone);
    }
    let hours: i64 = match name.strip_prefix("GMT") {
        Some(hours) if !hours.is_empty() => hours.parse().ok()?,
        _ => 0,
    };
    let offset = Offset::from_seconds(i32::try_from(hours * 3600).ok()?).ok()?;
    Some(
        offset
            .to_timestamp(time)
            .ok()?
            .to_zoned(TimeZone::fixed(offset)),
    )
}

/// How long the short name of a zone at the start of a text is.
fn zone_name_length(text: &str) -> Option<usize> {
    let signed_hours = |text: &str| {
        let rest = text.strip_prefix(['+', '-'])?;
        let (hours, behind) = digits(rest, 1, rest.len().min(3))?;
        within(hours, 0..=23)?;
        Some(text.len() - behind.len())
    };
    if text.starts_with("ChST") || text.starts_with("MeST") {
        return Some(4);
    }
    if let Some(rest) = text.strip_prefix("GMT") {
        return Some(3 + signed_hours(rest).unwrap_or(0));
    }
    if text.starts_with(['+', '-']) {
        return signed_hours(text);
    }
    match text
        .bytes()
        .take(6)
        .take_while(u8::is_ascii_uppercase)
        .count()
    {
        5 if text.as_bytes().get(4) == Some(&b'T') => Some(5),
        4 if text.as_bytes().get(3) == Some(&b'T') || text.starts_with("WITA") => Some(4),
        3 => Some(3),
        _ => None,
    }
}
