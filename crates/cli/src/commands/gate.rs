//! `crossfade gate`: look at gates, open and close them, and ask whether a service may be changed.

mod change;
mod check;
mod show;
mod way;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::Result;

/// Look at the gates of Canaries, open and close them
///
/// A gate is asked by the hooks of a Canary before its release moves on. Gates are found beside the Canaries of the cluster or host that commands talk
/// to, or, with --gates, in a server's file or at a running server.
#[derive(Args, Clone, Debug)]
pub(crate) struct Gate {
    #[command(subcommand)]
    what: What,
}

/// Where gates are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// Where gates are: http(s)://ADDRESS of a server, or sqlite:FILE; CROSSFADE_GATES when not given, else the cluster or host
    ///
    /// A server is shown the token of --token.
    #[arg(long, value_name = "URL|STORE")]
    gates: Option<String>,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    List(show::List),
    Open(change::Open),
    Close(change::Close),
    Status(show::Status),
    History(show::History),
    Check(check::Check),
}

impl Gate {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        match &self.what {
            What::List(command) => command.run(context).await,
            What::Open(command) => command.run(context).await,
            What::Close(command) => command.run(context).await,
            What::Status(command) => command.run(context).await,
            What::History(command) => command.run(context).await,
            What::Check(command) => command.run(context).await,
        }
    }
}
