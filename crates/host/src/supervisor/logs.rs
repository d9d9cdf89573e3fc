//! Log files of a container: how they are named.
//!
//! `<run>.<part>.log` in the folder of the container, and `<run>.done` when a run has written its last line.

use std::io;
use std::path::{Path, PathBuf};

/// Which of a process's two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One file of a container's log; ordered as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogFile {
    /// How often the container had been started again before this run.
    pub(super) run: u32,
    /// Counts up whenever a file is full.
    pub(super) part: u32,
}

impl LogFile {
    pub(super) fn path(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.{}.log", self.run, self.part))
    }
}

/// The file whose being there says that a run will write no more.
pub(super) fn done_marker(folder: &Path, run: u32) -> PathBuf {
    folder.join(format!("{run}.done"))
}

/// The log files in a container's folder, oldest first.
pub(super) fn list(folder: &Path) -> io::Result<Vec<LogFile>> {
    let mut files: Vec<LogFile> = std::fs::read_dir(folder)?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let (run, part) = name.to_str()?.strip_suffix(".log")?.split_once('.')?;
            Some(LogFile {
                run: run.parse().ok()?,
                part: part.parse().ok()?,
            })
        })
        .collect();
    files.sort();
    Ok(files)
}
