//! A split in the numbers that a router takes.

use crossfade_api::split::{Destination, Split};

/// Weights out of one maximum. They sum to it, unless experiments ask for more than there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// The canary's.
    pub canary: i64,
    /// That of each additional destination, in order.
    pub additional: Vec<i64>,
    /// What is left for stable; never negative.
    pub stable: i64,
}

/// The weights as the split has them.
pub fn as_wanted(split: &Split) -> Shares {
    out_of(split, i64::from(split.max.0), i64::from(split.max.0))
}

/// The weights in percent, each rounded half up, stable getting the rest: for routers that know no other maximum.
pub fn percent(split: &Split) -> Shares {
    out_of(split, i64::from(split.max.0), 100)
}

fn out_of(split: &Split, max: i64, whole: i64) -> Shares {
    let scaled = |weight: i32| {
        let weight = i64::from(weight);
        if max == whole || max <= 0 {
            weight
        } else {
            (2 * weight * whole + max) / (2 * max)
        }
    };
    let canary = scaled(split.canary.weight.0);
    let additional: Vec<i64> = split
        .additional
        .iter()
        .map(|side: &Destination| scaled(side.weight.0))
        .collect();
    let stable = whole - canary - additional.iter().sum::<i64>();
    Shares {
        canary,
        additional,
        stable: stable.max(0),
    }
}
