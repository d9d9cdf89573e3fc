//! `crossfade restart`: replace all pods.

use clap::Args;
use crossfade_host::store::Kind;
use jiff::{SignedDuration, Timestamp};

use crate::act::{Acting, Action, Plan, Write};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::patches;

/// Replace all pods, a few at a time
///
/// No new revision begins. Never more pods are missing at once than the strategy's maxUnavailable allows.
#[derive(Args, Clone, Debug)]
pub(crate) struct Restart {
    /// Rollouts whose pods are replaced: NAME or TYPE/NAME, one or more
    #[arg(value_name = "NAME", required_unless_present_any = ["selector", "field_selector", "all"])]
    names: Vec<String>,
    /// How long from now, for example 30s, 5m, 1h
    #[arg(
        short,
        long = "in",
        value_name = "DURATION",
        allow_hyphen_values = true
    )]
    after: Option<String>,
    #[command(flatten)]
    acting: Acting,
}

impl Restart {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let after = self.after.as_deref().unwrap_or("0s");
        let delay: SignedDuration = crossfade_api::duration::parse(after).map_err(|_| {
            CliError::usage(format!(
                "invalid duration \"{after}\" for --in: use for example 30s, 5m, 1h"
            ))
        })?;
        let at = Timestamp::now() + delay;
        let action = Action {
            verb: "restart",
            kinds: &[Kind::Rollout],
        };
        action
            .run(context, &self.names, &self.acting, async |_, target, _| {
                Ok(Plan {
                    write: Write::Merge(patches::restart(at)),
                    done: format!("rollout '{}' restarts in {after}", target.name),
                    nothing: None,
                })
            })
            .await
    }
}
