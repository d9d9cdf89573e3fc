//! Quantiles of classic histograms: `le` buckets that count everything up to their bound.

#![expect(clippy::float_cmp, reason = "PromQL compares exactly")]

/// One bucket.
#[derive(Clone, Copy)]
pub(super) struct Bucket {
    /// Upper bound, included.
    pub(super) bound: f64,
    /// How many observations (or how many per second) are at or below it.
    pub(super) count: f64,
}

/// The value below which a share `q` of the observations lies, taken to be spread evenly within
/// their bucket. Within the last bucket, which has no upper bound, its lower bound.
///
/// NaN without a `+Inf` bucket, without a second bucket or without observations; infinities for a
/// `q` outside 0 to 1. As Prometheus 2.42 (`promql/quantile.go`).
pub(super) fn histogram_quantile(q: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    merge_equal_bounds(buckets);
    make_monotonic(buckets);
    let [finite @ .., last] = buckets.as_slice() else {
        return f64::NAN;
    };
    let Some(largest) = finite.last() else {
        return f64::NAN;
    };
    if last.bound != f64::INFINITY || last.count == 0.0 {
        return f64::NAN;
    }
    let rank = q * last.count;
    let Some(at) = finite.iter().position(|bucket| bucket.count >= rank) else {
        return largest.bound;
    };
    let Some(bucket) = finite.get(at) else {
        return largest.bound;
    };
    match at.checked_sub(1).and_then(|below| finite.get(below)) {
        Some(below) => {
            below.bound
                + (bucket.bound - below.bound)
                    * ((rank - below.count) / (bucket.count - below.count))
        }
        None if bucket.bound <= 0.0 => bucket.bound,
        None => bucket.bound * (rank / bucket.count),
    }
}

/// Two series may write the same bound in two ways (`1` and `1.0`); they are one bucket.
fn merge_equal_bounds(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, kept| {
        let same = next.bound == kept.bound;
        if same {
            kept.count += next.count;
        }
        same
    });
}

/// Buckets are read one after the other and summed over pods that come and go, so a larger bucket
/// may count less than a smaller one; it then counts as much.
fn make_monotonic(buckets: &mut [Bucket]) {
    let Some((first, rest)) = buckets.split_first_mut() else {
        return;
    };
    let mut most = first.count;
    for bucket in rest {
        if bucket.count > most {
            most = bucket.count;
        } else if bucket.count < most {
            bucket.count = most;
        }
    }
}
