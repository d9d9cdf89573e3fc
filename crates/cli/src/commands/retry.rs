//! `crossfade retry`: try an aborted update again.

use clap::Args;
use crossfade_host::store::Kind;

use crate::act::{Acting, Action, Plan, Write};
use crate::commands::rollout_of;
use crate::context::Context;
use crate::error::Result;
use crate::patches;

/// Try an aborted update, or a finished experiment, again
///
/// The update of a Rollout begins anew at its first step, with the same version. An experiment forgets everything that it has measured.
#[derive(Args, Clone, Debug)]
pub(crate) struct Retry {
    /// What to try again: NAME, TYPE/NAME, or TYPE and names; types are rollout (ro) and experiment (exp)
    #[arg(value_name = "[TYPE] NAME", required_unless_present_any = ["selector", "field_selector", "all"])]
    names: Vec<String>,
    #[command(flatten)]
    acting: Acting,
}

impl Retry {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let action = Action {
            verb: "retry",
            kinds: &[Kind::Rollout, Kind::Experiment],
        };
        action
            .run(
                context,
                &self.names,
                &self.acting,
                async |_, target, object| {
                    let name = &target.name;
                    if target.kind == Kind::Experiment {
                        let is_fresh = object["status"]
                            .as_object()
                            .is_none_or(serde_json::Map::is_empty);
                        return Ok(Plan {
                            write: Write::ForgetStatus,
                            done: format!("experiment '{name}' retried"),
                            nothing: is_fresh.then(|| {
                                format!("experiment '{name}' has not begun: nothing to retry")
                            }),
                        });
                    }
                    let is_aborted = rollout_of(object).status.abort;
                    Ok(Plan {
                        write: Write::Merge(patches::retry()),
                        done: format!("rollout '{name}' retried"),
                        nothing: (!is_aborted)
                            .then(|| format!("rollout '{name}' is not aborted: nothing to retry")),
                    })
                },
            )
            .await
    }
}
