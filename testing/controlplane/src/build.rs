//! The program of the control plane, built by the Go toolchain and kept under `target/controlplane` by what it was built from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

/// The version that its API server gives itself, that of `k8s.io/kubernetes` in `go.mod`. Some clients refuse one without.
const KUBERNETES: (&str, &str, &str) = ("1", "36", "v1.36.3");

/// What a machine without a usable Go is told.
const NO_GO: &str = "the control plane of the cluster tests is built with Go: please install Go 1.26 or later from https://go.dev/dl (unpack it to \
     /usr/local/go and add /usr/local/go/bin to PATH), or `apt-get install golang-go` where that is 1.21 or later, which fetches 1.26 by itself";

/// The path of the program, built first if that has not been done from these sources. Several processes may ask at once; one builds.
///
/// # Errors
/// A sentence: there is no Go, or it could not build.
pub fn build() -> Result<PathBuf, String> {
    let folder = kept_in().join(digest()?);
    let program = folder.join("controlplane");
    if program.is_file() {
        return Ok(program);
    }
    let told = |why: std::io::Error| format!("{}: {why}", folder.display());
    fs::create_dir_all(&folder).map_err(told)?;
    let lock = File::create(folder.join("lock")).map_err(told)?;
    lock.lock().map_err(told)?;
    if !program.is_file() {
        compile(&folder, &program)?;
    }
    Ok(program)
}

/// The folder of the Go module.
fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn kept_in() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || sources().join("../../target"),
        |folder| sources().join("../..").join(folder),
    );
    target.join("controlplane")
}

/// Names what the program is built from.
fn digest() -> Result<String, String> {
    let told = |why: std::io::Error| format!("{}: {why}", sources().display());
    let mut files: Vec<PathBuf> = fs::read_dir(sources())
        .map_err(told)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("go" | "mod" | "sum"))
        })
        .collect();
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        digest.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        digest.update(fs::read(&file).map_err(told)?);
    }
    let bytes = digest.finalize();
    Ok(bytes
        .iter()
        .take(8)
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

fn compile(folder: &Path, program: &Path) -> Result<(), String> {
    let found = Command::new("go")
        .arg("version")
        .stdin(Stdio::null())
        .output();
    if !found.is_ok_and(|found| found.status.success()) {
        return Err(NO_GO.to_owned());
    }
    let (major, minor, version) = KUBERNETES;
    let stamps = [
        ("gitMajor", major),
        ("gitMinor", minor),
        ("gitVersion", version),
    ]
    .map(|(name, value)| format!("-X k8s.io/component-base/version.{name}={value}"))
    .join(" ");
    // Made under another name and put in place whole, so that a build that was cut short is never taken for one.
    let unfinished = folder.join("unfinished");
    // Everything else on the machine goes first: a build from nothing takes minutes.
    let output = Command::new("nice")
        .args(["go", "build", "-mod=readonly"])
        .arg(format!("-ldflags=-s -w {stamps}"))
        .arg("-o")
        .arg(&unfinished)
        .arg(".")
        .current_dir(sources())
        .env("CGO_ENABLED", "0")
        // A Go that is older than the module asks for may fetch the one it needs.
        .env("GOTOOLCHAIN", "auto")
        .stdin(Stdio::null())
        .output()
        .map_err(|why| format!("`go build` could not be started: {why}"))?;
    if !output.status.success() {
        return Err(format!(
            "the control plane could not be built ({}):\n{}\n{NO_GO}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    fs::rename(&unfinished, program).map_err(|why| format!("{}: {why}", program.display()))
}
