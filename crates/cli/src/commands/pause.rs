//! `crossfade pause`: hold a release where it stands.

use clap::Args;
use crossfade_host::store::Kind;

use crate::act::{Acting, Action, Plan, Write};
use crate::commands::rollout_of;
use crate::context::Context;
use crate::error::Result;
use crate::patches;

/// Hold a release where it stands
///
/// Steps do not go on and a new version is not begun until `crossfade resume` or `crossfade promote`. Pods and traffic stay as they are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Pause {
    /// Rollouts or Canaries to hold: NAME or TYPE/NAME, one or more
    #[arg(value_name = "NAME", required_unless_present_any = ["selector", "field_selector", "all"])]
    names: Vec<String>,
    #[command(flatten)]
    acting: Acting,
}

impl Pause {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let action = Action {
            verb: "pause",
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
                        let is_held = object["spec"]["suspend"] == true;
                        return Ok(Plan {
                            write: Write::Merge(patches::suspend(true)),
                            done: format!("canary '{name}' paused"),
                            nothing: is_held.then(|| {
                                format!("canary '{name}' is already paused: nothing to pause")
                            }),
                        });
                    }
                    let is_held = rollout_of(object).spec.paused;
                    Ok(Plan {
                        write: Write::Merge(patches::pause()),
                        done: format!("rollout '{name}' paused"),
                        nothing: is_held.then(|| {
                            format!("rollout '{name}' is already paused: nothing to pause")
                        }),
                    })
                },
            )
            .await
    }
}
