//! Processes of a pod: containers, and the commands of probes and hooks.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::super::plan::Rendered;
use super::reaper::{Exit, Leader, Reaper};

/// A process that was just started, and its outputs.
pub(super) struct Started {
    pub(super) leader: Leader,
    pub(super) outputs: [Option<OwnedFd>; 2],
}

/// Starts a command as leader of its own process group.
///
/// # Errors
/// In words, without the arguments and the environment, which may hold secrets.
pub(super) fn start(
    reaper: &Reaper,
    command: &[String],
    around: &Rendered,
) -> Result<Started, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("there is no command".to_owned());
    };
    if !around.working_dir.is_dir() {
        return Err(format!(
            "workingDir {} is not a folder of this machine",
            around.working_dir.display()
        ));
    }
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&around.environment)
        .current_dir(&around.working_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| explain(program, &error))?;
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or("the kernel gave no pid")?;
    let outputs = [
        child.stdout.map(OwnedFd::from),
        child.stderr.map(OwnedFd::from),
    ];
    Ok(Started {
        leader: reaper.adopt(pid),
        outputs,
    })
}

fn explain(program: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => {
            "there is no such file, or the interpreter it names is missing"
        }
        io::ErrorKind::NotFound => "it is in no folder of PATH",
        io::ErrorKind::PermissionDenied => "it is not executable for this user",
        _ => return format!("cannot start `{program}`: {error}"),
    };
    format!("cannot start `{program}`: {advice}")
}

/// How a command of a probe or hook ended.
pub(super) enum Ran {
    /// With this exit, having written this much of it.
    Ended(Exit, String),
    /// Not within its time; it has been killed.
    TooSlow,
}

/// Runs a command to its end, or kills it and all of its group when its time is over or nobody waits any more.
pub(super) async fn run(
    reaper: &Reaper,
    command: &[String],
    around: &Rendered,
    within: Duration,
) -> Result<Ran, String> {
    let started = start(reaper, command, around)?;
    let guard = KillOnDrop(started.leader);
    let deadline = Instant::now() + within;
    let mut text = None;
    let [stdout, stderr] = started.outputs;
    let read = async {
        let (out, err) = tokio::join!(beginning(stdout), beginning(stderr));
        format!("{out}{err}")
    };
    let mut read = std::pin::pin!(read);
    let exit = loop {
        tokio::select! {
            got = &mut read, if text.is_none() => text = Some(got),
            exit = guard.0.ended() => break exit,
            () = tokio::time::sleep_until(deadline) => return Ok(Ran::TooSlow),
        }
    };
    if text.is_none() {
        // A moment for what is still in the pipes; a child that went on may hold them open for ever.
        text = tokio::time::timeout(Duration::from_millis(100), read)
            .await
            .ok();
    }
    Ok(Ran::Ended(exit, text.unwrap_or_default().trim().to_owned()))
}

/// The first kibibyte of an output; the rest is read and dropped, so that the writer is not held up.
async fn beginning(output: Option<OwnedFd>) -> String {
    let mut kept = Vec::new();
    if let Some(Ok(mut from)) = output.map(pipe::Receiver::from_owned_fd) {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let room = 1024 - kept.len();
            kept.extend_from_slice(buffer.get(..count.min(room)).unwrap_or_default());
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

struct KillOnDrop(Leader);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.signal(Signal::KILL);
    }
}
