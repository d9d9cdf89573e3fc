//! A Canary goes, and its target serves alone again.

use crossfade_api::flagger::{CanaryPhase, FINALIZER};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::action::CanaryAction;
use super::tick::{Step, Stop, Tick};
use crate::action::{Failure, FailureKind};
use crate::decision::Wait;
use crate::views::{controller, map};

/// Time between two looks at a target that is not ready yet.
const PATIENCE: SignedDuration = SignedDuration::from_secs(3);

impl Tick<'_, '_, '_> {
    /// Gives everything back, step by step. What is gone already counts as given back.
    pub(super) fn terminate(&mut self) -> Step {
        self.plan.look_again_in(PATIENCE);
        let begins = self.read_phase() != CanaryPhase::Terminating;
        if begins {
            self.enter(CanaryPhase::Terminating);
            let name = self.name();
            self.tell(&format!("Terminating canary {name}"));
        }
        if self.world.autoscaler.found().is_some() {
            self.rest_autoscaler(false)?;
        }
        if self.target.is_some() {
            self.find_target()?;
            self.give_back_size()?;
        }
        if begins {
            // The phase is recorded before the Canary can go.
            return Ok(());
        }
        if let Some(trouble) = self.target_trouble() {
            self.plan.waits.push(Wait {
                for_what: format!("the target to serve alone: {}", trouble.text),
                since: self.canary.status.last_transition_time,
                until: None,
                moved_by: &[],
            });
            return Ok(());
        }
        self.restore_apex()?;
        self.restore_routes()?;
        let there = self.canary.metadata.finalizers.iter().flatten();
        let finalizers = there.filter(|one| *one != FINALIZER).cloned().collect();
        let name = self.name();
        self.tell(&format!("Terminated canary {name}"));
        let action = CanaryAction::SetFinalizers {
            target: self.own_target(),
            finalizers,
        };
        self.must(action, "").map(drop)
    }

    /// A Service that was there before the Canary selects what it selected then.
    fn restore_apex(&mut self) -> Step {
        let Some(apex) = self.world.services.apex.found() else {
            return Ok(());
        };
        if !self.is_workload() || self.target.is_none() {
            return Ok(());
        }
        if controller(apex).is_some_and(|(kind, _, _)| kind == "Canary") {
            return Ok(());
        }
        let last = map(apex, "/metadata/annotations")
            .remove(crossfade_api::names::annotation::LAST_APPLIED)
            .and_then(|text| serde_json::from_str::<Value>(&text).ok());
        match last {
            None => self.give_back_apex(),
            Some(last) => {
                let mut wanted = (**apex).clone();
                let selector = last.pointer("/spec/selector").cloned();
                wanted["spec"]["selector"] = selector.unwrap_or(json!(null));
                self.change(apex, &wanted, "").map(drop)
            }
        }
    }

    fn restore_routes(&mut self) -> Step {
        if self.is_unrouted() {
            return Ok(());
        }
        let provider = self.provider().to_owned();
        match self.act(CanaryAction::RestoreRoutes { provider })? {
            Ok(_) => Ok(()),
            Err(Failure {
                kind: FailureKind::NotFound,
                ..
            }) => Ok(()),
            Err(Failure { message, .. }) => {
                self.warn(message);
                Err(Stop::End)
            }
        }
    }
}
