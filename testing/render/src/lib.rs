//! What Helm and kustomize make of the ways to install Crossfade. The program is Go (the file beside this crate), because theirs is.

use std::path::{Path, PathBuf};
use std::process::Command;

use crossfade_test_controlplane::GoProgram;

/// The path of the program, built first if need be.
///
/// # Errors
/// A sentence: there is no Go, or it could not build.
pub fn build() -> Result<PathBuf, String> {
    let program = GoProgram {
        name: "render",
        sources: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        stamps: Vec::new(),
    };
    program.build()
}

/// The manifests of a chart with these values (`name=value`), as of a release `crossfade` in the namespace `crossfade`.
///
/// # Errors
/// What Helm says.
pub fn helm(chart: &Path, values: &[&str]) -> Result<String, String> {
    render("helm", chart, values)
}

/// The manifests of a folder with a kustomization.
///
/// # Errors
/// What kustomize says.
pub fn kustomize(folder: &Path) -> Result<String, String> {
    render("kustomize", folder, &[])
}

fn render(how: &str, folder: &Path, values: &[&str]) -> Result<String, String> {
    let program = build()?;
    let output = Command::new(program)
        .arg(how)
        .arg(folder)
        .args(values)
        .output()
        .map_err(|why| why.to_string())?;
    if output.status.success() {
        String::from_utf8(output.stdout).map_err(|why| why.to_string())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
