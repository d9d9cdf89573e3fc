//! Tells the binary what it was built from, for `crossfade version`.

use std::process::Command;

fn main() {
    let commit = output("git", &["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let state = match output("git", &["status", "--porcelain", "--untracked-files=no"]) {
        None => "unknown",
        Some(changes) if changes.is_empty() => "clean",
        Some(_) => "dirty",
    };
    // The time of the commit, not of the build: the same source gives the same binary.
    let date = output(
        "git",
        &[
            "show",
            "--no-patch",
            "--format=%cd",
            "--date=format-local:%Y-%m-%dT%H:%M:%SZ",
            "HEAD",
        ],
    );
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let compiler = output(&rustc, &["--version"]);
    let compiler = compiler
        .as_deref()
        .map(|text| text.split(" (").next().unwrap_or(text));
    println!("cargo::rustc-env=CROSSFADE_COMMIT={commit}");
    println!("cargo::rustc-env=CROSSFADE_TREE_STATE={state}");
    println!(
        "cargo::rustc-env=CROSSFADE_BUILD_DATE={}",
        date.as_deref().unwrap_or("unknown")
    );
    println!(
        "cargo::rustc-env=CROSSFADE_COMPILER={}",
        compiler.unwrap_or("rustc")
    );
    println!("cargo::rerun-if-changed=build.rs");
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = output("git", &["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What a command prints, without the last line end; nothing when it fails or is not there.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
