//! `crossfade reject`: take a Canary back instead of letting it through its gates.

use clap::Args;
use crossfade_api::flagger::{HookType, hash};
use crossfade_api::{Canary, Resource as _};
use crossfade_host::client::{Part, Patch};
use crossfade_host::store::Kind;
use crossfade_server::gates::{Opening, ROLLBACK_GATE, Scope};

use crate::canary;
use crate::commands::gate::asked::{Asked, Reached, hooks, tell};
use crate::commands::gate::change::{check_reason, state};
use crate::commands::gate::{Place, canary_named};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;

/// Take a Canary back instead of letting it through its gates
///
/// Opens its rollback gate for the present revision, so that it says who rejected, when and why, and no later release is hit. A Canary
/// that asks no such gate, or one that cannot be reached, is asked to go back by an annotation, as `crossfade abort` does. It goes back at its next
/// look.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reject {
    /// Canary to take back: NAME or canary/NAME
    #[arg(value_name = "NAME")]
    name: String,
    /// Gate that its rollback hook asks, where it is not `rollback`; or the hook
    #[arg(value_name = "GATE")]
    gate: Option<String>,
    /// Why, for those who look later
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
    #[command(flatten)]
    place: Place,
}

impl Reject {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        check_reason(&self.reason)?;
        let client = context.client()?;
        let canary = canary_named(&self.name, "abort", context, &client).await?;
        let name = canary.name();
        if !canary::may_go_back(&canary) {
            let line = canary::line(&canary);
            let text = format!("canary '{name}' is not being released: it is {line}");
            return Err(CliError::new(exit::REFUSED, text));
        }
        if let Some(mut gate) = self.rollback_gate(&canary, context).await? {
            if !gate.is_open() {
                let opening = Opening {
                    scope: Scope::Revision,
                    checksum: Some(gate.revision().to_owned()),
                    reason: self.reason.clone(),
                    ..Opening::default()
                };
                gate.open(opening).await?;
            }
            let message = format!(
                "canary '{name}' rejected: gate '{}' is {}, and it goes back at its next look",
                gate.asked.gate.gate,
                state(&gate.record)
            );
            return tell(context, &canary, Some(&gate), &message);
        }
        if !canary::is_asked_back(&canary) {
            let reason = Some(self.reason.as_str()).filter(|reason| !reason.is_empty());
            let patch = canary::ask_back(&canary);
            let client = client.acting("reject", reason);
            let namespace = context.namespace();
            client
                .patch(
                    Kind::Canary,
                    namespace,
                    name,
                    Part::Object,
                    Patch::Json,
                    &patch,
                )
                .await?;
        }
        let message = format!("canary '{name}' rejected: it goes back at its next look");
        tell(context, &canary, None, &message)
    }

    /// The gate that takes this release back, if the Canary asks one that can be reached from here.
    async fn rollback_gate(&self, canary: &Canary, context: &Context) -> Result<Option<Reached>> {
        let asked = hooks(canary, HookType::Rollback).into_iter();
        let mut asked = asked.filter_map(|hook| Asked::by(canary, hook));
        let is_meant = |asked: &Asked| match &self.gate {
            Some(wanted) => asked.gate.gate == *wanted || asked.hook == *wanted,
            // Another gate may be asked by hooks that let a release go on.
            None => asked.gate.gate == ROLLBACK_GATE,
        };
        let Some(asked) = asked.find(is_meant) else {
            return match &self.gate {
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
        match asked.reach(&self.place, context).await {
            Ok(gate) => Ok(Some(gate).filter(|gate| is_of_release(canary, gate.revision()))),
            Err(error) if self.place.is_given() => Err(error),
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
