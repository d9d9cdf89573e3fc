//! How long a connection may be silent: long between requests, short within the head of one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may rest between requests.
const IDLE: Duration = Duration::from_mins(1);

/// Counts the beginnings and ends of answers: odd while one is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<AtomicU64>);

/// An answer that is under way.
pub(super) struct UnderWay(Answers);

impl Answers {
    /// A request has been read and is being answered.
    pub(super) fn begin(&self) -> UnderWay {
        self.0.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection that is ended when its client is silent for too long.
pub(super) struct Patient<S> {
    stream: S,
    answers: Answers,
    /// The count at which the time began that is running.
    since: u64,
    /// Something of a head has arrived.
    within_head: bool,
    head: Duration,
    limit: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, answers: Answers) -> Self {
        Self::within(stream, answers, HEAD)
    }

    fn within(stream: S, answers: Answers, head: Duration) -> Self {
        Self {
            stream,
            answers,
            since: 0,
            within_head: true,
            head,
            limit: Box::pin(tokio::time::sleep(head)),
        }
    }

    fn restart(&mut self, limit: Duration) {
        self.limit.as_mut().reset(Instant::now() + limit);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.answers.0.load(Ordering::Relaxed);
        if count != self.since {
            self.since = count;
            self.within_head = false;
            self.restart(IDLE);
        }
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let is_answering = count % 2 == 1;
        if is_answering {
            return polled;
        }
        if polled.is_ready() {
            if !self.within_head {
                self.within_head = true;
                let head = self.head;
                self.restart(head);
            }
            return polled;
        }
        ready!(self.limit.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_head_may_not_take_long_and_a_rest_may() {
        let head = Duration::from_millis(50);
        let (mut client, server) = tokio::io::duplex(64);
        let answers = Answers::default();
        let mut patient = Patient::within(server, answers.clone(), head);
        client.write_all(b"a").await.expect("room");
        assert_eq!(patient.read_u8().await.expect("a byte"), b'a');
        // An answer may take as long as it does, and so may the rest after it.
        let under_way = answers.begin();
        let silent = tokio::time::timeout(head * 4, patient.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
        drop(under_way);
        let silent = tokio::time::timeout(head * 4, patient.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
        client.write_all(b"b").await.expect("room");
        assert_eq!(patient.read_u8().await.expect("a byte"), b'b');
        let begun = Instant::now();
        let error = patient
            .read_u8()
            .await
            .expect_err("the rest of the head does not come");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            begun.elapsed() + Duration::from_millis(5) >= head,
            "{:?}",
            begun.elapsed()
        );
    }
}
