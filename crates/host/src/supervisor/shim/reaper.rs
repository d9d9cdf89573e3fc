//! The one place where ended children are waited for.
//!
//! The shim is the reaper of all orphans of its pod, so every child ends here, whether it was started by the
//! shim or left behind by a container. A leader's group is killed before its number is given back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::watch;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(i32),
}

/// A child that leads its own process group.
#[derive(Clone)]
pub(super) struct Leader {
    pub(super) pid: Pid,
    exit: watch::Receiver<Option<Exit>>,
}

impl Leader {
    /// How it ended, once it has.
    pub(super) async fn ended(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Code(0)),
            // The reaper lives as long as the shim; without it nobody is left to be told.
            Err(_) => std::future::pending().await,
        }
    }

    /// Sends a signal to the whole group, unless the leader has been waited for: then its number may be
    /// another's, and its group has been killed already.
    pub(super) fn signal(&self, signal: Signal) {
        if self.exit.borrow().is_none() {
            let _ = kill_process_group(self.pid, signal);
        }
    }
}

pub(super) struct Reaper {
    leaders: RefCell<BTreeMap<i32, watch::Sender<Option<Exit>>>>,
}

impl Reaper {
    /// Must be made before the first child is started, so that no end of one is missed.
    pub(super) fn new() -> io::Result<(Self, SignalStream)> {
        Ok((
            Self {
                leaders: RefCell::default(),
            },
            signal(SignalKind::child())?,
        ))
    }

    /// Takes charge of a child that was just started as leader of its own group.
    pub(super) fn adopt(&self, pid: Pid) -> Leader {
        let (sender, exit) = watch::channel(None);
        self.leaders
            .borrow_mut()
            .insert(pid.as_raw_nonzero().get(), sender);
        Leader { pid, exit }
    }

    /// Waits for children, for ever.
    pub(super) async fn run(&self, mut ended: SignalStream) {
        loop {
            self.reap();
            if ended.recv().await.is_none() {
                return;
            }
        }
    }

    fn reap(&self) {
        let known: Vec<i32> = self.leaders.borrow().keys().copied().collect();
        for pid in known.into_iter().filter_map(Pid::from_raw) {
            let looking = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if matches!(
                rustix::process::waitid(WaitId::Pid(pid), looking),
                Ok(Some(_))
            ) {
                // Still a zombie, so the number is still its own and the group still the pod's.
                let _ = kill_process_group(pid, Signal::KILL);
            }
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let exit = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => continue,
            };
            if let Some(leader) = self
                .leaders
                .borrow_mut()
                .remove(&pid.as_raw_nonzero().get())
            {
                leader.send_replace(Some(exit));
            }
        }
    }
}
