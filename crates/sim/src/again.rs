//! A recording and the same story told again in real time, by another cluster: what differs.
//!
//! Compared is what a replay in virtual time is compared by, but for what is a matter of milliseconds there:
//!
//! - Which pods become ready together. A size may go from one recorded size to the next in steps of its own, whatever step another one takes meanwhile,
//!   and which counts a release that progresses waits for is not compared. Sizes at rest are, and never are more pods wanted than there.
//! - Whether a ReplicaSet or the status that goes with it is written first, where both were within a fifth of a second; which of two conditions
//!   changes first; in which order warnings, changes of sizes and all else are told. Each of these is compared in its own order.
//! - When somebody looked at whole objects. Any moment between the same two acts will do, as long as all objects stand together as they stood there.

use std::collections::{BTreeMap, BTreeSet};

use crate::compare::{Told, comparable, unlike};
use crate::recording::Recording;

/// Differences between a recording and another one of the same story, in words; those that `stays` knows are left out.
pub fn differences(
    recording: &Recording,
    again: &Recording,
    stays: impl Fn(&str) -> bool,
) -> Vec<String> {
    let (there, here) = (recording.history().in_real_time(), again.history());
    let seen = |place: usize| here.at(place).in_real_time();
    let stands: Vec<_> = again.stands().into_iter().map(seen).collect();
    let all: Vec<_> = (0..=again.lines().len()).map(seen).collect();
    let mut differences = there.strange(&stands);
    differences.extend(there.missed(&all));
    differences.extend(there.crowded(&all));
    differences.extend(there.ended(&stands));
    differences.extend(told(recording, again));
    differences.retain(|one| !stays(one));
    differences.extend(at_moments(recording, again, stays));
    differences
}

/// How whole objects differ at the moments of a recording.
fn at_moments(
    recording: &Recording,
    again: &Recording,
    stays: impl Fn(&str) -> bool,
) -> Vec<String> {
    let versions = again.versions();
    let looks = again.moments();
    let mut found = Vec::new();
    for (moment, place) in recording.moments() {
        let there = recording.standing(place);
        let Some(place) = looks.get(&moment).copied() else {
            found.push(format!("at {moment}: nobody looked"));
            continue;
        };
        let between = again.between_acts(place);
        let mut here = again.objects(between.start);
        let unlike = |objects| {
            let unlike = there.differences(objects, &versions).into_iter();
            let unlike = unlike.map(|one| format!("at {moment}: {one}"));
            unlike.filter(|one| !stays(one)).collect::<Vec<_>>()
        };
        let mut least = unlike(here.clone());
        for line in again.lines().iter().take(between.end).skip(between.start) {
            if least.is_empty() {
                break;
            }
            if here.follow(line) {
                let now = unlike(here.clone());
                if now.len() <= least.len() {
                    least = now;
                }
            }
        }
        found.extend(least);
    }
    found
}

/// How differs what was told.
fn told(recording: &Recording, again: &Recording) -> Vec<String> {
    let (theirs, ours) = (recording.events(), again.events());
    let objects: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let none = Vec::new();
    let mut found = Vec::new();
    for object in objects {
        let (theirs, is_complete) = comparable(theirs.get(object).unwrap_or(&none));
        let ours = ours.get(object).unwrap_or(&none);
        let ours = ours.iter().filter(|told| !told.about_router);
        let (theirs, ours) = (Sorted::of(theirs), Sorted::of(ours));
        let mut unlike_here = unlike(&ours.others, &theirs.others);
        // What comes after the limit was lost there.
        while !is_complete && unlike_here.last().is_some_and(|last| last.is_tail) {
            unlike_here.pop();
        }
        unlike_here.extend(unlike(&ours.warnings, &theirs.warnings));
        let texts = unlike_here.into_iter().map(|one| one.text);
        found.extend(texts.map(|text| format!("event on {object} {text}")));
        if !ours.resizes_like(&theirs, is_complete) {
            let (ours, theirs) = (ours.sizes, theirs.sizes);
            found.push(format!(
                "events on {object} tell of sizes {ours:?}, not {theirs:?}"
            ));
        }
    }
    found
}

/// What was told about an object.
#[derive(Default)]
struct Sorted<'t> {
    warnings: Vec<&'t Told>,
    others: Vec<&'t Told>,
    /// The sizes at which ReplicaSets began, turned and ended.
    sizes: BTreeMap<&'t str, Vec<u32>>,
}

impl<'t> Sorted<'t> {
    fn of(told: impl IntoIterator<Item = &'t Told>) -> Self {
        let mut sorted = Self::default();
        for one in told {
            if let Some((set, from, to)) = resize(&one.text) {
                sorted.sizes.entry(set).or_default().extend([from, to]);
            } else if one.warning {
                sorted.warnings.push(one);
            } else {
                sorted.others.push(one);
            }
        }
        for sizes in sorted.sizes.values_mut() {
            sizes.dedup();
            let all = std::mem::take(sizes);
            for (place, size) in all.iter().enumerate() {
                let before = place.checked_sub(1).and_then(|before| all.get(before));
                let turns = match (before, all.get(place + 1)) {
                    (Some(before), Some(after)) => (before < size) != (size < after),
                    _ => true,
                };
                if turns {
                    sizes.push(*size);
                }
            }
        }
        sorted
    }

    /// Whether the same is told of sizes as there, as far as it was kept: the last size that was may lie in the midst of a change.
    fn resizes_like(&self, theirs: &Self, is_complete: bool) -> bool {
        if is_complete {
            return self.sizes == theirs.sizes;
        }
        theirs.sizes.iter().all(|(set, theirs)| {
            let ours = self.sizes.get(set).map_or(&[][..], Vec::as_slice);
            let certain = theirs.split_last().map_or(&[][..], |(_, certain)| certain);
            ours.starts_with(certain)
        })
    }
}

/// A change of a size: of what, from, to.
fn resize(text: &str) -> Option<(&str, u32, u32)> {
    let (what, sizes) = text.split_once(" from ")?;
    let (from, to) = sizes.split_once(" to ")?;
    let (_, set) = what
        .strip_prefix("ScalingReplicaSet: ")?
        .split_once(" ReplicaSet ")?;
    Some((set, from.parse().ok()?, to.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Told {
        Told {
            warning: false,
            about_router: false,
            text: text.to_owned(),
        }
    }

    #[test]
    fn only_where_sizes_begin_turn_and_end_is_compared() {
        let texts = [
            "Scaled up ReplicaSet a (revision 1) from 0 to 1",
            "Scaled up ReplicaSet a (revision 1) from 1 to 3",
            "Scaled up ReplicaSet b from 0 to 2",
            "Scaled down ReplicaSet a (revision 1) from 3 to 2",
            "Scaled down ReplicaSet a (revision 1) from 2 to 0",
        ];
        let all = texts.map(|text| told(&format!("ScalingReplicaSet: {text}")));
        let sorted = Sorted::of(&all);
        assert_eq!(sorted.sizes["a (revision 1)"], [0, 3, 0]);
        assert_eq!(sorted.sizes["b"], [0, 2]);
        assert!(sorted.others.is_empty());
    }
}
