//! Every recording of the reference, replayed again with one thing going wrong at every possible moment: its visible end stays the same.
//!
//! Two things may differ. A measurement that fails is evidence, so an error that ends a run may be told in other words. A run that was
//! created and had ended well before anybody heard of it is taken again under the next free name; one that failed is believed.

use std::path::Path;

use crossfade_sim::recording::Recording;
use crossfade_sim::replay::replay_struck;
use crossfade_sim::scenario::FaultKind;
use crossfade_sim::strike::Strike;
use crossfade_sim::visible::Visible;

/// A moment that never comes.
const NEVER: usize = usize::MAX;

/// What is seen, without what may differ.
fn comparable(seen: &Visible) -> Visible {
    let taken_again = |thing: &str| {
        let (name, number) = thing.rsplit_once('.').unwrap_or((thing, ""));
        let phase = seen.0.get(thing);
        let failed = phase.is_some_and(|phase| ["Failed", "Error"].contains(&phase.as_str()));
        number.parse::<u8>().is_ok() && !failed && seen.0.get(name) == phase
    };
    let things = seen.0.iter().filter(|(thing, _)| !taken_again(thing));
    let comparable = things.map(|(thing, value)| match value.split_once("Error Message: ") {
        Some((before, after)) => {
            let rest = after.rsplit_once("\",").map_or("", |(_, rest)| rest);
            (thing.clone(), format!("{before}…{rest}"))
        }
        None => (thing.clone(), value.clone()),
    });
    Visible(comparable.collect())
}

/// Things that are seen otherwise.
fn otherwise(seen: &Visible, end: &Visible) -> String {
    let things = seen.0.keys().chain(end.0.keys());
    let mut texts: Vec<String> = things
        .filter(|thing| seen.0.get(*thing) != end.0.get(*thing))
        .map(|thing| {
            let told = |of: &Visible| of.0.get(thing).cloned().unwrap_or("nothing".to_owned());
            format!("    {thing} is {:?}, not {:?}", told(seen), told(end))
        })
        .collect();
    texts.dedup();
    texts.join("\n")
}

/// Plays every recording with each of these faults at each moment at which it can come.
fn the_end_stays(kinds: &[FaultKind]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut failures = Vec::new();
    let mut replays = 0;
    for entry in std::fs::read_dir(folder).expect("there are recordings") {
        let path = entry.expect("it is readable").path();
        let recording = Recording::read(&path).expect("the recording is readable");
        let recorded = recording.history();
        let struck = |kind, after| replay_struck(&recording, &recorded, Strike { kind, after });
        for &kind in kinds {
            let (end, moments) = struck(kind, NEVER);
            let end = comparable(&end);
            for after in 0..moments {
                let (seen, _) = struck(kind, after);
                let seen = comparable(&seen);
                replays += 1;
                if seen != end {
                    failures.push(format!(
                        "{}, {kind} at moment {after} of {moments}:\n{}",
                        path.file_name().unwrap_or_default().display(),
                        otherwise(&seen, &end)
                    ));
                }
            }
        }
    }
    assert!(replays > 500, "only {replays} replays");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_crash_at_any_action_leaves_the_visible_end_as_it_was() {
    the_end_stays(&[FaultKind::CrashBefore, FaultKind::CrashAfter]);
}

#[test]
fn a_crash_around_any_status_leaves_the_visible_end_as_it_was() {
    the_end_stays(&[FaultKind::CrashUnrecorded, FaultKind::CrashUntold]);
}

#[test]
fn a_conflict_at_any_write_leaves_the_visible_end_as_it_was() {
    the_end_stays(&[FaultKind::Conflict, FaultKind::StatusConflict]);
}

#[test]
fn a_lost_reply_to_any_write_leaves_the_visible_end_as_it_was() {
    the_end_stays(&[FaultKind::LostReply, FaultKind::StatusLost]);
}
