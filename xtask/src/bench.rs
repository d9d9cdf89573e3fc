//! `cargo xtask bench NAME`: measurements with a stated bound, as a table and as `target/bench/NAME.json`.

use std::process::Command;

use clap::ValueEnum;

use crate::run::{self, Outcome, cargo, root};
use crate::setup;

/// What can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Name {
    /// Passes a second of the engine, and what an idle pass allocates
    Engine,
    /// The data plane beside HAProxy and nginx, and how soon a weight is obeyed
    Proxy,
    /// Canaries on a real control plane that all progress, and that all rest (`--count N`)
    Canaries,
    /// The controller on a real control plane: one update of a whole fleet (`--rollouts N`)
    Fleet,
    /// The controller killed in the middle of updates, again and again (`--kills N`)
    Kill,
    /// The controller's memory under updates without pause (`--minutes M`)
    Soak,
    /// How soon a controller is ready for very many objects (`--rollouts N`)
    Start,
    /// Simulated releases a second, and whether every invariant held in them
    Sim,
}

/// Runs one measurement.
pub(crate) fn run(name: Name, arguments: &[String]) -> Outcome {
    setup::need(&[setup::COMPILER])?;
    match name {
        Name::Engine => example("crossfade-engine", "bench", arguments),
        Name::Proxy => {
            setup::need(&[setup::HAPROXY, setup::NGINX, setup::WRK, setup::H2LOAD])?;
            example("crossfade-host", "bench_proxy", arguments)
        }
        Name::Canaries => cluster("canaries", arguments),
        Name::Fleet => cluster("fleet", arguments),
        Name::Kill => cluster("kill", arguments),
        Name::Soak => cluster("soak", arguments),
        Name::Start => cluster("start", arguments),
        Name::Sim => example("crossfade-sim", "bench_sim", arguments),
    }
}

/// Builds the program as in a release and measures it on a control plane.
fn cluster(bench: &str, arguments: &[String]) -> Outcome {
    // Both in one go: each alone would build what they share with other features.
    run::run(cargo().args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "crossfade",
        "--package",
        "crossfade-test-fleet",
    ]))?;
    let built = root().join("target/release");
    run::run(
        Command::new(built.join("bench-cluster"))
            .arg("--program")
            .arg(built.join("crossfade"))
            .arg("--folder")
            .arg(root().join("target/bench"))
            .arg(bench)
            .args(arguments),
    )
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
