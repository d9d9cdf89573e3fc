//! `crossfade version`: which build this is.

use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::error::Result;
use crate::invocation::Mode;
use crate::output::document;
use crate::terminal;

/// Show which build this is, and with --controller that of the host
#[derive(Args, Clone, Debug)]
pub(crate) struct Version {
    /// Only the first line
    #[arg(long)]
    short: bool,
    /// Also the version of the host
    #[arg(long)]
    controller: bool,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: &str = env!("CROSSFADE_COMMIT");
const TREE_STATE: &str = env!("CROSSFADE_TREE_STATE");
const BUILD_DATE: &str = env!("CROSSFADE_BUILD_DATE");
const COMPILER: &str = env!("CROSSFADE_COMPILER");

impl Version {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let host = if self.controller {
            Some(context.client()?.info().await?.version)
        } else {
            None
        };
        let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
        if !context.global.output.is_for_people() {
            let body = json!({"version": VERSION, "gitCommit": COMMIT, "gitTreeState": TREE_STATE, "buildDate": BUILD_DATE,
                "compiler": COMPILER, "platform": platform, "host": host});
            return context
                .global
                .output
                .print(&document("Version", &body)?, &[]);
        }
        let program = match context.mode {
            Mode::Plugin => "kubectl-argo-rollouts",
            Mode::Full => "crossfade",
        };
        let mut text = format!("{program}: {}\n", first_line());
        if !self.short {
            for (label, value) in [
                ("BuildDate", BUILD_DATE),
                ("GitCommit", COMMIT),
                ("GitTreeState", TREE_STATE),
                ("GoVersion", "n/a"),
                ("Compiler", COMPILER),
                ("Platform", &platform),
            ] {
                text.push_str(&format!("  {label}: {value}\n"));
            }
        }
        if let Some(host) = host {
            text.push_str(&format!("host: v{host}\n"));
        }
        terminal::print(&text)
    }
}

fn first_line() -> String {
    let short = COMMIT.get(..7).unwrap_or(COMMIT);
    let dirty = if TREE_STATE == "dirty" { ".dirty" } else { "" };
    format!("v{VERSION}+{short}{dirty}")
}
