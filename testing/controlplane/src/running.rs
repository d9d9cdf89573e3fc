//! A control plane that runs as our child.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::build::build;

/// What a control plane tells about itself when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// A kubeconfig with one context for each of [`crate::ACTORS`].
    pub kubeconfig: PathBuf,
    /// The address of the API server.
    pub server: String,
    /// What the API server calls itself, for example `v1.36.3`.
    pub version: String,
    /// The log of requests by Crossfade and by service accounts: one JSON object a line, the bodies of writes included.
    pub audit: PathBuf,
    /// The data folder, the components' logs included.
    pub folder: PathBuf,
    /// Process ids by component.
    pub processes: BTreeMap<String, u32>,
}

/// A control plane of one's own. It ends when this is dropped, and also when this process is killed.
#[derive(Debug)]
pub struct ControlPlane {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    ready: Ready,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: String,
}

impl ControlPlane {
    /// Starts one and waits until it is ready, some seconds; builds the program first where that is still to be done, which takes minutes.
    ///
    /// With `KUBEBUILDER_ASSETS` the programs in that folder run instead of our own, as far as it has them.
    ///
    /// # Errors
    /// A sentence; what the components said last is on standard error.
    pub fn start() -> Result<Self, String> {
        Self::run(Command::new(build()?))
    }

    /// The same one for many tests at once, which have memory to spare but no cores: it collects its garbage less often.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_for_many() -> Result<Self, String> {
        let mut command = Command::new(build()?);
        command.env("GOGC", "400");
        Self::run(command)
    }

    fn run(mut command: Command) -> Result<Self, String> {
        if let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS") {
            command.arg("--assets").arg(folder);
        }
        let program = PathBuf::from(command.get_program());
        let told = |why: std::io::Error| format!("{}: {why}", program.display());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(told)?;
        let commands = child.stdin.take();
        let output = child.stdout.take().ok_or("it has no standard output")?;
        let mut answers = BufReader::new(output);
        let mut line = String::new();
        answers.read_line(&mut line).map_err(told)?;
        let Ok(ready) = serde_json::from_str(&line) else {
            drop(commands);
            let end = child.wait().map_err(told)?;
            return Err(format!("the control plane did not start ({end}): {line}"));
        };
        Ok(Self {
            child,
            commands,
            answers,
            ready,
        })
    }

    /// What it told about itself.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Orders a fault and waits until it has happened: `stop COMPONENT`, `start COMPONENT` (`etcd`, `kube-apiserver`,
    /// `kube-controller-manager`) or `compact`.
    ///
    /// # Errors
    /// A sentence that says why it did not happen.
    pub fn order(&mut self, command: &str) -> Result<(), String> {
        let told = |why: std::io::Error| format!("{command}: {why}");
        let commands = self.commands.as_mut().ok_or("it is ending")?;
        writeln!(commands, "{command}").map_err(told)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(told)?;
        let answer: Answer =
            serde_json::from_str(&line).map_err(|why| format!("{command}: {why}: {line}"))?;
        if answer.error.is_empty() {
            Ok(())
        } else {
            Err(format!("{command}: {}", answer.error))
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // The end of its standard input is what it ends by.
        self.commands = None;
        let _ = self.child.wait();
    }
}
