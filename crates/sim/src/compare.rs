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
const LASTING: SignedDuration = SignedDuration::from_secs(2);

/// How everything that is seen of a run changed, in the order in which it did.
#[derive(Clone, Debug, Default)]
pub struct History {
    things: BTreeMap<String, Vec<Version>>,
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

    /// Every state that this history does not know at that point, in words.
    pub fn differences(&self, seen: &[Visible]) -> Vec<String> {
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
        for lasting in self.lasting().filter(|lasting| !seen.contains(lasting)) {
            differences.push(format!("nowhere stands what lasted: {:?}", lasting.0));
        }
        let end = seen.last().cloned().unwrap_or_default();
        for (thing, theirs) in self.end() {
            let ours = end.0.get(thing).map_or(NOTHING, String::as_str);
            if ours != theirs {
                differences.push(format!("{thing} ends as {ours:?}, not as {theirs:?}"));
            }
        }
        differences
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
            (first..versions.len()).find(|index| versions[*index].value == wanted(thing))
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
                    let by_same = writer(thing) == writer(other);
                    if follows.is_some_and(|follows| follows.is_before(stands, by_same)) {
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

/// Who writes what is seen: AnalysisRuns and Experiments with their ReplicaSets have controllers of their own; all else is the Rollout's.
fn writer(thing: &str) -> u8 {
    if thing.starts_with("run ") {
        1
    } else if thing.starts_with("experiment") {
        2
    } else {
        0
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

/// Differences between what was told about an object here and there, in order and number.
pub fn events(ours: &[Told], theirs: &[Told]) -> Vec<String> {
    let mut normal = 0;
    let kept = theirs.iter().filter(|told| {
        normal += usize::from(!told.warning);
        told.warning || normal <= EVENTS_KEPT
    });
    let theirs: Vec<&Told> = kept.filter(|told| !told.about_router).collect();
    let comparable = theirs.iter().filter(|told| !told.warning).count();
    // What came after the recorder's limit was lost there.
    let is_complete = normal < EVENTS_KEPT;
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

struct Unlike {
    text: String,
    /// Ours, after everything that was told there.
    is_tail: bool,
}

/// What one list has and the other lacks, by their longest common part.
fn unlike(ours: &[&Told], theirs: &[&Told]) -> Vec<Unlike> {
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
