//! An explanation as a few lines of plain words.

use crossfade_host::wire::Explanation;
use jiff::Timestamp;

use super::age;
use super::icon::{Icon, Look, State};
use super::table::Table;

/// The text of an explanation.
pub(crate) fn text(found: &Explanation, look: Look, now: Timestamp) -> String {
    let icon = match found.phase.as_str() {
        "Healthy" => Icon::Ok,
        "Degraded" => Icon::Bad,
        "Paused" => Icon::Paused,
        "Progressing" => Icon::Progressing,
        _ => Icon::Unknown,
    };
    let mut text = format!(
        "rollout '{}': {}",
        found.rollout,
        State::new(icon, found.phase.as_str()).painted(look)
    );
    if !found.message.is_empty() {
        text.push_str(&format!(" - {}", found.message));
    }
    text.push('\n');
    if let Some(step) = &found.step {
        text.push_str(&format!(
            "  {} of {} steps done, now: {}\n",
            step.index, step.total, step.text
        ));
    }
    if !found.waits.is_empty() {
        text.push_str("\nWaiting for:\n");
    }
    for wait in &found.waits {
        let since = wait.since.map_or_else(String::new, |since| {
            format!(" (since {})", age::since(Some(since), now))
        });
        text.push_str(&format!("  {}{since}\n", wait.what));
        if !wait.details.is_empty() {
            text.push_str(&format!("    {}\n", wait.details));
        }
    }
    if !found.gates.is_empty() {
        let mut table = Table::new(&["GATE", "STATE", "DETAILS"]);
        for gate in &found.gates {
            table.row(vec![
                gate.name.clone(),
                gate.state.clone(),
                gate.details.clone(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    if !found.would_move.is_empty() {
        text.push_str("\nWhat would move it:\n");
    }
    for command in &found.would_move {
        text.push_str(&format!("  {command}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_waited_for_stands_with_since_when_and_what_would_move_it() {
        let found: Explanation = serde_json::from_value(json!({
            "rollout": "web", "phase": "Paused", "message": "CanaryPauseStep",
            "step": {"index": 1, "total": 3, "kind": "pause", "text": "pause until somebody promotes"},
            "waits": [{"for": "somebody to promote", "since": "2026-03-01T11:50:00Z", "details": "the pause has no duration"}],
            "would_move": ["crossfade promote web"],
            "gates": [{"name": "web-1-2", "state": "Running", "details": "error-rate: 2 of 3 allowed failures"}]}))
        .expect("an explanation");
        let now = "2026-03-01T12:00:00Z".parse().expect("a time");
        insta::assert_snapshot!(text(&found, Look::default(), now), @r"
        rollout 'web': ॥ Paused - CanaryPauseStep
          1 of 3 steps done, now: pause until somebody promotes

        Waiting for:
          somebody to promote (since 10m)
            the pause has no duration

        GATE     STATE    DETAILS
        web-1-2  Running  error-rate: 2 of 3 allowed failures

        What would move it:
          crossfade promote web
        ");
    }

    #[test]
    fn a_release_that_waits_for_nothing_is_one_line() {
        let found = Explanation {
            rollout: "web".to_owned(),
            phase: "Healthy".to_owned(),
            ..Explanation::default()
        };
        assert_eq!(
            text(&found, Look::default(), Timestamp::UNIX_EPOCH),
            "rollout 'web': ✔ Healthy\n"
        );
    }
}
