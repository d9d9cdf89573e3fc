//! What an experiment waits for, in words and numbers. Each text completes "waiting for …".

use jiff::Timestamp;

use crate::decision::Wait;

fn wait(for_what: String) -> Wait {
    Wait {
        for_what,
        since: None,
        until: None,
        moved_by: &["terminate"],
    }
}

/// Pods of a template to become available.
pub(super) fn pods(
    template: &str,
    available: i32,
    wanted: i32,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Wait {
    let for_what =
        format!("pods of template {template} to become available: {available} of {wanted} are");
    Wait {
        since,
        until,
        ..wait(for_what)
    }
}

/// A ReplicaSet to be scaled down later.
pub(super) fn scale_down(name: &str, until: Timestamp) -> Wait {
    Wait {
        until: Some(until),
        moved_by: &[],
        ..wait(format!("the delay before ReplicaSet {name} is scaled down"))
    }
}

/// The time of the experiment to end.
pub(super) fn end(since: Option<Timestamp>, until: Timestamp) -> Wait {
    Wait {
        since,
        until: Some(until),
        ..wait("the duration of the experiment to pass".to_owned())
    }
}

/// A run to end.
pub(super) fn run(run: &str) -> Wait {
    wait(format!("analysis run {run} to end"))
}

/// A person to end what has no end of its own.
pub(super) fn person() -> Wait {
    wait("a person to end the experiment: it has no duration and no required analysis".to_owned())
}

/// An analysis template to appear.
pub(super) fn template(name: &str) -> Wait {
    wait(format!("analysis template {name} to exist"))
}

/// A spec to be corrected.
pub(super) fn valid_spec(error: &str) -> Wait {
    Wait {
        moved_by: &[],
        ..wait(format!("a valid spec: {error}"))
    }
}
