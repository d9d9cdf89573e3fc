//! `crossfade promote`: move a release past its present step.

use clap::Args;
use crossfade_host::store::Kind;

use crate::act::{Acting, Action, Plan, Write};
use crate::commands::rollout_of;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::patches::{self, Promotion};
use crate::terminal;

/// Move a release past its present step
///
/// Ends the pause at which it stands, or skips the analysis that it is at. A release that waits for pods goes on waiting. `--full`
/// skips all remaining steps, pauses and analysis and promotes the new version at once; the audit trail says who did it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Promote {
    /// Rollouts to move: NAME or TYPE/NAME, one or more
    #[arg(value_name = "NAME", required_unless_present_any = ["selector", "field_selector", "all"])]
    names: Vec<String>,
    /// Skip the remaining steps and their analysis
    #[arg(long)]
    full: bool,
    /// Skip the present step (deprecated)
    #[arg(short = 'c', long, hide = true)]
    skip_current_step: bool,
    /// Skip all steps (deprecated)
    #[arg(short = 'a', long, hide = true)]
    skip_all_steps: bool,
    #[command(flatten)]
    acting: Acting,
}

impl Promote {
    fn how(&self) -> Result<Promotion> {
        match (self.skip_current_step, self.skip_all_steps, self.full) {
            (true, true, _) => Err(CliError::usage(
                "Cannot use skip-current-step and skip-all-steps flags at the same time",
            )),
            (true, false, _) => Ok(Promotion::SkipStep),
            (false, true, _) => Ok(Promotion::SkipAll),
            (false, false, true) => Ok(Promotion::Full),
            (false, false, false) => Ok(Promotion::Next),
        }
    }

    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        for (given, flag, letter) in [
            (self.skip_current_step, "skip-current-step", "c"),
            (self.skip_all_steps, "skip-all-steps", "a"),
        ] {
            if given {
                terminal::remark(&format!(
                    "Flag --{flag} (-{letter}) has been deprecated, use without the flag instead ex: {} promote ROLLOUT_NAME",
                    context.mode.command()
                ));
            }
        }
        let how = self.how()?;
        let action = Action {
            verb: "promote",
            kinds: &[Kind::Rollout],
        };
        action
            .run(
                context,
                &self.names,
                &self.acting,
                async |_, target, object| {
                    let name = &target.name;
                    let rollout = rollout_of(object);
                    let change = patches::promote(&rollout, how)
                        .map_err(|text| CliError::new(crate::exit::REFUSED, text))?;
                    let nothing = patches::nothing_to_promote(&rollout, &change)
                        .map(|why| format!("rollout '{name}' {why}: nothing to promote"));
                    let word = if how == Promotion::Full {
                        "fully promoted"
                    } else {
                        "promoted"
                    };
                    Ok(Plan {
                        write: Write::MergeInPlace(change),
                        done: format!("rollout '{name}' {word}"),
                        nothing,
                    })
                },
            )
            .await
    }
}
