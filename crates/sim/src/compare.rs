//! Whether one run of a release shows what another showed: the whole of what is seen, in order.
//!
//! A replay may pass through fewer states than the recording, never through others, and ends in the same. A state is everything that is
//! seen at one moment, so a weight is compared together with the sizes and the phase that it stood with. Changes of different things that
//! the recording saw at almost the same time may have come in another order.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use crate::visible::{NOTHING, ROLLOUT, Visible};

/// Changes by different controllers that lie no further apart may come in either order. Times were recorded in tenths of a second.
const AT_ONCE: SignedDuration = SignedDuration::from_millis(200);

/// Normal Events of one object that the reference's recorder keeps; it loses later ones.
const EVENTS_KEPT: usize = 25;
/// What stood there for so long must be seen here, too.
pub(crate) const LASTING: SignedDuration = SignedDuration::from_secs(2);

/// How everything that is seen of a run changed, in the order in which it did.
#[derive(Clone, Debug, Default)]
pub struct History {
    things: BTreeMap<String, Vec<Version>>,
    /// What is compared with it happened in real time.
    in_real_time: bool,
}

/// What is seen of one thing from a change on.
#[derive(Clone, Debug)]
struct Version {
    /// Place in the order of all changes.
    place: usize,
    at: SignedDuration,
    value: String,
}

impl Version {
    /// It certainly came before another one.
    fn is_before(&self, other: &Self, by_same: bool) -> bool {
        self.place < other.place && (by_same || self.at + AT_ONCE < other.at)
    }
}

/// For each thing the version that stood at a moment.
type Moment<'h> = BTreeMap<&'h str, usize>;

impl History {
    /// The same for a comparison with what happened in real time: sizes may go from one to the next in steps of their own, change shortly before or
    /// after the status that goes with them, and count otherwise meanwhile.
    #[must_use]
    pub(crate) fn in_real_time(self) -> Self {
        let mut same = Self {
            in_real_time: true,
            ..Self::default()
        };
        for (thing, versions) in self.things {
            for version in versions {
                let value = plain(&thing, version.value);
                same.add(version.place, version.at, &thing, value);
            }
        }
        same
    }

    /// Whether a thing that stands at a version can be seen like this, on its way to the next one: with a size in between, or waiting for pods before it
    /// is healthy.
    fn is_on_the_way(&self, versions: &[Version], index: usize, seen: &str) -> bool {
        let Some(next) = versions.get(index + 1).filter(|_| self.in_real_time) else {
            return false;
        };
        let sizes = [&versions[index].value, &next.value].map(|value| size(value));
        if let [Some((from, _)), Some((to, revision))] = sizes {
            return size(seen).is_some_and(|(size, of)| {
                of == revision && from.min(to) < size && size < from.max(to)
            });
        }
        let waits = seen.strip_prefix(COME_AND_GO);
        waits.is_some() && waits == next.value.strip_prefix("Healthy: ,")
    }

    /// Adds a change with its place in the order of all; a repeated value is none.
    pub fn add(&mut self, place: usize, at: SignedDuration, thing: &str, value: String) {
        let versions = self.things.entry(thing.to_owned()).or_insert_with(|| {
            vec![Version {
                place: 0,
                at: SignedDuration::ZERO,
                value: NOTHING.to_owned(),
            }]
        });
        if versions.last().is_none_or(|last| last.value != value) {
            versions.push(Version { place, at, value });
        }
    }

    /// What is seen just before a place in the order.
    pub fn at(&self, place: usize) -> Visible {
        let stands = |versions: &[Version]| {
            let before = versions.iter().take_while(|version| version.place < place);
            before
                .last()
                .map_or(NOTHING, |version| &version.value)
                .to_owned()
        };
        let things = self.things.iter();
        let there = things.map(|(thing, versions)| (thing.clone(), stands(versions)));
        Visible(there.filter(|(_, value)| value != NOTHING).collect())
    }

    /// Since when it has been seen like that just before a place in the order.
    pub(crate) fn since(&self, place: usize) -> SignedDuration {
        let last = |versions: &Vec<Version>| {
            let before = versions.iter().take_while(|version| version.place < place);
            before.last().map(|version| version.at)
        };
        let changes = self.things.values().filter_map(last);
        changes.max().unwrap_or_default()
    }

    /// What is seen at the end of a thing.
    pub fn last(&self, thing: &str) -> &str {
        let versions = self.things.get(thing);
        versions
            .and_then(|versions| versions.last())
            .map_or(NOTHING, |last| &last.value)
    }

    /// What is seen at the end.
    pub fn end(&self) -> impl Iterator<Item = (&str, &str)> {
        self.things
            .keys()
            .map(|thing| (thing.as_str(), self.last(thing)))
    }

    /// Every difference of what was seen elsewhere, in words.
    pub fn differences(&self, seen: &[Visible]) -> Vec<String> {
        let mut differences = self.strange(seen);
        differences.extend(self.missed(seen));
        differences.extend(self.ended(seen));
        differences
    }

    /// Every state that this history does not know at that point.
    pub(crate) fn strange(&self, seen: &[Visible]) -> Vec<String> {
        let mut differences = Vec::new();
        let mut told = BTreeSet::new();
        let mut moment: Moment<'_> = self
            .things
            .keys()
            .map(|thing| (thing.as_str(), 0))
            .collect();
        for state in seen {
            match self.find(&moment, state) {
                Ok(found) => moment = found,
                Err(why) => {
                    if told.insert(why.clone()) {
                        differences.push(why);
                    }
                }
            }
        }
        differences
    }

    /// Every state that lasted and was not seen.
    pub(crate) fn missed(&self, seen: &[Visible]) -> Vec<String> {
        let missed = self.lasting().filter(|lasting| !seen.contains(lasting));
        let missed = missed.map(|one| format!("nowhere stands what lasted: {:?}", one.0));
        missed.collect()
    }

    /// States with more pods wanted in all than there ever were.
    pub(crate) fn crowded(&self, seen: &[Visible]) -> Vec<String> {
        let places = self
            .things
            .values()
            .flatten()
            .map(|version| version.place + 1);
        let most = places
            .map(|place| wanted(&self.at(place)))
            .max()
            .unwrap_or(0);
        let crowded = seen.iter().filter(|state| wanted(state) > most);
        let crowded =
            crowded.map(|state| format!("more than {most} pods are wanted: {:?}", state.0));
        crowded.collect()
    }

    /// Every thing that ended otherwise.
    pub(crate) fn ended(&self, seen: &[Visible]) -> Vec<String> {
        let end = seen.last().cloned().unwrap_or_default();
        let mut differences = Vec::new();
        for (thing, theirs) in self.end() {
            let ours = end.0.get(thing).map_or(NOTHING, String::as_str);
            if ours != theirs {
                differences.push(format!("{thing} ends as {ours:?}, not as {theirs:?}"));
            }
        }
        differences
    }

    /// Who writes what is seen: AnalysisRuns and Experiments with their ReplicaSets have controllers of their own; all else is the Rollout's. In real
    /// time somebody else may have written a ReplicaSet in between.
    fn writer(&self, thing: &str) -> u8 {
        if thing.starts_with("run ") {
            1
        } else if thing.starts_with("experiment") {
            2
        } else if self.in_real_time && is_set(thing) {
            3
        } else {
            0
        }
    }

    /// What stood long enough to be looked at by people.
    fn lasting(&self) -> impl Iterator<Item = Visible> {
        let mut places: Vec<_> = self
            .things
            .values()
            .flatten()
            .map(|version| (version.place, version.at))
            .collect();
        places.sort_unstable();
        let lasts = |pair: &[(usize, SignedDuration)]| pair[1].1 - pair[0].1 >= LASTING;
        let places: Vec<usize> = places
            .windows(2)
            .filter(|pair| lasts(pair))
            .map(|pair| pair[1].0)
            .collect();
        let lasting = places.into_iter().map(|place| self.at(place));
        // Before there is a status there is nothing to compare.
        lasting.filter(|state| state.0.contains_key(ROLLOUT))
    }

    /// The first moment, not before another one, at which everything was as in a state.
    fn find<'h>(&'h self, from: &Moment<'h>, state: &Visible) -> Result<Moment<'h>, String> {
        let strange = state
            .0
            .keys()
            .find(|thing| !self.things.contains_key(*thing));
        if let Some(thing) = strange {
            return Err(format!("{thing} is seen as {:?}", state.0[thing]));
        }
        let wanted = |thing: &str| state.0.get(thing).map_or(NOTHING, String::as_str);
        let next = |thing: &'h str, first: usize| {
            let versions = &self.things[thing];
            (first..versions.len()).find(|index| {
                versions[*index].value == wanted(thing)
                    || self.is_on_the_way(versions, *index, wanted(thing))
            })
        };
        let mut moment = Moment::new();
        for (thing, first) in from {
            let index = next(thing, *first)
                .ok_or_else(|| format!("{thing} is seen as {:?}", wanted(thing)))?;
            moment.insert(*thing, index);
        }
        // Whatever stood at this moment must have come before what has not come yet.
        loop {
            let mut late = None;
            'search: for (thing, index) in &moment {
                let stands = &self.things[*thing][*index];
                for (other, other_index) in &moment {
                    let follows = self.things[*other].get(other_index + 1);
                    let by_same = self.writer(thing) == self.writer(other);
                    let free = self.in_real_time && by_same && is_set(thing) && is_set(other);
                    if !free && follows.is_some_and(|follows| follows.is_before(stands, by_same)) {
                        late = Some((*thing, *other, *other_index));
                        break 'search;
                    }
                }
            }
            let Some((thing, other, index)) = late else {
                return Ok(moment);
            };
            let index = next(other, index + 1).ok_or_else(|| {
                format!(
                    "{thing} is seen as {:?} while {other} is {:?}",
                    wanted(thing),
                    wanted(other)
                )
            })?;
            moment.insert(other, index);
        }
    }
}

/// The size of a ReplicaSet or Deployment that is seen like this, and the rest.
fn size(seen: &str) -> Option<(u32, &str)> {
    let (size, revision) = seen.split_once(" wanted")?;
    Some((size.parse().ok()?, revision))
}

/// Whether a thing is one of the Rollout's ReplicaSets.
fn is_set(thing: &str) -> bool {
    thing.starts_with("set ")
}

/// How many pods the Rollout's ReplicaSets are to have together.
fn wanted(seen: &Visible) -> u32 {
    let sets = seen.0.iter().filter(|(thing, _)| is_set(thing));
    let sizes = sets.filter_map(|(_, value)| size(value));
    sizes.map(|(size, _)| size).sum()
}

/// How a release that waits for pods begins, whatever their counts are.
const COME_AND_GO: &str = "Progressing: pods come and go,";

/// What is seen, without what counts of pods it is that a release waits for.
fn plain(thing: &str, seen: String) -> String {
    const COUNTS: [&str; 3] = [
        "Progressing: more replicas need to be updated,",
        "Progressing: updated replicas are still becoming available,",
        "Progressing: old replicas are pending termination,",
    ];
    let counts = COUNTS.iter().find_map(|counts| seen.strip_prefix(counts));
    match counts {
        Some(rest) if thing == ROLLOUT => format!("{COME_AND_GO}{rest}"),
        Some(_) | None => seen,
    }
}

impl Visible {
    /// The same for a comparison with what happened in real time.
    #[must_use]
    pub(crate) fn in_real_time(self) -> Self {
        let seen = self.0.into_iter();
        let seen = seen.map(|(thing, value)| {
            let value = plain(&thing, value);
            (thing, value)
        });
        Self(seen.collect())
    }
}

/// Something that people were told about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// True for type `Warning`.
    pub warning: bool,
    /// It tells about a router's own objects, which are not compared.
    pub about_router: bool,
    /// `reason: message`.
    pub text: String,
}

/// What can be compared of what the reference told about an object, and whether that is all: its recorder loses what comes after its limit.
pub(crate) fn comparable(theirs: &[Told]) -> (Vec<&Told>, bool) {
    let mut normal = 0;
    let kept = theirs.iter().filter(|told| {
        normal += usize::from(!told.warning);
        told.warning || normal <= EVENTS_KEPT
    });
    let kept = kept.filter(|told| !told.about_router).collect();
    (kept, normal < EVENTS_KEPT)
}

/// Differences between what was told about an object here and there, in order and number.
pub fn events(ours: &[Told], theirs: &[Told]) -> Vec<String> {
    let (theirs, is_complete) = comparable(theirs);
    let comparable = theirs.iter().filter(|told| !told.warning).count();
    let mut normal = 0;
    let kept = ours.iter().filter(|told| {
        normal += usize::from(!told.warning);
        told.warning || is_complete || normal <= comparable
    });
    let ours: Vec<&Told> = kept.collect();
    let mut found = unlike(&ours, &theirs);
    if !is_complete {
        // Where we say less before the limit, more of what we say comes before it.
        while found.last().is_some_and(|last| last.is_tail) {
            found.pop();
        }
    }
    found.into_iter().map(|one| one.text).collect()
}

/// Something that only one of two lists has.
pub(crate) struct Unlike {
    pub(crate) text: String,
    /// Ours, after everything that was told there.
    pub(crate) is_tail: bool,
}

/// What one list has and the other lacks, by their longest common part.
pub(crate) fn unlike(ours: &[&Told], theirs: &[&Told]) -> Vec<Unlike> {
    let (rows, columns) = (ours.len(), theirs.len());
    let mut common = vec![vec![0; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if ours[row] == theirs[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut found = Vec::new();
    while row < rows || column < columns {
        if row < rows && column < columns && ours[row] == theirs[column] {
            (row, column) = (row + 1, column + 1);
        } else if column == columns
            || (row < rows && common[row + 1][column] >= common[row][column + 1])
        {
            found.push(Unlike {
                text: format!("that the recording lacks here: {}", ours[row].text),
                is_tail: column == columns && !ours[row].warning,
            });
            row += 1;
        } else {
            found.push(Unlike {
                text: format!("that we lack here: {}", theirs[column].text),
                is_tail: false,
            });
            column += 1;
        }
    }
    found
}
