//! `cargo xtask test`: every test there is, in one go.

use std::thread;

use crossfade_test_controlplane::{ControlPlane, SHARED, build};

use crate::run::{self, Outcome, cargo};
use crate::setup;

/// Runs all tests of the workspace, or those that the arguments select. All share one control plane; a selection starts one when it needs it.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    setup::need(&[setup::COMPILER, setup::PROMETHEUS])?;
    if !arguments.is_empty() {
        return run::run(cargo().arg("test").args(arguments));
    }
    // From nothing, each takes minutes.
    let program = thread::spawn(|| build().and_then(|_| crossfade_test_render::build()));
    run::run(cargo().args(["test", "--workspace", "--no-run"]))?;
    let built = program.join();
    built.map_err(|_| "the build of the programs in Go broke off")??;
    let plane = ControlPlane::start()?;
    let told = serde_json::to_string(plane.ready()).map_err(|why| why.to_string())?;
    run::run(
        cargo()
            .args(["test", "--workspace", "--no-fail-fast"])
            .env(SHARED, told),
    )
}
