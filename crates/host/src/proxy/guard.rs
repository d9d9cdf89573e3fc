//! The client's side of a connection: watches what comes in.
//!
//! The server library follows RFC 9112, 6.1 in its milder form: of a request with both a length and a chunked coding
//! it drops the length, silently. We want to refuse such requests, so the bytes are looked at on their way in:
//! [`Scanner`] follows the framing, head by head, and notes which request was ambiguous. It decides nothing else; what
//! it cannot follow, the library refuses itself.
//!
//! The same look tells how long a client has been busy with one head, for the time-out. And it tells which answers are the
//! library's own (to a head that it could not read): those get the header that says so, and are counted.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    account::{ERROR_HEADER, Trouble},
    pods::now_ms,
};

/// An answer of up to so many bytes, head included, is copied together before it is written.
const ONE_PIECE: usize = 1024;

/// What is known of a client's connection, shared by its socket and its requests.
#[derive(Default)]
pub(super) struct Watch {
    /// The number of the first ambiguous request, counted from one; zero if there was none.
    ambiguous: AtomicU64,
    /// Requests handed to us.
    served: AtomicU64,
    /// When the head that is coming in began; zero between heads.
    head_since: AtomicU64,
    /// When a byte last went either way.
    active: AtomicU64,
    /// Requests without their full answer.
    busy: AtomicUsize,
    /// The connection is no longer HTTP/1.
    off: AtomicBool,
    /// The status with which the library has refused a request by itself; zero if it has not.
    refused: AtomicU64,
    order: AtomicU8,
    /// Woken by an order.
    ordered: AtomicWaker,
}

/// What a connection is to do besides serving its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing.
    GoOn,
    /// End after the request that is under way.
    End,
    /// End now.
    Break,
}

impl Watch {
    pub(super) fn give(&self, order: Order) {
        self.order.store(order as u8, Ordering::Release);
        self.ordered.wake();
    }

    /// The order in force; the task is woken by the next one.
    pub(super) fn order(&self, cx: &mut Context<'_>) -> Order {
        self.ordered.register(cx.waker());
        match self.order.load(Ordering::Acquire) {
            order if order == Order::Break as u8 => Order::Break,
            order if order == Order::End as u8 => Order::End,
            _ => Order::GoOn,
        }
    }

    /// Called for each request in turn: whether this one has two lengths.
    pub(super) fn next_is_ambiguous(&self) -> bool {
        let number = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        self.ambiguous.load(Ordering::Relaxed) == number
    }

    pub(super) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// What comes is no longer HTTP/1.
    pub(super) fn stop(&self) {
        self.off.store(true, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// The status with which the library has refused a request by itself; the connection ends with that.
    pub(super) fn refused(&self) -> Option<StatusCode> {
        u16::try_from(self.refused.load(Ordering::Relaxed))
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
    }

    /// A head has been coming in for longer than this.
    pub(super) fn is_slow(&self, limit: Duration) -> bool {
        let since = self.head_since.load(Ordering::Relaxed);
        since != 0 && since + limit.as_millis() as u64 <= now_ms()
    }

    /// Nothing has been asked for longer than this.
    pub(super) fn is_idle(&self, limit: Duration) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
            && self.active.load(Ordering::Relaxed) + limit.as_millis() as u64 <= now_ms()
    }
}

/// A client's socket.
pub(super) struct Watched {
    stream: TcpStream,
    /// Bytes that were read to find out which protocol it is.
    first: Vec<u8>,
    scanner: Scanner,
    watch: Arc<Watch>,
    /// What is written instead of what the library wants to write.
    instead: Option<Instead>,
}

/// Bytes on their way out, and how many of them have gone.
struct Instead {
    bytes: Vec<u8>,
    gone: usize,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, first: Vec<u8>, watch: Arc<Watch>) -> Self {
        watch.active.store(now_ms(), Ordering::Relaxed);
        Self {
            stream,
            first,
            scanner: Scanner::default(),
            watch,
            instead: None,
        }
    }

    /// A head has come, or begun to come, that was not handed to us: what is written now may be the library's refusal of it.
    fn may_refuse(&self) -> bool {
        let watch = &self.watch;
        !watch.off.load(Ordering::Relaxed)
            && (self.scanner.in_head() || self.scanner.heads > watch.served.load(Ordering::Relaxed))
            && watch.busy.load(Ordering::Relaxed) == 0
    }

    /// Writes what stands instead of `length` bytes of the library, all of it.
    fn poll_instead(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        while let Some(instead) = &mut self.instead {
            let rest = instead.bytes.get(instead.gone..).unwrap_or_default();
            if rest.is_empty() {
                self.instead = None;
                break;
            }
            let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            instead.gone += written;
        }
        Poll::Ready(Ok(length))
    }

    /// Notes a refusal of the library, and marks it as one of ours.
    fn look_at(&mut self, bytes: &[u8]) {
        if let Some((status, marked)) = marked(bytes) {
            let status = u64::from(status.as_u16());
            self.watch.refused.store(status, Ordering::Relaxed);
            self.instead = Some(Instead {
                bytes: marked,
                gone: 0,
            });
        }
    }
}

/// The library's refusal of a request at the end of these bytes: its status, and all of the bytes with the header that says
/// why. The library writes no other answer without a body that ends a connection.
fn marked(bytes: &[u8]) -> Option<(StatusCode, Vec<u8>)> {
    let begin = |line: &[u8]| bytes.windows(line.len()).rposition(|window| window == line);
    let head = bytes.get(begin(b"HTTP/1.1 ")?..)?;
    let text = std::str::from_utf8(head).ok()?;
    let status = StatusCode::from_bytes(head.get(9..12)?).ok()?;
    let is_refusal = matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::URI_TOO_LONG
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    let fields = text.find("\r\n")? + 2;
    let is_bare = text.ends_with("\r\n\r\n")
        && text.contains("\r\ncontent-length: 0\r\n")
        && !text.contains(ERROR_HEADER.as_str());
    if !is_refusal || !is_bare {
        return None;
    }
    let reason = Trouble::of_refusal(status).reason();
    let before = bytes.len() - head.len() + fields;
    let mut marked = bytes.get(..before)?.to_vec();
    marked.extend_from_slice(format!("{ERROR_HEADER}: {reason}\r\n").as_bytes());
    marked.extend_from_slice(bytes.get(before..)?);
    Some((status, marked))
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.first.is_empty() {
            std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let n = this.first.len().min(buf.remaining());
            buf.put_slice(this.first.get(..n).unwrap_or_default());
            this.first.drain(..n);
        }
        let read = buf.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            let now = now_ms();
            this.watch.active.store(now, Ordering::Relaxed);
            if !this.watch.off.load(Ordering::Relaxed) {
                this.scanner.feed(read);
                this.watch
                    .ambiguous
                    .store(this.scanner.ambiguous, Ordering::Relaxed);
                if !this.scanner.in_head() {
                    this.watch.head_since.store(0, Ordering::Relaxed);
                } else if this.watch.head_since.load(Ordering::Relaxed) == 0 {
                    this.watch.head_since.store(now, Ordering::Relaxed);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watch.active.store(now_ms(), Ordering::Relaxed);
        if self.instead.is_none() && self.may_refuse() {
            self.look_at(buf);
        }
        if self.instead.is_some() {
            return self.poll_instead(cx, buf.len());
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = bufs {
            return self.poll_write(cx, one);
        }
        self.watch.active.store(now_ms(), Ordering::Relaxed);
        let length = || bufs.iter().map(|part| part.len()).sum();
        if self.instead.is_none() && self.may_refuse() {
            let whole: Vec<u8> = bufs.iter().flat_map(|part| part.iter().copied()).collect();
            self.look_at(&whole);
        }
        if self.instead.is_some() {
            return self.poll_instead(cx, length());
        }
        // The kernel does less for one piece than for a list, and few answers are long.
        let length = length();
        let mut whole = [0; ONE_PIECE];
        match whole.get_mut(..length) {
            Some(whole) => {
                let mut rest = &mut *whole;
                for part in bufs {
                    let (here, after) = rest.split_at_mut(part.len());
                    here.copy_from_slice(part);
                    rest = after;
                }
                Pin::new(&mut self.stream).poll_write(cx, whole)
            }
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A line is looked at this far: longer than any length or coding that is accepted.
const LOOK: usize = 256;

/// Follows the framing of HTTP/1 requests.
#[derive(Default)]
struct Scanner {
    state: State,
    /// The beginning of a line that is not complete yet.
    line: Vec<u8>,
    head: Head,
    heads: u64,
    ambiguous: u64,
}

#[derive(Clone, Copy, Default)]
struct Head {
    lines: u32,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// So many bytes until the next head.
    Body(u64),
    ChunkSize,
    /// So many bytes, line end included, until the next chunk.
    Chunk(u64),
    Trailers,
    /// Not HTTP/1 as we know it.
    Lost,
}

impl Scanner {
    /// A head has begun and is not complete.
    fn in_head(&self) -> bool {
        self.state == State::Head && (self.head.lines > 0 || !self.line.is_empty())
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Lost => return,
                State::Body(rest) | State::Chunk(rest) => {
                    let n = (*rest).min(bytes.len() as u64);
                    *rest -= n;
                    bytes = bytes.get(n as usize..).unwrap_or_default();
                    self.state = match self.state {
                        State::Body(0) => State::Head,
                        State::Chunk(0) => State::ChunkSize,
                        other => other,
                    };
                }
                State::Head | State::ChunkSize | State::Trailers => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        let room = LOOK.saturating_sub(self.line.len());
                        self.line.extend_from_slice(
                            bytes.get(..room.min(bytes.len())).unwrap_or_default(),
                        );
                        return;
                    };
                    let (line, rest) = bytes.split_at(end);
                    bytes = rest.get(1..).unwrap_or_default();
                    if self.line.is_empty() {
                        self.line(line);
                    } else {
                        let mut whole = std::mem::take(&mut self.line);
                        whole.extend_from_slice(
                            line.get(..LOOK.min(line.len())).unwrap_or_default(),
                        );
                        self.line(&whole);
                        whole.clear();
                        self.line = whole;
                    }
                }
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.state {
            State::Head if line.is_empty() => {
                // Empty lines before a request are ignored (RFC 9112, 2.2).
                if self.head.lines > 0 {
                    self.head_ends();
                }
            }
            State::Head => {
                self.head.lines += 1;
                match line.first() {
                    Some(b'c' | b'C') => {
                        if let Some(value) = field(line, b"content-length:") {
                            self.head.length = Some(number(value, 10).unwrap_or(u64::MAX));
                        }
                    }
                    Some(b't' | b'T') => {
                        self.head.chunked |= field(line, b"transfer-encoding:").is_some();
                    }
                    _ => {}
                }
            }
            State::ChunkSize => {
                let digits = line.split(|b| *b == b';').next().unwrap_or_default();
                self.state = match number(digits, 16) {
                    Some(0) => State::Trailers,
                    // Its line end belongs to it.
                    Some(size) => size.checked_add(2).map_or(State::Lost, State::Chunk),
                    None => State::Lost,
                };
            }
            State::Trailers if line.is_empty() => self.state = State::Head,
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Lost => {}
        }
    }

    fn head_ends(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        if head.chunked && head.length.is_some() && self.ambiguous == 0 {
            self.ambiguous = self.heads;
        }
        self.state = match head {
            Head { chunked: true, .. } => State::ChunkSize,
            Head {
                length: Some(length @ 1..),
                ..
            } => State::Body(length),
            Head { .. } => State::Head,
        };
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    line.get(..name.len())?
        .eq_ignore_ascii_case(name)
        .then(|| line.get(name.len()..))
        .flatten()
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?.trim(), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of the first ambiguous request, and whether a head is half-way in at the end; the same for every
    /// way of cutting the bytes.
    fn scan(bytes: &str) -> (u64, bool) {
        let whole = |size: usize| {
            let mut scanner = Scanner::default();
            for part in bytes.as_bytes().chunks(size) {
                scanner.feed(part);
            }
            (scanner.ambiguous, scanner.in_head())
        };
        let result = whole(bytes.len());
        for size in 1..bytes.len() {
            assert_eq!(whole(size), result, "cut into pieces of {size}");
        }
        result
    }

    #[test]
    fn a_request_with_both_lengths_is_found_wherever_it_stands() {
        let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let body =
            "POST / HTTP/1.1\r\nContent-Length: 34\r\n\r\nTransfer-Encoding: chunked\r\n\r\n....";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nab\r\n\r\r\n0\r\nX: y\r\n\r\n";
        let both =
            "POST / HTTP/1.1\r\ncontent-length: 4\r\nTRANSFER-ENCODING: chunked\r\n\r\n0\r\n\r\n";
        let reversed =
            "POST / HTTP/1.1\r\nTransfer-Encoding:chunked\r\nContent-Length:4\r\n\r\n0\r\n\r\n";
        for both in [both, reversed] {
            assert_eq!(scan(both), (1, false));
            assert_eq!(
                scan(&format!("{plain}\r\n{body}{chunked}{both}{plain}")),
                (4, false)
            );
        }
        assert_eq!(scan(&format!("{body}{chunked}{plain}")), (0, false));
    }

    #[test]
    fn only_the_librarys_own_refusals_are_marked() {
        let refusal = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let before = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let told = |text: &str| {
            marked(text.as_bytes())
                .map(|(status, bytes)| (status.as_u16(), String::from_utf8(bytes).expect("text")))
        };
        let marked = "HTTP/1.1 431 Request Header Fields Too Large\r\nx-crossfade-error: head-too-large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(told(refusal), Some((431, marked.to_owned())));
        assert_eq!(
            told(&format!("{before}{refusal}")),
            Some((431, format!("{before}{marked}")))
        );
        for other in [
            before,
            marked,
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno",
            "",
            "ok",
        ] {
            assert_eq!(told(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_head_that_is_half_way_in_is_known() {
        assert!(scan("GET / HT").1);
        assert!(scan("GET / HTTP/1.1\r\nHost: a\r\n").1);
        assert!(!scan("\r\n").1);
    }
}
