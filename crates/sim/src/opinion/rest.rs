//! What must be so when nothing moves any more.

use crossfade_api::rollout_status::RolloutPhase;

use super::evidence::Verdict;
use super::plan::{Step, Strategy};
use super::{Facts, Look, Opinion};

/// A release that can go no further although nobody holds it back has a version whose pods do not start.
fn is_broken(facts: &Facts) -> bool {
    let mut sides = facts.sides.iter();
    sides.any(|side| side.available < side.wanted && side.broken)
}

impl Opinion {
    /// Whether a release may rest like this.
    pub fn at_rest(&self, look: &Look, facts: &Facts) -> Result<(), String> {
        if look.message.starts_with("InvalidSpec") {
            return Ok(());
        }
        if look.current != Some(look.version) {
            return Err(format!(
                "version {} was asked for, {:?} was acted on",
                look.version, look.current
            ));
        }
        if look.stable.is_none() {
            return Err("no version is the stable one".to_owned());
        }
        let promoted = look.stable == look.current;
        let steps = i32::try_from(look.plan.steps().len()).unwrap_or(i32::MAX);
        let broken = is_broken(facts);
        let expected = if look.aborted {
            RolloutPhase::Degraded
        } else if look.paused || !look.pauses.is_empty() {
            RolloutPhase::Paused
        } else if promoted && !broken && look.replicas > 0 {
            RolloutPhase::Healthy
        } else {
            look.phase
        };
        if look.aborted && promoted {
            return Err("it is taken back although there is nothing to go back to".to_owned());
        }
        if look.aborted && look.full {
            return Err("it is taken back although full promotion was asked for".to_owned());
        }
        if look.phase != expected {
            return Err(format!("it rests as {}, not {expected}", look.phase));
        }
        if look.phase == RolloutPhase::Healthy && !promoted {
            return Err("it rests as Healthy before it was promoted".to_owned());
        }
        let step = look.step.unwrap_or(0);
        if (promoted && step != steps) || (look.aborted && step != 0) {
            return Err(format!("it rests at step {step} of {steps}"));
        }
        let bad = look.runs.iter().find(|name| {
            let ended = self.runs.get(*name).and_then(|run| run.ended);
            ended.is_some_and(|(order, verdict)| {
                order >= self.update.began && verdict >= Verdict::Error
            })
        });
        // Whoever asks for full promotion accepts what there is (rollout-behaviour 11.4).
        if let Some(run) = bad
            && !promoted
            && !look.aborted
            && !look.full
        {
            return Err(format!("run {run} was bad, but it was not taken back"));
        }
        // A canary that is to have no pods never carries the weight that a later step waits for.
        let so_far = usize::try_from(step).unwrap_or(0) + 1;
        let mut sizes = look.plan.steps().iter().take(so_far).rev();
        let scale = sizes.find(|step| matches!(step, Step::NoPods | Step::Pods));
        let waits = scale == Some(&Step::NoPods);
        let moves = !look.aborted && !look.paused && !waits && look.pauses.is_empty();
        if !promoted && moves && !broken {
            return Err(format!(
                "nothing holds it back, but it rests at step {step}"
            ));
        }
        if matches!(look.plan.strategy, Strategy::BlueGreen(_))
            && (promoted || look.aborted)
            && look.replicas > 0
            && !broken
            && look.active != look.stable
        {
            return Err(format!(
                "requests go to version {:?}, version {:?} is the stable one",
                look.active, look.stable
            ));
        }
        Ok(())
    }
}
