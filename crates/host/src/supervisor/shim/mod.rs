//! The shim: one small process for each pod, which owns the pod's processes.
//!
//! It starts and restarts the containers, keeps their output, runs probes and hooks, and records what happens
//! in the pod's folder. The control plane may come and go; it hands the shim a listening socket as standard
//! input and connects to that. If the shim itself is killed, the control plane starts another one in the same
//! folder, which first kills what the old one left and then goes on by the restart policy.
//!
//! Start at [`run`]. The life of the pod is `pod`, that of one container `container`.

mod board;
mod container;
mod exec;
mod output;
mod pod;
mod probe;
mod reaper;
mod serve;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use jiff::Timestamp;

use super::folder::{PodFolder, read_json};
use super::plan::PodPlan;
use super::ports::PortRegistry;
use super::procfs::ProcessId;
use super::state::PodState;

/// Runs the shim of one pod until nothing of the pod will run again, or it is told to end.
///
/// `arguments` is the pod's folder, and nothing else; standard input is the socket to listen on.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        complain(&"usage: crossfade shim FOLDER (started by the host, not by people)");
        return ExitCode::from(2);
    };
    // A shim that has lost its way must not stay and look well: it ends, and another one takes over.
    std::panic::set_hook(Box::new(|fault| {
        complain(fault);
        std::process::abort();
    }));
    match start(PodFolder::new(PathBuf::from(folder))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says something on standard error, which is the pod's `shim.log`.
fn complain(what: &dyn std::fmt::Display) {
    // Nobody is left to tell when even this fails.
    let _ = writeln!(io::stderr(), "{} {what}", Timestamp::now());
}

fn start(folder: PodFolder) -> io::Result<()> {
    // A session of its own: no terminal's Ctrl-C or hang-up reaches the pod. Fails when it is one already.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    // Waits while an earlier shim of this pod is still ending.
    let lock = File::create(folder.lock())?;
    lock.lock()?;

    let plan: PodPlan = read_json(&folder.plan())?.ok_or(io::ErrorKind::NotFound)?;
    let state: io::Result<Option<PodState>> = read_json(&folder.state());
    // A power cut can leave half a file; what it said is lost, and the pod begins anew.
    let state = state
        .inspect_err(|error| complain(error))
        .unwrap_or_default();
    let mut state = state.unwrap_or_else(|| PodState::fresh(&plan, Timestamp::now()));
    let left = state.inherit(Timestamp::now());
    state.shim = ProcessId::of(std::process::id());
    let ports = PortRegistry::open(plan.ports_folder.clone())?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (reaper, ended) = reaper::Reaper::new()?;
        let plan = Rc::new(plan);
        let board = board::Board::new(Rc::clone(&plan), folder.clone(), state);
        let pod = Rc::new(pod::Pod::new(plan, folder, board, reaper, ports));
        let listener = tokio::net::UnixListener::from_std(listener)?;
        pod::run(pod, listener, ended, left).await
    })
}
