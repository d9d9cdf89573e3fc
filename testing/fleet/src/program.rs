//! The controller as a process: started, frozen, killed, and measured from outside.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::Outcome;

/// Ticks a second in which Linux tells the time that processes have used.
const TICKS: f64 = 100.0;

/// How the controller is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program, `crossfade`.
    pub program: PathBuf,
    /// The kubeconfig.
    pub kubeconfig: PathBuf,
    /// The context in it, and so the user.
    pub context: String,
    /// The namespaces to look after; all of them if empty.
    pub namespaces: Vec<String>,
    /// Namespace of the Lease, and how long it lasts; `None` for a controller that is alone.
    pub lease: Option<(String, Duration)>,
    /// Port of the metrics; 0 for any.
    pub metrics_port: u16,
    /// Port that says whether it is ready; 0 for any.
    pub health_port: u16,
    /// Where its log goes.
    pub log: PathBuf,
}

/// A running controller. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    pid: u32,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds of all cores.
    pub cpu: f64,
    /// Memory that it holds now, in bytes.
    pub rss: u64,
    /// The most that it has held, in bytes.
    pub peak_rss: u64,
}

impl Usage {
    /// Of a process.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of(pid: u32) -> Outcome<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name before the last parenthesis may hold anything.
        let (_, rest) = stat.rsplit_once(") ").ok_or("no fields")?;
        let ticks = rest.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.map(|field| field.parse().unwrap_or(0)).sum();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            number
                .and_then(|number| number.parse().ok())
                .map_or(0, |number: u64| number * 1024)
        };
        Ok(Self {
            cpu: ticks as f64 / TICKS,
            rss: kilobytes("VmRSS:"),
            peak_rss: kilobytes("VmHWM:"),
        })
    }
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started, or its log cannot be written.
    pub fn start(options: &Options) -> Outcome<Self> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&options.log)?;
        let mut command = Command::new(&options.program);
        command
            .arg("controller")
            .arg("--kubeconfig")
            .arg(&options.kubeconfig)
            .args(["--context", &options.context])
            .args(["--metrics-port", &options.metrics_port.to_string()])
            .args(["--healthz-port", &options.health_port.to_string()])
            .env_remove("CROSSFADE_HOST")
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        match &options.lease {
            Some((namespace, lasts)) => command
                .args(["--leader-election-namespace", namespace])
                .args([
                    "--leader-election-lease-duration",
                    &lasts.as_secs().to_string(),
                ]),
            None => command.arg("--leader-elect=false"),
        };
        if !options.namespaces.is_empty() {
            command.args(["--namespaces", &options.namespaces.join(",")]);
        }
        let child = command
            .spawn()
            .map_err(|why| format!("{}: {why}", options.program.display()))?;
        let pid = child.id().ok_or("it ended at once")?;
        Ok(Self { child, pid })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn usage(&self) -> Outcome<Usage> {
        Usage::of(self.pid)
    }

    /// Ends it at once, as `kill -9` does.
    ///
    /// # Errors
    /// It had ended by itself before.
    pub async fn kill(mut self) -> Outcome<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("it had ended by itself: {status}").into());
        }
        self.child.kill().await?;
        Ok(())
    }

    /// Lets it stand still where it is, until [`Program::thaw`].
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&self) -> Outcome<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn thaw(&self) -> Outcome<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end, and returns when it has.
    ///
    /// # Errors
    /// It has ended before.
    pub async fn stop(mut self) -> Outcome<()> {
        self.signal(Signal::TERM)?;
        self.child.wait().await?;
        Ok(())
    }

    /// Returns when it has ended by itself.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn ended(&mut self) -> Outcome<()> {
        self.child.wait().await?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Outcome<()> {
        let pid = i32::try_from(self.pid)?;
        let pid = Pid::from_raw(pid).ok_or("no process")?;
        Ok(kill_process(pid, signal)?)
    }
}

/// A port that nobody listens on just now.
///
/// # Errors
/// There is none.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// The end of a log, for whoever looks for the cause of something.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(20)..)
        .unwrap_or_default()
        .join("\n")
}
