//! `cargo xtask demo`: builds the release binary and lets it show its main job.

use std::process::Command;

use crate::run::{self, Outcome, cargo, root};
use crate::setup;

/// Builds and runs `crossfade demo` with these arguments.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    setup::need(&[setup::COMPILER])?;
    // The fast profile: full optimisation for the whole program would cost a newcomer minutes and show nothing more.
    run::run(cargo().args(["build", "--profile", "fast", "--package", "crossfade"]))?;
    run::run(
        Command::new(root().join("target/fast/crossfade"))
            .arg("demo")
            .args(arguments),
    )
}
