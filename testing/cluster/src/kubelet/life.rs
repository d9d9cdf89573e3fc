//! The life of a simulated pod, from bound to nothing more to happen: which stage follows which, and when. No clock and no API here.

use std::time::Duration;

use super::behaviour::Behaviour;

/// Where a pod stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// Bound; its containers are being made.
    Creating,
    /// An image cannot be pulled.
    NotPulled,
    /// Its containers run and are not ready yet.
    Started { restarts: i32 },
    /// Its containers run and are ready.
    Ready { restarts: i32 },
    /// Its containers have exited with code 1 and wait to be started again.
    Crashed { restarts: i32 },
    /// Its containers have ended for good: each with its exit code, in their order.
    Ended { codes: Vec<i32>, restarts: i32 },
    /// A container cannot be made, for this reason.
    Faulty { reason: String },
}

/// What comes after a stage: another one now, or perhaps later, or nothing unless something changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    Now(Stage),
    In(Duration),
    Nothing,
}

/// What follows, given how long ago the stage began and how long ago the containers started last.
pub(super) fn next(
    stage: &Stage,
    behaviour: &Behaviour,
    in_stage: Duration,
    running: Duration,
) -> Next {
    let after = |wanted: Duration, passed: Duration, then: Stage| match wanted.checked_sub(passed) {
        Some(rest) if !rest.is_zero() => Next::In(rest),
        _ => Next::Now(then),
    };
    let crash = |restarts: i32| {
        behaviour
            .crashes_after
            .filter(|_| restarts < behaviour.crashes)
            .map(|time| after(time, running, Stage::Crashed { restarts }))
    };
    match *stage {
        Stage::Creating if behaviour.image_missing => Next::Now(Stage::NotPulled),
        Stage::Creating => after(
            behaviour.starts_after,
            in_stage,
            Stage::Started { restarts: 0 },
        ),
        Stage::NotPulled if !behaviour.image_missing => Next::Now(Stage::Creating),
        Stage::Started { restarts } => {
            let ready = behaviour
                .ready
                .then(|| after(behaviour.ready_after, running, Stage::Ready { restarts }));
            sooner(crash(restarts), ready)
        }
        Stage::Ready { restarts } => {
            let unready = (!behaviour.ready).then_some(Next::Now(Stage::Started { restarts }));
            sooner(crash(restarts), unready)
        }
        Stage::Crashed { restarts } => after(
            behaviour.restarts_after,
            in_stage,
            Stage::Started {
                restarts: restarts + 1,
            },
        ),
        Stage::NotPulled | Stage::Ended { .. } | Stage::Faulty { .. } => Next::Nothing,
    }
}

/// Whichever comes first; of two that are due, the first.
fn sooner(one: Option<Next>, other: Option<Next>) -> Next {
    match (one, other) {
        (Some(Next::Now(stage)), _) | (_, Some(Next::Now(stage))) => Next::Now(stage),
        (Some(Next::In(one)), Some(Next::In(other))) => Next::In(one.min(other)),
        (Some(Next::In(time)), _) | (_, Some(Next::In(time))) => Next::In(time),
        _ => Next::Nothing,
    }
}
