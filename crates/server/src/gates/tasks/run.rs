//! One command: started in a process group of its own, read as far as is wanted, and ended with everything that it started.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a group that is told to end may take.
const GRACE: Duration = Duration::from_secs(5);
/// How long a group that was killed may take to be gone.
const GONE: Duration = Duration::from_secs(2);

/// What bounds a command.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// The longest that it may take.
    pub(super) time: Duration,
    /// So much of its output is kept, in bytes.
    pub(super) output: usize,
    /// Where programs are looked for; as this program does when absent.
    pub(super) path: Option<OsString>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// What it wrote, to either stream, in order.
    pub(super) output: String,
    /// Why it failed, if it did.
    pub(super) failure: Option<String>,
    /// One word for metrics: `ok`, `failed`, `timeout` or `cancelled`.
    pub(super) word: &'static str,
}

impl Ended {
    /// Ended well.
    pub(super) fn well(output: String) -> Self {
        Self {
            output,
            failure: None,
            word: "ok",
        }
    }

    /// Ended badly.
    pub(super) fn badly(output: String, why: String) -> Self {
        Self {
            output,
            failure: Some(why),
            word: "failed",
        }
    }
}

/// Runs a program to its end, to the end of its time, or until it is cancelled.
pub(super) async fn run(
    program: &str,
    arguments: &[&str],
    limits: &Limits,
    cancelled: &CancellationToken,
) -> Ended {
    let (child, output) = match start(program, arguments, limits) {
        Ok(started) => started,
        Err(why) => {
            return Ended::badly(String::new(), format!("{program} cannot be started: {why}"));
        }
    };
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut running = Running {
        child,
        group,
        output,
        kept: Vec::new(),
        most: limits.output,
        left_out: false,
        is_silent: false,
        status: None,
    };
    let ends = Instant::now() + limits.time;
    let (why, word) = tokio::select! {
        biased;
        status = running.ended() => return running.finish(status),
        () = cancelled.cancelled() => ("cancelled: nobody waits for it".to_owned(), "cancelled"),
        () = tokio::time::sleep_until(ends) => (format!("timed out after {:?}", limits.time), "timeout"),
    };
    running.end().await;
    Ended {
        word,
        ..Ended::badly(running.text(), why)
    }
}

fn start(program: &str, arguments: &[&str], limits: &Limits) -> std::io::Result<(Child, Receiver)> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    if let Some(path) = &limits.path {
        command.env("PATH", path);
    }
    let child = command.spawn()?;
    // The command holds our ends of the pipe: with them it would never be at its end.
    drop(command);
    Ok((child, Receiver::from_owned_fd(reader.into())?))
}

struct Running {
    child: Child,
    /// Its process group, which has the child's id; the child itself forgets it once it was waited for.
    group: Option<Pid>,
    output: Receiver,
    kept: Vec<u8>,
    most: usize,
    left_out: bool,
    /// Nobody has the other end of the pipe any more.
    is_silent: bool,
    status: Option<ExitStatus>,
}

impl Running {
    /// Until the command has ended, and whoever it left behind with its output, too.
    async fn ended(&mut self) -> ExitStatus {
        let mut piece = [0; 8192];
        loop {
            if let (true, Some(status)) = (self.is_silent, self.status) {
                return status;
            }
            tokio::select! {
                read = self.output.read(&mut piece), if !self.is_silent => match read {
                    Ok(0) | Err(_) => self.is_silent = true,
                    Ok(count) => self.keep(piece.get(..count).unwrap_or_default()),
                },
                status = self.child.wait(), if self.status.is_none() => {
                    // It cannot be waited for only when somebody else has done so.
                    self.status = Some(status.unwrap_or_default());
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.most.saturating_sub(self.kept.len());
        let fits = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.kept.extend_from_slice(fits);
        self.left_out |= fits.len() < bytes.len();
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A group that is gone has what it was to get.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Ends the group: first asked, then made to.
    async fn end(&mut self) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(GRACE, self.ended()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = tokio::time::timeout(GONE, self.ended()).await;
        }
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.left_out {
            text.push_str(&format!(
                "\n[output beyond {} bytes is left out]\n",
                self.most
            ));
        }
        text
    }

    fn finish(&self, status: ExitStatus) -> Ended {
        let output = self.text();
        if status.success() {
            return Ended::well(output);
        }
        let why = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal: {}", signal_name(signal)),
            (None, None) => status.to_string(),
        };
        Ended::badly(output, why)
    }
}

/// A signal as the reference names it.
fn signal_name(signal: i32) -> String {
    match signal {
        1 => "hangup".to_owned(),
        2 => "interrupt".to_owned(),
        3 => "quit".to_owned(),
        6 => "aborted".to_owned(),
        9 => "killed".to_owned(),
        11 => "segmentation fault".to_owned(),
        13 => "broken pipe".to_owned(),
        15 => "terminated".to_owned(),
        other => format!("signal {other}"),
    }
}
