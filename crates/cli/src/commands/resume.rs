//! `crossfade resume`: let a release go on that a person holds.

use clap::Args;
use crossfade_host::store::Kind;

use crate::act::{Acting, Action, Plan, Write};
use crate::commands::rollout_of;
use crate::context::Context;
use crate::error::Result;
use crate::patches;

/// Let a release go on that `crossfade pause` holds
///
/// It goes on at the step where it stood; no step is skipped. A pause that is a step of the release stays: `crossfade promote` ends it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Resume {
    /// Rollouts or Canaries to let go on: NAME or TYPE/NAME, one or more
    #[arg(value_name = "NAME", required_unless_present_any = ["selector", "field_selector", "all"])]
    names: Vec<String>,
    #[command(flatten)]
    acting: Acting,
}

impl Resume {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let action = Action {
            verb: "resume",
            kinds: &[Kind::Rollout, Kind::Canary],
        };
        action
            .run(context, &self.names, &self.acting, async |_, target, object| {
                let name = &target.name;
                if target.kind == Kind::Canary {
                    let is_held = object["spec"]["suspend"] == true;
                    return Ok(Plan {
                        write: Write::Merge(patches::suspend(false)),
                        done: format!("canary '{name}' resumed"),
                        nothing: (!is_held)
                            .then(|| format!("canary '{name}' is not paused: nothing to resume")),
                    });
                }
                let rollout = rollout_of(object);
                let nothing = if rollout.spec.paused {
                    None
                } else if rollout.status.pause_conditions.is_empty() {
                    Some(format!("rollout '{name}' is not paused: nothing to resume"))
                } else {
                    Some(format!(
                        "rollout '{name}' is at a pause of its steps, which \"crossfade promote {name}\" ends: nothing to resume"
                    ))
                };
                Ok(Plan {
                    write: Write::Merge(patches::resume()),
                    done: format!("rollout '{name}' resumed"),
                    nothing,
                })
            })
            .await
    }
}
