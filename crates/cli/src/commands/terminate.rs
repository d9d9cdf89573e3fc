//! `crossfade terminate`: end a run early.

use clap::Args;
use crossfade_host::store::Kind;

use crate::act::{Acting, Action, Plan, Write};
use crate::context::Context;
use crate::error::Result;
use crate::patches;

/// End an analysis run or an experiment early
///
/// What was measured so far decides how it ends; measurements under way are called off.
#[derive(Args, Clone, Debug)]
pub(crate) struct Terminate {
    /// What to end: TYPE and names, or TYPE/NAME; types are analysisrun (ar) and experiment (exp)
    #[arg(value_name = "TYPE NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    acting: Acting,
}

impl Terminate {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let action = Action {
            verb: "terminate",
            kinds: &[Kind::AnalysisRun, Kind::Experiment],
        };
        action
            .run(
                context,
                &self.names,
                &self.acting,
                async |_, target, object| {
                    let name = &target.name;
                    let word = if target.kind == Kind::Experiment {
                        "experiment"
                    } else {
                        "analysisRun"
                    };
                    let phase = object["status"]["phase"].as_str().unwrap_or_default();
                    let is_over =
                        ["Successful", "Failed", "Error", "Inconclusive"].contains(&phase);
                    Ok(Plan {
                        write: Write::Merge(patches::terminate()),
                        done: format!("{word} '{name}' terminated"),
                        nothing: is_over.then(|| {
                            format!("{word} '{name}' has ended {phase}: nothing to terminate")
                        }),
                    })
                },
            )
            .await
    }
}
