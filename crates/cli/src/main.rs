//! The `crossfade` binary: the command line of releases, on one machine and as a kubectl plugin.
//!
//! A command line becomes a [`cli::Cli`], a [`context::Context`] says where results go and which host is meant, and each command in
//! [`commands`] does one thing. What people see is drawn in [`view`], without knowing where it came from.

mod act;
mod cli;
mod commands;
mod context;
mod documents;
mod error;
mod exit;
mod feed;
mod follow;
mod global;
mod goal;
mod invocation;
mod jsonpath;
mod output;
mod patches;
mod read;
mod target;
mod terminal;
mod usage;
mod view;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind;

use cli::Cli;
use context::Context;
use error::{ARGUMENTS, CliError, Result};
use invocation::{Invocation, Mode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let program = arguments
        .first()
        .map_or(OsStr::new(""), OsString::as_os_str);
    let mode = match Invocation::of(program) {
        Invocation::Command(mode) => mode,
        Invocation::Complete => Mode::Plugin,
    };
    ExitCode::from(run(mode, &arguments))
}

/// Runs a command line and gives its exit code.
fn run(mode: Mode, arguments: &[OsString]) -> u8 {
    let command = cli::command(mode);
    let matched = command.clone().try_get_matches_from(arguments);
    let parsed = matched.and_then(|matches| Cli::from_arg_matches(&matches));
    let result = match parsed {
        Ok(cli) => execute(mode, cli),
        Err(found) => match found.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // Whoever closes the pipe has read enough help.
                let _ = found.print();
                Ok(())
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(CliError::arguments()),
            _ => Err(usage::error(&found, mode)),
        },
    };
    let Err(error) = result else {
        return exit::DONE;
    };
    let words: Vec<_> = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let text = if usage::wants_json(&words) && !error.silent {
        error.json(mode)
    } else if error.reason == ARGUMENTS && (mode == Mode::Plugin || arguments.len() < 2) {
        usage::of_command(&command, &words)
    } else {
        error.text(mode)
    };
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
    error.exit_code(mode)
}

fn execute(mode: Mode, cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    let context = Context::new(mode, global);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failure(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        tokio::select! {
            done = command.run(&context) => done,
            _ = tokio::signal::ctrl_c() => Err(CliError::silent(exit::INTERRUPTED)),
        }
    })
}
