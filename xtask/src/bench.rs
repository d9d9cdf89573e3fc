//! `cargo xtask bench NAME`: measurements with a stated bound, as a table and as `target/bench/NAME.json`.

use clap::ValueEnum;

use crate::run::{self, Outcome, cargo};
use crate::setup;

/// What can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Name {
    /// Passes a second of the engine, and what an idle pass allocates
    Engine,
    /// The data plane beside HAProxy and nginx, and how soon a weight is obeyed
    Proxy,
    /// Simulated releases a second, and whether every invariant held in them
    Sim,
}

/// Runs one measurement.
pub(crate) fn run(name: Name, arguments: &[String]) -> Outcome {
    setup::need(&[setup::COMPILER])?;
    match name {
        Name::Engine => example("crossfade-engine", "bench", arguments),
        Name::Proxy => {
            setup::need(&[setup::HAPROXY, setup::NGINX, setup::WRK])?;
            example("crossfade-host", "bench_proxy", arguments)
        }
        Name::Sim => example("crossfade-sim", "bench_sim", arguments),
    }
}

/// Builds and runs the measuring program of a room, as in a release.
fn example(package: &str, name: &str, arguments: &[String]) -> Outcome {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--release", "--package", package])
        .args(["--example", name, "--"])
        .args(arguments);
    run::run(&mut command)
}
