//! The reference's recordings of Canaries, played to our engine: the same manifests, the same acts of people at the same moments.
//!
//! People act on what they see, so an act waits until everything stands as it stood in the recording.

use std::collections::{BTreeMap, BTreeSet};

use crossfade_engine::canary::action::CheckFaultKind;
use jiff::{SignedDuration, Timestamp};

use super::compare::Differences;
use super::recording::{Act, Recording, What, called, told};
use super::{Answer, Namespace, Seen};

/// How much earlier than in the recording an act may come.
pub const EARLIER: SignedDuration = SignedDuration::from_secs(5);
/// How long people wait for what was seen in the recording.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(35);

/// Plays a recording to our engine and compares.
pub fn replay(recording: &Recording) -> Differences {
    let theirs = recording.seen();
    let mut differences = Differences::default();
    let mut ours = play(recording, &theirs, &mut differences);
    ours.seen.insert(0, Seen::default());
    differences.compare_states(&theirs, &ours.seen);
    differences.compare_said(recording, &said(&ours));
    let kinds: BTreeSet<String> = ours
        .checks
        .iter()
        .map(|check| format!("{:?}{:?}", check.query, check.variables))
        .collect();
    let there = recording.queries().len();
    if kinds.len() != there {
        let text = format!("{} queries are asked, not {there}", kinds.len());
        differences.0.push(text);
    }
    differences
}

/// What was told and called, in the order of looks.
fn said(world: &Namespace) -> Vec<String> {
    let mut by_look: BTreeMap<Timestamp, Vec<String>> = BTreeMap::new();
    for call in &world.calls {
        let look = by_look.entry(call.at).or_default();
        look.push(called(&call.name, &call.body));
    }
    for one in &world.told {
        let look = by_look.entry(one.at).or_default();
        look.push(told(one.event.warning, &one.event.message));
    }
    by_look.into_values().flatten().collect()
}

fn play(recording: &Recording, theirs: &[Seen], differences: &mut Differences) -> Namespace {
    let begun: Timestamp = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000);
    let mut world = Namespace::new(&recording.namespace(), begun);
    let mut late = SignedDuration::ZERO;
    for step in recording.steps() {
        let time = begun + step.at + late;
        match step.what {
            What::Apply(manifest) => {
                world.advance(time);
                world.apply(manifest);
                if manifest["kind"] == "Canary" {
                    // It is noticed at once, and looked at when it was looked at there.
                    world.pass("app");
                    if let Some(first) = recording.first_look(step.place) {
                        world.look_at("app", begun + first);
                    }
                }
            }
            What::Do(words) => {
                let there = theirs.get(step.place).cloned().unwrap_or_default();
                // Looks there drifted by parts of a second, so the moment is looked for a little earlier, too.
                world.advance(time - EARLIER);
                if catch_up(&mut world, &there) {
                    late += world.now.duration_since(time);
                }
                match Act::of(words) {
                    Some(Act::Look(moment)) => {
                        differences.compare_moment(&moment, &there, &Seen::of(&world));
                    }
                    Some(act) => perform(&mut world, act),
                    None => differences
                        .0
                        .push(format!("nobody knows how to do: {words}")),
                }
            }
        }
    }
    world.advance(begun + recording.length() + late);
    world
}

/// People act on what they see: waits until everything stands here as it stood there, for some looks at most.
fn catch_up(world: &mut Namespace, there: &Seen) -> bool {
    const STEP: SignedDuration = SignedDuration::from_millis(500);
    let patient_until = world.now + PATIENCE;
    while world.now < patient_until && Seen::of(world) != *there {
        world.advance(world.now + STEP);
    }
    Seen::of(world) == *there
}

fn perform(world: &mut Namespace, act: Act) {
    match act {
        Act::Look(_) => {}
        Act::Image(image) => world.set_image("app", &image),
        Act::Hook(name, status) => {
            world.hooks.insert(name, (status, String::new()));
        }
        Act::Metric(name, answer) => {
            world.metrics.insert(name, answer_of(&answer));
        }
        Act::Patch(kind, name, patch) => world.patch(kind, name, &patch),
        Act::Delete => world.delete("Canary", "app"),
    }
}

fn answer_of(words: &str) -> Answer {
    match words {
        "nodata" => Answer::Fault(
            CheckFaultKind::NoData,
            "running query failed: no values found".to_owned(),
        ),
        "down" => Answer::Fault(CheckFaultKind::Provider, "error response".to_owned()),
        words => Answer::Value(words.parse().unwrap_or(f64::NAN)),
    }
}
