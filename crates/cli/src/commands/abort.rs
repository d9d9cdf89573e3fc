//! `crossfade abort`: take an update back.

use clap::Args;
use crossfade_api::{Canary, Resource as _, Rollout};
use crossfade_host::store::Kind;
use serde_json::Value;

use crate::act::{Acting, Action, Plan, Write};
use crate::canary;
use crate::commands::rollout_of;
use crate::context::Context;
use crate::error::Result;
use crate::patches;

/// Take an update back to the stable version
///
/// Traffic and pods go back to the stable version at once, without steps. The Rollout stays aborted, and Degraded, until
/// `crossfade retry` tries the same version again or its template changes, for example by `crossfade undo`. A Canary goes back at its next
/// look, at most one interval later, and is Failed until its target changes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Abort {
    /// Rollouts or Canaries to take back: NAME or TYPE/NAME, one or more
    #[arg(value_name = "NAME", required_unless_present_any = ["selector", "field_selector", "all"])]
    names: Vec<String>,
    #[command(flatten)]
    acting: Acting,
}

impl Abort {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let action = Action {
            verb: "abort",
            kinds: &[Kind::Rollout, Kind::Canary],
        };
        action
            .run(
                context,
                &self.names,
                &self.acting,
                async |_, target, object| {
                    let name = &target.name;
                    if target.kind == Kind::Canary {
                        return Ok(abort_canary(name, &object));
                    }
                    Ok(Plan {
                        write: Write::Merge(patches::abort()),
                        done: format!("rollout '{name}' aborted"),
                        nothing: nothing_to_abort(&rollout_of(object))
                            .map(|why| format!("rollout '{name}' {why}: nothing to abort")),
                    })
                },
            )
            .await
    }
}

/// A Canary goes back at its next look; what is asked for names the release that is meant, so that no later one is taken back.
fn abort_canary(name: &str, object: &Value) -> Plan {
    let canary = Canary::from_json(object.clone()).0;
    let is_asked = canary::is_asked_back(&canary);
    let why = if canary::may_go_back(&canary) {
        is_asked.then_some("is being aborted already")
    } else {
        Some("is not being released")
    };
    Plan {
        write: Write::Json {
            kind: Kind::Canary,
            name: name.to_owned(),
            patch: canary::ask_back(&canary),
        },
        done: format!("canary '{name}' aborted"),
        nothing: why.map(|why| format!("canary '{name}' {why}: nothing to abort")),
    }
}

fn nothing_to_abort(rollout: &Rollout) -> Option<&'static str> {
    let status = &rollout.status;
    if status.abort {
        return Some("is already aborted");
    }
    // Before anybody has looked at the newest spec there may well be an update under way.
    let observed = status.observed_generation.parse().ok();
    let is_observed =
        observed.is_some_and(|observed: i64| observed >= rollout.metadata.generation.unwrap_or(0));
    let is_done = !status.stable_rs.is_empty() && status.stable_rs == status.current_pod_hash;
    (is_done && is_observed).then_some("is not being updated")
}
