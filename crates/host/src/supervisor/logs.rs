//! Logs of containers: how the files are named, and reading them, also while they grow.
//!
//! `<run>.<part>.log` in the folder of the container, and `<run>.done` when a run has written its last line.
//! A file is complete as soon as the next part or the marker is there, and is never renamed: so a follower
//! that looks for those two before it reads cannot lose a line to a rotation, unless it falls so far behind
//! that the file is gone before it gets there.

use std::collections::VecDeque;
use std::io::{self, BufRead, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, Stream};
use jiff::Timestamp;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader};

use super::procfs::awaitable;

/// How often the beginning of a log is looked for while its files are rotated away.
const SEARCHES: usize = 100;

/// Which of a process's two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
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

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    /// Go on when the end is reached, until the run ends.
    pub follow: bool,
    /// No more than this many lines of what is there.
    pub tail: Option<usize>,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// The run before the present one.
    pub previous: bool,
}

/// One line that a container wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read from the container.
    pub time: Timestamp,
    /// Where it was written to.
    pub output: Output,
    /// The text, without line end. What is not UTF-8 is replaced.
    pub text: String,
    /// Whether the line ends here; a very long one comes in pieces.
    pub complete: bool,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing is known of the pod.
    #[error("there is no pod with uid {0}")]
    NoSuchPod(String),
    /// The pod has no such container.
    #[error("container {container} is not in pod {pod}; it has {}", .known.join(", "))]
    NoSuchContainer {
        /// What was asked for.
        container: String,
        /// The pod's name.
        pod: String,
        /// The containers there are.
        known: Vec<String>,
    },
    /// The container has not written anything because it has not run.
    #[error("container {container} in pod {pod} has not started: {reason}")]
    NotStarted {
        /// The container.
        container: String,
        /// The pod's name.
        pod: String,
        /// The pod's state in one word.
        reason: String,
    },
    /// There is no earlier run.
    #[error("container {container} in pod {pod} has no previous run")]
    NoPrevious {
        /// The container.
        container: String,
        /// The pod's name.
        pod: String,
    },
    /// The files cannot be read.
    #[error("the log cannot be read")]
    Unreadable(#[from] io::Error),
}

/// The run whose log is wanted: the newest, or the one before it.
pub(super) fn choose_run(folder: &Path, previous: bool) -> Option<u32> {
    let newest = list(folder).ok()?.last()?.run;
    if !previous {
        return Some(newest);
    }
    let before = newest.checked_sub(1)?;
    list(folder)
        .ok()?
        .iter()
        .any(|file| file.run == before)
        .then_some(before)
}

/// The lines of one run.
pub(super) async fn read(
    folder: PathBuf,
    run: u32,
    options: LogOptions,
) -> io::Result<impl Stream<Item = io::Result<LogLine>> + Send + 'static> {
    // Watched from before the first look, so that nothing happens unseen between looking and waiting.
    let changes = if options.follow {
        Some(watch(&folder)?)
    } else {
        None
    };
    let mut reader = Reader {
        folder,
        file: LogFile { run, part: 0 },
        open: None,
        half: Vec::new(),
        since: options.since,
        sealed: None,
        changes,
    };
    reader.begin(options.tail).await?;
    Ok(stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(line)) => Some((Ok(line), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// Part and offset at which the last `tail` lines of a run begin.
fn beginning(folder: &Path, run: u32, tail: Option<usize>) -> io::Result<(u32, u64)> {
    let parts: Vec<LogFile> = list(folder)?
        .into_iter()
        .filter(|file| file.run == run)
        .collect();
    let first = parts.first().ok_or(io::ErrorKind::NotFound)?.part;
    let Some(tail) = tail else {
        return Ok((first, 0));
    };
    let mut starts = VecDeque::new();
    let mut end = (first, 0);
    for file in parts {
        // Rotated away since it was listed: then its lines are none of the last.
        let Ok(open) = std::fs::File::open(file.path(folder)) else {
            continue;
        };
        let mut reader = std::io::BufReader::new(open);
        let mut offset = 0;
        loop {
            let length = reader.skip_until(b'\n')? as u64;
            if length == 0 {
                break;
            }
            starts.push_back((file.part, offset));
            if starts.len() > tail {
                starts.pop_front();
            }
            offset += length;
        }
        end = (file.part, offset);
    }
    Ok(starts.front().copied().unwrap_or(end))
}

/// Hears of everything that happens to the files of a folder.
fn watch(folder: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let changes = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let what = inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::DELETE_SELF;
    inotify::add_watch(&changes, folder, what)?;
    awaitable(changes)
}

/// Reads one run from some point on.
struct Reader {
    folder: PathBuf,
    file: LogFile,
    open: Option<BufReader<tokio::fs::File>>,
    /// The beginning of a line whose end has not been written yet.
    half: Vec<u8>,
    since: Option<Timestamp>,
    /// Set when the present file is known to grow no more.
    sealed: Option<Next>,
    changes: Option<AsyncFd<OwnedFd>>,
}

impl Reader {
    /// Opens the file in which the last `tail` lines begin.
    async fn begin(&mut self, tail: Option<usize>) -> io::Result<()> {
        let mut left = SEARCHES;
        loop {
            let (folder, run) = (self.folder.clone(), self.file.run);
            let search = move || beginning(&folder, run, tail);
            let (part, offset) = tokio::task::spawn_blocking(search).await??;
            self.file.part = part;
            left -= 1;
            match self.open(offset).await {
                // Rotated away since it was found: the lines begin elsewhere by now.
                Err(error) if error.kind() == io::ErrorKind::NotFound && left > 0 => {}
                result => return result,
            }
        }
    }

    async fn open(&mut self, offset: u64) -> io::Result<()> {
        let mut file = tokio::fs::File::open(self.file.path(&self.folder)).await?;
        file.seek(SeekFrom::Start(offset)).await?;
        self.open = Some(BufReader::new(file));
        Ok(())
    }

    async fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            let Some(open) = &mut self.open else {
                return Ok(None);
            };
            open.read_until(b'\n', &mut self.half).await?;
            if self.half.ends_with(b"\n") {
                let line = parse(&self.half);
                self.half.clear();
                match line {
                    Some(line) if self.since.is_none_or(|since| line.time >= since) => {
                        return Ok(Some(line));
                    }
                    _ => continue,
                }
            }
            match (self.sealed, &self.changes) {
                // Complete when we came to its end, so that was its end.
                (Some(Next::Part(part)), _) => self.turn_to(part).await?,
                (Some(Next::Nothing), _) => return Ok(None),
                // If it is complete now, it may have grown just before: read once more.
                (None, changes) => match (self.next_file(), changes) {
                    (Some(next), _) => self.sealed = Some(next),
                    (None, Some(changes)) => quiet(changes).await?,
                    (None, None) => return Ok(None),
                },
            }
        }
    }

    async fn turn_to(&mut self, part: u32) -> io::Result<()> {
        self.file.part = part;
        self.half.clear();
        self.sealed = None;
        match self.open(0).await {
            // Rotated away before we came to it: what we have is read to its end again, and the next looked for.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// What comes after this file, if it is complete.
    fn next_file(&self) -> Option<Next> {
        // Before the list: once the marker is there, the list is final.
        let done = done_marker(&self.folder, self.file.run).exists() || !self.folder.exists();
        let later = list(&self.folder)
            .unwrap_or_default()
            .into_iter()
            .find(|file| file.run == self.file.run && file.part > self.file.part);
        later
            .map(|file| Next::Part(file.part))
            .or(done.then_some(Next::Nothing))
    }
}

/// What comes after a complete file.
#[derive(Clone, Copy)]
enum Next {
    Part(u32),
    Nothing,
}

/// Waits until something has changed, and forgets what.
async fn quiet(changes: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut ready = changes.readable().await?;
    let mut buffer = [0_u8; 4096];
    while rustix::io::read(changes.get_ref(), &mut buffer).is_ok() {}
    ready.clear_ready();
    Ok(())
}

/// `<time> <stdout|stderr> <F|P> <text>`.
fn parse(line: &[u8]) -> Option<LogLine> {
    let line = String::from_utf8_lossy(line);
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let mut fields = line.splitn(4, ' ');
    let time = fields.next()?.parse().ok()?;
    let output = match fields.next()? {
        "stdout" => Output::Stdout,
        "stderr" => Output::Stderr,
        _ => return None,
    };
    let complete = fields.next()? == "F";
    Some(LogLine {
        time,
        output,
        text: fields.next().unwrap_or_default().to_owned(),
        complete,
    })
}
