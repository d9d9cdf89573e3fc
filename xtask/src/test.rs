//! `cargo xtask test`: every test there is, in one go.

use crate::run::{self, Outcome, cargo};
use crate::setup;

/// Runs all tests of the workspace, or those that the arguments select.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    setup::need(&[setup::COMPILER, setup::PROMETHEUS])?;
    if arguments.is_empty() {
        run::run(cargo().args(["test", "--workspace", "--no-fail-fast"]))
    } else {
        run::run(cargo().arg("test").args(arguments))
    }
}
