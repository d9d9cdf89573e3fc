//! Ages and delays as kubectl prints them: short, and coarser the longer they are.

use jiff::{SignedDuration, Timestamp};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// How long ago something happened; `<unknown>` when that was not recorded.
pub(crate) fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(
        || "<unknown>".to_owned(),
        |then| human(now.duration_since(then)),
    )
}

/// A duration in kubectl's human form. Down to one second below zero it counts as nothing, because clocks differ a little.
pub(crate) fn human(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let with_rest = |unit: i64, name: &str, rest_unit: i64, rest_name: &str| {
        let rest = seconds % unit / rest_unit;
        match rest {
            0 => format!("{}{name}", seconds / unit),
            rest => format!("{}{name}{rest}{rest_name}", seconds / unit),
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => with_rest(MINUTE, "m", 1, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => with_rest(HOUR, "h", MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => with_rest(DAY, "d", HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => with_rest(YEAR, "y", DAY, "d"),
        252_288_000.. => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shorter_and_coarser_the_longer_it_is() {
        let table = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (90, "90s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (599, "9m59s"),
            (600, "10m"),
            (45 * MINUTE + 59, "45m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (5 * HOUR + 12 * MINUTE, "5h12m"),
            (8 * HOUR, "8h"),
            (30 * HOUR + 59 * MINUTE, "30h"),
            (48 * HOUR, "2d"),
            (2 * DAY + 5 * HOUR, "2d5h"),
            (8 * DAY, "8d"),
            (12 * DAY + 3 * HOUR, "12d"),
            (2 * YEAR, "2y"),
            (3 * YEAR + 40 * DAY, "3y40d"),
            (9 * YEAR + 3 * DAY, "9y"),
        ];
        for (seconds, text) in table {
            assert_eq!(
                human(SignedDuration::from_secs(seconds)),
                text,
                "{seconds} seconds"
            );
        }
    }

    #[test]
    fn what_was_never_recorded_has_no_age() {
        assert_eq!(since(None, Timestamp::UNIX_EPOCH), "<unknown>");
    }
}
