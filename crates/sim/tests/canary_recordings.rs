//! Canaries that the reference was recorded releasing, played to our engine: what stays different has a name.

use std::path::{Path, PathBuf};

use crossfade_sim::canaries::compare::{NAMED, Named};
use crossfade_sim::canaries::recording::Recording;
use crossfade_sim::canaries::replay::replay;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded-canaries")
}

#[test]
fn recorded_canaries_are_released_as_the_reference_released_them() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| {
            let entry = entry.expect("an entry can be read");
            entry.file_name().to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names.len(), 33);
    let mut unexplained = Vec::new();
    let mut unseen: Vec<&Named> = NAMED.iter().collect();
    for name in &names {
        let recording = Recording::read(&folder().join(name)).expect("it is a recording");
        for difference in replay(&recording).0 {
            let known = |named: &&Named| named.recording == name && difference.contains(named.told);
            if NAMED.iter().any(|named| known(&named)) {
                unseen.retain(|named| !known(named));
            } else {
                unexplained.push(format!("{name}: {difference}"));
            }
        }
    }
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    assert!(unseen.is_empty(), "no longer different: {unseen:?}");
}

#[test]
fn a_recording_that_went_otherwise_is_told() {
    let recording = Recording::read(&folder().join("nginx-promotes")).expect("it is a recording");
    let other = recording.with_replaced("\"canary-weight\":\"20\"", "\"canary-weight\":\"25\"");
    let other = other.with_replaced("canary weight 20", "canary weight 25");
    let told = replay(&other).0;
    assert!(
        told.iter().any(|text| text.contains("canary weight 25")),
        "{told:?}"
    );
}
