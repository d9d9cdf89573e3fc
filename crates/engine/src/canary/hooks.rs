//! Webhooks: who is asked when, and what an answer leads to.

use crossfade_api::flagger::{CanaryPhase, CanaryStrategyKind, CanaryWebhook, HookType};

use super::action::CanaryAction;
use super::alerts::News;
use super::tick::{Step, Stop, Tick, timeout};
use crate::decision::Wait;
use crate::mutant::{Mutant, wrong};

/// Whether a gate with its hooks lets a release go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    Closed,
}

/// Skips the gate of traffic once all weights were passed.
const GATE_AT_MAX: &str = "crossfade.dev/traffic-gate-at-max";
/// `false`: what a look finds is not counted while the gate of traffic is closed.
const ANALYSE_WHILE_WAITING: &str = "crossfade.dev/analyse-while-waiting";
/// Takes the release back that it names by `status.lastAppliedSpec`, once; of another release it is forgotten.
const ABORT: &str = "crossfade.dev/abort";
/// Names a gate that lets the release pass once although its hook refuses; `rollback` takes the release back.
const GATE_OPEN: &str = "crossfade.dev/gate-open";
/// The gate of hooks that name none.
const USUAL_GATE: &str = "default";
/// The gate that takes a release back.
const ROLLBACK_GATE: &str = "rollback";
/// Remembers at which gate and weight people were told last, and when.
const TOLD_GATE: &str = "crossfade.dev/gate-alert";

impl Tick<'_, '_, '_> {
    /// Calls a hook; the error is what it answered.
    fn ask(&mut self, hook: &CanaryWebhook, phase: CanaryPhase) -> Step<Result<(), String>> {
        self.call_hook(hook, phase, false)
    }

    fn call_hook(
        &mut self,
        hook: &CanaryWebhook,
        phase: CanaryPhase,
        dry: bool,
    ) -> Step<Result<(), String>> {
        let timeout = match timeout(&hook.timeout) {
            Ok(timeout) => timeout,
            Err(why) => return Ok(Err(why)),
        };
        let mut call = self.call(&hook.name, &hook.url, phase, &hook.metadata, timeout);
        call.retries = hook.retries;
        call.disable_tls = hook.disable_tls;
        call.dry = dry;
        let answer = self.act(CanaryAction::CallHook(Box::new(call)))?;
        Ok(answer
            .as_ref()
            .map(drop)
            .map_err(|failure| failure.message.clone()))
    }

    /// Whether a gate lets the release pass: its hook says so, or somebody has opened it on the Canary itself, for once.
    fn passes(&mut self, hook: &CanaryWebhook, phase: CanaryPhase) -> Step<bool> {
        if self.ask(hook, phase)?.is_ok() {
            return Ok(true);
        }
        let gate = hook.metadata.get("gate").map_or(USUAL_GATE, String::as_str);
        if self.annotation(GATE_OPEN) != Some(gate) || self.has_used_opening {
            return Ok(false);
        }
        self.has_used_opening = true;
        // Forgotten before anything moves: whoever is cut short now asks people again, and no opening counts twice.
        let action = CanaryAction::Annotate {
            target: self.own_target(),
            annotations: [(GATE_OPEN.to_owned(), None)].into(),
        };
        self.must(action, "")?;
        self.tell(&format!(
            "Gate {gate} opened once by the annotation {GATE_OPEN}"
        ));
        Ok(true)
    }

    fn hooks(&self, kind: HookType) -> Vec<CanaryWebhook> {
        self.analysis.hooks(kind).cloned().collect()
    }

    fn waits_for(&mut self, hook: &CanaryWebhook, what: &str) {
        self.plan.waits.push(Wait {
            for_what: format!("gate {} to open for {what}", hook.name),
            since: self.canary.status.last_transition_time,
            until: None,
            moved_by: &["approve", "reject"],
        });
    }

    /// Before a release starts.
    pub(super) fn confirm_rollout(&mut self) -> Step<Gate> {
        let phase = self.read_phase();
        for hook in self.hooks(HookType::ConfirmRollout) {
            if self.passes(&hook, phase)? || wrong(Mutant::CanaryStartUnconfirmed) {
                self.tell(&format!("Confirm-rollout check {} passed", hook.name));
                continue;
            }
            self.waits_for(&hook, "the rollout");
            if phase != CanaryPhase::Waiting {
                self.enter(CanaryPhase::Waiting);
                let name = self.name();
                self.warn(&format!(
                    "Halt {name} advancement waiting for approval {}",
                    hook.name
                ));
                if !hook.mute_alert {
                    self.alert(&News::AwaitsApproval);
                }
            }
            return Ok(Gate::Closed);
        }
        Ok(Gate::Open)
    }

    /// Before the new version gets its first request. A refusal counts as a failed check.
    pub(super) fn pre_rollout(&mut self) -> Step {
        for hook in self.hooks(HookType::PreRollout) {
            if let Err(why) = self.ask(&hook, CanaryPhase::Progressing)?
                && !wrong(Mutant::CanaryPreRolloutIgnored)
            {
                let name = self.name();
                self.warn(&format!(
                    "Halt {name} advancement pre-rollout check {} failed {why}",
                    hook.name
                ));
                self.status.failed_checks += 1;
                return Err(Stop::End);
            }
            self.tell(&format!("Pre-rollout check {} passed", hook.name));
        }
        Ok(())
    }

    /// At each look, before metrics. A refusal fails the analysis.
    pub(super) fn rollout_hooks_pass(&mut self) -> Step<bool> {
        for hook in self.hooks(HookType::Rollout) {
            if let Err(why) = self.ask(&hook, CanaryPhase::Progressing)? {
                let name = self.name();
                self.warn(&format!(
                    "Halt {name} advancement external check {} failed {why}",
                    hook.name
                ));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a release whose wait is not to count against it waits for more traffic. Nothing is spent by that, and only hooks that
    /// check are asked: others, such as those that close a gate, do something.
    pub(super) fn waits_quietly(&mut self, weight: i32) -> Step<bool> {
        let by_weight = self.analysis.strategy() == CanaryStrategyKind::Canary;
        let is_judged = self.read_phase() == CanaryPhase::Progressing;
        let is_wanted = self.annotation(ANALYSE_WHILE_WAITING) == Some("false");
        if !is_wanted || !is_judged || !by_weight || self.skips_gate(weight) {
            return Ok(false);
        }
        for hook in self.hooks(HookType::ConfirmTrafficIncrease) {
            let path = hook.url.split(['?', '#']).next().unwrap_or_default();
            if path.ends_with("/check")
                && self
                    .call_hook(&hook, CanaryPhase::Progressing, true)?
                    .is_err()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn skips_gate(&self, weight: i32) -> bool {
        let skips = self.annotation(GATE_AT_MAX) == Some("false");
        skips && weight >= self.analysis.max_weight()
    }

    /// Before traffic grows.
    pub(super) fn confirm_traffic(&mut self, weight: i32) -> Step<Gate> {
        if self.skips_gate(weight) {
            return Ok(Gate::Open);
        }
        for hook in self.hooks(HookType::ConfirmTrafficIncrease) {
            if self.passes(&hook, CanaryPhase::Progressing)? || wrong(Mutant::CanaryGateIgnored) {
                self.tell(&format!(
                    "Confirm-traffic-increase check {} passed",
                    hook.name
                ));
                continue;
            }
            self.waits_for(&hook, "more traffic");
            let name = self.name();
            self.warn(&format!(
                "Halt {name} advancement waiting for traffic increase approval {}",
                hook.name
            ));
            if !hook.mute_alert {
                self.alert_of_gate(&hook.name, weight);
            }
            return Ok(Gate::Closed);
        }
        Ok(Gate::Open)
    }

    /// People are told once that a gate is closed at a weight, and again only after a while where that is wanted.
    fn alert_of_gate(&mut self, hook: &str, weight: i32) {
        if self.is_strict() {
            self.alert(&News::TrafficAwaitsApproval);
            return;
        }
        let gate = format!("{hook}/{weight}/{}", self.status.last_applied_spec);
        let told = self.annotation(TOLD_GATE).unwrap_or_default();
        let (told_gate, told_at) = told.split_once('@').unwrap_or_default();
        let again = self.world.settings.gate_realert_interval;
        let is_due = crossfade_api::time::parse(told_at)
            .ok()
            .is_some_and(|at| again.is_positive() && self.now >= at + again);
        if told_gate == gate && !is_due {
            return;
        }
        let now = crossfade_api::time::text(self.now);
        let told = Some(format!("{gate}@{now}"));
        self.annotations.insert(TOLD_GATE.to_owned(), told);
        self.alert(&News::TrafficAwaitsApproval);
    }

    /// Before promotion.
    pub(super) fn confirm_promotion(&mut self) -> Step<Gate> {
        for hook in self.hooks(HookType::ConfirmPromotion) {
            if self.passes(&hook, CanaryPhase::Progressing)?
                || wrong(Mutant::CanaryPromotionUnconfirmed)
            {
                self.tell(&format!("Confirm-promotion check {} passed", hook.name));
                continue;
            }
            self.waits_for(&hook, "the promotion");
            if self.read_phase() == CanaryPhase::WaitingPromotion {
                self.status.iterations = (self.analysis.iterations - 1).max(0);
            } else {
                self.enter(CanaryPhase::WaitingPromotion);
                let name = self.name();
                self.warn(&format!(
                    "Halt {name} advancement waiting for promotion approval {}",
                    hook.name
                ));
                if !hook.mute_alert {
                    self.alert(&News::PromotionAwaitsApproval);
                }
            }
            return Ok(Gate::Closed);
        }
        Ok(Gate::Open)
    }

    /// Whether somebody has asked for the way back on the Canary itself. That stays written until the failure is recorded.
    fn is_aborted(&mut self) -> bool {
        let named = self.annotation(ABORT);
        let is_meant = named.is_some_and(|named| named == self.status.last_applied_spec);
        if is_meant {
            self.warn(&format!("Rollback asked for by the annotation {ABORT}"));
            return true;
        }
        self.forget(ABORT);
        let is_meant = self.annotation(GATE_OPEN) == Some(ROLLBACK_GATE);
        if is_meant {
            self.warn(&format!("Rollback asked for by the annotation {GATE_OPEN}"));
        }
        is_meant
    }

    /// What was asked of a release must not happen to the next one.
    pub(super) fn forget_wishes(&mut self) {
        self.forget(ABORT);
        self.forget(GATE_OPEN);
    }

    fn forget(&mut self, wish: &str) {
        if self.annotation(wish).is_some() {
            self.annotations.insert(wish.to_owned(), None);
        }
    }

    /// Whether somebody asks for the way back.
    pub(super) fn is_called_back(&mut self) -> Step<bool> {
        if self.is_aborted() {
            return Ok(true);
        }
        let phase = self.read_phase();
        for hook in self.hooks(HookType::Rollback) {
            if self.ask(&hook, phase)?.is_ok() && !wrong(Mutant::CanaryCallBackIgnored) {
                self.warn(&format!("Rollback check {} passed", hook.name));
                return Ok(true);
            }
            self.tell(&format!(
                "Rollback hook {} not signaling a rollback",
                hook.name
            ));
        }
        Ok(false)
    }

    /// After a release ended.
    pub(super) fn post_rollout(&mut self, phase: CanaryPhase) -> Step {
        // Told with the phase before a failure, and with the new one after a success.
        let told = if phase == CanaryPhase::Succeeded {
            phase
        } else {
            self.read_phase()
        };
        for hook in self.hooks(HookType::PostRollout) {
            if let Err(why) = self.ask(&hook, phase)? {
                let text = format!("Post-rollout hook {} failed {why}", hook.name);
                self.tell_with_phase(true, &text, told);
                return Ok(());
            }
            let text = format!("Post-rollout check {} passed", hook.name);
            self.tell_with_phase(false, &text, told);
        }
        Ok(())
    }

    /// The hooks that are asked before the new version gets requests, by name.
    pub(super) fn pre_rollout_names(&self) -> String {
        let analysis = self.analysis;
        let names: Vec<&str> = analysis
            .hooks(HookType::PreRollout)
            .map(|hook| hook.name.as_str())
            .collect();
        names.join(", ")
    }
}
