//! `crossfade status`: follow a release to its end.

use std::time::Duration;

use clap::{ArgAction, Args};
use crossfade_api::rollout_status::RolloutPhase;
use crossfade_api::{Canary, Resource as _};
use crossfade_host::client::Client;
use serde_json::json;

use crate::canary;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::follow::{self, Journey};
use crate::global::go_duration;
use crate::goal::Goal;
use crate::output::{document, object_name};
use crate::read;
use crate::target;
use crate::terminal;
use crate::view::phase::Standing;
use crossfade_host::store::Kind;

/// Follow a release to its end, or show once how it stands
///
/// Prints a line whenever the state changes and ends when the release is Healthy (exit code 0) or Degraded (3). At a pause that only
/// a person ends it stops with 7, unless told to wait through pauses. Right after a change it does not report the old success: nothing
/// counts before the newest spec has been looked at.
#[derive(Args, Clone, Debug)]
pub(crate) struct Status {
    /// Rollout or Canary to follow: NAME or TYPE/NAME
    #[arg(value_name = "NAME", required = true, num_args = 1..=2)]
    names: Vec<String>,
    /// Wait for the end; with --watch=false show the present state once
    #[arg(short, long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    watch: bool,
    /// Longest time to wait, for example 5m; 0 means without an end
    #[arg(short, long, value_name = "DURATION", default_value = "0s", hide_default_value = true, value_parser = go_duration)]
    timeout: Duration,
    /// Do not stop at a pause that only a person ends
    #[arg(long)]
    wait_through_pauses: bool,
    /// Nothing counts before the Rollout works on this revision
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    /// Nothing counts before the Rollout works on this image
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
}

impl Status {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let client = context.client()?;
        let target = target::release(&self.names, context, &client).await?;
        if target.kind == Kind::Canary {
            return self.of_canary(context, &client, &target.name).await;
        }
        let name = target.name;
        if !self.watch {
            let rollout = match read::rollout(context, &client, &name).await {
                Err(error) if !context.is_full() && error.code == crate::exit::NOT_FOUND => {
                    return Err(read::not_found(context, Kind::Rollout, &name));
                }
                rollout => rollout?,
            };
            let standing = Standing::of(&rollout);
            print(context, &name, &standing)?;
            return match standing.phase {
                RolloutPhase::Degraded => Err(follow::degraded(context, &name, &standing.message)),
                _ => Ok(()),
            };
        }
        let journey = Journey {
            timeout: (!self.timeout.is_zero()).then_some(self.timeout),
            through_pauses: self.wait_through_pauses || !context.is_full(),
            revision: self.revision,
            image: self.image.clone(),
            timeout_text: Some("Rollout status watch exceeded timeout"),
            ..Journey::to(&name, Goal::Healthy)
        };
        let for_people = context.global.output.is_for_people();
        let mut say = |line: &str| {
            if for_people {
                terminal::line(line)
            } else {
                Ok(())
            }
        };
        let rollout = journey.follow(context, &client, &mut say).await?;
        if for_people {
            Ok(())
        } else {
            print(context, &name, &Standing::of(&rollout))
        }
    }
}

impl Status {
    async fn of_canary(&self, context: &Context, client: &Client, name: &str) -> Result<()> {
        if !self.watch {
            let object = read::object(context, client, Kind::Canary, name).await?;
            return canary::print(context, &Canary::from_json(object).0);
        }
        let journey = canary::Journey {
            name,
            goal: Goal::Healthy,
            timeout: (!self.timeout.is_zero()).then_some(self.timeout),
            through_pauses: self.wait_through_pauses,
        };
        journey.follow(context, client).await
    }
}

/// The Rollout that the words name.
pub(crate) fn one_rollout(words: &[String], context: &Context) -> Result<String> {
    let targets = target::for_action(words, &[Kind::Rollout], context)?;
    match targets.as_slice() {
        [target] => Ok(target.name.clone()),
        _ => Err(CliError::arguments()),
    }
}

fn print(context: &Context, name: &str, standing: &Standing) -> Result<()> {
    let output = &context.global.output;
    if output.is_for_people() {
        // The reference prints a lone word for these two, whatever the message.
        return terminal::line(&match standing.phase {
            RolloutPhase::Healthy | RolloutPhase::Degraded => standing.word().to_owned(),
            _ => format!("{} - {}", standing.word(), standing.message),
        });
    }
    let body = json!({"name": name, "namespace": context.namespace(), "phase": standing.word(), "message": standing.message});
    output.print(
        &document("RolloutStatus", &body)?,
        &[object_name(Kind::Rollout, name)],
    )
}
