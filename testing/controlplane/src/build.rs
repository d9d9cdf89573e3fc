//! Programs of the Go toolchain for tests, each kept under `target` by what it was built from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

/// The version that its API server gives itself, that of `k8s.io/kubernetes` in `go.mod`. Some clients refuse one without.
const KUBERNETES: (&str, &str, &str) = ("1", "36", "v1.36.3");

/// What a machine without a usable Go is told.
const NO_GO: &str = "some tests on a cluster need Go: please install Go 1.26 or later from https://go.dev/dl (unpack it to /usr/local/go and add \
     /usr/local/go/bin to PATH), or `apt-get install golang-go` where that is 1.21 or later, which fetches 1.26 by itself";

/// A program that is written in Go.
#[derive(Clone, Debug)]
pub struct GoProgram {
    /// Its name, and that of its folder under `target`.
    pub name: &'static str,
    /// The folder of its module.
    pub sources: PathBuf,
    /// What the linker writes into it, as `name=value`.
    pub stamps: Vec<String>,
}

/// The path of the control plane's program, built first if that has not been done from these sources.
///
/// # Errors
/// A sentence: there is no Go, or it could not build.
pub fn build() -> Result<PathBuf, String> {
    let (major, minor, version) = KUBERNETES;
    let stamps = [
        ("gitMajor", major),
        ("gitMinor", minor),
        ("gitVersion", version),
    ];
    let program = GoProgram {
        name: "controlplane",
        sources: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        stamps: stamps
            .map(|(name, value)| format!("k8s.io/component-base/version.{name}={value}"))
            .into(),
    };
    program.build()
}

impl GoProgram {
    /// The path of the program, built first if that has not been done from these sources. Several processes may ask at once; one builds.
    ///
    /// # Errors
    /// A sentence: there is no Go, or it could not build.
    pub fn build(&self) -> Result<PathBuf, String> {
        let folder = self.kept_in().join(self.digest()?);
        let program = folder.join(self.name);
        if program.is_file() {
            return Ok(program);
        }
        let told = |why: std::io::Error| format!("{}: {why}", folder.display());
        fs::create_dir_all(&folder).map_err(told)?;
        let lock = File::create(folder.join("lock")).map_err(told)?;
        lock.lock().map_err(told)?;
        if !program.is_file() {
            self.compile(&folder, &program)?;
        }
        Ok(program)
    }

    fn kept_in(&self) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = std::env::var_os("CARGO_TARGET_DIR");
        let target = target.map_or_else(|| root.join("target"), |folder| root.join(folder));
        target.join(self.name)
    }

    /// Names what the program is built from.
    fn digest(&self) -> Result<String, String> {
        let told = |why: std::io::Error| format!("{}: {why}", self.sources.display());
        let mut files: Vec<PathBuf> = fs::read_dir(&self.sources)
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

    fn compile(&self, folder: &Path, program: &Path) -> Result<(), String> {
        let found = Command::new("go")
            .arg("version")
            .stdin(Stdio::null())
            .output();
        if !found.is_ok_and(|found| found.status.success()) {
            return Err(NO_GO.to_owned());
        }
        let stamps = self.stamps.iter().map(|stamp| format!(" -X {stamp}"));
        // Made under another name and put in place whole, so that a build that was cut short is never taken for one.
        let unfinished = folder.join("unfinished");
        // Everything else on the machine goes first: a build from nothing takes minutes.
        let output = Command::new("nice")
            .args(["go", "build", "-mod=readonly"])
            .arg(format!("-ldflags=-s -w{}", stamps.collect::<String>()))
            .arg("-o")
            .arg(&unfinished)
            .arg(".")
            .current_dir(&self.sources)
            .env("CGO_ENABLED", "0")
            // A Go that is older than the module asks for may fetch the one it needs.
            .env("GOTOOLCHAIN", "auto")
            .stdin(Stdio::null())
            .output()
            .map_err(|why| format!("`go build` could not be started: {why}"))?;
        if !output.status.success() {
            return Err(format!(
                "{} could not be built ({}):\n{}\n{NO_GO}",
                self.name,
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        fs::rename(&unfinished, program).map_err(|why| format!("{}: {why}", program.display()))
    }
}
