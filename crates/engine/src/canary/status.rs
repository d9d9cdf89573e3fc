//! What is recorded: the phase with its condition, the counters, the revision.

use std::sync::Arc;

use crossfade_api::flagger::{CanaryCondition, CanaryPhase, CanaryStatus, hash};
use jiff::Timestamp;

use super::tick::{Stop, Tick};
use super::workload::SOURCE_HASH;
use crate::views;

/// Remembers which version of the target was handled last.
pub(super) const LAST_SYNCED: &str = "crossfade.dev/last-synced";

impl Tick<'_, '_, '_> {
    /// Records a phase with its counters, and the target as it is now as what the release is about.
    pub(super) fn sync(&mut self, phase: CanaryPhase, weight: i32, failed: i32, iterations: i32) {
        self.status.canary_weight = weight;
        self.status.failed_checks = failed;
        self.status.iterations = iterations;
        self.status.last_applied_spec = self.target_hash();
        if self.is_workload() {
            self.status.tracked_configs = self.tracked_now();
        }
        if phase == CanaryPhase::Initialized {
            // The target may have changed after the primary was made from it; that change is then released.
            let source = self.primary.as_ref().map(|primary| {
                views::map(primary, "/metadata/annotations")
                    .remove(SOURCE_HASH)
                    .unwrap_or_default()
            });
            if let Some(source) = source.filter(|source| !source.is_empty()) {
                self.status.last_applied_spec = source;
            }
            self.status.last_promoted_spec = self.status.last_applied_spec.clone();
        }
        self.set_condition(phase);
    }

    /// Records a phase.
    pub(super) fn enter(&mut self, phase: CanaryPhase) {
        match phase {
            CanaryPhase::Progressing | CanaryPhase::Waiting | CanaryPhase::Promoting => {}
            CanaryPhase::WaitingPromotion => {
                self.status.iterations = (self.analysis.iterations - 1).max(0);
            }
            _ => {
                self.status.canary_weight = 0;
                self.status.iterations = 0;
            }
        }
        if matches!(phase, CanaryPhase::Initialized | CanaryPhase::Succeeded) {
            self.status.last_promoted_spec = self.status.last_applied_spec.clone();
        }
        self.set_condition(phase);
    }

    /// Records a phase and says what it means.
    pub(super) fn set_condition(&mut self, phase: CanaryPhase) {
        self.status.phase = phase;
        let kind = &self.spec.target_ref.kind;
        let (status, message) = meaning(phase, kind);
        self.set_promoted(status, phase.as_str(), &message);
    }

    /// Tells why the Canary cannot be run as it is, also by its condition, and ends the look.
    pub(super) fn refuse(&mut self, why: &str) -> Stop {
        let there = self.status.conditions.first();
        if there.is_none_or(|there| there.message != why) {
            let reason = self.status.phase;
            self.status.conditions.clear();
            self.set_promoted("Unknown", reason.as_str(), why);
        }
        self.ends(&format!("invalid canary spec: {why}"))
    }

    /// Changes the condition, if its status or its reason is another.
    pub(super) fn set_promoted(&mut self, status: &str, reason: &str, message: &str) {
        let there = self.status.conditions.first();
        if there.is_some_and(|there| there.status == status && there.reason == reason) {
            return;
        }
        let since = there
            .filter(|there| there.status == status)
            .and_then(|there| there.last_transition_time);
        let now = Timestamp::from_second(self.now.as_second()).ok();
        self.status.conditions = vec![CanaryCondition {
            kind: "Promoted".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_update_time: now,
            last_transition_time: since.or(now),
        }];
    }

    /// The uid and generation of the target, where its revision is the one that the recorded status is about. A controller that dies between
    /// this note and the status would else have noted a revision that was never released.
    pub(super) fn remember_target(&mut self) {
        let recorded = &self.canary.status.last_applied_spec;
        let Some(note) = self.note(recorded) else {
            return;
        };
        let goes = self.canary.metadata.deletion_timestamp.is_some();
        if self.annotation(LAST_SYNCED) == Some(&note) || self.spec.suspend || goes {
            return;
        }
        if *recorded == self.status.last_applied_spec && *recorded == self.target_hash() {
            self.annotations.insert(LAST_SYNCED.to_owned(), Some(note));
        }
    }

    /// `UID/GENERATION/HASH`: under which hash the target is known as it is now. Without the hash an old view of the target, noted for the
    /// revision before, would pass for the present one.
    fn note(&self, hash: &str) -> Option<String> {
        let target = self.target.as_ref()?;
        let generation = target.pointer("/metadata/generation")?.as_i64()?;
        let uid = views::text(target, "/metadata/uid");
        Some(format!("{uid}/{generation}/{hash}"))
    }

    /// Whether a new revision is there.
    pub(super) fn revision_changed(&mut self) -> bool {
        let now = self.target_hash();
        let applied = &self.status.last_applied_spec;
        if applied.is_empty() {
            return true;
        }
        if now == self.status.last_promoted_spec {
            return false;
        }
        if now == *applied {
            return false;
        }
        let note = self.note(applied);
        if note.is_some() && self.annotation(LAST_SYNCED) == note.as_deref() {
            // The target is as it was: only the way in which it is hashed has changed.
            let promoted = self.status.last_promoted_spec == *applied;
            self.status.last_applied_spec.clone_from(&now);
            if promoted {
                self.status.last_promoted_spec = now;
            }
            return false;
        }
        true
    }

    /// The hash of the target's revision now; empty where there is no target.
    pub(super) fn target_hash(&self) -> String {
        let Some(target) = &self.target else {
            return String::new();
        };
        let hash = || hash::revision(&self.revision_input(target));
        match self.world.target.found() {
            Some(observed) if Arc::ptr_eq(observed, target) => {
                self.world.known.revision.get_or_init(hash).clone()
            }
            _ => hash(),
        }
    }
}

/// The condition's status and message of a phase.
fn meaning(phase: CanaryPhase, kind: &str) -> (&'static str, String) {
    let fixed = |status, message: &str| (status, message.to_owned());
    match phase {
        CanaryPhase::Initialized => ("True", format!("{kind} initialization completed.")),
        CanaryPhase::Waiting | CanaryPhase::WaitingPromotion => {
            fixed("Unknown", "Waiting for approval.")
        }
        CanaryPhase::Progressing => fixed(
            "Unknown",
            "New revision detected, progressing canary analysis.",
        ),
        CanaryPhase::Promoting => fixed(
            "Unknown",
            "Canary analysis completed, starting primary rolling update.",
        ),
        CanaryPhase::Finalising => fixed(
            "Unknown",
            "Canary analysis completed, routing all traffic to primary.",
        ),
        CanaryPhase::Succeeded => fixed(
            "True",
            "Canary analysis completed successfully, promotion finished.",
        ),
        CanaryPhase::Failed => (
            "False",
            format!("Canary analysis failed, {kind} scaled to zero."),
        ),
        CanaryPhase::Terminating | CanaryPhase::Terminated => {
            fixed("Unknown", "Canary is being deleted.")
        }
        CanaryPhase::Unset | CanaryPhase::Initializing => (
            "Unknown",
            format!("New {kind} detected, starting initialization."),
        ),
    }
}

/// The status to record, or `None` if nothing in it has changed.
pub(super) fn changed(
    before: &CanaryStatus,
    mut after: CanaryStatus,
    now: Timestamp,
) -> Option<CanaryStatus> {
    after.last_transition_time = before.last_transition_time;
    if *before == after {
        return None;
    }
    after.last_transition_time = Timestamp::from_second(now.as_second()).ok();
    Some(after)
}
