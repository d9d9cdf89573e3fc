//! One host, one state folder: an exclusive lock that the kernel gives back when its holder dies, however it dies.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::error::OpenError;

/// A state folder that is ours until this value is dropped or the process ends.
#[derive(Debug)]
pub struct StateFolder {
    /// Children do not inherit it: files are opened close-on-exec.
    lock: File,
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // Closing would do, but for a child that is being started at this moment and still shares the file.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

/// How long a holder may take to write its number after it took the lock.
const NUMBER_WRITTEN: Duration = Duration::from_millis(200);

/// How long the lock of a host that is gone may survive it: in a child that it was about to start when it was killed.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

impl StateFolder {
    /// Makes the folder if need be, readable for its owner only, and takes the lock.
    ///
    /// # Errors
    /// When another process holds the lock, the folder belongs to another user, or cannot be written.
    pub fn take(folder: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder {
            folder: folder.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        let facts = folder.metadata().map_err(failed)?;
        let user = rustix::process::geteuid().as_raw();
        if facts.uid() != user {
            return Err(OpenError::Foreign {
                folder: folder.to_owned(),
                owner: facts.uid(),
                user,
            });
        }
        if facts.mode() & 0o077 != 0 {
            // Closing somebody's `/tmp` or home to all others would do more harm than the refusal.
            if !folder.join("lock").exists() && folder.read_dir().map_err(failed)?.next().is_some()
            {
                return Err(OpenError::NotOurs {
                    folder: folder.to_owned(),
                });
            }
            std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)?;
        }
        let path = folder.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let patience = Instant::now() + LEFT_BEHIND;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(failed(error.into())),
            }
            let pid = holder(&mut lock);
            if pid.is_some_and(is_alive) || Instant::now() > patience {
                return Err(OpenError::InUse {
                    folder: folder.to_owned(),
                    pid,
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // The number serves the message of a second host only: without it (full disk) the lock is as good.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { lock })
    }
}

/// The number that the holder of the lock wrote; it may be about to.
fn holder(lock: &mut File) -> Option<u32> {
    let end = Instant::now() + NUMBER_WRITTEN;
    loop {
        let mut text = String::new();
        let read = lock.rewind().and_then(|()| lock.read_to_string(&mut text));
        if let (Ok(_), Some(line)) = (read, text.strip_suffix('\n')) {
            return line.parse().ok();
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs: one that has ended and waits for its parent does not.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_host_on_one_state_folder_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let held = StateFolder::take(&state).unwrap();
        let error = StateFolder::take(&state).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "another host (process {}) uses the state folder {}; stop it, or choose another folder",
                std::process::id(),
                state.display()
            )
        );
        drop(held);
        StateFolder::take(&state).unwrap();
    }

    #[test]
    fn a_lock_that_a_killed_host_left_in_a_child_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let held = StateFolder::take(folder.path()).unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        std::fs::write(folder.path().join("lock"), format!("{}\n", gone.id())).unwrap();
        let child = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(held);
        });
        StateFolder::take(folder.path()).unwrap();
        child.join().unwrap();
    }

    #[test]
    fn a_folder_that_others_use_is_not_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("letter.txt"), "dear").unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            StateFolder::take(folder.path()),
            Err(OpenError::NotOurs { .. })
        ));
        assert_eq!(folder.path().metadata().unwrap().mode() & 0o777, 0o755);
    }

    #[test]
    fn the_folder_and_its_lock_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("s");
        std::fs::create_dir(&state).unwrap();
        std::fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
        let _held = StateFolder::take(&state).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode(&state), 0o700);
        assert_eq!(mode(&state.join("lock")), 0o600);
    }
}
