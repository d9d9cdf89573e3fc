//! `crossfade reject`: take a Canary back instead of letting it through its gates.

use clap::Args;
use crossfade_api::flagger::{HookType, hash};
use crossfade_api::{Canary, Resource as _};
use crossfade_host::client::{Part, Patch};
use crossfade_host::store::Kind;
use crossfade_server::gates::{Opening, ROLLBACK_GATE, Scope};

use crate::canary;
use crate::commands::gate::answer::{Answer, Done, Sent};
use crate::commands::gate::asked::{Asked, Reached, hooks};
use crate::commands::gate::canary_named;
use crate::commands::gate::change::state;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;

/// Take a Canary back instead of letting it through its gates
///
/// Opens its rollback gate for the present revision, so that it says who rejected, when and why, and no later release is hit. A Canary
/// that asks no such gate, or one that cannot be reached, is asked to go back by an annotation, as `crossfade abort` does. It goes back at its next
/// look. GATE names the gate that its rollback hook asks, where it is not `rollback`; or that hook.
///
/// With --wait the command ends when the release has gone back: 0 then, 1 when it was let through before, 4 when the time is up, 6 when
/// another revision came between, 7 when it is suspended.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reject {
    #[command(flatten)]
    answer: Answer,
}

impl Reject {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        self.answer.check()?;
        let client = context.client()?;
        let canary = canary_named(&self.answer.name, "abort", context, &client).await?;
        let name = canary.name();
        if !canary::may_go_back(&canary) {
            let line = canary::line(&canary);
            let text = format!("canary '{name}' is not being released: it is {line}");
            return Err(CliError::new(exit::REFUSED, text));
        }
        let departure = self.answer.begin(context, &client, &canary).await?;
        let departure = departure.map(|departure| (departure, Sent::Back));
        if let Some(mut gate) = self.rollback_gate(&canary, context).await? {
            let opened = if gate.is_open() {
                state(&gate.record)
            } else {
                let opening = Opening {
                    scope: Scope::Revision,
                    checksum: Some(gate.revision().to_owned()),
                    reason: self.answer.reason.clone(),
                    ..Opening::default()
                };
                self.answer.open(&mut gate, opening).await?
            };
            let message = format!(
                "canary '{name}' rejected: gate '{}' is {opened}, and it goes back at its next look",
                gate.asked.gate.gate
            );
            let done = Done {
                gate: Some(&gate),
                patch: None,
                message,
            };
            return self.answer.end(context, &canary, done, departure).await;
        }
        let patch = (!canary::is_asked_back(&canary)).then(|| canary::ask_back(&canary));
        if let Some(patch) = patch.as_ref().filter(|_| !self.answer.is_rehearsed()) {
            let reason = Some(self.answer.reason.as_str()).filter(|reason| !reason.is_empty());
            let client = client.acting("reject", reason);
            let (namespace, part) = (context.namespace(), Part::Object);
            client
                .patch(Kind::Canary, namespace, name, part, Patch::Json, patch)
                .await?;
        }
        let done = Done {
            gate: None,
            patch,
            message: format!("canary '{name}' rejected: it goes back at its next look"),
        };
        self.answer.end(context, &canary, done, departure).await
    }

    /// The gate that takes this release back, if the Canary asks one that can be reached from here.
    async fn rollback_gate(&self, canary: &Canary, context: &Context) -> Result<Option<Reached>> {
        let asked = hooks(canary, HookType::Rollback).into_iter();
        let mut asked = asked.filter_map(|hook| Asked::by(canary, hook));
        let is_meant = |asked: &Asked| match &self.answer.gate {
            Some(wanted) => asked.gate.gate == *wanted || asked.hook == *wanted,
            // Another gate may be asked by hooks that let a release go on.
            None => asked.gate.gate == ROLLBACK_GATE,
        };
        let Some(asked) = asked.find(is_meant) else {
            return match &self.answer.gate {
                None => Ok(None),
                Some(wanted) => Err(CliError::new(
                    exit::NOT_FOUND,
                    format!(
                        "no rollback hook of canary '{}' asks gate '{wanted}'",
                        canary.name()
                    ),
                )),
            };
        };
        match asked.reach(&self.answer.place, context).await {
            Ok(gate) => Ok(Some(gate).filter(|gate| is_of_release(canary, gate.revision()))),
            Err(error) if self.answer.place.is_given() => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// Whether a gate was asked last about the release that is under way. An order for another revision would take back nothing.
fn is_of_release(canary: &Canary, revision: &str) -> bool {
    let released = &canary.status.last_applied_spec;
    // Another controller has its own words for revisions.
    !revision.is_empty() && (revision == released || hash::is_foreign(released))
}
