//! Functions over a window of samples: rates, differences and `…_over_time`.
//!
//! Each takes one window that holds at least one sample and gives a value or nothing. The
//! arithmetic is that of Prometheus 2.42 (`promql/functions.go`).

#![expect(clippy::float_cmp, reason = "PromQL compares exactly")]
#![expect(
    clippy::unnecessary_wraps,
    reason = "the functions of a table have one type"
)]

use super::super::samples::Sample;
use super::number::{self, Mean, Sum};

/// The samples of one series in a time range, oldest first, at least one.
pub(super) struct Window<'a> {
    pub(super) samples: &'a [Sample],
    /// Where the range begins and ends, Unix milliseconds.
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Window<'_> {
    fn values(&self) -> impl Iterator<Item = f64> {
        self.samples.iter().map(|sample| sample.value)
    }

    fn pairs(&self) -> impl Iterator<Item = (f64, f64)> {
        self.values().zip(self.values().skip(1))
    }

    /// First and last sample, when there are at least two.
    fn ends(&self) -> Option<(Sample, Sample)> {
        match self.samples {
            [first, .., last] => Some((*first, *last)),
            _ => None,
        }
    }

    /// The last two samples.
    fn last_two(&self) -> Option<(Sample, Sample)> {
        match self.samples {
            [.., before, last] => Some((*before, *last)),
            _ => None,
        }
    }
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// Increase per second of a counter.
pub(super) fn rate(window: &Window<'_>) -> Option<f64> {
    // The factor is divided before it is applied, as the reference does: the last digit shows.
    extrapolated(window, true, seconds(window.end - window.start))
}

/// Increase of a counter.
pub(super) fn increase(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, true, 1.0)
}

/// Difference of a gauge.
pub(super) fn delta(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, false, 1.0)
}

/// The difference between the ends, stretched to the whole window and divided by `per`.
///
/// A counter that falls has begun anew from zero. The samples are taken to go on beyond the first
/// and last one up to the edge of the window when the edge is nearer than 1.1 mean distances
/// between samples, else by half a distance; a counter is not taken to have been below zero.
fn extrapolated(window: &Window<'_>, counter: bool, per: f64) -> Option<f64> {
    let (first, last) = window.ends()?;
    let mut difference = last.value - first.value;
    if counter {
        difference += window
            .pairs()
            .filter(|(before, after)| after < before)
            .map(|(before, _)| before)
            .sum::<f64>();
    }
    let mut to_start = seconds(first.at - window.start);
    let to_end = seconds(window.end - last.at);
    let sampled = seconds(last.at - first.at);
    let distance = sampled / (window.samples.len() as f64 - 1.0);
    if counter && difference > 0.0 && first.value >= 0.0 {
        let to_zero = sampled * (first.value / difference);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    let near = distance * 1.1;
    let stretch = |gap: f64| if gap < near { gap } else { distance / 2.0 };
    let factor = (sampled + stretch(to_start) + stretch(to_end)) / sampled / per;
    Some(difference * factor)
}

/// Increase per second between the last two samples of a counter.
pub(super) fn irate(window: &Window<'_>) -> Option<f64> {
    let (before, last) = window.last_two()?;
    let difference = if last.value < before.value {
        last.value
    } else {
        last.value - before.value
    };
    Some(difference / seconds(last.at - before.at))
}

/// Difference between the last two samples.
pub(super) fn idelta(window: &Window<'_>) -> Option<f64> {
    let (before, last) = window.last_two()?;
    Some(last.value - before.value)
}

/// Slope per second of the straight line nearest to the samples (least squares).
pub(super) fn deriv(window: &Window<'_>) -> Option<f64> {
    let (first, _) = window.ends()?;
    if window.values().all(|value| value == first.value) {
        return Some(if first.value.is_infinite() {
            f64::NAN
        } else {
            0.0
        });
    }
    let [mut xs, mut ys, mut products, mut squares] = [Sum::default(); 4];
    for sample in window.samples {
        let x = seconds(sample.at - first.at);
        xs.add(x);
        ys.add(sample.value);
        products.add(x * sample.value);
        squares.add(x * x);
    }
    let n = window.samples.len() as f64;
    let covariance = products.total() - xs.total() * ys.total() / n;
    let variance = squares.total() - xs.total() * xs.total() / n;
    Some(covariance / variance)
}

/// How often the value changed; NaN after NaN is no change.
pub(super) fn changes(window: &Window<'_>) -> Option<f64> {
    let changed =
        |(before, after): &(f64, f64)| before != after && !(before.is_nan() && after.is_nan());
    Some(window.pairs().filter(changed).count() as f64)
}

/// How often the value fell.
pub(super) fn resets(window: &Window<'_>) -> Option<f64> {
    Some(
        window
            .pairs()
            .filter(|(before, after)| after < before)
            .count() as f64,
    )
}

pub(super) fn avg(window: &Window<'_>) -> Option<f64> {
    let mut mean = Mean::default();
    for value in window.values() {
        mean.add(value);
    }
    Some(mean.value())
}

pub(super) fn sum(window: &Window<'_>) -> Option<f64> {
    let mut sum = Sum::default();
    for value in window.values() {
        sum.add(value);
    }
    Some(sum.total())
}

pub(super) fn min(window: &Window<'_>) -> Option<f64> {
    window.values().reduce(|least, value| {
        if value < least || least.is_nan() {
            value
        } else {
            least
        }
    })
}

pub(super) fn max(window: &Window<'_>) -> Option<f64> {
    window.values().reduce(|most, value| {
        if value > most || most.is_nan() {
            value
        } else {
            most
        }
    })
}

pub(super) fn count(window: &Window<'_>) -> Option<f64> {
    Some(window.samples.len() as f64)
}

pub(super) fn last(window: &Window<'_>) -> Option<f64> {
    window.samples.last().map(|sample| sample.value)
}

pub(super) fn present(_window: &Window<'_>) -> Option<f64> {
    Some(1.0)
}

pub(super) fn quantile(q: f64, window: &Window<'_>) -> Option<f64> {
    Some(number::quantile(
        q,
        &mut window.values().collect::<Vec<_>>(),
    ))
}

pub(super) fn stdvar(window: &Window<'_>) -> Option<f64> {
    Some(number::variance(window.values()))
}

pub(super) fn stddev(window: &Window<'_>) -> Option<f64> {
    stdvar(window).map(f64::sqrt)
}
