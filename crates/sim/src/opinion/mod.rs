//! A second opinion: how a release must go and end, worked out from what users read about it, without the engine.
//!
//! A state machine of a few states (a version under way, a step, taken back or not) goes along with a run. It is told what people wrote,
//! what metrics said, which pods there are, and every status that was recorded. It asks of each status whether the table of states allows it
//! and whether what it needs has really happened (somebody resumed, time went by, a run was good), and at the end whether anything that had
//! to follow has not. It neither knows when passes happen nor in which order the controller works.
//!
//! Start at [`Opinion::recorded`]. What it is told is put together in `invariants/opinion.rs`; nothing here may use the engine, nor may what
//! the engine says of evidence be believed: [`evidence`] counts again.

mod bluegreen;
mod canary;
pub mod evidence;
pub mod plan;
mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossfade_api::rollout_status::{PauseReason, RolloutPhase};

use crate::scenario::{Millis, Version};
use evidence::{Answer, Evidence, Purpose, Verdict};
use plan::{Plan, Strategy};

/// What stands in a Rollout: what people wrote, and what the controller says.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of a Rollout of its own"
)]
pub struct Look {
    /// What was asked for.
    pub plan: Arc<Plan>,
    /// The version of the template.
    pub version: Version,
    /// Pods that are wanted.
    pub replicas: i32,
    /// Somebody stopped it.
    pub paused: bool,
    /// The version that was last acted on.
    pub current: Option<Version>,
    /// The version that serves, or shall.
    pub stable: Option<Version>,
    /// The version that a blue-green release's requests go to.
    pub active: Option<Version>,
    /// Index of the step.
    pub step: Option<i32>,
    /// Digest of the steps that were last acted on.
    pub steps: String,
    /// It is taken back.
    pub aborted: bool,
    /// It is to be promoted without more ado.
    pub full: bool,
    /// Why it waits.
    pub pauses: Vec<PauseReason>,
    /// It waits, or somebody has just said that it need not any more.
    pub held: bool,
    /// Runs that decide now.
    pub runs: Vec<String>,
    /// Phase.
    pub phase: RolloutPhase,
    /// Message of the phase.
    pub message: String,
}

/// What is so around a Rollout.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Facts {
    /// Time as the controller reads it.
    pub clock: i64,
    /// AnalysisRuns are seen as they are.
    pub runs_are_fresh: bool,
    /// A controller that leads no longer may do something late.
    pub overtaken: bool,
    /// A controller that leads no longer has switched requests since the last status.
    pub switched_late: bool,
    /// An Experiment of the version under way has ended because its pods did not come.
    pub trial_without_pods: bool,
    /// Versions that have pods, or could have.
    pub sides: Vec<Side>,
}

/// A version's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The version.
    pub version: Version,
    /// Its pods never start.
    pub broken: bool,
    /// Its place in the order in which versions came.
    pub came: i64,
    /// Pods that are wanted.
    pub wanted: i32,
    /// Pods that can serve.
    pub available: i32,
    /// It will lose its pods at a set time.
    pub delayed: bool,
}

impl Facts {
    fn side(&self, version: Option<Version>) -> Option<&Side> {
        self.sides.iter().find(|side| Some(side.version) == version)
    }
}

/// The update under way, since it began or was tried again.
#[derive(Clone, Debug, Default)]
struct Update {
    /// Its place in the order of all that happened.
    began: u64,
    /// The earliest that a clock has shown since.
    earliest: i64,
    /// It goes back, for which no evidence is needed.
    goes_back: bool,
    /// Somebody, or time, has ended the pause.
    let_go: bool,
    /// When the pause began.
    paused: Option<i64>,
    /// The most pods that could serve at once.
    available: i32,
    /// The fewest that were ever wanted.
    wanted: i32,
    /// Requests were switched by a controller that leads no longer: nobody else is to answer for that.
    switched_late: bool,
}

/// The second opinion on one run.
#[derive(Debug, Default)]
pub struct Opinion {
    order: u64,
    runs: BTreeMap<String, Evidence>,
    /// Runs that a status has named: one that was made before a crash may never be (rollout-behaviour 13.4).
    named: BTreeSet<String>,
    update: Update,
    last: Option<Look>,
    /// The steps that were last acted on, as they were written.
    steps: String,
}

impl Opinion {
    /// A run was made.
    pub fn run_made(&mut self, name: &str, evidence: Evidence) {
        // One that is gone may have had the same name.
        self.named.remove(name);
        self.runs.insert(name.to_owned(), evidence);
    }

    /// A measurement has ended.
    pub fn measured(&mut self, run: &str, metric: &str, answer: Answer) {
        if let Some(evidence) = self.runs.get_mut(run) {
            evidence.take(metric, answer);
        }
    }

    /// A run was declared to be over; by somebody's word if it was `stopped`.
    pub fn run_ended(&mut self, run: &str, said: Verdict, stopped: bool) -> Result<(), String> {
        self.order += 1;
        let Some(evidence) = self.runs.get_mut(run) else {
            return Ok(());
        };
        if evidence.ended.is_some() {
            return Ok(());
        }
        let ours = if stopped {
            evidence.bad()
        } else {
            evidence.verdict()
        };
        if !stopped && ours != Some(said) {
            return Err(format!(
                "run {run} is over as {said:?}; by what was measured it is {}",
                ours.map_or("not over".to_owned(), |ours| format!("{ours:?}"))
            ));
        }
        if let Some(ours) = ours {
            evidence.ended = Some((self.order, ours));
        }
        Ok(())
    }

    /// A status was recorded: what stood before, with what people had written, and what stands now.
    pub fn recorded(&mut self, before: &Look, after: &Look, facts: &Facts) -> Result<(), String> {
        self.order += 1;
        self.named.extend(after.runs.iter().cloned());
        self.people_wrote(before, facts);
        let verdict = self.judge(before, after, facts);
        // Somebody's word to a canary counts for the next look at it, not for a pause that comes later (rollout-behaviour 10.2).
        if matches!(after.plan.strategy, Strategy::Canary(_)) && !after.held {
            self.update.let_go = false;
        }
        self.last = Some(after.clone());
        verdict
    }

    /// Takes in what people have written since the last status.
    fn people_wrote(&mut self, before: &Look, facts: &Facts) {
        if let Some(last) = &self.last {
            let retried = last.aborted && !before.aborted;
            let waits = |pauses: &[PauseReason]| pauses.iter().any(|pause| is_wait(*pause));
            // A canary's pause step is let go by whoever ends all pauses, whatever they were for (rollout-behaviour 9, 10.2).
            let canary = matches!(before.plan.strategy, Strategy::Canary(_));
            let ended = !last.pauses.is_empty() && before.pauses.is_empty();
            let resumed = (canary && ended) || (waits(&last.pauses) && !waits(&before.pauses));
            let jumped = last.step != before.step;
            if retried {
                // Whoever takes back and tries again before anybody has looked leaves the pause as it stands.
                let paused = self.update.paused.filter(|_| waits(&before.pauses));
                self.begin(before, facts);
                self.update.paused = paused;
            } else if jumped {
                // A pause that stands goes on to count: it names no step. And one that was let go is so for the next step, too.
                if waits(&before.pauses) {
                    self.update.let_go = false;
                } else {
                    self.update.paused = None;
                }
            }
            // Somebody who skips a step and then goes on lets the pause of the next one go, too.
            if resumed {
                self.update.let_go = true;
            }
        }
        let update = &mut self.update;
        update.switched_late |= facts.switched_late;
        update.earliest = update.earliest.min(facts.clock);
        update.wanted = update.wanted.min(before.replicas);
        update.goes_back |= goes_back(before, facts);
        self.pods(before.current, facts);
    }

    /// Takes in which pods there are.
    pub fn pods(&mut self, current: Option<Version>, facts: &Facts) {
        let now = facts.side(current).map_or(0, |side| side.available);
        self.update.available = self.update.available.max(now);
    }

    fn begin(&mut self, look: &Look, facts: &Facts) {
        self.update = Update {
            began: self.order,
            earliest: facts.clock,
            wanted: look.replicas,
            goes_back: goes_back(look, facts),
            switched_late: facts.switched_late,
            ..Update::default()
        };
        self.pods(look.current, facts);
    }

    fn judge(&mut self, before: &Look, after: &Look, facts: &Facts) -> Result<(), String> {
        if after.current != before.current && after.current != Some(after.version) {
            return Err(format!(
                "version {:?} is acted on, but the template is version {}",
                after.current, after.version
            ));
        }
        let first = before.current.is_none();
        // A canary that becomes blue-green goes on as it stands; the way back is a change of steps.
        let is_canary = matches!(after.plan.strategy, Strategy::Canary(_));
        let other_steps = is_canary && before.steps != after.steps;
        let changed = before.current != after.current || other_steps;
        if changed {
            self.begin(after, facts);
            self.steps.clone_from(&after.plan.written);
            if !first {
                return reset(before, after, self.update.goes_back);
            }
        }
        if !after.steps.is_empty() && self.steps != after.plan.written {
            return unheard(before, after);
        }
        self.abort(before, after, facts)?;
        self.pauses(before, after, facts)?;
        if after.full && !before.full {
            return Err("full promotion was asked for by nobody".to_owned());
        }
        if before.full && !after.full && after.stable != after.current {
            return Err("full promotion was forgotten before it was done".to_owned());
        }
        match &after.plan.strategy {
            Strategy::Canary(steps) => self.canary(steps, before, after, facts),
            Strategy::BlueGreen(switch) => self.blue_green(*switch, before, after, facts),
        }
    }

    /// Whether the release is rightly taken back, or no longer.
    fn abort(&self, before: &Look, after: &Look, facts: &Facts) -> Result<(), String> {
        let promoted = before.stable == before.current;
        if after.aborted && !before.aborted {
            if before.full {
                return Err("it is taken back although full promotion was asked for".to_owned());
            }
            if promoted {
                return Err("it is taken back although there is nothing to go back to".to_owned());
            }
            let late = self.is_late(after, facts);
            let bad = self.worst(before, Verdict::Error).is_some() || facts.trial_without_pods;
            if !late && !bad {
                return Err("it is taken back, but no run was bad and time was not over".to_owned());
            }
        }
        let first = before.stable.is_none();
        let pardoned = promoted || first || before.full || self.update.goes_back;
        if before.aborted && !after.aborted && !pardoned {
            return Err("it goes on by itself after it was taken back".to_owned());
        }
        if before.aborted && after.aborted && after.stable != before.stable && !pardoned {
            return Err("it is promoted although it was taken back".to_owned());
        }
        Ok(())
    }

    fn is_late(&self, look: &Look, facts: &Facts) -> bool {
        let limit = look.plan.deadline.map_or(i64::MAX, signed);
        // The time of the last progress is recorded in whole seconds, cut.
        let earliest = self.update.earliest;
        let recorded = earliest - earliest.rem_euclid(1000);
        facts.clock.saturating_sub(recorded) > limit
    }

    /// A run of this update that has come to this or worse, if it matters now.
    fn worst(&self, look: &Look, least: Verdict) -> Option<&str> {
        self.bad_runs(look, least).next()
    }

    /// The same of the runs that a status has named.
    fn worst_named(&self, look: &Look, least: Verdict) -> Option<&str> {
        let mut bad = self.bad_runs(look, least);
        bad.find(|name| self.named.contains(*name))
    }

    fn bad_runs(&self, look: &Look, least: Verdict) -> impl Iterator<Item = &str> + use<'_> {
        let (step, current, began) = (look.step, look.current, self.update.began);
        let is_canary = matches!(look.plan.strategy, Strategy::Canary(_));
        let of_now = move |run: &Evidence| {
            // What a former strategy has asked decides nothing in the present one.
            let matters = match run.purpose {
                Purpose::Step(of) => is_canary && Some(of) == step,
                Purpose::Background | Purpose::Trial => is_canary,
                Purpose::Pre | Purpose::Post => !is_canary,
            };
            let ended = run.ended.filter(|(order, _)| *order >= began);
            matters
                && Some(run.version) == current
                && ended.is_some_and(|(_, verdict)| verdict >= least)
        };
        let runs = self.runs.iter();
        runs.filter(move |(_, run)| of_now(run))
            .map(|(name, _)| name.as_str())
    }

    /// Whether a run of this update for this purpose was good.
    fn was_good(&self, look: &Look, purpose: Purpose) -> bool {
        self.runs.values().any(|run| {
            let ended = run.ended.filter(|(order, _)| *order >= self.update.began);
            run.purpose == purpose
                && Some(run.version) == look.current
                && ended.is_some_and(|(_, verdict)| verdict == Verdict::Successful)
        })
    }

    /// Whether it rightly waits, or no longer.
    fn pauses(&mut self, before: &Look, after: &Look, facts: &Facts) -> Result<(), String> {
        let has = |look: &Look, reason| look.pauses.contains(&reason);
        let doubt = PauseReason::InconclusiveAnalysisRun;
        if has(after, doubt)
            && !has(before, doubt)
            && self.worst(before, Verdict::Inconclusive).is_none()
        {
            return Err("it waits for a run to be judged, but every run was clear".to_owned());
        }
        let over = after.aborted || after.stable == after.current || before.full;
        if has(before, doubt) && !has(after, doubt) && !over && !self.update.goes_back {
            return Err("it goes on by itself although a run could not tell".to_owned());
        }
        let waits = |look: &Look| look.pauses.iter().any(|pause| is_wait(*pause));
        if waits(after) && !waits(before) {
            self.update.paused = Some(facts.clock);
            self.update.let_go = false;
        }
        if let Strategy::BlueGreen(switch) = &after.plan.strategy
            && waits(before)
            && !waits(after)
        {
            // While nothing serves, as right after a canary became blue-green, nothing is waited for.
            let unserved = before.active.is_none();
            let late = self.update.switched_late;
            let free = after.aborted || before.full || unserved || late || self.update.goes_back;
            self.update.let_go = switch.auto && self.has_waited(switch.after, facts);
            if !self.update.let_go && !free {
                return Err("the pause is over, but nobody ended it, nor did time".to_owned());
            }
        }
        Ok(())
    }

    /// Whether there were ever enough pods to promote.
    fn had_pods(&self, look: &Look) -> Result<(), String> {
        let enough = look.plan.enough.of(self.update.wanted.min(look.replicas));
        if self.update.available < enough {
            return Err(format!(
                "version {:?} is promoted with {} pods at most, {enough} are enough",
                look.current, self.update.available
            ));
        }
        Ok(())
    }

    fn has_waited(&self, time: Millis, facts: &Facts) -> bool {
        // Times are recorded in whole seconds.
        let began = self
            .update
            .paused
            .map(|since| since - since.rem_euclid(1000));
        began.is_some_and(|since| facts.clock >= since + signed(time))
    }
}

fn signed(time: Millis) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// A pause that is part of the plan.
fn is_wait(pause: PauseReason) -> bool {
    matches!(
        pause,
        PauseReason::CanaryPauseStep | PauseReason::BlueGreenPause
    )
}

/// Whether the update leads to an older version, so that nothing has to be proved.
fn goes_back(look: &Look, facts: &Facts) -> bool {
    if look.current == look.stable {
        return true;
    }
    let (Some(new), Some(stable)) = (facts.side(look.current), facts.side(look.stable)) else {
        return false;
    };
    let between = |side: &&Side| new.came < side.came && side.came < stable.came;
    let within = facts.sides.iter().filter(between).count() < look.plan.window;
    let blue_green = matches!(look.plan.strategy, Strategy::BlueGreen(_));
    new.came < stable.came && (within || (blue_green && new.delayed))
}

/// Steps have been edited and not been acted on yet: nothing moves.
fn unheard(before: &Look, after: &Look) -> Result<(), String> {
    if (before.stable, before.step, before.aborted) != (after.stable, after.step, after.aborted) {
        return Err("it moves before edited steps are acted on".to_owned());
    }
    Ok(())
}

/// A new template, or other steps: all begins anew.
fn reset(before: &Look, after: &Look, goes_back: bool) -> Result<(), String> {
    if after.aborted || after.full || !after.pauses.is_empty() {
        return Err("something of the former update is left in the new one".to_owned());
    }
    // Before anything serves, a blue-green release is promoted as soon as it is seen.
    let unserved = matches!(after.plan.strategy, Strategy::BlueGreen(_)) && before.active.is_none();
    if after.stable != before.stable && !(unserved && after.stable == after.current) {
        return Err("another version is the stable one, in the moment of a change".to_owned());
    }
    let steps = i32::try_from(after.plan.steps().len()).unwrap_or(i32::MAX);
    let back = after.current == after.stable;
    let right = match after.step {
        None => steps == 0,
        Some(0) => steps > 0 && !back,
        Some(step) => step == steps && (back || goes_back),
    };
    if !right {
        return Err(format!(
            "the update of {:?} over {:?} begins at step {:?} of {steps}",
            after.current, after.stable, after.step
        ));
    }
    Ok(())
}
