//! Runs other programs and turns a bad end into a sentence.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a developer command ends with: nothing, or a sentence that says what to do.
pub(crate) type Outcome = Result<(), String>;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A cargo command in the workspace, by the cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end, its output going to ours.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let words = describe(command);
    let status = command
        .status()
        .map_err(|why| format!("`{words}` could not be started: {why}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{words}` ended with {status}"))
    }
}

/// Runs a command and shows its output only if it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Outcome {
    text_of(command).map(drop)
}

/// Runs a command and returns what it writes to its standard output.
pub(crate) fn text_of(command: &mut Command) -> Result<String, String> {
    let words = describe(command);
    let output = command
        .output()
        .map_err(|why| format!("`{words}` could not be started: {why}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Err(format!("`{words}` ended with {}:\n{text}", output.status))
}

/// True if a program of this name is on the search path.
pub(crate) fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|folder| folder.join(program).is_file())
    })
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}
