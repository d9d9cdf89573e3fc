//! The folder of one pod: what lies where, and how it is written.
//!
//! Everything here is for the user that runs the host alone: folders 0700, files 0600. A file is written whole
//! under another name and renamed, so that a reader after a crash meets the old or the new one, never half.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest path a Unix socket's address holds on Linux is 107 bytes.
const SOCKET_PATH_MAX: usize = 100;

/// The folder of one pod.
#[derive(Clone, Debug)]
pub(super) struct PodFolder(PathBuf);

impl PodFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What was asked for: identity, template and surroundings.
    pub(super) fn request(&self) -> PathBuf {
        self.0.join("pod.json")
    }

    /// What the shim runs; written once, when everything the template names was found.
    pub(super) fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// What is so, written by the shim.
    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// The wish that the pod ends; stays until the folder goes.
    pub(super) fn stop(&self) -> PathBuf {
        self.0.join("stop.json")
    }

    /// Held locked by the shim as long as it lives: one shim for a pod.
    pub(super) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// What the shim itself has to say.
    pub(super) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    pub(super) fn volume(&self, name: &str) -> PathBuf {
        self.0.join("volumes").join(name)
    }

    /// The logs of one container, all its runs.
    pub(super) fn logs(&self, container: &str) -> PathBuf {
        self.0.join("logs").join(container)
    }

    /// Listens on the pod's socket, replacing one that a dead shim left.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        let path = self.0.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.through_short_path(UnixListener::bind)
    }

    /// Connects to the pod's shim; refused or not found when none listens.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        self.through_short_path(UnixStream::connect)
    }

    fn through_short_path<T>(&self, open: impl Fn(PathBuf) -> io::Result<T>) -> io::Result<T> {
        let path = self.0.join(SOCKET);
        if path.as_os_str().len() <= SOCKET_PATH_MAX {
            return open(path);
        }
        let folder = File::open(&self.0)?;
        open(PathBuf::from(format!(
            "/proc/self/fd/{}/{SOCKET}",
            folder.as_raw_fd()
        )))
    }
}

const SOCKET: &str = "shim.sock";

/// Makes a folder, and those above it, that only this user may enter.
pub(super) fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file whole, readable for this user alone (or as `mode` says).
pub(super) fn write_whole(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(bytes)?;
    std::fs::rename(&beside, path)
}

/// Writes a value as JSON, whole and for this user alone.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_whole(path, 0o600, &serde_json::to_vec(value)?)
}

/// Reads a JSON file; `None` when there is none. What is not JSON, or not of this kind, is `InvalidData`.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            // Without the words of the error: it quotes what it stumbled over, which may be a secret.
            let text = format!(
                "not as expected at line {}, column {}",
                error.line(),
                error.column()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_works_however_long_the_path_of_the_state_folder_is() {
        let temp = tempfile::tempdir().expect("temporary folder");
        let deep = temp.path().join("x".repeat(120));
        make_private_folder(&deep).expect("folder");
        let folder = PodFolder::new(deep);
        assert!(folder.connect().is_err());
        let _first = folder.listen().expect("listens");
        let _again = folder.listen().expect("replaces what an earlier one left");
        folder.connect().expect("connects");
    }
}
