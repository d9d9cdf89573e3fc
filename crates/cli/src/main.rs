//! The `crossfade` binary: the command line of releases, on one machine and as a kubectl plugin.
//!
//! A command line becomes a [`cli::Cli`], a [`context::Context`] says where results go and which host is meant, and each command in
//! [`commands`] does one thing. What people see is drawn in [`view`], without knowing where it came from.

mod act;
mod canary;
mod cli;
mod cluster;
mod commands;
mod complete;
mod context;
mod demo;
mod documents;
mod error;
mod exit;
mod feed;
mod follow;
mod global;
mod goal;
mod hey;
mod invocation;
mod jsonpath;
mod lint;
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
use error::ARGUMENTS;
use invocation::{Invocation, Mode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = invocation::meant(std::env::args_os().collect());
    let program = arguments
        .first()
        .map_or(OsStr::new(""), OsString::as_os_str);
    match (
        Invocation::of(program),
        arguments.get(1).and_then(|word| word.to_str()),
    ) {
        // One of these runs beside each pod: it starts without anything that it does not need.
        (_, Some("shim")) => crossfade_host::supervisor::shim::run(arguments.into_iter().skip(2)),
        (Invocation::Load, _) => hey::run(arguments),
        (Invocation::Complete, _) => complete(Mode::Plugin, arguments.get(1..)),
        (Invocation::Command(mode), Some("__complete")) => complete(mode, arguments.get(2..)),
        (Invocation::Command(mode), _) => ExitCode::from(run(mode, &arguments)),
    }
}

/// Answers a shell, or kubectl, that completes a command line.
fn complete(mode: Mode, words: Option<&[OsString]>) -> ExitCode {
    let words: Vec<_> = words
        .unwrap_or_default()
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return ExitCode::FAILURE;
    };
    let answer = runtime.block_on(complete::answer(mode, &words));
    let written = std::io::stdout().write_all(answer.as_bytes());
    if written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a command line and gives its exit code.
fn run(mode: Mode, arguments: &[OsString]) -> u8 {
    let words: Vec<_> = arguments
        .iter()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // What describes the command line is large, and a controller or a host runs for months: it is made again for who needs it.
    let matched = cli::command(mode).try_get_matches_from(arguments);
    let parsed = matched.and_then(|matches| Cli::from_arg_matches(&matches));
    let result = match parsed {
        Ok(Cli { global, command }) => command.run(&Context::new(mode, global)),
        Err(found) => match found.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // Whoever closes the pipe has read enough help.
                let _ = found.print();
                Ok(())
            }
            _ => Err(usage::error(&found, mode, &cli::command(mode), &words)),
        },
    };
    let Err(error) = result else {
        return exit::DONE;
    };
    let text = if usage::wants_json(&words) && !error.silent {
        error.json(mode)
    } else if error.reason == ARGUMENTS && (mode == Mode::Plugin || words.is_empty()) {
        usage::of_command(&cli::command(mode), &words)
    } else {
        error.text(mode)
    };
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
    error.exit_code(mode)
}
