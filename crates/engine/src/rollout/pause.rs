//! Pauses and aborts: what the rules of a pass ask for, and what becomes of it.
//!
//! The stored status says why the release is paused and whether it is taken back; rules ask for changes of that; one function
//! makes the new state of both. `controllerPause` without a reason to pause is how a person's "go on" is seen.

use std::borrow::Cow;

use crossfade_api::rollout_status::{PauseCondition, PauseReason, RolloutStatus};
use jiff::Timestamp;

use super::conditions::whole_seconds;
use crate::mutant::{Mutant, wrong};

/// What the rules of one pass ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Asks {
    pauses: Vec<PauseReason>,
    resumes: Vec<PauseReason>,
    resume_all: bool,
    abort: Option<String>,
    retract_abort: bool,
    hold: bool,
}

impl Asks {
    /// Pauses the release.
    pub(super) fn pause(&mut self, reason: PauseReason) {
        if !self.pauses.contains(&reason) {
            self.pauses.push(reason);
        }
    }

    /// Ends a pause, if there is one for this reason.
    pub(super) fn resume(&mut self, reason: PauseReason) {
        self.resumes.push(reason);
    }

    /// Takes back that a pause ends.
    pub(super) fn keep(&mut self, reason: PauseReason) {
        self.resumes.retain(|ended| *ended != reason);
    }

    /// Ends every pause.
    pub(super) fn resume_all(&mut self) {
        self.resume_all = true;
    }

    /// Takes the release back; the first cause is the one that is told.
    pub(super) fn abort(&mut self, cause: String) {
        self.abort.get_or_insert(cause);
    }

    /// Takes back no longer.
    pub(super) fn retract_abort(&mut self) {
        self.retract_abort = true;
    }

    /// Keeps the new version from starting, in this pass.
    pub(super) fn hold(&mut self) {
        self.hold = true;
    }

    /// The new version may not start in this pass.
    pub(super) fn holds(&self) -> bool {
        self.hold
    }

    /// A rule of this pass has asked for a pause.
    pub(super) fn adds_a_pause(&self) -> bool {
        !self.pauses.is_empty()
    }

    /// A rule of this pass has asked for this pause.
    pub(super) fn adds(&self, reason: PauseReason) -> bool {
        self.pauses.contains(&reason)
    }

    /// The release is taken back, for what is left of this pass. A cause that this pass has found cannot be retracted.
    pub(super) fn is_aborted(&self, status: &RolloutStatus) -> bool {
        self.abort.is_some() || (status.abort && !self.retract_abort)
    }

    /// Why this pass took the release back; empty where a person did or it was before.
    pub(super) fn cause(&self) -> &str {
        self.abort.as_deref().unwrap_or_default()
    }
}

/// Pauses and abort as they are to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settled<'w> {
    pub(super) abort: bool,
    pub(super) aborted_at: Option<Timestamp>,
    pub(super) pauses: Cow<'w, [PauseCondition]>,
    pub(super) controller_pause: bool,
}

/// What becomes of the stored pauses and abort. `keeps_resume`: a person's "go on" is not used up in this pass.
pub(super) fn settle<'w>(
    status: &'w RolloutStatus,
    asks: &Asks,
    now: Timestamp,
    keeps_resume: bool,
) -> Settled<'w> {
    let nothing = Settled {
        abort: false,
        aborted_at: None,
        pauses: Cow::Borrowed(&[]),
        controller_pause: false,
    };
    let kept = status.abort && !asks.retract_abort && !wrong(Mutant::ForgetAbort);
    if asks.abort.is_some() || kept {
        return Settled {
            abort: true,
            aborted_at: Some(status.aborted_at.unwrap_or(whole_seconds(now))),
            ..nothing
        };
    }
    if asks.resume_all {
        return nothing;
    }
    let stored = &status.pause_conditions;
    let stays = |pause: &PauseCondition| {
        !asks.resumes.contains(&pause.reason) && !wrong(Mutant::ForgetPause)
    };
    let is_new = |reason: &PauseReason| !stored.iter().any(|pause| pause.reason == *reason);
    let added = asks.pauses.iter().copied().filter(is_new);
    let mut pauses = if stored.iter().all(stays) {
        Cow::Borrowed(stored.as_slice())
    } else {
        Cow::Owned(
            stored
                .iter()
                .filter(|pause| stays(pause))
                .cloned()
                .collect(),
        )
    };
    let mut controller_pause = status.controller_pause;
    for reason in added {
        controller_pause = true;
        pauses.to_mut().push(PauseCondition {
            reason,
            start_time: whole_seconds(now),
        });
    }
    Settled {
        controller_pause: controller_pause && (!pauses.is_empty() || keeps_resume),
        pauses,
        ..nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PauseReason::{BlueGreenPause, CanaryPauseStep, InconclusiveAnalysisRun};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    fn paused_for(reasons: &[PauseReason], controller_pause: bool) -> RolloutStatus {
        let pauses = reasons.iter().map(|reason| PauseCondition {
            reason: *reason,
            start_time: at(5),
        });
        RolloutStatus {
            pause_conditions: pauses.collect(),
            controller_pause,
            ..RolloutStatus::default()
        }
    }

    fn asks(change: impl FnOnce(&mut Asks)) -> Asks {
        let mut asks = Asks::default();
        change(&mut asks);
        asks
    }

    /// Reasons with their start, and `controllerPause`.
    type Told = (Vec<(PauseReason, i64)>, bool);

    fn told(settled: &Settled<'_>) -> Told {
        let pauses = settled.pauses.iter();
        (
            pauses
                .map(|pause| (pause.reason, pause.start_time.as_second()))
                .collect(),
            settled.controller_pause,
        )
    }

    #[test]
    fn pauses_are_kept_added_and_removed_by_reason() {
        let nothing = Asks::default();
        let pause = asks(|asks| asks.pause(CanaryPauseStep));
        let resume = asks(|asks| asks.resume(CanaryPauseStep));
        let swap = asks(|asks| {
            asks.resume(CanaryPauseStep);
            asks.pause(BlueGreenPause);
        });
        let all = asks(Asks::resume_all);
        let (step, run) = ((CanaryPauseStep, 5), (InconclusiveAnalysisRun, 5));
        let cases: [(&[PauseReason], bool, &Asks, Told); 9] = [
            (&[], false, &nothing, (vec![], false)),
            (&[], true, &nothing, (vec![], false)),
            (&[CanaryPauseStep], true, &nothing, (vec![step], true)),
            (&[], false, &pause, (vec![(CanaryPauseStep, 9)], true)),
            (&[CanaryPauseStep], true, &pause, (vec![step], true)),
            (&[CanaryPauseStep], true, &resume, (vec![], false)),
            (
                &[CanaryPauseStep, InconclusiveAnalysisRun],
                true,
                &resume,
                (vec![run], true),
            ),
            (
                &[CanaryPauseStep],
                true,
                &swap,
                (vec![(BlueGreenPause, 9)], true),
            ),
            (
                &[CanaryPauseStep, InconclusiveAnalysisRun],
                true,
                &all,
                (vec![], false),
            ),
        ];
        for (stored, controller_pause, asks, expected) in cases {
            let status = paused_for(stored, controller_pause);
            let settled = settle(&status, asks, at(9), false);
            assert_eq!(told(&settled), expected, "{stored:?} {asks:?}");
            assert!(!settled.abort);
        }
    }

    #[test]
    fn a_persons_go_on_is_kept_where_it_is_not_used_up() {
        let status = paused_for(&[], true);
        assert!(settle(&status, &Asks::default(), at(9), true).controller_pause);
        assert!(!settle(&status, &asks(Asks::resume_all), at(9), true).controller_pause);
    }

    #[test]
    fn an_abort_ends_every_pause_and_remembers_when_it_was_first_seen() {
        let mut status = paused_for(&[CanaryPauseStep], true);
        let by_rule = asks(|asks| asks.abort("it failed".to_owned()));
        let settled = settle(&status, &by_rule, at(9), true);
        assert_eq!((settled.abort, settled.aborted_at), (true, Some(at(9))));
        assert_eq!(told(&settled), (vec![], false));

        status.abort = true;
        status.aborted_at = Some(at(7));
        let settled = settle(&status, &Asks::default(), at(9), false);
        assert_eq!((settled.abort, settled.aborted_at), (true, Some(at(7))));

        let retracted = asks(Asks::retract_abort);
        let settled = settle(&status, &retracted, at(9), false);
        assert_eq!((settled.abort, settled.aborted_at), (false, None));
        assert_eq!(told(&settled), (vec![(CanaryPauseStep, 5)], true));
        assert!(!retracted.is_aborted(&status));

        let both = asks(|asks| {
            asks.retract_abort();
            asks.abort("it failed".to_owned());
        });
        assert!(both.is_aborted(&status), "a new cause wins");
        assert!(settle(&status, &both, at(9), false).abort);
    }
}
