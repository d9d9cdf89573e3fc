//! Numbers that may be written as texts.
//!
//! The same wire form means different things in different fields: a percentage for pods, seconds for a pause,
//! a plain number for counts and limits. One function each.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::duration;

/// A number of pods: a count, or a percentage of the wanted pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodAmount {
    /// So many pods.
    Count(i32),
    /// So many percent of the wanted pods.
    Percent(i32),
}

impl PodAmount {
    /// Reads `maxSurge` or `maxUnavailable`: a number is a count, any text a percentage, with or without `%`.
    /// `None` for a text that is no number.
    pub fn read(value: &IntOrString) -> Option<Self> {
        match value {
            IntOrString::Int(count) => Some(Self::Count(*count)),
            IntOrString::String(text) => text.replace('%', "").parse().ok().map(Self::Percent),
        }
    }

    /// Pods out of `replicas`, a percentage rounded up.
    pub fn rounded_up(self, replicas: i32) -> i32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                let parts = i64::from(percent) * i64::from(replicas);
                clamp(parts.div_euclid(100) + i64::from(parts.rem_euclid(100) != 0))
            }
        }
    }

    /// Pods out of `replicas`, a percentage rounded down.
    pub fn rounded_down(self, replicas: i32) -> i32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                clamp((i64::from(percent) * i64::from(replicas)).div_euclid(100))
            }
        }
    }
}

fn clamp(pods: i64) -> i32 {
    i32::try_from(pods).unwrap_or(if pods < 0 { i32::MIN } else { i32::MAX })
}

/// Seconds of a pause: a number or a text of digits is seconds, any other text a Go duration cut to whole
/// seconds; −1 for what cannot be read.
pub fn pause_seconds(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(seconds) => i64::from(*seconds),
        IntOrString::String(text) => match text.parse::<i32>() {
            Ok(seconds) => i64::from(seconds),
            Err(_) => duration::parse(text).map_or(-1, |duration| duration.as_secs()),
        },
    }
}

/// A count or limit of an analysis: a text that is no decimal integer counts as 0.
pub fn count(value: &IntOrString) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => text.parse().unwrap_or(0),
    }
}

/// The value as a user wrote it.
pub fn text(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}
