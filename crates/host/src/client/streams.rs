//! Answers that arrive bit by bit: followed logs and watches.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::carrier::Body;
use super::error::{Error, Result};
use crate::wire::{WatchChange, WatchEvent};

/// A body that arrives bit by bit.
#[derive(Debug)]
pub struct Chunks {
    body: Body,
    server: String,
}

impl Chunks {
    pub(super) fn new(body: Body, server: String) -> Self {
        Self { body, server }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => {}
                },
                Err(source) => {
                    return Some(Err(Error::Broken {
                        server: self.server.clone(),
                        source,
                    }));
                }
            }
        }
    }
}

/// A watch that runs.
#[derive(Debug)]
pub struct Watch {
    body: Chunks,
    line: BytesMut,
}

impl Watch {
    pub(super) fn new(body: Chunks) -> Self {
        Self {
            body,
            line: BytesMut::new(),
        }
    }

    /// The next change; `None` when the server ended the watch (watch again from the last resourceVersion). An error event
    /// arrives as [`Error::Status`]; after [`Reason::Expired`](super::Reason::Expired) list again.
    pub async fn next(&mut self) -> Option<Result<WatchEvent>> {
        loop {
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                let line = self.line.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Some(read_event(&line));
            }
            match self.body.next().await? {
                Ok(data) => self.line.extend_from_slice(&data),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn read_event(line: &[u8]) -> Result<WatchEvent> {
    let event: WatchEvent = serde_json::from_slice(line).map_err(|source| Error::Answer {
        what: "watch event",
        source,
    })?;
    match event.change {
        WatchChange::Error => Err(Error::Status(Box::new(super::decode(event.object)?))),
        WatchChange::Added
        | WatchChange::Modified
        | WatchChange::Deleted
        | WatchChange::Bookmark => Ok(event),
    }
}
