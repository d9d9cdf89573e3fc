//! A container's output: read from its pipes, stamped, and written to log files that cannot grow without end.
//!
//! A line in a file is `<time> <stdout|stderr> <F|P> <text>`, as the container runtimes of Kubernetes write it;
//! `P` says that the line goes on in the next one, because it was too long to be held. A full file is closed
//! and the next one begun: files are only ever appended to and deleted, never renamed, so a reader needs no
//! luck. When the disk takes nothing more, output is dropped and counted; the process is never held up.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::rc::Rc;

use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::super::folder::make_private_folder;
use super::super::logs::{LogFile, Output, done_marker, list};
use super::super::plan::Tuning;

/// The longest piece of a line that is held; longer lines are written in pieces.
pub(super) const LONGEST_LINE: usize = 16 * 1024;

/// The log of one run of a container.
pub(super) struct RunLog {
    folder: PathBuf,
    file: LogFile,
    open: Option<File>,
    written: u64,
    lost: u64,
    most_bytes: u64,
    most_files: u32,
}

impl RunLog {
    /// Begins the log of a run, and forgets runs before the last.
    pub(super) fn begin(folder: PathBuf, run: u32, tuning: &Tuning) -> io::Result<Self> {
        make_private_folder(&folder)?;
        let old = list(&folder)?;
        let newest_of_last = old
            .iter()
            .filter(|file| file.run + 1 == run)
            .map(|file| file.part)
            .max();
        for file in old.iter().filter(|file| file.run < run) {
            if file.run + 1 != run || Some(file.part) != newest_of_last {
                let _ = std::fs::remove_file(file.path(&folder));
            }
            if file.run + 1 < run {
                let _ = std::fs::remove_file(done_marker(&folder, file.run));
            }
        }
        let mut log = Self {
            folder,
            file: LogFile { run, part: 0 },
            open: None,
            written: 0,
            lost: 0,
            most_bytes: tuning.log_file_bytes,
            most_files: tuning.log_files.max(1),
        };
        log.open()?;
        Ok(log)
    }

    fn open(&mut self) -> io::Result<()> {
        let path = self.file.path(&self.folder);
        self.open = Some(
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)?,
        );
        self.written = 0;
        Ok(())
    }

    /// Appends whole stamped lines.
    fn append(&mut self, lines: &[u8]) {
        if let Err(_full) = self.try_append(lines) {
            self.lost += lines.len() as u64;
        }
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.written >= self.most_bytes {
            self.next_part()?;
        }
        let Some(file) = &mut self.open else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if self.lost > 0 {
            let note = format!(
                "{} stderr F [crossfade: {} bytes of log could not be written]\n",
                Timestamp::now(),
                self.lost
            );
            file.write_all(note.as_bytes())?;
            self.lost = 0;
        }
        self.written += lines.len() as u64;
        file.write_all(lines)
    }

    fn next_part(&mut self) -> io::Result<()> {
        self.file.part += 1;
        if let Some(oldest) = self.file.part.checked_sub(self.most_files) {
            let _ = std::fs::remove_file(
                LogFile {
                    part: oldest,
                    ..self.file
                }
                .path(&self.folder),
            );
        }
        self.open()
    }

    /// Says to readers that nothing more will come.
    pub(super) fn finish(&self) {
        let _ = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(done_marker(&self.folder, self.file.run));
    }
}

/// Copies one pipe into the log until all who write to it are gone.
pub(super) async fn pump(from: OwnedFd, stream: Output, log: Rc<RefCell<RunLog>>) {
    let Ok(mut from) = pipe::Receiver::from_owned_fd(from) else {
        return;
    };
    let mut buffer = vec![0; 32 * 1024];
    let mut lines = Lines::new(stream);
    let mut stamped = Vec::with_capacity(64 * 1024);
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                lines.take(
                    buffer.get(..count).unwrap_or_default(),
                    Timestamp::now(),
                    &mut stamped,
                );
                log.borrow_mut().append(&stamped);
                stamped.clear();
            }
        }
    }
    lines.close(Timestamp::now(), &mut stamped);
    log.borrow_mut().append(&stamped);
}

/// Cuts a stream of bytes into stamped lines, holding no more than one piece of one.
struct Lines {
    stream: Output,
    piece: Vec<u8>,
}

impl Lines {
    fn new(stream: Output) -> Self {
        Self {
            stream,
            piece: Vec::new(),
        }
    }

    fn take(&mut self, mut bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        let mut prefix = String::new();
        let _ = write!(prefix, "{now:.6} {} ", self.stream.word());
        while !bytes.is_empty() {
            let room = LONGEST_LINE - self.piece.len();
            let window = bytes.get(..bytes.len().min(room)).unwrap_or(bytes);
            let (piece, rest, tag) = match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => (bytes.get(..end), bytes.get(end + 1..), Some("F ")),
                None if window.len() == room => (Some(window), bytes.get(room..), Some("P ")),
                None => (Some(bytes), None, None),
            };
            self.piece.extend_from_slice(piece.unwrap_or_default());
            bytes = rest.unwrap_or_default();
            if let Some(tag) = tag {
                self.emit(&prefix, tag, out);
            }
        }
    }

    fn close(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        if !self.piece.is_empty() {
            self.emit(&format!("{now:.6} {} ", self.stream.word()), "F ", out);
        }
    }

    fn emit(&mut self, prefix: &str, tag: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(tag.as_bytes());
        out.append(&mut self.piece);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::new(Output::Stdout);
        let mut out = Vec::new();
        for piece in pieces {
            lines.take(piece, Timestamp::UNIX_EPOCH, &mut out);
        }
        lines.close(Timestamp::UNIX_EPOCH, &mut out);
        let prefix = "1970-01-01T00:00:00.000000Z stdout ";
        let text = String::from_utf8(out).expect("text");
        text.lines()
            .map(|line| line.strip_prefix(prefix).expect("stamped").to_owned())
            .collect()
    }

    #[test]
    fn lines_are_put_together_however_they_arrive() {
        assert_eq!(
            stamped(&[b"one\ntw", b"o\n", b"\nlast"]),
            ["F one", "F two", "F ", "F last"]
        );
        assert_eq!(stamped(&[b"x\n"]), ["F x"]);
    }

    #[test]
    fn a_line_without_end_is_written_in_pieces_and_never_held_whole() {
        let long = vec![b'a'; LONGEST_LINE * 2 + 5];
        let lines = stamped(&[&long, b"b\nnext\n"]);
        let lengths: Vec<(char, usize)> = lines
            .iter()
            .map(|line| (line.chars().next().unwrap_or_default(), line.len() - 2))
            .collect();
        assert_eq!(
            lengths,
            [('P', LONGEST_LINE), ('P', LONGEST_LINE), ('F', 6), ('F', 4)]
        );
        assert!(lines.get(2).is_some_and(|line| line == "F aaaaab"));
    }

    #[test]
    fn a_log_keeps_its_newest_files_only() {
        let temp = tempfile::tempdir().expect("temporary folder");
        let tuning = Tuning {
            log_file_bytes: 100,
            log_files: 3,
            ..Tuning::default()
        };
        let mut log = RunLog::begin(temp.path().join("web"), 0, &tuning).expect("begins");
        for number in 0..100 {
            log.append(format!("t stdout F line number {number:04}\n").as_bytes());
        }
        log.finish();
        let files = list(&temp.path().join("web")).expect("lists");
        assert_eq!(files.len(), 3);
        let bytes = |file: &LogFile| {
            std::fs::metadata(file.path(&temp.path().join("web")))
                .expect("there")
                .len()
        };
        assert!(files.iter().all(|file| bytes(file) < 200));

        // The next run keeps one file of this one, the one after that none.
        RunLog::begin(temp.path().join("web"), 1, &tuning).expect("begins");
        let of_run = |run| {
            list(&temp.path().join("web"))
                .expect("lists")
                .iter()
                .filter(|f| f.run == run)
                .count()
        };
        assert_eq!((of_run(0), of_run(1)), (1, 1));
        RunLog::begin(temp.path().join("web"), 2, &tuning).expect("begins");
        assert_eq!((of_run(0), of_run(1), of_run(2)), (0, 1, 1));
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_counted_and_told_when_there_is_room() {
        let temp = tempfile::tempdir().expect("temporary folder");
        let folder = temp.path().join("web");
        make_private_folder(&folder).expect("folder");
        std::os::unix::fs::symlink("/dev/full", folder.join("0.0.log")).expect("linked");
        let tuning = Tuning {
            log_file_bytes: 10,
            ..Tuning::default()
        };
        let mut log = RunLog::begin(folder.clone(), 0, &tuning).expect("begins");
        log.append(b"t stdout F lost line\n");
        log.append(b"t stdout F after\n");
        let text = std::fs::read_to_string(folder.join("0.1.log")).expect("the next file");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines
                .iter()
                .any(|line| line.ends_with("[crossfade: 21 bytes of log could not be written]")),
            "{text}"
        );
        assert!(lines.contains(&"t stdout F after"));
    }
}
