//! What stands at a point of a recording, for those who tell its story again and wait until the same is seen.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use crate::objects::Objects;
use crate::recording::Recording;
use crate::visible::{Versions, Visible};

/// What stands at a point of a recording.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Since when it has been seen like this, counted from the beginning; zero for before anything was seen.
    pub since: SignedDuration,
    visible: Visible,
    objects: Objects,
    versions: Versions,
}

impl Recording {
    /// What stands just before a line.
    pub fn standing(&self, place: usize) -> Standing {
        let history = self.history();
        Standing {
            since: history.since(place),
            visible: history.at(place),
            objects: self.objects(place).in_any_order(),
            versions: self.versions(),
        }
    }
}

impl Standing {
    /// What is seen otherwise in a run that has come to its last line, in words; a run more than there disturbs nobody.
    pub fn unlike_seen(&self, run: &Recording) -> Vec<String> {
        let seen = run.history().at(run.lines().len()).in_real_time();
        let there = self.visible.clone().in_real_time();
        let things: BTreeSet<&String> = seen.0.keys().chain(there.0.keys()).collect();
        let mut unlike = Vec::new();
        for thing in things {
            let [ours, theirs] = [&seen, &there].map(|one| one.0.get(thing));
            if ours != theirs && !(thing.starts_with("run ") && theirs.is_none()) {
                unlike.push(format!("{thing} stands as {ours:?}, not as {theirs:?}"));
            }
        }
        unlike
    }

    /// How whole objects differ in a run that has come to its last line.
    pub fn unlike(&self, run: &Recording) -> Vec<String> {
        self.differences(run.objects(run.lines().len()), &run.versions())
    }

    /// How objects differ from those that stand here.
    pub(crate) fn differences(&self, objects: Objects, versions: &Versions) -> Vec<String> {
        let objects = objects.in_any_order();
        objects.unlike(versions, &self.objects, &self.versions)
    }
}

/// Whether everything is seen as there; a run more than there disturbs nobody.
pub(crate) fn is_like(seen: &Visible, there: &Visible) -> bool {
    let is_known = |thing: &str| !thing.starts_with("run ") || there.0.contains_key(thing);
    let known = seen.0.iter().filter(|(thing, _)| is_known(thing));
    known.eq(there.0.iter())
}
