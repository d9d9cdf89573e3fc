//! How two runs of a Canary differ: one that was recorded, and one that was seen here.
//!
//! Compared are, for each thing, the states that people see (ours may be fewer, never others, and the last is the same), everything at the
//! moments that were looked at, what people are told and which webhooks are called with which bodies, each for the first time and in order,
//! and which metrics are asked for. What stays different has a name.

use std::collections::{BTreeMap, BTreeSet};

use super::Seen;
use super::recording::Recording;

/// A difference that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The recording.
    pub recording: &'static str,
    /// What is in the words that tell of it.
    pub told: &'static str,
    /// Why it is there.
    pub why: &'static str,
}

const fn named(recording: &'static str, told: &'static str, why: &'static str) -> Named {
    Named {
        recording,
        told,
        why,
    }
}

/// The differences that stay.
pub const NAMED: &[Named] = &[
    named(
        "invalid",
        "deployment app is 2 of",
        "the target serves until the primary does",
    ),
    named(
        "invalid",
        "deployment app ends as 2 of",
        "the target serves until the primary does",
    ),
    named(
        "nginx-bad-image",
        "Rolling back app.rec-nginx-bad-image progress deadline exceeded",
        "a rollback says why",
    ),
    named(
        "nginx-delete-with-revert",
        "Canary is being deleted.",
        "the condition says what happens",
    ),
    named(
        "nginx-gates",
        "canary app is WaitingPromotion weight 20",
        "the real weight is shown while promotion waits",
    ),
    named(
        "nginx-gates",
        "canary app becomes WaitingPromotion weight 20",
        "the real weight is shown while promotion waits",
    ),
    named(
        "nginx-gates",
        "canary app becomes Promoting weight 20",
        "the real weight is shown while the primary is updated",
    ),
    named(
        "nginx-gates",
        "\"phase\":\"Waiting\"",
        "the rollback hook is asked while the release waits",
    ),
    named(
        "nginx-gates",
        "another order",
        "the rollback hook is asked while the release waits",
    ),
    named(
        "nginx-pre-rollout-fails",
        "its pre-rollout checks are smoke",
        "a rollback names the hooks that refused",
    ),
    named(
        "nginx-skip-analysis",
        "waiting for its first available pod",
        "the target serves until the primary does",
    ),
];

/// How a run differs from its recording, in words.
#[derive(Debug, Default)]
pub struct Differences(pub Vec<String>);

/// What differs in a run that was seen elsewhere, in the form of recordings.
pub fn compare(recording: &Recording, run: &Recording) -> Differences {
    let mut differences = Differences::default();
    let moments: BTreeMap<String, Seen> = run.moments().into_iter().collect();
    for (moment, theirs) in recording.moments() {
        match moments.get(&moment) {
            Some(ours) => differences.compare_moment(&moment, &theirs, ours),
            None => differences.0.push(format!("nobody looked at {moment}")),
        }
    }
    differences.compare_states(&recording.seen(), &run.seen());
    differences.compare_said(recording, &run.said());
    for query in recording.queries().difference(run.queries()) {
        differences.0.push(format!("never asks: {query}"));
    }
    for query in run.queries().difference(recording.queries()) {
        differences.0.push(format!("asks in addition: {query}"));
    }
    differences
}

impl Differences {
    pub(super) fn compare_moment(&mut self, moment: &str, theirs: &Seen, ours: &Seen) {
        for (thing, seen) in &theirs.0 {
            let own = ours.0.get(thing);
            if own != Some(seen) {
                self.0.push(format!(
                    "at {moment}: {thing} is {}, not {seen}",
                    own.map_or("not there", String::as_str)
                ));
            }
        }
        for thing in ours.0.keys().filter(|thing| !theirs.0.contains_key(*thing)) {
            self.0.push(format!("at {moment}: {thing} is there"));
        }
    }

    /// For each thing: ours are among theirs, in their order, and the last is the same.
    pub(super) fn compare_states(&mut self, theirs: &[Seen], ours: &[Seen]) {
        let theirs = by_thing(theirs);
        let ours = by_thing(ours);
        let things: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for thing in things {
            let none = Vec::new();
            let theirs = theirs.get(thing).unwrap_or(&none);
            let ours = ours.get(thing).unwrap_or(&none);
            let mut rest = theirs.iter();
            for state in ours {
                if !rest.any(|there| there == state) {
                    self.0.push(format!(
                        "{thing} becomes {}",
                        state.as_deref().unwrap_or("nothing")
                    ));
                    rest = theirs.iter();
                }
            }
            if ours.last() != theirs.last() {
                let word = |last: Option<&Option<String>>| {
                    last.and_then(Clone::clone)
                        .unwrap_or_else(|| "nothing".to_owned())
                };
                self.0.push(format!(
                    "{thing} ends as {}, not as {}",
                    word(ours.last()),
                    word(theirs.last())
                ));
            }
        }
    }

    /// What is told and called: warnings, other events and calls each in their order.
    pub(super) fn compare_said(&mut self, recording: &Recording, ours: &[String]) {
        let theirs = recording.said();
        let lost = recording.lost_events();
        for kind in ["Warning ", "Normal ", ""] {
            let is_event = |text: &str| text.starts_with("Warning ") || text.starts_with("Normal ");
            let of_kind = |said: &[String]| -> Vec<String> {
                let of_kind = said.iter().filter(|text| match kind {
                    "" => !is_event(text),
                    kind => text.starts_with(kind),
                });
                of_kind.cloned().collect()
            };
            let (ours, theirs) = (of_kind(ours), of_kind(&theirs));
            self.compare_texts(&ours, &theirs, lost && !kind.is_empty());
        }
    }

    fn compare_texts(&mut self, ours: &[String], theirs: &[String], lost: bool) {
        let ours = deduplicated(ours);
        let theirs = deduplicated(theirs);
        for text in &theirs {
            if !ours.contains(text) {
                self.0.push(format!("lacks: {text}"));
            }
        }
        for text in &ours {
            if !theirs.contains(text) && !lost {
                self.0.push(format!("in addition: {text}"));
            }
        }
        // Of what both have, the first time of each comes in the same order.
        let both = |texts: &[String], others: &[String]| -> Vec<String> {
            texts
                .iter()
                .filter(|text| others.contains(text))
                .cloned()
                .collect()
        };
        let (one, other) = (both(&ours, &theirs), both(&theirs, &ours));
        if one != other {
            self.0
                .push(format!("another order: {one:?} instead of {other:?}"));
        }
    }
}

/// Each text once, in the order of first times.
fn deduplicated(texts: &[String]) -> Vec<String> {
    let mut known = BTreeSet::new();
    texts
        .iter()
        .filter(|text| known.insert(text.as_str()))
        .cloned()
        .collect()
}

/// The states of each thing, repeats folded; `None` where it is not there.
fn by_thing(moments: &[Seen]) -> BTreeMap<String, Vec<Option<String>>> {
    let things: BTreeSet<&String> = moments.iter().flat_map(|seen| seen.0.keys()).collect();
    let states = |thing: &String| {
        let mut states: Vec<Option<String>> = moments
            .iter()
            .map(|seen| seen.0.get(thing).cloned())
            .collect();
        states.dedup();
        states
    };
    things
        .into_iter()
        .map(|thing| (thing.clone(), states(thing)))
        .collect()
}
