//! `crossfade explain`: why a release stands where it stands.

use clap::Args;
use crossfade_host::store::Kind;

use crate::commands::status::one_rollout;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::{document, object_name};
use crate::target;
use crate::terminal;
use crate::view::explanation;
use jiff::Timestamp;

/// Say in words why a release stands where it stands
///
/// Names the step, everything that is waited for with its present value, limit and since when, the gates, and the command that would move it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Explain {
    /// Rollout to explain: NAME or TYPE/NAME
    #[arg(value_name = "NAME", required = true, num_args = 1..=2)]
    names: Vec<String>,
}

impl Explain {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let name = one_rollout(&self.names, context)?;
        let client = context.client()?;
        let namespace = context.namespace();
        let found = match client.explain(namespace, &name).await {
            Ok(found) => found,
            Err(error) => {
                let error = CliError::from(error);
                return Err(
                    target::with_nearest(error, &client, Kind::Rollout, namespace, &name).await,
                );
            }
        };
        if context.global.output.is_for_people() {
            let text = explanation::text(&found, context.terminal.look, Timestamp::now());
            return terminal::print(&text);
        }
        let document = document("Explanation", &found)?;
        context
            .global
            .output
            .print(&document, &[object_name(Kind::Rollout, &name)])
    }
}
