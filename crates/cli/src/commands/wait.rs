//! `crossfade wait`: wait for a state, for pipelines.

use std::time::Duration;

use clap::Args;
use crossfade_host::store::Kind;
use serde_json::json;

use crate::canary;
use crate::context::Context;
use crate::error::Result;
use crate::follow::Journey;
use crate::global::go_duration;
use crate::goal::Goal;
use crate::output::{document, object_name};
use crate::target;
use crate::terminal;
use crate::view::phase::Standing;

/// Wait until a release reaches a state
///
/// States: `healthy` (the newest version is promoted), `paused`, `step=N` (step index N or a later one), `weight=N` (the canary has
/// at least this weight), `revision=N` (the Rollout works on this revision or a later one). Exit code 0 when it is reached, 3 when the
/// release is Degraded, 4 when the time is up, 5 when there is no such Rollout, 7 when only a person can lead to `healthy`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Wait {
    /// Rollout or Canary to wait for: NAME or TYPE/NAME
    #[arg(value_name = "NAME", required = true, num_args = 1..=2)]
    names: Vec<String>,
    /// State to wait for: healthy, paused, step=N, weight=N or revision=N
    #[arg(
        long = "for",
        value_name = "STATE",
        default_value = "healthy",
        hide_default_value = true
    )]
    goal: Goal,
    /// Longest time to wait, for example 5m; 0 means without an end
    #[arg(short, long, value_name = "DURATION", default_value = "0s", hide_default_value = true, value_parser = go_duration)]
    timeout: Duration,
    /// Do not stop at a pause that only a person ends
    #[arg(long = "wait-through-pauses")]
    through_pauses: bool,
}

impl Wait {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let client = context.client()?;
        let target = target::release(&self.names, context, &client).await?;
        let name = target.name;
        if target.kind == Kind::Canary {
            let journey = canary::Journey {
                name: &name,
                goal: self.goal.clone(),
                timeout: (!self.timeout.is_zero()).then_some(self.timeout),
                through_pauses: self.through_pauses,
            };
            return journey.follow(context, &client).await;
        }
        let journey = Journey {
            timeout: (!self.timeout.is_zero()).then_some(self.timeout),
            through_pauses: self.through_pauses,
            ..Journey::to(&name, self.goal.clone())
        };
        let output = &context.global.output;
        let for_people = output.is_for_people();
        let mut say = |line: &str| {
            if for_people {
                terminal::line(line)
            } else {
                Ok(())
            }
        };
        let rollout = journey.follow(context, &client, &mut say).await?;
        if for_people {
            return Ok(());
        }
        let standing = Standing::of(&rollout);
        let body = json!({"name": name, "namespace": context.namespace(), "phase": standing.word(), "message": standing.message});
        output.print(
            &document("RolloutStatus", &body)?,
            &[object_name(Kind::Rollout, &name)],
        )
    }
}
