//! The commands, one file each: arguments, whose doc comments are the help, then what they do.

pub(crate) mod abort;
pub(crate) mod apply;
pub(crate) mod approve;
pub(crate) mod audit;
pub(crate) mod completion;
pub(crate) mod controller;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod gate;
pub(crate) mod gates;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod host;
pub(crate) mod install;
pub(crate) mod lint;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod promote;
pub(crate) mod proxy;
pub(crate) mod query;
pub(crate) mod reject;
pub(crate) mod restart;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod rollback;
pub(crate) mod set_image;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod terminate;
pub(crate) mod undo;
pub(crate) mod version;
pub(crate) mod wait;

use clap::Subcommand;
use crossfade_api::{Resource, Rollout};
use serde_json::Value;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Command {
    Host(host::Host),
    Controller(controller::Controller),
    Gates(gates::Gates),
    Apply(apply::Apply),
    Delete(delete::Delete),
    Get(get::Get),
    List(list::List),
    Status(status::Status),
    Explain(explain::Explain),
    Wait(wait::Wait),
    History(history::History),
    Events(events::Events),
    Logs(logs::Logs),
    Audit(audit::Audit),
    Query(query::Query),
    Gate(gate::Gate),
    Approve(approve::Approve),
    Reject(reject::Reject),
    Promote(promote::Promote),
    Abort(abort::Abort),
    Retry(retry::Retry),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Undo(undo::Undo),
    Rollback(rollback::Rollback),
    Set(set_image::Set),
    Restart(restart::Restart),
    Terminate(terminate::Terminate),
    Create(create::Create),
    Lint(lint::Lint),
    Simulate(simulate::Simulate),
    Install(install::Install),
    Uninstall(install::Uninstall),
    Crds(install::Crds),
    Completion(completion::Completion),
    Version(version::Version),
    Demo(crate::demo::Demo),
    #[command(hide = true)]
    Sample(crate::demo::Sample),
    #[command(hide = true)]
    Ask(crate::demo::Ask),
    #[command(hide = true)]
    Proxy(proxy::Proxy),
    #[command(hide = true)]
    Docs(docs::Docs),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<()> {
        match self {
            Self::Host(role) => role.run(),
            Self::Controller(role) => role.run(context),
            Self::Gates(role) => role.run(context),
            Self::Demo(demo) => demo.run(),
            Self::Sample(sample) => sample.run(),
            Self::Ask(ask) => ask.run(),
            Self::Proxy(role) => role.run(),
            Self::Completion(command) => command.run(context),
            Self::Simulate(command) => command.run(context),
            Self::Docs(command) => command.run(),
            Self::Crds(_) => install::Crds::run(),
            other => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let runtime =
                    runtime.map_err(|error| CliError::failure(format!("cannot start: {error}")))?;
                runtime.block_on(async {
                    tokio::select! {
                        done = other.ask(context) => done,
                        _ = tokio::signal::ctrl_c() => Err(CliError::silent(exit::INTERRUPTED)),
                    }
                })
            }
        }
    }

    /// Does what the host is asked for.
    async fn ask(&self, context: &Context) -> Result<()> {
        match self {
            Self::Host(_)
            | Self::Controller(_)
            | Self::Gates(_)
            | Self::Demo(_)
            | Self::Sample(_)
            | Self::Ask(_)
            | Self::Proxy(_)
            | Self::Completion(_)
            | Self::Simulate(_)
            | Self::Docs(_)
            | Self::Crds(_) => Ok(()),
            Self::Apply(command) => command.run(context).await,
            Self::Delete(command) => command.run(context).await,
            Self::Get(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Status(command) => command.run(context).await,
            Self::Explain(command) => command.run(context).await,
            Self::Wait(command) => command.run(context).await,
            Self::History(command) => command.run(context).await,
            Self::Events(command) => command.run(context).await,
            Self::Logs(command) => command.run(context).await,
            Self::Audit(command) => command.run(context).await,
            Self::Query(command) => command.run(context).await,
            Self::Gate(command) => command.run(context).await,
            Self::Approve(command) => command.run(context).await,
            Self::Reject(command) => command.run(context).await,
            Self::Promote(command) => command.run(context).await,
            Self::Abort(command) => command.run(context).await,
            Self::Retry(command) => command.run(context).await,
            Self::Pause(command) => command.run(context).await,
            Self::Resume(command) => command.run(context).await,
            Self::Undo(command) => command.run(context).await,
            Self::Rollback(command) => command.run(context).await,
            Self::Set(command) => command.run(context).await,
            Self::Restart(command) => command.run(context).await,
            Self::Terminate(command) => command.run(context).await,
            Self::Create(command) => command.run(context).await,
            Self::Lint(command) => command.run(context).await,
            Self::Install(command) => command.run(context).await,
            Self::Uninstall(command) => command.run(context).await,
            Self::Version(command) => command.run(context).await,
        }
    }
}

/// An object of the server as a Rollout; what cannot be read of it is left out.
pub(crate) fn rollout_of(object: Value) -> Rollout {
    Rollout::from_json(object).0
}
