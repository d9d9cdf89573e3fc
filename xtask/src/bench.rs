//! `cargo xtask bench NAME`: measurements with a stated bound, as a table and as `target/bench/NAME.json`.

use clap::ValueEnum;

use crate::run::{self, Outcome, cargo};
use crate::setup;

/// What can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Name {
    /// Passes a second of the engine, and what an idle pass allocates
    Engine,
}

/// Runs one measurement.
pub(crate) fn run(name: Name, arguments: &[String]) -> Outcome {
    setup::need(&[setup::COMPILER])?;
    match name {
        Name::Engine => run::run(
            cargo()
                .args([
                    "run",
                    "--quiet",
                    "--release",
                    "--package",
                    "crossfade-engine",
                    "--example",
                    "bench",
                    "--",
                ])
                .args(arguments),
        ),
    }
}
