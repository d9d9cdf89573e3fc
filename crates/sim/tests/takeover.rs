//! Releases that older controllers have left as they stood, taken over: nothing starts anew, nothing moves that was not due.

use std::path::Path;

use crossfade_sim::takeover::moments;

/// The older controller switched the canary's Service to and fro while the release was aborted; here it stood on the failed version.
const FLIPPED: [&str; 1] = ["v1.8.4/analysis-background-fails/failed"];

/// Stories with objects that this cluster does not restore; they are taken over on a real API server.
const ELSEWHERE: [&str; 2] = ["experiment-step", "workload-ref"];

#[test]
fn behaviour_39_releases_of_older_controllers_go_on_where_they_stand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/takeover");
    let mut differences = Vec::new();
    let mut taken = 0;
    for release in ["v1.7.2", "v1.8.4", "v1.9.1"] {
        let releases = std::fs::read_dir(folder.join(release)).expect("a folder");
        for entry in releases {
            let path = entry.expect("an entry").path();
            if ELSEWHERE.iter().any(|story| path.ends_with(story)) {
                continue;
            }
            for (name, moment) in moments(&path).expect("moments") {
                taken += 1;
                let result = moment.take_over();
                let place = format!("{}/{name}", path.display());
                if FLIPPED.iter().any(|flipped| place.ends_with(flipped)) {
                    assert!(result.events.len() == 1 && result.events[0].contains("app-canary"));
                } else if result.before != result.after || !result.events.is_empty() {
                    differences.push(format!("{place}: {result:#?}"));
                }
            }
        }
    }
    assert_eq!(taken, 69);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
