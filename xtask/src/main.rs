//! Developer commands, the same on every machine: `cargo xtask demo | test | lint | bench`.
//!
//! Each sets up what it needs on a fresh Debian machine (see [`setup`]) and prints the output of what it runs.
#![expect(clippy::print_stderr, reason = "developer commands talk to a terminal")]

mod bench;
mod demo;
mod generate;
mod lint;
mod run;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Crossfade's developer commands
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the main job on this machine, start to end
    ///
    /// Builds the release binary and runs `crossfade demo` with the arguments given.
    Demo {
        /// Arguments for `crossfade demo`, for example `--report report.json` or `--keep`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run every test there is
    Test {
        /// Arguments for `cargo test`, for example `-p crossfade-engine canary`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check format, lints, documentation, licences and generated files
    Lint {
        /// Mend what can be mended: format, generated files
        #[arg(long)]
        fix: bool,
    },
    /// Measure against a stated bound
    Bench {
        /// What to measure
        name: bench::Name,
        /// Arguments for the measurement
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo { arguments } => demo::run(&arguments),
        Command::Test { arguments } => test::run(&arguments),
        Command::Lint { fix } => lint::run(fix),
        Command::Bench { name, arguments } => bench::run(name, &arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("Error: {why}");
            ExitCode::FAILURE
        }
    }
}
