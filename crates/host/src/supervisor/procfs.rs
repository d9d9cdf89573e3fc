//! Which process is which: `/proc` read so that a pid that was given away again is never mistaken.
//!
//! A pid alone names nothing for long. [`ProcessId`] adds the start time and the boot, and signals go through
//! a pidfd that is checked after it was opened. Processes of a pod are found by a mark in their environment, so
//! that one that left its group and session is found too.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process of this machine: its pid, when it started (clock ticks since boot), and which boot that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProcessId {
    /// The process's number.
    pub(super) pid: u32,
    /// Start time in clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    pub(super) start_ticks: u64,
    /// The kernel's id of this boot: after a reboot the same numbers mean another process.
    pub(super) boot: String,
}

impl ProcessId {
    /// The identity of a process that runs now; `None` when there is none with this pid.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self {
            pid,
            start_ticks: stat.start_ticks,
            boot: boot_id(),
        })
    }

    /// Whether this very process still runs; one that has ended and waits for its parent counts as gone.
    pub(super) fn is_alive(&self) -> bool {
        Stat::read(self.pid)
            .is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.is_zombie())
            && self.boot == boot_id()
    }

    /// A handle that stays with this process whatever becomes of its number; `None` when it is gone.
    pub(super) fn open(&self) -> Option<OwnedFd> {
        let fd = open_pid(self.pid)?;
        self.is_alive().then_some(fd)
    }
}

/// What `/proc/<pid>/stat` tells of a process, as far as we need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) state: u8,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    pub(super) start_ticks: u64,
}

impl Stat {
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::parse(
            pid,
            &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?,
        )
    }

    fn parse(pid: u32, text: &str) -> Option<Self> {
        // The name in parentheses may itself hold spaces and parentheses: the fields start after the last one.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        // starttime is field 22; session was field 6.
        let start_ticks = fields.nth(15)?.parse().ok()?;
        Some(Self {
            pid,
            state,
            parent,
            group,
            session,
            start_ticks,
        })
    }

    pub(super) fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// All processes of this machine that this user can see.
pub(super) fn all() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Stat::read)
        .collect()
}

/// The processes below `ancestor`, children of children included.
pub(super) fn descendants(processes: &[Stat], ancestor: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([ancestor]);
    loop {
        let before = found.len();
        found.extend(
            processes
                .iter()
                .filter(|p| found.contains(&p.parent))
                .map(|p| p.pid)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            found.remove(&ancestor);
            return found;
        }
    }
}

/// Whether one of these processes listens on a TCP port of this machine. `None` when that cannot be told:
/// nobody is seen listening, or what a process has open cannot be read.
pub(super) fn one_listens(processes: &BTreeSet<u32>, port: u16) -> Option<bool> {
    let sockets: BTreeSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| std::fs::File::open(table).ok())
        .flat_map(|table| listeners(BufReader::new(table), port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let mut secret = false;
    for pid in processes {
        let files = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(files) => files,
            // A process that has just ended has nothing open.
            Err(error) => {
                secret |= error.kind() == io::ErrorKind::PermissionDenied;
                continue;
            }
        };
        let held = |file: io::Result<DirEntry>| {
            let target = std::fs::read_link(file.ok()?.path()).ok()?;
            target.to_str().map(|target| sockets.contains(target))
        };
        if files.filter_map(held).any(|held| held) {
            return Some(true);
        }
    }
    (!secret).then_some(false)
}

/// The inodes of the sockets that listen on a port, from a table like `/proc/net/tcp`. The kernel lists
/// listeners first, so the connections, of which there may be many, are not read.
fn listeners(table: impl BufRead, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let fields = |line: String| {
        let mut fields = line.split_ascii_whitespace().map(str::to_owned);
        Some((fields.nth(1)?, fields.nth(1)?, fields.nth(5)?))
    };
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .map_while(|line| fields(line.ok()?))
        .take_while(|(_, state, _)| state == LISTEN)
        .filter(|(local, ..)| local.ends_with(&suffix))
        .map(|(.., inode)| inode)
        .collect()
}

/// Whether the process carries every one of `marks` (`NAME=value`) in the environment it was started with.
pub(super) fn carries(pid: u32, marks: &[String]) -> bool {
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    marks.iter().all(|mark| {
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes())
    })
}

/// Kills every process that `doomed` picks, and waits until each has ended. Bounded: a process that forks
/// faster than it can be killed, or that the kernel will not let go, is given up after some rounds.
///
/// Returns how many were killed.
pub(super) async fn kill_all(doomed: impl Fn(&[Stat]) -> Vec<Stat>) -> usize {
    let own = std::process::id();
    let mut killed = 0;
    for _ in 0..ROUNDS {
        let processes: Vec<Stat> = all()
            .into_iter()
            .filter(|p| !p.is_zombie() && p.pid != own)
            .collect();
        let victims = doomed(&processes);
        if victims.is_empty() {
            break;
        }
        let mut handles = Vec::new();
        for victim in victims {
            let Some(handle) = open_pid(victim.pid) else {
                continue;
            };
            // Opened first, looked at second: what the handle holds is what was picked.
            if Stat::read(victim.pid).is_some_and(|now| now.start_ticks == victim.start_ticks)
                && pidfd_send_signal(&handle, Signal::KILL).is_ok()
            {
                killed += 1;
                handles.push(handle);
            }
        }
        for handle in handles {
            // A process in an uninterruptible wait may stay; the next round or the end of the machine gets it.
            let _ = tokio::time::timeout(Duration::from_millis(500), ended(handle)).await;
        }
    }
    killed
}

const ROUNDS: usize = 40;

/// Returns once the process behind the pidfd has ended.
pub(crate) async fn ended(pidfd: OwnedFd) {
    // A pidfd becomes readable when its process ends, and nothing can be read from it.
    if let Ok(fd) = awaitable(pidfd) {
        let _ = fd.readable().await;
    }
}

/// A descriptor that can be waited for until it is readable.
#[expect(
    unsafe_code,
    reason = "tokio offers no safe way to wait for a pidfd or an inotify descriptor"
)]
pub(super) fn awaitable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `register_with_interest` requires that `as_raw_fd` gives the same descriptor every time, and
    // that it stays open as long as the `AsyncFd` lives; an `OwnedFd` moved into it does both.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

fn open_pid(pid: u32) -> Option<OwnedFd> {
    pidfd_open(
        Pid::from_raw(i32::try_from(pid).ok()?)?,
        PidfdFlags::empty(),
    )
    .ok()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_full_of_parentheses_does_not_confuse_the_reading() {
        let line = "42 (a) b (c)) S 7 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        let stat = Stat::parse(42, line).expect("parses");
        assert_eq!(
            stat,
            Stat {
                pid: 42,
                state: b'S',
                parent: 7,
                group: 42,
                session: 40,
                start_ticks: 987_654
            }
        );
    }

    #[test]
    fn a_pid_with_another_start_time_is_another_process() {
        let me = ProcessId::of(std::process::id()).expect("this process runs");
        assert!(me.is_alive());
        assert!(
            !ProcessId {
                start_ticks: me.start_ticks + 1,
                ..me.clone()
            }
            .is_alive()
        );
        assert!(
            !ProcessId {
                boot: "another boot".to_owned(),
                ..me
            }
            .is_alive()
        );
    }

    #[test]
    fn children_of_children_are_descendants() {
        let process = |pid, parent| Stat {
            pid,
            state: b'S',
            parent,
            group: 1,
            session: 1,
            start_ticks: 1,
        };
        // The grandchild stands before its parent in the list.
        let list = [
            process(30, 20),
            process(20, 10),
            process(99, 1),
            process(10, 1),
        ];
        assert_eq!(descendants(&list, 10), BTreeSet::from([20, 30]));
    }

    #[test]
    fn it_is_known_who_listens_on_a_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("address").port();
        let me = BTreeSet::from([std::process::id()]);
        assert_eq!(one_listens(&me, port), Some(true));
        assert_eq!(one_listens(&BTreeSet::new(), port), Some(false));
        drop(listener);
        assert_eq!(one_listens(&me, port), None);
    }
}
