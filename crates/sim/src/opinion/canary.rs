//! A canary: one step after the other, each for its reason, and promotion after the last.

use crossfade_api::rollout_status::PauseReason;

use super::evidence::{Purpose, Verdict};
use super::plan::Step;
use super::{Facts, Look, Opinion, is_wait};

impl Opinion {
    pub(super) fn canary(
        &mut self,
        steps: &[Step],
        before: &Look,
        after: &Look,
        facts: &Facts,
    ) -> Result<(), String> {
        let last = i32::try_from(steps.len()).unwrap_or(i32::MAX);
        let from = before.step.unwrap_or(0).clamp(0, last);
        let to = after.step.unwrap_or(0);
        let goes_back = self.update.goes_back;
        if after.stable != before.stable {
            if after.stable != after.current {
                return Err(format!("version {:?} is promoted unasked", after.stable));
            }
            let free = before.full || goes_back || before.stable.is_none();
            if !free && from < last {
                return Err(format!("it is promoted at step {from} of {last}"));
            }
            // While a run that could not tell is looked at, no other is judged; whoever leaves out the steps then accepts what there is
            // (rollout-behaviour 10.3, 13.3).
            let doubtful = before
                .pauses
                .contains(&PauseReason::InconclusiveAnalysisRun);
            if !free
                && !doubtful
                && facts.runs_are_fresh
                && let Some(run) = self.worst_named(before, Verdict::Error)
            {
                return Err(format!("it is promoted although run {run} was bad"));
            }
            if before.stable.is_some() {
                self.had_pods(before)?;
            }
        }
        if !after.steps.is_empty() && after.step.is_some() != (last > 0) {
            return Err(format!("step {:?} of {last}", after.step));
        }
        // Before its steps were ever acted on, where it stands means nothing.
        let unheard = before.steps.is_empty() && (to == 0 || after.step == before.step);
        if to == from || last == 0 || unheard {
            return Ok(());
        }
        let free = before.full || goes_back || after.stable == after.current;
        if (to == 0 && after.aborted) || (to == last && free) {
            return Ok(());
        }
        if to != from + 1 {
            return Err(format!("from step {from} to step {to} of {last}"));
        }
        let step = usize::try_from(from).ok().and_then(|from| steps.get(from));
        if let Some(step) = step {
            self.step_is_over(*step, from, before, facts)?;
        }
        self.update.let_go = false;
        // A pause that begins with the step counts from now.
        let waits = |look: &Look| look.pauses.iter().any(|pause| is_wait(*pause));
        if waits(before) || !waits(after) {
            self.update.paused = None;
        }
        Ok(())
    }

    fn step_is_over(
        &self,
        step: Step,
        index: i32,
        before: &Look,
        facts: &Facts,
    ) -> Result<(), String> {
        if before.paused {
            return Err(format!(
                "step {index} is over while somebody has stopped it"
            ));
        }
        let over = match step {
            Step::NoPods | Step::Pods | Step::Other => true,
            Step::Analysis => self.was_good(before, Purpose::Step(index)),
            Step::Pause(time) => {
                let waited = time.is_some_and(|time| self.has_waited(time, facts));
                waited || self.update.let_go
            }
        };
        if over {
            return Ok(());
        }
        let why = match step {
            Step::Analysis => "no run of it was successful",
            _ => "nobody resumed and its time was not over",
        };
        Err(format!("step {index} is over, but {why}"))
    }
}
