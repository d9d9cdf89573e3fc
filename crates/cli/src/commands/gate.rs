//! `crossfade gate`: look at gates, open and close them, and ask whether a service may be changed.

pub(crate) mod answer;
pub(crate) mod asked;
pub(crate) mod change;
mod check;
mod show;
mod way;

use clap::{Args, Subcommand};
use crossfade_api::{Canary, Resource as _};
use crossfade_host::client::Client;
use crossfade_host::store::Kind;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::read;
use crate::target;

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

impl Place {
    /// Whether somebody has said where gates are.
    pub(crate) fn is_given(&self) -> bool {
        self.named().is_some()
    }

    /// What is named, by the option or the variable.
    fn named(&self) -> Option<String> {
        let variable = || std::env::var("CROSSFADE_GATES").ok();
        let named = self.gates.clone().or_else(variable);
        named.filter(|text| !text.is_empty())
    }
}

/// The Canary that a word means. A Rollout has no gates of this kind; people move it with another command.
pub(crate) async fn canary_named(
    word: &str,
    of_rollouts: &str,
    context: &Context,
    client: &Client,
) -> Result<Canary> {
    let target = target::release(&[word.to_owned()], context, client).await?;
    let (namespace, name) = (context.namespace(), &target.name);
    if target.kind == Kind::Rollout && client.get(Kind::Rollout, namespace, name).await.is_ok() {
        let text = format!("rollout '{name}' has no gates: only Canaries ask people through hooks");
        return Err(CliError::usage(text).hint(format!("crossfade {of_rollouts} {name}")));
    }
    let object = read::object(context, client, Kind::Canary, name).await?;
    Ok(Canary::from_json(object).0)
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
